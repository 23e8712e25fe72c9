//! Remembering what was worked out once: evaluation is repeated at every edit and deadline, and what an attestation
//! says does not change. Nothing but time is saved: what is remembered is a function of its key.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many answers are remembered; past it all are forgotten.
const CAPACITY: usize = 32_768;

/// Answers by key, shared by all clones.
pub(crate) struct Memo<K, V>(Arc<Mutex<HashMap<K, V>>>);

impl<K, V> Clone for Memo<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> fmt::Debug for Memo<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// The answer for the key, worked out if it is not remembered. That there is none is not remembered.
    pub(crate) fn get<E>(&self, key: K, work_out: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let answer = work_out()?;
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= CAPACITY {
            answers.clear();
        }
        answers.insert(key, answer.clone());
        Ok(answer)
    }
}
