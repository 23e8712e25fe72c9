//! Pull secrets of pods, for images that the registry refuses to the operator. Each is read by `get`, by its name, in
//! the namespace of the pod and nowhere else; none is listed or watched. A namespace opts in by a RoleBinding, and
//! where there is none the API server refuses, which is said with the command that grants it. What is read is in
//! memory for [`KEPT`] and never in a log.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{Keychain, KeychainHolder, PullCredentials, PullSecrets};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use registry::Credentials;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::names::is_object_name;

/// How long what was read is used again, so that the images of one namespace cost one read; the first pause before a
/// failing image is looked at again is longer.
const KEPT: Duration = Duration::from_secs(20);
/// The longest wait for one object.
const DEADLINE: Duration = Duration::from_secs(5);
/// More Secrets of one pod are not read.
pub(crate) const MOST: usize = 16;
/// So many of them are read at the same time.
const AT_ONCE: usize = 4;
/// The role that the install ships for this, bound nowhere.
const ROLE: &str = "assay-pull-secret-reader";

/// One keychain's credentials, read by one at a time.
type Slot = Arc<tokio::sync::Mutex<Option<PullCredentials>>>;

/// Reads pull secrets of any namespace that lets it.
#[derive(Clone)]
pub struct PullSecretReader {
    client: Client,
    namespace: String,
    /// How `kubectl create rolebinding` is told who the operator is.
    subject: Arc<OnceCell<String>>,
    kept: Arc<Mutex<HashMap<Keychain, Slot>>>,
    kept_for: Duration,
}

impl std::fmt::Debug for PullSecretReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PullSecretReader")
    }
}

/// Why an object was not read.
enum Unread {
    Forbidden,
    Missing,
    Trouble,
}

/// What came of one object.
enum Found {
    Credentials(Credentials),
    Forbidden(String),
    Trouble(String),
    /// It may be there in a moment.
    Passing(String),
}

/// What came of several objects.
#[derive(Default)]
struct Gathered {
    read: Vec<Credentials>,
    forbidden: Vec<String>,
    troubles: Vec<String>,
    incomplete: bool,
}

impl PullSecretReader {
    /// A reader with the rights of `client`. `namespace` is the operator's, for the case that the API server does not
    /// say whom it takes it for.
    pub fn new(client: Client, namespace: String) -> Self {
        PullSecretReader {
            client,
            namespace,
            subject: Arc::default(),
            kept: Arc::default(),
            kept_for: KEPT,
        }
    }

    async fn read_kept(&self, keychain: &Keychain) -> PullCredentials {
        let slot = self.kept().entry(keychain.clone()).or_default().clone();
        let mut held = slot.lock().await;
        if let Some(credentials) = &*held {
            return credentials.clone();
        }
        let credentials = self.read_now(keychain).await;
        *held = Some(credentials.clone());
        self.forget_later(keychain.clone(), slot.clone());
        credentials
    }

    fn forget_later(&self, keychain: Keychain, slot: Slot) {
        let (kept, kept_for) = (self.kept.clone(), self.kept_for);
        tokio::spawn(async move {
            tokio::time::sleep(kept_for).await;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.get(&keychain).is_some_and(|other| Arc::ptr_eq(other, &slot)) {
                kept.remove(&keychain);
            }
        });
    }

    async fn read_now(&self, keychain: &Keychain) -> PullCredentials {
        let namespace = &*keychain.namespace;
        let mut gathered = Gathered::default();
        let names = match &keychain.holder {
            KeychainHolder::Secrets(names) => names.clone(),
            KeychainHolder::ServiceAccount(name) => self.names_of(namespace, name, &mut gathered).await,
        };
        let names: Vec<Arc<str>> = distinct(names);
        if names.len() > MOST {
            let trouble = format!("only the first {MOST} pull secrets of a pod are read");
            gathered.troubles.push(trouble);
        }
        let reads: Vec<_> = names
            .iter()
            .take(MOST)
            .map(|name| self.read_secret(namespace, name))
            .collect();
        let found: Vec<Found> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        for found in found {
            gathered.add(found);
        }
        let mut troubles = Vec::new();
        if !gathered.forbidden.is_empty() {
            troubles.push(format!(
                "the operator may not read {}; to allow it: {}",
                gathered.forbidden.join(", "),
                self.grant(namespace).await
            ));
        }
        troubles.append(&mut gathered.troubles);
        PullCredentials {
            credentials: Credentials::united(gathered.read),
            troubles,
            incomplete: gathered.incomplete,
        }
    }

    /// The pull secrets that a ServiceAccount names. Admission copies them into pods; a pod without any was made
    /// before the ServiceAccount named them.
    async fn names_of(&self, namespace: &str, name: &str, gathered: &mut Gathered) -> Vec<Arc<str>> {
        let object = format!("ServiceAccount {namespace}/{name}");
        match self.get::<ServiceAccount>(namespace, name).await {
            Ok(account) => {
                let references = account.image_pull_secrets.unwrap_or_default();
                let names: Vec<Arc<str>> = references
                    .into_iter()
                    .filter(|reference| !reference.name.is_empty())
                    .map(|reference| reference.name.into())
                    .collect();
                if names.is_empty() {
                    gathered
                        .troubles
                        .push(format!("neither the pod nor {object} names imagePullSecrets"));
                }
                names
            }
            Err(why) => {
                gathered.add(why.of(object, "name an existing one in the pod's spec"));
                Vec::new()
            }
        }
    }

    async fn read_secret(&self, namespace: &str, name: &str) -> Found {
        let object = format!("Secret {namespace}/{name}");
        if !is_object_name(name) {
            let trouble = format!("found the pull secret {name:?}, expected the name of a Secret");
            return Found::Trouble(trouble);
        }
        match self.get::<Secret>(namespace, name).await {
            Ok(secret) => match credentials_in(&object, secret) {
                Ok(credentials) => Found::Credentials(credentials),
                Err(trouble) => Found::Trouble(trouble),
            },
            Err(why) => {
                let make = format!(
                    "make it: kubectl -n {namespace} create secret docker-registry {name} --docker-server=HOST \
                     --docker-username=USER --docker-password=PASSWORD"
                );
                why.of(object, &make)
            }
        }
    }

    async fn get<K>(&self, namespace: &str, name: &str) -> Result<K, Unread>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match tokio::time::timeout(DEADLINE, api.get_opt(name)).await {
            Ok(Ok(Some(found))) => Ok(found),
            Ok(Ok(None)) => Err(Unread::Missing),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unread::Forbidden),
            Ok(Err(error)) => {
                tracing::warn!(namespace, name, %error, "a pull secret cannot be read");
                Err(Unread::Trouble)
            }
            Err(_) => {
                tracing::warn!(namespace, name, "a pull secret cannot be read: no answer in time");
                Err(Unread::Trouble)
            }
        }
    }

    /// The command that lets the operator read the pull secrets of a namespace.
    async fn grant(&self, namespace: &str) -> String {
        let asked = self.subject.get_or_try_init(|| self.own_subject()).await;
        let subject = match asked {
            Ok(subject) => subject.clone(),
            Err(error) => {
                tracing::warn!(%error, "the API server does not say whom it takes the operator for");
                format!("--serviceaccount={}:assay", self.namespace)
            }
        };
        format!("kubectl -n {namespace} create rolebinding {ROLE} --clusterrole={ROLE} {subject}")
    }

    async fn own_subject(&self) -> Result<String, kube::Error> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = SelfSubjectReview::default();
        let answer = api.create(&PostParams::default(), &review).await?;
        let user = answer
            .status
            .and_then(|status| status.user_info)
            .and_then(|user| user.username)
            .unwrap_or_default();
        Ok(match user.strip_prefix("system:serviceaccount:") {
            Some(account) => format!("--serviceaccount={account}"),
            None => format!("--user={user}"),
        })
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Keychain, Slot>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PullSecrets for PullSecretReader {
    fn read<'a>(&'a self, keychain: &'a Keychain) -> BoxFuture<'a, PullCredentials> {
        self.read_kept(keychain).boxed()
    }

    fn refused(&self, keychain: &Keychain) {
        self.kept().remove(keychain);
    }
}

impl Unread {
    /// What is said of an object that was not read.
    fn of(self, object: String, if_missing: &str) -> Found {
        match self {
            Self::Forbidden => Found::Forbidden(object),
            Self::Missing => Found::Trouble(format!("{object} does not exist; {if_missing}")),
            Self::Trouble => Found::Passing(format!(
                "{object} cannot be read at the moment; the operator's log says why"
            )),
        }
    }
}

impl Gathered {
    fn add(&mut self, found: Found) {
        match found {
            Found::Credentials(credentials) => self.read.push(credentials),
            Found::Forbidden(object) => self.forbidden.push(object),
            Found::Trouble(trouble) => self.troubles.push(trouble),
            Found::Passing(trouble) => {
                self.troubles.push(trouble);
                self.incomplete = true;
            }
        }
    }
}

/// The credentials in a pull secret, by its type, as the kubelet reads it.
fn credentials_in(holder: &str, secret: Secret) -> Result<Credentials, String> {
    let data = secret.data.unwrap_or_default();
    let entry = |key: &str| {
        data.get(key)
            .map(|bytes| bytes.0.as_slice())
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| format!("{holder} has no {key}"))
    };
    let read = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            Credentials::from_docker_config(holder, entry(".dockerconfigjson")?)
        }
        Some("kubernetes.io/dockercfg") => Credentials::from_dockercfg(holder, entry(".dockercfg")?),
        other => {
            return Err(format!(
                "{holder} has the type {}, and pull secrets have kubernetes.io/dockerconfigjson or \
                 kubernetes.io/dockercfg",
                other.unwrap_or("Opaque")
            ));
        }
    };
    read.map_err(|error| error.to_string())
}

/// Each name once, in order.
fn distinct(names: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let mut seen = BTreeSet::new();
    names
        .into_iter()
        .filter(|name| seen.insert(name.clone()))
        .collect()
}

#[cfg(test)]
#[path = "pull_secrets_tests.rs"]
mod tests;
