//! Registries on loopback ports, with their own access logs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access_log::{self, LoggedRequest};
use crate::images::RegistryWriter;
use crate::ports::{free_port, retry_on_taken_port};
use crate::server::{Lifetime, Server, ServerSpec};
use crate::tools::Tools;
use crate::{Result, TestkitError};

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// CNCF distribution: no referrers API, so that clients use the fallback tag; content can be deleted.
    Distribution,
    /// A registry with the OCI 1.1 referrers API.
    Referrers,
}

/// A registry that speaks plain http on 127.0.0.1 and keeps its content in memory: it is lost when the process
/// ends. For an outage that keeps the content use [`crate::Outage`] or [`Server::pause`].
#[derive(Debug)]
pub struct Registry {
    kind: RegistryKind,
    port: u16,
    server: Server,
}

/// A place in a registry's access log; see [`Registry::log_position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition(u64);

impl Registry {
    /// Starts CNCF distribution; its files lie in `folder`.
    pub async fn distribution(folder: impl AsRef<Path>) -> Result<Self> {
        Self::start(RegistryKind::Distribution, folder, Lifetime::Supervised).await
    }

    /// Starts a registry with the referrers API; its files lie in `folder`.
    pub async fn referrers(folder: impl AsRef<Path>) -> Result<Self> {
        Self::start(RegistryKind::Referrers, folder, Lifetime::Supervised).await
    }

    /// Starts a registry of either kind, to end with this process or to stay.
    pub async fn start(kind: RegistryKind, folder: impl AsRef<Path>, lifetime: Lifetime) -> Result<Self> {
        crate::init();
        let folder =
            std::path::absolute(folder.as_ref()).map_err(TestkitError::file("find", folder.as_ref()))?;
        std::fs::create_dir_all(&folder).map_err(TestkitError::file("create", &folder))?;
        let tools = Tools::locate()?;
        retry_on_taken_port(async || {
            let port = free_port()?;
            let spec = kind
                .spec(&tools, &folder, port)?
                .env("HOME", &folder)
                .lifetime(lifetime);
            let registry = Self {
                kind,
                port,
                server: Server::start(spec.grace(Duration::from_millis(500)))?,
            };
            registry.wait_until_ready().await?;
            Ok(registry)
        })
        .await
    }

    /// Which registry it is.
    pub fn kind(&self) -> RegistryKind {
        self.kind
    }

    /// The host part of image references: `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server process, to stop, kill, pause and start it again on the same port.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Pushes to it, deletes from it.
    pub fn writer(&self) -> RegistryWriter {
        RegistryWriter::new(self.host())
    }

    /// Waits until it answers, for example after it was started again.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let http = reqwest::Client::new();
        let url = format!("http://{}/v2/", self.host());
        self.server
            .wait_until_ready(Duration::from_secs(60), || {
                let request = http.get(&url).header("user-agent", READINESS_AGENT);
                async {
                    Ok(request
                        .send()
                        .await
                        .map_err(|error| error.to_string())?
                        .status()
                        .is_success())
                }
            })
            .await
    }

    /// Every request so far, in the order of the answers, from the registry's own log; without those that only asked
    /// whether it is ready. The node simulator's are among them: their user agent is [`crate::NODE_USER_AGENT`].
    pub fn access_log(&self) -> Result<Vec<LoggedRequest>> {
        self.access_log_since(LogPosition(0))
    }

    /// Where the log ends now, to ask later what came after.
    pub fn log_position(&self) -> Result<LogPosition> {
        let path = self.server.log_file();
        let length = std::fs::metadata(&path)
            .map_err(TestkitError::file("read", &path))?
            .len();
        Ok(LogPosition(length))
    }

    /// The requests that were answered after a position.
    pub fn access_log_since(&self, position: LogPosition) -> Result<Vec<LoggedRequest>> {
        let mut requests = access_log::read(&self.server.log_file(), position.0)?;
        requests.retain(|request| request.user_agent != READINESS_AGENT);
        Ok(requests)
    }
}

const READINESS_AGENT: &str = "assay-testkit-readiness";

impl RegistryKind {
    /// Its binary's name, which is also the name of its log.
    fn binary(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::Referrers => "referrers-registry",
        }
    }

    fn spec(self, tools: &Tools, folder: &Path, port: u16) -> Result<ServerSpec> {
        let spec = ServerSpec::new(self.binary(), tools.path(self.binary())?, folder);
        Ok(match self {
            Self::Distribution => spec.arg("serve").arg(distribution_config(folder, port)?),
            Self::Referrers => spec.arg(format!("--listen=127.0.0.1:{port}")),
        })
    }
}

fn distribution_config(folder: &Path, port: u16) -> Result<PathBuf> {
    let config = serde_json::json!({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": false}},
        "storage": {"inmemory": {}, "delete": {"enabled": true}},
        "http": {"addr": format!("127.0.0.1:{port}"), "relativeurls": true},
    });
    let path = folder.join("distribution.yml");
    std::fs::write(&path, config.to_string()).map_err(TestkitError::file("write", &path))?;
    Ok(path)
}
