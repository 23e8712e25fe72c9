//! The watch of ImagePolicies: specs, and the last good one of the status, into facts.
//!
//! A spec that this version cannot read is told as such: the engine then keeps the version in force,
//! or makes everything the policy may match Unknown. It is never skipped.

use std::sync::Arc;

use api::{ImagePolicyStatus, InForce};
use engine::{Fact, PolicyFacts, Target};
use kube::api::DynamicObject;
use serde_json::Value;

use crate::object_sink::Told;

/// ImagePolicies as the engine is told of them.
pub(crate) enum Policies {}

impl Told for Policies {
    const KIND: &'static str = "ImagePolicy";
    type Status = ImagePolicyStatus;

    fn fact(name: Arc<str>, object: &DynamicObject) -> (Fact, Option<String>) {
        let facts = policy_facts(name, object);
        let problem = facts.spec.as_ref().err().cloned();
        (Fact::Policy(Box::new(facts)), problem)
    }
    fn gone(name: Arc<str>) -> Fact {
        Fact::PolicyGone(name)
    }
    fn target(name: Arc<str>) -> Target {
        Target::Policy(name)
    }
}

/// What an object says as a policy.
fn policy_facts(name: Arc<str>, object: &DynamicObject) -> PolicyFacts {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    PolicyFacts {
        name,
        generation: object.metadata.generation.unwrap_or_default(),
        spec: serde_json::from_value(spec).map_err(|error| format!("spec cannot be read: {error}")),
        in_force: in_force(object),
    }
}

/// The version in force as the status keeps it; None where there is none or it cannot be read.
fn in_force(object: &DynamicObject) -> Option<InForce> {
    let kept = object
        .data
        .get("status")
        .and_then(|status| status.get("inForce"))?;
    match serde_json::from_value(Value::clone(kept)) {
        Ok(kept) => Some(kept),
        Err(error) => {
            let name = object.metadata.name.as_deref();
            tracing::error!(policy = name, %error, "status.inForce cannot be read and is not used");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(spec: Value, status: Value) -> PolicyFacts {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"name": "prod", "generation": 4}, "spec": spec, "status": status,
        });
        policy_facts("prod".into(), &serde_json::from_value(object).unwrap())
    }

    fn good() -> Value {
        json!({
            "match": {"images": ["r/**"]},
            "require": [{"name": "signed", "signature": {"signedBy": ["release"]}}],
        })
    }

    #[test]
    fn a_policy_is_told_with_the_version_that_its_status_keeps() {
        let facts = facts(good(), json!({"inForce": {"generation": 3, "spec": good()}}));
        assert_eq!(facts.generation, 4);
        assert!(facts.spec.is_ok());
        assert_eq!(facts.in_force.unwrap().generation, 3);
    }

    /// C5.21, B49.
    #[test]
    fn a_spec_that_cannot_be_read_is_told_with_the_reason_and_the_version_in_force() {
        let facts = facts(
            json!({"match": 7}),
            json!({"inForce": {"generation": 3, "spec": good()}}),
        );
        assert!(facts.spec.unwrap_err().contains("spec cannot be read"));
        assert_eq!(facts.in_force.unwrap().generation, 3);
    }

    #[test]
    fn a_status_that_cannot_be_read_gives_no_version_in_force() {
        assert_eq!(
            facts(good(), json!({"inForce": {"generation": "three"}})).in_force,
            None
        );
        assert!(facts(Value::Null, Value::Null).spec.is_err());
    }
}
