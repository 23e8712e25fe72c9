//! After any sequence of facts the incremental state says what an engine says that is told the
//! outcome from scratch.

use std::collections::BTreeMap;

use api::{ImageExceptionSpec, Mode, Stage, Verdict};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::world::*;
use crate::fact::{ExceptionFacts, Fact};
use crate::report::{Totals, WorkloadAnswer};

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
    Template(usize, usize),
    TemplateGone(usize),
    Policy(usize, usize, usize, bool),
    PolicyGone(usize),
    Exception(usize, usize, bool),
    ExceptionGone(usize),
    Key(usize, usize, usize),
    KeyGone(usize),
    LookUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..WORKLOADS.len(), 0..IMAGES.len()).prop_map(|(workload, image)| Step::Pod(workload, image)),
        (0..WORKLOADS.len()).prop_map(Step::PodGone),
        (0..WORKLOADS.len(), 0..IMAGES.len()).prop_map(|(workload, image)| Step::Template(workload, image)),
        (0..WORKLOADS.len()).prop_map(Step::TemplateGone),
        (0..2usize, 0..PATTERNS.len(), 0..RINGS.len(), any::<bool>())
            .prop_map(|(policy, pattern, ring, only_jobs)| Step::Policy(policy, pattern, ring, only_jobs)),
        (0..2usize).prop_map(Step::PolicyGone),
        (0..2usize, 0..2usize, any::<bool>())
            .prop_map(|(exception, policy, only_jobs)| Step::Exception(exception, policy, only_jobs)),
        (0..2usize).prop_map(Step::ExceptionGone),
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
        Step::Template(workload, image) => {
            let image = format!("r.example/{}:1", IMAGES[*image]);
            let template = template(WORKLOADS[*workload], &[&image]);
            (format!("template {workload}"), Some(template))
        }
        Step::TemplateGone(workload) => (format!("template {workload}"), None),
        Step::Policy(policy, pattern, ring, only_jobs) => {
            let mut facts = super::world::policy(&format!("p{policy}"), PATTERNS[*pattern], &[RINGS[*ring]]);
            let spec = facts.spec.as_mut().unwrap();
            spec.mode = if *policy == 0 { Mode::Enforce } else { Mode::DryRun };
            spec.supersedes = (*policy == 1).then(|| "p0".to_owned());
            spec.match_.namespaces = if *only_jobs {
                vec!["jobs".into()]
            } else {
                Vec::new()
            };
            (format!("policy {policy}"), Some(Fact::Policy(Box::new(facts))))
        }
        Step::PolicyGone(policy) => (format!("policy {policy}"), None),
        Step::Exception(exception, policy, only_jobs) => {
            let facts = exception_facts(*exception, *policy, *only_jobs);
            (
                format!("exception {exception}"),
                Some(Fact::Exception(Box::new(facts))),
            )
        }
        Step::ExceptionGone(exception) => (format!("exception {exception}"), None),
        Step::Key(key, ring, stage) => {
            let spec = key_spec(RINGS[*ring], &signers[*key], STAGES[*stage]);
            (format!("key {key}"), Some(key_fact(&format!("k{key}"), spec)))
        }
        Step::KeyGone(key) => (format!("key {key}"), None),
        Step::LookUp => return None,
    })
}

fn exception_facts(exception: usize, policy: usize, only_jobs: bool) -> ExceptionFacts {
    let made = World::new().now;
    let spec = ImageExceptionSpec {
        policies: vec![format!("p{policy}")],
        images: vec!["r.example/**".into()],
        namespaces: vec![if only_jobs { "jobs" } else { "*" }.into()],
        workloads: None,
        reasons: None,
        expires: Time(made + SignedDuration::from_hours(1)),
        reason: "a hotfix".into(),
    };
    ExceptionFacts {
        name: format!("e{exception}").into(),
        generation: 1,
        created: Some(made),
        spec: Ok(spec),
    }
}

fn gone(name: &str) -> Fact {
    match name.split_once(' ') {
        Some(("pod", workload)) => {
            Fact::PodGone(format!("pod-{}", WORKLOADS[workload.parse::<usize>().unwrap()]).into())
        }
        Some(("template", workload)) => {
            Fact::TemplateGone(key(WORKLOADS[workload.parse::<usize>().unwrap()]))
        }
        Some(("exception", exception)) => Fact::ExceptionGone(format!("e{exception}").into()),
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
    for image in IMAGES {
        world.tags.insert(format!("r.example/{image}:1"), digest(image));
    }
}

fn answers(world: &mut World) -> Vec<String> {
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
                format!("{:?} {:?}", report.images, report.next_start)
            }
            other => format!("{other:?}"),
        });
    }
    for policy in ["p0", "p1"] {
        texts.push(format!("{:?}", world.engine.policy_report(policy, world.now)));
    }
    for key in ["k0", "k1"] {
        texts.push(format!("{:?}", world.engine.key_report(key, world.now)));
    }
    for exception in ["e0", "e1"] {
        let report = world.engine.exception_report(exception, world.now);
        texts.push(format!("{report:?}"));
    }
    let totals = world.engine.totals(world.now);
    let Totals {
        workloads,
        falling,
        excepted,
        stale,
        uncovered,
        ..
    } = totals;
    texts.push(format!(
        "{workloads:?} {falling:?} {excepted:?} {stale:?} {uncovered:?}"
    ));
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn incremental_state_equals_a_judgement_from_scratch(steps in proptest::collection::vec(step(), 1..40)) {
        let signers = [Signer::new(), Signer::new()];
        let mut world = World::new();
        signed(&mut world, &signers);
        let (items, tags) = (world.signatures.clone(), world.tags.clone());
        world.tell(Fact::Synced);
        let mut last: BTreeMap<String, Fact> = BTreeMap::new();
        for step in &steps {
            match fact(step, &signers) {
                None => { world.look_up(); world.resolve(); }
                Some((name, Some(fact))) => {
                    world.tell(fact.clone());
                    last.insert(name, fact);
                }
                Some((name, None)) => {
                    world.tell(gone(&name));
                    last.remove(&name);
                }
            }
            world.engine.count_changes(world.now);
            let scratch = counted_from_scratch(&world.engine, world.now);
            prop_assert_eq!(world.engine.tally.sums(), scratch.sums(), "after {:?}", step);
        }
        world.settle();
        let mut scratch = World::new();
        (scratch.signatures, scratch.tags) = (items, tags);
        for fact in last.into_values() {
            scratch.tell(fact);
        }
        scratch.tell(Fact::Synced);
        scratch.settle();
        for world in [&mut world, &mut scratch] {
            // The first pods of a new workload had their time to come.
            world.pass_time(20);
        }
        prop_assert_eq!(answers(&mut world), answers(&mut scratch));
    }
}
