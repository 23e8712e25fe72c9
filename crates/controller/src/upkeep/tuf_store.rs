//! What is kept of a TUF repository: every document of one update in one file, written whole or not at all. A process that
//! ends while it writes, or a disk that is full, leaves the update before. What is read is verified by whoever reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sigstore_tuf::{Error, MetadataStore};

type Documents = BTreeMap<String, String>;

/// The documents by name, in memory and, where there is one, in a file.
#[derive(Debug, Default)]
pub(super) struct TufStore {
    file: Option<PathBuf>,
    documents: Mutex<Documents>,
}

impl TufStore {
    /// With what the file holds; nothing where it is missing or cannot be read, because all of it can be fetched again.
    pub(super) fn in_file(file: PathBuf) -> Self {
        TufStore {
            documents: Mutex::new(read(&file)),
            file: Some(file),
        }
    }

    /// Keeps all of these, or none.
    pub(super) fn store_all(&self, documents: BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
        let mut held = self.held();
        let mut all = held.clone();
        for (name, bytes) in documents {
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::Malformed(format!("{name} is not text, as TUF documents are")))?;
            all.insert(name, text);
        }
        if all == *held {
            return Ok(());
        }
        if let Some(file) = &self.file {
            write(file, &all).map_err(|error| Error::io(format!("writing {}", file.display()), error))?;
        }
        *held = all;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetadataStore for TufStore {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.held().get(name).map(|text| text.clone().into_bytes()))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.store_all([(name.to_owned(), bytes.to_vec())].into())
    }
}

fn read(file: &Path) -> Documents {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Documents::new(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "what is kept of a TUF repository cannot be read; it is fetched again");
            return Documents::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "what is kept of a TUF repository does not parse; it is fetched again");
        Documents::new()
    })
}

/// Writes beside the file and takes its place.
fn write(file: &Path, documents: &Documents) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("new");
    let mut new = std::fs::File::create(&beside)?;
    new.write_all(&serde_json::to_vec(documents)?)?;
    new.sync_all()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "snapshot.json",
        "targets.json",
        "targets/trusted_root.json",
        "timestamp.json",
    ];

    fn update(version: usize) -> BTreeMap<String, Vec<u8>> {
        let document = format!("{version} {}", "x".repeat(64 << 10)).into_bytes();
        NAMES.map(|name| (name.to_owned(), document.clone())).into()
    }

    /// A process that is killed at any moment leaves what another one reads at that moment. Weakened once: with each
    /// document stored by itself, parts of two updates are read; with the file written in place, nothing is.
    #[test]
    fn whoever_reads_at_any_moment_finds_one_update_and_the_whole_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kept.json");
        let kept = TufStore::in_file(file.clone());
        kept.store_all(update(0)).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| (1..100).try_for_each(|version| kept.store_all(update(version))));
            while !writing.is_finished() {
                let documents = TufStore::in_file(file.clone());
                let [first, others @ ..] = NAMES.map(|name| documents.load(name).unwrap());
                assert!(first.is_some(), "nothing is there");
                assert!(others.iter().all(|other| *other == first), "parts of two updates");
            }
            writing.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_was_begun_and_not_ended_is_not_read_and_an_update_that_cannot_be_written_is_not_kept_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kept.json");
        let kept = TufStore::in_file(file.clone());
        kept.store_all(update(1)).unwrap();
        std::fs::write(file.with_extension("new"), "{\"timestamp.json\": \"2").unwrap();
        let before = kept.load("timestamp.json").unwrap();
        assert_eq!(
            TufStore::in_file(file.clone()).load("timestamp.json").unwrap(),
            before
        );
        std::fs::remove_file(file.with_extension("new")).unwrap();
        std::fs::create_dir(file.with_extension("new")).unwrap();
        kept.store_all(update(2)).unwrap_err();
        assert_eq!(kept.load("timestamp.json").unwrap(), before);
        std::fs::write(&file, "no JSON").unwrap();
        assert_eq!(TufStore::in_file(file).load("timestamp.json").unwrap(), None);
    }
}
