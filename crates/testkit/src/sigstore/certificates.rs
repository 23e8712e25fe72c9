//! The certificates of a private Sigstore: the authority that Fulcio issues with and the chain of the timestamp
//! authority, each a root and what lies below it, with validity from 2020 to 2049. The keys are there for tests that
//! need a certificate or a timestamp which no server would give them.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};

use crate::{Result, TestkitError};

const EXTENDED_KEY_USAGE: [u64; 4] = [2, 5, 29, 37];
/// `SEQUENCE { id-kp-timeStamping }` in DER.
const TIME_STAMPING: [u8; 12] = [
    0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08,
];

/// A chain of certificates and the private key of its first one, in files.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The certificates, PEM, the first one first, the root last.
    pub certificates: PathBuf,
    /// The private key of the first certificate, PKCS #8 in PEM, not encrypted.
    pub key: PathBuf,
    /// The private key of the root.
    pub root_key: PathBuf,
}

impl Chain {
    /// What Fulcio issues with: an intermediate authority for code signing below a root.
    pub(super) fn authority(folder: &Path) -> Result<Self> {
        let failed = || TestkitError::crypto("make the authority of Fulcio");
        let root = Root::new("assay-testkit fulcio root", ExtendedKeyUsagePurpose::CodeSigning)?;
        let mut params = params("assay-testkit fulcio")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let key = KeyPair::generate().map_err(failed())?;
        let certificate = params.signed_by(&key, &root.issuer).map_err(failed())?;
        Self::write(folder, "fulcio", &certificate.pem(), &key, &root)
    }

    /// What the timestamp authority signs with: a leaf for nothing but timestamps (RFC 3161, 2.3) below a root.
    pub(super) fn timestamps(folder: &Path) -> Result<Self> {
        let failed = || TestkitError::crypto("make the chain of the timestamp authority");
        let root = Root::new(
            "assay-testkit timestamp root",
            ExtendedKeyUsagePurpose::TimeStamping,
        )?;
        let mut params = params("assay-testkit timestamps")?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut usage = CustomExtension::from_oid_content(&EXTENDED_KEY_USAGE, TIME_STAMPING.to_vec());
        usage.set_criticality(true);
        params.custom_extensions = vec![usage];
        let key = KeyPair::generate().map_err(failed())?;
        let certificate = params.signed_by(&key, &root.issuer).map_err(failed())?;
        Self::write(folder, "timestamps", &certificate.pem(), &key, &root)
    }

    fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair, root: &Root) -> Result<Self> {
        let chain = Self {
            certificates: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
            root_key: folder.join(format!("{name}-root.key")),
        };
        write(&chain.certificates, &format!("{certificate}{}", root.certificate))?;
        write(&chain.key, &key.serialize_pem())?;
        write(&chain.root_key, &root.issuer.key().serialize_pem())?;
        Ok(chain)
    }
}

struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Root {
    fn new(name: &str, usage: ExtendedKeyUsagePurpose) -> Result<Self> {
        let failed = || TestkitError::crypto(format!("make {name}"));
        let mut params = params(name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(failed())?;
        let certificate = params.self_signed(&key).map_err(failed())?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }
}

fn params(name: &str) -> Result<CertificateParams> {
    let params = CertificateParams::new(Vec::new());
    let mut params = params.map_err(TestkitError::crypto(format!("make the certificate of {name}")))?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "assay-testkit");
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    Ok(params)
}

/// Writes one of the files that the servers read.
pub(super) fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).map_err(TestkitError::file("write", path))
}

/// The key of a log, in files.
#[derive(Debug, Clone)]
pub struct LogKey {
    /// The public key, SPKI in PEM.
    pub public_key: PathBuf,
    /// The private key, PKCS #8 in PEM, not encrypted.
    pub private_key: PathBuf,
}

impl LogKey {
    /// A new Ed25519 key, as the public Rekor v2 has.
    pub(super) fn ed25519(folder: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ED25519);
        Self::write(
            folder,
            name,
            &key.map_err(TestkitError::crypto(format!("make the key {name}")))?,
        )
    }

    pub(super) fn write(folder: &Path, name: &str, key: &KeyPair) -> Result<Self> {
        let files = Self {
            public_key: folder.join(format!("{name}.pub")),
            private_key: folder.join(format!("{name}.key")),
        };
        write(&files.public_key, &key.public_key_pem())?;
        write(&files.private_key, &key.serialize_pem())?;
        Ok(files)
    }
}
