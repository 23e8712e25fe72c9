//! Requests to the timestamp authority (RFC 3161), for tests that date something themselves.

use sha2::{Digest as _, Sha256};

use super::Sigstore;
use crate::der::{SEQUENCE, encode};
use crate::{Result, TestkitError};

const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
/// `AlgorithmIdentifier` of SHA-256 (RFC 5754, 2.2) in DER.
const SHA256: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];

impl Sigstore {
    /// A `TimeStampResp` over any bytes, dated now; a bundle holds it over the bytes of its signature. No key is needed
    /// for it: everybody can have everything dated anew.
    pub async fn timestamp(&self, content: &[u8]) -> Result<Vec<u8>> {
        let url = self.timestamp_url().ok_or_else(|| {
            TestkitError::Invalid("this Sigstore was started without a timestamp authority".to_owned())
        })?;
        let failed = |error: reqwest::Error| TestkitError::Invalid(format!("{url}: {error}"));
        let request = reqwest::Client::new()
            .post(&url)
            .header("content-type", "application/timestamp-query");
        let answer = request.body(query(content)).send().await.map_err(failed)?;
        let answer = answer.error_for_status().map_err(failed)?;
        Ok(answer.bytes().await.map_err(failed)?.to_vec())
    }
}

/// `TimeStampReq` (RFC 3161, 2.4.1): version 1, the hash, and the wish for the certificate.
fn query(content: &[u8]) -> Vec<u8> {
    let hash = encode(OCTET_STRING, &Sha256::digest(content));
    let imprint = encode(SEQUENCE, &[&SHA256[..], &hash].concat());
    let parts = [encode(INTEGER, &[1]), imprint, encode(BOOLEAN, &[0xff])];
    encode(SEQUENCE, &parts.concat())
}
