//! Whose credentials may be used where the operator's own do not suffice, and who brings them. Nothing here holds a
//! secret; what credentials are worth is between the one who brings them and the registry client.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use registry::Credentials;

/// The pull secrets of a pod, by name. Two pods with the same keychain may see what was fetched for one of them; a pod
/// with another keychain never does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Keychain {
    /// The namespace of the pod, and of everything named here.
    pub namespace: Arc<str>,
    /// What names the secrets.
    pub holder: KeychainHolder,
}

/// What names the pull secrets of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeychainHolder {
    /// The pod itself: the Secrets of `imagePullSecrets`, in order.
    Secrets(Vec<Arc<str>>),
    /// The pod names none: those of its ServiceAccount.
    ServiceAccount(Arc<str>),
}

impl fmt::Display for Keychain {
    /// Another text for each keychain: names of Kubernetes objects have neither spaces nor commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            KeychainHolder::Secrets(names) => write!(f, "secrets {}/{}", self.namespace, names.join(",")),
            KeychainHolder::ServiceAccount(name) => write!(f, "serviceaccount {}/{name}", self.namespace),
        }
    }
}

/// What was found behind a keychain.
#[derive(Clone, Debug, Default)]
pub struct PullCredentials {
    /// What could be read.
    pub credentials: Credentials,
    /// What could not, each with the object and what to do: for the owner of the workload.
    pub troubles: Vec<String>,
    /// Something could not be read for the moment, so that a refusal by the registry says nothing of the workload's
    /// credentials.
    pub incomplete: bool,
}

/// Brings the credentials behind keychains.
pub trait PullSecrets: fmt::Debug + Send + Sync {
    /// What is behind the keychain now, or was a moment ago. Never fails: what cannot be read is in the troubles.
    fn read<'a>(&'a self, keychain: &'a Keychain) -> BoxFuture<'a, PullCredentials>;

    /// A registry refused what was read: the next time it is read anew.
    fn refused(&self, keychain: &Keychain);
}
