//! cosign's tag format under certificates: what its annotations prove.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use assay_verify::{ClaimKind, Demand, Format, Item, Outcome, Refusal, verify};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::asking::{asking, refused, verified, without_evidence};
use common::private::{Enveloped, NOON, SUBJECT, World};
use common::{Signer, payload, pem, statement, subject};
use serde_json::{Value, json};

fn annotations(world: &World, signature: &[u8], entry: &Value, over: &[u8]) -> BTreeMap<String, String> {
    let id = STANDARD
        .decode(entry["logId"]["keyId"].as_str().unwrap())
        .unwrap();
    let log = json!({
        "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
        "Payload": {
            "body": entry["canonicalizedBody"],
            "integratedTime": NOON,
            "logIndex": 41,
            "logID": hex::encode(id),
        },
    });
    let chain = [
        &world.sigstore.authority.certificate,
        &world.sigstore.root.certificate,
    ];
    let stamp = world.sigstore.timestamps.stamp(over, NOON);
    [
        ("dev.cosignproject.cosign/signature", STANDARD.encode(signature)),
        ("dev.sigstore.cosign/certificate", world.certified.pem()),
        (
            "dev.sigstore.cosign/chain",
            chain.map(|der| pem("CERTIFICATE", der)).concat(),
        ),
        ("dev.sigstore.cosign/bundle", log.to_string()),
        (
            "dev.sigstore.cosign/rfc3161timestamp",
            json!({"SignedRFC3161Timestamp": STANDARD.encode(stamp)}).to_string(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A layer of the tag format as cosign 2 writes it under a certificate.
fn simple_signing(world: &World) -> (Vec<u8>, BTreeMap<String, String>) {
    let text = payload(&subject()).into_bytes();
    let signature = world.certified.key.sign(&text);
    let body = json!({
        "apiVersion": "0.0.1", "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(common::private::sha256(&text))}},
            "signature": {
                "content": STANDARD.encode(&signature),
                "publicKey": {"content": STANDARD.encode(world.certified.pem())},
            },
        },
    });
    let annotations = annotations(
        world,
        &signature,
        &world.sigstore.entry_1(&body, NOON),
        &signature,
    );
    (text, annotations)
}

#[test]
fn the_tag_format_verifies_with_its_certificate_promise_and_timestamp() {
    let world = World::new();
    let root = world.sigstore.trusted_root();
    let (text, annotations) = simple_signing(&world);
    let layer = Item::from_cosign_layer(Item::SIMPLE_SIGNING, &annotations, text.clone().into());
    let claim = verified(verify(
        &layer,
        &subject(),
        &asking(&root, Demand::Required, Demand::Required),
    ));
    assert_eq!(claim.format, Format::SimpleSigning);
    assert_eq!(claim.times.iter().count(), 2);
    assert_eq!(claim.identity.as_ref().unwrap().subject, SUBJECT);
    let claim = without_evidence(claim);
    for (missing, demands, left) in [
        (
            "dev.sigstore.cosign/bundle",
            (Demand::Required, Demand::Ignore),
            Refusal::LogMissing,
        ),
        (
            "dev.sigstore.cosign/rfc3161timestamp",
            (Demand::Ignore, Demand::Required),
            Refusal::TimestampMissing,
        ),
        (
            "dev.sigstore.cosign/certificate",
            (Demand::Required, Demand::Ignore),
            Refusal::NoCertificate,
        ),
    ] {
        let mut fewer = annotations.clone();
        fewer.remove(missing);
        let layer = Item::from_cosign_layer(Item::SIMPLE_SIGNING, &fewer, text.clone().into());
        assert_eq!(
            refused(verify(&layer, &subject(), &asking(&root, demands.0, demands.1))),
            left
        );
    }
    for name in annotations.keys().filter(|name| !name.ends_with("/chain")) {
        for at in 0..annotations[name].len() {
            let mut mutated = annotations.clone();
            let mut value = mutated[name].clone().into_bytes();
            value[at] ^= 1;
            mutated.insert(name.clone(), String::from_utf8(value).unwrap());
            let layer = Item::from_cosign_layer(Item::SIMPLE_SIGNING, &mutated, text.clone().into());
            let outcome = verify(
                &layer,
                &subject(),
                &asking(&root, Demand::Required, Demand::Required),
            );
            // Another blank between the lines of a certificate, another status beside a token.
            if let Outcome::Verified(changed) = outcome {
                let is_free = name.ends_with("/certificate") || name.ends_with("timestamp");
                assert!(is_free, "{name} byte {at}");
                assert_eq!(without_evidence(*changed), claim, "{name} byte {at}");
            }
        }
    }
}

#[test]
fn an_attestation_of_the_tag_format_verifies_with_its_annotations() {
    let world = World::new();
    let predicate_type = "https://cosign.sigstore.dev/attestation/vuln/v1";
    let signed = Enveloped::new(&statement(&subject(), predicate_type), &world.certified.key);
    let bundle = signed.bundle(world.certified.holder(), vec![], &[]);
    let bytes = bundle["dsseEnvelope"].to_string().into_bytes();
    let entry = world
        .sigstore
        .entry_1(&signed.body_1(&world.certified.pem()), NOON);
    let annotations = annotations(&world, b"", &entry, &bytes);
    let layer = Item::from_cosign_layer(Item::DSSE_ENVELOPE, &annotations, bytes.into());
    let required = asking(&world.sigstore.trusted_root(), Demand::Required, Demand::Required);
    let claim = verified(verify(&layer, &subject(), &required));
    assert_eq!(claim.format, Format::DsseLayer);
    assert_eq!(
        claim.kind,
        ClaimKind::Attestation {
            predicate_type: predicate_type.into()
        }
    );
    assert_eq!(
        claim.times.iter().count(),
        2,
        "its timestamp is over the envelope"
    );
    assert_eq!(layer.statement().unwrap().unwrap().predicate_type, predicate_type);
}

#[test]
fn a_layer_without_annotations_is_the_item_that_it_always_was() {
    let signer = Signer::p256();
    let text = payload(&subject());
    let signature = STANDARD.encode(signer.sign(text.as_bytes()));
    let annotations = BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature.clone())]);
    let layer = Item::from_cosign_layer(Item::SIMPLE_SIGNING, &annotations, text.clone().into());
    assert_eq!(
        layer.id(),
        Item::from_simple_signing(text.into(), &signature).id()
    );
}
