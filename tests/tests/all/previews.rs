//! PolicyPreviews: what a change would do is said before it is made, and nothing is applied.

use serde_json::{Value, json};
use testkit::eventually;

use crate::manifests::with;
use crate::scene::{PATIENCE, Scene, condition, condition_in, simple};
use crate::servers::servers;

fn preview(name: &str, changes: Value) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "PolicyPreview",
        "metadata": {"name": name},
        "spec": {"changes": changes},
    })
}

/// Creates a preview, waits as a pipeline would, and gives the status.
async fn previewed(scene: &Scene, name: &str, condition: &str, changes: Value) -> Value {
    let name = scene.unique(name);
    scene.create(&[preview(&name, changes)]).await;
    let wait = format!("--for=condition=Complete={condition}");
    scene
        .kubectl(&["wait", &wait, "policypreview", &name, "--timeout=60s"])
        .await;
    let text = scene
        .kubectl(&["get", "policypreview", &name, "-o", "jsonpath={.status}"])
        .await;
    serde_json::from_str(&text).unwrap()
}

fn totals(status: &Value) -> [&Value; 4] {
    ["newlyFailingTotal", "newlyPassingTotal", "unchanged", "unknown"].map(|name| &status[name])
}

/// C5.04, C5.08.
#[tokio::test]
async fn c5_04_a_preview_says_what_a_change_would_do_and_applies_nothing() {
    let (scene, _) = Scene::shared("preview").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let image = scene
        .signed_image(registry, &format!("preview/{}", scene.name()), &release)
        .await;
    let bare = scene
        .image(registry, &format!("preview/{}/bare", scene.name()))
        .await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
            simple("bare", &bare.by_tag()),
        ])
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    scene.says("deployment-bare", "False/SignatureMissing").await;

    let revoked = scene.signing_key("release", "release", "Revoked", &release);
    let status = previewed(&scene, "revoke", "True", json!([{"apply": revoked}])).await;
    assert_eq!(
        totals(&status),
        [&json!(1), &json!(0), &json!(1), &json!(0)],
        "{status:#}"
    );
    let result = json!({
        "namespace": scene.name(), "workload": "Deployment/web", "image": image.by_tag(), "digest": image.digest,
        "policy": scene.unique("signed"), "reason": "KeyRevoked",
    });
    assert_eq!(status["newlyFailing"], json!([result]));
    let still = scene.compliance("deployment-web").await.unwrap();
    assert_eq!(condition(&still), "True/AllVerified", "nothing is applied");
    let key = scene.key_status("release", |_| true).await;
    assert_eq!(key["effectiveStage"], "Active");

    let narrower = with(
        scene.policy("signed", "release", json!({})),
        json!({"spec": {"match": {"excludeImages": ["**/bare"]}}}),
    );
    let next = scene.signing_key("release", "other", "Active", &release);
    let both = json!([{"apply": narrower}, {"apply": with(next, json!({"metadata": {"name": scene.unique("next")}}))}]);
    let status = previewed(&scene, "exclude", "True", both).await;
    assert_eq!(
        totals(&status),
        [&json!(0), &json!(1), &json!(1), &json!(0)],
        "{status:#}"
    );
    assert_eq!(status["newlyPassing"][0]["reason"], "NotCovered");

    // Who signed one of them is not known without a key; nobody signed the other one.
    let nobodys = scene.policy("more", "nobody", json!({}));
    let status = previewed(&scene, "unknown", "True", json!([{"apply": nobodys}])).await;
    assert_eq!(
        totals(&status),
        [&json!(1), &json!(0), &json!(0), &json!(1)],
        "{status:#}"
    );

    let misspelt = with(
        scene.policy("signed", "release", json!({})),
        json!({"spec": {"matches": {}}}),
    );
    let status = previewed(&scene, "bad", "False", json!([{"apply": misspelt}])).await;
    let said = condition_in(&status, "Complete");
    assert_eq!(said, "False/Invalid", "{status:#}");
    assert!(
        status["conditions"][0]["message"]
            .as_str()
            .unwrap()
            .contains("spec.changes[0].apply: unknown field spec.matches"),
        "{status:#}"
    );
    assert_eq!(status.get("newlyFailingTotal"), None);
}

#[tokio::test]
async fn a_preview_is_removed_after_its_time_and_one_that_asks_for_another_kind_is_refused() {
    let (scene, _) = Scene::shared("preview-end").await;
    let name = scene.unique("short");
    let delete = json!([{"delete": {"kind": "ImagePolicy", "name": scene.unique("none")}}]);
    let short = with(preview(&name, delete), json!({"spec": {"ttl": "2s"}}));
    scene.create(&[short]).await;
    let gone = async || {
        let found = scene
            .kubectl(&["get", "policypreview", &name, "--ignore-not-found", "-o", "name"])
            .await;
        match found.is_empty() {
            true => Ok(()),
            false => Err(found),
        }
    };
    eventually("the preview to be removed", PATIENCE, gone)
        .await
        .unwrap();

    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    for (changes, says) in [
        (
            json!([{"apply": pod}]),
            "must be a SigningKey, an ImagePolicy, a KeyRevocation or an ImageException",
        ),
        (json!([{}]), "exactly one of apply and delete is needed"),
        (json!([]), "spec.changes"),
        (
            json!([{"delete": {"kind": "Pod", "name": "p"}}]),
            "Unsupported value",
        ),
    ] {
        let object = preview(&scene.unique("bad"), changes).to_string();
        let output = scene
            .cluster
            .kubectl_output(&["create", "-f", "-"], &object)
            .await
            .unwrap();
        assert!(!output.succeeded() && output.stderr.contains(says), "{output:?}");
    }
}
