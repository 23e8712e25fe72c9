//! What is told ahead of a deadline: from when on, by which timer, and what is not told.

use api::{Reason, Stage, Verdict};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::attestations::{scan, scanned};
use super::world::*;
use crate::fact::Fact;
use crate::report::{PolicyAnswer, Within};

const HOUR: i64 = 3600;

/// `web`, signed by a key that ends after so many hours; warned of ten hours ahead. `tool` is signed by a key without end.
fn expiring(signer: &Signer, hours: i64) -> World {
    let mut world = World::new();
    for (image, by) in [("shop/web", signer), ("shop/tool", &Signer::new())] {
        world
            .signatures
            .insert(digest(image), vec![by.sign(&digest(image))]);
    }
    world.tell(key_that_ends(&world, signer, hours));
    world.tell(warning_before("10h"));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    world.drain();
    world
}

fn key_that_ends(world: &World, signer: &Signer, hours: i64) -> Fact {
    let spec = api::SigningKeySpec {
        not_after: Some(Time(later(world, hours))),
        ..key_spec("release", signer, Stage::Active)
    };
    key_fact("release-2026", spec)
}

fn warning_before(before: &str) -> Fact {
    let mut facts = policy("prod", "shop/**", &["release"]);
    facts.spec.as_mut().unwrap().warn_before = Some(before.into());
    Fact::Policy(Box::new(facts))
}

fn later(world: &World, hours: i64) -> Timestamp {
    world.now + SignedDuration::from_hours(hours)
}

fn web(world: &World) -> PolicyAnswer {
    world.result("web", "prod").unwrap()
}

fn becomes(answer: &PolicyAnswer) -> Option<(Verdict, Reason)> {
    answer
        .becomes
        .as_ref()
        .map(|becomes| (becomes.verdict, becomes.reason))
}

/// How many workloads fall within a span.
fn falling(world: &mut World, within: Within) -> i64 {
    let totals = world.engine.totals(world.now);
    let found = totals
        .falling
        .iter()
        .filter(|((_, _, _, span), _)| *span == within);
    found.map(|(_, count)| count).sum()
}

#[test]
fn the_window_before_a_deadline_begins_by_a_timer_and_not_by_a_look() {
    let signer = Signer::new();
    let mut world = expiring(&signer, 30);
    let before = web(&world);
    assert_eq!(before.valid_until, Some(later(&world, 30)));
    assert_eq!(becomes(&before), Some((Verdict::Violating, Reason::KeyExpired)));
    assert!(!before.warned, "it is far away");
    world.down = true;
    world.pass_time(20 * HOUR - 1);
    assert!(!web(&world).warned);
    world.drain();
    world.pass_time(1);
    assert!(web(&world).warned);
    assert!(world.drain().contains("web"), "it is written");
}

/// Deadline to status: the timer is set for the deadline itself, so nothing waits for a poll.
#[test]
fn the_flip_has_a_timer_of_its_own_at_the_very_time() {
    let signer = Signer::new();
    let mut world = expiring(&signer, 1);
    let deadline = later(&world, 1);
    assert_eq!(world.engine.wakes.next(), Some(deadline));
    world.engine.wake(deadline - SignedDuration::from_nanos(1));
    assert_eq!(web(&world).verdict, Verdict::Compliant);
    world.engine.wake(deadline);
    world.now = deadline;
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::KeyExpired))
    );
    assert!(!web(&world).warned && web(&world).becomes.is_none());
    assert_eq!(world.drain(), ["web".to_owned()].into());
}

#[test]
fn what_begins_within_the_window_is_warned_of_at_once_and_a_later_end_takes_it_back() {
    let signer = Signer::new();
    let mut world = expiring(&signer, 9);
    assert!(web(&world).warned);
    world.tell(key_that_ends(&world, &signer, 100));
    assert!(!web(&world).warned);
    assert!(world.drain().contains("web"));
    world.tell(warning_before("200h"));
    assert!(web(&world).warned, "the policy wants to know earlier");
}

#[test]
fn what_heals_or_stays_by_itself_is_not_warned_of() {
    let signer = Signer::new();
    let mut world = expiring(&signer, 100);
    let from = |world: &World| api::SigningKeySpec {
        not_before: Some(Time(later(world, 5))),
        ..key_spec("release", &signer, Stage::Active)
    };
    world.tell(key_fact("release-2026", from(&world)));
    let healing = web(&world);
    assert_eq!(
        (healing.verdict, becomes(&healing)),
        (
            Verdict::Violating,
            Some((Verdict::Compliant, Reason::AllVerified))
        )
    );
    assert!(!healing.warned && falling(&mut world, Within::Month) == 0);
}

#[test]
fn workloads_that_fall_are_counted_by_how_soon() {
    let signer = Signer::new();
    let mut world = expiring(&signer, 20 * 24);
    let counts = |world: &mut World| {
        [Within::WarnBefore, Within::Week, Within::Month].map(|within| falling(world, within))
    };
    assert_eq!(counts(&mut world), [0, 0, 1]);
    world.pass_time(14 * 24 * HOUR);
    world.look_up();
    assert_eq!(counts(&mut world), [0, 1, 1]);
    world.pass_time(6 * 24 * HOUR - HOUR);
    world.look_up();
    assert_eq!(counts(&mut world), [1, 1, 1]);
    world.pass_time(HOUR);
    assert_eq!(counts(&mut world), [0, 0, 0], "it fell");
}

/// B47, B40: a scan that was deleted still decides when the answer falls, and to what.
#[test]
fn evidence_that_is_gone_still_sets_the_deadline_that_is_told() {
    let (mut world, signer) = (World::new(), Signer::new());
    let (young, old) = (scan(&world, &signer, true, 24), scan(&world, &signer, true, 100));
    world
        .signatures
        .insert(digest("shop/web"), vec![young, old.clone()]);
    world.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Active),
    ));
    world.tell(Fact::Policy(Box::new(scanned())));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(web(&world).valid_until, Some(later(&world, 168 - 24)));
    world.signatures.insert(digest("shop/web"), vec![old]);
    world.pass_time(6 * HOUR);
    world.look_up();
    let answer = web(&world);
    assert_eq!(answer.valid_until, Some(later(&world, 168 - 106)));
    assert_eq!(
        becomes(&answer),
        Some((Verdict::Violating, Reason::AttestationExpired))
    );
    let told = answer.becomes.unwrap();
    assert!(
        told.message.contains("scan/v1") && told.message.contains("168h"),
        "{}",
        told.message
    );
}

/// A violation that is kept although its time has passed sets no timer that lies behind: the engine would turn in a circle.
#[test]
fn a_kept_violation_whose_time_has_passed_does_not_wake_for_ever() {
    let signer = Signer::new();
    let mut world = expiring(&signer, 100);
    let spec = api::SigningKeySpec {
        not_before: Some(Time(later(&world, 5))),
        ..key_spec("release", &signer, Stage::Active)
    };
    world.tell(key_fact("release-2026", spec));
    assert_eq!(web(&world).verdict, Verdict::Violating);
    world.tell(gone("web"));
    world.down = true;
    world.now = later(&world, 6);
    world.tell(pod("web", "shop/web"));
    world.look_up();
    assert!(world.engine.wakes.next().is_none_or(|next| next > world.now));
    world.pass_time(60);
    assert!(web(&world).valid_until.is_none_or(|until| until > world.now));
}
