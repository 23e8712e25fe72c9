//! What facts cost, counted: look-ups, verifications and evaluations, whatever the machine.

use api::Stage;

use super::world::*;
use crate::fact::Fact;
use crate::report::Target;

const IMAGES: usize = 6;

/// What was done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    look_ups: usize,
    verifications: u64,
    evaluations: u64,
}

fn done(world: &World) -> Done {
    Done {
        look_ups: world.asked.len(),
        verifications: world.engine.counters.verifications,
        evaluations: world.engine.counters.evaluations,
    }
}

fn since(world: &World, before: Done) -> Done {
    let now = done(world);
    Done {
        look_ups: now.look_ups - before.look_ups,
        verifications: now.verifications - before.verifications,
        evaluations: now.evaluations - before.evaluations,
    }
}

const NOTHING: Done = Done {
    look_ups: 0,
    verifications: 0,
    evaluations: 0,
};

fn image(number: usize) -> String {
    format!("shop/{number}")
}

/// So many images, each signed by `release` and run by one workload of so many pods; and a key and a policy of which
/// nothing here is a matter.
fn fleet(pods: usize) -> (World, Signer) {
    let (mut world, signer, other) = (World::new(), Signer::new(), Signer::new());
    world.tell(key_fact("release", key_spec("release", &signer, Stage::Active)));
    world.tell(key_fact("other", key_spec("other", &other, Stage::Active)));
    world.tell(policy_fact("prod", "shop/**", &["release"]));
    world.tell(policy_fact("elsewhere", "elsewhere/**", &["other"]));
    for number in 0..IMAGES {
        let digest = digest(&image(number));
        world
            .signatures
            .insert(digest.clone(), vec![signer.sign(&digest)]);
        for pod in 0..pods {
            world.tell(pod_number(number, pod));
        }
    }
    world.tell(Fact::Synced);
    world.settle();
    (world, signer)
}

fn pod_number(workload: usize, number: usize) -> Fact {
    let Fact::Pod(mut facts) = pod(&format!("web-{workload}"), &image(workload)) else {
        unreachable!("a pod is a pod")
    };
    facts.uid = format!("{workload}-{number}").into();
    Fact::Pod(facts)
}

/// Seen to fail with one judgement for each new pod, in `Engine::count_use`.
#[test]
fn twice_the_pods_cost_no_look_up_no_verification_and_no_evaluation() {
    let (mut world, _) = fleet(3);
    let before = done(&world);
    for workload in 0..IMAGES {
        for pod in 3..6 {
            world.tell(pod_number(workload, pod));
        }
    }
    world.settle();
    assert_eq!(since(&world, before), NOTHING);
    assert_eq!(done(&fleet(3).0), done(&fleet(6).0));
}

/// Invariant 2. Seen to fail with every subject concerned by every key, in `Engine::rings_changed`.
#[test]
fn an_edit_of_a_key_evaluates_each_image_that_trusts_its_ring_once_and_no_other() {
    let (mut world, signer) = fleet(2);
    let before = done(&world);
    world.tell(key_fact(
        "other",
        key_spec("other", &Signer::new(), Stage::Active),
    ));
    world.settle();
    assert_eq!(since(&world, before), NOTHING, "nothing here trusts it");
    world.tell(key_fact("release", key_spec("release", &signer, Stage::Retiring)));
    world.settle();
    let edit = since(&world, before);
    let expected = Done {
        evaluations: IMAGES as u64,
        ..NOTHING
    };
    assert_eq!(edit, expected);
}

/// Seen to fail with `users_changed` after every edit.
#[test]
fn words_about_a_policy_render_no_workload() {
    let (mut world, _) = fleet(2);
    let told = |world: &mut World| {
        let mut workloads = 0;
        while let Some(target) = world.engine.queue.pop(world.now) {
            workloads += usize::from(matches!(target, Target::Workload(_)));
            world.engine.queue.done(target, None);
        }
        workloads
    };
    told(&mut world);
    let mut facts = policy("prod", "shop/**", &["release"]);
    facts.generation = 2;
    facts.spec.as_mut().unwrap().description = Some("who to ask".into());
    world.tell(Fact::Policy(Box::new(facts.clone())));
    assert_eq!(told(&mut world), 0);
    facts.generation = 3;
    facts.spec.as_mut().unwrap().mode = api::Mode::Warn;
    world.tell(Fact::Policy(Box::new(facts)));
    assert_eq!(told(&mut world), IMAGES);
}
