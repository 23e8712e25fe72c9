//! A private Sigstore on loopback ports: what it takes to sign without keys of one's own, with no network.
//!
//! Fulcio, the timestamp authority and Rekor v2 are the real servers. The OIDC issuers and the CT log, which there is
//! no server for, are played by the test kit, and so is Rekor v1.

mod certificates;
mod ct_log;
mod identity;
mod issuer;
mod merkle;
mod rekor_v1;
mod servers;
mod signer;
mod timestamp;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

pub use certificates::{Chain, LogKey};
pub use identity::{Identity, Workflow};
pub use signer::Signer;

use crate::cosign::{CosignVersion, Format};
use crate::http::{HttpServer, Reserved};
use crate::server::Server;
use crate::tools::Tools;
use crate::{KeyPair, Result, TestkitError, run_folder};
use ct_log::CtLog;
use issuer::Issuers;
use rekor_v1::RekorV1;
use servers::Service;
use trust::Log;

/// Which parts there are; all of them unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigstoreOptions {
    /// A CT log. Without it certificates carry no signed timestamp of one.
    pub ct_log: bool,
    /// A timestamp authority. Without it cosign refuses to log anything keyless in Rekor v2, which dates nothing.
    pub timestamps: bool,
    /// A Rekor v2 log, which the bundles of cosign 3 are logged in.
    pub rekor: bool,
    /// A Rekor v1 log, which everything else is logged in: what lies under tags, the bundles of cosign 2 (whose entries
    /// Rekor v2 refuses), and those of cosign 3 where there is no Rekor v2.
    pub rekor_v1: bool,
}

impl Default for SigstoreOptions {
    fn default() -> Self {
        Self {
            ct_log: true,
            timestamps: true,
            rekor: true,
            rekor_v1: true,
        }
    }
}

/// A private Sigstore; dropped, its servers end. Each has keys of its own: to another one its signatures are those
/// of an unknown root.
#[derive(Debug)]
pub struct Sigstore {
    parts: Parts,
    trusted_root: PathBuf,
    signing_config: PathBuf,
    signing_config_rekor_v1: PathBuf,
    /// Kept because they serve only as long as they are.
    _played: Vec<HttpServer>,
}

#[derive(Debug)]
struct Parts {
    issuers: Issuers,
    ct_log: Option<PlayedLog>,
    authority: Chain,
    fulcio: Service,
    timestamps: Option<(Service, Chain)>,
    rekor: Option<(Service, LogKey)>,
    rekor_v1: Option<PlayedLog>,
}

/// A log within this process.
#[derive(Debug)]
struct PlayedLog {
    url: String,
    key: LogKey,
}

impl Sigstore {
    /// Starts all parts; their files lie in `folder`.
    pub async fn start(folder: impl AsRef<Path>, options: SigstoreOptions) -> Result<Self> {
        crate::init();
        let folder =
            std::path::absolute(folder.as_ref()).map_err(TestkitError::file("find", folder.as_ref()))?;
        std::fs::create_dir_all(&folder).map_err(TestkitError::file("create", &folder))?;
        let mut played = Vec::new();
        let issuers_address = Reserved::new()?;
        let issuers = Issuers::new(issuers_address.url())?;
        let mut router = issuers.router()?;
        let mut ct_log = None;
        if options.ct_log {
            let log = Arc::new(CtLog::new()?);
            router = router.merge(log.router());
            ct_log = Some(PlayedLog {
                url: format!("{}{}", issuers_address.url(), ct_log::PATH),
                key: LogKey::write(&folder, "ct-log", log.key())?,
            });
        }
        played.push(issuers_address.serve(router)?);
        let mut rekor_v1 = None;
        if options.rekor_v1 {
            let (log, address) = (Arc::new(RekorV1::new()?), Reserved::new()?);
            rekor_v1 = Some(PlayedLog {
                url: address.url().to_owned(),
                key: LogKey::write(&folder, "rekor-v1", log.key())?,
            });
            played.push(address.serve(log.router())?);
        }
        let parts = Parts::start(&folder, options, issuers, ct_log, rekor_v1).await?;
        let log = if options.rekor { Log::V2 } else { Log::V1 };
        let old_log = if options.rekor_v1 { Log::V1 } else { Log::V2 };
        Ok(Self {
            trusted_root: trust::trusted_root(&parts, &folder).await?,
            signing_config: trust::signing_config(&parts, &folder, "signing_config.json", log).await?,
            signing_config_rekor_v1: trust::signing_config(
                &parts,
                &folder,
                "signing_config_v1.json",
                old_log,
            )
            .await?,
            parts,
            _played: played,
        })
    }

    /// `trusted_root.json`: what its signatures are verified with.
    pub fn trusted_root(&self) -> &Path {
        &self.trusted_root
    }

    /// The content of [`Sigstore::trusted_root`].
    pub fn trusted_root_json(&self) -> Result<String> {
        std::fs::read_to_string(&self.trusted_root).map_err(TestkitError::file("read", &self.trusted_root))
    }

    /// The signing configuration that a cosign signs bundles with.
    pub fn signing_config(&self, version: CosignVersion) -> &Path {
        match version {
            CosignVersion::V2 => &self.signing_config_rekor_v1,
            CosignVersion::V3 => &self.signing_config,
        }
    }

    /// The issuer that vouches for an identity, as certificates name it.
    pub fn issuer_of(&self, identity: &Identity) -> String {
        self.parts.issuers.url(identity.issuer_kind())
    }

    /// An identity token, valid for an hour.
    pub fn token(&self, identity: &Identity) -> Result<String> {
        self.parts.issuers.token(identity)
    }

    /// A signer without a key of its own.
    pub fn keyless<'a>(&'a self, identity: &'a Identity) -> Signer<'a> {
        Signer::Identity(identity, self)
    }

    /// A signer with a key whose signatures are logged and timestamped here.
    pub fn logged<'a>(&'a self, key: &'a KeyPair) -> Signer<'a> {
        Signer::LoggedKey(key, self)
    }

    /// What Fulcio issues with.
    pub fn authority(&self) -> &Chain {
        &self.parts.authority
    }

    /// What the timestamp authority signs with.
    pub fn timestamp_chain(&self) -> Option<&Chain> {
        self.parts.timestamps.as_ref().map(|(_, chain)| chain)
    }

    /// The key of the CT log.
    pub fn ct_log_key(&self) -> Option<&LogKey> {
        self.parts.ct_log.as_ref().map(|log| &log.key)
    }

    /// The key of the Rekor v2 log.
    pub fn rekor_key(&self) -> Option<&LogKey> {
        self.parts.rekor.as_ref().map(|(_, key)| key)
    }

    /// The key of the Rekor v1 log.
    pub fn rekor_v1_key(&self) -> Option<&LogKey> {
        self.parts.rekor_v1.as_ref().map(|log| &log.key)
    }

    /// The server of Fulcio, for example to stop it.
    pub fn fulcio(&self) -> &Server {
        &self.parts.fulcio.server
    }

    /// The server of the timestamp authority.
    pub fn timestamp_server(&self) -> Option<&Server> {
        self.parts.timestamps.as_ref().map(|(service, _)| &service.server)
    }

    /// The server of Rekor v2.
    pub fn rekor(&self) -> Option<&Server> {
        self.parts.rekor.as_ref().map(|(service, _)| &service.server)
    }

    /// Where the timestamp authority takes requests (RFC 3161 over HTTP).
    pub fn timestamp_url(&self) -> Option<String> {
        let service = self.parts.timestamps.as_ref().map(|(service, _)| service);
        service.map(|service| trust::timestamp_url(&service.url))
    }

    /// What cosign is told instead of a signing configuration where it signs in the tag format.
    fn service_arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--fulcio-url={}", self.parts.fulcio.url)];
        arguments.push(match &self.parts.rekor_v1 {
            Some(log) => format!("--rekor-url={}", log.url),
            None => "--tlog-upload=false".to_owned(),
        });
        arguments.extend(
            self.timestamp_url()
                .map(|url| format!("--timestamp-server-url={url}")),
        );
        arguments
    }

    /// The keys and certificates of the trusted root, as cosign's variables name them.
    pub(crate) fn environment(&self) -> Vec<(&'static str, &Path)> {
        let mut files: Vec<(&'static str, &Path)> =
            vec![("SIGSTORE_ROOT_FILE", &self.parts.authority.certificates)];
        let ct_log = self
            .ct_log_key()
            .map(|key| ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", key.public_key.as_path()));
        let rekor = self
            .rekor_v1_key()
            .map(|key| ("SIGSTORE_REKOR_PUBLIC_KEY", key.public_key.as_path()));
        let chain = self.timestamp_chain();
        let timestamps = chain.map(|chain| ("SIGSTORE_TSA_CERTIFICATE_FILE", chain.certificates.as_path()));
        files.extend([ct_log, rekor, timestamps].into_iter().flatten());
        files
    }

    /// What cosign must be told not to ask for, as there is none here.
    fn forgiving_arguments(&self, format: Option<Format>) -> Vec<String> {
        let has_rekor = self.parts.rekor.is_some() && format != Some(Format::Tag);
        let has_log = has_rekor || self.parts.rekor_v1.is_some();
        let mut arguments = Vec::new();
        if !has_log {
            arguments.push("--insecure-ignore-tlog".to_owned());
        }
        if self.parts.ct_log.is_none() {
            arguments.push("--insecure-ignore-sct".to_owned());
        }
        // Under a tag, Rekor v1 tells the time. Cosign 3 does not verify the timestamps that it puts beside attestations
        // there: they are over the signature, and it looks for them over the envelope.
        let is_dated_by_log = format == Some(Format::Tag) && self.parts.rekor_v1.is_some();
        if self.parts.timestamps.is_some() && !is_dated_by_log {
            arguments.push("--use-signed-timestamps".to_owned());
        }
        arguments
    }
}

impl Parts {
    async fn start(
        folder: &Path,
        options: SigstoreOptions,
        issuers: Issuers,
        ct_log: Option<PlayedLog>,
        rekor_v1: Option<PlayedLog>,
    ) -> Result<Self> {
        let tools = Tools::locate()?;
        let authority = Chain::authority(folder)?;
        let ct_log_url = ct_log.as_ref().map(|log| log.url.as_str());
        let timestamps = async {
            if !options.timestamps {
                return Ok(None);
            }
            let chain = Chain::timestamps(folder)?;
            Ok(Some((Service::timestamps(&tools, folder, &chain).await?, chain)))
        };
        let rekor = async {
            if !options.rekor {
                return Ok(None);
            }
            let key = LogKey::ed25519(folder, "rekor")?;
            Ok(Some((Service::rekor(&tools, folder, &key).await?, key)))
        };
        let fulcio = Service::fulcio(&tools, folder, &authority, &issuers, ct_log_url);
        let (fulcio, timestamps, rekor) = tokio::try_join!(fulcio, timestamps, rekor)?;
        Ok(Self {
            issuers,
            ct_log,
            authority,
            fulcio,
            timestamps,
            rekor,
            rekor_v1,
        })
    }
}

/// The Sigstore that all tests of this process share, started by the first one that asks. A test that needs one with
/// fewer parts, or a second root, starts its own.
pub async fn sigstore() -> Result<&'static Sigstore> {
    static SHARED: OnceCell<Sigstore> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || {
            Sigstore::start(run_folder()?.join("sigstore"), SigstoreOptions::default()).await
        })
        .await
}
