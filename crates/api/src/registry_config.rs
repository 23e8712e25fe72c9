//! RegistryConfig: how the registries under one prefix are asked.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema_sources;

/// How the repositories under one prefix are asked: mirrors, credentials, certificates, limits. Of several that fit a repository the longest prefix decides.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "RegistryConfig",
    plural = "registryconfigs",
    shortname = "regcfg",
    category = "assay",
    status = "RegistryConfigStatus",
    derive = "PartialEq",
    doc = "How the repositories under one prefix are asked: mirrors, credentials, certificates, limits. Of several that fit a repository the longest prefix decides.",
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.prefix"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.plainHTTP) || !self.plainHTTP || !has(self.caBundle)")
        .message("spec.caBundle is of no use with spec.plainHTTP: remove one of them")
)]
pub struct RegistryConfigSpec {
    /// The repositories this is about: a registry, or a registry and the beginning of a path. The longest prefix that fits a repository decides.
    #[schemars(schema_with = "schema_sources::repository_prefix")]
    pub prefix: String,
    /// Where else the repositories may be found, in the order in which they are asked, before the registry itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub mirrors: Vec<Mirror>,
    /// A repository that holds the signatures and attestations of all images under the prefix, as cosign's COSIGN_REPOSITORY. They are looked for there in place of the images' own repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::repository_prefix")]
    pub evidence_repository: Option<String>,
    /// The registry is asked over http without TLS.
    #[serde(default, rename = "plainHTTP", skip_serializing_if = "Option::is_none")]
    pub plain_http: Option<bool>,
    /// Certificates that the registry may be signed by besides those of the system, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::certificates")]
    pub ca_bundle: Option<String>,
    /// The operator's credentials for the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsRef>,
    /// How many requests the registry gets in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::requests_per_second")]
    pub requests_per_second: Option<i64>,
    /// How many requests the registry gets at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::concurrency")]
    pub concurrency: Option<i64>,
    /// How many requests the registry gets in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::daily_budget")]
    pub daily_budget: Option<i64>,
    /// The registry is a cache that fetches what it is asked for: that it does not have something proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_through_cache: Option<bool>,
}

/// A place that holds copies of the repositories under a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// What stands in place of the prefix at the mirror.
    #[schemars(schema_with = "schema_sources::repository_prefix")]
    pub prefix: String,
    /// The mirror has everything, signatures too: what it does not have does not exist. Otherwise that it does not have something proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authoritative: Option<bool>,
}

/// A Secret in the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRef {
    /// Its name. Its type is kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth. It is read again every minute.
    #[schemars(schema_with = "schema_sources::object_name")]
    pub secret_name: String,
}

/// What the operator says of the configuration of a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryConfigStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
