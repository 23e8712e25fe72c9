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

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use image::Digest;
use serde_json::Value;

use crate::document::{Document, DocumentKind, Unreadable};
use crate::statement::COSIGN_SIGN_PREDICATE_TYPE;
use crate::strict_json::{self, Room, field, object, string};

/// `critical.type` as every cosign up to 3.1 writes it, and the type that cosign 3 gives the same thing in a
/// bundle.
const SIGNATURE_TYPES: [&str; 2] = ["cosign container image signature", COSIGN_SIGN_PREDICATE_TYPE];

/// The bytes of a payload. Those that cosign writes say nothing but what it is read as, so that they are put together
/// anew when they are needed: a cluster's evidence holds tens of thousands.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    AsFound(Bytes),
    AsCosignWrites {
        docker_reference: Arc<str>,
        image: Digest,
    },
}

impl Payload {
    /// The payload that was read as this.
    pub(crate) fn of(bytes: Bytes, document: &Result<Document, Unreadable>) -> Self {
        if let Ok(document) = document
            && let (Some(docker_reference), [image]) =
                (&document.docker_reference, document.subjects.as_slice())
            && as_cosign_writes(docker_reference, image) == bytes
        {
            return Self::AsCosignWrites {
                docker_reference: docker_reference.clone(),
                image: image.clone(),
            };
        }
        Self::AsFound(bytes)
    }

    /// Every byte as it was found.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::AsFound(bytes) => Cow::Borrowed(bytes),
            Self::AsCosignWrites {
                docker_reference,
                image,
            } => Cow::Owned(as_cosign_writes(docker_reference, image).into_bytes()),
        }
    }
}

/// What cosign writes about an image when it is given no annotations.
fn as_cosign_writes(docker_reference: &str, image: &Digest) -> String {
    let [cosign, _] = SIGNATURE_TYPES;
    let docker_reference = serde_json::json!(docker_reference);
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":{docker_reference}}},"image":{{"docker-manifest-digest":"{image}"}},"type":"{cosign}"}},"optional":null}}"#
    )
}

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
        docker_reference: Some(string(identity, "critical.identity", "docker-reference")?.into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Payload {
        Payload::of(Bytes::copy_from_slice(text.as_bytes()), &read(text.as_bytes()))
    }

    fn text(reference: &str, kind: &str, optional: &str) -> String {
        let image = Digest::sha256(b"image");
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{reference}"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"{kind}"}},"optional":{optional}}}"#
        )
    }

    /// A signature is over these bytes: one that differed would make a good signature a forgery.
    #[test]
    fn every_payload_is_given_back_byte_for_byte() {
        let [cosign, predicate] = SIGNATURE_TYPES;
        let web = "registry.example.com/shop/web";
        for found in [
            text(web, cosign, "null"),
            text("", cosign, "null"),
            text(r#"a\"b\\c\u00e9"#, cosign, "null"),
            text("é<&>", cosign, "null"),
            text(r"\u00e9\u003c\u0026\/", cosign, "null"),
            text(web, predicate, "null"),
            text(web, "atomic container signature", "null"),
            text(web, cosign, r#"{"team":"shop"}"#),
            text(web, cosign, "{}"),
            text(web, cosign, "null") + "\n",
            text(web, cosign, "null").replace(":{", ": {"),
            text(web, cosign, "null").replace(r#","optional":null"#, ""),
            text(web, cosign, "null").to_uppercase(),
            String::new(),
        ] {
            assert_eq!(kept(&found).bytes(), found.as_bytes(), "{found}");
        }
    }

    #[test]
    fn what_cosign_writes_is_not_held_twice() {
        let [cosign, predicate] = SIGNATURE_TYPES;
        let web = "registry.example.com/shop/web";
        let is_short = |text: &str| matches!(kept(text), Payload::AsCosignWrites { .. });
        assert!(is_short(&text(web, cosign, "null")));
        assert!(!is_short(&text(web, predicate, "null")));
        assert!(!is_short(&text(web, cosign, "{}")));
    }
}
