//! A stand-in for a Rekor v1 log, which as a server needs databases that are not to be had here. It keeps a Merkle tree
//! in memory and signs entries and checkpoints as Rekor v1 does, for the two kinds of entries that cosign writes
//! (`hashedrekord` and `dsse`, both 0.0.1). Unlike Rekor it does not check what it is given to log.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::merkle::{self, Hash};
use crate::http;
use crate::{Result, TestkitError};

/// The tree's number, which is part of an entry's name and of the checkpoints' origin.
const TREE: u64 = 0x5ea1_ed10_6000_0001;
const ORIGIN: &str = "rekor-v1.testkit";

/// A log with its key and its leaves.
#[derive(Debug)]
pub(super) struct RekorV1 {
    key: KeyPair,
    leaves: Mutex<Vec<Hash>>,
}

impl RekorV1 {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(TestkitError::crypto("make the key of Rekor v1"))?;
        Ok(Self {
            key,
            leaves: Mutex::default(),
        })
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.key
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        let log = Arc::clone(self);
        let add = async move |body: Bytes| match log.add(&body) {
            Ok((name, entry)) => created(&name, &entry),
            Err(error) => http::refusal(&error),
        };
        let key = self.key.public_key_pem();
        Router::new()
            .route("/api/v1/log/entries", post(add))
            .route("/api/v1/log/publicKey", get(async move || key))
    }

    /// Takes a proposed entry and gives its name, and the entry with everything that proves it.
    fn add(&self, proposed: &[u8]) -> Result<(String, Value)> {
        let proposed = serde_json::from_slice(proposed).map_err(invalid())?;
        let body = canonical_entry(&proposed)?.to_string();
        let (index, leaves) = self.append(merkle::leaf(body.as_bytes()));
        let root = merkle::root(&leaves);
        let path: Vec<String> = merkle::path(index, &leaves).iter().map(hex::encode).collect();
        let body = BASE64.encode(body);
        let log_id = hex::encode(self.id());
        let time = Timestamp::now().as_second();
        // The keys are in the order of RFC 8785.
        let promised = json!({"body": body, "integratedTime": time, "logID": log_id, "logIndex": index});
        let name = format!("{TREE:016x}{}", hex::encode(leaves[index]));
        let entry = json!({
            "body": body,
            "integratedTime": time,
            "logID": log_id,
            "logIndex": index,
            "verification": {
                "signedEntryTimestamp": BASE64.encode(self.sign(&promised.to_string())?),
                "inclusionProof": {
                    "logIndex": index,
                    "treeSize": leaves.len(),
                    "rootHash": hex::encode(root),
                    "hashes": path,
                    "checkpoint": self.checkpoint(leaves.len(), &root)?,
                },
            },
        });
        Ok((name, entry))
    }

    fn append(&self, leaf: Hash) -> (usize, Vec<Hash>) {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.push(leaf);
        (leaves.len() - 1, leaves.clone())
    }

    /// A signed note: the tree's origin, size and root, and a signature with the hint of the key's hash.
    fn checkpoint(&self, size: usize, root: &Hash) -> Result<String> {
        let text = format!("{ORIGIN} - {TREE}\n{size}\n{}\n", BASE64.encode(root));
        let signature = [&self.id()[..4], &self.sign(&text)?].concat();
        Ok(format!(
            "{text}\n\u{2014} {ORIGIN} {}\n",
            BASE64.encode(signature)
        ))
    }

    /// The hash of the public key.
    fn id(&self) -> Hash {
        Sha256::digest(self.key.subject_public_key_info()).into()
    }

    fn sign(&self, text: &str) -> Result<Vec<u8>> {
        self.key
            .sign(text.as_bytes())
            .map_err(TestkitError::crypto("sign as Rekor v1"))
    }
}

/// Clients look their entry up by the name in the header.
fn created(name: &str, entry: &Value) -> Response {
    let headers = [
        (header::ETAG, name.to_owned()),
        (header::LOCATION, format!("/api/v1/log/entries/{name}")),
    ];
    (headers, http::json(StatusCode::CREATED, &json!({name: entry}))).into_response()
}

/// The entry as it is logged, with its keys in the order of RFC 8785.
fn canonical_entry(proposed: &Value) -> Result<Value> {
    let spec = match (proposed["kind"].as_str(), proposed["apiVersion"].as_str()) {
        (Some("hashedrekord"), Some("0.0.1")) => hashed_record(&proposed["spec"])?,
        (Some("dsse"), Some("0.0.1")) => dsse(&proposed["spec"]["proposedContent"])?,
        found => return Err(invalid()(format!("found an entry of kind {found:?}"))),
    };
    Ok(json!({"apiVersion": "0.0.1", "kind": proposed["kind"], "spec": spec}))
}

fn hashed_record(spec: &Value) -> Result<Value> {
    let hash = &spec["data"]["hash"];
    Ok(json!({
        "data": {"hash": {"algorithm": text(&hash["algorithm"])?, "value": text(&hash["value"])?}},
        "signature": {
            "content": text(&spec["signature"]["content"])?,
            "publicKey": {"content": text(&spec["signature"]["publicKey"]["content"])?},
        },
    }))
}

fn dsse(proposed: &Value) -> Result<Value> {
    let envelope = text(&proposed["envelope"])?;
    let verifier = text(&proposed["verifiers"][0])?;
    let parsed: Value = serde_json::from_str(envelope).map_err(invalid())?;
    let payload = BASE64.decode(text(&parsed["payload"])?).map_err(invalid())?;
    let signature = text(&parsed["signatures"][0]["sig"])?;
    let hash = |content: &[u8]| json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(content))});
    Ok(json!({
        "envelopeHash": hash(envelope.as_bytes()),
        "payloadHash": hash(&payload),
        "signatures": [{"signature": signature, "verifier": verifier}],
    }))
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .ok_or_else(|| invalid()(format!("found {value}, expected a text")))
}

fn invalid<E: std::fmt::Display>() -> impl FnOnce(E) -> TestkitError {
    TestkitError::crypto("read an entry for the log")
}
