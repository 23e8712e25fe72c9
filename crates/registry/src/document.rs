//! Manifests: bytes whose hash was checked, and what they say.
//!
//! Formats: image index and image manifest of the OCI image specification 1.1, and Docker's manifest list and
//! image manifest version 2 schema 2, which have the same shape. What a document is follows from its own fields;
//! the `Content-Type` header, which no hash protects, may only agree.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use image::Digest;
use serde::Deserialize;

use crate::error::{Error, Place, shown};
use crate::json::{Unread, VALUES, unambiguous_keys};

/// What is asked for, in the order of preference.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest whose bytes hash to `digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`, computed here.
    pub digest: Digest,
    /// What the document is: its own `mediaType`, else the one its shape has in the OCI specification.
    pub media_type: String,
    /// The bytes as served.
    pub bytes: Bytes,
    /// What they say.
    pub document: Document,
}

/// The content of a manifest.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives beside each manifest's bytes, never in a long list"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An index: the manifests of several platforms, or, as a fallback tag, of several referrers.
    Index {
        /// The manifests listed, in order.
        children: Vec<Descriptor>,
    },
    /// The manifest of one image or artifact.
    Image {
        /// The config.
        config: Descriptor,
        /// The layers, in order.
        layers: Vec<Descriptor>,
        /// The manifest this one refers to.
        subject: Option<Descriptor>,
        /// The type of the artifact, as the manifest says it.
        artifact_type: Option<String>,
        /// Annotations of the manifest.
        annotations: BTreeMap<String, String>,
    },
}

/// A descriptor of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireDescriptor")]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes, as claimed.
    pub size: u64,
    /// The platform, where the descriptor is a child of an index.
    pub platform: Option<Platform>,
    /// The type of the artifact, as the descriptor claims it.
    pub artifact_type: Option<String>,
    /// Annotations of the descriptor.
    pub annotations: BTreeMap<String, String>,
}

/// The platform of a child of an index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// The CPU architecture, as Go names it; empty if absent.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, as Go names it; empty if absent.
    #[serde(default)]
    pub os: String,
    /// The variant of the CPU.
    #[serde(default)]
    pub variant: Option<String>,
    /// The version of the operating system.
    #[serde(default, rename = "os.version")]
    pub os_version: Option<String>,
}

impl Platform {
    /// Whether it names a platform that something can run on: build tools put attestations into an index under
    /// the platform `unknown/unknown`.
    pub fn is_real(&self) -> bool {
        !self.is_unknown() && !self.architecture.is_empty() && !self.os.is_empty()
    }

    /// Whether it says `unknown` where a name belongs: nothing runs on that. One that says nothing may be any.
    pub fn is_unknown(&self) -> bool {
        self.architecture == "unknown" || self.os == "unknown"
    }
}

/// Why bytes are not the manifest that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// They do not hash to the digest.
    #[error("the content has the digest {found} where {expected} was expected")]
    Digest {
        /// The digest asked for.
        expected: Box<Digest>,
        /// The digest of the bytes.
        found: Box<Digest>,
    },
    /// They are not a manifest of a known format.
    #[error("{0}")]
    Malformed(String),
    /// They hold more values than are read.
    #[error("the document holds more than {VALUES} values")]
    TooManyValues,
}

impl ManifestError {
    /// The error of a request that was answered with these bytes.
    pub(crate) fn at(self, place: &Place) -> Error {
        match self {
            Self::Digest { expected, found } => Error::DigestMismatch {
                at: place.clone(),
                expected,
                found,
            },
            Self::Malformed(why) => Error::malformed(place, why),
            Self::TooManyValues => Error::TooLarge {
                at: place.clone(),
                what: "the number of values in the document",
                limit: VALUES.into(),
            },
        }
    }
}

impl From<String> for ManifestError {
    fn from(why: String) -> Self {
        Self::Malformed(why)
    }
}

impl Manifest {
    /// Reads bytes that were asked for by `expected`; `content_type` is the header they came with, if any.
    ///
    /// # Errors
    /// [`ManifestError::Digest`] if they hash to something else; [`ManifestError::Malformed`] if they are not
    /// exactly one of the formats, among them a document that is both index and manifest (CVE-2021-41190).
    pub fn read(expected: &Digest, content_type: Option<&str>, bytes: Bytes) -> Result<Self, ManifestError> {
        let found = expected.of_same_algorithm(&bytes);
        if found != *expected {
            return Err(ManifestError::Digest {
                expected: Box::new(expected.clone()),
                found: Box::new(found),
            });
        }
        let (media_type, document) = parse(&bytes, content_type)?;
        Ok(Self {
            digest: found,
            media_type,
            bytes,
            document,
        })
    }
}

/// The entries of one page of referrers: an image index that no hash protects.
pub(crate) fn parse_page(bytes: &[u8]) -> Result<Vec<Descriptor>, ManifestError> {
    let wire = read_wire(bytes)?;
    check_kind(wire.media_type.as_deref(), Kind::Index)?;
    Ok(wire.manifests.into_iter().flatten().collect())
}

fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<(String, Document), ManifestError> {
    let wire = read_wire(bytes)?;
    let kind = if wire.manifests.is_some() {
        Kind::Index
    } else {
        Kind::Image
    };
    check_kind(wire.media_type.as_deref(), kind)?;
    if let Some(header) = content_type {
        check_header(header, wire.media_type.as_deref(), kind)?;
    }
    let media_type = wire
        .media_type
        .clone()
        .unwrap_or_else(|| kind.default_media_type().to_owned());
    Ok((media_type, wire.into_document()?))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Image,
}

impl Kind {
    /// What a media type says; `None` if it is not that of a manifest in a known format.
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_INDEX | DOCKER_LIST => Some(Self::Index),
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Image),
            _ => None,
        }
    }

    const fn default_media_type(self) -> &'static str {
        match self {
            Self::Index => OCI_INDEX,
            Self::Image => OCI_MANIFEST,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Index => "an index",
            Self::Image => "an image manifest",
        }
    }
}

fn check_kind(media_type: Option<&str>, shape: Kind) -> Result<(), String> {
    match media_type {
        None => Ok(()),
        Some(media_type) if Kind::of(media_type) == Some(shape) => Ok(()),
        Some(media_type) => {
            let media_type = shown(media_type);
            Err(format!(
                "the document has the shape of {} and the mediaType {media_type:?}",
                shape.name()
            ))
        }
    }
}

fn check_header(header: &str, media_type: Option<&str>, shape: Kind) -> Result<(), String> {
    let header = header.split(';').next().unwrap_or(header).trim();
    let contradicts = match (Kind::of(header), media_type) {
        (None, _) => false,
        (Some(_), Some(media_type)) => header != media_type,
        (Some(kind), None) => kind != shape,
    };
    if contradicts {
        return Err(format!(
            "the Content-Type {header:?} contradicts the document, {}",
            shape.name()
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

fn read_wire(bytes: &[u8]) -> Result<Wire, ManifestError> {
    let keys = unambiguous_keys(bytes).map_err(|unread| match unread {
        Unread::Invalid(error) => ManifestError::Malformed(describe(error)),
        Unread::TooMany => ManifestError::TooManyValues,
    })?;
    check_shape(&keys)?;
    let wire: Wire = serde_json::from_slice(bytes).map_err(describe)?;
    match wire.schema_version {
        None | Some(2) => Ok(wire),
        Some(version) => Err(format!("schemaVersion is {version} where 2 is expected").into()),
    }
}

fn describe(error: serde_json::Error) -> String {
    format!("the document does not parse: {}", shown(&error.to_string()))
}

/// A document is either an index or an image manifest, by the keys it has, whatever their values.
fn check_shape(keys: &HashSet<String>) -> Result<(), String> {
    let has = |key: &str| keys.contains(key);
    match (has("manifests"), has("config"), has("layers")) {
        (true, false, false) | (false, true, true) => Ok(()),
        (true, _, _) => Err("the document is both an index and an image manifest".to_owned()),
        (false, _, _) => Err(
            "the document is neither an index (no manifests) nor an image manifest (no config and \
            layers): its format is not supported"
                .to_owned(),
        ),
    }
}

impl Wire {
    fn into_document(self) -> Result<Document, String> {
        match (self.manifests, self.config, self.layers) {
            (Some(children), None, None) => Ok(Document::Index { children }),
            (None, Some(config), Some(layers)) => Ok(Document::Image {
                config,
                layers,
                subject: self.subject,
                artifact_type: self.artifact_type.filter(|kind| !kind.is_empty()),
                annotations: self.annotations.into_iter().flatten().collect(),
            }),
            _ => Err("manifests, config or layers is null".to_owned()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<Platform>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<WireDescriptor> for Descriptor {
    fn from(wire: WireDescriptor) -> Self {
        Self {
            media_type: wire.media_type,
            digest: wire.digest,
            size: wire.size,
            platform: wire.platform,
            artifact_type: wire.artifact_type.filter(|kind| !kind.is_empty()),
            annotations: wire.annotations.into_iter().flatten().collect(),
        }
    }
}
