//! What real cosign 2 and 3 wrote under certificates of a private Sigstore of real servers (fixtures of
//! `hack/verify-fixtures.sh`): every kind of item in every format, and what each missing part changes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use assay_verify::{
    Artifact, Claim, ClaimKind, Demand, IdentityMatcher, Item, Outcome, Pattern, PublicKey, Refusal,
    TrustRoot, Verifier, verify, verify_artifact,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::asking::{refused, verified, without_evidence};
use common::{fixture, fixture_text, other_subject};
use image::Digest;
use serde_json::{Value, json};

const COSIGNS: [&str; 2] = ["cosign2", "cosign3"];
const IDENTITIES: [&str; 2] = ["person", "workflow"];
const PREDICATES: [(&str, &str); 4] = [
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("slsa-v02", "https://slsa.dev/provenance/v0.2"),
    ("slsa-v1", "https://slsa.dev/provenance/v1"),
    ("review", "https://example.com/review/v1"),
];

fn path(folder: &str, name: &str) -> String {
    format!("keyless/{folder}/{name}")
}

fn root(folder: &str) -> Arc<TrustRoot> {
    Arc::new(TrustRoot::from_json(&fixture(&path(folder, "trusted_root.json"))).unwrap())
}

fn image() -> Digest {
    fixture_text(&path("full", "digest")).parse().unwrap()
}

fn matcher(folder: &str, identity: &str) -> IdentityMatcher {
    let all: Value = serde_json::from_slice(&fixture(&path(folder, "identities.json"))).unwrap();
    let text = |name: &str| Pattern::exact(all[identity][name].as_str().unwrap()).unwrap();
    IdentityMatcher::new(text("issuer"), text("subject"))
}

fn verifier(folder: &str, identity: &str, log: Demand, timestamp: Demand) -> Verifier {
    Verifier::keyless(matcher(folder, identity), log, timestamp, root(folder)).unwrap()
}

fn bundle(folder: &str, name: &str) -> Item {
    Item::from_bundle(&fixture(&path(folder, &format!("{name}.bundle.json"))))
}

fn layer(folder: &str, name: &str, tag: &str) -> Item {
    let layer: Value =
        serde_json::from_slice(&fixture(&path(folder, &format!("{name}.{tag}.layer.json")))).unwrap();
    let payload = fixture(&path(folder, &format!("{name}.{tag}.payload")));
    let annotations: BTreeMap<String, String> = serde_json::from_value(layer["annotations"].clone()).unwrap();
    Item::from_cosign_layer(layer["mediaType"].as_str().unwrap(), &annotations, payload.into())
}

/// Every signature and attestation of one identity by one cosign, in both formats, with what it must be claimed as.
fn items(cosign: &str, identity: &str) -> Vec<(String, Item, ClaimKind)> {
    let name = format!("{cosign}-{identity}");
    let mut items = vec![
        (
            format!("{name} bundle"),
            bundle("full", &name),
            ClaimKind::ImageSignature,
        ),
        (
            format!("{name} tag"),
            layer("full", &name, "sig"),
            ClaimKind::ImageSignature,
        ),
    ];
    for (predicate, predicate_type) in PREDICATES {
        let name = format!("{cosign}-{identity}-{predicate}");
        let kind = ClaimKind::Attestation {
            predicate_type: predicate_type.into(),
        };
        items.push((format!("{name} bundle"), bundle("full", &name), kind.clone()));
        items.push((format!("{name} tag"), layer("full", &name, "att"), kind));
    }
    items
}

#[test]
fn everything_that_cosign_2_and_3_write_verifies_under_its_identity_and_root_alone() {
    let others = root("unknown-root");
    for cosign in COSIGNS {
        for (identity, other_identity) in [(IDENTITIES[0], IDENTITIES[1]), (IDENTITIES[1], IDENTITIES[0])] {
            let asked = verifier("full", identity, Demand::Required, Demand::Required);
            let of_other = verifier("full", other_identity, Demand::Required, Demand::Optional);
            let elsewhere = Verifier::keyless(
                matcher("full", identity),
                Demand::Required,
                Demand::Optional,
                others.clone(),
            )
            .unwrap();
            for (name, item, kind) in items(cosign, identity) {
                let outcome = verify(&item, &image(), &asked);
                let Outcome::Verified(claim) = outcome else {
                    panic!("{name}: {outcome:?}")
                };
                assert_eq!(claim.kind, kind, "{name}");
                assert!(
                    claim.created_after.unwrap() <= claim.times.earliest().unwrap(),
                    "{name}"
                );
                assert!(
                    matches!(
                        refused(verify(&item, &image(), &of_other)),
                        Refusal::IdentityMismatch { .. }
                    ),
                    "{name}"
                );
                assert!(
                    matches!(verify(&item, &image(), &elsewhere), Outcome::Refused(_)),
                    "{name}"
                );
                assert!(
                    matches!(
                        refused(verify(&item, &other_subject(), &asked)),
                        Refusal::SubjectMismatch { .. }
                    ),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_workflows_certificate_tells_where_it_ran() {
    let asked = verifier("full", "workflow", Demand::Required, Demand::Ignore);
    let claim = verified(verify(
        &layer("full", "cosign3-workflow", "sig"),
        &image(),
        &asked,
    ));
    let identity = claim.identity.unwrap();
    assert!(identity.extensions["sourceRepositoryURI"].starts_with("https://github.com/"));
    assert!(identity.extensions.contains_key("githubWorkflowRepository"));
}

#[test]
fn a_key_that_is_logged_and_timestamped_verifies_in_both_formats() {
    for cosign in COSIGNS {
        let name = format!("{cosign}-key");
        let key = PublicKey::from_pem(&fixture_text(&path("full", &format!("{name}.pub")))).unwrap();
        let by = |root: &str| {
            Verifier::by_key_with(
                key.clone(),
                Demand::Required,
                Demand::Required,
                Some(self::root(root)),
            )
            .unwrap()
        };
        for item in [bundle("full", &name), layer("full", &name, "sig")] {
            let claim = verified(verify(&item, &image(), &by("full")));
            assert!(!claim.times.is_empty());
            assert!(
                matches!(verify(&item, &image(), &by("unknown-root")), Outcome::Refused(_)),
                "{name}"
            );
        }
    }
}

/// (what its Sigstore has, whether it verifies where the log is Required, and where a timestamp is Required)
#[test]
fn what_a_sigstore_does_not_have_is_missed_where_it_is_required() {
    let folders = [
        ("unknown-root", true, true),
        ("without-sct", true, true),
        ("rekor-v1", true, true),
        ("rekor-v1-alone", true, false),
        ("without-log", false, true),
        ("without-time", false, false),
    ];
    for (folder, with_log, with_timestamp) in folders {
        for item in [
            bundle(folder, "cosign3-person"),
            layer(folder, "cosign3-person", "sig"),
        ] {
            let holds = |log, timestamp| {
                let outcome = verify(&item, &image(), &verifier(folder, "person", log, timestamp));
                matches!(outcome, Outcome::Verified(_))
            };
            let format = item.format();
            assert_eq!(
                holds(Demand::Required, Demand::Optional),
                with_log,
                "{folder} {format}"
            );
            assert_eq!(
                holds(Demand::Optional, Demand::Required),
                with_timestamp,
                "{folder} {format}"
            );
            assert_eq!(
                holds(Demand::Ignore, Demand::Required),
                with_timestamp,
                "{folder} {format}"
            );
            assert_eq!(
                holds(Demand::Required, Demand::Required),
                with_log && with_timestamp,
                "{folder} {format}"
            );
        }
    }
}

/// The certificates of `without-sct` carry no SCT, which a root with a certificate log wants.
#[test]
fn b48_a_certificate_without_sct_is_refused_where_the_root_has_a_certificate_log() {
    let mut json: Value =
        serde_json::from_slice(&fixture(&path("without-sct", "trusted_root.json"))).unwrap();
    let full: Value = serde_json::from_slice(&fixture(&path("full", "trusted_root.json"))).unwrap();
    json["ctlogs"] = full["ctlogs"].clone();
    let root = Arc::new(TrustRoot::from_json(json.to_string().as_bytes()).unwrap());
    let asked = Verifier::keyless(
        matcher("without-sct", "person"),
        Demand::Required,
        Demand::Optional,
        root,
    )
    .unwrap();
    assert!(matches!(
        refused(verify(&bundle("without-sct", "cosign3-person"), &image(), &asked)),
        Refusal::CertificateInvalid { .. }
    ));
}

#[test]
fn a_signed_blob_verifies_as_an_artifact_and_is_no_signature_of_an_image() {
    let content = fixture(&path("full", "digest"));
    for cosign in COSIGNS {
        for identity in IDENTITIES {
            let bytes = fixture(&path("full", &format!("{cosign}-{identity}-blob.bundle.json")));
            let asked = verifier("full", identity, Demand::Required, Demand::Optional);
            for artifact in [
                Artifact::Content(&content),
                Artifact::Digest(Digest::sha256(&content)),
            ] {
                let verified = verify_artifact(&bytes, artifact, &asked);
                assert!(verified.is_ok(), "{cosign} {identity}: {verified:?}");
            }
            assert!(verify_artifact(&bytes, Artifact::Content(b"another"), &asked).is_err());
            assert!(matches!(
                refused(verify(&Item::from_bundle(&bytes), &image(), &asked)),
                Refusal::NotASignature { .. }
            ));
        }
    }
}

/// Every third byte, in each part of one bundle (`logs` tries every byte of what is made there); parts that nothing rests on may change, the claim may not.
#[test]
fn no_changed_byte_of_a_real_bundle_proves_anything_else() {
    let text = fixture(&path("full", "cosign3-workflow.bundle.json"));
    let whole: Value = serde_json::from_slice(&text).unwrap();
    let asked = verifier("full", "workflow", Demand::Required, Demand::Required);
    let ask = |bundle: &Value| {
        verify(
            &Item::from_bundle(bundle.to_string().as_bytes()),
            &image(),
            &asked,
        )
    };
    let claim = without_evidence(verified(ask(&whole)));
    for part in [
        "/verificationMaterial/certificate/rawBytes",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
        "/dsseEnvelope/payload",
        "/dsseEnvelope/signatures/0/sig",
    ] {
        let bytes = STANDARD
            .decode(whole.pointer(part).unwrap().as_str().unwrap())
            .unwrap();
        for at in (0..bytes.len()).step_by(3) {
            let mut mutated = bytes.clone();
            mutated[at] ^= 1 << (at % 8);
            let mut changed = whole.clone();
            *changed.pointer_mut(part).unwrap() = json!(STANDARD.encode(mutated));
            if let Outcome::Verified(changed) = ask(&changed) {
                // The token carries certificates that nobody looks at: those of the trust root count.
                assert!(part.ends_with("signedTimestamp"), "{part} byte {at}");
                assert_eq!(
                    without_evidence(Claim::clone(&changed)),
                    claim,
                    "{part} byte {at}"
                );
            }
        }
    }
}
