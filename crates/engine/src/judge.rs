//! Which policies cover a subject, what each key makes of its evidence, and what each policy says.
//!
//! Signatures are verified once per (item, digest, key); judging again after an edit is arithmetic
//! on what is held.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{Reason, Verdict};
use jiff::Timestamp;
pub(crate) use policy::badness;
use policy::{DigestFacts, ImageFacts, Judgement, Running, evaluate, sole_trust};
use verify::{Verifier, VerifierId};

use crate::core::Engine;
use crate::deadline::{decays, warning, without_past_deadline, worse};
use crate::fact::WorkloadKey;
use crate::policies::PolicyObject;
use crate::queue::Urgency;
use crate::report::Target;
use crate::schedule::{FIRST_RETRY, after};
use crate::subject::{FIRST_LOOK_UP, Judged, JudgementKey, Origin, Remembering, Subject, SubjectKey};

/// Why a subject is judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Evidence, time or use changed.
    Evidence,
    /// A key or a policy changed.
    Edit,
}

/// A message names an untrusted signer only where it is one of so many keys, the first by name: each
/// costs a verification.
const NAMED_SIGNERS: usize = 32;

impl Engine {
    /// Finds the policies that cover the subject for any of its users, and sees to it that it is
    /// looked up if it never was. What no policy covers is never looked up.
    pub(crate) fn cover(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        let namespaces: BTreeSet<Arc<str>> =
            subject.users.keys().map(|user| user.namespace.clone()).collect();
        let covers = |policy: &&PolicyObject| {
            policy.covers_image(&key.repository)
                && namespaces
                    .iter()
                    .any(|name| policy.covers_namespace(name, self.index.labels(name)))
        };
        let covering: BTreeSet<Arc<str>> = self
            .policies
            .values()
            .filter(covers)
            .map(|policy| policy.name.clone())
            .collect();
        let changed = subject.covering != covering;
        let new = subject.covering.is_empty() && !covering.is_empty();
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        subject.covering = covering;
        if changed {
            let users: Vec<WorkloadKey> = subject.users.keys().cloned().collect();
            for user in users {
                self.workload_changed(user, Urgency::Changed, now);
            }
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
            let later = now.checked_add(FIRST_LOOK_UP).unwrap_or(now);
            for user in subject.users.keys() {
                self.queue.push_later(Target::Workload(user.clone()), later);
            }
        }
    }

    /// Judges the subject under every covering policy; what differs waits to be written.
    pub(crate) fn judge(&mut self, key: &SubjectKey, now: Timestamp, cause: Cause) {
        self.note_overdue(key, now);
        let trusted = self.trusted_verifiers(key);
        let named = self.keys.first_verifiers(NAMED_SIGNERS);
        self.forget_outcomes_but_of(key, trusted.iter().chain(&named));
        self.verify_by(key, &trusted);
        let mut judgements = self.judgements(key, now);
        let untrusted = |judged: &Judged| judged.judgement.reason == Reason::SignerNotTrusted;
        if judgements.values().any(untrusted) {
            // Nothing is decided by this: the message names who signed instead.
            self.verify_by(key, &named);
            judgements = self.judgements(key, now);
        }
        if cause == Cause::Evidence {
            self.keep_violations(key, &mut judgements, now);
        }
        self.replace_judgements(key, judgements, now);
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

    /// Who was ever asked depends on history; what is said may not. So only what these make of the
    /// evidence is kept, and nothing of a verifier under another trust root or other demands (B46).
    fn forget_outcomes_but_of<'a>(
        &mut self,
        key: &SubjectKey,
        verifiers: impl Iterator<Item = &'a Verifier>,
    ) {
        let asked: BTreeSet<VerifierId> = verifiers.map(Verifier::id).collect();
        let items = self
            .subjects
            .get_mut(key)
            .into_iter()
            .flat_map(Subject::items_mut);
        for (_, item) in items {
            item.outcomes.retain(|(verifier, _)| asked.contains(verifier));
        }
    }

    /// A violation stays until positive evidence, or until keys or policies change: what cannot be
    /// read, whoever put it there, does not take it back.
    fn keep_violations(
        &self,
        key: &SubjectKey,
        judgements: &mut HashMap<JudgementKey, Judged>,
        now: Timestamp,
    ) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        for (name, judged) in judgements {
            let unreadable = judged.judgement.verdict == Verdict::Unknown && is_gap(judged.judgement.reason);
            let before = subject
                .judgements
                .get(name)
                .filter(|old| old.judgement.verdict == Verdict::Violating);
            if let Some(before) = before.filter(|_| unreadable) {
                judged.judgement = without_past_deadline(before.judgement.clone(), now);
                judged.warned = before.warned && judged.judgement.falls();
            }
        }
    }

    pub(crate) fn judgements(&mut self, key: &SubjectKey, now: Timestamp) -> HashMap<JudgementKey, Judged> {
        let mut judgements = HashMap::new();
        let Some(subject) = self.subjects.get(key) else {
            return judgements;
        };
        let pinned: BTreeSet<bool> = subject
            .users
            .values()
            .flat_map(BTreeMap::keys)
            .map(|origin| matches!(origin, Origin::Pinned(_)))
            .collect();
        let past = subject.with_the_past();
        for policy in subject.covering.iter().filter_map(|name| self.policies.get(name)) {
            for pinned in &pinned {
                let judged = self.judged(policy, subject, past.as_ref(), *pinned, now);
                self.counters.evaluations += 1;
                judgements.insert(
                    JudgementKey {
                        policy: policy.name.clone(),
                        pinned: *pinned,
                    },
                    judged,
                );
            }
        }
        judgements
    }

    fn judged(
        &self,
        policy: &PolicyObject,
        subject: &Subject,
        past: Option<&Remembering>,
        pinned: bool,
        now: Timestamp,
    ) -> Judged {
        let mut told = vec![image_of(subject, pinned, subject.facts())];
        told.extend(past.map(|past| image_of(subject, pinned, subject.facts_with(past))));
        let mut judgement = self.judgement(policy, &told[0], now);
        for past in &told[1..] {
            judgement = worse(judgement, self.judgement(policy, past, now));
        }
        let mut resting = Vec::new();
        if let Some(version) = &policy.in_force {
            resting = sole_trust(&version.compiled, &told, self.keys.rings(), now);
            if judgement.verdict == Verdict::Compliant
                && subject.overdue_since.is_some()
                && decays(subject, version.compiled.max_staleness()).is_some_and(|time| time <= now)
            {
                judgement = stale(subject);
            }
        }
        let before = policy
            .in_force
            .as_ref()
            .map(|version| version.compiled.warn_before());
        let warned = before.and_then(|before| warning(&judgement, before));
        Judged {
            warned: warned.is_some_and(|start| start <= now),
            judgement,
            stale_since: subject.overdue_since,
            sole_trust: resting,
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
            },
        }
    }

    fn replace_judgements(
        &mut self,
        key: &SubjectKey,
        judgements: HashMap<JudgementKey, Judged>,
        now: Timestamp,
    ) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
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
        let policies: BTreeSet<Arc<str>> = differing
            .into_iter()
            .map(|judgement| judgement.policy.clone())
            .collect();
        let wake = subject.next_wake(&self.policies, now);
        self.wakes.set(key, subject.wake, wake);
        subject.wake = wake;
        if !changed {
            return;
        }
        let users: Vec<WorkloadKey> = subject.users.keys().cloned().collect();
        for user in users {
            self.workload_changed(user, if worse { Urgency::Worse } else { Urgency::Changed }, now);
        }
        for policy in &policies {
            self.totals_changed(policy, now);
        }
        self.all_keys_changed(now);
        self.retry_soon(key, now);
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
        let rings: BTreeSet<&str> = covering
            .filter_map(|name| self.policies.get(name)?.in_force.as_ref())
            .flat_map(|version| version.compiled.rings())
            .map(|ring| &**ring)
            .collect();
        rings
            .iter()
            .flat_map(|ring| self.keys.verifiers(ring))
            .cloned()
            .collect()
    }

    /// Asks each of them about every item that it was not asked about.
    pub(crate) fn verify_by(&mut self, key: &SubjectKey, verifiers: &[Verifier]) {
        let items = self
            .subjects
            .get_mut(key)
            .into_iter()
            .flat_map(Subject::items_mut);
        for (digest, item) in items {
            for verifier in verifiers {
                if item.outcome(&verifier.id()).is_none() {
                    let outcome = verify::verify(&item.item, &digest, verifier);
                    item.outcomes.push((verifier.id(), outcome));
                    self.counters.verifications += 1;
                }
            }
        }
    }
}

pub(crate) fn image_of<'a>(subject: &'a Subject, pinned: bool, digest: DigestFacts<'a>) -> ImageFacts<'a> {
    ImageFacts {
        repository: Some(&subject.key.repository),
        pinned,
        running: Running::Digest(digest),
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
