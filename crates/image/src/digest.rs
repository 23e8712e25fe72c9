//! Content digests as the OCI image specification writes them ("Digests", `algorithm:encoded`), limited to the
//! two registered algorithms, sha256 and sha512. Verification of content lives here too; fetching does not.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{DigestError, shown};

/// A digest algorithm registered by the OCI image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// A content digest. Equal digests are equal byte for byte; the order is that of the written form.
///
/// Thousands are held of each image: the long ones, which are rare, lie elsewhere.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Value);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Sha256([u8; 32]),
    Sha512(Arc<[u8; 64]>),
}

impl Digest {
    /// The SHA-256 of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self(Value::Sha256(Sha256::digest(content).into()))
    }

    /// The SHA-512 of `content`.
    pub fn sha512(content: &[u8]) -> Self {
        Self(Value::Sha512(Arc::new(Sha512::digest(content).into())))
    }

    /// The digest of `content` by the algorithm of `self`, to compare or to report.
    pub fn of_same_algorithm(&self, content: &[u8]) -> Self {
        match self.0 {
            Value::Sha256(_) => Self::sha256(content),
            Value::Sha512(_) => Self::sha512(content),
        }
    }

    /// Whether `content` hashes to this digest.
    pub fn matches(&self, content: &[u8]) -> bool {
        self.of_same_algorithm(content) == *self
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Value::Sha256(_) => Algorithm::Sha256,
            Value::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes: 32 for sha256, 64 for sha512.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) => bytes,
            Value::Sha512(bytes) => &**bytes,
        }
    }

    /// The part after the colon: lower-case hexadecimal.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.bytes()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 0x0f])
            .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
            .collect()
    }

    /// `sha256-<hex>`: how the referrers fallback tag of the OCI distribution specification and cosign's tags
    /// (`.sig`, `.att`) write a digest.
    pub fn tag_prefix(&self) -> String {
        format!("{}-{}", self.algorithm().name(), self.hex())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, encoded)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { found: shown(text) });
        };
        match algorithm {
            "sha256" => decode(text, Algorithm::Sha256, encoded).map(|bytes| Self(Value::Sha256(bytes))),
            "sha512" => {
                decode(text, Algorithm::Sha512, encoded).map(|bytes| Self(Value::Sha512(Arc::new(bytes))))
            }
            _ => Err(DigestError::UnsupportedAlgorithm { found: shown(text) }),
        }
    }
}

fn decode<const N: usize>(text: &str, algorithm: Algorithm, encoded: &str) -> Result<[u8; N], DigestError> {
    if encoded.len() != 2 * N {
        return Err(DigestError::Length {
            found: shown(text),
            algorithm: algorithm.name(),
            length: encoded.chars().count(),
            expected: 2 * N,
        });
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(encoded.as_bytes().chunks_exact(2)) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
            return Err(DigestError::NotHex { found: shown(text) });
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
