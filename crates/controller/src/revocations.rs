//! The watch of KeyRevocations: specs into facts.

use std::sync::Arc;

use api::{KeyRevocation, KeyRevocationSpec, KeyRevocationStatus};
use engine::{Fact, RevocationFacts, Target};

use crate::dated::Dated;

/// KeyRevocations as the engine is told of them.
pub(crate) enum Revocations {}

impl Dated for Revocations {
    const KIND: &'static str = "KeyRevocation";
    type Resource = KeyRevocation;
    type Spec = KeyRevocationSpec;
    type Status = KeyRevocationStatus;

    fn fact(facts: RevocationFacts) -> Fact {
        Fact::Revocation(Box::new(facts))
    }
    fn gone(name: Arc<str>) -> Fact {
        Fact::RevocationGone(name)
    }
    fn target(name: Arc<str>) -> Target {
        Target::Revocation(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_sink::Told;
    use serde_json::{Value, json};

    fn facts(spec: Value) -> RevocationFacts {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "KeyRevocation",
            "metadata": {"name": "ab", "generation": 2, "creationTimestamp": "2026-03-01T00:00:00Z"},
            "spec": spec,
        });
        let (fact, problem) =
            <Revocations as Told>::fact("ab".into(), &serde_json::from_value(object).unwrap());
        let Fact::Revocation(facts) = fact else {
            panic!("it is told as another kind")
        };
        assert_eq!(facts.spec.as_ref().err(), problem.as_ref());
        *facts
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
