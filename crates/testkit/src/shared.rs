//! What all tests of one test binary share: a cluster with simulated nodes and both registries, started by the first
//! test that asks for them and gone, with every process, when the test binary ends.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};

use crate::{
    Audit, Cluster, ClusterOptions, NodeOptions, NodeSimulator, Registry, Result, Sigstore, TestkitError,
    background, workspace_root,
};

/// The servers that tests share. They are there for every test: a test that stops or breaks one starts its own.
#[derive(Debug)]
pub struct Shared {
    /// The cluster, with an audit log of writes.
    pub cluster: Cluster,
    /// Its simulated nodes: two.
    pub nodes: NodeSimulator,
    /// A registry without the referrers API.
    pub distribution: Registry,
    /// A registry with the referrers API.
    pub referrers: Registry,
    folder: PathBuf,
}

impl Shared {
    /// A folder of this run that holds the servers' logs; each test may make its own within.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The private Sigstore that all tests of this process share; see [`crate::sigstore`].
    pub async fn sigstore(&self) -> Result<&'static Sigstore> {
        crate::sigstore().await
    }

    /// A new namespace for one test.
    pub async fn namespace(&self, test: &str) -> Result<TestNamespace> {
        TestNamespace::create(&self.cluster, test).await
    }
}

/// The servers that all tests of this process share. The first call starts them and blocks; when that fails, every
/// call says why.
pub fn shared() -> Result<&'static Shared> {
    static SHARED: OnceLock<std::result::Result<Shared, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        // On a thread of its own: the caller may be inside a runtime, where blocking on another one is refused.
        let started = std::thread::spawn(|| background::runtime()?.block_on(start())).join();
        match started {
            Ok(Ok(shared)) => Ok(shared),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the thread that started them panicked".to_owned()),
        }
    });
    shared
        .as_ref()
        .map_err(|reason| TestkitError::Shared(reason.clone()))
}

async fn start() -> Result<Shared> {
    let folder = run_folder()?;
    let options = ClusterOptions {
        audit: Audit::Writes,
        ..ClusterOptions::default()
    };
    let (cluster, distribution, referrers) = tokio::try_join!(
        Cluster::start(folder.join("cluster"), options),
        Registry::distribution(folder.join("distribution")),
        Registry::referrers(folder.join("referrers")),
    )?;
    let nodes = NodeSimulator::start(&cluster, NodeOptions::default()).await?;
    Ok(Shared {
        cluster,
        nodes,
        distribution,
        referrers,
        folder,
    })
}

/// A new folder for the files of this process, `target/testkit/<process id>`; those of processes that have ended are
/// removed, so the last run's logs stay until the next run.
pub fn run_folder() -> Result<PathBuf> {
    let runs = workspace_root().join("target").join("testkit");
    std::fs::create_dir_all(&runs).map_err(TestkitError::file("create", &runs))?;
    for entry in std::fs::read_dir(&runs).map_err(TestkitError::file("read", &runs))? {
        let path = entry.map_err(TestkitError::file("read", &runs))?.path();
        let process = path.file_name().map(|name| Path::new("/proc").join(name));
        if process.is_some_and(|process| !process.exists()) {
            // Another process may be removing it too.
            std::fs::remove_dir_all(&path).unwrap_or_default();
        }
    }
    let folder = runs.join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).map_err(TestkitError::file("create", &folder))?;
    Ok(folder)
}

/// A namespace of one test, and a suffix that makes the names of its cluster-scoped objects unique.
#[derive(Clone)]
pub struct TestNamespace {
    name: String,
    suffix: String,
    client: kube::Client,
}

impl std::fmt::Debug for TestNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestNamespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl TestNamespace {
    /// Creates a namespace named after the test and waits until pods can be created in it.
    pub async fn create(cluster: &Cluster, test: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let suffix = format!("{}-{number}", std::process::id());
        let name = format!("{}-{suffix}", label(test));
        let client = cluster.admin_client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let created = namespaces.create(&PostParams::default(), &namespace).await;
        created.map_err(TestkitError::kubernetes(format!("create the namespace {name}")))?;
        if cluster.controller_manager().is_some() {
            cluster.wait_for_service_account(&name).await?;
        }
        Ok(Self { name, suffix, client })
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A name for a cluster-scoped object of this test.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.suffix)
    }

    /// A client with an administrator's rights, of the runtime that created this.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// An API for objects in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Deletes the namespace without waiting until it is gone. Nothing depends on it: all goes with the cluster.
    pub async fn delete(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let deleted = namespaces.delete(&self.name, &DeleteParams::default()).await;
        deleted.map(drop).map_err(TestkitError::kubernetes(format!(
            "delete the namespace {}",
            self.name
        )))
    }
}

/// Lower case letters, digits and dashes, at most 40 of them, starting with a letter.
fn label(text: &str) -> String {
    let dashed: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let short: String = format!("t-{}", dashed.trim_matches('-'))
        .chars()
        .take(40)
        .collect();
    short.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_name_becomes_a_valid_label() {
        assert_eq!(label("B02_revoking::a_key"), "t-b02-revoking--a-key");
        assert_eq!(label(&"x".repeat(100)).len(), 40);
    }
}
