//! What each container runtime makes the kubelet write as `imageID` and `image` of a container that has started.
//!
//! The kubelet (1.36, `convertToAPIContainerStatuses`) copies the CRI's `image_ref` into `imageID` and the name in
//! `image` into `image`. What runtimes answer, read in their sources and issue threads:
//! - containerd (`internal/cri/server/container_status.go`): the first repository digest of the local image, which is
//!   the index for a multi-arch image; without any, the image id, which is the configuration's digest. The name is
//!   the first tag; an image pulled by digest has none, then the image id. An image that was pulled under another
//!   repository first is reported under that one (kubernetes issues 40062, 95385).
//! - CRI-O: up to 1.27 the first of the image's repository digests in order, among which are both the index and the
//!   platform's manifest (cri-o pull request 6924); 1.28 the bare hex image id, without `sha256:` (cri-o pull request
//!   7149, OpenShift origin issue 28535); since then the repository digest again, and the bare id after a restart of
//!   CRI-O (cri-o pull request 9986).
//! - cri-dockerd (`toPullableImageID`): `docker-pullable://` and the first repository digest; without any,
//!   `docker://` and the image id.

use super::reference::Reference;

/// A container runtime's way to name what runs. Chosen for all pods by [`super::NodeOptions::runtime`], for one pod
/// by the annotation [`super::annotation::RUNTIME`] with the name in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum Runtime {
    /// (`containerd`) `repository@digest` of what was pulled: the index of a multi-arch image.
    #[default]
    Containerd,
    /// (`crio-platform`) CRI-O, `repository@digest` of the platform's manifest, also for a multi-arch image.
    CrioPlatform,
    /// (`crio-index`) CRI-O, `repository@digest` of the index.
    CrioIndex,
    /// (`crio-bare-id`) CRI-O 1.28, and others after a restart: 64 hex digits, the configuration's digest.
    CrioBareId,
    /// (`cri-dockerd`) `docker-pullable://repository@digest` of what was pulled.
    CriDockerd,
    /// (`cri-dockerd-config`) `docker://sha256:…` with the configuration's digest.
    CriDockerdConfig,
    /// (`loaded-without-registry`) `sha256:…` with the configuration's digest alone.
    LoadedWithoutRegistry,
    /// (`not-started`) The container waits to be created: no imageID at all.
    NotStarted,
}

impl Runtime {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Containerd,
        Self::CrioPlatform,
        Self::CrioIndex,
        Self::CrioBareId,
        Self::CriDockerd,
        Self::CriDockerdConfig,
        Self::LoadedWithoutRegistry,
        Self::NotStarted,
    ];

    /// The name that the annotation takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CrioPlatform => "crio-platform",
            Self::CrioIndex => "crio-index",
            Self::CrioBareId => "crio-bare-id",
            Self::CriDockerd => "cri-dockerd",
            Self::CriDockerdConfig => "cri-dockerd-config",
            Self::LoadedWithoutRegistry => "loaded-without-registry",
            Self::NotStarted => "not-started",
        }
    }

    /// The runtime of a name, if it is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }

    /// The scheme of container ids.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::CrioPlatform | Self::CrioIndex | Self::CrioBareId => "cri-o",
            Self::CriDockerd | Self::CriDockerdConfig => "docker",
            Self::Containerd | Self::LoadedWithoutRegistry | Self::NotStarted => "containerd",
        }
    }

    /// Whether it starts an image that no registry serves.
    pub(super) fn needs_no_registry(self) -> bool {
        matches!(self, Self::LoadedWithoutRegistry)
    }

    /// `imageID` of a container that has started.
    pub(super) fn image_id(self, image: &Pulled) -> String {
        match self {
            Self::Containerd | Self::CrioIndex => format!("{}@{}", image.repository, image.top),
            Self::CrioPlatform => format!("{}@{}", image.repository, image.platform),
            Self::CrioBareId => image.config.trim_start_matches("sha256:").to_owned(),
            Self::CriDockerd => format!("docker-pullable://{}@{}", image.repository, image.top),
            Self::CriDockerdConfig => format!("docker://{}", image.config),
            Self::LoadedWithoutRegistry => image.config.clone(),
            Self::NotStarted => String::new(),
        }
    }

    /// `image` of a container that has started: it need not be what the spec says.
    pub(super) fn image_name(self, image: &Pulled) -> String {
        let keeps_digest_references = self.scheme() == "cri-o";
        match (&image.reference.digest, image.reference.target()) {
            (Some(digest), _) if keeps_digest_references => format!("{}@{digest}", image.repository),
            (Some(_), _) => image.config.clone(),
            (None, tag) => format!("{}:{tag}", image.repository),
        }
    }
}

/// An image on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pulled {
    /// What the spec says.
    pub(super) reference: Reference,
    /// The repository that the runtime knows it under.
    pub(super) repository: String,
    /// The digest of what was asked for: an index or a manifest.
    pub(super) top: String,
    /// The digest of the manifest for the node's platform.
    pub(super) platform: String,
    /// The digest of that manifest's configuration: the image id.
    pub(super) config: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulled(reference: &str) -> Pulled {
        let reference = Reference::parse(reference).unwrap();
        Pulled {
            repository: reference.repository(),
            reference,
            top: "sha256:index".to_owned(),
            platform: "sha256:platform".to_owned(),
            config: "sha256:config".to_owned(),
        }
    }

    #[test]
    fn each_runtime_writes_its_own_shape_of_image_id() {
        let image = pulled("r.example/a:1");
        let ids: Vec<String> = Runtime::ALL
            .iter()
            .map(|runtime| runtime.image_id(&image))
            .collect();
        let expected = [
            "r.example/a@sha256:index",
            "r.example/a@sha256:platform",
            "r.example/a@sha256:index",
            "config",
            "docker-pullable://r.example/a@sha256:index",
            "docker://sha256:config",
            "sha256:config",
            "",
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn an_image_pulled_by_digest_is_named_by_its_id_in_containerd() {
        let image = pulled(&format!("r.example/a@sha256:{}", "0".repeat(64)));
        assert_eq!(Runtime::Containerd.image_name(&image), "sha256:config");
        assert_eq!(
            Runtime::Containerd.image_name(&pulled("r.example/a:1")),
            "r.example/a:1"
        );
    }

    #[test]
    fn every_runtime_is_found_by_its_name() {
        for runtime in Runtime::ALL {
            assert_eq!(Runtime::named(runtime.name()), Some(runtime));
        }
        assert_eq!(Runtime::named("docker"), None);
    }
}
