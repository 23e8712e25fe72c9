//! What cosign writes into a layer's annotations in its tag format, turned into the material of a bundle of version
//! 0.1 (cosign, specs/SIGNATURE_SPEC.md). An annotation that cannot be read is kept as a part that will not verify.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::material::Material;
use crate::pem;
use crate::strict_json::{self, Room};

/// The annotation with the signature in base64.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG_BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// The annotations that material is read from, in a fixed order.
const MATERIAL: [&str; 4] = [CERTIFICATE, CHAIN, LOG_BUNDLE, TIMESTAMP];

/// Whether anything is read from the annotation.
pub(crate) fn is_read(annotation: &str) -> bool {
    annotation == SIGNATURE || MATERIAL.contains(&annotation)
}

/// The annotations that matter, as they enter the identity of an item.
pub(crate) fn identifying(annotations: &BTreeMap<String, String>) -> Vec<&[u8]> {
    let present = MATERIAL
        .iter()
        .filter_map(|name| annotations.get_key_value(*name));
    present
        .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()])
        .collect()
}

/// Reads the material. `envelope` is the layer of an attestation, which its timestamp may be over.
pub(crate) fn material(annotations: &BTreeMap<String, String>, envelope: Option<Bytes>) -> Material {
    let text = |name: &str| annotations.get(name).filter(|value| !value.is_empty());
    Material {
        certificates: text(CERTIFICATE).map(|leaf| {
            let above = text(CHAIN).and_then(|chain| pem::certificates(chain));
            std::iter::once(only_certificate(leaf))
                .chain(above.into_iter().flatten())
                .collect()
        }),
        entries: text(LOG_BUNDLE)
            .map(|bundle| entry(bundle).unwrap_or(Value::Null))
            .into_iter()
            .collect(),
        timestamps: text(TIMESTAMP)
            .map(|timestamp| signed_timestamp(timestamp))
            .into_iter()
            .collect(),
        envelope,
        promise_suffices: true,
        key_hint: None,
        is_version_0_1: false,
    }
}

/// The bytes of the one certificate; none where there is none or another one beside it, which verify nowhere.
fn only_certificate(text: &str) -> Vec<u8> {
    match pem::certificates(text).as_deref() {
        Some([one]) => one.clone(),
        _ => Vec::new(),
    }
}

/// Rekor's answer as cosign keeps it, as a log entry of a bundle. The kind of the entry is written in its body.
fn entry(text: &str) -> Option<Value> {
    let bundle = strict_json::parse(text.as_bytes(), Room::Small).ok()?;
    let promise = bundle.get("SignedEntryTimestamp")?.as_str()?;
    let payload = bundle.get("Payload")?;
    let body = payload.get("body")?.as_str()?;
    let log_id = hex::decode(payload.get("logID")?.as_str()?).ok()?;
    let entry = strict_json::parse(&STANDARD.decode(body).ok()?, Room::Small).ok()?;
    Some(json!({
        "logIndex": payload.get("logIndex")?.as_u64()?.to_string(),
        "logId": {"keyId": STANDARD.encode(log_id)},
        "kindVersion": {
            "kind": entry.get("kind")?.as_str()?,
            "version": entry.get("apiVersion")?.as_str()?,
        },
        "integratedTime": payload.get("integratedTime")?.as_u64()?.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": promise},
        "canonicalizedBody": body,
    }))
}

/// The token; no bytes where there is none, which verify nowhere.
fn signed_timestamp(text: &str) -> Vec<u8> {
    let token = |text: &str| {
        let timestamp = strict_json::parse(text.as_bytes(), Room::Small).ok()?;
        STANDARD
            .decode(timestamp.get("SignedRFC3161Timestamp")?.as_str()?)
            .ok()
    };
    match token(text) {
        Some(token) if !token.is_empty() => token,
        _ => Vec::new(),
    }
}
