//! ConfigMaps and Secrets of the operator's namespace, each read by name. Other namespaces are out of
//! reach here, whatever a name says.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

/// The longest wait for one object.
const DEADLINE: Duration = Duration::from_secs(5);

/// Reads objects of one namespace.
#[derive(Clone)]
pub(crate) struct OwnNamespace {
    client: Client,
    namespace: String,
}

/// Why an object was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    /// The API server says that it is not there, or that the entry is not.
    #[error("{0}")]
    Missing(String),
    /// Anything that may pass by itself: what was read before is still good.
    #[error("{0}")]
    Trouble(String),
}

impl OwnNamespace {
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        OwnNamespace { client, namespace }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The content of one entry of a ConfigMap.
    pub(crate) async fn config_map_entry(&self, name: &str, key: &str) -> Result<Vec<u8>, Unread> {
        let found: ConfigMap = self.get(name).await?;
        entry(found, key).ok_or_else(|| {
            Unread::Missing(format!(
                "the ConfigMap {}/{name} has no entry {key}; add it, or name another one in spec.configMapRef.key",
                self.namespace
            ))
        })
    }

    /// A Secret.
    pub(crate) async fn secret(&self, name: &str) -> Result<Secret, Unread> {
        self.get(name).await
    }

    async fn get<K>(&self, name: &str) -> Result<K, Unread>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let kind = K::kind(&());
        let object = format!("the {kind} {}/{name}", self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let answer = tokio::time::timeout(DEADLINE, api.get_opt(name))
            .await
            .map_err(|_| Unread::Trouble(format!("{object} cannot be read: no answer in time")))?;
        match answer {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(Unread::Missing(format!("{object} does not exist; create it"))),
            Err(error) => Err(Unread::Trouble(format!("{object} cannot be read: {error}"))),
        }
    }
}

/// An entry of a ConfigMap, as text or as bytes.
fn entry(map: ConfigMap, key: &str) -> Option<Vec<u8>> {
    let text = map
        .data
        .and_then(|mut data| data.remove(key))
        .map(String::into_bytes);
    text.or_else(|| {
        map.binary_data
            .and_then(|mut data| data.remove(key))
            .map(|bytes| bytes.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_of_a_config_map_is_text_or_bytes() {
        let map = json!({"data": {"a": "text"}, "binaryData": {"b": "Ynl0ZXM="}});
        let of = |key| entry(serde_json::from_value(map.clone()).unwrap(), key);
        assert_eq!(of("a").as_deref(), Some(b"text".as_slice()));
        assert_eq!(of("b").as_deref(), Some(b"bytes".as_slice()));
        assert_eq!(of("c"), None);
    }
}
