//! Credentials of the operator by the identity that a cloud gives its pods: Amazon ECR, Google Artifact Registry,
//! Azure Container Registry. Each is a feature of this crate (`keychain-ecr`, `keychain-gar`, `keychain-acr`), and each
//! must be asked for by [`crate::ClientOptions::clouds`]: where there is no such cloud, nothing is asked of anybody.
//!
//! What a cloud gives goes to registries of that cloud alone, by strict patterns of their names (`hosts`), is used
//! where the operator has no other credentials, and is kept until shortly before it ends. Metadata services are asked at
//! their fixed addresses, past proxies and without redirects; nothing that a tenant writes chooses whom is asked.
#![cfg_attr(
    not(any(feature = "keychain-ecr", feature = "keychain-gar", feature = "keychain-acr")),
    allow(dead_code, reason = "without any cloud nobody is asked")
)]

#[cfg(feature = "keychain-ecr")]
mod aws;
#[cfg(feature = "keychain-acr")]
mod azure;
#[cfg(feature = "keychain-gar")]
mod google;
mod hosts;
mod http;
#[cfg(feature = "keychain-ecr")]
mod sigv4;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::Repository;

use self::hosts::Place;
use self::http::Http;
use crate::credentials::Key;
use crate::options::ClientOptionsError;

/// After a failure nothing is asked of the cloud for so long.
const PAUSE: Duration = Duration::from_secs(30);
/// A credential is not used for so long before its end; where it lives shorter, for half of its life.
const MARGIN: Duration = Duration::from_secs(300);
/// The longest that one is kept.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Above this many registries, what is kept for them is forgotten.
const REMEMBERED: usize = 256;

/// A cloud whose identity of the operator is used for its registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cloud {
    /// Amazon Elastic Container Registry (feature `keychain-ecr`).
    Ecr,
    /// Google Artifact Registry and Container Registry (feature `keychain-gar`).
    Gar,
    /// Azure Container Registry (feature `keychain-acr`).
    Acr,
}

impl Cloud {
    fn is_built_in(self) -> bool {
        match self {
            Self::Ecr => cfg!(feature = "keychain-ecr"),
            Self::Gar => cfg!(feature = "keychain-gar"),
            Self::Acr => cfg!(feature = "keychain-acr"),
        }
    }

    const fn feature(self) -> &'static str {
        match self {
            Self::Ecr => "keychain-ecr",
            Self::Gar => "keychain-gar",
            Self::Acr => "keychain-acr",
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecr => "Amazon ECR",
            Self::Gar => "Google Artifact Registry",
            Self::Acr => "Azure Container Registry",
        })
    }
}

/// A user name and password that a cloud gave, and how long they live.
struct Given {
    user: String,
    password: String,
    lifetime: Duration,
}

/// Why a cloud gave nothing.
#[derive(Debug)]
struct Trouble {
    why: String,
    /// It may be over in a moment: nobody was there to refuse.
    passes: bool,
}

impl Trouble {
    fn that_passes(why: String) -> Self {
        Self { why, passes: true }
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self { why, passes: false }
    }
}

impl From<&str> for Trouble {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

/// What is kept for one registry, or for all that share a credential.
struct Held {
    key: Arc<Key>,
    until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

/// The clouds in use, and what they gave.
pub(crate) struct Clouds {
    used: BTreeSet<Cloud>,
    http: Http,
    surroundings: Surroundings,
    slots: Mutex<HashMap<String, Slot>>,
}

/// Gives the value of a variable, where it is set.
type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment of the process, and where services are; tests have others.
#[derive(Clone)]
pub(crate) struct Surroundings {
    variable: Arc<Variables>,
    /// What stands in place of every service, as `http://127.0.0.1:1234`; the path begins with the service's host.
    stand_in: Option<String>,
}

impl Surroundings {
    fn real() -> Self {
        Self {
            variable: Arc::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty())),
            stand_in: None,
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// The URL of a service: that of the stand-in where there is one.
    fn url(&self, url: &str) -> String {
        match &self.stand_in {
            None => url.to_owned(),
            Some(stand_in) => {
                let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
                format!("{stand_in}/{rest}")
            }
        }
    }

    /// The content of a file that a variable names.
    fn file(&self, variable: &str) -> Option<Result<String, String>> {
        let path = self.variable(variable)?;
        let text = std::fs::read_to_string(&path);
        Some(
            text.map(|text| text.trim().to_owned())
                .map_err(|error| format!("the file {path} of {variable} cannot be read: {error}")),
        )
    }
}

impl Clouds {
    /// # Errors
    /// A cloud that this build knows nothing of; what the TLS library says.
    pub(crate) fn new(used: &BTreeSet<Cloud>, user_agent: &str) -> Result<Self, ClientOptionsError> {
        if let Some(cloud) = used.iter().find(|cloud| !cloud.is_built_in()) {
            return Err(ClientOptionsError::Cloud {
                cloud: *cloud,
                feature: cloud.feature(),
            });
        }
        Ok(Self {
            used: used.clone(),
            http: Http::new(user_agent).map_err(|why| ClientOptionsError::Https { why })?,
            surroundings: Surroundings::real(),
            slots: Mutex::default(),
        })
    }

    /// The cloud's credentials for a repository, where its registry is of a cloud in use. Failures are credentials that
    /// cannot be used, and say why.
    pub(crate) async fn key(&self, repository: &Repository) -> Option<Arc<Key>> {
        let place = Place::of(repository.registry()).filter(|place| self.used.contains(&place.cloud()))?;
        let slot = self.slot(&place.shared_by());
        let mut held = slot.lock().await;
        let now = Instant::now();
        if let Some(held) = held.as_ref().filter(|held| held.until > now) {
            return Some(held.key.clone());
        }
        let new = match self.ask(&place).await {
            Ok(given) => {
                let kept = kept_for(given.lifetime);
                let key = Key::of_a_cloud(&place.cloud().to_string(), &given.user, &given.password);
                Held {
                    key: Arc::new(key),
                    until: now + kept,
                }
            }
            Err(Trouble { why, passes }) => {
                let cloud = place.cloud();
                tracing::warn!(%cloud, why, "the cloud gives no credentials for its registry");
                let key = match passes {
                    true => Key::unavailable(
                        &cloud.to_string(),
                        format!("{cloud} gives the operator no credentials at the moment: {why}"),
                    ),
                    false => Key::unusable(
                        &cloud.to_string(),
                        format!(
                            "{cloud} gives the operator no credentials: {why}; give its service account an identity \
                             that may pull, or name credentials in a RegistryConfig"
                        ),
                    ),
                };
                Held {
                    key: Arc::new(key),
                    until: now + PAUSE,
                }
            }
        };
        let key = new.key.clone();
        *held = Some(new);
        Some(key)
    }

    async fn ask(&self, place: &Place) -> Result<Given, Trouble> {
        match place {
            #[cfg(feature = "keychain-ecr")]
            Place::Ecr(registry) => aws::ask(&self.http, &self.surroundings, registry).await,
            #[cfg(feature = "keychain-gar")]
            Place::Gar => google::ask(&self.http, &self.surroundings).await,
            #[cfg(feature = "keychain-acr")]
            Place::Acr(registry) => azure::ask(&self.http, &self.surroundings, registry).await,
            #[allow(unreachable_patterns, reason = "with all features every place has its arm")]
            other => Err(format!("this build has no feature {}", other.cloud().feature()).into()),
        }
    }

    fn slot(&self, name: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(name.to_owned()).or_default().clone()
    }
}

/// How long a credential of this lifetime is used.
fn kept_for(lifetime: Duration) -> Duration {
    let lifetime = lifetime.min(LONGEST);
    lifetime.saturating_sub(MARGIN.min(lifetime / 2))
}
