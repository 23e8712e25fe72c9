//! Which pods rest on which owners.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::{Uid, WorkloadKey};

/// Pods by what controls them, and that by the owners above it: thousands of pods share a path to the top.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    pods: HashMap<WorkloadKey, BTreeSet<Uid>>,
    /// By each owner further up, what lies at the beginning of paths to it, and of how many pods' paths.
    below: HashMap<WorkloadKey, BTreeMap<WorkloadKey, usize>>,
}

impl Dependents {
    /// A pod rests on these owners, from the one that controls it upwards. It rested on none before.
    pub(crate) fn insert(&mut self, uid: &Uid, path: &[WorkloadKey]) {
        let Some((controller, above)) = path.split_first() else {
            return;
        };
        let pods = self.pods.entry(controller.clone()).or_default();
        pods.insert(uid.clone());
        for key in above {
            let below = self.below.entry(key.clone()).or_default();
            *below.entry(controller.clone()).or_default() += 1;
        }
    }

    /// A pod does not rest on these owners any more, on all of which it rested.
    pub(crate) fn remove(&mut self, uid: &Uid, path: &[WorkloadKey]) {
        let Some((controller, above)) = path.split_first() else {
            return;
        };
        if let Some(pods) = self.pods.get_mut(controller) {
            pods.remove(uid);
            if pods.is_empty() {
                self.pods.remove(controller);
            }
        }
        for key in above {
            self.leave(controller, key);
        }
    }

    fn leave(&mut self, controller: &WorkloadKey, key: &WorkloadKey) {
        let Some(below) = self.below.get_mut(key) else {
            return;
        };
        if let Some(paths) = below.get_mut(controller) {
            *paths -= 1;
            if *paths == 0 {
                below.remove(controller);
            }
        }
        if below.is_empty() {
            self.below.remove(key);
        }
    }

    /// The pods that rest on an owner, and those that name one controller with them by another uid.
    pub(crate) fn of(&self, key: &WorkloadKey) -> Vec<Uid> {
        let controllers = self.below.get(key).into_iter().flat_map(BTreeMap::keys);
        let controllers = controllers.chain(std::iter::once(key));
        let pods = controllers.filter_map(|controller| self.pods.get(controller));
        pods.flatten().cloned().collect()
    }

    /// Whether a pod rests on the owner.
    pub(crate) fn are_there(&self, key: &WorkloadKey) -> bool {
        self.pods.contains_key(key) || self.below.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::WorkloadNames;

    fn key(kind: &str, name: &str) -> WorkloadKey {
        WorkloadKey::from(WorkloadNames {
            namespace: "shop".into(),
            group: "apps".into(),
            kind: kind.into(),
            name: name.into(),
        })
    }

    #[test]
    fn pods_rest_on_every_owner_of_their_path_until_they_go() {
        let (set, web) = (key("ReplicaSet", "web-1"), key("Deployment", "web"));
        let path = [set.clone(), web.clone()];
        let (a, b): (Uid, Uid) = ("a".into(), "b".into());
        let mut dependents = Dependents::default();
        dependents.insert(&a, &path);
        dependents.insert(&b, &path);
        assert_eq!(dependents.of(&web), [a.clone(), b.clone()]);
        assert_eq!(dependents.of(&set), [a.clone(), b.clone()]);
        dependents.remove(&a, &path);
        assert_eq!(dependents.of(&web), std::slice::from_ref(&b));
        dependents.remove(&b, &path);
        assert!(!dependents.are_there(&web) && !dependents.are_there(&set));
    }

    /// Whoever may edit a ReplicaSet may name any number of owners in it, one after the other.
    #[test]
    fn an_owner_that_no_path_leads_to_any_more_is_forgotten_although_the_pods_stay() {
        let (set, web) = (key("ReplicaSet", "web-1"), key("Deployment", "web"));
        let (a, b): (Uid, Uid) = ("a".into(), "b".into());
        let mut dependents = Dependents::default();
        for uid in [&a, &b] {
            dependents.insert(uid, &[set.clone(), web.clone()]);
        }
        let other = key("Deployment", "other");
        for uid in [&a, &b] {
            dependents.remove(uid, &[set.clone(), web.clone()]);
            dependents.insert(uid, &[set.clone(), other.clone()]);
        }
        assert!(!dependents.are_there(&web));
        assert_eq!(dependents.of(&other), [a.clone(), b.clone()]);
    }
}
