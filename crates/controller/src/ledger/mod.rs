//! What the API server holds of every ImageCompliance, beside what was last said.
//!
//! The watch and the writer meet here. While this replica writes, an object that differs from what was
//! written is a foreign edit: the stored side follows it, the said side does not, so that the next
//! write puts things right without telling old news as new. A replica that does not write follows both.
//!
//! A write that had no answer may have been heard all the same. It is kept with its news until it shows: what shows is
//! told, and what somebody else wrote in its place is not.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{ImageCompliance, ImageComplianceStatus, WorkloadRef};
use engine::{Uid, WorkloadKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::Notify;

use crate::forecasts::Forecast;
use crate::names::compliance_name;
use crate::said::{Kept, Said};
use crate::transitions::Transition;
use crate::unanswered::Unanswered;
use crate::versions::{Meanwhile, ResourceVersion};

/// Namespace and name of an ImageCompliance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Place {
    /// Where the answer about a workload lives.
    pub(crate) fn of(key: &WorkloadKey) -> Self {
        Place {
            namespace: key.namespace.clone(),
            name: compliance_name(key).into(),
        }
    }

    fn of_object(object: &ImageCompliance) -> Option<Self> {
        let metadata = &object.metadata;
        Some(Place {
            namespace: metadata.namespace.as_deref()?.into(),
            name: metadata.name.as_deref()?.into(),
        })
    }
}

/// An object as the API server holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) uid: Uid,
    pub(crate) resource_version: ResourceVersion,
    /// Of everything that this operator writes into the object.
    pub(crate) content_hash: u64,
}

/// What is known before a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    pub(crate) stored: Option<Stored>,
    pub(crate) said: Said,
}

/// What a write says, with its news.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    pub(crate) said: Said,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) forecasts: Vec<Forecast>,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum After {
    /// Nothing was written.
    Nothing,
    /// The object is as it should be, and this was said.
    Is(Stored, Box<Said>),
    /// The object is gone, and nothing is said any more.
    Gone,
}

#[derive(Debug, Default)]
struct Entry {
    stored: Option<Stored>,
    said: Kept,
    writing: bool,
    missed: Option<Missed>,
    /// By the hash of their content.
    unanswered: Unanswered<u64, Telling>,
}

impl Entry {
    /// The workload that the object is said to be about.
    fn key(&self, namespace: &str) -> Option<WorkloadKey> {
        let unanswered = || {
            let workload = self.unanswered.last()?.said.workload.as_ref()?;
            Some(WorkloadKey::of(namespace.into(), workload))
        };
        self.said.key(namespace).or_else(unanswered)
    }

    /// The object holds this: what to tell now where that is a write that had no answer. From here on it was said.
    fn heard(&mut self, content_hash: u64) -> Option<Telling> {
        let telling = self.unanswered.heard(&content_hash)?;
        self.said = Kept::from(&telling.said);
        Some(telling)
    }

    fn is_empty(&self) -> bool {
        self.stored.is_none() && !self.said.is_about_a_workload() && self.unanswered.is_empty()
    }
}

/// What the watch saw while a write was under way.
#[derive(Debug)]
enum Missed {
    Is(Stored),
    Gone(Uid),
}

#[derive(Debug, Default)]
struct Book {
    /// Boxed, for a table is up to twice as large as what it holds.
    entries: HashMap<Place, Box<Entry>>,
    writes: bool,
}

/// The ledger. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    book: Arc<Mutex<Book>>,
    hasher: RandomState,
    strays: Arc<Notify>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica begins or ends to write.
    pub(crate) fn set_writes(&self, writes: bool) {
        self.lock().writes = writes;
    }

    /// Whether this replica writes.
    pub(crate) fn writes(&self) -> bool {
        self.lock().writes
    }

    /// A hash of everything that this operator writes, but for the workload's generation: that alone
    /// is no reason to write. The key of the hash is this process's own, so that nobody can prepare two
    /// contents with one hash.
    pub(crate) fn content_hash(&self, status: &ImageComplianceStatus, owners: &[OwnerReference]) -> u64 {
        let workload = status.workload.clone().map(|workload| WorkloadRef {
            observed_generation: None,
            ..workload
        });
        let content = (
            (&status.verdict, &workload, &status.conditions),
            (
                &status.images,
                &status.next_start,
                status.image_count,
                status.omitted,
            ),
            owners,
        );
        let mut hasher = self.hasher.build_hasher();
        match serde_json::to_vec(&content) {
            Ok(bytes) => hasher.write(&bytes),
            Err(error) => {
                tracing::error!(%error, "a status cannot be serialised and is written anew");
                hasher.write_u64(RandomState::new().build_hasher().finish());
            }
        }
        hasher.finish()
    }

    /// An object of the API server as the ledger keeps it.
    pub(crate) fn stored(&self, object: &ImageCompliance) -> Stored {
        let metadata = &object.metadata;
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        Stored {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            resource_version: ResourceVersion::of(metadata),
            content_hash: self.content_hash(&object.status, owners),
        }
    }

    /// The watch saw an object; says whether somebody else changed it and it must be put right.
    pub(crate) fn seen(&self, object: &ImageCompliance) -> bool {
        self.follow(object, |known, seen| seen.is_newer_than(known))
    }

    /// A list holds an object, as of a version of the store. What is older than what was known before is true all the
    /// same where the list is not older itself: the store was set back then. Says whether it must be put right.
    pub(crate) fn listed(&self, object: &ImageCompliance, at: &ResourceVersion, set_back: bool) -> bool {
        self.follow(object, |known, seen| {
            seen.is_newer_than(known) || (seen != known && (set_back || !known.is_newer_than(at)))
        })
    }

    /// Takes over what the API server holds where it is news: that depends on the version known and the one seen.
    fn follow(
        &self,
        object: &ImageCompliance,
        is_news: impl Fn(&ResourceVersion, &ResourceVersion) -> bool,
    ) -> bool {
        let Some(place) = Place::of_object(object) else {
            return false;
        };
        let stored = self.stored(object);
        let mut book = self.lock();
        let writes = book.writes;
        let entry = book.entries.entry(place).or_default();
        if entry.writing {
            entry.missed = Some(Missed::Is(stored));
            return false;
        }
        if entry
            .stored
            .as_ref()
            .is_some_and(|known| !is_news(&known.resource_version, &stored.resource_version))
        {
            return false;
        }
        let differs = entry
            .stored
            .as_ref()
            .is_none_or(|known| known.content_hash != stored.content_hash);
        let told_elsewhere = !entry.unanswered.wrote(&stored.content_hash);
        entry.stored = Some(stored);
        if told_elsewhere && (!writes || !entry.said.is_about_a_workload()) {
            entry.said = Kept::from(&Said::of(&object.status));
            entry.unanswered = Unanswered::default();
        }
        writes && differs
    }

    /// The watch saw that an object is gone; says whether it must be written again.
    pub(crate) fn gone(&self, place: &Place, uid: Option<&str>) -> bool {
        let mut book = self.lock();
        let writes = book.writes;
        let Some(entry) = book.entries.get_mut(place) else {
            return false;
        };
        let is_it = |stored: &Stored| uid.is_none_or(|uid| stored.uid == uid.into());
        if entry.writing {
            entry.missed = uid.map(|uid| Missed::Gone(uid.into()));
            return false;
        }
        if !entry.stored.as_ref().is_some_and(is_it) {
            return false;
        }
        if writes {
            entry.stored = None;
        } else {
            book.entries.remove(place);
        }
        writes
    }

    /// What was last said at this place.
    pub(crate) fn said(&self, place: &Place) -> Said {
        let book = self.lock();
        book.entries
            .get(place)
            .map(|entry| entry.said.said())
            .unwrap_or_default()
    }

    /// A write about this place begins. None where one is under way. A write before it that had no answer and was heard
    /// is to be told now.
    pub(crate) fn begin(&self, place: &Place) -> Option<(Before, Option<Telling>)> {
        let mut book = self.lock();
        let entry = book.entries.entry(place.clone()).or_default();
        if std::mem::replace(&mut entry.writing, true) {
            return None;
        }
        let shown = entry.stored.as_ref().map(|stored| stored.content_hash);
        let heard = shown.and_then(|shown| entry.heard(shown));
        let before = Before {
            stored: entry.stored.clone(),
            said: entry.said.said(),
        };
        Some((before, heard))
    }

    /// The write that is under way had no answer, or met what may be itself.
    pub(crate) fn had_no_answer(&self, place: &Place, content_hash: u64, telling: Telling) {
        if let Some(entry) = self.lock().entries.get_mut(place) {
            entry.unanswered.push(content_hash, telling);
        }
    }

    /// During a write: the object holds this. What to tell now, where that is a write that had no answer.
    pub(crate) fn heard(&self, place: &Place, content_hash: u64) -> Option<Telling> {
        self.lock().entries.get_mut(place)?.heard(content_hash)
    }

    /// A write about this place ended.
    pub(crate) fn end(&self, place: &Place, after: After) -> Meanwhile {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(place) else {
            return Meanwhile::Untouched;
        };
        entry.writing = false;
        match after {
            After::Nothing => {}
            After::Is(stored, said) => {
                entry.stored = Some(stored);
                entry.said = Kept::from(&*said);
                entry.unanswered = Unanswered::default();
            }
            After::Gone => {
                entry.stored = None;
                entry.said = Kept::default();
                entry.unanswered = Unanswered::default();
            }
        }
        let foreign = match entry.missed.take() {
            None => false,
            Some(Missed::Gone(uid)) => {
                let dead = entry.stored.as_ref().is_some_and(|stored| stored.uid == uid);
                if dead {
                    entry.stored = None;
                }
                dead
            }
            Some(Missed::Is(missed)) => {
                let newer = entry
                    .stored
                    .as_ref()
                    .is_none_or(|known| missed.resource_version.is_newer_than(&known.resource_version));
                let differs = entry
                    .stored
                    .as_ref()
                    .is_none_or(|known| known.content_hash != missed.content_hash);
                if newer {
                    entry.stored = Some(missed);
                }
                newer && differs
            }
        };
        if entry.is_empty() {
            book.entries.remove(place);
        }
        Meanwhile::of(foreign)
    }

    /// The workload that the object at this place was last said to be about.
    pub(crate) fn key_at(&self, place: &Place) -> Option<WorkloadKey> {
        self.lock().entries.get(place)?.key(&place.namespace)
    }

    /// Somebody created an object that is about no workload.
    pub(crate) fn report_stray(&self) {
        self.strays.notify_one();
    }

    /// Waits until somebody creates an object that is about no workload.
    pub(crate) async fn stray_reported(&self) {
        self.strays.notified().await;
    }

    /// Forgets writes that had no answer and were never heard.
    pub(crate) fn forget_unheard(&self) {
        self.lock().entries.retain(|_, entry| {
            let shown = entry.stored.as_ref().map(|stored| &stored.content_hash);
            entry.unanswered.forget_unheard(shown);
            entry.writing || !entry.is_empty()
        });
    }

    /// Every object that exists and is not being written, with the workload it is said to be about.
    pub(crate) fn objects(&self) -> Vec<(Place, Option<WorkloadKey>)> {
        let book = self.lock();
        let resting = book
            .entries
            .iter()
            .filter(|(_, entry)| entry.stored.is_some() && !entry.writing);
        resting
            .map(|(place, entry)| (place.clone(), entry.key(&place.namespace)))
            .collect()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
