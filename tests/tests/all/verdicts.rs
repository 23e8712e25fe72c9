//! Verdicts and reasons through the operator: every kind of container, every shape of imageID, every reason.

use serde_json::{Value, json};
use testkit::node::annotation;
use testkit::{Format, Runtime, digest_of};

use crate::manifests::{PEM, with};
use crate::scene::{PATIENCE, Scene, condition, condition_in, condition_of, containers, deployment, simple};
use crate::servers::servers;

/// C1.01, C1.02, C1.03, C1.11, C5.18, B24, B25.
#[tokio::test]
async fn c1_01_c1_02_c1_11_every_container_of_every_kind_is_judged_by_what_it_runs() {
    let (scene, _) = Scene::shared("container-kinds").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let stranger = scene.cosign.generate_key_pair("stranger").await.unwrap();
    let signed = scene.signed_image(registry, "kinds/signed", &release).await;
    let foreign = scene.signed_image(registry, "kinds/foreign", &stranger).await;
    let unsigned = scene.image(registry, "kinds/unsigned").await;
    let volume = scene.image(registry, "kinds/volume").await;
    let spec = json!({
        "initContainers": [
            {"name": "setup", "image": foreign.by_tag()},
            {"name": "proxy", "image": signed.by_tag(), "restartPolicy": "Always"},
        ],
        "containers": [{"name": "web", "image": signed.by_tag()}, {"name": "log", "image": unsigned.by_tag()}],
        "volumes": [
            {"name": "pinned", "image": {"reference": volume.by_digest()}},
            {"name": "tagged", "image": {"reference": volume.by_tag()}},
        ],
    });
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            deployment("web", spec, json!({})),
        ])
        .await;
    scene.says("deployment-web", "False/SignerNotTrusted").await;
    let pod = scene
        .kubectl(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"])
        .await;
    let ephemeral = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": foreign.by_tag()}]}});
    let arguments = [
        "patch",
        "pod",
        &pod,
        "--subresource=ephemeralcontainers",
        "-p",
        &ephemeral.to_string(),
    ];
    scene.kubectl(&arguments).await;
    let expected = [
        "Container log: Violating/SignatureMissing",
        "Container web: Compliant/AllVerified",
        "Ephemeral debug: Violating/SignerNotTrusted",
        "ImageVolume pinned: Violating/SignatureMissing",
        "ImageVolume tagged: Unknown/DigestUnresolved",
        "Init setup: Violating/SignerNotTrusted",
        "Sidecar proxy: Compliant/AllVerified",
    ];
    let holds = |compliance: &_| containers(compliance) == expected;
    let written = scene
        .until("deployment-web", "every container", PATIENCE, holds)
        .await;
    for image in &written.status.images {
        let compliant = image.policies[0].verdict == api::Verdict::Compliant;
        assert_eq!(image.policies[0].message.is_none(), compliant, "{image:?}");
        let wanted = [&signed, &foreign, &unsigned, &volume]
            .into_iter()
            .find(|pushed| image.image.starts_with(&pushed.repository));
        let resolved = image.policies[0].reason != api::Reason::DigestUnresolved;
        assert_eq!(
            image.digest,
            if resolved {
                wanted.unwrap().digest.as_str()
            } else {
                ""
            },
            "{image:?}"
        );
    }
    assert_eq!(written.status.verdict, Some(api::Verdict::Violating));
}

/// C3.07, C3.08, B32, B33.
#[tokio::test]
async fn c3_07_c3_08_every_shape_of_image_id_gives_the_digest_that_runs_or_says_that_it_cannot() {
    let (scene, _) = Scene::shared("image-ids").await;
    let registry = &servers().await.distribution;
    let release = scene.signer("release", "release", "Active").await;
    let index = registry
        .writer()
        .push_index("ids/index", scene.name(), scene.name(), true)
        .await
        .unwrap();
    scene
        .cosign
        .sign(&index.index.by_digest(), &release, Format::Tag)
        .await
        .unwrap();
    let annotated = |name: &str, annotations: Value| {
        let spec = json!({"containers": [{"name": "main", "image": index.index.by_tag()}]});
        deployment(name, spec, annotations)
    };
    let mut objects = vec![scene.policy("signed", "release", json!({}))];
    objects.extend(
        Runtime::ALL.map(|runtime| annotated(runtime.name(), json!({(annotation::RUNTIME): runtime.name()}))),
    );
    let image_id = format!("{}.main", annotation::IMAGE_ID);
    let other = registry
        .writer()
        .push_image("ids/other", scene.name(), "other")
        .await
        .unwrap();
    // The node pulled the content under another name first, or runs what the tag does not say.
    objects.push(annotated(
        "pulled-as",
        json!({(annotation::PULLED_AS): "mirror.example/a/b"}),
    ));
    objects.push(annotated(
        "stale-tag",
        json!({(image_id.as_str()): other.by_digest()}),
    ));
    objects.push(annotated(
        "sha512",
        json!({(image_id.as_str()): format!("r/a@sha512:{}", "0".repeat(128))}),
    ));
    objects.push(annotated("garbage", json!({(image_id.as_str()): "sha256:../.."})));
    scene.create(&objects).await;
    let expected = [
        ("containerd", "True/AllVerified", &index.index.digest),
        ("crio-platform", "True/AllVerified", &index.amd64.digest),
        ("crio-index", "True/AllVerified", &index.index.digest),
        ("crio-bare-id", "Unknown/DigestUnresolved", &String::new()),
        ("cri-dockerd", "True/AllVerified", &index.index.digest),
        ("cri-dockerd-config", "Unknown/DigestUnresolved", &String::new()),
        (
            "loaded-without-registry",
            "Unknown/DigestUnresolved",
            &String::new(),
        ),
        ("not-started", "Unknown/Pending", &String::new()),
        ("pulled-as", "True/AllVerified", &index.index.digest),
        ("stale-tag", "Unknown/ImageNotFound", &other.digest),
        ("garbage", "Unknown/DigestUnresolved", &String::new()),
    ];
    for (name, says, digest) in expected {
        let written = scene.says(&format!("deployment-{name}"), says).await;
        assert_eq!(&written.status.images[0].digest, digest, "{name}");
    }
    let written = scene
        .until("deployment-sha512", "an answer", PATIENCE, |written| {
            condition(written) != "Unknown/Pending"
        })
        .await;
    assert_eq!(written.status.verdict, Some(api::Verdict::Unknown), "{written:?}");
}

/// C5.01, C3.09, B34.
#[tokio::test]
async fn c5_01_each_reason_that_lies_in_signatures_and_keys_is_given() {
    let (scene, _) = Scene::shared("signature-reasons").await;
    let [distribution, referrers] = [&servers().await.distribution, &servers().await.referrers];
    let mut objects = vec![
        scene.policy("signed", "release", json!({"spec": {"match": {"excludeImages": ["**/special-*"]}}})),
        scene.policy("platform", "release", json!({"spec": {"match": {"images": ["**/special-platform"]}, "multiArch": {"accept": "Platform"}}})),
        scene.policy("pinned", "release", json!({"spec": {"match": {"images": ["**/special-tag"]}, "requireDigest": true}})),
        scene.policy("absent", "no-such-ring", json!({"spec": {"match": {"images": ["**/special-key"]}}})),
        scene.policy("broken", "release", json!({"spec": {
            "match": {"images": ["**/special-policy"]},
            "recheck": {"interval": null, "schedule": "0 3 * * *", "timeZone": "Mars/Phobos"}}})),
        scene.policy("two", "release", json!({"spec": {"match": {"images": ["**/special-two"]}, "require": [
            {"name": "both", "signature": {"signedBy": [scene.unique("release"), scene.unique("review")], "minimum": 2}}]}})),
    ];
    let active = scene.signer("active", "release", "Active").await;
    scene.signer("review", "review", "Active").await;
    let expired = scene.cosign.generate_key_pair("expired").await.unwrap();
    let past = json!({"spec": {"notAfter": "2020-01-01T00:00:00Z"}});
    objects.push(with(
        scene.signing_key("expired", "release", "Active", &expired),
        past,
    ));
    let stranger = scene.cosign.generate_key_pair("stranger").await.unwrap();
    let mut cases = Vec::new();
    for (name, stage, says) in [
        ("staged", "Staged", "False/KeyStaged"),
        ("retiring", "Retiring", "True/AllVerified"),
        ("disabled", "Disabled", "False/KeyDisabled"),
        ("revoked", "Revoked", "False/KeyRevoked"),
    ] {
        let pair = scene.signer(name, "release", stage).await;
        let image = scene
            .signed_image(distribution, &format!("reasons/{name}"), &pair)
            .await;
        cases.push((name, image.by_tag(), says));
    }
    for (name, pair, says) in [
        ("active", &active, "True/AllVerified"),
        ("expired", &expired, "False/KeyExpired"),
        ("stranger", &stranger, "False/SignerNotTrusted"),
        ("special-two", &active, "False/TooFewSigners"),
        ("special-tag", &active, "False/TagNotPinned"),
        ("special-key", &active, "Unknown/KeyMissing"),
        ("special-policy", &active, "Unknown/PolicyInvalid"),
    ] {
        let image = scene
            .signed_image(referrers, &format!("reasons/{name}"), pair)
            .await;
        cases.push((name, image.by_tag(), says));
    }
    cases.push((
        "missing",
        scene.image(referrers, "reasons/missing").await.by_tag(),
        "False/SignatureMissing",
    ));
    let attested = scene.image(referrers, "reasons/attested").await;
    let predicate = json!({"approved": true});
    scene
        .cosign
        .attest(
            &attested.by_digest(),
            &active,
            "https://example.com/review/v1",
            &predicate,
            Format::Bundle,
        )
        .await
        .unwrap();
    cases.push(("attested", attested.by_tag(), "False/SignatureMissing"));
    // A genuine signature of another image.
    let other = scene.signed_image(distribution, "reasons/invalid", &active).await;
    let invalid = distribution
        .writer()
        .push_image("reasons/invalid", "invalid", scene.name())
        .await
        .unwrap();
    let signature = distribution
        .writer()
        .manifest("reasons/invalid", &other.signature_tag())
        .await
        .unwrap()
        .unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let tag = invalid.signature_tag();
    distribution
        .writer()
        .put_manifest("reasons/invalid", Some(&tag), media_type, &signature)
        .await
        .unwrap();
    cases.push(("invalid", invalid.by_digest(), "False/SignatureInvalid"));
    let children = distribution
        .writer()
        .push_index("reasons/children", scene.name(), scene.name(), true)
        .await
        .unwrap();
    for child in [&children.amd64, &children.arm64] {
        scene
            .cosign
            .sign(&child.by_digest(), &active, Format::Tag)
            .await
            .unwrap();
    }
    cases.push(("children", children.index.by_tag(), "False/IndexNotSigned"));
    let platform = distribution
        .writer()
        .push_index("reasons/special-platform", scene.name(), scene.name(), true)
        .await
        .unwrap();
    for child in [&platform.amd64, &platform.arm64] {
        scene
            .cosign
            .sign(&child.by_digest(), &active, Format::Tag)
            .await
            .unwrap();
    }
    cases.push(("special-platform", platform.index.by_tag(), "True/AllVerified"));
    objects.extend(cases.iter().map(|(name, image, _)| simple(name, image)));
    scene.create(&objects).await;
    for (name, _, says) in &cases {
        let written = scene.says(&format!("deployment-{name}"), says).await;
        let message = written.status.conditions[0].message.as_str();
        assert!(message.chars().count() <= 600, "{name}: {message}");
    }
    let broken = scene
        .policy_status("broken", |status| {
            condition_in(status, "Ready") == "False/PolicyInvalid"
        })
        .await;
    assert!(broken.to_string().contains("spec.recheck.timeZone"), "{broken}");
    scene
        .policy_status("absent", |status| {
            condition_in(status, "Ready") == "False/KeyMissing"
        })
        .await;
}

/// F01, F02, B42: trouble is Unknown, never a violation.
#[tokio::test]
async fn c5_14_each_reason_that_lies_in_the_registry_is_given_and_none_is_a_violation() {
    let (scene, shared) = Scene::shared("registry-reasons").await;
    scene.signer("release", "release", "Active").await;
    let strange = &shared.strange;
    let digest = digest_of(b"anything");
    let image_id = format!("{}.main", annotation::IMAGE_ID);
    let running = |name: &str, host: &str| {
        // No kubelet could pull this: what runs was pulled before.
        let image = format!("{host}/shop/{name}@{digest}");
        let spec = json!({"containers": [{"name": "main", "image": image}]});
        deployment(name, spec, json!({(image_id.as_str()): image}))
    };
    let cases = [
        ("denied", strange.denying.host(), "Unknown/RegistryDenied"),
        ("limited", strange.busy.host(), "Unknown/RateLimited"),
        ("huge", strange.huge.host(), "Unknown/EvidenceTooLarge"),
        ("wrong-hash", strange.lying.host(), "Unknown/RegistryUnavailable"),
        ("closed", "127.0.0.1:1".to_owned(), "Unknown/RegistryUnavailable"),
        (
            "not-there",
            servers().await.distribution.host(),
            "Unknown/ImageNotFound",
        ),
    ];
    // Without it the host is internal, and refused before anybody finds out that nothing listens.
    let opened = json!({"apiVersion": "assay.dev/v1alpha1", "kind": "RegistryConfig", "metadata": {"name": scene.unique("closed")},
        "spec": {"prefix": "127.0.0.1:1"}});
    let mut objects = vec![scene.policy("signed", "release", json!({})), opened];
    objects.extend(cases.iter().map(|(name, host, _)| running(name, host)));
    let unparsable = "r.example/App:1";
    objects.push(deployment(
        "unparsable",
        json!({"containers": [{"name": "main", "image": unparsable}]}),
        json!({(image_id.as_str()): format!("r.example/app@{digest}")}),
    ));
    scene.create(&objects).await;
    for (name, _, says) in &cases {
        let written = scene.says(&format!("deployment-{name}"), says).await;
        assert_eq!(written.status.images[0].digest, digest, "{name}");
        let message = written.status.images[0].policies[0]
            .message
            .clone()
            .unwrap_or_default();
        assert!(
            !message.is_empty() && message.chars().count() <= 512,
            "{name}: {message}"
        );
    }
    scene
        .says("deployment-unparsable", "Unknown/DigestUnresolved")
        .await;
    let sent = strange.huge.sent();
    assert!(sent < 200 << 20, "{sent} bytes of 200 MB were sent");
    let asked = strange.busy.requests().len();
    assert!(asked <= 4, "a registry that asks to wait was asked {asked} times");
}

/// C5.07, C5.17, F10: what counts, and what only shows.
#[tokio::test]
async fn c5_07_the_table_of_the_conditions_holds_through_the_operator() {
    let (scene, shared) = Scene::shared("conditions").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let good = scene
        .signed_image(registry, "conditions/covered-good", &release)
        .await;
    let bad = scene.image(registry, "conditions/covered-bad").await;
    let free = scene.image(registry, "conditions/free").await;
    let two = |one: &str, other: &str| json!({"containers": [{"name": "one", "image": one}, {"name": "two", "image": other}]});
    let covered = json!({"spec": {"match": {"images": ["**/covered-*"]}}});
    let asleep = with(simple("asleep", &good.by_tag()), json!({"spec": {"replicas": 0}}));
    scene
        .create(&[
            scene.policy("signed", "release", covered.clone()),
            simple("good", &good.by_tag()),
            simple("bad", &bad.by_tag()),
            simple("free", &free.by_tag()),
            deployment("partly", two(&good.by_tag(), &free.by_tag()), json!({})),
            deployment("worst", two(&bad.by_tag(), &good.by_tag()), json!({})),
            asleep,
        ])
        .await;
    scene.says("deployment-good", "True/AllVerified").await;
    scene.says("deployment-bad", "False/SignatureMissing").await;
    scene.says("deployment-partly", "True/PartlyCovered").await;
    scene.says("deployment-worst", "False/SignatureMissing").await;
    assert!(
        scene.compliance("deployment-free").await.is_none(),
        "nothing is written about what no policy covers"
    );
    let uncovered = format!("assay_uncovered_workloads{{namespace=\"{}\"}}", scene.name());
    shared.operator.until_metric(&uncovered, 1.0).await;
    scene
        .kubectl(&["scale", "deployment", "good", "--replicas=0"])
        .await;
    scene.says("deployment-good", "Unknown/NothingRunning").await;
    scene
        .kubectl(&["scale", "deployment", "good", "--replicas=2"])
        .await;
    scene.says("deployment-good", "True/AllVerified").await;

    let dry = scene.unique("signed");
    scene
        .patch(
            "imagepolicies.assay.dev",
            &dry,
            &json!({"spec": {"mode": "DryRun"}}),
        )
        .await;
    let written = scene.says("deployment-bad", "Unknown/DryRunOnly").await;
    assert_eq!(
        condition_of(&written, "DryRunCompliant"),
        "False/SignatureMissing"
    );
    assert_eq!(written.status.verdict, Some(api::Verdict::NotCovered));
    let written = scene.says("deployment-good", "Unknown/DryRunOnly").await;
    assert_eq!(condition_of(&written, "DryRunCompliant"), "True/AllVerified");
    let status = scene
        .policy_status("signed", |status| {
            condition_in(status, "Enforced") == "False/DryRun"
        })
        .await;
    assert_eq!(condition_in(&status, "Ready"), "True/PolicyCompiled");

    scene
        .patch(
            "imagepolicies.assay.dev",
            &dry,
            &json!({"spec": {"mode": "Warn"}}),
        )
        .await;
    let written = scene.says("deployment-bad", "False/SignatureMissing").await;
    assert_eq!(condition_of(&written, "DryRunCompliant"), "");
    scene
        .policy_status("signed", |status| {
            condition_in(status, "Enforced") == "False/WebhookNotInstalled"
        })
        .await;
    let counts = |status: &Value| {
        [
            "workloads",
            "compliant",
            "violating",
            "unknown",
            "violationsTotal",
        ]
        .map(|name| status[name].as_i64())
    };
    let expected = [Some(4), Some(2), Some(2), Some(0), Some(2)];
    let status = scene
        .policy_status("signed", |status| counts(status) == expected)
        .await;
    assert_eq!(status["violations"][0]["workload"], "Deployment/bad", "{status}");
    assert_eq!(status["violations"][0]["reason"], "SignatureMissing");
}

/// F09, C5.21: a key that parses as PEM and is none.
#[tokio::test]
async fn f09_a_key_that_cannot_be_read_is_said_and_its_ring_has_no_answer() {
    let (scene, shared) = Scene::shared("unreadable-key").await;
    let stranger = scene.cosign.generate_key_pair("stranger").await.unwrap();
    let image = scene
        .signed_image(&servers().await.referrers, "unreadable/key", &stranger)
        .await;
    let broken = PEM.replace("MFkw", "MFkx");
    let key = crate::manifests::key(&scene.unique("broken"), &scene.unique("release"), &broken);
    scene
        .create(&[
            key,
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    let written = scene.says("deployment-web", "Unknown/KeyMissing").await;
    let message = written.status.images[0].policies[0].message.clone().unwrap();
    assert!(message.contains(&scene.unique("broken")), "{message}");
    scene
        .key_status("broken", |status| {
            condition_in(status, "Ready") == "False/KeyInvalid"
        })
        .await;
    let metric = format!("assay_key_ready{{key=\"{}\"}}", scene.unique("broken"));
    shared.operator.until_metric(&metric, 0.0).await;
}
