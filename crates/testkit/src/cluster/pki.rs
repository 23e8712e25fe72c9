//! The certificates and keys of a cluster: one authority, the API server's certificate, certificates of users,
//! and the key that signs the tokens of service accounts.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

use crate::{Result, TestkitError};

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A cluster's authority and the files that its servers read.
pub(crate) struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    /// The authority's certificate, PEM.
    pub(crate) authority_certificate: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Pki {
    /// Makes everything new and writes the servers' files into `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(TestkitError::file("create", folder))?;
        let failed = || TestkitError::crypto("make the cluster's authority");
        let mut params = CertificateParams::new(Vec::new()).map_err(failed())?;
        params.distinguished_name = subject("assay-testkit", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().map_err(failed())?;
        let authority_certificate = params.self_signed(&key).map_err(failed())?.pem();
        let pki = Self {
            folder: folder.to_owned(),
            authority: Issuer::new(params, key),
            authority_certificate,
        };
        pki.write("ca.crt", &pki.authority_certificate)?;
        let server = pki.issue(
            subject("kube-apiserver", None),
            &["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        pki.write("server.crt", &server.certificate)?;
        pki.write("server.key", &server.key)?;
        let tokens = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map_err(TestkitError::crypto("make the key for service accounts"))?;
        pki.write("service-accounts.key", &tokens.serialize_pem())?;
        Ok(pki)
    }

    /// A client certificate for a user and one group.
    pub(crate) fn user(&self, name: &str, group: Option<&str>) -> Result<Identity> {
        self.issue(subject(name, group), &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The path of one of the files.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn issue(
        &self,
        subject: DistinguishedName,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        let failed = || TestkitError::crypto("make a certificate");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed())?;
        params.distinguished_name = subject;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(failed())?;
        let certificate = params.signed_by(&key, &self.authority).map_err(failed())?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    fn write(&self, file: &str, content: &str) -> Result<()> {
        let path = self.path(file);
        std::fs::write(&path, content).map_err(TestkitError::file("write", &path))
    }
}

/// Kubernetes takes the common name as the user and the organisation as a group.
fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject
}
