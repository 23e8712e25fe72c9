//! What a step with a key is said to break is what it breaks: for random fleets, policies and keys.

use std::collections::{BTreeMap, BTreeSet};

use api::{KeyRevocationSpec, Mode, Reason, RevocationReason, SigningKeySpec, Stage, Verdict};
use proptest::prelude::*;

use super::exceptions::exception;
use super::world::*;
use crate::fact::{Fact, RevocationFacts};
use crate::judge::badness;
use crate::report::{PreviewResult, WorkloadAnswer};

const WORKLOADS: [&str; 6] = ["web", "api", "cart", "jobs/batch", "jobs/cron", "jobs/mail"];
const IMAGES: [&str; 4] = ["shop/web", "shop/api", "tools/cli", "tools/job"];
const PATTERNS: [&str; 3] = ["**", "shop/*", "tools/**"];
/// What exceptions may be about: namespaces, and reasons; none for all that may be meant without a name.
const NAMESPACES: [&str; 3] = ["*", "shop", "jobs"];
const REASONS: [Option<&[Reason]>; 4] = [
    None,
    Some(&[Reason::SignatureMissing, Reason::SignerNotTrusted]),
    Some(&[Reason::KeyDisabled, Reason::TooFewSigners]),
    Some(&[Reason::KeyRevoked, Reason::KeyDisabled]),
];
const RINGS: [&str; 3] = ["release", "security", "review"];
const STAGES: [Stage; 5] = [
    Stage::Staged,
    Stage::Active,
    Stage::Retiring,
    Stage::Disabled,
    Stage::Revoked,
];
const MODES: [Mode; 3] = [Mode::DryRun, Mode::Warn, Mode::Enforce];
/// Two objects may hold the key of one signer.
const SIGNERS: usize = 4;

/// A policy: pattern, rings, minimum, mode.
type Asking = (usize, BTreeSet<usize>, i32, usize);

/// An exception: policies, pattern, namespaces, reasons.
type Excepting = (BTreeSet<usize>, usize, usize, usize);

/// Everything that a case is made of; numbers name what the lists above hold.
#[derive(Clone, Debug)]
struct Fleet {
    /// The image that each workload runs, if any.
    runs: Vec<Option<usize>>,
    /// The image that the template of each workload would start, if it has one.
    starts: Vec<Option<usize>>,
    /// The signers of each image.
    signed: Vec<BTreeSet<usize>>,
    /// Whether the evidence of each image cannot be read.
    mute: Vec<bool>,
    policies: Vec<Asking>,
    /// Ring, signer, stage.
    keys: Vec<(usize, usize, usize)>,
    /// The signer that is revoked but for an image.
    revoked: Option<(usize, usize)>,
    exceptions: Vec<Excepting>,
    /// The key that the step is about.
    step: usize,
}

fn set(limit: usize, least: usize) -> impl Strategy<Value = BTreeSet<usize>> {
    proptest::collection::btree_set(0..limit, least..=limit)
}

fn asking() -> impl Strategy<Value = Asking> {
    let policy = (0..PATTERNS.len(), set(RINGS.len(), 1), 1..=2i32, 0..MODES.len());
    policy.prop_map(|(pattern, rings, minimum, mode)| {
        let most = i32::try_from(rings.len()).unwrap();
        (pattern, rings, minimum.min(most), mode)
    })
}

fn excepting() -> impl Strategy<Value = Excepting> {
    (
        set(3, 1),
        0..PATTERNS.len(),
        0..NAMESPACES.len(),
        0..REASONS.len(),
    )
}

/// What is previewed, besides the step that a fleet names.
#[derive(Clone, Debug)]
enum Change {
    Key(Option<usize>),
    Policy(usize, Option<Asking>),
    Revoke(usize, usize),
    Except(usize, Option<Excepting>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        proptest::option::of(0..STAGES.len()).prop_map(Change::Key),
        (0..3usize, proptest::option::of(asking()))
            .prop_map(|(number, asking)| Change::Policy(number, asking)),
        (0..SIGNERS, 0..IMAGES.len()).prop_map(|(signer, image)| Change::Revoke(signer, image)),
        (0..2usize, proptest::option::of(excepting()))
            .prop_map(|(number, excepting)| Change::Except(number, excepting)),
    ]
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let stage = prop_oneof![4 => Just(1usize), 2 => Just(2), 1 => Just(0), 1 => Just(3), 1 => Just(4)];
    let key = (0..RINGS.len(), 0..SIGNERS, stage);
    (
        proptest::collection::vec(proptest::option::weighted(0.8, 0..IMAGES.len()), WORKLOADS.len()),
        proptest::collection::vec(proptest::option::of(0..IMAGES.len()), WORKLOADS.len()),
        proptest::collection::vec(set(SIGNERS, 0), IMAGES.len()),
        proptest::collection::vec(proptest::bool::weighted(0.1), IMAGES.len()),
        proptest::collection::vec(asking(), 1..4),
        proptest::collection::vec(key, 1..6),
        proptest::option::weighted(0.3, (0..SIGNERS, 0..IMAGES.len())),
        proptest::collection::vec(excepting(), 0..3),
        any::<proptest::sample::Index>(),
    )
        .prop_map(
            |(runs, starts, signed, mute, policies, keys, revoked, exceptions, step)| Fleet {
                step: step.index(keys.len()),
                runs,
                starts,
                signed,
                mute,
                policies,
                keys,
                revoked,
                exceptions,
            },
        )
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
        for (number, excepting) in self.exceptions.iter().enumerate() {
            let fact = exception_of(&world, number, excepting);
            world.tell(fact);
        }
        for (workload, image) in WORKLOADS.iter().zip(&self.runs) {
            if let Some(image) = image {
                world.tell(pod(workload, IMAGES[*image]));
            }
        }
        for image in IMAGES {
            world.tags.insert(format!("r.example/{image}:1"), digest(image));
        }
        for (workload, image) in WORKLOADS.iter().zip(&self.starts) {
            if let Some(image) = image {
                world.tell(template(workload, &[&format!("r.example/{}:1", IMAGES[*image])]));
            }
        }
        world.tell(Fact::Synced);
        if let Some((signer, image)) = self.revoked {
            let revocation = revocation(&mut world, &signers[signer], IMAGES[image]);
            world.tell(revocation);
        }
        world.settle();
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
            Change::Except(number, None) => Fact::ExceptionGone(format!("e{number}").into()),
            Change::Except(number, Some(excepting)) => exception_of(world, *number, excepting),
            Change::Revoke(signer, image) => revocation(world, &signers[*signer], IMAGES[*image]),
        }
    }
}

/// Revokes a signer but for one image; its fingerprint is read from a key that nothing trusts.
fn revocation(world: &mut World, signer: &Signer, image: &str) -> Fact {
    world.tell(key_fact("idle", key_spec("idle", signer, Stage::Active)));
    let identity = world.engine.key_report("idle", world.now).unwrap().identity;
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

fn exception_of(world: &World, number: usize, (policies, pattern, namespaces, reasons): &Excepting) -> Fact {
    exception(world, &format!("e{number}"), 5, |spec| {
        spec.policies = policies.iter().map(|number| format!("p{number}")).collect();
        spec.images = vec![format!("r.example/{}", PATTERNS[*pattern])];
        spec.namespaces = vec![NAMESPACES[*namespaces].to_owned()];
        spec.reasons = REASONS[*reasons].map(<[Reason]>::to_vec);
    })
}

fn policy_of(number: usize, (pattern, rings, minimum, mode): &Asking) -> Fact {
    let rings: Vec<&str> = rings.iter().map(|ring| RINGS[*ring]).collect();
    let mut facts = policy(&format!("p{number}"), PATTERNS[*pattern], &rings);
    let spec = facts.spec.as_mut().unwrap();
    spec.mode = MODES[*mode];
    spec.require[0].signature.as_mut().unwrap().minimum = Some(*minimum);
    Fact::Policy(Box::new(facts))
}

fn name(key: usize) -> String {
    format!("k{key}")
}

/// What a policy says of a workload: how bad that is, and how much it matters in the policy's mode.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    bad: u8,
    failing: u8,
}

impl Answer {
    fn of(verdict: Verdict, mode: Mode) -> Self {
        let failing = match (verdict, mode) {
            (Verdict::Violating, Mode::DryRun) => 1,
            (Verdict::Violating, _) => 2,
            _ => 0,
        };
        Answer {
            bad: badness(verdict),
            failing,
        }
    }
}

type Answers = BTreeMap<(&'static str, String), Answer>;

/// What each policy says of each workload.
fn found(world: &World) -> Answers {
    let mut found = Answers::new();
    for workload in WORKLOADS {
        if let WorkloadAnswer::Covered(report) = world.engine.answer(&key(workload), world.now) {
            for answer in report.images.iter().flat_map(|image| &image.policies) {
                let said = Answer::of(answer.verdict, answer.mode);
                found.insert((workload, answer.policy.to_string()), said);
            }
        }
    }
    found
}

/// What each policy says of what each workload would start.
fn starting(world: &World) -> Answers {
    let mut found = Answers::new();
    for workload in WORKLOADS {
        let key = key(workload);
        let row = world.engine.templates.get(&key);
        let starts = row.and_then(|row| world.engine.starts(&key, row, world.now));
        for answer in starts.iter().flatten().flat_map(|start| &start.answers) {
            let said = Answer::of(answer.verdict, answer.mode);
            found.insert((workload, answer.policy.to_string()), said);
        }
    }
    found
}

/// The workloads that any policy finds worse than before.
fn worse(before: &Answers, after: &Answers) -> BTreeSet<String> {
    let worse = before.iter().filter(|(place, was)| after[*place].bad > was.bad);
    worse.map(|((workload, _), _)| (*workload).to_owned()).collect()
}

/// The places where the answers fail more than others do, and what is not said is no failure.
fn failing_more(than: &Answers, answers: &Answers) -> BTreeSet<(String, String)> {
    let more = answers.iter().filter(|(place, answer)| {
        let other = than.get(*place).map_or(0, |other| other.failing);
        answer.failing > other
    });
    more.map(|((workload, policy), _)| ((*workload).to_owned(), policy.clone()))
        .collect()
}

fn untold(answers: &Answers) -> BTreeSet<(String, String)> {
    let those = answers
        .iter()
        .filter(|(_, answer)| answer.bad == badness(Verdict::Unknown));
    those
        .map(|((workload, policy), _)| ((*workload).to_owned(), policy.clone()))
        .collect()
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

    /// C5.06: what only a next start would meet is counted apart.
    /// C5.02, C5.03: two keys that back each other up among them, and exceptions.
    #[test]
    fn c5_02_what_rests_on_a_key_is_exactly_what_gets_worse_when_it_is_disabled(fleet in fleet()) {
        let signers: Vec<Signer> = (0..SIGNERS).map(|_| Signer::new()).collect();
        let mut world = fleet.world(&signers);
        let report = world.engine.key_report(&name(fleet.step), world.now).unwrap();
        let (before, starting_before) = (found(&world), starting(&world));
        let asked = (world.asked.len(), world.asked_tags.len());

        let spec = SigningKeySpec { stage: Stage::Disabled, ..fleet.key(fleet.step, &signers) };
        world.tell(key_fact(&name(fleet.step), spec));

        let running = worse(&before, &found(&world));
        let starting = worse(&starting_before, &starting(&world));
        let predicted: BTreeSet<String> = report
            .sole_trust
            .sample
            .iter()
            .map(|sample| sample.workload.trim_start_matches("Deployment/").to_owned())
            .collect();
        prop_assert_eq!(report.sole_trust.workloads, i64::try_from(running.len()).unwrap());
        let start_only = starting.difference(&running).count();
        prop_assert_eq!(report.sole_trust.start_only, i64::try_from(start_only).unwrap());
        prop_assert_eq!(predicted, running);
        prop_assert_eq!((world.asked.len(), world.asked_tags.len()), asked, "no registry is asked");
    }

    /// C5.04: nothing is applied, and what is said of several changes together is what they do; from one mode to another
    /// as well (C5.09).
    /// Weakened once: with keys that are new not asked about the evidence, what is said is not what happens; with
    /// what they made of the evidence kept, there is more of it.
    #[test]
    fn c5_04_a_preview_says_exactly_what_the_changes_do(
        fleet in fleet(), changes in proptest::collection::vec(change(), 1..4),
    ) {
        let signers: Vec<Signer> = (0..SIGNERS).map(|_| Signer::new()).collect();
        let mut world = fleet.world(&signers);
        let facts: Vec<Fact> = changes.iter().map(|change| fleet.fact(change, &mut world, &signers)).collect();
        world.settle();
        let (before, starts_before) = (found(&world), starting(&world));
        let asked = world.asked.len();
        world.drain();

        let (now, answers) = (world.now, answered(&world));
        let report = world.engine.preview(facts.clone(), now).unwrap();
        prop_assert_eq!(found(&world), before.clone(), "nothing is applied");
        prop_assert_eq!(answered(&world), answers, "nothing of what was supposed is kept");
        prop_assert_eq!(world.drain().len(), 0, "nothing is written");

        facts.into_iter().for_each(|fact| world.tell(fact));
        let after = found(&world);
        let starts_after = starting(&world);
        let said = |results: &[PreviewResult]| -> BTreeSet<(String, String)> {
            let place = |result: &PreviewResult| {
                (result.workload.trim_start_matches("Deployment/").to_owned(), result.policy.clone())
            };
            results.iter().map(place).collect()
        };
        let falls = failing_more(&before, &after);
        prop_assert_eq!(said(&report.newly_failing), falls.clone());
        let starts = failing_more(&starts_before, &starts_after);
        prop_assert_eq!(said(&report.start_only.newly_failing), starts.difference(&falls).cloned().collect());
        // What cannot be told then is no pass.
        let (was, is) = (untold(&before), untold(&after));
        let ended = failing_more(&after, &before);
        prop_assert_eq!(said(&report.newly_passing), ended.difference(&is).cloned().collect());
        // Of an image that is looked up for the first time then nothing is said yet.
        let is_said = |place: &(String, String)| after.keys().any(|(name, policy)| (*name, policy) == (&*place.0, &place.1));
        let mut unknown = said(&report.newly_unknown);
        unknown.retain(is_said);
        prop_assert_eq!(unknown, is.difference(&was).cloned().collect());
        prop_assert_eq!(world.asked.len(), asked, "no registry is asked");
    }
}
