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
/// An owner whose uid does not match is asked for again unless the answer is as fresh as this.
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

/// Every owner that is known.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// By kind.
    watched: HashMap<&'static str, Watched>,
    asked: HashMap<WorkloadKey, Asked>,
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
}

#[derive(Debug)]
struct Asked {
    answer: Option<Answer>,
    at: Instant,
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
        if let Some(owner) = built_in.and_then(|built_in| self.watched_owner(built_in, &reference.key)) {
            return Known::Is(owner);
        }
        match built_in {
            Some(built_in) if !built_in.is_let_go_of() => return Known::Absent,
            None if !may_be_custom(group) => return Known::OutOfReach,
            Some(_) | None => {}
        }
        let asked = self.asked.get(&reference.key);
        match asked.and_then(|asked| asked.answer.as_ref()) {
            None => Known::Asked,
            Some(Answer::Is(owner)) => Known::Is(owner),
            Some(Answer::Absent) => Known::Absent,
            // A built-in kind is read like the pods are: that one cannot be is a trouble of the moment.
            Some(Answer::OutOfReach) if built_in.is_some() => Known::Asked,
            Some(Answer::OutOfReach) => Known::OutOfReach,
        }
    }

    /// What the watch of the kind told of the owner last.
    fn watched_owner(&self, kind: &BuiltIn, key: &WorkloadKey) -> Option<&OwnerMeta> {
        Some(&self.watched.get(kind.kind)?.get(key)?.owner)
    }

    /// Whether the watch of the kind says all there is to say of the owner, or nobody could.
    fn need_not_be_asked_for(&self, key: &WorkloadKey) -> bool {
        match BuiltIn::of(&key.group, &key.kind) {
            Some(built_in) => !built_in.is_let_go_of() || self.watched_owner(built_in, key).is_some(),
            None => !may_be_custom(&key.group),
        }
    }

    /// Whether the owner must be asked for now, and notes that it is.
    pub(crate) fn must_ask(&mut self, key: &WorkloadKey, settled: bool, now: Instant) -> bool {
        if self.need_not_be_asked_for(key) {
            return false;
        }
        let Some(asked) = self.asked.get_mut(key) else {
            self.asked.insert(
                key.clone(),
                Asked {
                    answer: None,
                    at: now,
                    again: None,
                    pause: LEFT_ALONE,
                },
            );
            return true;
        };
        let due = asked.again.is_some_and(|again| again <= now);
        let doubtful = !settled && asked.again.is_some() && now.duration_since(asked.at) >= FRESH;
        if due || doubtful {
            asked.at = now;
            asked.again = None;
        }
        due || doubtful
    }

    /// Notes the answer about an owner; says whether it changes a climb.
    pub(crate) fn answered(&mut self, key: &WorkloadKey, answer: Answer, now: Instant) -> bool {
        let Some(asked) = self.asked.get_mut(key) else {
            return false;
        };
        asked.pause = match answer {
            Answer::Is(_) => BELIEVED,
            Answer::Absent | Answer::OutOfReach if asked.answer.as_ref() == Some(&answer) => {
                (asked.pause * 2).min(BELIEVED)
            }
            Answer::Absent | Answer::OutOfReach => LEFT_ALONE,
        };
        asked.again = Some(now + asked.pause);
        let changed = match (&asked.answer, &answer) {
            (Some(Answer::Is(old)), Answer::Is(new)) => moves_a_climb(old, new),
            (Some(old), new) => old != new,
            (None, _) => true,
        };
        asked.answer = Some(answer);
        changed
    }

    /// The owners that could not be read and are due to be asked for again.
    pub(crate) fn unread_and_due(&self, now: Instant) -> Vec<WorkloadKey> {
        let is_due = |asked: &Asked| {
            !matches!(asked.answer, Some(Answer::Is(_))) && asked.again.is_some_and(|again| again <= now)
        };
        self.asked
            .iter()
            .filter(|(_, asked)| is_due(asked))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Forgets the owners that were asked for, that nobody needs and that are due to be asked for again.
    pub(crate) fn forget_unused(&mut self, used: impl Fn(&WorkloadKey) -> bool, now: Instant) {
        self.asked
            .retain(|key, asked| used(key) || asked.again.is_none_or(|again| again > now));
    }

    /// A built-in owner looks like this; says whether that changes a climb.
    pub(crate) fn seen(&mut self, kind: &BuiltIn, key: &WorkloadKey, owner: OwnerMeta) -> bool {
        self.asked.remove(key);
        let all = self.watched.entry(kind.kind).or_default();
        let list = all.list;
        let namespace = all.seen.entry(key.namespace.clone()).or_default();
        match namespace.get_mut(&*key.name) {
            Some(known) => {
                let changed = moves_a_climb(&known.owner, &owner);
                **known = Seen { owner, list };
                changed
            }
            None => {
                namespace.insert((*key.name).into(), Box::new(Seen { owner, list }));
                true
            }
        }
    }

    /// A built-in owner is gone; one of the same name that was created since stays.
    pub(crate) fn gone(&mut self, kind: &BuiltIn, key: &WorkloadKey, uid: &str) -> bool {
        // One that was let go of may have been asked for since, and is asked for again where it is needed.
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

    /// Lets go of owners of which the watch will tell nothing that anybody needs.
    pub(crate) fn let_go(&mut self, is_needed: impl Fn(&WorkloadKey) -> bool) {
        for kind in BUILT_IN.iter().filter(|kind| kind.is_let_go_of()) {
            let Some(all) = self.watched.get_mut(kind.kind) else {
                continue;
            };
            for (namespace, seen) in &mut all.seen {
                seen.retain(|name, seen| {
                    seen.owner.controller.is_none() || is_needed(&key_in(kind, namespace, name))
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
        let mut missing = Vec::new();
        for (namespace, seen) in &mut all.seen {
            let gone = seen.extract_if(|_, seen| seen.list != list);
            missing.extend(gone.map(|(name, _)| key_in(kind, namespace, &name)));
        }
        all.seen.retain(|_, seen| !seen.is_empty());
        let is_of_kind = |key: &WorkloadKey| BuiltIn::of(&key.group, &key.kind) == Some(kind);
        let asked = self
            .asked
            .extract_if(|key, asked| is_of_kind(key) && asked.again.is_some());
        missing.extend(asked.map(|(key, _)| key));
        missing
    }
}

fn key_in(kind: &BuiltIn, namespace: &Arc<str>, name: &str) -> WorkloadKey {
    WorkloadKey::from(WorkloadNames {
        namespace: namespace.clone(),
        group: kind.group.into(),
        kind: kind.kind.into(),
        name: name.into(),
    })
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
        assert!(owners.must_ask(&app, true, start));
        assert!(!owners.must_ask(&app, true, start), "one question is enough");
        assert_eq!(owners.known(&reference(&app)), Known::Asked);
        assert!(owners.answered(&app, Answer::Is(owner("1")), start));
        assert!(!owners.must_ask(&app, true, start + BELIEVED / 2));
        assert!(owners.must_ask(&app, true, start + BELIEVED));
    }

    #[test]
    fn a_custom_owner_with_another_uid_is_asked_for_again_soon() {
        let mut owners = Owners::default();
        let app = key("x.io", "App", "a");
        let start = Instant::now();
        assert!(owners.must_ask(&app, true, start));
        owners.answered(&app, Answer::Is(owner("old")), start);
        assert!(!owners.must_ask(&app, false, start + FRESH / 2));
        assert!(owners.must_ask(&app, false, start + FRESH));
    }

    #[test]
    fn a_custom_owner_that_cannot_be_read_is_asked_for_ever_more_rarely() {
        let mut owners = Owners::default();
        let app = key("x.io", "App", "a");
        let mut now = Instant::now();
        assert!(owners.must_ask(&app, true, now));
        assert!(owners.answered(&app, Answer::OutOfReach, now));
        for pause in [LEFT_ALONE, LEFT_ALONE * 2, LEFT_ALONE * 4] {
            assert_eq!(owners.unread_and_due(now + pause - Duration::from_secs(1)), []);
            now += pause;
            assert_eq!(owners.unread_and_due(now), std::slice::from_ref(&app));
            assert!(owners.must_ask(&app, true, now));
            assert!(
                !owners.answered(&app, Answer::OutOfReach, now),
                "the same answer moves nobody"
            );
        }
    }

    #[test]
    fn kinds_of_kubernetes_that_are_no_workloads_are_out_of_reach() {
        let mut owners = Owners::default();
        let node = key("", "Node", "worker-1");
        assert!(!owners.must_ask(&node, true, Instant::now()));
        assert_eq!(owners.known(&reference(&node)), Known::OutOfReach);
    }
}
