//! Single flight: calls for the same thing at the same time share one answer (C2.01).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What is under way, by what it is for. Nothing is kept after the last call that waits for it.
pub(crate) struct Flights<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

type Slot<V> = Arc<tokio::sync::Mutex<Option<(Instant, V)>>>;

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// The answer of `call`, or that of a call for the same key that ended after this one began. A call that is
    /// given up by its caller is made anew by the next that waits.
    pub(crate) async fn share(&self, key: &K, call: impl Future<Output = V>) -> V {
        let begin = Instant::now();
        let waiting = Waiting {
            flights: self,
            key,
            slot: Some(self.slot(key)),
        };
        let Some(slot) = &waiting.slot else {
            return call.await;
        };
        let mut answer = slot.lock().await;
        if let Some((when, shared)) = &*answer
            && *when >= begin
        {
            return shared.clone();
        }
        let own = call.await;
        *answer = Some((Instant::now(), own.clone()));
        own
    }

    fn slot(&self, key: &K) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key.clone()).or_default().clone()
    }
}

/// A call that waits or flies; the last one takes the slot away.
struct Waiting<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: &'a K,
    slot: Option<Slot<V>>,
}

impl<K: Eq + Hash, V> Drop for Waiting<'_, K, V> {
    fn drop(&mut self) {
        let mut slots = self.flights.slots.lock().unwrap_or_else(PoisonError::into_inner);
        self.slot = None;
        if slots
            .get(self.key)
            .is_some_and(|slot| Arc::strong_count(slot) == 1)
        {
            slots.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn c2_01_calls_at_once_share_one_answer_and_later_ones_do_not() {
        let flights = Flights::default();
        let calls = AtomicUsize::new(0);
        let call = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            calls.fetch_add(1, Ordering::SeqCst)
        };
        let all = futures::future::join_all((0..500).map(|_| flights.share(&"a", call()))).await;
        assert!(all.iter().all(|answer| *answer == 0));
        let (same, other) = tokio::join!(flights.share(&"a", call()), flights.share(&"b", call()));
        assert_ne!(same, other);
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert!(flights.slots.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_is_made_anew() {
        let flights = Flights::default();
        let stuck = tokio::time::timeout(
            Duration::from_millis(20),
            flights.share(&1, std::future::pending::<u32>()),
        );
        let waiting = flights.share(&1, async { 7 });
        let (stuck, waiting) = tokio::join!(stuck, waiting);
        assert!(stuck.is_err());
        assert_eq!(waiting, 7);
        assert!(flights.slots.lock().unwrap().is_empty());
    }
}
