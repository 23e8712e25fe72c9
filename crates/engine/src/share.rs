//! What one workload adds to the totals, as of now: computed from the current answers about it. The sums are in
//! [`crate::tally`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{ExceptedViolation, PolicyViolation, Reason, Verdict};
use image::Digest;
use jiff::Timestamp;
use verify::Fingerprint;

use crate::comparison::Differences;
use crate::core::{Engine, START_GRACE};
use crate::fact::WorkloadKey;
use crate::index::ImageOf;
use crate::judge::badness;
use crate::policies::PolicyObject;
use crate::render::{covers, started_before};
use crate::report::PolicyAnswer;
use crate::subject::Subject;

/// What one workload adds to the totals.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// A pod of it runs.
    pub(crate) runs: bool,
    /// What its running images are worth to each policy that covers one.
    pub(crate) policies: Vec<PolicyShare>,
    /// By policy that supersedes another one: what is different.
    pub(crate) differences: BTreeMap<Arc<str>, Differences>,
    /// What would get a worse verdict without one of these signers.
    pub(crate) resting: Vec<Resting>,
    /// What passes only by an exception, by its name.
    pub(crate) excepted: BTreeSet<(Arc<str>, Arc<ExceptedViolation>)>,
    /// When it may be another one although nothing changes.
    pub(crate) until: Option<Timestamp>,
}

/// What the running images of a workload are worth to one policy.
#[derive(Debug, PartialEq)]
pub(crate) struct PolicyShare {
    pub(crate) policy: Arc<str>,
    pub(crate) worst: Verdict,
    /// Every image holds, one of them without evidence.
    pub(crate) trusted: bool,
    pub(crate) images: Vec<ImageName>,
    pub(crate) violations: BTreeSet<Arc<PolicyViolation>>,
    /// The next time at which an answer changes by itself.
    pub(crate) next_deadline: Option<Timestamp>,
    /// The next time at which one gets worse by itself.
    pub(crate) falls: Option<Timestamp>,
    /// One gets worse so soon that this is told.
    pub(crate) warned: bool,
    /// One could not be refreshed.
    pub(crate) stale: bool,
    pub(crate) exceptions: BTreeSet<Arc<str>>,
}

/// How totals tell images apart: by digest, else as they are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ImageName {
    Digest(Digest),
    Written(Arc<str>),
}

/// What of a workload rests on one signer.
#[derive(Debug, PartialEq)]
pub(crate) struct Resting {
    pub(crate) signer: Fingerprint,
    /// The running images.
    pub(crate) images: Vec<Digest>,
    /// The pods that run them.
    pub(crate) pods: usize,
    /// An image that only a next start would bring.
    pub(crate) starts: bool,
}

impl ImageName {
    pub(crate) fn of(image: &ImageOf) -> ImageName {
        match image.image.subject() {
            Some(subject) => ImageName::Digest(subject.digest.clone()),
            None => ImageName::Written(image.image.written.clone()),
        }
    }
}

impl Share {
    fn until(&mut self, time: Timestamp) {
        self.until = Some(self.until.map_or(time, |until| until.min(time)));
    }
}

impl Engine {
    /// What the workload adds to the totals.
    pub(crate) fn share_of(&self, key: &WorkloadKey, now: Timestamp) -> Share {
        let mut share = Share {
            runs: self.index.workload(key).is_some(),
            differences: self.differences_of(key, now),
            ..Share::default()
        };
        let mut signers: BTreeMap<ImageOf, BTreeSet<Fingerprint>> = BTreeMap::new();
        for of in self.index.images(key, started_before(now)).into_keys() {
            let policies = self.policies_covering(key, &of);
            if !policies.is_empty() {
                self.add_image(&mut share, key, &of, &policies, now);
                signers.insert(of.clone(), self.sole_signers(key, &of, &policies));
            }
        }
        if let Some(seen) = self.index.first_starting(key, started_before(now)) {
            share.until(seen.checked_add(START_GRACE).unwrap_or(Timestamp::MAX));
        }
        self.add_resting(&mut share, key, &signers);
        share.policies.shrink_to_fit();
        share.resting.shrink_to_fit();
        share
    }

    /// The policies that cover an image of the workload, in order of name.
    pub(crate) fn policies_covering(&self, key: &WorkloadKey, of: &ImageOf) -> Vec<&PolicyObject> {
        match self.deciding(of) {
            Some(subject) => {
                let labels = self.index.labels(&key.namespace);
                let covers_namespace =
                    |policy: &&PolicyObject| policy.covers_namespace(&key.namespace, labels);
                let policies = subject.covering.iter();
                let policies = policies.filter_map(|name| self.policies.get(name));
                policies.filter(covers_namespace).collect()
            }
            None => {
                let mut policies = self.policies_for(key);
                policies.retain(|policy| covers(policy, &of.image));
                policies
            }
        }
    }

    fn add_image(
        &self,
        share: &mut Share,
        key: &WorkloadKey,
        of: &ImageOf,
        policies: &[&PolicyObject],
        now: Timestamp,
    ) {
        let answers = self.answers(key, policies, of, now).unwrap_or_else(|| {
            let subject = self.deciding(of);
            if let Some(end) = subject.and_then(Subject::first_look_up_ends) {
                share.until(end);
            }
            policies
                .iter()
                .map(|policy| PolicyAnswer::pending(policy))
                .collect()
        });
        for answer in answers {
            share.add_answer(key, of, &answer);
        }
    }

    /// What rests on each signer alone: of what runs, and of what a next start would bring. `alone`: the signers of each
    /// running image without any one of whom an answer would be worse.
    fn add_resting(
        &self,
        share: &mut Share,
        key: &WorkloadKey,
        alone: &BTreeMap<ImageOf, BTreeSet<Fingerprint>>,
    ) {
        for (of, signers) in alone {
            signers
                .iter()
                .for_each(|signer| share.resting_on(*signer).add(of));
        }
        if !share.resting.is_empty() {
            for (pods, images) in self.index.pods_by_images(key) {
                let signers = images.iter().filter_map(|of| alone.get(of)).flatten();
                let signers: BTreeSet<_> = signers.collect();
                signers
                    .into_iter()
                    .for_each(|signer| share.resting_on(*signer).pods += pods);
            }
        }
        for of in self.images_to_start(key) {
            let policies = self.policies_covering(key, &of);
            for signer in self.sole_signers(key, &of, &policies) {
                share.resting_on(signer).starts = true;
            }
        }
    }

    /// The signers without any one of whom the answer of one of the policies about the image would be worse.
    fn sole_signers(
        &self,
        key: &WorkloadKey,
        of: &ImageOf,
        policies: &[&PolicyObject],
    ) -> BTreeSet<Fingerprint> {
        let Some(subject) = self.deciding(of) else {
            return BTreeSet::new();
        };
        let judged = policies
            .iter()
            .filter_map(|policy| self.judged_of(key, policy, subject, &of.image));
        judged
            .flat_map(|judged| judged.sole_trust.iter().copied())
            .collect()
    }
}

impl Resting {
    fn add(&mut self, of: &ImageOf) {
        if let Some(subject) = of.image.subject()
            && !self.images.contains(&subject.digest)
        {
            self.images.push(subject.digest.clone());
        }
    }
}

impl PolicyShare {
    fn new(policy: &Arc<str>, first: Verdict) -> PolicyShare {
        PolicyShare {
            policy: policy.clone(),
            worst: first,
            trusted: false,
            images: Vec::with_capacity(1),
            violations: BTreeSet::new(),
            next_deadline: None,
            falls: None,
            warned: false,
            stale: false,
            exceptions: BTreeSet::new(),
        }
    }
}

impl Share {
    fn resting_on(&mut self, signer: Fingerprint) -> &mut Resting {
        let at = self.resting.iter().position(|resting| resting.signer == signer);
        let at = at.unwrap_or_else(|| {
            self.resting.push(Resting {
                signer,
                images: Vec::with_capacity(1),
                pods: 0,
                starts: false,
            });
            self.resting.len() - 1
        });
        &mut self.resting[at]
    }

    fn of_policy(&mut self, answer: &PolicyAnswer) -> &mut PolicyShare {
        let at = self
            .policies
            .iter()
            .position(|share| share.policy == answer.policy);
        let at = at.unwrap_or_else(|| {
            self.policies
                .push(PolicyShare::new(&answer.policy, answer.verdict));
            self.policies.len() - 1
        });
        &mut self.policies[at]
    }

    fn add_answer(&mut self, key: &WorkloadKey, of: &ImageOf, answer: &PolicyAnswer) {
        let place = || {
            let image = &of.image;
            let written = image.written.to_string();
            (
                key.namespace.to_string(),
                display(key),
                written,
                image.digest_text(),
            )
        };
        let policy = self.of_policy(answer);
        if badness(answer.verdict) >= badness(policy.worst) {
            policy.worst = answer.verdict;
        }
        policy.trusted |= answer.reason == Reason::Trusted;
        policy.stale |= answer.stale_since.is_some();
        let image = ImageName::of(of);
        if !policy.images.contains(&image) {
            policy.images.push(image);
        }
        policy.next_deadline = earlier(policy.next_deadline, answer.valid_until);
        if answer.falls() {
            policy.falls = earlier(policy.falls, answer.valid_until);
            policy.warned |= answer.warned;
        }
        if answer.verdict == Verdict::Violating {
            let (namespace, workload, image, digest) = place();
            policy.violations.insert(Arc::new(PolicyViolation {
                namespace,
                workload,
                image,
                digest,
                reason: answer.reason,
            }));
        }
        if let Some(excepted) = &answer.excepted {
            policy.exceptions.insert(excepted.exception.clone());
            let (namespace, workload, image, digest) = place();
            let violation = ExceptedViolation {
                namespace,
                workload,
                image,
                digest,
                policy: answer.policy.to_string(),
                reason: excepted.reason,
            };
            self.excepted
                .insert((excepted.exception.clone(), Arc::new(violation)));
        }
    }
}

/// A workload as it is said in samples.
pub(crate) fn display(key: &WorkloadKey) -> String {
    format!("{}/{}", key.kind, key.name)
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
