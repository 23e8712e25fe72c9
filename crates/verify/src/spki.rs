//! SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of the supported key types: from DER to numbers and back
//! to the one canonical DER that fingerprints are taken of. Verifying with the numbers is in `key`.

use spki::der::asn1::{AnyRef, BitStringRef, UintRef};
use spki::der::{self, Decode, Encode, Reader, SliceReader};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::ed25519;
use crate::key_error::KeyError;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Algorithms and curves that people do have keys of, so that the refusal can name them.
const KNOWN_BUT_UNSUPPORTED: [(&str, &str); 12] = [
    ("1.3.132.0.35", "ECDSA P-521"),
    ("1.3.132.0.33", "ECDSA P-224"),
    ("1.3.132.0.10", "ECDSA secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "ECDSA brainpoolP256r1"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.156.10197.1.301", "SM2"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];

const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;
/// AWS-LC takes no public exponent above 33 bits, and none in use is above 32.
const MAX_RSA_EXPONENT_BYTES: usize = 4;
const UNCOMPRESSED: u8 = 4;

/// A public key of a supported type, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyMaterial {
    /// The uncompressed point (SEC 1 section 2.3.3), 65 bytes.
    EcdsaP256(Vec<u8>),
    /// The uncompressed point, 97 bytes.
    EcdsaP384(Vec<u8>),
    /// The encoded point (RFC 8032 section 5.1.2).
    Ed25519([u8; ed25519::PUBLIC_KEY_BYTES]),
    /// A PKCS#1 RSAPublicKey (RFC 8017 appendix A.1.1) in DER, with the bits of its modulus.
    Rsa { pkcs1: Vec<u8>, bits: usize },
}

impl KeyMaterial {
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(malformed)?;
        let bits = spki
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| KeyError::MalformedSpki {
                why: "the key is not a whole number of bytes".into(),
            })?;
        match spki.algorithm.oid {
            EC_PUBLIC_KEY => elliptic_curve(&spki.algorithm, bits),
            RSA_ENCRYPTION => rsa(&spki.algorithm, bits),
            ED25519 => ed25519(&spki.algorithm, bits),
            other => Err(unsupported(other)),
        }
    }

    /// The one encoding of this key: RSA with NULL parameters, points uncompressed.
    pub(crate) fn canonical_der(&self) -> Result<Vec<u8>, KeyError> {
        let (oid, parameters, bits) = match self {
            Self::EcdsaP256(point) => (EC_PUBLIC_KEY, Some(AnyRef::from(&P256)), point.as_slice()),
            Self::EcdsaP384(point) => (EC_PUBLIC_KEY, Some(AnyRef::from(&P384)), point.as_slice()),
            Self::Ed25519(point) => (ED25519, None, point.as_slice()),
            Self::Rsa { pkcs1, .. } => (RSA_ENCRYPTION, Some(AnyRef::NULL), pkcs1.as_slice()),
        };
        let spki = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef { oid, parameters },
            subject_public_key: BitStringRef::from_bytes(bits).map_err(malformed)?,
        };
        spki.to_der().map_err(malformed)
    }
}

fn elliptic_curve(algorithm: &AlgorithmIdentifierRef<'_>, point: &[u8]) -> Result<KeyMaterial, KeyError> {
    let curve = algorithm
        .parameters
        .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok())
        .ok_or_else(|| KeyError::UnsupportedType {
            found: "EC with explicit or missing curve parameters".into(),
        })?;
    let (name, coordinate_bytes) = match curve {
        P256 => ("ECDSA-P256", 32),
        P384 => ("ECDSA-P384", 48),
        other => return Err(unsupported(other)),
    };
    if point.first() != Some(&UNCOMPRESSED) {
        return Err(KeyError::PointNotUncompressed);
    }
    if point.len() != 1 + 2 * coordinate_bytes {
        return Err(KeyError::InvalidKey {
            found: name.into(),
            why: "the point has the wrong length",
        });
    }
    let point = point.to_vec();
    Ok(if curve == P256 {
        KeyMaterial::EcdsaP256(point)
    } else {
        KeyMaterial::EcdsaP384(point)
    })
}

fn ed25519(algorithm: &AlgorithmIdentifierRef<'_>, point: &[u8]) -> Result<KeyMaterial, KeyError> {
    let invalid = |why| KeyError::InvalidKey {
        found: "Ed25519".into(),
        why,
    };
    if algorithm.parameters.is_some() {
        return Err(invalid("RFC 8410 allows it no parameters"));
    }
    let point: [u8; ed25519::PUBLIC_KEY_BYTES] = point
        .try_into()
        .map_err(|_| invalid("the point is not 32 bytes long"))?;
    if ed25519::is_degenerate(&point) {
        return Err(invalid("the point is of low order or not canonically encoded"));
    }
    Ok(KeyMaterial::Ed25519(point))
}

/// RFC 3279 wants NULL parameters; some tools leave them out. Both are the same key.
fn rsa(algorithm: &AlgorithmIdentifierRef<'_>, pkcs1: &[u8]) -> Result<KeyMaterial, KeyError> {
    let invalid = |why| KeyError::InvalidKey {
        found: "RSA".into(),
        why,
    };
    if algorithm
        .parameters
        .is_some_and(|parameters| !parameters.is_null())
    {
        return Err(invalid("its parameters are neither NULL nor absent"));
    }
    let (modulus, exponent) = rsa_numbers(pkcs1).map_err(malformed)?;
    let bits = bit_length(modulus.as_bytes());
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    if is_even(modulus.as_bytes()) {
        return Err(invalid("its modulus is even"));
    }
    let exponent = exponent.as_bytes();
    if is_even(exponent) || exponent == [1] {
        return Err(invalid("its public exponent is even or 1"));
    }
    if exponent.len() > MAX_RSA_EXPONENT_BYTES {
        return Err(invalid("its public exponent is longer than 32 bits"));
    }
    Ok(KeyMaterial::Rsa {
        pkcs1: pkcs1.to_vec(),
        bits,
    })
}

/// Strict DER: what parses has no second encoding.
fn rsa_numbers(pkcs1: &[u8]) -> der::Result<(UintRef<'_>, UintRef<'_>)> {
    let mut reader = SliceReader::new(pkcs1)?;
    let numbers = reader.sequence(|inner| {
        let modulus: UintRef<'_> = inner.decode()?;
        let exponent: UintRef<'_> = inner.decode()?;
        Ok::<_, der::Error>((modulus, exponent))
    })?;
    reader.finish()?;
    Ok(numbers)
}

fn bit_length(big_endian: &[u8]) -> usize {
    big_endian
        .first()
        .map_or(0, |first| big_endian.len() * 8 - first.leading_zeros() as usize)
}

fn is_even(big_endian: &[u8]) -> bool {
    big_endian.last().is_none_or(|last| last & 1 == 0)
}

fn unsupported(oid: ObjectIdentifier) -> KeyError {
    let dotted = oid.to_string();
    let found = KNOWN_BUT_UNSUPPORTED
        .iter()
        .find(|(known, _)| *known == dotted)
        .map_or_else(
            || format!("with object identifier {dotted}"),
            |(_, name)| (*name).to_owned(),
        );
    KeyError::UnsupportedType { found }
}

fn malformed(error: der::Error) -> KeyError {
    KeyError::MalformedSpki {
        why: error.to_string(),
    }
}
