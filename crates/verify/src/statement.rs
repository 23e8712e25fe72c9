//! The in-toto statement (in-toto attestation framework, Statement layer v0.1 and v1) inside a DSSE envelope:
//!
//! ```json
//! {"_type": "https://in-toto.io/Statement/v1",
//!  "subject": [{"digest": {"sha256": "…64 lower-case hexadecimal digits…"}}],
//!  "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}}
//! ```
//!
//! Fields that the framework does not name are ignored, as it demands. Predicates are not looked into.

use std::str::FromStr;

use image::Digest;
use serde_json::{Map, Value};

use crate::document::{Document, DocumentKind, Unreadable};
use crate::strict_json::{self, field, string};

/// The predicate type of a cosign 3 image signature, the only one that is a signature.
pub(crate) const COSIGN_SIGN_PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT_TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v0.1",
    "https://in-toto.io/Statement/v1",
];
const STATEMENT: &str = "the statement";

/// Reads a statement.
pub(crate) fn read(payload: &[u8]) -> Result<Document, Unreadable> {
    Ok(document(&strict_json::parse(payload)?)?)
}

fn document(statement: &Value) -> Result<Document, String> {
    let statement = statement
        .as_object()
        .ok_or("the statement is not a JSON object")?;
    let statement_type = string(statement, STATEMENT, "_type")?;
    if !STATEMENT_TYPES.contains(&statement_type) {
        return Err(format!(
            "_type is {statement_type:?}, not one of {}",
            STATEMENT_TYPES.join(", ")
        ));
    }
    Ok(Document {
        kind: kind(string(statement, STATEMENT, "predicateType")?)?,
        subjects: subjects(statement)?,
        docker_reference: None,
    })
}

fn kind(predicate_type: &str) -> Result<DocumentKind, String> {
    match predicate_type {
        "" => Err("predicateType is empty".into()),
        COSIGN_SIGN_PREDICATE_TYPE => Ok(DocumentKind::ImageSignature),
        other => Ok(DocumentKind::Attestation {
            predicate_type: other.to_owned(),
        }),
    }
}

/// The sha256 digests of all subjects. One digest at least: what cannot be compared with an image says
/// nothing about it.
fn subjects(statement: &Map<String, Value>) -> Result<Vec<Digest>, String> {
    let subjects = field(statement, STATEMENT, "subject")?
        .as_array()
        .ok_or("subject is not a list")?;
    let mut digests = Vec::with_capacity(subjects.len());
    for (at, subject) in subjects.iter().enumerate() {
        digests.extend(sha256_of(subject, &format!("subject[{at}]"))?);
    }
    if digests.is_empty() {
        return Err("no subject has a sha256 digest".into());
    }
    Ok(digests)
}

fn sha256_of(subject: &Value, what: &str) -> Result<Option<Digest>, String> {
    let subject = subject
        .as_object()
        .ok_or_else(|| format!("{what} is not a JSON object"))?;
    let digests = field(subject, what, "digest")?
        .as_object()
        .ok_or_else(|| format!("{what}.digest is not a JSON object"))?;
    if let Some((algorithm, _)) = digests.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("{what}.digest.{algorithm} is not a string"));
    }
    let Some(hex) = digests.get("sha256").and_then(Value::as_str) else {
        return Ok(None);
    };
    Digest::from_str(&format!("sha256:{hex}"))
        .map(Some)
        .map_err(|error| format!("{what}.digest.sha256 is no digest: {error}"))
}
