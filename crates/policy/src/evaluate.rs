//! The answer of one policy about one image. Pure and total: no clock, no network, no cluster; the same function
//! decides in the controller, in admission, in `assay check` and in every preview.
//!
//! | known of the image | verdict and reason |
//! |---|---|
//! | its reference cannot be read | Unknown/DigestUnresolved |
//! | no digest in the reference, and the policy asks for one | Violating/TagNotPinned |
//! | it has not started; its digest cannot be told | Unknown/Pending; Unknown/DigestUnresolved |
//! | a requirement fails whatever may still be learnt, and no exception passes over it | Violating, its reason |
//! | none fails but for exceptions, one cannot be told | Unknown, its reason; an outage's only where all others hold or are in one |
//! | one fails and an exception passes over it, the others hold | Excepted |
//! | every requirement holds | Compliant/AllVerified |
//! | every requirement holds, one without evidence (`trusted`) | Compliant/Trusted |

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Reason, Stage, Verdict};
use image::Repository;
use jiff::Timestamp;
use verify::{Fingerprint, Outcome, VerifierId};

use crate::compile::CompiledPolicy;
use crate::exception::{CompiledException, Excepted, passing_over};
use crate::facts::{DigestFacts, ImageFacts, ItemFacts, Key, KeyRings, Running};
use crate::message;
use crate::rule::{self, Circumstances, Rule, Ruling};
use crate::signers::Doubt;

/// The answer of one policy about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Compliant, Violating, Unknown or Excepted.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The requirement that decided; None where all hold on evidence or none was reached.
    pub requirement: Option<Arc<str>>,
    /// What was looked for, what was found, what to do next: at most 512 characters, empty where Compliant.
    pub message: String,
    /// The first time after `now` at which verdict or reason is another one although nothing else changes.
    pub valid_until: Option<Timestamp>,
    /// The answer at that time; None where there is no such time.
    pub becomes: Option<Arc<Becomes>>,
    /// The keys that made it hold, in order; empty where the verdict is not Compliant.
    pub relied_on: Vec<Fingerprint>,
    /// What an exception passes over; with the verdict Excepted only.
    pub excepted: Option<Excepted>,
}

/// What a judgement turns into at its `valid_until`, as long as nothing else changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Becomes {
    /// Compliant, Violating, Unknown or Excepted.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The requirement that will decide; None where all will hold on evidence.
    pub requirement: Option<Arc<str>>,
    /// What will be said of it then; empty where Compliant.
    pub message: String,
}

impl Judgement {
    /// What is known of this judgement at a later time: itself until `valid_until`, what it becomes from then on.
    pub fn at(&self, time: Timestamp) -> Becomes {
        match &self.becomes {
            Some(becomes) if self.valid_until.is_some_and(|until| until <= time) => (**becomes).clone(),
            _ => Becomes::of(self),
        }
    }

    /// It turns into something worse by itself.
    pub fn falls(&self) -> bool {
        self.becomes
            .as_ref()
            .is_some_and(|becomes| becomes.is_worse_than(self.verdict))
    }
}

impl Becomes {
    fn of(judgement: &Judgement) -> Self {
        Becomes {
            verdict: judgement.verdict,
            reason: judgement.reason,
            requirement: judgement.requirement.clone(),
            message: judgement.message.clone(),
        }
    }

    /// It is worse than this verdict.
    pub fn is_worse_than(&self, verdict: Verdict) -> bool {
        badness(self.verdict) > badness(verdict)
    }
}

/// Judges the image at this time.
pub fn evaluate(
    policy: &CompiledPolicy,
    facts: &ImageFacts<'_>,
    keys: &KeyRings,
    now: Timestamp,
) -> Judgement {
    let mut judgement = judge(policy, facts, keys, now);
    let later = boundaries(policy, facts, keys, now)
        .into_iter()
        .filter(|boundary| *boundary > now);
    for boundary in later {
        let then = judge(policy, facts, keys, boundary);
        if (then.verdict, then.reason) != (judgement.verdict, judgement.reason) {
            judgement.valid_until = Some(boundary);
            judgement.becomes = Some(Arc::new(Becomes::of(&then)));
            break;
        }
    }
    judgement
}

/// When the newest attestation was made that counts for the requirement of this name; None where there is none, none is
/// dated, or the requirement asks for no attestation. What was seen after it, and is not there any more, is not undone
/// by it.
pub fn newest_attestation(
    policy: &CompiledPolicy,
    facts: &ImageFacts<'_>,
    keys: &KeyRings,
    now: Timestamp,
    requirement: &str,
) -> Option<Timestamp> {
    let (Running::Digest(digest), Some(repository)) = (&facts.running, facts.repository) else {
        return None;
    };
    let rule = policy.rules().iter().find(|rule| *rule.name == *requirement)?;
    rule.newest(digest, &circumstances(policy, repository, digest, keys, now))
}

/// The keys without any one of which the verdict would be worse, in order. Where the facts are told in several ways,
/// the worst of their verdicts is meant.
pub fn sole_trust(
    policy: &CompiledPolicy,
    facts: &[ImageFacts<'_>],
    keys: &KeyRings,
    now: Timestamp,
) -> Vec<Fingerprint> {
    let worst = |keys: &KeyRings| {
        let verdicts = facts.iter().map(|facts| judge(policy, facts, keys, now).verdict);
        verdicts.map(badness).max()
    };
    let with = worst(keys);
    if with == Some(badness(Verdict::Violating)) {
        return Vec::new();
    }
    let rests = |key: &Fingerprint| {
        let without = without_key(policy, keys, key);
        without.is_some_and(|without| worst(&without) > with)
    };
    // What holds rests on who signed. What cannot be told may rest on anybody who may have.
    let candidates = match with == Some(badness(Verdict::Compliant)) {
        true => vouching(policy, facts, keys),
        false => fingerprints(policy, keys, |_| true),
    };
    candidates.into_iter().filter(rests).collect()
}

/// Whether what holds would not hold without the keys that are Retiring: they count for what runs, and what starts is
/// warned about. Where the facts are told in several ways, the worst of their verdicts is meant.
pub fn rests_on_retiring(
    policy: &CompiledPolicy,
    facts: &[ImageFacts<'_>],
    keys: &KeyRings,
    now: Timestamp,
) -> bool {
    let retires = |key: &Key| key.stage == Stage::Retiring;
    let mut trusted = policy.rings().filter_map(|ring| keys.rings.get(ring)).flatten();
    if !trusted.any(retires) {
        return false;
    }
    let mut without = keys.clone();
    for ring in without.rings.values_mut() {
        ring.retain(|key| !retires(key));
    }
    let holds = |keys: &KeyRings| {
        let holds = |facts| judge(policy, facts, keys, now).verdict == Verdict::Compliant;
        facts.iter().all(holds)
    };
    holds(keys) && !holds(&without)
}

/// The keys of the policy's rings that signed something here.
fn vouching(policy: &CompiledPolicy, facts: &[ImageFacts<'_>], keys: &KeyRings) -> BTreeSet<Fingerprint> {
    let running = facts.iter().filter_map(|facts| match &facts.running {
        Running::Digest(digest) => Some(digest),
        Running::NotStarted | Running::Unresolved(_) => None,
    });
    let items: Vec<&ItemFacts> = running
        .flat_map(rule::all_places)
        .flat_map(|knowledge| &knowledge.items)
        .collect();
    let signed = |key: &&Key| {
        let verified = |verifier: &VerifierId, item: &ItemFacts| {
            matches!(item.outcome(verifier), Some(Outcome::Verified(_)))
        };
        key.verifier
            .as_ref()
            .is_some_and(|verifier| items.iter().any(|item| verified(verifier, item)))
    };
    fingerprints(policy, keys, signed)
}

/// Those of the keys of the policy's rings.
fn fingerprints(
    policy: &CompiledPolicy,
    keys: &KeyRings,
    which: impl Fn(&&Key) -> bool,
) -> BTreeSet<Fingerprint> {
    let trusted = policy.rings().filter_map(|ring| keys.rings.get(ring)).flatten();
    trusted.filter(which).filter_map(|key| key.fingerprint).collect()
}

/// How bad a verdict is: Compliant, NotCovered, Excepted, Unknown, Violating.
pub fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Compliant => 0,
        Verdict::NotCovered => 1,
        Verdict::Excepted => 2,
        Verdict::Unknown | Verdict::Other => 3,
        Verdict::Violating => 4,
    }
}

/// The same without `valid_until`.
pub(crate) fn judge(
    policy: &CompiledPolicy,
    facts: &ImageFacts<'_>,
    keys: &KeyRings,
    now: Timestamp,
) -> Judgement {
    let Some(repository) = facts.repository else {
        return before_requirements(Verdict::Unknown, Reason::DigestUnresolved, message::unparsable());
    };
    let mut passed_over = None;
    if policy.require_digest() && !facts.pinned {
        let message = message::not_pinned(policy.remediation());
        let violation = before_requirements(Verdict::Violating, Reason::TagNotPinned, message);
        match passing_over(facts.exceptions, &BTreeSet::from([Reason::TagNotPinned]), now) {
            Some(exception) => passed_over = Some(excepted(violation, exception)),
            None => return violation,
        }
    }
    match &facts.running {
        Running::NotStarted => before_requirements(Verdict::Unknown, Reason::Pending, message::not_started()),
        Running::Unresolved(why) => before_requirements(
            Verdict::Unknown,
            Reason::DigestUnresolved,
            message::unresolved(why),
        ),
        Running::Digest(digest) => {
            let circumstances = circumstances(policy, repository, digest, keys, now);
            judge_digest(policy, digest, &circumstances, facts.exceptions, passed_over)
        }
    }
}

/// What passes by itself when the registry answers again; the reasons that an ImagePolicy's `onUnknown` is about.
pub fn is_outage(reason: Reason) -> bool {
    matches!(reason, Reason::RegistryUnavailable | Reason::RateLimited)
}

/// The worst of the requirements; of equally bad ones the first, an outage after every other doubt. `passed_over`: what an exception passed over already.
fn judge_digest(
    policy: &CompiledPolicy,
    digest: &DigestFacts<'_>,
    circumstances: &Circumstances<'_>,
    exceptions: &[Arc<CompiledException>],
    mut passed_over: Option<Judgement>,
) -> Judgement {
    let mut doubted = None;
    let mut trusted = None;
    let mut relied_on = BTreeSet::new();
    for rule in policy.rules() {
        match rule.judge(digest, circumstances) {
            Ruling::Fails(failure) => {
                let message = message::failure(rule, &failure, policy.remediation());
                let violation = by_requirement(Verdict::Violating, failure.reason, rule, message);
                match passing_over(exceptions, &failure.reasons(), circumstances.now) {
                    Some(exception) => {
                        passed_over.get_or_insert_with(|| excepted(violation, exception));
                    }
                    None => return violation,
                }
            }
            Ruling::CannotTell(doubt) => {
                // An admission check may be told to overlook an outage, so it hides no other doubt.
                let is_hidden =
                    |first: &(&Rule, Doubt)| is_outage(first.1.reason) && !is_outage(doubt.reason);
                if doubted.as_ref().is_none_or(is_hidden) {
                    doubted = Some((rule, doubt));
                }
            }
            Ruling::Trusted => {
                trusted.get_or_insert(rule);
            }
            Ruling::Holds(keys) => relied_on.extend(keys),
        }
    }
    match (doubted, passed_over) {
        (Some((rule, doubt)), _) => {
            let message = message::doubt(rule, &doubt, policy.remediation());
            by_requirement(Verdict::Unknown, doubt.reason, rule, message)
        }
        (None, Some(excepted)) => excepted,
        (None, None) => compliant(relied_on, trusted),
    }
}

/// The violation that the exception passes over, as it is told.
fn excepted(violation: Judgement, exception: &CompiledException) -> Judgement {
    Judgement {
        verdict: Verdict::Excepted,
        reason: Reason::Excepted,
        message: exception.message(&violation.message),
        excepted: Some(Excepted {
            exception: exception.name().clone(),
            reason: violation.reason,
        }),
        ..violation
    }
}

fn circumstances<'a>(
    policy: &CompiledPolicy,
    repository: &'a Repository,
    digest: &DigestFacts<'_>,
    keys: &'a KeyRings,
    now: Timestamp,
) -> Circumstances<'a> {
    Circumstances {
        accept: policy.accept(),
        accept_index_attestations: policy.accept_index_attestations(),
        repository,
        bind_repository: policy.bind_repository(),
        keys,
        running: digest.own.digest.clone(),
        now,
    }
}

fn before_requirements(verdict: Verdict, reason: Reason, message: String) -> Judgement {
    Judgement {
        verdict,
        reason,
        requirement: None,
        message,
        valid_until: None,
        becomes: None,
        relied_on: Vec::new(),
        excepted: None,
    }
}

fn by_requirement(verdict: Verdict, reason: Reason, rule: &Rule, message: String) -> Judgement {
    Judgement {
        requirement: Some(rule.name.clone()),
        ..before_requirements(verdict, reason, message)
    }
}

fn compliant(relied_on: BTreeSet<Fingerprint>, trusted: Option<&Rule>) -> Judgement {
    let reason = trusted.map_or(Reason::AllVerified, |_| Reason::Trusted);
    Judgement {
        requirement: trusted.map(|rule| rule.name.clone()),
        relied_on: relied_on.into_iter().collect(),
        ..before_requirements(Verdict::Compliant, reason, String::new())
    }
}

/// The times at which something in a judgement may change: a key of the policy's rings begins or ceases to count, a
/// time that is vouched for is reached, evidence becomes too old, an exception ends. Between two of them nothing depends on time.
fn boundaries(
    policy: &CompiledPolicy,
    facts: &ImageFacts<'_>,
    keys: &KeyRings,
    now: Timestamp,
) -> BTreeSet<Timestamp> {
    let trusted = policy.rings().filter_map(|ring| keys.rings.get(ring)).flatten();
    let limits = trusted.flat_map(|key| [key.not_before, key.not_after]);
    let mut times: BTreeSet<Timestamp> = limits.flatten().collect();
    times.extend(facts.exceptions.iter().map(|exception| exception.expires()));
    let (Running::Digest(digest), Some(repository)) = (&facts.running, facts.repository) else {
        return times;
    };
    let circumstances = circumstances(policy, repository, digest, keys, now);
    for rule in policy.rules() {
        times.extend(rule.boundaries(digest, &circumstances));
    }
    times.extend(vouched(digest));
    times
}

/// The times that logs, timestamps and certificates vouch for: evidence does not count before them.
fn vouched(digest: &DigestFacts<'_>) -> impl Iterator<Item = Timestamp> {
    let items = rule::all_places(digest)
        .into_iter()
        .flat_map(|knowledge| &knowledge.items);
    let outcomes = items.flat_map(|item| &item.outcomes);
    outcomes
        .flat_map(|(_, outcome)| match outcome {
            Outcome::Verified(claim) => [claim.times.latest(), claim.created_after],
            _ => [None, None],
        })
        .flatten()
}

/// The policy's rings with this key disabled, and nothing of it spared; None where it is in none of them. What is revoked
/// stays so: it is not excepted wherever what is disabled is.
fn without_key(policy: &CompiledPolicy, keys: &KeyRings, fingerprint: &Fingerprint) -> Option<KeyRings> {
    let is_it = |key: &&mut Key| key.fingerprint.as_ref() == Some(fingerprint);
    let mut found = false;
    let mut without = KeyRings {
        vetoes: keys.vetoes.clone(),
        ..KeyRings::default()
    };
    for ring in policy.rings() {
        let Some(keys) = keys.rings.get(ring) else {
            continue;
        };
        let mut keys = keys.clone();
        for key in keys.iter_mut().filter(is_it) {
            if key.stage != Stage::Revoked {
                key.stage = Stage::Disabled;
            }
            key.spared = None;
            found = true;
        }
        without.rings.insert(ring.clone(), keys);
    }
    found.then_some(without)
}
