//! What an admission check by the covering policies would say if a workload's template started now, what of it rests on
//! one key alone, and which tags name something else than what runs.
//!
//! | the policy's mode | its verdict | decision |
//! |---|---|---|
//! | DryRun | any | Admit |
//! | Warn, Enforce | Compliant | Admit; Warn where it holds by Retiring keys alone |
//! | Warn, Enforce | Excepted | Warn |
//! | Warn | Violating, Unknown | Warn |
//! | Enforce | Unknown for a registry that does not answer, where the policy's `onUnknown` is Admit | Admit |
//! | Enforce | Violating, Unknown otherwise | Deny |
//!
//! Of several policies and images the worst decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Mode, NextStart, Reason, StartDecision, Verdict};
use image::Digest;
use jiff::Timestamp;
use policy::{Gap, rank};

use crate::core::Engine;
use crate::fact::WorkloadKey;
use crate::index::{ImageOf, ImageUse, RunningDigest};
use crate::judge::shortened;
use crate::keychain::Keychain;
use crate::lookup::Shape;
use crate::render::covers;
use crate::report::{PolicyAnswer, StartAnswer};
use crate::subject::{Origin, Subject};
use crate::tags::Named;
use crate::templates::TemplateRow;

/// How many images with a moved tag are named.
const MOVED_TAGS: usize = 20;

/// What the policies say of one image of a template.
pub(crate) struct Start {
    pub(crate) of: ImageOf,
    pub(crate) answers: Vec<PolicyAnswer>,
}

/// One policy's word on one image, in order of what it decides: the last one decides.
struct Word<'a> {
    decision: StartDecision,
    of: &'a ImageOf,
    answer: &'a PolicyAnswer,
    by_retiring: bool,
    /// It cannot be told, and the policy lets it start all the same.
    by_on_unknown: bool,
}

impl Engine {
    /// What would happen if the workload's template started now.
    pub(crate) fn next_start(&self, key: &WorkloadKey, now: Timestamp) -> StartAnswer {
        let Some(row) = self.templates.get(key) else {
            return StartAnswer::NotCovered;
        };
        let Some(starts) = self.starts(key, row, now) else {
            return StartAnswer::Pending;
        };
        let words = starts.iter().flat_map(|start| {
            start
                .answers
                .iter()
                .map(|answer| self.word(key, &start.of, answer))
        });
        let Some(word) = words.max_by_key(Word::weight) else {
            return StartAnswer::NotCovered;
        };
        let moved = self.moved_tags(key, row);
        let mut answers = starts.iter().flat_map(|start| &start.answers);
        StartAnswer::Decided {
            in_dry_run: answers.any(|answer| answer.mode == Mode::DryRun),
            next: Box::new(word.told(&moved)),
        }
    }

    /// What each covering policy says of each image of a template; None while something is looked up for the first time.
    pub(crate) fn starts(&self, key: &WorkloadKey, row: &TemplateRow, now: Timestamp) -> Option<Vec<Start>> {
        let may_be_covered = |image: &Arc<ImageUse>| {
            let mut waiting = self.waits_for_labels(key);
            waiting.any(|policy| covers(policy, image))
        };
        if row.images.iter().any(may_be_covered) {
            return None;
        }
        let policies = self.policies_for(key);
        let mut starts = Vec::new();
        for image in &row.images {
            if !policies.iter().any(|policy| covers(policy, image)) {
                continue;
            }
            let (of, gap) = match self.as_it_would_run(row, image) {
                Named::NotYet => return None,
                Named::As(of) => (of, None),
                Named::Unresolved(gap) => (unresolved(row, image, &gap), Some(gap)),
            };
            let mut answers = self.answers(key, &policies, &of, now)?;
            if let Some(gap) = gap {
                answers.iter_mut().for_each(|answer| explain(answer, &gap));
            }
            starts.push(Start { of, answers });
        }
        Some(starts)
    }

    fn word<'a>(&self, key: &WorkloadKey, of: &'a ImageOf, answer: &'a PolicyAnswer) -> Word<'a> {
        let policy = self.policies.get(&answer.policy);
        let judged = policy
            .zip(self.deciding(of))
            .and_then(|(policy, subject)| self.judged_of(key, policy, subject, &of.image));
        let holds = answer.verdict == Verdict::Compliant;
        let by_retiring = holds && judged.is_some_and(|judged| judged.by_retiring);
        let by_on_unknown = (answer.mode, answer.verdict) == (Mode::Enforce, Verdict::Unknown)
            && self
                .policies
                .get(&answer.policy)
                .is_some_and(|policy| policy.admits_unknown(answer.reason));
        Word {
            decision: match by_on_unknown {
                true => StartDecision::Admit,
                false => decision(answer.mode, answer.verdict, by_retiring),
            },
            of,
            answer,
            by_retiring,
            by_on_unknown,
        }
    }

    /// The images of a template of which the tag names something else now than what runs in the workload.
    fn moved_tags(&self, key: &WorkloadKey, row: &TemplateRow) -> Vec<Arc<str>> {
        let by_tag = |image: &&Arc<ImageUse>| matches!(image.origin, Some(Origin::Tag(_)));
        let mut moved = Vec::new();
        let running = self.index.images(key, Timestamp::MAX);
        for image in row.images.iter().filter(by_tag) {
            let Named::As(next) = self.as_it_would_run(row, image) else {
                continue;
            };
            let differs = |of: &ImageOf| of.image.written == image.written && self.is_moved(of, &next);
            if running.keys().any(differs) {
                moved.push(image.written.clone());
            }
        }
        moved
    }

    /// What runs is something else than what would start. An index that lists what runs is the same.
    fn is_moved(&self, running: &ImageOf, next: &ImageOf) -> bool {
        let (RunningDigest::Of(runs), RunningDigest::Of(starts)) =
            (&running.image.running, &next.image.running)
        else {
            return false;
        };
        let (runs, starts) = (&runs.digest, &starts.digest);
        let (running, next) = (self.deciding(running), self.deciding(next));
        runs != starts && is_another(runs, running, starts, next)
    }

    /// How many workloads of each namespace run an image of which the tag names something else now.
    pub(crate) fn moved_by_namespace(&self) -> BTreeMap<Arc<str>, i64> {
        let mut moved: BTreeSet<&WorkloadKey> = BTreeSet::new();
        for subject in self
            .subjects
            .values()
            .filter(|subject| subject.key.keychain.is_none())
        {
            for (workload, origins) in &subject.users {
                let mut tags = origins.keys().filter_map(|origin| match origin {
                    Origin::Tag(tag) => Some(tag),
                    Origin::Pinned(_) => None,
                });
                let keychain = self.templates.get(workload).map(|row| row.keychain.clone());
                let Some(keychain) = keychain.filter(|_| self.writes(workload, subject, origins.keys()))
                else {
                    continue;
                };
                if tags.any(|tag| self.has_moved(subject, tag, keychain.as_ref())) {
                    moved.insert(workload);
                }
            }
        }
        let mut counts: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for workload in moved {
            *counts.entry(workload.namespace.clone()).or_default() += 1;
        }
        counts
    }

    /// The workload's template names the repository in one of these ways.
    fn writes<'a>(
        &self,
        workload: &WorkloadKey,
        subject: &Subject,
        mut origins: impl Iterator<Item = &'a Origin>,
    ) -> bool {
        let images = self.templates.get(workload).map(|row| &row.images);
        origins.any(|origin| {
            images.into_iter().flatten().any(|image| {
                image.repository.as_ref() == Some(&subject.key.repository)
                    && image.origin.as_ref() == Some(origin)
            })
        })
    }

    fn has_moved(&self, running: &Subject, tag: &Arc<str>, keychain: Option<&Arc<Keychain>>) -> bool {
        let repository = &running.key.repository;
        let Named::As(starts) = self.tags.named(repository, tag, keychain) else {
            return false;
        };
        let next = self.subjects.get(&running.key.at(starts.clone()));
        running.key.digest != starts && is_another(&running.key.digest, Some(running), &starts, next)
    }

    /// The images of a workload's template with the digests that would run, as far as these are known.
    pub(crate) fn images_to_start(&self, key: &WorkloadKey) -> Vec<ImageOf> {
        let Some(row) = self.templates.get(key) else {
            return Vec::new();
        };
        let images = row.images.iter();
        let known = images.filter_map(|image| match self.as_it_would_run(row, image) {
            Named::As(of) => Some(of),
            Named::NotYet | Named::Unresolved(_) => None,
        });
        known.collect()
    }

    /// Some image that a template would start is judged by this subject.
    pub(crate) fn decides_some_start(&self, subject: &Subject) -> bool {
        let mut starters = subject.starters.iter();
        starters.any(|(workload, _)| self.decides_a_start(subject, workload))
    }

    /// Some image of the workload's template is judged by this subject.
    fn decides_a_start(&self, subject: &Subject, workload: &WorkloadKey) -> bool {
        let images = self.images_to_start(workload);
        let mut deciding = images.iter().filter_map(|of| self.deciding(of));
        deciding.any(|deciding| deciding.key == subject.key)
    }
}

/// Whether a digest that would start is another image than one that runs, as far as that is known.
fn is_another(runs: &Digest, running: Option<&Subject>, starts: &Digest, next: Option<&Subject>) -> bool {
    let is_proven = running.is_some_and(|subject| subject.indexes.contains(starts));
    let shape = next.and_then(|subject| subject.shapes.get(starts));
    match shape {
        // Nobody has looked yet.
        None => false,
        Some(Shape::Index { runnable }) => !is_proven && !runnable.contains(runs),
        Some(Shape::Manifest { .. }) => !is_proven,
    }
}

fn decision(mode: Mode, verdict: Verdict, by_retiring: bool) -> StartDecision {
    match (mode, verdict) {
        (Mode::DryRun, _) | (_, Verdict::NotCovered) => StartDecision::Admit,
        (_, Verdict::Compliant) if by_retiring => StartDecision::Warn,
        (_, Verdict::Compliant) => StartDecision::Admit,
        (Mode::Warn, _) | (_, Verdict::Excepted) => StartDecision::Warn,
        (Mode::Enforce | Mode::Other, _) => StartDecision::Deny,
    }
}

/// An image whose tag nobody could find out.
fn unresolved(row: &TemplateRow, image: &Arc<ImageUse>, gap: &Gap) -> ImageOf {
    ImageOf {
        image: Arc::new(ImageUse {
            running: RunningDigest::Unresolved(gap.detail.clone()),
            ..(**image).clone()
        }),
        keychain: row.keychain.clone(),
    }
}

/// Says why the digest behind a tag is not known.
fn explain(answer: &mut PolicyAnswer, gap: &Gap) {
    if answer.reason == Reason::DigestUnresolved {
        answer.reason = gap.reason;
        let message = format!(
            "The digest behind the image's tag cannot be found out: {}. Name the image by digest, or make the registry \
             answer.",
            gap.detail
        );
        answer.message = shortened(&message).into();
    }
}

impl Word<'_> {
    /// Of the same decision, a policy that counts before one in DryRun, then the worst verdict; of equals always the same.
    fn weight(&self) -> impl Ord + use<> {
        let image = &self.of.image.written;
        (
            self.decision,
            self.answer.mode != Mode::DryRun,
            rank(self.answer.verdict, self.answer.reason),
            std::cmp::Reverse((self.answer.policy.clone(), image.clone())),
        )
    }

    fn told(&self, moved: &[Arc<str>]) -> NextStart {
        let image = &self.of.image;
        NextStart {
            decision: self.decision,
            verdict: self.answer.verdict,
            reason: self.answer.reason,
            policy: self.answer.policy.to_string(),
            image: image.written.to_string(),
            digest: image.digest_text(),
            message: self.message(moved),
            moved_tags: moved.iter().take(MOVED_TAGS).map(ToString::to_string).collect(),
        }
    }

    fn message(&self, moved: &[Arc<str>]) -> Option<String> {
        let mut parts = Vec::new();
        if moved.contains(&self.of.image.written) {
            parts.push("The image's tag names another digest now than the one that runs.".to_owned());
        }
        if self.by_retiring {
            parts.push(
                "It holds by signatures of keys in the stage Retiring alone: sign it with the key that takes over."
                    .to_owned(),
            );
        }
        if self.by_on_unknown {
            parts.push(
                "It would start although it cannot be told: onUnknown of the policy is Admit.".to_owned(),
            );
        }
        if self.answer.verdict != Verdict::Compliant && !self.answer.message.is_empty() {
            parts.push(self.answer.message.to_string());
        }
        (!parts.is_empty()).then(|| shortened(&parts.join(" ")))
    }
}
