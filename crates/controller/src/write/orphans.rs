//! Finds ImageCompliances that nobody will tell of: their workload went while nobody looked, or there
//! never was one.

use std::sync::Arc;
use std::time::Duration;

use engine::{Stopped, Target, WorkloadKey};
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
enum Fate {
    /// Its workload runs: the engine tells of it.
    Alive,
    /// Nothing of its workload runs.
    Resting(WorkloadKey),
    /// It is named otherwise than any object this operator writes, or names no workload.
    Stray,
}

fn judge(place: &Place, key: Option<WorkloadKey>, runs: impl Fn(&WorkloadKey) -> bool) -> Fate {
    match key {
        Some(key) if Place::of(&key) != *place => Fate::Stray,
        Some(key) if runs(&key) => Fate::Alive,
        Some(key) => Fate::Resting(key),
        None => Fate::Stray,
    }
}

impl Writer {
    /// Sweeps as soon as it is known what runs, and from time to time, until `stop`.
    pub(super) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut pods_told = self.pods_told.clone();
        tokio::select! {
            told = pods_told.wait_for(|told| *told) => if told.is_err() { return },
            () = stop.cancelled() => return,
        }
        loop {
            if self.sweep_once(&stop).await.is_err() {
                tracing::debug!("the engine stopped before a sweep ended");
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                () = self.ledger.stray_reported() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn sweep_once(&self, stop: &CancellationToken) -> Result<(), Stopped> {
        self.ledger.forget_unheard();
        for (place, key) in self.ledger.objects() {
            match judge(&place, key, |key| self.roster.runs(key)) {
                Fate::Alive => continue,
                Fate::Stray => self.remove_stray(&place).await,
                Fate::Resting(key) => self.rest(&place, &key).await?,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => break,
            }
        }
        Ok(())
    }

    /// Says that nothing runs, or deletes what belonged to a workload that is gone.
    async fn rest(&self, place: &Place, key: &WorkloadKey) -> Result<(), Stopped> {
        let Some(before) = self.begin(place) else {
            return Ok(());
        };
        let is_said = says_that_nothing_runs(&before.said);
        let ended = if is_said && self.exists(key, before.said.uid()).await != Existence::No {
            self.ended(place, After::Nothing, None)
        } else {
            // A pod may have started meanwhile; then the engine tells of it, and puts right what is written here.
            self.do_work(key, place, before, Work::Rest).await
        };
        match ended.again {
            Some(pause) => self.engine.wanted(Target::Workload(key.clone()), pause).await,
            None => Ok(()),
        }
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
    use crate::ledger::Ledger;
    use crate::testing::ApiServer;
    use api::ImageCompliance;
    use axum::http::Method;
    use engine::{Fact, WorkloadNames};
    use serde_json::json;

    fn key() -> WorkloadKey {
        WorkloadKey::from(WorkloadNames {
            namespace: "shop".into(),
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "web".into(),
        })
    }

    #[test]
    fn only_objects_of_which_nothing_runs_are_looked_at() {
        let place = Place::of(&key());
        assert_eq!(judge(&place, Some(key()), |_| true), Fate::Alive);
        assert_eq!(judge(&place, Some(key()), |_| false), Fate::Resting(key()));
    }

    fn compliance(version: &str, verdict: &str) -> ImageCompliance {
        let object = json!({
            "metadata": {"namespace": "shop", "name": "deployment-web", "uid": "c", "resourceVersion": version},
            "status": {
                "verdict": verdict,
                "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d"},
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[tokio::test]
    async fn what_somebody_else_does_while_a_sweep_writes_is_put_right() {
        let ledger = Ledger::default();
        ledger.seen(&compliance("1", "Violating"));
        ledger.set_writes(true);
        let watched = ledger.clone();
        let server = ApiServer::start(move |request| match request.method {
            Method::GET => (
                200,
                json!({"metadata": {"name": "web", "namespace": "shop", "uid": "d"}}),
            ),
            _ => {
                watched.seen(&compliance("9", "Compliant"));
                let mut written = request.body.clone();
                written["metadata"]["resourceVersion"] = json!("2");
                (200, written)
            }
        });
        let writer = crate::testing::writer(&server, ledger);
        writer.engine.tell(Fact::Synced).await.unwrap();
        writer.sweep_once(&CancellationToken::new()).await.unwrap();
        let wanted = tokio::time::timeout(Duration::from_secs(60), writer.engine.next_update());
        let target = wanted
            .await
            .expect("the object is looked at again")
            .unwrap()
            .target();
        assert_eq!(target, Target::Workload(key()));
    }

    /// B31.
    #[test]
    fn an_object_that_no_answer_of_this_operator_is_named_like_is_a_stray() {
        let forged = Place {
            namespace: "shop".into(),
            name: "web-is-fine".into(),
        };
        assert_eq!(judge(&forged, Some(key()), |_| true), Fate::Stray);
        assert_eq!(judge(&forged, None, |_| true), Fate::Stray);
    }
}
