//! ImageException: images that may run although they violate a policy, for a while and for a reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Reason, schema, schema_sources};

/// How many days after its creation an exception may end at the latest.
pub const LONGEST_EXCEPTION_DAYS: i64 = 90;

/// Images that may run although they violate a policy, for a while and for a reason. They are shown as Excepted, never
/// as compliant.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "ImageException",
    plural = "imageexceptions",
    shortname = "imgex",
    category = "assay",
    status = "ImageExceptionStatus",
    derive = "PartialEq",
    doc = "Images that may run although they violate a policy, for a while and for a reason. They are shown as Excepted, never as compliant; what is wrong with them goes on being said.",
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expires"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.workloads"),
    printcolumn(
        name = "Policies",
        type_ = "string",
        json_path = ".spec.policies",
        priority = "1"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.policies == oldSelf.policies && self.images == oldSelf.images && self.namespaces == oldSelf.namespaces")
        .message("spec.policies, spec.images and spec.namespaces are immutable: make another ImageException for another place"),
    validation = Rule::new("has(self.workloads) == has(oldSelf.workloads) && (!has(self.workloads) || self.workloads == oldSelf.workloads)")
        .message("spec.workloads is immutable: make another ImageException for other workloads"),
    validation = Rule::new("has(self.reasons) == has(oldSelf.reasons) && (!has(self.reasons) || self.reasons == oldSelf.reasons)")
        .message("spec.reasons is immutable: make another ImageException for other reasons"),
    validation = Rule::new("self.expires <= oldSelf.expires")
        .message("spec.expires may only come closer: to go on excepting, make another ImageException")
)]
pub struct ImageExceptionSpec {
    /// The ImagePolicies whose violations are passed over, by name. Immutable.
    #[schemars(schema_with = "schema_sources::excepted_policies")]
    pub policies: Vec<String>,
    /// Globs on the normalised repository of the pod's spec, as in ImagePolicy: `*` stops at `/`, `**` crosses it. Immutable.
    #[schemars(schema_with = "schema::repository_globs_required")]
    pub images: Vec<String>,
    /// Names or globs of namespaces; `*` for all. Immutable.
    #[schemars(schema_with = "schema::namespace_globs_required")]
    pub namespaces: Vec<String>,
    /// Top-level workloads as Kind/name, or Kind.group/name for a custom kind; the name may be a glob, such as CronJob/backup-*. Not given: every workload of the namespaces. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::excepted_workloads")]
    pub workloads: Option<Vec<String>>,
    /// The reasons of violations that are passed over. Not given: all but KeyRevoked, which is passed over only where it is named. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::excepted_reasons")]
    pub reasons: Option<Vec<Reason>>,
    /// When it ends (RFC 3339), at most 90 days after its creation. It may only come closer.
    pub expires: Time,
    /// Why these images may run, for people.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
}

/// What the operator says of an exception.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageExceptionStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Top-level workloads with an image that passes a policy only by this exception.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<i64>,
    /// Those images (digests).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<i64>,
    /// Up to 20 of the violations that are passed over, in order of namespace, workload and image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub sample: Vec<ExceptedViolation>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A violation that an exception passes over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExceptedViolation {
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
    /// Why it would violate the policy.
    pub reason: Reason,
}
