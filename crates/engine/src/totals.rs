//! The totals of policies and keys, and the figures for metrics, counted from the current answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{PolicyViolation, Reason, SoleTrust, Verdict, WorkloadSample};
use jiff::{SignedDuration, Timestamp};

use crate::core::Engine;
use crate::fact::WorkloadKey;
use crate::judge::badness;
use crate::policies::PolicyObject;
use crate::render::started_before;
use crate::report::{
    KeyIdentity, KeyReport, PolicyAnswer, PolicyProblem, PolicyReport, RevocationReport, Totals, Within,
};

/// How many samples a status holds.
const SAMPLE: usize = 20;

impl Engine {
    /// The totals of a policy; None where it is gone.
    pub(crate) fn policy_report(&self, name: &str, now: Timestamp) -> Option<PolicyReport> {
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
            unknown: 0,
            violations: Vec::new(),
            violations_total: 0,
            next_deadline: None,
        };
        let mut images = BTreeSet::new();
        let mut violations = BTreeSet::new();
        for (key, _) in self.index.workloads() {
            if !policy.covers_namespace(&key.namespace, self.index.labels(&key.namespace)) {
                continue;
            }
            let answers = self.answers_of(key, policy, now);
            let worst = answers
                .iter()
                .map(|(_, _, answer)| answer.verdict)
                .max_by_key(|verdict| badness(*verdict));
            match worst {
                None => continue,
                Some(Verdict::Compliant) => {
                    let passed = answers
                        .iter()
                        .any(|(_, _, answer)| answer.reason == Reason::Trusted);
                    report.compliant += 1;
                    report.trusted += i64::from(passed);
                }
                Some(Verdict::Violating) => report.violating += 1,
                Some(_) => report.unknown += 1,
            }
            report.workloads += 1;
            for (image, digest, answer) in answers {
                report.next_deadline = [report.next_deadline, answer.valid_until]
                    .into_iter()
                    .flatten()
                    .min();
                if answer.verdict == Verdict::Violating {
                    violations.insert(PolicyViolation {
                        namespace: key.namespace.to_string(),
                        workload: display(key),
                        image: image.to_string(),
                        digest: digest.clone(),
                        reason: answer.reason,
                    });
                }
                images.insert((image, digest));
            }
        }
        let digests: BTreeSet<&str> = images
            .iter()
            .map(|(image, digest)| if digest.is_empty() { &**image } else { digest })
            .collect();
        report.images = count(digests.len());
        report.violations_total = count(violations.len());
        report.violations = violations.into_iter().take(SAMPLE).collect();
        Some(report)
    }

    /// The totals of a key; None where it is gone.
    pub(crate) fn key_report(&self, name: &str) -> Option<KeyReport> {
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
        };
        let mut digests = BTreeSet::new();
        let mut resting = BTreeSet::new();
        let mut workloads: BTreeMap<&WorkloadKey, (BTreeSet<Arc<str>>, String)> = BTreeMap::new();
        let mut undecided = BTreeSet::new();
        let deciding = self
            .subjects
            .values()
            .filter(|subject| self.decides_for_somebody(subject));
        for subject in deciding {
            let trusted = subject.covering.iter().any(|policy| {
                self.policies
                    .get(policy)
                    .is_some_and(|policy| ring.is_some_and(|ring| policy.trusts(ring)))
            });
            let unsettled = |judged: &crate::subject::Judged| {
                judged.judgement.verdict == Verdict::Unknown || judged.stale_since.is_some()
            };
            if trusted && (subject.is_undecided() || subject.judgements.values().any(unsettled)) {
                undecided.insert(subject.key.digest);
            }
            let Ok(verifier) = &object.verifier else {
                continue;
            };
            let (fingerprint, id) = (verifier.fingerprint(), verifier.id());
            let vouches =
                |item: &policy::ItemFacts| matches!(item.outcome(&id), Some(verify::Outcome::Verified(_)));
            if trusted && subject.knowledge().flat_map(|known| &known.items).any(vouches) {
                digests.insert(subject.key.digest);
            }
            let policies: BTreeSet<&Arc<str>> = subject
                .judgements
                .iter()
                .filter(|(_, judged)| judged.sole_trust.contains(&fingerprint))
                .map(|(key, _)| &key.policy)
                .collect();
            for user in subject
                .users
                .keys()
                .filter(|user| self.covered_by_any(user, &policies))
            {
                resting.insert(subject.key.digest);
                let digest = subject.key.digest.to_string();
                let entry = workloads
                    .entry(user)
                    .or_insert_with(|| (BTreeSet::new(), digest.clone()));
                // The same one whatever order the images are held in.
                entry.1 = std::mem::take(&mut entry.1).min(digest);
                entry.0.extend(self.index.pods_running(user, &subject.key));
            }
        }
        report.images = count(digests.len());
        report.undecided = count(undecided.len());
        report.sole_trust = SoleTrust {
            images: count(resting.len()),
            workloads: count(workloads.len()),
            pods: count(workloads.values().map(|(pods, _)| pods.len()).sum()),
            sample: workloads
                .into_iter()
                .take(SAMPLE)
                .map(|(key, (_, digest))| WorkloadSample {
                    namespace: key.namespace.to_string(),
                    workload: display(key),
                    digest,
                })
                .collect(),
        };
        Some(report)
    }

    /// What is said of a revocation; None where it is gone.
    pub(crate) fn revocation_report(&self, name: &str) -> Option<RevocationReport> {
        self.keys.revocation_report(name)
    }

    /// The figures for metrics.
    pub(crate) fn totals(&self, now: Timestamp) -> Totals {
        let mut totals = Totals {
            pods: count(self.index.pod_count()),
            subjects: count(self.subjects.len()),
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
        for (key, _) in self.index.workloads() {
            let mut covered = false;
            for policy in self.policies_for(key) {
                let answers = self.answers_of(key, policy, now);
                let Some(worst) = answers
                    .iter()
                    .map(|(_, _, answer)| answer.verdict)
                    .max_by_key(|verdict| badness(*verdict))
                else {
                    continue;
                };
                covered = true;
                let labels = (key.namespace.clone(), policy.name.clone(), policy.mode(), worst);
                *totals.workloads.entry(labels).or_default() += 1;
                for within in falls_within(&answers, now) {
                    let labels = (key.namespace.clone(), policy.name.clone(), policy.mode(), within);
                    *totals.falling.entry(labels).or_default() += 1;
                }
                if answers.iter().any(|(_, _, answer)| answer.stale_since.is_some()) {
                    *totals
                        .stale
                        .entry((key.namespace.clone(), policy.name.clone()))
                        .or_default() += 1;
                }
            }
            if !covered {
                *totals.uncovered.entry(key.namespace.clone()).or_default() += 1;
            }
        }
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
        totals
    }

    fn answers_of(
        &self,
        key: &WorkloadKey,
        policy: &PolicyObject,
        now: Timestamp,
    ) -> Vec<(Arc<str>, String, PolicyAnswer)> {
        let images = self.index.images(key, started_before(now));
        let mut answers = Vec::new();
        for of in images.keys() {
            let image = &of.image;
            let digest = image
                .subject()
                .map(|subject| subject.digest.to_string())
                .unwrap_or_default();
            match self.answers(key, &[policy], of, now) {
                Some(found) => answers.extend(
                    found
                        .into_iter()
                        .map(|answer| (image.written.clone(), digest.clone(), answer)),
                ),
                None => answers.push((image.written.clone(), digest, pending(policy))),
            }
        }
        answers
    }

    fn covered_by_any(&self, user: &WorkloadKey, policies: &BTreeSet<&Arc<str>>) -> bool {
        let labels = self.index.labels(&user.namespace);
        policies
            .iter()
            .filter_map(|name| self.policies.get(*name))
            .any(|policy| policy.covers_namespace(&user.namespace, labels))
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

/// The spans within which one of the answers gets worse by itself.
fn falls_within(answers: &[(Arc<str>, String, PolicyAnswer)], now: Timestamp) -> Vec<Within> {
    let falling = || {
        answers
            .iter()
            .map(|(_, _, answer)| answer)
            .filter(|answer| answer.falls())
    };
    let first = falling().filter_map(|answer| answer.valid_until).min();
    let within = |days: i64| {
        let end = now.checked_add(SignedDuration::from_hours(24 * days));
        first.is_some_and(|first| end.is_ok_and(|end| first <= end))
    };
    [
        (Within::WarnBefore, falling().any(|answer| answer.warned)),
        (Within::Week, within(7)),
        (Within::Month, within(30)),
    ]
    .into_iter()
    .filter_map(|(span, falls)| falls.then_some(span))
    .collect()
}

/// An image whose first look-up is under way.
fn pending(policy: &PolicyObject) -> PolicyAnswer {
    PolicyAnswer {
        policy: policy.name.clone(),
        generation: policy.generation,
        mode: policy.mode(),
        verdict: Verdict::Unknown,
        requirement: None,
        reason: Reason::Pending,
        message: Arc::from(""),
        valid_until: None,
        becomes: None,
        warned: false,
        stale_since: None,
        evidence: Vec::new(),
        signers: Vec::new(),
    }
}

fn display(key: &WorkloadKey) -> String {
    format!("{}/{}", key.kind, key.name)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
