//! Whether an authority of the trust root issued a certificate at all. No refusal of evidence may say that it is the
//! signer's where only the signer's name is in a certificate that anybody can write. Nothing is accepted by this: what
//! counts is decided at the trusted times, by Sigstore's client.

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use sigstore_verify::crypto::WEBPKI_VERIFICATION_ALGS;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::chain;
use crate::certificate::Certificate;
use crate::material::Material;
use crate::outcome::Refusal;
use crate::trust_root::TrustRoot;

/// Extended key usage of code signing (RFC 5280 section 4.2.1.12): id-kp-codeSigning without its tag.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// Refuses a certificate that no authority of the root ever issued.
pub(crate) fn check_issued(leaf: &Certificate, material: &Material, root: &TrustRoot) -> Result<(), Refusal> {
    let chain = chain(material)?;
    check(&chain, leaf.validity().start, root).map_err(|why| Refusal::CertificateInvalid { why })
}

/// Checks the chain at a time, up to any authority of the root.
fn check(chain: &[Vec<u8>], at: Timestamp, root: &TrustRoot) -> Result<(), String> {
    let ders: Vec<CertificateDer<'_>> = chain
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let (leaf, between) = ders.split_first().ok_or("its chain is empty")?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
    let authorities: Vec<CertificateDer<'_>> =
        root.authority_certificates().map(CertificateDer::from).collect();
    let anchors: Vec<_> = authorities
        .iter()
        .filter_map(|der| anchor_from_trusted_cert(der).ok())
        .collect();
    let seconds = u64::try_from(at.as_second()).map_err(|_| "its validity begins before 1970")?;
    let issued = leaf.verify_for_usage(
        WEBPKI_VERIFICATION_ALGS,
        &anchors,
        between,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        KeyUsage::required(CODE_SIGNING),
        None,
        None,
    );
    match issued {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("no authority of the trust root issued it ({error})")),
    }
}
