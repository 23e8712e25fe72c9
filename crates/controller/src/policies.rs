//! The watch of ImagePolicies: specs, and the last good one of the status, into facts.
//!
//! A spec that this version cannot read is told as such: the engine then keeps the version in force,
//! or makes everything the policy may match Unknown. It is never skipped.

use std::sync::Arc;

use api::{ImagePolicy, ImagePolicyStatus, InForce, RECHECK_REQUESTED_AT};
use engine::{Fact, PolicyFacts, Target};
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::object_sink::Told;
use crate::objects::read_spec;

/// ImagePolicies as the engine is told of them.
pub(crate) enum Policies {}

impl Told for Policies {
    const KIND: &'static str = "ImagePolicy";
    type Resource = ImagePolicy;
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
    fn request(name: &Arc<str>, object: &DynamicObject) -> Option<(String, Result<Fact, String>)> {
        recheck(name, object)
    }
}

/// The annotation by which everything that the policy covers is to be looked at now. Tenants cannot write it.
fn recheck(policy: &Arc<str>, object: &DynamicObject) -> Option<(String, Result<Fact, String>)> {
    let annotations = object.metadata.annotations.as_ref()?;
    let value = annotations.get(RECHECK_REQUESTED_AT)?;
    let read = value.parse::<Timestamp>().map(|at| Fact::RecheckRequested {
        policy: policy.clone(),
        at,
    });
    let read = read.map_err(|error| {
        format!("metadata.annotations[{RECHECK_REQUESTED_AT}]: found {value:?}, expected a time in RFC 3339: {error}")
    });
    Some((value.clone(), read))
}

/// What an object says as a policy.
fn policy_facts(name: Arc<str>, object: &DynamicObject) -> PolicyFacts {
    PolicyFacts {
        name,
        generation: object.metadata.generation.unwrap_or_default(),
        spec: read_spec(object),
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
            tracing::error!(policy = name, %error, "status.inForce cannot be read and is not used: without a spec that compiles, what the policy may match is Unknown");
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
    fn a_look_is_asked_for_by_an_annotation_and_what_is_no_time_is_told() {
        let object = |value: &str| {
            let object = json!({
                "apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy",
                "metadata": {"name": "prod", "annotations": {"assay.dev/recheck-requested-at": value}},
            });
            recheck(&"prod".into(), &serde_json::from_value(object).unwrap()).unwrap()
        };
        let (_, asked) = object("2026-11-22T12:00:00Z");
        let expected: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        assert!(
            matches!(asked, Ok(Fact::RecheckRequested { policy, at }) if &*policy == "prod" && at == expected)
        );
        let problem = object("now").1.unwrap_err();
        assert!(
            problem.contains("\"now\"") && problem.contains("RFC 3339"),
            "{problem}"
        );
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
