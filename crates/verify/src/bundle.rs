//! The Sigstore bundle (sigstore_bundle.proto, versions 0.1 to 0.3) in its JSON form, taken apart. For
//! signatures by public key the verification material is only checked for its outline: neither its key hint
//! nor its log entries and timestamps are signed, so they can neither help nor spoil what the key signed.

use serde_json::{Map, Value};

use crate::dsse::{self, Envelope};
use crate::outcome::{Cap, Cause};
use crate::strict_json::{self, JsonError, field, object, string};

/// The content of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bundle {
    /// A DSSE envelope.
    Envelope(Envelope),
    /// A signature over bytes that lie elsewhere.
    MessageSignature,
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
        }
    }
}

const BUNDLE: &str = "the bundle";
const MATERIAL: &str = "verificationMaterial";
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
];
const MEDIA_TYPE_FAMILY: &str = "application/vnd.dev.sigstore.bundle";

/// Reads a bundle.
pub(crate) fn read(text: &[u8]) -> Result<Bundle, BundleError> {
    let bundle = strict_json::parse(text)?;
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
    check_material(field(fields, BUNDLE, MATERIAL)?)?;
    Ok(content(fields)?)
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

fn content(bundle: &Map<String, Value>) -> Result<Bundle, String> {
    match (
        present(bundle, "dsseEnvelope"),
        present(bundle, "messageSignature"),
    ) {
        (Some(envelope), None) => Ok(Bundle::Envelope(Envelope::read(envelope)?)),
        (None, Some(signature)) => message_signature(signature),
        (Some(_), Some(_)) => Err("the bundle has both a dsseEnvelope and a messageSignature".into()),
        (None, None) => Err("the bundle has neither a dsseEnvelope nor a messageSignature".into()),
    }
}

fn message_signature(signature: &Value) -> Result<Bundle, String> {
    let signature = object(signature, "messageSignature", &["messageDigest", "signature"])?;
    dsse::decode(
        string(signature, "messageSignature", "signature")?,
        "messageSignature.signature",
    )?;
    Ok(Bundle::MessageSignature)
}

fn check_material(material: &Value) -> Result<(), String> {
    let kinds = ["publicKey", "certificate", "x509CertificateChain"];
    let others = ["tlogEntries", "timestampVerificationData"];
    let material = object(material, MATERIAL, &[kinds.as_slice(), &others].concat())?;
    let found: Vec<_> = kinds
        .iter()
        .filter_map(|kind| Some((*kind, present(material, kind)?)))
        .collect();
    match found.as_slice() {
        [("publicKey", identifier)] => {
            object(identifier, "verificationMaterial.publicKey", &["hint"]).map(drop)
        }
        [_] => Ok(()),
        _ => Err(format!(
            "{MATERIAL} has {} of {}; it must have one",
            found.len(),
            kinds.join(", ")
        )),
    }
}

/// In protobuf JSON a field that is null is a field that is absent.
fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}
