//! Time that passes while requests wait for their turn at a registry that is asked slowly on purpose: no deadline counts it,
//! or a pace that an administrator set would look like a registry that hangs.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the requests of one task waited for their turn. Requests that wait at the same time count once.
#[derive(Debug, Default)]
pub struct Waits {
    state: Mutex<State>,
    /// The task that this one is a part of.
    outer: Option<Arc<Waits>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    since: Option<Instant>,
    ended: Duration,
}

impl Waits {
    /// Those of a part of a task; what they wait the whole waits as well.
    pub(crate) fn within(outer: Option<Arc<Waits>>) -> Self {
        Self {
            state: Mutex::default(),
            outer,
        }
    }

    /// A request waits until what is returned is dropped.
    pub(crate) fn begin(&self) -> Waiting<'_> {
        let mut state = self.state();
        state.waiting += 1;
        state.since.get_or_insert_with(Instant::now);
        drop(state);
        Waiting {
            waits: self,
            _outer: self.outer.as_deref().map(|outer| Box::new(outer.begin())),
        }
    }

    /// The sum so far.
    fn total(&self) -> Duration {
        let state = self.state();
        state.ended + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What of this time was not spent waiting. It must have begun when this did.
    pub fn left_out_of(&self, time: Duration) -> Duration {
        time.saturating_sub(self.total())
    }

    /// What the future gives; None where that takes longer than the limit, not counting the waits.
    pub async fn deadline<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let begin = Instant::now();
        let before = self.total();
        let mut future = pin!(future);
        loop {
            let spent = begin
                .elapsed()
                .saturating_sub(self.total().saturating_sub(before));
            let left = limit.checked_sub(spent).filter(|left| !left.is_zero())?;
            if let Ok(given) = tokio::time::timeout(left, &mut future).await {
                return Some(given);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that waits.
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    _outer: Option<Box<Waiting<'a>>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.waits.state();
        state.waiting -= 1;
        if state.waiting == 0
            && let Some(since) = state.since.take()
        {
            state.ended += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with `total` left out of what is spent.
    #[tokio::test]
    async fn a_deadline_does_not_count_what_was_waited_and_counts_everything_else() {
        let whole = Arc::new(Waits::default());
        let part = Waits::within(Some(whole.clone()));
        let (limit, wait) = (Duration::from_secs(2), Duration::from_secs(3));
        let waits_and_works = |work: Duration| {
            let part = &part;
            async move {
                let waiting = (part.begin(), part.begin());
                tokio::time::sleep(wait).await;
                drop(waiting);
                tokio::time::sleep(work).await;
            }
        };
        assert_eq!(
            whole.deadline(limit, waits_and_works(Duration::ZERO)).await,
            Some(())
        );
        assert_eq!(whole.deadline(limit, waits_and_works(limit * 20)).await, None);
        assert!(whole.total() >= wait * 2);
        assert!(whole.left_out_of(wait * 2 + limit * 2) <= limit * 2);
    }
}
