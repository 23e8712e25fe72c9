//! How each server of a cluster is started, and when it is ready.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kubeconfig::{Credential, text};
use super::pki::Pki;
use super::{Audit, ClusterOptions};
use crate::ports::{free_port, retry_on_taken_port};
use crate::server::{Server, ServerSpec};
use crate::tools::Tools;
use crate::{Result, TestkitError};

/// The audit log in the cluster's folder.
pub(super) const AUDIT_LOG: &str = "audit.log";

const LIMIT: Duration = Duration::from_secs(120);

/// What the servers of one cluster share.
pub(super) struct Starting<'a> {
    pub(super) folder: &'a Path,
    pub(super) tools: &'a Tools,
    pub(super) pki: &'a Pki,
    pub(super) options: &'a ClusterOptions,
}

impl Starting<'_> {
    /// The folder of etcd's data.
    pub(super) fn etcd_data(&self) -> PathBuf {
        let told = self.options.etcd_data.clone();
        told.unwrap_or_else(|| self.folder.join("etcd"))
    }

    /// Gives the server and its client URL.
    pub(super) async fn etcd(&self) -> Result<(Server, String)> {
        let data = self.etcd_data();
        let program = self.tools.path("etcd")?;
        retry_on_taken_port(async || {
            let client = format!("http://127.0.0.1:{}", free_port()?);
            let peer = format!("http://127.0.0.1:{}", free_port()?);
            let spec = self.spec("etcd", &program).arg("--data-dir").arg(&data).args([
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                "--log-level=warn".to_owned(),
                "--quota-backend-bytes=8589934592".to_owned(),
                "--auto-compaction-retention=5m".to_owned(),
            ]);
            let server = Server::start(spec)?;
            let http = reqwest::Client::new();
            let probe = || answers_ok(http.get(format!("{client}/readyz")));
            server.wait_until_ready(LIMIT, probe).await?;
            Ok((server, client))
        })
        .await
    }

    /// Gives the server and its URL.
    pub(super) async fn api_server(&self, etcd: &str) -> Result<(Server, String)> {
        let program = self.tools.path("kube-apiserver")?;
        let audit = self.audit_arguments()?;
        let file = |name: &str| self.pki.path(name).display().to_string();
        retry_on_taken_port(async || {
            let port = free_port()?;
            let url = format!("https://127.0.0.1:{port}");
            let spec = self.spec("kube-apiserver", &program).args([
                format!("--etcd-servers={etcd}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={port}"),
                "--advertise-address=192.0.2.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--tls-cert-file={}", file("server.crt")),
                format!("--tls-private-key-file={}", file("server.key")),
                format!("--client-ca-file={}", file("ca.crt")),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", file("service-accounts.key")),
                format!(
                    "--service-account-signing-key-file={}",
                    file("service-accounts.key")
                ),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--allow-privileged".to_owned(),
                "--profiling=false".to_owned(),
                "--max-requests-inflight=800".to_owned(),
                "--max-mutating-requests-inflight=400".to_owned(),
            ]);
            let spec = spec
                .args(audit.clone())
                .args(self.options.api_server_arguments.clone());
            let server = Server::start(spec)?;
            wait_for_api_server(&server, &url, self.pki).await?;
            Ok((server, url))
        })
        .await
    }

    pub(super) async fn controller_manager(&self, api_server: &str) -> Result<Server> {
        let program = self.tools.path("kube-controller-manager")?;
        let identity = self.pki.user("system:kube-controller-manager", None)?;
        let kubeconfig = self.folder.join("kube-controller-manager.kubeconfig");
        let content = text(
            api_server,
            &self.pki.authority_certificate,
            &Credential::Certificate(&identity),
        );
        std::fs::write(&kubeconfig, content).map_err(TestkitError::file("write", &kubeconfig))?;
        let file = |name: &str| self.pki.path(name).display().to_string();
        retry_on_taken_port(async || {
            let port = free_port()?;
            let spec = self.spec("kube-controller-manager", &program).args([
                format!("--kubeconfig={}", kubeconfig.display()),
                "--leader-elect=false".to_owned(),
                format!(
                    "--service-account-private-key-file={}",
                    file("service-accounts.key")
                ),
                format!("--root-ca-file={}", file("ca.crt")),
                "--use-service-account-credentials".to_owned(),
                "--kube-api-qps=500".to_owned(),
                "--kube-api-burst=1000".to_owned(),
                "--concurrent-deployment-syncs=20".to_owned(),
                "--concurrent-replicaset-syncs=20".to_owned(),
                "--concurrent-namespace-syncs=20".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={port}"),
                format!("--tls-cert-file={}", file("server.crt")),
                format!("--tls-private-key-file={}", file("server.key")),
            ]);
            let server = Server::start(spec)?;
            let http = https_client(self.pki)?;
            let probe = || answers_ok(http.get(format!("https://127.0.0.1:{port}/healthz")));
            server.wait_until_ready(LIMIT, probe).await?;
            Ok(server)
        })
        .await
    }

    fn spec(&self, name: &str, program: &Path) -> ServerSpec {
        let spec = ServerSpec::new(name, program, self.folder).lifetime(self.options.lifetime);
        spec.env("HOME", self.folder).grace(Duration::from_secs(1))
    }

    fn audit_arguments(&self) -> Result<Vec<String>> {
        let Some(policy) = Audit::policy(self.options.audit) else {
            return Ok(Vec::new());
        };
        let policy_file = self.folder.join("audit-policy.json");
        std::fs::write(&policy_file, policy.to_string())
            .map_err(TestkitError::file("write", &policy_file))?;
        Ok(vec![
            format!("--audit-policy-file={}", policy_file.display()),
            format!("--audit-log-path={}", self.folder.join(AUDIT_LOG).display()),
        ])
    }
}

pub(super) async fn wait_for_api_server(server: &Server, url: &str, pki: &Pki) -> Result<()> {
    let http = https_client(pki)?;
    server
        .wait_until_ready(LIMIT, || answers_ok(http.get(format!("{url}/readyz"))))
        .await
}

/// An anonymous client that trusts the cluster's authority only and keeps no connection.
fn https_client(pki: &Pki) -> Result<reqwest::Client> {
    let failed = TestkitError::crypto::<reqwest::Error>;
    let authority = reqwest::Certificate::from_pem(pki.authority_certificate.as_bytes());
    let authority = authority.map_err(failed("read the cluster's authority"))?;
    reqwest::Client::builder()
        .tls_certs_only([authority])
        .pool_max_idle_per_host(0)
        .build()
        .map_err(failed("make a client for the cluster"))
}

async fn answers_ok(request: reqwest::RequestBuilder) -> Result<bool, String> {
    let answer = request.send().await.map_err(|error| error_chain(&error))?;
    match answer.status().as_u16() {
        200 => Ok(true),
        status => Err(format!(
            "HTTP {status}: {}",
            answer.text().await.unwrap_or_default()
        )),
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
