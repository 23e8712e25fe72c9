//! What another replica writes while this one does not.

use std::collections::BTreeSet;

use api::{Reason, Stage, Verdict};
use image::Digest;

use super::world::*;
use crate::fact::{Fact, SaidElsewhere, SaidOfImage};
use crate::report::WorkloadAnswer;

const HOLDS: Option<(Verdict, Reason)> = Some((Verdict::Compliant, Reason::AllVerified));
const UNSIGNED: Option<(Verdict, Reason)> = Some((Verdict::Violating, Reason::SignatureMissing));

/// A workload whose image nobody had signed when this replica looked.
fn unsigned() -> (World, Signer) {
    let (mut world, signer) = (World::new(), Signer::new());
    tell_key(&mut world, &signer, Stage::Active);
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.settle();
    assert_eq!(world.verdict("web", "prod"), UNSIGNED);
    (world, signer)
}

fn sign(world: &mut World, signer: &Signer) {
    let web = digest("shop/web");
    world.signatures.insert(web.clone(), vec![signer.sign(&web)]);
}

/// What another replica wrote of the image by a policy.
fn elsewhere(policy: &str, violation: Option<Reason>) -> Fact {
    said_of("web", &digest("shop/web"), policy, violation)
}

fn said_of(workload: &str, digest: &Digest, policy: &str, violation: Option<Reason>) -> Fact {
    Fact::SaidElsewhere(SaidElsewhere {
        workload: key(workload),
        images: vec![SaidOfImage {
            written: "r.example/shop/web:1".into(),
            digest: digest.to_string().into(),
            policy: policy.into(),
            violation,
        }],
    })
}

fn tell_key(world: &mut World, signer: &Signer, stage: Stage) {
    world.tell(key_fact("release-2026", key_spec("release", signer, stage)));
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn is_held_back(world: &World) -> bool {
    matches!(
        world.engine.answer(&key("web"), world.now),
        WorkloadAnswer::Undecided
    )
}

/// Weakened once: where nothing is taken in of what another replica says, the violation stands until the next look.
#[test]
fn an_image_that_holds_elsewhere_is_looked_at_at_once_and_nothing_worse_is_said_before() {
    let (mut world, signer) = unsigned();
    sign(&mut world, &signer);
    assert_eq!(world.look_up(), 0, "its time has not come");
    world.tell(elsewhere("prod", None));
    assert!(is_held_back(&world));
    world.pass_time(1);
    assert_eq!(world.look_up(), 1);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}

/// Weakened once: with a look that was under way before taken for an answer, the violation is said.
#[test]
fn a_look_that_began_before_is_not_the_answer() {
    let (mut world, signer) = unsigned();
    world.pass_time(30);
    let early = world.engine.due_lookups(world.now, 9);
    world.tell(elsewhere("prod", None));
    world.pass_time(1);
    world.end(&early[0]);
    assert!(is_held_back(&world));
    sign(&mut world, &signer);
    assert_eq!(world.look_up(), 1);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}

#[test]
fn what_is_worse_here_after_that_look_is_handed_over() {
    let (mut world, _) = unsigned();
    world.drain();
    world.tell(elsewhere("prod", None));
    world.pass_time(1);
    world.look_up();
    assert!(!is_held_back(&world));
    assert_eq!(world.drain(), names(&["web"]));
}

/// Weakened once: without the end of the time, a registry that hangs keeps a violation from being said.
#[test]
fn nothing_is_held_back_for_long() {
    let (mut world, _) = unsigned();
    world.drain();
    world.tell(elsewhere("prod", None));
    world.pass_time(1);
    let under_way = world.engine.due_lookups(world.now, 9);
    assert_eq!(under_way.len(), 1);
    world.pass_time(13);
    assert!(is_held_back(&world));
    world.pass_time(1);
    assert!(!is_held_back(&world));
    assert_eq!(world.drain(), names(&["web"]));
}

/// A key that is revoked after it was said that its image holds is answered at once.
#[test]
fn a_revocation_is_not_held_back_by_what_was_said_before_it() {
    let (mut world, signer) = unsigned();
    sign(&mut world, &signer);
    world.tell(elsewhere("prod", None));
    world.settle();
    world.tell(elsewhere("prod", None));
    tell_key(&mut world, &signer, Stage::Revoked);
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Violating, Reason::KeyRevoked))
    );
}

#[test]
fn what_is_said_of_another_policy_image_or_workload_changes_nothing() {
    let (mut world, _) = unsigned();
    world.tell(elsewhere("other", None));
    world.tell(said_of("web", &digest("shop/other"), "prod", None));
    world.tell(said_of("gone", &digest("shop/web"), "prod", None));
    world.tell(elsewhere("prod", Some(Reason::SignatureMissing)));
    assert!(!is_held_back(&world));
    world.pass_time(1);
    assert_eq!(world.look_up(), 0);
}

/// Weakened once: where one user of the image is told again and not each, the other one is lost.
#[test]
fn every_workload_of_the_image_is_handed_over_when_the_time_ends() {
    let (mut world, _) = unsigned();
    world.tell(pod_of("api", "r.example/shop/web:1", &digest("shop/web")));
    world.settle();
    world.drain();
    world.tell(elsewhere("prod", None));
    world.pass_time(3);
    assert_eq!(world.engine.due_lookups(world.now, 9).len(), 1);
    world.tell(said_of("api", &digest("shop/web"), "prod", None));
    world.pass_time(12);
    assert_eq!(world.drain(), names(&["api", "web"]));
    assert!(!is_held_back(&world));
}

/// Weakened once: where all that fails is held back, a revocation waits as well.
#[test]
fn what_a_key_decides_is_said_at_once_although_something_better_was_heard() {
    let (mut world, signer) = unsigned();
    world.tell(elsewhere("prod", None));
    assert!(is_held_back(&world));
    sign(&mut world, &signer);
    world.pass_time(1);
    let under_way = world.engine.due_lookups(world.now, 9);
    world.end(&under_way[0]);
    tell_key(&mut world, &signer, Stage::Revoked);
    let revoked = Some((Verdict::Violating, Reason::KeyRevoked));
    assert_eq!(world.verdict("web", "prod"), revoked);
    world.tell(elsewhere("prod", None));
    assert_eq!(world.verdict("web", "prod"), revoked);
}

#[test]
fn a_look_for_what_was_heard_is_no_further_failure() {
    let (mut world, _) = unsigned();
    let pause = |world: &World| {
        let mut subjects = world.engine.subjects.values();
        subjects.next().unwrap().plan.pause
    };
    let before = pause(&world);
    for _ in 0..5 {
        world.tell(elsewhere("prod", None));
        world.pass_time(1);
        assert_eq!(world.look_up(), 1);
    }
    assert_eq!(pause(&world), before);
}

/// A workload whose image was signed when this replica looked.
fn signed() -> (World, Signer) {
    let (mut world, signer) = unsigned();
    sign(&mut world, &signer);
    world.pass_time(60);
    world.settle();
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    (world, signer)
}

/// Weakened once: with what violates elsewhere left out, the image is Compliant until the next regular look.
#[test]
fn what_violates_elsewhere_is_not_called_good_before_it_was_looked_at() {
    let (mut world, _) = signed();
    world.signatures.clear();
    world.tell(elsewhere("prod", Some(Reason::SignatureMissing)));
    assert!(is_held_back(&world));
    world.pass_time(1);
    let asks = world.engine.due_lookups(world.now, 9);
    assert!(!asks[0].holds, "an absence must be possible to conclude");
    world.end(&asks[0]);
    assert_eq!(world.verdict("web", "prod"), UNSIGNED);
}

#[test]
fn what_violated_elsewhere_and_holds_when_it_is_looked_at_is_good() {
    let (mut world, _) = signed();
    world.tell(elsewhere("prod", Some(Reason::SignatureMissing)));
    world.pass_time(1);
    assert_eq!(world.look_up(), 1);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}

/// The SigningKey is known here as well, and may have changed since that was written.
#[test]
fn what_a_key_made_a_violation_elsewhere_is_told_by_the_key() {
    let (mut world, _) = signed();
    world.tell(elsewhere("prod", Some(Reason::KeyDisabled)));
    assert_eq!(world.verdict("web", "prod"), HOLDS);
    world.pass_time(1);
    assert_eq!(world.look_up(), 0);
}

/// Weakened once: without the moment in between, a key that is told here later than there costs a look at every image.
#[test]
fn what_a_policy_or_a_key_explains_a_moment_later_costs_no_look() {
    let (mut world, signer) = signed();
    tell_key(&mut world, &signer, Stage::Disabled);
    world.tell(elsewhere("prod", None));
    tell_key(&mut world, &signer, Stage::Active);
    world.pass_time(1);
    assert_eq!(world.look_up(), 0);
    assert_eq!(world.verdict("web", "prod"), HOLDS);
}
