//! Which top-level workloads run at least one pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Workload, WorkloadKey};

/// Workloads, each with its number of pods.
type Running = HashMap<WorkloadKey, (Arc<Workload>, usize)>;

/// The workloads that run. Shared with whoever sweeps orphans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    running: Arc<Mutex<Running>>,
}

impl Roster {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more pod of the workload runs; gives the one copy that all its pods share.
    pub(crate) fn enter(&self, workload: Workload) -> Arc<Workload> {
        let mut running = self.lock();
        let (shared, pods) = running
            .entry(workload.key.clone())
            .or_insert_with(|| (Arc::new(workload.clone()), 0));
        *pods += 1;
        if **shared != workload {
            // The names are kept that others hold already.
            let key = shared.key.clone();
            *shared = Arc::new(Workload { key, ..workload });
        }
        shared.clone()
    }

    /// One pod less of the workload runs.
    pub(crate) fn leave(&self, key: &WorkloadKey) {
        let mut running = self.lock();
        if let Some((_, pods)) = running.get_mut(key) {
            *pods -= 1;
            if *pods == 0 {
                running.remove(key);
            }
        }
    }

    /// Whether a pod of the workload runs.
    pub(crate) fn runs(&self, key: &WorkloadKey) -> bool {
        self.lock().contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn a_workload_runs_until_its_last_pod_leaves() {
        let reference = api::WorkloadRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            ..Default::default()
        };
        let workload = Workload::new("shop".into(), reference, Timestamp::UNIX_EPOCH);
        let (roster, key) = (Roster::default(), workload.key.clone());
        let first = roster.enter(workload.clone());
        assert!(Arc::ptr_eq(&first, &roster.enter(workload)));
        roster.leave(&key);
        assert!(roster.runs(&key));
        roster.leave(&key);
        assert!(!roster.runs(&key));
        roster.leave(&key);
    }
}
