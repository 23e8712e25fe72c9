//! What is known of owners: built-in kinds as their watches tell; custom kinds, and what was let go of, as they were
//! asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Uid, WorkloadKey, WorkloadNames};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::climb::{BUILT_IN, BuiltIn, ControllerRef, Known, OwnerMeta, may_be_custom};
use super::slim::{created, generation};
use super::texts::Texts;

/// How long an owner that was asked for and read is believed to exist unchanged.
const BELIEVED: Duration = Duration::from_secs(600);
/// How long an owner that could not be read is left alone; doubles up to [`BELIEVED`].
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// How long an owner of a built-in kind that could not be read is left alone; doubles up to [`LEFT_ALONE`].
const A_MOMENT: Duration = Duration::from_secs(1);
/// An owner that is not there, or not with the uid that was expected, is asked for again unless the answer is as fresh
/// as this.
const FRESH: Duration = Duration::from_secs(5);

/// What asking for an owner gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It exists.
    Is(OwnerMeta),
    /// The API server says that it does not exist.
    Absent,
    /// It cannot be read, or lives outside of namespaces.
    OutOfReach,
}

/// A question about an owner. The answer to one counts until there is a later one, or something else tells of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerQuestion {
    pub(crate) owner: WorkloadKey,
    number: u64,
}

/// Every owner that is known.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// By kind.
    watched: HashMap<&'static str, Watched>,
    asked: HashMap<WorkloadKey, Asked>,
    /// How many questions there were.
    questions: u64,
}

/// The owners of one built-in kind, as its watch tells.
#[derive(Debug, Default)]
struct Watched {
    /// By namespace and name. Boxed, for a table is up to twice as large as what it holds.
    seen: HashMap<Arc<str>, HashMap<Box<str>, Box<Seen>>>,
    list: u32,
}

impl Watched {
    fn get(&self, key: &WorkloadKey) -> Option<&Seen> {
        let seen = self.seen.get(&key.namespace)?.get(&*key.name)?;
        Some(seen)
    }
}

#[derive(Debug)]
struct Seen {
    owner: OwnerMeta,
    list: u32,
    /// So many times in a row it was found that nobody needs it.
    idle: u8,
}

#[derive(Debug)]
struct Asked {
    /// The number of the last question.
    number: u64,
    answer: Option<Answer>,
    /// When it was asked for, or answered.
    at: Instant,
    /// None while it is asked for.
    again: Option<Instant>,
    pause: Duration,
}

/// The key of an owner object; None where the server left out what every object has.
pub(crate) fn key_of(kind: &BuiltIn, metadata: &ObjectMeta, texts: &mut Texts) -> Option<WorkloadKey> {
    Some(WorkloadKey::from(WorkloadNames {
        namespace: texts.keep(metadata.namespace.as_deref()?),
        group: texts.keep(kind.group),
        kind: texts.keep(kind.kind),
        name: texts.borrow(metadata.name.as_deref()?),
    }))
}

/// The part of an owner's metadata that the climb needs.
pub(crate) fn owner_of(metadata: &ObjectMeta, namespace: &Arc<str>, texts: &mut Texts) -> Option<OwnerMeta> {
    Some(OwnerMeta {
        uid: metadata.uid.as_deref()?.into(),
        generation: generation(metadata),
        created: created(metadata),
        controller: ControllerRef::of(metadata, namespace, texts),
    })
}

impl Owners {
    /// What is known of the object that the reference names.
    pub(crate) fn known(&self, reference: &ControllerRef) -> Known<'_> {
        let WorkloadNames { group, kind, .. } = &*reference.key;
        let built_in = BuiltIn::of(group, kind);
        match built_in.and_then(|built_in| self.watched_owner(built_in, &reference.key)) {
            Some(owner) => return Known::Is(owner),
            None if may_be_asked_for(&reference.key) => {}
            None if built_in.is_some() => return Known::Absent,
            None => return Known::OutOfReach,
        }
        let asked = self.asked.get(&reference.key);
        match asked.and_then(|asked| asked.answer.as_ref()) {
            None => Known::Asked,
            Some(Answer::Is(owner)) => Known::Is(owner),
            Some(Answer::Absent) => Known::Absent,
            // A built-in kind can be read where pods can: that one object cannot be is a trouble of the moment.
            Some(Answer::OutOfReach) if built_in.is_some() => Known::Asked,
            Some(Answer::OutOfReach) => Known::OutOfReach,
        }
    }

    /// What the watch of the kind told of the owner last.
    fn watched_owner(&self, kind: &BuiltIn, key: &WorkloadKey) -> Option<&OwnerMeta> {
        Some(&self.watched.get(kind.kind)?.get(key)?.owner)
    }

    /// The question about the owner, where it must be asked now.
    pub(crate) fn ask(&mut self, key: &WorkloadKey, settled: bool, now: Instant) -> Option<OwnerQuestion> {
        let built_in = BuiltIn::of(&key.group, &key.kind);
        let is_held = built_in.is_some_and(|kind| self.is_held(kind, key));
        if is_held || !may_be_asked_for(key) {
            return None;
        }
        let number = self.questions + 1;
        match self.asked.get_mut(key) {
            None => {
                let asked = Asked {
                    number,
                    answer: None,
                    at: now,
                    again: None,
                    pause: Duration::ZERO,
                };
                self.asked.insert(key.clone(), asked);
            }
            Some(asked) => {
                let due = asked.again.is_some_and(|again| again <= now);
                let is_read = matches!(asked.answer, Some(Answer::Is(_) | Answer::Absent));
                let is_fresh = now.duration_since(asked.at) < FRESH;
                let doubtful = !settled && asked.again.is_some() && is_read && !is_fresh;
                if !due && !doubtful {
                    return None;
                }
                asked.number = number;
                asked.at = now;
                asked.again = None;
            }
        }
        self.questions = number;
        Some(OwnerQuestion {
            owner: key.clone(),
            number,
        })
    }

    /// Whether the answer counts: nothing came after the question. Pods may have gone.
    pub(crate) fn is_open(&self, question: &OwnerQuestion) -> bool {
        let asked = self.asked.get(&question.owner);
        asked.is_some_and(|asked| asked.number == question.number && asked.again.is_none())
    }

    /// Notes the answer to a question; says whether it changes a climb.
    pub(crate) fn answered(&mut self, question: &OwnerQuestion, answer: Answer, now: Instant) -> bool {
        if !self.is_open(question) {
            return false;
        }
        let key = &question.owner;
        let built_in = BuiltIn::of(&key.group, &key.kind);
        let answer = match (answer, built_in) {
            // From now on its watch tells of it.
            (Answer::Is(owner), Some(kind)) => return self.found(kind, key, owner),
            (answer, _) => answer,
        };
        let Some(asked) = self.asked.get_mut(key) else {
            return false;
        };
        let (first, longest) = match (&answer, built_in) {
            (Answer::OutOfReach, Some(_)) => (A_MOMENT, LEFT_ALONE),
            // If it comes, its watch tells.
            (Answer::Is(_), _) | (Answer::Absent, Some(_)) => (BELIEVED, BELIEVED),
            (Answer::Absent | Answer::OutOfReach, None) => (LEFT_ALONE, BELIEVED),
        };
        asked.pause = match asked.answer.as_ref() == Some(&answer) {
            true => (asked.pause * 2).min(longest),
            false => first,
        };
        asked.at = now;
        asked.again = Some(now + asked.pause);
        let changed = match (&asked.answer, &answer) {
            (Some(Answer::Is(old)), Answer::Is(new)) => moves_a_climb(old, new),
            (Some(old), new) => old != new,
            (None, _) => true,
        };
        asked.answer = Some(answer);
        changed
    }

    /// The questions about owners that could not be read and are due to be asked for again.
    pub(crate) fn ask_again(&mut self, now: Instant) -> Vec<OwnerQuestion> {
        let is_due = |asked: &Asked| {
            !matches!(asked.answer, Some(Answer::Is(_))) && asked.again.is_some_and(|again| again <= now)
        };
        let due = self.asked.iter().filter(|(_, asked)| is_due(asked));
        let due: Vec<WorkloadKey> = due.map(|(key, _)| key.clone()).collect();
        due.iter().filter_map(|key| self.ask(key, true, now)).collect()
    }

    /// Forgets the owners that were asked for, that nobody needs and that are due to be asked for again.
    pub(crate) fn forget_unused(&mut self, used: impl Fn(&WorkloadKey) -> bool, now: Instant) {
        self.asked
            .retain(|key, asked| asked.again.is_none_or(|again| again > now) || used(key));
    }

    /// Whether a built-in owner is held as its watch tells of it.
    pub(crate) fn is_held(&self, kind: &BuiltIn, key: &WorkloadKey) -> bool {
        self.watched_owner(kind, key).is_some()
    }

    /// A built-in owner looks like this; says whether that changes a climb.
    pub(crate) fn seen(&mut self, kind: &BuiltIn, key: &WorkloadKey, owner: OwnerMeta) -> bool {
        let list = self.watched.entry(kind.kind).or_default().list;
        self.hold(kind, key, owner, list)
    }

    /// A built-in owner that was asked for looks like this. A list that is under way may be of before or after that: what
    /// it does not hold is asked for again.
    fn found(&mut self, kind: &BuiltIn, key: &WorkloadKey, owner: OwnerMeta) -> bool {
        let list = self.watched.entry(kind.kind).or_default().list;
        self.hold(kind, key, owner, list.wrapping_sub(1))
    }

    fn hold(&mut self, kind: &BuiltIn, key: &WorkloadKey, owner: OwnerMeta, list: u32) -> bool {
        self.asked.remove(key);
        let all = self.watched.entry(kind.kind).or_default();
        let namespace = all.seen.entry(key.namespace.clone()).or_default();
        let seen = Seen { owner, list, idle: 0 };
        match namespace.get_mut(&*key.name) {
            Some(known) => {
                let changed = moves_a_climb(&known.owner, &seen.owner);
                **known = seen;
                changed
            }
            None => {
                namespace.insert((*key.name).into(), Box::new(seen));
                true
            }
        }
    }

    /// A built-in owner is gone; one of the same name that was created since stays.
    pub(crate) fn gone(&mut self, kind: &BuiltIn, key: &WorkloadKey, uid: &str) -> bool {
        // What is asked for may have been found before it went.
        if self.asked.remove(key).is_some() {
            return true;
        }
        let Some(all) = self.watched.get_mut(kind.kind) else {
            return false;
        };
        let Some(namespace) = all.seen.get_mut(&key.namespace) else {
            return false;
        };
        let uid = Uid::from(uid);
        let dead = namespace
            .get(&*key.name)
            .is_some_and(|seen| seen.owner.uid == uid);
        if dead {
            namespace.remove(&*key.name);
            if namespace.is_empty() {
                all.seen.remove(&key.namespace);
            }
        }
        dead
    }

    /// Lets go of controlled owners that nobody needs, and did not need the last so many times that this was called. One
    /// that is needed later is asked for.
    pub(crate) fn let_go(&mut self, patience: u8, is_needed: impl Fn(&WorkloadKey) -> bool) {
        for kind in BUILT_IN.iter().filter(|kind| kind.let_go_without_pods) {
            let Some(all) = self.watched.get_mut(kind.kind) else {
                continue;
            };
            let key = keys_of(kind);
            for (namespace, seen) in &mut all.seen {
                seen.retain(|name, seen| {
                    let stays = seen.owner.controller.is_none() || is_needed(&key(namespace, name));
                    let idle = if stays { 0 } else { seen.idle.saturating_add(1) };
                    seen.idle = idle;
                    idle <= patience
                });
                if seen.capacity() > 4 * seen.len() {
                    seen.shrink_to_fit();
                }
            }
            all.seen.retain(|_, seen| !seen.is_empty());
        }
    }

    /// A complete list of one built-in kind begins.
    pub(crate) fn list_begins(&mut self, kind: &BuiltIn) {
        self.watched.entry(kind.kind).or_default().list += 1;
    }

    /// A complete list of one built-in kind ended: what it did not hold is gone, or is asked for again where it is needed.
    pub(crate) fn list_ended(&mut self, kind: &BuiltIn) -> Vec<WorkloadKey> {
        let Some(all) = self.watched.get_mut(kind.kind) else {
            return Vec::new();
        };
        let list = all.list;
        let (key, mut missing) = (keys_of(kind), Vec::new());
        for (namespace, seen) in &mut all.seen {
            let gone = seen.extract_if(|_, seen| seen.list != list);
            missing.extend(gone.map(|(name, _)| key(namespace, &name)));
        }
        all.seen.retain(|_, seen| !seen.is_empty());
        let is_of_kind = |key: &WorkloadKey| BuiltIn::of(&key.group, &key.kind) == Some(kind);
        // What is asked for may have been found before this list, and have gone before it too.
        let asked = self.asked.extract_if(|key, _| is_of_kind(key));
        missing.extend(asked.map(|(key, _)| key));
        missing
    }
}

/// Whether there may be an owner that no watch tells of.
fn may_be_asked_for(key: &WorkloadKey) -> bool {
    match BuiltIn::of(&key.group, &key.kind) {
        Some(kind) => kind.let_go_without_pods,
        None => may_be_custom(&key.group),
    }
}

/// Makes the keys of owners of one kind, from namespace and name.
fn keys_of(kind: &BuiltIn) -> impl Fn(&Arc<str>, &str) -> WorkloadKey + use<> {
    let (group, kind): (Arc<str>, Arc<str>) = (kind.group.into(), kind.kind.into());
    move |namespace, name| {
        WorkloadKey::from(WorkloadNames {
            namespace: namespace.clone(),
            group: group.clone(),
            kind: kind.clone(),
            name: name.into(),
        })
    }
}

/// A new generation alone moves nobody.
fn moves_a_climb(old: &OwnerMeta, new: &OwnerMeta) -> bool {
    old.uid != new.uid || old.controller != new.controller
}

#[cfg(test)]
mod tests {
    use super::super::slim::Generation;
    use super::*;

    fn kind(name: &str) -> &'static BuiltIn {
        BuiltIn::named(name).unwrap()
    }

    fn key(group: &str, kind: &str, name: &str) -> WorkloadKey {
        WorkloadKey::from(WorkloadNames {
            namespace: "shop".into(),
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
        })
    }

    fn owner(uid: &str) -> OwnerMeta {
        OwnerMeta {
            uid: uid.into(),
            generation: Generation::new(1),
            created: 0,
            controller: None,
        }
    }

    fn reference(key: &WorkloadKey) -> ControllerRef {
        ControllerRef {
            key: key.clone(),
            api_version: "x/v1".into(),
            uid: "1".into(),
        }
    }

    #[test]
    fn a_list_that_does_not_hold_an_owner_says_that_it_is_gone() {
        let mut owners = Owners::default();
        let (web, api, job) = (
            key("apps", "Deployment", "web"),
            key("apps", "Deployment", "api"),
            key("batch", "Job", "web"),
        );
        for (name, key) in [("Deployment", &web), ("Deployment", &api), ("Job", &job)] {
            assert!(owners.seen(kind(name), key, owner("1")));
        }
        owners.list_begins(kind("Deployment"));
        assert!(!owners.seen(kind("Deployment"), &web, owner("1")));
        assert_eq!(owners.list_ended(kind("Deployment")), [api]);
        assert!(matches!(owners.known(&reference(&web)), Known::Is(_)));
        assert!(
            matches!(owners.known(&reference(&job)), Known::Is(_)),
            "a list of one kind says nothing of others"
        );
    }

    #[test]
    fn the_deletion_of_a_predecessor_does_not_remove_its_successor() {
        let mut owners = Owners::default();
        let web = key("apps", "Deployment", "web");
        owners.seen(kind("Deployment"), &web, owner("new"));
        assert!(!owners.gone(kind("Deployment"), &web, "old"));
        assert!(owners.gone(kind("Deployment"), &web, "new"));
        assert_eq!(owners.known(&reference(&web)), Known::Absent);
    }

    #[test]
    fn a_new_generation_moves_no_pod() {
        let mut owners = Owners::default();
        let web = key("apps", "Deployment", "web");
        assert!(owners.seen(kind("Deployment"), &web, owner("1")));
        assert!(!owners.seen(
            kind("Deployment"),
            &web,
            OwnerMeta {
                generation: Generation::new(2),
                ..owner("1")
            }
        ));
        assert!(owners.seen(kind("Deployment"), &web, owner("2")));
    }

    #[test]
    fn a_custom_owner_is_asked_for_once_and_again_when_its_answer_is_old() {
        let mut owners = Owners::default();
        let app = key("x.io", "App", "a");
        let start = Instant::now();
        let question = owners.ask(&app, true, start).unwrap();
        assert_eq!(owners.ask(&app, true, start), None, "one question is enough");
        assert_eq!(owners.known(&reference(&app)), Known::Asked);
        assert!(owners.answered(&question, Answer::Is(owner("1")), start));
        assert_eq!(owners.ask(&app, true, start + BELIEVED / 2), None);
        assert!(owners.ask(&app, true, start + BELIEVED).is_some());
    }

    #[test]
    fn a_custom_owner_with_another_uid_is_asked_for_again_soon() {
        let mut owners = Owners::default();
        let app = key("x.io", "App", "a");
        let start = Instant::now();
        let question = owners.ask(&app, true, start).unwrap();
        owners.answered(&question, Answer::Is(owner("old")), start);
        assert_eq!(owners.ask(&app, false, start + FRESH / 2), None);
        assert!(owners.ask(&app, false, start + FRESH).is_some());
    }

    /// Answers that it cannot be read, and is asked for again after each of these pauses and not before.
    fn is_left_alone_for(key: &WorkloadKey, pauses: &[Duration]) {
        let mut owners = Owners::default();
        let mut now = Instant::now();
        let mut question = owners.ask(key, true, now).unwrap();
        for (at, pause) in pauses.iter().enumerate() {
            let changed = owners.answered(&question, Answer::OutOfReach, now);
            assert_eq!(changed, at == 0, "the same answer moves nobody");
            assert_eq!(owners.ask_again(now + *pause - Duration::from_millis(1)), []);
            now += *pause;
            question = owners.ask_again(now).remove(0);
            assert_eq!(&question.owner, key);
        }
    }

    #[test]
    fn an_owner_that_cannot_be_read_is_asked_for_ever_more_rarely() {
        let seconds = |seconds: &[u64]| -> Vec<Duration> {
            seconds
                .iter()
                .map(|seconds| Duration::from_secs(*seconds))
                .collect()
        };
        is_left_alone_for(
            &key("x.io", "App", "a"),
            &seconds(&[30, 60, 120, 240, 480, 600, 600]),
        );
        let replica_set = key("apps", "ReplicaSet", "web-1");
        is_left_alone_for(&replica_set, &seconds(&[1, 2, 4, 8, 16, 30, 30]));
    }

    #[test]
    fn kinds_of_kubernetes_that_are_no_workloads_are_out_of_reach() {
        let mut owners = Owners::default();
        let node = key("", "Node", "worker-1");
        assert_eq!(owners.ask(&node, true, Instant::now()), None);
        assert_eq!(owners.known(&reference(&node)), Known::OutOfReach);
    }

    #[test]
    fn of_the_built_in_kinds_those_are_asked_for_that_are_let_go_of() {
        let mut owners = Owners::default();
        for (name, asked) in [("ReplicaSet", true), ("Deployment", false), ("Job", false)] {
            let key = key(kind(name).group, name, "web-1");
            assert_eq!(owners.ask(&key, true, Instant::now()).is_some(), asked, "{name}");
            let known = if asked { Known::Asked } else { Known::Absent };
            assert_eq!(owners.known(&reference(&key)), known, "{name}");
        }
    }

    /// Each of these makes the question one of the past: what was found by it may not be true any more.
    #[test]
    fn the_answer_to_a_question_that_something_came_after_says_nothing() {
        let replica_set = key("apps", "ReplicaSet", "web-1");
        let (kind, now) = (kind("ReplicaSet"), Instant::now());
        type Overtakes = fn(&mut Owners, &BuiltIn, &WorkloadKey);
        let overtaken: [(&str, Overtakes); 3] = [
            ("the watch tells that it is gone", |owners, kind, key| {
                assert!(owners.gone(kind, key, "1"));
            }),
            ("a list does not hold it", |owners, kind, key| {
                owners.list_begins(kind);
                assert_eq!(owners.list_ended(kind), std::slice::from_ref(key));
            }),
            (
                "the watch told of it, and that it is gone",
                |owners, kind, key| {
                    owners.seen(kind, key, owner("1"));
                    assert!(owners.gone(kind, key, "1"));
                },
            ),
        ];
        for (what, overtakes) in overtaken {
            let mut owners = Owners::default();
            let first = owners.ask(&replica_set, true, now).unwrap();
            overtakes(&mut owners, kind, &replica_set);
            assert!(!owners.is_open(&first), "{what}");
            let second = owners.ask(&replica_set, true, now).unwrap();
            assert!(!owners.answered(&first, Answer::Is(owner("1")), now), "{what}");
            assert_eq!(owners.known(&reference(&replica_set)), Known::Asked, "{what}");
            assert!(owners.answered(&second, Answer::Absent, now), "{what}");
            assert_eq!(owners.known(&reference(&replica_set)), Known::Absent, "{what}");
        }
    }

    #[test]
    fn what_was_asked_for_and_found_goes_as_the_watch_and_the_next_list_tell() {
        let replica_set = key("apps", "ReplicaSet", "web-1");
        let (kind, now) = (kind("ReplicaSet"), Instant::now());
        let found = || {
            let mut owners = Owners::default();
            owners.list_begins(kind);
            let question = owners.ask(&replica_set, true, now).unwrap();
            assert!(owners.answered(&question, Answer::Is(owner("1")), now));
            assert!(owners.is_held(kind, &replica_set));
            owners
        };
        assert!(!found().gone(kind, &replica_set, "of another one"));
        assert!(found().gone(kind, &replica_set, "1"));
        assert_eq!(found().list_ended(kind), std::slice::from_ref(&replica_set));
        let mut held = found();
        assert!(!held.seen(kind, &replica_set, owner("1")));
        assert_eq!(held.list_ended(kind), []);
    }

    #[test]
    fn an_owner_is_let_go_of_when_nobody_needed_it_for_so_many_times_in_a_row() {
        let replica_set = key("apps", "ReplicaSet", "web-1");
        let kind = kind("ReplicaSet");
        let controlled = || {
            let controller = Arc::new(reference(&key("apps", "Deployment", "web")));
            OwnerMeta {
                controller: Some(controller),
                ..owner("1")
            }
        };
        let mut owners = Owners::default();
        owners.seen(kind, &replica_set, controlled());
        owners.let_go(1, |_| false);
        owners.let_go(1, |_| true);
        owners.let_go(1, |_| false);
        assert!(owners.is_held(kind, &replica_set));
        owners.seen(kind, &replica_set, controlled());
        owners.let_go(1, |_| false);
        assert!(owners.is_held(kind, &replica_set));
        owners.let_go(1, |_| false);
        assert!(!owners.is_held(kind, &replica_set));
        owners.seen(kind, &replica_set, owner("1"));
        owners.let_go(0, |_| false);
        assert!(
            owners.is_held(kind, &replica_set),
            "what nothing controls is judged itself"
        );
    }
}
