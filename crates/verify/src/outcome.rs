//! What checking one item of evidence against one key can end in. The three answers are three types, so that
//! nothing turns "cannot tell" into "no". What an answer means for a verdict is decided by the policy crate.

use std::fmt;

use image::Digest;

use crate::key::Fingerprint;

/// The answer for one item, one image digest and one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The key signed the item, and the item vouches for the digest.
    Verified(Claim),
    /// The item is no signature of this digest by this key, whatever else may be learnt.
    Refused(Refusal),
    /// The item may or may not be one.
    CannotTell(Cause),
}

/// A proven statement: the owner of `signer` signed the image `subject`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The key that verified.
    pub signer: Fingerprint,
    /// The image manifest that was signed.
    pub subject: Digest,
    /// The format the signature came in.
    pub format: Format,
    /// The item's [`id`](crate::Item::id).
    pub evidence: Digest,
    /// The repository or reference that the signer named. Only simple signing has one; it may be empty.
    pub docker_reference: Option<String>,
}

/// The format of an item of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// A simple-signing payload beside its signature, cosign's tag format.
    SimpleSigning,
    /// A Sigstore bundle.
    Bundle,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SimpleSigning => "simple signing",
            Self::Bundle => "Sigstore bundle",
        })
    }
}

/// Why an item is not a signature of the digest by the key. Displayed as a clause for a longer message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This key did not sign these bytes. Another one may have.
    #[error("another key signed it, or its bytes were changed after signing")]
    SignatureMismatch,
    /// The item says itself that it is something else: an attestation, a signed blob.
    #[error("it is not an image signature but {found}")]
    NotASignature {
        /// What it is: a predicate type, a payload type, "a signed blob".
        found: String,
    },
    /// The key really signed it, but what it signed cannot be read as a signature.
    #[error("the key signed it, but its payload is not a valid statement about an image: {why}")]
    PayloadMalformed {
        /// What is wrong with the payload.
        why: String,
    },
    /// The key really signed it, for another image.
    #[error("the key signed it for another digest: {}", list(.found))]
    SubjectMismatch {
        /// The digests it was signed for.
        found: Vec<Digest>,
    },
    /// The item cannot be read; no key was asked.
    #[error("it cannot be read: {why}")]
    EvidenceMalformed {
        /// What is wrong with it.
        why: String,
    },
}

/// Why no answer can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The item passes a limit, so it was not looked at, or not to its end.
    #[error("{0}")]
    TooLarge(#[from] Cap),
    /// The item is written in a version of its format that came after this program.
    #[error("it is a {what}, which this version cannot read; upgrade Assay, or sign with a format it knows")]
    UnknownVersion {
        /// The media type found.
        what: String,
    },
}

/// A limit on remote input that was passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is larger than the limit of {limit} {unit}")]
pub struct Cap {
    /// What is too large.
    pub what: &'static str,
    /// The limit.
    pub limit: usize,
    /// The unit of the limit.
    pub unit: &'static str,
}

const LISTED_DIGESTS: usize = 3;

fn list(digests: &[Digest]) -> String {
    let mut text = digests
        .iter()
        .take(LISTED_DIGESTS)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = digests.len().checked_sub(LISTED_DIGESTS + 1) {
        text.push_str(&format!(" and {} more", more + 1));
    }
    text
}
