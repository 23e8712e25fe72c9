//! How the servers of a private Sigstore are started, and when they are ready.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::certificates::{Chain, LogKey, write};
use super::issuer::{AUDIENCE, IssuerKind, Issuers};
use crate::Result;
use crate::ports::{free_ports, retry_on_taken_port};
use crate::server::{Server, ServerSpec};
use crate::tools::Tools;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// What the host part of the log's address must be: it becomes the origin of its checkpoints.
pub(super) const REKOR_ORIGIN: &str = "127.0.0.1";

/// A server that answers on a loopback address.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) server: Server,
    pub(super) url: String,
}

impl Service {
    /// Starts a server on new ports, the first of which answers `health` when it is ready.
    async fn start<const N: usize>(health: &str, spec: impl Fn([u16; N]) -> ServerSpec) -> Result<Self> {
        retry_on_taken_port(async || {
            let ports = free_ports::<N>()?;
            let url = format!("http://127.0.0.1:{}", ports[0]);
            let server = Server::start(spec(ports).grace(Duration::from_millis(500)))?;
            let service = Self { server, url };
            service.wait_until_ready(health).await?;
            Ok(service)
        })
        .await
    }

    /// Fulcio with its authority in files; without a CT log its certificates carry no SCT.
    pub(super) async fn fulcio(
        tools: &Tools,
        folder: &Path,
        authority: &Chain,
        issuers: &Issuers,
        ct_log: Option<&str>,
    ) -> Result<Self> {
        let program = tools.path("fulcio")?;
        let config = folder.join("fulcio.json");
        write(&config, &fulcio_config(issuers))?;
        Self::start("/healthz", |[port, grpc, metrics]| {
            ServerSpec::new("fulcio", &program, folder)
                .env("HOME", folder)
                .args([
                    "serve",
                    "--ca=fileca",
                    "--fileca-watch=false",
                    "--fileca-key-passwd=none",
                ])
                .args(["--host=127.0.0.1", "--grpc-host=127.0.0.1"])
                .args([format!("--port={port}"), format!("--grpc-port={grpc}")])
                .arg(format!("--metrics-port={metrics}"))
                .arg("--legacy-unix-domain-socket=fulcio.sock")
                .arg(format!("--ct-log-url={}", ct_log.unwrap_or_default()))
                .args([Path::new("--config-path"), &config])
                .args([Path::new("--fileca-cert"), &authority.certificates])
                .args([Path::new("--fileca-key"), &authority.key])
        })
        .await
    }

    /// The timestamp authority with its key in a file.
    pub(super) async fn timestamps(tools: &Tools, folder: &Path, chain: &Chain) -> Result<Self> {
        let program = tools.path("timestamp-server")?;
        Self::start("/ping", |[port]| {
            ServerSpec::new("timestamp-server", &program, folder)
                .env("HOME", folder)
                .arg(format!("--port={port}"))
                .args([Path::new("--key"), &chain.key])
                .args([Path::new("--certificate-chain"), &chain.certificates])
        })
        .await
    }

    /// A Rekor v2 log that keeps its tiles in the folder.
    pub(super) async fn rekor(tools: &Tools, folder: &Path, key: &LogKey) -> Result<Self> {
        let program = tools.path("rekor-tiles")?;
        Self::start("/healthz", |[port, grpc, metrics]| {
            ServerSpec::new("rekor-tiles", &program, folder)
                .env("HOME", folder)
                .args(["serve", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"])
                .args([format!("--http-port={port}"), format!("--grpc-port={grpc}")])
                .arg(format!("--http-metrics-port={metrics}"))
                .arg(format!("--hostname={REKOR_ORIGIN}"))
                .args(["--batch-max-age=50ms", "--checkpoint-interval=200ms"])
                .args([Path::new("--storage-dir"), &folder.join("rekor-tiles")])
                .args([Path::new("--signer-filepath"), &key.private_key])
        })
        .await
    }

    async fn wait_until_ready(&self, health: &str) -> Result<()> {
        let http = reqwest::Client::new();
        let url = format!("{}{health}", self.url);
        self.server
            .wait_until_ready(READY_WITHIN, || {
                let request = http.get(&url);
                async {
                    let answer = request.send().await.map_err(|error| error.to_string())?;
                    Ok(answer.status().is_success())
                }
            })
            .await
    }
}

fn fulcio_config(issuers: &Issuers) -> String {
    let known: serde_json::Map<_, _> = IssuerKind::ALL
        .into_iter()
        .map(|kind| {
            let url = issuers.url(kind);
            let issuer = json!({"IssuerURL": url, "ClientID": AUDIENCE, "Type": kind.fulcio_type()});
            (url, issuer)
        })
        .collect();
    json!({"OIDCIssuers": known}).to_string()
}
