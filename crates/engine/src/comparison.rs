//! What is different between a policy and the one that it supersedes: counted from the current answers of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Comparison, PolicyViolation, Reason, Verdict};
use jiff::Timestamp;

use crate::core::Engine;
use crate::fact::WorkloadKey;
use crate::policies::PolicyObject;
use crate::render::started_before;
use crate::share::display;
use crate::tally::PolicySums;
use crate::totals::count;

/// How many samples a status holds.
const SAMPLE: usize = 20;

/// What is different in one workload between a policy and the one that it supersedes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Differences {
    /// What violates the policy and not the other one, with the policy's reason.
    pub(crate) failing: BTreeSet<Arc<PolicyViolation>>,
    /// What violates the other one and is known not to violate the policy.
    pub(crate) passing: BTreeSet<Arc<PolicyViolation>>,
    /// What cannot be told by the policy, and can be told by the other one or is none of its.
    pub(crate) newly_unknown: BTreeSet<Arc<PolicyViolation>>,
    /// How many results cannot be told by the policy.
    pub(crate) unknown: usize,
}

/// What the two policies say of one image of a workload: this one's, the other's. None where one does not cover it.
type Both = (Option<(Verdict, Reason)>, Option<(Verdict, Reason)>);

impl Engine {
    /// What is different from the policy that this one supersedes; an error where there is no such policy, None where it
    /// supersedes none.
    pub(crate) fn comparison(&self, policy: &PolicyObject) -> Option<Result<Comparison, Arc<str>>> {
        let name = policy.supersedes()?;
        if !self.policies.contains_key(name) {
            return Some(Err(name.into()));
        }
        let mut comparison = Comparison {
            policy: name.to_owned(),
            ..Comparison::default()
        };
        if let Some(sums) = self.tally.policy(&policy.name) {
            let sample = |found: &BTreeSet<Arc<PolicyViolation>>| {
                found.iter().take(SAMPLE).map(|one| (**one).clone()).collect()
            };
            comparison.newly_failing_total = count(sums.newly_failing.len());
            comparison.newly_passing_total = count(sums.newly_passing.len());
            comparison.newly_unknown_total = count(sums.newly_unknown.len());
            comparison.unknown = count(sums.untold);
            comparison.newly_failing = sample(&sums.newly_failing);
            comparison.newly_passing = sample(&sums.newly_passing);
            comparison.newly_unknown = sample(&sums.newly_unknown);
        }
        Some(Ok(comparison))
    }

    /// What is different in one workload, by policy that supersedes another one.
    pub(crate) fn differences_of(
        &self,
        workload: &WorkloadKey,
        now: Timestamp,
    ) -> BTreeMap<Arc<str>, Differences> {
        let superseding = self.policies.values();
        let pairs = superseding.filter_map(|policy| Some((policy, self.policies.get(policy.supersedes()?)?)));
        let differences = pairs.map(|(policy, other)| {
            let said = self.said_by_both(workload, policy, other, now);
            (policy.name.clone(), differences(workload, said))
        });
        differences
            .filter(|(_, found)| *found != Differences::default())
            .collect()
    }

    /// A policy is another one. Where it supersedes another, or another it, all workloads are compared anew: the one may
    /// cover what the other does not.
    pub(crate) fn recount_differences(&mut self, name: &Arc<str>, now: Timestamp) {
        let supersedes_it = |policy: &&PolicyObject| policy.supersedes() == Some(name);
        let superseding = self.policies.values().filter(supersedes_it);
        let superseding: Vec<_> = superseding.map(|policy| policy.name.clone()).collect();
        let supersedes = self
            .policies
            .get(name)
            .is_some_and(|policy| policy.supersedes().is_some());
        let superseded = self.tally.policy(name).is_some_and(PolicySums::is_compared);
        if superseding.is_empty() && !supersedes && !superseded {
            return;
        }
        for policy in superseding {
            self.totals_changed(&policy, now);
        }
        let workloads = self.index.workloads();
        workloads.for_each(|workload| self.tally.workload_changed(workload));
    }

    /// By image as written and digest. Pods may bring different credentials: the worse counts.
    fn said_by_both(
        &self,
        workload: &WorkloadKey,
        policy: &PolicyObject,
        other: &PolicyObject,
        now: Timestamp,
    ) -> BTreeMap<(Arc<str>, String), Both> {
        let labels = self.index.labels(&workload.namespace);
        let mut policies = vec![policy, other];
        policies.retain(|policy| policy.covers_namespace(&workload.namespace, labels));
        let mut said: BTreeMap<(Arc<str>, String), Both> = BTreeMap::new();
        if policies.is_empty() {
            return said;
        }
        for of in self.index.images(workload, started_before(now)).into_keys() {
            // Where nobody looked it up yet, neither fails.
            let answers = self.answers(workload, &policies, &of, now).unwrap_or_default();
            for answer in answers {
                let place = (of.image.written.clone(), of.image.digest_text());
                let both = said.entry(place).or_default();
                let known = match answer.policy == policy.name {
                    true => &mut both.0,
                    false => &mut both.1,
                };
                let found = (answer.verdict, answer.reason);
                *known = policy::worst(known.iter().copied().chain([found]));
            }
        }
        said
    }
}

fn differences(workload: &WorkloadKey, said: BTreeMap<(Arc<str>, String), Both>) -> Differences {
    let mut differences = Differences::default();
    for (place, (this, other)) in said {
        let (verdict, reason) = this.unwrap_or((Verdict::NotCovered, Reason::NotCovered));
        let other = other.map_or(Verdict::NotCovered, |(verdict, _)| verdict);
        differences.unknown += usize::from(verdict == Verdict::Unknown);
        let list = match (other, verdict) {
            (Verdict::Violating, Verdict::Violating) | (Verdict::Unknown, Verdict::Unknown) => continue,
            (_, Verdict::Violating) => &mut differences.failing,
            // What cannot be told passes nothing.
            (_, Verdict::Unknown) => &mut differences.newly_unknown,
            (Verdict::Violating, _) => &mut differences.passing,
            _ => continue,
        };
        list.insert(Arc::new(result(workload, place, reason)));
    }
    differences
}

fn result(workload: &WorkloadKey, (image, digest): (Arc<str>, String), reason: Reason) -> PolicyViolation {
    PolicyViolation {
        namespace: workload.namespace.to_string(),
        workload: display(workload),
        image: image.to_string(),
        digest,
        reason,
    }
}
