//! RFC 3161 timestamps, each verified apart against the authorities of a trust root.

use jiff::Timestamp;
use sigstore_verify::tsa::verify_timestamp_for_authority;
use sigstore_verify::types::bundle::Rfc3161Timestamp;
use sigstore_verify::types::{SignatureBytes, TimestampToken};

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
