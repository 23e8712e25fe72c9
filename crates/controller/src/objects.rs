//! What the API server holds of the kinds that become facts apart from their specs: uid, version and status.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube::api::DynamicObject;
use serde::de::DeserializeOwned;

use crate::events::Note;
use crate::unanswered::Unanswered;
use crate::versions::{Meanwhile, ResourceVersion};

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Row<S> {
    pub(crate) uid: String,
    pub(crate) resource_version: ResourceVersion,
    pub(crate) generation: i64,
    /// A hash of the spec: a store that was set back gives a generation a second time.
    spec: u64,
    pub(crate) status: S,
    /// When this process last wrote the status.
    pub(crate) written: Option<Instant>,
    /// Writes of the status that were news and had no answer.
    pub(crate) unanswered: Unanswered<S, Note>,
    writing: bool,
}

/// The objects of one kind by name. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Objects<S> {
    rows: Arc<Mutex<BTreeMap<Arc<str>, Row<S>>>>,
}

impl<S> Clone for Objects<S> {
    fn clone(&self) -> Self {
        Objects {
            rows: self.rows.clone(),
        }
    }
}

impl<S> Default for Objects<S> {
    fn default() -> Self {
        Objects { rows: Arc::default() }
    }
}

/// What seeing an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The object is new, or its spec is.
    pub(crate) spec: bool,
    /// Only its status changed, and no write of this process is under way.
    pub(crate) status: bool,
}

impl<S: Clone + PartialEq + Default + DeserializeOwned> Objects<S> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Row<S>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object looks like this.
    pub(crate) fn seen(&self, name: &Arc<str>, row: Row<S>) -> Change {
        let mut rows = self.lock();
        let before = rows.get(name).filter(|before| before.uid == row.uid);
        let same_spec =
            before.is_some_and(|before| (before.generation, before.spec) == (row.generation, row.spec));
        let writing = before.is_some_and(|before| before.writing);
        let differs = before.is_some_and(|before| before.status != row.status);
        let written = before.and_then(|before| before.written);
        // What somebody else wrote in its place is not told.
        let unanswered = before
            .map(|before| &before.unanswered)
            .filter(|unanswered| !differs || unanswered.wrote(&row.status));
        let unanswered = unanswered.cloned().unwrap_or_default();
        rows.insert(
            name.clone(),
            Row {
                written,
                unanswered,
                writing,
                ..row
            },
        );
        Change {
            spec: !same_spec,
            status: same_spec && differs && !writing,
        }
    }

    pub(crate) fn gone(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(crate) fn uid(&self, name: &str) -> Option<String> {
        self.lock().get(name).map(|row| row.uid.clone())
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Something of the status of each, in order of name.
    pub(crate) fn each<T>(&self, of: impl Fn(&Arc<str>, &S) -> T) -> Vec<T> {
        self.lock()
            .iter()
            .map(|(name, row)| of(name, &row.status))
            .collect()
    }

    /// A write of the status begins. None where the object is gone or a write is under way. The news of a write before it
    /// that had no answer and was heard is to be told now.
    pub(crate) fn begin(&self, name: &str) -> Option<(Row<S>, Option<Note>)> {
        let mut rows = self.lock();
        let row = rows.get_mut(name).filter(|row| !row.writing)?;
        row.writing = true;
        let heard = row.heard();
        Some((row.clone(), heard))
    }

    /// The write of the status that is under way had no answer.
    pub(crate) fn had_no_answer(&self, name: &str, uid: &str, status: S, note: Note) {
        if let Some(row) = self.lock().get_mut(name).filter(|row| row.uid == uid) {
            row.unanswered.push(status, note);
        }
    }

    /// A write of the status ended, with the object as the API server holds it where it is known.
    pub(crate) fn end(&self, name: &str, now: Option<Row<S>>) -> Meanwhile {
        let mut rows = self.lock();
        let Some(row) = rows.get_mut(name) else {
            return Meanwhile::Untouched;
        };
        row.writing = false;
        let Some(now) = now.filter(|now| now.uid == row.uid) else {
            return Meanwhile::Untouched;
        };
        row.written = now.written.or(row.written);
        row.unanswered = Unanswered::default();
        if row.resource_version.is_newer_than(&now.resource_version) {
            let changed = row.generation == now.generation && row.status != now.status;
            return Meanwhile::of(changed);
        }
        // The spec stays the one that the watch showed: a newer one that the write met is told when the watch shows it.
        *row = Row {
            generation: row.generation,
            spec: row.spec,
            written: row.written,
            writing: false,
            ..now
        };
        Meanwhile::Untouched
    }
}

impl<S: PartialEq> Row<S> {
    /// The news of a write that had no answer, where the status shows that it was heard.
    pub(crate) fn heard(&mut self) -> Option<Note> {
        self.unanswered.heard(&self.status)
    }
}

impl<S> Row<S> {
    /// The same row, written by this process at that time.
    pub(crate) fn written_at(self, time: Instant) -> Self {
        Row {
            written: Some(time),
            ..self
        }
    }
}

impl<S: Default + DeserializeOwned> Row<S> {
    /// The row of an object; a status that cannot be read counts as absent, and is written anew.
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let status = object.data.get("status").cloned().unwrap_or_default();
        Row {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            resource_version: ResourceVersion::of(&object.metadata),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: spec_hash(object),
            status: serde_json::from_value(status).unwrap_or_default(),
            written: None,
            unanswered: Unanswered::default(),
            writing: false,
        }
    }
}

/// What is logged of an object that cannot be read.
pub(crate) const UNREADABLE: &str = "an object cannot be read as it is written: mend the field that is named, or apply the \
    definitions of this version (kubectl apply -k crds)";

/// The spec of an object, or why it cannot be read.
pub(crate) fn read_spec<Spec: DeserializeOwned>(object: &DynamicObject) -> Result<Spec, String> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).map_err(|error| format!("spec cannot be read: {error}"))
}

/// A hash of an object's spec. The key of the hash is this process's own, so that nobody can prepare two specs with one.
pub(crate) fn spec_hash(object: &DynamicObject) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(object.data.get("spec").map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ImagePolicyStatus;
    use serde_json::json;

    fn row(uid: &str, generation: i64, status: serde_json::Value) -> Row<ImagePolicyStatus> {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"name": "p", "uid": uid, "generation": generation, "resourceVersion": "1"},
            "status": status,
        });
        Row::of(&serde_json::from_value(object).unwrap())
    }

    /// F15.
    #[test]
    fn f15_a_generation_that_comes_a_second_time_with_another_spec_is_a_change_of_the_spec() {
        let (objects, name): (Objects<ImagePolicyStatus>, Arc<str>) = (Objects::default(), "p".into());
        let with = |description: &str| {
            let object = json!({
                "apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy",
                "metadata": {"name": "p", "uid": "u", "generation": 5, "resourceVersion": "1"},
                "spec": {"description": description},
            });
            Row::of(&serde_json::from_value(object).unwrap())
        };
        assert!(objects.seen(&name, with("one")).spec);
        assert!(!objects.seen(&name, with("one")).spec);
        assert!(objects.seen(&name, with("other")).spec);
    }

    #[test]
    fn a_change_of_the_status_alone_is_no_change_of_the_spec() {
        let objects = Objects::default();
        let name: Arc<str> = "p".into();
        assert_eq!(
            objects.seen(&name, row("u", 1, json!(null))),
            Change {
                spec: true,
                status: false
            }
        );
        assert_eq!(
            objects.seen(&name, row("u", 1, json!({"images": 1}))),
            Change {
                spec: false,
                status: true
            }
        );
        assert_eq!(
            objects.seen(&name, row("u", 1, json!({"images": 1}))),
            Change {
                spec: false,
                status: false
            }
        );
        assert_eq!(
            objects.seen(&name, row("u", 2, json!({"images": 1}))),
            Change {
                spec: true,
                status: false
            }
        );
        assert_eq!(
            objects.seen(&name, row("v", 2, json!({"images": 1}))),
            Change {
                spec: true,
                status: false
            }
        );
    }

    #[test]
    fn a_status_of_another_shape_counts_as_absent() {
        assert_eq!(
            row("u", 1, json!({"images": "many"})).status,
            ImagePolicyStatus::default()
        );
    }

    fn at(version: &str, row: Row<ImagePolicyStatus>) -> Row<ImagePolicyStatus> {
        Row {
            resource_version: version.into(),
            written: Some(Instant::now()),
            ..row
        }
    }

    #[test]
    fn ones_own_write_is_no_change_whichever_comes_first() {
        let objects = Objects::default();
        let name: Arc<str> = "p".into();
        objects.seen(&name, row("u", 1, json!(null)));
        assert!(objects.begin("p").is_some());
        assert!(objects.begin("p").is_none(), "one write at a time");
        let own = || at("2", row("u", 1, json!({"images": 1})));
        assert!(!objects.seen(&name, own()).status);
        assert_eq!(objects.end("p", Some(own())), Meanwhile::Untouched);
        assert!(!objects.seen(&name, own()).status);
        assert!(objects.begin("p").unwrap().0.written.is_some());
    }

    #[test]
    fn a_foreign_edit_during_a_write_is_not_lost() {
        let objects = Objects::default();
        let name: Arc<str> = "p".into();
        objects.seen(&name, row("u", 1, json!(null)));
        objects.begin("p");
        objects.seen(&name, at("3", row("u", 1, json!({"images": 9}))));
        assert_eq!(
            objects.end("p", Some(at("2", row("u", 1, json!({"images": 1}))))),
            Meanwhile::ChangedByOthers
        );
        assert_eq!(objects.begin("p").unwrap().0.resource_version, "3".into());
    }

    /// F15, F17: a write that conflicts reads the object anew, and may see an edit before the watch does. Weakened once:
    /// with the spec of what the write ended with, the edit is never told, not by a list either.
    #[test]
    fn an_edit_that_a_write_met_before_the_watch_is_still_a_change_of_the_spec() {
        let objects = Objects::default();
        let name: Arc<str> = "p".into();
        objects.seen(&name, row("u", 1, json!(null)));
        objects.begin("p");
        let met = at("3", row("u", 2, json!({"images": 1})));
        assert_eq!(objects.end("p", Some(met)), Meanwhile::Untouched);
        assert_eq!(objects.begin("p").unwrap().0.resource_version, "3".into());
        assert!(objects.seen(&name, at("2", row("u", 2, json!(null)))).spec);
        assert!(
            !objects
                .seen(&name, at("3", row("u", 2, json!({"images": 1}))))
                .spec
        );
    }

    #[test]
    fn a_write_about_a_predecessor_says_nothing_of_its_successor() {
        let objects = Objects::default();
        let name: Arc<str> = "p".into();
        objects.seen(&name, row("u", 1, json!(null)));
        objects.begin("p");
        objects.seen(&name, row("v", 1, json!(null)));
        assert_eq!(
            objects.end("p", Some(at("2", row("u", 1, json!({"images": 1}))))),
            Meanwhile::Untouched
        );
        let now = objects.begin("p").unwrap().0;
        assert_eq!((now.uid.as_str(), now.written), ("v", None));
    }

    /// A write of this status had no answer.
    fn unanswered(objects: &Objects<ImagePolicyStatus>, uid: &str, status: serde_json::Value) {
        let note = crate::write::news::policy_changed("p", "u".to_owned(), 1, 2);
        objects.begin("p");
        objects.had_no_answer("p", uid, row("u", 1, status).status, note);
        let _ = objects.end("p", None);
    }

    #[test]
    fn what_was_written_without_an_answer_is_told_once_when_it_shows() {
        let (objects, name): (_, Arc<str>) = (Objects::default(), "p".into());
        let begun = || {
            let (_, heard) = objects.begin("p").unwrap();
            let _ = objects.end("p", None);
            heard.is_some()
        };
        objects.seen(&name, row("u", 1, json!(null)));
        unanswered(&objects, "u", json!({"images": 7}));
        assert!(!begun(), "it does not show yet");
        objects.seen(&name, row("u", 1, json!({"images": 7})));
        assert!(begun());
        assert!(!begun());

        unanswered(&objects, "u", json!({"images": 8}));
        objects.seen(&name, row("u", 1, json!({"images": 9})));
        objects.seen(&name, row("u", 1, json!({"images": 8})));
        assert!(!begun(), "somebody else wrote that");

        unanswered(&objects, "predecessor", json!({"images": 8}));
        assert!(!begun(), "that was about another object of the name");
    }
}
