//! Edits of a policy that change no judgement and still change what is to be written.

use std::collections::BTreeSet;

use api::{Mode, Stage, Verdict};

use super::world::*;
use crate::fact::{Fact, PolicyFacts};
use crate::report::{Target, WorkloadAnswer};

/// The same signed image in two namespaces; the policy covers one of them.
fn two_namespaces() -> (World, PolicyFacts) {
    let mut world = World::new();
    let signer = Signer::new();
    let signature = signer.sign(&digest("shop/web"));
    world.signatures.insert(digest("shop/web"), vec![signature]);
    world.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Active),
    ));
    let mut policy = policy("prod", "shop/**", &["release"]);
    policy.spec.as_mut().unwrap().match_.namespaces = vec!["one".into()];
    world.tell(Fact::Policy(Box::new(policy.clone())));
    world.tell(pod("one/web", "shop/web"));
    world.tell(pod("two/web", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    world.drain();
    (world, policy)
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// C5.07.
#[test]
fn c5_07_another_mode_is_written_although_no_verdict_changes() {
    let (mut world, mut policy) = two_namespaces();
    for mode in [Mode::DryRun, Mode::Warn, Mode::Enforce] {
        policy.generation += 1;
        policy.spec.as_mut().unwrap().mode = mode;
        world.tell(Fact::Policy(Box::new(policy.clone())));
        assert!(world.drain().contains("one/web"), "{mode:?}");
        assert_eq!(world.result("one/web", "prod").unwrap().mode, mode);
    }
}

/// C5.17.
#[test]
fn c5_17_a_namespace_that_comes_and_goes_is_written_although_another_runs_the_same_image() {
    let (mut world, mut policy) = two_namespaces();
    assert!(matches!(
        world.engine.answer(&key("two/web"), world.now),
        WorkloadAnswer::NotCovered
    ));
    policy.spec.as_mut().unwrap().match_.namespaces.push("two".into());
    world.tell(Fact::Policy(Box::new(policy.clone())));
    assert_eq!(world.drain(), names(&["one/web", "two/web"]));
    assert_eq!(
        world.result("two/web", "prod").unwrap().verdict,
        Verdict::Compliant
    );
    policy.spec.as_mut().unwrap().match_.namespaces.remove(0);
    world.tell(Fact::Policy(Box::new(policy.clone())));
    assert_eq!(world.drain(), names(&["one/web", "two/web"]));
    assert!(matches!(
        world.engine.answer(&key("one/web"), world.now),
        WorkloadAnswer::NotCovered
    ));
}

#[test]
fn a_policy_that_is_told_again_unchanged_writes_nothing() {
    let (mut world, policy) = two_namespaces();
    world.tell(Fact::Policy(Box::new(policy)));
    assert_eq!(world.drain(), names(&[]));
}

/// C2.11: what an earlier process wrote about keys is not taken back while the first look-ups are under way.
#[test]
fn c2_11_the_first_totals_of_keys_wait_for_the_first_look_ups() {
    let mut world = World::new();
    let signer = Signer::new();
    world.tell(key_fact(
        "release-2026",
        key_spec("release", &signer, Stage::Active),
    ));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(Fact::Synced);
    let mut handed_over = Vec::new();
    while let Some(target) = world.engine.queue.pop(world.now) {
        handed_over.push(target.clone());
        world.engine.queue.done(target, None);
    }
    let is_workload = |target: &Target| matches!(target, Target::Workload(_));
    assert!(handed_over.iter().all(is_workload), "{handed_over:?}");
    world.look_up();
    world.pass_time(3);
    let key = Target::Key("release-2026".into());
    let mut later = std::iter::from_fn(|| world.engine.queue.pop(world.now));
    assert!(later.any(|target| target == key));
}

/// Everything of which something is said anew.
fn told(world: &mut World) -> BTreeSet<Target> {
    world.pass_time(3);
    let mut told = BTreeSet::new();
    while let Some(target) = world.engine.queue.pop(world.now) {
        told.insert(target.clone());
        world.engine.queue.done(target, None);
    }
    told
}

/// Weakened once: with the counts of keys told only where an answer changes, the second signature is not told.
#[test]
fn the_counts_of_a_key_are_told_where_no_answer_changes() {
    let (mut world, first, second) = (World::new(), Signer::new(), Signer::new());
    let image = digest("shop/web");
    world.signatures.insert(image.clone(), vec![first.sign(&image)]);
    for (name, signer, stage) in [("one", &first, Stage::Active), ("two", &second, Stage::Staged)] {
        world.tell(key_fact(name, key_spec("release", signer, stage)));
    }
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(pod("web", "shop/web"));
    world.tell(pod("other", "shop/web"));
    world.tell(Fact::Synced);
    world.look_up();
    told(&mut world);

    let held = world.signatures.get_mut(&image).unwrap();
    held.push(second.sign(&image));
    world.pass_time(6 * 3600);
    told(&mut world);
    world.look_up();
    let key = Target::Key("two".into());
    assert!(told(&mut world).contains(&key), "a signature more");
    assert_eq!(world.engine.key_report("two", world.now).unwrap().images, 1);

    for pod in ["web", "other"] {
        world.tell(gone(pod));
    }
    assert!(told(&mut world).contains(&key), "nothing runs any more");
    assert_eq!(world.engine.key_report("two", world.now).unwrap().images, 0);
}

/// A second pod of an image, and one that a template had told of before, change no answer.
#[test]
fn the_counts_of_a_key_are_told_where_only_who_runs_an_image_changes() {
    let (mut world, signer) = (World::new(), Signer::new());
    let image = digest("shop/web");
    world.signatures.insert(image.clone(), vec![signer.sign(&image)]);
    world.tags.insert("r.example/shop/web:1".to_owned(), image);
    world.tell(key_fact("one", key_spec("release", &signer, Stage::Active)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(template("web", &["r.example/shop/web:1"]));
    world.tell(Fact::Synced);
    world.settle();
    told(&mut world);
    let key = Target::Key("one".into());
    let worth = |world: &mut World| world.engine.key_report("one", world.now).unwrap().sole_trust;
    assert_eq!(
        (worth(&mut world).start_only, worth(&mut world).workloads),
        (1, 0)
    );

    for (pods, name) in [(1, "web"), (2, "web-2")] {
        world.tell(pod(name, "shop/web"));
        assert!(told(&mut world).contains(&key), "{name}");
        assert_eq!(worth(&mut world).pods, pods);
    }
}

/// Weakened once: with only the workload told again, the policy's counts stay as they were.
#[test]
fn the_counts_of_a_policy_are_told_when_a_pod_does_not_start() {
    let (mut world, _) = two_namespaces();
    told(&mut world);
    world.tell(starting_pod("one/slow", "shop/web"));
    told(&mut world);
    world.pass_time(16);
    assert!(told(&mut world).contains(&Target::Policy("prod".into())));
}
