//! Does this item prove that the owner of this key signed this image? Pure: no clock, no network, no policy.

use image::Digest;

use crate::document::{Document, DocumentKind, Unreadable};
use crate::item::{Content, Item, Signed};
use crate::key::PublicKey;
use crate::outcome::{Claim, Outcome, Refusal};

/// Checks one item against one image digest and one key.
///
/// The order of the checks decides which reason is given: what the item says it is, then whether the key
/// signed it, then whether what was signed can be read, then whether it is about `subject`. So garbage that a
/// trusted key really signed is told apart from garbage by a stranger.
pub fn verify_signature(item: &Item, subject: &Digest, key: &PublicKey) -> Outcome {
    let signed = match item.content() {
        Content::Signed(signed) => signed,
        Content::MessageSignature => {
            return not_a_signature("a signature over other bytes (a signed blob)".into());
        }
        Content::Malformed(why) => return Outcome::Refused(Refusal::EvidenceMalformed { why: why.clone() }),
        Content::NotRead(cause) => return Outcome::CannotTell(cause.clone()),
    };
    if let Some(other) = something_else(signed) {
        return not_a_signature(other);
    }
    if !key.signed(&signed.message, &signed.signature) {
        return Outcome::Refused(Refusal::SignatureMismatch);
    }
    match &signed.document {
        Err(Unreadable::Malformed(why)) => Outcome::Refused(Refusal::PayloadMalformed { why: why.clone() }),
        Err(Unreadable::OverCap(cap)) => Outcome::CannotTell(cap.clone().into()),
        Ok(document) if document.subjects.contains(subject) => {
            Outcome::Verified(claim(item, document, subject, key))
        }
        Ok(document) => Outcome::Refused(Refusal::SubjectMismatch {
            found: document.subjects.clone(),
        }),
    }
}

fn not_a_signature(found: String) -> Outcome {
    Outcome::Refused(Refusal::NotASignature { found })
}

fn something_else(signed: &Signed) -> Option<String> {
    match &signed.document.as_ref().ok()?.kind {
        DocumentKind::ImageSignature => None,
        DocumentKind::Attestation { predicate_type } => {
            Some(format!("an attestation of type {predicate_type}"))
        }
        DocumentKind::OtherPayload { payload_type } => Some(format!("a payload of type {payload_type:?}")),
    }
}

fn claim(item: &Item, document: &Document, subject: &Digest, key: &PublicKey) -> Claim {
    Claim {
        signer: key.fingerprint(),
        subject: *subject,
        format: item.format(),
        evidence: *item.id(),
        docker_reference: document.docker_reference.clone(),
    }
}
