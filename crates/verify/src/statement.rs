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
use crate::strict_json::{self, Room, field, string};

/// The predicate type of a cosign 3 image signature, the only one that is a signature.
pub(crate) const COSIGN_SIGN_PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT_TYPES: [&str; 2] = [
    "https://in-toto.io/Statement/v0.1",
    "https://in-toto.io/Statement/v1",
];
const STATEMENT: &str = "the statement";

/// An in-toto statement as it was read; who said it, and whether anybody did, is another question.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// `_type`: `https://in-toto.io/Statement/v0.1` or `…/v1`.
    pub statement_type: String,
    /// What the predicate is about; never empty.
    pub predicate_type: String,
    /// The sha256 digests of its subjects; never empty.
    pub subjects: Vec<Digest>,
    /// The whole statement, in which no object has a key twice.
    pub value: Value,
}

impl Statement {
    /// The predicate; null where there is none.
    #[must_use]
    pub fn predicate(&self) -> &Value {
        self.value.get("predicate").unwrap_or(&Value::Null)
    }
}

/// Reads what a statement is about, without its predicate.
pub(crate) fn read(payload: &[u8]) -> Result<Document, Unreadable> {
    let statement = parse(payload)?;
    Ok(Document {
        kind: kind(&statement.predicate_type),
        subjects: statement.subjects,
        docker_reference: None,
    })
}

/// Reads a statement with its predicate, which may take many times the memory of its text.
pub(crate) fn parse(payload: &[u8]) -> Result<Statement, Unreadable> {
    Ok(statement(strict_json::parse(payload, Room::Large)?)?)
}

fn statement(value: Value) -> Result<Statement, String> {
    let statement = value.as_object().ok_or("the statement is not a JSON object")?;
    let statement_type = string(statement, STATEMENT, "_type")?;
    if !STATEMENT_TYPES.contains(&statement_type) {
        return Err(format!(
            "_type is {statement_type:?}, not one of {}",
            STATEMENT_TYPES.join(", ")
        ));
    }
    let predicate_type = string(statement, STATEMENT, "predicateType")?;
    if predicate_type.is_empty() {
        return Err("predicateType is empty".into());
    }
    Ok(Statement {
        statement_type: statement_type.to_owned(),
        predicate_type: predicate_type.to_owned(),
        subjects: subjects(statement)?,
        value,
    })
}

fn kind(predicate_type: &str) -> DocumentKind {
    match predicate_type {
        COSIGN_SIGN_PREDICATE_TYPE => DocumentKind::ImageSignature,
        other => DocumentKind::Attestation {
            predicate_type: other.into(),
        },
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
    if let Some(other) = digests.keys().find(|name| is_another_sha256(name)) {
        return Err(format!(
            "{what}.digest names SHA-256 {other:?}; it is written \"sha256\", and another reader could take the one for the other"
        ));
    }
    let Some(hex) = digests.get("sha256").and_then(Value::as_str) else {
        return Ok(None);
    };
    Digest::from_str(&format!("sha256:{hex}"))
        .map(Some)
        .map_err(|error| format!("{what}.digest.sha256 is no digest: {error}"))
}

/// `SHA-256`, `sha2_256` and the like: names by which another reader finds another digest of the same subject.
fn is_another_sha256(name: &str) -> bool {
    let bare: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    name != "sha256" && (bare == "sha256" || bare == "sha2256")
}
