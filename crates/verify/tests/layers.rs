//! Items in layers of manifests: what a manifest says of a layer, and what the layer is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use assay_verify::{Cause, Item, ItemKind, Layer, Outcome};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::{COSIGN_SIGN, IN_TOTO, Signer, payload, statement, subject, verify_signature};
use image::Digest;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A layer with a good signature in it.
struct Good {
    media_type: &'static str,
    annotations: BTreeMap<String, String>,
    bytes: Bytes,
}

impl Good {
    fn item(&self, media_type: &str, size: u64) -> Item {
        let layer = Layer {
            media_type,
            size,
            digest: &Digest::sha256(&self.bytes),
            annotations: &self.annotations,
        };
        Item::from_layer(layer, self.bytes.clone())
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn of_each_format(signer: &Signer) -> [Good; 3] {
    let text = payload(&subject());
    let signature = STANDARD.encode(signer.sign(text.as_bytes()));
    let bundle = signer.bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN));
    [
        Good {
            media_type: Item::SIMPLE_SIGNING,
            annotations: [("dev.cosignproject.cosign/signature".into(), signature)].into(),
            bytes: text.into(),
        },
        Good {
            media_type: Item::DSSE_ENVELOPE,
            annotations: BTreeMap::new(),
            bytes: bundle["dsseEnvelope"].to_string().into(),
        },
        Good {
            media_type: BUNDLE,
            annotations: BTreeMap::new(),
            bytes: bundle.to_string().into(),
        },
    ]
}

/// Each mutated by one byte in each part: the manifest. Weakened once: with the sizes not compared, the item is
/// the good one.
#[test]
fn a_layer_of_another_size_than_its_manifest_says_holds_nothing_that_counts() {
    let signer = Signer::p256();
    for good in of_each_format(&signer) {
        let whole = good.item(good.media_type, good.size());
        let outcome = verify_signature(&whole, &subject(), &signer.public());
        assert!(matches!(outcome, Outcome::Verified(_)), "{}", good.media_type);
        for size in [0, good.size() - 1, good.size() + 1, u64::MAX] {
            let item = good.item(good.media_type, size);
            assert_ne!(item.id(), whole.id());
            assert_eq!(item.format(), whole.format());
            assert!(
                matches!(item.kind(), ItemKind::Malformed { why } if why.contains(&size.to_string())),
                "{} {size}",
                good.media_type
            );
            let outcome = verify_signature(&item, &subject(), &signer.public());
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
    }
}

/// Each mutated by one byte in each part: the manifest. Weakened once: with every layer of the family read as a
/// bundle, one of `bundle/v0.3` verifies.
#[test]
fn no_changed_byte_of_a_media_type_leaves_evidence_that_counts() {
    let signer = Signer::p256();
    for good in of_each_format(&signer) {
        assert!(Item::is_in_layers_of(good.media_type));
        for at in 0..good.media_type.len() {
            for bit in 0..7 {
                let mut changed = good.media_type.as_bytes().to_vec();
                changed[at] ^= 1 << bit;
                let changed = String::from_utf8(changed).unwrap();
                if !Item::is_in_layers_of(&changed) {
                    continue;
                }
                let item = good.item(&changed, good.size());
                assert!(
                    matches!(item.kind(), ItemKind::NotRead { cause: Cause::UnknownVersion { what } } if what == changed),
                    "{changed}"
                );
                let outcome = verify_signature(&item, &subject(), &signer.public());
                assert!(!matches!(outcome, Outcome::Verified(_)), "{changed}");
            }
        }
    }
}

/// Producers write both spellings of version 0.3. Weakened once: as above, the others hold good bundles.
#[test]
fn a_bundle_has_the_version_that_its_layer_says() {
    let signer = Signer::p256();
    let [_, _, good] = of_each_format(&signer);
    let family = "application/vnd.dev.sigstore.bundle+json;version=";
    let item = good.item(&format!("{family}0.3"), good.size());
    assert_eq!(item.kind(), ItemKind::ImageSignature);
    for version in ["0.1", "0.2"] {
        let item = good.item(&format!("{family}{version}"), good.size());
        assert!(
            matches!(item.kind(), ItemKind::Malformed { why } if why.contains("another version")),
            "{version}"
        );
    }
}

/// Who keeps the bytes may lose them, or give others: then nobody can tell anything of the item, and it is not refused.
/// Fails on a build that believes whatever is read again.
#[test]
fn an_item_that_is_kept_elsewhere_is_judged_as_itself_and_without_its_bytes_not_at_all() {
    let signer = Signer::p256();
    for good in of_each_format(&signer) {
        let item = good.item(good.media_type, good.size());
        let other = common::item(&Signer::p256().bundle(IN_TOTO, statement(&subject(), COSIGN_SIGN)));
        let with = |answer: Option<Item>| item.kept_elsewhere(std::sync::Arc::new(move || answer.clone()));
        let ask = |item: &Item| verify_signature(item, &subject(), &signer.public());
        let kept = with(Some(item.clone()));
        assert_eq!(
            (kept.id(), kept.kind(), kept.format()),
            (item.id(), item.kind(), item.format())
        );
        assert_eq!(ask(&kept), ask(&item), "{}", good.media_type);
        assert!(matches!(ask(&kept), Outcome::Verified(_)) || good.media_type == Item::DSSE_ENVELOPE);
        assert!(kept.is_at_hand() && !with(None).is_at_hand());
        for lost in [with(None), with(Some(other))] {
            assert_eq!(ask(&lost), Outcome::CannotTell(Cause::NotKept));
        }
    }
}

/// B15: one refusal is held for each signer that is asked. Fails on a build that quotes what it refuses in full.
#[test]
fn b15_of_what_a_stranger_wrote_a_little_is_quoted() {
    let long = "b".repeat(3_000_000);
    let mut payload_type = Signer::p256().bundle(&long, "{}");
    payload_type["mediaType"] = BUNDLE.into();
    let media_type = serde_json::json!({"mediaType": long});
    for bundle in [payload_type, media_type] {
        let item = Item::from_bundle(bundle.to_string().as_bytes());
        let refused = verify_signature(&item, &subject(), &Signer::p256().public());
        let kept = item.kept_elsewhere(std::sync::Arc::new(|| None));
        for held in [format!("{refused:?}"), format!("{kept:?}")] {
            assert!(held.len() < 4096, "{} bytes", held.len());
        }
    }
}
