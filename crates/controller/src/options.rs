//! How the controller is run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::inventory::registered::WorkloadTemplate;
use crate::notify::NotifyOptions;

/// Where the namespace of a pod is told to its processes.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Where the operator lives if nothing says otherwise.
const NAMESPACE: &str = "assay-system";

/// Whose credentials registries are asked with (`--registry-credentials`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryCredentials {
    /// The operator's own alone.
    #[default]
    Operator,
    /// The operator's own, and where the registry refuses those, the pull secrets of the pods that run the image.
    Workload,
}

/// How the controller is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerOptions {
    /// Where `/metrics`, `/healthz` and `/readyz` are served (`--listen`).
    pub listen: SocketAddr,
    /// The namespace of the Lease, and of the ConfigMaps and Secrets that objects refer to (`--namespace`).
    pub namespace: String,
    /// The name of the Lease.
    pub lease: String,
    /// What this replica is called in the Lease and in Events; must be another one for each process.
    pub identity: String,
    /// False for a single replica that is known to be alone (`--leader-elect=false`).
    pub leader_elect: bool,
    /// Jobs and bare Pods that are younger get an ImageCompliance only if something is Violating
    /// (`--report-min-age`).
    pub report_min_age: Duration,
    /// Writes of statuses in one second, sustained (`--writes-per-second`).
    pub writes_per_second: NonZeroU32,
    /// Writes of statuses at once (`--writes-burst`).
    pub writes_burst: NonZeroU32,
    /// Everything is listed anew after this time, give or take a tenth, whatever the watches say (`--relist-interval`).
    pub relist_interval: Duration,
    /// A watch of which nothing is heard for so long is begun anew (`--watch-silence`).
    pub watch_silence: Duration,
    /// Where what TUF repositories publish is kept; None keeps it in memory.
    pub tuf_folder: Option<PathBuf>,
    /// Whose credentials registries are asked with. For the workloads' the engine must be started with a
    /// [`crate::PullSecretReader`].
    pub registry_credentials: RegistryCredentials,
    /// Custom kinds of which the pod specs are judged (`--workload-template`).
    pub workload_templates: Vec<WorkloadTemplate>,
    /// Who is notified of news (`--notify-url`); None for nobody.
    pub notify: Option<NotifyOptions>,
}

impl ControllerOptions {
    /// 0.0.0.0:8080.
    pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
    /// `assay-controller`.
    pub const LEASE: &'static str = "assay-controller";
    /// 60 s.
    pub const REPORT_MIN_AGE: Duration = Duration::from_secs(60);
    /// 50 min.
    pub const RELIST_INTERVAL: Duration = Duration::from_secs(50 * 60);
    /// 90 s: the API server sends a bookmark about every minute.
    pub const WATCH_SILENCE: Duration = Duration::from_secs(90);
    /// 20.
    pub const WRITES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();
    /// 500.
    pub const WRITES_BURST: NonZeroU32 = NonZeroU32::new(500).unwrap();
}

impl Default for ControllerOptions {
    fn default() -> Self {
        ControllerOptions {
            listen: Self::LISTEN,
            namespace: own_namespace(),
            lease: Self::LEASE.to_owned(),
            identity: own_identity(),
            leader_elect: true,
            report_min_age: Self::REPORT_MIN_AGE,
            writes_per_second: Self::WRITES_PER_SECOND,
            writes_burst: Self::WRITES_BURST,
            relist_interval: Self::RELIST_INTERVAL,
            watch_silence: Self::WATCH_SILENCE,
            tuf_folder: None,
            registry_credentials: RegistryCredentials::default(),
            workload_templates: Vec::new(),
            notify: None,
        }
    }
}

/// The namespace that this process runs in: `POD_NAMESPACE`, else the one of its service account,
/// else `assay-system`.
pub fn own_namespace() -> String {
    let named = std::env::var("POD_NAMESPACE").ok();
    let mounted = || std::fs::read_to_string(NAMESPACE_FILE).ok();
    let given = named.or_else(mounted).map(|text| text.trim().to_owned());
    given
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| NAMESPACE.to_owned())
}

/// A name for this process that no other process has: its host and something random.
pub fn own_identity() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let named = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .ok();
    let given = || std::fs::read_to_string("/etc/hostname").ok();
    let host = named.or_else(given).map(|text| text.trim().to_owned());
    let host = host
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "assay".to_owned());
    format!("{host}_{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_on_one_host_have_two_identities() {
        assert_ne!(own_identity(), own_identity());
    }
}
