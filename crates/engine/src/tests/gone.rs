//! What stops running and comes back in the same process.

use api::{Reason, Stage, Verdict};

use super::world::*;
use crate::fact::Fact;
use crate::report::WorkloadAnswer;

const UNSIGNED: Option<(Verdict, Reason)> = Some((Verdict::Violating, Reason::SignatureMissing));

/// `web` is unsigned and known to be so; then its last pod goes and its registry says nothing more.
fn gone_in_an_outage(signer: &Signer) -> World {
    let mut world = World::new();
    world.tell(key_fact(
        "release-2026",
        key_spec("release", signer, Stage::Active),
    ));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), UNSIGNED);
    world.tell(super::world::gone("web"));
    assert_eq!(world.engine.subjects.len(), 0, "nothing of it runs");
    world.down = true;
    world
}

/// B43. Weakened once: with nothing kept when a subject is forgotten, the answer is Unknown/RegistryUnavailable.
#[test]
fn b43_a_violation_outlasts_its_last_pod_while_the_registry_says_nothing() {
    let signer = Signer::new();
    let mut world = gone_in_an_outage(&signer);
    world.tell(pod("web", "shop/web"));
    assert!(matches!(
        world.engine.answer(&key("web"), world.now),
        WorkloadAnswer::Undecided
    ));
    assert_eq!(world.look_up(), 1, "it is asked about at once");
    assert_eq!(world.verdict("web", "prod"), UNSIGNED);
    world.pass_time(30);
    world.look_up();
    assert_eq!(world.verdict("web", "prod"), UNSIGNED);
    world.down = false;
    world
        .signatures
        .insert(digest("shop/web"), vec![signer.sign(&digest("shop/web"))]);
    world.pass_time(60);
    world.look_up();
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Compliant, Reason::AllVerified)),
        "positive evidence ends it"
    );
}

#[test]
fn b43_another_workload_of_the_same_image_inherits_the_violation_and_another_image_does_not() {
    let mut world = gone_in_an_outage(&Signer::new());
    world.tell(pod("api", "shop/web"));
    world.tell(pod("other", "shop/other"));
    world.look_up();
    assert_eq!(world.verdict("api", "prod"), UNSIGNED);
    assert_eq!(
        world.verdict("other", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
}

#[test]
fn a_policy_that_was_edited_meanwhile_does_not_inherit_what_it_said_before() {
    let mut world = gone_in_an_outage(&Signer::new());
    world.tell(policy_fact("prod", "shop/**", &["security"]));
    world.tell(pod("web", "shop/web"));
    world.look_up();
    assert_eq!(
        world.verdict("web", "prod"),
        Some((Verdict::Unknown, Reason::RegistryUnavailable))
    );
}

/// B43. Weakened once: with every telling of a policy taken as an edit, the answer is Unknown.
#[test]
fn b43_a_policy_that_is_told_again_unchanged_takes_no_violation_back() {
    let mut world = gone_in_an_outage(&Signer::new());
    world.tell(pod("web", "shop/web"));
    world.look_up();
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    assert_eq!(world.verdict("web", "prod"), UNSIGNED);
}
