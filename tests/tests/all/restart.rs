//! The operator killed at any moment and started again: the same statuses, nothing told twice.

use std::collections::BTreeMap;
use std::time::Duration;

use api::ImageCompliance;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::operator::{Operator, USER, insecure, install};
use crate::own::own_cluster;
use crate::scene::{Scene, condition_in, simple, summary};
use crate::servers::servers;

const KILLS: u64 = 20;

/// What is written about each workload: the status, and the version of the object.
async fn written(scene: &Scene) -> BTreeMap<String, (String, Option<String>)> {
    let api = scene.namespace.api::<ImageCompliance>();
    let list = api.list(&ListParams::default()).await.unwrap();
    let entry = |object: ImageCompliance| {
        let status = serde_json::to_string(&object.status).unwrap();
        (
            object.metadata.name.unwrap(),
            (status, object.metadata.resource_version),
        )
    };
    list.items.into_iter().map(entry).collect()
}

async fn told(scene: &Scene) -> Vec<String> {
    let mut told: Vec<String> = scene.events(scene.name()).await.iter().map(summary).collect();
    told.sort();
    told
}

/// F12, C2.11, C5.12: one replica without a Lease, so that each start writes at once.
#[tokio::test]
async fn f12_c5_12_an_operator_killed_at_any_moment_converges_and_tells_nothing_twice() {
    let cluster = own_cluster("restart").await;
    install(cluster).await;
    let [distribution, referrers] = [&servers().await.distribution, &servers().await.referrers];
    let mut arguments = insecure(&[distribution.host(), referrers.host()]);
    arguments.push("--leader-elect=false".to_owned());
    let operator = Operator::start(cluster, "operator", &arguments).await;
    let scene = Scene::on(cluster, "restart").await;
    let release = scene.signer("release", "release", "Active").await;
    let other = scene.signer("other", "release", "Active").await;
    let stranger = scene.cosign.generate_key_pair("stranger").await.unwrap();
    let good = scene.signed_image(referrers, "restart/good", &release).await;
    let turning = scene.signed_image(referrers, "restart/turning", &other).await;
    let foreign = scene
        .signed_image(distribution, "restart/foreign", &stranger)
        .await;
    let bad = scene.image(distribution, "restart/bad").await;
    scene
        .create(&[
            scene.policy(
                "signed",
                "release",
                json!({"spec": {"recheck": {"interval": "1s"}}}),
            ),
            simple("good", &good.by_tag()),
            simple("foreign", &foreign.by_tag()),
            simple("bad", &bad.by_tag()),
        ])
        .await;
    let turning_ones: Vec<String> = (0..10).map(|number| format!("turning-{number}")).collect();
    let objects: Vec<_> = turning_ones
        .iter()
        .map(|name| simple(name, &turning.by_tag()))
        .collect();
    scene.create(&objects).await;
    for (name, says) in [
        ("good", "True/AllVerified"),
        ("foreign", "False/SignerNotTrusted"),
        ("bad", "False/SignatureMissing"),
    ] {
        scene.says(&format!("deployment-{name}"), says).await;
    }
    for name in &turning_ones {
        scene
            .says(&format!("deployment-{name}"), "True/AllVerified")
            .await;
    }
    scene.event("Deployment", "bad", "BecameNonCompliant").await;
    scene.event("Deployment", "foreign", "BecameNonCompliant").await;
    let before = written(&scene).await;

    // The key is turned off and on while the operator is killed after 0 to 1.5 seconds.
    for round in 0..KILLS {
        let stage = if round % 2 == 0 { "Disabled" } else { "Active" };
        scene
            .patch(
                "signingkey",
                &scene.unique("other"),
                &json!({"spec": {"stage": stage}}),
            )
            .await;
        tokio::time::sleep(Duration::from_millis(round * 613 % 1500)).await;
        operator.server.kill().unwrap();
        operator.server.start_again().unwrap();
    }
    scene
        .patch(
            "signingkey",
            &scene.unique("other"),
            &json!({"spec": {"stage": "Revoked"}}),
        )
        .await;
    operator.until_ready().await;
    for name in &turning_ones {
        scene
            .says(&format!("deployment-{name}"), "False/KeyRevoked")
            .await;
    }
    // Mere counts are written once in 30 s, and what waits to be written is not forgotten by a kill.
    scene
        .policy_status("signed", |status| {
            status["violating"] == 12 && status["compliant"] == 1
        })
        .await;
    let key_statuses = async || {
        let safe = |status: &Value| condition_in(status, "SafeToDisable");
        let other = scene.key_status("other", |status| {
            status["effectiveStage"] == "Revoked"
                && status["soleTrust"]["workloads"] == 0
                && safe(status).starts_with("True/")
        });
        let release = scene.key_status("release", |status| {
            status["soleTrust"]["workloads"] == 1 && safe(status).starts_with("False/")
        });
        [other.await, release.await]
    };
    let keys_before = key_statuses().await;
    let after = written(&scene).await;
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for name in ["deployment-good", "deployment-foreign", "deployment-bad"] {
        assert_eq!(
            before[name], after[name],
            "{name} was written although nothing changed"
        );
    }
    let told_once = told(&scene).await;
    for unchanged in ["Deployment/bad ", "Deployment/foreign ", "Deployment/good "] {
        let about = told_once
            .iter()
            .filter(|told| told.starts_with(unchanged))
            .count();
        assert_eq!(
            about,
            usize::from(!unchanged.contains("good")),
            "{unchanged}: {told_once:?}"
        );
    }

    // Started once more on the same world: not a single write, and nothing is told.
    operator.server.kill().unwrap();
    let told_once = told(&scene).await;
    // A request that the kill cut off is logged late, as timed out.
    let writes = || {
        let mut writes = cluster.writes_by(USER).unwrap();
        writes.retain(|write| write.code != 504);
        writes
    };
    let writes_before = writes().len();
    operator.server.start_again().unwrap();
    operator.until_ready().await;
    // Everything has been looked at again when the interval has passed twice.
    let looked_at = operator
        .metric("assay_lookups_total{outcome=\"complete\"}")
        .await
        .unwrap_or_default();
    let again = async || match operator.metric("assay_lookups_total{outcome=\"complete\"}").await {
        Some(found) if found >= looked_at + 8.0 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    testkit::eventually("two more scans", Duration::from_secs(60), again)
        .await
        .unwrap();
    let new = writes().split_off(writes_before);
    let any = |_: &Value| true;
    let keys_after = [
        scene.key_status("other", any).await,
        scene.key_status("release", any).await,
    ];
    assert!(
        new.is_empty(),
        "{new:#?}, before {keys_before:#?}, after {keys_after:#?}"
    );
    assert_eq!(written(&scene).await, after);
    assert_eq!(told(&scene).await, told_once);
}
