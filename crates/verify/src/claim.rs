//! What a verified item of evidence proves: who said what about which image, and when at the latest and at the
//! earliest that can have been. Whether that is enough is decided by the policy crate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use image::Digest;
use jiff::Timestamp;

use crate::key::Fingerprint;
use crate::verifier::VerifierId;

/// A proven statement: the signer said this about the image `subject`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The signer that verified: the fingerprint of the key, or of the identity that was asked for.
    pub signer: Fingerprint,
    /// Everything the claim rests on: it holds for this verifier and no other.
    pub verifier: VerifierId,
    /// The image manifest it is about.
    pub subject: Digest,
    /// What was said.
    pub kind: ClaimKind,
    /// The format the item came in.
    pub format: Format,
    /// The item's [`id`](crate::Item::id).
    pub evidence: Digest,
    /// The repository or reference that the signer named. Only simple signing has one; it may be empty.
    pub docker_reference: Option<Arc<str>>,
    /// Keyless only: who the certificate was issued to.
    pub identity: Option<Arc<Identity>>,
    /// When it existed, as others vouch for. Empty where the verifier asks for neither log nor timestamp.
    pub times: TrustedTimes,
    /// It cannot have been made before this. Keyless: the certificate's notBefore; a key proves no such time.
    pub created_after: Option<Timestamp>,
}

/// In which sense a claim speaks about its subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimKind {
    /// "I signed this image", and nothing else.
    ImageSignature,
    /// An in-toto attestation. Never a signature.
    Attestation {
        /// The statement's predicate type.
        predicate_type: Arc<str>,
    },
}

/// Who a Fulcio certificate was issued to (Fulcio's certificate specification).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The OIDC issuer that vouched for the subject.
    pub issuer: String,
    /// The one subject alternative name: an email address or a URI.
    pub subject: String,
    /// Which of the two it is.
    pub subject_kind: SubjectKind,
    /// The other extensions, by the field names of Fulcio's list (`sourceRepositoryURI`, `runInvocationURI`, …).
    pub extensions: BTreeMap<String, String>,
}

/// The type of a certificate's subject alternative name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectKind {
    /// An email address (rfc822Name).
    Email,
    /// A URI, for example a workflow's.
    Uri,
}

/// The times that a log or a timestamp authority vouches for. Nothing in here is compared with a clock: a time in
/// the future is kept, and must be refused by whoever knows what time it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TrustedTimes(Vec<TrustedTime>);

/// One time at which the signature provably existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustedTime {
    /// The time.
    pub at: Timestamp,
    /// Who vouches for it.
    pub source: TimeSource,
}

/// Who vouches for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimeSource {
    /// A transparency log, by a signed entry timestamp (Rekor v1).
    TransparencyLog,
    /// A timestamp authority (RFC 3161).
    TimestampAuthority,
}

impl TrustedTimes {
    /// The earliest of them: the signature existed from then on.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        self.0.first().map(|time| time.at)
    }

    /// The latest of them; one in the future is no time to trust.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        self.0.last().map(|time| time.at)
    }

    /// Whether nobody vouches for any time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = &TrustedTime> {
        self.0.iter()
    }
}

impl FromIterator<TrustedTime> for TrustedTimes {
    fn from_iter<T: IntoIterator<Item = TrustedTime>>(times: T) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        times.dedup();
        Self(times)
    }
}

/// The format of an item of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// A simple-signing payload beside its signature, cosign's tag format.
    SimpleSigning,
    /// A DSSE envelope in a layer of its own, cosign's tag format for attestations.
    DsseLayer,
    /// A Sigstore bundle.
    Bundle,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SimpleSigning => "simple signing",
            Self::DsseLayer => "DSSE envelope",
            Self::Bundle => "Sigstore bundle",
        })
    }
}
