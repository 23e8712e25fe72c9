//! Looks that people ask for.

use api::Stage;
use jiff::{SignedDuration, Timestamp};

use super::world::*;
use crate::fact::Fact;
use crate::requested::PAUSE;

/// A signed image that was looked at a minute ago.
fn looked_at() -> World {
    let mut world = World::new();
    let signer = Signer::new();
    let signature = signer.sign(&digest("shop/web"));
    world.signatures.insert(digest("shop/web"), vec![signature]);
    world.tell(key_fact("release-1", key_spec("release", &signer, Stage::Active)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(policy_fact("other", "bank/**", &["release"]));
    world.tell(pod("one/web", "shop/web"));
    world.tell(Fact::Synced);
    assert_eq!(world.look_up(), 1);
    world.pass_time(60);
    assert_eq!(world.look_up(), 0, "it is not due for hours");
    world
}

fn request(world: &mut World, policy: &str, at: Timestamp) {
    let policy = policy.into();
    world.tell(Fact::RecheckRequested { policy, at });
}

fn pause() -> i64 {
    i64::try_from(PAUSE.as_secs()).unwrap()
}

/// Fails on a build without the pause.
#[test]
fn what_a_policy_covers_is_looked_at_once_and_not_again_before_the_pause() {
    let mut world = looked_at();
    let now = world.now;
    request(&mut world, "prod", now);
    assert_eq!(world.look_up(), 1);
    request(&mut world, "prod", now);
    assert_eq!(world.look_up(), 0, "it is the same request");

    world.pass_time(10);
    let now = world.now;
    request(&mut world, "prod", now);
    assert_eq!(world.look_up(), 0, "it was looked at ten seconds ago");
    world.pass_time(10);
    let now = world.now;
    request(&mut world, "prod", now);
    world.pass_time(pause());
    assert_eq!(world.look_up(), 1, "both are answered by one look");
    world.pass_time(pause());
    assert_eq!(world.look_up(), 0);
}

#[test]
fn what_was_looked_at_since_or_is_not_covered_is_not_asked_for() {
    let mut world = looked_at();
    let before = world.now - SignedDuration::from_hours(1);
    request(&mut world, "prod", before);
    assert_eq!(world.look_up(), 0, "it was looked at since");
    let now = world.now;
    request(&mut world, "other", now);
    request(&mut world, "none", now);
    assert_eq!(world.look_up(), 0, "neither covers it");
}

/// Whoever asks writes whole seconds, and may have signed after the look of that second. Fails on a build that compares the
/// times as they are.
#[test]
fn what_was_looked_at_in_the_very_second_is_looked_at_again() {
    let mut world = looked_at();
    let second = world.now;
    world.now = second + SignedDuration::from_millis(300);
    world.tell(pod("one/new", "shop/new"));
    assert_eq!(world.look_up(), 1);
    world.now = second + SignedDuration::from_millis(900);
    request(&mut world, "prod", second);
    assert_eq!(world.look_up(), 2);
}

#[test]
fn a_time_in_the_future_is_now_and_asks_once() {
    let mut world = looked_at();
    let later = world.now + SignedDuration::from_hours(24);
    request(&mut world, "prod", later);
    assert_eq!(world.look_up(), 1);
    world.pass_time(pause() + 1);
    request(&mut world, "prod", later);
    assert_eq!(world.look_up(), 0);
}
