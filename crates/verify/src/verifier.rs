//! Who is asked about an item of evidence: one version of one signer, with everything that its answer rests on.
//! What the answer means for a verdict is decided by the policy crate.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::identity::IdentityMatcher;
use crate::key::{Fingerprint, PublicKey};
use crate::trust_root::TrustRoot;

/// Raised whenever this crate would answer differently about the same bytes: old claims then count no more.
const VERSION: &str = "1";

/// One version of one signer, and what is asked for besides its signature. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    signer: Signer,
    demands: Demands,
    trust_root: Option<Arc<TrustRoot>>,
    fingerprint: Fingerprint,
    id: VerifierId,
}

/// Whose signature is looked for.
#[derive(Debug)]
pub(crate) enum Signer {
    Key(PublicKey),
    Keyless(IdentityMatcher),
}

/// What is asked for besides the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demands {
    pub(crate) log: LogDemand,
    pub(crate) timestamp: TimestampDemand,
}

/// What is asked for of one source of trusted time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Demand {
    /// At least one must verify.
    Required,
    /// What verifies gives a time; what does not changes nothing.
    Optional,
    /// Not looked at.
    Ignore,
}

/// What is asked for of the transparency log.
pub type LogDemand = Demand;
/// What is asked for of RFC 3161 timestamps.
pub type TimestampDemand = Demand;

/// SHA-256 of everything that an answer rests on beside the item and the digest: the signer, the content of the trust
/// root, the demands and the version of this crate's rules. Claims under two ids are never exchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifierId([u8; 32]);

/// Why no verifier can be made of these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// A log or a timestamp is to be checked, and nothing says against which keys.
    #[error(
        "transparencyLog is {log}, timestamp is {timestamp}: both are checked against a trust root; name one, or set both to Ignore"
    )]
    NoTrustRoot {
        /// What is asked for of the log.
        log: LogDemand,
        /// What is asked for of timestamps.
        timestamp: TimestampDemand,
    },
    /// A certificate that lives for minutes can only be judged at a time that somebody vouches for.
    #[error(
        "transparencyLog is {log}, timestamp is {timestamp}: a keyless signature has no trusted time then; set one of them to Required"
    )]
    NoTimeRequired {
        /// What is asked for of the log.
        log: LogDemand,
        /// What is asked for of timestamps.
        timestamp: TimestampDemand,
    },
}

impl Verifier {
    /// Asks for the signature of this key, and for nothing else.
    #[must_use]
    pub fn by_key(key: PublicKey) -> Self {
        let demands = Demands {
            log: Demand::Ignore,
            timestamp: Demand::Ignore,
        };
        Self::new(Signer::Key(key), demands, None)
    }

    /// Asks for the signature of this key and for what a log and timestamp authorities say of it.
    ///
    /// # Errors
    /// [`VerifierError::NoTrustRoot`] if log or timestamp are looked at and no trust root is given.
    pub fn by_key_with(
        key: PublicKey,
        log: LogDemand,
        timestamp: TimestampDemand,
        trust_root: Option<Arc<TrustRoot>>,
    ) -> Result<Self, VerifierError> {
        let demands = Demands { log, timestamp };
        if demands.look_at_anything() && trust_root.is_none() {
            return Err(VerifierError::NoTrustRoot { log, timestamp });
        }
        let trust_root = trust_root.filter(|_| demands.look_at_anything());
        Ok(Self::new(Signer::Key(key), demands, trust_root))
    }

    /// Asks for a signature under a Fulcio certificate that was issued to such an identity.
    ///
    /// # Errors
    /// [`VerifierError::NoTimeRequired`] if neither the log nor a timestamp is required.
    pub fn keyless(
        identity: IdentityMatcher,
        log: LogDemand,
        timestamp: TimestampDemand,
        trust_root: Arc<TrustRoot>,
    ) -> Result<Self, VerifierError> {
        if log != Demand::Required && timestamp != Demand::Required {
            return Err(VerifierError::NoTimeRequired { log, timestamp });
        }
        let demands = Demands { log, timestamp };
        Ok(Self::new(Signer::Keyless(identity), demands, Some(trust_root)))
    }

    fn new(signer: Signer, demands: Demands, trust_root: Option<Arc<TrustRoot>>) -> Self {
        let fingerprint = fingerprint(&signer, trust_root.as_deref());
        let id = id(&fingerprint, demands, trust_root.as_deref());
        Self(Arc::new(Inner {
            signer,
            demands,
            trust_root,
            fingerprint,
            id,
        }))
    }

    /// The signer's name. A key's is the hash of its canonical SubjectPublicKeyInfo. A keyless signer's is that of its
    /// matchers and of the trust root's *name*, so that it outlives a refresh of the root.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The name of everything that an answer rests on.
    #[must_use]
    pub fn id(&self) -> VerifierId {
        self.0.id
    }

    /// The type of signer, as in `SigningKey.status.algorithm`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        match &self.0.signer {
            Signer::Key(key) => key.algorithm().to_string(),
            Signer::Keyless(_) => "Keyless".to_owned(),
        }
    }

    /// The key, where the signer is one.
    #[must_use]
    pub fn public_key(&self) -> Option<&PublicKey> {
        match &self.0.signer {
            Signer::Key(key) => Some(key),
            Signer::Keyless(_) => None,
        }
    }

    /// Whether both are keys, and different ones: an item has one signature, so what the one signed the other did not.
    #[must_use]
    pub fn is_another_key_than(&self, other: &Self) -> bool {
        self.public_key().is_some()
            && other.public_key().is_some()
            && self.fingerprint() != other.fingerprint()
    }

    /// The identities that are accepted, where the signer is keyless.
    #[must_use]
    pub fn identity(&self) -> Option<&IdentityMatcher> {
        match &self.0.signer {
            Signer::Key(_) => None,
            Signer::Keyless(identity) => Some(identity),
        }
    }

    /// What logs, timestamps and certificates are checked against; None where nothing of that is looked at.
    #[must_use]
    pub fn trust_root(&self) -> Option<&TrustRoot> {
        self.0.trust_root.as_deref()
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.0.signer
    }

    pub(crate) fn demands(&self) -> Demands {
        self.0.demands
    }
}

/// Equal where every answer is equal.
impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Verifier {}

impl Demands {
    fn look_at_anything(self) -> bool {
        self.log != Demand::Ignore || self.timestamp != Demand::Ignore
    }
}

fn fingerprint(signer: &Signer, trust_root: Option<&TrustRoot>) -> Fingerprint {
    match signer {
        Signer::Key(key) => key.fingerprint(),
        Signer::Keyless(matcher) => keyless_fingerprint(matcher, trust_root.map_or("", TrustRoot::name)),
    }
}

/// What names a keyless signer: its matchers and the name of its trust root, which need not be there.
#[must_use]
pub fn keyless_fingerprint(matcher: &IdentityMatcher, trust_root: &str) -> Fingerprint {
    let [issuer_kind, issuer] = matcher.issuer().canonical();
    let [subject_kind, subject] = matcher.subject().canonical();
    Fingerprint::from(hash(
        "assay keyless signer",
        &[issuer_kind, issuer, subject_kind, subject, trust_root].map(str::as_bytes),
    ))
}

fn id(fingerprint: &Fingerprint, demands: Demands, trust_root: Option<&TrustRoot>) -> VerifierId {
    let root = trust_root
        .map(|root| root.digest().to_string())
        .unwrap_or_else(|| "none".to_owned());
    let (log, timestamp) = (demands.log.to_string(), demands.timestamp.to_string());
    let parts = [
        VERSION.as_bytes(),
        fingerprint.as_bytes(),
        root.as_bytes(),
        log.as_bytes(),
        timestamp.as_bytes(),
    ];
    VerifierId(hash("assay verifier", &parts))
}

/// Hashes the parts with their lengths, so that no two lists of parts meet in one hash.
fn hash(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut preimage = Vec::new();
    for part in [domain.as_bytes()].iter().chain(parts) {
        preimage.extend_from_slice(&(part.len() as u64).to_be_bytes());
        preimage.extend_from_slice(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, &preimage).as_ref());
    bytes
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "Required",
            Self::Optional => "Optional",
            Self::Ignore => "Ignore",
        })
    }
}

impl VerifierId {
    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for VerifierId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for VerifierId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for VerifierId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierId({self})")
    }
}
