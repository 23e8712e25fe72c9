//! After any sequence of facts the incremental state says what an engine says that is told the
//! outcome from scratch.

use std::collections::BTreeMap;

use api::{Mode, Stage, Verdict};
use proptest::prelude::*;

use super::world::*;
use crate::fact::Fact;
use crate::report::WorkloadAnswer;

const WORKLOADS: [&str; 4] = ["web", "api", "jobs/batch", "jobs/cron"];
const IMAGES: [&str; 3] = ["shop/web", "shop/api", "tools/cli"];
const PATTERNS: [&str; 3] = ["**", "shop/*", "tools/**"];
const RINGS: [&str; 2] = ["release", "security"];
const STAGES: [Stage; 5] = [
    Stage::Staged,
    Stage::Active,
    Stage::Retiring,
    Stage::Disabled,
    Stage::Revoked,
];

#[derive(Clone, Debug)]
enum Step {
    Pod(usize, usize),
    PodGone(usize),
    Policy(usize, usize, usize, bool),
    PolicyGone(usize),
    Key(usize, usize, usize),
    KeyGone(usize),
    LookUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..WORKLOADS.len(), 0..IMAGES.len()).prop_map(|(workload, image)| Step::Pod(workload, image)),
        (0..WORKLOADS.len()).prop_map(Step::PodGone),
        (0..2usize, 0..PATTERNS.len(), 0..RINGS.len(), any::<bool>())
            .prop_map(|(policy, pattern, ring, only_jobs)| Step::Policy(policy, pattern, ring, only_jobs)),
        (0..2usize).prop_map(Step::PolicyGone),
        (0..2usize, 0..RINGS.len(), 0..STAGES.len())
            .prop_map(|(key, ring, stage)| Step::Key(key, ring, stage)),
        (0..2usize).prop_map(Step::KeyGone),
        Just(Step::LookUp),
    ]
}

fn fact(step: &Step, signers: &[Signer]) -> Option<(String, Option<Fact>)> {
    Some(match step {
        Step::Pod(workload, image) => (
            format!("pod {workload}"),
            Some(pod(WORKLOADS[*workload], IMAGES[*image])),
        ),
        Step::PodGone(workload) => (format!("pod {workload}"), None),
        Step::Policy(policy, pattern, ring, only_jobs) => {
            let mut facts = super::world::policy(&format!("p{policy}"), PATTERNS[*pattern], &[RINGS[*ring]]);
            let spec = facts.spec.as_mut().unwrap();
            spec.mode = if *policy == 0 { Mode::Enforce } else { Mode::DryRun };
            spec.match_.namespaces = if *only_jobs {
                vec!["jobs".into()]
            } else {
                Vec::new()
            };
            (format!("policy {policy}"), Some(Fact::Policy(Box::new(facts))))
        }
        Step::PolicyGone(policy) => (format!("policy {policy}"), None),
        Step::Key(key, ring, stage) => {
            let spec = key_spec(RINGS[*ring], &signers[*key], STAGES[*stage]);
            (format!("key {key}"), Some(key_fact(&format!("k{key}"), spec)))
        }
        Step::KeyGone(key) => (format!("key {key}"), None),
        Step::LookUp => return None,
    })
}

fn gone(name: &str) -> Fact {
    match name.split_once(' ') {
        Some(("pod", workload)) => {
            Fact::PodGone(format!("pod-{}", WORKLOADS[workload.parse::<usize>().unwrap()]).into())
        }
        Some(("policy", policy)) => Fact::PolicyGone(format!("p{policy}").into()),
        Some((_, key)) => Fact::KeyGone(format!("k{key}").into()),
        None => unreachable!("every name has two words"),
    }
}

fn signed(world: &mut World, signers: &[Signer]) {
    world
        .signatures
        .insert(digest(IMAGES[0]), vec![signers[0].sign(&digest(IMAGES[0]))]);
    let both = signers
        .iter()
        .map(|signer| signer.sign(&digest(IMAGES[1])))
        .collect();
    world.signatures.insert(digest(IMAGES[1]), both);
}

fn answers(world: &World) -> Vec<String> {
    let mut texts = Vec::new();
    for name in WORKLOADS {
        texts.push(match world.engine.answer(&key(name), world.now) {
            WorkloadAnswer::Covered(mut report) => {
                // Who signed what does not hold is told as far as it is known: it depends on which
                // keys were ever asked.
                let failing = report
                    .images
                    .iter_mut()
                    .flat_map(|image| &mut image.policies)
                    .filter(|answer| answer.verdict != Verdict::Compliant);
                failing.for_each(|answer| answer.signers.clear());
                format!("{:?}", report.images)
            }
            other => format!("{other:?}"),
        });
    }
    for policy in ["p0", "p1"] {
        texts.push(format!("{:?}", world.engine.policy_report(policy, world.now)));
    }
    for key in ["k0", "k1"] {
        texts.push(format!("{:?}", world.engine.key_report(key)));
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn incremental_state_equals_a_judgement_from_scratch(steps in proptest::collection::vec(step(), 1..40)) {
        let signers = [Signer::new(), Signer::new()];
        let mut world = World::new();
        signed(&mut world, &signers);
        let items = world.signatures.clone();
        world.tell(Fact::Synced);
        let mut last: BTreeMap<String, Fact> = BTreeMap::new();
        for step in &steps {
            match fact(step, &signers) {
                None => { world.look_up(); }
                Some((name, Some(fact))) => {
                    world.tell(fact.clone());
                    last.insert(name, fact);
                }
                Some((name, None)) => {
                    world.tell(gone(&name));
                    last.remove(&name);
                }
            }
        }
        world.look_up();
        let mut scratch = World::new();
        scratch.signatures = items;
        for fact in last.into_values() {
            scratch.tell(fact);
        }
        scratch.tell(Fact::Synced);
        scratch.look_up();
        prop_assert_eq!(answers(&world), answers(&scratch));
    }
}
