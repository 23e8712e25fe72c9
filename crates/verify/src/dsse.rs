//! The DSSE envelope (Dead Simple Signing Envelope v1.0.2) and the bytes that its signature covers. Exactly
//! one signature is accepted, as Sigstore bundles demand: with several, each check could be met by another
//! one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::strict_json::{field, object, string};

/// An envelope as it was found; nothing is proven about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) payload_type: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

const ENVELOPE: &str = "dsseEnvelope";

impl Envelope {
    pub(crate) fn read(envelope: &Value) -> Result<Self, String> {
        let envelope = object(envelope, ENVELOPE, &["payload", "payloadType", "signatures"])?;
        let signatures = field(envelope, ENVELOPE, "signatures")?
            .as_array()
            .ok_or_else(|| format!("{ENVELOPE}.signatures is not a list"))?;
        let [signature] = signatures.as_slice() else {
            return Err(format!(
                "{ENVELOPE} has {} signatures; a bundle has exactly one",
                signatures.len()
            ));
        };
        let signature = object(signature, "dsseEnvelope.signatures[0]", &["sig", "keyid"])?;
        Ok(Self {
            payload_type: string(envelope, ENVELOPE, "payloadType")?.to_owned(),
            payload: decode(string(envelope, ENVELOPE, "payload")?, "dsseEnvelope.payload")?,
            signature: decode(
                string(signature, "dsseEnvelope.signatures[0]", "sig")?,
                "the signature",
            )?,
        })
    }

    /// The pre-authentication encoding, which is what was signed.
    pub(crate) fn pae(&self) -> Vec<u8> {
        let header = format!(
            "DSSEv1 {} {} {} ",
            self.payload_type.len(),
            self.payload_type,
            self.payload.len()
        );
        [header.as_bytes(), &self.payload].concat()
    }
}

/// Base64 in the standard alphabet with padding, which is what writers of protobuf JSON must produce: one
/// text for one value. `what` names it in the message.
pub(crate) fn decode(text: &str, what: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("{what} is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_pre_authentication_encoding_is_that_of_the_specification() {
        let envelope = Envelope {
            payload_type: "http://example.com/HelloWorld".into(),
            payload: b"hello world".to_vec(),
            signature: vec![],
        };
        assert_eq!(
            envelope.pae(),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    /// Weakened once: with the first of several taken, two are accepted.
    #[test]
    fn b08_an_envelope_with_none_or_several_signatures_is_refused() {
        let signature = json!({"sig": "AAAA"});
        for (signatures, accepted) in [
            (json!([]), false),
            (json!([signature]), true),
            (json!([signature, signature]), false),
        ] {
            let envelope = json!({"payload": "", "payloadType": "x", "signatures": signatures});
            assert_eq!(Envelope::read(&envelope).is_ok(), accepted, "{envelope}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(decode("+/8=", "x").unwrap(), [0xfb, 0xff]);
        for other in ["-_8=", "+/8", "+/9=", "+/8=\n", " +/8=", "+/8=="] {
            assert!(decode(other, "x").is_err(), "{other:?}");
        }
    }
}
