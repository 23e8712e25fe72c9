//! A private Sigstore: cosign signs and attests with it, in each format and on each registry, and cosign verifies it
//! against its trusted root and against no other.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use assay_testkit::predicates::{Build, Finding, Scanner, vulnerabilities};
use assay_testkit::{
    Cosign, CosignVersion, Format, Identity, Pushed, Registry, Signer, Sigstore, SigstoreOptions, sigstore,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

const FORMATS: [Format; 2] = [Format::Tag, Format::Bundle];
const VULNERABILITIES: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

async fn registries(folder: &std::path::Path) -> [Registry; 2] {
    [
        Registry::distribution(folder.join("distribution")).await.unwrap(),
        Registry::referrers(folder.join("referrers")).await.unwrap(),
    ]
}

fn cosigns(folder: &std::path::Path) -> [Cosign; 2] {
    [CosignVersion::V2, CosignVersion::V3]
        .map(|version| Cosign::new(version, folder.join(format!("{version:?}"))).unwrap())
}

fn people() -> [Identity; 2] {
    [
        Identity::email("alice@example.com"),
        Identity::workflow("shop/web", "release.yaml", "refs/heads/main"),
    ]
}

async fn image(registry: &Registry, seed: &str) -> Pushed {
    registry.writer().push_image("shop/web", "1", seed).await.unwrap()
}

async fn assert_verifies(cosign: &Cosign, image: &Pushed, signer: Signer<'_>, format: Format) {
    let verified = cosign
        .verify_output(&image.by_digest(), signer, Some(format))
        .await
        .unwrap();
    assert!(verified.succeeded(), "{format:?}: {verified:?}");
}

async fn assert_refuses(cosign: &Cosign, image: &Pushed, signer: Signer<'_>, format: Format) {
    let verified = cosign
        .verify_output(&image.by_digest(), signer, Some(format))
        .await
        .unwrap();
    assert!(!verified.succeeded(), "{format:?}: {verified:?}");
}

/// The annotations of the first layer of what lies under a tag.
async fn annotations(registry: &Registry, image: &Pushed, suffix: &str) -> Value {
    let tag = format!("{}{suffix}", image.digest.replace(':', "-"));
    let manifest = registry
        .writer()
        .manifest("shop/web", &tag)
        .await
        .unwrap()
        .unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["annotations"].clone()
}

#[tokio::test]
async fn each_cosign_signs_keyless_in_each_format_on_each_registry_and_verifies_it() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    for registry in registries(folder.path()).await {
        for cosign in cosigns(folder.path()) {
            for (format, identity) in FORMATS.into_iter().zip(people()) {
                let seed = format!("{:?} {format:?}", cosign.version());
                let image = image(&registry, &seed).await;
                let signer = sigstore.keyless(&identity);
                cosign.sign(&image.by_digest(), signer, format).await.unwrap();
                assert_verifies(&cosign, &image, signer, format).await;
                let other = Identity::email("mallory@example.com");
                assert_refuses(&cosign, &image, sigstore.keyless(&other), format).await;
            }
        }
    }
}

#[tokio::test]
async fn a_workflow_signs_in_the_tag_format_and_a_person_as_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    let registry = Registry::referrers(folder.path()).await.unwrap();
    let [person, workflow] = people();
    let [_, cosign] = cosigns(folder.path());
    for (format, identity) in [(Format::Tag, workflow), (Format::Bundle, person)] {
        let image = image(&registry, &format!("{format:?}")).await;
        cosign
            .sign(&image.by_digest(), sigstore.keyless(&identity), format)
            .await
            .unwrap();
        assert_verifies(&cosign, &image, sigstore.keyless(&identity), format).await;
    }
}

#[tokio::test]
async fn a_signature_under_a_tag_carries_certificate_chain_log_entry_and_timestamp() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    let registry = Registry::distribution(folder.path()).await.unwrap();
    let [person, _] = people();
    for cosign in cosigns(folder.path()) {
        let image = image(&registry, &format!("{:?}", cosign.version())).await;
        cosign
            .sign(&image.by_digest(), sigstore.keyless(&person), Format::Tag)
            .await
            .unwrap();
        let annotations = annotations(&registry, &image, ".sig").await;
        for part in ["certificate", "bundle", "rfc3161timestamp"] {
            assert!(
                annotations[format!("dev.sigstore.cosign/{part}")].is_string(),
                "{part}: {annotations}"
            );
        }
    }
}

#[tokio::test]
async fn each_cosign_attests_keyless_in_each_format_on_each_registry_and_verifies_it() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    let [person, _] = people();
    let predicate = vulnerabilities(
        Scanner::Trivy,
        Timestamp::now(),
        &[Finding {
            id: "CVE-2026-0001",
            severity: "High",
            package: "openssl",
            fixed_in: None,
        }],
    );
    for registry in registries(folder.path()).await {
        for cosign in cosigns(folder.path()) {
            for format in FORMATS {
                let image = image(&registry, &format!("{:?} {format:?}", cosign.version())).await;
                let (signer, reference) = (sigstore.keyless(&person), image.by_digest());
                cosign
                    .attest(&reference, signer, "vuln", &predicate, format)
                    .await
                    .unwrap();
                let verified = cosign
                    .verify_attestation_output(&reference, signer, VULNERABILITIES, Some(format))
                    .await
                    .unwrap();
                assert!(verified.succeeded(), "{verified:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_attests_each_type_of_predicate_in_each_format_with_each_cosign() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::referrers(folder.path()).await.unwrap();
    let build = Build {
        builder: "https://builders.example.com/release@v1",
        repository: "https://github.com/shop/web",
        git_ref: "refs/heads/main",
        commit: "0123456789abcdef0123456789abcdef01234567",
        finished: Timestamp::now(),
    };
    let predicates = [
        ("https://example.com/review/v1", json!({"approved": true})),
        ("vuln", vulnerabilities(Scanner::Grype, Timestamp::now(), &[])),
        ("slsaprovenance", build.slsa_v02()),
        ("slsaprovenance1", build.slsa_v1()),
    ];
    for cosign in cosigns(folder.path()) {
        let key = cosign.generate_key_pair("release").await.unwrap();
        for format in FORMATS {
            let image = image(&registry, &format!("{:?} {format:?}", cosign.version())).await;
            for (kind, predicate) in &predicates {
                let reference = image.by_digest();
                cosign
                    .attest(&reference, &key, kind, predicate, format)
                    .await
                    .unwrap();
                let verified = cosign
                    .verify_attestation_output(&reference, &key, kind, Some(format))
                    .await;
                let verified = verified.unwrap();
                assert!(verified.succeeded(), "{kind}: {verified:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_signs_with_a_log_and_a_timestamp_in_each_format() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    let registry = Registry::distribution(folder.path()).await.unwrap();
    for cosign in cosigns(folder.path()) {
        let key = cosign.generate_key_pair("release").await.unwrap();
        for format in FORMATS {
            let image = image(&registry, &format!("{:?} {format:?}", cosign.version())).await;
            cosign
                .sign(&image.by_digest(), sigstore.logged(&key), format)
                .await
                .unwrap();
            assert_verifies(&cosign, &image, sigstore.logged(&key), format).await;
        }
    }
}

#[tokio::test]
async fn a_blobs_bundle_holds_a_certificate_a_proof_and_a_timestamp_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    let [_, workflow] = people();
    let signer = sigstore.keyless(&workflow);
    for cosign in cosigns(folder.path()) {
        let bundle = cosign.sign_blob(b"content", signer).await.unwrap();
        let material = &serde_json::from_str::<Value>(&bundle).unwrap()["verificationMaterial"];
        assert!(material["certificate"]["rawBytes"].is_string(), "{bundle}");
        let proof = &material["tlogEntries"][0]["inclusionProof"];
        assert!(proof["checkpoint"]["envelope"].is_string(), "{bundle}");
        let timestamps = &material["timestampVerificationData"]["rfc3161Timestamps"];
        assert!(timestamps[0]["signedTimestamp"].is_string(), "{bundle}");
        let verified = cosign
            .verify_blob_output(b"content", signer, &bundle)
            .await
            .unwrap();
        assert!(verified.succeeded(), "{verified:?}");
        let verified = cosign
            .verify_blob_output(b"another", signer, &bundle)
            .await
            .unwrap();
        assert!(!verified.succeeded(), "{verified:?}");
    }
}

/// Why B40 holds a predicate's own times against it: this takes no key of the signer's.
#[tokio::test]
async fn anybody_can_have_a_signature_dated_anew() {
    let folder = tempfile::tempdir().unwrap();
    let sigstore = sigstore().await.unwrap();
    let [person, _] = people();
    let [_, cosign] = cosigns(folder.path());
    let bundle = cosign
        .sign_blob(b"content", sigstore.keyless(&person))
        .await
        .unwrap();
    let mut bundle: Value = serde_json::from_str(&bundle).unwrap();
    let signature = STANDARD
        .decode(bundle["messageSignature"]["signature"].as_str().unwrap())
        .unwrap();
    for (signed, is_accepted) in [(&signature[..], true), (b"another", false)] {
        let dated: Value = STANDARD.encode(sigstore.timestamp(signed).await.unwrap()).into();
        let timestamps =
            &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"];
        assert_ne!(timestamps[0]["signedTimestamp"], dated);
        timestamps[0]["signedTimestamp"] = dated;
        let signer = sigstore.keyless(&person);
        let verified = cosign
            .verify_blob_output(b"content", signer, &bundle.to_string())
            .await
            .unwrap();
        assert_eq!(verified.succeeded(), is_accepted, "{verified:?}");
    }
}

#[tokio::test]
async fn without_rekor_v2_a_bundle_carries_the_promise_and_the_proof_of_rekor_v1() {
    let folder = tempfile::tempdir().unwrap();
    let options = SigstoreOptions {
        rekor: false,
        ..SigstoreOptions::default()
    };
    let sigstore = Sigstore::start(folder.path().join("sigstore"), options)
        .await
        .unwrap();
    let [person, _] = people();
    let signer = sigstore.keyless(&person);
    let [_, cosign] = cosigns(folder.path());
    // The second one's path through the tree is not empty.
    for content in [b"first", b"other"] {
        let bundle = cosign.sign_blob(content, signer).await.unwrap();
        let parsed: Value = serde_json::from_str(&bundle).unwrap();
        let entry = &parsed["verificationMaterial"]["tlogEntries"][0];
        assert!(
            entry["inclusionPromise"]["signedEntryTimestamp"].is_string(),
            "{bundle}"
        );
        assert!(
            entry["inclusionProof"]["checkpoint"]["envelope"].is_string(),
            "{bundle}"
        );
        let verified = cosign.verify_blob_output(content, signer, &bundle).await.unwrap();
        assert!(verified.succeeded(), "{verified:?}");
    }
}

#[tokio::test]
async fn without_a_ct_log_or_without_logs_cosign_verifies_if_told_not_to_ask_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::referrers(folder.path().join("registry")).await.unwrap();
    let whole = sigstore().await.unwrap();
    let [person, _] = people();
    let [_, cosign] = cosigns(folder.path());
    let all = SigstoreOptions::default();
    let without_log = SigstoreOptions {
        rekor: false,
        rekor_v1: false,
        ..all
    };
    for (name, options) in [
        ("ct-log", SigstoreOptions { ct_log: false, ..all }),
        ("log", without_log),
    ] {
        let sigstore = Sigstore::start(folder.path().join(name), options).await.unwrap();
        for format in FORMATS {
            let image = image(&registry, &format!("{name} {format:?}")).await;
            let signer = sigstore.keyless(&person);
            cosign.sign(&image.by_digest(), signer, format).await.unwrap();
            assert_verifies(&cosign, &image, signer, format).await;
            assert_refuses(&cosign, &image, whole.keyless(&person), format).await;
        }
    }
}

#[tokio::test]
async fn without_timestamps_rekor_v1_tells_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::referrers(folder.path().join("registry")).await.unwrap();
    let options = SigstoreOptions {
        timestamps: false,
        rekor: false,
        ..SigstoreOptions::default()
    };
    let sigstore = Sigstore::start(folder.path().join("sigstore"), options)
        .await
        .unwrap();
    let [person, _] = people();
    for cosign in cosigns(folder.path()) {
        for format in FORMATS {
            let image = image(&registry, &format!("{:?} {format:?}", cosign.version())).await;
            let signer = sigstore.keyless(&person);
            cosign.sign(&image.by_digest(), signer, format).await.unwrap();
            assert_verifies(&cosign, &image, signer, format).await;
        }
    }
}

#[tokio::test]
async fn what_one_sigstore_vouches_for_another_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::referrers(folder.path().join("registry")).await.unwrap();
    let first = sigstore().await.unwrap();
    let second = Sigstore::start(folder.path().join("second"), SigstoreOptions::default())
        .await
        .unwrap();
    let [person, _] = people();
    let [_, cosign] = cosigns(folder.path());
    for format in FORMATS {
        let image = image(&registry, &format!("{format:?}")).await;
        cosign
            .sign(&image.by_digest(), second.keyless(&person), format)
            .await
            .unwrap();
        assert_verifies(&cosign, &image, second.keyless(&person), format).await;
        assert_refuses(&cosign, &image, first.keyless(&person), format).await;
    }
}
