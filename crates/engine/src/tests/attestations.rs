//! Attestations: the way that only they are found in, their deadlines, and what remains of those that are deleted.

use api::{
    AttestationRequirement, Reason, Requirement, Stage, Validation, Verdict, VulnerabilitiesRequirement,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use verify::Item;

use super::world::*;
use crate::fact::{Fact, PolicyFacts, RememberedViolation};
use crate::store::Store;

pub(super) const SCAN: &str = "https://example.com/scan/v1";
const HOLDS: Option<(Verdict, Reason)> = Some((Verdict::Compliant, Reason::AllVerified));
const REJECTED: Option<(Verdict, Reason)> = Some((Verdict::Violating, Reason::AttestationRejected));

/// A policy that asks for a scan of the last week that says `ok`.
pub(super) fn scanned() -> PolicyFacts {
    let mut facts = policy("prod", "shop/**", &["release"]);
    let validation = Validation {
        expression: "predicate.ok".into(),
        message: None,
    };
    facts.spec.as_mut().unwrap().require = vec![Requirement {
        name: "scanned".into(),
        attestation: Some(AttestationRequirement {
            predicate_type: SCAN.into(),
            signed_by: vec!["release".into()],
            max_age: Some("168h".into()),
            validations: vec![validation],
        }),
        ..Requirement::default()
    }];
    facts
}

/// A scan that was made so many hours before now.
pub(super) fn scan(world: &World, signer: &Signer, ok: bool, hours: i64) -> Held {
    let made = world.now - SignedDuration::from_hours(hours);
    let predicate = json!({"ok": ok, "timestamp": made.to_string()});
    let bundle = signer.state(&digest("shop/web"), SCAN, &predicate);
    let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
    Held::new(Item::from_bundle(&bundle), media_type, bundle, json!({}))
}

fn tell_all(world: &mut World, signer: &Signer) {
    world.tell(key_fact(
        "release-2026",
        key_spec("release", signer, Stage::Active),
    ));
    world.tell(Fact::Policy(Box::new(scanned())));
    world.tell(pod("web", "shop/web"));
}

fn hold(world: &mut World, scans: &[&Held]) {
    let scans = scans.iter().map(|scan| (*scan).clone()).collect();
    world.signatures.insert(digest("shop/web"), scans);
}

/// The same time and registry in a new process that finds this on disk.
fn restarted(world: &World, store: std::sync::Arc<Store>, signer: &Signer) -> World {
    let mut again = World::on(store);
    again.now = world.now;
    again.signatures = world.signatures.clone();
    tell_all(&mut again, signer);
    again
}

fn next_check(world: &mut World) {
    world.pass_time(6 * 3600);
    assert_eq!(world.look_up(), 1);
}

/// C4.05.
#[test]
fn c4_05_a_scan_expires_at_its_deadline_by_the_clock_alone() {
    let (mut world, signer) = (World::new(), Signer::new());
    let good = scan(&world, &signer, true, 24);
    hold(&mut world, &[&good]);
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    let deadline = world.now + SignedDuration::from_hours(6 * 24);
    assert_eq!(world.result("web", "prod").unwrap().valid_until, Some(deadline));
    world.down = true;
    world.drain();
    world.pass_time(6 * 24 * 3600);
    assert_ne!(world.verdict("web", "prod"), HOLDS);
    assert!(world.drain().contains("web"));
}

/// B47. Weakened once: without what is not found any more, the old good scan is revived.
#[test]
fn b47_deleting_the_newest_bad_scan_revives_no_older_one_before_or_after_a_restart() {
    let (mut world, signer) = (World::new(), Signer::new());
    let (good, bad) = (scan(&world, &signer, true, 2), scan(&world, &signer, false, 1));
    hold(&mut world, &[&good, &bad]);
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), REJECTED);
    hold(&mut world, &[&good]);
    for _ in 0..2 {
        next_check(&mut world);
        assert_eq!(world.verdict("web", "prod"), REJECTED, "in the same process");
    }
    world.engine.store.flush();
    let mut again = restarted(&world, world.engine.store.clone(), &signer);
    again.tell(Fact::Synced);
    again.look_up();
    assert_eq!(again.verdict("web", "prod"), REJECTED, "after a restart");
    let newer = scan(&again, &signer, true, 0);
    hold(&mut again, &[&good, &newer]);
    next_check(&mut again);
    assert_eq!(again.verdict("web", "prod"), HOLDS, "a newer one decides");
}

#[test]
fn b47_a_good_scan_that_is_deleted_does_not_count_any_more() {
    let (mut world, signer) = (World::new(), Signer::new());
    let (bad, good) = (scan(&world, &signer, false, 2), scan(&world, &signer, true, 1));
    hold(&mut world, &[&good, &bad]);
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    hold(&mut world, &[&bad]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), REJECTED);
}

/// Nobody without a trusted key pushes a remembered scan out.
#[test]
fn b47_attestations_of_strangers_are_not_remembered() {
    let (mut world, signer, stranger) = (World::new(), Signer::new(), Signer::new());
    let (good, bad) = (scan(&world, &signer, true, 2), scan(&world, &signer, false, 1));
    hold(&mut world, &[&good, &bad]);
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    hold(&mut world, &[&good]);
    next_check(&mut world);
    let junk: Vec<Held> = (0..100)
        .map(|hours| scan(&world, &stranger, true, hours))
        .collect();
    let mut with_junk: Vec<&Held> = junk.iter().collect();
    with_junk.push(&good);
    hold(&mut world, &with_junk);
    next_check(&mut world);
    hold(&mut world, &[&good]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), REJECTED);
}

/// A bad scan of the last hour of which the id is smaller than those of the others.
fn first_by_id(world: &World, signer: &Signer, others: &[Held]) -> Held {
    let smallest = others.iter().map(|held| held.item.id()).min().unwrap();
    let mut tries = std::iter::repeat_with(|| scan(world, signer, false, 1));
    tries.find(|bad| bad.item.id() < smallest).unwrap()
}

/// B47: who may push and has no key deletes the bad scan and then any number of genuine old ones, which push nothing out.
/// Fails on a build that keeps the last ones by id: the bad one is the first, and the old good one holds.
#[test]
fn b47_however_many_old_scans_are_deleted_the_newest_bad_one_is_remembered() {
    let (mut world, signer) = (World::new(), Signer::new());
    let good: Vec<Held> = (2..42).map(|hours| scan(&world, &signer, true, hours)).collect();
    let bad = first_by_id(&world, &signer, &good);
    hold(&mut world, &good.iter().chain([&bad]).collect::<Vec<_>>());
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), REJECTED);
    hold(&mut world, &good.iter().collect::<Vec<_>>());
    next_check(&mut world);
    hold(&mut world, &[&good[39]]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), REJECTED);
    world.engine.store.flush();
    let mut again = restarted(&world, world.engine.store.clone(), &signer);
    again.tell(Fact::Synced);
    again.look_up();
    assert_eq!(again.verdict("web", "prod"), REJECTED, "after a restart");
}

/// B47: what is forgotten for want of room is told where it would decide, and a newer scan ends that. Here eight scans
/// with times that are still to come take the room.
/// Fails on a build that forgets it silently, or over a restart: the older good scan holds.
#[test]
fn b47_a_forgotten_scan_leaves_no_older_one_to_decide() {
    let (mut world, signer) = (World::new(), Signer::new());
    let (good, bad) = (scan(&world, &signer, true, 100), scan(&world, &signer, false, 50));
    let ahead: Vec<Held> = (1..9)
        .map(|hours| scan(&world, &signer, true, -100 - hours))
        .collect();
    hold(&mut world, &ahead.iter().chain([&good, &bad]).collect::<Vec<_>>());
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), REJECTED);
    hold(&mut world, &[&good]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), REJECTED, "nothing takes it back");
    for _ in 0..2 {
        world.engine.store.flush();
        world = restarted(&world, world.engine.store.clone(), &signer);
        world.tell(Fact::Synced);
        world.look_up();
        let unknown = Some((Verdict::Unknown, Reason::EvidenceTooLarge));
        assert_eq!(world.verdict("web", "prod"), unknown, "after a restart");
    }
    let newest = scan(&world, &signer, true, 0);
    hold(&mut world, &[&good, &newest]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}

/// B47: signers do not take the room of one another. Fails on a build that counts all of a type together: the older scan
/// of the one that is trusted is not known to be the newest.
#[test]
fn b47_what_other_signers_delete_leaves_an_older_scan_as_it_is() {
    let (mut world, signer, other) = (World::new(), Signer::new(), Signer::new());
    let good = scan(&world, &signer, true, 100);
    let others: Vec<Held> = (1..30).map(|hours| scan(&world, &other, false, hours)).collect();
    hold(&mut world, &others.iter().chain([&good]).collect::<Vec<_>>());
    world.tell(key_fact("beside", key_spec("beside", &other, Stage::Active)));
    let mut beside = scanned();
    beside.name = "beside".into();
    beside.spec.as_mut().unwrap().require[0]
        .attestation
        .as_mut()
        .unwrap()
        .signed_by = vec!["beside".into()];
    world.tell(Fact::Policy(Box::new(beside)));
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    assert_eq!(world.verdict("web", "beside"), REJECTED);
    hold(&mut world, &[&good]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    let (beside, _) = world.verdict("web", "beside").unwrap();
    assert_eq!(beside, Verdict::Violating);
}

/// B47: who may push deletes first the document that excuses a bad scan, then that scan. Fails on a build that takes
/// what is remembered for found: the deleted document excuses the deleted scan, and the old one holds.
#[test]
fn b47_a_deleted_exploitability_document_does_not_excuse_a_deleted_scan() {
    let (mut world, signer) = (World::new(), Signer::new());
    let attest = |predicate_type: &str, predicate: &serde_json::Value| {
        let bundle = signer.state(&digest("shop/web"), predicate_type, predicate);
        let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        Held::new(Item::from_bundle(&bundle), media_type, bundle, json!({}))
    };
    let ago = |hours: i64| (world.now - SignedDuration::from_hours(hours)).to_string();
    let report = |hours: i64, vulnerabilities: serde_json::Value| {
        let predicate = json!({
            "scanner": {"uri": "pkg:github/aquasecurity/trivy", "result": {"SchemaVersion": 2, "Results": [
                {"Target": "debian", "Class": "os-pkgs", "Vulnerabilities": vulnerabilities}]}},
            "metadata": {"scanStartedOn": ago(hours), "scanFinishedOn": ago(hours)},
        });
        attest("https://cosign.sigstore.dev/attestation/vuln/v1", &predicate)
    };
    let clean = report(5, json!([]));
    let bad = report(
        3,
        json!([{"VulnerabilityID": "CVE-1", "PkgName": "openssl", "InstalledVersion": "3.0.1",
            "Severity": "CRITICAL", "FixedVersion": "3.0.2"}]),
    );
    let document = json!({"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": ago(1), "statements": [
        {"vulnerability": {"name": "CVE-1"}, "status": "not_affected", "justification": "component_not_present"}]});
    let excuse = attest("https://openvex.dev/ns/v0.2.0", &document);
    let mut facts = policy("prod", "shop/**", &["release"]);
    facts.spec.as_mut().unwrap().require = vec![Requirement {
        name: "scanned".into(),
        vulnerabilities: Some(VulnerabilitiesRequirement {
            signed_by: vec!["release".into()],
            max_age: "168h".into(),
            vex: vec!["release".into()],
            ..VulnerabilitiesRequirement::default()
        }),
        ..Requirement::default()
    }];
    hold(&mut world, &[&clean, &bad, &excuse]);
    tell_all(&mut world, &signer);
    world.tell(Fact::Policy(Box::new(facts)));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    let found = Some((Verdict::Violating, Reason::VulnerabilityFound));
    hold(&mut world, &[&clean]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), found);
    hold(&mut world, &[&clean, &excuse]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), HOLDS, "it is there again");
}

/// B04: a log's time that the clock had not reached is no answer for ever. Fails on a build that keeps it: the workload
/// stays Unknown.
#[test]
fn b04_what_could_not_be_told_for_the_clock_is_asked_again_by_the_next_look() {
    let (mut world, signer) = (World::new(), Signer::new());
    let good = scan(&world, &signer, true, 2);
    hold(&mut world, &[&good]);
    tell_all(&mut world, &signer);
    world.tell(Fact::Synced);
    world.look_up();
    let subject = crate::subject::SubjectKey::of_the_operator(
        "r.example/shop/web".parse().unwrap(),
        digest("shop/web"),
    );
    let not_yet = verify::Outcome::CannotTell(verify::Cause::NotYet { at: world.now });
    let subject = world.engine.subjects.get_mut(&subject).unwrap();
    for (_, item) in subject.items_mut() {
        item.outcomes
            .iter_mut()
            .for_each(|(_, outcome)| *outcome = not_yet.clone());
    }
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}

/// B47: remembered scans are all there after a restart, however large. Fails on a build that reads no more of them than
/// of what is found: the largest, which is the bad one, is lost, and the old good one holds.
#[test]
fn b47_large_scans_that_are_gone_are_remembered_over_a_restart() {
    let (mut world, signer) = (World::new(), Signer::new());
    let large = |world: &World, ok: bool, hours: i64, size: usize| {
        let made = world.now - SignedDuration::from_hours(hours);
        let predicate = json!({"ok": ok, "timestamp": made.to_string(), "packages": "x".repeat(size)});
        let bundle = signer.state(&digest("shop/web"), SCAN, &predicate);
        let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        Held::new(Item::from_bundle(&bundle), media_type, bundle, json!({}))
    };
    let old = scan(&world, &signer, true, 100);
    let scans = [
        (true, 7, 2_000_000),
        (true, 6, 2_000_001),
        (true, 5, 2_000_002),
        (true, 4, 2_000_003),
        (true, 3, 2_000_004),
        (true, 2, 2_000_005),
        (false, 1, 2_200_000),
    ];
    for (ok, hours, size) in scans {
        let scan = large(&world, ok, hours, size);
        hold(&mut world, &[&old, &scan]);
        if hours == 7 {
            tell_all(&mut world, &signer);
            world.tell(Fact::Synced);
            world.look_up();
        } else {
            world.pass_time(6 * 3600);
            world.look_up();
        }
    }
    hold(&mut world, &[&old]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), REJECTED);
    world.engine.store.flush();
    let mut again = restarted(&world, world.engine.store.clone(), &signer);
    again.tell(Fact::Synced);
    again.look_up();
    assert_eq!(again.verdict("web", "prod"), REJECTED, "after a restart");
}

fn remembered(since: Timestamp) -> Fact {
    Fact::Remembered(RememberedViolation {
        workload: key("web"),
        written: "r.example/shop/web:1".into(),
        digest: digest("shop/web").to_string().into(),
        policy: "prod".into(),
        requirement: Some("scanned".into()),
        reason: Reason::AttestationRejected,
        message: "found a scan that says no".into(),
        since,
        stale_since: None,
    })
}

/// B47: the disk is wiped as well; what was written on the API server is all that is left of the bad scan.
/// Weakened once: with any complete look-up taken to end what was written, the old good scan is revived.
#[test]
fn b47_after_a_wipe_only_a_newer_scan_outdoes_a_violation_that_was_written() {
    let (mut world, signer) = (World::new(), Signer::new());
    let good = scan(&world, &signer, true, 2);
    hold(&mut world, &[&good]);
    tell_all(&mut world, &signer);
    world.tell(remembered(world.now));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), REJECTED);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), REJECTED, "and stays so");
    let newer = scan(&world, &signer, true, 1);
    hold(&mut world, &[&good, &newer]);
    next_check(&mut world);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    hold(&mut world, &[&newer]);
    next_check(&mut world);
    assert_eq!(
        world.verdict("web", "prod"),
        HOLDS,
        "what was outdone is forgotten"
    );
}

/// Requests only for what was never asked: a policy that begins to ask for attestations has them looked for at once.
#[test]
fn a_policy_that_begins_to_ask_for_attestations_has_them_looked_for_at_once() {
    let (mut world, signer) = (World::new(), Signer::new());
    tell_all(&mut world, &signer);
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(Fact::Synced);
    let asks = world.engine.due_lookups(world.now, 9);
    assert!(!asks[0].wants_attestations);
    world.end(&asks[0]);
    world.tell(Fact::Policy(Box::new(scanned())));
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Unknown, Reason::Pending)),
        "that there is none is not known"
    );
    let asks = world.engine.due_lookups(world.now, 9);
    assert!(asks[0].wants_attestations);
    world.end(&asks[0]);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::AttestationMissing))
    );
}
