//! `verify_artifact`: bundles of all versions about any artifact, in which everything must verify.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{
    Artifact, ArtifactRefusal, Demand, Refusal, TrustRoot, VerifiedArtifact, Verifier, verify_artifact,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::asking::{asking, at, root, verifier};
use common::private::{Certified, Enveloped, Leaf, NOON, SUBJECT, Sigstore, Timestamps, World, YEAR, sha256};
use common::{IN_TOTO, Signer, other_subject, pem, subject};
use image::Digest;
use proptest::prelude::*;
use serde_json::{Value, json};

const ARTIFACT: &[u8] = b"the image";

fn check(bundle: &Value, artifact: Artifact<'_>, by: &Verifier) -> Result<VerifiedArtifact, ArtifactRefusal> {
    verify_artifact(bundle.to_string().as_bytes(), artifact, by)
}

fn by_key(key: &Signer, sigstore: &Sigstore) -> Verifier {
    let root = root(&sigstore.trusted_root());
    Verifier::by_key_with(key.public(), Demand::Optional, Demand::Optional, Some(root)).unwrap()
}

/// A message signature over the artifact, with an entry of Rekor v1.
fn message(certified: &Certified, sigstore: &Sigstore, media_type: &str, with_proof: bool) -> Value {
    let signature = certified.key.sign(ARTIFACT);
    let body = json!({
        "apiVersion": "0.0.1", "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(sha256(ARTIFACT))}},
            "signature": {
                "content": STANDARD.encode(&signature),
                "publicKey": {"content": STANDARD.encode(certified.pem())},
            },
        },
    });
    let mut entry = sigstore.entry_1(&body, NOON);
    if !with_proof {
        entry.as_object_mut().unwrap().remove("inclusionProof");
    }
    json!({
        "mediaType": format!("application/vnd.dev.sigstore.bundle{media_type}"),
        "verificationMaterial": {
            "x509CertificateChain": {"certificates": [{"rawBytes": STANDARD.encode(&certified.certificate)}]},
            "tlogEntries": [entry],
        },
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(ARTIFACT))},
            "signature": STANDARD.encode(&signature),
        },
    })
}

#[test]
fn bundles_of_each_version_verify_and_only_0_1_does_so_by_a_promise() {
    let world = World::new();
    let by = verifier(&world.sigstore.trusted_root());
    for (version, by_promise) in [
        ("+json;version=0.1", true),
        ("+json;version=0.2", false),
        ("+json;version=0.3", false),
        (".v0.3+json", false),
    ] {
        for artifact in [
            Artifact::Content(ARTIFACT),
            Artifact::Digest(Digest::sha256(ARTIFACT)),
        ] {
            let whole = message(&world.certified, &world.sigstore, version, true);
            let verified = check(&whole, artifact.clone(), &by).unwrap();
            assert_eq!(verified.identity.unwrap().subject, SUBJECT);
            assert_eq!(verified.times.earliest(), Some(at(NOON)));
            let promised = message(&world.certified, &world.sigstore, version, false);
            assert_eq!(check(&promised, artifact, &by).is_ok(), by_promise, "{version}");
        }
    }
    let later = message(&world.certified, &world.sigstore, ".v0.4+json", true);
    assert!(matches!(
        check(&later, Artifact::Content(ARTIFACT), &by),
        Err(ArtifactRefusal::CannotTell(_))
    ));
}

#[test]
fn an_envelope_is_about_the_subjects_of_its_statement() {
    let world = World::new();
    let by = verifier(&world.sigstore.trusted_root());
    for bundle in [world.logged(), world.logged_and_stamped()] {
        check(&bundle, Artifact::Content(ARTIFACT), &by).unwrap();
        check(&bundle, Artifact::Digest(subject()), &by).unwrap();
        assert!(matches!(
            check(&bundle, Artifact::Digest(other_subject()), &by),
            Err(ArtifactRefusal::OtherArtifact { .. })
        ));
        assert!(matches!(
            check(&bundle, Artifact::Digest(Digest::sha512(ARTIFACT)), &by),
            Err(ArtifactRefusal::UnsupportedDigest { .. })
        ));
    }
}

/// The policy's look at an image leaves such parts out; here they are a refusal. Fails with `Rigour::WhatIsDemanded`.
#[test]
fn everything_in_a_bundle_must_verify() {
    let world = World::new();
    let by = verifier(&world.sigstore.trusted_root());
    let stranger = Timestamps::new((NOON - YEAR, NOON + YEAR)).stamp(&world.signed.signature, NOON);
    let mut broken = world.entry_1();
    broken["inclusionPromise"]["signedEntryTimestamp"] = json!("AAAA");
    for (what, bundle) in [
        (
            "a timestamp by a stranger",
            world.bundle(vec![world.entry_1()], &[stranger]),
        ),
        (
            "a timestamp out of the certificate's time",
            world.bundle(vec![world.entry_1()], &[world.stamp(NOON + YEAR)]),
        ),
        (
            "a second entry that is broken",
            world.bundle(vec![world.entry_1(), broken], &[]),
        ),
        (
            "an entry that is none",
            world.bundle(vec![world.entry_1(), Value::Null], &[]),
        ),
        ("no entry", world.bundle(vec![], &[world.stamp(NOON)])),
        ("too many entries", world.bundle(vec![world.entry_1(); 17], &[])),
    ] {
        assert!(
            check(&bundle, Artifact::Digest(subject()), &by).is_err(),
            "{what}"
        );
    }
}

#[test]
fn a_key_verifies_with_and_without_a_log_and_every_part_that_is_there_must_verify() {
    for (name, key) in Signer::of_each_type() {
        let sigstore = Sigstore::new();
        let by = by_key(&key, &sigstore);
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": "x"}},
            "messageSignature": {"signature": STANDARD.encode(key.sign(ARTIFACT))},
        });
        check(&bundle, Artifact::Content(ARTIFACT), &by).unwrap_or_else(|error| panic!("{name}: {error}"));
        let by_digest = check(&bundle, Artifact::Digest(Digest::sha256(ARTIFACT)), &by);
        match name {
            "Ed25519" => assert_eq!(by_digest, Err(ArtifactRefusal::NeedsContent)),
            // Signed over SHA-384; the digest given is another one.
            "ECDSA-P384" => assert_eq!(by_digest, Err(Refusal::SignatureMismatch.into())),
            _ => assert!(by_digest.is_ok(), "{name}: {by_digest:?}"),
        }
        assert!(
            check(&bundle, Artifact::Content(b"another"), &by).is_err(),
            "{name}"
        );
        let mut hinted = bundle.clone();
        hinted["messageSignature"]["messageDigest"] = json!({"algorithm": "SHA2_256", "digest": "AAAA"});
        assert!(matches!(
            check(&hinted, Artifact::Content(ARTIFACT), &by),
            Err(ArtifactRefusal::OtherArtifact { .. })
        ));
        let mut logged = bundle.clone();
        logged["verificationMaterial"]["tlogEntries"] = json!([{"logIndex": "1"}]);
        assert!(
            check(&logged, Artifact::Content(ARTIFACT), &by).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_key_with_an_entry_in_a_log_verifies() {
    let (sigstore, key) = (Sigstore::new(), Signer::p256());
    let signed = Enveloped::new(&common::statement(&subject(), "https://example.com/p"), &key);
    let holder = json!({"publicKey": {"hint": "x"}});
    let entry = sigstore.entry_1(&signed.body_1(&pem("PUBLIC KEY", &key.spki())), NOON);
    let bundle = signed.bundle(holder, vec![entry], &[]);
    let verified = check(&bundle, Artifact::Digest(subject()), &by_key(&key, &sigstore)).unwrap();
    assert_eq!(verified.times.earliest(), Some(at(NOON)));
    assert!(
        check(
            &bundle,
            Artifact::Digest(subject()),
            &by_key(&Signer::p256(), &sigstore)
        )
        .is_err()
    );
    assert!(
        check(
            &bundle,
            Artifact::Digest(subject()),
            &by_key(&key, &Sigstore::new())
        )
        .is_err()
    );
}

#[test]
fn a_bundle_of_the_other_kind_is_refused() {
    let world = World::new();
    let key = Signer::p256();
    assert!(
        check(
            &world.logged(),
            Artifact::Digest(subject()),
            &by_key(&world.certified.key, &world.sigstore)
        )
        .is_err()
    );
    let keyed = key.bundle(IN_TOTO, common::statement(&subject(), "https://example.com/p"));
    assert_eq!(
        check(
            &keyed,
            Artifact::Digest(subject()),
            &verifier(&world.sigstore.trusted_root())
        ),
        Err(Refusal::NoCertificate.into())
    );
}

/// CVE-2026-39395: signed, and not a statement. Fails on a build that answers Ok for a document that cannot be read.
#[test]
fn b02_signed_garbage_is_refused() {
    let world = World::new();
    for garbage in ["", "{}", "null", "not json"] {
        let signed = Enveloped::new(garbage, &world.certified.key);
        let entry = world
            .sigstore
            .entry_1(&signed.body_1(&world.certified.pem()), NOON);
        let bundle = signed.bundle(world.certified.holder(), vec![entry], &[]);
        let by = verifier(&world.sigstore.trusted_root());
        assert!(matches!(
            check(&bundle, Artifact::Digest(subject()), &by),
            Err(ArtifactRefusal::Refused(Refusal::PayloadMalformed { .. }))
        ));
    }
}

#[test]
fn the_built_in_roots_are_read_and_know_each_other_not() {
    let (production, staging) = (TrustRoot::public_good().unwrap(), TrustRoot::staging().unwrap());
    assert_eq!((production.name(), staging.name()), ("public-good", "staging"));
    assert_ne!(production.digest(), staging.digest());
    assert!(!format!("{production:?}").is_empty());
}

/// A root that could mean two things, or forgot its limits, is none.
#[test]
fn a_trust_root_is_read_whole_or_not_at_all() {
    let world = World::new();
    let good = world.sigstore.trusted_root();
    assert!(
        TrustRoot::from_json(good.to_string().as_bytes())
            .unwrap()
            .expires()
            .is_some()
    );
    let changes = [
        ("/tlogs/0/publicKey/validFor", json!({})),
        ("/tlogs/0/publicKey/validFor", Value::Null),
        ("/tlogs/0/publicKey/validFor/start", json!("yesterday")),
        ("/tlogs/0/logId/keyId", json!("not base64")),
        ("/tlogs", json!({})),
        ("/certificateAuthorities/0/certChain/certificates", json!([])),
        (
            "/certificateAuthorities/0/certChain/certificates/0/rawBytes",
            json!("AAAA"),
        ),
        ("/certificateAuthorities/0/validFor", Value::Null),
        (
            "/timestampAuthorities/0/certChain/certificates/1/rawBytes",
            json!(STANDARD.encode(&world.sigstore.root.certificate)),
        ),
        ("/mediaType", json!("application/json")),
    ];
    for (at, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value.clone();
        assert!(
            TrustRoot::from_json(bad.to_string().as_bytes()).is_err(),
            "{at} = {value}"
        );
    }
    let doubled = good.to_string().replacen('{', r#"{"tlogs":[],"#, 1);
    assert!(TrustRoot::from_json(doubled.as_bytes()).is_err());
    let empty = json!({"mediaType": good["mediaType"]});
    assert!(TrustRoot::from_json(empty.to_string().as_bytes()).is_err());
    assert!(TrustRoot::from_json(&vec![b' '; 3 * 1024 * 1024]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_material_never_panics_and_never_verifies(der: Vec<u8>, token: Vec<u8>, text: String, chosen in 0_usize..4) {
        let world = World::of(&Leaf::default());
        let mut bundle = world.logged_and_stamped();
        match chosen {
            0 => bundle["verificationMaterial"]["certificate"]["rawBytes"] = json!(STANDARD.encode(der)),
            1 => bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"] =
                json!(STANDARD.encode(token)),
            2 => bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]["envelope"] = json!(text),
            _ => bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"] = json!(STANDARD.encode(text)),
        }
        let by = asking(&world.sigstore.trusted_root(), Demand::Required, Demand::Required);
        prop_assert!(check(&bundle, Artifact::Digest(subject()), &by).is_err());
        let outcome = assay_verify::verify(&common::item(&bundle), &subject(), &by);
        prop_assert!(!matches!(outcome, assay_verify::Outcome::Verified(_)));
    }

    #[test]
    fn arbitrary_bytes_are_no_trust_root_and_no_bundle(bytes: Vec<u8>) {
        prop_assert!(TrustRoot::from_json(&bytes).is_err());
        let by = Verifier::by_key(Signer::p256().public());
        prop_assert!(verify_artifact(&bytes, Artifact::Content(b"x"), &by).is_err());
    }
}
