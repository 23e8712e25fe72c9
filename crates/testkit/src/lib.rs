//! Real servers, signers and a node simulator for tests and the demo.
//!
//! ```no_run
//! # async fn example() -> assay_testkit::Result<()> {
//! use assay_testkit::{Cluster, ClusterOptions};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let cluster = Cluster::start(folder.path(), ClusterOptions::default()).await?;
//! println!("{}", cluster.kubectl(&["get", "namespaces"]).await?);
//! # Ok(())
//! # }
//! ```

mod access_log;
mod background;
mod bulk;
mod cluster;
mod command;
mod cosign;
mod detached;
mod error;
mod images;
mod keys;
pub mod node;
mod outage;
mod ports;
mod registry;
mod server;
mod shared;
pub mod supervisor;
mod tools;

use std::time::{Duration, Instant};

pub use access_log::LoggedRequest;
pub use bulk::BulkSigner;
pub use cluster::{ADMIN_KUBECONFIG, ADMIN_USER, ApiRequest, Audit, Cluster, ClusterOptions, client_for};
pub use command::CommandOutput;
pub use cosign::{Cosign, CosignVersion, Format};
pub use detached::down;
pub use error::{Result, TestkitError};
pub use images::{Pushed, PushedIndex, RegistryWriter, digest_of};
pub use keys::{KEY_PASSWORD, KeyAlgorithm, KeyPair, openssl_private_key, openssl_public_key};
pub use node::{NODE_USER, NODE_USER_AGENT, NodeOptions, NodeSimulator, Runtime};
pub use outage::Outage;
pub use ports::{free_port, free_ports};
pub use registry::{LogPosition, Registry, RegistryKind};
pub use server::{Lifetime, Server, ServerSpec};
pub use shared::{Shared, TestNamespace, run_folder, shared};
pub use tools::{Tools, workspace_binary, workspace_root};

/// Makes aws-lc-rs the TLS provider of this process. Everything in the test kit that needs it calls this;
/// calling it again does nothing.
pub fn init() {
    // An error only says that a provider was installed before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Calls `look` every 50 ms until it gives a value; after `limit` the error carries what it said last.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() > deadline => {
                return Err(TestkitError::TimedOut {
                    what: what.to_owned(),
                    after: limit,
                    last,
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
