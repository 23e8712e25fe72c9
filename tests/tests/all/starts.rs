//! What workloads would start next, and what ended before anybody could write about it, on a real API server and registry.

use std::time::Duration;

use api::{ImageCompliance, StartDecision};
use serde_json::{Value, json};
use testkit::eventually;
use testkit::node::annotation;

use crate::manifests::with;
use crate::operator::USER;
use crate::scene::{PATIENCE, Scene, condition, simple};
use crate::servers::servers;

/// `Deny SignatureMissing`.
fn next(compliance: &ImageCompliance) -> String {
    match &compliance.status.next_start {
        Some(next) => format!("{:?} {}", next.decision, next.reason.as_str()),
        None => String::new(),
    }
}

async fn starts(scene: &Scene, name: &str, expected: (&str, &str)) -> ImageCompliance {
    let what = format!("{expected:?}");
    let holds = |compliance: &ImageCompliance| {
        (condition(compliance).as_str(), next(compliance).as_str()) == expected
    };
    scene.until(name, &what, PATIENCE, holds).await
}

fn machine_kind() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "machines.starts.example.com"},
        "spec": {
            "group": "starts.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Machine", "plural": "machines", "singular": "machine"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

/// Defines the kind, lets the operator watch it, and waits until an object can be made.
async fn define_machines(scene: &Scene, machine: &Value) {
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "assay-watches-machines", "labels": {"assay.dev/aggregate-to-owner-reader": "true"}},
        "rules": [{"apiGroups": ["starts.example.com"], "resources": ["machines"], "verbs": ["get", "list", "watch"]}],
    });
    scene.create(&[rights, machine_kind()]).await;
    let create = async || {
        let arguments = ["-n", scene.name(), "apply", "-f", "-"];
        let output = scene
            .cluster
            .kubectl_output(&arguments, &machine.to_string())
            .await;
        output
            .unwrap()
            .into_stdout()
            .map(drop)
            .map_err(|error| error.to_string())
    };
    eventually("the kind to be served", PATIENCE, create)
        .await
        .unwrap();
    let may = async || {
        let arguments = [
            "auth",
            "can-i",
            "watch",
            "machines.starts.example.com",
            "--as",
            USER,
        ];
        scene
            .cluster
            .kubectl(&arguments)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    eventually("the operator's right", PATIENCE, may).await.unwrap();
}

/// C1.07, C5.06, B36: what never ran, what is at zero, what is suspended, and a custom kind; and a tag that moves.
/// Weakened once: with templates that use no image (`template_uses`), nothing is said of what would be denied.
#[tokio::test]
async fn c1_07_c5_06_every_template_is_judged_before_it_starts() {
    let (scene, shared) = Scene::shared("starts").await;
    let registry = &servers().await.referrers;
    let key = scene.signer("release", "release", "Active").await;
    let good = scene.signed_image(registry, "starts/good", &key).await;
    let bad = scene.image(registry, "starts/bad").await;
    let template = |image: &str| {
        json!({"metadata": {"labels": {"app": "x"}},
            "spec": {"restartPolicy": "Always", "containers": [{"name": "main", "image": image}]}})
    };
    let job = |image: &str| {
        let template = with(template(image), json!({"spec": {"restartPolicy": "Never"}}));
        json!({"spec": {"suspend": true, "template": template}})
    };
    let object = |api: &str, kind: &str, rest: Value| {
        with(
            json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}}),
            rest,
        )
    };
    let zero = |image: &str| json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": template(image)}});
    let cron = json!({"spec": {"schedule": "0 0 1 1 *", "jobTemplate": job(&good.by_tag())}});
    let often = json!({"spec": {"recheck": {"interval": "5s"}}});
    let machine = object(
        "starts.example.com/v1",
        "Machine",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": bad.by_tag()}]}}}}),
    );
    scene
        .create(&[
            scene.policy("signed", "release", often),
            object("batch/v1", "CronJob", cron),
            object("batch/v1", "Job", job(&bad.by_tag())),
            object("apps/v1", "Deployment", zero(&bad.by_tag())),
            object("apps/v1", "ReplicaSet", zero(&good.by_digest())),
            simple("web", &good.by_tag()),
        ])
        .await;
    define_machines(&scene, &machine).await;
    let nothing_runs = "Unknown/NothingRunning";
    starts(&scene, "cronjob-x", (nothing_runs, "Admit AllVerified")).await;
    starts(&scene, "job-x", (nothing_runs, "Deny SignatureMissing")).await;
    starts(&scene, "replicaset-x", (nothing_runs, "Admit AllVerified")).await;
    starts(
        &scene,
        "machine.starts.example.com-x",
        (nothing_runs, "Deny SignatureMissing"),
    )
    .await;
    starts(
        &scene,
        "deployment-web",
        ("True/AllVerified", "Admit AllVerified"),
    )
    .await;
    let denied = starts(&scene, "deployment-x", (nothing_runs, "Deny SignatureMissing")).await;
    let next = denied.status.next_start.unwrap();
    assert_eq!(
        (next.digest, next.decision),
        (bad.digest.clone(), StartDecision::Deny)
    );
    let table = scene.kubectl(&["get", "imgc", "deployment-x"]).await;
    assert!(table.contains("NEXT-START") && table.contains("Deny"), "{table}");
    let rests =
        |status: &Value| status["soleTrust"]["workloads"] == 1 && status["soleTrust"]["startOnly"] == 2;
    scene.key_status("release", rests).await;

    scene.kubectl(&["scale", "deployment", "x", "--replicas=1"]).await;
    starts(
        &scene,
        "deployment-x",
        ("False/SignatureMissing", "Deny SignatureMissing"),
    )
    .await;

    let moved = registry
        .writer()
        .push_image("starts/good", scene.name(), "another image")
        .await
        .unwrap();
    assert_ne!(moved.digest, good.digest);
    let web = starts(
        &scene,
        "deployment-web",
        ("True/AllVerified", "Deny SignatureMissing"),
    )
    .await;
    let next = web.status.next_start.unwrap();
    assert_eq!(
        (next.digest, next.moved_tags),
        (moved.digest, vec![good.by_tag()])
    );
    let drift = format!("assay_tag_drift_workloads{{namespace=\"{}\"}}", scene.name());
    shared.operator.until_metric(&drift, 1.0).await;
}

/// C5.19: nobody writes an object about a Job of a moment, and its verdict is in the transition record.
#[tokio::test]
async fn c5_19_a_job_that_ended_at_once_is_in_the_transition_record() {
    let (scene, shared) = Scene::shared("ended").await;
    let key = scene.signer("release", "release", "Active").await;
    let image = scene
        .signed_image(&servers().await.referrers, "ended/job", &key)
        .await;
    let template = json!({
        "metadata": {"annotations": {(annotation::COMPLETE_AFTER): "0s"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image.by_tag()}]},
    });
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "brief"}, "spec": {"template": template}}),
        ])
        .await;
    let recorded = async || {
        let log = shared.operator.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines =
            lines.filter(|line| line["target"] == "assay::transition" && line["namespace"] == scene.name());
        lines.next().ok_or("no transition is recorded".to_owned())
    };
    let line = eventually("the record", Duration::from_secs(50), recorded)
        .await
        .unwrap();
    for (field, value) in [
        ("workload_kind", "Job"),
        ("workload_name", "brief"),
        ("digest", &image.digest),
        ("verdict", "Compliant"),
        ("reason", "AllVerified"),
    ] {
        assert_eq!(line[field], value, "{field} in {line:#}");
    }
    assert_eq!(line["ended"], true);
    let counter = format!(
        "assay_ended_verdicts_total{{namespace=\"{}\",policy=\"{}\",mode=\"Enforce\",verdict=\"Compliant\"}}",
        scene.name(),
        scene.unique("signed")
    );
    shared.operator.until_metric(&counter, 1.0).await;
}
