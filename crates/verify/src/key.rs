//! Public keys: what one is, its name (the fingerprint), and whether it made a signature.
//! Formats are in `pem` and `spki`; which key a policy trusts is no business of this crate.
//!
//! | key | accepted signatures | written by |
//! |---|---|---|
//! | ECDSA P-256 | ASN.1 DER over SHA-256 | cosign 2 and 3 |
//! | ECDSA P-384 | ASN.1 DER over SHA-384 | cosign 2.6 and 3.1, in both formats |
//! | | ASN.1 DER over SHA-256 | older Sigstore clients |
//! | Ed25519 | Ed25519ph with an empty context | cosign 2.6 and 3.1, in both formats |
//! | | Ed25519 | older cosign, other clients |
//! | RSA | PKCS#1 v1.5 over SHA-256 | cosign 2 and 3 |
//!
//! RSASSA-PSS is not accepted: cosign never writes it under a key pair.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};

use crate::ed25519;
use crate::key_error::KeyError;
use crate::pem;
use crate::spki::KeyMaterial;

/// A public key that signatures can be checked against. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    fingerprint: Fingerprint,
    canonical: Arc<[u8]>,
    schemes: Arc<[Scheme]>,
}

impl PublicKey {
    /// Reads one PEM block `PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7; armour: RFC 7468).
    ///
    /// # Errors
    /// [`KeyError`] if the text is anything else, or a key of an unsupported type or size; the message says
    /// what was found and what is expected.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_der(&pem::public_key_der(text)?)
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let material = KeyMaterial::from_der(der)?;
        let algorithm = KeyAlgorithm::of(&material);
        let canonical = material.canonical_der()?;
        Ok(Self {
            algorithm,
            fingerprint: Fingerprint::of(&canonical),
            canonical: canonical.into(),
            schemes: schemes(&material).ok_or(KeyError::InvalidKey {
                found: algorithm.to_string(),
                why: "it is not a point or number that can verify",
            })?,
        })
    }

    /// Type and size of the key.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key's name: equal for equal keys, however they were encoded.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The key's one encoding as a SubjectPublicKeyInfo.
    pub(crate) fn canonical_der(&self) -> &[u8] {
        &self.canonical
    }

    /// Whether the owner of this key signed bytes with this SHA-256 digest. None where the key's kind of signature
    /// cannot be checked without the bytes.
    pub(crate) fn signed_sha256(&self, sha256: &[u8; 32], signature: &[u8]) -> Option<bool> {
        let schemes = self
            .schemes
            .iter()
            .filter_map(|scheme| scheme.verifies_sha256(sha256, signature));
        schemes.reduce(|one, other| one || other)
    }

    /// Whether the owner of this key signed exactly these bytes.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.schemes
            .iter()
            .any(|scheme| scheme.verifies(message, signature))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.fingerprint)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for PublicKey {}

/// Type and size of a public key, displayed as in `SigningKey.status.algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// EdDSA on edwards25519.
    Ed25519,
    /// RSA with a modulus of this many bits.
    Rsa {
        /// Bits of the modulus, 2048 to 8192.
        bits: usize,
    },
}

impl KeyAlgorithm {
    fn of(material: &KeyMaterial) -> Self {
        match material {
            KeyMaterial::EcdsaP256(_) => Self::EcdsaP256,
            KeyMaterial::EcdsaP384(_) => Self::EcdsaP384,
            KeyMaterial::Ed25519(_) => Self::Ed25519,
            KeyMaterial::Rsa { bits, .. } => Self::Rsa { bits: *bits },
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ECDSA-P256"),
            Self::EcdsaP384 => f.write_str("ECDSA-P384"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
        }
    }
}

/// SHA-256 of a key's canonical SubjectPublicKeyInfo, displayed as 64 lower-case hexadecimal digits.
/// For a key as openssl and cosign write it, the same as `openssl pkey -pubin -outform DER | sha256sum`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(canonical_der: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, canonical_der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// One way in which a key can have signed.
enum Scheme {
    /// With the hash that the signature is over, where it is over one.
    AwsLc(ParsedPublicKey, Option<&'static digest::Algorithm>),
    Ed25519Prehashed([u8; ed25519::PUBLIC_KEY_BYTES]),
}

impl Scheme {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::AwsLc(key, _) => key.verify_sig(message, signature).is_ok(),
            Self::Ed25519Prehashed(point) => ed25519::verify_prehashed(point, message, signature),
        }
    }

    fn verifies_sha256(&self, sha256: &[u8; 32], signature: &[u8]) -> Option<bool> {
        match self {
            Self::AwsLc(key, Some(hash)) if *hash == &digest::SHA256 => {
                let digest = digest::Digest::import_less_safe(sha256, hash).ok()?;
                Some(key.verify_digest_sig(&digest, signature).is_ok())
            }
            Self::AwsLc(..) | Self::Ed25519Prehashed(_) => None,
        }
    }
}

/// `None` if the cryptographic library refuses the numbers, for example a point that is not on its curve.
fn schemes(material: &KeyMaterial) -> Option<Arc<[Scheme]>> {
    let parse = |algorithm: &'static dyn VerificationAlgorithm, hash, bytes: &[u8]| {
        let key = ParsedPublicKey::new(algorithm, bytes).ok()?;
        Some(Scheme::AwsLc(key, hash))
    };
    let (sha256, sha384) = (Some(&digest::SHA256), Some(&digest::SHA384));
    Some(match material {
        KeyMaterial::EcdsaP256(point) => Arc::new([parse(&ECDSA_P256_SHA256_ASN1, sha256, point)?]),
        KeyMaterial::EcdsaP384(point) => Arc::new([
            parse(&ECDSA_P384_SHA384_ASN1, sha384, point)?,
            parse(&ECDSA_P384_SHA256_ASN1, sha256, point)?,
        ]),
        KeyMaterial::Ed25519(point) => {
            Arc::new([parse(&ED25519, None, point)?, Scheme::Ed25519Prehashed(*point)])
        }
        KeyMaterial::Rsa { pkcs1, .. } => Arc::new([parse(&RSA_PKCS1_2048_8192_SHA256, sha256, pkcs1)?]),
    })
}
