//! Signed tokens (RFC 7519) and the key that they are checked with (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize, SigningKey as _};
use serde_json::{Map, Value, json};

use crate::der::element;
use crate::{Result, TestkitError};

const KEY_ID: &str = "testkit";

/// Signs tokens with a key of its own: RS256.
#[derive(Debug)]
pub(crate) struct TokenSigner {
    key: KeyPair,
}

impl TokenSigner {
    /// With a new key.
    pub(crate) fn new() -> Result<Self> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        Ok(Self {
            key: key.map_err(TestkitError::crypto("make the key that signs tokens"))?,
        })
    }

    /// A token that says this.
    pub(crate) fn token(&self, claims: Map<String, Value>) -> Result<String> {
        let header = json!({"alg": "RS256", "kid": KEY_ID, "typ": "JWT"});
        let signed = format!(
            "{}.{}",
            BASE64URL.encode(header.to_string()),
            BASE64URL.encode(Value::Object(claims).to_string())
        );
        let signature = self.key.sign(signed.as_bytes());
        let signature = signature.map_err(TestkitError::crypto("sign a token"))?;
        Ok(format!("{signed}.{}", BASE64URL.encode(signature)))
    }

    /// The public key, as a set of one. An RSA public key is `SEQUENCE { modulus INTEGER, publicExponent INTEGER }`
    /// (RFC 8017, A.1.1).
    pub(crate) fn key_set(&self) -> Result<Value> {
        let key = element(self.key.der_bytes())?;
        let number = |part: usize| -> Result<String> {
            let content = key.part(part)?.content;
            Ok(BASE64URL.encode(content.strip_prefix(&[0]).unwrap_or(content)))
        };
        Ok(json!({"keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID, "n": number(0)?, "e": number(1)?,
        }]}))
    }
}
