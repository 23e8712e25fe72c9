use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

use super::*;

type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A TUF repository on loopback, all of whose roles are signed by one key.
struct Publisher {
    key: Ed25519KeyPair,
    files: Files,
    url: String,
}

impl Publisher {
    async fn start() -> Self {
        let files = Files::default();
        let router = Router::new()
            .route("/{*path}", axum::routing::get(serve))
            .with_state(files.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let key = Ed25519KeyPair::generate().unwrap();
        Publisher { key, files, url }
    }

    /// A document of a role, signed.
    fn signed(&self, role: &str, version: u64, expires: &str, content: Value) -> Vec<u8> {
        let mut signed = json!({
            "_type": role, "spec_version": "1.0.31", "version": version, "expires": expires,
        });
        signed
            .as_object_mut()
            .unwrap()
            .extend(content.as_object().unwrap().clone());
        let signature = self.key.sign(&to_canonical_bytes(&signed).unwrap());
        let signatures = json!([{"keyid": "k", "sig": hex(signature.as_ref())}]);
        json!({"signed": signed, "signatures": signatures})
            .to_string()
            .into_bytes()
    }

    /// The root that trust begins with.
    fn root(&self) -> String {
        let role = json!({"keyids": ["k"], "threshold": 1});
        let public = hex(self.key.public_key().as_ref());
        let content = json!({
            "consistent_snapshot": false,
            "keys": {"k": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}}},
            "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
        });
        String::from_utf8(self.signed("root", 1, "2099-01-01T00:00:00Z", content)).unwrap()
    }

    /// Publishes a document under a version, until a time.
    fn publish(&self, version: u64, expires: &str, document: &[u8]) {
        let target = json!({"length": document.len(), "hashes": {"sha256": format!("{:x}", Sha256::digest(document))}});
        let meta = json!({"version": version});
        let of = |role: &str, content| self.signed(role, version, expires, content);
        let files = [
            ("targets/trusted_root.json", document.to_vec()),
            (
                "targets.json",
                of("targets", json!({"targets": {TARGET: target}})),
            ),
            (
                "snapshot.json",
                of("snapshot", json!({"meta": {"targets.json": meta}})),
            ),
            (
                "timestamp.json",
                of("timestamp", json!({"meta": {"snapshot.json": meta}})),
            ),
        ];
        let files = files.map(|(name, content)| (name.to_owned(), content));
        *self.files.lock().unwrap() = files.into();
    }

    fn source(&self) -> TufSource {
        TufSource {
            url: self.url.clone(),
            initial_root: self.root(),
        }
    }
}

async fn serve(Path(path): Path<String>, State(files): State<Files>) -> Result<Vec<u8>, StatusCode> {
    let files = files.lock().unwrap();
    files.get(&path).cloned().ok_or(StatusCode::NOT_FOUND)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wanted(source: &TufSource) -> BTreeMap<Arc<str>, TufSource> {
    [("own".into(), source.clone())].into()
}

/// What a repository gave: the document, or why there is none.
fn published(repositories: &Repositories) -> Result<String, String> {
    let published = repositories.published("own").unwrap();
    match published.document {
        Some(document) => Ok(String::from_utf8(document.to_vec()).unwrap()),
        None => Err(published.trouble.unwrap_or_default().to_owned()),
    }
}

const LATER: &str = "2098-01-01T00:00:00Z";
const PAST: &str = "2020-01-01T00:00:00Z";

/// Refreshes although it is not due.
async fn refresh_now(repositories: &mut Repositories) {
    for held in repositories.held.values_mut() {
        held.refresh().await;
    }
}

#[tokio::test]
async fn a_document_comes_from_the_pinned_root_and_follows_the_repository() {
    let publisher = Publisher::start().await;
    publisher.publish(1, LATER, b"one");
    let mut repositories = Repositories::new(None);
    repositories.refresh(&wanted(&publisher.source())).await;
    assert_eq!(published(&repositories).as_deref(), Ok("one"));
    publisher.publish(2, LATER, b"two");
    refresh_now(&mut repositories).await;
    assert_eq!(published(&repositories).as_deref(), Ok("two"));
    // Weakened once: without `with_store` in `verified`, the older versions are taken.
    publisher.publish(1, LATER, b"one");
    refresh_now(&mut repositories).await;
    assert_eq!(published(&repositories).as_deref(), Ok("two"), "no way back");
    assert!(repositories.published("own").unwrap().trouble.is_some());
}

#[tokio::test]
async fn what_another_key_signed_or_what_does_not_hash_is_not_taken() {
    let (publisher, other) = (Publisher::start().await, Publisher::start().await);
    other.publish(1, LATER, b"one");
    let forged = TufSource {
        url: other.url.clone(),
        ..publisher.source()
    };
    let mut repositories = Repositories::new(None);
    repositories.refresh(&wanted(&forged)).await;
    assert!(published(&repositories).is_err());

    publisher.publish(1, LATER, b"one");
    let swapped = ("targets/trusted_root.json".to_owned(), b"eno".to_vec());
    publisher.files.lock().unwrap().extend([swapped]);
    let mut repositories = Repositories::new(None);
    repositories.refresh(&wanted(&publisher.source())).await;
    let refusal = published(&repositories).unwrap_err();
    assert!(refusal.contains("sha256"), "{refusal}");
}

#[tokio::test]
async fn a_restart_without_a_network_takes_what_is_kept_and_verifies_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::start().await;
    publisher.publish(1, LATER, b"one");
    let source = publisher.source();
    let kept = || Repositories::new(Some(folder.path().to_owned()));
    let mut before = kept();
    before.refresh(&wanted(&source)).await;
    publisher.files.lock().unwrap().clear();

    let mut after = kept();
    after.refresh(&wanted(&source)).await;
    assert_eq!(published(&after).as_deref(), Ok("one"));
    refresh_now(&mut after).await;
    assert_eq!(
        published(&after).as_deref(),
        Ok("one"),
        "the network gives nothing"
    );
    assert!(
        after
            .published("own")
            .unwrap()
            .trouble
            .unwrap()
            .contains(&source.url)
    );

    // Weakened once: with the kept target read from the store and not by `verified`, the edit is taken.
    let file = folder.path().join(place(&source));
    let kept_text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, kept_text.replace("\"one\"", "\"two\"")).unwrap();
    let mut edited = kept();
    edited.refresh(&wanted(&source)).await;
    assert!(published(&edited).is_err());
}

/// A mirror without any key can hold parts of an update back; what is kept must not go with it.
/// Weakened once: with each part of an update kept as it comes, nothing is left without `snapshot.json`.
#[tokio::test]
async fn an_update_that_is_served_in_part_takes_nothing_that_is_kept_away() {
    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::start().await;
    let kept = || Repositories::new(Some(folder.path().to_owned()));
    for withheld in ["snapshot.json", "targets.json", "targets/trusted_root.json"] {
        publisher.publish(1, LATER, b"one");
        std::fs::remove_dir_all(folder.path()).unwrap();
        let mut repositories = kept();
        repositories.refresh(&wanted(&publisher.source())).await;
        publisher.publish(2, LATER, b"two");
        publisher.files.lock().unwrap().remove(withheld);
        refresh_now(&mut repositories).await;
        assert_eq!(published(&repositories).as_deref(), Ok("one"), "{withheld}");
        assert!(repositories.published("own").unwrap().trouble.is_some());
        let mut restarted = kept();
        restarted.refresh(&wanted(&publisher.source())).await;
        assert_eq!(published(&restarted).as_deref(), Ok("one"), "{withheld}");
        publisher.publish(2, LATER, b"two");
        refresh_now(&mut repositories).await;
        assert_eq!(published(&repositories).as_deref(), Ok("two"), "{withheld}");
    }
}

#[tokio::test]
async fn what_is_expired_gives_nothing_whether_it_is_published_or_kept() {
    let publisher = Publisher::start().await;
    publisher.publish(1, PAST, b"one");
    let mut repositories = Repositories::new(None);
    repositories.refresh(&wanted(&publisher.source())).await;
    let refusal = published(&repositories).unwrap_err();
    assert!(refusal.contains("expired"), "{refusal}");
}

#[tokio::test]
async fn a_root_that_is_none_is_named_as_the_field_and_a_changed_source_starts_anew() {
    let publisher = Publisher::start().await;
    publisher.publish(1, LATER, b"one");
    let broken = TufSource {
        initial_root: "{}".to_owned(),
        ..publisher.source()
    };
    let mut repositories = Repositories::new(None);
    repositories.refresh(&wanted(&broken)).await;
    let refusal = published(&repositories).unwrap_err();
    assert!(refusal.contains("spec.tuf.initialRoot"), "{refusal}");
    repositories.refresh(&wanted(&publisher.source())).await;
    assert_eq!(published(&repositories).as_deref(), Ok("one"));
    repositories.refresh(&BTreeMap::new()).await;
    assert!(repositories.published("own").is_none() && repositories.due().is_none());
}

/// As `assay check` asks, once and without a folder.
#[tokio::test]
async fn a_single_look_gives_the_trust_root_that_a_repository_publishes_or_says_why_not() {
    let publisher = Publisher::start().await;
    let look = async || super::super::trust_roots::published_trust_root("own", &publisher.source()).await;
    let error = look().await.unwrap_err();
    assert!(error.contains(&publisher.url), "{error}");
    publisher.publish(1, LATER, b"{}");
    let error = look().await.unwrap_err();
    assert!(error.contains("trusted_root.json"), "{error}");
    let document = include_str!("../../../verify/tests/fixtures/keyless/full/trusted_root.json");
    publisher.publish(2, LATER, document.as_bytes());
    let root = look().await.unwrap();
    assert_eq!(root.name(), "own");
    assert_eq!(
        root.digest(),
        verify::TrustRoot::from_json(document.as_bytes())
            .unwrap()
            .digest()
    );
    publisher.publish(3, PAST, document.as_bytes());
    look().await.unwrap_err();
}
