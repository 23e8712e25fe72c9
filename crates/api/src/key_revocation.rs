//! KeyRevocation: what makes a revocation outlast the SigningKey, and says what its earlier signatures are worth.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Stage, schema, schema_sources};

/// A signer that does not count any more, by its fingerprint: every SigningKey that has it, and every one to come.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "assay.dev",
    version = "v1alpha1",
    kind = "KeyRevocation",
    plural = "keyrevocations",
    shortname = "krev",
    category = "assay",
    status = "KeyRevocationStatus",
    derive = "PartialEq",
    doc = "A signer that does not count any more, by its fingerprint: every SigningKey that has it, and every one to come. It outlasts the SigningKey.",
    validation = Rule::new("self.metadata.name == self.spec.fingerprint")
        .message("metadata.name must be spec.fingerprint, so that there is one KeyRevocation for each signer"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "Keys", type_ = "string", json_path = ".status.signingKeys"),
    printcolumn(
        name = "Earlier-Signatures",
        type_ = "string",
        json_path = ".status.earlierSignatures",
        priority = "1"
    ),
    printcolumn(
        name = "Honoured",
        type_ = "integer",
        json_path = ".status.honouredDigests",
        priority = "1"
    ),
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
    validation = Rule::new("self.fingerprint == oldSelf.fingerprint")
        .message("spec.fingerprint is immutable: another signer is another KeyRevocation"),
    validation = Rule::new("self.reason != 'Hold' || oldSelf.reason == 'Hold'")
        .message("spec.reason may not go back to Hold: every other reason is terminal; sign with a new key"),
    validation = Rule::new("!has(oldSelf.effectiveFrom) || has(self.effectiveFrom) && self.effectiveFrom <= oldSelf.effectiveFrom")
        .message("spec.effectiveFrom may only move earlier: what a revocation covers may only grow"),
    validation = Rule::new("!has(self.earlierSignatures) || self.earlierSignatures != 'AcceptIfTimestamped' || has(oldSelf.earlierSignatures) && oldSelf.earlierSignatures == 'AcceptIfTimestamped'")
        .message("spec.earlierSignatures may not turn into AcceptIfTimestamped: what a revocation covers may only grow"),
    validation = Rule::new("!has(self.earlierSignatures) || self.earlierSignatures != 'AcceptIfTimestamped' || has(self.effectiveFrom)")
        .message("spec.effectiveFrom is needed where spec.earlierSignatures is AcceptIfTimestamped: earlier than what?"),
    validation = Rule::new("!has(self.honourDigests) || has(oldSelf.honourDigests) && (self.honourDigests == oldSelf.honourDigests || self.honourDigests.all(digest, digest in oldSelf.honourDigests))")
        .message("spec.honourDigests may only shrink: what a revocation covers may only grow")
)]
pub struct KeyRevocationSpec {
    /// The signer: SHA-256 of its canonical SPKI, of a keyless one that of its matchers and trust root; lower-case hex, as the SigningKey's status shows it. It is also the object's name. Immutable.
    #[schemars(schema_with = "schema_sources::fingerprint")]
    pub fingerprint: String,
    /// Why. Hold is reversible: it acts as stage Disabled. The others are terminal and act as stage Revoked.
    pub reason: RevocationReason,
    /// Since when the signer is not trusted (RFC 3339), not later than the object's creation. What was proven to be signed before it may be accepted, see earlierSignatures. It may only move earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<Time>,
    /// What becomes of signatures that a transparency log or a timestamp authority dates before effectiveFrom. Unset: Reject. It may only turn into Reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<EarlierSignatures>")]
    pub earlier_signatures: Option<EarlierSignatures>,
    /// Images that are known to be good although nobody dates their signatures: for these the signer goes on counting. The list may only shrink.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema_sources::honoured_digests")]
    pub honour_digests: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub note: Option<String>,
}

/// Why a signer does not count any more; the words are those of RFC 5280, 5.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevocationReason {
    /// Nobody knows yet, or it is a rehearsal: reversible.
    Hold,
    /// Somebody else has the key, or may have it.
    KeyCompromise,
    /// Another key took its place.
    Superseded,
    /// The signer signs no more.
    CessationOfOperation,
    /// It is not said.
    Unspecified,
    /// A reason of a newer version. It is taken for a terminal one.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

impl RevocationReason {
    /// The stage that a signer is in at least.
    pub fn stage(self) -> Stage {
        match self {
            RevocationReason::Hold => Stage::Disabled,
            _ => Stage::Revoked,
        }
    }
}

/// What becomes of signatures from before a revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EarlierSignatures {
    /// They do not count either.
    #[default]
    Reject,
    /// They count where a transparency log or a timestamp authority proves the time.
    AcceptIfTimestamped,
    /// An answer of a newer version. It is taken for Reject.
    #[serde(other)]
    #[schemars(skip)]
    Other,
}

impl KeyRevocationSpec {
    /// The time before which signatures count that somebody dates; None where none does.
    ///
    /// `created`: when the object was made. A time after it is one that the author could not know, and counts for
    /// nothing; so does any time where the creation is not known.
    pub fn accepted_before(&self, created: Option<Timestamp>) -> Option<Timestamp> {
        let accepts = self.earlier_signatures == Some(EarlierSignatures::AcceptIfTimestamped);
        let from = self.effective_from.as_ref().map(|time| time.0);
        from.filter(|from| accepts && created.is_some_and(|created| *from <= created))
    }
}

/// What the operator says of a revocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRevocationStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The SigningKeys with this fingerprint, in order, separated by commas; "none" where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_keys: Option<String>,
    /// What is done about earlier signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::not_null::<EarlierSignatures>")]
    pub earlier_signatures: Option<EarlierSignatures>,
    /// For how many images the signer goes on counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub honoured_digests: Option<i64>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(patch: serde_json::Value) -> KeyRevocationSpec {
        let mut spec = json!({"fingerprint": "ab".repeat(32), "reason": "KeyCompromise"});
        spec.as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    /// C5.21: a reason of a newer version revokes.
    #[test]
    fn only_a_hold_is_reversible() {
        let stage = |reason: &str| spec(json!({"reason": reason})).reason.stage();
        assert_eq!(stage("Hold"), Stage::Disabled);
        for reason in [
            "KeyCompromise",
            "Superseded",
            "CessationOfOperation",
            "Unspecified",
            "Eaten",
        ] {
            assert_eq!(stage(reason), Stage::Revoked, "{reason}");
        }
    }

    #[test]
    fn earlier_signatures_are_accepted_only_before_a_time_that_was_past_when_it_was_written() {
        let from: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let accepting = spec(json!({"effectiveFrom": from, "earlierSignatures": "AcceptIfTimestamped"}));
        assert_eq!(accepting.accepted_before(Some(later)), Some(from));
        assert_eq!(accepting.accepted_before(Some(from)), Some(from));
        let early: Timestamp = "2026-02-28T23:59:59Z".parse().unwrap();
        assert_eq!(accepting.accepted_before(Some(early)), None);
        assert_eq!(accepting.accepted_before(None), None);
        for earlier in [
            json!({}),
            json!({"earlierSignatures": "Reject"}),
            json!({"earlierSignatures": "Sometimes"}),
        ] {
            let mut patch = json!({"effectiveFrom": from});
            patch
                .as_object_mut()
                .unwrap()
                .extend(earlier.as_object().unwrap().clone());
            assert_eq!(spec(patch).accepted_before(Some(later)), None, "{earlier}");
        }
    }
}
