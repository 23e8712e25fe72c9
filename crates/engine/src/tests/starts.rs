//! What templates would start next: decided as an admission check would, with tags asked for once.

use std::collections::{BTreeMap, BTreeSet};

use api::{Mode, OnUnknown, Reason, Stage, StartDecision, Verdict};

use super::world::*;
use crate::core::START_GRACE;
use crate::fact::Fact;
use crate::report::WorkloadAnswer;

const SOON: i64 = START_GRACE.as_secs();

/// A world with a policy over everything that trusts one key, and the signer.
fn world(mode: Mode) -> (World, Signer) {
    let (mut world, signer) = (World::new(), Signer::new());
    world.tell(key_fact("k", key_spec("release", &signer, Stage::Active)));
    let mut facts = policy("prod", "**", &["release"]);
    facts.spec.as_mut().unwrap().mode = mode;
    world.tell(Fact::Policy(Box::new(facts)));
    world.tell(Fact::Synced);
    (world, signer)
}

/// Puts an image behind `r.example/<image>:1`.
fn push(world: &mut World, image: &str, by: Option<&Signer>) {
    world.tags.insert(format!("r.example/{image}:1"), digest(image));
    let held = by.map(|signer| signer.sign(&digest(image)));
    world.signatures.insert(digest(image), held.into_iter().collect());
}

/// The decision, the verdict and its reason.
fn next(world: &World, name: &str) -> Option<(StartDecision, Verdict, Reason)> {
    let next = world.next_start(name)?;
    Some((next.decision, next.verdict, next.reason))
}

fn starts(world: &mut World, name: &str, image: &str) {
    world.tell(template(name, &[&format!("r.example/{image}:1")]));
}

/// C5.06.
#[test]
fn c5_06_the_mode_decides_what_a_verdict_means_for_a_start() {
    use StartDecision::{Admit, Deny, Warn};
    for (mode, bad, unknown) in [
        (Mode::DryRun, Admit, Admit),
        (Mode::Warn, Warn, Warn),
        (Mode::Enforce, Deny, Deny),
    ] {
        let world = four_starts(mode);
        assert_eq!(
            next(&world, "good"),
            Some((Admit, Verdict::Compliant, Reason::AllVerified))
        );
        assert_eq!(
            next(&world, "bad"),
            Some((bad, Verdict::Violating, Reason::SignatureMissing))
        );
        assert_eq!(
            next(&world, "mute"),
            Some((unknown, Verdict::Unknown, Reason::RegistryUnavailable))
        );
        assert_eq!(
            next(&world, "absent"),
            Some((unknown, Verdict::Unknown, Reason::DigestUnresolved))
        );
    }
}

/// A signed image, one that is not, one of which nothing can be found out, and one that does not exist, each in a template.
fn four_starts(mode: Mode) -> World {
    let (mut world, signer) = world(mode);
    push(&mut world, "good", Some(&signer));
    push(&mut world, "bad", None);
    push(&mut world, "mute", Some(&signer));
    world.mute.insert(digest("mute"));
    for name in ["good", "bad", "mute", "absent"] {
        starts(&mut world, name, name);
    }
    world.settle();
    world.pass_time(SOON);
    world
}

/// C2.05: what `onUnknown` lets start is only what a registry keeps from being told; that an edit of it is told, too.
#[test]
fn c2_05_on_unknown_admits_what_only_an_outage_keeps_from_being_told() {
    use StartDecision::{Admit, Deny};
    let mut world = four_starts(Mode::Enforce);
    world.drain();
    let with = |on_unknown, requirement: Option<&str>| {
        let mut facts = policy("prod", "**", &["release"]);
        let spec = facts.spec.as_mut().unwrap();
        spec.on_unknown = on_unknown;
        if let Some(ring) = requirement {
            let other = policy("other", "**", &[ring]).spec.unwrap().require;
            spec.require.extend(other);
            spec.require[1].name = "second".to_owned();
        }
        Fact::Policy(Box::new(facts))
    };
    world.tell(with(Some(OnUnknown::Admit), None));
    assert!(world.drain().contains("mute"), "it is told");
    let mute = world.next_start("mute").unwrap();
    assert_eq!((mute.decision, mute.verdict), (Admit, Verdict::Unknown));
    assert!(
        mute.message
            .unwrap()
            .starts_with("It would start although it cannot be told")
    );
    assert_eq!(next(&world, "bad").unwrap().0, Deny);
    assert_eq!(next(&world, "good").unwrap().0, Admit);
    assert_eq!(
        next(&world, "absent"),
        Some((Deny, Verdict::Unknown, Reason::DigestUnresolved))
    );
    world.tell(with(Some(OnUnknown::Admit), Some("nobodys")));
    assert_eq!(
        next(&world, "good"),
        Some((Deny, Verdict::Unknown, Reason::KeyMissing))
    );
    for denies in [None, Some(OnUnknown::Deny), Some(OnUnknown::Other)] {
        world.tell(with(denies, None));
        assert_eq!(next(&world, "mute").unwrap().0, Deny, "{denies:?}");
    }
}

/// Of several images and policies the worst decides; one in DryRun decides only where no other one covers.
#[test]
fn c5_06_the_worst_of_all_images_and_policies_decides() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "good", Some(&signer));
    push(&mut world, "bad", None);
    let mut dry = policy("dry", "**", &["nobody"]);
    dry.spec.as_mut().unwrap().mode = Mode::DryRun;
    world.tell(Fact::Policy(Box::new(dry)));
    world.tell(template("both", &["r.example/good:1", "r.example/bad:1"]));
    starts(&mut world, "one", "good");
    world.settle();
    world.pass_time(SOON);
    let both = world.next_start("both").unwrap();
    assert_eq!(
        (both.decision, both.policy.as_str()),
        (StartDecision::Deny, "prod")
    );
    assert_eq!(
        (both.image.as_str(), both.digest),
        ("r.example/bad:1", digest("bad").to_string())
    );
    let one = world.next_start("one").unwrap();
    assert_eq!(
        (one.decision, one.policy.as_str(), one.verdict),
        (StartDecision::Admit, "prod", Verdict::Compliant)
    );
}

/// A workload of which nothing ever ran is spoken of, after its first pods had their time to come.
#[test]
fn c5_06_a_workload_without_pods_is_answered_where_a_policy_covers_its_template() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "cron", Some(&signer));
    starts(&mut world, "cron", "cron");
    world.settle();
    assert!(matches!(
        world.engine.answer(&key("cron"), world.now),
        WorkloadAnswer::Undecided
    ));
    world.drain();
    world.pass_time(SOON);
    assert_eq!(
        world.drain(),
        BTreeSet::from(["cron".to_owned()]),
        "it is told then"
    );
    let WorkloadAnswer::Covered(report) = world.engine.answer(&key("cron"), world.now) else {
        panic!("it is covered")
    };
    assert!(report.images.is_empty(), "nothing runs");
    world.tell(Fact::PolicyGone("prod".into()));
    assert!(matches!(
        world.engine.answer(&key("cron"), world.now),
        WorkloadAnswer::NotCovered
    ));
    world.tell(Fact::TemplateGone(key("cron")));
    assert!(matches!(
        world.engine.answer(&key("cron"), world.now),
        WorkloadAnswer::NothingRuns
    ));
    assert_eq!(
        world.engine.subjects.len(),
        0,
        "what nobody starts or runs is forgotten"
    );
}

/// B36. Weakened once: with templates that use no image (`template_uses`), nothing is known when the pods come.
#[test]
fn b36_what_scales_up_from_zero_is_known_ahead() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    push(&mut world, "bad", None);
    for name in ["web", "bad"] {
        starts(&mut world, name, name);
    }
    world.settle();
    let asked = world.asked.len();
    for name in ["web", "bad"] {
        world.tell(pod(name, name));
    }
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified))
    );
    assert_eq!(
        world.verdict("bad", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
    assert_eq!(world.asked.len(), asked, "no registry is asked");
    world.tell(gone("web"));
    world.pass_time(SOON);
    assert_eq!(
        next(&world, "web").unwrap().0,
        StartDecision::Admit,
        "it stays known when it scales down"
    );
}

/// C2.06: what was looked up ahead lacks nothing when its pods come and its key goes.
#[test]
fn c2_06_what_was_looked_up_ahead_is_judged_without_a_request_when_its_key_goes() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.settle();
    world.tell(pod("web", "web"));
    world.settle();
    let asked = world.asked.len();
    world.tell(key_fact("k", key_spec("release", &signer, Stage::Disabled)));
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::KeyDisabled))
    );
    world.look_up();
    assert_eq!(world.asked.len(), asked, "no registry is asked");
}

/// Invariant 1: work is per tag, however many templates write it; and none where no policy covers it.
#[test]
fn a_tag_is_asked_for_once_an_interval_whoever_writes_it_and_never_where_no_policy_covers_it() {
    let (mut world, signer) = (World::new(), Signer::new());
    world.tell(key_fact("k", key_spec("release", &signer, Stage::Active)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(Fact::Synced);
    push(&mut world, "shop/web", Some(&signer));
    for number in 0..50 {
        starts(&mut world, &format!("web-{number}"), "shop/web");
    }
    starts(&mut world, "other", "tools/cli");
    world.settle();
    assert_eq!(world.asked_tags, ["r.example/shop/web:1"]);
    starts(&mut world, "late", "shop/web");
    world.settle();
    assert_eq!(
        world.asked_tags.len(),
        1,
        "another one that writes it costs nothing"
    );
    assert_eq!(world.asked.len(), 1);
    world.pass_time(6 * 3600);
    world.settle();
    assert_eq!(world.asked_tags.len(), 2);
    world.tell(Fact::PolicyGone("prod".into()));
    world.pass_time(24 * 3600);
    world.settle();
    assert_eq!(world.asked_tags.len(), 2);
}

/// A scaled workload has another generation, and its tag is as known as before.
#[test]
fn another_generation_with_the_same_images_is_no_news() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.settle();
    world.pass_time(SOON);
    world.drain();
    let Fact::Template(mut facts) = template("web", &["r.example/web:1"]) else {
        panic!("it is a template")
    };
    let mut workload = (*facts.workload).clone();
    workload.reference.observed_generation = Some(2);
    facts.workload = workload.into();
    world.tell(Fact::Template(facts));
    assert_eq!(world.drain(), BTreeSet::new());
    world.tell(template("web", &["r.example/web:1", "r.example/web@sha256:00"]));
    world.settle();
    assert_eq!(
        world.asked_tags.len(),
        1,
        "a tag that stays is not asked for again"
    );
}

/// The new digest is judged, and that the tag moved is said.
#[test]
fn a_tag_that_moved_is_judged_by_what_it_names_now_and_reported() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.tell(pod("web", "web"));
    world.settle();
    let before = world.next_start("web").unwrap();
    assert_eq!(
        (before.decision, before.moved_tags.len()),
        (StartDecision::Admit, 0)
    );
    assert!(world.engine.totals(world.now).tag_drift.is_empty());

    world.tags.insert("r.example/web:1".to_owned(), digest("other"));
    world.pass_time(6 * 3600);
    world.settle();
    let after = world.next_start("web").unwrap();
    assert_eq!(
        (after.decision, after.reason),
        (StartDecision::Deny, Reason::SignatureMissing)
    );
    assert_eq!(after.digest, digest("other").to_string());
    assert_eq!(after.moved_tags, ["r.example/web:1"]);
    assert!(
        after
            .message
            .unwrap()
            .starts_with("The image's tag names another digest now")
    );
    assert_eq!(
        world.engine.totals(world.now).tag_drift,
        BTreeMap::from([("shop".into(), 1)])
    );
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified)),
        "what runs is judged"
    );
}

#[test]
fn a_tag_that_names_an_index_of_what_runs_has_not_moved() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    world.tags.insert("r.example/web:1".to_owned(), digest("index"));
    world
        .indexes
        .insert(digest("index"), BTreeSet::from([digest("web")]));
    starts(&mut world, "web", "web");
    world.tell(pod("web", "web"));
    world.settle();
    let next = world.next_start("web").unwrap();
    assert_eq!(
        (next.digest, next.moved_tags.len()),
        (digest("index").to_string(), 0)
    );
    assert!(world.engine.totals(world.now).tag_drift.is_empty());
}

/// C5.02: a Retiring key counts for what runs, and what starts is warned about.
#[test]
fn c5_02_what_holds_by_a_retiring_key_alone_starts_with_a_warning() {
    let (mut world, signer) = world(Mode::Enforce);
    let successor = Signer::new();
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.settle();
    world.pass_time(SOON);
    world.drain();
    world.tell(key_fact("k", key_spec("release", &signer, Stage::Retiring)));
    let warned = world.next_start("web").unwrap();
    assert_eq!(
        (warned.decision, warned.verdict),
        (StartDecision::Warn, Verdict::Compliant)
    );
    assert!(warned.message.unwrap().contains("the stage Retiring"));
    assert!(world.drain().contains("web"), "it is news");
    world.tell(key_fact("next", key_spec("release", &successor, Stage::Active)));
    let both = vec![signer.sign(&digest("web")), successor.sign(&digest("web"))];
    world.signatures.insert(digest("web"), both);
    world.pass_time(6 * 3600);
    world.settle();
    assert_eq!(next(&world, "web").unwrap().0, StartDecision::Admit);
}

#[test]
fn what_a_tag_named_stays_known_while_the_registry_does_not_answer_but_not_for_ever() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.settle();
    world.down = true;
    world.pass_time(7 * 3600);
    world.settle();
    assert_eq!(next(&world, "web").unwrap().0, StartDecision::Admit);
    for _ in 0..14 {
        world.pass_time(6 * 3600);
        world.settle();
    }
    assert_eq!(
        next(&world, "web"),
        Some((StartDecision::Deny, Verdict::Unknown, Reason::RegistryUnavailable))
    );
    world.down = false;
    world.pass_time(6 * 3600);
    world.settle();
    assert_eq!(
        next(&world, "web").unwrap().0,
        StartDecision::Admit,
        "it heals by itself"
    );
}

/// C5.04: a CronJob rests on the key as a running workload does, and is counted apart.
#[test]
fn c5_04_workloads_that_only_a_next_start_would_meet_are_counted_apart() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    push(&mut world, "job", Some(&signer));
    push(&mut world, "bad", None);
    for (name, image) in [("web", "web"), ("cron", "job"), ("zero", "web"), ("bad", "bad")] {
        starts(&mut world, name, image);
    }
    world.tell(pod("web", "web"));
    world.settle();
    let report = world.engine.key_report("k", world.now).unwrap();
    assert_eq!(
        (report.sole_trust.workloads, report.sole_trust.start_only),
        (1, 2)
    );
    assert_eq!(
        (report.images, report.undecided),
        (1, 0),
        "what does not run is no running image"
    );
    let totals = world.engine.totals(world.now);
    assert_eq!((totals.subjects, totals.tags["named"]), (1, 3));
}

/// After a start nothing is said of a template before it is known, so that nothing that was written is taken back.
#[test]
fn what_a_template_would_start_is_open_until_its_tag_was_asked_for() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.tell(pod("web", "web"));
    world.look_up();
    let WorkloadAnswer::Covered(report) = world.engine.answer(&key("web"), world.now) else {
        panic!("what runs is known")
    };
    assert_eq!(report.next_start, crate::report::StartAnswer::Pending);
    world.settle();
    assert_eq!(next(&world, "web").unwrap().0, StartDecision::Admit);
}

#[test]
fn what_tags_name_survives_a_restart_and_is_asked_for_in_its_regular_time() {
    let (mut world, signer) = world(Mode::Enforce);
    push(&mut world, "web", Some(&signer));
    starts(&mut world, "web", "web");
    world.settle();
    let (now, store) = (world.now, world.engine.store.clone());
    let (signatures, tags) = (world.signatures.clone(), world.tags.clone());
    let mut later = World::on(store);
    (later.now, later.signatures, later.tags) = (now, signatures, tags);
    later.down = true;
    later.tell(key_fact("k", key_spec("release", &signer, Stage::Active)));
    later.tell(policy_fact("prod", "**", &["release"]));
    starts(&mut later, "web", "web");
    later.tell(Fact::Synced);
    later.settle();
    later.pass_time(SOON);
    assert_eq!(next(&later, "web").unwrap().0, StartDecision::Admit);
    assert!(later.asked_tags.is_empty());
    later.down = false;
    later.pass_time(6 * 3600);
    later.settle();
    assert_eq!(later.asked_tags.len(), 1);
}

/// B49: leaving coverage, and another mode, reach templates as well.
#[test]
fn a_template_follows_edits_of_policies() {
    let (mut world, _) = world(Mode::Enforce);
    push(&mut world, "web", None);
    starts(&mut world, "web", "web");
    world.settle();
    world.pass_time(SOON);
    assert_eq!(next(&world, "web").unwrap().0, StartDecision::Deny);
    world.drain();
    let mut facts = policy("prod", "**", &["release"]);
    facts.spec.as_mut().unwrap().mode = Mode::Warn;
    world.tell(Fact::Policy(Box::new(facts)));
    assert_eq!(next(&world, "web").unwrap().0, StartDecision::Warn);
    assert!(world.drain().contains("web"));
    let mut facts = policy("prod", "**", &["release"]);
    facts.spec.as_mut().unwrap().require_digest = Some(true);
    world.tell(Fact::Policy(Box::new(facts)));
    assert_eq!(next(&world, "web").unwrap().2, Reason::TagNotPinned);
}
