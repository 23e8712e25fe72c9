//! The walk-throughs of docs/walkthroughs.md, taken while workloads come and go and a witness reads every write of the
//! operator: no good workload is ever called bad, no status lies, and what was predicted is what happens.
//!
//! `docs.rs` runs the commands of the document itself, as they are printed there.

mod git;
mod leak;
mod load;
mod promotion;
mod rotation;
mod uninstall;
mod witness;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kubectl_assay::{code, object, run, told, workloads};
use crate::scene::Scene;

/// Names of Deployments.
type Names = BTreeSet<String>;

fn names<const N: usize>(names: [&str; N]) -> Names {
    names.map(str::to_owned).into()
}

/// What a command of `kubectl assay` that prints a Difference predicts to fail newly, by the name of the Deployment; and
/// what would fail with its next start only, as `CronJob/name`.
async fn predicted(scene: &Scene, command: &[&str]) -> (Names, Names) {
    let difference = difference(scene, command).await;
    let starts = &difference["startOnly"];
    for unknown in [&difference, starts] {
        let unknown = workloads(scene, unknown, "newlyUnknown");
        assert_eq!(unknown, Vec::<String>::new(), "{difference:#}");
    }
    let failing = workloads(scene, &difference, "newlyFailing");
    let name = |workload: &String| workload.trim_start_matches("Deployment/").to_owned();
    let starting = workloads(scene, starts, "newlyFailing");
    (failing.iter().map(name).collect(), starting.into_iter().collect())
}

async fn difference(scene: &Scene, command: &[&str]) -> Value {
    let output = run(scene, &[command, &["-o", "json"]].concat()).await;
    // What starts at this moment cannot be told yet.
    let difference = object(&output);
    let is_answer = code(&output) < 2 || difference["unknown"].as_i64() > Some(0);
    assert!(is_answer, "{}", told(&output));
    difference
}
