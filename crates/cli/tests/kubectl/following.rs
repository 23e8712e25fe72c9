//! What comes: `watch`, `status --watch` and `forecast`; and the choice of some workloads by their labels.

use std::io::Read as _;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::recorded::Recorded;
use crate::{command, compared, golden, run};

/// The times of now, as they are printed, in the place of which a fixed one stands.
fn without_now(text: &str, begun: Timestamp) -> String {
    let is_now = |word: &str| {
        let time: Option<Timestamp> = word.parse().ok();
        time.is_some_and(|time| time.as_second() >= begun.as_second() && time <= Timestamp::now())
    };
    let words = text.split_inclusive([' ', '\n', '"']);
    let fixed = words.map(|word| {
        let bare = word.trim_end_matches([' ', '\n', '"']);
        match is_now(bare) {
            true => word.replace(bare, "2026-11-22T12:00:00Z"),
            false => word.to_owned(),
        }
    });
    fixed.collect()
}

fn failing(cluster: &Recorded) -> Value {
    let mut compliance = cluster.object("ImageCompliance", "cronjob-report");
    let result = &mut compliance["status"]["images"][0]["policies"][0];
    result["verdict"] = "Violating".into();
    result["reason"] = "KeyRevoked".into();
    result["message"] = "SigningKey release-2025 is revoked.".into();
    compliance["status"]["verdict"] = "Violating".into();
    compliance["metadata"]["resourceVersion"] = "90".into();
    compliance
}

#[test]
fn watch_prints_each_change_and_ends_with_what_it_found() {
    let cluster = Recorded::start();
    let begun = Timestamp::now();
    let was = cluster.object("ImageCompliance", "cronjob-report");
    let mut texts = String::new();
    for arguments in [
        &["watch", "-A", "--for", "8s"][..],
        &["watch", "-A", "--for", "8s", "-o", "json"],
        &["watch", "-n", "bank", "--for", "8s", "-o", "yaml"],
    ] {
        cluster.set(was.clone());
        cluster.change([failing(&cluster), was.clone()]);
        let ran = run(&cluster, arguments);
        assert_eq!(ran.code, 1, "{}", ran.text);
        texts += &ran.text;
    }
    let quiet = run(&cluster, &["watch", "-n", "empty", "--for", "1s"]);
    assert_eq!(quiet.code, 0, "{}", quiet.text);
    texts += &quiet.text;
    compared("watch", &cluster, &without_now(&texts, begun));
    cluster.forbid(&["imagecompliances"]);
    let ran = golden("watch-forbidden", &cluster, &[&["watch", "-A"]]);
    assert_eq!(ran[0].code, 2);
}

#[test]
fn status_is_shown_again_when_it_changes() {
    let cluster = Recorded::start();
    cluster.change([failing(&cluster)]);
    let mut child = command(&cluster, &["status", "-n", "bank", "--watch"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (begun, mut shown) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(30) && !String::from_utf8_lossy(&shown).contains("KeyRevoked")
    {
        let mut buffer = [0; 4096];
        let read = out.read(&mut buffer).unwrap();
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&buffer[..read]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    compared(
        "status-watch",
        &cluster,
        &format!(
            "$ kubectl assay status -n bank --watch\n{}",
            String::from_utf8(shown).unwrap()
        ),
    );
}

#[test]
fn status_is_that_of_the_workloads_with_the_labels() {
    let cluster = Recorded::start();
    let ran = golden(
        "status-selected",
        &cluster,
        &[
            &["status", "-l", "app=web"],
            &["status", "-A", "-l", "app=report"],
            &["status", "-l", "app=nothing"],
        ],
    );
    assert!(ran[0].stdout.contains("Deployment/web") && !ran[0].stdout.contains("basket"));
    assert!(!ran[1].stdout.contains("Deployment/web"));
}

#[test]
fn forecast_says_what_falls_by_itself() {
    let cluster = Recorded::start();
    let ran = golden(
        "forecast",
        &cluster,
        &[
            &["forecast", "--within", "3650d"],
            &["forecast", "-A", "--within", "3650d", "-o", "wide"],
            &["forecast", "-n", "bank"],
        ],
    );
    assert_eq!(ran.iter().map(|ran| ran.code).collect::<Vec<_>>(), [1, 1, 0]);
    // From and until are times of now.
    let ran = run(&cluster, &["forecast", "--within", "3650d", "-o", "json"]);
    let mut object: Value = serde_json::from_str(&ran.stdout).unwrap();
    for field in ["from", "until"] {
        assert!(object[field].as_str().unwrap().parse::<Timestamp>().is_ok());
        object[field] = Value::Null;
    }
    let expected = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "Forecast", "namespace": "shop", "from": null, "until": null,
        "omitted": 0, "items": [{
            "at": "2027-01-31T00:00:00Z", "namespace": "shop",
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "image": format!("registry.example.com/mesh/proxy@sha256:{}", "2".repeat(64)),
            "digest": format!("sha256:{}", "2".repeat(64)), "policy": "prod-signed", "mode": "Enforce",
            "verdict": "Compliant",
            "becomes": {
                "verdict": "Violating", "reason": "KeyExpired", "requirement": "release-signature",
                "message": "SigningKey release-2026 is outside its validity.",
            },
        }],
    });
    assert_eq!(object, expected);
    cluster.forbid(&["imagecompliances"]);
    let ran = golden("forecast-forbidden", &cluster, &[&["forecast"]]);
    assert_eq!(ran[0].code, 2);
}
