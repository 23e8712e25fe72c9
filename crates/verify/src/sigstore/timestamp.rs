//! RFC 3161 timestamps, each verified apart against the authorities of a trust root. The certificates that a token
//! carries prove nothing, the trust root's do; but none may be another one than those.

use jiff::Timestamp;
use sigstore_verify::tsa::verify_timestamp_for_authority;
use sigstore_verify::types::bundle::Rfc3161Timestamp;
use sigstore_verify::types::{SignatureBytes, TimestampToken};
use spki::der::asn1::Any;
use spki::der::{self, Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};

use crate::claim::{TimeSource, TrustedTime};
use crate::trust_root::TrustRoot;

/// A timestamp that verified.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) at: Timestamp,
    /// The place of the authority in the root.
    pub(crate) authority: usize,
    /// Sigstore's client knows of no other timestamps; those over an envelope are not shown to it.
    pub(crate) is_over_signature: bool,
    token: Vec<u8>,
}

impl Stamp {
    pub(crate) fn over_envelope(self) -> Self {
        Self {
            is_over_signature: false,
            ..self
        }
    }

    pub(crate) fn time(&self) -> TrustedTime {
        TrustedTime {
            at: self.at,
            source: TimeSource::TimestampAuthority,
        }
    }

    pub(crate) fn token(&self) -> Rfc3161Timestamp {
        Rfc3161Timestamp::new(TimestampToken::from_bytes(&self.token))
    }
}

/// Verifies a token over these bytes: by one authority, whose whole chain was valid at the token's time.
pub(crate) fn verify(token: &[u8], over: &[u8], root: &TrustRoot) -> Result<Stamp, String> {
    let parsed = TimestampToken::from_bytes(token);
    let over = SignatureBytes::from_bytes(over);
    let mut trouble = "the trust root has no timestamp authority".to_owned();
    for (at, authority) in root.timestamp_authorities.iter().enumerate() {
        let Some(client) = root.timestamp_authority(at) else {
            continue;
        };
        match verify_timestamp_for_authority(&parsed, &over, &client) {
            Ok(time) if authority.is_usable_at(time) => {
                check_carried(token, &root.timestamp_chain(at))?;
                return Ok(Stamp {
                    at: time,
                    authority: at,
                    is_over_signature: true,
                    token: token.to_vec(),
                });
            }
            Ok(time) => trouble = format!("it says {time}, when the authority that made it was not valid"),
            Err(error) => trouble = error.to_string(),
        }
    }
    Err(trouble)
}

/// Every certificate in the token is, byte by byte, one of the authority's in the trust root.
fn check_carried(token: &[u8], chain: &[&[u8]]) -> Result<(), String> {
    let carried = certificates(token).map_err(|error| format!("its certificates cannot be read: {error}"))?;
    if carried.iter().all(|certificate| chain.contains(&&**certificate)) {
        return Ok(());
    }
    Err("it carries a certificate that is not in the chain of the authority that made it, as the trust root has it".into())
}

/// The certificates in the SignedData (RFC 5652 section 5.1) of a token, or of a response around it (RFC 3161 section
/// 2.4.2), each as it is written there.
fn certificates(token: &[u8]) -> der::Result<Vec<Vec<u8>>> {
    let mut parts = Vec::<Any>::from_der(token)?;
    if parts.first().is_some_and(|first| first.tag() == Tag::Sequence)
        && let Some(content_info) = parts.get(1)
    {
        parts = Vec::<Any>::from_der(&content_info.to_der()?)?;
    }
    let content = parts.get(1).ok_or(der::ErrorKind::Failed)?;
    let signed_data = Vec::<Any>::from_der(content.value())?;
    let certificates = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    let set = signed_data.iter().find(|part| part.tag() == certificates);
    let mut reader = SliceReader::new(set.map_or(&[], Any::value))?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes()?.to_vec());
    }
    Ok(found)
}
