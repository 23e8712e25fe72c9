//! TrustRoot: the certificate authorities, transparency logs and timestamp authorities that are trusted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{schema, schema_sources};

/// The certificate authorities, transparency logs and timestamp authorities that SigningKeys are verified by.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "TrustRoot",
    plural = "trustroots",
    category = "assay",
    status = "TrustRootStatus",
    derive = "PartialEq",
    doc = "The certificate authorities, transparency logs and timestamp authorities that SigningKeys are verified by. SigningKeys name it in spec.trustRoot.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Expiring",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Expiring\")].status"
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expires"),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".status.digest",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.inline), has(self.configMapRef), has(self.tuf), has(self.builtIn)].filter(x, x).size() == 1")
        .message("exactly one source is needed: spec.inline, spec.configMapRef, spec.tuf or spec.builtIn")
)]
pub struct TrustRootSpec {
    /// The trust root itself: the text of a trusted_root.json, as `cosign trusted-root create` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::json_document")]
    pub inline: Option<String>,
    /// A ConfigMap in the operator's namespace that holds the trusted_root.json. It is read again every minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapRef>,
    /// A TUF repository that publishes the trusted_root.json. It is asked again every six hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuf: Option<TufSource>,
    /// A root that is part of this version of Assay: PublicGood (sigstore.dev) or Staging (sigstage.dev). It needs no network, and is renewed with Assay only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<BuiltInRoot>")]
    pub built_in: Option<BuiltInRoot>,
}

/// An entry of a ConfigMap in the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// The ConfigMap's name.
    #[schemars(schema_with = "schema_sources::object_name")]
    pub name: String,
    /// The entry of its data; trusted_root.json if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::data_key")]
    pub key: Option<String>,
}

/// A TUF repository, or a mirror of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TufSource {
    /// Where the repository is: the folder of timestamp.json and root.json.
    #[schemars(schema_with = "schema_sources::http_url")]
    pub url: String,
    /// The text of the root.json that trust begins with. Later ones are accepted only if they chain from it.
    #[schemars(schema_with = "schema_sources::json_document")]
    pub initial_root: String,
}

/// A root that is part of Assay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BuiltInRoot {
    /// The public-good instance of Sigstore, sigstore.dev.
    PublicGood,
    /// The staging instance of Sigstore, sigstage.dev: for trials only.
    Staging,
    /// A root of a newer version: it is not known here.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// What the operator says of a trust root.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustRootStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// SHA-256 of the trust root in use, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When the trust root in use was first seen; a refresh that finds the same changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<Time>,
    /// The date at which the first of its authorities and logs in use ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Ready and Expiring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
