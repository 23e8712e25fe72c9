//! Whether the loops are alive and whether everything that existed at the start was seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior};

/// A loop that shows no sign of life for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// How often a loop that has nothing to do shows a sign of life.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// Ticks when a loop is to show a sign of life, the first time at once. To be made once a loop, outside
/// of it: one that is made anew in every round ticks at once in every round. Ticks that a loop was too
/// busy for are not made up for.
pub(crate) fn pulse() -> Interval {
    let mut pulse = tokio::time::interval(BEAT_EVERY);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

/// The state of the process as `/healthz` and `/readyz` show it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    beats: BTreeMap<&'static str, Instant>,
    ready: bool,
    ends: bool,
}

impl Health {
    /// The loop of this name is alive.
    pub(crate) fn beat(&self, name: &'static str) {
        self.with(|state| state.beats.insert(name, Instant::now()));
    }

    /// The lists are synced and told, and the policies compiled.
    pub(crate) fn set_ready(&self) {
        self.with(|state| state.ready = true);
    }

    /// The process ends: it is not ready any more, whatever comes.
    pub(crate) fn set_ending(&self) {
        self.with(|state| state.ends = true);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.with(|state| state.ready && !state.ends)
    }

    /// The loops that are stuck.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<&'static str> {
        let is_stuck = |beat: Instant| now.saturating_duration_since(beat) > STUCK_AFTER;
        self.with(|state| {
            state
                .beats
                .iter()
                .filter(|(_, beat)| is_stuck(**beat))
                .map(|(name, _)| *name)
                .collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_is_never_ready_again() {
        let health = Health::default();
        assert!(!health.is_ready());
        health.set_ready();
        assert!(health.is_ready());
        health.set_ending();
        health.set_ready();
        assert!(!health.is_ready());
    }

    #[test]
    fn a_loop_without_a_sign_of_life_is_named() {
        let health = Health::default();
        health.beat("pods");
        let now = Instant::now();
        assert!(health.stuck(now).is_empty());
        assert_eq!(health.stuck(now + STUCK_AFTER + Duration::from_secs(1)), ["pods"]);
    }
}
