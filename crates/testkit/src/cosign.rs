//! Real cosign, versions 2 and 3: keys, signatures, attestations, and its own verdict as an oracle.
//!
//! Who signs is a [`Signer`]: a key alone, or what a private [`crate::Sigstore`] vouches for. Nothing here needs a
//! network. HOME is a scratch folder.

use std::path::{Path, PathBuf};

use crate::command::{CommandOutput, Tool};
use crate::keys::{KEY_PASSWORD, KeyAlgorithm, KeyPair, openssl_private_key};
use crate::sigstore::{Signer, Sigstore};
use crate::tools::Tools;
use crate::{Result, TestkitError};

/// Which cosign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CosignVersion {
    /// Signs in the tag format unless told otherwise.
    V2,
    /// Signs as a bundle unless told otherwise.
    V3,
}

/// How a signature is stored in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Under a tag: simple signing under `sha256-<hex>.sig`, DSSE envelopes of attestations under `sha256-<hex>.att`;
    /// certificates, log entries and timestamps are annotations of the layer.
    Tag,
    /// A Sigstore bundle that refers to the image: by the referrers API where there is one, else by the fallback tag.
    Bundle,
}

const EMPTY_TRUSTED_ROOT: &str =
    r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;

impl Format {
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Tag => "--new-bundle-format=false",
            Self::Bundle => "--new-bundle-format=true",
        }
    }
}

/// One version of cosign with its scratch folder.
#[derive(Debug, Clone)]
pub struct Cosign {
    version: CosignVersion,
    program: PathBuf,
    home: PathBuf,
}

impl Cosign {
    /// `home` gets what cosign caches, and the keys.
    pub fn new(version: CosignVersion, home: impl AsRef<Path>) -> Result<Self> {
        let home = std::path::absolute(home.as_ref()).map_err(TestkitError::file("find", home.as_ref()))?;
        std::fs::create_dir_all(&home).map_err(TestkitError::file("create", &home))?;
        let name = match version {
            CosignVersion::V2 => "cosign2",
            CosignVersion::V3 => "cosign3",
        };
        Ok(Self {
            version,
            program: Tools::locate()?.path(name)?,
            home,
        })
    }

    /// Which one this is.
    pub fn version(&self) -> CosignVersion {
        self.version
    }

    /// `cosign generate-key-pair`: ECDSA P-256, in `<name>.key` and `<name>.pub` of the scratch folder.
    pub async fn generate_key_pair(&self, name: &str) -> Result<KeyPair> {
        let pair = KeyPair::named(&self.home, name);
        let prefix = self.home.join(name);
        self.run(
            ["generate-key-pair", "--output-key-prefix"]
                .map(Path::new)
                .into_iter()
                .chain([prefix.as_path()]),
        )
        .await?;
        Ok(pair)
    }

    /// A key of any algorithm: made with openssl, brought in with `cosign import-key-pair`.
    pub async fn key_pair(&self, name: &str, algorithm: KeyAlgorithm) -> Result<KeyPair> {
        let pair = KeyPair::named(&self.home, name);
        let plain = self.home.join(format!("{name}.plain.pem"));
        openssl_private_key(algorithm, &plain).await?;
        let prefix = self.home.join(name);
        self.run([
            Path::new("import-key-pair"),
            Path::new("--key"),
            &plain,
            Path::new("--output-key-prefix"),
            &prefix,
        ])
        .await?;
        Ok(pair)
    }

    /// Signs an image named by its digest.
    pub async fn sign<'a>(&self, image: &str, signer: impl Into<Signer<'a>>, format: Format) -> Result<()> {
        self.sign_with(image, signer, format, &[]).await
    }

    /// Signs with further arguments, for example `-a build=7` or `--recursive`.
    pub async fn sign_with<'a>(
        &self,
        image: &str,
        signer: impl Into<Signer<'a>>,
        format: Format,
        further: &[&str],
    ) -> Result<()> {
        let mut arguments = vec!["sign".to_owned()];
        arguments.extend(signer.into().signing_arguments(self.version, format)?);
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        arguments.push(image.to_owned());
        self.run(arguments).await.map(drop)
    }

    /// Attaches an attestation: `predicate` is JSON, `predicate_type` a URI or one of cosign's short names.
    pub async fn attest<'a>(
        &self,
        image: &str,
        signer: impl Into<Signer<'a>>,
        predicate_type: &str,
        predicate: &serde_json::Value,
        format: Format,
    ) -> Result<()> {
        let file = self.file(predicate.to_string().as_bytes())?;
        let mut arguments = vec!["attest".to_owned()];
        arguments.extend(signer.into().signing_arguments(self.version, format)?);
        arguments.push(format!("--predicate={}", path(file.path())?));
        arguments.push(format!("--type={predicate_type}"));
        arguments.push(image.to_owned());
        self.run(arguments).await.map(drop)
    }

    /// Signs any bytes and gives the Sigstore bundle.
    pub async fn sign_blob<'a>(&self, content: &[u8], signer: impl Into<Signer<'a>>) -> Result<String> {
        let (file, bundle) = (self.file(content)?, self.file(b"")?);
        let mut arguments = vec!["sign-blob".to_owned()];
        arguments.extend(signer.into().signing_arguments(self.version, Format::Bundle)?);
        arguments.push(format!("--bundle={}", path(bundle.path())?));
        arguments.push(path(file.path())?.to_owned());
        self.run(arguments).await?;
        std::fs::read_to_string(bundle.path()).map_err(TestkitError::file("read", bundle.path()))
    }

    /// Whether this cosign accepts a signature by the signer on an image. An independent oracle, but ask it only about
    /// images whose signatures all have one format; and it also takes an attestation for a signature.
    pub async fn verifies<'a>(&self, image: &str, signer: impl Into<Signer<'a>>) -> Result<bool> {
        Ok(self.verify_output(image, signer, None).await?.succeeded())
    }

    /// `cosign verify` with everything it printed; told to look for one format only, or for whatever it finds.
    pub async fn verify_output<'a>(
        &self,
        image: &str,
        signer: impl Into<Signer<'a>>,
        format: Option<Format>,
    ) -> Result<CommandOutput> {
        self.verify("verify", signer.into(), format, &[image]).await
    }

    /// `cosign verify-attestation` for one predicate type, with everything it printed.
    pub async fn verify_attestation_output<'a>(
        &self,
        image: &str,
        signer: impl Into<Signer<'a>>,
        predicate_type: &str,
        format: Option<Format>,
    ) -> Result<CommandOutput> {
        let arguments = ["--type", predicate_type, image];
        self.verify("verify-attestation", signer.into(), format, &arguments)
            .await
    }

    /// `cosign verify-blob` for a bundle, with everything it printed.
    pub async fn verify_blob_output<'a>(
        &self,
        content: &[u8],
        signer: impl Into<Signer<'a>>,
        bundle: &str,
    ) -> Result<CommandOutput> {
        let (content, bundle) = (self.file(content)?, self.file(bundle.as_bytes())?);
        let arguments = ["--bundle", path(bundle.path())?, path(content.path())?];
        self.verify("verify-blob", signer.into(), Some(Format::Bundle), &arguments)
            .await
    }

    /// Any other cosign command.
    pub async fn output(&self, arguments: &[&str]) -> Result<CommandOutput> {
        self.tool().args(arguments).output().await
    }

    async fn verify(
        &self,
        command: &str,
        signer: Signer<'_>,
        format: Option<Format>,
        further: &[&str],
    ) -> Result<CommandOutput> {
        let mut arguments = vec![command.to_owned()];
        arguments.extend(signer.verifying_arguments(format)?);
        // Without a trusted root of ours, cosign 2 would ask a network for one, although no key needs it.
        let empty = self.file(EMPTY_TRUSTED_ROOT.as_bytes())?;
        let trusted_root = signer
            .sigstore()
            .map_or(empty.path(), |sigstore| sigstore.trusted_root());
        // Cosign 2 refuses the option where it looks for attestations under a tag; the environment says the same.
        let takes_it = (self.version, command) != (CosignVersion::V2, "verify-attestation")
            || format == Some(Format::Bundle)
            || !matches!(signer, Signer::Identity(..));
        if takes_it {
            arguments.push(format!("--trusted-root={}", path(trusted_root)?));
        }
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        let parts = signer.sigstore().map(Sigstore::environment).unwrap_or_default();
        let tool = parts
            .into_iter()
            .fold(self.tool(), |tool, (name, file)| tool.env(name, file));
        tool.args(arguments).output().await
    }

    /// A file that is gone when the command has ended.
    fn file(&self, content: &[u8]) -> Result<tempfile::NamedTempFile> {
        let file =
            tempfile::NamedTempFile::new_in(&self.home).map_err(TestkitError::file("write", &self.home))?;
        std::fs::write(file.path(), content).map_err(TestkitError::file("write", file.path()))?;
        Ok(file)
    }

    fn tool(&self) -> Tool {
        Tool::new(&self.program, &self.home)
            .env("COSIGN_PASSWORD", KEY_PASSWORD)
            .env("DOCKER_CONFIG", self.home.join("docker"))
            .current_dir(&self.home)
    }

    async fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        self.tool().args(arguments).stdout().await
    }
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| TestkitError::Invalid(format!("{} is not UTF-8", path.display())))
}
