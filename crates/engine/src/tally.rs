//! The sums from which the totals of policies, keys and exceptions, and the figures for metrics, are read. They are kept
//! by difference: what a workload or a subject adds is computed again only where something about it changed, taken off
//! and put back. Reading a total costs what it holds, whatever runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use api::{ExceptedViolation, PolicyViolation, Verdict};
use image::Digest;
use jiff::Timestamp;
use verify::{Fingerprint, VerifierId};

use crate::fact::WorkloadKey;
use crate::report::Target;
use crate::schedule::Agenda;
use crate::share::{ImageName, PolicyShare, Resting, Share};
use crate::subject::SubjectKey;
use crate::vouching::Vouching;

/// The sums, and what they are made of.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    workloads: HashMap<WorkloadKey, Box<Share>>,
    subjects: HashMap<SubjectKey, Vouching>,
    /// Those of which what they add is to be computed again.
    stale_workloads: HashSet<WorkloadKey>,
    stale_subjects: HashSet<SubjectKey>,
    later: Agenda<WorkloadKey>,
    policies: BTreeMap<Arc<str>, PolicySums>,
    /// By namespace and policy.
    namespaces: BTreeMap<(Arc<str>, Arc<str>), NamespaceSums>,
    /// Workloads that no policy covers, by namespace.
    uncovered: Counted<Arc<str>>,
    resting: HashMap<Fingerprint, RestingSums>,
    exceptions: BTreeMap<Arc<str>, ExceptionSums>,
    /// Digests with a signature by a verifier of a ring that a covering policy trusts.
    vouched: HashMap<(Arc<str>, VerifierId), Counted<Digest>>,
    /// Digests of which nobody can tell whether they rest on a key of the ring.
    undecided: HashMap<Arc<str>, Counted<Digest>>,
    /// What is to be told because a sum changed.
    touched: Touched,
}

/// Whose sums changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) targets: BTreeSet<Target>,
    /// Some key's.
    pub(crate) keys: bool,
}

/// How often each is there.
#[derive(Debug)]
pub(crate) struct Counted<K>(BTreeMap<K, usize>);

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Counted(BTreeMap::new())
    }
}

impl<K: Ord> Counted<K> {
    fn change(&mut self, key: K, sign: Sign) {
        match sign {
            Sign::On => *self.0.entry(key).or_default() += 1,
            Sign::Off => {
                if let Some(count) = self.0.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.0.remove(&key);
                    }
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, usize)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }

    pub(crate) fn first(&self) -> Option<&K> {
        self.0.keys().next()
    }
}

impl Counted<Timestamp> {
    /// How many are not later than this.
    pub(crate) fn until(&self, end: Timestamp) -> usize {
        self.0.range(..=end).map(|(_, count)| count).sum()
    }
}

/// Whether a share is put on the sums or taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    On,
    Off,
}

impl Sign {
    fn change(self, sum: &mut usize, by: usize) {
        match self {
            Sign::On => *sum += by,
            Sign::Off => *sum = sum.saturating_sub(by),
        }
    }

    fn change_set<T: Ord>(self, set: &mut BTreeSet<T>, one: T) {
        match self {
            Sign::On => drop(set.insert(one)),
            Sign::Off => drop(set.remove(&one)),
        }
    }
}

/// Workloads by their worst verdict.
#[derive(Debug, Default)]
pub(crate) struct Worst {
    pub(crate) compliant: usize,
    pub(crate) violating: usize,
    pub(crate) excepted: usize,
    pub(crate) unknown: usize,
}

impl Worst {
    fn change(&mut self, verdict: Verdict, sign: Sign) {
        let sum = match verdict {
            Verdict::Compliant => &mut self.compliant,
            Verdict::Violating => &mut self.violating,
            Verdict::Excepted => &mut self.excepted,
            Verdict::Unknown | Verdict::NotCovered | Verdict::Other => &mut self.unknown,
        };
        sign.change(sum, 1);
    }

    pub(crate) fn all(&self) -> usize {
        self.compliant + self.violating + self.excepted + self.unknown
    }
}

/// What a policy's totals are read from.
#[derive(Debug, Default)]
pub(crate) struct PolicySums {
    pub(crate) worst: Worst,
    pub(crate) trusted: usize,
    pub(crate) images: Counted<ImageName>,
    pub(crate) violations: BTreeSet<Arc<PolicyViolation>>,
    pub(crate) deadlines: Counted<Timestamp>,
    pub(crate) newly_failing: BTreeSet<Arc<PolicyViolation>>,
    pub(crate) newly_passing: BTreeSet<Arc<PolicyViolation>>,
    pub(crate) newly_unknown: BTreeSet<Arc<PolicyViolation>>,
    /// Of what is compared, how many results the policy cannot tell.
    pub(crate) untold: usize,
}

/// What metrics tell of one policy in one namespace.
#[derive(Debug, Default)]
pub(crate) struct NamespaceSums {
    pub(crate) worst: Worst,
    pub(crate) stale: usize,
    pub(crate) warned: usize,
    pub(crate) falls: Counted<Timestamp>,
    pub(crate) exceptions: Counted<Arc<str>>,
}

/// What rests on one signer.
#[derive(Debug, Default)]
pub(crate) struct RestingSums {
    pub(crate) images: Counted<Digest>,
    /// Each workload of which a running image rests on it, with the first such image.
    pub(crate) workloads: BTreeMap<WorkloadKey, Digest>,
    pub(crate) pods: usize,
    /// Workloads of which only a next start would bring such an image.
    pub(crate) start_only: usize,
}

/// What passes only by one exception.
#[derive(Debug, Default)]
pub(crate) struct ExceptionSums {
    pub(crate) workloads: usize,
    pub(crate) images: Counted<String>,
    pub(crate) violations: BTreeSet<Arc<ExceptedViolation>>,
}

impl PolicySums {
    #[cfg(test)]
    fn hold_anything(&self) -> bool {
        self.worst.all() > 0 || self.is_compared()
    }

    /// Something is different from the policy that it supersedes.
    pub(crate) fn is_compared(&self) -> bool {
        !self.newly_failing.is_empty() || !self.newly_passing.is_empty() || self.untold > 0
    }
}

#[cfg(test)]
impl Tally {
    /// Everything of which the tally knows what it adds.
    pub(crate) fn known(&self) -> (Vec<WorkloadKey>, Vec<SubjectKey>) {
        let workloads = self.workloads.keys().cloned();
        (workloads.collect(), self.subjects.keys().cloned().collect())
    }

    /// The sums alone, to be compared.
    pub(crate) fn sums(&self) -> String {
        let policies: BTreeMap<_, _> = self
            .policies
            .iter()
            .filter(|(_, sums)| sums.hold_anything())
            .collect();
        let resting: BTreeMap<_, _> = self.resting.iter().collect();
        let vouched: BTreeMap<_, _> = self.vouched.iter().collect();
        let undecided: BTreeMap<_, _> = self.undecided.iter().collect();
        format!(
            "{policies:#?} {:#?} {:#?} {resting:#?} {:#?} {vouched:#?} {undecided:#?}",
            self.namespaces, self.uncovered, self.exceptions
        )
    }
}

impl Tally {
    /// What the workload adds may be another share.
    pub(crate) fn workload_changed(&mut self, key: &WorkloadKey) {
        if !self.stale_workloads.contains(key) {
            self.stale_workloads.insert(key.clone());
        }
    }

    /// What the subject adds may be something else.
    pub(crate) fn subject_changed(&mut self, key: &SubjectKey) {
        if !self.stale_subjects.contains(key) {
            self.stale_subjects.insert(key.clone());
        }
    }

    /// Everything that is to be computed again.
    pub(crate) fn take_stale(&mut self) -> (HashSet<WorkloadKey>, HashSet<SubjectKey>) {
        (
            std::mem::take(&mut self.stale_workloads),
            std::mem::take(&mut self.stale_subjects),
        )
    }

    pub(crate) fn is_stale(&self) -> bool {
        !self.stale_workloads.is_empty() || !self.stale_subjects.is_empty()
    }

    /// A workload of which the share may be another one by now although nothing changed.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<WorkloadKey> {
        let (_, key) = self.later.pop_due(now)?;
        if let Some(share) = self.workloads.get_mut(&key) {
            share.until = None;
        }
        Some(key)
    }

    /// The next time at which there is one.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.later.next()
    }

    /// This is to be told although no sum may have changed.
    pub(crate) fn touch(&mut self, target: Target) {
        self.touched.targets.insert(target);
    }

    pub(crate) fn touch_keys(&mut self) {
        self.touched.keys = true;
    }

    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn policy(&self, name: &str) -> Option<&PolicySums> {
        self.policies.get(name)
    }

    pub(crate) fn exception(&self, name: &str) -> Option<&ExceptionSums> {
        self.exceptions.get(name)
    }

    pub(crate) fn resting_on(&self, signer: &Fingerprint) -> Option<&RestingSums> {
        self.resting.get(signer)
    }

    pub(crate) fn vouched_by(&self, ring: &str, verifier: VerifierId) -> usize {
        self.vouched.get(&(ring.into(), verifier)).map_or(0, Counted::len)
    }

    pub(crate) fn undecided(&self, ring: &str) -> usize {
        self.undecided.get(ring).map_or(0, Counted::len)
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&(Arc<str>, Arc<str>), &NamespaceSums)> {
        self.namespaces.iter()
    }

    pub(crate) fn uncovered(&self) -> &Counted<Arc<str>> {
        &self.uncovered
    }

    /// Takes in what a workload adds now, in place of what it added before.
    pub(crate) fn set_workload(&mut self, key: WorkloadKey, share: Share) {
        let before = self.workloads.get(&key);
        if before.is_some_and(|before| **before == share) {
            return;
        }
        let until = before.and_then(|before| before.until);
        self.later.set(&key, until, share.until);
        if let Some(before) = self.workloads.remove(&key) {
            self.add_share(&key, &before, Sign::Off);
        }
        self.add_share(&key, &share, Sign::On);
        if share != Share::default() {
            self.workloads.insert(key, Box::new(share));
        }
    }

    /// Takes in what a subject adds now, in place of what it added before.
    pub(crate) fn set_subject(&mut self, key: SubjectKey, vouching: Vouching) {
        if self.subjects.get(&key) == Some(&vouching) {
            return;
        }
        if let Some(before) = self.subjects.remove(&key) {
            self.add_vouching(key.digest.clone(), &before, Sign::Off);
        }
        self.add_vouching(key.digest.clone(), &vouching, Sign::On);
        if !vouching.is_nothing() {
            self.subjects.insert(key, vouching);
        }
    }

    fn add_share(&mut self, key: &WorkloadKey, share: &Share, sign: Sign) {
        for policy in &share.policies {
            self.add_policy(&key.namespace, policy, sign);
        }
        if share.runs && share.policies.is_empty() {
            self.uncovered.change(key.namespace.clone(), sign);
        }
        for (policy, differences) in &share.differences {
            let sums = self.policies.entry(policy.clone()).or_default();
            for result in &differences.failing {
                sign.change_set(&mut sums.newly_failing, result.clone());
            }
            for result in &differences.passing {
                sign.change_set(&mut sums.newly_passing, result.clone());
            }
            for result in &differences.newly_unknown {
                sign.change_set(&mut sums.newly_unknown, result.clone());
            }
            sign.change(&mut sums.untold, differences.unknown);
            self.touched.targets.insert(Target::Policy(policy.clone()));
        }
        for resting in &share.resting {
            self.resting
                .entry(resting.signer)
                .or_default()
                .change(key, resting, sign);
            self.touched.keys = true;
        }
        self.add_excepted(share, sign);
        self.drop_empty(key, share);
    }

    fn add_policy(&mut self, namespace: &Arc<str>, share: &PolicyShare, sign: Sign) {
        let sums = self.policies.entry(share.policy.clone()).or_default();
        sums.worst.change(share.worst, sign);
        if share.trusted && share.worst == Verdict::Compliant {
            sign.change(&mut sums.trusted, 1);
        }
        for image in &share.images {
            sums.images.change(image.clone(), sign);
        }
        for violation in &share.violations {
            sign.change_set(&mut sums.violations, violation.clone());
        }
        if let Some(time) = share.next_deadline {
            sums.deadlines.change(time, sign);
        }
        let place = (namespace.clone(), share.policy.clone());
        let sums = self.namespaces.entry(place).or_default();
        sums.worst.change(share.worst, sign);
        sign.change(&mut sums.stale, usize::from(share.stale));
        sign.change(&mut sums.warned, usize::from(share.warned));
        if let Some(time) = share.falls {
            sums.falls.change(time, sign);
        }
        for exception in &share.exceptions {
            sums.exceptions.change(exception.clone(), sign);
        }
        self.touched.targets.insert(Target::Policy(share.policy.clone()));
    }

    fn add_excepted(&mut self, share: &Share, sign: Sign) {
        let names: BTreeSet<&Arc<str>> = share.excepted.iter().map(|(name, _)| name).collect();
        for name in names {
            let sums = self.exceptions.entry(name.clone()).or_default();
            sign.change(&mut sums.workloads, 1);
            self.touched.targets.insert(Target::Exception(name.clone()));
        }
        for (name, violation) in &share.excepted {
            let sums = self.exceptions.entry(name.clone()).or_default();
            let image = match violation.digest.is_empty() {
                true => &violation.image,
                false => &violation.digest,
            };
            sums.images.change(image.clone(), sign);
            sign.change_set(&mut sums.violations, violation.clone());
        }
    }

    /// Nothing is held of a policy, a namespace or a signer of which nothing is left.
    fn drop_empty(&mut self, key: &WorkloadKey, share: &Share) {
        for policy in &share.policies {
            let place = (key.namespace.clone(), policy.policy.clone());
            if self
                .namespaces
                .get(&place)
                .is_some_and(|sums| sums.worst.all() == 0)
            {
                self.namespaces.remove(&place);
            }
        }
        for resting in &share.resting {
            let is_empty = |sums: &RestingSums| sums.workloads.is_empty() && sums.start_only == 0;
            if self.resting.get(&resting.signer).is_some_and(is_empty) {
                self.resting.remove(&resting.signer);
            }
        }
        for (name, _) in &share.excepted {
            if self.exceptions.get(name).is_some_and(|sums| sums.workloads == 0) {
                self.exceptions.remove(name);
            }
        }
    }

    fn add_vouching(&mut self, digest: Digest, vouching: &Vouching, sign: Sign) {
        for vouched in &vouching.vouched {
            change_counted(&mut self.vouched, vouched, digest.clone(), sign);
        }
        for ring in &vouching.undecided {
            change_counted(&mut self.undecided, ring, digest.clone(), sign);
        }
        self.touched.keys |= !vouching.is_nothing();
    }
}

fn change_counted<K: Eq + Hash + Clone>(
    sums: &mut HashMap<K, Counted<Digest>>,
    key: &K,
    digest: Digest,
    sign: Sign,
) {
    let counted = sums.entry(key.clone()).or_default();
    counted.change(digest, sign);
    if counted.len() == 0 {
        sums.remove(key);
    }
}

impl RestingSums {
    fn change(&mut self, key: &WorkloadKey, resting: &Resting, sign: Sign) {
        sign.change(&mut self.pods, resting.pods);
        for image in &resting.images {
            self.images.change(image.clone(), sign);
        }
        match (resting.images.iter().min(), sign) {
            (None, _) => sign.change(&mut self.start_only, usize::from(resting.starts)),
            (Some(first), Sign::On) => drop(self.workloads.insert(key.clone(), first.clone())),
            (Some(_), Sign::Off) => drop(self.workloads.remove(key)),
        }
    }
}
