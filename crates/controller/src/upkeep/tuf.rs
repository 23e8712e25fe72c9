//! Trust roots out of TUF repositories: the documents they publish, verified from the pinned root.
//!
//! What was verified is kept on disk and verified anew when it is read, expiry included, so that a
//! restart needs no network and an edit of the files gains nothing. An update is kept as a whole or not at all, so
//! that a mirror that serves a part of one takes nothing away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::TufSource;
use futures::future::join_all;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sigstore_tuf::{HttpRepository, MetadataStore, Repository, StoreRepository, Updater, reqwest};
use tokio::time::Instant;

use super::tuf_store::TufStore;
use crate::jitter::spread;

/// The document, as Sigstore's repositories name it.
const TARGET: &str = "trusted_root.json";
/// How often a repository is asked.
const REFRESH_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How soon after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// The longest refresh, all requests together. Must stay below the time after which a loop counts as stuck.
const DEADLINE: Duration = Duration::from_secs(45);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// The repositories that TrustRoots name, by the name of the TrustRoot.
pub(crate) struct Repositories {
    folder: Option<PathBuf>,
    held: BTreeMap<Arc<str>, Held>,
}

/// One repository.
struct Held {
    source: TufSource,
    store: Arc<TufStore>,
    document: Option<Vec<u8>>,
    /// Why the last refresh failed.
    trouble: Option<String>,
    next: Instant,
}

/// What a repository gave.
pub(crate) struct Published<'a> {
    /// The last document that is verified and not expired.
    pub(crate) document: Option<&'a [u8]>,
    /// Why the last refresh failed.
    pub(crate) trouble: Option<&'a str>,
}

impl Repositories {
    /// Keeps what it verifies in this folder; in memory without one.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Repositories {
            folder,
            held: BTreeMap::new(),
        }
    }

    /// When the next repository is to be asked.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.values().map(|held| held.next).min()
    }

    /// Takes in which repositories are wanted, and asks those that are due: at once only where nothing is kept.
    pub(crate) async fn refresh(&mut self, wanted: &BTreeMap<Arc<str>, TufSource>) {
        self.held
            .retain(|name, held| wanted.get(name) == Some(&held.source));
        let mut fresh = BTreeMap::new();
        for (name, source) in wanted {
            if !self.held.contains_key(name) {
                fresh.insert(name.clone(), self.begin(source).await);
            }
        }
        let now = Instant::now();
        let due = self.held.values_mut().filter(|held| held.next <= now);
        let unknown = fresh.values_mut().filter(|held| held.document.is_none());
        join_all(due.chain(unknown).map(Held::refresh)).await;
        self.held.append(&mut fresh);
    }

    /// What the repository of a TrustRoot gave.
    pub(crate) fn published(&self, name: &str) -> Option<Published<'_>> {
        self.held.get(name).map(|held| Published {
            document: held.document.as_deref(),
            trouble: held.trouble.as_deref(),
        })
    }

    /// A repository with what is kept of it.
    async fn begin(&self, source: &TufSource) -> Held {
        let store = Arc::new(match &self.folder {
            Some(folder) => TufStore::in_file(folder.join(place(source))),
            None => TufStore::default(),
        });
        let mut held = Held {
            source: source.clone(),
            store,
            document: None,
            trouble: None,
            next: Instant::now(),
        };
        held.document = held.kept().await.ok();
        held
    }
}

impl Held {
    async fn refresh(&mut self) {
        let asked = tokio::time::timeout(DEADLINE, self.ask()).await;
        let asked = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = Instant::now();
        match asked {
            Ok(document) => {
                self.document = Some(document);
                self.trouble = None;
                self.next = now + spread(REFRESH_EVERY);
            }
            Err(why) => {
                // What is kept counts until it expires, whoever keeps the network from answering.
                self.document = self.kept().await.ok();
                self.trouble = Some(format!("the TUF repository {}: {why}", self.source.url));
                self.next = now + spread(RETRY_AFTER);
            }
        }
    }

    async fn ask(&self) -> Result<Vec<u8>, String> {
        // Redirects are not followed: a repository is asked where its administrator says, and nowhere else.
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| chain(&error))?;
        let repository = HttpRepository::new(&self.source.url).map_err(|error| chain(&error))?;
        let update = Arc::new(Update::onto(self.store.clone()));
        let document = self
            .verified(repository.with_http_client(client), update.clone())
            .await?;
        update.keep().map_err(|error| chain(&error))?;
        Ok(document)
    }

    async fn kept(&self) -> Result<Vec<u8>, String> {
        let repository = StoreRepository::new(self.store.clone());
        self.verified(repository, self.store.clone()).await
    }

    /// The document, with every step from the pinned root verified.
    async fn verified(
        &self,
        repository: impl Repository + 'static,
        store: Arc<dyn MetadataStore>,
    ) -> Result<Vec<u8>, String> {
        let now = Timestamp::now();
        let updater = Updater::new(repository, self.source.initial_root.as_bytes())
            .map_err(|error| format!("spec.tuf.initialRoot: {}", chain(&error)))?;
        let mut updater = updater.with_store(store);
        updater.refresh(now).await.map_err(|error| chain(&error))?;
        updater
            .get_target(TARGET, now)
            .await
            .map_err(|error| chain(&error))
    }
}

/// A store with an update that is not kept yet. Only roots are kept at once: a newer one may take the trust in what is
/// kept away, whatever else the repository serves.
struct Update {
    below: Arc<TufStore>,
    pending: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Update {
    fn onto(below: Arc<TufStore>) -> Self {
        Update {
            below,
            pending: Mutex::default(),
        }
    }

    /// Keeps what is pending.
    fn keep(&self) -> Result<(), sigstore_tuf::Error> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.below.store_all(pending)
    }
}

impl MetadataStore for Update {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, sigstore_tuf::Error> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.get(name) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.below.load(name),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), sigstore_tuf::Error> {
        if name == "root.json" || name.starts_with("root_history/") {
            return self.below.store(name, bytes);
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

/// The file of a repository: another one for another URL or another pinned root.
fn place(source: &TufSource) -> String {
    let mut hash = Sha256::new();
    hash.update(source.url.as_bytes());
    hash.update([0]);
    hash.update(source.initial_root.as_bytes());
    format!("{:x}.json", hash.finalize())
}

/// What an error says, and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
#[path = "tuf_tests.rs"]
mod tests;
