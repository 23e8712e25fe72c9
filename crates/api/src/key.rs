//! SigningKey: one version of one signer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{schema, schema_sources};

/// The trust root that a keyless signer without `spec.trustRoot` is verified by: the built-in one of the public-good
/// instance of Sigstore, unless a TrustRoot of this name exists.
pub const PUBLIC_GOOD: &str = "public-good";

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
    validation = Rule::new("[has(self.publicKey), has(self.keyless)].filter(x, x).size() == 1")
        .message("exactly one source of trust is needed: set spec.publicKey.pem or spec.keyless"),
    validation = Rule::new("self.keyRing == oldSelf.keyRing")
        .message("spec.keyRing is immutable: create a new SigningKey for another ring"),
    validation = Rule::new("has(self.publicKey) == has(oldSelf.publicKey) && (!has(self.publicKey) || self.publicKey == oldSelf.publicKey)")
        .message("spec.publicKey is immutable: a new key is a new SigningKey in the same spec.keyRing"),
    validation = Rule::new("has(self.keyless) == has(oldSelf.keyless) && (!has(self.keyless) || self.keyless == oldSelf.keyless)")
        .message("spec.keyless is immutable: another identity is a new SigningKey in the same spec.keyRing"),
    validation = Rule::new("!has(self.keyless) || has(self.trustRoot) == has(oldSelf.trustRoot) && (!has(self.trustRoot) || self.trustRoot == oldSelf.trustRoot)")
        .message("spec.trustRoot of a keyless signer is immutable: the same identity under another root is another signer, create a new SigningKey in the same spec.keyRing"),
    validation = Rule::new("!has(self.keyless) || !has(self.transparencyLog) || self.transparencyLog == 'Required' || has(self.timestamp) && self.timestamp == 'Required'")
        .message("a keyless signature is only as good as the time that it was made at: set spec.transparencyLog or spec.timestamp to Required"),
    validation = Rule::new("!has(self.publicKey) || has(self.trustRoot) || (!has(self.transparencyLog) || self.transparencyLog == 'Ignore') && (!has(self.timestamp) || self.timestamp == 'Ignore')")
        .message("spec.trustRoot is needed to check a transparency log or a timestamp of a public key: name a TrustRoot, or set both to Ignore"),
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
    /// A signer without a key of its own: whoever a certificate authority of the trust root says is this identity. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Keyless>,
    /// The name of the TrustRoot by which certificates, log entries and timestamps are checked. A keyless signer without one uses the built-in root of the public-good Sigstore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::object_name")]
    pub trust_root: Option<String>,
    /// Whether a signature must be in a transparency log. Unset: Required for a keyless signer, Ignore for a public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<Demand>")]
    pub transparency_log: Option<Demand>,
    /// Whether a signature must carry a timestamp of a timestamp authority (RFC 3161). Unset: Optional for a keyless signer, Ignore for a public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<Demand>")]
    pub timestamp: Option<Demand>,
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

/// An identity in certificates of a certificate authority such as Fulcio: who vouched for it, and for whom.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.issuer), has(self.issuerRegex)].filter(x, x).size() == 1")
        .message("exactly one of spec.keyless.issuer and spec.keyless.issuerRegex is needed"),
    validation = Rule::new("[has(self.subject), has(self.subjectRegex)].filter(x, x).size() == 1")
        .message("exactly one of spec.keyless.subject and spec.keyless.subjectRegex is needed: an issuer alone would be everybody who has an account there")
)]
pub struct Keyless {
    /// The OIDC issuer that vouched for the subject, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::issuer")]
    pub issuer: Option<String>,
    /// A regular expression that the whole issuer must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::identity_regex")]
    pub issuer_regex: Option<String>,
    /// The e-mail address or URI in the certificate, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::subject")]
    pub subject: Option<String>,
    /// A regular expression that the whole e-mail address or URI must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema_sources::identity_regex")]
    pub subject_regex: Option<String>,
}

/// Whether evidence of one kind must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Demand {
    /// Without it, or if it does not verify, the signature does not count.
    Required,
    /// It gives a time where it verifies, and nothing otherwise.
    Optional,
    /// It is not looked at.
    Ignore,
    /// A demand of a newer version: it cannot be told whether a signature counts.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

impl SigningKeySpec {
    /// What is asked of a transparency log: as written, else Required for a keyless signer and Ignore for a public key.
    pub fn effective_transparency_log(&self) -> Demand {
        self.transparency_log.unwrap_or(match self.keyless {
            Some(_) => Demand::Required,
            None => Demand::Ignore,
        })
    }

    /// What is asked of a timestamp: as written, else Optional for a keyless signer and Ignore for a public key.
    pub fn effective_timestamp(&self) -> Demand {
        self.timestamp.unwrap_or(match self.keyless {
            Some(_) => Demand::Optional,
            None => Demand::Ignore,
        })
    }

    /// The trust root by name: as written, else [`PUBLIC_GOOD`] for a keyless signer and none for a public key.
    pub fn effective_trust_root(&self) -> Option<&str> {
        let default = self.keyless.as_ref().map(|_| PUBLIC_GOOD);
        self.trust_root.as_deref().or(default)
    }
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
    /// SHA-256 of the canonical SPKI, of a keyless signer that of its matchers and trust root; lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// ECDSA-P256, ECDSA-P384, Ed25519, RSA-<bits> or Keyless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// The stage that counts: the most restrictive one of all objects with this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<Stage>")]
    pub effective_stage: Option<Stage>,
    /// What is asked of a transparency log, by the spec or by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<Demand>")]
    pub effective_transparency_log: Option<Demand>,
    /// The date from which the key does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How many running images (digests) carry a signature by this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<i64>,
    /// What would get a worse verdict if this key stopped counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sole_trust: Option<SoleTrust>,
    /// ImageCompliances of the whole cluster that were still to be written then; left out where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_status_writes: Option<i64>,
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
    /// Top-level workloads besides those, that only their next start would bring before a worse verdict: CronJobs,
    /// workloads that are scaled to zero, and those whose template names another image than what runs.
    #[serde(default)]
    pub start_only: i64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(patch: serde_json::Value) -> SigningKeySpec {
        let mut spec = json!({"keyRing": "release", "stage": "Active"});
        spec.as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn effective(patch: serde_json::Value) -> (Demand, Demand, Option<String>) {
        let spec = spec(patch);
        let root = spec.effective_trust_root().map(str::to_owned);
        (
            spec.effective_transparency_log(),
            spec.effective_timestamp(),
            root,
        )
    }

    #[test]
    fn what_is_not_written_depends_on_the_source_of_trust() {
        let keyless = json!({"keyless": {"issuer": "https://i", "subject": "s@i"}});
        let public_good = Some(PUBLIC_GOOD.to_owned());
        assert_eq!(
            effective(keyless),
            (Demand::Required, Demand::Optional, public_good)
        );
        let key = json!({"publicKey": {"pem": "x"}});
        assert_eq!(effective(key), (Demand::Ignore, Demand::Ignore, None));
        let written = json!({
            "publicKey": {"pem": "x"}, "trustRoot": "own", "transparencyLog": "Required", "timestamp": "Optional",
        });
        assert_eq!(
            effective(written),
            (Demand::Required, Demand::Optional, Some("own".to_owned()))
        );
    }

    /// C5.21: a demand of a newer version is read as one that this version cannot judge, not as none.
    #[test]
    fn a_demand_of_a_newer_version_is_none_of_those_known() {
        assert_eq!(
            spec(json!({"timestamp": "Twice"})).effective_timestamp(),
            Demand::Other
        );
    }
}
