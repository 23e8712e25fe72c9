//! A Kubernetes control plane on loopback ports: etcd, the API server and the controller manager.
//!
//! There is no scheduler and no kubelet: [`crate::NodeSimulator`] plays both.

mod audit;
mod kubeconfig;
mod pki;
mod servers;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};

pub use audit::{ApiRequest, Audit};
pub use kubeconfig::client_for;
pub use store::StoreCopy;

use crate::command::{CommandOutput, Tool};
use crate::server::{Lifetime, Server};
use crate::tools::Tools;
use crate::{Result, TestkitError};
use kubeconfig::Credential;
use pki::Pki;

/// The file in a cluster's folder that lets an administrator in.
pub const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";

/// The user of [`Cluster::admin_client`] and [`Cluster::kubeconfig`], as audit logs name it.
pub const ADMIN_USER: &str = "testkit-admin";

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Whether its servers end with this process (the default) or stay.
    pub lifetime: Lifetime,
    /// Whether there is a controller manager (the default): without one there are no ReplicaSets, no default
    /// service accounts, no garbage collection; fleets of many pods may leave it out.
    pub controller_manager: bool,
    /// What the audit log holds; nothing by default.
    pub audit: Audit,
    /// Further arguments of the API server.
    pub api_server_arguments: Vec<String>,
    /// The folder of etcd's data; `etcd` in the cluster's folder unless told. One that has data is used as it is,
    /// so a fleet that was generated once starts in seconds.
    pub etcd_data: Option<PathBuf>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            lifetime: Lifetime::Supervised,
            controller_manager: true,
            audit: Audit::Off,
            api_server_arguments: Vec::new(),
            etcd_data: None,
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    tools: Tools,
    pki: Pki,
    etcd_data: PathBuf,
    etcd_url: String,
    url: String,
    kubeconfig: PathBuf,
    /// Declared in the order in which they are dropped.
    controller_manager: Option<Server>,
    api_server: Server,
    etcd: Server,
}

impl Cluster {
    /// Starts a cluster whose files all lie in `folder` (made if it is not there) and waits until it is ready:
    /// the API server answers `/readyz` and, with a controller manager, the first service account exists.
    pub async fn start(folder: impl AsRef<Path>, options: ClusterOptions) -> Result<Self> {
        crate::init();
        let folder =
            std::path::absolute(folder.as_ref()).map_err(TestkitError::file("find", folder.as_ref()))?;
        std::fs::create_dir_all(&folder).map_err(TestkitError::file("create", &folder))?;
        let tools = Tools::locate()?;
        let pki = Pki::create(&folder.join("pki"))?;
        let starting = servers::Starting {
            folder: &folder,
            tools: &tools,
            pki: &pki,
            options: &options,
        };
        let etcd_data = starting.etcd_data();
        let (etcd, etcd_url) = starting.etcd().await?;
        let (api_server, url) = starting.api_server(&etcd_url).await?;
        let kubeconfig = folder.join(ADMIN_KUBECONFIG);
        let admin = pki.user(ADMIN_USER, Some("system:masters"))?;
        write_kubeconfig(&kubeconfig, &url, &pki, &Credential::Certificate(&admin))?;
        let controller_manager = match options.controller_manager {
            true => Some(starting.controller_manager(&url).await?),
            false => None,
        };
        let cluster = Self {
            folder,
            tools,
            pki,
            etcd_data,
            etcd_url,
            url,
            kubeconfig,
            controller_manager,
            api_server,
            etcd,
        };
        if options.controller_manager {
            cluster.wait_for_service_account("default").await?;
        }
        Ok(cluster)
    }

    /// The folder with the cluster's files and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The API server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where etcd serves its clients, without authentication: for who must write past the API server.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with an administrator's rights, bound to the tokio runtime of the caller: make one per test.
    pub async fn admin_client(&self) -> Result<kube::Client> {
        client_for(&self.kubeconfig).await
    }

    /// Runs `kubectl` as an administrator and gives its standard output; a failure carries all it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_output(arguments, "").await?.into_stdout()
    }

    /// `kubectl apply -f -` with a manifest of one or several objects.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_output(&["apply", "-f", "-"], manifest)
            .await?
            .into_stdout()
    }

    /// Applies the definitions of Assay's kinds, `crds/` of this workspace, and waits until they are served.
    pub async fn install_kinds(&self) -> Result<()> {
        self.kubectl(&["apply", "-f", "crds/"]).await?;
        let established = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            "crds/",
        ];
        self.kubectl(&established).await.map(drop)
    }

    /// Runs `kubectl` as an administrator with some standard input; a failure of the command is in the output.
    pub async fn kubectl_output(&self, arguments: &[&str], input: &str) -> Result<CommandOutput> {
        self.kubectl_with(&self.kubeconfig, arguments, input).await
    }

    /// Runs `kubectl` with another kubeconfig.
    pub async fn kubectl_with(
        &self,
        kubeconfig: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<CommandOutput> {
        let kubectl = Tool::new(&self.tools.path("kubectl")?, &self.folder).env("KUBECONFIG", kubeconfig);
        kubectl
            .current_dir(crate::workspace_root())
            .args(arguments)
            .input(input)
            .output()
            .await
    }

    /// Writes a kubeconfig for a user with a client certificate; RBAC knows the user and the group by these names.
    pub fn kubeconfig_for_user(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let identity = self.pki.user(user, group)?;
        self.write_named_kubeconfig(user, &Credential::Certificate(&identity))
    }

    /// Writes a kubeconfig that holds a token of a service account, valid for a day: what runs with it has exactly
    /// the rights that RBAC gives that account. The account must exist.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin_client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(86_400),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec: Some(spec),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(TestkitError::kubernetes(format!(
                "request a token of the service account {namespace}/{name}"
            )))?;
        let token = answer.status.and_then(|status| status.token).ok_or_else(|| {
            TestkitError::Invalid(format!("the API server answered no token for {namespace}/{name}"))
        })?;
        self.write_named_kubeconfig(&format!("{namespace}-{name}"), &Credential::Token(&token))
    }

    /// The API server, to stop, kill, pause and start it again; see [`Cluster::wait_until_ready`].
    pub fn api_server(&self) -> &Server {
        &self.api_server
    }

    /// etcd.
    pub fn etcd(&self) -> &Server {
        &self.etcd
    }

    /// The controller manager, if the cluster has one.
    pub fn controller_manager(&self) -> Option<&Server> {
        self.controller_manager.as_ref()
    }

    /// Waits until the API server answers `/readyz`, for example after it was started again.
    pub async fn wait_until_ready(&self) -> Result<()> {
        servers::wait_for_api_server(&self.api_server, &self.url, &self.pki).await
    }

    /// Every request in the audit log; needs [`ClusterOptions::audit`].
    pub fn api_requests(&self) -> Result<Vec<ApiRequest>> {
        audit::read(&self.folder.join(servers::AUDIT_LOG))
    }

    /// The writes of one user in the audit log, refused ones too; needs [`ClusterOptions::audit`].
    /// A service account is called `system:serviceaccount:<namespace>:<name>`.
    pub fn writes_by(&self, user: &str) -> Result<Vec<ApiRequest>> {
        let mut requests = self.api_requests()?;
        requests.retain(|request| request.user == user && request.is_write());
        Ok(requests)
    }

    /// Waits until the controller manager has made a namespace's default service account: pods are refused before.
    pub async fn wait_for_service_account(&self, namespace: &str) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin_client().await?, namespace);
        let what = format!("the default service account of namespace {namespace}");
        crate::eventually(&what, Duration::from_secs(60), async || {
            match accounts.get_opt("default").await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err("there is none".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    fn write_named_kubeconfig(&self, name: &str, credential: &Credential<'_>) -> Result<PathBuf> {
        let path = self
            .folder
            .join(format!("{}.kubeconfig", name.replace([':', '/'], "-")));
        write_kubeconfig(&path, &self.url, &self.pki, credential)?;
        Ok(path)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.controller_manager.iter().for_each(Server::begin_stop);
        self.api_server.begin_stop();
        self.etcd.begin_stop();
    }
}

fn write_kubeconfig(path: &Path, url: &str, pki: &Pki, credential: &Credential<'_>) -> Result<()> {
    let text = kubeconfig::text(url, &pki.authority_certificate, credential);
    std::fs::write(path, text).map_err(TestkitError::file("write", path))
}
