//! Which policies cover a subject, what each key makes of its evidence, and what each policy says.
//!
//! Signatures are verified once per (item, digest, key); judging again after an edit is arithmetic
//! on what is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Reason, Verdict};
use image::{Digest, Repository};
use jiff::Timestamp;
pub(crate) use policy::badness;
use policy::{
    CompiledException, DigestFacts, ImageFacts, ItemFacts, Judgement, Running, evaluate, rests_on_retiring,
    sole_trust,
};
use verify::{Outcome, Refusal, Verifier, VerifierId};

use crate::core::Engine;
use crate::deadline::{decays, kept, worse};
use crate::exceptions;
use crate::fact::WorkloadKey;
use crate::policies::PolicyObject;
use crate::queue::Urgency;
use crate::schedule::{FIRST_RETRY, after};
use crate::small::{SmallMap, SmallSet};
use crate::subject::{Judged, JudgementKey, Remembering, Subject, SubjectKey};

/// Why a subject is judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Evidence, time or use changed.
    Evidence,
    /// A key or a policy changed.
    Edit,
}

/// Exceptions that are about one result, in order of name.
type Exceptions = Vec<Arc<CompiledException>>;

impl Engine {
    /// Finds the policies that cover the subject for any of its users, and sees to it that it is
    /// looked up if it never was. What no policy covers is never looked up.
    pub(crate) fn cover(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        let policies = self
            .matching
            .entry(key.repository.clone())
            .or_insert_with(|| matching(&self.policies, &key.repository));
        let namespaces: BTreeSet<&Arc<str>> = subject.workloads().map(|user| &user.namespace).collect();
        let covers = |policy: &PolicyObject| {
            let mut namespaces = namespaces.iter();
            namespaces.any(|name| policy.covers_namespace(name, self.index.labels(name)))
        };
        let covering: SmallSet<Arc<str>> = policies
            .iter()
            .filter(|name| self.policies.get(*name).is_some_and(covers))
            .cloned()
            .collect();
        let changed = subject.covering != covering;
        let new = subject.covering.is_empty() && !covering.is_empty();
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        subject.covering = covering;
        if changed {
            self.users_changed(key, Urgency::Changed, now);
        }
        if new {
            self.note_covered(key, now);
            self.recall(key, now);
        }
        self.note_unasked(key);
        self.plan(key, now);
    }

    fn note_covered(&mut self, key: &SubjectKey, now: Timestamp) {
        if let Some(subject) = self.subjects.get_mut(key) {
            subject.covered_since = Some(now);
        }
    }

    /// Judges the subject under every covering policy; what differs waits to be written.
    pub(crate) fn judge(&mut self, key: &SubjectKey, now: Timestamp, cause: Cause) {
        self.note_overdue(key, now);
        let trusted = self.trusted_verifiers(key);
        self.forget_outcomes_but_of(key, &trusted);
        self.verify_by(key, &trusted);
        let mut judgements = self.judgements(key, now);
        let untrusted = |judged: &Judged| judged.judgement.reason == Reason::SignerNotTrusted;
        if judgements.values().any(untrusted) {
            // Nothing is decided by this: the message names who signed instead.
            let named = self.verifiers_to_name(key);
            self.verify_by(key, &named);
            judgements = self.judgements(key, now);
        }
        if cause == Cause::Evidence {
            self.keep_violations(key, &mut judgements, now);
        }
        self.store.let_go();
        let changed = self.replace_judgements(key, judgements, now);
        self.vouching_changed(key, now);
        if changed && cause == Cause::Evidence {
            self.tell_beside(key, now);
        }
    }

    /// Finds out since when a regular check is missing, whether or not one was tried.
    fn note_overdue(&mut self, key: &SubjectKey, now: Timestamp) {
        let due = self.regular_due(key);
        if let Some(subject) = self.subjects.get_mut(key) {
            subject.check_due = due;
            let noticed = subject.overdue_at().is_some_and(|time| time <= now);
            subject.overdue_since = due.filter(|_| noticed);
        }
    }

    /// Who was ever asked depends on history; what is said may not. So only what these and those that may be named make
    /// of the evidence is kept, and nothing of a verifier under another trust root or other demands (B46).
    fn forget_outcomes_but_of(&mut self, key: &SubjectKey, trusted: &[Verifier]) {
        let is_trusted = |id: &VerifierId| trusted.iter().any(|verifier| verifier.id() == *id);
        let items = self.subjects.get(key).into_iter().flat_map(Subject::items);
        if items
            .flat_map(|item| &item.outcomes)
            .all(|(id, _)| is_trusted(id))
        {
            return;
        }
        let named = self.verifiers_to_name(key);
        let is_kept = |id: &VerifierId| is_trusted(id) || named.iter().any(|verifier| verifier.id() == *id);
        let items = self
            .subjects
            .get_mut(key)
            .into_iter()
            .flat_map(Subject::items_mut);
        for (_, item) in items {
            item.outcomes.retain(|(verifier, _)| is_kept(verifier));
        }
    }

    /// A violation stays until positive evidence, or until keys or policies change: what cannot be
    /// read, whoever put it there and with whatever pull secret, does not take it back.
    fn keep_violations(
        &self,
        key: &SubjectKey,
        judgements: &mut SmallMap<JudgementKey, Judged>,
        now: Timestamp,
    ) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        for (name, judged) in judgements.iter_mut() {
            let unreadable = judged.judgement.verdict == Verdict::Unknown && is_gap(judged.judgement.reason);
            let before = unreadable
                .then(|| self.violation_to_keep(subject, name))
                .flatten();
            let Some(judgement) = before.and_then(|before| kept(&before.judgement, now)) else {
                continue;
            };
            judged.judgement = judgement;
            judged.warned = self
                .policies
                .get(&name.policy)
                .and_then(|policy| policy.warned_from(&judged.judgement))
                .is_some_and(|start| start <= now);
        }
    }

    pub(crate) fn judgements(&mut self, key: &SubjectKey, now: Timestamp) -> SmallMap<JudgementKey, Judged> {
        let mut judgements = SmallMap::new();
        let Some(subject) = self.subjects.get(key) else {
            return judgements;
        };
        let past = subject.with_the_past();
        for policy in subject.covering.iter().filter_map(|name| self.policies.get(name)) {
            for (pinned, exceptions) in self.ways_of_use(policy, subject) {
                let judged = self.judged(policy, subject, past.as_ref(), (pinned, &exceptions), now);
                self.counters.evaluations += 1;
                judgements.insert(
                    JudgementKey {
                        policy: policy.name.clone(),
                        pinned,
                        exceptions: exceptions::names(&exceptions),
                    },
                    judged,
                );
            }
        }
        judgements
    }

    /// The distinct ways in which a policy may answer the subject's users: whether the image is named by digest, and
    /// which exceptions mean the workload.
    fn ways_of_use(&self, policy: &PolicyObject, subject: &Subject) -> Vec<(bool, Exceptions)> {
        let about = self.exceptions.about(&policy.name, &subject.key.repository);
        let mut ways: Vec<(bool, Exceptions)> = Vec::new();
        for (user, origin) in subject.uses() {
            let way = (origin.is_pinned(), exceptions::of_workload(&about, user));
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways
    }

    fn judged(
        &self,
        policy: &PolicyObject,
        subject: &Subject,
        past: Option<&Remembering>,
        way: (bool, &[Arc<CompiledException>]),
        now: Timestamp,
    ) -> Judged {
        let mut told = vec![image_of(subject, way, subject.facts())];
        told.extend(past.map(|past| image_of(subject, way, subject.facts_with(past))));
        let mut judgement = self.judgement(policy, &told[0], now);
        for past in &told[1..] {
            judgement = worse(judgement, self.judgement(policy, past, now));
        }
        let mut resting = Vec::new();
        let mut by_retiring = false;
        if let Some(version) = &policy.in_force {
            resting = sole_trust(&version.compiled, &told, self.keys.rings(), now);
            resting.shrink_to_fit();
            by_retiring = !subject.starters.is_empty()
                && judgement.verdict == Verdict::Compliant
                && rests_on_retiring(&version.compiled, &told, self.keys.rings(), now);
            if judgement.verdict == Verdict::Compliant
                && subject.overdue_since.is_some()
                && decays(subject, version.compiled.max_staleness()).is_some_and(|time| time <= now)
            {
                judgement = stale(subject);
            }
        }
        let warned = policy.warned_from(&judgement);
        Judged {
            warned: warned.is_some_and(|start| start <= now),
            judgement,
            stale_since: subject.overdue_since,
            sole_trust: resting,
            by_retiring,
        }
    }

    /// What a policy says of an image. A policy of which no version could ever be evaluated passes
    /// nothing and skips nothing.
    pub(crate) fn judgement(
        &self,
        policy: &PolicyObject,
        facts: &ImageFacts<'_>,
        now: Timestamp,
    ) -> Judgement {
        match &policy.in_force {
            Some(version) => evaluate(&version.compiled, facts, self.keys.rings(), now),
            None => Judgement {
                verdict: Verdict::Unknown,
                reason: Reason::PolicyInvalid,
                requirement: None,
                message: shortened(&format!(
                    "The policy cannot be evaluated, so nothing it may match can be judged; its owner must mend it: {}",
                    policy.problem.as_deref().unwrap_or("no reason is known")
                )),
                valid_until: None,
                becomes: None,
                relied_on: Vec::new(),
                excepted: None,
            },
        }
    }

    /// Answers whether any of them differs from the one before.
    fn replace_judgements(
        &mut self,
        key: &SubjectKey,
        judgements: SmallMap<JudgementKey, Judged>,
        now: Timestamp,
    ) -> bool {
        let Some(subject) = self.subjects.get_mut(key) else {
            return false;
        };
        let old = std::mem::replace(&mut subject.judgements, judgements);
        let differing: BTreeSet<&JudgementKey> = old
            .keys()
            .chain(subject.judgements.keys())
            .filter(|judgement| old.get(judgement) != subject.judgements.get(judgement))
            .collect();
        let worse = differing.iter().any(|judgement| {
            let rank = |judged: Option<&Judged>| judged.map_or(0, |judged| badness(judged.judgement.verdict));
            rank(subject.judgements.get(judgement)) > rank(old.get(judgement))
        });
        let changed = !differing.is_empty();
        let wake = subject.next_wake(&self.policies, now);
        self.wakes.set(key, subject.wake, wake);
        subject.wake = wake;
        if !changed {
            return false;
        }
        self.users_changed(key, if worse { Urgency::Worse } else { Urgency::Changed }, now);
        self.retry_soon(key, now);
        true
    }

    /// What is said of every workload that uses the subject may be something else.
    pub(crate) fn users_changed(&mut self, key: &SubjectKey, urgency: Urgency, now: Timestamp) {
        let users: BTreeSet<WorkloadKey> = match self.subjects.get(key) {
            Some(subject) => subject.workloads().cloned().collect(),
            None => return,
        };
        for user in users {
            self.workload_changed(user, urgency, now);
        }
    }

    /// What fails now is asked again soon: a new signature is only seen by asking.
    fn retry_soon(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        if subject.from_disk && !subject.attempted && !subject.plan.in_flight && !subject.all_hold() {
            self.set_due(key, Some(now));
            return;
        }
        let soon = after(now, FIRST_RETRY);
        let far = subject.plan.due.is_some_and(|due| due > soon);
        if far && subject.plan.pause.is_none() && subject.fails() {
            self.set_due(key, Some(soon));
        }
    }

    /// Who answers for the keys of the rings that a covering policy trusts.
    pub(crate) fn trusted_verifiers(&self, key: &SubjectKey) -> Vec<Verifier> {
        let covering = self
            .subjects
            .get(key)
            .into_iter()
            .flat_map(|subject| &subject.covering);
        let mut rings: Vec<&Arc<str>> = covering
            .filter_map(|name| self.policies.get(name)?.in_force.as_ref())
            .flat_map(|version| version.compiled.rings())
            .collect();
        rings.sort_unstable();
        rings.dedup();
        let verifiers = rings.into_iter().flat_map(|ring| self.keys.verifiers(ring));
        verifiers.cloned().collect()
    }

    /// Asks each of them about every item that it was not asked about. Where one key signed an item no other one is asked;
    /// so first the one that a hint or an earlier process names, then those that signed no other item here.
    pub(crate) fn verify_by(&mut self, key: &SubjectKey, verifiers: &[Verifier]) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        let likely_signers = std::mem::take(&mut subject.likely_signers);
        let mut signed_before: Vec<VerifierId> = Vec::new();
        for (digest, item) in subject.items_mut() {
            item.outcomes.retain(|(_, outcome)| !passes(outcome));
            let is_not_asked = |verifier: &&Verifier| item.outcome(&verifier.id()).is_none();
            let mut not_asked: Vec<&Verifier> = verifiers.iter().filter(is_not_asked).collect();
            if !not_asked.is_empty() {
                let hint = item.item.key_hint();
                let likely = likely_signers.get(item.item.id());
                not_asked.sort_by_cached_key(|verifier| {
                    let fingerprint = verifier.fingerprint();
                    let is_likely = likely.is_some_and(|likely| *likely == fingerprint.to_string());
                    let is_hinted = is_likely || hint == Some(fingerprint);
                    (!is_hinted, signed_before.contains(&verifier.id()))
                });
                self.counters.verifications += ask(item, &digest, &not_asked, verifiers);
            }
            let signed = verifiers.iter().filter(|verifier| is_signed_by(item, verifier));
            signed_before.extend(signed.map(Verifier::id));
        }
    }
}

/// Asks these of the verifiers about the item, in their order; how many had to look at it.
fn ask(item: &mut ItemFacts, digest: &Digest, not_asked: &[&Verifier], all: &[Verifier]) -> u64 {
    let mut verifications = 0;
    let evidence = item.item.clone();
    let mut opened = None;
    item.outcomes.reserve_exact(not_asked.len());
    for verifier in not_asked {
        let outcome = if is_anothers(item, verifier, all) {
            Outcome::Refused(Refusal::SignatureMismatch)
        } else {
            verifications += 1;
            verify::verify(opened.get_or_insert_with(|| evidence.opened()), digest, verifier)
        };
        // The next look brings its bytes again, and then it is asked. Another answer that passes is told until the next time.
        if outcome != Outcome::CannotTell(verify::Cause::NotKept) {
            item.outcomes.push((verifier.id(), outcome));
        }
    }
    verifications
}

/// What may be answered otherwise a moment later.
fn passes(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::CannotTell(cause) if cause.passes())
}

/// One of the verifiers that is another key signed the item.
fn is_anothers(item: &ItemFacts, verifier: &Verifier, verifiers: &[Verifier]) -> bool {
    let mut others = verifiers
        .iter()
        .filter(|other| other.is_another_key_than(verifier));
    others.any(|other| is_signed_by(item, other))
}

fn is_signed_by(item: &ItemFacts, verifier: &Verifier) -> bool {
    matches!(item.outcome(&verifier.id()), Some(Outcome::Verified(_)))
}

/// The policies that may cover images of the repository, in order of name.
pub(crate) fn matching(
    policies: &BTreeMap<Arc<str>, PolicyObject>,
    repository: &Repository,
) -> Vec<Arc<str>> {
    let policies = policies.values();
    let matching = policies.filter(|policy| policy.covers_image(repository));
    matching.map(|policy| policy.name.clone()).collect()
}

pub(crate) fn image_of<'a>(
    subject: &'a Subject,
    (pinned, exceptions): (bool, &'a [Arc<CompiledException>]),
    digest: DigestFacts<'a>,
) -> ImageFacts<'a> {
    ImageFacts {
        repository: Some(&subject.key.repository),
        pinned,
        running: Running::Digest(digest),
        exceptions,
    }
}

fn stale(subject: &Subject) -> Judgement {
    let cause = subject
        .own_gap()
        .map(|gap| format!(" The last attempt failed: {}.", gap.detail))
        .unwrap_or_default();
    Judgement {
        verdict: Verdict::Unknown,
        reason: Reason::Stale,
        requirement: None,
        message: shortened(&format!(
            "The image was verified, but that could not be repeated for longer than the policy's maxStaleness allows.{cause} \
             Make the registry reachable for the operator."
        )),
        valid_until: None,
        becomes: None,
        relied_on: Vec::new(),
        excepted: None,
    }
}

/// At most 512 characters.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 512;
    if text.chars().count() <= LIMIT {
        return text.to_owned();
    }
    text.chars().take(LIMIT - 1).chain(std::iter::once('…')).collect()
}

/// The reasons that say that something could not be asked.
pub(crate) fn is_gap(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Pending
            | Reason::RegistryUnavailable
            | Reason::RegistryDenied
            | Reason::RateLimited
            | Reason::EvidenceTooLarge
            | Reason::ImageNotFound
            | Reason::Stale
    )
}
