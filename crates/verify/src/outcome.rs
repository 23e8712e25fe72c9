//! What asking one verifier about one item of evidence can end in. The three answers are three types, so that
//! nothing turns "cannot tell" into "no". What an answer means for a verdict is decided by the policy crate.

use image::Digest;
use jiff::Timestamp;

use crate::claim::Claim;
use crate::elsewhere::cut;

/// The answer for one item, one image digest and one verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The signer signed the item, and the item speaks about the digest.
    Verified(Box<Claim>),
    /// The item proves nothing about this digest by this signer, whatever else may be learnt.
    Refused(Refusal),
    /// The item may or may not be one.
    CannotTell(Cause),
}

/// Why an item proves nothing about the digest by the signer. Displayed as a clause for a longer message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This key did not sign these bytes. Another one may have.
    #[error("another key signed it, or its bytes were changed after signing")]
    SignatureMismatch,
    /// The item says itself that it is about something else than images: a signed blob, a payload of another type.
    #[error("it is neither a signature nor an attestation of an image but {found}")]
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
    /// It was really signed by this signer, for another image.
    #[error("it was signed for another digest: {}", list(.found))]
    SubjectMismatch {
        /// The digests it was signed for.
        found: Vec<Digest>,
    },
    /// The item cannot be read; no signer was asked.
    #[error("it cannot be read: {why}")]
    EvidenceMalformed {
        /// What is wrong with it.
        why: String,
    },
    /// A keyless signer was asked about an item without a certificate. A key may have signed it.
    #[error("it carries no certificate, so no identity signed it")]
    NoCertificate,
    /// The certificate was issued to somebody else.
    #[error("it was signed by another identity: {found}")]
    IdentityMismatch {
        /// Whom the certificate names: unproven, for the certificate was not checked any further.
        found: String,
    },
    /// The certificate does not hold: its form, its chain, its validity at the trusted times, its SCT.
    #[error("its certificate is not valid: {why}")]
    CertificateInvalid {
        /// What is wrong with it.
        why: String,
    },
    /// A log entry is required, and there is none.
    #[error("it is in no transparency log, and one is required")]
    LogMissing,
    /// A log entry is required, and none that is there verifies.
    #[error("its transparency log entry does not verify: {why}")]
    LogInvalid {
        /// What is wrong with it.
        why: String,
    },
    /// A timestamp is required, and there is none.
    #[error("it has no RFC 3161 timestamp, and one is required")]
    TimestampMissing,
    /// A timestamp is required, and none that is there verifies.
    #[error("its RFC 3161 timestamp does not verify: {why}")]
    TimestampInvalid {
        /// What is wrong with it.
        why: String,
    },
}

impl Refusal {
    /// The same, of which nothing that a stranger wrote is longer than a little: one is held for each signer that is asked.
    pub(crate) fn cut(self) -> Self {
        match self {
            Self::NotASignature { found } => Self::NotASignature { found: cut(found) },
            Self::PayloadMalformed { why } => Self::PayloadMalformed { why: cut(why) },
            Self::EvidenceMalformed { why } => Self::EvidenceMalformed { why: cut(why) },
            Self::IdentityMismatch { found } => Self::IdentityMismatch { found: cut(found) },
            Self::CertificateInvalid { why } => Self::CertificateInvalid { why: cut(why) },
            Self::LogInvalid { why } => Self::LogInvalid { why: cut(why) },
            Self::TimestampInvalid { why } => Self::TimestampInvalid { why: cut(why) },
            short @ (Self::SignatureMismatch
            | Self::SubjectMismatch { .. }
            | Self::NoCertificate
            | Self::LogMissing
            | Self::TimestampMissing) => short,
        }
    }

    /// Whether the signer that was asked did sign the item: what is wrong is wrong with *its* evidence. Otherwise the
    /// item may be somebody else's, or nobody's.
    #[must_use]
    pub fn is_of_the_signer(&self) -> bool {
        match self {
            Self::PayloadMalformed { .. }
            | Self::SubjectMismatch { .. }
            | Self::LogMissing
            | Self::LogInvalid { .. }
            | Self::TimestampMissing
            | Self::TimestampInvalid { .. } => true,
            Self::SignatureMismatch
            | Self::NotASignature { .. }
            | Self::EvidenceMalformed { .. }
            | Self::NoCertificate
            | Self::IdentityMismatch { .. }
            | Self::CertificateInvalid { .. } => false,
        }
    }
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
    /// Its bytes were read once, and whoever keeps them does not have them any more.
    #[error("its bytes are not kept any more")]
    NotKept,
    /// A transparency log dates it after this machine's clock: one of the two is wrong, and soon both agree.
    #[error(
        "its transparency log says that it was made at {at}, and this machine's clock is not there yet; set the clock right"
    )]
    NotYet {
        /// What the log signed.
        at: Timestamp,
    },
}

impl Cause {
    /// Whether the answer may be another one a moment later, from the same bytes: nobody may remember it.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::NotKept | Self::NotYet { .. })
    }

    /// The same, of which nothing that a stranger wrote is longer than a little.
    pub(crate) fn cut(self) -> Self {
        match self {
            Self::UnknownVersion { what } => Self::UnknownVersion { what: cut(what) },
            short @ (Self::TooLarge(_) | Self::NotKept | Self::NotYet { .. }) => short,
        }
    }
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
