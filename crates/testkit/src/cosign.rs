//! Real cosign, versions 2 and 3: keys, signatures, attestations, and its own verdict as an oracle.
//!
//! Nothing here needs a network: no transparency log, no timestamp, no trust root. HOME is a scratch folder.

use std::path::{Path, PathBuf};

use crate::command::{CommandOutput, Tool};
use crate::keys::{KEY_PASSWORD, KeyAlgorithm, KeyPair, openssl_private_key};
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
    /// Simple signing under the tag `sha256-<hex>.sig`.
    Tag,
    /// A Sigstore bundle that refers to the image: by the referrers API where there is one, else by the fallback tag.
    Bundle,
}

const EMPTY_TRUSTED_ROOT: &str =
    r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;

impl Format {
    fn flag(self) -> &'static str {
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
    pub async fn sign(&self, image: &str, key: &KeyPair, format: Format) -> Result<()> {
        self.sign_with(image, key, format, &[]).await
    }

    /// Signs with further arguments, for example `-a build=7` or `--recursive`.
    pub async fn sign_with(
        &self,
        image: &str,
        key: &KeyPair,
        format: Format,
        further: &[&str],
    ) -> Result<()> {
        let mut arguments = vec!["sign", "--key", path(&key.private_key)?];
        arguments.extend(self.writing_arguments(format));
        arguments.extend(further);
        arguments.push(image);
        self.run(arguments).await.map(drop)
    }

    /// Attaches an attestation: `predicate` is JSON, `predicate_type` a URI or one of cosign's short names.
    pub async fn attest(
        &self,
        image: &str,
        key: &KeyPair,
        predicate_type: &str,
        predicate: &serde_json::Value,
        format: Format,
    ) -> Result<()> {
        let file =
            tempfile::NamedTempFile::new_in(&self.home).map_err(TestkitError::file("write", &self.home))?;
        std::fs::write(file.path(), predicate.to_string())
            .map_err(TestkitError::file("write", file.path()))?;
        let mut arguments = vec!["attest", "--key", path(&key.private_key)?];
        arguments.extend(["--predicate", path(file.path())?, "--type", predicate_type]);
        arguments.extend(self.writing_arguments(format));
        arguments.push(image);
        self.run(arguments).await.map(drop)
    }

    /// Whether this cosign accepts a signature by the key on an image. An independent oracle, but ask it only about
    /// images whose signatures all have one format; and it also takes an attestation for a signature.
    pub async fn verifies(&self, image: &str, key: &KeyPair) -> Result<bool> {
        Ok(self.verify_output(image, key, None).await?.succeeded())
    }

    /// `cosign verify` with everything it printed; told to look for one format only, or for whatever it finds.
    pub async fn verify_output(
        &self,
        image: &str,
        key: &KeyPair,
        format: Option<Format>,
    ) -> Result<CommandOutput> {
        // Without a trusted root of ours, cosign 2 would ask a network for one, although no key needs it.
        let trusted_root = self.home.join("empty-trusted-root.json");
        std::fs::write(&trusted_root, EMPTY_TRUSTED_ROOT)
            .map_err(TestkitError::file("write", &trusted_root))?;
        let mut arguments = vec![
            "verify",
            "--key",
            path(&key.public_key)?,
            "--insecure-ignore-tlog",
        ];
        arguments.extend(["--trusted-root", path(&trusted_root)?]);
        arguments.extend(format.map(Format::flag));
        arguments.push(image);
        self.output(&arguments).await
    }

    /// Any other cosign command.
    pub async fn output(&self, arguments: &[&str]) -> Result<CommandOutput> {
        self.tool().args(arguments).output().await
    }

    /// What signing and attesting share: no log, no questions, the format.
    fn writing_arguments(&self, format: Format) -> Vec<&'static str> {
        let mut arguments = vec!["--tlog-upload=false", "-y"];
        arguments.push(format.flag());
        if self.version == CosignVersion::V3 {
            arguments.push("--use-signing-config=false");
        }
        arguments
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

fn path(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| TestkitError::Invalid(format!("{} is not UTF-8", path.display())))
}
