//! Which indexes vouch for a platform manifest that runs: only those that list it, as what it is, for a real platform.

use serde_json::{Value, json};
use testkit::{Format, PushedIndex, node::annotation};

use crate::scene::{Scene, deployment};
use crate::servers::servers;

fn running(name: &str, image: &str, image_id: &str) -> Value {
    let annotated = format!("{}.main", annotation::IMAGE_ID);
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    deployment(name, spec, json!({(annotated.as_str()): image_id}))
}

/// B51, B34. Weakened once: with every child of an index taken for what runs in `lists`, `moved` says True/AllVerified;
/// with `is_for_a_real_platform` left out there, `attestation` does.
#[tokio::test]
async fn b51_b34_only_an_index_that_lists_what_runs_for_a_real_platform_vouches_for_it() {
    let (scene, _) = Scene::shared("indexes").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let push = async |tag: &str, seed: &str| -> PushedIndex {
        registry
            .writer()
            .push_index("indexes/app", tag, &format!("{} {seed}", scene.name()), true)
            .await
            .unwrap()
    };
    let tag = scene.name();
    let unsigned = push(tag, "old").await;
    let signed = push(tag, "new").await;
    scene
        .cosign
        .sign(&signed.index.by_digest(), &release, Format::Tag)
        .await
        .unwrap();
    let attestation = signed.attestation.as_ref().unwrap();
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            running("listed", &signed.index.by_tag(), &signed.amd64.by_digest()),
            // The tag was moved to a signed index while a manifest of the old one runs on.
            running("moved", &signed.index.by_tag(), &unsigned.amd64.by_digest()),
            // Listed, but as unknown/unknown: no platform runs it.
            running("attestation", &signed.index.by_tag(), &attestation.by_digest()),
            // Nothing that any workload of this platform names leads to the index.
            running(
                "unrelated",
                &unsigned.index.by_digest(),
                &signed.arm64.by_digest(),
            ),
        ])
        .await;
    for (name, says) in [
        ("listed", "True/AllVerified"),
        ("moved", "False/SignatureMissing"),
        ("attestation", "False/SignatureMissing"),
        ("unrelated", "False/SignatureMissing"),
    ] {
        let written = scene.says(&format!("deployment-{name}"), says).await;
        assert_eq!(written.status.images.len(), 1, "{name}");
    }
}
