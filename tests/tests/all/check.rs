//! `assay check` on what real cosign signed and real registries serve.

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use testkit::{Cosign, Format, KeyAlgorithm, KeyPair, Pushed, Registry};

use crate::check_run::Desk;
use crate::manifests::{key, policy, with};

const FORMATS: [Format; 2] = [Format::Tag, Format::Bundle];

/// The keys of a ring called `release`, and a policy that wants its signature on every image.
fn trusting(pair: &KeyPair) -> [Value; 2] {
    [
        key("release-1", "release", &pair.public_pem().unwrap()),
        policy("signed", "**", "release"),
    ]
}

fn registries(desk: &Desk) -> [&'static Registry; 2] {
    [&desk.shared.distribution, &desk.shared.referrers]
}

async fn push(registry: &Registry, repository: &str, seed: &str) -> Pushed {
    registry.writer().push_image(repository, "1", seed).await.unwrap()
}

/// Every algorithm and both formats by one version of cosign, on both registries.
async fn each_signature_is_found_and_verified(desk: &Desk, cosign: &Cosign) {
    let repository = format!("matrix/{:?}", cosign.version()).to_lowercase();
    let mut signed = Vec::new();
    for algorithm in KeyAlgorithm::ALL {
        let pair = cosign
            .key_pair(&format!("{algorithm:?}"), algorithm)
            .await
            .unwrap();
        for format in FORMATS {
            let seed = format!("{algorithm:?}{format:?}");
            let [one, two] = registries(desk);
            let (one, two) = (
                push(one, &repository, &seed).await,
                push(two, &repository, &seed).await,
            );
            // One run of cosign signs both.
            cosign
                .sign_with(&one.by_digest(), &pair, format, &[&two.by_digest()])
                .await
                .unwrap();
            signed.extend([(one, pair.clone(), seed.clone()), (two, pair.clone(), seed)]);
        }
    }
    let checks = signed.into_iter().map(async |(image, pair, seed)| {
        let [key, policy] = trusting(&pair);
        let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
        assert_eq!(checked.code, 0, "{seed} {}: {checked:?}", image.repository);
        checked.says("Compliant", "AllVerified");
        assert_eq!(checked.answer["digest"], image.digest.as_str());
        assert_eq!(checked.answer["image"], image.by_digest().as_str());
    });
    let done = stream::iter(checks).buffer_unordered(4).count().await;
    assert_eq!(done, 16);
}

#[tokio::test]
async fn c5_01_every_algorithm_and_format_of_cosign_2_verifies_on_both_registries() {
    let desk = Desk::new("cosign2");
    each_signature_is_found_and_verified(&desk, &desk.cosign2).await;
}

#[tokio::test]
async fn c5_01_every_algorithm_and_format_of_cosign_3_verifies_on_both_registries() {
    let desk = Desk::new("cosign3");
    each_signature_is_found_and_verified(&desk, &desk.cosign3).await;
}

/// C5.01, F24: asked per format, on images that carry one format only.
#[tokio::test]
async fn assay_agrees_with_cosign_verify_on_who_signed_what() {
    let desk = Desk::new("oracle");
    let trusted = desk.cosign3.generate_key_pair("trusted").await.unwrap();
    let stranger = desk.cosign3.generate_key_pair("stranger").await.unwrap();
    let [key, policy] = trusting(&trusted);
    for registry in registries(&desk) {
        for format in FORMATS {
            for signers in [vec![], vec![&trusted], vec![&stranger], vec![&stranger, &trusted]] {
                let seed = format!(
                    "{format:?}{}",
                    signers
                        .iter()
                        .map(|signer| signer.private_key.display().to_string())
                        .collect::<String>()
                );
                let image = push(registry, "oracle/web", &seed).await;
                for signer in &signers {
                    desk.cosign3
                        .sign(&image.by_digest(), *signer, format)
                        .await
                        .unwrap();
                }
                let cosign = desk
                    .cosign3
                    .verify_output(&image.by_digest(), &trusted, Some(format))
                    .await
                    .unwrap();
                let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
                assert_eq!(
                    checked.code == 0,
                    cosign.succeeded(),
                    "{seed}: {checked:?}: {cosign:?}"
                );
                match signers.len() {
                    0 => checked.says("Violating", "SignatureMissing"),
                    1 if signers == [&stranger] => checked.says("Violating", "SignerNotTrusted"),
                    _ => checked.says("Compliant", "AllVerified"),
                };
            }
        }
    }
}

#[tokio::test]
async fn c5_01_the_stage_and_the_validity_of_the_only_signer_decide() {
    let desk = Desk::new("stages");
    let pair = desk.cosign3.generate_key_pair("release").await.unwrap();
    let image = push(&desk.shared.referrers, "stages/web", "1").await;
    desk.cosign3
        .sign(&image.by_digest(), &pair, Format::Bundle)
        .await
        .unwrap();
    let [key, policy] = trusting(&pair);
    let cases = [
        (json!({"stage": "Staged"}), "Violating", "KeyStaged"),
        (json!({"stage": "Active"}), "Compliant", "AllVerified"),
        (json!({"stage": "Retiring"}), "Compliant", "AllVerified"),
        (json!({"stage": "Disabled"}), "Violating", "KeyDisabled"),
        (json!({"stage": "Revoked"}), "Violating", "KeyRevoked"),
        (
            json!({"notAfter": "2020-01-01T00:00:00Z"}),
            "Violating",
            "KeyExpired",
        ),
        (
            json!({"notBefore": "2100-01-01T00:00:00Z"}),
            "Violating",
            "KeyExpired",
        ),
        (
            json!({"notAfter": "2100-01-01T00:00:00Z"}),
            "Compliant",
            "AllVerified",
        ),
    ];
    for (patch, verdict, reason) in cases {
        let key = with(key.clone(), json!({"spec": patch}));
        let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
        let message = checked.says(verdict, reason);
        if verdict == "Violating" {
            assert!(message.contains("release-1"), "names the SigningKey: {message}");
        }
        let bounds = [&key["spec"]["notBefore"], &key["spec"]["notAfter"]];
        let changes = bounds
            .into_iter()
            .filter_map(Value::as_str)
            .find(|time| time.starts_with("2100"));
        assert_eq!(
            checked.answer["policies"][0]["validUntil"].as_str(),
            changes,
            "{checked:?}"
        );
    }
    let twice = with(
        key.clone(),
        json!({"metadata": {"name": "b44-copy"}, "spec": {"keyRing": "other", "stage": "Revoked"}}),
    );
    let checked = desk
        .check(&image.by_digest(), &[&key, &twice, &policy], &[])
        .await;
    checked.says("Violating", "KeyRevoked");
}

/// Weakened once: with keys counted instead of rings, two keys of one ring pass.
#[tokio::test]
async fn b45_b06_a_minimum_counts_rings_and_one_key_once() {
    let desk = Desk::new("minimum");
    let release = desk.cosign3.generate_key_pair("release").await.unwrap();
    let next = desk.cosign3.generate_key_pair("next").await.unwrap();
    let review = desk.cosign3.generate_key_pair("review").await.unwrap();
    let image = push(&desk.shared.distribution, "minimum/web", "1").await;
    for pair in [&release, &next] {
        desk.cosign3
            .sign(&image.by_digest(), pair, Format::Tag)
            .await
            .unwrap();
    }
    let pem = |pair: &KeyPair| pair.public_pem().unwrap();
    let keys = [
        key("r1", "release", &pem(&release)),
        key("r2", "release", &pem(&next)),
        key("v1", "review", &pem(&review)),
    ];
    let two = json!([{"name": "both", "signature": {"signedBy": ["release", "review"], "minimum": 2}}]);
    let both = with(policy("both", "**", "release"), json!({"spec": {"require": two}}));
    let checked = desk
        .check(&image.by_digest(), &[&keys[0], &keys[1], &keys[2], &both], &[])
        .await;
    checked.says("Violating", "TooFewSigners");
    let same = key("v1", "review", &pem(&release));
    let other = with(keys[1].clone(), json!({"spec": {"stage": "Disabled"}}));
    let checked = desk
        .check(&image.by_digest(), &[&keys[0], &other, &same, &both], &[])
        .await;
    checked.says("Violating", "TooFewSigners");
    desk.cosign3
        .sign(&image.by_digest(), &review, Format::Tag)
        .await
        .unwrap();
    let checked = desk
        .check(&image.by_digest(), &[&keys[0], &keys[1], &keys[2], &both], &[])
        .await;
    checked.says("Compliant", "AllVerified");
}

/// Weakened once: with every predicate type taken for a signature, the attestation passes.
#[tokio::test]
async fn b41_attestations_and_signed_blobs_are_no_signatures() {
    let desk = Desk::new("attested");
    let pair = desk.cosign3.generate_key_pair("release").await.unwrap();
    let [key, policy] = trusting(&pair);
    for registry in registries(&desk) {
        for format in FORMATS {
            let image = push(registry, "attested/web", &format!("{format:?}")).await;
            let predicate = json!({"approved": true});
            desk.cosign3
                .attest(
                    &image.by_digest(),
                    &pair,
                    "https://example.com/review/v1",
                    &predicate,
                    format,
                )
                .await
                .unwrap();
            let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
            checked.says("Violating", "SignatureMissing");
        }
    }
    let image = push(&desk.shared.referrers, "attested/blob", "1").await;
    let writer = desk.shared.referrers.writer();
    let bytes = writer
        .manifest("attested/blob", &image.digest)
        .await
        .unwrap()
        .unwrap();
    let (blob, bundle) = (desk.folder.join("blob"), desk.folder.join("blob.bundle"));
    std::fs::write(&blob, &bytes).unwrap();
    let arguments = [
        "sign-blob",
        "--key",
        pair.private_key.to_str().unwrap(),
        "--use-signing-config=false",
        "--tlog-upload=false",
        "--bundle",
        bundle.to_str().unwrap(),
        "-y",
        blob.to_str().unwrap(),
    ];
    desk.cosign3
        .output(&arguments)
        .await
        .unwrap()
        .into_stdout()
        .unwrap();
    attach_bundle(
        &desk,
        "attested/blob",
        &image.digest,
        bytes.len(),
        &std::fs::read(bundle).unwrap(),
    )
    .await;
    let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
    checked.says("Violating", "SignatureMissing");
}

/// Refers from a bundle to an image, as cosign does it.
async fn attach_bundle(desk: &Desk, repository: &str, subject: &str, size: usize, bundle: &[u8]) {
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let writer = desk.shared.referrers.writer();
    let layer = writer.put_blob(repository, bundle).await.unwrap();
    let config = writer.put_blob(repository, b"{}").await.unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": BUNDLE, "digest": layer, "size": bundle.len()}],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": size},
    });
    writer
        .put_manifest(repository, None, MANIFEST, manifest.to_string().as_bytes())
        .await
        .unwrap();
}

/// Weakened once: with the subject of a payload not compared, a signature of another image passes.
#[tokio::test]
async fn b02_c3_13_what_a_trusted_key_signed_must_be_a_signature_of_this_very_image() {
    let desk = Desk::new("garbage");
    let pair = desk.cosign2.generate_key_pair("release").await.unwrap();
    let [key, policy] = trusting(&pair);
    let writer = desk.shared.distribution.writer();
    let other = push(&desk.shared.distribution, "garbage/web", "other").await;
    desk.cosign2
        .sign(&other.by_digest(), &pair, Format::Tag)
        .await
        .unwrap();
    let copied = writer
        .manifest("garbage/web", &other.signature_tag())
        .await
        .unwrap()
        .unwrap();
    let right = json!({"critical": {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": other.digest},
        "type": "cosign container image signature",
    }});
    let twice_critical = right.to_string().replacen('{', "{\"critical\":{},", 1);
    // A document of another type is readable and is no signature; all else is neither.
    let other_type = with(right.clone(), json!({"critical": {"type": "something else"}}));
    let payloads = [
        (b"\x00\xffnot json".to_vec(), "SignatureInvalid"),
        (b"{}".to_vec(), "SignatureInvalid"),
        (b"null".to_vec(), "SignatureInvalid"),
        (twice_critical.into_bytes(), "SignatureInvalid"),
        (other_type.to_string().into_bytes(), "SignatureMissing"),
    ];
    let mut cases = vec![(copied, "SignatureInvalid")];
    for (payload, reason) in &payloads {
        cases.push((signed_payload(&desk, &pair, payload).await, reason));
    }
    for (number, (manifest, reason)) in cases.iter().enumerate() {
        let image = push(&desk.shared.distribution, "garbage/web", &number.to_string()).await;
        let tag = image.signature_tag();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let put = writer.put_manifest("garbage/web", Some(&tag), media_type, manifest);
        put.await.unwrap();
        let checked = desk.check(&image.by_digest(), &[&key, &policy], &[]).await;
        checked.says("Violating", reason);
    }
}

/// A manifest in the tag format with any payload that real cosign signed.
async fn signed_payload(desk: &Desk, pair: &KeyPair, payload: &[u8]) -> Vec<u8> {
    let writer = desk.shared.distribution.writer();
    let file = desk.folder.join("payload");
    std::fs::write(&file, payload).unwrap();
    let arguments = [
        "sign-blob",
        "--key",
        pair.private_key.to_str().unwrap(),
        "--tlog-upload=false",
        "-y",
        file.to_str().unwrap(),
    ];
    let signature = desk
        .cosign2
        .output(&arguments)
        .await
        .unwrap()
        .into_stdout()
        .unwrap();
    let config = writer.put_blob("garbage/web", b"{}").await.unwrap();
    let layer = writer.put_blob("garbage/web", payload).await.unwrap();
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": layer, "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature.trim()},
        }],
    })
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn c3_09_c3_10_b34_an_index_is_judged_by_its_own_signature_or_by_those_of_its_platforms() {
    let desk = Desk::new("index");
    let pair = desk.cosign3.generate_key_pair("release").await.unwrap();
    let [key, either] = trusting(&pair);
    let platform = with(
        either.clone(),
        json!({"spec": {"multiArch": {"accept": "Platform"}}}),
    );
    for (registry, format) in registries(&desk).into_iter().zip(FORMATS) {
        let signed = registry
            .writer()
            .push_index("index/signed", "1", "a", true)
            .await
            .unwrap();
        desk.cosign3
            .sign(&signed.index.by_digest(), &pair, format)
            .await
            .unwrap();
        let child = format!("{}:1@{}", signed.index.repository, signed.amd64.digest);
        desk.check(&signed.index.by_tag(), &[&key, &either], &[])
            .await
            .says("Compliant", "AllVerified");
        // B21: beside a digest a tag says nothing, so nothing names the index here.
        desk.check(&child, &[&key, &either], &[])
            .await
            .says("Violating", "SignatureMissing");
        desk.check(&signed.amd64.by_digest(), &[&key, &either], &[])
            .await
            .says("Violating", "SignatureMissing");
        desk.check(&signed.index.by_digest(), &[&key, &platform], &[])
            .await
            .says("Violating", "SignatureMissing");

        let children = registry
            .writer()
            .push_index("index/children", "1", "c", true)
            .await
            .unwrap();
        for child in [&children.amd64, &children.arm64] {
            desk.cosign3
                .sign(&child.by_digest(), &pair, format)
                .await
                .unwrap();
        }
        desk.check(&children.index.by_digest(), &[&key, &either], &[])
            .await
            .says("Violating", "IndexNotSigned");
        desk.check(&children.index.by_digest(), &[&key, &platform], &[])
            .await
            .says("Compliant", "AllVerified");
        desk.check(&children.amd64.by_digest(), &[&key, &platform], &[])
            .await
            .says("Compliant", "AllVerified");
    }
}

/// Weakened once: with the named repository not compared, the copy passes under bindRepository.
#[tokio::test]
async fn b14_c3_13_a_signature_copied_to_another_repository_counts_unless_the_policy_binds_it() {
    let desk = Desk::new("bound");
    let pair = desk.cosign2.generate_key_pair("release").await.unwrap();
    let [key, free] = trusting(&pair);
    let bound = with(free.clone(), json!({"spec": {"bindRepository": true}}));
    let writer = desk.shared.distribution.writer();
    let image = push(&desk.shared.distribution, "bound/web", "1").await;
    desk.cosign2
        .sign(&image.by_digest(), &pair, Format::Tag)
        .await
        .unwrap();
    desk.check(&image.by_digest(), &[&key, &bound], &[])
        .await
        .says("Compliant", "AllVerified");

    let copy = push(&desk.shared.distribution, "elsewhere/web", "1").await;
    let manifest = writer
        .manifest("bound/web", &image.signature_tag())
        .await
        .unwrap()
        .unwrap();
    let read: Value = serde_json::from_slice(&manifest).unwrap();
    for part in [&read["config"], &read["layers"][0]] {
        let content = blob(&desk, "bound/web", part["digest"].as_str().unwrap()).await;
        writer.put_blob("elsewhere/web", &content).await.unwrap();
    }
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    writer
        .put_manifest(
            "elsewhere/web",
            Some(&image.signature_tag()),
            media_type,
            &manifest,
        )
        .await
        .unwrap();
    desk.check(&copy.by_digest(), &[&key, &free], &[])
        .await
        .says("Compliant", "AllVerified");
    desk.check(&copy.by_digest(), &[&key, &bound], &[])
        .await
        .says("Violating", "SignatureInvalid");
}

async fn blob(desk: &Desk, repository: &str, digest: &str) -> Vec<u8> {
    let crane = testkit::Tools::locate().unwrap().path("crane").unwrap();
    let blob = format!("{}/{repository}@{digest}", desk.shared.distribution.host());
    let output = tokio::process::Command::new(crane)
        .args(["blob", "--insecure", &blob])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
