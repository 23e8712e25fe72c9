//! The certificate transparency log of a private Sigstore: it signs a timestamp over each precertificate, as RFC 6962
//! asks for, and keeps nothing. A server that also keeps the certificates is not to be had as a Go module.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::der::{Element, SEQUENCE, element, encode};
use crate::http;
use crate::{Result, TestkitError};

/// Where Fulcio finds it below the address of the parts that the test kit plays.
pub(super) const PATH: &str = "/ct-log";

/// `[3]` of a TBSCertificate (RFC 5280, 4.1).
const EXTENSIONS: u8 = 0xa3;
/// The object identifier 1.3.6.1.4.1.11129.2.4.3 of the poison extension (RFC 6962, 3.1), in DER.
const POISON: [u8; 12] = [
    0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03,
];
/// The key comes after version, serial number, algorithm, issuer, validity and subject.
const PUBLIC_KEY: usize = 6;
/// SHA-256 and ECDSA in a `digitally-signed` structure (RFC 5246, 7.4.1.4.1).
const SHA256_ECDSA: [u8; 2] = [4, 3];

/// The log's key.
#[derive(Debug)]
pub(super) struct CtLog {
    key: KeyPair,
}

#[derive(Deserialize)]
struct AddChain {
    chain: Vec<String>,
}

impl CtLog {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(TestkitError::crypto("make the key of the CT log"))?;
        Ok(Self { key })
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.key
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        let log = Arc::clone(self);
        let add = async move |body: Bytes| match log.add_pre_chain(&body) {
            Ok(timestamp) => http::json(StatusCode::OK, &timestamp),
            Err(error) => http::refusal(&error),
        };
        Router::new().route(&format!("{PATH}/ct/v1/add-pre-chain"), post(add))
    }

    /// RFC 6962, 4.2: a chain from the precertificate on, base64 of DER, becomes a signed timestamp.
    fn add_pre_chain(&self, body: &[u8]) -> Result<Value> {
        let request: AddChain = serde_json::from_slice(body).map_err(invalid())?;
        let [precertificate, issuer, ..] = request.chain.as_slice() else {
            return Err(invalid()("found no issuer beside the precertificate"));
        };
        let precertificate = BASE64.decode(precertificate).map_err(invalid())?;
        let issuer = BASE64.decode(issuer).map_err(invalid())?;
        let timestamp = u64::try_from(Timestamp::now().as_millisecond()).map_err(invalid())?;
        let entry = precertificate_entry(&precertificate, &issuer)?;
        let signature = self.key.sign(&signed_part(timestamp, &entry));
        let signature = signature.map_err(TestkitError::crypto("sign a certificate timestamp"))?;
        let length = u16::try_from(signature.len()).map_err(invalid())?;
        let signature = [&SHA256_ECDSA[..], &length.to_be_bytes(), &signature].concat();
        Ok(json!({
            "sct_version": 0,
            "id": BASE64.encode(Sha256::digest(self.key.subject_public_key_info())),
            "timestamp": timestamp,
            "extensions": "",
            "signature": BASE64.encode(signature),
        }))
    }
}

fn invalid<E: std::fmt::Display>() -> impl FnOnce(E) -> TestkitError {
    TestkitError::crypto("read an add-pre-chain request")
}

/// RFC 6962, 3.2: version v1, `certificate_timestamp`, the time, `precert_entry`, the entry, no extensions.
fn signed_part(timestamp: u64, entry: &[u8]) -> Vec<u8> {
    [&[0, 0][..], &timestamp.to_be_bytes(), &[0, 1], entry, &[0, 0]].concat()
}

/// `PreCert`: the hash of the issuer's key and the TBSCertificate without the poison, its length in three bytes.
fn precertificate_entry(precertificate: &[u8], issuer: &[u8]) -> Result<Vec<u8>> {
    let key = element(issuer)?.part(0)?.part(PUBLIC_KEY)?;
    let certificate = without_poison(&element(precertificate)?.part(0)?)?;
    let length = u32::try_from(certificate.len()).map_err(TestkitError::crypto("measure a certificate"))?;
    Ok([
        &Sha256::digest(key.whole)[..],
        &length.to_be_bytes()[1..],
        &certificate,
    ]
    .concat())
}

fn without_poison(certificate: &Element<'_>) -> Result<Vec<u8>> {
    let mut fields = Vec::new();
    let mut was_poisoned = false;
    for field in certificate.parts()? {
        if field.tag != EXTENSIONS {
            fields.extend(field.whole);
            continue;
        }
        let extensions = field.part(0)?.parts()?;
        let kept: Vec<_> = extensions
            .iter()
            .filter(|extension| !extension.content.starts_with(&POISON))
            .collect();
        was_poisoned = kept.len() < extensions.len();
        let kept: Vec<u8> = kept
            .iter()
            .flat_map(|extension| extension.whole)
            .copied()
            .collect();
        fields.extend(encode(EXTENSIONS, &encode(SEQUENCE, &kept)));
    }
    match was_poisoned {
        true => Ok(encode(SEQUENCE, &fields)),
        false => Err(TestkitError::crypto("read a precertificate")(
            "found no poison extension",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CustomExtension};

    fn certificate(key: &KeyPair, is_poisoned: bool) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        if is_poisoned {
            let mut poison =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 3], vec![5, 0]);
            poison.set_criticality(true);
            params.custom_extensions = vec![poison];
        }
        params.self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn the_timestamp_covers_the_certificate_as_it_is_without_the_poison() {
        let key = KeyPair::generate().unwrap();
        let [poisoned, clean] = [true, false].map(|is_poisoned| certificate(&key, is_poisoned));
        let poisoned = element(&poisoned).unwrap().part(0).unwrap();
        let clean = element(&clean).unwrap().part(0).unwrap();
        assert_eq!(without_poison(&poisoned).unwrap(), clean.whole);
        assert!(without_poison(&clean).is_err(), "no precertificate");
        assert!(clean.part(PUBLIC_KEY).is_ok());
    }
}
