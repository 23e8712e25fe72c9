//! Bypasses of comparable systems, tried here; the numbers are those of the project's list of security cases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{Cause, ClaimKind, Item, ItemKind, Outcome, Refusal};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{
    COSIGN_SIGN, IN_TOTO, Signer, item, other_subject, payload, statement, subject, verify_signature,
};
use serde_json::{Value, json};

const SCAN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

fn verified(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Verified(_))
}

#[test]
fn what_a_key_signed_verifies_in_both_formats_under_that_key_alone() {
    let stranger = Signer::p256().public();
    for (name, signer) in Signer::of_each_type() {
        assert_eq!(signer.public().algorithm().to_string(), name);
        for item in [
            signer.simple_signing(payload(&subject())),
            signer.statement(statement(&subject(), COSIGN_SIGN)),
        ] {
            assert!(
                verified(&verify_signature(&item, &subject(), &signer.public())),
                "{name} {}",
                item.format()
            );
            assert_eq!(
                verify_signature(&item, &subject(), &stranger),
                Outcome::Refused(Refusal::SignatureMismatch),
                "{name} {}",
                item.format()
            );
        }
    }
}

#[test]
fn b01_a_signed_attestation_is_one_of_its_own_predicate_type_and_no_signature() {
    let signer = Signer::p256();
    for predicate_type in [
        SCAN,
        "https://slsa.dev/provenance/v1",
        "https://sigstore.dev/cosign/sign/v1/",
        "x",
    ] {
        let item = signer.statement(statement(&subject(), predicate_type));
        assert_eq!(
            item.kind(),
            ItemKind::Attestation {
                predicate_type: predicate_type.into()
            }
        );
        let Outcome::Verified(claim) = verify_signature(&item, &subject(), &signer.public()) else {
            panic!("a good attestation is refused")
        };
        assert_eq!(
            claim.kind,
            ClaimKind::Attestation {
                predicate_type: predicate_type.into()
            }
        );
    }
}

#[test]
fn b02_validly_signed_garbage_is_refused_and_told_apart_from_a_strangers() {
    let (signer, stranger) = (Signer::p256(), Signer::p256().public());
    for garbage in ["", "garbage", "{}", "null", "[]", "{\"critical\":{}}", "\u{0}"] {
        for item in [signer.simple_signing(garbage), signer.statement(garbage)] {
            assert!(
                matches!(item.kind(), ItemKind::UnreadablePayload { .. }),
                "{garbage:?}"
            );
            let by_signer = verify_signature(&item, &subject(), &signer.public());
            assert!(
                matches!(by_signer, Outcome::Refused(Refusal::PayloadMalformed { .. })),
                "{by_signer:?}"
            );
            let by_stranger = verify_signature(&item, &subject(), &stranger);
            assert_eq!(by_stranger, Outcome::Refused(Refusal::SignatureMismatch));
        }
    }
}

/// The good signature may stand first or last. Weakened once: with the first of several taken, it verifies.
#[test]
fn b08_an_envelope_with_two_signatures_is_refused() {
    let (signer, other) = (Signer::p256(), Signer::p256());
    let text = statement(&subject(), COSIGN_SIGN);
    let mut bundle = signer.bundle(IN_TOTO, &text);
    let second = other.bundle(IN_TOTO, &text)["dsseEnvelope"]["signatures"][0].clone();
    for at in [0, 1] {
        let mut doubled = bundle.clone();
        doubled["dsseEnvelope"]["signatures"]
            .as_array_mut()
            .unwrap()
            .insert(at, second.clone());
        assert!(matches!(
            verify_signature(&item(&doubled), &subject(), &signer.public()),
            Outcome::Refused(Refusal::EvidenceMalformed { why }) if why.contains("2 signatures")
        ));
    }
    bundle["dsseEnvelope"]["signatures"] = json!([]);
    assert!(matches!(item(&bundle).kind(), ItemKind::Malformed { .. }));
}

/// As an OCI document that is index and manifest at once: a bundle with two contents. Weakened once: with the envelope
/// taken where both are, it is an attestation.
#[test]
fn b13_a_bundle_that_is_two_things_at_once_is_refused() {
    let signer = Signer::p256();
    let mut bundle = signer.bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN));
    bundle["messageSignature"] =
        json!({"messageDigest": {"algorithm": "SHA2_256", "digest": "AAAA"}, "signature": "AAAA"});
    assert!(matches!(
        verify_signature(&item(&bundle), &subject(), &signer.public()),
        Outcome::Refused(Refusal::EvidenceMalformed { why }) if why.contains("both")
    ));
}

/// cosign checks neither the type nor, without a flag, the repository.
#[test]
fn b14_digest_and_type_of_a_payload_are_binding_and_its_repository_is_handed_on() {
    let signer = Signer::p256();
    let signed = signer.simple_signing(payload(&subject()));
    assert_eq!(
        verify_signature(&signed, &other_subject(), &signer.public()),
        Outcome::Refused(Refusal::SubjectMismatch {
            found: vec![subject()]
        })
    );
    for other_type in [
        "atomic container signature",
        "",
        "Cosign container image signature",
    ] {
        let payload = payload(&subject()).replace("cosign container image signature", other_type);
        assert!(matches!(
            verify_signature(&signer.simple_signing(payload), &subject(), &signer.public()),
            Outcome::Refused(Refusal::NotASignature { .. })
        ));
    }
    let Outcome::Verified(claim) = verify_signature(&signed, &subject(), &signer.public()) else {
        panic!("a good signature is refused")
    };
    assert_eq!(
        claim.docker_reference.as_deref(),
        Some("registry.example.com/shop/web")
    );
}

#[test]
fn the_type_that_cosign_3_gives_a_signature_counts_in_a_payload_too() {
    let signer = Signer::p256();
    let payload = payload(&subject()).replace("cosign container image signature", COSIGN_SIGN);
    assert!(verified(&verify_signature(
        &signer.simple_signing(payload),
        &subject(),
        &signer.public()
    )));
}

/// Nothing of this is signed, so it can neither help nor spoil what the key signed.
#[test]
fn b50_unverifiable_log_entries_and_timestamps_do_not_spoil_a_key_signature() {
    let signer = Signer::p256();
    let mut bundle = signer.bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN));
    bundle["verificationMaterial"]["tlogEntries"] =
        json!([{"logIndex": "1", "inclusionPromise": {"signedEntryTimestamp": "AAAA"}}]);
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]});
    assert!(verified(&verify_signature(
        &item(&bundle),
        &subject(),
        &signer.public()
    )));
    bundle["verificationMaterial"]["publicKey"]["hint"] = json!("another key");
    assert!(verified(&verify_signature(
        &item(&bundle),
        &subject(),
        &signer.public()
    )));
}

fn assert_payload_malformed(signer: &Signer, item: &Item, text: &str) {
    let outcome = verify_signature(item, &subject(), &signer.public());
    assert!(
        matches!(outcome, Outcome::Refused(Refusal::PayloadMalformed { .. })),
        "{text}: {outcome:?}"
    );
}

/// Fails on a build without `is_another_sha256`, and on one that reads statements with plain `serde_json`.
#[test]
fn b53_a_statement_that_two_readers_could_read_differently_is_refused() {
    let signer = Signer::p256();
    let good = statement(&subject(), COSIGN_SIGN);
    let (hex, other) = (subject().hex(), other_subject().hex());
    let digest = format!(r#"{{"sha256":"{hex}"}}"#);
    let with_digest = |replacement: String| good.replace(&digest, &replacement);
    let statements = [
        good.replacen('{', &format!(r#"{{"predicateType":"{SCAN}","#), 1),
        good.replacen('{', &format!(r#"{{"PredicateType":"{SCAN}","#), 1),
        good.replacen('{', r#"{"Subject":[],"#, 1),
        with_digest(format!(r#"{{"sha256":"{hex}","sha256":"{other}"}}"#)),
        with_digest(format!(r#"{{"sha256":"{hex}","SHA256":"{other}"}}"#)),
        with_digest(format!(r#"{{"sha256":"{hex}","sha-256":"{other}"}}"#)),
        with_digest(format!(r#"{{"SHA2_256":"{other}","sha256":"{hex}"}}"#)),
        with_digest(format!(r#"{{"sha512":"{hex}{hex}"}}"#)),
        with_digest(format!(r#"{{"sha256":"{}"}}"#, hex.to_uppercase())),
        with_digest(format!(r#"{{"sha256":"sha256:{hex}"}}"#)),
        with_digest(r#"{"sha256":""}"#.into()),
        with_digest(r#"{"sha256":7}"#.into()),
        with_digest("{}".into()),
        with_digest("null".into()),
        good.replace("Statement/v1", "Statement/v2"),
        good.replace("https://in-toto.io/Statement/v1", ""),
        good.replace("_type", "type"),
        good.replace(COSIGN_SIGN, ""),
        good.replace(&format!(r#""predicateType":"{COSIGN_SIGN}","#), ""),
        good.replace(&format!(r#"[{{"digest":{digest}}}]"#), "[]"),
        good.replace(
            &format!(r#"[{{"digest":{digest}}}]"#),
            &format!(r#"{{"digest":{digest}}}"#),
        ),
        good.replace(&format!(r#"[{{"digest":{digest}}}]"#), "[null]"),
        format!("{good}{good}"),
        format!("[{good}]"),
        good.replace("\"predicate\":{}", "\"predicate\":{\"a\":1,\"a\":2}"),
    ];
    for text in statements {
        assert_ne!(text, good);
        assert_payload_malformed(&signer, &signer.statement(&text), &text);
    }
}

#[test]
fn b53_a_payload_that_two_readers_could_read_differently_is_refused() {
    let signer = Signer::p256();
    let (good, other) = (payload(&subject()), payload(&other_subject()));
    let digest = subject().to_string();
    let payloads = [
        good.replacen(
            '{',
            &format!(
                "{{{},",
                &other[1..other.len() - 1].replace(",\"optional\":null", "")
            ),
            1,
        ),
        good.replacen('{', r#"{"Critical":{},"#, 1),
        good.replace("\"optional\":null", "\"optional\":null,\"more\":1"),
        good.replace("\"optional\":null", "\"optional\":[]"),
        good.replace("\"type\"", "\"extra\":1,\"type\""),
        good.replace("\"type\"", "\"Type\""),
        good.replace(
            "\"docker-manifest-digest\"",
            "\"docker-manifest-digest\":\"x\",\"docker-manifest-digest\"",
        ),
        good.replace(
            "\"docker-manifest-digest\"",
            "\"Docker-Manifest-Digest\":\"x\",\"docker-manifest-digest\"",
        ),
        good.replace("\"docker-reference\":\"registry.example.com/shop/web\"", ""),
        good.replace("\"registry.example.com/shop/web\"", "null"),
        good.replace(&digest, ""),
        good.replace(&digest, digest.strip_prefix("sha256:").unwrap()),
        good.replace(&digest, &digest.to_uppercase()),
        good.replace(&digest, &format!("{digest} ")),
        format!("{good}\n{good}"),
    ];
    for text in payloads {
        assert_ne!(text, good);
        assert_payload_malformed(&signer, &signer.simple_signing(&text), &text);
    }
}

#[test]
fn b53_a_good_statement_under_another_payload_type_is_refused() {
    let signer = Signer::p256();
    for payload_type in [
        "text/plain",
        "",
        "application/vnd.in-toto+json ",
        "application/vnd.dsse.envelope.v1+json",
    ] {
        let bundle = signer.bundle(payload_type, statement(&subject(), COSIGN_SIGN));
        assert_payload_malformed(&signer, &item(&bundle), payload_type);
    }
}

/// The payload type is part of what is signed.
#[test]
fn a_signed_text_cannot_be_moved_under_the_payload_type_of_a_statement() {
    let signer = Signer::p256();
    let mut bundle = signer.bundle("text/plain", statement(&subject(), COSIGN_SIGN));
    bundle["dsseEnvelope"]["payloadType"] = json!(IN_TOTO);
    assert_eq!(
        verify_signature(&item(&bundle), &subject(), &signer.public()),
        Outcome::Refused(Refusal::SignatureMismatch)
    );
    let statement = statement(&subject(), COSIGN_SIGN);
    bundle["dsseEnvelope"]["signatures"][0]["sig"] =
        json!(STANDARD.encode(signer.sign(statement.as_bytes())));
    assert_eq!(
        verify_signature(&item(&bundle), &subject(), &signer.public()),
        Outcome::Refused(Refusal::SignatureMismatch),
        "a bare signature over the statement's bytes is not one over the envelope"
    );
}

#[test]
fn one_of_several_subjects_is_enough() {
    let signer = Signer::p256();
    let (one, two) = (subject().hex(), other_subject().hex());
    let text = statement(&subject(), COSIGN_SIGN).replace(
        &format!(r#"{{"digest":{{"sha256":"{one}"}}}}"#),
        &format!(r#"{{"digest":{{"sha512":"00"}}}},{{"name":"a","digest":{{"sha256":"{one}"}}}},{{"digest":{{"sha256":"{two}"}}}}"#),
    );
    let item = signer.statement(text);
    assert!(verified(&verify_signature(&item, &subject(), &signer.public())));
    assert!(verified(&verify_signature(
        &item,
        &other_subject(),
        &signer.public()
    )));
}

#[test]
fn every_bundle_version_up_to_0_3_is_read_and_a_later_one_cannot_be_told() {
    let signer = Signer::p256();
    let mut bundle = signer.bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN));
    for version in [
        "+json;version=0.1",
        "+json;version=0.2",
        "+json;version=0.3",
        ".v0.3+json",
    ] {
        bundle["mediaType"] = json!(format!("application/vnd.dev.sigstore.bundle{version}"));
        assert!(
            verified(&verify_signature(&item(&bundle), &subject(), &signer.public())),
            "{version}"
        );
    }
    bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle.v0.4+json");
    assert!(matches!(
        verify_signature(&item(&bundle), &subject(), &signer.public()),
        Outcome::CannotTell(Cause::UnknownVersion { .. })
    ));
}

#[test]
fn a_bundle_of_another_shape_is_refused_before_any_key_is_asked() {
    let signer = Signer::p256();
    let good = signer.bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN));
    let changes: [(&str, Value); 12] = [
        ("/mediaType", json!("application/json")),
        ("/mediaType", Value::Null),
        ("/verificationMaterial", Value::Null),
        ("/verificationMaterial", json!({})),
        (
            "/verificationMaterial",
            json!({"publicKey": {}, "certificate": {"rawBytes": "AAAA"}}),
        ),
        ("/verificationMaterial", json!({"publicKey": {}, "x": 1})),
        ("/dsseEnvelope", Value::Null),
        ("/dsseEnvelope/payload", json!("not base64")),
        ("/dsseEnvelope/payload", json!(7)),
        ("/dsseEnvelope/payloadType", Value::Null),
        ("/dsseEnvelope/signatures/0/sig", json!("-_8=")),
        (
            "/dsseEnvelope/signatures/0",
            json!({"sig": "AAAA", "Sig": "AAAA"}),
        ),
    ];
    for (at, value) in changes {
        let mut bundle = good.clone();
        *bundle.pointer_mut(at).unwrap() = value.clone();
        let outcome = verify_signature(&item(&bundle), &subject(), &signer.public());
        assert!(
            matches!(outcome, Outcome::Refused(Refusal::EvidenceMalformed { .. })),
            "{at} = {value}: {outcome:?}"
        );
    }
}

#[test]
fn a_doubled_field_of_a_bundle_is_refused_though_one_of_the_two_is_good() {
    let signer = Signer::p256();
    let good = signer
        .bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN))
        .to_string();
    for name in [
        "dsseEnvelope",
        "payload",
        "payloadType",
        "signatures",
        "sig",
        "verificationMaterial",
    ] {
        for spelling in [name.to_owned(), name.to_uppercase()] {
            let doubled = good.replace(
                &format!("\"{name}\":"),
                &format!("\"{spelling}\":null,\"{name}\":"),
            );
            assert_ne!(doubled, good);
            assert!(matches!(
                verify_signature(
                    &Item::from_bundle(doubled.as_bytes()),
                    &subject(),
                    &signer.public()
                ),
                Outcome::Refused(Refusal::EvidenceMalformed { .. })
            ));
        }
    }
}

/// Architecture, invariant 8: past a cap the answer is neither yes nor no.
#[test]
fn what_passes_a_cap_cannot_be_told() {
    let signer = Signer::p256();
    let spaces = " ".repeat(5 * 1024 * 1024);
    let deep = |text: &str| text.replace("null}", &format!("{}1{}}}", "{\"a\":".repeat(80), "}".repeat(80)));
    let payload = payload(&subject());
    let bundle = signer
        .bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN))
        .to_string();
    let items = [
        signer.simple_signing(format!("{payload}{spaces}")),
        Item::from_simple_signing(payload.clone().into(), &"A".repeat(20_000)),
        Item::from_bundle(format!("{bundle}{spaces}").as_bytes()),
        Item::from_bundle("[".repeat(1000).as_bytes()),
        signer.simple_signing(deep(&payload)),
    ];
    for item in items {
        let outcome = verify_signature(&item, &subject(), &signer.public());
        assert!(
            matches!(outcome, Outcome::CannotTell(Cause::TooLarge(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(
        verify_signature(
            &signer.simple_signing(deep(&payload)),
            &subject(),
            &Signer::p256().public()
        ),
        Outcome::Refused(Refusal::SignatureMismatch),
        "a stranger's deep payload is a stranger's"
    );
}

#[test]
fn an_item_is_named_by_its_format_payload_and_signature() {
    let item =
        |payload: &str, signature: &str| Item::from_simple_signing(payload.to_owned().into(), signature);
    assert_eq!(item("ab", "c").id(), item("ab", "c").id());
    let ids = [
        item("ab", "c").id().clone(),
        item("a", "bc").id().clone(),
        item("ab", "d").id().clone(),
        item("", "abc").id().clone(),
        Item::from_bundle(b"ab").id().clone(),
        Item::from_bundle(b"abc").id().clone(),
    ];
    for (at, id) in ids.iter().enumerate() {
        assert!(!ids[at + 1..].contains(id), "{at}");
    }
}
