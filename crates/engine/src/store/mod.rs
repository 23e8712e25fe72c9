//! What survives a restart: evidence bytes by digest, and for each subject what was seen where and
//! when. A cache that is trusted no more than a registry: bytes are hashed again when read,
//! signatures are verified again, and an absence read from here is never authoritative. Losing it
//! costs requests, not correctness; a file that cannot be read is set aside and begun anew. What
//! nothing uses is dropped again (see `prune`); the file keeps its size and its room is used anew.

mod prune;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::Digest;
use jiff::Timestamp;
use policy::Forgotten;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::lookup::{Layer, Recent, Seen, Shape};

const BODIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bodies");
const SUBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("subjects");
const FILE: &str = "evidence.redb";
/// How long a write waits for others to be committed with, however many come.
const GATHER: Duration = Duration::from_millis(200);
/// How long nothing is waited for at the most.
const IDLE: Duration = Duration::from_secs(3600);
/// Writes that are committed together at the most.
const BATCH: usize = 512;
/// Memory for pages of the file.
const CACHE: usize = 2 * 1024 * 1024;
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
    /// The registry did not serve it to the operator.
    #[serde(default)]
    pub(crate) refused: bool,
    /// When the last complete pass ended.
    pub(crate) checked: Option<Timestamp>,
    /// What was seen, by digest: the subject's own and its relatives'.
    pub(crate) seen: BTreeMap<Digest, Seen>,
    /// Manifests that held attestations which verified and are not found any more, by digest.
    pub(crate) past: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Which of the items in them these are.
    #[serde(default)]
    pub(crate) past_items: BTreeSet<Digest>,
    /// What was forgotten of them, by digest.
    #[serde(default)]
    pub(crate) forgotten: BTreeMap<Digest, Forgotten>,
    /// What each digest names.
    pub(crate) shapes: BTreeMap<Digest, Shape>,
    /// Indexes that are proven to list the subject.
    pub(crate) proven: BTreeSet<Digest>,
    /// Platform manifests that it lists and that a policy needs.
    pub(crate) children: Vec<Digest>,
    /// What tags resolved to when they were first seen.
    pub(crate) first_resolved: BTreeMap<Arc<str>, Digest>,
    /// Whose signature each item is, by fingerprint: the order in which keys are asked, and nothing more.
    #[serde(default)]
    pub(crate) signed_by: BTreeMap<Digest, String>,
}

impl SubjectRecord {
    /// Whether the item is one of those that verified and are not found any more. An older record does not tell.
    pub(crate) fn is_past(&self, item: &Digest) -> bool {
        self.past_items.is_empty() || self.past_items.contains(item)
    }
}

enum Write {
    Body(Digest, Bytes),
    Subject(String, Bytes),
    Prune(HashSet<String>, Timestamp),
    Flush(Sender<()>),
}

/// What is not committed yet; it can be read already.
#[derive(Debug, Default)]
struct Pending {
    bodies: HashMap<Digest, Bytes>,
    subjects: HashMap<String, Bytes>,
}

impl Pending {
    /// A newer record of the same subject stays.
    fn committed(&mut self, write: &Write) {
        match write {
            Write::Body(digest, _) => drop(self.bodies.remove(digest)),
            Write::Subject(key, bytes) if self.subjects.get(key) == Some(bytes) => {
                drop(self.subjects.remove(key));
            }
            _ => {}
        }
    }
}

/// Reads bytes by their digest; what is given hashes to it.
pub(crate) type Read<'a> = &'a dyn Fn(&Digest) -> Option<Bytes>;

/// The store. Reads are immediate, writes are gathered in a thread of their own.
#[derive(Debug)]
pub(crate) struct Store {
    database: Arc<Database>,
    writes: Sender<Write>,
    pending: Arc<Mutex<Pending>>,
    recent: Recent,
}

impl Store {
    /// Opens the store in a folder, or in memory only.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Store, StoreError> {
        let database = Arc::new(match folder {
            Some(folder) => open_file(folder)?,
            None => in_memory()?,
        });
        let pending = Arc::<Mutex<Pending>>::default();
        let (writes, receive) = channel();
        let mut writer = Writer {
            database: database.clone(),
            pending: pending.clone(),
            batch: Vec::new(),
            orphans: HashSet::new(),
        };
        std::thread::spawn(move || writer.write_all(&receive));
        Ok(Store {
            database,
            writes,
            pending,
            recent: Recent::default(),
        })
    }

    /// Bytes that hash to the digest, if they are kept.
    pub(crate) fn body(&self, digest: &Digest) -> Option<Bytes> {
        self.snapshot().body(digest)
    }

    /// The layers with evidence of a manifest that is kept, for many reads at the cost of one until they are let go.
    pub(crate) fn layers(&self, manifest: &Digest) -> Option<Arc<[Layer]>> {
        self.recent.layers(manifest, || self.body(manifest))
    }

    /// Lets go of what was read for [`Store::layers`].
    pub(crate) fn let_go(&self) {
        self.recent.clear();
    }

    /// What is kept as of now, for many reads at the cost of one.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            store: self,
            tables: tables(&self.database),
        }
    }

    /// Keeps bytes by their digest.
    pub(crate) fn keep_body(&self, digest: Digest, bytes: Bytes) {
        if bytes.len() > BODY_LIMIT {
            return;
        }
        self.pending().bodies.insert(digest.clone(), bytes.clone());
        self.send(Write::Body(digest, bytes));
    }

    /// What is kept of a subject; None where there is nothing or it does not parse.
    pub(crate) fn subject(&self, key: &str) -> Option<SubjectRecord> {
        self.snapshot().subject(key)
    }

    /// Keeps what is known of a subject.
    pub(crate) fn keep_subject(&self, key: String, record: &SubjectRecord) {
        match serde_json::to_vec(record) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                self.pending().subjects.insert(key.clone(), bytes.clone());
                self.send(Write::Subject(key, bytes));
            }
            Err(error) => tracing::warn!(subject = key, %error, "a record cannot be written"),
        }
    }

    /// Drops what nothing uses: bodies and records of subjects that do not run, after a while.
    pub(crate) fn prune(&self, running: HashSet<String>, now: Timestamp) {
        self.send(Write::Prune(running, now));
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

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, write: Write) {
        if self.writes.send(write).is_err() {
            tracing::warn!(
                "the evidence file is not written any more; the next start asks the registries again"
            );
        }
    }
}

/// What is kept, as of one moment.
pub(crate) struct Snapshot<'a> {
    store: &'a Store,
    tables: Option<Tables>,
}

/// Bodies and subjects.
type Tables = (Table, Table);

type Table = redb::ReadOnlyTable<&'static str, &'static [u8]>;

impl Snapshot<'_> {
    /// Bytes that hash to the digest, if they are kept.
    pub(crate) fn body(&self, digest: &Digest) -> Option<Bytes> {
        let pending = self.store.pending().bodies.get(digest).cloned();
        let bytes = pending.or_else(|| self.read(|(bodies, _)| bodies, &digest.to_string()))?;
        digest.matches(&bytes).then_some(bytes)
    }

    /// What is kept of a subject; None where there is nothing or it does not parse.
    pub(crate) fn subject(&self, key: &str) -> Option<SubjectRecord> {
        let pending = self.store.pending().subjects.get(key).cloned();
        let bytes = pending.or_else(|| self.read(|(_, subjects)| subjects, key))?;
        match serde_json::from_slice(&bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(subject = key, %error, "a kept record does not parse; it is left out");
                None
            }
        }
    }

    /// Reads bodies.
    pub(crate) fn reader(&self) -> impl Fn(&Digest) -> Option<Bytes> {
        |digest| self.body(digest)
    }

    /// What was committed since the snapshot is not pending any more, and not in it.
    fn read(&self, table: fn(&Tables) -> &Table, key: &str) -> Option<Bytes> {
        let kept = |tables: &Tables| Some(Bytes::copy_from_slice(table(tables).get(key).ok()??.value()));
        let before = self.tables.as_ref().and_then(kept);
        before.or_else(|| kept(&tables(&self.store.database)?))
    }
}

/// Bytes that were committed and hash to the digest.
fn body(database: &Database, digest: &Digest) -> Option<Bytes> {
    let (bodies, _) = tables(database)?;
    let bytes = Bytes::copy_from_slice(bodies.get(digest.to_string().as_str()).ok()??.value());
    digest.matches(&bytes).then_some(bytes)
}

/// None where nothing was ever committed.
fn tables(database: &Database) -> Option<Tables> {
    let transaction = database.begin_read().ok()?;
    let bodies = transaction.open_table(BODIES).ok()?;
    Some((bodies, transaction.open_table(SUBJECTS).ok()?))
}

fn open_file(folder: &Path) -> Result<Database, StoreError> {
    std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
        folder: folder.to_owned(),
        source,
    })?;
    let file = folder.join(FILE);
    match builder().create(&file) {
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
            builder().create(&file).map_err(|source| StoreError::Open {
                file,
                source: Box::new(source),
            })
        }
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

fn in_memory() -> Result<Database, StoreError> {
    builder()
        .create_with_backend(InMemoryBackend::new())
        .map_err(|source| StoreError::Open {
            file: "(memory)".into(),
            source: Box::new(source),
        })
}

/// The thread that writes.
struct Writer {
    database: Arc<Database>,
    pending: Arc<Mutex<Pending>>,
    batch: Vec<Write>,
    /// Bodies that no record needed at the last pruning.
    orphans: HashSet<Digest>,
}

impl Writer {
    fn write_all(&mut self, receive: &Receiver<Write>) {
        // An empty batch makes the tables.
        if let Err(error) = commit(&self.database, &[]) {
            tracing::warn!(%error, "the evidence file cannot be written; the next start asks the registries again");
        }
        let mut since = Instant::now();
        loop {
            let patience = match self.batch.is_empty() {
                true => IDLE,
                false => GATHER.saturating_sub(since.elapsed()),
            };
            match receive.recv_timeout(patience) {
                Ok(Write::Flush(done)) => {
                    self.commit();
                    // The one who waits may have given up; nothing is lost then.
                    done.send(()).unwrap_or_default();
                }
                Ok(Write::Prune(running, now)) => {
                    self.commit();
                    self.prune(&running, now);
                }
                Ok(write) => {
                    if self.batch.is_empty() {
                        since = Instant::now();
                    }
                    self.batch.push(write);
                    if self.batch.len() >= BATCH {
                        self.commit();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.commit(),
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
        }
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Err(error) = commit(&self.database, &self.batch) {
            tracing::warn!(%error, "evidence cannot be kept on disk; the next start asks the registries again");
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for write in self.batch.drain(..) {
            pending.committed(&write);
        }
    }

    fn prune(&mut self, running: &HashSet<String>, now: Timestamp) {
        match prune::prune(&self.database, running, &self.orphans, now) {
            Ok(orphans) => self.orphans = orphans,
            Err(error) => {
                tracing::warn!(%error, "what nothing uses cannot be dropped from the evidence file")
            }
        }
    }
}

/// Writes a batch; a body that is there already is not written again.
fn commit(database: &Database, batch: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut bodies = transaction.open_table(BODIES)?;
        let mut subjects = transaction.open_table(SUBJECTS)?;
        for write in batch {
            match write {
                Write::Body(digest, bytes) => {
                    let key = digest.to_string();
                    let is_there = bodies
                        .get(key.as_str())?
                        .is_some_and(|kept| kept.value() == bytes.as_ref());
                    if !is_there {
                        drop(bodies.insert(key.as_str(), bytes.as_ref())?);
                    }
                }
                Write::Subject(key, bytes) => drop(subjects.insert(key.as_str(), bytes.as_ref())?),
                Write::Prune(..) | Write::Flush(_) => {}
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
        store.keep_body(digest.clone(), Bytes::from_static(b"body"));
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
        store.keep_body(digest.clone(), Bytes::from_static(b"forged"));
        store.flush();
        assert_eq!(store.body(&digest), None);
    }

    /// 16 MiB of evidence are not rewritten by every pass. Weakened once: with every insert carried out, the file grows.
    #[test]
    fn a_body_that_is_there_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let body = Bytes::from(vec![7; 1024 * 1024]);
        let digest = Digest::sha256(&body);
        let keep = |times: usize| {
            for _ in 0..times {
                store.keep_body(digest.clone(), body.clone());
                store.flush();
            }
            std::fs::metadata(folder.path().join(FILE)).unwrap().len()
        };
        let first = keep(1);
        assert_eq!(keep(16), first);
        assert_eq!(store.body(&digest), Some(body.clone()));
    }

    #[test]
    fn a_body_that_was_spoilt_is_written_again() {
        let store = Store::open(None).unwrap();
        let digest = Digest::sha256(b"signed");
        store.keep_body(digest.clone(), Bytes::from_static(b"spoilt"));
        store.flush();
        store.keep_body(digest.clone(), Bytes::from_static(b"signed"));
        store.flush();
        assert_eq!(store.body(&digest), Some(Bytes::from_static(b"signed")));
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
        for _ in 0..3000 {
            match Store::open(Some(folder)) {
                Ok(store) => return check(&store),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        panic!("the file was not released");
    }
}
