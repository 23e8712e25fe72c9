//! The whole operator on a fleet: `assay controller` as a process, on a real API server that holds the pods, with a
//! registry that counts. Everything is measured from outside: `/proc`, the registry's counts, the API server's audit
//! log, and a watch as a user has it.
//!
//! There is no controller manager and there are no nodes: nothing in the fleet moves but what the operator writes.

mod etcd;
mod generate;
mod measure;
mod scene;
mod spec;

use std::path::Path;

pub(crate) use self::measure::run as measure;
pub(crate) use self::spec::FleetSpec;
use crate::Failed;
use crate::figures::Figures;

/// How fast the operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As it is shipped: 500 at once, 20 in a second.
    Shipped,
    /// As fast as the API server takes it, so that a large fleet is filled in minutes and not in a quarter of an hour.
    Raised,
}

/// Measures one fleet.
pub(crate) async fn run(results: &Path, spec: FleetSpec, pace: Pace) -> Result<(), Failed> {
    if spec.workloads == 0 || spec.pods < spec.workloads {
        return Err(Failed::new(
            "measure a fleet",
            format!(
                "{} pods of {} images: give at least one image, and a pod for each",
                spec.pods, spec.workloads
            ),
        ));
    }
    let mut figures = Figures::open(results)?;
    measure(spec, pace, &mut figures).await
}
