//! Signing keys, made with openssl or cosign.

use std::path::{Path, PathBuf};

use crate::command::Tool;
use crate::{Result, TestkitError};

/// The password of every private key in the test kit.
pub const KEY_PASSWORD: &str = "testkit";

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA over P-256; what `cosign generate-key-pair` makes.
    EcdsaP256,
    /// ECDSA over P-384.
    EcdsaP384,
    /// Ed25519. Cosign signs with the prehashed variant under such a key.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
}

impl KeyAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa2048];

    fn openssl_arguments(self) -> &'static [&'static str] {
        match self {
            Self::EcdsaP256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::EcdsaP384 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Self::Ed25519 => &["-algorithm", "ED25519"],
            Self::Rsa2048 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        }
    }
}

/// A key pair in files, as cosign keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The encrypted private key (`<name>.key`); its password is [`KEY_PASSWORD`].
    pub private_key: PathBuf,
    /// The public key (`<name>.pub`).
    pub public_key: PathBuf,
}

impl KeyPair {
    /// The public key as `SigningKey.spec.publicKey.pem` takes it.
    pub fn public_pem(&self) -> Result<String> {
        std::fs::read_to_string(&self.public_key).map_err(TestkitError::file("read", &self.public_key))
    }

    pub(crate) fn named(folder: &Path, name: &str) -> Self {
        Self {
            private_key: folder.join(format!("{name}.key")),
            public_key: folder.join(format!("{name}.pub")),
        }
    }
}

/// Makes a private key with openssl, in PKCS #8 and PEM, unencrypted: for what cosign is not to touch.
pub async fn openssl_private_key(algorithm: KeyAlgorithm, file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let openssl = Tool::new(Path::new("openssl"), folder)
        .args(["genpkey", "-out"])
        .args([file]);
    openssl
        .args(algorithm.openssl_arguments())
        .stdout()
        .await
        .map(drop)
}

/// The public key of a private key that [`openssl_private_key`] made, SPKI in PEM.
pub async fn openssl_public_key(private_key: &Path) -> Result<String> {
    let folder = private_key.parent().unwrap_or(Path::new("."));
    Tool::new(Path::new("openssl"), folder)
        .args(["pkey", "-pubout", "-in"])
        .args([private_key])
        .stdout()
        .await
}
