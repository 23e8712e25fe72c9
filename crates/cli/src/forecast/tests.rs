//! The forecast from statuses to what is printed.

use api::ImageCompliance;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::findings::Forecast;
use super::*;

const NOW: &str = "2026-11-22T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A result that becomes something after so many hours.
fn result(policy: &str, verdict: &str, hours: i64, becomes: (&str, &str), message: &str) -> Value {
    json!({
        "name": policy, "mode": "Enforce", "verdict": verdict, "reason": "AllVerified", "since": NOW,
        "validUntil": (now() + SignedDuration::from_hours(hours)).to_string(),
        "willBecome": {"verdict": becomes.0, "reason": becomes.1, "requirement": "signed", "message": message},
    })
}

const ENDS: (&str, &str) = ("Violating", "KeyExpired");

fn compliance(namespace: &str, name: &str, images: &[(&str, Vec<Value>)]) -> ImageCompliance {
    let images: Vec<Value> = images
        .iter()
        .map(|(image, results)| json!({"image": image, "digest": "sha256:01", "containers": [], "policies": results}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": format!("deployment-{name}")},
        "status": {
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "u"},
            "images": images,
        },
    }))
    .unwrap()
}

fn forecast(compliances: &[ImageCompliance], within: &str) -> Forecast {
    Forecast::of(compliances, None, within.parse().unwrap(), now())
}

/// The table without colours, in 100 columns.
fn of(forecast: &Forecast) -> String {
    let style = Style {
        narrow: true,
        colour: false,
    };
    super::of(forecast, style)
}

fn one(result: Value) -> Vec<ImageCompliance> {
    vec![compliance("shop", "web", &[("r/web:1", vec![result])])]
}

#[test]
fn what_falls_in_time_is_listed_and_nothing_else() {
    let falls = |result: Value, within: &str| forecast(&one(result), within).findings.len();
    assert_eq!(falls(result("p", "Compliant", 24, ENDS, "m"), "1d"), 1);
    assert_eq!(falls(result("p", "Compliant", 25, ENDS, "m"), "1d"), 0, "later");
    assert_eq!(
        falls(result("p", "Compliant", -1, ENDS, "m"), "1d"),
        1,
        "overdue, and not written yet"
    );
    let (unknown, heals) = (("Unknown", "KeyMissing"), ("Compliant", "AllVerified"));
    assert_eq!(falls(result("p", "Compliant", 1, unknown, "m"), "1d"), 1);
    assert_eq!(falls(result("p", "Violating", 1, heals, ""), "1d"), 0, "it heals");
    assert_eq!(
        falls(result("p", "Violating", 1, ENDS, "m"), "1d"),
        0,
        "it has fallen"
    );
    let mut silent = result("p", "Compliant", 1, ENDS, "m");
    silent.as_object_mut().unwrap().remove("willBecome");
    assert_eq!(falls(silent, "1d"), 0);
}

#[test]
fn the_first_to_fall_is_first_and_each_reason_is_told_once() {
    let ends = |policy, hours| result(policy, "Compliant", hours, ENDS, "SigningKey a ends. Sign again.");
    let ages = result(
        "p",
        "Compliant",
        2,
        ("Violating", "AttestationExpired"),
        "The scan is too old.",
    );
    let found = forecast(
        &[
            compliance(
                "shop",
                "web",
                &[("r/a", vec![ends("p", 3)]), ("r/b", vec![ends("p", 3)])],
            ),
            compliance("bank", "till", &[("r/c", vec![ends("q", 3)])]),
            compliance("shop", "job", &[("r/d", vec![ages])]),
        ],
        "14d",
    );
    let expected = "\
WHEN                  NAMESPACE  WORKLOAD         POLICY  BECOMES
2026-11-22T14:00:00Z  shop       Deployment/job   p       AttestationExpired [1]
2026-11-22T15:00:00Z  bank       Deployment/till  q       KeyExpired [2]
2026-11-22T15:00:00Z  shop       Deployment/web   p       KeyExpired [2]

[1] Violating. The scan is too old.

[2] Violating. SigningKey a ends. Sign again.

3 workloads get a worse verdict by itself within 14d, unless something changes.
";
    assert_eq!(of(&found), expected);
}

#[test]
fn no_line_is_longer_than_a_hundred_columns_whatever_is_in_it() {
    let long = "x".repeat(253);
    let message = format!("{} {}", "word ".repeat(80), "y".repeat(150));
    let becomes = ("Violating", "AttestationRejected");
    let results = vec![result(&long, "Compliant", 1, becomes, &message)];
    let text = of(&forecast(&[compliance(&long, &long, &[("r/a", results)])], "1w"));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("AttestationRejected [1]"), "{text}");
}

#[test]
fn the_shape_of_the_json_is_that_of_the_documents() {
    let found = forecast(&one(result("p", "Compliant", 24, ENDS, "Sign again.")), "2d");
    let expected = json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "Forecast",
        "namespace": null,
        "from": NOW,
        "until": "2026-11-24T12:00:00Z",
        "omitted": 0,
        "items": [{
            "at": "2026-11-23T12:00:00Z",
            "namespace": "shop",
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "image": "r/web:1",
            "digest": "sha256:01",
            "policy": "p",
            "mode": "Enforce",
            "verdict": "Compliant",
            "becomes": {
                "verdict": "Violating",
                "reason": "KeyExpired",
                "requirement": "signed",
                "message": "Sign again.",
            },
        }],
    });
    assert_eq!(found.as_json(), expected);
}

/// What was left out may fall as well: an empty list is then no answer.
#[test]
fn results_that_were_left_out_are_a_doubt() {
    let mut all = one(result("p", "Compliant", 999, ENDS, "m"));
    assert!(forecast(&all, "1d").doubt().is_none());
    all[0].status.omitted = Some(3);
    let doubtful = forecast(&all, "1d");
    assert!(doubtful.findings.is_empty() && doubtful.doubt().unwrap().starts_with("3 results"));
    assert_eq!(super::super::found(&doubtful), crate::output::Found::NotTold);
}
