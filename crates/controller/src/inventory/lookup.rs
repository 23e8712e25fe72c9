//! Asks the API server for one object's metadata: custom owners by discovery, built-in kinds directly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::WorkloadKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::discovery::{self, Scope};
use kube::error::DiscoveryError;
use kube::{Api, Client};

use super::climb::BuiltIn;
use super::slim::SlimOwner;

/// One question may not take longer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a kind that was found is believed to be served the same way.
const KIND_BELIEVED: Duration = Duration::from_secs(600);
/// How long a kind that was not found is believed not to be served.
const KIND_MISSED: Duration = Duration::from_secs(30);

/// What the API server says of an object.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It exists.
    Metadata(Box<ObjectMeta>),
    /// It does not exist.
    Nothing,
    /// It cannot be read: no permission, no answer, or a kind without namespaces.
    OutOfReach,
}

/// How a kind is served.
#[derive(Clone, Debug)]
enum Served {
    Namespaced(ApiResource),
    ElsewhereOnly,
    NotAtAll,
}

/// Reads the metadata of single objects of any kind.
#[derive(Debug)]
pub(crate) struct Lookup {
    kinds: Mutex<HashMap<(String, String), (Served, Instant)>>,
}

impl Lookup {
    pub(crate) fn new() -> Self {
        Lookup {
            kinds: Mutex::default(),
        }
    }

    /// The metadata of the object with this name.
    pub(crate) async fn find(&self, client: &Client, key: &WorkloadKey) -> Found {
        match tokio::time::timeout(DEADLINE, self.ask(client, key)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(namespace = %key.namespace, group = %key.group, kind = %key.kind, name = %key.name, %error,
                    "an owner cannot be read; its dependents are judged as what is known below it");
                Found::OutOfReach
            }
            Err(_) => Found::OutOfReach,
        }
    }

    async fn ask(&self, client: &Client, key: &WorkloadKey) -> Result<Found, kube::Error> {
        let resource = match self.served(client, &key.group, &key.kind).await? {
            Served::Namespaced(resource) => resource,
            Served::ElsewhereOnly => return Ok(Found::OutOfReach),
            Served::NotAtAll => return Ok(Found::Nothing),
        };
        let api: Api<SlimOwner> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
        Ok(match api.get_opt(&key.name).await? {
            Some(owner) => Found::Metadata(Box::new(owner.metadata)),
            None => Found::Nothing,
        })
    }

    async fn served(&self, client: &Client, group: &str, kind: &str) -> Result<Served, kube::Error> {
        if let Some(resource) = well_known(group, kind) {
            return Ok(Served::Namespaced(resource));
        }
        let kind_key = (group.to_owned(), kind.to_owned());
        if let Some(served) = self.remembered(&kind_key) {
            return Ok(served);
        }
        let served = discover(client, group, kind).await?;
        let believed = if matches!(served, Served::NotAtAll) {
            KIND_MISSED
        } else {
            KIND_BELIEVED
        };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.insert(kind_key, (served.clone(), Instant::now() + believed));
        Ok(served)
    }

    fn remembered(&self, kind: &(String, String)) -> Option<Served> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let (served, until) = kinds.get(kind)?;
        (*until > Instant::now()).then(|| served.clone())
    }
}

/// The kinds that need no discovery.
fn well_known(group: &str, kind: &str) -> Option<ApiResource> {
    if group.is_empty() && kind == "Pod" {
        return Some(ApiResource::erase::<super::slim::SlimPod>(&()));
    }
    BuiltIn::of(group, kind).map(BuiltIn::resource)
}

async fn discover(client: &Client, group: &str, kind: &str) -> Result<Served, kube::Error> {
    let found = match discovery::group(client, group).await {
        Ok(found) => found,
        Err(kube::Error::Discovery(
            DiscoveryError::MissingApiGroup(_) | DiscoveryError::EmptyApiGroup(_),
        )) => {
            return Ok(Served::NotAtAll);
        }
        Err(error) => return Err(error),
    };
    let served = found
        .resources_by_stability()
        .into_iter()
        .find(|(resource, _)| resource.kind == kind);
    Ok(match served {
        Some((resource, capabilities)) if capabilities.scope == Scope::Namespaced => {
            Served::Namespaced(resource)
        }
        Some(_) => Served::ElsewhereOnly,
        None => Served::NotAtAll,
    })
}

impl BuiltIn {
    /// How the API server serves the kind.
    pub(crate) fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}
