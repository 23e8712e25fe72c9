//! When each subject is looked up again: at once when new, on its policies' interval or schedule,
//! and after 30 s doubling where something is missing or unknown.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::subject::SubjectKey;

/// The first pause before a failing subject is asked again.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(30);
/// The share of the time to the next check by which checks are spread, in parts of a hundred.
const SPREAD_PERCENT: i64 = 10;

/// The state of one subject in the schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// When it is due; None where nothing asks for it.
    pub(crate) due: Option<Timestamp>,
    /// The pause after the last failing attempt.
    pub(crate) pause: Option<Duration>,
    /// A look-up is under way.
    pub(crate) in_flight: bool,
}

impl Plan {
    /// The next pause of a failing subject: 30 s, doubling up to `limit`, never below what the
    /// registry asked for.
    pub(crate) fn next_pause(&self, limit: Duration, asked_for: Option<Duration>) -> Duration {
        let doubled = self.pause.map_or(FIRST_RETRY, |pause| pause.saturating_mul(2));
        doubled
            .min(limit.max(Duration::from_secs(1)))
            .max(asked_for.unwrap_or(Duration::ZERO))
    }
}

/// A share of the way from `now` to `due`, by which regular checks come early so that the checks of a fleet do not fall
/// together. It is the same for the same subject in one process, and another one in each: replicas do not ask for the same
/// at the same moment.
pub(crate) fn spread(key: &impl Hash, now: Timestamp, due: Timestamp) -> Timestamp {
    static OF_THIS_PROCESS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let share = i64::try_from(OF_THIS_PROCESS.hash_one(key) % 1000).unwrap_or(0);
    let whole = due.as_millisecond().saturating_sub(now.as_millisecond()).max(0);
    let early = whole * SPREAD_PERCENT / 100 * share / 1000;
    due.checked_sub(SignedDuration::from_millis(early)).unwrap_or(due)
}

/// `time + pause`, at the end of time at the latest.
pub(crate) fn after(time: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause)
        .ok()
        .and_then(|pause| time.checked_add(pause).ok())
        .unwrap_or(Timestamp::MAX)
}

/// So long before a time.
pub(crate) fn before(time: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause)
        .ok()
        .and_then(|pause| time.checked_sub(pause).ok())
        .unwrap_or(Timestamp::MIN)
}

/// Subjects, or others that are asked for, in order of a time.
#[derive(Debug)]
pub(crate) struct Agenda<K = SubjectKey> {
    entries: BTreeSet<(Timestamp, K)>,
}

impl<K: Ord> Default for Agenda<K> {
    fn default() -> Self {
        Agenda {
            entries: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Agenda<K> {
    /// Moves an entry from its old time to a new one.
    pub(crate) fn set(&mut self, key: &K, old: Option<Timestamp>, new: Option<Timestamp>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.entries.remove(&(old, key.clone()));
        }
        if let Some(new) = new {
            self.entries.insert((new, key.clone()));
        }
    }

    /// Takes the first entry whose time has come, with that time.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        let (time, _) = self.entries.first()?;
        if *time > now {
            return None;
        }
        self.entries.pop_first()
    }

    /// The next time at which something is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.entries.first().map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> SubjectKey {
        let reference: image::Reference = format!("r.example/{path}").parse().unwrap();
        SubjectKey::of_the_operator(reference.repository, image::Digest::sha256(path.as_bytes()))
    }

    #[test]
    fn pauses_double_from_thirty_seconds_up_to_the_interval() {
        let mut plan = Plan::default();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let pause = plan.next_pause(Duration::from_secs(200), None);
            pauses.push(pause.as_secs());
            plan.pause = Some(pause);
        }
        assert_eq!(pauses, [30, 60, 120, 200, 200]);
    }

    #[test]
    fn a_registry_that_asks_to_wait_longer_is_heeded() {
        let pause = Plan::default().next_pause(Duration::from_secs(10), Some(Duration::from_secs(300)));
        assert_eq!(pause.as_secs(), 300);
    }

    #[test]
    fn checks_come_at_most_a_tenth_early_and_never_late() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let due = Timestamp::from_second(1_001_000).unwrap();
        let times: BTreeSet<_> = (0..200)
            .map(|n| spread(&key(&format!("i{n}")), now, due))
            .collect();
        assert!(
            times
                .iter()
                .all(|time| *time <= due && time.as_second() >= 1_000_900)
        );
        assert!(times.len() > 50, "checks are spread");
    }

    #[test]
    fn the_agenda_gives_what_is_due_in_order_and_nothing_else() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut agenda = Agenda::default();
        agenda.set(&key("late"), None, Some(at(30)));
        agenda.set(&key("first"), None, Some(at(10)));
        agenda.set(&key("moved"), None, Some(at(5)));
        agenda.set(&key("moved"), Some(at(5)), Some(at(40)));
        assert_eq!(agenda.pop_due(at(20)), Some((at(10), key("first"))));
        assert_eq!(agenda.pop_due(at(20)), None);
        assert_eq!(agenda.next(), Some(at(30)));
    }
}
