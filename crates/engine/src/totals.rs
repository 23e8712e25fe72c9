//! The totals of policies and keys, and the figures for metrics, read from the sums that [`crate::tally`] keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{SoleTrust, Verdict, WorkloadSample};
use jiff::{SignedDuration, Timestamp};

use crate::core::{Engine, FIRST_TOTALS_DELAY};
use crate::policies::PolicyObject;
use crate::queue::Urgency;
use crate::report::{
    KeyIdentity, KeyReport, PolicyProblem, PolicyReport, RevocationReport, Target, Totals, Within,
};
use crate::share::display;
use crate::subject::SubjectKey;
use crate::tally::{NamespaceSums, RestingSums};

/// How many samples a status holds.
const SAMPLE: usize = 20;
/// Totals are gathered for so long before they are handed over.
const TOTALS_DELAY: SignedDuration = SignedDuration::from_millis(500);

impl Engine {
    /// Counts what changed, and what changes by now although nothing did.
    pub(crate) fn count_changes(&mut self, now: Timestamp) {
        if !self.synced {
            return;
        }
        while let Some(workload) = self.tally.pop_due(now) {
            self.workload_changed(workload, Urgency::Changed, now);
        }
        if !self.tally.is_stale() {
            return;
        }
        let (workloads, subjects) = self.tally.take_stale();
        for workload in workloads {
            let share = self.share_of(&workload, now);
            self.tally.set_workload(workload, share);
        }
        for subject in subjects {
            let vouching = self.vouching_of(&subject);
            self.tally.set_subject(subject, vouching);
        }
    }

    /// Hands over the totals that changed, gathered for a while.
    pub(crate) fn wake_totals(&mut self, now: Timestamp) {
        let is_due = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
        if is_due(self.tally.next_due()) {
            self.count_changes(now);
        }
        if !is_due(self.totals_due) {
            return;
        }
        self.count_changes(now);
        self.totals_due = None;
        let touched = self.tally.take_touched();
        for target in touched.targets {
            self.queue.push(target, Urgency::Totals);
        }
        if touched.keys {
            for key in self.keys.names() {
                self.queue.push(Target::Key(key.clone()), Urgency::Totals);
            }
        }
    }

    /// What the subject adds to the totals of keys may differ.
    pub(crate) fn vouching_changed(&mut self, key: &SubjectKey, now: Timestamp) {
        self.tally.subject_changed(key);
        // Whether somebody's image is judged by it depends on how it is looked up for others.
        if key.keychain.is_some() {
            self.tally.subject_changed(&key.as_the_operator());
        } else if let Some(subject) = self.subjects.get(key) {
            for keychain in &subject.tenants {
                self.tally.subject_changed(&key.with(keychain.clone()));
            }
        }
        self.gather_totals(now);
    }

    /// What is said of a policy may differ, whatever its sums are.
    pub(crate) fn totals_changed(&mut self, policy: &Arc<str>, now: Timestamp) {
        self.tally.touch(Target::Policy(policy.clone()));
        self.gather_totals(now);
    }

    /// What is said of keys may differ, whatever their sums are.
    pub(crate) fn all_keys_changed(&mut self, now: Timestamp) {
        self.tally.touch_keys();
        self.gather_totals(now);
    }

    /// Totals are handed over after a while, once for all that changes until then.
    pub(crate) fn gather_totals(&mut self, now: Timestamp) {
        if self.totals_due.is_none() && self.synced {
            let first = self
                .began
                .and_then(|began| began.checked_add(FIRST_TOTALS_DELAY).ok());
            self.totals_due = Some(first.map_or(gathered(now), |first| first.max(gathered(now))));
        }
    }

    /// The totals of a policy; None where it is gone.
    pub(crate) fn policy_report(&mut self, name: &str, now: Timestamp) -> Option<PolicyReport> {
        self.count_changes(now);
        let policy = self.policies.get(name)?;
        let mut report = PolicyReport {
            name: policy.name.clone(),
            generation: policy.generation,
            in_force: policy
                .in_force
                .as_ref()
                .map(|version| (version.generation, version.spec.clone())),
            problem: self.problem(policy),
            mode: policy.mode(),
            images: 0,
            workloads: 0,
            compliant: 0,
            trusted: 0,
            violating: 0,
            excepted: 0,
            unknown: 0,
            violations: Vec::new(),
            violations_total: 0,
            next_deadline: None,
            pending_status_writes: 0,
            comparison: self.comparison(policy),
        };
        if let Some(sums) = self.tally.policy(name) {
            report.images = count(sums.images.len());
            report.workloads = count(sums.worst.all());
            report.compliant = count(sums.worst.compliant);
            report.trusted = count(sums.trusted);
            report.violating = count(sums.worst.violating);
            report.excepted = count(sums.worst.excepted);
            report.unknown = count(sums.worst.unknown);
            report.violations_total = count(sums.violations.len());
            let sample = sums.violations.iter().take(SAMPLE);
            report.violations = sample.map(|violation| (**violation).clone()).collect();
            report.next_deadline = sums.deadlines.first().copied();
        }
        Some(report)
    }

    /// The totals of a key; None where it is gone.
    pub(crate) fn key_report(&mut self, name: &str, now: Timestamp) -> Option<KeyReport> {
        self.count_changes(now);
        let object = self.keys.object(name)?;
        let spec = object.facts.spec.as_ref().ok();
        let ring = spec.map(|spec| spec.key_ring.as_str());
        let mut report = KeyReport {
            name: object.facts.name.clone(),
            generation: object.facts.generation,
            identity: object
                .verifier
                .as_ref()
                .map_err(Clone::clone)
                .map(|verifier| KeyIdentity {
                    fingerprint: verifier.fingerprint().to_string(),
                    algorithm: verifier.algorithm(),
                }),
            effective_stage: self.keys.effective_stage(name),
            transparency_log: spec.map(|spec| spec.effective_transparency_log()),
            expires: spec.and_then(|spec| spec.not_after.as_ref()).map(|time| time.0),
            images: 0,
            sole_trust: SoleTrust::default(),
            undecided: 0,
            revocation_missing: self.keys.lacks_revocation(name),
            pending_status_writes: 0,
        };
        let ring = ring.unwrap_or_default();
        report.undecided = count(self.tally.undecided(ring) + self.unanswered_tags(ring));
        if let Ok(verifier) = &object.verifier {
            report.images = count(self.tally.vouched_by(ring, verifier.id()));
            let sums = self.tally.resting_on(&verifier.fingerprint());
            report.sole_trust = sums.map(sole_trust).unwrap_or_default();
        }
        Some(report)
    }

    /// What is said of a revocation; None where it is gone.
    pub(crate) fn revocation_report(&self, name: &str) -> Option<RevocationReport> {
        self.keys.revocation_report(name)
    }

    /// The figures for metrics.
    pub(crate) fn totals(&mut self, now: Timestamp) -> Totals {
        self.count_changes(now);
        let mut totals = Totals {
            pods: count(self.index.pod_count()),
            subjects: count(
                self.subjects
                    .values()
                    .filter(|subject| !subject.users.is_empty())
                    .count(),
            ),
            tags: BTreeMap::from([
                ("named", self.counters.tags_named),
                ("absent", self.counters.tags_absent),
                ("failed", self.counters.tags_unanswered),
            ]),
            tag_drift: self.moved_by_namespace(),
            lookups: BTreeMap::from([
                ("complete", self.counters.complete_lookups),
                ("incomplete", self.counters.incomplete_lookups),
            ]),
            verifications: self.counters.verifications,
            evaluations: self.counters.evaluations,
            pending_updates: count(self.queue.len()),
            oldest_check: self
                .subjects
                .values()
                .filter(|subject| !subject.covering.is_empty() && self.decides_for_somebody(subject))
                .filter_map(|subject| subject.checked)
                .min(),
            ..Totals::default()
        };
        for ((namespace, name), sums) in self.tally.namespaces() {
            if let Some(policy) = self.policies.get(name) {
                totals.add(namespace, policy, sums, now);
            }
        }
        let uncovered = self.tally.uncovered().iter();
        totals.uncovered = uncovered
            .map(|(namespace, workloads)| (namespace.clone(), count(workloads)))
            .collect();
        let policies = self
            .policies
            .values()
            .filter(|policy| self.problem(policy).is_some());
        totals
            .not_ready
            .extend(policies.map(|policy| ("ImagePolicy", policy.name.clone())));
        let keys = self.keys.names().filter(|name| {
            self.keys
                .object(name)
                .is_some_and(|object| object.verifier.is_err())
        });
        totals
            .not_ready
            .extend(keys.map(|name| ("SigningKey", name.clone())));
        let ends = self.keys.names().filter_map(|name| {
            let spec = self.keys.object(name)?.facts.spec.as_ref().ok()?;
            Some((name.clone(), spec.not_after.as_ref()?.0))
        });
        totals.key_ends = ends.collect();
        self.count_exceptions(&mut totals);
        totals
    }

    fn problem(&self, policy: &PolicyObject) -> Option<PolicyProblem> {
        if let Some(problem) = &policy.problem {
            return Some(PolicyProblem::Invalid(problem.clone()));
        }
        let version = policy.in_force.as_ref()?;
        let missing: Vec<&str> = version
            .compiled
            .rings()
            .map(|ring| &**ring)
            .filter(|ring| !self.keys.ring_is_usable(ring))
            .collect();
        (!missing.is_empty()).then(|| {
            PolicyProblem::KeysMissing(format!(
                "no readable SigningKey has spec.keyRing {}: create one, or correct signedBy",
                missing.join(", ")
            ))
        })
    }
}

impl Totals {
    fn add(&mut self, namespace: &Arc<str>, policy: &PolicyObject, sums: &NamespaceSums, now: Timestamp) {
        let (name, mode) = (&policy.name, policy.mode());
        let by_verdict = [
            (Verdict::Compliant, sums.worst.compliant),
            (Verdict::Violating, sums.worst.violating),
            (Verdict::Excepted, sums.worst.excepted),
            (Verdict::Unknown, sums.worst.unknown),
        ];
        for (verdict, workloads) in by_verdict.into_iter().filter(|(_, workloads)| *workloads > 0) {
            let labels = (namespace.clone(), name.clone(), mode, verdict);
            self.workloads.insert(labels, count(workloads));
        }
        let within = |days: i64| {
            let end = now.checked_add(SignedDuration::from_hours(24 * days));
            sums.falls.until(end.unwrap_or(Timestamp::MAX))
        };
        let falling = [
            (Within::WarnBefore, sums.warned),
            (Within::Week, within(7)),
            (Within::Month, within(30)),
        ];
        for (span, workloads) in falling.into_iter().filter(|(_, workloads)| *workloads > 0) {
            let labels = (namespace.clone(), name.clone(), mode, span);
            self.falling.insert(labels, count(workloads));
        }
        for (exception, workloads) in sums.exceptions.iter() {
            let labels = (namespace.clone(), name.clone(), exception.clone());
            self.excepted.insert(labels, count(workloads));
        }
        if sums.stale > 0 {
            self.stale
                .insert((namespace.clone(), name.clone()), count(sums.stale));
        }
    }
}

fn sole_trust(sums: &RestingSums) -> SoleTrust {
    let sample = sums
        .workloads
        .iter()
        .take(SAMPLE)
        .map(|(workload, digest)| WorkloadSample {
            namespace: workload.namespace.to_string(),
            workload: display(workload),
            digest: digest.to_string(),
        });
    SoleTrust {
        images: count(sums.images.len()),
        workloads: count(sums.workloads.len()),
        pods: count(sums.pods),
        start_only: count(sums.start_only),
        sample: sample.collect(),
    }
}

pub(crate) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// When totals that changed now are handed over.
pub(crate) fn gathered(now: Timestamp) -> Timestamp {
    now.checked_add(TOTALS_DELAY).unwrap_or(now)
}
