//! The servers of the demo: started to stay, and ended by [`down`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{
    Cluster, ClusterOptions, Lifetime, NodeSimulator, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Operator,
    OperatorSpec, Registry, RegistryKind, Tools, workspace_binary,
};

use crate::error::{DemoError, Result};

/// Marks a folder as one that [`down`] may remove.
const MARKER: &str = ".assay-demo";
/// A copy of this program, so that what it started can be ended whatever becomes of the build.
const PROGRAM: &str = "assay-demo";

const OPERATOR: &str = "operator";
const CLUSTER: &str = "cluster";
const REGISTRIES: &str = "registries";
/// The operator ends first, so that it can still give its lease back.
const FOLDERS: [&str; 3] = [OPERATOR, CLUSTER, REGISTRIES];

/// How many nodes are simulated.
pub const NODES: usize = 2;

/// A cluster with nodes, and two registries.
#[derive(Debug)]
pub struct Stage {
    folder: PathBuf,
    /// The Kubernetes control plane.
    pub cluster: Cluster,
    /// A registry without the referrers API.
    pub distribution: Registry,
    /// A registry with it.
    pub referrers: Registry,
}

impl Stage {
    /// Starts everything but the operator, in an empty folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        prepare(folder)?;
        let options = ClusterOptions {
            lifetime: Lifetime::Detached,
            ..ClusterOptions::default()
        };
        let registries = folder.join(REGISTRIES);
        let (cluster, distribution, referrers) = futures::try_join!(
            Cluster::start(folder.join(CLUSTER), options),
            Registry::start(RegistryKind::Distribution, &registries, Lifetime::Detached),
            Registry::start(RegistryKind::Referrers, &registries, Lifetime::Detached),
        )?;
        NodeSimulator::start_process(cluster.folder(), cluster.kubeconfig(), NODES, Lifetime::Detached)
            .await?;
        Ok(Self {
            folder: folder.to_owned(),
            cluster,
            distribution,
            referrers,
        })
    }

    /// The folder with everything that the demo writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of kubectl and the other tools.
    pub fn tools(&self) -> Result<PathBuf> {
        Ok(Tools::locate()?.folder().to_owned())
    }

    /// Starts the operator with the rights of its service account and no others. Returns once it is ready.
    pub async fn start_operator(&self) -> Result<Operator> {
        let kubeconfig = self
            .cluster
            .kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
            .await?;
        let registries = [self.distribution.host(), self.referrers.host()];
        let insecure = |host: String| ["--insecure-registry".to_owned(), host];
        let operator = Operator::start(OperatorSpec {
            program: workspace_binary("assay-cli", "assay")?,
            folder: self.folder.join(OPERATOR),
            kubeconfig,
            arguments: registries.into_iter().flat_map(insecure).collect(),
            lifetime: Lifetime::Detached,
        })?;
        operator.until_ready(Duration::from_secs(30)).await?;
        Ok(operator)
    }
}

/// Ends what runs and removes the folder. Gives the names of the processes that were still there.
pub fn down(folder: &Path) -> Result<Vec<String>> {
    let ended = end(folder)?;
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(DemoError::file("remove", folder))?;
    }
    Ok(ended)
}

/// Ends what runs and keeps the folder with its logs.
pub fn end(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    if !folder.join(MARKER).is_file() {
        return Err(DemoError::ForeignFolder {
            folder: folder.to_owned(),
            marker: MARKER,
        });
    }
    let mut ended = Vec::new();
    for part in FOLDERS {
        ended.extend(testkit::down(&folder.join(part))?);
    }
    Ok(ended)
}

fn prepare(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(DemoError::file("create", folder))?;
    let marker = folder.join(MARKER);
    std::fs::write(&marker, "").map_err(DemoError::file("write", &marker))?;
    let program = folder.join(PROGRAM);
    let this = std::env::current_exe().map_err(DemoError::file("find", &program))?;
    std::fs::copy(this, &program).map_err(DemoError::file("write", &program))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_the_demos_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("precious"), "").unwrap();
        assert!(matches!(
            down(folder.path()),
            Err(DemoError::ForeignFolder { .. })
        ));
        assert!(folder.path().join("precious").exists());
    }

    #[test]
    fn a_demo_that_never_was_is_down_already() {
        let folder = tempfile::tempdir().unwrap();
        assert!(down(&folder.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn what_a_demo_wrote_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let demo = folder.path().join("demo");
        prepare(&demo).unwrap();
        down(&demo).unwrap();
        assert!(!demo.exists());
    }
}
