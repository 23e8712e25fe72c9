//! When a check counts as missing, and what renews trust.

use std::collections::BTreeSet;

use api::{Reason, Recheck, Stage, Verdict};

use super::world::*;
use crate::fact::Fact;

const HOLDS: Option<(Verdict, Reason)> = Some((Verdict::Compliant, Reason::AllVerified));
const STALE: Option<(Verdict, Reason)> = Some((Verdict::Unknown, Reason::Stale));
const MINUTE: i64 = 60;

/// Checks every ten minutes; a verdict is believed for an hour.
fn shop(signer: &Signer) -> World {
    let mut world = World::new();
    world.tell(key_fact(
        "release-2026",
        key_spec("release", signer, Stage::Active),
    ));
    let mut facts = policy("prod", "shop/**", &["release"]);
    facts.spec.as_mut().unwrap().recheck = Some(Recheck {
        interval: Some("10m".into()),
        max_staleness: Some("1h".into()),
        ..Recheck::default()
    });
    world.tell(Fact::Policy(Box::new(facts)));
    world
}

fn signed(world: &mut World, signer: &Signer, of: image::Digest) {
    world.signatures.insert(of.clone(), vec![signer.sign(&of)]);
}

fn live(world: &mut World, minutes: i64) {
    for _ in 0..minutes {
        world.pass_time(MINUTE);
        world.look_up();
    }
}

fn is_overdue(world: &World) -> bool {
    world.result("web", "prod").unwrap().stale_since.is_some()
}

/// C2.05. Weakened once: with overdue counted from a failed look-up, no look-up means never overdue, and trust never ends.
#[test]
fn a_check_that_is_due_and_never_made_is_overdue_from_when_it_was_due_and_decays() {
    let signer = Signer::new();
    let mut world = shop(&signer);
    signed(&mut world, &signer, digest("shop/web"));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    let seen = world.now;
    world.pass_time(10 * MINUTE);
    assert!(!is_overdue(&world), "a look-up takes its time");
    world.pass_time(15);
    let since = world.result("web", "prod").unwrap().stale_since.unwrap();
    assert_eq!(since.duration_since(seen).as_secs(), 10 * MINUTE);
    world.pass_time(50 * MINUTE);
    assert_eq!(world.verdict("web", "prod"), STALE);
}

/// Weakened once: with the first failed look-up after the due time counted at once, a check that came a moment
/// late is written, and written back a moment later.
#[test]
fn a_look_up_that_fails_once_when_it_is_due_is_not_told() {
    let signer = Signer::new();
    let mut world = shop(&signer);
    signed(&mut world, &signer, digest("shop/web"));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    world.pass_time(9 * MINUTE);
    world.drain();
    world.pass_time(MINUTE);
    world.down = true;
    assert_eq!(world.look_up(), 1);
    assert!(world.drain().is_empty(), "nothing is written");
    assert!(!is_overdue(&world));
}

/// C2.11. Weakened once: without the wait for the first look-up, the mark is taken away and put back at each restart.
#[test]
fn c2_11_after_a_restart_what_is_due_is_not_told_before_its_first_look_up() {
    let signer = Signer::new();
    let mut world = shop(&signer);
    signed(&mut world, &signer, digest("shop/web"));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    world.engine.store.flush();
    let mut again = shop(&signer);
    again.engine = crate::core::Engine::new(world.engine.store.clone());
    again.now = world.now;
    again.pass_time(20 * MINUTE);
    again.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Active),
    ));
    again.tell(policy_fact("prod", "shop/**", &["release"]));
    let mut facts = policy("prod", "shop/**", &["release"]);
    facts.spec.as_mut().unwrap().recheck = Some(Recheck {
        interval: Some("10m".into()),
        ..Recheck::default()
    });
    again.tell(Fact::Policy(Box::new(facts)));
    again.tell(pod("web", "shop/web"));
    again.tell(Fact::Synced);
    assert!(again.result("web", "prod").is_none(), "what is written stays");
    again.down = true;
    again.look_up();
    assert_eq!(again.verdict("web", "prod"), HOLDS);
    assert!(is_overdue(&again));
}

/// Invariant 8: what verified counts although the look-up is never complete, as long as it is seen.
/// Weakened once: with only the first sight of the evidence noted, it is Stale after an hour.
#[test]
fn evidence_that_is_seen_again_renews_trust_although_no_look_up_is_complete() {
    let signer = Signer::new();
    let mut world = shop(&signer);
    signed(&mut world, &signer, digest("shop/web"));
    world.index_down = true;
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    live(&mut world, 100);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}

/// Weakened once: with `checked` alone as the time of trust, what was never complete is believed for ever.
#[test]
fn trust_ends_although_no_look_up_was_ever_complete() {
    let signer = Signer::new();
    let mut world = shop(&signer);
    signed(&mut world, &signer, digest("shop/web"));
    world.index_down = true;
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    world.down = true;
    live(&mut world, 61);
    assert_eq!(world.verdict("web", "prod"), STALE);
}

/// The image holds by the signature of its index; beside it lies something else about the image itself.
/// Weakened once: with trust renewed by any item that is seen again, it is believed for ever.
#[test]
fn trust_is_not_renewed_by_other_evidence_than_what_it_rests_on() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let mut world = shop(&signer);
    let (child, index) = (digest("shop/web"), digest("index"));
    world
        .indexes
        .insert(index.clone(), BTreeSet::from([child.clone()]));
    signed(&mut world, &signer, index.clone());
    signed(&mut world, &stranger, child.clone());
    world.tell(pod_of("web", &format!("r.example/shop/web@{index}"), &child));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    world.mute.insert(index);
    live(&mut world, 61);
    assert_eq!(world.verdict("web", "prod"), STALE);
}
