//! What would change if keys, policies and revocations were others: judged with the very state and by the very
//! functions that judge what is, and taken back before anything else happens. Nothing is requested or written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{Mode, Reason, Verdict};
use jiff::Timestamp;

use crate::core::Engine;
use crate::fact::{Fact, WorkloadKey};
use crate::index::{ImageUse, RunningDigest};
use crate::keys::KeySet;
use crate::policies::PolicyObject;
use crate::render::started_before;
use crate::report::{PreviewReport, PreviewResult};
use crate::subject::{Judged, JudgementKey, Subject, SubjectKey};

/// The policies that a change concerns, by name.
type Concerned = BTreeSet<Arc<str>>;

/// One result: a workload, an image of it, a policy.
type Place = (WorkloadKey, Arc<ImageUse>, Arc<str>);

/// What a policy says of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    failing: Failing,
    verdict: Verdict,
    reason: Reason,
}

/// How much it matters that something violates a policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failing {
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

/// What is put aside while something else is supposed.
struct Aside {
    keys: KeySet,
    policies: BTreeMap<Arc<str>, Option<PolicyObject>>,
    subjects: HashMap<SubjectKey, Before>,
}

/// What was held of a subject.
struct Before {
    covering: Concerned,
    judgements: HashMap<JudgementKey, Judged>,
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
        let (keys, policies, concerned) = self.supposed(changes, &mut problems);
        let before = self.standings(&concerned, now);
        let aside = self.suppose(keys, policies, &concerned, now);
        let after = self.standings(&concerned, now);
        self.take_back(aside);
        Some(PreviewReport {
            problems,
            ..differences(&before, &after)
        })
    }

    /// The keys and policies as they would be, and the policies that say something else then. A policy that could not
    /// be evaluated would leave its last version in force, so it changes nothing, and is a problem.
    fn supposed(
        &self,
        changes: Vec<Fact>,
        problems: &mut Vec<String>,
    ) -> (KeySet, BTreeMap<Arc<str>, Option<PolicyObject>>, Concerned) {
        let mut keys = self.keys.clone();
        let mut rings = BTreeSet::new();
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
                Fact::Policy(facts) => {
                    let policy = PolicyObject::update(None, *facts);
                    match &policy.problem {
                        Some(problem) => problems.push(problem.clone()),
                        None => drop(policies.insert(policy.name.clone(), Some(policy))),
                    }
                }
                Fact::PolicyGone(name) => drop(policies.insert(name, None)),
                _ => problems.push("only keys, revocations and policies can be previewed".to_owned()),
            }
        }
        let trusts = |policy: &&PolicyObject| rings.iter().any(|ring| policy.trusts(ring));
        let mut concerned: Concerned = policies.keys().cloned().collect();
        concerned.extend(
            self.policies
                .values()
                .filter(trusts)
                .map(|policy| policy.name.clone()),
        );
        (keys, policies, concerned)
    }

    /// What these policies say of everything that they cover.
    fn standings(&self, concerned: &Concerned, now: Timestamp) -> BTreeMap<Place, Standing> {
        let mut found: BTreeMap<Place, Standing> = BTreeMap::new();
        for (workload, _) in self.index.workloads() {
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

    /// Puts the keys and policies in force, and judges by them what they concern.
    fn suppose(
        &mut self,
        keys: KeySet,
        policies: BTreeMap<Arc<str>, Option<PolicyObject>>,
        concerned: &Concerned,
        now: Timestamp,
    ) -> Aside {
        let mut aside = Aside {
            keys: std::mem::replace(&mut self.keys, keys),
            policies: BTreeMap::new(),
            subjects: HashMap::new(),
        };
        for (name, policy) in policies {
            let before = match policy {
                Some(policy) => self.policies.insert(name.clone(), policy),
                None => self.policies.remove(&name),
            };
            aside.policies.insert(name, before);
        }
        let covered: Vec<(SubjectKey, Concerned)> = self
            .subjects
            .values()
            .map(|subject| (subject.key.clone(), self.covering(subject, concerned)))
            .filter(|(_, covering)| !covering.is_empty())
            .collect();
        for (key, covering) in covered {
            let Some(subject) = self.subjects.get_mut(&key) else {
                continue;
            };
            let asked = subject.items_mut().map(|(_, item)| item.outcomes.len()).collect();
            let covering = std::mem::replace(&mut subject.covering, covering);
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
                && subject.users.keys().any(|user| covers(&user.namespace))
        };
        let policies = concerned.iter().filter_map(|name| self.policies.get(name));
        policies
            .filter(covers)
            .map(|policy| policy.name.clone())
            .collect()
    }

    fn take_back(&mut self, aside: Aside) {
        self.keys = aside.keys;
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

fn covers(policy: &PolicyObject, image: &ImageUse) -> bool {
    image
        .repository
        .as_ref()
        .is_none_or(|repository| policy.covers_image(repository))
}

fn differences(before: &BTreeMap<Place, Standing>, after: &BTreeMap<Place, Standing>) -> PreviewReport {
    let mut report = PreviewReport::default();
    let places: BTreeSet<&Place> = before.keys().chain(after.keys()).collect();
    for place in places {
        let standing = |standings: &BTreeMap<Place, Standing>| {
            standings.get(place).copied().unwrap_or_else(Standing::of_nothing)
        };
        let (was, is) = (standing(before), standing(after));
        if is.verdict == Verdict::Unknown {
            report.unknown += 1;
        }
        match is.failing.cmp(&was.failing) {
            std::cmp::Ordering::Greater => report.newly_failing.push(result(place, is.reason)),
            std::cmp::Ordering::Less => report.newly_passing.push(result(place, is.reason)),
            std::cmp::Ordering::Equal => report.unchanged += 1,
        }
    }
    report
}

fn result((workload, image, policy): &Place, reason: Reason) -> PreviewResult {
    PreviewResult {
        namespace: workload.namespace.to_string(),
        workload: format!("{}/{}", workload.kind, workload.name),
        image: image.written.to_string(),
        digest: match &image.running {
            RunningDigest::Digest(digest) => digest.to_string(),
            RunningDigest::NotStarted | RunningDigest::Unresolved(_) => String::new(),
        },
        policy: policy.to_string(),
        reason,
    }
}
