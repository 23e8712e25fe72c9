//! The simple-signing payload (containers-signature(5), "JSON data format") as cosign writes it into its tag
//! format:
//!
//! ```json
//! {"critical": {"identity": {"docker-reference": "registry.example.com/shop/web"},
//!               "image": {"docker-manifest-digest": "sha256:…"},
//!               "type": "cosign container image signature"},
//!  "optional": null}
//! ```
//!
//! The specification has consumers refuse what they do not know inside `critical`, and ignore what is in
//! `optional`. Who signed it is found out in `item`.

use std::str::FromStr;

use image::Digest;
use serde_json::Value;

use crate::document::{Document, DocumentKind, Unreadable};
use crate::statement::COSIGN_SIGN_PREDICATE_TYPE;
use crate::strict_json::{self, Room, field, object, string};

/// `critical.type` as every cosign up to 3.1 writes it, and the type that cosign 3 gives the same thing in a
/// bundle.
const SIGNATURE_TYPES: [&str; 2] = ["cosign container image signature", COSIGN_SIGN_PREDICATE_TYPE];

/// Reads a payload.
pub(crate) fn read(payload: &[u8]) -> Result<Document, Unreadable> {
    Ok(document(&strict_json::parse(payload, Room::Small)?)?)
}

fn document(payload: &Value) -> Result<Document, String> {
    let payload = object(payload, "the payload", &["critical", "optional"])?;
    if payload
        .get("optional")
        .is_some_and(|optional| !(optional.is_null() || optional.is_object()))
    {
        return Err("optional is not a JSON object".into());
    }
    let critical = object(
        field(payload, "the payload", "critical")?,
        "critical",
        &["identity", "image", "type"],
    )?;
    let identity = object(
        field(critical, "critical", "identity")?,
        "critical.identity",
        &["docker-reference"],
    )?;
    let image = object(
        field(critical, "critical", "image")?,
        "critical.image",
        &["docker-manifest-digest"],
    )?;
    let digest = string(image, "critical.image", "docker-manifest-digest")?;
    let digest = Digest::from_str(digest)
        .map_err(|error| format!("critical.image.docker-manifest-digest is no digest: {error}"))?;
    Ok(Document {
        kind: kind(string(critical, "critical", "type")?),
        subjects: vec![digest],
        docker_reference: Some(string(identity, "critical.identity", "docker-reference")?.to_owned()),
    })
}

fn kind(payload_type: &str) -> DocumentKind {
    if SIGNATURE_TYPES.contains(&payload_type) {
        DocumentKind::ImageSignature
    } else {
        DocumentKind::OtherPayload {
            payload_type: payload_type.to_owned(),
        }
    }
}
