//! What is remembered of how kinds are served, and of which trouble was told: bounded, because the names
//! come from whoever may create a pod.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use engine::WorkloadKey;
use kube::api::ApiResource;

/// How long a kind that was found is believed to be served the same way.
const KIND_BELIEVED: Duration = Duration::from_secs(600);
/// How long a kind that was not found is believed not to be served.
const KIND_MISSED: Duration = Duration::from_secs(30);
/// So many kinds are remembered.
const MOST_KINDS: usize = 512;
/// So many objects are remembered of which trouble was told.
const MOST_TROUBLED: usize = 512;

/// How a kind is served.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Served {
    Namespaced(ApiResource),
    ElsewhereOnly,
    NotAtAll,
}

/// The group and the name of a kind.
pub(super) type KindName = (String, String);

/// What was found out of kinds, as long as it is believed.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    known: HashMap<KindName, (Served, Instant)>,
}

impl Kinds {
    pub(super) fn remembered(&self, kind: &KindName, now: Instant) -> Option<Served> {
        let (served, until) = self.known.get(kind)?;
        (*until > now).then(|| served.clone())
    }

    /// Where there is no room, the kind goes that would be forgotten first.
    pub(super) fn remember(&mut self, kind: KindName, served: Served, now: Instant) {
        self.known.retain(|_, (_, until)| *until > now);
        if self.known.len() >= MOST_KINDS {
            let first = self.known.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(first) = first.map(|(kind, _)| kind.clone()) {
                self.known.remove(&first);
            }
        }
        let believed = match served {
            Served::NotAtAll => KIND_MISSED,
            Served::Namespaced(_) | Served::ElsewhereOnly => KIND_BELIEVED,
        };
        self.known.insert(kind, (served, now + believed));
    }
}

/// The objects that could not be read when they were asked for last.
#[derive(Debug, Default)]
pub(super) struct Troubled {
    keys: HashSet<WorkloadKey>,
}

impl Troubled {
    /// Whether the trouble with the object is to be told: once until it can be read again.
    pub(super) fn is_new(&mut self, key: &WorkloadKey) -> bool {
        if self.keys.contains(key) || self.keys.len() >= MOST_TROUBLED {
            return false;
        }
        self.keys.insert(key.clone())
    }

    pub(super) fn is_over(&mut self, key: &WorkloadKey) {
        self.keys.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use engine::WorkloadNames;

    use super::*;

    fn kind(number: usize) -> KindName {
        (format!("{number}.example.com"), "Thing".to_owned())
    }

    #[test]
    fn kinds_that_a_tenant_makes_up_do_not_pile_up() {
        let mut kinds = Kinds::default();
        let start = Instant::now();
        for number in 0..10_000 {
            kinds.remember(kind(number), Served::NotAtAll, start);
        }
        assert_eq!(kinds.known.len(), MOST_KINDS);
        kinds.remember(kind(0), Served::NotAtAll, start + KIND_MISSED);
        assert_eq!(kinds.known.len(), 1, "what is not believed any more is forgotten");
    }

    #[test]
    fn kinds_that_are_made_up_push_out_none_that_exists() {
        let mut kinds = Kinds::default();
        let start = Instant::now();
        let real = ("db.example.com".to_owned(), "Postgres".to_owned());
        kinds.remember(real.clone(), Served::ElsewhereOnly, start);
        for number in 0..2 * MOST_KINDS {
            kinds.remember(kind(number), Served::NotAtAll, start);
        }
        assert_eq!(kinds.remembered(&real, start), Some(Served::ElsewhereOnly));
        assert_eq!(kinds.remembered(&real, start + KIND_BELIEVED), None);
    }

    #[test]
    fn trouble_with_an_object_is_told_once_until_it_is_over() {
        let key = |name: &str| {
            WorkloadKey::from(WorkloadNames {
                namespace: "shop".into(),
                group: "db.example.com".into(),
                kind: "Postgres".into(),
                name: name.into(),
            })
        };
        let mut troubled = Troubled::default();
        assert!(troubled.is_new(&key("a")));
        assert!(!troubled.is_new(&key("a")));
        assert!(troubled.is_new(&key("b")));
        troubled.is_over(&key("a"));
        assert!(troubled.is_new(&key("a")));
        let told = (0..10_000).filter(|number| troubled.is_new(&key(&number.to_string())));
        assert_eq!(told.count(), MOST_TROUBLED - 2);
    }
}
