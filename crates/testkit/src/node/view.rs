//! What the simulator reads of a pod: its containers, its annotations for the simulator, where it belongs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, EphemeralContainer, Pod, VolumeMount};

use super::runtime::Runtime;
use super::{NodeOptions, annotation};

/// Which list a container stands in, and whether an init container goes on running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Init,
    Sidecar,
    Plain,
    Ephemeral,
}

/// A container of a pod's spec.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) pull_policy: Option<String>,
    pub(super) kind: Kind,
    pub(super) mounts: Vec<VolumeMount>,
    /// An imageID to write as it is, from [`annotation::IMAGE_ID`].
    pub(super) image_id: Option<String>,
}

/// A pod as the simulator sees it.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
}

impl<'a> View<'a> {
    /// `None` for what no API server sends: a pod without a name.
    pub(super) fn of(pod: &'a Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        Some(Self {
            pod,
            namespace: metadata.namespace.as_deref()?,
            name: metadata.name.as_deref()?,
            uid: metadata.uid.as_deref()?,
        })
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.pod
            .metadata
            .annotations
            .as_ref()?
            .get(name)
            .map(String::as_str)
    }

    /// Init containers first, then plain ones, then ephemeral ones.
    pub(super) fn containers(&self) -> Vec<Declared> {
        let Some(spec) = &self.pod.spec else {
            return Vec::new();
        };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let stays = container.restart_policy.as_deref() == Some("Always");
            self.declared(container, if stays { Kind::Sidecar } else { Kind::Init })
        });
        let plain = spec
            .containers
            .iter()
            .map(|container| self.declared(container, Kind::Plain));
        let ephemeral = spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(|container| self.ephemeral(container));
        init.chain(plain).chain(ephemeral).collect()
    }

    fn declared(&self, container: &Container, kind: Kind) -> Declared {
        Declared {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            pull_policy: container.image_pull_policy.clone(),
            kind,
            mounts: container.volume_mounts.clone().unwrap_or_default(),
            image_id: self.fixed_image_id(&container.name),
        }
    }

    fn ephemeral(&self, container: &EphemeralContainer) -> Declared {
        Declared {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            pull_policy: container.image_pull_policy.clone(),
            kind: Kind::Ephemeral,
            mounts: container.volume_mounts.clone().unwrap_or_default(),
            image_id: self.fixed_image_id(&container.name),
        }
    }

    fn fixed_image_id(&self, container: &str) -> Option<String> {
        self.annotation(&format!("{}.{container}", annotation::IMAGE_ID))
            .map(str::to_owned)
    }

    /// The runtime that this pod's annotation names, else the simulator's.
    pub(super) fn runtime(&self, options: &NodeOptions) -> Runtime {
        self.annotation(annotation::RUNTIME)
            .and_then(Runtime::named)
            .unwrap_or(options.runtime)
    }

    /// The repository under which the node knows the pod's images, if not their own.
    pub(super) fn pulled_as(&self) -> Option<&'a str> {
        self.annotation(annotation::PULLED_AS)
    }

    /// How long after its start the pod's containers end by themselves: what a Job owns, or what says so.
    pub(super) fn completes_after(&self, options: &NodeOptions) -> Option<Duration> {
        match self.annotation(annotation::COMPLETE_AFTER) {
            Some(value) => seconds(value),
            None => self.owned_by("Job").then_some(options.job_duration),
        }
    }

    /// The exit code of containers that end by themselves.
    pub(super) fn exit_code(&self) -> i32 {
        self.annotation(annotation::EXIT_CODE)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// How long the pod takes to end once it is deleted.
    pub(super) fn termination_delay(&self) -> Duration {
        self.annotation(annotation::TERMINATION_DELAY)
            .and_then(seconds)
            .unwrap_or(Duration::ZERO)
    }

    pub(super) fn is_being_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn has_finalizers(&self) -> bool {
        self.pod
            .metadata
            .finalizers
            .as_ref()
            .is_some_and(|finalizers| !finalizers.is_empty())
    }

    pub(super) fn has_ended(&self) -> bool {
        let phase = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    pub(super) fn node(&self) -> Option<&'a str> {
        self.pod
            .spec
            .as_ref()?
            .node_name
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    fn owned_by(&self, kind: &str) -> bool {
        let owners = self.pod.metadata.owner_references.iter().flatten();
        owners
            .into_iter()
            .any(|owner| owner.controller == Some(true) && owner.kind == kind)
    }

    /// The node that the pod goes to: the one that its node affinity names (that of a DaemonSet does), else any that
    /// its selector fits. `None` while it is gated, has a scheduler of its own or fits nowhere.
    pub(super) fn destination(&self, options: &NodeOptions) -> Option<String> {
        let spec = self.pod.spec.as_ref()?;
        let is_gated = spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty());
        if is_gated
            || spec
                .scheduler_name
                .as_deref()
                .is_some_and(|name| name != "default-scheduler")
        {
            return None;
        }
        let named = self.nodes_named_by_affinity();
        let fits = |node: &String| {
            let labels = options.labels_of(node);
            let selected = spec
                .node_selector
                .iter()
                .flatten()
                .all(|(key, value)| labels.get(key) == Some(value));
            selected && named.as_ref().is_none_or(|names| names.contains(node))
        };
        let candidates: Vec<String> = options.node_names().filter(fits).collect();
        let mut hasher = DefaultHasher::new();
        self.uid.hash(&mut hasher);
        let count = u64::try_from(candidates.len()).ok().filter(|count| *count > 0)?;
        candidates
            .get(usize::try_from(hasher.finish() % count).ok()?)
            .cloned()
    }

    fn nodes_named_by_affinity(&self) -> Option<Vec<String>> {
        let affinity = self
            .pod
            .spec
            .as_ref()?
            .affinity
            .as_ref()?
            .node_affinity
            .as_ref()?;
        let terms = &affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?
            .node_selector_terms;
        let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
        Some(
            names
                .flat_map(|field| field.values.iter().flatten().cloned())
                .collect::<Vec<_>>(),
        )
        .filter(|names| !names.is_empty())
    }

    /// Changes when something changes that a container would have to be started anew for.
    pub(super) fn start_key(&self, container: &Declared, options: &NodeOptions) -> u64 {
        let mut hasher = DefaultHasher::new();
        (
            &container.image,
            &container.image_id,
            self.runtime(options),
            self.pulled_as(),
        )
            .hash(&mut hasher);
        hasher.finish()
    }

    /// What the pod's status says of a container, if anything.
    pub(super) fn status_of(&self, container: &str) -> Option<&'a ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ]
        .into_iter()
        .flat_map(|list| list.iter().flatten())
        .find(|status| status.name == container)
    }
}

/// `3s`, `250ms`; anything else, for example `never`, is no duration.
fn seconds(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(milliseconds) => milliseconds.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        let mut pod = serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": []}});
        let parts = value.as_object().unwrap();
        for (key, part) in parts {
            pod[key]
                .as_object_mut()
                .unwrap()
                .extend(part.as_object().unwrap().clone());
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_daemon_sets_pod_goes_to_the_node_that_its_affinity_names() {
        let pod = pod(serde_json::json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]}}}}}));
        let options = NodeOptions {
            nodes: 3,
            ..NodeOptions::default()
        };
        assert_eq!(
            View::of(&pod).unwrap().destination(&options).as_deref(),
            Some("node-1")
        );
    }

    #[test]
    fn a_gated_pod_and_one_that_fits_nowhere_go_to_no_node() {
        let options = NodeOptions::default();
        let gated = pod(serde_json::json!({"spec": {"schedulingGates": [{"name": "wait"}]}}));
        assert_eq!(View::of(&gated).unwrap().destination(&options), None);
        let elsewhere = pod(serde_json::json!({"spec": {"nodeSelector": {"disk": "fast"}}}));
        assert_eq!(View::of(&elsewhere).unwrap().destination(&options), None);
    }

    #[test]
    fn a_new_image_or_another_runtime_starts_containers_anew() {
        let options = NodeOptions::default();
        let key = |value| {
            let pod = pod(value);
            let view = View::of(&pod).unwrap();
            view.start_key(&view.containers()[0], &options)
        };
        let one = key(serde_json::json!({"spec": {"containers": [{"name": "a", "image": "x:1"}]}}));
        let two = key(serde_json::json!({"spec": {"containers": [{"name": "a", "image": "x:2"}]}}));
        let other = serde_json::json!({"metadata": {"annotations": {annotation::RUNTIME: "crio-index"}},
            "spec": {"containers": [{"name": "a", "image": "x:1"}]}});
        assert_ne!(one, two);
        assert_ne!(one, key(other));
    }

    #[test]
    fn durations_are_seconds_or_milliseconds() {
        assert_eq!(seconds("3s"), Some(Duration::from_secs(3)));
        assert_eq!(seconds("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(seconds("never"), None);
    }
}
