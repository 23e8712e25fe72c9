//! Registries that do not answer: what is known is kept, what is not is Unknown, time decays only
//! what holds.

use std::sync::Arc;

use api::{ContainerType, Reason, Recheck, Stage, Verdict};

use super::world::*;
use crate::fact::{Fact, PodFacts, PodImage};
use crate::report::WorkloadAnswer;

const MINUTE: i64 = 60;

/// `web` is signed, `bare` is not; checks every ten minutes, a verdict is believed for an hour.
fn shop(signer: &Signer) -> World {
    let mut world = World::new();
    world
        .signatures
        .insert(digest("shop/web"), vec![signer.sign(&digest("shop/web"))]);
    world.tell(key_fact(
        "release-2026",
        key_spec("release", signer, Stage::Active),
    ));
    let mut facts = policy("prod", "shop/**", &["release"]);
    let recheck = Recheck {
        interval: Some("10m".into()),
        max_staleness: Some("1h".into()),
        ..Recheck::default()
    };
    facts.spec.as_mut().unwrap().recheck = Some(recheck);
    world.tell(Fact::Policy(Box::new(facts)));
    world.tell(pod("web", "shop/web"));
    world.tell(pod("bare", "shop/bare"));
    world.tell(Fact::Synced);
    world.look_up();
    world
}

/// Passes time in steps, with the look-ups that are due in each.
fn live(world: &mut World, minutes: i64) {
    for _ in 0..minutes {
        world.pass_time(MINUTE);
        world.look_up();
    }
}

#[test]
fn f01_an_outage_turns_nothing_violating_and_marks_what_is_overdue() {
    let mut world = shop(&Signer::new());
    world.down = true;
    live(&mut world, 30);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified))
    );
    assert!(world.result("web", "prod").unwrap().stale_since.is_some());
    assert_eq!(
        world.verdict("bare", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing)),
        "a violation stays"
    );
}

#[test]
fn staleness_within_the_interval_is_not_told() {
    let mut world = shop(&Signer::new());
    world.down = true;
    live(&mut world, 8);
    assert!(
        world.result("bare", "prod").unwrap().stale_since.is_none(),
        "retries failed, but no regular check was due"
    );
}

#[test]
fn only_what_holds_decays_and_only_after_max_staleness() {
    let mut world = shop(&Signer::new());
    world.down = true;
    live(&mut world, 59);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified))
    );
    live(&mut world, 2);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Unknown, Reason::Stale))
    );
    assert_eq!(
        world.verdict("bare", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
    world.down = false;
    live(&mut world, 11);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified))
    );
    assert!(world.result("web", "prod").unwrap().stale_since.is_none());
}

#[test]
fn c5_14_a_new_image_in_an_outage_is_unknown_and_heals_by_itself() {
    let mut world = shop(&Signer::new());
    world.down = true;
    world.tell(pod("new", "shop/new"));
    world.look_up();
    assert_eq!(
        world.verdict("new", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
    world.down = false;
    live(&mut world, 1);
    assert_eq!(
        world.verdict("new", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
}

#[test]
fn a_key_revoked_during_an_outage_counts_at_once() {
    let signer = Signer::new();
    let mut world = shop(&signer);
    world.down = true;
    live(&mut world, 20);
    world.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Revoked),
    ));
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::KeyRevoked))
    );
}

#[test]
fn a_signature_that_was_deleted_makes_the_image_violating_at_the_next_check() {
    let mut world = shop(&Signer::new());
    world.signatures.clear();
    live(&mut world, 10);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
}

/// Weakened once: with what a partial pass listed taken as read, the second pass says SignatureMissing.
#[test]
fn a_signature_that_is_listed_and_not_served_is_no_absence_at_any_later_pass() {
    let mut world = shop(&Signer::new());
    let signer = Signer::new();
    world.tell(key_fact(
        "release-2027",
        key_spec("release", &signer, Stage::Active),
    ));
    world
        .signatures
        .insert(digest("shop/new"), vec![signer.sign(&digest("shop/new"))]);
    world.bodiless = true;
    world.tell(pod("new", "shop/new"));
    world.look_up();
    live(&mut world, 5);
    assert_eq!(
        world.verdict("new", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
    world.bodiless = false;
    live(&mut world, 10);
    assert_eq!(
        world.verdict("new", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified))
    );
}

/// Weakened once: with the gap cleared by a pass that failed as a whole, the answer is SignatureMissing.
#[test]
fn a_pass_that_fails_as_a_whole_does_not_settle_what_an_index_may_say() {
    let mut world = shop(&Signer::new());
    world.index_down = true;
    world.tell(pod("new", "shop/new"));
    world.look_up();
    assert_eq!(
        world.verdict("new", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
    world.down = true;
    live(&mut world, 5);
    assert_eq!(
        world.verdict("new", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
}

#[test]
fn b43_an_item_that_nobody_can_read_does_not_take_a_violation_back() {
    let mut world = shop(&Signer::new());
    let junk = br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v9+json"}"#;
    world
        .signatures
        .insert(digest("shop/bare"), vec![Held::bundle(junk)]);
    live(&mut world, 10);
    assert_eq!(
        world.verdict("bare", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
}

#[test]
fn an_image_that_is_being_looked_up_hides_no_other_image_of_its_workload() {
    let mut world = shop(&Signer::new());
    live(&mut world, 2);
    let image = |name: &str| PodImage {
        container: name.into(),
        container_type: ContainerType::Container,
        written: format!("r.example/shop/{name}:1").into(),
        image_id: Some(format!("r.example/shop/{name}@{}", digest(&format!("shop/{name}"))).into()),
    };
    world.tell(Fact::Pod(PodFacts {
        uid: "pod-web".into(),
        name: "web-0".into(),
        workload: Arc::new(workload("web")),
        images: vec![image("bare"), image("decoy")],
        keychain: None,
    }));
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::SignatureMissing))
    );
    world.pass_time(61);
    let WorkloadAnswer::Covered(report) = world.engine.answer(&key("web"), world.now) else {
        panic!("the workload is covered");
    };
    let reasons: Vec<Reason> = report
        .images
        .iter()
        .map(|image| image.policies[0].reason)
        .collect();
    assert_eq!(
        reasons,
        [Reason::SignatureMissing, Reason::Pending],
        "a look-up that never ends is told"
    );
}
