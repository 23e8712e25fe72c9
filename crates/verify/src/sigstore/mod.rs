//! What certificates, log entries and timestamps prove: the facade over Sigstore's own client (`sigstore-verify`),
//! with the checks that it leaves to its caller made around it. Whether the signer's own key made the signature, and
//! what the signature is about, is found out in `verify` and `artifact`.
//!
//! | left to us | how it is met |
//! |---|---|
//! | a checkpoint signed by another log than the entry names, a log key used outside its validity | each entry is verified alone, under a root reduced to the one log it names; that log must have been valid at the earliest trusted time |
//! | expired or non-CA certificates in a root's chains | a chain counts only as a whole, and only at times at which all of it is valid |
//! | a signed promise in place of a proof | accepted only where the format has nothing else ([`Promise`]) |
//! | an unverifiable timestamp or entry spoils all | each is verified apart; what fails under [`Demand::Optional`] is left out |
//! | no log entry, no timestamp | an entry or a time is demanded here, by [`Demand`] |
//! | several names in a certificate, contradicting issuers | `certificate` reads the identity, of the certificate that is verified here |
//!
//! Two rules come with the crate: RSA timestamp authorities and log entries of the kind `intoto/0.0.1` are refused, and
//! an integrated time in the future of this machine's clock is no proof. Where the log signed such a time, nobody can tell
//! until the clock is there ([`Cause::NotYet`]). Timestamps are not compared with a clock.

mod entry;
mod issued;
mod timestamp;

use jiff::Timestamp;
use sigstore_verify::types::bundle::{
    MessageDigest, MessageSignature, PublicKeyIdentifier, TimestampVerificationData, VerificationMaterial,
    VerificationMaterialContent, X509Certificate,
};
use sigstore_verify::types::{
    Artifact, Bundle, DerCertificate, DerPublicKey, DigestBytes, DsseEnvelope, DsseSignature, HashAlgorithm,
    KeyId, MediaType, PayloadBytes, Sha256Hash, SignatureBytes, SignatureContent, TransparencyLogEntry,
};
use sigstore_verify::{Error, PublicKeyVerificationPolicy, TransparencyLogError, VerificationPolicy};

use crate::certificate::Certificate;
use crate::claim::{Identity, TimeSource, TrustedTime, TrustedTimes};
use crate::dsse::Envelope;
use crate::identity::IdentityMatcher;
use crate::key::PublicKey;
use crate::material::Material;
use crate::outcome::{Cause, Refusal};
use crate::trust_root::{Kept, TrustRoot};
use crate::verifier::{Demand, Demands};

pub(crate) use issued::check_issued;
pub(crate) use timestamp::Stamp;

/// More log entries or timestamps than this are not looked at in one item: real ones have one or two, and each entry
/// costs a verification of everything beside it.
const MAX_PARTS: usize = 4;
/// Longer chains are not looked at.
const MAX_CERTIFICATES: usize = 8;

/// What is presented for verification: a signature and what it is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Presented<'a> {
    Text {
        text: &'a [u8],
        signature: &'a [u8],
    },
    Digest {
        sha256: [u8; 32],
        signature: &'a [u8],
    },
    /// With the sha256 digest of one of the statement's subjects.
    Envelope {
        envelope: &'a Envelope,
        subject: [u8; 32],
    },
}

/// Who is to have signed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder<'a> {
    Key(&'a PublicKey),
    Certificate(&'a Certificate),
}

/// Where a log's signed promise of inclusion is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    Suffices,
    /// The entry must be proven to be in the log.
    NeedsProof,
}

/// What becomes of parts that do not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rigour {
    /// They are left out; the demands say what must remain.
    WhatIsDemanded,
    /// They are a refusal.
    Everything,
}

/// One question to this module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Examination<'a> {
    pub(crate) presented: Presented<'a>,
    pub(crate) holder: Holder<'a>,
    pub(crate) material: &'a Material,
    pub(crate) promise: Promise,
    pub(crate) rigour: Rigour,
    pub(crate) demands: Demands,
    pub(crate) root: &'a TrustRoot,
}

/// Why nothing is proven.
#[derive(Debug)]
pub(crate) enum Unproven {
    Refused(Refusal),
    CannotTell(Cause),
}

impl From<Refusal> for Unproven {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Examination<'_> {
    /// The times that others vouch for, once everything that is demanded has verified. A certificate that nobody issued is
    /// refused before anything beside it is looked at, which takes much longer: anybody can write one.
    pub(crate) fn trusted_times(&self) -> Result<TrustedTimes, Unproven> {
        if self.rigour == Rigour::Everything {
            self.refuse_excess()?;
        }
        if let Holder::Certificate(leaf) = self.holder {
            check_issued(leaf, self.material, self.root)?;
        }
        let chain = self.chain()?;
        let stamps = self.stamps()?;
        let mut times: Vec<TrustedTime> = stamps.iter().map(Stamp::time).collect();
        let logged = self.entries(&chain, &stamps)?;
        if let (Holder::Certificate(_), true) = (self.holder, logged.is_empty()) {
            self.certificate_at_timestamps(&chain, &stamps)?;
        }
        times.extend(logged.into_iter().flatten().map(|at| TrustedTime {
            at,
            source: TimeSource::TransparencyLog,
        }));
        Ok(times.into_iter().collect())
    }

    fn refuse_excess(&self) -> Result<(), Refusal> {
        let most = self.material.entries.len().max(self.material.timestamps.len());
        if most > MAX_PARTS {
            return Err(Refusal::EvidenceMalformed {
                why: format!("it has {most} log entries or timestamps; at most {MAX_PARTS} are looked at"),
            });
        }
        Ok(())
    }

    /// Every timestamp that verifies and that the holder's certificate allows.
    fn stamps(&self) -> Result<Vec<Stamp>, Refusal> {
        if self.demands.timestamp == Demand::Ignore {
            return Ok(Vec::new());
        }
        let mut good = Vec::new();
        let mut trouble = None;
        for token in self.material.timestamps.iter().take(MAX_PARTS) {
            match self.stamp(token) {
                Ok(stamp) => good.push(stamp),
                Err(why) if self.rigour == Rigour::Everything => {
                    return Err(Refusal::TimestampInvalid { why });
                }
                Err(why) => trouble = Some(why),
            }
        }
        if self.demands.timestamp == Demand::Required && good.is_empty() {
            return Err(match trouble {
                Some(why) => Refusal::TimestampInvalid { why },
                None => Refusal::TimestampMissing,
            });
        }
        Ok(good)
    }

    fn stamp(&self, token: &[u8]) -> Result<Stamp, String> {
        let over_signature = timestamp::verify(token, self.presented.signature(), self.root);
        let stamp = match (over_signature, &self.material.envelope) {
            (Err(_), Some(envelope)) => timestamp::verify(token, envelope, self.root)?.over_envelope(),
            (answer, _) => answer?,
        };
        self.within_certificate(stamp)
    }

    fn within_certificate(&self, stamp: Stamp) -> Result<Stamp, String> {
        match self.holder {
            Holder::Certificate(leaf) if !leaf.validity().contains(stamp.at) => Err(format!(
                "it says {}, when the signer's certificate was not valid",
                stamp.at
            )),
            _ => Ok(stamp),
        }
    }

    /// One element for each entry that verifies: the time that it proves, if any.
    fn entries(&self, chain: &[Vec<u8>], stamps: &[Stamp]) -> Result<Vec<Option<Timestamp>>, Unproven> {
        if self.demands.log == Demand::Ignore {
            return Ok(Vec::new());
        }
        let mut good = Vec::new();
        let mut trouble = None;
        for value in self.material.entries.iter().take(MAX_PARTS) {
            match self.entry(value, chain, stamps) {
                Ok(time) => good.push(time),
                Err(Unproven::Refused(refusal)) if self.rigour == Rigour::WhatIsDemanded => {
                    trouble = Some(refusal);
                }
                Err(unproven) => return Err(unproven),
            }
        }
        if self.demands.log == Demand::Required && good.is_empty() {
            return Err(trouble.unwrap_or(Refusal::LogMissing).into());
        }
        Ok(good)
    }

    /// A certificate without a log entry: it must be good at the times of the timestamps.
    fn certificate_at_timestamps(&self, chain: &[Vec<u8>], stamps: &[Stamp]) -> Result<(), Unproven> {
        let invalid = |why: &str| Refusal::CertificateInvalid { why: why.into() };
        if stamps.is_empty() {
            return Err(invalid("nobody vouches for a time at which it was valid").into());
        }
        if !stamps.iter().any(|stamp| stamp.is_over_signature) {
            return Err(invalid(
                "its timestamp is over the envelope, not over the signature, and no log entry gives another time",
            )
            .into());
        }
        let kept = self.kept_at(stamps.iter().map(|stamp| stamp.at), stamps, None)?;
        let bundle = self.bundle(MediaType::Bundle0_2, chain, None, stamps)?;
        let answer = self.ask(&bundle, &kept, false)?;
        if answer.verified_timestamps().is_empty() {
            return Err(Refusal::TimestampMissing.into());
        }
        Ok(())
    }

    /// The parts of the root that may be believed at all of these times.
    fn kept_at(
        &self,
        times: impl Iterator<Item = Timestamp> + Clone,
        stamps: &[Stamp],
        log: Option<usize>,
    ) -> Result<Kept, Refusal> {
        let usable = |(_, authority): &(usize, &crate::trust_root::Authority)| {
            times.clone().all(|time| authority.is_usable_at(time))
        };
        let authorities: Vec<usize> = self
            .root
            .authorities
            .iter()
            .enumerate()
            .filter(usable)
            .map(|(at, _)| at)
            .collect();
        if authorities.is_empty() && matches!(self.holder, Holder::Certificate(_)) {
            return Err(Refusal::CertificateInvalid {
                why: "no certificate authority of the trust root was valid when it was used".into(),
            });
        }
        Ok(Kept {
            authorities,
            timestamp_authorities: stamps.iter().map(|stamp| stamp.authority).collect(),
            logs: log.into_iter().collect(),
        })
    }

    /// The holder's certificate and those above it; none of a key.
    fn chain(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        match (self.holder, &self.material.certificates) {
            (Holder::Certificate(_), Some(_)) => chain(self.material),
            _ => Ok(Vec::new()),
        }
    }

    fn bundle(
        &self,
        media_type: MediaType,
        chain: &[Vec<u8>],
        entry: Option<TransparencyLogEntry>,
        stamps: &[Stamp],
    ) -> Result<Bundle, Refusal> {
        let holder = match self.holder {
            Holder::Key(_) => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
            Holder::Certificate(_) => VerificationMaterialContent::X509CertificateChain {
                certificates: chain
                    .iter()
                    .map(|der| X509Certificate::new(DerCertificate::from_bytes(der)))
                    .collect(),
            },
        };
        let tokens = stamps
            .iter()
            .filter(|stamp| stamp.is_over_signature)
            .map(Stamp::token);
        let data = TimestampVerificationData::new(tokens.collect());
        let material = VerificationMaterial::new(holder)
            .with_tlog_entries(entry.into_iter().collect())
            .with_timestamp_verification_data(data);
        Ok(Bundle::new(media_type, material, self.presented.content()))
    }

    fn ask(
        &self,
        bundle: &Bundle,
        kept: &Kept,
        logged: bool,
    ) -> Result<sigstore_verify::VerificationResult, Unproven> {
        let ahead = ahead_of_the_clock(bundle);
        let unproven = |error| unproven(error, ahead);
        let root = self.root.reduced(kept);
        let verifier =
            sigstore_verify::Verifier::new(&root).map_err(|error| Refusal::CertificateInvalid {
                why: format!("the trust root cannot be used: {error}"),
            })?;
        let artifact = self.presented.artifact();
        match self.holder {
            Holder::Key(key) => {
                let mut policy =
                    PublicKeyVerificationPolicy::new(DerPublicKey::new(key.canonical_der().to_vec()));
                if !logged {
                    policy = policy.skip_tlog_unsafe();
                }
                let answer = verifier.verify(artifact, bundle, &policy).map_err(unproven)?;
                demand_flag(answer.tlog_verified() || !logged, "the log entry")?;
                Ok(answer)
            }
            Holder::Certificate(_) => {
                let mut policy = VerificationPolicy::any_identity();
                let with_sct = !self.root.certificate_logs.is_empty();
                if !with_sct {
                    policy = policy.skip_sct();
                }
                if !logged {
                    policy = policy.skip_tlog_unsafe();
                }
                let answer = verifier.verify(artifact, bundle, &policy).map_err(unproven)?;
                demand_flag(answer.certificate_verified(), "the certificate")?;
                demand_flag(answer.sct_verified() || !with_sct, "the certificate's SCT")?;
                demand_flag(answer.tlog_verified() || !logged, "the log entry")?;
                demand_flag(!answer.verified_timestamps().is_empty(), "a time")?;
                Ok(answer)
            }
        }
    }
}

/// The signer's certificate and those above it. Root certificates, which cosign's tag format carries, are left out
/// there; in a bundle they are not allowed.
fn chain(material: &Material) -> Result<Vec<Vec<u8>>, Refusal> {
    let all = material.certificates.as_ref().ok_or(Refusal::NoCertificate)?;
    let invalid = |why: String| Refusal::CertificateInvalid { why };
    if all.len() > MAX_CERTIFICATES {
        return Err(invalid(format!("its chain has {} certificates", all.len())));
    }
    let mut chain = Vec::new();
    for (at, der) in all.iter().enumerate() {
        let certificate = Certificate::from_der(der).map_err(invalid)?;
        match (at, certificate.is_self_issued(), material.promise_suffices) {
            (0, _, _) | (_, false, _) => chain.push(der.clone()),
            (_, true, true) => {}
            (_, true, false) => return Err(invalid("its chain contains a root certificate".into())),
        }
    }
    Ok(chain)
}

/// The certificate of the signer: the first of the item's.
pub(crate) fn leaf(material: &Material) -> Result<Certificate, Refusal> {
    let invalid = |why: String| Refusal::CertificateInvalid { why };
    let all = material.certificates.as_ref().ok_or(Refusal::NoCertificate)?;
    let der = all.first().ok_or_else(|| invalid("its chain is empty".into()))?;
    Certificate::from_der(der).map_err(invalid)
}

/// Whom the certificate was issued to, if that is accepted.
pub(crate) fn accepted_identity(leaf: &Certificate, matcher: &IdentityMatcher) -> Result<Identity, Refusal> {
    let identity = leaf
        .identity()
        .map_err(|why| Refusal::CertificateInvalid { why })?;
    if matcher.matches(&identity) {
        return Ok(identity);
    }
    Err(Refusal::IdentityMismatch {
        found: format!("{} ({})", identity.subject, identity.issuer),
    })
}

/// The key that the certificate is for.
pub(crate) fn key_of(leaf: &Certificate) -> Result<PublicKey, Refusal> {
    let invalid = |why: String| Refusal::CertificateInvalid { why };
    let der = leaf.public_key_der().map_err(invalid)?;
    PublicKey::from_der(&der).map_err(|error| invalid(error.to_string()))
}

/// The crate says what it checked; anything that it did not is no success.
fn demand_flag(checked: bool, what: &str) -> Result<(), Refusal> {
    if checked {
        return Ok(());
    }
    Err(Refusal::CertificateInvalid {
        why: format!("{what} was not verified"),
    })
}

/// The time of an entry that the clock has not reached.
fn ahead_of_the_clock(bundle: &Bundle) -> Option<Timestamp> {
    let entries = bundle.verification_material.tlog_entries.iter();
    let now = Timestamp::now();
    entries
        .filter_map(|entry| entry.integrated_time)
        .find(|time| *time > now)
}

/// The crate compares the time of an entry with the clock once it has verified that the log signed it: nobody else can
/// bring that about.
fn unproven(error: sigstore_verify::Error, ahead: Option<Timestamp>) -> Unproven {
    match (&error, ahead) {
        (Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)), Some(at)) => {
            Unproven::CannotTell(Cause::NotYet { at })
        }
        _ => Unproven::Refused(refusal(error)),
    }
}

fn refusal(error: sigstore_verify::Error) -> Refusal {
    let why = error.to_string().replace('\n', " ");
    match error {
        Error::SignatureInvalid(_) => Refusal::SignatureMismatch,
        Error::Certificate(_) => Refusal::CertificateInvalid { why },
        Error::Timestamp(_) => Refusal::TimestampInvalid { why },
        _ => Refusal::LogInvalid { why },
    }
}

impl Presented<'_> {
    pub(crate) fn signature(&self) -> &[u8] {
        match self {
            Self::Text { signature, .. } | Self::Digest { signature, .. } => signature,
            Self::Envelope { envelope, .. } => &envelope.signature,
        }
    }

    fn artifact(&self) -> Artifact<'_> {
        match self {
            Self::Text { text, .. } => Artifact::from_blob(text),
            Self::Digest { sha256, .. } => Artifact::from_digest(Sha256Hash::new(*sha256)),
            Self::Envelope { subject, .. } => Artifact::from_digest(Sha256Hash::new(*subject)),
        }
    }

    fn content(&self) -> SignatureContent {
        match self {
            Self::Text { signature, .. } => SignatureContent::MessageSignature(MessageSignature::new(
                SignatureBytes::from_bytes(signature),
            )),
            Self::Digest { sha256, signature } => SignatureContent::MessageSignature(
                MessageSignature::new(SignatureBytes::from_bytes(signature)).with_message_digest(
                    MessageDigest::new(HashAlgorithm::Sha2256, DigestBytes::new(sha256.to_vec())),
                ),
            ),
            Self::Envelope { envelope, .. } => SignatureContent::DsseEnvelope(DsseEnvelope::new(
                envelope.payload_type.clone(),
                PayloadBytes::from_bytes(&envelope.payload),
                DsseSignature::new(SignatureBytes::from_bytes(&envelope.signature), KeyId::new("")),
            )),
        }
    }
}
