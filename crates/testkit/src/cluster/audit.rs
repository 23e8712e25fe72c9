//! The API server's audit log: who wrote what.

use std::path::Path;

use serde::Deserialize;

use crate::{Result, TestkitError};

/// What the API server writes into its audit log; always at the Metadata level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audit {
    /// Nothing.
    #[default]
    Off,
    /// Writes: create, update, patch, delete, deletecollection.
    Writes,
    /// Every request.
    All,
}

impl Audit {
    /// The audit policy, or `None` when nothing is to be logged.
    pub(super) fn policy(self) -> Option<serde_json::Value> {
        let writes = serde_json::json!(["create", "update", "patch", "delete", "deletecollection"]);
        let rules = match self {
            Self::Off => return None,
            Self::Writes => serde_json::json!([{"level": "Metadata", "verbs": writes}, {"level": "None"}]),
            Self::All => serde_json::json!([{"level": "Metadata"}]),
        };
        Some(serde_json::json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": rules,
        }))
    }
}

/// One request to the API server, after it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// The user, for example `system:serviceaccount:assay-system:assay`.
    pub user: String,
    /// The client's User-Agent header.
    pub user_agent: String,
    /// `create`, `patch`, `get`, …
    pub verb: String,
    /// The resource's plural name; empty for requests that are about none.
    pub resource: String,
    /// For example `status`; empty for the object itself.
    pub subresource: String,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name; empty for a list and for a create with a generated name.
    pub name: String,
    /// The HTTP status.
    pub code: u16,
}

impl ApiRequest {
    /// Whether it may have changed something.
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    verb: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// Every request in an audit log, in the order in which they were answered. A last line that is still being
/// written is left out.
pub(super) fn read(log: &Path) -> Result<Vec<ApiRequest>> {
    let text = std::fs::read_to_string(log).map_err(TestkitError::file("read", log))?;
    let whole_lines = text.rfind('\n').map_or("", |end| &text[..end]);
    whole_lines
        .lines()
        .map(|line| {
            let entry: Entry = serde_json::from_str(line).map_err(|error| {
                TestkitError::Invalid(format!("audit log {}: {error}: {line}", log.display()))
            })?;
            Ok(ApiRequest {
                user: entry.user.username,
                user_agent: entry.user_agent,
                verb: entry.verb,
                resource: entry.object_ref.resource,
                subresource: entry.object_ref.subresource,
                namespace: entry.object_ref.namespace,
                name: entry.object_ref.name,
                code: entry.response_status.code,
            })
        })
        .collect()
}
