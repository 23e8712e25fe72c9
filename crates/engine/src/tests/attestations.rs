//! Attestations: the way that only they are found in, their deadlines, and what remains of those that are deleted.

use api::{AttestationRequirement, Reason, Requirement, Stage, Validation, Verdict};
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
