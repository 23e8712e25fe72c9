//! Workloads as people name them, and the choice of some of them by their labels.

use std::collections::BTreeSet;

use api::{ImageCompliance, WorkloadRef};
use clap::Args;
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams, PartialObjectMeta};
use serde_json::{Value, json};

use crate::cluster::{ClusterError, Session, innermost};

/// The names by which kubectl knows the built-in kinds.
const SHORT_NAMES: [(&str, &[&str]); 8] = [
    ("Deployment", &["deploy", "deployments"]),
    ("StatefulSet", &["sts", "statefulsets"]),
    ("DaemonSet", &["ds", "daemonsets"]),
    ("CronJob", &["cj", "cronjobs"]),
    ("Job", &["jobs"]),
    ("ReplicaSet", &["rs", "replicasets"]),
    ("ReplicationController", &["rc", "replicationcontrollers"]),
    ("Pod", &["po", "pods"]),
];

// No doc comment: it would take the place of the text of the command that holds these.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct SelectorArguments {
    /// Only workloads with these labels, as kubectl takes them: app=web,tier!=test
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(super) selector: Option<String>,
}

/// `Deployment/web`.
pub(super) fn named(workload: &WorkloadRef) -> String {
    format!("{}/{}", workload.kind, workload.name)
}

/// The workload as JSON shows it.
pub(super) fn as_json(workload: &WorkloadRef) -> Value {
    json!({"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name})
}

/// The workload and the namespace of an ImageCompliance.
pub(super) fn of(compliance: &ImageCompliance) -> (String, WorkloadRef) {
    let namespace = compliance.metadata.namespace.clone().unwrap_or_default();
    (namespace, compliance.status.workload.clone().unwrap_or_default())
}

/// Whether a word names the kind, as kubectl takes it: `deploy`, `deployments`, `Deployment`.
pub(super) fn is_kind(word: &str, kind: &str) -> bool {
    let short = SHORT_NAMES.iter().find(|(name, _)| *name == kind);
    word.eq_ignore_ascii_case(kind)
        || short.is_some_and(|(_, names)| names.iter().any(|name| word.eq_ignore_ascii_case(name)))
        || word
            .strip_suffix('s')
            .is_some_and(|word| word.eq_ignore_ascii_case(kind))
}

/// Those of the ImageCompliances whose workloads carry the labels; all where no labels are asked for.
pub(super) async fn selected(
    session: &Session,
    arguments: &SelectorArguments,
    compliances: Vec<ImageCompliance>,
) -> Result<Vec<ImageCompliance>, ClusterError> {
    let Some(selector) = &arguments.selector else {
        return Ok(compliances);
    };
    let kinds: BTreeSet<(String, String)> = compliances
        .iter()
        .map(of)
        .map(|(_, workload)| (workload.api_version, workload.kind))
        .collect();
    let mut uids = BTreeSet::new();
    for (api_version, kind) in kinds {
        uids.extend(with_labels(session, &api_version, &kind, selector).await?);
    }
    let is_selected = |compliance: &ImageCompliance| uids.contains(&of(compliance).1.uid);
    Ok(compliances.into_iter().filter(is_selected).collect())
}

/// The uids of the workloads of one kind with these labels.
async fn with_labels(
    session: &Session,
    api_version: &str,
    kind: &str,
    selector: &str,
) -> Result<Vec<String>, ClusterError> {
    let trouble = |error: kube::Error| ClusterError::Trouble {
        what: format!("{kind} of {api_version}"),
        place: format!(" for --selector {selector}"),
        problem: match error {
            kube::Error::Api(status) => status.message,
            error => innermost(&error),
        },
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    let (resource, _) = kube::discovery::pinned_kind(&session.client, &kind)
        .await
        .map_err(trouble)?;
    let api: Api<DynamicObject> = match &session.namespace {
        Some(name) => Api::namespaced_with(session.client.clone(), name, &resource),
        None => Api::all_with(session.client.clone(), &resource),
    };
    let selection = ListParams::default().labels(selector);
    let found = metadata(&api, &selection).await.map_err(trouble)?;
    Ok(found
        .into_iter()
        .filter_map(|object| object.metadata.uid)
        .collect())
}

async fn metadata(
    api: &Api<DynamicObject>,
    selection: &ListParams,
) -> Result<Vec<PartialObjectMeta<DynamicObject>>, kube::Error> {
    let mut found = Vec::new();
    let mut page = selection.clone().limit(500);
    loop {
        let listed = api.list_metadata(&page).await?;
        found.extend(listed.items);
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_the_names_that_kubectl_knows() {
        for word in ["deploy", "deployment", "deployments", "Deployment"] {
            assert!(is_kind(word, "Deployment"), "{word}");
        }
        assert!(is_kind("rollouts", "Rollout") && is_kind("sts", "StatefulSet"));
        assert!(!is_kind("dep", "Deployment") && !is_kind("job", "CronJob"));
    }
}
