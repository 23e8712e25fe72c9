//! SigningKey: one version of one signer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// One version of one signer. Versions of one signer share `spec.keyRing`; policies trust key rings, so that a rotation never edits a policy.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "SigningKey",
    plural = "signingkeys",
    shortname = "skey",
    category = "assay",
    status = "SigningKeyStatus",
    derive = "PartialEq",
    doc = "One version of one signer. Versions of one signer share spec.keyRing; policies trust key rings, so that a rotation never edits a policy.",
    printcolumn(name = "Keyring", type_ = "string", json_path = ".spec.keyRing"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.effectiveStage"),
    printcolumn(name = "Algorithm", type_ = "string", json_path = ".status.algorithm"),
    printcolumn(name = "Images", type_ = "integer", json_path = ".status.images"),
    printcolumn(
        name = "Sole-Trust",
        type_ = "integer",
        json_path = ".status.soleTrust.workloads"
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expires"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.publicKey)].filter(x, x).size() == 1")
        .message("exactly one source of trust is needed: set spec.publicKey.pem"),
    validation = Rule::new("self.keyRing == oldSelf.keyRing")
        .message("spec.keyRing is immutable: create a new SigningKey for another ring"),
    validation = Rule::new("has(self.publicKey) == has(oldSelf.publicKey) && (!has(self.publicKey) || self.publicKey == oldSelf.publicKey)")
        .message("spec.publicKey is immutable: a new key is a new SigningKey in the same spec.keyRing"),
    validation = Rule::new("oldSelf.stage != 'Revoked' || self.stage == 'Revoked'")
        .message("spec.stage: Revoked is terminal, a revoked key cannot return to another stage; sign with a new key in the same spec.keyRing"),
    validation = Rule::new("!has(self.notBefore) || !has(self.notAfter) || self.notBefore < self.notAfter")
        .message("spec.notBefore must lie before spec.notAfter")
)]
pub struct SigningKeySpec {
    /// The signer this key is a version of. Policies name it. Immutable.
    #[schemars(schema_with = "schema::name")]
    pub key_ring: String,
    /// What the key counts for: Staged (not yet, but shown), Active, Retiring (for what runs), Disabled (not, reversible) or Revoked (never again, terminal).
    pub stage: Stage,
    /// A long-lived public key. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeySource>,
    /// Before this time the key does not count (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// From this time on the key does not count (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// A public key in the object itself.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(r"self.pem.matches('^\\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\\s]+-----END PUBLIC KEY-----\\s*$')")
        .message("spec.publicKey.pem must be one PEM block of type 'PUBLIC KEY' (SPKI), as 'cosign public-key' or 'openssl pkey -pubout' print it; a certificate, a private key or an 'RSA PUBLIC KEY' is not accepted")
)]
pub struct PublicKeySource {
    /// The key as SPKI PEM: ECDSA P-256 or P-384, Ed25519, or RSA of at least 2048 bits.
    #[schemars(length(min = 1, max = 8192))]
    pub pem: String,
}

/// What a key counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Published ahead of use: verified in shadow and counted, trusted by nothing.
    Staged,
    /// In use.
    Active,
    /// The old version while the new one takes over: counts for what runs.
    Retiring,
    /// Does not count; reversible.
    Disabled,
    /// Does not count; terminal.
    Revoked,
    /// A stage of a newer version: it cannot be told whether the key counts.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

impl Stage {
    /// As it is written in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Staged => "Staged",
            Stage::Active => "Active",
            Stage::Retiring => "Retiring",
            Stage::Disabled => "Disabled",
            Stage::Revoked => "Revoked",
            Stage::Other => "Other",
        }
    }
}

/// What the operator says of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// SHA-256 of the canonical SPKI, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// ECDSA-P256, ECDSA-P384, Ed25519 or RSA-<bits>.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// The stage that counts: the most restrictive one of all objects with this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<Stage>")]
    pub effective_stage: Option<Stage>,
    /// The date from which the key does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How many running images (digests) carry a signature by this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<i64>,
    /// What would get a worse verdict if this key stopped counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sole_trust: Option<SoleTrust>,
    /// Ready and SafeToDisable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What rests on one key alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoleTrust {
    /// Running images (digests).
    pub images: i64,
    /// Top-level workloads.
    pub workloads: i64,
    /// Pods.
    pub pods: i64,
    /// Up to 20 of the workloads, in order of namespace and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub sample: Vec<WorkloadSample>,
}

/// One workload of a sample.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSample {
    /// Its namespace.
    pub namespace: String,
    /// Its kind and name, as `Deployment/web`.
    pub workload: String,
    /// The digest that rests on the key.
    pub digest: String,
}
