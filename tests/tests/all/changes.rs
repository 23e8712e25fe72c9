//! What happens when keys, policies, labels and signatures change: the answers follow at once, registries are not
//! asked for what is known, and each transition is told once.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{LogPosition, Registry};

use crate::operator::USER_AGENT;
use crate::scene::{PATIENCE, Scene, condition, condition_in, simple, summary};
use crate::servers::servers;

/// The operator's requests about one repository, by the registry's own log.
pub(crate) fn requests(registry: &Registry, since: LogPosition, repository: &str) -> Vec<String> {
    let of_operator = registry.access_log_since(since).unwrap().into_iter();
    of_operator
        .filter(|request| request.user_agent.starts_with(USER_AGENT))
        .filter(|request| request.path.starts_with(&format!("/v2/{repository}/")))
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

/// C5.05, C2.06: the flip is at once and needs no registry; the pod goes on running.
/// Weakened once: without the discount for revoked keys, the workloads turn to Unknown/KeyMissing, not to KeyRevoked.
#[tokio::test]
async fn c5_05_c2_06_a_revoked_key_turns_all_that_rests_on_it_without_a_request_to_the_registry() {
    let (scene, _) = Scene::shared("revocation").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let next = scene.cosign.generate_key_pair("next").await.unwrap();
    let repository = format!("revocation/{}", scene.name());
    let image = scene.signed_image(registry, &repository, &release).await;
    let names: Vec<String> = (0..5).map(|number| format!("web-{number}")).collect();
    let mut objects = vec![
        scene.policy("signed", "release", json!({})),
        scene.signing_key("next", "release", "Staged", &next),
    ];
    objects.extend(names.iter().map(|name| simple(name, &image.by_tag())));
    scene.create(&objects).await;
    for name in &names {
        scene
            .says(&format!("deployment-{name}"), "True/AllVerified")
            .await;
    }
    scene
        .key_status("release", |status| status["soleTrust"]["workloads"] == 5)
        .await;
    let status = scene
        .key_status("release", |status| {
            condition_in(status, "SafeToDisable").starts_with("False/")
        })
        .await;
    assert_eq!(status["effectiveStage"], "Active");

    let position = registry.log_position().unwrap();
    let started = Instant::now();
    scene
        .patch(
            "signingkey",
            &scene.unique("release"),
            &json!({"spec": {"stage": "Revoked"}}),
        )
        .await;
    for name in &names {
        let written = scene
            .says(&format!("deployment-{name}"), "False/KeyRevoked")
            .await;
        let message = written.status.images[0].policies[0].message.clone().unwrap();
        assert!(message.contains(&scene.unique("release")), "{message}");
    }
    println!("five workloads flipped within {:?}", started.elapsed());
    assert_eq!(requests(registry, position, &repository), Vec::<String>::new());
    scene.event("Deployment", "web-0", "BecameNonCompliant").await;
    scene
        .cluster_event("SigningKey", &scene.unique("release"), "KeyStageChanged")
        .await;
    scene
        .cluster_event("ImagePolicy", &scene.unique("signed"), "BecameNonCompliant")
        .await;
    let pods = scene
        .kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.phase}"])
        .await;
    assert_eq!(
        pods,
        ["Running"; 5].join(" "),
        "C5.10: nothing is deleted or evicted"
    );

    // The ring's next key: staged it counts for nothing, active it heals without a new policy. C5.15.
    scene
        .cosign
        .sign(&image.by_digest(), &next, testkit::Format::Tag)
        .await
        .unwrap();
    scene
        .patch(
            "signingkey",
            &scene.unique("next"),
            &json!({"spec": {"stage": "Active"}}),
        )
        .await;
    for name in &names {
        let holds = |written: &_| condition(written) == "True/AllVerified";
        scene
            .until(
                &format!("deployment-{name}"),
                "the heal",
                Duration::from_secs(100),
                holds,
            )
            .await;
    }
    scene.event("Deployment", "web-0", "BecameCompliant").await;
    let told: Vec<String> = scene
        .events(scene.name())
        .await
        .iter()
        .map(summary)
        .filter(|told| told.contains("web-0"))
        .collect();
    assert_eq!(
        told,
        [
            "Deployment/web-0 BecameNonCompliant",
            "Deployment/web-0 BecameCompliant"
        ]
    );
    scene
        .key_status("release", |status| {
            status["soleTrust"]["workloads"] == 0
                && condition_in(status, "SafeToDisable").starts_with("True/")
        })
        .await;
}

/// C5.08 in part: an edit is judged at once from what is known.
#[tokio::test]
async fn c2_06_an_edited_policy_is_judged_at_once_from_what_is_known() {
    let (scene, _) = Scene::shared("policy-edit").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    scene.signer("review", "review", "Active").await;
    let repository = format!("edit/{}", scene.name());
    let image = scene.signed_image(registry, &repository, &release).await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_digest()),
        ])
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    let position = registry.log_position().unwrap();
    let policy = scene.unique("signed");
    let trusting = |ring: &str| json!({"spec": {"require": [{"name": "signed", "signature": {"signedBy": [scene.unique(ring)]}}]}});
    scene
        .patch("imagepolicies.assay.dev", &policy, &trusting("review"))
        .await;
    let written = scene.says("deployment-web", "False/SignerNotTrusted").await;
    let message = written.status.images[0].policies[0].message.clone().unwrap();
    assert!(
        message.contains(&scene.unique("release")),
        "the signer is named: {message}"
    );
    scene
        .patch("imagepolicies.assay.dev", &policy, &trusting("release"))
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    assert_eq!(requests(registry, position, &repository), Vec::<String>::new());
    scene.cluster_event("ImagePolicy", &policy, "PolicyChanged").await;

    // F11: what cannot be evaluated leaves the last version in force and says so.
    let broken =
        json!({"spec": {"recheck": {"interval": null, "schedule": "0 3 * * *", "timeZone": "Mars/Phobos"}}});
    scene.patch("imagepolicies.assay.dev", &policy, &broken).await;
    let status = scene
        .policy_status("signed", |status| {
            condition_in(status, "Ready") == "False/PolicyInvalid"
        })
        .await;
    assert_eq!(status["inForce"]["spec"]["recheck"]["interval"], "1h", "{status}");
    assert_eq!(
        condition(&scene.compliance("deployment-web").await.unwrap()),
        "True/AllVerified"
    );
    scene
        .patch(
            "imagepolicies.assay.dev",
            &policy,
            &json!({"spec": {"recheck": {"timeZone": "Europe/Berlin"}}}),
        )
        .await;
    scene
        .policy_status("signed", |status| {
            condition_in(status, "Ready") == "True/PolicyCompiled"
        })
        .await;

    // F09: a ring without a key has no answer.
    scene
        .kubectl(&["delete", "signingkey", &scene.unique("release")])
        .await;
    scene.says("deployment-web", "Unknown/KeyMissing").await;
    scene.event("Deployment", "web", "VerdictUnknown").await;
}

/// B29, B49: whoever may label namespaces may choose, and that is told.
#[tokio::test]
async fn b29_b49_leaving_coverage_by_a_label_is_told_and_coming_back_is_judged_again() {
    let (scene, _) = Scene::shared("coverage").await;
    let image = scene.image(&servers().await.referrers, "coverage/web").await;
    scene.signer("release", "release", "Active").await;
    let selected = json!({"spec": {"match": {"namespaceSelector": {"matchLabels": {"assay-test": "on"}}}}});
    scene
        .create(&[
            scene.policy("signed", "release", selected),
            simple("web", &image.by_tag()),
        ])
        .await;
    let label = async |value: &str| {
        let labels = ["label", "--overwrite", "namespace", scene.name(), value];
        scene.cluster.kubectl(&labels).await.unwrap();
    };
    label("assay-test=on").await;
    scene.says("deployment-web", "False/SignatureMissing").await;
    label("assay-test=off").await;
    scene.says_nothing("deployment-web").await;
    scene.event("Deployment", "web", "LeftCoverage").await;
    scene
        .cluster_event("ImagePolicy", &scene.unique("signed"), "LeftCoverage")
        .await;
    label("assay-test=on").await;
    scene.says("deployment-web", "False/SignatureMissing").await;
}

/// C5.13, C5.15: a new signature is only seen by asking, and is asked for on the policy's interval.
#[tokio::test]
async fn c5_13_c5_15_a_new_signature_heals_and_a_new_digest_is_judged_anew() {
    let (scene, _) = Scene::shared("heal").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let image = scene.image(registry, "heal/web").await;
    let often = json!({"spec": {"recheck": {"interval": "2s"}}});
    scene
        .create(&[
            scene.policy("signed", "release", often),
            simple("web", &image.by_digest()),
        ])
        .await;
    let bad = scene.says("deployment-web", "False/SignatureMissing").await;
    scene
        .cosign
        .sign(&image.by_digest(), &release, testkit::Format::Bundle)
        .await
        .unwrap();
    let good = scene.says("deployment-web", "True/AllVerified").await;
    assert!(good.status.images[0].policies[0].since.0 > bad.status.images[0].policies[0].since.0);
    let other = registry
        .writer()
        .push_image("heal/web", "other", &format!("{} other", scene.name()))
        .await
        .unwrap();
    scene
        .kubectl(&[
            "set",
            "image",
            "deployment/web",
            &format!("main={}", other.by_digest()),
        ])
        .await;
    let rolled = |written: &api::ImageCompliance| {
        condition(written) == "False/SignatureMissing"
            && written.status.images.len() == 1
            && written.status.images[0].digest == other.digest
    };
    scene
        .until("deployment-web", "the new digest", PATIENCE, rolled)
        .await;
    let asked = format!("/v2/heal/web/referrers/{}", image.digest);
    let log = registry.access_log().unwrap();
    let times = log
        .iter()
        .filter(|request| request.path.starts_with(&asked))
        .count();
    assert!(times >= 2, "the referrers were asked for {times} times");
}
