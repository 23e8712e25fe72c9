//! A release key leaked at night, where Git manages the SigningKeys.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Format, Pushed};

use super::git::Git;
use super::witness::{Truth, Witness};
use super::{code, names, run, told};
use crate::scene::{Scene, condition, simple};
use crate::servers::servers;

const GOOD: [&str; 3] = ["web", "cart", "pay"];

/// C5.03: freeze, revoke, sign anew, lift. What was known to be good is good all the time, what the thief signed is good
/// never, and the controller that applies Git is in nobody's way.
/// Fails on a build in which a revocation honours nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_03_a_leaked_key_is_frozen_revoked_and_replaced_without_a_good_workload_called_bad() {
    let (scene, _) = Scene::shared("leak").await;
    let registry = &servers().await.distribution;
    let leaked = scene.cosign.generate_key_pair("leaked").await.unwrap();
    let next = scene.cosign.generate_key_pair("next").await.unwrap();
    let mut images: Vec<Pushed> = Vec::new();
    for name in GOOD {
        let repository = format!("leak/{}/{name}", scene.name());
        images.push(scene.signed_image(registry, &repository, &leaked).await);
    }
    let key = scene.signing_key("leaked", "release", "Active", &leaked);
    let often = json!({"spec": {"recheck": {"interval": "4s"}}});
    let policy = scene.policy("signed", "release", often);
    let git = Git::with(&scene, &[("leaked", key), ("policy", policy)]).await;
    let workloads: Vec<Value> = GOOD
        .iter()
        .zip(&images)
        .map(|(name, image)| simple(name, &image.by_tag()))
        .collect();
    scene.create(&workloads).await;
    for name in GOOD {
        scene
            .says(&format!("deployment-{name}"), "True/AllVerified")
            .await;
    }
    let name = scene.unique("leaked");
    let status = scene
        .key_status("leaked", |status| status["soleTrust"]["workloads"] == 3)
        .await;
    let fingerprint = status["fingerprint"].as_str().unwrap().to_owned();
    let witness = Witness::of(&scene, &name, Truth::default()).await;

    // A stage that is set by hand is put back at once, so it is no help at night.
    witness.now(|truth| truth.falling = GOOD.map(str::to_owned).into());
    scene
        .patch("signingkey", &name, &json!({"spec": {"stage": "Disabled"}}))
        .await;
    git.is_applied().await;
    // Everything was Active before as well: what counts is that both changes were read.
    let generation = [
        "get",
        "signingkey",
        &name,
        "-o",
        "jsonpath={.metadata.generation}",
    ];
    let generation: i64 = scene.kubectl(&generation).await.parse().unwrap();
    let active = scene
        .key_status("leaked", |status| {
            status["effectiveStage"] == "Active" && status["observedGeneration"] == generation
        })
        .await;
    assert_eq!(active["fingerprint"], fingerprint);
    for name in GOOD {
        let healed = scene
            .says(&format!("deployment-{name}"), "True/AllVerified")
            .await;
        witness.has_read(&healed).await;
    }
    witness.now(|truth| truth.falling.clear());

    // Freeze: a Hold that honours exactly what runs.
    let freeze = [
        "key",
        "freeze",
        &name,
        "--note",
        "laptop lost",
        "--accept-unknown",
    ];
    let frozen = run(&scene, &freeze).await;
    assert_eq!(code(&frozen), 0, "{}", told(&frozen));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hold.yaml");
    std::fs::write(&file, &frozen.stdout).unwrap();
    apply(&scene, &file).await;
    scene
        .key_status("leaked", |status| status["effectiveStage"] == "Disabled")
        .await;

    // The thief signs an image of their own.
    witness.now(|truth| truth.bad = names(["thief"]));
    let repository = format!("leak/{}/thief", scene.name());
    let thief = scene.signed_image(registry, &repository, &leaked).await;
    scene.create(&[simple("thief", &thief.by_tag())]).await;
    scene.says("deployment-thief", "False/KeyDisabled").await;

    // It is certain: the Hold becomes a revocation, and the list stays.
    let revoke = ["key", "revoke", &name, "--reason", "KeyCompromise", "--yes"];
    let expected = ["--expect-failing", "0"];
    let revoked = run(&scene, &[&revoke[..], &expected].concat()).await;
    assert_eq!(code(&revoked), 0, "{}", told(&revoked));
    scene.says("deployment-thief", "False/KeyRevoked").await;
    let honoured = revocation(&scene, &fingerprint).await;
    assert_eq!(honoured["spec"]["reason"], "KeyCompromise");
    assert_eq!(honoured["spec"]["honourDigests"].as_array().unwrap().len(), 3);

    // In the morning: the next key by Git, and everything that is good is signed anew.
    let next_key = scene.signing_key("next", "release", "Active", &next);
    git.commit("next", &next_key).await;
    for image in &images {
        scene
            .cosign
            .sign(&image.by_digest(), &next, Format::Tag)
            .await
            .unwrap();
    }
    scene.key_status("next", |status| status["images"] == 3).await;
    let retired = scene.signing_key("leaked", "release", "Revoked", &leaked);
    git.commit("leaked", &retired).await;

    // Lift what was frozen: from now on the leaked key counts for nothing, and nothing falls.
    let lifted = json!({"spec": {"honourDigests": []}});
    scene.patch("keyrevocation", &fingerprint, &lifted).await;
    scene
        .key_status("leaked", |status| status["soleTrust"]["workloads"] == 0)
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    for name in GOOD {
        let written = scene.compliance(&format!("deployment-{name}")).await.unwrap();
        assert_eq!(condition(&written), "True/AllVerified", "{name}");
    }
    let thief = scene.compliance("deployment-thief").await.unwrap();
    assert_eq!(condition(&thief), "False/KeyRevoked");
    assert_eq!(git.refused(), Vec::<String>::new());
    println!("{} writes were read", witness.saw_no_lie());
}

async fn apply(scene: &Scene, file: &Path) {
    scene.kubectl(&["apply", "-f", file.to_str().unwrap()]).await;
}

async fn revocation(scene: &Scene, fingerprint: &str) -> Value {
    let get = ["get", "keyrevocation", fingerprint, "-o", "json"];
    serde_json::from_str(&scene.kubectl(&get).await).unwrap()
}
