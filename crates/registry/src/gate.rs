//! At most so many calls to one registry at a time, so that a slow one holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Above this many registries, those without a call under way are forgotten.
const REMEMBERED: usize = 1024;

pub(crate) struct Gates {
    width: usize,
    registries: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Gates {
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            registries: Mutex::default(),
        }
    }

    /// Waits for a turn. `None` only if the semaphore was closed, which nothing does.
    pub(crate) async fn enter(&self, registry: &str) -> Option<OwnedSemaphorePermit> {
        let gate = self.gate(registry);
        gate.acquire_owned().await.ok()
    }

    fn gate(&self, registry: &str) -> Arc<Semaphore> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = registries.get(registry) {
            return gate.clone();
        }
        if registries.len() >= REMEMBERED {
            registries.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let gate = Arc::new(Semaphore::new(self.width));
        registries.insert(registry.to_owned(), gate.clone());
        gate
    }
}
