//! Certificates of authorities, as a RegistryConfig or a file gives them.

use std::fmt;
use std::sync::Arc;

/// Certificates of authorities in PEM, at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    pem: Arc<[u8]>,
}

/// Why a text is no bundle of certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesError {
    /// Something in it is not a certificate.
    #[error("it holds something that is no certificate in PEM")]
    Malformed,
    /// There is none.
    #[error("it holds no certificate: write them in PEM, between BEGIN CERTIFICATE and END CERTIFICATE")]
    Empty,
}

impl Certificates {
    /// Reads a bundle in PEM. Whether the certificates are good for anything is found out when a client is made
    /// with them.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificatesError> {
        let bundle = Self { pem: pem.into() };
        match bundle.parsed() {
            Ok(certificates) if certificates.is_empty() => Err(CertificatesError::Empty),
            Ok(_) => Ok(bundle),
            Err(_) => Err(CertificatesError::Malformed),
        }
    }

    pub(crate) fn parsed(&self) -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
        reqwest::Certificate::from_pem_bundle(&self.pem)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({} bytes)", self.pem.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_refused() {
        assert_eq!(Certificates::from_pem(b""), Err(CertificatesError::Empty));
        assert_eq!(Certificates::from_pem(b"no pem"), Err(CertificatesError::Empty));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        assert!(Certificates::from_pem(broken).is_err());
    }
}
