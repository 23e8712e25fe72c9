//! A policy from DryRun to Enforce and back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Format, KeyPair, Pushed};

use super::{Names, code, difference, names, predicted, run, told};
use crate::scene::{PATIENCE, Scene, condition_of, simple};
use crate::servers::servers;

/// A little longer than the soak that is asked for.
const SOAK: Duration = Duration::from_secs(3);

/// C5.07, C5.08, C5.09: a policy that was clean in a dry run for its soak is promoted; what that breaks is said before,
/// and to go back is one change.
/// Fails on a build in which a soak of any length is over, in which what the policy finds does not matter, and in which a
/// recheck is written under the name of whoever promotes.
#[tokio::test]
async fn c5_09_a_policy_is_promoted_after_its_soak_and_goes_back_by_one_change() {
    let (scene, _) = Scene::shared("promotion").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let repository = format!("promotion/{}", scene.name());
    let good = scene
        .signed_image(registry, &format!("{repository}/good"), &release)
        .await;
    let bad = scene.image(registry, &format!("{repository}/bad")).await;
    let often = json!({"spec": {"mode": "DryRun", "recheck": {"interval": "4s"}}});
    let policy = scene.policy("signed", "release", often);
    scene
        .create(&[
            policy.clone(),
            simple("good", &good.by_tag()),
            simple("bad", &bad.by_tag()),
        ])
        .await;
    dry_run_says(&scene, "deployment-good", "True/AllVerified").await;
    dry_run_says(&scene, "deployment-bad", "False/SignatureMissing").await;
    scene.says("deployment-bad", "Unknown/DryRunOnly").await;

    // What Enforce would break is known while it breaks nothing.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("enforced.json");
    let mut enforced = policy;
    enforced["spec"]["mode"] = "Enforce".into();
    std::fs::write(&file, enforced.to_string()).unwrap();
    let diff = ["diff", "-f", file.to_str().unwrap()];
    assert_eq!(predicted(&scene, &diff).await.0, names(["bad"]));
    let name = scene.unique("signed");
    let promote = ["policy", "promote", &name, "--to", "Enforce", "--yes"];
    let young = run(&scene, &[&promote[..], &["--soak", "1h"]].concat()).await;
    assert!(
        code(&young) == 1 && told(&young).contains("are left"),
        "{}",
        told(&young)
    );
    tokio::time::sleep(SOAK).await;
    let unclean = run(&scene, &[&promote[..], &["--soak", "2s"]].concat()).await;
    assert!(
        code(&unclean) == 1 && told(&unclean).contains("Deployment/bad (SignatureMissing)"),
        "{}",
        told(&unclean)
    );
    let promote = [&promote[..], &["--accept-unclean"]].concat();
    let breaks = run(&scene, &[&promote[..], &["--soak", "2s"]].concat()).await;
    assert!(
        code(&breaks) == 1 && told(&breaks).contains("newly fail"),
        "{}",
        told(&breaks)
    );
    scene.says("deployment-bad", "Unknown/DryRunOnly").await;

    // Taken all the same, it breaks what was said; one change takes it back.
    let taken = [&promote[..], &["--soak", "2s", "--expect-failing", "1"]].concat();
    step(&scene, &taken).await;
    scene.says("deployment-bad", "False/SignatureMissing").await;
    scene.says("deployment-good", "True/AllVerified").await;
    excepted_both_ways(&scene, &bad).await;
    let back = ["policy", "promote", &name, "--to", "DryRun", "--yes"];
    let started = Instant::now();
    step(&scene, &back).await;
    scene.says("deployment-bad", "Unknown/DryRunOnly").await;
    println!("enforcement was taken back within {:?}", started.elapsed());

    sign(&scene, &bad, &release).await;
    dry_run_says(&scene, "deployment-bad", "True/AllVerified").await;
    assert_eq!(predicted(&scene, &diff).await.0, Names::new());
    // Mode by mode now, with nothing to expect.
    for (soak, mode) in [("2s", "Warn"), ("2s", "Enforce")] {
        until_ready(&scene, &name).await;
        tokio::time::sleep(SOAK).await;
        // Whoever asks for a look does not begin the soak anew.
        step(&scene, &["recheck", &name]).await;
        step(&scene, &["policy", "promote", &name, "--soak", soak, "--yes"]).await;
        let of_spec = [
            "get",
            "imagepolicies.assay.dev",
            &name,
            "-o",
            "jsonpath={.spec.mode}",
        ];
        assert_eq!(scene.kubectl(&of_spec).await, mode);
    }
    for name in ["deployment-good", "deployment-bad"] {
        scene.says(name, "True/AllVerified").await;
    }
}

/// An exception is previewed as other changes are, by the operator and without one.
async fn excepted_both_ways(scene: &Scene, bad: &Pushed) {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let exception = json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "ImageException",
        "metadata": {"name": scene.unique("hotfix")},
        "spec": {
            "policies": [scene.unique("signed")],
            "images": ["**"],
            "namespaces": [scene.name()],
            "expires": jiff::Timestamp::from_second(end.as_second()).unwrap().to_string(),
            "reason": "the vendor signs late",
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exception.json");
    std::fs::write(&file, exception.to_string()).unwrap();
    let diff = ["diff", "-f", file.to_str().unwrap()];
    let host = servers().await.distribution.host();
    let offline = [&diff[..], &["--offline", "--insecure-registry", &host]].concat();
    for command in [&diff[..], &offline] {
        let difference = difference(scene, command).await;
        let passing = difference["newlyPassing"].as_array().unwrap();
        assert_eq!(passing.len(), 1, "{difference:#}");
        assert_eq!(passing[0]["digest"], bad.digest);
        assert_eq!(passing[0]["reason"], "Excepted");
    }
}

async fn step(scene: &Scene, command: &[&str]) {
    let taken = run(scene, command).await;
    assert_eq!(code(&taken), 0, "{}", told(&taken));
}

async fn sign(scene: &Scene, image: &Pushed, key: &KeyPair) {
    scene
        .cosign
        .sign(&image.by_digest(), key, Format::Tag)
        .await
        .unwrap();
}

/// The operator judges by the policy as it is written.
async fn until_ready(scene: &Scene, name: &str) {
    let generation = scene
        .kubectl(&[
            "get",
            "imagepolicies.assay.dev",
            name,
            "-o",
            "jsonpath={.metadata.generation}",
        ])
        .await;
    let generation: Value = generation.parse::<i64>().unwrap().into();
    scene
        .policy_status("signed", |status| status["observedGeneration"] == generation)
        .await;
}

async fn dry_run_says(scene: &Scene, name: &str, expected: &str) {
    let holds = |written: &api::ImageCompliance| condition_of(written, "DryRunCompliant") == expected;
    scene.until(name, expected, PATIENCE, holds).await;
}
