//! What clients of a private Sigstore are given, made by cosign: the trusted root that they verify with and the
//! configuration that they sign with.

use std::path::{Path, PathBuf};

use super::servers::REKOR_ORIGIN;
use super::{Parts, issuer::IssuerKind};
use crate::{Cosign, CosignVersion, Result};

/// Before anything that a test kit makes.
const START: &str = "2020-01-01T00:00:00Z";

/// `trusted_root.json` of the parts that there are.
pub(super) async fn trusted_root(parts: &Parts, folder: &Path) -> Result<PathBuf> {
    let out = folder.join("trusted_root.json");
    let mut arguments = vec!["trusted-root".to_owned(), "create".to_owned()];
    let mut add = |flag: &str, url: &str, what: &str, file: &Path, further: &str| {
        let file = file.display();
        arguments.push(format!("--{flag}"));
        arguments.push(format!("url={url},{what}={file},start-time={START}{further}"));
    };
    let chain = "certificate-chain";
    add(
        "fulcio",
        &parts.fulcio.url,
        chain,
        &parts.authority.certificates,
        "",
    );
    if let Some(log) = &parts.ct_log {
        add("ctfe", &log.url, "public-key", &log.key.public_key, "");
    }
    if let Some(log) = &parts.rekor_v1 {
        add("rekor", &log.url, "public-key", &log.key.public_key, "");
    }
    if let Some((service, key)) = &parts.rekor {
        let origin = format!(",origin={REKOR_ORIGIN}");
        add("rekor", &service.url, "public-key", &key.public_key, &origin);
    }
    if let Some((service, certificates)) = &parts.timestamps {
        let url = timestamp_url(&service.url);
        add("tsa", &url, chain, &certificates.certificates, "");
    }
    run(folder, arguments, out).await
}

/// Which log signers are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    V1,
    V2,
}

impl Log {
    fn service(self, parts: &Parts) -> Option<(&str, u8)> {
        match self {
            Self::V1 => parts.rekor_v1.as_ref().map(|log| (log.url.as_str(), 1)),
            Self::V2 => parts.rekor.as_ref().map(|(service, _)| (service.url.as_str(), 2)),
        }
    }
}

/// A signing configuration of that name, with this log if there is one.
pub(super) async fn signing_config(parts: &Parts, folder: &Path, name: &str, log: Log) -> Result<PathBuf> {
    let mut arguments = vec!["signing-config".to_owned(), "create".to_owned()];
    let mut add = |flag: &str, url: &str, version: u8| {
        arguments.push(format!("--{flag}"));
        arguments.push(format!(
            "url={url},api-version={version},start-time={START},operator=assay-testkit"
        ));
    };
    let log = log.service(parts);
    add("fulcio", &parts.fulcio.url, 1);
    add("oidc-provider", &parts.issuers.url(IssuerKind::People), 1);
    if let Some((url, version)) = log {
        add("rekor", url, version);
    }
    if let Some((service, _)) = &parts.timestamps {
        add("tsa", &timestamp_url(&service.url), 1);
    }
    if log.is_some() {
        arguments.push("--rekor-config=ANY".to_owned());
    }
    if parts.timestamps.is_some() {
        arguments.push("--tsa-config=ANY".to_owned());
    }
    run(folder, arguments, folder.join(name)).await
}

/// Where the timestamp authority answers below its address.
pub(super) fn timestamp_url(address: &str) -> String {
    format!("{address}/api/v1/timestamp")
}

async fn run(folder: &Path, mut arguments: Vec<String>, out: PathBuf) -> Result<PathBuf> {
    arguments.push(format!("--out={}", out.display()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let cosign = Cosign::new(CosignVersion::V3, folder.join("cosign"))?;
    cosign.output(&arguments).await?.into_stdout()?;
    Ok(out)
}
