//! What survives a restart: evidence bytes by digest, and for each subject what was seen where and
//! when. A cache that is trusted no more than a registry: bytes are hashed again when read,
//! signatures are verified again, and an absence read from here is never authoritative. Losing it
//! costs requests, not correctness; a file that cannot be read is set aside and begun anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::Digest;
use jiff::Timestamp;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::lookup::{Shape, WaysSeen};

const BODIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bodies");
const SUBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("subjects");
const FILE: &str = "evidence.redb";
/// How long a write waits for others to be committed with, however many come.
const GATHER: Duration = Duration::from_millis(200);
/// How long nothing is waited for at the most.
const IDLE: Duration = Duration::from_secs(3600);
/// Writes that are committed together at the most.
const BATCH: usize = 512;
/// Larger bodies are not kept.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("the data folder {folder} cannot be made: {source}; name a writable folder with --data-dir")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file cannot be opened although it was begun anew, for example because another process holds it.
    #[error(
        "the evidence file {file} cannot be opened: {source}; give each operator a --data-dir of its own"
    )]
    Open {
        /// The file.
        file: PathBuf,
        /// What the database says.
        source: Box<redb::DatabaseError>,
    },
}

/// What is kept of one subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectRecord {
    /// When the last complete pass ended.
    pub(crate) checked: Option<Timestamp>,
    /// What was seen, by digest: the subject's own and its relatives'.
    pub(crate) seen: BTreeMap<Digest, WaysSeen>,
    /// What each digest names.
    pub(crate) shapes: BTreeMap<Digest, Shape>,
    /// Indexes that are proven to list the subject.
    pub(crate) proven: BTreeSet<Digest>,
    /// Platform manifests that it lists and that a policy needs.
    pub(crate) children: Vec<Digest>,
    /// What tags resolved to when they were first seen.
    pub(crate) first_resolved: BTreeMap<Arc<str>, Digest>,
}

enum Write {
    Body(Digest, Bytes),
    Subject(String, Vec<u8>),
    Flush(Sender<()>),
}

/// The store. Reads are immediate, writes are gathered in a thread of their own.
#[derive(Debug)]
pub(crate) struct Store {
    database: Arc<Database>,
    writes: Sender<Write>,
    /// Bodies that are not committed yet.
    pending: Arc<Mutex<HashMap<Digest, Bytes>>>,
}

impl Store {
    /// Opens the store in a folder, or in memory only.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Store, StoreError> {
        let database = Arc::new(match folder {
            Some(folder) => open_file(folder)?,
            None => in_memory()?,
        });
        let pending: Arc<Mutex<HashMap<Digest, Bytes>>> = Arc::default();
        let (writes, receive) = channel();
        std::thread::spawn({
            let (database, pending) = (database.clone(), pending.clone());
            move || write_all(&database, &receive, &pending)
        });
        Ok(Store {
            database,
            writes,
            pending,
        })
    }

    /// Bytes that hash to the digest, if they are kept.
    pub(crate) fn body(&self, digest: &Digest) -> Option<Bytes> {
        let pending = self
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned();
        let bytes = pending.or_else(|| self.read(BODIES, &digest.to_string()).map(Bytes::from))?;
        digest.matches(&bytes).then_some(bytes)
    }

    /// Keeps bytes by their digest.
    pub(crate) fn keep_body(&self, digest: Digest, bytes: Bytes) {
        if bytes.len() > BODY_LIMIT {
            return;
        }
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest, bytes.clone());
        self.send(Write::Body(digest, bytes));
    }

    /// What is kept of a subject; None where there is nothing or it does not parse.
    pub(crate) fn subject(&self, key: &str) -> Option<SubjectRecord> {
        let bytes = self.read(SUBJECTS, key)?;
        match serde_json::from_slice(&bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(subject = key, %error, "a kept record does not parse; it is left out");
                None
            }
        }
    }

    /// Keeps what is known of a subject.
    pub(crate) fn keep_subject(&self, key: String, record: &SubjectRecord) {
        match serde_json::to_vec(record) {
            Ok(bytes) => self.send(Write::Subject(key, bytes)),
            Err(error) => tracing::warn!(subject = key, %error, "a record cannot be written"),
        }
    }

    /// Waits until everything kept so far is on disk.
    pub(crate) fn flush(&self) {
        let (done, wait) = channel();
        self.send(Write::Flush(done));
        if wait.recv_timeout(Duration::from_secs(5)).is_err() {
            tracing::warn!(
                "the evidence file was not written in time; the next start asks the registries again"
            );
        }
    }

    fn send(&self, write: Write) {
        if self.writes.send(write).is_err() {
            tracing::warn!(
                "the evidence file is not written any more; the next start asks the registries again"
            );
        }
    }

    fn read(&self, table: TableDefinition<'_, &str, &[u8]>, key: &str) -> Option<Vec<u8>> {
        let transaction = self.database.begin_read().ok()?;
        let table = transaction.open_table(table).ok()?;
        Some(table.get(key).ok()??.value().to_vec())
    }
}

fn open_file(folder: &Path) -> Result<Database, StoreError> {
    std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
        folder: folder.to_owned(),
        source,
    })?;
    let file = folder.join(FILE);
    match Database::create(&file) {
        Ok(database) => Ok(database),
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::Open {
            file,
            source: Box::new(redb::DatabaseError::DatabaseAlreadyOpen),
        }),
        Err(error) => {
            let aside = folder.join(format!("{FILE}.unreadable"));
            tracing::warn!(file = %file.display(), %error, aside = %aside.display(), "the evidence file cannot be read; it is set aside and begun anew");
            if let Err(error) = std::fs::rename(&file, &aside) {
                tracing::warn!(%error, "the unreadable evidence file cannot be set aside");
            }
            Database::create(&file).map_err(|source| StoreError::Open {
                file,
                source: Box::new(source),
            })
        }
    }
}

fn in_memory() -> Result<Database, StoreError> {
    Database::builder()
        .create_with_backend(InMemoryBackend::new())
        .map_err(|source| StoreError::Open {
            file: "(memory)".into(),
            source: Box::new(source),
        })
}

fn write_all(database: &Database, receive: &Receiver<Write>, pending: &Mutex<HashMap<Digest, Bytes>>) {
    let mut batch = Vec::new();
    let mut since = Instant::now();
    loop {
        let patience = match batch.is_empty() {
            true => IDLE,
            false => GATHER.saturating_sub(since.elapsed()),
        };
        let open = match receive.recv_timeout(patience) {
            Ok(Write::Flush(done)) => {
                commit_logged(database, &mut batch, pending);
                // The one who waits may have given up; nothing is lost then.
                done.send(()).unwrap_or_default();
                true
            }
            Ok(write) => {
                if batch.is_empty() {
                    since = Instant::now();
                }
                batch.push(write);
                batch.len() < BATCH || {
                    commit_logged(database, &mut batch, pending);
                    true
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                commit_logged(database, &mut batch, pending);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
        };
        if !open {
            commit_logged(database, &mut batch, pending);
            return;
        }
    }
}

fn commit_logged(database: &Database, batch: &mut Vec<Write>, pending: &Mutex<HashMap<Digest, Bytes>>) {
    if batch.is_empty() {
        return;
    }
    if let Err(error) = commit(database, batch) {
        tracing::warn!(%error, "evidence cannot be kept on disk; the next start asks the registries again");
    }
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    for write in batch.drain(..) {
        if let Write::Body(digest, _) = write {
            pending.remove(&digest);
        }
    }
}

fn commit(database: &Database, batch: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut bodies = transaction.open_table(BODIES)?;
        let mut subjects = transaction.open_table(SUBJECTS)?;
        for write in batch {
            match write {
                Write::Body(digest, bytes) => {
                    drop(bodies.insert(digest.to_string().as_str(), bytes.as_ref())?)
                }
                Write::Subject(key, bytes) => drop(subjects.insert(key.as_str(), bytes.as_slice())?),
                Write::Flush(_) => {}
            }
        }
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"body");
        let record = SubjectRecord {
            checked: Some(Timestamp::from_second(5).unwrap()),
            ..SubjectRecord::default()
        };
        let store = Store::open(Some(folder.path())).unwrap();
        store.keep_body(digest, Bytes::from_static(b"body"));
        store.keep_subject("a@b".into(), &record);
        assert_eq!(
            store.body(&digest),
            Some(Bytes::from_static(b"body")),
            "visible before it is committed"
        );
        store.flush();
        reopened(store, folder.path(), |store| {
            assert_eq!(store.body(&digest), Some(Bytes::from_static(b"body")));
            assert_eq!(store.subject("a@b"), Some(record.clone()));
        });
    }

    #[test]
    fn a_body_that_was_edited_on_disk_is_not_believed() {
        let store = Store::open(None).unwrap();
        let digest = Digest::sha256(b"signed");
        store.keep_body(digest, Bytes::from_static(b"forged"));
        store.flush();
        assert_eq!(store.body(&digest), None);
    }

    #[test]
    fn a_file_that_is_garbage_is_set_aside_and_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), vec![7; 10_000]).unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        assert_eq!(store.subject("a@b"), None);
        assert!(folder.path().join(format!("{FILE}.unreadable")).exists());
    }

    /// The file is released when the writing thread ends, which is soon after the store is dropped.
    fn reopened(store: Store, folder: &Path, check: impl Fn(&Store)) {
        drop(store);
        for _ in 0..100 {
            match Store::open(Some(folder)) {
                Ok(store) => return check(&store),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        panic!("the file was not released");
    }
}
