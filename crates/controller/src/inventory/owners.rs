//! What is known of owners: built-in kinds as their watches tell, custom kinds as they were asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Uid, WorkloadKey, WorkloadNames};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::climb::{BuiltIn, ControllerRef, Known, OwnerMeta, may_be_custom};
use super::slim::{created, generation};
use super::texts::Texts;

/// How long a custom owner that was read is believed to exist unchanged.
const BELIEVED: Duration = Duration::from_secs(600);
/// How long a custom owner that could not be read is left alone; doubles up to [`BELIEVED`].
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// A custom owner whose uid does not match is asked for again unless the answer is as fresh as this.
const FRESH: Duration = Duration::from_secs(5);

/// What asking for a custom owner gave.
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
    built_in: HashMap<&'static str, OfKind>,
    custom: HashMap<WorkloadKey, Custom>,
}

/// The owners of one built-in kind.
#[derive(Debug, Default)]
struct OfKind {
    /// By namespace and name. Boxed, for a table is up to twice as large as what it holds.
    seen: HashMap<Arc<str>, HashMap<Box<str>, Box<Seen>>>,
    list: u32,
}

impl OfKind {
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
struct Custom {
    answer: Option<Answer>,
    asked: Instant,
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
        if let Some(built_in) = BuiltIn::of(group, kind) {
            return self
                .built_in
                .get(built_in.kind)
                .and_then(|all| all.get(&reference.key))
                .map_or(Known::Absent, |seen| Known::Is(&seen.owner));
        }
        if !may_be_custom(group) {
            return Known::OutOfReach;
        }
        match self
            .custom
            .get(&reference.key)
            .and_then(|custom| custom.answer.as_ref())
        {
            None => Known::Asked,
            Some(Answer::Is(owner)) => Known::Is(owner),
            Some(Answer::Absent) => Known::Absent,
            Some(Answer::OutOfReach) => Known::OutOfReach,
        }
    }

    /// Whether the owner must be asked for now, and notes that it is.
    pub(crate) fn must_ask(&mut self, key: &WorkloadKey, settled: bool, now: Instant) -> bool {
        if BuiltIn::of(&key.group, &key.kind).is_some() || !may_be_custom(&key.group) {
            return false;
        }
        let Some(custom) = self.custom.get_mut(key) else {
            self.custom.insert(
                key.clone(),
                Custom {
                    answer: None,
                    asked: now,
                    again: None,
                    pause: LEFT_ALONE,
                },
            );
            return true;
        };
        let due = custom.again.is_some_and(|again| again <= now);
        let doubtful = !settled && custom.again.is_some() && now.duration_since(custom.asked) >= FRESH;
        if due || doubtful {
            custom.asked = now;
            custom.again = None;
        }
        due || doubtful
    }

    /// Notes the answer about a custom owner; says whether it changes a climb.
    pub(crate) fn answered(&mut self, key: &WorkloadKey, answer: Answer, now: Instant) -> bool {
        let Some(custom) = self.custom.get_mut(key) else {
            return false;
        };
        custom.pause = match answer {
            Answer::Is(_) => BELIEVED,
            Answer::Absent | Answer::OutOfReach if custom.answer.as_ref() == Some(&answer) => {
                (custom.pause * 2).min(BELIEVED)
            }
            Answer::Absent | Answer::OutOfReach => LEFT_ALONE,
        };
        custom.again = Some(now + custom.pause);
        let changed = match (&custom.answer, &answer) {
            (Some(Answer::Is(old)), Answer::Is(new)) => moves_a_climb(old, new),
            (Some(old), new) => old != new,
            (None, _) => true,
        };
        custom.answer = Some(answer);
        changed
    }

    /// The custom owners that could not be read and are due to be asked for again.
    pub(crate) fn unread_and_due(&self, now: Instant) -> Vec<WorkloadKey> {
        let is_due = |custom: &Custom| {
            !matches!(custom.answer, Some(Answer::Is(_))) && custom.again.is_some_and(|again| again <= now)
        };
        self.custom
            .iter()
            .filter(|(_, custom)| is_due(custom))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Forgets the custom owners that nobody needs and that are due to be asked for again.
    pub(crate) fn forget_unused(&mut self, used: impl Fn(&WorkloadKey) -> bool, now: Instant) {
        self.custom
            .retain(|key, custom| used(key) || custom.again.is_none_or(|again| again > now));
    }

    /// A built-in owner looks like this; says whether that changes a climb.
    pub(crate) fn seen(&mut self, kind: &'static str, key: &WorkloadKey, owner: OwnerMeta) -> bool {
        let all = self.built_in.entry(kind).or_default();
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
    pub(crate) fn gone(&mut self, kind: &'static str, key: &WorkloadKey, uid: &str) -> bool {
        let Some(all) = self.built_in.get_mut(kind) else {
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

    /// A complete list of one built-in kind begins.
    pub(crate) fn list_begins(&mut self, kind: &'static str) {
        self.built_in.entry(kind).or_default().list += 1;
    }

    /// A complete list of one built-in kind ended: what it did not hold is gone.
    pub(crate) fn list_ended(&mut self, kind: &'static BuiltIn) -> Vec<WorkloadKey> {
        let Some(all) = self.built_in.get_mut(kind.kind) else {
            return Vec::new();
        };
        let list = all.list;
        let mut missing = Vec::new();
        for (namespace, seen) in &mut all.seen {
            let gone = seen.extract_if(|_, seen| seen.list != list);
            missing.extend(gone.map(|(name, _)| key_in(kind, namespace, &name)));
        }
        all.seen.retain(|_, seen| !seen.is_empty());
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
    use super::super::climb::BUILT_IN;
    use super::super::slim::Generation;
    use super::*;

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
        for (kind, key) in [("Deployment", &web), ("Deployment", &api), ("Job", &job)] {
            assert!(owners.seen(kind, key, owner("1")));
        }
        owners.list_begins("Deployment");
        assert!(!owners.seen("Deployment", &web, owner("1")));
        assert_eq!(owners.list_ended(&BUILT_IN[0]), [api]);
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
        owners.seen("Deployment", &web, owner("new"));
        assert!(!owners.gone("Deployment", &web, "old"));
        assert!(owners.gone("Deployment", &web, "new"));
        assert_eq!(owners.known(&reference(&web)), Known::Absent);
    }

    #[test]
    fn a_new_generation_moves_no_pod() {
        let mut owners = Owners::default();
        let web = key("apps", "Deployment", "web");
        assert!(owners.seen("Deployment", &web, owner("1")));
        assert!(!owners.seen(
            "Deployment",
            &web,
            OwnerMeta {
                generation: Generation::new(2),
                ..owner("1")
            }
        ));
        assert!(owners.seen("Deployment", &web, owner("2")));
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
