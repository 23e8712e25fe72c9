//! A registry that holds the images of a fleet, each with two signatures in the tag format, and counts requests.
//! A stand-in for size, in a process of its own, so that its CPU time and memory are not the engine's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::Digest;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Failed, images};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// What the child prints, with its port behind it, when it listens.
const LISTENS: &str = "listens on ";

/// Requests by operation: manifest, tag, referrers, blob.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The process with the registry; it ends when this is dropped.
pub(crate) struct StandIn {
    /// None where another process started it.
    _child: Option<Child>,
    address: Ipv4Addr,
    port: u16,
    http: reqwest::Client,
    /// Who signed every image, PEM.
    pub(crate) keys: Vec<String>,
}

impl StandIn {
    /// Starts one that holds so many images; port 0 for any.
    pub(crate) async fn start(images: usize, port: u16) -> Result<StandIn, Failed> {
        StandIn::start_at(images, Ipv4Addr::LOCALHOST, port).await
    }

    /// Starts one at one of the addresses of this machine itself (127.0.0.0/8).
    pub(crate) async fn start_at(images: usize, address: Ipv4Addr, port: u16) -> Result<StandIn, Failed> {
        let failed = |error: &dyn std::fmt::Display| Failed::new("start the stand-in registry", error);
        testkit::init();
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .args([
                "registry",
                "--images",
                &images.to_string(),
                "--port",
                &port.to_string(),
                "--address",
                &address.to_string(),
            ])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let output = child.stdout.take().ok_or_else(|| failed(&"it has no output"))?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .await
            .map_err(|error| failed(&error))?;
        let port = line
            .trim()
            .strip_prefix(LISTENS)
            .and_then(|port| port.parse().ok());
        let port: u16 = port.ok_or_else(|| failed(&format!("it said {line:?}")))?;
        let mut stand_in = StandIn {
            _child: Some(child),
            address,
            port,
            http: reqwest::Client::new(),
            keys: Vec::new(),
        };
        stand_in.keys = stand_in.get("keys").await?;
        Ok(stand_in)
    }

    /// The one that another process started.
    pub(crate) async fn at(port: u16) -> Result<StandIn, Failed> {
        testkit::init();
        let mut stand_in = StandIn {
            _child: None,
            address: Ipv4Addr::LOCALHOST,
            port,
            http: reqwest::Client::new(),
            keys: Vec::new(),
        };
        stand_in.keys = stand_in.get("keys").await?;
        Ok(stand_in)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The host part of image references.
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// Every request so far.
    pub(crate) async fn counts(&self) -> Result<Counts, Failed> {
        self.get("counts").await
    }

    /// How many requests came so far.
    pub(crate) async fn requests(&self) -> Result<u64, Failed> {
        Ok(self.counts().await?.values().sum())
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, page: &str) -> Result<T, Failed> {
        let failed = |error: &dyn std::fmt::Display| {
            Failed::new(format!("ask the stand-in registry for its {page}"), error)
        };
        let answer = self
            .http
            .get(format!("http://{}/{page}", self.host()))
            .send()
            .await;
        let text = answer.map_err(|error| failed(&error))?.text().await;
        serde_json::from_str(&text.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }
}

/// What the child holds.
struct Content {
    keys: Vec<String>,
    /// By image, one by each key, base64.
    signatures: Vec<Vec<String>>,
    counts: Mutex<Counts>,
}

/// Serves until the process ends.
pub(crate) async fn serve(images: usize, address: Ipv4Addr, port: u16) -> Result<(), Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed::new("serve the stand-in registry", error);
    let signers = [signer()?, signer()?];
    let random = SystemRandom::new();
    let sign = |number: usize| -> Result<Vec<String>, Failed> {
        let payload = images::payload(number);
        let one = |signer: &EcdsaKeyPair| {
            let signature = signer.sign(&random, payload.as_bytes());
            signature
                .map(|signature| STANDARD.encode(signature))
                .map_err(|error| Failed::new("sign an image", error))
        };
        signers.iter().map(one).collect()
    };
    let content = Arc::new(Content {
        keys: signers.iter().map(pem).collect(),
        signatures: (0..images).map(sign).collect::<Result<_, _>>()?,
        counts: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind((address, port))
        .await
        .map_err(|error| failed(&error))?;
    let port = listener.local_addr().map_err(|error| failed(&error))?.port();
    println!("{LISTENS}{port}");
    let app = axum::Router::new().fallback(async move |request: Request| content.answer(&request));
    tokio::select! {
        ended = axum::serve(listener, app) => ended.map_err(|error| failed(&error)),
        () = parent_is_gone() => Ok(()),
    }
}

/// A bench that was killed leaves nothing behind.
async fn parent_is_gone() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Content {
    fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let answer = match parts.as_slice() {
            ["keys"] => return json(&self.keys),
            ["counts"] => return json(&*self.counts()),
            ["v2", "fleet", app, kind, reference] => app
                .strip_prefix("app-")
                .and_then(|number| self.object(number.parse().ok()?, kind, reference)),
            _ => None,
        };
        let (media_type, content) = answer.unwrap_or_default();
        if media_type.is_empty() {
            return status(
                404,
                "application/json",
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_owned(),
            );
        }
        status(200, media_type, content)
    }

    fn object(&self, number: usize, kind: &str, reference: &str) -> Option<(&'static str, String)> {
        let signatures = self.signatures.get(number)?;
        let by_digest = reference.contains(':');
        let operation = match kind {
            "manifests" if !by_digest => "tag",
            "manifests" => "manifest",
            "blobs" => "blob",
            other => other,
        };
        *self.counts().entry(operation.to_owned()).or_default() += 1;
        let manifest = images::manifest(number);
        let digest = Digest::sha256(manifest.as_bytes());
        match kind {
            "referrers" => Some((INDEX, EMPTY_INDEX.to_owned())),
            "manifests" if reference == images::TAG || reference == digest.to_string() => {
                Some((images::MANIFEST, manifest))
            }
            "manifests" => {
                let holding = images::signatures(number, signatures);
                let is_it = reference == format!("{}.sig", digest.tag_prefix())
                    || reference == Digest::sha256(holding.as_bytes()).to_string();
                is_it.then_some((images::MANIFEST, holding))
            }
            "blobs" => {
                let payload = images::payload(number);
                let is_it = reference == Digest::sha256(payload.as_bytes()).to_string();
                is_it.then_some(("application/octet-stream", payload))
            }
            _ => None,
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn json(value: &impl Serialize) -> Response {
    status(
        200,
        "application/json",
        serde_json::to_string(value).unwrap_or_default(),
    )
}

fn status(code: u16, media_type: &str, content: String) -> Response {
    let digest = Digest::sha256(content.as_bytes()).to_string();
    let response = Response::builder()
        .status(code)
        .header("content-type", media_type)
        .header("docker-content-digest", digest)
        .body(Body::from(content));
    response.unwrap_or_default()
}

fn signer() -> Result<EcdsaKeyPair, Failed> {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|error| Failed::new("make a key", error))
}

/// A fresh P-256 public key that signs nothing, PEM.
pub(crate) fn another_key() -> Result<String, Failed> {
    signer().map(|signer| pem(&signer))
}

fn pem(signer: &EcdsaKeyPair) -> String {
    // SPKI of P-256 (RFC 5480): the algorithm, then the point.
    let prefix = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let spki = [&prefix, signer.public_key().as_ref()].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(spki)
    )
}
