//! Who signs, and what cosign must be told for it: to sign, and to verify what was signed.

use super::{Identity, Sigstore};
use crate::cosign::{CosignVersion, Format, path};
use crate::{KeyPair, Result};

/// Who signs with cosign, and whom a signature is verified against.
#[derive(Debug, Clone, Copy)]
pub enum Signer<'a> {
    /// A key, with no log and no timestamp.
    Key(&'a KeyPair),
    /// A key whose signatures are logged and timestamped; from [`Sigstore::logged`].
    LoggedKey(&'a KeyPair, &'a Sigstore),
    /// An identity with a certificate of Fulcio, logged and timestamped; from [`Sigstore::keyless`].
    Identity(&'a Identity, &'a Sigstore),
}

impl<'a> From<&'a KeyPair> for Signer<'a> {
    fn from(key: &'a KeyPair) -> Self {
        Self::Key(key)
    }
}

impl Signer<'_> {
    /// The arguments of `cosign sign`, `attest` and `sign-blob`.
    pub(crate) fn signing_arguments(&self, version: CosignVersion, format: Format) -> Result<Vec<String>> {
        let mut arguments = vec!["-y".to_owned(), format.flag().to_owned()];
        match self {
            Self::Key(key) | Self::LoggedKey(key, _) => {
                arguments.push(format!("--key={}", path(&key.private_key)?))
            }
            Self::Identity(identity, sigstore) => {
                arguments.push(format!("--identity-token={}", sigstore.token(identity)?));
            }
        }
        let without_config = (version == CosignVersion::V3).then(|| "--use-signing-config=false".to_owned());
        match (self, format) {
            (Self::Key(_), _) => {
                arguments.push("--tlog-upload=false".to_owned());
                arguments.extend(without_config);
            }
            (Self::LoggedKey(_, sigstore) | Self::Identity(_, sigstore), Format::Bundle) => {
                arguments.push(format!("--trusted-root={}", path(sigstore.trusted_root())?));
                arguments.push(format!(
                    "--signing-config={}",
                    path(sigstore.signing_config(version))?
                ));
            }
            (Self::LoggedKey(_, sigstore) | Self::Identity(_, sigstore), Format::Tag) => {
                arguments.push(format!("--trusted-root={}", path(sigstore.trusted_root())?));
                arguments.extend(sigstore.service_arguments());
                arguments.extend(without_config);
            }
        }
        Ok(arguments)
    }

    /// The arguments of `cosign verify`, `verify-attestation` and `verify-blob`, without the trusted root.
    pub(crate) fn verifying_arguments(&self, format: Option<Format>) -> Result<Vec<String>> {
        let mut arguments: Vec<String> = format
            .map(|format| format.flag().to_owned())
            .into_iter()
            .collect();
        match self {
            Self::Key(key) => {
                arguments.push(format!("--key={}", path(&key.public_key)?));
                arguments.push("--insecure-ignore-tlog".to_owned());
            }
            Self::LoggedKey(key, sigstore) => {
                arguments.push(format!("--key={}", path(&key.public_key)?));
                arguments.extend(sigstore.forgiving_arguments(format));
            }
            Self::Identity(identity, sigstore) => {
                arguments.push(format!("--certificate-identity={}", identity.subject()));
                arguments.push(format!(
                    "--certificate-oidc-issuer={}",
                    sigstore.issuer_of(identity)
                ));
                arguments.extend(sigstore.forgiving_arguments(format));
            }
        }
        Ok(arguments)
    }

    /// The Sigstore whose trusted root verifies it, if it needs one.
    pub(crate) fn sigstore(&self) -> Option<&Sigstore> {
        match self {
            Self::Key(_) => None,
            Self::LoggedKey(_, sigstore) | Self::Identity(_, sigstore) => Some(sigstore),
        }
    }
}
