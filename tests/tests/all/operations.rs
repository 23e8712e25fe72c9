//! What whoever runs the operator meets: flags, metrics, health, rights.

use serde_json::json;
use testkit::eventually;

use crate::binary::assay;
use crate::scene::{PATIENCE, Scene, condition_in, simple};
use crate::servers::servers;

async fn run(arguments: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(assay());
    command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent");
    command
        .env_remove("KUBERNETES_SERVICE_HOST")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn help_lists_every_command_and_flag_and_wrong_use_is_an_error() {
    let help = run(&["--help"]).await;
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for command in ["controller", "check", "crds"] {
        assert!(text.contains(command), "{text}");
    }
    let controller = String::from_utf8(run(&["controller", "--help"]).await.stdout).unwrap();
    for flag in [
        "--data-dir",
        "--listen",
        "--insecure-registry",
        "--leader-elect",
        "--report-min-age",
        "--namespace",
    ] {
        assert!(controller.contains(flag), "{flag} is not in {controller}");
    }
    let check = String::from_utf8(run(&["check", "--help"]).await.stdout).unwrap();
    let check = check.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "--insecure-registry",
        "-f, --filename",
        "-n, --namespace",
        "-l, --labels",
        "-o, --output",
        "Exit codes: 0 compliant, 1 violating, 2 unknown or an error, 3 no policy",
    ] {
        assert!(check.contains(text), "{text} is not in {check}");
    }
    for wrong in [
        ["controller", "--no-such-flag"].as_slice(),
        &["check"],
        &["no-such-command"],
        &["controller", "--writes-burst", "0"],
    ] {
        let output = run(wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// As in `assay crds | head -1`.
#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(assay());
    let ended = command.arg("crds").stdout(writer).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[tokio::test]
async fn without_a_cluster_the_operator_ends_and_says_what_to_do() {
    let folder = testkit::run_folder().unwrap().join("no-cluster");
    let output = run(&[
        "controller",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        folder.to_str().unwrap(),
    ])
    .await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("KUBECONFIG"),
        "{output:?}"
    );
}

#[tokio::test]
async fn health_and_metrics_are_served_as_prometheus_reads_them() {
    let (scene, shared) = Scene::shared("metrics").await;
    let registry = &servers().await.referrers;
    scene.signer("release", "release", "Active").await;
    let image = scene.image(registry, "metrics/web").await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    scene.says("deployment-web", "False/SignatureMissing").await;
    let operator = &shared.operator;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(operator.get(path).await.unwrap().0, 200, "{path}");
    }
    assert_eq!(operator.get("/nothing").await.unwrap().0, 404);
    let labels = |verdict: &str| {
        format!(
            "assay_workloads{{namespace=\"{}\",policy=\"{}\",mode=\"Enforce\",verdict=\"{verdict}\"}}",
            scene.name(),
            scene.unique("signed")
        )
    };
    operator.until_metric(&labels("Violating"), 1.0).await;
    let names = [
        "assay_pods",
        "assay_images",
        "assay_lookups_total",
        "assay_registry_requests_total",
        "assay_registry_request_seconds_bucket",
        "assay_signature_verifications_total",
        "assay_evaluations_total",
        "assay_api_writes_total",
        "assay_events_total",
        "assay_pending_updates",
        "assay_leader",
        "assay_oldest_check_timestamp_seconds",
        "assay_policy_ready",
        "assay_key_ready",
        "assay_build_info",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
    ];
    // An Event is counted when it was sent, which is after the status of which it tells.
    let all = async || {
        let (_, page) = operator.get("/metrics").await?;
        let is_there = |name: &&str| {
            let sample = |line: &str| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']);
            page.lines().any(sample)
        };
        match names.iter().find(|name| !is_there(name)) {
            None => Ok(page),
            Some(name) => Err(format!("{name} is not in {page}")),
        }
    };
    let page = eventually("every metric", PATIENCE, all).await.unwrap();
    for label in ["pod=", "image=", "digest=", "sha256:"] {
        assert!(!page.contains(label), "metrics are never labelled by {label}");
    }
    assert_eq!(operator.metric("assay_leader").await, Some(1.0));
}

/// The transition record: stable JSON, one line each.
#[tokio::test]
async fn each_transition_is_one_structured_line_in_the_log() {
    let (scene, shared) = Scene::shared("transitions").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let image = scene.signed_image(registry, "transitions/web", &release).await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    scene
        .patch(
            "signingkey",
            &scene.unique("release"),
            &json!({"spec": {"stage": "Revoked"}}),
        )
        .await;
    let compliance = scene.says("deployment-web", "False/KeyRevoked").await;
    scene.event("Deployment", "web", "BecameNonCompliant").await;
    let log = shared.operator.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line: &serde_json::Value| {
            line.to_string().contains(scene.name()) && line["target"] == "assay::transition"
        })
        .collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let key = scene
        .key_status("release", |status| status["fingerprint"].is_string())
        .await;
    let uid = compliance.status.workload.unwrap().uid;
    for (field, value) in [
        ("workload_uid", uid.as_str()),
        ("workload_kind", "Deployment"),
        ("workload_name", "web"),
        ("namespace", scene.name()),
        ("image", &image.by_tag()),
        ("digest", &image.digest),
        ("policy", &scene.unique("signed")),
        ("signers", key["fingerprint"].as_str().unwrap()),
        ("verdict", "Violating"),
        ("reason", "KeyRevoked"),
        ("previous_verdict", "Compliant"),
        ("previous_reason", "AllVerified"),
    ] {
        assert_eq!(lines[1][field], value, "{field} in {:#}", lines[1]);
    }
    assert_eq!(lines[1]["policy_generation"], 1);
    assert!(lines[1]["evidence"].as_str().unwrap().starts_with("sha256:"));
    assert!(lines[1]["time"].is_string());
    for secret in ["BEGIN PUBLIC KEY", "Bearer "] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// The shared operator has the rights of `config/rbac` and no more; here is that they suffice for everything that it
/// does about a workload from its first pod to its last.
#[tokio::test]
async fn the_operator_is_never_refused_anything_under_its_own_rights() {
    let (scene, shared) = Scene::shared("rights").await;
    let audited = || scene.cluster.writes_by(crate::operator::USER).unwrap();
    // Before the first test the API server may not have known all rights yet.
    let (logged, written) = (shared.operator.log().lines().count(), audited().len());
    scene.signer("release", "release", "Active").await;
    let image = scene.image(&servers().await.referrers, "rights/web").await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    scene.says("deployment-web", "False/SignatureMissing").await;
    scene.event("Deployment", "web", "BecameNonCompliant").await;
    let policy = scene.unique("signed");
    scene
        .cluster_event("ImagePolicy", &policy, "BecameNonCompliant")
        .await;
    scene
        .policy_status("signed", |status| status["violating"] == 1)
        .await;
    scene
        .key_status("release", |status| {
            condition_in(status, "Ready") == "True/KeyUsable"
        })
        .await;
    let scale = ["scale", "deployment/web", "--replicas=0"];
    scene.kubectl(&scale).await;
    scene.says("deployment-web", "Unknown/NothingRunning").await;
    scene.kubectl(&["delete", "deployment", "web"]).await;
    scene.says_nothing("deployment-web").await;

    let log = shared.operator.log();
    // Other tests define kinds of which it has no right to read.
    let is_refused = |line: &&str| line.contains("is forbidden") && !line.contains(".example.com");
    let refused: Vec<&str> = log.lines().skip(logged).filter(is_refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let writes = audited().split_off(written);
    let refused: Vec<_> = writes.iter().filter(|write| write.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let own = |resource: &str| {
        let about = |write: &&testkit::ApiRequest| {
            write.resource == resource && (write.namespace == scene.name() || write.name == policy)
        };
        writes.iter().filter(about).count()
    };
    assert!(own("imagecompliances") >= 2, "{writes:#?}");
    assert!(own("events") >= 1 && own("imagepolicies") >= 1, "{writes:#?}");
}
