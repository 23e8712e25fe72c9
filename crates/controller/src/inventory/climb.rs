//! From a pod up to the top-level workload it belongs to: pure, over what is known of owners.
//!
//! Only `controller: true` references whose uid was read live are followed. The top is the outermost
//! built-in workload kind, else the highest readable namespaced custom kind, else the pod itself. A
//! reference that is forged, dead or unreadable ends the climb below it, so nothing a tenant writes
//! into an owner reference can move a pod away from its own judgement.

use std::sync::Arc;

use engine::{Uid, WorkloadKey, WorkloadNames, group_of};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::slim::{Generation, Second};
use super::texts::Texts;

/// No chain of owners is longer than this; a longer one is a cycle.
const HIGHEST: usize = 16;

/// The built-in workload kinds by group, kind, plural and version.
pub(crate) static BUILT_IN: [BuiltIn; 7] = [
    BuiltIn {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        templates: Templates::Watched,
        let_go_without_pods: false,
    },
    BuiltIn {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        templates: Templates::AskedForWhereAlone,
        let_go_without_pods: true,
    },
    BuiltIn {
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        plural: "statefulsets",
        templates: Templates::Watched,
        let_go_without_pods: false,
    },
    BuiltIn {
        group: "apps",
        version: "v1",
        kind: "DaemonSet",
        plural: "daemonsets",
        templates: Templates::Watched,
        let_go_without_pods: false,
    },
    BuiltIn {
        group: "batch",
        version: "v1",
        kind: "Job",
        plural: "jobs",
        templates: Templates::WatchedWhereAlone,
        let_go_without_pods: false,
    },
    BuiltIn {
        group: "batch",
        version: "v1",
        kind: "CronJob",
        plural: "cronjobs",
        templates: Templates::Watched,
        let_go_without_pods: false,
    },
    BuiltIn {
        group: "",
        version: "v1",
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        templates: Templates::WatchedWhereAlone,
        let_go_without_pods: false,
    },
];

/// The groups of Kubernetes itself in which a kind that is not in [`BUILT_IN`] is no workload.
const GROUPS_WITHOUT_CUSTOM_KINDS: [&str; 6] = ["", "apps", "batch", "autoscaling", "policy", "extensions"];

/// A built-in workload kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BuiltIn {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) templates: Templates,
    /// Those that something controls and no pod rests on are let go of, and asked for when a pod names one.
    pub(crate) let_go_without_pods: bool,
}

/// How the templates of a kind are read. A fleet carries ten old ReplicaSets for each Deployment: they are watched
/// without their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Templates {
    /// With the watch of the kind.
    Watched,
    /// The same, of those that nothing controls.
    WatchedWhereAlone,
    /// One by one, of those that nothing controls.
    AskedForWhereAlone,
}

impl BuiltIn {
    /// The built-in workload kind of this name; group and kind must both agree (B55).
    pub(crate) fn of(group: &str, kind: &str) -> Option<&'static BuiltIn> {
        BUILT_IN
            .iter()
            .find(|built_in| built_in.group == group && built_in.kind == kind)
    }

    /// The built-in workload kind that is called so.
    pub(crate) fn named(kind: &str) -> Option<&'static BuiltIn> {
        BUILT_IN.iter().find(|built_in| built_in.kind == kind)
    }

    /// As `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Whether a kind may be a custom workload kind.
pub(crate) fn may_be_custom(group: &str) -> bool {
    !GROUPS_WITHOUT_CUSTOM_KINDS.contains(&group)
}

/// What an object's metadata says of what controls it.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// A reference to the object that controls another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ControllerRef {
    pub(crate) key: WorkloadKey,
    pub(crate) api_version: Arc<str>,
    pub(crate) uid: Uid,
}

impl ControllerRef {
    /// The `controller: true` reference of an object, if it has one.
    pub(crate) fn of(metadata: &ObjectMeta, namespace: &Arc<str>, texts: &mut Texts) -> Option<Arc<Self>> {
        let reference = controller_of(metadata)?;
        let reference = ControllerRef {
            key: WorkloadKey::from(WorkloadNames {
                namespace: namespace.clone(),
                group: texts.keep(group_of(&reference.api_version)),
                kind: texts.keep(&reference.kind),
                name: texts.keep(&reference.name),
            }),
            api_version: texts.keep(&reference.api_version),
            uid: reference.uid.as_str().into(),
        };
        Some(texts.keep_reference(reference))
    }

    /// As `kind.group/name`; `kind/name` for the core group.
    pub(crate) fn shown(&self) -> String {
        let WorkloadNames {
            group, kind, name, ..
        } = &*self.key;
        if group.is_empty() {
            format!("{kind}/{name}")
        } else {
            format!("{kind}.{group}/{name}")
        }
    }
}

/// What was read of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerMeta {
    pub(crate) uid: Uid,
    pub(crate) generation: Option<Generation>,
    pub(crate) created: Second,
    pub(crate) controller: Option<Arc<ControllerRef>>,
}

/// What is known of the object that a reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    /// It exists.
    Is(&'a OwnerMeta),
    /// It does not exist, as far as was seen.
    Absent,
    /// It is of a custom kind and cannot be read, of a kind that is no workload, or lives outside of namespaces.
    OutOfReach,
    /// It is being asked for, or is of a built-in kind and could not be read yet.
    Asked,
}

/// Where a climb ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Climb {
    /// The top-level workload; None where it is the pod itself.
    pub(crate) top: Option<(Arc<ControllerRef>, OwnerMeta)>,
    /// What controls the top, where something does.
    pub(crate) managed_by: Option<String>,
    /// Every owner that the result rests on, the unreadable ones included.
    pub(crate) path: Vec<WorkloadKey>,
    /// The result may differ as soon as an owner that was not seen yet is seen.
    pub(crate) settled: bool,
    /// That owner is asked for, or will be again.
    pub(crate) asking: bool,
}

/// Climbs from the controller of a pod as high as is known.
pub(crate) fn climb<'a>(
    first: Option<&Arc<ControllerRef>>,
    known: impl Fn(&ControllerRef) -> Known<'a>,
) -> Climb {
    let mut chain: Vec<(Arc<ControllerRef>, OwnerMeta)> = Vec::new();
    let mut path = Vec::new();
    let mut above = None;
    let (mut settled, mut asking) = (true, false);
    let mut next = first.cloned();
    while let Some(reference) = next.take().filter(|_| path.len() < HIGHEST) {
        path.push(reference.key.clone());
        match known(&reference) {
            Known::Is(owner) if owner.uid == reference.uid => {
                next = owner.controller.clone();
                chain.push((reference, owner.clone()));
            }
            Known::Is(_) | Known::Absent => settled = false,
            Known::Asked => (settled, asking) = (false, true),
            Known::OutOfReach => above = Some(reference.shown()),
        }
    }
    let top = top_of(&chain);
    let managed_by = above.or_else(|| highest_above(&chain, top));
    Climb {
        top: top.map(|at| chain[at].clone()),
        managed_by,
        path,
        settled,
        asking,
    }
}

/// The outermost built-in workload kind, else the highest kind at all.
fn top_of(chain: &[(Arc<ControllerRef>, OwnerMeta)]) -> Option<usize> {
    let is_built_in = |(reference, _): &(Arc<ControllerRef>, OwnerMeta)| {
        BuiltIn::of(&reference.key.group, &reference.key.kind).is_some()
    };
    chain
        .iter()
        .rposition(is_built_in)
        .or_else(|| chain.len().checked_sub(1))
}

fn highest_above(chain: &[(Arc<ControllerRef>, OwnerMeta)], top: Option<usize>) -> Option<String> {
    let highest = chain.len().checked_sub(1)?;
    (Some(highest) != top).then(|| chain[highest].0.shown())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct World {
        owners: HashMap<WorkloadKey, OwnerMeta>,
        out_of_reach: Vec<WorkloadKey>,
    }

    fn reference(group: &str, kind: &str, name: &str, uid: &str) -> Arc<ControllerRef> {
        let api_version = if group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{group}/v1")
        };
        let (namespace, group) = ("shop".into(), group.into());
        let key = WorkloadKey::from(WorkloadNames {
            namespace,
            group,
            kind: kind.into(),
            name: name.into(),
        });
        Arc::new(ControllerRef {
            key,
            api_version: api_version.into(),
            uid: uid.into(),
        })
    }

    impl World {
        fn with(mut self, owner: &Arc<ControllerRef>, controller: Option<&Arc<ControllerRef>>) -> Self {
            let meta = OwnerMeta {
                uid: owner.uid.clone(),
                generation: Generation::new(1),
                created: 0,
                controller: controller.cloned(),
            };
            self.owners.insert(owner.key.clone(), meta);
            self
        }

        fn without_access_to(mut self, owner: &Arc<ControllerRef>) -> Self {
            self.out_of_reach.push(owner.key.clone());
            self
        }

        fn climb(&self, first: &Arc<ControllerRef>) -> Climb {
            climb(Some(first), |reference| {
                if self.out_of_reach.contains(&reference.key) {
                    return Known::OutOfReach;
                }
                self.owners.get(&reference.key).map_or(Known::Absent, Known::Is)
            })
        }
    }

    fn top(climb: &Climb) -> Option<String> {
        climb.top.as_ref().map(|(reference, _)| reference.shown())
    }

    #[test]
    fn a_pod_of_a_deployment_belongs_to_the_deployment() {
        let (web, rs) = (
            reference("apps", "Deployment", "web", "d"),
            reference("apps", "ReplicaSet", "web-1", "r"),
        );
        let climbed = World::default().with(&web, None).with(&rs, Some(&web)).climb(&rs);
        assert_eq!(top(&climbed).as_deref(), Some("Deployment.apps/web"));
        assert_eq!(climbed.managed_by, None);
        assert!(climbed.settled);
        assert_eq!(climbed.path, [rs.key.clone(), web.key.clone()]);
    }

    #[test]
    fn a_pod_of_a_cron_job_belongs_to_the_cron_job() {
        let (cron, job) = (
            reference("batch", "CronJob", "nightly", "c"),
            reference("batch", "Job", "nightly-1", "j"),
        );
        let climbed = World::default()
            .with(&cron, None)
            .with(&job, Some(&cron))
            .climb(&job);
        assert_eq!(top(&climbed).as_deref(), Some("CronJob.batch/nightly"));
    }

    /// C1.08.
    #[test]
    fn what_controls_the_outermost_built_in_kind_is_named_as_its_manager() {
        let app = reference("example.com", "App", "shop", "a");
        let main = reference("db.example.com", "Postgres", "main", "p");
        let set = reference("apps", "StatefulSet", "main", "s");
        let world = World::default()
            .with(&app, None)
            .with(&main, Some(&app))
            .with(&set, Some(&main));
        let climbed = world.climb(&set);
        assert_eq!(top(&climbed).as_deref(), Some("StatefulSet.apps/main"));
        assert_eq!(climbed.managed_by.as_deref(), Some("App.example.com/shop"));
    }

    #[test]
    fn without_a_built_in_kind_the_highest_custom_kind_is_the_workload() {
        let (top_kind, low) = (
            reference("x.io", "Cluster", "c", "1"),
            reference("x.io", "Member", "m", "2"),
        );
        let climbed = World::default()
            .with(&top_kind, None)
            .with(&low, Some(&top_kind))
            .climb(&low);
        assert_eq!(top(&climbed).as_deref(), Some("Cluster.x.io/c"));
        assert_eq!(climbed.managed_by, None);
    }

    #[test]
    fn an_unreadable_owner_ends_the_climb_below_it_and_is_named_as_the_manager() {
        let (hidden, set) = (
            reference("x.io", "Hidden", "h", "1"),
            reference("apps", "StatefulSet", "s", "2"),
        );
        let climbed = World::default()
            .with(&set, Some(&hidden))
            .without_access_to(&hidden)
            .climb(&set);
        assert_eq!(top(&climbed).as_deref(), Some("StatefulSet.apps/s"));
        assert_eq!(climbed.managed_by.as_deref(), Some("Hidden.x.io/h"));
        assert!(climbed.settled);
    }

    /// C1.16, B55.
    #[test]
    fn a_forged_uid_ends_the_climb_below_it_and_is_not_named() {
        let real = reference("apps", "Deployment", "web", "real");
        let forged = reference("apps", "Deployment", "web", "forged");
        let climbed = World::default().with(&real, None).climb(&forged);
        assert_eq!(top(&climbed), None);
        assert_eq!(climbed.managed_by, None);
        assert!(
            !climbed.settled,
            "the owner may have been created anew and not been seen yet"
        );
    }

    /// B55.
    #[test]
    fn a_missing_owner_ends_the_climb_below_it() {
        let (gone, rs) = (
            reference("apps", "Deployment", "gone", "d"),
            reference("apps", "ReplicaSet", "web-1", "r"),
        );
        let climbed = World::default().with(&rs, Some(&gone)).climb(&rs);
        assert_eq!(top(&climbed).as_deref(), Some("ReplicaSet.apps/web-1"));
        assert_eq!(climbed.managed_by, None);
        assert!(!climbed.settled);
    }

    /// B55. Weakened once: with `BuiltIn::of` heeding the kind alone.
    #[test]
    fn a_custom_kind_called_deployment_is_its_own_kind() {
        let custom = reference("other.io", "Deployment", "web", "x");
        let rs = reference("apps", "ReplicaSet", "web-1", "r");
        let climbed = World::default()
            .with(&custom, None)
            .with(&rs, Some(&custom))
            .climb(&rs);
        assert_eq!(top(&climbed).as_deref(), Some("ReplicaSet.apps/web-1"));
        assert_eq!(climbed.managed_by.as_deref(), Some("Deployment.other.io/web"));
    }

    #[test]
    fn a_cycle_of_owners_ends() {
        let (one, two) = (
            reference("x.io", "Ring", "one", "1"),
            reference("x.io", "Ring", "two", "2"),
        );
        let climbed = World::default()
            .with(&one, Some(&two))
            .with(&two, Some(&one))
            .climb(&one);
        assert_eq!(climbed.path.len(), HIGHEST);
        assert!(climbed.top.is_some());
    }

    #[test]
    fn a_reference_that_does_not_control_is_not_followed() {
        let owner = |controller| OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-1".into(),
            uid: "r".into(),
            controller,
            block_owner_deletion: None,
        };
        let metadata = |owners| ObjectMeta {
            owner_references: Some(owners),
            ..ObjectMeta::default()
        };
        let mut texts = Texts::default();
        let namespace: Arc<str> = "shop".into();
        let mut of = |owners| ControllerRef::of(&metadata(owners), &namespace, &mut texts);
        assert_eq!(of(vec![owner(None), owner(Some(false))]), None);
        let found = of(vec![owner(None), owner(Some(true))]).unwrap();
        assert_eq!(
            (&*found.key.group, &*found.key.kind, &*found.key.name),
            ("apps", "ReplicaSet", "web-1")
        );
    }
}
