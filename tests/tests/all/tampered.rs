//! A signature or an attestation as it lies in a registry: read there, changed in one part, written to another
//! repository, where the unchanged one never was.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Format, LogPosition, Pushed, Registry, RegistryKind, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const LOG: &str = "dev.sigstore.cosign/bundle";
/// The object identifier id-ct-TSTInfo (RFC 3161, section 2.4.2), which precedes what the authority signed.
const TST_INFO: [u8; 13] = [6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x10, 1, 4];
/// The version of an X.509 certificate (RFC 5280, section 4.1.2.1), after the 8 bytes that a certificate begins with.
const CERTIFICATE_VERSION: [u8; 5] = [0xa0, 3, 2, 1, 2];
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// What an image carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Signature,
    Attestation,
}

/// A part of a signature or an attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is signed.
    Payload,
    /// The signature itself.
    Signature,
    /// The signer's certificate.
    Certificate,
    /// The entry of the log.
    LogEntry,
    /// The log's promise to take the entry in (Rekor v1).
    LogPromise,
    /// When the log took it in (Rekor v1).
    LogTime,
    /// A hash on the path from the entry to the root of the log.
    LogProof,
    /// The root of the log, beside the checkpoint that says it as well.
    LogRoot,
    /// The log's signature of that root.
    LogCheckpoint,
    /// The RFC 3161 timestamp.
    Timestamp,
    /// The copy of the authority's certificate in it.
    TimestampCertificate,
    /// What the manifest says the layer is.
    MediaType,
    /// What the manifest says is the layer's size.
    Size,
}

/// Which byte of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    Middle,
    Last,
}

impl Spot {
    pub(crate) const ALL: [Self; 2] = [Self::Middle, Self::Last];

    /// Turns one bit of one byte.
    fn turn(self, bytes: &mut [u8]) {
        let at = match self {
            Self::Middle => bytes.len() / 2,
            Self::Last => bytes.len() - 1,
        };
        bytes[at] ^= 1;
    }
}

/// Where a part is: in the layer or in an annotation of its descriptor, as a whole or at a JSON pointer.
enum Place {
    Layer(&'static str),
    Annotation(&'static str, &'static str),
}

/// How a part is written down there.
enum Written {
    Plain,
    Base64,
    /// A timestamp token in base64. The middle is that of what the authority signed.
    Timestamp,
    /// The first certificate in a timestamp token in base64.
    TimestampCertificate,
    Pem,
    /// A signed note (C2SP): its last line ends with the signature.
    Note,
}

/// One signature or attestation.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    kind: Kind,
    format: Format,
    manifest: Value,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Evidence {
    /// What cosign attached to an image after the registry's log was at a position.
    pub(crate) async fn of(
        registry: &Registry,
        since: LogPosition,
        image: &Pushed,
        kind: Kind,
        format: Format,
    ) -> Self {
        let (repository, writer) = (path_of(image), registry.writer());
        let manifest = match format {
            Format::Tag => {
                let suffix = suffix(kind);
                let tag = format!("{}.{suffix}", image.digest.replace(':', "-"));
                writer.manifest(repository, &tag).await.unwrap().unwrap()
            }
            Format::Bundle => referring(registry, since, image).await,
        };
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1, "{manifest}");
        let blob = async |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            writer.blob(repository, digest).await.unwrap()
        };
        Self {
            kind,
            format,
            config: blob(&manifest["config"]).await,
            layer: blob(&manifest["layers"][0]).await,
            manifest,
        }
    }

    /// The same with one byte of a part changed; `None` where it has no such part.
    pub(crate) fn changed(&self, part: Part, spot: Spot) -> Option<Self> {
        let mut changed = self.clone();
        let layer = &mut changed.manifest["layers"][0];
        let size = layer["size"].as_u64()?;
        match (part, spot) {
            (Part::MediaType, _) => {
                let media_type = layer["mediaType"].as_str()?;
                layer["mediaType"] = Written::Plain.turned(media_type, spot).into();
                return Some(changed);
            }
            (Part::Size, Spot::Middle) => {
                layer["size"] = (size - 1).into();
                return Some(changed);
            }
            (Part::Size, Spot::Last) => {
                layer["size"] = (size + 1).into();
                return Some(changed);
            }
            _ => {}
        }
        let (place, written) = self.place(part)?;
        match place {
            Place::Layer(pointer) => {
                changed.layer =
                    inside(std::str::from_utf8(&self.layer).ok()?, pointer, &written, spot)?.into();
                changed.manifest["layers"][0]["size"] = changed.layer.len().into();
            }
            Place::Annotation(name, pointer) => {
                let annotation = changed.manifest["layers"][0]["annotations"].get_mut(name)?;
                *annotation = inside(annotation.as_str()?, pointer, &written, spot)?.into();
            }
        }
        Some(changed)
    }

    fn place(&self, part: Part) -> Option<(Place, Written)> {
        match self.format {
            Format::Tag => self.place_under_tag(part),
            Format::Bundle => place_in_bundle(part),
        }
    }

    fn place_under_tag(&self, part: Part) -> Option<(Place, Written)> {
        Some(match (part, self.kind) {
            (Part::Payload, Kind::Signature) => (Place::Layer(""), Written::Plain),
            (Part::Payload, Kind::Attestation) => (Place::Layer("/payload"), Written::Base64),
            (Part::Signature, Kind::Signature) => (Place::Annotation(SIGNATURE, ""), Written::Base64),
            (Part::Signature, Kind::Attestation) => (Place::Layer("/signatures/0/sig"), Written::Base64),
            (Part::Certificate, _) => (Place::Annotation(CERTIFICATE, ""), Written::Pem),
            (Part::LogEntry, _) => (Place::Annotation(LOG, "/Payload/body"), Written::Base64),
            (Part::LogPromise, _) => (Place::Annotation(LOG, "/SignedEntryTimestamp"), Written::Base64),
            (Part::LogTime, _) => (Place::Annotation(LOG, "/Payload/integratedTime"), Written::Plain),
            (Part::Timestamp, _) => (
                Place::Annotation(TIMESTAMP, "/SignedRFC3161Timestamp"),
                Written::Timestamp,
            ),
            (Part::TimestampCertificate, _) => (
                Place::Annotation(TIMESTAMP, "/SignedRFC3161Timestamp"),
                Written::TimestampCertificate,
            ),
            (Part::LogProof | Part::LogRoot | Part::LogCheckpoint | Part::MediaType | Part::Size, _) => {
                return None;
            }
        })
    }

    /// Writes it for an image, which may be another one than it was made for.
    pub(crate) async fn attach(&self, registry: &Registry, image: &Pushed) {
        let (repository, writer) = (path_of(image), registry.writer());
        writer.put_blob(repository, &self.config).await.unwrap();
        writer.put_blob(repository, &self.layer).await.unwrap();
        let mut manifest = self.manifest.clone();
        manifest["layers"][0]["digest"] = digest_of(&self.layer).into();
        if self.format == Format::Bundle {
            manifest["subject"]["digest"] = image.digest.as_str().into();
        }
        let content = manifest.to_string();
        let tag = image.digest.replace(':', "-");
        let under = (self.format == Format::Tag).then(|| format!("{tag}.{}", suffix(self.kind)));
        writer
            .put_manifest(repository, under.as_deref(), MANIFEST, content.as_bytes())
            .await
            .unwrap();
        if self.format == Format::Bundle && registry.kind() == RegistryKind::Distribution {
            let entry = json!({
                "mediaType": MANIFEST,
                "digest": digest_of(content.as_bytes()),
                "size": content.len(),
                "artifactType": manifest["artifactType"],
            });
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
            writer
                .put_manifest(repository, Some(&tag), INDEX, index.as_bytes())
                .await
                .unwrap();
        }
    }
}

fn place_in_bundle(part: Part) -> Option<(Place, Written)> {
    let (pointer, written) = match part {
        Part::Payload => ("/dsseEnvelope/payload", Written::Base64),
        Part::Signature => ("/dsseEnvelope/signatures/0/sig", Written::Base64),
        Part::Certificate => ("/verificationMaterial/certificate/rawBytes", Written::Base64),
        Part::LogEntry => (
            "/verificationMaterial/tlogEntries/0/canonicalizedBody",
            Written::Base64,
        ),
        Part::LogPromise => (
            "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
            Written::Base64,
        ),
        Part::LogTime => (
            "/verificationMaterial/tlogEntries/0/integratedTime",
            Written::Plain,
        ),
        Part::LogProof => (
            "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0",
            Written::Base64,
        ),
        Part::LogRoot => (
            "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
            Written::Base64,
        ),
        Part::LogCheckpoint => (
            "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope",
            Written::Note,
        ),
        Part::Timestamp => (
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
            Written::Timestamp,
        ),
        Part::TimestampCertificate => (
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
            Written::TimestampCertificate,
        ),
        Part::MediaType | Part::Size => return None,
    };
    Some((Place::Layer(pointer), written))
}

/// A text with one byte changed: as a whole, or of what is at a JSON pointer in it.
fn inside(text: &str, pointer: &str, written: &Written, spot: Spot) -> Option<String> {
    if pointer.is_empty() {
        return Some(written.turned(text, spot));
    }
    let mut document: Value = serde_json::from_str(text).unwrap();
    let value = document.pointer_mut(pointer)?;
    *value = match &*value {
        Value::String(text) => written.turned(text, spot).into(),
        // Its last digit.
        Value::Number(number) => (number.as_u64().unwrap() ^ 1).into(),
        other => panic!("{pointer}: {other}"),
    };
    Some(document.to_string())
}

impl Written {
    fn turned(&self, text: &str, spot: Spot) -> String {
        match self {
            Self::Plain => {
                let mut bytes = text.as_bytes().to_vec();
                spot.turn(&mut bytes);
                String::from_utf8(bytes).unwrap()
            }
            Self::Base64 => {
                let mut bytes = STANDARD.decode(text).unwrap();
                spot.turn(&mut bytes);
                STANDARD.encode(bytes)
            }
            Self::Timestamp => {
                let mut bytes = STANDARD.decode(text).unwrap();
                let mut parts = bytes.windows(TST_INFO.len());
                let info = parts.position(|part| part == TST_INFO).unwrap();
                match spot {
                    // In the hash of what was timestamped.
                    Spot::Middle => bytes[info + 70] ^= 1,
                    Spot::Last => spot.turn(&mut bytes),
                }
                STANDARD.encode(bytes)
            }
            Self::TimestampCertificate => {
                let mut bytes = STANDARD.decode(text).unwrap();
                let mut parts = bytes.windows(CERTIFICATE_VERSION.len());
                let start = parts.position(|part| part == CERTIFICATE_VERSION).unwrap() - 8;
                let length = 4 + usize::from(u16::from_be_bytes([bytes[start + 2], bytes[start + 3]]));
                spot.turn(&mut bytes[start..start + length]);
                STANDARD.encode(bytes)
            }
            Self::Pem => {
                let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
                let body = Self::Base64.turned(&lines, spot);
                format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
            }
            Self::Note => {
                let (before, signature) = text.trim_end().rsplit_once(' ').unwrap();
                format!("{before} {}\n", Self::Base64.turned(signature, spot))
            }
        }
    }
}

fn suffix(kind: Kind) -> &'static str {
    match kind {
        Kind::Signature => "sig",
        Kind::Attestation => "att",
    }
}

/// The repository without its host.
fn path_of(image: &Pushed) -> &str {
    image.repository.split_once('/').unwrap().1
}

/// The one manifest that refers to an image, found by the registry's own log of what was pushed.
async fn referring(registry: &Registry, since: LogPosition, image: &Pushed) -> Vec<u8> {
    let (repository, writer) = (path_of(image), registry.writer());
    let prefix = format!("/v2/{repository}/manifests/");
    testkit::eventually(
        "a manifest that refers to the image",
        Duration::from_secs(10),
        async || {
            for request in registry.access_log_since(since).unwrap() {
                let Some(reference) = request.path.strip_prefix(&prefix) else {
                    continue;
                };
                if request.method != "PUT" || !reference.starts_with("sha256:") {
                    continue;
                }
                let content = writer.manifest(repository, reference).await.unwrap().unwrap();
                let manifest: Value = serde_json::from_slice(&content).unwrap();
                if manifest["subject"]["digest"] == image.digest.as_str() {
                    return Ok(content);
                }
            }
            Err(format!("none of {}", image.by_digest()))
        },
    )
    .await
    .unwrap()
}
