//! What a signed text says, whichever format it is written in: which images it is about, and in which sense.
//! `simple_signing` and `statement` read it from bytes.

use std::sync::Arc;

use image::Digest;

use crate::outcome::{Cap, Refusal};
use crate::strict_json::JsonError;

/// The meaning of a signed text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) kind: DocumentKind,
    /// The images it is about; never empty.
    pub(crate) subjects: Vec<Digest>,
    /// The reference that the signer named, where the format has one.
    pub(crate) docker_reference: Option<Arc<str>>,
}

impl Document {
    /// The first of its sha256 subjects: Sigstore's client wants one that the envelope names.
    pub(crate) fn first_sha256(&self) -> Result<[u8; 32], Refusal> {
        let first = self
            .subjects
            .iter()
            .find_map(|subject| subject.bytes().try_into().ok());
        first.ok_or_else(|| Refusal::PayloadMalformed {
            why: "no subject has a sha256 digest".into(),
        })
    }
}

/// In which sense a signed text speaks about its subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    /// "I signed this image", and nothing else.
    ImageSignature,
    /// An in-toto statement with a predicate of this type.
    Attestation { predicate_type: Arc<str> },
    /// A simple-signing payload of a type other than a signature's.
    OtherPayload { payload_type: String },
}

/// Why a signed text has no meaning. It may nevertheless be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It breaks the rules of its format.
    Malformed(String),
    /// It passes a limit.
    OverCap(Cap),
}

impl From<JsonError> for Unreadable {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Malformed(_) => Self::Malformed(error.to_string()),
            JsonError::TooDeep { limit } => Self::OverCap(Cap {
                what: "the nesting of its JSON",
                limit,
                unit: "levels",
            }),
            JsonError::TooMany { limit } => Self::OverCap(Cap {
                what: "the memory that its JSON takes",
                limit,
                unit: "bytes",
            }),
        }
    }
}

impl From<String> for Unreadable {
    fn from(why: String) -> Self {
        Self::Malformed(why)
    }
}
