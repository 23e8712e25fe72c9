//! What a step with a key is said to break is what it breaks: for random fleets, policies and keys.

use std::collections::{BTreeMap, BTreeSet};

use api::{KeyRevocationSpec, RevocationReason, SigningKeySpec, Stage};
use proptest::prelude::*;

use super::world::*;
use crate::fact::{Fact, RevocationFacts};
use crate::judge::badness;
use crate::report::WorkloadAnswer;

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

/// Everything that a case is made of; numbers name what the lists above hold.
#[derive(Clone, Debug)]
struct Fleet {
    /// The image of each workload.
    runs: Vec<usize>,
    /// The signers of each image.
    signed: Vec<BTreeSet<usize>>,
    /// Whether the evidence of each image cannot be read.
    mute: Vec<bool>,
    /// Pattern, rings, minimum.
    policies: Vec<(usize, BTreeSet<usize>, i32)>,
    /// Ring, signer, stage.
    keys: Vec<(usize, usize, usize)>,
    /// The signer that is revoked but for an image.
    revoked: Option<(usize, usize)>,
    /// The key that the step is about.
    step: usize,
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let set = |limit: usize, least: usize| proptest::collection::btree_set(0..limit, least..=limit);
    let policy = (0..PATTERNS.len(), set(RINGS.len(), 1), 1..=2i32);
    let stage = prop_oneof![4 => Just(1usize), 2 => Just(2), 1 => Just(0), 1 => Just(3), 1 => Just(4)];
    let key = (0..RINGS.len(), 0..SIGNERS, stage);
    (
        proptest::collection::vec(0..IMAGES.len(), WORKLOADS.len()),
        proptest::collection::vec(set(SIGNERS, 0), IMAGES.len()),
        proptest::collection::vec(proptest::bool::weighted(0.1), IMAGES.len()),
        proptest::collection::vec(policy, 1..4),
        proptest::collection::vec(key, 1..6),
        proptest::option::weighted(0.3, (0..SIGNERS, 0..IMAGES.len())),
        any::<proptest::sample::Index>(),
    )
        .prop_map(|(runs, signed, mute, policies, keys, revoked, step)| Fleet {
            step: step.index(keys.len()),
            runs,
            signed,
            mute,
            policies: policies
                .into_iter()
                .map(|(pattern, rings, minimum)| {
                    let most = i32::try_from(rings.len()).unwrap();
                    (pattern, rings, minimum.min(most))
                })
                .collect(),
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
        for (number, (pattern, rings, minimum)) in self.policies.iter().enumerate() {
            let rings: Vec<&str> = rings.iter().map(|ring| RINGS[*ring]).collect();
            let mut facts = policy(&format!("p{number}"), PATTERNS[*pattern], &rings);
            let spec = facts.spec.as_mut().unwrap();
            spec.require[0].signature.as_mut().unwrap().minimum = Some(*minimum);
            world.tell(Fact::Policy(Box::new(facts)));
        }
        for number in 0..self.keys.len() {
            world.tell(key_fact(&name(number), self.key(number, signers)));
        }
        for (workload, image) in WORKLOADS.iter().zip(&self.runs) {
            world.tell(pod(workload, IMAGES[*image]));
        }
        world.tell(Fact::Synced);
        if let Some((signer, image)) = self.revoked {
            self.revoke(&mut world, &signers[signer], IMAGES[image]);
        }
        world.look_up();
        world
    }

    fn key(&self, number: usize, signers: &[Signer]) -> SigningKeySpec {
        let (ring, signer, stage) = self.keys[number];
        key_spec(RINGS[ring], &signers[signer], STAGES[stage])
    }

    /// Revokes a signer but for one image; its fingerprint is read from a key that nothing trusts.
    fn revoke(&self, world: &mut World, signer: &Signer, image: &str) {
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
        world.tell(Fact::Revocation(Box::new(RevocationFacts {
            name: fingerprint.into(),
            generation: 1,
            created: Some(world.now),
            spec: Ok(spec),
        })));
    }
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
}
