//! What would change if keys, policies, revocations and exceptions were others: judged with the very state and by the very
//! functions that judge what is, and taken back before anything else happens. Nothing is requested or written.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{Mode, Reason, Verdict};
use jiff::Timestamp;

use crate::core::Engine;
use crate::exceptions::Exceptions;
use crate::fact::{Fact, WorkloadKey};
use crate::index::ImageUse;
use crate::keys::KeySet;
use crate::policies::PolicyObject;
use crate::render::{covers, started_before};
use crate::report::{PreviewReport, PreviewResult, StartsOnly};
use crate::small::{SmallMap, SmallSet};
use crate::subject::{Judged, JudgementKey, Subject, SubjectKey};
use crate::tags::Named;

/// The policies that a change concerns, by name.
pub(crate) type Concerned = BTreeSet<Arc<str>>;

/// One result: a workload, an image of it, a policy.
pub(crate) type Place = (WorkloadKey, Arc<ImageUse>, Arc<str>);

/// What a policy says of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    failing: Failing,
    verdict: Verdict,
    reason: Reason,
}

/// How much it matters that something violates a policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failing {
    No,
    InDryRun,
    Really,
}

impl Standing {
    fn of(mode: Mode, verdict: Verdict, reason: Reason) -> Self {
        let failing = match (verdict, mode) {
            (Verdict::Violating, Mode::DryRun) => Failing::InDryRun,
            (Verdict::Violating, _) => Failing::Really,
            _ => Failing::No,
        };
        Standing {
            failing,
            verdict,
            reason,
        }
    }

    fn of_nothing() -> Self {
        Standing::of(Mode::DryRun, Verdict::NotCovered, Reason::NotCovered)
    }
}

/// What is supposed, and which policies say something else then.
pub(crate) struct Supposed {
    keys: KeySet,
    exceptions: Exceptions,
    /// None for one that would be gone.
    policies: BTreeMap<Arc<str>, Option<PolicyObject>>,
    pub(crate) concerned: Concerned,
}

/// What is put aside while something else is supposed.
struct Aside {
    keys: KeySet,
    exceptions: Exceptions,
    policies: BTreeMap<Arc<str>, Option<PolicyObject>>,
    subjects: HashMap<SubjectKey, Before>,
}

/// What was held of a subject.
struct Before {
    covering: SmallSet<Arc<str>>,
    judgements: SmallMap<JudgementKey, Judged>,
    /// How many keys each item of evidence was asked about.
    asked: Vec<usize>,
}

impl Engine {
    /// What would change; None before everything that exists is told.
    pub(crate) fn preview(&mut self, changes: Vec<Fact>, now: Timestamp) -> Option<PreviewReport> {
        if !self.synced {
            return None;
        }
        let mut problems = Vec::new();
        let supposed = self.supposed(changes, &mut problems);
        let concerned = supposed.concerned.clone();
        let before = self.standings(&concerned, now);
        let starts_before = self.standings_of_starts(&concerned, &before, now);
        let aside = self.suppose(supposed, now);
        let after = self.standings(&concerned, now);
        let starts_after = self.standings_of_starts(&concerned, &after, now);
        self.take_back(aside);
        let running = differences(&before, &after);
        let starting = differences(&starts_before, &starts_after);
        Some(PreviewReport {
            problems,
            start_only: StartsOnly {
                newly_failing: besides(starting.newly_failing, &running.newly_failing),
                newly_unknown: besides(starting.newly_unknown, &running.newly_unknown),
            },
            ..running
        })
    }

    /// Everything as it would be. A policy that could not
    /// be evaluated would leave its last version in force, so it changes nothing, and is a problem.
    pub(crate) fn supposed(&self, changes: Vec<Fact>, problems: &mut Vec<String>) -> Supposed {
        let (mut keys, mut exceptions) = (self.keys.clone(), self.exceptions.clone());
        let (mut rings, mut excepted) = (BTreeSet::new(), Concerned::new());
        let mut policies: BTreeMap<Arc<str>, Option<PolicyObject>> = BTreeMap::new();
        for change in changes {
            match change {
                Fact::Key(facts) => {
                    let name = facts.name.clone();
                    rings.extend(keys.insert(*facts));
                    let read = keys.object(&name).map(|object| &object.verifier);
                    problems.extend(
                        read.and_then(|read| read.as_ref().err())
                            .map(|why| format!("SigningKey {name}: {why}")),
                    );
                }
                Fact::KeyGone(name) => rings.extend(keys.remove(&name)),
                Fact::Revocation(facts) => rings.extend(keys.revoke(*facts)),
                Fact::RevocationGone(name) => rings.extend(keys.forget_revocation(&name)),
                Fact::Exception(facts) => {
                    let name = facts.name.clone();
                    let before = exceptions.insert(*facts);
                    let after = exceptions.get(&name).map(|object| &object.read);
                    problems.extend(after.and_then(|read| read.as_ref().err()).cloned());
                    let after = after.and_then(|read| read.as_ref().ok());
                    excepted.extend(before.iter().chain(after).flat_map(|one| one.policies().clone()));
                }
                Fact::ExceptionGone(name) => {
                    let before = exceptions.remove(&name);
                    excepted.extend(before.iter().flat_map(|one| one.policies().clone()));
                }
                Fact::Policy(facts) => {
                    let policy = PolicyObject::update(None, *facts);
                    match &policy.problem {
                        Some(problem) => problems.push(problem.clone()),
                        None => drop(policies.insert(policy.name.clone(), Some(policy))),
                    }
                }
                Fact::PolicyGone(name) => drop(policies.insert(name, None)),
                _ => problems
                    .push("only keys, revocations, policies and exceptions can be previewed".to_owned()),
            }
        }
        let trusts = |policy: &&PolicyObject| rings.iter().any(|ring| policy.trusts(ring));
        let mut concerned: Concerned = policies.keys().cloned().chain(excepted).collect();
        concerned.extend(
            self.policies
                .values()
                .filter(trusts)
                .map(|policy| policy.name.clone()),
        );
        Supposed {
            keys,
            exceptions,
            policies,
            concerned,
        }
    }

    /// What these policies say of everything that they cover.
    pub(crate) fn standings(&self, concerned: &Concerned, now: Timestamp) -> BTreeMap<Place, Standing> {
        let mut found: BTreeMap<Place, Standing> = BTreeMap::new();
        for workload in self.index.workloads() {
            let mut policies = self.policies_for(workload);
            policies.retain(|policy| concerned.contains(&policy.name));
            if policies.is_empty() {
                continue;
            }
            for of in self.index.images(workload, started_before(now)).into_keys() {
                let image = &of.image;
                // Pods may bring different credentials: the worse counts.
                let mut note = |policy: Arc<str>, standing: Standing| {
                    let place = (workload.clone(), image.clone(), policy);
                    match found.get(&place) {
                        Some(other) if other.failing >= standing.failing => {}
                        _ => drop(found.insert(place, standing)),
                    }
                };
                match self.answers(workload, &policies, &of, now) {
                    Some(answers) => answers.into_iter().for_each(|answer| {
                        let standing = Standing::of(answer.mode, answer.verdict, answer.reason);
                        note(answer.policy, standing);
                    }),
                    // Nobody looked it up yet.
                    None => policies
                        .iter()
                        .filter(|policy| covers(policy, image))
                        .for_each(|policy| {
                            let standing = Standing::of(policy.mode(), Verdict::Unknown, Reason::Pending);
                            note(policy.name.clone(), standing);
                        }),
                }
            }
        }
        found
    }

    /// What these policies say of everything that templates would start, and that does not run in the same workload.
    fn standings_of_starts(
        &self,
        concerned: &Concerned,
        running: &BTreeMap<Place, Standing>,
        now: Timestamp,
    ) -> BTreeMap<Place, Standing> {
        let mut found = BTreeMap::new();
        for workload in self.templates.workloads() {
            let mut policies = self.policies_for(workload);
            policies.retain(|policy| concerned.contains(&policy.name));
            let Some(row) = self.templates.get(workload).filter(|_| !policies.is_empty()) else {
                continue;
            };
            // Most workloads run what they would start, and nothing is to be judged for them.
            let runs = |image: &Arc<ImageUse>| {
                let mut covering = policies.iter().filter(|policy| covers(policy, image));
                match self.as_it_would_run(row, image) {
                    Named::As(of) => covering.all(|policy| {
                        let place = (workload.clone(), of.image.clone(), policy.name.clone());
                        running.contains_key(&place)
                    }),
                    Named::NotYet | Named::Unresolved(_) => covering.next().is_none(),
                }
            };
            if row.images.iter().all(runs) {
                continue;
            }
            let mut note = |image: &Arc<ImageUse>, policy: Arc<str>, standing: Standing| {
                let place = (workload.clone(), image.clone(), policy);
                if !running.contains_key(&place) {
                    found.insert(place, standing);
                }
            };
            match self.starts(workload, row, now) {
                Some(starts) => {
                    for start in starts {
                        let of_concerned = start.answers.iter();
                        for answer in of_concerned.filter(|answer| concerned.contains(&answer.policy)) {
                            let standing = Standing::of(answer.mode, answer.verdict, answer.reason);
                            note(&start.of.image, answer.policy.clone(), standing);
                        }
                    }
                }
                // Nobody looked it up yet.
                None => row.images.iter().for_each(|image| {
                    for policy in policies.iter().filter(|policy| covers(policy, image)) {
                        let standing = Standing::of(policy.mode(), Verdict::Unknown, Reason::Pending);
                        note(image, policy.name.clone(), standing);
                    }
                }),
            }
        }
        found
    }

    /// Puts it in force, and judges by it what it concerns.
    fn suppose(&mut self, supposed: Supposed, now: Timestamp) -> Aside {
        let mut aside = Aside {
            keys: std::mem::replace(&mut self.keys, supposed.keys),
            exceptions: std::mem::replace(&mut self.exceptions, supposed.exceptions),
            policies: BTreeMap::new(),
            subjects: HashMap::new(),
        };
        for (name, policy) in supposed.policies {
            let before = match policy {
                Some(policy) => self.policies.insert(name.clone(), policy),
                None => self.policies.remove(&name),
            };
            aside.policies.insert(name, before);
        }
        let covered: Vec<(SubjectKey, Concerned)> = self
            .subjects
            .values()
            .map(|subject| (subject.key.clone(), self.covering(subject, &supposed.concerned)))
            .filter(|(_, covering)| !covering.is_empty())
            .collect();
        for (key, covering) in covered {
            let Some(subject) = self.subjects.get_mut(&key) else {
                continue;
            };
            let asked = subject.items_mut().map(|(_, item)| item.outcomes.len()).collect();
            let covering = std::mem::replace(&mut subject.covering, covering.into_iter().collect());
            let verifiers = self.trusted_verifiers(&key);
            self.verify_by(&key, &verifiers);
            let judgements = self.judgements(&key, now);
            if let Some(subject) = self.subjects.get_mut(&key) {
                let before = Before {
                    covering,
                    judgements: std::mem::replace(&mut subject.judgements, judgements),
                    asked,
                };
                aside.subjects.insert(key, before);
            }
        }
        aside
    }

    /// Those of the policies that cover a subject for any of its users.
    fn covering(&self, subject: &Subject, concerned: &Concerned) -> Concerned {
        let covers = |policy: &&PolicyObject| {
            let covers = |namespace: &str| policy.covers_namespace(namespace, self.index.labels(namespace));
            policy.covers_image(&subject.key.repository)
                && subject.workloads().any(|user| covers(&user.namespace))
        };
        let policies = concerned.iter().filter_map(|name| self.policies.get(name));
        policies
            .filter(covers)
            .map(|policy| policy.name.clone())
            .collect()
    }

    fn take_back(&mut self, aside: Aside) {
        self.keys = aside.keys;
        self.exceptions = aside.exceptions;
        for (name, policy) in aside.policies {
            match policy {
                Some(policy) => drop(self.policies.insert(name, policy)),
                None => drop(self.policies.remove(&name)),
            }
        }
        for (key, before) in aside.subjects {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.covering = before.covering;
                subject.judgements = before.judgements;
                // What the supposed keys made of the evidence came last.
                for ((_, item), asked) in subject.items_mut().zip(before.asked) {
                    item.outcomes.truncate(asked);
                }
            }
        }
    }
}

pub(crate) fn differences(
    before: &BTreeMap<Place, Standing>,
    after: &BTreeMap<Place, Standing>,
) -> PreviewReport {
    let mut report = PreviewReport::default();
    let places: BTreeSet<&Place> = before.keys().chain(after.keys()).collect();
    for place in places {
        let standing = |standings: &BTreeMap<Place, Standing>| {
            standings.get(place).copied().unwrap_or_else(Standing::of_nothing)
        };
        let (was, is) = (standing(before), standing(after));
        let is_unknown = is.verdict == Verdict::Unknown;
        report.unknown += i64::from(is_unknown);
        // What cannot be told passes nothing, whatever it was.
        match is.failing.cmp(&was.failing) {
            Ordering::Greater => report.newly_failing.push(result(place, is.reason)),
            _ if is_unknown && was.verdict != Verdict::Unknown => {
                report.newly_unknown.push(result(place, is.reason));
            }
            Ordering::Less => report.newly_passing.push(result(place, is.reason)),
            Ordering::Equal => report.unchanged += 1,
        }
    }
    report
}

/// Without what is said already of what runs: of a workload and a policy.
fn besides(starting: Vec<PreviewResult>, running: &[PreviewResult]) -> Vec<PreviewResult> {
    let place = |result: &PreviewResult| {
        (
            result.namespace.clone(),
            result.workload.clone(),
            result.policy.clone(),
        )
    };
    let said: BTreeSet<_> = running.iter().map(place).collect();
    let is_new = |result: &PreviewResult| !said.contains(&place(result));
    starting.into_iter().filter(is_new).collect()
}

fn result((workload, image, policy): &Place, reason: Reason) -> PreviewResult {
    PreviewResult {
        namespace: workload.namespace.to_string(),
        workload: format!("{}/{}", workload.kind, workload.name),
        image: image.written.to_string(),
        digest: image.digest_text(),
        policy: policy.to_string(),
        reason,
    }
}
