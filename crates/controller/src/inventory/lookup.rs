//! Asks the API server for one object's metadata: custom owners by discovery, built-in kinds directly.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{WorkloadKey, WorkloadNames};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::error::DiscoveryError;
use kube::{Api, Client};

use super::climb::BuiltIn;
use super::served::{Kinds, Served, Troubled};
use super::slim::{SlimOwner, SlimWorkload};
use super::templates::TemplateFound;
use crate::names::{is_object_name, is_path_segment};

/// One question may not take longer.
const DEADLINE: Duration = Duration::from_secs(5);

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

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the API server does not answer within {DEADLINE:?}")]
    TimedOut,
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// Reads the metadata of single objects of any kind.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    kinds: Mutex<Kinds>,
    troubled: Mutex<Troubled>,
}

impl Lookup {
    /// The metadata of the object with this name. A name that no object can have is not asked for: whoever may create a pod
    /// may write into it what would become another request.
    pub(crate) async fn find(&self, client: &Client, key: &WorkloadKey) -> Found {
        if !may_name_an_object(key) {
            return Found::Nothing;
        }
        let found = self.in_time(key, self.ask(client, key)).await;
        found.unwrap_or(Found::OutOfReach)
    }

    /// The built-in workload with this name, with its template.
    pub(super) async fn template(&self, client: &Client, key: &WorkloadKey) -> TemplateFound {
        let Some(kind) = BuiltIn::of(&key.group, &key.kind).filter(|_| may_name_an_object(key)) else {
            return TemplateFound::Nothing;
        };
        let api: Api<SlimWorkload> = Api::namespaced_with(client.clone(), &key.namespace, &kind.resource());
        match self.in_time(key, api.get_opt(&key.name)).await {
            Some(Some(found)) => TemplateFound::Workload(Box::new(found)),
            Some(None) => TemplateFound::Nothing,
            None => TemplateFound::OutOfReach,
        }
    }

    /// The answer about an object; None where there is none in time, which is told once until it is over.
    async fn in_time<T>(
        &self,
        key: &WorkloadKey,
        asked: impl Future<Output = Result<T, kube::Error>>,
    ) -> Option<T> {
        let answer = match tokio::time::timeout(DEADLINE, asked).await {
            Ok(answer) => answer.map_err(Trouble::from),
            Err(_) => Err(Trouble::TimedOut),
        };
        let mut troubled = lock(&self.troubled);
        match answer {
            Ok(found) => {
                troubled.is_over(key);
                Some(found)
            }
            Err(trouble) => {
                if troubled.is_new(key) {
                    tell(key, &trouble);
                }
                None
            }
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
            Some(owner) if owner.metadata.name.as_deref() == Some(&*key.name) => {
                Found::Metadata(Box::new(owner.metadata))
            }
            Some(_) => Found::OutOfReach,
            None => Found::Nothing,
        })
    }

    /// How the API server serves a registered kind; None where it does not serve it in namespaces.
    pub(crate) async fn registered(
        client: &Client,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Option<ApiResource>, kube::Error> {
        let kind = GroupVersionKind::gvk(group, version, kind);
        match discovery::pinned_kind(client, &kind).await {
            Ok((resource, capabilities)) => {
                Ok(Some(resource).filter(|_| capabilities.scope == Scope::Namespaced))
            }
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn served(&self, client: &Client, group: &str, kind: &str) -> Result<Served, kube::Error> {
        if let Some(resource) = well_known(group, kind) {
            return Ok(Served::Namespaced(resource));
        }
        let kind_name = (group.to_owned(), kind.to_owned());
        let remembered = lock(&self.kinds).remembered(&kind_name, Instant::now());
        if let Some(served) = remembered {
            return Ok(served);
        }
        let served = discover(client, group, kind).await?;
        lock(&self.kinds).remember(kind_name, served.clone(), Instant::now());
        Ok(served)
    }
}

/// The name of an object of a custom kind may be any that the API server takes for a segment of a path, if that is one
/// that means nothing but itself.
fn may_name_an_object(key: &WorkloadKey) -> bool {
    match BuiltIn::of(&key.group, &key.kind) {
        Some(_) => is_object_name(&key.name),
        None => is_path_segment(&key.name),
    }
}

/// Once for each object until it can be read again: its dependents are judged all the same.
fn tell(key: &WorkloadKey, trouble: &Trouble) {
    let WorkloadNames {
        namespace,
        group,
        kind,
        name,
    } = &**key;
    tracing::warn!(%namespace, %group, %kind, %name, %trouble,
        "an owner cannot be read and is asked for again; its dependents are judged as what is known below it");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ApiServer;
    use serde_json::json;

    fn key(group: &str, kind: &str, name: &str) -> WorkloadKey {
        WorkloadKey::from(WorkloadNames {
            namespace: "shop".into(),
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
        })
    }

    fn replica_set(name: &str) -> WorkloadKey {
        key("apps", "ReplicaSet", name)
    }

    /// The API server takes any text as the name of an owner, and whoever may create a pod may write one.
    #[tokio::test]
    async fn a_name_that_no_object_can_have_makes_no_request() {
        let server = ApiServer::start(|_| (200, json!({"metadata": {"name": "web-1", "uid": "1"}})));
        let lookup = Lookup::default();
        let endless = "a".repeat(254);
        for name in [
            "?watch=1",
            "#",
            "web-1/scale",
            "..",
            ".",
            "%2e%2e",
            "web 1",
            "",
            &endless,
        ] {
            for key in [replica_set(name), key("x.io", "App", name)] {
                let found = lookup.find(&server.client(), &key).await;
                assert!(matches!(found, Found::Nothing), "{key:?}: {found:?}");
            }
            let found = lookup.template(&server.client(), &replica_set(name)).await;
            assert!(matches!(found, TemplateFound::Nothing), "{name}: {found:?}");
        }
        assert!(server.requests().is_empty());
        let found = lookup.find(&server.client(), &replica_set("web-1")).await;
        assert!(matches!(found, Found::Metadata(_)), "{found:?}");
        let other = lookup.find(&server.client(), &replica_set("web-2")).await;
        assert!(matches!(other, Found::OutOfReach), "{other:?}");
    }
}
