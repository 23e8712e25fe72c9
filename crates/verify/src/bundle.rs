//! The Sigstore bundle (sigstore_bundle.proto, versions 0.1 to 0.3) in its JSON form, taken apart. The
//! verification material is only checked for its outline here: neither its key hint nor its log entries and
//! timestamps are signed, so they can neither help nor spoil what a key signed. `sigstore` looks into them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::dsse::{self, Envelope};
use crate::key::Fingerprint;
use crate::material::Material;
use crate::outcome::{Cap, Cause};
use crate::strict_json::{self, JsonError, Room, field, object, string};

/// A bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) content: BundleContent,
    pub(crate) material: Material,
}

/// The content of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BundleContent {
    /// A DSSE envelope.
    Envelope(Envelope),
    /// A signature over bytes that lie elsewhere.
    MessageSignature(MessageSignature),
}

/// A signature over bytes that lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MessageSignature {
    /// What the bundle says of the bytes' digest: the name of an algorithm, and the digest.
    pub(crate) digest: Option<(String, Vec<u8>)>,
    pub(crate) signature: Vec<u8>,
}

/// Why a bundle has no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BundleError {
    Malformed(String),
    CannotTell(Cause),
}

impl From<String> for BundleError {
    fn from(why: String) -> Self {
        Self::Malformed(why)
    }
}

impl From<JsonError> for BundleError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Malformed(_) => Self::Malformed(error.to_string()),
            JsonError::TooDeep { limit } => Self::CannotTell(
                Cap {
                    what: "the nesting of its JSON",
                    limit,
                    unit: "levels",
                }
                .into(),
            ),
            JsonError::TooMany { limit } => Self::CannotTell(
                Cap {
                    what: "the memory that its JSON takes",
                    limit,
                    unit: "bytes",
                }
                .into(),
            ),
        }
    }
}

const BUNDLE: &str = "the bundle";
const MATERIAL: &str = "verificationMaterial";
const MEDIA_TYPES: [(&str, Version); 4] = [
    ("application/vnd.dev.sigstore.bundle.v0.3+json", Version::V0_3),
    (
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        Version::V0_1,
    ),
    (
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        Version::V0_2,
    ),
    (
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
        Version::V0_3,
    ),
];
/// What the media types of all bundles begin with, also of those to come.
pub(crate) const MEDIA_TYPE_FAMILY: &str = "application/vnd.dev.sigstore.bundle";

/// A version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// A log entry needs no proof: a signed promise suffices.
    V0_1,
    V0_2,
    V0_3,
}

impl Version {
    /// The version that a media type names; `None` if none that is known.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let known = MEDIA_TYPES.iter().find(|(known, _)| *known == media_type);
        known.map(|(_, version)| *version)
    }
}

/// The version that a bundle says it has; `None` if it says none that is known.
pub(crate) fn version(text: &[u8]) -> Option<Version> {
    let bundle = parse(text).ok()?;
    Version::of(bundle.get("mediaType")?.as_str()?)
}

/// The JSON of a bundle or of a part of one.
pub(crate) fn parse(text: &[u8]) -> Result<Value, BundleError> {
    Ok(strict_json::parse(text, Room::Small)?)
}

/// Reads a bundle.
pub(crate) fn read(text: &[u8]) -> Result<Bundle, BundleError> {
    let bundle = parse(text)?;
    let media_type = bundle
        .get("mediaType")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{BUNDLE} has no mediaType; expected one of {}", media_types()))?;
    let version = known_version(media_type)?;
    let fields = object(
        &bundle,
        BUNDLE,
        &[
            "mediaType",
            "verificationMaterial",
            "dsseEnvelope",
            "messageSignature",
        ],
    )?;
    let material = material(field(fields, BUNDLE, MATERIAL)?, version == Version::V0_1)?;
    Ok(Bundle {
        content: content(fields)?,
        material,
    })
}

fn media_types() -> String {
    MEDIA_TYPES.map(|(media_type, _)| media_type).join(", ")
}

fn known_version(media_type: &str) -> Result<Version, BundleError> {
    if let Some(version) = Version::of(media_type) {
        return Ok(version);
    }
    if media_type.starts_with(MEDIA_TYPE_FAMILY) {
        return Err(BundleError::CannotTell(Cause::UnknownVersion {
            what: media_type.to_owned(),
        }));
    }
    Err(BundleError::Malformed(format!(
        "mediaType is {media_type:?}, not one of {}",
        media_types()
    )))
}

fn content(bundle: &Map<String, Value>) -> Result<BundleContent, String> {
    match (
        present(bundle, "dsseEnvelope"),
        present(bundle, "messageSignature"),
    ) {
        (Some(envelope), None) => Ok(BundleContent::Envelope(Envelope::read(envelope)?)),
        (None, Some(signature)) => Ok(BundleContent::MessageSignature(message_signature(signature)?)),
        (Some(_), Some(_)) => Err("the bundle has both a dsseEnvelope and a messageSignature".into()),
        (None, None) => Err("the bundle has neither a dsseEnvelope nor a messageSignature".into()),
    }
}

fn message_signature(signature: &Value) -> Result<MessageSignature, String> {
    let fields = object(signature, "messageSignature", &["messageDigest", "signature"])?;
    let digest = match present(fields, "messageDigest") {
        None => None,
        Some(digest) => {
            let what = "messageSignature.messageDigest";
            let digest = object(digest, what, &["algorithm", "digest"])?;
            Some((
                string(digest, what, "algorithm")?.to_owned(),
                dsse::decode(
                    string(digest, what, "digest")?,
                    "messageSignature.messageDigest.digest",
                )?,
            ))
        }
    };
    Ok(MessageSignature {
        digest,
        signature: dsse::decode(
            string(fields, "messageSignature", "signature")?,
            "messageSignature.signature",
        )?,
    })
}

fn material(material: &Value, is_version_0_1: bool) -> Result<Material, String> {
    let kinds = ["publicKey", "certificate", "x509CertificateChain"];
    let others = ["tlogEntries", "timestampVerificationData"];
    let fields = object(material, MATERIAL, &[kinds.as_slice(), &others].concat())?;
    let found: Vec<_> = kinds
        .iter()
        .filter_map(|kind| Some((*kind, present(fields, kind)?)))
        .collect();
    let mut key_hint = None;
    let certificates = match found.as_slice() {
        [("publicKey", identifier)] => {
            let identifier = object(identifier, "verificationMaterial.publicKey", &["hint"])?;
            key_hint = identifier.get("hint").and_then(fingerprint);
            None
        }
        [("certificate", certificate)] => Some(vec![*certificate]),
        [(_, chain)] => Some(listed(chain.get("certificates"))),
        _ => {
            return Err(format!(
                "{MATERIAL} has {} of {}; it must have one",
                found.len(),
                kinds.join(", ")
            ));
        }
    };
    let timestamps = present(fields, "timestampVerificationData").map(|data| data.get("rfc3161Timestamps"));
    Ok(Material {
        certificates: certificates.map(|all| all.into_iter().map(|one| bytes(one, "rawBytes")).collect()),
        entries: listed(fields.get("tlogEntries")).into_iter().cloned().collect(),
        timestamps: listed(timestamps.flatten())
            .into_iter()
            .map(|one| bytes(one, "signedTimestamp"))
            .collect(),
        envelope: None,
        promise_suffices: false,
        key_hint,
        is_version_0_1,
    })
}

/// cosign's hint is the SHA-256 of the key's SubjectPublicKeyInfo, in base64; others write something else.
fn fingerprint(hint: &Value) -> Option<Fingerprint> {
    let hash = STANDARD.decode(hint.as_str()?).ok()?;
    <[u8; 32]>::try_from(hash).ok().map(Fingerprint::from)
}

/// The entries of a list that may be absent. Of anything else, itself: it is there, and it will not verify.
fn listed(list: Option<&Value>) -> Vec<&Value> {
    match list {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(all)) => all.iter().collect(),
        Some(other) => vec![other],
    }
}

/// The bytes of a field; none where there are none, which verify nowhere.
fn bytes(value: &Value, name: &str) -> Vec<u8> {
    let text = value.get(name).and_then(Value::as_str);
    match text.map(|text| dsse::decode(text, name)) {
        Some(Ok(bytes)) => bytes,
        Some(Err(_)) | None => Vec::new(),
    }
}

/// In protobuf JSON a field that is null is a field that is absent.
fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}
