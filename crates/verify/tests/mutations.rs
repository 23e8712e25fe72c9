//! Each mutated by one byte in each part: no changed byte of a payload or a signature verifies,
//! and nothing changed in a bundle's text verifies as anything other than what was signed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use assay_verify::{Item, Outcome, PublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{COSIGN_SIGN, IN_TOTO, Signer, item, payload, statement, subject, verify_signature};
use proptest::prelude::*;
use serde_json::json;

/// Every single-byte change that flips one bit, and a few that do not.
fn mutations(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let masks = (0..8).map(|bit| 1_u8 << bit).chain([0xff, 0x20 | 0x01]);
    masks.flat_map(move |mask| {
        (0..bytes.len()).map(move |at| {
            let mut mutated = bytes.to_vec();
            mutated[at] ^= mask;
            mutated
        })
    })
}

fn verifies(item: &Item, key: &PublicKey) -> bool {
    matches!(verify_signature(item, &subject(), key), Outcome::Verified(_))
}

#[test]
fn no_changed_byte_of_a_simple_signing_payload_or_signature_verifies() {
    for (name, signer) in Signer::of_each_type() {
        let (payload, key) = (payload(&subject()), signer.public());
        let signature = signer.sign(payload.as_bytes());
        let text = STANDARD.encode(&signature);
        assert!(
            verifies(&Item::from_simple_signing(payload.clone().into(), &text), &key),
            "{name}"
        );
        for mutated in mutations(payload.as_bytes()) {
            assert!(
                !verifies(&Item::from_simple_signing(mutated.into(), &text), &key),
                "{name} payload"
            );
        }
        for mutated in mutations(&signature) {
            let item = Item::from_simple_signing(payload.clone().into(), &STANDARD.encode(mutated));
            assert!(!verifies(&item, &key), "{name} signature");
        }
        for mutated in mutations(text.as_bytes()).filter_map(|bytes| String::from_utf8(bytes).ok()) {
            let item = Item::from_simple_signing(payload.clone().into(), &mutated);
            assert!(
                !verifies(&item, &key),
                "{name} base64 of the signature: {mutated}"
            );
        }
    }
}

#[test]
fn no_changed_byte_of_an_envelopes_payload_type_or_signature_verifies() {
    for (name, signer) in Signer::of_each_type() {
        let (text, key) = (statement(&subject(), COSIGN_SIGN), signer.public());
        let bundle = signer.bundle(IN_TOTO, &text);
        assert!(verifies(&item(&bundle), &key), "{name}");
        let signature = signer.sign(&common::pae(IN_TOTO, text.as_bytes()));
        for mutated in mutations(text.as_bytes()) {
            let mut changed = bundle.clone();
            changed["dsseEnvelope"]["payload"] = json!(STANDARD.encode(mutated));
            assert!(!verifies(&item(&changed), &key), "{name} payload");
        }
        for mutated in mutations(&signature) {
            let mut changed = bundle.clone();
            changed["dsseEnvelope"]["signatures"][0]["sig"] = json!(STANDARD.encode(mutated));
            assert!(!verifies(&item(&changed), &key), "{name} signature");
        }
        for mutated in mutations(IN_TOTO.as_bytes()).filter_map(|bytes| String::from_utf8(bytes).ok()) {
            let mut changed = bundle.clone();
            changed["dsseEnvelope"]["payloadType"] = json!(mutated);
            assert!(!verifies(&item(&changed), &key), "{name} payload type");
        }
    }
}

/// Outside the signed parts a bundle has one free value, the key hint, on which nothing rests.
#[test]
fn a_changed_byte_of_a_bundles_text_verifies_only_within_its_key_hint() {
    let signer = Signer::p256();
    let text = signer
        .bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN))
        .to_string();
    let hint = text.find("aGludA==").unwrap();
    let (mut verified, mut refused) = (0, 0);
    for mutated in mutations(text.as_bytes()) {
        let at = mutated
            .iter()
            .zip(text.as_bytes())
            .position(|(left, right)| left != right)
            .unwrap();
        if verifies(&Item::from_bundle(&mutated), &signer.public()) {
            assert!(
                (hint..hint + 8).contains(&at),
                "byte {at}: {}",
                String::from_utf8_lossy(&mutated)
            );
            verified += 1;
        } else {
            refused += 1;
        }
    }
    assert!(verified > 0 && refused > verified);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_verify(bytes: Vec<u8>, signature: String) {
        let key = Signer::p256().public();
        for item in [Item::from_bundle(&bytes), Item::from_simple_signing(bytes.clone().into(), &signature)] {
            let kind = item.kind();
            prop_assert!(!verifies(&item, &key), "{kind:?}");
        }
    }

    #[test]
    fn arbitrary_layers_of_the_tag_format_never_panic_and_never_verify(
        bytes: Vec<u8>,
        values in prop::array::uniform5(".{0,60}"),
        attested: bool,
    ) {
        let names = ["dev.cosignproject.cosign/signature", "dev.sigstore.cosign/certificate",
            "dev.sigstore.cosign/chain", "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"];
        let annotations = names.into_iter().map(str::to_owned).zip(values).collect();
        let media_type = if attested { Item::DSSE_ENVELOPE } else { Item::SIMPLE_SIGNING };
        let item = Item::from_cosign_layer(media_type, &annotations, bytes.into());
        prop_assert!(!verifies(&item, &Signer::p256().public()));
    }

    #[test]
    fn an_arbitrary_text_is_a_pattern_or_none_and_never_matches_the_empty_text(text: String) {
        if let Ok(pattern) = assay_verify::Pattern::regex(&text) {
            prop_assert!(!pattern.matches(""));
        }
    }

    #[test]
    fn a_spliced_bundle_never_panics_and_verifies_only_with_its_envelope_whole(
        at in 0_usize..600,
        cut in 0_usize..40,
        put: Vec<u8>,
    ) {
        let signer = Signer::p256();
        let bundle = signer.bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN));
        let mut bytes = bundle.to_string().into_bytes();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put);
        if verifies(&Item::from_bundle(&bytes), &signer.public()) {
            let spliced: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&spliced["dsseEnvelope"], &bundle["dsseEnvelope"]);
        }
    }

    #[test]
    fn arbitrary_text_is_no_key_and_does_not_panic(text: String, der: Vec<u8>) {
        prop_assert!(PublicKey::from_pem(&text).is_err());
        prop_assert!(PublicKey::from_pem(&common::pem("PUBLIC KEY", &der)).is_err());
    }

    #[test]
    fn a_changed_byte_of_a_key_is_another_key_or_none(at in 0_usize..91, mask in 1_u8..) {
        let signer = Signer::p256();
        let mut der = signer.spki();
        let at = at.min(der.len() - 1);
        der[at] ^= mask;
        if let Ok(key) = PublicKey::from_pem(&common::pem("PUBLIC KEY", &der)) {
            prop_assert_ne!(key.fingerprint(), signer.public().fingerprint());
        }
    }
}
