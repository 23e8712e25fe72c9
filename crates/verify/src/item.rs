//! One item of evidence: bytes from a registry, parsed once, with a stable identity. Parsing proves nothing;
//! `verify` asks a key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::Digest;

use crate::bundle::{self, Bundle, BundleContent, BundleError, MessageSignature};
use crate::claim::Format;
use crate::document::{Document, DocumentKind, Unreadable};
use crate::dsse::Envelope;
use crate::elsewhere::{Elsewhere, cut};
use crate::key::Fingerprint;
use crate::material::Material;
use crate::outcome::{Cap, Cause};
use crate::simple_signing::Payload;
use crate::statement::Statement;
use crate::{cosign_layer, simple_signing, statement};

const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;
/// An RSA-8192 signature takes 1,368 characters.
const MAX_SIGNATURE_CHARS: usize = 16 * 1024;

/// The only payload type of a DSSE envelope that speaks about images.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// One item of evidence.
#[derive(Debug, Clone)]
pub struct Item {
    id: Digest,
    format: Format,
    content: Content,
}

/// What an item says it is. Nobody has been asked whether that is true: a stranger can write each of these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemKind {
    /// A signature of one or more images.
    ImageSignature,
    /// An in-toto attestation. Not a signature.
    Attestation {
        /// The statement's predicate type.
        predicate_type: String,
    },
    /// A signature over other bytes than an image's name, for example of `cosign sign-blob`. Not a signature
    /// of an image.
    SignedBlob,
    /// A signed text of another type. Not a signature of an image.
    Other {
        /// The type it names.
        payload_type: String,
    },
    /// Signed bytes that cannot be understood; a key can still tell whether it signed them.
    UnreadablePayload {
        /// What is wrong with the payload.
        why: String,
    },
    /// Not even a signature can be found in it.
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// It was not read, or not to its end.
    NotRead {
        /// Why.
        cause: Cause,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Signed(Box<Signed>),
    MessageSignature(Box<SignedBlob>),
    Malformed(String),
    NotRead(Cause),
    Elsewhere(Box<Elsewhere>),
}

/// Bytes with a signature over them, and what they mean.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) body: Body,
    pub(crate) document: Result<Document, Unreadable>,
    pub(crate) material: Arc<Material>,
}

/// What was signed, with its signature.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Text { text: Payload, signature: Vec<u8> },
    Envelope(Envelope),
}

/// A signature over bytes that lie elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct SignedBlob {
    pub(crate) signature: MessageSignature,
    pub(crate) material: Material,
}

impl Body {
    /// The bytes that the signature is over.
    pub(crate) fn message(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Text { text, .. } => text.bytes(),
            Self::Envelope(envelope) => Cow::Owned(envelope.pae()),
        }
    }

    pub(crate) fn signature(&self) -> &[u8] {
        match self {
            Self::Text { signature, .. } => signature,
            Self::Envelope(envelope) => &envelope.signature,
        }
    }
}

impl Item {
    /// The media type of a layer that holds a simple-signing payload (cosign, specs/SIGNATURE_SPEC.md).
    pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    /// The media type of a layer that holds a DSSE envelope (cosign, specs/ATTESTATION_SPEC.md).
    pub const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

    /// An item of cosign's tag format: a layer of media type
    /// `application/vnd.dev.cosign.simplesigning.v1+json` and the value of its annotation
    /// `dev.cosignproject.cosign/signature`, in base64. Never fails: what cannot be read is an item of kind
    /// [`ItemKind::Malformed`], because its presence counts.
    #[must_use]
    pub fn from_simple_signing(payload: Bytes, signature: &str) -> Self {
        let id = identity(b"simple-signing", &[&payload, signature.as_bytes()]);
        let content = simple_signing_content(payload, signature, Material::default());
        Self {
            id,
            format: Format::SimpleSigning,
            content,
        }
    }

    /// An item of cosign's tag format with everything that is written beside it: a layer of one of the media types
    /// [`Item::SIMPLE_SIGNING`] and [`Item::DSSE_ENVELOPE`], its annotations (the signature of a simple-signing
    /// payload; certificate, chain, log entry and timestamp), its bytes. Never fails, as [`Item::from_simple_signing`].
    #[must_use]
    pub fn from_cosign_layer(media_type: &str, annotations: &BTreeMap<String, String>, bytes: Bytes) -> Self {
        let beside = cosign_layer::identifying(annotations);
        if media_type == Self::DSSE_ENVELOPE {
            return Self {
                id: identity(b"dsse-layer", &[&[&*bytes], beside.as_slice()].concat()),
                format: Format::DsseLayer,
                content: dsse_layer_content(bytes, annotations),
            };
        }
        let signature = annotations
            .get(cosign_layer::SIGNATURE)
            .map_or("", String::as_str);
        Self {
            id: identity(
                b"simple-signing",
                &[&[&*bytes, signature.as_bytes()], beside.as_slice()].concat(),
            ),
            format: Format::SimpleSigning,
            content: simple_signing_content(bytes, signature, cosign_layer::material(annotations, None)),
        }
    }

    /// A Sigstore bundle, in JSON. Never fails, as [`Item::from_simple_signing`].
    #[must_use]
    pub fn from_bundle(bundle: &[u8]) -> Self {
        Self {
            id: identity(b"bundle", &[bundle]),
            format: Format::Bundle,
            content: bundle_content(bundle),
        }
    }

    /// An item of which nothing was read; the name stands for its content.
    pub(crate) fn unread(name: &str, format: Format, content: Content) -> Self {
        let content = match content {
            Content::Malformed(why) => Content::Malformed(cut(why)),
            Content::NotRead(cause) => Content::NotRead(cause.cut()),
            other => other,
        };
        Self {
            id: identity(b"layer", &[name.as_bytes()]),
            format,
            content,
        }
    }

    /// The identity of the item's content: equal for equal bytes in one format, wherever they were found.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The format the item was given in.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// What the item says it is.
    #[must_use]
    pub fn kind(&self) -> ItemKind {
        match &self.content {
            Content::Signed(signed) => signed.kind(),
            Content::MessageSignature(_) => ItemKind::SignedBlob,
            Content::Malformed(why) => ItemKind::Malformed { why: why.clone() },
            Content::NotRead(cause) => ItemKind::NotRead { cause: cause.clone() },
            Content::Elsewhere(elsewhere) => elsewhere.kind.clone(),
        }
    }

    /// The statement of an attestation; None for everything else. Nobody has been asked whether it is true. It is read
    /// anew each time, and may take many times the memory of its text: ask for those that a trusted signer made, and keep
    /// what is needed of them.
    ///
    /// # Errors
    /// [`Cause::NotKept`] for an attestation whose bytes were read once and are not at hand any more: what it says is not
    /// known, which is not that it says nothing.
    pub fn statement(&self) -> Result<Option<Statement>, Cause> {
        match &self.content {
            Content::Signed(signed) => Ok(signed.statement()),
            Content::Elsewhere(elsewhere) if matches!(elsewhere.kind, ItemKind::Attestation { .. }) => {
                let opened = self.opened();
                match opened.content() {
                    Content::Signed(signed) => Ok(signed.statement()),
                    _ => Err(Cause::NotKept),
                }
            }
            _ => Ok(None),
        }
    }

    /// The key that made it, as a bundle says in its `hint`: a place to begin to look, and nothing more. A stranger can
    /// write any.
    #[must_use]
    pub fn key_hint(&self) -> Option<Fingerprint> {
        match &self.content {
            Content::Signed(signed) => signed.material.key_hint,
            Content::Elsewhere(elsewhere) => elsewhere.key_hint,
            _ => None,
        }
    }

    pub(crate) fn with_content(&self, content: Content) -> Self {
        Self {
            id: self.id.clone(),
            format: self.format,
            content,
        }
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

impl Signed {
    fn statement(&self) -> Option<Statement> {
        let (Ok(document), Body::Envelope(envelope)) = (&self.document, &self.body) else {
            return None;
        };
        match document.kind {
            // It was read before, to tell what kind it is of: it can be read again.
            DocumentKind::Attestation { .. } => statement::parse(&envelope.payload).ok(),
            _ => None,
        }
    }

    fn kind(&self) -> ItemKind {
        match &self.document {
            Ok(document) => match &document.kind {
                DocumentKind::ImageSignature => ItemKind::ImageSignature,
                DocumentKind::Attestation { predicate_type } => ItemKind::Attestation {
                    predicate_type: predicate_type.to_string(),
                },
                DocumentKind::OtherPayload { payload_type } => ItemKind::Other {
                    payload_type: payload_type.clone(),
                },
            },
            Err(Unreadable::Malformed(why)) => ItemKind::UnreadablePayload { why: why.clone() },
            Err(Unreadable::OverCap(cap)) => ItemKind::UnreadablePayload { why: cap.to_string() },
        }
    }
}

fn simple_signing_content(payload: Bytes, signature: &str, material: Material) -> Content {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return too_large("the payload", MAX_PAYLOAD_BYTES);
    }
    if signature.len() > MAX_SIGNATURE_CHARS {
        return too_large("the signature", MAX_SIGNATURE_CHARS);
    }
    match STANDARD.decode(signature) {
        Ok(signature) => {
            let document = simple_signing::read(&payload);
            Content::Signed(Box::new(Signed {
                body: Body::Text {
                    text: Payload::of(payload, &document),
                    signature,
                },
                document,
                material: material.shared(),
            }))
        }
        Err(error) => Content::Malformed(format!("the signature annotation is not base64: {error}")),
    }
}

fn dsse_layer_content(bytes: Bytes, annotations: &BTreeMap<String, String>) -> Content {
    if bytes.len() > MAX_BUNDLE_BYTES {
        return too_large("the envelope", MAX_BUNDLE_BYTES);
    }
    let envelope = bundle::parse(&bytes).and_then(|json| Ok(Envelope::read(&json)?));
    match envelope {
        Ok(envelope) => Content::Signed(Box::new(signed_envelope(
            envelope,
            cosign_layer::material(annotations, Some(bytes)),
        ))),
        Err(error) => unread(error),
    }
}

fn bundle_content(text: &[u8]) -> Content {
    if text.len() > MAX_BUNDLE_BYTES {
        return too_large("the bundle", MAX_BUNDLE_BYTES);
    }
    match bundle::read(text) {
        Ok(Bundle { content, material }) => match content {
            BundleContent::Envelope(envelope) => {
                Content::Signed(Box::new(signed_envelope(envelope, material)))
            }
            BundleContent::MessageSignature(signature) => {
                Content::MessageSignature(Box::new(SignedBlob { signature, material }))
            }
        },
        Err(error) => unread(error),
    }
}

fn unread(error: BundleError) -> Content {
    match error {
        BundleError::Malformed(why) => Content::Malformed(cut(why)),
        BundleError::CannotTell(cause) => Content::NotRead(cause.cut()),
    }
}

fn signed_envelope(envelope: Envelope, material: Material) -> Signed {
    let document = if envelope.payload_type == IN_TOTO {
        statement::read(&envelope.payload)
    } else {
        Err(Unreadable::Malformed(format!(
            "its payloadType is {:?}, not {IN_TOTO:?}",
            envelope.payload_type
        )))
    };
    Signed {
        document,
        body: Body::Envelope(envelope),
        material: material.shared(),
    }
}

fn too_large(what: &'static str, limit: usize) -> Content {
    Content::NotRead(
        Cap {
            what,
            limit,
            unit: "bytes",
        }
        .into(),
    )
}

/// Hashes the parts with their lengths, so that no two lists of parts meet in one hash.
fn identity(format: &[u8], parts: &[&[u8]]) -> Digest {
    let mut preimage = Vec::new();
    for part in [format].iter().chain(parts) {
        preimage.extend_from_slice(&(part.len() as u64).to_be_bytes());
        preimage.extend_from_slice(part);
    }
    Digest::sha256(&preimage)
}
