//! What real cosign 2 and 3 wrote (fixtures of `hack/verify-fixtures.sh`) verifies, and what only looks like
//! it does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{ClaimKind, Format, Item, ItemKind, Outcome, PublicKey, Refusal};
use common::{
    fixture_bundle, fixture_key, fixture_simple_signing, fixture_subject, other_subject, verify_signature,
};

const KEYS: [&str; 4] = ["p256", "p384", "ed25519", "rsa2048"];

/// In both formats, from both versions.
fn signatures_by(key: &str) -> Vec<(String, Item)> {
    let both = |cosign| {
        let name = format!("{cosign}-{key}");
        let (tag_format, bundle) = (fixture_simple_signing(&name), fixture_bundle(&name));
        [
            (format!("{name}.sig"), tag_format),
            (format!("{name}.bundle.json"), bundle),
        ]
    };
    ["cosign2", "cosign3"].into_iter().flat_map(both).collect()
}

/// Both cosign versions: every key type in every format that a cosign writes it in.
#[test]
fn every_signature_of_cosign_2_and_3_verifies_under_its_key_and_no_other() {
    let subject = fixture_subject();
    for signer in KEYS {
        for (name, item) in signatures_by(signer) {
            assert_eq!(item.kind(), ItemKind::ImageSignature, "{name}");
            for asked in KEYS {
                let outcome = verify_signature(&item, &subject, &fixture_key(asked));
                match outcome {
                    Outcome::Verified(claim) if asked == signer => {
                        assert_eq!(claim.signer, fixture_key(signer).fingerprint(), "{name}");
                        assert_eq!(claim.subject, subject, "{name}");
                        assert_eq!(claim.evidence, *item.id(), "{name}");
                    }
                    Outcome::Refused(Refusal::SignatureMismatch) if asked != signer => {}
                    other => panic!("{name} asked with {asked}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_signature_of_cosign_says_nothing_about_another_digest() {
    for signer in KEYS {
        for (name, item) in signatures_by(signer) {
            let outcome = verify_signature(&item, &other_subject(), &fixture_key(signer));
            assert_eq!(
                outcome,
                Outcome::Refused(Refusal::SubjectMismatch {
                    found: vec![fixture_subject()]
                }),
                "{name}"
            );
        }
    }
}

/// C3.13, B14: the tag format names a repository, which the claim hands on; bundles name none.
#[test]
fn c3_13_the_claim_of_a_tag_format_signature_names_the_signed_repository() {
    let key = fixture_key("p256");
    let claim = |item: &Item| match verify_signature(item, &fixture_subject(), &key) {
        Outcome::Verified(claim) => *claim,
        other => panic!("{other:?}"),
    };
    let tag_format = claim(&fixture_simple_signing("cosign2-p256"));
    assert_eq!(tag_format.format, Format::SimpleSigning);
    assert_eq!(
        tag_format.docker_reference.as_deref(),
        Some("registry.example.com/shop/web")
    );
    let bundle = claim(&fixture_bundle("cosign3-p256"));
    assert_eq!((bundle.format, bundle.docker_reference), (Format::Bundle, None));
}

/// Both pass `cosign verify` 3.1.2.
#[test]
fn b41_neither_an_attestation_nor_a_signed_blob_is_a_signature() {
    let (key, subject) = (fixture_key("p256"), fixture_subject());
    let attestation = fixture_bundle("attestation");
    let predicate_type = "https://cosign.sigstore.dev/attestation/vuln/v1";
    assert_eq!(
        attestation.kind(),
        ItemKind::Attestation {
            predicate_type: predicate_type.into()
        }
    );
    let Outcome::Verified(claim) = verify_signature(&attestation, &subject, &key) else {
        panic!("cosign's attestation is refused")
    };
    assert_eq!(
        claim.kind,
        ClaimKind::Attestation {
            predicate_type: predicate_type.into()
        }
    );
    let statement = attestation.statement().unwrap().unwrap();
    assert_eq!(statement.predicate_type, predicate_type);
    assert_eq!(statement.subjects, std::slice::from_ref(&subject));
    assert_eq!(&statement.value["predicate"], statement.predicate());
    let blob = fixture_bundle("blob");
    assert_eq!(blob.kind(), ItemKind::SignedBlob);
    assert!(matches!(
        verify_signature(&blob, &subject, &key),
        Outcome::Refused(Refusal::NotASignature { .. })
    ));
}

#[test]
fn b02_garbage_that_cosign_signed_is_refused_as_garbage_of_that_key() {
    let garbage = fixture_simple_signing("garbage");
    assert!(matches!(
        verify_signature(&garbage, &fixture_subject(), &fixture_key("p256")),
        Outcome::Refused(Refusal::PayloadMalformed { .. })
    ));
    assert_eq!(
        verify_signature(&garbage, &fixture_subject(), &fixture_key("p384")),
        Outcome::Refused(Refusal::SignatureMismatch)
    );
}

#[test]
fn a_fingerprint_is_the_sha256_of_the_key_as_openssl_and_cosign_write_it() {
    for name in KEYS {
        let pem = common::fixture_text(&format!("{name}.pub"));
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
        let key = PublicKey::from_pem(&pem).unwrap();
        assert_eq!(
            format!("sha256:{}", key.fingerprint()),
            image::Digest::sha256(&der).to_string(),
            "{name}"
        );
    }
}
