//! Pushes images and other content to a registry, without a container engine.
//!
//! Images are as small as they can be: a configuration that a seed makes unique, and one empty layer.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Result, TestkitError};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An empty tar archive: two zero blocks.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// What was pushed, named by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// `host/repository`.
    pub repository: String,
    /// The tag it was pushed under, if any.
    pub tag: Option<String>,
    /// `sha256:…` of the manifest or index.
    pub digest: String,
}

impl Pushed {
    /// `host/repository:tag`; by digest where it has no tag.
    pub fn by_tag(&self) -> String {
        self.tag
            .as_ref()
            .map_or_else(|| self.by_digest(), |tag| format!("{}:{tag}", self.repository))
    }

    /// `host/repository@sha256:…`.
    pub fn by_digest(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }

    /// `repository`, as the registry itself calls it.
    pub fn path(&self) -> &str {
        self.repository.split_once('/').map_or("", |(_host, path)| path)
    }

    /// `sha256-….sig`: the tag that holds its signatures, in cosign's tag format.
    pub fn signature_tag(&self) -> String {
        format!("{}.sig", self.digest.replace(':', "-"))
    }
}

/// A multi-arch image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedIndex {
    /// The index.
    pub index: Pushed,
    /// linux/amd64, which the simulated nodes run unless told otherwise.
    pub amd64: Pushed,
    /// linux/arm64.
    pub arm64: Pushed,
    /// The attestation manifest (platform unknown/unknown, as build tools add it), if one was asked for.
    pub attestation: Option<Pushed>,
}

/// `sha256:` and the hex of the content's hash.
pub fn digest_of(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

/// Writes to one registry over plain http.
#[derive(Debug, Clone)]
pub struct RegistryWriter {
    host: String,
    http: reqwest::Client,
}

impl RegistryWriter {
    /// A writer for `127.0.0.1:<port>`.
    pub fn new(host: impl Into<String>) -> Self {
        crate::init();
        Self {
            host: host.into(),
            http: reqwest::Client::new(),
        }
    }

    /// Pushes a small image for linux/amd64. The same seed gives the same digest, another seed another one.
    pub async fn push_image(&self, repository: &str, tag: &str, seed: &str) -> Result<Pushed> {
        let manifest = self.push_platform_image(repository, "amd64", seed).await?;
        self.put_manifest(repository, Some(tag), MANIFEST, &manifest)
            .await
    }

    /// Pushes an index of two platforms (linux/amd64 and linux/arm64) and, if asked for, the attestation manifest
    /// that build tools add with the platform unknown/unknown.
    pub async fn push_index(
        &self,
        repository: &str,
        tag: &str,
        seed: &str,
        attestation: bool,
    ) -> Result<PushedIndex> {
        let mut children = Vec::new();
        let mut entries = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let manifest = self.push_platform_image(repository, architecture, seed).await?;
            children.push(self.put_manifest(repository, None, MANIFEST, &manifest).await?);
            let mut entry = descriptor(MANIFEST, &manifest);
            entry["platform"] = json!({"architecture": architecture, "os": "linux"});
            entries.push(entry);
        }
        let attestation = match attestation {
            true => Some(
                self.push_attestation_manifest(repository, &children[0].digest, seed, &mut entries)
                    .await?,
            ),
            false => None,
        };
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        let index = self
            .put_manifest(repository, Some(tag), INDEX, index.to_string().as_bytes())
            .await?;
        let arm64 = children.remove(1);
        Ok(PushedIndex {
            index,
            amd64: children.remove(0),
            arm64,
            attestation,
        })
    }

    /// Pushes any bytes as a blob and gives their digest.
    pub async fn put_blob(&self, repository: &str, content: &[u8]) -> Result<String> {
        let digest = digest_of(content);
        let start = format!("http://{}/v2/{repository}/blobs/uploads/", self.host);
        let answer = self.send("POST", &start, self.http.post(&start), &[202]).await?;
        let location = answer
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok());
        let found = || "an answer without a Location header".to_owned();
        let location = location.ok_or_else(|| TestkitError::Registry {
            method: "POST",
            url: start.clone(),
            found: found(),
        })?;
        let upload = reqwest::Url::parse(&start).and_then(|base| base.join(location));
        let mut upload =
            upload.map_err(|error| TestkitError::Invalid(format!("{start}: {location}: {error}")))?;
        upload.query_pairs_mut().append_pair("digest", &digest);
        let request = self
            .http
            .put(upload.clone())
            .header("content-type", "application/octet-stream");
        self.send("PUT", upload.as_str(), request.body(content.to_vec()), &[201])
            .await?;
        Ok(digest)
    }

    /// Pushes any bytes as a manifest, under a tag or under their digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        content: &[u8],
    ) -> Result<Pushed> {
        let digest = digest_of(content);
        let url = self.manifest_url(repository, tag.unwrap_or(&digest));
        let request = self
            .http
            .put(&url)
            .header("content-type", media_type)
            .body(content.to_vec());
        self.send("PUT", &url, request, &[200, 201]).await?;
        Ok(Pushed {
            repository: format!("{}/{repository}", self.host),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The bytes of a manifest or index under a tag or digest, `None` if there is none.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Option<Vec<u8>>> {
        let url = self.manifest_url(repository, reference);
        let request = self
            .http
            .get(&url)
            .header("accept", format!("{MANIFEST}, {INDEX}"));
        let answer = self.send("GET", &url, request, &[200, 404]).await?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        let failed = |error: reqwest::Error| TestkitError::Registry {
            method: "GET",
            url,
            found: error.to_string(),
        };
        Ok(Some(answer.bytes().await.map_err(failed)?.to_vec()))
    }

    /// The bytes of a blob.
    pub async fn blob(&self, repository: &str, digest: &str) -> Result<Vec<u8>> {
        let url = format!("http://{}/v2/{repository}/blobs/{digest}", self.host);
        let answer = self.send("GET", &url, self.http.get(&url), &[200]).await?;
        let failed = |error: reqwest::Error| TestkitError::Registry {
            method: "GET",
            url,
            found: error.to_string(),
        };
        Ok(answer.bytes().await.map_err(failed)?.to_vec())
    }

    /// Deletes a manifest or index by digest, or, where the registry allows it, a tag.
    pub async fn delete_manifest(&self, repository: &str, reference: &str) -> Result<()> {
        let url = self.manifest_url(repository, reference);
        self.send("DELETE", &url, self.http.delete(&url), &[200, 202])
            .await
            .map(drop)
    }

    /// Deletes a blob by digest.
    pub async fn delete_blob(&self, repository: &str, digest: &str) -> Result<()> {
        let url = format!("http://{}/v2/{repository}/blobs/{digest}", self.host);
        self.send("DELETE", &url, self.http.delete(&url), &[200, 202])
            .await
            .map(drop)
    }

    /// Pushes an image's configuration and layer; gives the manifest, which is not pushed yet.
    async fn push_platform_image(&self, repository: &str, architecture: &str, seed: &str) -> Result<Vec<u8>> {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Labels": {"testkit.assay.dev/seed": seed}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(&EMPTY_TAR)]},
        })
        .to_string();
        self.put_blob(repository, config.as_bytes()).await?;
        self.put_blob(repository, &EMPTY_TAR).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config.as_bytes()),
            "layers": [descriptor(LAYER, &EMPTY_TAR)],
        });
        Ok(manifest.to_string().into_bytes())
    }

    async fn push_attestation_manifest(
        &self,
        repository: &str,
        about: &str,
        seed: &str,
        entries: &mut Vec<Value>,
    ) -> Result<Pushed> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [],
            "predicate": {"buildType": seed},
        })
        .to_string();
        let config =
            json!({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}});
        let config = config.to_string();
        self.put_blob(repository, statement.as_bytes()).await?;
        self.put_blob(repository, config.as_bytes()).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config.as_bytes()),
            "layers": [descriptor("application/vnd.in-toto+json", statement.as_bytes())],
        })
        .to_string();
        let mut entry = descriptor(MANIFEST, manifest.as_bytes());
        entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        entry["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about,
        });
        entries.push(entry);
        self.put_manifest(repository, None, MANIFEST, manifest.as_bytes())
            .await
    }

    fn manifest_url(&self, repository: &str, reference: &str) -> String {
        format!("http://{}/v2/{repository}/manifests/{reference}", self.host)
    }

    async fn send(
        &self,
        method: &'static str,
        url: &str,
        request: reqwest::RequestBuilder,
        expected: &[u16],
    ) -> Result<reqwest::Response> {
        let failed = |found: String| TestkitError::Registry {
            method,
            url: url.to_owned(),
            found,
        };
        let answer = request.header("user-agent", "assay-testkit").send().await;
        let answer =
            answer.map_err(|error| failed(format!("{error}: {:?}", std::error::Error::source(&error))))?;
        let status = answer.status().as_u16();
        if expected.contains(&status) {
            return Ok(answer);
        }
        let body = answer
            .text()
            .await
            .unwrap_or_else(|error| format!("(no body: {error})"));
        Err(failed(format!(
            "found HTTP {status}, expected one of {expected:?}: {body}"
        )))
    }
}

/// An OCI descriptor of some content.
pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest_of(content), "size": content.len()})
}
