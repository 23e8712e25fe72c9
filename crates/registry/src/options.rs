//! What a client is told when it is made: which registries speak plain http, credentials, limits, observers.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{ReferenceError, normalise_registry};

use crate::cloud::Cloud;
use crate::meter::RequestObserver;

/// The options of a [`crate::Client`].
#[derive(Clone)]
pub struct ClientOptions {
    /// The registries (`host` or `host:port`) that are asked over plain http. No other one is, loopback
    /// included.
    pub plain_http: BTreeSet<String>,
    /// A file in the format of Docker's `config.json`. Only its `auths` are used; credential helpers that it
    /// names are never executed. It is read once.
    pub docker_config: Option<PathBuf>,
    /// Token servers (`host` or `host:port`) that a registry may name although they are on another host or
    /// port, by registry. Those of the large public registries are built in.
    pub token_servers: BTreeMap<String, BTreeSet<String>>,
    /// Caps on what registries send.
    pub limits: Limits,
    /// How many calls may be under way to one registry; at least 1. A route may say otherwise.
    pub per_registry_concurrency: usize,
    /// How many requests one registry gets in a second, all kinds counted; `None` for no limit. A route may say
    /// otherwise.
    pub requests_per_second: Option<NonZeroU32>,
    /// Whether requests to internal addresses are refused (see `allowed_internal_addresses`): loopback, private,
    /// unique-local, link-local, metadata services, and IPv6 addresses that stand for such ones. It holds for
    /// registries, token servers, redirects and pages, by the addresses that names resolve to. A host that
    /// `plain_http`, `token_servers` or a route names may be on a private or loopback address, for requests that are
    /// meant for that registry. Where `HTTPS_PROXY` or `HTTP_PROXY` sends a request through a proxy, the proxy resolves the name,
    /// and it is for the proxy to refuse; `NO_PROXY` is honoured.
    pub forbid_internal_addresses: bool,
    /// Exceptions to that, for any request: addresses, networks (`10.0.0.0/8`) and host names.
    pub allowed_internal_addresses: BTreeSet<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Clouds that the operator has an identity of: it is used for their registries where there are no other
    /// credentials.
    pub clouds: BTreeSet<Cloud>,
    /// Told of every request.
    pub observer: Option<Arc<dyn RequestObserver>>,
    /// By which it tells how long ago it learned that a registry has no referrers API; tests move it.
    pub clock: fn() -> Instant,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            plain_http: BTreeSet::new(),
            docker_config: None,
            token_servers: BTreeMap::new(),
            limits: Limits::default(),
            per_registry_concurrency: 8,
            requests_per_second: None,
            forbid_internal_addresses: false,
            allowed_internal_addresses: BTreeSet::new(),
            user_agent: concat!("assay/", env!("CARGO_PKG_VERSION")).to_owned(),
            clouds: BTreeSet::new(),
            observer: None,
            clock: Instant::now,
        }
    }
}

/// Caps on what one registry may send. Past a cap the answer is [`crate::Error::TooLarge`], past a time
/// [`crate::Error::Unavailable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest, and of one page of referrers.
    pub manifest_bytes: u64,
    /// Bytes of a blob, whatever a call asks for.
    pub blob_bytes: u64,
    /// Pages of one listing of referrers.
    pub referrers_pages: usize,
    /// Entries of one listing of referrers.
    pub referrers: usize,
    /// Bytes of all pages of one listing of referrers.
    pub referrers_bytes: u64,
    /// Time for one call, from the first byte sent to the last byte received, with tokens and redirects. Waiting
    /// for the registry's turn is not counted. One page of referrers is one call.
    pub request_timeout: Duration,
    /// Time for all pages of one listing of referrers, waiting included.
    pub listing_timeout: Duration,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            blob_bytes: 32 << 20,
            referrers_pages: 64,
            referrers: 1000,
            referrers_bytes: 8 << 20,
            request_timeout: Duration::from_secs(10),
            listing_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientOptionsError {
    /// A registry in the options is not a host.
    #[error("{option} names {found:?}: {source}; write HOST or HOST:PORT")]
    Registry {
        /// Which option.
        option: &'static str,
        /// What it names.
        found: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// No call could ever be made.
    #[error("per-registry concurrency is 0: it must be at least 1")]
    Concurrency,
    /// An exception for internal addresses is none.
    #[error("allowed internal addresses: {found:?} is not a host name, and as a network: {why}")]
    Allowed {
        /// The exception.
        found: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The docker config cannot be read.
    #[error("the docker config {} cannot be read: {source}", path.display())]
    DockerConfigRead {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The docker config is not what it should be. The message quotes no value.
    #[error("the docker config {} is not valid: {why}", path.display())]
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// A cloud's credentials are not in this build.
    #[error("credentials of {cloud} are not in this build: build it with the feature {feature}")]
    Cloud {
        /// The cloud.
        cloud: Cloud,
        /// What it needs.
        feature: &'static str,
    },
    /// The HTTP client cannot be made, most likely because the system has no CA certificates.
    #[error(
        "the HTTPS client cannot be set up: {why}; install the system's CA certificates, or name a bundle in \
         SSL_CERT_FILE"
    )]
    Https {
        /// What the TLS library says.
        why: String,
    },
}

/// Normalises a set of registries of one option.
pub(crate) fn normalised(
    option: &'static str,
    registries: &BTreeSet<String>,
) -> Result<BTreeSet<String>, ClientOptionsError> {
    registries
        .iter()
        .map(|found| normalised_one(option, found))
        .collect()
}

pub(crate) fn normalised_one(option: &'static str, found: &str) -> Result<String, ClientOptionsError> {
    normalise_registry(found).map_err(|source| ClientOptionsError::Registry {
        option,
        found: found.to_owned(),
        source,
    })
}
