//! The operator as a process: `assay controller` with the rights of one kubeconfig, and its pages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ports::free_port;
use crate::server::{Lifetime, Server, ServerSpec};
use crate::{Result, TestkitError};

/// The namespace of `config/rbac`.
pub const OPERATOR_NAMESPACE: &str = "assay-system";
/// The service account of `config/rbac`.
pub const OPERATOR_ACCOUNT: &str = "assay";

/// It drains within this time.
const GRACE: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug, Clone)]
pub struct OperatorSpec {
    /// The `assay` binary.
    pub program: PathBuf,
    /// Its log and its data lie here.
    pub folder: PathBuf,
    /// Whose rights it has.
    pub kubeconfig: PathBuf,
    /// Further arguments, for example `--insecure-registry HOST`.
    pub arguments: Vec<String>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// One operator. Dropped, a supervised one ends.
#[derive(Debug)]
pub struct Operator {
    /// The process.
    pub server: Server,
    /// Where it serves `/metrics`, `/healthz` and `/readyz`: `127.0.0.1:<port>`.
    pub address: String,
}

impl Operator {
    /// Starts one without waiting.
    pub fn start(spec: OperatorSpec) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        std::fs::create_dir_all(&spec.folder).map_err(TestkitError::file("create", &spec.folder))?;
        let server = ServerSpec::new("assay", &spec.program, &spec.folder)
            .arg("controller")
            .args(["--listen", &address, "--namespace", OPERATOR_NAMESPACE])
            .arg("--data-dir")
            .arg(spec.folder.join("data"))
            .args(spec.arguments)
            .env("KUBECONFIG", &spec.kubeconfig)
            .env("HOME", &spec.folder)
            // As config/manager/deployment.yaml ships it.
            .env("MALLOC_ARENA_MAX", "1")
            .grace(GRACE)
            .lifetime(spec.lifetime);
        Ok(Self {
            server: Server::start(server)?,
            address,
        })
    }

    /// Waits until `/readyz` answers 200.
    pub async fn until_ready(&self, limit: Duration) -> Result<()> {
        let probe = || async { Ok(self.get("/readyz").await?.0 == 200) };
        self.server.wait_until_ready(limit, probe).await
    }

    /// The status and the body of the answer to a GET.
    pub async fn get(&self, path: &str) -> std::result::Result<(u16, String), String> {
        let answer = self.answer(path).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the head")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or("no status")?, body.to_owned()))
    }

    /// The value of a metric, by its name and labels as they are printed; None where it is not printed.
    pub async fn metric(&self, name: &str) -> std::result::Result<Option<f64>, String> {
        let (status, page) = self.get("/metrics").await?;
        if status != 200 {
            return Err(format!("/metrics answers {status}: {page}"));
        }
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = |value: &str| value.parse().map_err(|_| format!("{name} is {value:?}"));
        value.map(number).transpose()
    }

    /// Every whole line that it logged; the last one may still be being written.
    pub fn log(&self) -> Result<String> {
        let file = self.server.log_file();
        let mut log = std::fs::read(&file).map_err(TestkitError::file("read", Path::new(&file)))?;
        log.truncate(
            log.iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1),
        );
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    async fn answer(&self, path: &str) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(&self.address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}
