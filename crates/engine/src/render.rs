//! From the engine's state to the answer about one workload.

use std::collections::BTreeSet;

use api::{ContainerRef, Reason, Verdict};
use jiff::Timestamp;
use policy::{ImageFacts, Running};
use verify::Outcome;

use crate::core::{Engine, START_GRACE};
use crate::fact::{RememberedViolation, WorkloadKey};
use crate::index::{ImageOf, ImageUse, RunningDigest};
use crate::judge::{badness, is_gap};
use crate::policies::PolicyObject;
use crate::report::{ImageReport, PolicyAnswer, WorkloadAnswer, WorkloadReport};
use crate::subject::{Judged, JudgementKey, Subject, SubjectKey};

impl Engine {
    /// The answer about a workload as of now.
    pub(crate) fn answer(&self, key: &WorkloadKey, now: Timestamp) -> WorkloadAnswer {
        let Some(row) = self.index.workload(key) else {
            return WorkloadAnswer::NothingRuns;
        };
        let images = self.index.images(key, started_before(now));
        if images.is_empty() {
            return WorkloadAnswer::Undecided;
        }
        let policies = self.policies_for(key);
        let mut reports = Vec::new();
        let mut undecided = Vec::new();
        for (of, containers) in images {
            match self.image_report(key, &policies, &of, containers, now) {
                Some(report) => add(&mut reports, report),
                None => undecided.push(of),
            }
        }
        // An image whose first look-up is under way says nothing yet, and hides no other one.
        if reports.is_empty() || !undecided.is_empty() && self.is_starting(now) {
            return WorkloadAnswer::Undecided;
        }
        if reports.iter().all(|report| report.policies.is_empty()) {
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
        }))
    }

    /// The policies whose namespaces include the workload's.
    pub(crate) fn policies_for(&self, key: &WorkloadKey) -> Vec<&PolicyObject> {
        let labels = self.index.labels(&key.namespace);
        self.policies
            .values()
            .filter(|policy| policy.covers_namespace(&key.namespace, labels))
            .collect()
    }

    /// Some image of the workload has no digest, so that it has no subject that is judged.
    pub(crate) fn has_undetermined_image(&self, key: &WorkloadKey, now: Timestamp) -> bool {
        self.index
            .images(key, started_before(now))
            .keys()
            .any(|of| of.image.subject().is_none())
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
        let covers = |policy: &&&PolicyObject| {
            image
                .repository
                .as_ref()
                .is_none_or(|repository| policy.covers_image(repository))
        };
        let covering: Vec<&PolicyObject> = policies.iter().filter(covers).copied().collect();
        let subject = self.deciding(of);
        if !covering.is_empty() && subject.is_some_and(|subject| subject.is_new(now)) {
            return None;
        }
        let answers = covering.into_iter().map(|policy| match subject {
            Some(subject) => self.with_memory(
                key,
                subject,
                image,
                self.judged_answer(policy, subject, image, now),
            ),
            None => self.undetermined_answer(policy, image, now),
        });
        Some(answers.collect())
    }

    fn image_report(
        &self,
        key: &WorkloadKey,
        policies: &[&PolicyObject],
        of: &ImageOf,
        containers: BTreeSet<ContainerRef>,
        now: Timestamp,
    ) -> Option<ImageReport> {
        Some(ImageReport {
            image: of.image.written.clone(),
            digest: digest_text(&of.image),
            containers: containers.into_iter().collect(),
            policies: self.answers(key, policies, of, now)?,
        })
    }

    fn judged_answer(
        &self,
        policy: &PolicyObject,
        subject: &Subject,
        image: &ImageUse,
        now: Timestamp,
    ) -> PolicyAnswer {
        let key = JudgementKey {
            policy: policy.name.clone(),
            pinned: image.is_pinned(),
        };
        let Some(judged) = subject.judgements.get(&key) else {
            return self.undetermined_answer(policy, image, now);
        };
        PolicyAnswer {
            policy: policy.name.clone(),
            generation: generation(policy),
            mode: policy.mode(),
            verdict: judged.judgement.verdict,
            requirement: judged.judgement.requirement.clone(),
            reason: judged.judgement.reason,
            message: judged.judgement.message.as_str().into(),
            valid_until: judged.judgement.valid_until,
            becomes: judged.judgement.becomes.clone(),
            warned: judged.warned,
            stale_since: judged.stale_since,
            evidence: subject
                .knowledge()
                .flat_map(|known| &known.items)
                .map(|item| item.item.id().to_string())
                .collect(),
            signers: signers(judged, subject),
        }
    }

    /// The answer about an image of which no digest is known.
    fn undetermined_answer(&self, policy: &PolicyObject, image: &ImageUse, now: Timestamp) -> PolicyAnswer {
        let running = match &image.running {
            RunningDigest::Unresolved(why) => Running::Unresolved(why),
            RunningDigest::NotStarted | RunningDigest::Digest(_) => Running::NotStarted,
        };
        let facts = ImageFacts {
            repository: image.repository.as_ref(),
            pinned: image.is_pinned(),
            running,
        };
        let judgement = self.judgement(policy, &facts, now);
        PolicyAnswer {
            policy: policy.name.clone(),
            generation: generation(policy),
            mode: policy.mode(),
            verdict: judgement.verdict,
            requirement: judgement.requirement,
            reason: judgement.reason,
            message: judgement.message.into(),
            valid_until: judgement.valid_until,
            becomes: judgement.becomes,
            warned: false,
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
    ) -> PolicyAnswer {
        let untold = answer.verdict == Verdict::Unknown && !subject.is_settled() && is_gap(answer.reason);
        if answer.verdict == Verdict::Violating {
            return answer;
        }
        let digest = digest_text(image);
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
        match self
            .remembered
            .get(key)
            .and_then(|violations| violations.iter().find(fits))
        {
            Some(violation) => PolicyAnswer {
                verdict: Verdict::Violating,
                requirement: violation.requirement.clone(),
                reason: violation.reason,
                message: violation.message.as_str().into(),
                becomes: None,
                warned: false,
                stale_since: answer.stale_since.or(violation.stale_since.filter(|_| untold)),
                ..answer
            },
            None => answer,
        }
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

fn digest_text(image: &ImageUse) -> String {
    match &image.running {
        RunningDigest::Digest(digest) => digest.to_string(),
        RunningDigest::NotStarted | RunningDigest::Unresolved(_) => String::new(),
    }
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
