//! The inventory: pods and their owners as the watches tell them, turned into facts for the engine.
//!
//! [`Inventory`] is pure: observations and the time go in, facts and questions about owners come out. A pod is told with
//! the workload it belongs to; where an owner was not seen yet it is held for [`OWNER_WAIT`], or [`ANSWER_WAIT`] while that
//! is asked for, and then told with the highest owner that is known, and told again when more is known. A pod whose owner
//! vanishes stays with its workload for [`GRACE`], because that is how a deletion begins; if it runs on, it is judged as
//! what it then belongs to.
//!
//! A cluster keeps ten old ReplicaSets for each Deployment. Those on which no pod rests are let go of as soon as the pods
//! are known; one that a pod names later is asked for.

pub(crate) mod climb;
mod dependents;
mod extract;
mod keychains;
pub(crate) mod lookup;
mod owners;
mod pod_name;
mod protobuf;
pub(crate) mod registered;
mod roster;
mod served;
mod slim;
pub(crate) mod task;
mod templates;
mod texts;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::WorkloadRef;
use engine::{Fact, Keychain, PodFacts, PodImage, Uid, Workload, WorkloadKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) use self::climb::{BUILT_IN as OWNER_KINDS, BuiltIn, Templates as ReadTemplates};
use self::climb::{Climb, ControllerRef, climb, controller_of};
use self::dependents::Dependents;
pub(crate) use self::keychains::Keychains;
use self::owners::{Answer, OwnerQuestion, Owners};
use self::pod_name::PodName;
pub(crate) use self::roster::Roster;
use self::slim::{Generation, MIRROR_MARK, Second, Unreadable, created, generation, of_second};
pub(crate) use self::slim::{SlimOwner, SlimPod, SlimWorkload};
use self::templates::Templates;
use self::texts::{Pool, Texts};

/// How long a new pod waits for an owner that was not seen yet.
pub(crate) const OWNER_WAIT: Duration = Duration::from_secs(2);
/// How long a new pod waits for an owner that is being asked for.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// How long a pod stays with a workload of which an owner vanished.
const GRACE: Duration = Duration::from_secs(60);

/// What an observation led to.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// What the engine must be told, in order.
    pub(crate) facts: Vec<Fact>,
    /// Owners that must be asked for; the answers come back by [`Inventory::answered`].
    pub(crate) questions: Vec<OwnerQuestion>,
    /// Workloads of which the template must be asked for; the answers come back by [`Inventory::template_answered`].
    pub(crate) templates: Vec<WorkloadKey>,
}

impl Effects {
    /// What something else led to afterwards.
    pub(crate) fn add(&mut self, after: Effects) {
        self.facts.extend(after.facts);
        self.questions.extend(after.questions);
        self.templates.extend(after.templates);
    }
}

/// Pods, their owners, and who waits for whom.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    owners: Owners,
    /// Boxed, for a table is up to twice as large as what it holds.
    pods: HashMap<Uid, Box<Row>>,
    dependents: Dependents,
    /// Those that wait for an owner.
    waiting: HashMap<Uid, Wait>,
    /// When each of these waits is over.
    ends_of_waits: BTreeSet<(Instant, Uid)>,
    texts: Texts,
    alike: Pool<Alike>,
    paths: Pool<[WorkloadKey]>,
    keychains: Keychains,
    roster: Roster,
    templates: Templates,
    list: u32,
    /// A complete list of the pods was seen.
    pods_are_known: bool,
}

/// Whether a pod may wait for an owner that was not seen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    MayWait,
    TellNow,
}

/// How long a pod waits.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    until: Instant,
}

/// A pod that runs.
#[derive(Debug)]
struct Row {
    name: PodName,
    generation: Option<Generation>,
    created: Second,
    alike: Arc<Alike>,
    /// The workload it was told with; None while it is held.
    told: Option<Arc<Workload>>,
    path: Arc<[WorkloadKey]>,
    list: u32,
}

/// What the pods of one owner have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    namespace: Arc<str>,
    /// What controls them; for a mirror pod only shown, never followed.
    controller: Option<Arc<ControllerRef>>,
    mirror: bool,
    images: Box<[PodImage]>,
    keychain: Option<Arc<Keychain>>,
}

impl Inventory {
    pub(crate) fn new(roster: Roster, keychains: Keychains) -> Self {
        Inventory {
            roster,
            keychains,
            ..Inventory::default()
        }
    }

    /// A complete list of the pods begins.
    pub(crate) fn pods_list_begins(&mut self) {
        self.list += 1;
    }

    /// A complete list of the pods ended: what it did not hold is gone.
    pub(crate) fn pods_list_ended(&mut self) -> Effects {
        let mut effects = Effects::default();
        let is_gone = |row: &Row| row.list != self.list;
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, row)| is_gone(row))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.drop_pod(&uid, &mut effects);
        }
        // What was listed before the first list of the pods was in memory for it alone.
        let patience = u8::from(std::mem::replace(&mut self.pods_are_known, true));
        self.let_go_of_owners(patience);
        effects
    }

    /// A pod looks like this. An error where it cannot be read; what was told of it before stays.
    pub(crate) fn pod(&mut self, pod: &SlimPod, now: Instant) -> Result<Effects, Unreadable> {
        let mut effects = Effects::default();
        let uid = Uid::from(required(pod.metadata.uid.as_deref(), "metadata.uid")?);
        if let Some(row) = self.pods.get_mut(&uid) {
            row.list = self.list;
        }
        if extract::is_finished(pod)? {
            self.drop_pod(&uid, &mut effects);
            return Ok(effects);
        }
        let row = self.read(pod)?;
        match self.pods.get_mut(&uid) {
            Some(old) if old.alike == row.alike => {}
            Some(old) => {
                let moved =
                    old.alike.controller != row.alike.controller || old.alike.mirror != row.alike.mirror;
                let told = old.told.take();
                **old = Row {
                    told,
                    path: old.path.clone(),
                    ..row
                };
                self.changed(&uid, moved, now, &mut effects);
            }
            None => {
                self.pods.insert(uid.clone(), Box::new(row));
                self.settle(&uid, Hold::MayWait, now, &mut effects);
            }
        }
        Ok(effects)
    }

    /// A pod was deleted.
    pub(crate) fn pod_deleted(&mut self, pod: &SlimPod) -> Effects {
        let mut effects = Effects::default();
        if let Some(uid) = &pod.metadata.uid {
            self.drop_pod(&uid.as_str().into(), &mut effects);
        }
        effects
    }

    /// A complete list of the owners of one built-in kind begins.
    pub(crate) fn owners_list_begins(&mut self, kind: &'static BuiltIn) {
        self.owners.list_begins(kind);
    }

    /// A complete list of the owners of one built-in kind ended.
    pub(crate) fn owners_list_ended(&mut self, kind: &'static BuiltIn, now: Instant) -> Effects {
        let mut effects = Effects::default();
        for key in self.owners.list_ended(kind) {
            self.forget_template(&key, &mut effects);
            self.resettle_dependents(&key, now, &mut effects);
        }
        effects
    }

    /// An owner of a built-in kind looks like this.
    pub(crate) fn owner(&mut self, kind: &'static BuiltIn, metadata: &ObjectMeta, now: Instant) -> Effects {
        let mut effects = Effects::default();
        let Some(key) = owners::key_of(kind, metadata, &mut self.texts) else {
            return effects;
        };
        let Some(meta) = owners::owner_of(metadata, &key.namespace, &mut self.texts) else {
            return effects;
        };
        if kind.templates == ReadTemplates::AskedForWhereAlone {
            self.ask_for_template(&key, &meta, &mut effects);
        }
        if self.owners.seen(kind, &key, meta) {
            self.resettle_dependents(&key, now, &mut effects);
        }
        effects
    }

    /// A complete list holds an owner of a built-in kind that looks like this. One that nobody needs is passed over, and is
    /// gone with the end of the list.
    pub(crate) fn owner_listed(
        &mut self,
        kind: &'static BuiltIn,
        metadata: &ObjectMeta,
        now: Instant,
    ) -> Effects {
        if self.is_passed_over(kind, metadata) {
            return Effects::default();
        }
        self.owner(kind, metadata, now)
    }

    /// Whether nobody needs to know of an owner in a list: it was let go of, and no pod named it since.
    fn is_passed_over(&mut self, kind: &'static BuiltIn, metadata: &ObjectMeta) -> bool {
        if !kind.let_go_without_pods || !self.pods_are_known || controller_of(metadata).is_none() {
            return false;
        }
        let key = owners::key_of(kind, metadata, &mut self.texts);
        key.is_some_and(|key| !self.owners.is_held(kind, &key) && !self.dependents.are_there(&key))
    }

    /// An owner of a built-in kind was deleted.
    pub(crate) fn owner_deleted(
        &mut self,
        kind: &'static BuiltIn,
        metadata: &ObjectMeta,
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(key) = owners::key_of(kind, metadata, &mut self.texts) else {
            return effects;
        };
        let uid = metadata.uid.as_deref().unwrap_or_default();
        if self.owners.gone(kind, &key, uid) {
            self.forget_template(&key, &mut effects);
            self.resettle_dependents(&key, now, &mut effects);
        }
        effects
    }

    /// The answer to a question of [`Effects`].
    pub(crate) fn answered(
        &mut self,
        question: &OwnerQuestion,
        read: lookup::Found,
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        let key = &question.owner;
        let answer = match read {
            lookup::Found::Metadata(metadata) => owners::owner_of(&metadata, &key.namespace, &mut self.texts)
                .map_or(Answer::OutOfReach, Answer::Is),
            lookup::Found::Nothing => Answer::Absent,
            lookup::Found::OutOfReach => Answer::OutOfReach,
        };
        if self.owners.answered(question, answer, now) {
            self.resettle_dependents(key, now, &mut effects);
        }
        effects
    }

    /// Tells the pods that waited long enough for an owner.
    pub(crate) fn release_waiting(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        while let Some((until, uid)) = self.ends_of_waits.pop_first() {
            if until > now {
                self.ends_of_waits.insert((until, uid));
                break;
            }
            match self.waiting.remove(&uid) {
                Some(wait) if self.hopes_for_an_answer(&uid, wait, now) => {
                    let until = (now + OWNER_WAIT).min(wait.since + ANSWER_WAIT);
                    self.wait(&uid, wait.since, until);
                }
                _ => self.settle(&uid, Hold::TellNow, now, &mut effects),
            }
        }
        effects
    }

    /// Whether a new pod is better told a little later than with too low an owner.
    fn hopes_for_an_answer(&self, uid: &Uid, wait: Wait, now: Instant) -> bool {
        let row = self.pods.get(uid).filter(|row| row.told.is_none());
        now < wait.since + ANSWER_WAIT && row.is_some_and(|row| self.climb_of(row).asking)
    }

    fn wait(&mut self, uid: &Uid, since: Instant, until: Instant) {
        self.waiting.insert(uid.clone(), Wait { since, until });
        self.ends_of_waits.insert((until, uid.clone()));
    }

    fn stop_waiting(&mut self, uid: &Uid) {
        if let Some(wait) = self.waiting.remove(uid) {
            self.ends_of_waits.remove(&(wait.until, uid.clone()));
        }
    }

    /// The questions about owners that could not be read, are due again, and are still needed.
    pub(crate) fn ask_again(&mut self, now: Instant) -> Effects {
        let dependents = &self.dependents;
        self.owners.forget_unused(|key| dependents.are_there(key), now);
        Effects {
            questions: self.owners.ask_again(now),
            ..Effects::default()
        }
    }

    /// Whether the answer to a question still counts.
    pub(crate) fn is_open(&self, question: &OwnerQuestion) -> bool {
        self.owners.is_open(question)
    }

    /// Whether every pod and every template was told.
    pub(crate) fn holds_nobody(&self) -> bool {
        self.templates.waits_for_nothing() && self.pods.values().all(|row| row.told.is_some())
    }

    /// Forgets what nobody uses, and gives the templates that could not be read and must be asked for again.
    pub(crate) fn tidy(&mut self) -> Effects {
        self.let_go_of_owners(1);
        self.keychains.forget_unused();
        self.alike.forget_unused();
        self.paths.forget_unused();
        self.texts.forget_unused();
        Effects {
            templates: self.templates.ask_again(),
            ..Effects::default()
        }
    }

    fn let_go_of_owners(&mut self, patience: u8) {
        if self.pods_are_known {
            let dependents = &self.dependents;
            self.owners.let_go(patience, |key| dependents.are_there(key));
        }
    }

    fn read(&mut self, pod: &SlimPod) -> Result<Row, Unreadable> {
        let namespace = self
            .texts
            .keep(required(pod.metadata.namespace.as_deref(), "metadata.namespace")?);
        let marks = pod.metadata.annotations.as_ref();
        let mirror = marks.is_some_and(|marks| marks.contains_key(MIRROR_MARK));
        // The kubelet runs a static pod from a file, without the cluster's Secrets.
        let keychain = match mirror {
            true => None,
            false => self.keychains.of(&pod.spec, &namespace, &mut self.texts)?,
        };
        let alike = Alike {
            controller: ControllerRef::of(&pod.metadata, &namespace, &mut self.texts),
            namespace,
            mirror,
            images: extract::images(pod, &mut self.texts)?.into(),
            keychain,
        };
        let name = required(pod.metadata.name.as_deref(), "metadata.name")?;
        Ok(Row {
            name: PodName::of(name, alike.controller.as_deref()),
            generation: generation(&pod.metadata),
            created: created(&pod.metadata),
            alike: self.alike.keep(alike),
            told: None,
            path: self.paths.keep(Vec::new()),
            list: self.list,
        })
    }

    /// A pod that is known looks different now.
    fn changed(&mut self, uid: &Uid, moved: bool, now: Instant, effects: &mut Effects) {
        let Some(row) = self.pods.get(uid) else { return };
        match row.told.clone() {
            None => self.settle(uid, Hold::MayWait, now, effects),
            Some(workload) => {
                effects.facts.push(Fact::Pod(row.facts(uid, workload)));
                if moved {
                    self.settle(uid, Hold::TellNow, now, effects);
                }
            }
        }
    }

    /// Finds the workload of a pod and tells the pod where that is news.
    fn settle(&mut self, uid: &Uid, hold: Hold, now: Instant, effects: &mut Effects) {
        let Some(row) = self.pods.get(uid) else { return };
        let climbed = self.climb_of(row);
        self.follow(uid, &climbed, now, effects);
        if !climbed.settled && hold == Hold::MayWait {
            if !self.waiting.contains_key(uid) {
                let is_told = self.pods.get(uid).is_some_and(|row| row.told.is_some());
                self.wait(uid, now, now + if is_told { GRACE } else { OWNER_WAIT });
            }
            return;
        }
        self.stop_waiting(uid);
        let Some(row) = self.pods.get_mut(uid) else { return };
        let workload = workload_of(uid, row, &climbed);
        if row.told.as_ref().is_some_and(|told| is_same(told, &workload)) {
            return;
        }
        let told = self.roster.enter(workload);
        if let Some(before) = row.told.replace(told.clone()) {
            self.roster.leave(&before.key);
        }
        effects.facts.push(Fact::Pod(row.facts(uid, told)));
    }

    fn climb_of(&self, row: &Row) -> Climb {
        let controller = row.alike.controller.as_ref();
        if row.alike.mirror {
            let managed_by = controller.map(|controller| controller.shown());
            return Climb {
                top: None,
                managed_by,
                path: Vec::new(),
                settled: true,
                asking: false,
            };
        }
        climb(controller, |reference| self.owners.known(reference))
    }

    /// Remembers which owners the pod's workload rests on, and asks for those that are not known.
    fn follow(&mut self, uid: &Uid, climbed: &Climb, now: Instant, effects: &mut Effects) {
        let Some(row) = self.pods.get_mut(uid) else { return };
        if *row.path != *climbed.path {
            let path = self.paths.keep(climbed.path.clone());
            let old = std::mem::replace(&mut row.path, path);
            self.dependents.remove(uid, &old);
            self.dependents.insert(uid, &climbed.path);
        }
        if let Some((last, below)) = climbed.path.split_last() {
            for key in below {
                self.ask(key, true, now, effects);
            }
            self.ask(last, climbed.settled, now, effects);
        }
    }

    fn ask(&mut self, key: &WorkloadKey, settled: bool, now: Instant, effects: &mut Effects) {
        effects.questions.extend(self.owners.ask(key, settled, now));
    }

    fn resettle_dependents(&mut self, key: &WorkloadKey, now: Instant, effects: &mut Effects) {
        for uid in self.dependents.of(key) {
            self.settle(&uid, Hold::MayWait, now, effects);
        }
    }

    fn drop_pod(&mut self, uid: &Uid, effects: &mut Effects) {
        let Some(row) = self.pods.remove(uid) else { return };
        self.stop_waiting(uid);
        self.dependents.remove(uid, &row.path);
        if let Some(workload) = row.told {
            self.roster.leave(&workload.key);
            effects.facts.push(Fact::PodGone(uid.clone()));
        }
    }
}

impl Row {
    fn name(&self) -> String {
        self.name.text(self.alike.controller.as_deref())
    }

    fn facts(&self, uid: &Uid, workload: Arc<Workload>) -> PodFacts {
        PodFacts {
            uid: uid.clone(),
            name: self.name().into(),
            workload,
            images: self.alike.images.to_vec(),
            keychain: self.alike.keychain.clone(),
        }
    }
}

fn required<'a>(value: Option<&'a str>, field: &'static str) -> Result<&'a str, Unreadable> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(Unreadable { field })
}

/// The top of the climb, or the pod itself.
fn workload_of(uid: &Uid, row: &Row, climbed: &Climb) -> Workload {
    let managed_by = climbed.managed_by.clone();
    let (reference, created) = match &climbed.top {
        Some((top, owner)) => {
            let built_in = BuiltIn::of(&top.key.group, &top.key.kind);
            let reference = WorkloadRef {
                api_version: built_in.map_or_else(|| top.api_version.to_string(), BuiltIn::api_version),
                kind: top.key.kind.to_string(),
                name: top.key.name.to_string(),
                uid: owner.uid.to_string(),
                observed_generation: owner.generation.map(Generation::get),
                managed_by,
            };
            (reference, owner.created)
        }
        None => {
            let reference = WorkloadRef {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: row.name(),
                uid: uid.to_string(),
                observed_generation: row.generation.map(Generation::get),
                managed_by,
            };
            (reference, row.created)
        }
    };
    let key = match &climbed.top {
        Some((top, _)) => top.key.clone(),
        None => WorkloadKey::of(row.alike.namespace.clone(), &reference),
    };
    Workload {
        key,
        reference,
        created: of_second(created),
    }
}

/// Whether two say the same but for the generation, which alone is no news.
fn is_same(old: &Workload, new: &Workload) -> bool {
    old.key == new.key
        && old.created == new.created
        && old.reference.api_version == new.reference.api_version
        && old.reference.uid == new.reference.uid
        && old.reference.managed_by == new.reference.managed_by
}

#[cfg(test)]
mod tests;
