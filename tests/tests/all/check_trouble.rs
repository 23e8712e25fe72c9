//! `assay check` where something is in the way: policies, keys and references that are wrong, registries that do not
//! answer as they should. None of it is ever Compliant, and none of it is a violation without proof.

use serde_json::json;
use testkit::{Format, Pushed, Server, ServerSpec, Tools, digest_of, free_port};

use crate::check_run::Desk;
use crate::manifests::{PEM, key, policy, with};
use crate::stand_in::{Answer, StandIn};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

async fn signed_image(desk: &Desk, repository: &str) -> (Pushed, serde_json::Value) {
    let pair = desk.cosign3.generate_key_pair("release").await.unwrap();
    let image = desk
        .shared
        .referrers
        .writer()
        .push_image(repository, "1", "signed")
        .await
        .unwrap();
    desk.cosign3
        .sign(&image.by_digest(), &pair, Format::Bundle)
        .await
        .unwrap();
    (image, key("release-1", "release", &pair.public_pem().unwrap()))
}

/// Weakened once: with names of namespaces or their selector instead of both, another namespace is covered.
#[tokio::test]
async fn c5_17_b23_an_image_that_no_policy_covers_is_not_covered_with_exit_code_3() {
    let desk = Desk::new("not-covered");
    let (image, key) = signed_image(&desk, "covered/web").await;
    let everywhere = policy("everywhere", "**", "release");
    let in_shop = with(
        everywhere.clone(),
        json!({"spec": {"match": {"namespaces": ["shop"]}}}),
    );
    let labelled = with(
        everywhere.clone(),
        json!({"spec": {"match": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}}}),
    );
    let without = with(
        everywhere.clone(),
        json!({"spec": {"match": {"excludeImages": ["127.0.0.1:*/covered/*"]}}}),
    );
    let elsewhere = policy("elsewhere", "r.example/**", "release");
    let cases = [
        (&in_shop, ["-n", "shop"].as_slice(), 0),
        (&in_shop, &["-n", "shop-2"], 3),
        (&in_shop, &[], 3),
        (&labelled, &["-l", "env=prod,team=a"], 0),
        (&labelled, &["-l", "env=dev"], 3),
        (&labelled, &[], 3),
        (&without, &[], 3),
        (&elsewhere, &[], 3),
    ];
    for (policy, further, code) in cases {
        let checked = desk.check(&image.by_digest(), &[&key, policy], further).await;
        assert_eq!(checked.code, code, "{policy} {further:?}: {checked:?}");
        if code == 3 {
            assert_eq!(checked.answer["verdict"], "NotCovered");
            assert_eq!(checked.answer["policies"], json!([]));
        }
    }
}

#[tokio::test]
async fn several_policies_must_all_hold_and_each_says_its_own() {
    let desk = Desk::new("several");
    let (image, key) = signed_image(&desk, "several/web").await;
    let held = policy("a-held", "**", "release");
    let dry_run = with(
        policy("b-missed", "**", "review"),
        json!({"spec": {"mode": "DryRun"}}),
    );
    let review = crate::manifests::key("review-1", "review", PEM);
    let checked = desk
        .check(&image.by_digest(), &[&key, &review, &held, &dry_run], &[])
        .await;
    let policies = &checked.answer["policies"];
    assert_eq!(policies[0]["reason"], "AllVerified", "{checked:?}");
    assert_eq!(
        (&policies[1]["reason"], &policies[1]["mode"]),
        (&json!("SignerNotTrusted"), &json!("DryRun"))
    );
    assert_eq!(policies[1]["requirement"], "signed");
    assert_eq!(
        (checked.code, &checked.answer["verdict"]),
        (1, &json!("Violating"))
    );
}

#[tokio::test]
async fn the_text_says_what_was_looked_for_what_was_found_and_what_to_do() {
    let desk = Desk::new("text");
    let (image, _) = signed_image(&desk, "text/web").await;
    let other = key("release-1", "release", PEM);
    let policy = with(
        policy("signed", "**", "release"),
        json!({"spec": {"remediation": "Ask the release team."}}),
    );
    let host = desk.shared.referrers.host();
    let output = desk
        .run(
            &image.by_digest(),
            &[&other, &policy],
            &["--insecure-registry", &host],
        )
        .await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "Verdict Violating",
        &image.digest,
        "Policy signed (Enforce): Violating, SignerNotTrusted",
        "release",
        "a key that Assay does not know",
        "have a trusted signer sign it",
        "Ask the release team.",
    ] {
        assert!(words.contains(expected), "{expected:?} is not in:\n{text}");
    }
    // Names of images are as long as they are.
    let mut prose = text.lines().filter(|line| !line.contains("sha256:"));
    assert!(prose.all(|line| line.chars().count() <= 100), "{text}");
}

#[tokio::test]
async fn c3_04_a_tag_where_the_policy_asks_for_a_digest_is_a_violation() {
    let desk = Desk::new("pinned");
    let (image, key) = signed_image(&desk, "pinned/web").await;
    let policy = with(
        policy("pinned", "**", "release"),
        json!({"spec": {"requireDigest": true}}),
    );
    desk.check(&image.by_tag(), &[&key, &policy], &[])
        .await
        .says("Violating", "TagNotPinned");
    desk.check(&image.by_digest(), &[&key, &policy], &[])
        .await
        .says("Compliant", "AllVerified");
}

/// Weakened once: with a ring that has no key skipped, the answer is Violating.
#[tokio::test]
async fn f09_c5_21_a_policy_whose_ring_has_no_usable_key_cannot_be_answered() {
    let desk = Desk::new("key-missing");
    let (image, good) = signed_image(&desk, "key-missing/web").await;
    let policy = policy("signed", "**", "release");
    let elsewhere = with(good.clone(), json!({"spec": {"keyRing": "other"}}));
    let message = desk
        .check(&image.by_digest(), &[&elsewhere, &policy], &[])
        .await
        .says("Unknown", "KeyMissing")
        .to_owned();
    assert!(message.contains("release"), "{message}");
    let broken = key(
        "release-0",
        "release",
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
    );
    let checked = desk.check(&image.by_digest(), &[&broken, &policy], &[]).await;
    let message = checked.says("Unknown", "KeyMissing");
    assert!(message.contains("release-0"), "{message}");
    desk.check(&image.by_digest(), &[&broken, &good, &policy], &[])
        .await
        .says("Compliant", "AllVerified");
    let later = with(good.clone(), json!({"spec": {"stage": "Resting"}}));
    desk.check(&image.by_digest(), &[&later, &policy], &[])
        .await
        .says("Unknown", "KeyMissing");
}

#[tokio::test]
async fn c5_21_a_policy_that_cannot_be_evaluated_passes_nothing() {
    let desk = Desk::new("policy-invalid");
    let (image, key) = signed_image(&desk, "policy-invalid/web").await;
    let patches = [
        (
            json!({"match": {"images": ["127.0.0.1:*/a:1"]}}),
            "spec.match.images[0]",
        ),
        (json!({"mode": "Audit"}), "spec.mode"),
        (json!({"require": []}), "spec.require"),
        (json!({"require": [{"name": "signed"}]}), "spec.require[0]"),
        (
            json!({"require": [{"name": "signed", "signature": {"signedBy": ["release"], "minimum": 2}}]}),
            "minimum",
        ),
        (
            json!({"recheck": {"schedule": "0 3 * * 9"}}),
            "spec.recheck.schedule",
        ),
        (
            json!({"recheck": {"schedule": "0 3 * * *", "timeZone": "Mars/Phobos"}}),
            "spec.recheck.timeZone",
        ),
        (json!({"multiArch": {"accept": "Index"}}), "spec.multiArch.accept"),
    ];
    for (patch, field) in patches {
        let policy = with(policy("broken", "**", "release"), json!({"spec": patch}));
        let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
        let message = checked.says("Unknown", "PolicyInvalid");
        assert!(message.contains(field), "{field}: {message}");
    }
}

#[tokio::test]
async fn c3_15_c5_21_what_cannot_be_read_at_all_is_an_error_with_exit_code_2() {
    let desk = Desk::new("unreadable");
    let good = policy("signed", "**", "release");
    let local_id = "0".repeat(64);
    for reference in [
        "r.example/App",
        "r.example/app@sha256:../..",
        "https://r.example/app",
        "a b",
        "",
        local_id.as_str(),
    ] {
        let checked = desk.check(reference, &[&good], &[]).await;
        assert_eq!(
            (checked.code, &checked.answer),
            (2, &serde_json::Value::Null),
            "{reference}: {checked:?}"
        );
        assert!(checked.stderr.contains("error: "), "{reference}: {checked:?}");
    }
    let treshold = json!([{"name": "signed", "signature": {"signedBy": ["release"], "treshold": 2}}]);
    let unreadable = [
        (
            with(good.clone(), json!({"spec": {"require": treshold}})),
            "treshold",
        ),
        (
            with(good.clone(), json!({"spec": {"warnedBefore": "72h"}})),
            "warnedBefore",
        ),
        (with(good.clone(), json!({"spec": {"match": null}})), "match"),
        (
            with(good.clone(), json!({"kind": "ImagePolicies"})),
            "ImagePolicies",
        ),
        (
            with(good.clone(), json!({"apiVersion": "assay.dev/v1"})),
            "assay.dev/v1",
        ),
        (
            with(good.clone(), json!({"metadata": {"name": null}})),
            "metadata.name",
        ),
    ];
    for (object, says) in unreadable {
        let checked = desk.check("r.example/app:1", &[&object], &[]).await;
        assert_eq!(checked.code, 2, "{says}: {checked:?}");
        assert!(checked.stderr.contains(says), "{says}: {checked:?}");
    }
    let absent = desk
        .run("r.example/app:1", &[&good], &["-f", "no-such-file.yaml"])
        .await;
    assert_eq!(absent.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&absent.stderr).contains("no-such-file.yaml"),
        "{absent:?}"
    );
}

/// Weakened once: with a subject that is not served taken as read, both say Violating/SignatureMissing.
#[tokio::test]
async fn b42_what_the_repository_does_not_have_is_unknown_and_no_absence_of_signatures() {
    let desk = Desk::new("not-found");
    let (image, key) = signed_image(&desk, "not-found/web").await;
    let policy = policy("signed", "**", "release");
    for registry in [&desk.shared.distribution, &desk.shared.referrers] {
        let elsewhere = format!("{}/empty/web@{}", registry.host(), image.digest);
        desk.check(&elsewhere, &[&key, &policy], &[])
            .await
            .says("Unknown", "ImageNotFound");
    }
    let no_tag = format!("{}:2", image.repository);
    let checked = desk.check(&no_tag, &[&key, &policy], &[]).await;
    let message = checked.says("Unknown", "DigestUnresolved");
    assert!(message.contains("tag 2"), "{message}");
    assert_eq!(checked.answer["digest"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_or_fails_is_unknown() {
    let desk = Desk::new("unavailable");
    let key = key("release-1", "release", PEM);
    let policy = policy("signed", "**", "release");
    let digest = digest_of(b"any");
    let failing = StandIn::start(|_| Answer::status(503)).await;
    let other_bytes = StandIn::start(|_| Answer::content(MANIFEST, br#"{"schemaVersion":2}"#.to_vec())).await;
    let no_json = StandIn::start(|_| Answer::content(MANIFEST, b"any".to_vec())).await;
    let closed = format!("127.0.0.1:{}", free_port().unwrap());
    for host in [closed, failing.host(), other_bytes.host(), no_json.host()] {
        let image = format!("{host}/shop/web@{digest}");
        let checked = desk
            .check(&image, &[&key, &policy], &["--insecure-registry", &host])
            .await;
        checked.says("Unknown", "RegistryUnavailable");
    }
}

/// C3.11: the bytes are hashed, whatever the registry says of them.
/// Weakened once: with the hash of a manifest not compared, the message does not name what was found.
#[tokio::test]
async fn c3_11_a_manifest_whose_hash_is_wrong_is_refused_and_the_message_says_so() {
    let desk = Desk::new("wrong-hash");
    let asked = digest_of(b"any");
    let (claimed, wanted) = (asked.clone(), format!("/manifests/{asked}"));
    let liar = StandIn::start(move |path| match path.ends_with(&wanted) {
        true => Answer::content(MANIFEST, br#"{"schemaVersion":2}"#.to_vec())
            .header("docker-content-digest", claimed.clone()),
        false => Answer::status(404),
    })
    .await;
    let image = format!("{}/shop/web@{asked}", liar.host());
    let manifests = [
        &key("release-1", "release", PEM),
        &policy("signed", "**", "release"),
    ];
    let checked = desk
        .check(&image, &manifests, &["--insecure-registry", &liar.host()])
        .await;
    let message = checked.says("Unknown", "RegistryUnavailable");
    assert!(
        message.contains(&digest_of(br#"{"schemaVersion":2}"#)),
        "{message}"
    );
}

/// Weakened once: with a limit of 4 GiB for a manifest, it is read again and again: 719 MB are sent.
#[tokio::test]
async fn b16_a_manifest_of_200_megabytes_is_not_read_to_the_end() {
    let desk = Desk::new("too-large");
    let huge = StandIn::start(|_| Answer::content(MANIFEST, vec![b' '; 1 << 20]).times(200)).await;
    let image = format!("{}/shop/web@{}", huge.host(), digest_of(b"any"));
    let manifests = [
        &key("release-1", "release", PEM),
        &policy("signed", "**", "release"),
    ];
    let checked = desk
        .check(&image, &manifests, &["--insecure-registry", &huge.host()])
        .await;
    checked.says("Unknown", "EvidenceTooLarge");
    assert!(huge.sent() < 100 << 20, "{} bytes were sent", huge.sent());
}

#[tokio::test]
async fn c2_03_a_registry_that_asks_to_wait_is_not_asked_again_and_again() {
    let desk = Desk::new("rate-limited");
    let busy = StandIn::start(|_| Answer::status(429).header("retry-after", "60")).await;
    let image = format!("{}/shop/web@{}", busy.host(), digest_of(b"any"));
    let manifests = [
        &key("release-1", "release", PEM),
        &policy("signed", "**", "release"),
    ];
    let checked = desk
        .check(&image, &manifests, &["--insecure-registry", &busy.host()])
        .await;
    checked.says("Unknown", "RateLimited");
    let mut asked = busy.requests();
    let all = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert!(all <= 3 && asked.len() == all, "{asked:#?}");
}

#[tokio::test]
async fn a_registry_that_refuses_access_is_unknown() {
    let desk = Desk::new("denied");
    let (host, _server) = registry_with_a_password(&desk).await;
    let image = format!("{host}/shop/web@{}", digest_of(b"any"));
    let manifests = [
        &key("release-1", "release", PEM),
        &policy("signed", "**", "release"),
    ];
    let checked = desk
        .check(&image, &manifests, &["--insecure-registry", &host])
        .await;
    checked.says("Unknown", "RegistryDenied");
    let tag = desk
        .check(
            &format!("{host}/shop/web:1"),
            &manifests,
            &["--insecure-registry", &host],
        )
        .await;
    let message = tag.says("Unknown", "DigestUnresolved");
    assert!(message.contains("denied"), "{message}");
}

/// A real registry that wants a password that nobody knows.
async fn registry_with_a_password(desk: &Desk) -> (String, Server) {
    let host = format!("127.0.0.1:{}", free_port().unwrap());
    let config = json!({
        "version": "0.1",
        "storage": {"inmemory": {}},
        "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "test", "path": desk.folder.join("htpasswd")}},
    });
    let file = desk.write(&config.to_string());
    let program = Tools::locate().unwrap().path("distribution").unwrap();
    let spec = ServerSpec::new("distribution-with-password", program, &desk.folder)
        .arg("serve")
        .arg(file);
    let server = Server::start(spec).unwrap();
    let address = host.clone();
    let ready = || {
        let address = address.clone();
        async move {
            let connected = tokio::net::TcpStream::connect(address).await;
            connected.map(|_| true).map_err(|error| error.to_string())
        }
    };
    server
        .wait_until_ready(std::time::Duration::from_secs(30), ready)
        .await
        .unwrap();
    (host, server)
}

/// A listing of referrers that never ends.
#[tokio::test]
async fn b15_endless_signatures_end_without_a_verdict() {
    let desk = Desk::new("endless");
    let image_manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2},
        "layers": [],
    });
    let body = image_manifest.to_string().into_bytes();
    let digest = digest_of(&body);
    let wanted = format!("/manifests/{digest}");
    let endless = StandIn::start(move |path| match path {
        path if path.ends_with(&wanted) => Answer::content(MANIFEST, body.clone()),
        path if path.contains("/referrers/") => {
            // The next page, whatever page this is.
            let next = format!("<{}?last=1>; rel=\"next\"", path.split('?').next().unwrap_or(path));
            let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
            Answer::content("application/vnd.oci.image.index.v1+json", index.to_string().into_bytes()).header("link", next)
        }
        _ => Answer::status(404),
    })
    .await;
    let image = format!("{}/shop/web@{digest}", endless.host());
    let manifests = [
        &key("release-1", "release", PEM),
        &policy("signed", "**", "release"),
    ];
    let checked = desk
        .check(&image, &manifests, &["--insecure-registry", &endless.host()])
        .await;
    assert_eq!(
        (checked.code, &checked.answer["verdict"]),
        (2, &json!("Unknown")),
        "{checked:?}"
    );
    let requests = endless.requests().len();
    assert!(requests < 200, "{requests} requests");
}
