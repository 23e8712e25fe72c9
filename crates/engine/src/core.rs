//! The engine's state and how facts change it. One owner, no locks, no clock of its own: time is
//! an argument.
//!
//! The life of a change: a fact touches the index; the subjects it touches are covered anew and
//! judged anew ([`crate::judge`]); what differs waits in the queue to be written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use verify::TrustRoot;

use crate::fact::{Fact, KeyFacts, PodFacts, PolicyFacts, RememberedViolation, WorkloadKey};
use crate::gone::Gone;
use crate::index::{Index, Touched, Use};
use crate::judge::Cause;
use crate::keys::KeySet;
use crate::policies::PolicyObject;
use crate::queue::{UpdateQueue, Urgency};
use crate::report::Target;
use crate::schedule::{Agenda, after};
use crate::store::Store;
use crate::subject::{Subject, SubjectKey};

use Change::{Fewer, More};

/// A pod that has not started says nothing until it is this old.
pub(crate) const START_GRACE: SignedDuration = SignedDuration::from_secs(15);
/// After a start the first look-ups of everything are under way: for so long a workload waits for
/// all its images, so that what an earlier process wrote is not taken back in part.
const START_PHASE: SignedDuration = SignedDuration::from_secs(60);
/// Totals are gathered for so long before they are handed over.
const TOTALS_DELAY: SignedDuration = SignedDuration::from_millis(500);

/// The first totals after a start are handed over so late, when most first look-ups ended.
const FIRST_TOTALS_DELAY: SignedDuration = SignedDuration::from_secs(3);

/// How often the store is rid of what nothing uses.
const PRUNE_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) complete_lookups: u64,
    pub(crate) incomplete_lookups: u64,
    pub(crate) verifications: u64,
    pub(crate) evaluations: u64,
}

/// How a use changes a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    More,
    Fewer,
}

/// The engine.
pub(crate) struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) index: Index,
    pub(crate) subjects: HashMap<SubjectKey, Subject>,
    pub(crate) policies: BTreeMap<Arc<str>, PolicyObject>,
    pub(crate) keys: KeySet,
    pub(crate) queue: UpdateQueue,
    pub(crate) due: Agenda,
    pub(crate) wakes: Agenda,
    /// Look-ups under way, by registry.
    pub(crate) under_way: HashMap<String, usize>,
    /// Violations that an earlier process wrote.
    pub(crate) remembered: HashMap<WorkloadKey, Vec<RememberedViolation>>,
    /// Violations of what ran in this process and does not run now.
    pub(crate) gone: Gone,
    /// When the store is next rid of what nothing uses.
    pub(crate) prune_at: Option<Timestamp>,
    pub(crate) synced: bool,
    /// When everything that existed at the start was told.
    pub(crate) began: Option<Timestamp>,
    pub(crate) counters: Counters,
}

impl Engine {
    pub(crate) fn new(store: Arc<Store>) -> Engine {
        Engine {
            store,
            index: Index::default(),
            subjects: HashMap::new(),
            policies: BTreeMap::new(),
            keys: KeySet::default(),
            queue: UpdateQueue::default(),
            due: Agenda::default(),
            wakes: Agenda::default(),
            under_way: HashMap::new(),
            remembered: HashMap::new(),
            gone: Gone::default(),
            prune_at: None,
            synced: false,
            began: None,
            counters: Counters::default(),
        }
    }

    /// Takes one fact in.
    pub(crate) fn apply(&mut self, fact: Fact, now: Timestamp) {
        match fact {
            Fact::Pod(pod) => self.apply_pod(pod, now),
            Fact::PodGone(uid) => {
                let touched = self.index.remove_pod(&uid);
                self.absorb(touched, now);
            }
            Fact::Namespace { name, labels } => self.apply_labels(&name, Some(labels), now),
            Fact::NamespaceGone(name) => self.apply_labels(&name, None, now),
            Fact::Policy(facts) => self.apply_policy(*facts, now),
            Fact::PolicyGone(name) => self.forget_policy(&name, now),
            Fact::Key(facts) => self.apply_key(*facts, now),
            Fact::KeyGone(name) => {
                let rings = self.keys.remove(&name);
                self.queue.push(Target::Key(name), Urgency::Totals);
                self.revocations_changed();
                self.rings_changed(&rings, now);
            }
            Fact::Revocation(facts) => {
                let name = facts.name.clone();
                let rings = self.keys.revoke(*facts);
                self.revocation_changed(name, &rings, now);
            }
            Fact::RevocationGone(name) => {
                let rings = self.keys.forget_revocation(&name);
                self.revocation_changed(name, &rings, now);
            }
            Fact::TrustRoot { name, root } => {
                self.apply_root(name, Some(root), now);
            }
            Fact::TrustRootGone(name) => {
                self.apply_root(name, None, now);
            }
            Fact::Registries(_) => self.routes_changed(now),
            Fact::Remembered(violation) => {
                self.remembered
                    .entry(violation.workload.clone())
                    .or_default()
                    .push(violation);
            }
            Fact::Synced => self.begin(now),
        }
    }

    /// Does what time alone brings: judges again, puts in line what comes back, and prunes the store.
    /// Whether or not anybody pulls updates: a replica that does not write gathers nothing for ever.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some(key) = self.wakes.pop_due(now) {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.wake = None;
            }
            self.judge(&key, now, Cause::Evidence);
        }
        self.queue.wake(now);
        if self.prune_at.is_some_and(|time| time <= now) {
            self.prune_at = Some(after(now, PRUNE_INTERVAL));
            let running = self.subjects.keys().map(SubjectKey::text).collect();
            self.store.prune(running, now);
        }
    }

    /// The first look-ups after the start are still under way.
    pub(crate) fn is_starting(&self, now: Timestamp) -> bool {
        self.began
            .and_then(|began| began.checked_add(START_PHASE).ok())
            .is_none_or(|end| now < end)
    }

    /// The next time at which something is to be done.
    pub(crate) fn next_time(&self) -> Option<Timestamp> {
        [self.due.next(), self.wakes.next(), self.queue.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The same while no more look-ups can be started.
    pub(crate) fn next_time_besides_lookups(&self) -> Option<Timestamp> {
        [self.wakes.next(), self.queue.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    fn apply_pod(&mut self, pod: PodFacts, now: Timestamp) {
        let workload = pod.workload.key();
        let touched = self.index.insert_pod(pod, now);
        let mut starting = Vec::new();
        if touched.starting {
            let later = now.checked_add(START_GRACE).unwrap_or(now);
            for policy in self.policies_for(&workload) {
                let policy = Target::Policy(policy.name.clone());
                starting.push((policy, later));
            }
            starting.push((Target::Workload(workload), later));
        }
        for (target, later) in starting {
            self.queue.push_later(target, later);
        }
        self.absorb(touched, now);
    }

    fn absorb(&mut self, touched: Touched, now: Timestamp) {
        let mut subjects = BTreeSet::new();
        for used in &touched.begun {
            subjects.extend(self.count(used, More));
        }
        for used in &touched.ended {
            subjects.extend(self.count(used, Fewer));
        }
        if !self.synced {
            return;
        }
        self.reconsider(subjects, now, Cause::Evidence);
        for workload in touched.workloads {
            self.workload_changed(workload, Urgency::Changed, now);
        }
    }

    /// The subjects that a change concerns are covered anew and judged anew; one that nobody runs any
    /// more is forgotten.
    pub(crate) fn reconsider(
        &mut self,
        concerned: impl IntoIterator<Item = SubjectKey>,
        now: Timestamp,
        cause: Cause,
    ) {
        for key in concerned {
            let unused = |subject: &Subject| subject.users.is_empty();
            if self.subjects.get(&key).is_some_and(unused) {
                self.forget_subject(&key, now);
            } else {
                self.cover(&key, now);
                self.judge(&key, now, cause);
            }
        }
    }

    fn subjects_that(&self, concerned: impl Fn(&Subject) -> bool) -> Vec<SubjectKey> {
        self.subjects
            .values()
            .filter(|subject| concerned(subject))
            .map(|subject| subject.key.clone())
            .collect()
    }

    /// Counts a use of the subject that a pod begins or ends; those that it is a use of are answered.
    fn count(&mut self, used: &Use, change: Change) -> Vec<SubjectKey> {
        let mut counted = vec![used.subject.clone()];
        counted.extend(self.tenant_of(used));
        for key in &counted {
            self.count_use(key, used, change);
        }
        counted
    }

    pub(crate) fn count_use(&mut self, key: &SubjectKey, used: &Use, change: Change) {
        let subject = self
            .subjects
            .entry(key.clone())
            .or_insert_with(|| Subject::new(key.clone()));
        let origins = subject.users.entry(used.workload.clone()).or_default();
        let count = origins.entry(used.origin.clone()).or_default();
        *count = match change {
            More => count.saturating_add(1),
            Fewer => count.saturating_sub(1),
        };
        if *count == 0 {
            origins.remove(&used.origin);
        }
        if origins.is_empty() {
            subject.users.remove(&used.workload);
        }
    }

    pub(crate) fn forget_subject(&mut self, key: &SubjectKey, now: Timestamp) {
        if let Some(subject) = self.subjects.remove(key) {
            self.due.set(key, subject.plan.due, None);
            self.wakes.set(key, subject.wake, None);
            self.gone.keep(key, subject.violations());
            self.tenant_gone(key);
            for policy in &subject.covering {
                self.totals_changed(policy, now);
            }
            if !subject.covering.is_empty() {
                self.all_keys_changed(now);
            }
        }
    }

    fn apply_labels(&mut self, name: &Arc<str>, labels: Option<BTreeMap<String, String>>, now: Timestamp) {
        if !self.index.set_labels(name, labels) || !self.synced {
            return;
        }
        let workloads: BTreeSet<WorkloadKey> = self.index.in_namespace(name).cloned().collect();
        let affected = self.subjects_that(|subject| subject.users.keys().any(|user| user.namespace == *name));
        self.reconsider(affected, now, Cause::Evidence);
        for workload in workloads {
            self.workload_changed(workload, Urgency::Changed, now);
        }
    }

    fn apply_policy(&mut self, facts: PolicyFacts, now: Timestamp) {
        let name = facts.name.clone();
        let old = self.policies.remove(&name);
        let before = old.as_ref().and_then(PolicyObject::spec_in_force);
        let policy = PolicyObject::update(old, facts);
        let edited = before.is_none() || before != policy.spec_in_force();
        self.policies.insert(name.clone(), policy);
        if edited {
            self.policy_changed(&name, now, Cause::Edit);
            self.users_changed(&name, now);
        } else {
            // Told again, by a list or after its status was written: nobody takes a violation back by that.
            self.policy_changed(&name, now, Cause::Evidence);
        }
    }

    /// Renders every workload again that runs what the policy covers: the mode, and which of several namespaces that
    /// run one image are covered, are no part of a judgement.
    fn users_changed(&mut self, policy: &Arc<str>, now: Timestamp) {
        if !self.synced {
            return;
        }
        let covered = self
            .subjects
            .values()
            .filter(|subject| subject.covering.contains(policy));
        let users: BTreeSet<WorkloadKey> = covered
            .flat_map(|subject| subject.users.keys().cloned())
            .collect();
        for user in users {
            self.workload_changed(user, Urgency::Changed, now);
        }
    }

    fn forget_policy(&mut self, name: &Arc<str>, now: Timestamp) {
        self.policies.remove(name);
        self.policy_changed(name, now, Cause::Edit);
    }

    /// Covers and judges what the policy covers or covered, and nothing else.
    fn policy_changed(&mut self, name: &Arc<str>, now: Timestamp, cause: Cause) {
        if !self.synced {
            return;
        }
        if cause == Cause::Edit {
            self.gone.forget_policy(name);
            for violations in self.remembered.values_mut() {
                violations.retain(|violation| violation.policy != *name);
            }
        }
        let policy = self.policies.get(name);
        let concerned = self.subjects_that(|subject| {
            subject.covering.contains(name)
                || policy.is_some_and(|policy| policy.covers_image(&subject.key.repository))
        });
        self.reconsider(concerned, now, cause);
        // Images without a digest are judged when their workload is rendered.
        let workloads: Vec<WorkloadKey> = self.index.workloads().map(|(key, _)| key.clone()).collect();
        for workload in workloads {
            if self.has_undetermined_image(&workload, now) {
                self.workload_changed(workload, Urgency::Changed, now);
            }
        }
        self.queue.push(Target::Policy(name.clone()), Urgency::Totals);
        self.all_keys_changed(now);
    }

    fn apply_key(&mut self, facts: KeyFacts, now: Timestamp) {
        let name = facts.name.clone();
        let rings = self.keys.insert(facts);
        // Before everything is told the first totals wait; see `begin`.
        if self.synced {
            self.queue.push(Target::Key(name), Urgency::Totals);
        }
        self.revocations_changed();
        self.rings_changed(&rings, now);
    }

    fn revocation_changed(&mut self, name: Arc<str>, rings: &BTreeSet<Arc<str>>, now: Timestamp) {
        if self.synced {
            for key in self.keys.names_of(&[name.to_string()]) {
                self.queue.push(Target::Key(key), Urgency::Totals);
            }
            self.queue.push(Target::Revocation(name), Urgency::Totals);
        }
        self.rings_changed(rings, now);
    }

    /// What is said of revocations may differ: they name the keys that they concern.
    fn revocations_changed(&mut self) {
        if self.synced {
            for revocation in self.keys.revocations() {
                self.queue
                    .push(Target::Revocation(revocation.clone()), Urgency::Totals);
            }
        }
    }

    /// What failed or could not be told may be found now: it is asked for at once, the rest in its regular time.
    fn routes_changed(&mut self, now: Timestamp) {
        let concerned = self.subjects_that(|subject| {
            let waits = subject.plan.due.is_some() && !subject.plan.in_flight;
            waits && (subject.fails() || subject.is_undecided() || subject.last_gap.is_some())
        });
        for key in concerned {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.plan.pause = None;
            }
            self.set_due(&key, Some(now));
        }
    }

    /// The keys that name the root are other verifiers now: what they say is computed anew, and no claim that was
    /// made under another root is used.
    fn apply_root(&mut self, name: Arc<str>, root: Option<Result<Arc<TrustRoot>, String>>, now: Timestamp) {
        let rings = self.keys.set_trust_root(name.clone(), root);
        if self.synced {
            for key in self.keys.naming(&name) {
                self.queue.push(Target::Key(key), Urgency::Totals);
            }
        }
        self.rings_changed(&rings, now);
    }

    /// Judges what a policy covers that trusts one of these rings. No request is made: the evidence
    /// is held, and what a new key makes of it is computed.
    fn rings_changed(&mut self, rings: &BTreeSet<Arc<str>>, now: Timestamp) {
        if !self.synced || rings.is_empty() {
            return;
        }
        let trusting: BTreeSet<Arc<str>> = self
            .policies
            .values()
            .filter(|policy| rings.iter().any(|ring| policy.trusts(ring)))
            .map(|policy| policy.name.clone())
            .collect();
        // What fails may name the key in its message, trusted or not.
        let concerned = self.subjects_that(|subject| {
            subject.fails() || subject.covering.iter().any(|policy| trusting.contains(policy))
        });
        for key in concerned {
            self.judge(&key, now, Cause::Edit);
        }
        for policy in trusting {
            self.gone.forget_policy(&policy);
            self.queue.push(Target::Policy(policy), Urgency::Totals);
        }
        self.all_keys_changed(now);
    }

    /// Everything that existed at the start is told: judge all of it.
    fn begin(&mut self, now: Timestamp) {
        if self.synced {
            return;
        }
        self.synced = true;
        self.began = Some(now);
        self.prune_at = Some(after(now, PRUNE_INTERVAL));
        // Totals wait for the first look-ups: counted at once they would be wrong for a while.
        let later = now.checked_add(FIRST_TOTALS_DELAY).unwrap_or(now);
        for policy in self.policies.keys() {
            self.queue.push_gathered(Target::Policy(policy.clone()), later);
        }
        let keys: Vec<_> = self.keys.names().cloned().collect();
        for key in keys {
            self.queue.push_gathered(Target::Key(key), later);
        }
        self.revocations_changed();
        let everything = self.subjects_that(|_| true);
        self.reconsider(everything, now, Cause::Edit);
        let workloads: Vec<WorkloadKey> = self.index.workloads().map(|(key, _)| key.clone()).collect();
        for workload in workloads {
            self.queue.push(Target::Workload(workload), Urgency::Changed);
        }
    }

    /// The answer about a workload may be another one.
    pub(crate) fn workload_changed(&mut self, workload: WorkloadKey, urgency: Urgency, now: Timestamp) {
        let covering: BTreeSet<Arc<str>> = self
            .policies
            .values()
            .filter(|policy| {
                policy.covers_namespace(&workload.namespace, self.index.labels(&workload.namespace))
            })
            .map(|policy| policy.name.clone())
            .collect();
        for policy in covering {
            self.totals_changed(&policy, now);
        }
        self.queue.push(Target::Workload(workload), urgency);
    }

    /// The totals of a policy may differ.
    pub(crate) fn totals_changed(&mut self, policy: &Arc<str>, now: Timestamp) {
        self.queue
            .push_gathered(Target::Policy(policy.clone()), gathered(now));
    }

    /// The totals of keys may differ.
    pub(crate) fn all_keys_changed(&mut self, now: Timestamp) {
        let keys: Vec<_> = self.keys.names().cloned().collect();
        for key in keys {
            self.queue.push_gathered(Target::Key(key), gathered(now));
        }
    }
}

fn gathered(now: Timestamp) -> Timestamp {
    now.checked_add(TOTALS_DELAY).unwrap_or(now)
}
