//! What fails because a key of the ring is Disabled, as the operator wrote it: no preview is asked for.

use std::collections::BTreeSet;

use api::{ImageCompliance, ImagePolicy, Reason};

use crate::cluster::{ClusterError, Session};
use crate::kubectl::workloads;

/// The workloads that fail by a Disabled key of a ring.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Missing {
    /// As `namespace/Kind/name`, in order.
    These(Vec<String>),
    /// The ImageCompliances of all namespaces may not be read.
    NotTold,
}

/// Reads them. Where policies may not be read, what fails by any Disabled key is taken for this ring's.
pub(super) async fn missing(session: &Session, ring: &str) -> Result<Missing, ClusterError> {
    let everywhere = Session {
        namespace: None,
        ..session.clone()
    };
    let compliances = match everywhere.compliances().await {
        Ok(compliances) => compliances,
        Err(error) if error.is_forbidden() => return Ok(Missing::NotTold),
        Err(error) => return Err(error),
    };
    let policies: Option<Vec<ImagePolicy>> = match session.all().await {
        Ok(policies) => Some(policies),
        Err(error) if error.is_forbidden() => None,
        Err(error) => return Err(error),
    };
    let naming = policies.map(|policies| {
        let naming = policies.iter().filter(|policy| names(policy, ring));
        naming.filter_map(|policy| policy.metadata.name.clone()).collect()
    });
    Ok(Missing::These(failing(&compliances, naming.as_ref())))
}

/// A ring may stand anywhere in a requirement; what it stands for there does not matter here.
fn names(policy: &ImagePolicy, ring: &str) -> bool {
    let in_force = policy.status.as_ref().and_then(|status| status.in_force.as_ref());
    let specs = [Some(&policy.spec), in_force.map(|in_force| &in_force.spec)];
    specs.into_iter().flatten().any(|spec| {
        let requirements = serde_json::to_value(&spec.require).unwrap_or_default();
        holds(&requirements, ring)
    })
}

fn holds(value: &serde_json::Value, text: &str) -> bool {
    match value {
        serde_json::Value::String(found) => found == text,
        serde_json::Value::Array(values) => values.iter().any(|value| holds(value, text)),
        serde_json::Value::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}

/// What runs, what an exception passes over, which a revocation would end, and what would start.
fn failing(compliances: &[ImageCompliance], policies: Option<&BTreeSet<String>>) -> Vec<String> {
    let is_concerned = |policy: &str| policies.is_none_or(|policies| policies.contains(policy));
    let fails = |compliance: &&ImageCompliance| {
        let results = compliance.status.images.iter().flat_map(|image| &image.policies);
        let mut results = results.filter(|result| is_concerned(&result.name));
        let runs = results.any(|result| {
            let excepted = result.exception.as_ref().map(|exception| exception.reason);
            result.reason == Reason::KeyDisabled || excepted == Some(Reason::KeyDisabled)
        });
        let start = compliance.status.next_start.as_ref();
        let starts =
            start.is_some_and(|start| start.reason == Reason::KeyDisabled && is_concerned(&start.policy));
        runs || starts
    };
    let mut found: Vec<String> = compliances
        .iter()
        .filter(fails)
        .map(workloads::of)
        .map(|(namespace, workload)| format!("{namespace}/{}", workloads::named(&workload)))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compliance(name: &str, policy: Value, start: Value) -> ImageCompliance {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name},
            "status": {
                "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": name},
                "images": [{"image": "r/web:1", "policies": [policy]}],
                "nextStart": start,
            },
        }))
        .unwrap()
    }

    fn result(policy: &str, verdict: &str, reason: &str) -> Value {
        json!({"name": policy, "mode": "Enforce", "verdict": verdict, "reason": reason, "since": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn what_runs_what_is_excepted_and_what_would_start_is_found() {
        let mut excepted = result("p", "Excepted", "Excepted");
        excepted["exception"] = json!({"name": "e", "reason": "KeyDisabled"});
        let start = json!({"decision": "Deny", "verdict": "Violating", "reason": "KeyDisabled", "policy": "p", "image": "r/web:1"});
        let good = || result("p", "Compliant", "AllVerified");
        let compliances = [
            compliance("web", result("p", "Violating", "KeyDisabled"), Value::Null),
            compliance("excepted", excepted, Value::Null),
            compliance("nightly", good(), start),
            compliance("good", good(), Value::Null),
            compliance("other", result("q", "Violating", "KeyDisabled"), Value::Null),
        ];
        let of_p = BTreeSet::from(["p".to_owned()]);
        assert_eq!(
            failing(&compliances, Some(&of_p)),
            [
                "shop/Deployment/excepted",
                "shop/Deployment/nightly",
                "shop/Deployment/web"
            ]
        );
        assert_eq!(
            failing(&compliances, None).len(),
            4,
            "what is not told is not hidden"
        );
    }

    #[test]
    fn a_ring_is_found_in_any_kind_of_requirement() {
        let policy: ImagePolicy = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"match": {"images": ["**"]}, "require": [
                {"name": "scan", "vulnerabilities": {"signedBy": ["scanners"], "maxAge": "1h", "vex": ["release"]}},
            ]},
        }))
        .unwrap();
        assert!(names(&policy, "release") && names(&policy, "scanners") && !names(&policy, "other"));
    }
}
