//! Finds ImageCompliances that nobody will tell of: their workload went while nobody looked, or there
//! never was one.

use std::sync::Arc;
use std::time::Duration;

use engine::WorkloadKey;
use tokio_util::sync::CancellationToken;

use super::Writer;
use super::workloads::{Existence, Work};
use crate::ledger::{After, Place};
use crate::said::Said;

/// How often it is looked for orphans; also at the begin of each term of writing, and when a stray shows.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Between two orphans, so that a sweep never crowds out anything else.
const PAUSE: Duration = Duration::from_millis(50);

/// What an object is to be treated as.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its workload runs: the engine tells of it.
    Alive,
    /// Nothing of its workload runs.
    Resting(WorkloadKey),
    /// It is named otherwise than any object this operator writes, or names no workload.
    Stray,
}

fn judge(place: &Place, key: Option<WorkloadKey>, runs: impl Fn(&WorkloadKey) -> bool) -> Verdict {
    match key {
        Some(key) if Place::of(&key) != *place => Verdict::Stray,
        Some(key) if runs(&key) => Verdict::Alive,
        Some(key) => Verdict::Resting(key),
        None => Verdict::Stray,
    }
}

impl Writer {
    /// Sweeps as soon as it is known what runs, and from time to time, until `stop`.
    pub(super) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut all_told = self.all_told.clone();
        tokio::select! {
            told = all_told.wait_for(|told| *told) => if told.is_err() { return },
            () = stop.cancelled() => return,
        }
        loop {
            self.sweep_once(&stop).await;
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                () = self.ledger.stray_reported() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn sweep_once(&self, stop: &CancellationToken) {
        for (place, key) in self.ledger.objects() {
            match judge(&place, key, |key| self.roster.runs(key)) {
                Verdict::Alive => continue,
                Verdict::Stray => self.remove_stray(&place).await,
                Verdict::Resting(key) => self.rest(&place, &key).await,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Says that nothing runs, or deletes what belonged to a workload that is gone.
    async fn rest(&self, place: &Place, key: &WorkloadKey) {
        let Some(before) = self.ledger.begin(place) else {
            return;
        };
        if says_that_nothing_runs(&before.said) && self.exists(key, before.said.uid()).await != Existence::No
        {
            self.ledger.end(place, After::Nothing);
            return;
        }
        // A pod may have started meanwhile; then the engine tells of it, and puts right what is written here.
        self.do_work(key, place, before, Work::Rest).await;
    }
}

fn says_that_nothing_runs(said: &Said) -> bool {
    let nothing = api::Reason::NothingRunning.as_str();
    said.conditions
        .iter()
        .any(|condition| condition.reason == nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> WorkloadKey {
        WorkloadKey {
            namespace: "shop".into(),
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        }
    }

    #[test]
    fn only_objects_of_which_nothing_runs_are_looked_at() {
        let place = Place::of(&key());
        assert_eq!(judge(&place, Some(key()), |_| true), Verdict::Alive);
        assert_eq!(judge(&place, Some(key()), |_| false), Verdict::Resting(key()));
    }

    /// B31.
    #[test]
    fn an_object_that_no_answer_of_this_operator_is_named_like_is_a_stray() {
        let forged = Place {
            namespace: "shop".into(),
            name: "web-is-fine".into(),
        };
        assert_eq!(judge(&forged, Some(key()), |_| true), Verdict::Stray);
        assert_eq!(judge(&forged, None, |_| true), Verdict::Stray);
    }
}
