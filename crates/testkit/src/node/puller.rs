//! Resolves images at their registries over plain HTTP, with code of its own: the simulator must not err where the
//! operator errs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::NODE_USER_AGENT;
use super::reference::Reference;
use super::runtime::Pulled;
use crate::{Result, TestkitError, digest_of};

const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Why a container waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullFailure {
    /// The waiting container's reason.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl PullFailure {
    fn back_off(image: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("Back-off pulling image {image:?}: ErrImagePull: {why}");
        Self {
            reason: "ImagePullBackOff",
            message,
        }
    }

    /// Whether trying again can help.
    pub(super) fn is_final(&self) -> bool {
        self.reason == "InvalidImageName"
    }
}

/// Asks registries on loopback; images elsewhere cannot be pulled, as on a machine without a network.
#[derive(Debug)]
pub(super) struct Puller {
    http: reqwest::Client,
    architecture: String,
    /// By `repository@digest`: content that was fetched once is on the node.
    fetched: Mutex<HashMap<String, Arc<Manifest>>>,
    /// What a tag led to when it was last resolved, for pods that start while the registry is down.
    resolved: Mutex<HashMap<String, Pulled>>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(skip)]
    digest: String,
    config: Option<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

impl Puller {
    pub(super) fn new(architecture: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(NODE_USER_AGENT)
            .timeout(Duration::from_secs(10))
            .build();
        Ok(Self {
            http: http.map_err(TestkitError::crypto("make the simulator's client for registries"))?,
            architecture: architecture.to_owned(),
            fetched: Mutex::default(),
            resolved: Mutex::default(),
        })
    }

    /// Resolves one image. While the registry does not answer, an image that was resolved before is still there,
    /// unless the pull policy is Always.
    pub(super) async fn pull(&self, image: &str, policy: Option<&str>) -> Result<Pulled, PullFailure> {
        let reference = Reference::parse(image).map_err(|message| PullFailure {
            reason: "InvalidImageName",
            message: format!("Failed to apply default image tag {image:?}: {message}"),
        })?;
        match self.resolve(reference).await {
            Ok(pulled) => {
                lock(&self.resolved).insert(image.to_owned(), pulled.clone());
                Ok(pulled)
            }
            Err(why) => match lock(&self.resolved).get(image) {
                Some(known) if policy != Some("Always") => Ok(known.clone()),
                _ => Err(PullFailure::back_off(image, why)),
            },
        }
    }

    async fn resolve(&self, reference: Reference) -> Result<Pulled, String> {
        if !is_loopback(&reference.host) {
            return Err(format!(
                "dial tcp: lookup {}: simulated nodes reach registries on loopback only",
                reference.host
            ));
        }
        let top = self.fetch(&reference, reference.target()).await?;
        let platform = if top.manifests.is_empty() {
            Arc::clone(&top)
        } else {
            let child = top.manifests.iter().find(|child| self.fits(child));
            let none = || {
                format!(
                    "no match for platform linux/{} in manifest {}",
                    self.architecture, top.digest
                )
            };
            self.fetch(&reference, &child.ok_or_else(none)?.digest).await?
        };
        let config = platform
            .config
            .as_ref()
            .ok_or_else(|| format!("manifest {} names no config", platform.digest))?;
        Ok(Pulled {
            repository: reference.repository(),
            top: top.digest.clone(),
            platform: platform.digest.clone(),
            config: config.digest.clone(),
            reference,
        })
    }

    fn fits(&self, child: &Descriptor) -> bool {
        child
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == self.architecture)
    }

    async fn fetch(&self, reference: &Reference, target: &str) -> Result<Arc<Manifest>, String> {
        let key = format!("{}@{target}", reference.repository());
        if let Some(manifest) = lock(&self.fetched).get(&key) {
            return Ok(Arc::clone(manifest));
        }
        let url = format!(
            "http://{}/v2/{}/manifests/{target}",
            reference.host, reference.path
        );
        let answer = self.http.get(&url).header("accept", MANIFEST_TYPES).send().await;
        let answer = answer.map_err(|error| format!("failed to do request: Get {url:?}: {error}"))?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(format!("{key}: not found")),
            status => return Err(format!("unexpected status from GET request to {url}: {status}")),
        }
        let bytes = answer
            .bytes()
            .await
            .map_err(|error| format!("failed to read {url}: {error}"))?;
        let digest = digest_of(&bytes);
        if target.starts_with("sha256:") && target != digest {
            return Err(format!(
                "{key}: failed commit on ref: unexpected commit digest {digest}, expected {target}"
            ));
        }
        let mut manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| format!("{key}: {error}"))?;
        manifest.digest = digest;
        let manifest = Arc::new(manifest);
        let by_digest = format!("{}@{}", reference.repository(), manifest.digest);
        lock(&self.fetched).insert(by_digest, Arc::clone(&manifest));
        Ok(manifest)
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    name == "localhost"
        || name == "[::1]"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
