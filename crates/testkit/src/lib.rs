//! Real servers, signers and a node simulator for tests and the demo.
//!
//! - [`shared`]: one cluster with simulated nodes and both registries for all tests of a binary; each test takes a
//!   namespace of its own. A test that breaks a server starts its own [`Cluster`] or [`Registry`].
//! - [`sigstore`]: one private [`Sigstore`] for all tests of a binary, to sign without keys.
//! - [`Cosign`] signs really, [`BulkSigner`] signs many; [`RegistryWriter`] pushes images, or anything else.
//! - [`FakeRegistry`] answers as a registry does until a [`Fault`] is injected, and remembers every request.
//! - [`PrivateRegistry`] serves one user alone, by a password or by tokens.
//! - [`Outage`] stands in front of a registry and takes it away.
//! - [`Server`] runs any other program, for example the operator, and ends it with the test process.
//! - With [`Lifetime::Detached`] servers stay until [`down`].
//!
//! The servers' binaries come from `make tools`.
//!
//! ```no_run
//! # async fn example() -> assay_testkit::Result<()> {
//! use assay_testkit::{Cosign, CosignVersion, Format, Identity, shared};
//!
//! let shared = shared()?;
//! let namespace = shared.namespace("signed").await?;
//! let image = shared.distribution.writer().push_image("shop/web", "1.0", "any seed").await?;
//! let cosign = Cosign::new(CosignVersion::V3, shared.folder().join(namespace.name()))?;
//! let key = cosign.generate_key_pair("release").await?;
//! cosign.sign(&image.by_digest(), &key, Format::Bundle).await?;
//! let (sigstore, alice) = (shared.sigstore().await?, Identity::email("alice@example.com"));
//! cosign.sign(&image.by_digest(), sigstore.keyless(&alice), Format::Bundle).await?;
//! println!("{}", sigstore.trusted_root_json()?);
//! let arguments = ["-n", namespace.name(), "create", "deployment", "web", "--image", &image.by_tag()];
//! shared.cluster.kubectl(&arguments).await?;
//! println!("{}", key.public_pem()?);
//! # Ok(())
//! # }
//! ```

mod access_log;
mod api_proxy;
mod background;
mod bulk;
mod cluster;
mod command;
mod cosign;
mod der;
mod detached;
mod error;
mod fake_registry;
mod http;
mod images;
mod jwt;
mod keys;
pub mod node;
mod operator;
mod order;
mod outage;
mod ports;
pub mod predicates;
mod private_registry;
mod registry;
mod server;
mod shared;
mod sigstore;
pub mod supervisor;
mod tools;

use std::time::{Duration, Instant};

pub use self::sigstore::{Chain, Identity, LogKey, Signer, Sigstore, SigstoreOptions, Workflow, sigstore};
pub use access_log::LoggedRequest;
pub use api_proxy::{ApiProxy, Fate, Passing};
pub use bulk::BulkSigner;
pub use cluster::{
    ADMIN_KUBECONFIG, ADMIN_USER, ApiRequest, Audit, Cluster, ClusterOptions, StoreCopy, client_for,
};
pub use command::CommandOutput;
pub use cosign::{Cosign, CosignVersion, Format};
pub use detached::down;
pub use error::{Result, TestkitError};
pub use fake_registry::{Access, FakeRegistry, Fault, On, SeenRequest};
pub use images::{Pushed, PushedIndex, RegistryWriter, digest_of};
pub use keys::{KEY_PASSWORD, KeyAlgorithm, KeyPair, openssl_private_key, openssl_public_key};
pub use node::{NODE_USER, NODE_USER_AGENT, NodeOptions, NodeSimulator, Runtime};
pub use operator::{OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Operator, OperatorSpec};
pub use outage::Outage;
pub use ports::{free_port, free_ports};
pub use private_registry::{Password, PrivateAccess, PrivateRegistry, REGISTRY_USER};
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
