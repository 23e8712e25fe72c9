//! What a step with a key is said to break is what it breaks: for random fleets, policies and keys.

use std::collections::{BTreeMap, BTreeSet};

use api::{KeyRevocationSpec, RevocationReason, SigningKeySpec, Stage, Verdict};
use proptest::prelude::*;

use super::world::*;
use crate::fact::{Fact, RevocationFacts};
use crate::judge::badness;
use crate::report::{PreviewResult, WorkloadAnswer};

const WORKLOADS: [&str; 6] = ["web", "api", "cart", "jobs/batch", "jobs/cron", "jobs/mail"];
const IMAGES: [&str; 4] = ["shop/web", "shop/api", "tools/cli", "tools/job"];
const PATTERNS: [&str; 3] = ["**", "shop/*", "tools/**"];
const RINGS: [&str; 3] = ["release", "security", "review"];
const STAGES: [Stage; 5] = [
    Stage::Staged,
    Stage::Active,
    Stage::Retiring,
    Stage::Disabled,
    Stage::Revoked,
];
/// Two objects may hold the key of one signer.
const SIGNERS: usize = 4;

/// A policy: pattern, rings, minimum.
type Asking = (usize, BTreeSet<usize>, i32);

/// Everything that a case is made of; numbers name what the lists above hold.
#[derive(Clone, Debug)]
struct Fleet {
    /// The image of each workload.
    runs: Vec<usize>,
    /// The signers of each image.
    signed: Vec<BTreeSet<usize>>,
    /// Whether the evidence of each image cannot be read.
    mute: Vec<bool>,
    policies: Vec<Asking>,
    /// Ring, signer, stage.
    keys: Vec<(usize, usize, usize)>,
    /// The signer that is revoked but for an image.
    revoked: Option<(usize, usize)>,
    /// The key that the step is about.
    step: usize,
}

fn set(limit: usize, least: usize) -> impl Strategy<Value = BTreeSet<usize>> {
    proptest::collection::btree_set(0..limit, least..=limit)
}

fn asking() -> impl Strategy<Value = Asking> {
    let policy = (0..PATTERNS.len(), set(RINGS.len(), 1), 1..=2i32);
    policy.prop_map(|(pattern, rings, minimum)| {
        let most = i32::try_from(rings.len()).unwrap();
        (pattern, rings, minimum.min(most))
    })
}

/// What is previewed, besides the step that a fleet names.
#[derive(Clone, Debug)]
enum Change {
    Key(Option<usize>),
    Policy(usize, Option<Asking>),
    Revoke(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        proptest::option::of(0..STAGES.len()).prop_map(Change::Key),
        (0..3usize, proptest::option::of(asking()))
            .prop_map(|(number, asking)| Change::Policy(number, asking)),
        (0..SIGNERS, 0..IMAGES.len()).prop_map(|(signer, image)| Change::Revoke(signer, image)),
    ]
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let stage = prop_oneof![4 => Just(1usize), 2 => Just(2), 1 => Just(0), 1 => Just(3), 1 => Just(4)];
    let key = (0..RINGS.len(), 0..SIGNERS, stage);
    (
        proptest::collection::vec(0..IMAGES.len(), WORKLOADS.len()),
        proptest::collection::vec(set(SIGNERS, 0), IMAGES.len()),
        proptest::collection::vec(proptest::bool::weighted(0.1), IMAGES.len()),
        proptest::collection::vec(asking(), 1..4),
        proptest::collection::vec(key, 1..6),
        proptest::option::weighted(0.3, (0..SIGNERS, 0..IMAGES.len())),
        any::<proptest::sample::Index>(),
    )
        .prop_map(|(runs, signed, mute, policies, keys, revoked, step)| Fleet {
            step: step.index(keys.len()),
            runs,
            signed,
            mute,
            policies,
            keys,
            revoked,
        })
}

impl Fleet {
    fn world(&self, signers: &[Signer]) -> World {
        let mut world = World::new();
        for (image, by) in IMAGES.iter().zip(&self.signed) {
            let own = digest(image);
            let held = by.iter().map(|signer| signers[*signer].sign(&own)).collect();
            world.signatures.insert(own, held);
        }
        let mute = IMAGES.iter().zip(&self.mute).filter(|(_, mute)| **mute);
        world.mute.extend(mute.map(|(image, _)| digest(image)));
        for (number, policy) in self.policies.iter().enumerate() {
            world.tell(policy_of(number, policy));
        }
        for number in 0..self.keys.len() {
            world.tell(key_fact(&name(number), self.key(number, signers)));
        }
        for (workload, image) in WORKLOADS.iter().zip(&self.runs) {
            world.tell(pod(workload, IMAGES[*image]));
        }
        world.tell(Fact::Synced);
        if let Some((signer, image)) = self.revoked {
            let revocation = revocation(&mut world, &signers[signer], IMAGES[image]);
            world.tell(revocation);
        }
        world.look_up();
        world
    }

    fn key(&self, number: usize, signers: &[Signer]) -> SigningKeySpec {
        let (ring, signer, stage) = self.keys[number];
        key_spec(RINGS[ring], &signers[signer], STAGES[stage])
    }

    fn fact(&self, change: &Change, world: &mut World, signers: &[Signer]) -> Fact {
        match change {
            Change::Key(None) => Fact::KeyGone(name(self.step).into()),
            Change::Key(Some(stage)) => {
                let spec = SigningKeySpec {
                    stage: STAGES[*stage],
                    ..self.key(self.step, signers)
                };
                key_fact(&name(self.step), spec)
            }
            Change::Policy(number, None) => Fact::PolicyGone(format!("p{number}").into()),
            Change::Policy(number, Some(asking)) => policy_of(*number, asking),
            Change::Revoke(signer, image) => revocation(world, &signers[*signer], IMAGES[*image]),
        }
    }
}

/// Revokes a signer but for one image; its fingerprint is read from a key that nothing trusts.
fn revocation(world: &mut World, signer: &Signer, image: &str) -> Fact {
    world.tell(key_fact("idle", key_spec("idle", signer, Stage::Active)));
    let identity = world.engine.key_report("idle").unwrap().identity;
    world.tell(Fact::KeyGone("idle".into()));
    let fingerprint = identity.unwrap().fingerprint;
    let spec = KeyRevocationSpec {
        fingerprint: fingerprint.clone(),
        reason: RevocationReason::KeyCompromise,
        effective_from: None,
        earlier_signatures: None,
        honour_digests: vec![digest(image).to_string()],
        note: None,
    };
    Fact::Revocation(Box::new(RevocationFacts {
        name: fingerprint.into(),
        generation: 1,
        created: Some(world.now),
        spec: Ok(spec),
    }))
}

fn policy_of(number: usize, (pattern, rings, minimum): &Asking) -> Fact {
    let rings: Vec<&str> = rings.iter().map(|ring| RINGS[*ring]).collect();
    let mut facts = policy(&format!("p{number}"), PATTERNS[*pattern], &rings);
    let spec = facts.spec.as_mut().unwrap();
    spec.require[0].signature.as_mut().unwrap().minimum = Some(*minimum);
    Fact::Policy(Box::new(facts))
}

fn name(key: usize) -> String {
    format!("k{key}")
}

/// How bad each policy finds each workload.
fn found(world: &World) -> BTreeMap<(&'static str, String), u8> {
    let mut found = BTreeMap::new();
    for workload in WORKLOADS {
        if let WorkloadAnswer::Covered(report) = world.engine.answer(&key(workload), world.now) {
            for answer in report.images.iter().flat_map(|image| &image.policies) {
                found.insert((workload, answer.policy.to_string()), badness(answer.verdict));
            }
        }
    }
    found
}

/// What was ever asked about the evidence, and everything that is said.
fn answered(world: &World) -> (usize, Vec<String>) {
    let items = world
        .engine
        .subjects
        .values()
        .flat_map(|subject| subject.knowledge());
    let outcomes = items
        .flat_map(|known| &known.items)
        .map(|item| item.outcomes.len())
        .sum();
    let answer = |workload: &&str| format!("{:?}", world.engine.answer(&key(workload), world.now));
    (outcomes, WORKLOADS.iter().map(answer).collect())
}

/// As many as the environment says, for a long run by hand.
fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(200),
    }
}

proptest! {
    #![proptest_config(cases())]

    /// C5.02, C5.03: two keys that back each other up among them.
    #[test]
    fn c5_02_what_rests_on_a_key_is_exactly_what_gets_worse_when_it_is_disabled(fleet in fleet()) {
        let signers: Vec<Signer> = (0..SIGNERS).map(|_| Signer::new()).collect();
        let mut world = fleet.world(&signers);
        let report = world.engine.key_report(&name(fleet.step)).unwrap();
        let before = found(&world);
        let asked = world.asked.len();

        let spec = SigningKeySpec { stage: Stage::Disabled, ..fleet.key(fleet.step, &signers) };
        world.tell(key_fact(&name(fleet.step), spec));

        let after = found(&world);
        let worse: BTreeSet<&str> = before
            .iter()
            .filter(|(place, bad)| after[*place] > **bad)
            .map(|((workload, _), _)| *workload)
            .collect();
        let predicted: BTreeSet<String> = report
            .sole_trust
            .sample
            .iter()
            .map(|sample| sample.workload.trim_start_matches("Deployment/").to_owned())
            .collect();
        let worse: BTreeSet<String> = worse.into_iter().map(str::to_owned).collect();
        prop_assert_eq!(report.sole_trust.workloads, i64::try_from(worse.len()).unwrap());
        prop_assert_eq!(predicted, worse);
        prop_assert_eq!(world.asked.len(), asked, "no registry is asked");
    }

    /// C5.04: nothing is applied, and what is said of several changes together is what they do.
    /// Weakened once: with keys that are new not asked about the evidence, what is said is not what happens; with
    /// what they made of the evidence kept, there is more of it.
    #[test]
    fn c5_04_a_preview_says_exactly_what_the_changes_do(
        fleet in fleet(), changes in proptest::collection::vec(change(), 1..4),
    ) {
        let signers: Vec<Signer> = (0..SIGNERS).map(|_| Signer::new()).collect();
        let mut world = fleet.world(&signers);
        let facts: Vec<Fact> = changes.iter().map(|change| fleet.fact(change, &mut world, &signers)).collect();
        world.look_up();
        let before = found(&world);
        let asked = world.asked.len();
        world.drain();

        let (now, answers) = (world.now, answered(&world));
        let report = world.engine.preview(facts.clone(), now).unwrap();
        prop_assert_eq!(found(&world), before.clone(), "nothing is applied");
        prop_assert_eq!(answered(&world), answers, "nothing of what was supposed is kept");
        prop_assert_eq!(world.drain().len(), 0, "nothing is written");

        facts.into_iter().for_each(|fact| world.tell(fact));
        let after = found(&world);
        let failing = |found: &BTreeMap<(&'static str, String), u8>| -> BTreeSet<(String, String)> {
            let violating = found.iter().filter(|(_, bad)| **bad == badness(Verdict::Violating));
            violating.map(|((workload, policy), _)| ((*workload).to_owned(), policy.clone())).collect()
        };
        let (was, is) = (failing(&before), failing(&after));
        let said = |results: &[PreviewResult]| -> BTreeSet<(String, String)> {
            let place = |result: &PreviewResult| {
                (result.workload.trim_start_matches("Deployment/").to_owned(), result.policy.clone())
            };
            results.iter().map(place).collect()
        };
        prop_assert_eq!(said(&report.newly_failing), is.difference(&was).cloned().collect());
        prop_assert_eq!(said(&report.newly_passing), was.difference(&is).cloned().collect());
        prop_assert_eq!(world.asked.len(), asked, "no registry is asked");
    }
}
