//! The Sigstore bundle (sigstore_bundle.proto, versions 0.1 to 0.3) in its JSON form, taken apart. The
//! verification material is only checked for its outline here: neither its key hint nor its log entries and
//! timestamps are signed, so they can neither help nor spoil what a key signed. `sigstore` looks into them.

use serde_json::{Map, Value};

use crate::dsse::{self, Envelope};
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
/// The version in which a log entry needs no proof: a signed promise suffices.
const VERSION_0_1: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    VERSION_0_1,
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
];
const MEDIA_TYPE_FAMILY: &str = "application/vnd.dev.sigstore.bundle";

/// The JSON of a bundle or of a part of one.
pub(crate) fn parse(text: &[u8]) -> Result<Value, BundleError> {
    Ok(strict_json::parse(text, Room::Small)?)
}

/// Reads a bundle.
pub(crate) fn read(text: &[u8]) -> Result<Bundle, BundleError> {
    let bundle = parse(text)?;
    let media_type = bundle.get("mediaType").and_then(Value::as_str).ok_or_else(|| {
        format!(
            "{BUNDLE} has no mediaType; expected one of {}",
            MEDIA_TYPES.join(", ")
        )
    })?;
    check_version(media_type)?;
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
    let material = material(field(fields, BUNDLE, MATERIAL)?, media_type == VERSION_0_1)?;
    Ok(Bundle {
        content: content(fields)?,
        material,
    })
}

fn check_version(media_type: &str) -> Result<(), BundleError> {
    if MEDIA_TYPES.contains(&media_type) {
        return Ok(());
    }
    if media_type.starts_with(MEDIA_TYPE_FAMILY) {
        return Err(BundleError::CannotTell(Cause::UnknownVersion {
            what: media_type.to_owned(),
        }));
    }
    Err(BundleError::Malformed(format!(
        "mediaType is {media_type:?}, not one of {}",
        MEDIA_TYPES.join(", ")
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
    let certificates = match found.as_slice() {
        [("publicKey", identifier)] => {
            object(identifier, "verificationMaterial.publicKey", &["hint"])?;
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
        is_version_0_1,
    })
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
