//! ImageCompliance: what Assay says of one top-level workload.
//!
//! The kind has no spec and no status subresource, so that one write creates an object with its
//! status; therefore its `Resource` implementation and its CRD are written here instead of derived.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Mode;
use crate::reason::{Reason, Verdict};
use crate::{GROUP, VERSION, schema};

/// The answer about one top-level workload. Written by Assay only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageCompliance {
    /// Named `<kind>-<name>` of the workload, `<kind>.<group>-<name>` for custom kinds.
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// The answer.
    #[serde(default)]
    pub status: ImageComplianceStatus,
}

/// The answer about one top-level workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageComplianceStatus {
    /// The worst verdict of Warn and Enforce policies, or NotCovered where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<Verdict>")]
    pub verdict: Option<Verdict>,
    /// The workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// Compliant, and DryRunCompliant where a DryRun policy covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What runs, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageResult>,
    /// What would happen if the workload's template started now. Only where a policy covers an image of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start: Option<NextStart>,
    /// How many images run, those left out included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_count: Option<i64>,
    /// Results left out to keep the object under 256 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<i64>,
}

/// What an admission check by the covering policies would say if the workload's template started now. This version
/// installs none: nothing is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextStart {
    /// What would happen.
    pub decision: StartDecision,
    /// The verdict that decides.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The policy that decides.
    pub policy: String,
    /// The image that decides, as the template writes it.
    pub image: String,
    /// The digest that would start; empty where it cannot be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// What was looked for, what was found, what to do; only where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Up to 20 images of the template, as written, of which the tag names another digest now than the one that runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub moved_tags: Vec<String>,
}

/// What an admission check would decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum StartDecision {
    /// It would start.
    Admit,
    /// It would start with a warning.
    Warn,
    /// It would not start.
    Deny,
    /// A decision of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// The workload an answer is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// Its `metadata.name`.
    pub name: String,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its `metadata.generation` when it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What controls it, as `kind.group/name`, where that is not the workload itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// One image that runs in the workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageResult {
    /// The image as the pod's spec writes it.
    pub image: String,
    /// The digest that runs; empty where it cannot be told yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The containers that run it.
    #[serde(default)]
    pub containers: Vec<ContainerRef>,
    /// One result for each covering policy, in order of name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyResult>,
}

/// A container by name and type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRef {
    /// Its name; for an image volume the name of the volume.
    pub name: String,
    /// What kind of container it is.
    #[serde(rename = "type")]
    pub type_: ContainerType,
}

/// What brings an image into a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ContainerType {
    /// `spec.containers`.
    Container,
    /// `spec.initContainers`.
    Init,
    /// `spec.initContainers` with `restartPolicy: Always`.
    Sidecar,
    /// `spec.ephemeralContainers`.
    Ephemeral,
    /// `spec.volumes[].image`.
    ImageVolume,
    /// A type of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// The answer of one policy about one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyResult {
    /// The policy.
    pub name: String,
    /// Its mode.
    pub mode: Mode,
    /// Its answer.
    pub verdict: Verdict,
    /// The requirement that decided; empty where all hold or none was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What was looked for, what was found, what to do; only where the verdict is not Compliant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Since when the verdict and its reason are the same.
    pub since: Time,
    /// The exception that passes over a violation; with the verdict Excepted only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<PassedOver>,
    /// When the verdict changes although nothing else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// What the result is from `validUntil` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub will_become: Option<WillBecome>,
    /// Since when the verdict could not be refreshed although it was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Time>,
}

/// What is passed over, and by which exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// The name of the ImageException.
    pub name: String,
    /// Why the image violates the policy.
    pub reason: Reason,
}

/// What a result becomes by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WillBecome {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The requirement that will decide; empty where all will hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// What will be looked for and found then, and what to do; only where the verdict is not Compliant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// It is worse than the verdict, and closer than the policy's `warnBefore`: the Event WillBecomeNonCompliant told it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warned: bool,
}

impl ImageCompliance {
    /// The plural name of the resource.
    pub const PLURAL: &'static str = "imagecompliances";
    /// The kind.
    pub const KIND: &'static str = "ImageCompliance";

    /// The `apiVersion` of the kind.
    pub fn api_version_text() -> String {
        format!("{GROUP}/{VERSION}")
    }

    /// The object as it is sent, with `apiVersion` and `kind`.
    pub fn to_object(&self) -> Result<serde_json::Value, serde_json::Error> {
        let mut object = serde_json::to_value(self)?;
        object["apiVersion"] = Self::api_version_text().into();
        object["kind"] = Self::KIND.into();
        Ok(object)
    }
}

impl kube::Resource for ImageCompliance {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        Self::KIND.into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        Self::PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
