//! Pods that lived and died between two writes: what was known of their images is told all the same (C5.19).

use api::{Reason, Stage, Verdict};

use super::world::*;
use crate::fact::Fact;

type Told = Vec<(String, Verdict, Reason)>;

fn world() -> (World, Signer) {
    let (mut world, signer) = (World::new(), Signer::new());
    world.tell(key_fact("k", key_spec("release", &signer, Stage::Active)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(Fact::Synced);
    for image in ["shop/good", "shop/bad"] {
        let held = vec![signer.sign(&digest(image))];
        world.signatures.insert(digest(image), held);
    }
    world.signatures.remove(&digest("shop/bad"));
    (world, signer)
}

/// What is told of what ended in a workload.
fn ended(world: &mut World, name: &str) -> Told {
    let ended = world.engine.ended.take(&key(name), world.now);
    let answers = ended.iter().flat_map(|ended| {
        let image = ended.image.image.to_string();
        let policies = ended.image.policies.iter();
        policies.map(move |answer| (image.clone(), answer.verdict, answer.reason))
    });
    answers.collect()
}

fn told(image: &str, verdict: Verdict, reason: Reason) -> Told {
    vec![(format!("r.example/{image}:1"), verdict, reason)]
}

#[test]
fn c5_19_a_pod_that_ended_before_its_first_look_up_did_leaves_its_verdict() {
    for (image, verdict, reason) in [
        ("shop/good", Verdict::Compliant, Reason::AllVerified),
        ("shop/bad", Verdict::Violating, Reason::SignatureMissing),
    ] {
        let (mut world, _) = world();
        world.tell(pod("job", image));
        world.tell(gone("job"));
        assert!(ended(&mut world, "job").is_empty(), "nothing is known yet");
        assert_eq!(
            world.look_up(),
            1,
            "the look-up is made although nothing runs any more"
        );
        assert!(world.drain().contains("job"));
        assert_eq!(ended(&mut world, "job"), told(image, verdict, reason));
        assert_eq!(world.engine.subjects.len(), 0, "and forgotten after it");
        assert!(ended(&mut world, "job").is_empty(), "it is told once");
    }
}

/// The look-up that was under way when the pod ended says what it would have said.
#[test]
fn c5_19_a_look_up_that_is_under_way_when_the_pod_ends_is_not_in_vain() {
    let (mut world, _) = world();
    world.tell(pod("job", "shop/bad"));
    let asks = world.engine.due_lookups(world.now, usize::MAX);
    world.tell(gone("job"));
    world.end(&asks[0]);
    let expected = told("shop/bad", Verdict::Violating, Reason::SignatureMissing);
    assert_eq!(ended(&mut world, "job"), expected);
    assert_eq!(world.engine.subjects.len(), 0);
}

#[test]
fn c5_19_what_is_known_when_the_last_pod_ends_is_told_at_once_and_only_then() {
    let (mut world, _) = world();
    world.tell(pod("web", "shop/good"));
    world.tell(pod("other", "shop/good"));
    world.look_up();
    assert!(ended(&mut world, "web").is_empty(), "it runs");
    world.tell(gone("web"));
    let expected = told("shop/good", Verdict::Compliant, Reason::AllVerified);
    assert_eq!(ended(&mut world, "web"), expected);
    assert!(ended(&mut world, "other").is_empty(), "the other one runs");
}

#[test]
fn c5_19_a_registry_that_does_not_answer_leaves_an_unknown_and_holds_nothing() {
    let (mut world, _) = world();
    world.down = true;
    world.tell(pod("job", "shop/good"));
    world.tell(gone("job"));
    world.look_up();
    let expected = told("shop/good", Verdict::Unknown, Reason::RegistryUnavailable);
    assert_eq!(ended(&mut world, "job"), expected);
    assert_eq!(world.engine.subjects.len(), 0);
}

#[test]
fn what_no_policy_covers_or_covers_no_more_is_neither_told_nor_looked_up() {
    let (mut world, _) = world();
    world.tell(pod("tool", "tools/cli"));
    world.tell(gone("tool"));
    world.tell(pod("job", "shop/good"));
    world.tell(gone("job"));
    world.tell(Fact::PolicyGone("prod".into()));
    assert_eq!(world.look_up(), 0);
    assert!(ended(&mut world, "tool").is_empty() && ended(&mut world, "job").is_empty());
    assert_eq!(world.engine.subjects.len(), 0);
}

/// A replica that does not write gathers nothing for ever, and tells nothing old when it begins to.
#[test]
fn what_nobody_asks_for_is_forgotten() {
    let (mut world, _) = world();
    world.tell(pod("web", "shop/good"));
    world.look_up();
    world.tell(gone("web"));
    world.pass_time(600);
    assert!(ended(&mut world, "web").is_empty());
    for number in 0..5000 {
        let name = format!("job-{number}");
        world.tell(pod(&name, "shop/good"));
        world.tell(gone(&name));
    }
    world.look_up();
    let waiting = (0..5000).filter(|number| !ended(&mut world, &format!("job-{number}")).is_empty());
    assert_eq!(waiting.count(), 4096);
}
