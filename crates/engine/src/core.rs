//! The engine's state and how facts change it. One owner, no locks, no clock of its own: time is
//! an argument.
//!
//! The life of a change: a fact touches the index; the subjects it touches are covered anew and
//! judged anew ([`crate::judge`]); what differs waits in the queue to be written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::ImagePolicySpec;
use image::Repository;
use jiff::{SignedDuration, Timestamp};
use verify::TrustRoot;

use crate::ended::Ended;
use crate::exceptions::Exceptions;
use crate::fact::{Fact, KeyFacts, PodFacts, PolicyFacts, RememberedViolation, WorkloadKey};
use crate::gone::Gone;
use crate::heard::Heard;
use crate::index::{Index, Role, Touched, Use};
use crate::judge::Cause;
use crate::keys::KeySet;
use crate::pending::Ahead;
use crate::places::Places;
use crate::policies::PolicyObject;
use crate::queue::{UpdateQueue, Urgency};
use crate::report::Target;
use crate::requested::Requested;
use crate::schedule::{Agenda, after};
use crate::store::Store;
use crate::subject::{Change, Subject, SubjectKey, Subjects};
use crate::tags::Tags;
use crate::tally::Tally;
use crate::templates::Templates;
use crate::turns::Turns;

/// A pod that has not started says nothing until it is this old.
pub(crate) const START_GRACE: SignedDuration = SignedDuration::from_secs(15);
/// After a start the first look-ups of everything are under way: for so long a workload waits for
/// all its images, so that what an earlier process wrote is not taken back in part.
const START_PHASE: SignedDuration = SignedDuration::from_secs(60);
/// The first totals after a start are handed over so late, when most first look-ups ended.
pub(crate) const FIRST_TOTALS_DELAY: SignedDuration = SignedDuration::from_secs(3);

/// How often the store is rid of what nothing uses.
const PRUNE_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) complete_lookups: u64,
    pub(crate) incomplete_lookups: u64,
    pub(crate) tags_named: u64,
    pub(crate) tags_absent: u64,
    pub(crate) tags_unanswered: u64,
    pub(crate) verifications: u64,
    pub(crate) evaluations: u64,
}

/// The engine.
pub(crate) struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) index: Index,
    pub(crate) templates: Templates,
    pub(crate) tags: Tags,
    pub(crate) subjects: Subjects,
    pub(crate) policies: BTreeMap<Arc<str>, PolicyObject>,
    /// The policies that match each repository in use, in order of name.
    pub(crate) matching: HashMap<Repository, Vec<Arc<str>>>,
    pub(crate) keys: KeySet,
    pub(crate) exceptions: Exceptions,
    /// Until when the ends of exceptions were taken in; None before everything that existed was told.
    pub(crate) exceptions_told: Option<Timestamp>,
    /// What totals are read from.
    pub(crate) tally: Tally,
    /// When totals that changed are handed over.
    pub(crate) totals_due: Option<Timestamp>,
    pub(crate) queue: UpdateQueue,
    pub(crate) ahead: Ahead,
    /// Whose turn it is to be looked up.
    pub(crate) turns: Turns<SubjectKey>,
    pub(crate) places: Places,
    pub(crate) wakes: Agenda,
    /// Violations that an earlier process wrote.
    pub(crate) remembered: HashMap<WorkloadKey, Vec<RememberedViolation>>,
    /// Violations of what ran in this process and does not run now.
    pub(crate) gone: Gone,
    /// What another replica said.
    pub(crate) heard: Heard,
    /// What ended since it was last told of its workload.
    pub(crate) ended: Ended,
    /// When the store is next rid of what nothing uses.
    pub(crate) prune_at: Option<Timestamp>,
    pub(crate) synced: bool,
    /// When everything that existed at the start was told.
    pub(crate) began: Option<Timestamp>,
    /// What people asked to be looked at now, by policy.
    pub(crate) requested: Requested,
    pub(crate) counters: Counters,
}

impl Engine {
    pub(crate) fn new(store: Arc<Store>) -> Engine {
        Engine {
            store,
            index: Index::default(),
            templates: Templates::default(),
            tags: Tags::default(),
            subjects: Subjects::default(),
            policies: BTreeMap::new(),
            matching: HashMap::new(),
            keys: KeySet::default(),
            exceptions: Exceptions::default(),
            exceptions_told: None,
            tally: Tally::default(),
            totals_due: None,
            queue: UpdateQueue::default(),
            ahead: Ahead::default(),
            turns: Turns::default(),
            places: Places::new(usize::MAX),
            wakes: Agenda::default(),
            remembered: HashMap::new(),
            gone: Gone::default(),
            heard: Heard::default(),
            ended: Ended::default(),
            prune_at: None,
            synced: false,
            began: None,
            requested: Requested::default(),
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
            Fact::Template(template) => self.apply_template(template, now),
            Fact::TemplateGone(workload) => self.forget_template(&workload, now),
            Fact::Namespace { name, labels } => self.apply_labels(&name, Some(labels), now),
            Fact::NamespaceGone(name) => self.apply_labels(&name, None, now),
            Fact::Policy(facts) => self.apply_policy(*facts, now),
            Fact::PolicyGone(name) => self.forget_policy(&name, now),
            Fact::RecheckRequested { policy, at } => self.recheck_requested(policy, at, now),
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
            Fact::Exception(facts) => {
                let name = facts.name.clone();
                let old = self.exceptions.insert(*facts);
                self.exception_changed(name, old, now);
            }
            Fact::ExceptionGone(name) => {
                let old = self.exceptions.remove(&name);
                self.exception_changed(name, old, now);
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
            Fact::SaidElsewhere(said) => self.said_elsewhere(&said, now),
            Fact::Synced => self.begin(now),
        }
    }

    /// Does what time alone brings: judges again, puts in line what comes back, and prunes the store.
    /// Whether or not anybody pulls updates: a replica that does not write gathers nothing for ever.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((_, key)) = self.wakes.pop_due(now) {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.wake = None;
            }
            self.judge(&key, now, Cause::Evidence);
        }
        self.wake_heard(now);
        self.wake_exceptions(now);
        self.wake_totals(now);
        self.queue.wake(now);
        if self.prune_at.is_some_and(|time| time <= now) {
            self.prune_at = Some(after(now, PRUNE_INTERVAL));
            let running = self
                .subjects
                .keys()
                .map(SubjectKey::text)
                .chain(self.kept_tags())
                .collect();
            self.store.prune(running, now);
            self.forget_unused_registries();
        }
    }

    fn forget_unused_registries(&mut self) {
        let of_images = self.subjects.keys().map(|key| key.repository.registry());
        let of_tags = self.repositories_of_tags().map(Repository::registry);
        let used: HashSet<String> = of_images.chain(of_tags).map(str::to_owned).collect();
        self.places.forget_unused(|registry| used.contains(registry));
    }

    /// The first look-ups after the start are still under way.
    pub(crate) fn is_starting(&self, now: Timestamp) -> bool {
        self.began
            .and_then(|began| began.checked_add(START_PHASE).ok())
            .is_none_or(|end| now < end)
    }

    /// The next time at which something is to be done.
    pub(crate) fn next_time(&self) -> Option<Timestamp> {
        [
            self.turns.next(),
            self.tags.next_due(),
            self.next_time_besides_lookups(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The same while no more look-ups can be started.
    pub(crate) fn next_time_besides_lookups(&self) -> Option<Timestamp> {
        let ends = self
            .exceptions_told
            .and_then(|told| self.next_end_of_exception(told));
        [
            self.wakes.next(),
            self.heard.next(),
            ends,
            self.totals_due,
            self.tally.next_due(),
            self.queue.next_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn apply_pod(&mut self, pod: PodFacts, now: Timestamp) {
        let workload = pod.workload.key.clone();
        let touched = self.index.insert_pod(pod, now);
        if touched.starting {
            let later = now.checked_add(START_GRACE).unwrap_or(now);
            self.queue.push_later(Target::Workload(workload), later);
        } else {
            self.come_back_without_labels(&workload, now);
        }
        self.absorb(touched, now);
    }

    /// Nothing is said for a moment of a workload whose namespace's labels are not known; then that is said.
    fn come_back_without_labels(&mut self, workload: &WorkloadKey, now: Timestamp) {
        if self.waits_for_labels(workload).next().is_some() {
            let later = now.checked_add(START_GRACE).unwrap_or(now);
            self.queue.push_later(Target::Workload(workload.clone()), later);
        }
    }

    fn absorb(&mut self, touched: Touched, now: Timestamp) {
        let mut subjects = BTreeSet::new();
        for used in &touched.begun {
            subjects.extend(self.count(used, Change::More));
        }
        for used in &touched.ended {
            subjects.extend(self.count(used, Change::Fewer));
        }
        self.note_left(touched.left, now);
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
        let mut tenants = Vec::new();
        for key in concerned {
            if self.subjects.get(&key).is_some_and(Subject::is_unused) {
                self.forget_subject(&key, now);
            } else {
                self.cover(&key, now);
                self.judge(&key, now, cause);
                let waits_in_vain =
                    |subject: &Subject| subject.covering.is_empty() && !subject.departed.is_empty();
                if self.subjects.get(&key).is_some_and(waits_in_vain) {
                    self.tell_departed(&key, now);
                }
                tenants.extend(Some(key).filter(|key| key.keychain.is_some()));
            }
        }
        if cause == Cause::Edit {
            self.settle_tenants(tenants, now);
        }
    }

    fn subjects_that(&self, concerned: impl Fn(&Subject) -> bool) -> Vec<SubjectKey> {
        self.subjects
            .values()
            .filter(|subject| concerned(subject))
            .map(|subject| subject.key.clone())
            .collect()
    }

    /// Counts a use of the subject that a pod or a template begins or ends; those are answered that are used by others, or
    /// otherwise, than before.
    pub(crate) fn count(&mut self, used: &Use, change: Change) -> Vec<SubjectKey> {
        let mut counted = vec![used.subject.clone()];
        counted.extend(self.tenant_of(used));
        counted.retain(|key| self.count_use(key, used, change));
        counted
    }

    /// Answers whether who uses it, and how, is something else than before, or nobody does.
    pub(crate) fn count_use(&mut self, key: &SubjectKey, used: &Use, change: Change) -> bool {
        let subject = self.subjects.get_or_insert(key);
        let is_another = match used.role {
            Role::Starts => subject.count_start(used, change),
            Role::Runs => subject.count_run(used, change),
        };
        is_another || subject.is_unused()
    }

    pub(crate) fn forget_subject(&mut self, key: &SubjectKey, now: Timestamp) {
        if let Some(subject) = self.subjects.remove(key) {
            self.turns.set(key, subject.plan.due, None);
            self.wakes.set(key, subject.wake, None);
            self.gone.keep(key, subject.violations());
            self.heard.forget(key);
            self.ended.no_longer_held(subject.departed.len());
            self.tenant_gone(key);
            self.vouching_changed(key, now);
        }
    }

    fn apply_labels(&mut self, name: &Arc<str>, labels: Option<BTreeMap<String, String>>, now: Timestamp) {
        if !self.index.set_labels(name, labels) || !self.synced {
            return;
        }
        let mut workloads: BTreeSet<WorkloadKey> = self.index.in_namespace(name).cloned().collect();
        workloads.extend(self.templates.in_namespace(name).cloned());
        let affected = self.subjects_that(|subject| subject.workloads().any(|user| user.namespace == *name));
        self.reconsider(affected, now, Cause::Evidence);
        self.plan_tags_in_namespace(name, now);
        for workload in workloads {
            self.workload_changed(workload, Urgency::Changed, now);
        }
    }

    fn apply_policy(&mut self, facts: PolicyFacts, now: Timestamp) {
        let name = facts.name.clone();
        let old = self.policies.remove(&name);
        let before = old.as_ref().and_then(PolicyObject::spec_in_force);
        let policy = PolicyObject::update(old, facts);
        let after = policy.spec_in_force();
        let edited = before.is_none() || before != after;
        let is_shown_otherwise = shown(before.as_deref()) != shown(after.as_deref());
        self.policies.insert(name.clone(), policy);
        if edited {
            self.policy_changed(&name, now, Cause::Edit);
            if is_shown_otherwise {
                self.covered_changed(&name, now);
            }
        } else {
            // Told again, by a list or after its status was written: nobody takes a violation back by that.
            self.policy_changed(&name, now, Cause::Evidence);
        }
    }

    /// Renders every workload again that runs what the policy covers: the mode, and which of several namespaces that
    /// run one image are covered, are no part of a judgement.
    fn covered_changed(&mut self, policy: &Arc<str>, now: Timestamp) {
        if !self.synced {
            return;
        }
        let covered = self
            .subjects
            .values()
            .filter(|subject| subject.covering.contains(policy));
        let users: BTreeSet<WorkloadKey> = covered.flat_map(|subject| subject.workloads().cloned()).collect();
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
        let touched = self.match_anew(name);
        let matches = |repository: &Repository| {
            let matching = self.matching.get(repository);
            matching.is_some_and(|policies| policies.binary_search(name).is_ok())
        };
        let concerned =
            self.subjects_that(|subject| subject.covering.contains(name) || matches(&subject.key.repository));
        self.reconsider(concerned, now, cause);
        let without_labels: Vec<WorkloadKey> = self.index.without_labels().cloned().collect();
        for workload in without_labels {
            self.come_back_without_labels(&workload, now);
        }
        // Images without a digest are judged when their workload is rendered.
        let undetermined: Vec<WorkloadKey> = self.index.undetermined().cloned().collect();
        for workload in undetermined {
            self.workload_changed(workload, Urgency::Changed, now);
        }
        self.plan_tags_of_repositories(&touched, now);
        self.policy_changed_for_templates(name, now);
        self.recount_differences(name, now);
        self.queue.push(Target::Policy(name.clone()), Urgency::Totals);
        self.totals_changed(name, now);
        self.all_keys_changed(now);
    }

    /// Finds out anew which repositories in use the policy matches; gives those that it matches or matched.
    fn match_anew(&mut self, name: &Arc<str>) -> HashSet<Repository> {
        let used = self.subjects.keys().map(|key| &key.repository);
        let used: HashSet<&Repository> = used.chain(self.repositories_of_tags()).collect();
        let unused: Vec<Repository> = self
            .matching
            .keys()
            .filter(|key| !used.contains(key))
            .cloned()
            .collect();
        for repository in unused {
            self.matching.remove(&repository);
        }
        let policy = self.policies.get(name);
        let mut touched = HashSet::new();
        for (repository, policies) in &mut self.matching {
            let matches = policy.is_some_and(|policy| policy.covers_image(repository));
            match (policies.binary_search(name), matches) {
                (Err(_), false) => continue,
                (Err(place), true) => policies.insert(place, name.clone()),
                (Ok(place), false) => drop(policies.remove(place)),
                (Ok(_), true) => {}
            }
            touched.insert(repository.clone());
        }
        touched
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
        self.ask_unanswered_tags_again(now);
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
        for key in &concerned {
            self.judge(key, now, Cause::Edit);
        }
        self.settle_tenants(concerned.into_iter().filter(|key| key.keychain.is_some()), now);
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
        self.exceptions_told = Some(now);
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
        for exception in self.exceptions.names() {
            self.queue
                .push_gathered(Target::Exception(exception.clone()), later);
        }
        let everything = self.subjects_that(|_| true);
        self.reconsider(everything, now, Cause::Edit);
        self.plan_all_tags(now);
        let running = self.index.workloads();
        let workloads: BTreeSet<WorkloadKey> = running.chain(self.templates.workloads()).cloned().collect();
        for workload in workloads {
            self.come_back_without_labels(&workload, now);
            self.workload_changed(workload, Urgency::Changed, now);
        }
    }

    /// The answer about a workload may be another one.
    pub(crate) fn workload_changed(&mut self, workload: WorkloadKey, urgency: Urgency, now: Timestamp) {
        self.tally.workload_changed(&workload);
        self.gather_totals(now);
        self.queue.push(Target::Workload(workload), urgency);
    }
}

/// What of a policy shows in the answer about a workload beside its judgements.
fn shown(spec: Option<&ImagePolicySpec>) -> Option<ImagePolicySpec> {
    spec.map(|spec| ImagePolicySpec {
        description: None,
        require: Vec::new(),
        recheck: None,
        ..spec.clone()
    })
}
