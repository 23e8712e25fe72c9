//! ImageExceptions: what the API server refuses, and what one does to a workload until its end.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::eventually;

use crate::config::installed;
use crate::crds::{accepted, refusal, update_refusal};
use crate::manifests::with;
use crate::scene::{PATIENCE, Scene, condition_in, simple};
use crate::servers::servers;

fn exception(name: &str, expires: Timestamp) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "ImageException",
        "metadata": {"name": name},
        "spec": {
            "policies": ["prod"],
            "images": ["registry.example.com/shop/**"],
            "namespaces": ["shop"],
            "expires": Timestamp::from_second(expires.as_second()).unwrap().to_string(),
            "reason": "vendor fixes it",
        },
    })
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

/// C5.21.
#[tokio::test]
async fn an_exception_that_says_less_than_it_should_is_refused() {
    let servers = servers().await;
    let good = exception("good", in_hours(24));
    let all = json!({"spec": {
        "workloads": ["Deployment/web", "CronJob/backup-*", "Rollout.argoproj.io/web", "Pod/*"],
        "reasons": ["KeyRevoked", "SignatureMissing"],
    }});
    accepted(servers, &with(good.clone(), all)).await;
    let cases = [
        (json!({"spec": {"policies": []}}), "spec.policies"),
        (json!({"spec": {"images": null}}), "spec.images: Required value"),
        (
            json!({"spec": {"images": ["r.example/web:1"]}}),
            "must be a pattern of repositories",
        ),
        (
            json!({"spec": {"namespaces": null}}),
            "spec.namespaces: Required value",
        ),
        (json!({"spec": {"namespaces": []}}), "spec.namespaces"),
        (json!({"spec": {"workloads": []}}), "spec.workloads"),
        (
            json!({"spec": {"workloads": ["web"]}}),
            "must be a kind and a name",
        ),
        (json!({"spec": {"reasons": []}}), "spec.reasons"),
        (
            json!({"spec": {"reasons": ["RegistryUnavailable"]}}),
            "Unsupported value",
        ),
        (json!({"spec": {"expires": null}}), "spec.expires: Required value"),
        (json!({"spec": {"expires": "tomorrow"}}), "spec.expires"),
        (json!({"spec": {"reason": null}}), "spec.reason: Required value"),
        (json!({"spec": {"reason": ""}}), "spec.reason"),
    ];
    for (patch, says) in cases {
        let refusal = refusal(servers, &with(good.clone(), patch.clone())).await;
        assert!(refusal.contains(says), "{patch}: {refusal}");
    }
}

#[tokio::test]
async fn an_exception_is_decided_once_and_may_only_end_earlier() {
    let servers = servers().await;
    let object = exception("decided-once", in_hours(24));
    servers.cluster.apply(&object.to_string()).await.unwrap();
    let cases = [
        (json!({"spec": {"policies": ["prod", "other"]}}), "immutable"),
        (json!({"spec": {"images": ["**"]}}), "immutable"),
        (json!({"spec": {"namespaces": ["*"]}}), "immutable"),
        (
            json!({"spec": {"workloads": ["Deployment/web"]}}),
            "spec.workloads is immutable",
        ),
        (
            json!({"spec": {"reasons": ["KeyRevoked"]}}),
            "spec.reasons is immutable",
        ),
        (
            json!({"spec": {"expires": in_hours(48).to_string()}}),
            "spec.expires may only come closer",
        ),
    ];
    for (patch, says) in cases {
        let refusal = update_refusal(servers, &object, &patch).await;
        assert!(
            refusal.contains(says) && !refusal.contains("cost"),
            "{patch}: {refusal}"
        );
    }
    let earlier =
        json!({"spec": {"expires": in_hours(1).to_string(), "reason": "fixed earlier"}}).to_string();
    let patch = [
        "patch",
        "imageexception",
        "decided-once",
        "--type=merge",
        "-p",
        &earlier,
    ];
    servers.cluster.kubectl(&patch).await.unwrap();
}

#[tokio::test]
async fn an_exception_that_would_last_too_long_is_refused_by_the_guard() {
    let create = ["create", "--dry-run=server", "-f", "-"];
    let cluster = installed();
    let long = exception("long", in_hours(90 * 24 + 1)).to_string();
    let look = async || {
        let said = cluster.kubectl_output(&create, &long).await.unwrap();
        match said
            .stderr
            .contains("expected a time within 90 days, that is until 2")
        {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    };
    eventually("the guard to refuse", PATIENCE, look).await.unwrap();
    let short = exception("short", in_hours(90 * 24 - 1)).to_string();
    let said = cluster.kubectl_output(&create, &short).await.unwrap();
    assert!(said.succeeded(), "{said:?}");
}

/// C5.20, B30: nothing that a tenant writes excepts, only the object of the cluster does; it is told, counted and listed,
/// and ends by the clock. Fails on a build in which the condition is True for what is Excepted.
#[tokio::test]
async fn c5_20_b30_an_exception_is_told_counted_and_ends_at_its_time() {
    let (scene, _) = Scene::shared("exceptions").await;
    let registry = &servers().await.distribution;
    scene.signer("release", "release", "Active").await;
    let image = scene
        .image(registry, &format!("exceptions/{}", scene.name()))
        .await;
    let claims = json!({"assay.dev/exception": "true", "assay.dev/excepted-by": "admin"});
    let web = with(
        simple("web", &image.by_tag()),
        json!({"metadata": {"annotations": claims, "labels": {"assay.dev/exception": "true"}}}),
    );
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            web,
            simple("other", &image.by_tag()),
        ])
        .await;
    let (web, other) = ("deployment-web", "deployment-other");
    scene.says(web, "False/SignatureMissing").await;
    scene.says(other, "False/SignatureMissing").await;

    let name = scene.unique("hotfix");
    let end = Timestamp::now() + SignedDuration::from_secs(45);
    let here = json!({"spec": {
        "policies": [scene.unique("signed")], "images": ["**"], "namespaces": [scene.name()],
        "workloads": ["Deployment/web"],
    }});
    scene.create(&[with(exception(&name, end), here)]).await;
    let written = scene.says(web, "Unknown/Excepted").await;
    let result = serde_json::to_value(&written.status.images[0].policies[0]).unwrap();
    assert_eq!(result["verdict"], "Excepted");
    assert_eq!(
        result["exception"],
        json!({"name": name, "reason": "SignatureMissing"})
    );
    assert_eq!(result["willBecome"]["reason"], "SignatureMissing");
    scene.event("Deployment", "web", "VerdictExcepted").await;
    let status = async || {
        let output = scene
            .kubectl(&["get", "imageexception", &name, "-o", "jsonpath={.status}"])
            .await;
        serde_json::from_str::<Value>(&output).unwrap_or_default()
    };
    let until = async |what: &str, ready: &str, workloads: i64| {
        let look = async || match status().await {
            found if condition_in(&found, "Ready") == ready && found["workloads"] == workloads => Ok(found),
            found => Err(found.to_string()),
        };
        eventually(what, PATIENCE, look).await.unwrap()
    };
    let found = until("the exception to count", "True/ExceptionInForce", 1).await;
    assert_eq!(found["sample"][0]["workload"], "Deployment/web");

    scene.says(web, "False/SignatureMissing").await;
    assert!(
        Timestamp::now() >= end - SignedDuration::from_secs(1),
        "not before its end"
    );
    let still = scene.compliance(other).await.unwrap();
    assert_eq!(crate::scene::condition(&still), "False/SignatureMissing");
    until("the exception to be over", "False/ExceptionExpired", 0).await;
}
