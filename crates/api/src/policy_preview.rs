//! PolicyPreview: what would change if keys, policies and revocations were others. Nothing is applied.

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
    doc = "What would change if keys, policies and revocations were others. The operator answers in the status and removes the object after spec.ttl; nothing is applied.",
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
    printcolumn(name = "Unchanged", type_ = "integer", json_path = ".status.unchanged"),
    printcolumn(name = "Unknown", type_ = "integer", json_path = ".status.unknown"),
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
}

/// One change.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.apply), has(self.delete)].filter(x, x).size() == 1")
        .message("exactly one of apply and delete is needed")
)]
pub struct PreviewChange {
    /// A whole SigningKey, ImagePolicy or KeyRevocation, new or in place of the one of its name.
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
    /// SigningKey, ImagePolicy or KeyRevocation.
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
    /// All results that would be better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newly_passing_total: Option<i64>,
    /// The other results of the policies that the changes concern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchanged: Option<i64>,
    /// Of all results, those that could not be told then: among them those of images that were never looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<i64>,
    /// The first 500 results that would be worse, in order of namespace, workload and image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub newly_failing: Vec<PreviewResult>,
    /// The first 500 results that would be better, in order of namespace, workload and image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub newly_passing: Vec<PreviewResult>,
    /// Complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
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
