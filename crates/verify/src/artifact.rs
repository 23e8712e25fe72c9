//! A Sigstore bundle for any artifact, judged offline by the code that judges images. Stricter than a policy's look at
//! an image: everything that the bundle carries must verify, and a keyless bundle must be in a log.

use std::sync::Arc;

use aws_lc_rs::digest;
use image::Digest;

use crate::bundle::MessageSignature;
use crate::claim::{Identity, TrustedTimes};
use crate::document::{Document, Unreadable};
use crate::identity::IdentityMatcher;
use crate::item::{Body, Content, Item, Signed, SignedBlob};
use crate::key::{Fingerprint, PublicKey};
use crate::material::Material;
use crate::outcome::{Cause, Refusal};
use crate::sigstore::{self, Examination, Holder, Presented, Promise, Rigour, Unproven};
use crate::verifier::{Signer, Verifier};

/// The name of SHA-256 in a bundle (sigstore_common.proto, `HashAlgorithm`).
const SHA2_256: &str = "SHA2_256";

/// What a bundle is to be about.
#[derive(Debug, Clone)]
pub enum Artifact<'a> {
    /// These bytes.
    Content(&'a [u8]),
    /// The bytes with this sha256 digest. Ed25519 signatures over the bytes themselves cannot be checked then.
    Digest(Digest),
}

/// A bundle that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedArtifact {
    /// The signer that verified, as [`Verifier::fingerprint`].
    pub signer: Fingerprint,
    /// Keyless only: who the certificate was issued to.
    pub identity: Option<Arc<Identity>>,
    /// The times that others vouch for, not compared with any clock.
    pub times: TrustedTimes,
}

/// Why a bundle does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactRefusal {
    /// It proves something else, or nothing.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It was not read, or not to its end.
    #[error("{0}")]
    CannotTell(#[from] Cause),
    /// It is about other bytes.
    #[error("it was made for another artifact: {found}")]
    OtherArtifact {
        /// What it is about.
        found: String,
    },
    /// Bundles name artifacts by sha256.
    #[error("the artifact is given as {found}; give a sha256 digest, or the file")]
    UnsupportedDigest {
        /// The digest given.
        found: Digest,
    },
    /// The signature is over the bytes themselves, and only their digest is known.
    #[error(
        "a signature of this kind can only be checked with the artifact itself; name the file instead of its digest"
    )]
    NeedsContent,
}

impl From<Unproven> for ArtifactRefusal {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Refused(refusal) => Self::Refused(refusal),
            Unproven::CannotTell(cause) => Self::CannotTell(cause),
        }
    }
}

/// Checks a bundle (version 0.1 to 0.3, a message signature or a DSSE envelope) against an artifact and a verifier.
///
/// # Errors
/// [`ArtifactRefusal`], displayed in one line, if anything in the bundle does not verify.
pub fn verify_artifact(
    bundle: &[u8],
    artifact: Artifact<'_>,
    verifier: &Verifier,
) -> Result<VerifiedArtifact, ArtifactRefusal> {
    match Item::from_bundle(bundle).content() {
        Content::Signed(signed) => verify_envelope(signed, &artifact, verifier),
        Content::MessageSignature(blob) => verify_message(blob, &artifact, verifier),
        Content::Malformed(why) => Err(Refusal::EvidenceMalformed { why: why.clone() }.into()),
        Content::NotRead(cause) => Err(cause.clone().into()),
        Content::Elsewhere(_) => Err(Cause::NotKept.into()),
    }
}

fn verify_envelope(
    signed: &Signed,
    artifact: &Artifact<'_>,
    verifier: &Verifier,
) -> Result<VerifiedArtifact, ArtifactRefusal> {
    let document = match &signed.document {
        Ok(document) => document,
        Err(Unreadable::Malformed(why)) => {
            return Err(Refusal::PayloadMalformed { why: why.clone() }.into());
        }
        Err(Unreadable::OverCap(cap)) => return Err(Cause::from(cap.clone()).into()),
    };
    let subject = artifact.sha256()?;
    if !is_about(document, &subject) {
        return Err(ArtifactRefusal::OtherArtifact {
            found: document
                .subjects
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        });
    }
    let message = signed.body.message();
    let made = |key: &PublicKey| Ok(key.signed(&message, signed.body.signature()));
    let presented = match &signed.body {
        Body::Envelope(envelope) => Presented::Envelope { envelope, subject },
        Body::Text { signature, .. } => Presented::Text {
            text: &message,
            signature,
        },
    };
    examine(presented, made, &signed.material, verifier)
}

fn is_about(document: &Document, sha256: &[u8; 32]) -> bool {
    document.subjects.iter().any(|subject| subject.bytes() == sha256)
}

fn verify_message(
    blob: &SignedBlob,
    artifact: &Artifact<'_>,
    verifier: &Verifier,
) -> Result<VerifiedArtifact, ArtifactRefusal> {
    let sha256 = artifact.sha256()?;
    check_hint(&blob.signature, &sha256)?;
    let signature = blob.signature.signature.as_slice();
    let made = |key: &PublicKey| match artifact {
        Artifact::Content(content) => Ok(key.signed(content, signature)),
        Artifact::Digest(_) => key
            .signed_sha256(&sha256, signature)
            .ok_or(ArtifactRefusal::NeedsContent),
    };
    let presented = match artifact {
        Artifact::Content(text) => Presented::Text { text, signature },
        Artifact::Digest(_) => Presented::Digest { sha256, signature },
    };
    examine(presented, made, &blob.material, verifier)
}

/// The digest in a bundle proves nothing; one that is not the artifact's says that something was mixed up.
fn check_hint(signature: &MessageSignature, sha256: &[u8; 32]) -> Result<(), ArtifactRefusal> {
    match &signature.digest {
        Some((algorithm, digest)) if algorithm == SHA2_256 && digest != sha256 => {
            Err(ArtifactRefusal::OtherArtifact {
                found: format!("sha256:{}", hex::encode(digest)),
            })
        }
        _ => Ok(()),
    }
}

fn examine(
    presented: Presented<'_>,
    made: impl Fn(&PublicKey) -> Result<bool, ArtifactRefusal>,
    material: &Material,
    verifier: &Verifier,
) -> Result<VerifiedArtifact, ArtifactRefusal> {
    match verifier.signer() {
        Signer::Key(key) => by_key(key, presented, made, material, verifier),
        Signer::Keyless(matcher) => keyless(matcher, presented, made, material, verifier),
    }
}

fn by_key(
    key: &PublicKey,
    presented: Presented<'_>,
    made: impl Fn(&PublicKey) -> Result<bool, ArtifactRefusal>,
    material: &Material,
    verifier: &Verifier,
) -> Result<VerifiedArtifact, ArtifactRefusal> {
    if material.certificates.is_some() {
        return Err(Refusal::CertificateInvalid {
            why: "it was signed under a certificate, and a key was asked for".into(),
        }
        .into());
    }
    if !made(key)? {
        return Err(Refusal::SignatureMismatch.into());
    }
    Ok(VerifiedArtifact {
        signer: verifier.fingerprint(),
        identity: None,
        times: times(presented, Holder::Key(key), material, verifier)?,
    })
}

fn keyless(
    matcher: &IdentityMatcher,
    presented: Presented<'_>,
    made: impl Fn(&PublicKey) -> Result<bool, ArtifactRefusal>,
    material: &Material,
    verifier: &Verifier,
) -> Result<VerifiedArtifact, ArtifactRefusal> {
    let leaf = sigstore::leaf(material)?;
    let identity = sigstore::accepted_identity(&leaf, matcher)?;
    if !made(&sigstore::key_of(&leaf)?)? {
        return Err(Refusal::SignatureMismatch.into());
    }
    Ok(VerifiedArtifact {
        signer: verifier.fingerprint(),
        identity: Some(Arc::new(identity)),
        times: times(presented, Holder::Certificate(&leaf), material, verifier)?,
    })
}

fn times(
    presented: Presented<'_>,
    holder: Holder<'_>,
    material: &Material,
    verifier: &Verifier,
) -> Result<TrustedTimes, Unproven> {
    let Some(root) = verifier.trust_root() else {
        return Ok(TrustedTimes::default());
    };
    let promise = if material.is_version_0_1 {
        Promise::Suffices
    } else {
        Promise::NeedsProof
    };
    Examination {
        presented,
        holder,
        material,
        promise,
        rigour: Rigour::Everything,
        demands: verifier.demands(),
        root,
    }
    .trusted_times()
}

impl Artifact<'_> {
    fn sha256(&self) -> Result<[u8; 32], ArtifactRefusal> {
        let bytes: Result<[u8; 32], _> = match self {
            Self::Content(content) => digest::digest(&digest::SHA256, content).as_ref().try_into(),
            Self::Digest(digest) => digest.bytes().try_into(),
        };
        bytes.map_err(|_| ArtifactRefusal::UnsupportedDigest { found: self.digest() })
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Content(content) => Digest::sha256(content),
            Self::Digest(digest) => digest.clone(),
        }
    }
}
