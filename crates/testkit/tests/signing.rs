//! Images, signatures by real cosign of both versions on both registries, and the bulk signer held against cosign.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use assay_testkit::{BulkSigner, Cosign, CosignVersion, Format, KeyAlgorithm, Registry, RegistryWriter};

async fn registries(folder: &std::path::Path) -> [Registry; 2] {
    [
        Registry::distribution(folder.join("distribution")).await.unwrap(),
        Registry::referrers(folder.join("referrers")).await.unwrap(),
    ]
}

#[tokio::test]
async fn both_cosign_versions_sign_in_both_formats_on_both_registries() {
    let folder = tempfile::tempdir().unwrap();
    for version in [CosignVersion::V2, CosignVersion::V3] {
        let cosign = Cosign::new(version, folder.path().join(format!("{version:?}"))).unwrap();
        let key = cosign.generate_key_pair("release").await.unwrap();
        let other = cosign.generate_key_pair("other").await.unwrap();
        for registry in registries(folder.path()).await {
            for format in [Format::Tag, Format::Bundle] {
                let seed = format!("{version:?}{format:?}");
                let image = registry
                    .writer()
                    .push_image("shop/web", "1", &seed)
                    .await
                    .unwrap();
                assert!(
                    !cosign.verifies(&image.by_digest(), &key).await.unwrap(),
                    "{seed}: unsigned"
                );
                cosign.sign(&image.by_digest(), &key, format).await.unwrap();
                let verified = cosign
                    .verify_output(&image.by_digest(), &key, None)
                    .await
                    .unwrap();
                assert!(verified.succeeded(), "{seed} {:?}: {verified:?}", registry.kind());
                assert!(
                    !cosign.verifies(&image.by_digest(), &other).await.unwrap(),
                    "{seed}: another key"
                );
                let tag = format!("{}.sig", image.digest.replace(':', "-"));
                let has_tag = registry
                    .writer()
                    .manifest("shop/web", &tag)
                    .await
                    .unwrap()
                    .is_some();
                assert_eq!(has_tag, format == Format::Tag, "{seed}: what lies under {tag}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_each_algorithm_signs_in_the_tag_format() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::distribution(folder.path()).await.unwrap();
    let cosign = Cosign::new(CosignVersion::V3, folder.path().join("cosign")).unwrap();
    for algorithm in KeyAlgorithm::ALL {
        let key = cosign
            .key_pair(&format!("{algorithm:?}"), algorithm)
            .await
            .unwrap();
        assert!(key.public_pem().unwrap().contains("BEGIN PUBLIC KEY"));
        let image = registry
            .writer()
            .push_image("shop/web", "1", &format!("{algorithm:?}"))
            .await
            .unwrap();
        cosign.sign(&image.by_digest(), &key, Format::Tag).await.unwrap();
        let tag = format!("{}.sig", image.digest.replace(':', "-"));
        assert!(
            registry
                .writer()
                .manifest("shop/web", &tag)
                .await
                .unwrap()
                .is_some(),
            "{algorithm:?}"
        );
    }
}

#[tokio::test]
async fn an_attestation_is_attached_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::distribution(folder.path()).await.unwrap();
    let cosign = Cosign::new(CosignVersion::V3, folder.path().join("cosign")).unwrap();
    let key = cosign.generate_key_pair("release").await.unwrap();
    let predicate = serde_json::json!({"approved": true});
    for (format, tag) in [(Format::Tag, ".att"), (Format::Bundle, "")] {
        let image = registry
            .writer()
            .push_image("shop/web", "1", &format!("{format:?}"))
            .await
            .unwrap();
        cosign
            .attest(
                &image.by_digest(),
                &key,
                "https://example.com/review/v1",
                &predicate,
                format,
            )
            .await
            .unwrap();
        let tag = format!("{}{tag}", image.digest.replace(':', "-"));
        assert!(
            registry
                .writer()
                .manifest("shop/web", &tag)
                .await
                .unwrap()
                .is_some(),
            "nothing under {tag}"
        );
    }
}

#[tokio::test]
async fn cosign_accepts_what_the_bulk_signer_signs() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::referrers(folder.path()).await.unwrap();
    let cosigns = [CosignVersion::V2, CosignVersion::V3]
        .map(|version| Cosign::new(version, folder.path().join(format!("{version:?}"))).unwrap());
    let key = cosigns[1].generate_key_pair("release").await.unwrap();
    let second = cosigns[1].generate_key_pair("second").await.unwrap();
    let image = registry
        .writer()
        .push_image("shop/web", "1", "bulk")
        .await
        .unwrap();
    for key in [&key, &second] {
        BulkSigner::new(key)
            .unwrap()
            .sign(&registry.writer(), &image)
            .await
            .unwrap();
    }
    for cosign in &cosigns {
        for key in [&key, &second] {
            let verified = cosign
                .verify_output(&image.by_digest(), key, Some(Format::Tag))
                .await
                .unwrap();
            assert!(verified.succeeded(), "{:?}: {verified:?}", cosign.version());
        }
    }
}

#[tokio::test]
async fn an_index_lists_two_platforms_and_an_attestation_manifest() {
    let folder = tempfile::tempdir().unwrap();
    for registry in registries(folder.path()).await {
        let pushed = registry
            .writer()
            .push_index("shop/multi", "1", "seed", true)
            .await
            .unwrap();
        let index = registry
            .writer()
            .manifest("shop/multi", "1")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(assay_testkit::digest_of(&index), pushed.index.digest);
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let listed: Vec<&str> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|child| child["digest"].as_str())
            .collect();
        let attestation = pushed.attestation.unwrap();
        assert_eq!(
            listed,
            [&pushed.amd64.digest, &pushed.arm64.digest, &attestation.digest]
        );
    }
}

#[tokio::test]
async fn the_access_log_tells_method_path_status_and_user_agent() {
    let folder = tempfile::tempdir().unwrap();
    for registry in registries(folder.path()).await {
        let position = registry.log_position().unwrap();
        registry
            .writer()
            .push_image("shop/web", "1", "logged")
            .await
            .unwrap();
        let before = registry.access_log_since(position).unwrap();
        assert!(
            before
                .iter()
                .any(|request| request.method == "PUT" && request.path == "/v2/shop/web/manifests/1")
        );
        let position = registry.log_position().unwrap();
        assert!(
            RegistryWriter::new(registry.host())
                .manifest("shop/web", "absent")
                .await
                .unwrap()
                .is_none()
        );
        let after = registry.access_log_since(position).unwrap();
        let seen: Vec<(&str, &str, u16, &str)> = after
            .iter()
            .map(|r| {
                (
                    r.method.as_str(),
                    r.path.as_str(),
                    r.status,
                    r.user_agent.as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("GET", "/v2/shop/web/manifests/absent", 404, "assay-testkit")],
            "{:?}",
            registry.kind()
        );
    }
}
