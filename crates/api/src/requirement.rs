//! What an ImagePolicy may require of an image: one type for each kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema;

/// One thing that must hold; exactly one kind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.signature), has(self.attestation), has(self.provenance), has(self.vulnerabilities), has(self.trusted)].filter(x, x).size() == 1")
        .message("each entry of spec.require needs exactly one kind: set signature, attestation, provenance, vulnerabilities or trusted")
)]
pub struct Requirement {
    /// The name that messages and results show.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
    /// A signature of the image by trusted key rings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureRequirement>,
    /// An attestation of the image by a trusted key ring, with what must hold of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<AttestationRequirement>,
    /// SLSA provenance (v0.2 or v1) by a trusted key ring: who built the image, and from which source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ProvenanceRequirement>,
    /// A scan for vulnerabilities by a trusted key ring, not too old, with nothing in it that the policy does not accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vulnerabilities: Option<VulnerabilitiesRequirement>,
    /// Nothing: an explicit pass without evidence. Results show it as Trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<TrustedRequirement>,
}

/// A signature of the image by trusted key rings.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minimum) || self.minimum <= self.signedBy.size()")
        .message("minimum counts distinct key rings and cannot exceed the number that signedBy names")
)]
pub struct SignatureRequirement {
    /// The names of key rings (`spec.keyRing` of SigningKeys), not of SigningKeys.
    #[schemars(schema_with = "schema::key_rings")]
    pub signed_by: Vec<String>,
    /// How many distinct key rings must have signed; 1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub minimum: Option<i32>,
}

/// An attestation (an in-toto statement in a DSSE envelope) of the image. Of several, the newest decides.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationRequirement {
    /// The predicate type of the statement, as its full URI: https://example.com/review/v1.
    #[schemars(schema_with = "predicate_type")]
    pub predicate_type: String,
    /// The names of key rings; one of them must have signed the attestation.
    #[schemars(schema_with = "schema::key_rings")]
    pub signed_by: Vec<String>,
    /// How old the attestation may be; any age if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_age: Option<String>,
    /// What must be true of the attestation: every entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub validations: Vec<Validation>,
}

/// One expression that must be true.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// A CEL expression over statement, predicate, signer and image. An error in it is never a pass.
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
    /// What to tell the owner of the workload where it is not true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,
}

/// SLSA provenance: who built the image, and from which source. Of several, the newest decides.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.builderId) || has(self.sourceRepository)")
        .message("provenance must be asked something: set builderId, sourceRepository, or both"),
    validation = Rule::new("!has(self.sourceRef) || has(self.sourceRepository)")
        .message("sourceRef belongs to a repository: set sourceRepository, or leave sourceRef out")
)]
pub struct ProvenanceRequirement {
    /// The names of key rings; one of them must have signed the provenance.
    #[schemars(schema_with = "schema::key_rings")]
    pub signed_by: Vec<String>,
    /// The builder's id, compared as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub builder_id: Option<String>,
    /// The repository that every source of the build must be; git+, https:// and .git make no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub source_repository: Option<String>,
    /// The git reference of the source, in full: refs/heads/main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub source_ref: Option<String>,
    /// How old the provenance may be; any age if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_age: Option<String>,
}

/// A scan for vulnerabilities. Of several, the newest decides.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VulnerabilitiesRequirement {
    /// The names of key rings; one of them must have signed the scan.
    #[schemars(schema_with = "schema::key_rings")]
    pub signed_by: Vec<String>,
    /// How old the scan may be. Mandatory: a scan says nothing of what was found later.
    #[schemars(schema_with = "schema::duration")]
    pub max_age: String,
    /// The worst severity that is accepted where a fixed version exists; None if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<MaxSeverity>")]
    pub max_fixable: Option<MaxSeverity>,
    /// The worst severity that is accepted where no fixed version exists; None if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<MaxSeverity>")]
    pub max_unfixable: Option<MaxSeverity>,
    /// Vulnerabilities that are accepted for a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub allow: Vec<AllowedVulnerability>,
    /// Ids of vulnerabilities that are never accepted, whatever their severity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "vulnerability_ids")]
    pub block: Vec<String>,
    /// The names of key rings whose OpenVEX documents are believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "optional_key_rings")]
    pub vex: Vec<String>,
}

/// A vulnerability that is accepted for a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedVulnerability {
    /// Its id, such as CVE-2024-1234.
    #[schemars(schema_with = "vulnerability_id")]
    pub id: String,
    /// Why it is accepted.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// From this time on it is not accepted any more (RFC 3339).
    pub expires: Time,
}

/// The worst severity that is accepted, inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MaxSeverity {
    /// No vulnerability is accepted.
    #[default]
    None,
    /// Low ones, and negligible ones.
    Low,
    /// Up to medium.
    Medium,
    /// Up to high.
    High,
    /// Every vulnerability is accepted.
    Critical,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

/// An explicit pass.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedRequirement {
    /// Why the images are trusted without evidence.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

fn predicate_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "x-kubernetes-validations": [{
            "rule": r"self.matches('^\\S+$') && (self.contains('/') || self.contains(':'))",
            "message": "must be the full type of the predicate, such as https://slsa.dev/provenance/v1, and not a short name",
        }],
    })
}

fn vulnerability_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 64,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[A-Za-z0-9][A-Za-z0-9._:-]*$')",
            "message": "must be the id of one vulnerability, such as CVE-2024-1234",
        }],
    })
}

fn vulnerability_ids(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 128,
        "items": vulnerability_id(generator),
        "x-kubernetes-list-type": "set",
    })
}

fn optional_key_rings(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": schema::name(generator),
        "x-kubernetes-list-type": "set",
    })
}
