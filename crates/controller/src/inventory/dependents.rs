//! Which pods rest on which owners.

use std::collections::{BTreeSet, HashMap};

use engine::{Uid, WorkloadKey};

/// Pods by what controls them, and that by the owners above it: thousands of pods share a path to the top.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    pods: HashMap<WorkloadKey, BTreeSet<Uid>>,
    /// By each owner further up, what lies at the beginning of paths to it. Some of it may not lead there any more.
    below: HashMap<WorkloadKey, BTreeSet<WorkloadKey>>,
}

impl Dependents {
    /// A pod rests on these owners, from the one that controls it upwards.
    pub(crate) fn insert(&mut self, uid: &Uid, path: &[WorkloadKey]) {
        let Some((controller, above)) = path.split_first() else {
            return;
        };
        self.pods
            .entry(controller.clone())
            .or_default()
            .insert(uid.clone());
        for key in above {
            self.below
                .entry(key.clone())
                .or_default()
                .insert(controller.clone());
        }
    }

    /// A pod does not rest on these owners any more.
    pub(crate) fn remove(&mut self, uid: &Uid, path: &[WorkloadKey]) {
        let Some((controller, above)) = path.split_first() else {
            return;
        };
        let Some(pods) = self.pods.get_mut(controller) else {
            return;
        };
        pods.remove(uid);
        if !pods.is_empty() {
            return;
        }
        self.pods.remove(controller);
        for key in above {
            if let Some(below) = self.below.get_mut(key) {
                below.remove(controller);
                if below.is_empty() {
                    self.below.remove(key);
                }
            }
        }
    }

    /// The pods that rest on an owner. A few may be among them that did before.
    pub(crate) fn of(&self, key: &WorkloadKey) -> Vec<Uid> {
        let controllers = self.below.get(key).into_iter().flatten();
        let controllers = controllers.chain(std::iter::once(key));
        let pods = controllers.filter_map(|controller| self.pods.get(controller));
        pods.flatten().cloned().collect()
    }

    /// Whether a pod rests on the owner.
    pub(crate) fn are_there(&self, key: &WorkloadKey) -> bool {
        self.pods.contains_key(key) || self.below.contains_key(key)
    }

    /// Forgets what leads nowhere any more.
    pub(crate) fn forget_unused(&mut self) {
        let pods = &self.pods;
        self.below.retain(|_, below| {
            below.retain(|controller| pods.contains_key(controller));
            !below.is_empty()
        });
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

    /// Two pods may name one controller by different uids, and only one of them may be right.
    #[test]
    fn what_does_not_lead_to_an_owner_any_more_is_forgotten() {
        let (set, web) = (key("ReplicaSet", "web-1"), key("Deployment", "web"));
        let (real, forged): (Uid, Uid) = ("real".into(), "forged".into());
        let mut dependents = Dependents::default();
        dependents.insert(&real, &[set.clone(), web.clone()]);
        dependents.insert(&forged, std::slice::from_ref(&set));
        dependents.remove(&real, &[set.clone(), web.clone()]);
        assert_eq!(dependents.of(&set), std::slice::from_ref(&forged));
        dependents.remove(&forged, std::slice::from_ref(&set));
        dependents.forget_unused();
        assert!(!dependents.are_there(&web));
    }
}
