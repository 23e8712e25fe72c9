//! Looks that people ask for: what a policy covers is due at once, never more often than [`PAUSE`], and nothing that was
//! looked at since it was asked.
//!
//! Only whoever may write the policy can ask. The limits of registries hold as for every other look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::Engine;
use crate::schedule::after;
use crate::subject::{Subject, SubjectKey};

/// What one policy covers is asked for no sooner again.
pub(crate) const PAUSE: Duration = Duration::from_secs(300);

/// The last request for each policy, and when what it asked for was due.
#[derive(Debug, Default)]
pub(crate) struct Requested(BTreeMap<Arc<str>, (Timestamp, Timestamp)>);

impl Requested {
    /// When what is asked for is due; None where it was asked for before.
    fn due(&mut self, policy: &Arc<str>, at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let before = self.0.get(policy).copied();
        if before.is_some_and(|(asked, _)| asked == at) {
            return None;
        }
        let due = match before {
            // What waits for its time already answers this request too.
            Some((_, due)) if due > now => due,
            Some((_, due)) => after(due, PAUSE).max(now),
            None => now,
        };
        self.0.insert(policy.clone(), (at, due));
        Some(due)
    }
}

impl Engine {
    /// Everything that the policy covers is due, unless it was looked at since. A time in the future is now.
    pub(crate) fn recheck_requested(&mut self, policy: Arc<str>, at: Timestamp, now: Timestamp) {
        if !self.policies.contains_key(&policy) {
            return;
        }
        let Some(due) = self.requested.due(&policy, at, now) else {
            return;
        };
        // It is told in whole seconds: what was looked at within that second may have been looked at before.
        let at = at
            .saturating_add(SignedDuration::from_secs(1))
            .map_or(now, |end| end.min(now));
        let is_meant = |subject: &&Subject| {
            subject.covering.contains(&policy)
                && !subject.plan.in_flight
                && subject.checked.is_none_or(|checked| checked < at)
                && subject.plan.due.is_none_or(|planned| planned > due)
        };
        let meant: Vec<SubjectKey> = self
            .subjects
            .values()
            .filter(is_meant)
            .map(|subject| subject.key.clone())
            .collect();
        for key in meant {
            self.set_due(&key, Some(due));
        }
    }
}
