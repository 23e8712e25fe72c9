//! What totals say of the statuses that are still to be written: totals are ahead of them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::core::Engine;
use crate::report::{Target, Update};
use crate::totals::gathered;

/// Whose totals said that statuses are still to be written.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    targets: BTreeSet<Target>,
}

impl Engine {
    /// Notes in totals how many statuses of workloads are still to be written, in the whole cluster.
    pub(crate) fn note_pending(&mut self, update: &mut Update) {
        let pending = self.queue.waiting_workloads();
        let noted = match update {
            Update::Policy(_, Some(report)) => &mut report.pending_status_writes,
            Update::Key(_, Some(report)) => &mut report.pending_status_writes,
            _ => return,
        };
        *noted = i64::try_from(pending).unwrap_or(i64::MAX);
        if pending > 0 {
            self.ahead.targets.insert(update.target());
        }
    }

    /// What was handed over is written, or wanted again at a time. When the last workload is written, what totals said
    /// of pending ones is wrong.
    pub(crate) fn done(&mut self, target: Target, again_at: Option<Timestamp>, now: Timestamp) {
        self.queue.done(target, again_at);
        if self.ahead.targets.is_empty() || self.queue.waiting_workloads() > 0 {
            return;
        }
        for target in std::mem::take(&mut self.ahead.targets) {
            self.queue.push_gathered(target, gathered(now));
        }
    }
}
