//! What `kubectl assay` writes to begin with, the suggestions of a survey and what it imports, is taken by the real API
//! server; and what that does not take, `diff` does not predict.

use serde_json::{Value, json};
use testkit::workspace_root;

use crate::kubectl_assay::{code, object, run, told};
use crate::scene::{Scene, simple};
use crate::servers::servers;

/// `kubectl apply --dry-run=server` of what a command printed; how many objects were taken.
async fn taken(scene: &Scene, printed: &[u8]) -> usize {
    let text = String::from_utf8(printed.to_vec()).unwrap();
    let arguments = ["apply", "--dry-run=server", "-o", "name", "-f", "-"];
    let output = scene.cluster.kubectl_output(&arguments, &text).await.unwrap();
    output.into_stdout().unwrap().lines().count()
}

#[tokio::test]
async fn what_is_imported_from_other_tools_is_taken_by_the_api_server() {
    let scene = Scene::on(&servers().await.cluster, "imported").await;
    let folder = workspace_root().join("crates/cli/tests/kubectl/import");
    for name in ["policy-controller.yaml", "kyverno.yaml", "validating.yaml"] {
        let file = folder.join(name);
        let imported = run(&scene, &["import", file.to_str().unwrap()]).await;
        assert_eq!(code(&imported), 1, "{name}: {}", told(&imported));
        assert!(taken(&scene, &imported.stdout).await > 0, "{name}");
    }
}

/// Who signed is told by the keys of the cluster, and two repositories whose names differ in a slash are two policies.
#[tokio::test]
async fn what_a_survey_finds_is_who_signed_and_what_it_suggests_is_taken_by_the_api_server() {
    let (scene, _) = Scene::shared("surveyed").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let (one, other) = (
        format!("surveyed/{}/shop/web", scene.name()),
        format!("surveyed/{}/shop-web", scene.name()),
    );
    let signed = scene.signed_image(registry, &one, &release).await;
    let unsigned = scene.image(registry, &other).await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("signed", &signed.by_tag()),
            simple("unsigned", &unsigned.by_tag()),
        ])
        .await;
    scene.says("deployment-signed", "True/AllVerified").await;
    scene.says("deployment-unsigned", "False/SignatureMissing").await;

    let host = registry.host();
    let survey = ["survey", "--signers", "--insecure-registry", &host];
    let found = run(&scene, &[&survey[..], &["-o", "json"]].concat()).await;
    assert_eq!(code(&found), 1, "{}", told(&found));
    let found = object(&found);
    let repositories = found["repositories"].as_array().unwrap().iter();
    let images: Vec<&Value> = repositories
        .flat_map(|repository| repository["images"].as_array().unwrap())
        .collect();
    let said = |digest: &str| images.iter().find(|image| image["digest"] == digest).unwrap();
    assert_eq!(said(&signed.digest)["signed"], "Signed", "{images:#?}");
    assert!(
        said(&signed.digest)["signers"]
            .to_string()
            .contains(&scene.unique("release"))
    );
    assert_eq!(said(&unsigned.digest)["signed"], "NotSigned", "{images:#?}");

    let suggested = run(&scene, &[&survey[..], &["-o", "yaml"]].concat()).await;
    assert_eq!(taken(&scene, &suggested.stdout).await, 2, "{}", told(&suggested));
    let left = run(&scene, &[&survey[..], &["--max-requests", "0"]].concat()).await;
    assert!(
        told(&left).contains("2 images were not looked at"),
        "{}",
        told(&left)
    );
}

/// Fails on a build that asks the operator alone.
#[tokio::test]
async fn a_diff_predicts_nothing_of_what_the_api_server_does_not_take() {
    let (scene, _) = Scene::shared("not-taken").await;
    let old = scene.signer("old", "release", "Active").await;
    let other = scene.cosign.generate_key_pair("other").await.unwrap();
    let gone = scene.signer("gone", "release", "Revoked").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("change.json");
    let diff = async |change: Value| {
        std::fs::write(&file, change.to_string()).unwrap();
        run(&scene, &["diff", "-f", file.to_str().unwrap()]).await
    };
    let mut moved = scene.signing_key("old", "release", "Active", &old);
    moved["spec"]["keyRing"] = "another".into();
    for (change, says) in [
        (scene.signing_key("old", "release", "Active", &other), "immutable"),
        (moved, "immutable"),
        (scene.signing_key("gone", "release", "Active", &gone), "Revoked"),
    ] {
        let refused = diff(change).await;
        let said = told(&refused);
        assert!(code(&refused) == 2 && said.contains(says), "{said}");
        assert!(!said.contains("newly failing"), "{said}");
    }
    // What it takes is predicted, a new object among it.
    let retiring = diff(scene.signing_key("old", "release", "Retiring", &old)).await;
    assert_eq!(code(&retiring), 0, "{}", told(&retiring));
    let new = diff(scene.signing_key("new", "release", "Staged", &other)).await;
    assert_eq!(code(&new), 0, "{}", told(&new));
    let objects = scene.kubectl(&["get", "signingkeys", "-o", "name"]).await;
    assert!(!objects.contains(&scene.unique("new")), "nothing is applied");
}
