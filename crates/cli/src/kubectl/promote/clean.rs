//! Whether a policy was clean for the time of its soak: what the operator wrote of it in the ImageCompliances. Pure.

use api::{ImageCompliance, Verdict};
use jiff::Timestamp;

use crate::kubectl::workloads;

/// So many results are named.
const NAMED: usize = 3;

/// Every result of the policy holds now, and held since `since`; None for no soak. What an exception passes over is
/// meant to pass.
pub(super) fn is_clean(
    policy: &str,
    compliances: &[ImageCompliance],
    since: Option<Timestamp>,
) -> Result<(), String> {
    let (mut failing, mut young, mut left_out) = (Vec::new(), Vec::new(), 0);
    for compliance in compliances {
        let (namespace, workload) = workloads::of(compliance);
        let place = format!("{namespace}/{}", workloads::named(&workload));
        let status = &compliance.status;
        left_out += status.omitted.unwrap_or_default();
        for image in &status.images {
            for result in image.policies.iter().filter(|result| result.name == policy) {
                if !holds(result.verdict) {
                    failing.push(format!("{place} ({})", result.reason));
                } else if since.is_some_and(|since| result.since.0 > since) {
                    young.push(format!("{place} (since {})", result.since.0));
                }
            }
        }
        let start = status.next_start.as_ref().filter(|start| start.policy == policy);
        if let Some(start) = start.filter(|start| !holds(start.verdict)) {
            failing.push(format!("{place} with its next start ({})", start.reason));
        }
    }
    let mut doubts = Vec::new();
    if !failing.is_empty() {
        doubts.push(format!("Not Compliant now: {}.", some_of(&failing)));
    }
    if !young.is_empty() {
        doubts.push(format!("Compliant for less than the soak: {}.", some_of(&young)));
    }
    if left_out > 0 && since.is_some() {
        doubts.push(format!(
            "Not told, as they were left out of objects that would be too large: {left_out} results."
        ));
    }
    match doubts.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "it {}. {} Mend that and wait, or go on all the same with --accept-unclean",
            if since.is_some() {
                "was not clean for its soak"
            } else {
                "is not clean"
            },
            doubts.join(" ")
        )),
    }
}

fn holds(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Compliant | Verdict::Excepted | Verdict::NotCovered
    )
}

fn some_of(places: &[String]) -> String {
    let named = places
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match places.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SINCE: &str = "2026-11-21T12:00:00Z";
    const LONG_AGO: &str = "2026-11-01T00:00:00Z";

    fn compliance(verdict: &str, reason: &str, since: &str, start: Value) -> ImageCompliance {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "status": {
                "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u"},
                "images": [{"image": "r/web:1", "policies": [
                    {"name": "p", "mode": "DryRun", "verdict": verdict, "reason": reason, "since": since},
                    {"name": "other", "mode": "DryRun", "verdict": "Violating", "reason": "ScanMissing", "since": since},
                ]}],
                "nextStart": start,
            },
        }))
        .unwrap()
    }

    fn clean(one: ImageCompliance) -> Result<(), String> {
        is_clean("p", &[one], Some(SINCE.parse().unwrap()))
    }

    /// C5.09: clean, and for the whole soak.
    /// Fails on a build that asks only how long the policy stood.
    #[test]
    fn c5_09_what_violates_now_or_did_within_the_soak_is_not_clean() {
        let held = |since: &str| compliance("Compliant", "AllVerified", since, Value::Null);
        assert_eq!(clean(held(LONG_AGO)), Ok(()));
        assert_eq!(clean(held(SINCE)), Ok(()));
        let young = clean(held("2026-11-21T12:00:01Z")).unwrap_err();
        assert!(
            young.contains("less than the soak: shop/Deployment/web"),
            "{young}"
        );
        for (verdict, reason) in [("Violating", "KeyRevoked"), ("Unknown", "Pending")] {
            let failing = clean(compliance(verdict, reason, LONG_AGO, Value::Null)).unwrap_err();
            assert!(
                failing.contains(&format!("shop/Deployment/web ({reason})"))
                    && failing.contains("--accept-unclean"),
                "{failing}"
            );
        }
        assert_eq!(
            clean(compliance("Excepted", "Excepted", LONG_AGO, Value::Null)),
            Ok(())
        );
        let start = json!({"decision": "Warn", "verdict": "Violating", "reason": "SignatureMissing", "policy": "p", "image": "r/web:2"});
        let starting = clean(compliance("Compliant", "AllVerified", LONG_AGO, start)).unwrap_err();
        assert!(starting.contains("next start (SignatureMissing)"), "{starting}");
    }

    #[test]
    fn without_a_soak_only_what_is_now_counts() {
        let young = compliance("Compliant", "AllVerified", "2026-11-22T00:00:00Z", Value::Null);
        assert_eq!(is_clean("p", &[young], None), Ok(()));
        let mut cut = compliance("Compliant", "AllVerified", LONG_AGO, Value::Null);
        cut.status.omitted = Some(4);
        assert!(is_clean("p", std::slice::from_ref(&cut), Some(SINCE.parse().unwrap())).is_err());
        assert_eq!(is_clean("p", &[cut], None), Ok(()));
    }
}
