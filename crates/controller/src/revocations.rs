//! The watch of KeyRevocations: specs into facts.

use std::sync::Arc;

use api::KeyRevocationStatus;
use engine::{Fact, RevocationFacts, Target};
use kube::api::DynamicObject;

use crate::object_sink::Told;

/// KeyRevocations as the engine is told of them.
pub(crate) enum Revocations {}

impl Told for Revocations {
    const KIND: &'static str = "KeyRevocation";
    type Status = KeyRevocationStatus;

    fn fact(name: Arc<str>, object: &DynamicObject) -> (Fact, Option<String>) {
        let facts = revocation_facts(name, object);
        let problem = facts.spec.as_ref().err().cloned();
        (Fact::Revocation(Box::new(facts)), problem)
    }
    fn gone(name: Arc<str>) -> Fact {
        Fact::RevocationGone(name)
    }
    fn target(name: Arc<str>) -> Target {
        Target::Revocation(name)
    }
}

/// What an object says as a revocation.
fn revocation_facts(name: Arc<str>, object: &DynamicObject) -> RevocationFacts {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    RevocationFacts {
        name,
        generation: object.metadata.generation.unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
        spec: serde_json::from_value(spec).map_err(|error| format!("spec cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn facts(spec: Value) -> RevocationFacts {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "KeyRevocation",
            "metadata": {"name": "ab", "generation": 2, "creationTimestamp": "2026-03-01T00:00:00Z"},
            "spec": spec,
        });
        revocation_facts("ab".into(), &serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_revocation_is_told_with_its_spec_and_when_it_was_made() {
        let facts = facts(json!({"fingerprint": "ab", "reason": "KeyCompromise"}));
        assert_eq!(facts.spec.unwrap().fingerprint, "ab");
        assert_eq!(facts.created.unwrap().to_string(), "2026-03-01T00:00:00Z");
    }

    /// C5.21.
    #[test]
    fn a_revocation_that_cannot_be_read_is_told_as_one() {
        let problem = facts(json!({"fingerprint": 7})).spec.unwrap_err();
        assert!(problem.contains("spec cannot be read"), "{problem}");
    }
}
