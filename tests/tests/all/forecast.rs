//! What gets worse by itself is told ahead of it, once, and `assay forecast` lists it.

use std::process::Output;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::binary::assay;
use crate::scene::{PATIENCE, Scene, condition, simple, summary};
use crate::servers::servers;

/// `assay forecast` for the cluster of the scene.
async fn forecast(scene: &Scene, arguments: &[&str]) -> Output {
    tokio::process::Command::new(assay())
        .arg("forecast")
        .arg("--kubeconfig")
        .arg(scene.cluster.kubeconfig())
        .args(arguments)
        .env_remove("KUBECONFIG")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn ends(time: Timestamp) -> Value {
    json!({"spec": {"notAfter": Timestamp::from_second(time.as_second()).unwrap().to_string()}})
}

async fn told(scene: &Scene, name: &str) -> usize {
    let events = scene.events(scene.name()).await;
    let about = format!("Deployment/{name} WillBecomeNonCompliant");
    events.iter().filter(|event| summary(event) == about).count()
}

/// Issue 5, item 2: why, when and what to do, in the status, the Events and the list; the flip comes by the clock; each is
/// told once. C5.02: a key that ends.
#[tokio::test]
async fn what_falls_is_told_ahead_listed_and_falls_at_its_time() {
    let (scene, _) = Scene::shared("forecast").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let image = scene
        .signed_image(registry, &format!("forecast/{}", scene.name()), &release)
        .await;
    let policy = scene.policy("signed", "release", json!({"spec": {"warnBefore": "30m"}}));
    scene.create(&[policy, simple("web", &image.by_tag())]).await;
    scene.says("deployment-web", "True/AllVerified").await;
    let namespace = scene.name().to_owned();
    let nothing = forecast(&scene, &["-n", &namespace]).await;
    assert_eq!(code(&nothing), 0, "{}", stderr(&nothing));
    assert!(
        stdout(&nothing).starts_with("Nothing that runs"),
        "{}",
        stdout(&nothing)
    );

    // Far away: it is in the status and in the list, and no news.
    let key = scene.unique("release");
    let far = Timestamp::now() + SignedDuration::from_hours(48);
    scene.patch("signingkey", &key, &ends(far)).await;
    let becomes = |compliance: &api::ImageCompliance| {
        let result = compliance.status.images.first()?.policies.first()?;
        let becomes = result.will_become.clone()?;
        Some((becomes, result.valid_until.clone()?.0))
    };
    let written = scene
        .until("deployment-web", "what it becomes", PATIENCE, |found| {
            becomes(found).is_some()
        })
        .await;
    let (then, at) = becomes(&written).unwrap();
    assert_eq!(
        (then.verdict.to_string().as_str(), then.reason.as_str()),
        ("Violating", "KeyExpired")
    );
    assert_eq!(at.as_second(), far.as_second());
    assert!(!then.warned);
    assert!(then.message.unwrap().contains(&key));
    let table = forecast(&scene, &["-n", &namespace]).await;
    assert_eq!(code(&table), 1, "{}", stderr(&table));
    assert!(
        stdout(&table).contains("Deployment/web") && stdout(&table).contains(&key),
        "{}",
        stdout(&table)
    );
    assert!(
        stdout(&table).lines().all(|line| line.chars().count() <= 100),
        "{}",
        stdout(&table)
    );
    assert_eq!(
        code(&forecast(&scene, &["-n", &namespace, "--within", "47h"]).await),
        0
    );
    let all = forecast(&scene, &["-A", "-o", "json", "--within", "3d"]).await;
    let all: Value = serde_json::from_str(&stdout(&all)).unwrap();
    assert_eq!(
        (&all["kind"], &all["namespace"]),
        (&json!("Forecast"), &Value::Null)
    );
    let ours = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["namespace"] == *namespace);
    let ours: Vec<_> = ours.map(|item| item["becomes"]["reason"].clone()).collect();
    assert_eq!(ours, [json!("KeyExpired")]);
    assert_eq!(told(&scene, "web").await, 0);

    // Close: told once on the workload and on the policy, and not again by what is written afterwards.
    let close = Timestamp::now() + SignedDuration::from_secs(45);
    scene.patch("signingkey", &key, &ends(close)).await;
    let event = scene.event("Deployment", "web", "WillBecomeNonCompliant").await;
    let note = event.note.unwrap();
    for part in [
        &key,
        "KeyExpired",
        "Have the image signed",
        &scene.unique("signed"),
    ] {
        assert!(note.contains(part), "{part} is not in {note}");
    }
    scene
        .cluster_event("ImagePolicy", &scene.unique("signed"), "WillBecomeNonCompliant")
        .await;
    scene
        .patch(
            "imagepolicies.assay.dev",
            &scene.unique("signed"),
            &json!({"spec": {"remediation": "Ask."}}),
        )
        .await;
    let fallen = scene
        .until("deployment-web", "the fall", Duration::from_secs(90), |found| {
            condition(found) == "False/KeyExpired"
        })
        .await;
    let result = &fallen.status.images[0].policies[0];
    assert!(result.will_become.is_none());
    println!("due {close}, written as of {}", result.since.0);
    assert!(result.since.0.as_second() >= close.as_second());
    assert_eq!(told(&scene, "web").await, 1);
    assert_eq!(
        code(&forecast(&scene, &["-n", &namespace]).await),
        0,
        "it has fallen"
    );
}

/// The list is read with the rights of whoever asks; what is wrong is said with what is right.
#[tokio::test]
async fn whoever_may_not_read_or_asks_badly_is_told_so() {
    let (scene, _) = Scene::shared("forecast-rights").await;
    let namespace = scene.name().to_owned();
    let account = scene
        .cluster
        .kubeconfig_for_service_account(&namespace, "default")
        .await
        .unwrap();
    let as_tenant = |arguments: &[&str]| {
        let arguments = arguments
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>();
        let account = account.clone();
        async move {
            tokio::process::Command::new(assay())
                .arg("forecast")
                .args(arguments)
                .env("KUBECONFIG", account)
                .output()
                .await
                .unwrap()
        }
    };
    let refused = as_tenant(&["-n", &namespace]).await;
    assert_eq!(code(&refused), 2);
    let text = stderr(&refused);
    assert!(
        text.contains("may not list imagecompliances.assay.dev") && text.contains("role view"),
        "{text}"
    );
    let everywhere = as_tenant(&["-A"]).await;
    assert!(
        stderr(&everywhere).contains("give --namespace"),
        "{}",
        stderr(&everywhere)
    );

    // `config/rbac` puts reading into `view`.
    scene
        .kubectl(&[
            "create",
            "rolebinding",
            "sees",
            "--clusterrole=view",
            &format!("--serviceaccount={namespace}:default"),
        ])
        .await;
    let look = async || match as_tenant(&["-n", &namespace]).await {
        output if code(&output) == 0 => Ok(()),
        output => Err(stderr(&output)),
    };
    testkit::eventually("reading by the role view", PATIENCE, look)
        .await
        .unwrap();

    let bad = |arguments: &'static [&'static str]| {
        let scene = &scene;
        async move {
            let output = forecast(scene, arguments).await;
            assert_eq!(code(&output), 2, "{arguments:?}");
            stderr(&output)
        }
    };
    assert!(bad(&["--within", "soon"]).await.contains("such as 14d"));
    assert!(bad(&["-n", "a", "-A"]).await.contains("cannot be used with"));
    assert!(bad(&["-o", "xml"]).await.contains("table, wide, json, yaml"));
    assert!(bad(&["--context", "none"]).await.contains("none"));
}
