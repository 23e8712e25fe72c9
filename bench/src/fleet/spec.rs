//! How large a fleet is, and what its objects are called. All names of a kind are of one length, so that one object can
//! be made from another one by writing over its bytes.

use std::net::Ipv4Addr;

use crate::figures::FleetSize;

/// Where every fleet's registry listens: an address of this machine itself that nothing else is likely to use, for a
/// fleet is kept with the names of its images.
pub(crate) const REGISTRY: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 83, 0, 1), 5083);

/// Old ReplicaSets of each Deployment, as `revisionHistoryLimit` leaves them.
pub(crate) const OLD_REPLICA_SETS: usize = 10;
/// Pods that share a namespace.
const PODS_PER_NAMESPACE: usize = 30;

/// A fleet: every workload has one image, and as many pods as every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FleetSpec {
    pub(crate) pods: usize,
    /// And images.
    pub(crate) workloads: usize,
}

impl FleetSpec {
    pub(crate) fn namespaces(self) -> usize {
        self.pods.div_ceil(PODS_PER_NAMESPACE).min(self.workloads).max(1)
    }

    /// The size under which figures are kept.
    pub(crate) fn size(self) -> FleetSize {
        FleetSize {
            pods: self.pods,
            workloads: self.workloads,
            images: self.workloads,
        }
    }
}

/// The registry's part of image references.
pub(crate) fn registry_host() -> String {
    let (address, port) = REGISTRY;
    format!("{address}:{port}")
}

pub(crate) fn namespace(number: usize) -> String {
    format!("fleet-ns-{number:04}")
}

pub(crate) fn workload(number: usize) -> String {
    format!("app-{number:05}")
}

/// The hash in the name of a ReplicaSet; 0 is the one that runs.
pub(crate) fn revision(number: usize) -> String {
    format!("{number:010x}")
}

/// The end of a pod's name.
pub(crate) fn ordinal(number: usize) -> String {
    format!("{number:05}")
}

pub(crate) fn namespace_uid(number: usize) -> String {
    uid(0xa000_0000, number)
}

pub(crate) fn deployment_uid(workload: usize) -> String {
    uid(0xd000_0000, workload)
}

pub(crate) fn replica_set_uid(workload: usize, revision: usize) -> String {
    uid(0xe000_0000 + revision, workload)
}

pub(crate) fn pod_uid(workload: usize, ordinal: usize) -> String {
    uid(0xb000_0000 + ordinal, workload)
}

fn uid(kind: usize, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012}")
}
