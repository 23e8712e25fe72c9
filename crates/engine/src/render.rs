//! From the engine's state to the answer about one workload.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{ContainerRef, Reason, Verdict};
use jiff::Timestamp;
use policy::{Becomes, CompiledException, Excepted, ImageFacts, Running, passing_over};
use verify::Outcome;

use crate::core::{Engine, START_GRACE};
use crate::exceptions;
use crate::fact::{RememberedViolation, WorkloadKey};
use crate::index::{ImageOf, ImageUse, RunningDigest};
use crate::judge::{badness, is_gap};
use crate::policies::PolicyObject;
use crate::report::{ImageReport, PolicyAnswer, StartAnswer, WorkloadAnswer, WorkloadReport};
use crate::subject::{Judged, JudgementKey, Subject, SubjectKey, is_violation};

impl Engine {
    /// The answer about a workload as of now.
    pub(crate) fn answer(&self, key: &WorkloadKey, now: Timestamp) -> WorkloadAnswer {
        let next_start = self.next_start(key, now);
        let Some(row) = self.index.workload(key) else {
            return self.answer_at_rest(key, next_start, now);
        };
        let images = self.index.images(key, started_before(now));
        if images.is_empty() {
            return WorkloadAnswer::Undecided;
        }
        let waits = self.waits_for_labels_of(key, images.keys());
        let is_young = self
            .index
            .first_seen(key)
            .is_some_and(|seen| seen > started_before(now));
        if waits && is_young || images.keys().any(|of| self.is_in_doubt(of)) {
            return WorkloadAnswer::Undecided;
        }
        let mut reports = Vec::new();
        let mut undecided = Vec::new();
        for (of, containers) in images {
            match self.image_report(key, &of, containers, now) {
                Some(report) => add(&mut reports, report),
                None => undecided.push(of),
            }
        }
        // An image whose first look-up is under way says nothing yet, and hides no other one.
        if reports.is_empty() || !undecided.is_empty() && self.is_starting(now) {
            return WorkloadAnswer::Undecided;
        }
        if reports.iter().all(|report| report.policies.is_empty()) && next_start == StartAnswer::NotCovered {
            return WorkloadAnswer::NotCovered;
        }
        reports.sort_by(|one, other| {
            let order = |report: &ImageReport| {
                std::cmp::Reverse(report.policies.iter().map(|answer| badness(answer.verdict)).max())
            };
            (order(one), &one.image, &one.digest).cmp(&(order(other), &other.image, &other.digest))
        });
        WorkloadAnswer::Covered(Box::new(WorkloadReport {
            workload: row.facts.clone(),
            images: reports,
            next_start,
        }))
    }

    /// The answer about a workload of which no pod runs.
    fn answer_at_rest(&self, key: &WorkloadKey, next_start: StartAnswer, now: Timestamp) -> WorkloadAnswer {
        let Some(row) = self.templates.get(key) else {
            return WorkloadAnswer::NothingRuns;
        };
        let is_open = || self.is_starting(now) || self.waits_for_labels(key).next().is_some();
        let is_waiting = next_start == StartAnswer::Pending && is_open();
        // Its first pods may be on their way.
        if is_waiting || row.first_seen > started_before(now) {
            return WorkloadAnswer::Undecided;
        }
        match next_start {
            StartAnswer::NotCovered => WorkloadAnswer::NotCovered,
            next_start => WorkloadAnswer::Covered(Box::new(WorkloadReport {
                workload: row.facts.clone(),
                images: Vec::new(),
                next_start,
            })),
        }
    }

    /// The policies whose namespaces include the workload's.
    pub(crate) fn policies_for(&self, key: &WorkloadKey) -> Vec<&PolicyObject> {
        let labels = self.index.labels(&key.namespace);
        self.policies
            .values()
            .filter(|policy| policy.covers_namespace(&key.namespace, labels))
            .collect()
    }

    /// The policies of which nobody can tell yet whether they cover the workload: a pod may come before the labels of
    /// its namespace, and is not judged as if it had none.
    pub(crate) fn waits_for_labels(&self, key: &WorkloadKey) -> impl Iterator<Item = &PolicyObject> {
        let are_known = self.index.labels(&key.namespace).is_some();
        let policies = (!are_known).then(|| self.policies.values());
        let policies = policies.into_iter().flatten();
        policies.filter(|policy| policy.waits_for_labels(&key.namespace, None))
    }

    fn waits_for_labels_of<'a>(
        &self,
        key: &WorkloadKey,
        mut images: impl Iterator<Item = &'a ImageOf>,
    ) -> bool {
        images.any(|of| self.waits_for_labels(key).any(|policy| covers(policy, &of.image)))
    }

    /// What each of these policies says of an image; None while its first look-up is under way.
    pub(crate) fn answers(
        &self,
        key: &WorkloadKey,
        policies: &[&PolicyObject],
        of: &ImageOf,
        now: Timestamp,
    ) -> Option<Vec<PolicyAnswer>> {
        let image = &*of.image;
        let covering: Vec<&PolicyObject> = policies
            .iter()
            .filter(|policy| covers(policy, image))
            .copied()
            .collect();
        let subject = self.deciding(of);
        if !covering.is_empty() && subject.is_some_and(|subject| subject.is_new(now)) {
            return None;
        }
        let answers = covering.into_iter().map(|policy| match subject {
            Some(subject) => {
                let answer = self.judged_answer(key, policy, subject, image, now);
                self.with_memory(key, subject, image, answer, now)
            }
            None => self.undetermined_answer(key, policy, image, now),
        });
        Some(answers.collect())
    }

    fn image_report(
        &self,
        key: &WorkloadKey,
        of: &ImageOf,
        containers: BTreeSet<ContainerRef>,
        now: Timestamp,
    ) -> Option<ImageReport> {
        let mut policies = self.answers(key, &self.policies_covering(key, of), of, now)?;
        for answer in &mut policies {
            self.add_provenance(answer, key, of);
        }
        let waiting = self
            .waits_for_labels(key)
            .filter(|policy| covers(policy, &of.image));
        policies.extend(waiting.map(|policy| answer_without_labels(policy, key)));
        policies.sort_by(|one, other| one.policy.cmp(&other.policy));
        Some(ImageReport {
            image: of.image.written.clone(),
            digest: of.image.digest_text(),
            containers: containers.into_iter().collect(),
            policies,
        })
    }

    fn judged_answer(
        &self,
        workload: &WorkloadKey,
        policy: &PolicyObject,
        subject: &Subject,
        image: &ImageUse,
        now: Timestamp,
    ) -> PolicyAnswer {
        let Some(judged) = self.judged_of(workload, policy, subject, image) else {
            return self.undetermined_answer(workload, policy, image, now);
        };
        PolicyAnswer {
            policy: policy.name.clone(),
            generation: generation(policy),
            mode: policy.mode(),
            verdict: judged.judgement.verdict,
            requirement: judged.judgement.requirement.clone(),
            reason: judged.judgement.reason,
            message: judged.judgement.message.as_str().into(),
            excepted: judged.judgement.excepted.clone(),
            valid_until: judged.judgement.valid_until,
            becomes: judged.judgement.becomes.clone(),
            warned: judged.warned,
            stale_since: judged.stale_since,
            evidence: Vec::new(),
            signers: Vec::new(),
        }
    }

    /// What the policy says of the subject to this workload.
    pub(crate) fn judged_of<'a>(
        &self,
        workload: &WorkloadKey,
        policy: &PolicyObject,
        subject: &'a Subject,
        image: &ImageUse,
    ) -> Option<&'a Judged> {
        let exceptions = self.exceptions.covering(&policy.name, image, workload);
        subject.judgements.get(&JudgementKey {
            policy: policy.name.clone(),
            pinned: image.is_pinned(),
            exceptions: exceptions::names(&exceptions),
        })
    }

    /// Adds what the transition record names: the evidence that was seen, and who signed.
    pub(crate) fn add_provenance(&self, answer: &mut PolicyAnswer, key: &WorkloadKey, of: &ImageOf) {
        let policy = self.policies.get(&answer.policy);
        let Some((policy, subject)) = policy.zip(self.deciding(of)) else {
            return;
        };
        let Some(judged) = self.judged_of(key, policy, subject, &of.image) else {
            return;
        };
        let items = subject.knowledge().flat_map(|known| &known.items);
        answer.evidence = items.map(|item| item.item.id().to_string()).collect();
        answer.signers = signers(judged, subject);
    }

    /// The answer about an image of which no digest is known.
    fn undetermined_answer(
        &self,
        workload: &WorkloadKey,
        policy: &PolicyObject,
        image: &ImageUse,
        now: Timestamp,
    ) -> PolicyAnswer {
        let running = match &image.running {
            RunningDigest::Unresolved(why) => Running::Unresolved(why),
            RunningDigest::NotStarted | RunningDigest::Of(_) => Running::NotStarted,
        };
        let exceptions = self.exceptions.covering(&policy.name, image, workload);
        let facts = ImageFacts {
            repository: image.repository.as_ref(),
            pinned: image.is_pinned(),
            running,
            exceptions: &exceptions,
        };
        let judgement = self.judgement(policy, &facts, now);
        let warned = policy.warned_from(&judgement).is_some_and(|start| start <= now);
        PolicyAnswer {
            policy: policy.name.clone(),
            generation: generation(policy),
            mode: policy.mode(),
            verdict: judgement.verdict,
            requirement: judgement.requirement,
            reason: judgement.reason,
            message: judgement.message.into(),
            excepted: judgement.excepted,
            valid_until: judgement.valid_until,
            becomes: judgement.becomes,
            warned,
            stale_since: None,
            evidence: Vec::new(),
            signers: Vec::new(),
        }
    }

    /// A violation that an earlier process wrote stays while nothing can be told: only positive
    /// evidence, or a complete look-up, takes it back; and where an attestation that it saw is gone, only a newer one.
    fn with_memory(
        &self,
        key: &WorkloadKey,
        subject: &Subject,
        image: &ImageUse,
        answer: PolicyAnswer,
        now: Timestamp,
    ) -> PolicyAnswer {
        let Some(remembered) = self.remembered.get(key) else {
            return answer;
        };
        let untold = answer.verdict == Verdict::Unknown && !subject.is_settled() && is_gap(answer.reason);
        if is_violation(answer.verdict) {
            return answer;
        }
        let digest = image.digest_text();
        let fits = |violation: &&RememberedViolation| {
            violation.policy == answer.policy
                && *violation.digest == *digest
                && violation.written == image.written
                && (untold || violation.is_of_an_attestation())
                && violation.requirement.as_ref().is_none_or(|name| {
                    self.policies
                        .get(&answer.policy)
                        .is_some_and(|policy| policy.requires(name))
                })
        };
        match remembered.iter().find(fits) {
            Some(violation) => {
                let exceptions = self.exceptions.covering(&violation.policy, image, key);
                let told = PolicyAnswer {
                    verdict: Verdict::Violating,
                    requirement: violation.requirement.clone(),
                    reason: violation.reason,
                    message: violation.message.as_str().into(),
                    excepted: None,
                    becomes: None,
                    warned: false,
                    stale_since: answer.stale_since.or(violation.stale_since.filter(|_| untold)),
                    ..answer
                };
                match passing_over(&exceptions, &[violation.reason].into(), now) {
                    Some(exception) => excepted(told, exception),
                    None => told,
                }
            }
            None => answer,
        }
    }
}

/// A violation that is only remembered, where an exception passes over it.
fn excepted(violation: PolicyAnswer, exception: &CompiledException) -> PolicyAnswer {
    let becomes = Becomes {
        verdict: violation.verdict,
        reason: violation.reason,
        requirement: violation.requirement.clone(),
        message: violation.message.to_string(),
    };
    PolicyAnswer {
        verdict: Verdict::Excepted,
        reason: Reason::Excepted,
        message: exception.message(&violation.message).into(),
        excepted: Some(Excepted {
            exception: exception.name().clone(),
            reason: violation.reason,
        }),
        valid_until: Some(exception.expires()),
        becomes: Some(Arc::new(becomes)),
        ..violation
    }
}

impl RememberedViolation {
    /// What was seen then may be deleted now; the message of an absence is no such thing.
    pub(crate) fn is_of_an_attestation(&self) -> bool {
        matches!(
            self.reason,
            Reason::VulnerabilityFound | Reason::AttestationRejected
        )
    }

    /// It speaks of this digest under this repository.
    pub(crate) fn is_about(&self, key: &SubjectKey) -> bool {
        let written = self.written.parse::<image::Reference>();
        *self.digest == *key.digest.to_string()
            && written.is_ok_and(|reference| reference.repository == key.repository)
    }
}

/// Whether the policy covers the image in a namespace that it covers; one that cannot be read may be any.
pub(crate) fn covers(policy: &PolicyObject, image: &ImageUse) -> bool {
    image
        .repository
        .as_ref()
        .is_none_or(|repository| policy.covers_image(repository))
}

impl PolicyAnswer {
    /// About an image of which the first look-up is under way.
    pub(crate) fn pending(policy: &PolicyObject) -> PolicyAnswer {
        PolicyAnswer {
            policy: policy.name.clone(),
            generation: generation(policy),
            mode: policy.mode(),
            verdict: Verdict::Unknown,
            requirement: None,
            reason: Reason::Pending,
            message: Arc::from(""),
            excepted: None,
            valid_until: None,
            becomes: None,
            warned: false,
            stale_since: None,
            evidence: Vec::new(),
            signers: Vec::new(),
        }
    }
}

/// What is said where the labels of a namespace stay unknown.
fn answer_without_labels(policy: &PolicyObject, key: &WorkloadKey) -> PolicyAnswer {
    let message = format!(
        "Whether the policy covers the namespace {} rests on its labels, which the operator has not seen yet; where this \
         stays, see whether it may list and watch Namespaces",
        key.namespace
    );
    PolicyAnswer {
        message: message.into(),
        ..PolicyAnswer::pending(policy)
    }
}

/// Adds what is said of an image. Pods of one workload may bring different credentials: of what is said of the same
/// image for each, the worse counts.
fn add(reports: &mut Vec<ImageReport>, report: ImageReport) {
    let same = |other: &&mut ImageReport| other.image == report.image && other.digest == report.digest;
    let Some(other) = reports.iter_mut().find(same) else {
        reports.push(report);
        return;
    };
    for (before, answer) in other.policies.iter_mut().zip(report.policies) {
        if badness(answer.verdict) > badness(before.verdict) {
            *before = answer;
        }
    }
    other.containers.extend(report.containers);
    other.containers.sort();
    other.containers.dedup();
}

pub(crate) fn started_before(now: Timestamp) -> Timestamp {
    now.checked_sub(START_GRACE).unwrap_or(now)
}

/// The keys that the verdict rests on; where none suffices, every known key that signed.
fn signers(judged: &Judged, subject: &Subject) -> Vec<String> {
    let relied_on: BTreeSet<String> = judged
        .judgement
        .relied_on
        .iter()
        .map(ToString::to_string)
        .collect();
    if !relied_on.is_empty() {
        return relied_on.into_iter().collect();
    }
    let outcomes = subject
        .knowledge()
        .flat_map(|known| &known.items)
        .flat_map(|item| &item.outcomes);
    let signed: BTreeSet<String> = outcomes
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Verified(claim) => Some(claim.signer.to_string()),
            _ => None,
        })
        .collect();
    signed.into_iter().collect()
}

fn generation(policy: &PolicyObject) -> i64 {
    policy
        .in_force
        .as_ref()
        .map_or(policy.generation, |version| version.generation)
}
