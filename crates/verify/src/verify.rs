//! Does this item prove that this signer said something about this image? Pure: no network, no policy.

use std::sync::Arc;

use image::Digest;
use jiff::Timestamp;

use crate::claim::{Claim, ClaimKind, Identity, TrustedTimes};
use crate::document::{Document, DocumentKind, Unreadable};
use crate::identity::IdentityMatcher;
use crate::item::{Body, Content, Item, Signed};
use crate::key::PublicKey;
use crate::outcome::{Cause, Outcome, Refusal};
use crate::sigstore::{self, Examination, Holder, Presented, Promise, Rigour, Unproven};
use crate::verifier::{Signer, Verifier};

/// Checks one item against one image digest and one verifier.
///
/// The order of the checks decides which reason is given: what the item says it is, then whether the signer signed
/// it, then whether what was signed can be read, then whether it is about `subject`. So garbage that a trusted key
/// really signed is told apart from garbage by a stranger.
///
/// The claim carries the trusted times, and whoever knows what time it is refuses those that lie in the future. The clock
/// is only read where a log signed a time: one that the clock has not reached is [`Cause::NotYet`].
pub fn verify(item: &Item, subject: &Digest, verifier: &Verifier) -> Outcome {
    match asked(&item.opened(), subject, verifier) {
        Outcome::Refused(refusal) => Outcome::Refused(refusal.cut()),
        other => other,
    }
}

fn asked(item: &Item, subject: &Digest, verifier: &Verifier) -> Outcome {
    let signed = match item.content() {
        Content::Signed(signed) => signed,
        Content::MessageSignature(_) => {
            return Outcome::Refused(Refusal::NotASignature {
                found: "a signature over other bytes (a signed blob)".into(),
            });
        }
        Content::Malformed(why) => return Outcome::Refused(Refusal::EvidenceMalformed { why: why.clone() }),
        Content::NotRead(cause) => return Outcome::CannotTell(cause.clone()),
        Content::Elsewhere(_) => return Outcome::CannotTell(Cause::NotKept),
    };
    if let Ok(Document {
        kind: DocumentKind::OtherPayload { payload_type },
        ..
    }) = &signed.document
    {
        return Outcome::Refused(Refusal::NotASignature {
            found: format!("a payload of type {payload_type:?}"),
        });
    }
    let proven = match verifier.signer() {
        Signer::Key(key) => by_key(signed, key, verifier),
        Signer::Keyless(matcher) => keyless(signed, matcher, verifier),
    };
    match (proven, &signed.document) {
        (Err(Unproven::Refused(refusal)), _) => Outcome::Refused(refusal),
        (Err(Unproven::CannotTell(cause)), _) => Outcome::CannotTell(cause),
        (Ok(_), Err(Unreadable::Malformed(why))) => {
            Outcome::Refused(Refusal::PayloadMalformed { why: why.clone() })
        }
        (Ok(_), Err(Unreadable::OverCap(cap))) => Outcome::CannotTell(cap.clone().into()),
        (Ok(proven), Ok(document)) if document.subjects.contains(subject) => {
            claim(item, document, subject, verifier, proven)
        }
        (Ok(_), Ok(document)) => Outcome::Refused(Refusal::SubjectMismatch {
            found: document.subjects.clone(),
        }),
    }
}

/// What is proven of a signature, besides that it is the signer's.
#[derive(Debug, Default)]
struct Proven {
    times: TrustedTimes,
    identity: Option<Arc<Identity>>,
    created_after: Option<Timestamp>,
}

fn by_key(signed: &Signed, key: &PublicKey, verifier: &Verifier) -> Result<Proven, Unproven> {
    if !key.signed(&signed.body.message(), signed.body.signature()) {
        return Err(Refusal::SignatureMismatch.into());
    }
    Ok(Proven {
        times: times(signed, Holder::Key(key), verifier)?,
        ..Proven::default()
    })
}

fn keyless(signed: &Signed, matcher: &IdentityMatcher, verifier: &Verifier) -> Result<Proven, Unproven> {
    let leaf = sigstore::leaf(&signed.material)?;
    let identity = sigstore::accepted_identity(&leaf, matcher)?;
    if !sigstore::key_of(&leaf)?.signed(&signed.body.message(), signed.body.signature()) {
        return Err(Refusal::SignatureMismatch.into());
    }
    if let (Some(root), Err(_)) = (verifier.trust_root(), &signed.document) {
        // Nothing more is asked of it, and whose it is must not be what a stranger wrote into a certificate.
        sigstore::check_issued(&leaf, &signed.material, root)?;
    }
    Ok(Proven {
        times: times(signed, Holder::Certificate(&leaf), verifier)?,
        identity: Some(Arc::new(identity)),
        created_after: Some(leaf.validity().start),
    })
}

/// The times that others vouch for. A payload that cannot be read has none, and needs none: it is refused anyway.
fn times(signed: &Signed, holder: Holder<'_>, verifier: &Verifier) -> Result<TrustedTimes, Unproven> {
    let (Some(root), Ok(document)) = (verifier.trust_root(), &signed.document) else {
        return Ok(TrustedTimes::default());
    };
    let message;
    let presented = match &signed.body {
        Body::Text { text, signature } => {
            message = text.bytes();
            Presented::Text {
                text: &message,
                signature,
            }
        }
        Body::Envelope(envelope) => Presented::Envelope {
            envelope,
            subject: document.first_sha256()?,
        },
    };
    Examination {
        presented,
        holder,
        material: &signed.material,
        promise: if signed.material.promise_suffices {
            Promise::Suffices
        } else {
            Promise::NeedsProof
        },
        rigour: Rigour::WhatIsDemanded,
        demands: verifier.demands(),
        root,
    }
    .trusted_times()
}

fn claim(item: &Item, document: &Document, subject: &Digest, verifier: &Verifier, proven: Proven) -> Outcome {
    let kind = match &document.kind {
        DocumentKind::ImageSignature => ClaimKind::ImageSignature,
        DocumentKind::Attestation { predicate_type } => ClaimKind::Attestation {
            predicate_type: predicate_type.clone(),
        },
        DocumentKind::OtherPayload { payload_type } => {
            return Outcome::Refused(Refusal::NotASignature {
                found: format!("a payload of type {payload_type:?}"),
            });
        }
    };
    Outcome::Verified(Box::new(Claim {
        signer: verifier.fingerprint(),
        verifier: verifier.id(),
        subject: subject.clone(),
        kind,
        format: item.format(),
        evidence: item.id().clone(),
        docker_reference: document.docker_reference.clone(),
        identity: proven.identity,
        times: proven.times,
        created_after: proven.created_after,
    }))
}
