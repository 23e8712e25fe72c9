//! `kubectl assay` on the real API server, answered by the real operator. Tables, JSON and arguments are compared over
//! recorded objects in `crates/cli/tests`.

use std::process::Output;
use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{ApiProxy, Fate, Format, eventually};
use tokio::sync::Notify;

use crate::binary::assay;
use crate::scene::{PATIENCE, Scene, condition, simple};
use crate::servers::servers;

/// The binary under the name by which kubectl finds it.
fn plugin(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(assay());
    command
        .arg0("kubectl-assay")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

/// `kubectl assay` with the rights of whoever set up the cluster, in the namespace of the scene.
pub(crate) async fn run(scene: &Scene, arguments: &[&str]) -> Output {
    let mut command = plugin(arguments);
    command
        .args(["-n", scene.name()])
        .env("KUBECONFIG", scene.cluster.kubeconfig());
    command.output().await.unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

pub(crate) fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(output)))
}

/// Workloads of a list of a Difference that are the scene's.
pub(crate) fn workloads(scene: &Scene, difference: &Value, list: &str) -> Vec<String> {
    let results = difference[list].as_array().unwrap().iter();
    let ours = results.filter(|result| result["namespace"] == scene.name());
    ours.map(|result| result["workload"].as_str().unwrap().to_owned())
        .collect()
}

/// The rights to read in the namespace of the scene, behind a proxy that tells when a watch is asked for. `watch` prints
/// what changes after its first list, which comes before that, and does not say when it has it.
async fn seen_to_watch(scene: &Scene) -> (ApiProxy, Arc<Notify>) {
    let account = format!("--serviceaccount={}:default", scene.name());
    scene
        .kubectl(&["create", "rolebinding", "watches", "--clusterrole=view", &account])
        .await;
    let cluster = scene.cluster;
    let account = cluster
        .kubeconfig_for_service_account(scene.name(), "default")
        .await;
    let proxy = ApiProxy::in_front_of(cluster, &account.unwrap()).await.unwrap();
    let may_read = async || {
        let mut status = plugin(&["status", "-n", scene.name()]);
        let output = status
            .env("KUBECONFIG", proxy.kubeconfig())
            .output()
            .await
            .unwrap();
        match code(&output) {
            2 => Err(told(&output)),
            _ => Ok(()),
        }
    };
    eventually("the right to read", PATIENCE, may_read).await.unwrap();
    let begun = Arc::new(Notify::new());
    let told_of = begun.clone();
    proxy.set_rule(move |request| {
        if request.path.contains("watch=") {
            told_of.notify_one();
        }
        Fate::Forward
    });
    (proxy, begun)
}

/// C5.04, C5.08, C5.09: what a step breaks is said before it is taken, by the operator and without one; a script takes only
/// the step that it expects; what is frozen goes on counting.
#[tokio::test]
async fn c5_04_a_step_is_taken_only_as_it_was_shown() {
    let (scene, _) = Scene::shared("kubectl-assay").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let image = scene
        .signed_image(registry, &format!("kubectl-assay/{}", scene.name()), &release)
        .await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    let key = scene.unique("release");

    let impact = run(
        &scene,
        &["key", "impact", &key, "--stage", "Disabled", "-o", "json"],
    )
    .await;
    assert_eq!(code(&impact), 1, "{}", told(&impact));
    let by_operator = object(&impact);
    assert_eq!(
        workloads(&scene, &by_operator, "newlyFailing"),
        ["Deployment/web"]
    );
    assert_eq!(by_operator["newlyFailing"][0]["reason"], "KeyDisabled");

    // The same without an operator, from the cluster and the registry alone.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let disabled = scene.signing_key("release", "release", "Disabled", &release);
    std::fs::write(&file, disabled.to_string()).unwrap();
    let host = registry.host();
    let offline = [
        "diff",
        "-f",
        file.to_str().unwrap(),
        "--offline",
        "--insecure-registry",
        &host,
        "-o",
        "json",
    ];
    let offline = run(&scene, &offline).await;
    assert_eq!(code(&offline), 1, "{}", told(&offline));
    assert_eq!(object(&offline)["newlyFailing"], by_operator["newlyFailing"]);

    let stage = ["key", "stage", &key, "Disabled", "--yes"];
    let refused = run(&scene, &stage).await;
    assert_eq!(code(&refused), 1, "{}", told(&refused));
    let unexpected = run(&scene, &[&stage[..], &["--expect-failing", "2"]].concat()).await;
    assert_eq!(code(&unexpected), 1, "{}", told(&unexpected));
    let still = scene.compliance("deployment-web").await.unwrap();
    assert_eq!(condition(&still), "True/AllVerified", "nothing was changed");

    // What is frozen goes on counting under the revocation, and nothing else does.
    let frozen = run(&scene, &["key", "freeze", &key, "--accept-unknown"]).await;
    assert_eq!(code(&frozen), 0, "{}", told(&frozen));
    let manifest: Value = serde_norway::from_slice(&frozen.stdout).unwrap();
    assert_eq!(manifest["spec"]["honourDigests"], json!([image.digest]));
    scene.create(std::slice::from_ref(&manifest)).await;
    scene
        .key_status("release", |status| status["effectiveStage"] == "Disabled")
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    let name = manifest["metadata"]["name"].as_str().unwrap();
    scene.kubectl(&["delete", "keyrevocation", name]).await;
    scene
        .key_status("release", |status| status["effectiveStage"] == "Active")
        .await;

    let (proxy, begun) = seen_to_watch(&scene).await;
    let mut watching = plugin(&["watch", "--for", "120s", "-o", "json"]);
    watching
        .args(["-n", scene.name()])
        .env("KUBECONFIG", proxy.kubeconfig());
    watching.stdout(std::process::Stdio::piped());
    let mut watching = watching.spawn().unwrap();
    let mut lines = {
        use tokio::io::AsyncBufReadExt;
        tokio::io::BufReader::new(watching.stdout.take().unwrap()).lines()
    };
    tokio::time::timeout(PATIENCE, begun.notified()).await.unwrap();
    let done = run(&scene, &[&stage[..], &["--expect-failing", "1"]].concat()).await;
    assert_eq!(code(&done), 0, "{}", told(&done));
    scene.says("deployment-web", "False/KeyDisabled").await;
    let line = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let transition: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(transition["after"]["reason"], "KeyDisabled", "{transition:#}");
    assert_eq!(transition["before"]["verdict"], "Compliant");
    watching.kill().await.unwrap();

    // Totals follow the workloads.
    scene
        .key_status("release", |status| status["effectiveStage"] == "Disabled")
        .await;
    let rotation = run(&scene, &["rotate", &scene.unique("release"), "-o", "json"]).await;
    assert_eq!(object(&rotation)["versions"][0]["effectiveStage"], "Disabled");
    let status = run(&scene, &["status", "-o", "json"]).await;
    assert_eq!(code(&status), 1);
    assert_eq!(object(&status)["findings"][0]["reason"], "KeyDisabled");
}

/// A look that somebody asks for finds what was signed meanwhile, although the next regular one is an hour away; a
/// tenant is told why and what to do by what they may read.
#[tokio::test]
async fn a_recheck_finds_a_new_signature_and_a_tenant_is_told_why() {
    let (scene, _) = Scene::shared("kubectl-assay-recheck").await;
    let registry = &servers().await.distribution;
    let old = scene.signer("old", "release", "Active").await;
    let new = scene.signer("new", "release", "Active").await;
    let image = scene
        .signed_image(registry, &format!("kubectl-assay-recheck/{}", scene.name()), &old)
        .await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    scene
        .cosign
        .sign(&image.by_digest(), &new, Format::Tag)
        .await
        .unwrap();
    let recheck = run(&scene, &["recheck", &scene.unique("signed")]).await;
    assert_eq!(code(&recheck), 0, "{}", told(&recheck));
    scene.key_status("new", |status| status["images"] == 1).await;

    let namespace = scene.name().to_owned();
    scene
        .kubectl(&[
            "create",
            "rolebinding",
            "sees",
            "--clusterrole=view",
            &format!("--serviceaccount={namespace}:default"),
        ])
        .await;
    let account = scene
        .cluster
        .kubeconfig_for_service_account(&namespace, "default")
        .await
        .unwrap();
    for key in ["old", "new"] {
        scene
            .patch(
                "signingkey",
                &scene.unique(key),
                &json!({"spec": {"stage": "Disabled"}}),
            )
            .await;
    }
    scene.says("deployment-web", "False/KeyDisabled").await;
    let explain = async || {
        let mut command = plugin(&["explain", "deploy/web", "-n", &namespace]);
        let output = command.env("KUBECONFIG", &account).output().await.unwrap();
        match code(&output) == 1 && told(&output).contains("KeyDisabled") {
            true => Ok(told(&output)),
            false => Err(told(&output)),
        }
    };
    let text = eventually("a tenant to be told", PATIENCE, explain)
        .await
        .unwrap();
    assert!(
        text.contains("Have the image signed") && text.contains("You may not read policies"),
        "{text}"
    );
    let mut refused = plugin(&["recheck", &scene.unique("signed")]);
    let refused = refused.env("KUBECONFIG", &account).output().await.unwrap();
    assert_eq!(code(&refused), 2);
    assert!(told(&refused).contains("may not"), "{}", told(&refused));
}
