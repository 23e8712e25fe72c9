//! Everything of Assay's goes, nothing hangs, and what runs does not notice.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testkit::{CommandOutput, eventually};

use crate::operator::{Operator, insecure};
use crate::own::own_cluster;
use crate::scene::{PATIENCE, Scene, simple};
use crate::servers::servers;

/// Every kind has objects, one of them guarded against deletion, while the operator runs. Fails on a build that puts a
/// finalizer on what it writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstall_leaves_nothing_behind_and_nothing_hanging_and_what_runs_does_not_notice() {
    let cluster = own_cluster("uninstall").await;
    let kubectl = async |arguments: &[&str]| cluster.kubectl_output(arguments, "").await.unwrap();
    done(kubectl(&["apply", "-k", "config"]).await);
    let established = [
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=60s",
    ];
    done(kubectl(&established).await);
    let registry = &servers().await.distribution;
    let operator = Operator::start(cluster, "operator", &insecure(&[registry.host()])).await;
    let scene = Scene::on(cluster, "uninstall").await;
    let release = scene.signer("release", "release", "Active").await;
    let repository = format!("uninstall/{}", scene.name());
    let image = scene.signed_image(registry, &repository, &release).await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    scene.create(&others(&scene)).await;
    scene.says("deployment-web", "True/AllVerified").await;
    scene
        .key_status("release", |status| status["soleTrust"]["workloads"] == 1)
        .await;
    let workloads = ["get", "deployments,pods", "-o", "json"];
    let before = untouched(&scene.kubectl(&workloads).await);

    let started = Instant::now();
    done(kubectl(&["delete", "-k", "config", "--timeout=120s"]).await);
    println!("everything was deleted within {:?}", started.elapsed());
    let left = async || {
        let mut left = String::new();
        for kinds in [
            "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding",
            "namespace",
            "validatingwebhookconfiguration,mutatingwebhookconfiguration,apiservice",
        ] {
            let get = ["get", kinds, "-o", "name", "--ignore-not-found"];
            let found = kubectl(&get).await.into_stdout().unwrap();
            left.extend(
                found
                    .lines()
                    .filter(|name| name.contains("assay"))
                    .map(|name| format!("{name} ")),
            );
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(left),
        }
    };
    // A namespace ends a little after it was deleted.
    eventually("everything of Assay's to be gone", PATIENCE, left)
        .await
        .unwrap();
    let after = untouched(&scene.kubectl(&workloads).await);
    assert_eq!(after, before, "what runs does not notice");
    drop(operator);

    // Whoever installs it again begins anew.
    done(kubectl(&["apply", "-k", "config"]).await);
    done(kubectl(&established).await);
    let keys = kubectl(&["get", "signingkeys,keyrevocations", "-o", "name"]).await;
    assert_eq!(keys.into_stdout().unwrap(), "");
}

fn done(output: CommandOutput) {
    assert!(output.succeeded(), "{output:?}");
}

/// One object of each other kind.
fn others(scene: &Scene) -> Vec<Value> {
    let of = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "assay.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let (fingerprint, end) = ("7".repeat(64), Timestamp::now() + SignedDuration::from_hours(24));
    let policy = scene.unique("signed");
    vec![
        // Nobody may delete this one but with the verb forget.
        of(
            "KeyRevocation",
            &fingerprint,
            json!({"fingerprint": fingerprint, "reason": "KeyCompromise"}),
        ),
        of("TrustRoot", "staging", json!({"builtIn": "Staging"})),
        of(
            "RegistryConfig",
            "hub",
            json!({"prefix": "docker.io", "requestsPerSecond": 1}),
        ),
        of(
            "ImageException",
            "hotfix",
            json!({
                "policies": [policy], "images": ["**"], "namespaces": ["elsewhere"], "reason": "a test",
                "expires": Timestamp::from_second(end.as_second()).unwrap().to_string(),
            }),
        ),
        of(
            "PolicyPreview",
            "asked",
            json!({"changes": [{"delete": {"kind": "ImagePolicy", "name": policy}}]}),
        ),
    ]
}

/// Names and versions of objects that are running, without what the node writes.
fn untouched(list: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(list).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let metadata = &item["metadata"];
            json!([
                metadata["name"],
                metadata["uid"],
                metadata["generation"],
                metadata["annotations"],
                metadata["labels"],
                metadata["finalizers"],
                item["spec"],
            ])
        })
        .collect()
}
