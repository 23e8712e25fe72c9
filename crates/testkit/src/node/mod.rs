//! The node simulator: plays the scheduler, the kubelet and the container runtime of a number of nodes.
//!
//! It binds pods, resolves each image at its registry, writes `status.phase`, the conditions and the three lists of
//! container statuses with an `imageID` in the shape of a chosen runtime ([`Runtime`]), keeps its nodes Ready, lets
//! the pods of Jobs end, and removes deleted pods. An image that does not resolve keeps its container waiting with
//! ImagePullBackOff and is tried again; one that does not parse with InvalidImageName. A tag is resolved anew for each
//! pod that starts; what has started keeps its digest. No container runs.

mod machines;
mod puller;
mod reference;
mod runtime;
mod simulator;
mod status;
mod tend;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

pub use runtime::Runtime;
pub use simulator::{NodeSimulator, READY};

/// The User-Agent of the simulator's requests to registries: to leave them out when a registry's log is counted.
pub const NODE_USER_AGENT: &str = "assay-testkit-node";

/// The user that the simulator is to the API server.
pub const NODE_USER: &str = "testkit-node-simulator";

const FIELD_MANAGER: &str = "assay-testkit-node";

/// Annotations of a pod that tell the simulator what to do with it.
pub mod annotation {
    /// The name of a [`super::Runtime`] for this pod. Changed on a running pod, it starts the containers anew.
    pub const RUNTIME: &str = "testkit.assay.dev/runtime";
    /// The repository under which the node pulled the same content first, and which the runtime therefore names.
    pub const PULLED_AS: &str = "testkit.assay.dev/pulled-as";
    /// Followed by `.<container>`: an imageID to write as it is, whether or not the image resolves.
    pub const IMAGE_ID: &str = "testkit.assay.dev/image-id";
    /// `3s`, `250ms` or `never`: when the containers end by themselves. What a Job owns ends after
    /// [`super::NodeOptions::job_duration`] without it.
    pub const COMPLETE_AFTER: &str = "testkit.assay.dev/complete-after";
    /// The exit code of containers that end by themselves; 0 unless told.
    pub const EXIT_CODE: &str = "testkit.assay.dev/exit-code";
    /// `3s`: how long the pod goes on running after it was deleted; no time unless told.
    pub const TERMINATION_DELAY: &str = "testkit.assay.dev/termination-delay";
}

/// How nodes are simulated.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// How many nodes; 2 unless told.
    pub nodes: usize,
    /// Their names are `<prefix>-<number>`.
    pub name_prefix: String,
    /// Their container runtime, unless a pod's annotation says otherwise.
    pub runtime: Runtime,
    /// Their architecture: which child of an index runs; `amd64` unless told.
    pub architecture: String,
    /// How many pods are worked on at the same time; 32 unless told.
    pub concurrency: usize,
    /// How long the pods of Jobs run; 1 s unless told.
    pub job_duration: Duration,
    /// The first pause before a failed pull is tried again; it grows to five times this.
    pub pull_retry: Duration,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            name_prefix: "node".to_owned(),
            runtime: Runtime::default(),
            architecture: "amd64".to_owned(),
            concurrency: 32,
            job_duration: Duration::from_secs(1),
            pull_retry: Duration::from_secs(1),
        }
    }
}

impl NodeOptions {
    fn node_names(&self) -> impl Iterator<Item = String> {
        (0..self.nodes).map(|number| format!("{}-{number}", self.name_prefix))
    }

    fn number_of(&self, node: &str) -> Option<usize> {
        let number = node
            .strip_prefix(&self.name_prefix)?
            .strip_prefix('-')?
            .parse()
            .ok()?;
        (number < self.nodes).then_some(number)
    }

    fn has_node(&self, node: &str) -> bool {
        self.number_of(node).is_some()
    }

    fn address_of(&self, node: &str) -> String {
        let number = self.number_of(node).unwrap_or(0);
        format!("192.0.2.{}", 1 + number % 254)
    }

    fn labels_of(&self, node: &str) -> BTreeMap<String, String> {
        let architecture = self.architecture.as_str();
        let labels = [
            ("kubernetes.io/hostname", node),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", architecture),
        ];
        labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}
