//! The engine: the index of what runs, the evidence store, the schedule and incremental
//! re-evaluation. Facts go in, updates are pulled out; data flows one way.
//!
//! It knows no Kubernetes API object and decides nothing by itself: every verdict comes from
//! `policy::evaluate`.

mod fact;
mod handle;
mod report;

pub use fact::*;
pub use handle::{Handle, Stopped};
pub use report::*;
