//! PolicyPreview: what would change if keys, policies, revocations and exceptions were others. Nothing is applied.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Reason, schema, schema_sources};

/// How long a preview is kept unless it says otherwise.
pub const DEFAULT_PREVIEW_TTL: &str = "1h";

/// What would change if these changes were made. The operator answers in the status; nothing is applied.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "PolicyPreview",
    plural = "policypreviews",
    category = "assay",
    status = "PolicyPreviewStatus",
    derive = "PartialEq",
    doc = "What would change if keys, policies, revocations and exceptions were others. The operator answers in the status and removes the object after spec.ttl; nothing is applied.",
    printcolumn(
        name = "Complete",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].status"
    ),
    printcolumn(
        name = "Newly-Failing",
        type_ = "integer",
        json_path = ".status.newlyFailingTotal"
    ),
    printcolumn(
        name = "Newly-Passing",
        type_ = "integer",
        json_path = ".status.newlyPassingTotal"
    ),
    printcolumn(
        name = "Newly-Unknown",
        type_ = "integer",
        json_path = ".status.newlyUnknownTotal"
    ),
    printcolumn(name = "Unknown", type_ = "integer", json_path = ".status.unknown"),
    printcolumn(
        name = "Unchanged",
        type_ = "integer",
        json_path = ".status.unchanged",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPreviewSpec {
    /// What is supposed, all of it together.
    #[schemars(length(min = 1, max = 64))]
    pub changes: Vec<PreviewChange>,
    /// How long the object is kept after its creation. Unset: one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub ttl: Option<String>,
    /// How many results of each list to pass over: where the lists of a status do not hold all, a second preview shows what comes after those of the first. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub offset: Option<i64>,
}

/// One change.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.apply), has(self.delete)].filter(x, x).size() == 1")
        .message("exactly one of apply and delete is needed")
)]
pub struct PreviewChange {
    /// A whole SigningKey, ImagePolicy, KeyRevocation or ImageException, new or in place of the one of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::previewed_object")]
    pub apply: Option<Value>,
    /// An object that would not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<PreviewedName>,
}

/// An object by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewedName {
    /// SigningKey, ImagePolicy, KeyRevocation or ImageException.
    pub kind: PreviewedKind,
    /// Its name.
    #[schemars(schema_with = "schema_sources::object_name")]
    pub name: String,
}

/// A kind of which changes can be previewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PreviewedKind {
    /// A version of a signer.
    SigningKey,
    /// A policy.
    ImagePolicy,
    /// A signer that does not count any more.
    KeyRevocation,
    /// Images that may run although they violate a policy.
    ImageException,
    /// A kind of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// What the operator says of a preview.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPreviewStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// All results that would be worse: violations of a policy in mode Warn or Enforce that are none now, and of one in mode DryRun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newly_failing_total: Option<i64>,
    /// All results that would be better, and known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newly_passing_total: Option<i64>,
    /// The other results of the policies that the changes concern: neither worse nor better nor newly unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchanged: Option<i64>,
    /// Of all results, those that could not be told then: among them those of images that were never looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<i64>,
    /// Of all results, those that could not be told then and can be told now, or are none now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newly_unknown_total: Option<i64>,
    /// What only the next start of a workload would meet: a CronJob between its runs, a Deployment at zero, a tag that names something else by now. Workloads that are worse already by what runs are not counted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_only: Option<PreviewedStarts>,
    /// SHA-256 over all results that would be worse, better or newly unknown, running or only with a next start, those included that no list holds: two previews with the same one say the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results_digest: Option<String>,
    /// Results that would be worse, in order of namespace, workload and image; up to 500, and fewer where they are large. See spec.offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub newly_failing: Vec<PreviewResult>,
    /// Results that would be better, in order of namespace, workload and image; up to 500, and fewer where they are large. See spec.offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub newly_passing: Vec<PreviewResult>,
    /// Results that could not be told then and can be told now, or are none now, in order of namespace, workload and image; up to 500, and fewer where they are large. See spec.offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub newly_unknown: Vec<PreviewResult>,
    /// Complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What only the next starts of workloads would meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewedStarts {
    /// All results that would be worse.
    pub newly_failing_total: i64,
    /// All results that could not be told then, and can be told now or are none now.
    pub newly_unknown_total: i64,
    /// The first 100 that would be worse, fewer where they are large, in order of namespace, workload and image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub newly_failing: Vec<PreviewResult>,
    /// The first 100 that would be newly unknown, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub newly_unknown: Vec<PreviewResult>,
}

/// One policy's result about one image of a workload, as it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewResult {
    /// The namespace of the workload.
    pub namespace: String,
    /// Its kind and name, as `Deployment/web`.
    pub workload: String,
    /// The image as the workload names it.
    pub image: String,
    /// The digest that runs; empty where it cannot be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The policy.
    pub policy: String,
    /// Why, then.
    pub reason: Reason,
}
