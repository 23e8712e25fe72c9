//! Policies and keys that are applied together.

use std::time::Duration;

use api::Stage;

use super::world::*;
use crate::fact::{Fact, PolicyFacts};
use crate::late_keys::LateKeys;
use crate::schedule::after;

/// An engine that was told of everything, and what waits before it.
struct Door {
    world: World,
    late_keys: LateKeys,
}

impl Door {
    fn new() -> Self {
        let mut world = World::new();
        world.tell(Fact::Synced);
        Door {
            world,
            late_keys: LateKeys::default(),
        }
    }

    fn tell(&mut self, fact: Fact) {
        let admitted = self.late_keys.admit(fact, &self.world.engine, self.world.now);
        admitted.into_iter().for_each(|fact| self.world.tell(fact));
        self.let_in();
    }

    fn let_in(&mut self) {
        let admitted = self.late_keys.admitted(&self.world.engine, self.world.now);
        admitted.into_iter().for_each(|fact| self.world.tell(fact));
    }

    fn pass_time(&mut self, seconds: i64) {
        self.world.pass_time(seconds);
        self.let_in();
    }

    /// The generation of the policy that the engine knows.
    fn generation(&self) -> Option<i64> {
        self.world
            .engine
            .policies
            .get("prod")
            .map(|policy| policy.generation)
    }
}

fn version(generation: i64, ring: &str) -> Fact {
    let facts = policy("prod", "shop/**", &[ring]);
    Fact::Policy(Box::new(PolicyFacts { generation, ..facts }))
}

fn key_of(ring: &str) -> Fact {
    key_fact(ring, key_spec(ring, &Signer::new(), Stage::Active))
}

/// Weakened once: with a policy that is taken in at once, it is known before its key.
#[test]
fn a_policy_that_comes_before_its_key_is_taken_in_with_it() {
    let mut door = Door::new();
    door.tell(version(1, "release"));
    assert_eq!(door.generation(), None);
    door.tell(key_of("release"));
    assert_eq!(door.generation(), Some(1));
}

#[test]
fn a_policy_whose_key_does_not_come_is_taken_in_after_a_moment_however_often_it_is_told() {
    let mut door = Door::new();
    door.tell(version(1, "release"));
    door.pass_time(4);
    door.tell(version(2, "release"));
    assert_eq!(door.generation(), None);
    assert_eq!(
        door.late_keys.next(),
        Some(after(door.world.now, Duration::from_secs(1)))
    );
    door.pass_time(1);
    assert_eq!((door.generation(), door.late_keys.next()), (Some(2), None));
    door.tell(version(2, "release"));
    assert_eq!(door.late_keys.next(), None, "it is known, and waits no more");
}

#[test]
fn the_version_before_decides_until_the_keys_of_the_next_one_come() {
    let mut door = Door::new();
    door.tell(key_of("release"));
    door.tell(version(1, "release"));
    door.tell(version(2, "next"));
    assert_eq!(door.generation(), Some(1));
    door.tell(version(3, "release"));
    assert_eq!((door.generation(), door.late_keys.next()), (Some(3), None));
}

#[test]
fn a_policy_that_is_gone_before_its_keys_come_is_not_taken_in() {
    let mut door = Door::new();
    door.tell(version(1, "release"));
    door.tell(Fact::PolicyGone("prod".into()));
    door.pass_time(10);
    assert_eq!(door.generation(), None);
}

#[test]
fn a_policy_that_is_made_anew_at_once_leaves_nothing_uncovered() {
    let mut door = Door::new();
    door.tell(key_of("release"));
    door.tell(version(3, "release"));
    door.tell(Fact::PolicyGone("prod".into()));
    door.tell(version(1, "next"));
    assert_eq!(door.generation(), Some(1));
    door.tell(Fact::PolicyGone("prod".into()));
    door.pass_time(5);
    door.tell(version(1, "next"));
    assert_eq!(door.generation(), None);
}

#[test]
fn what_is_told_at_the_start_waits_for_nothing() {
    let mut door = Door {
        world: World::new(),
        late_keys: LateKeys::default(),
    };
    door.tell(version(1, "release"));
    assert_eq!(door.generation(), Some(1));
}
