//! The engine: the index of what runs, the evidence store, the schedule and incremental
//! re-evaluation. Facts go in, updates are pulled out; data flows one way.
//!
//! It knows no Kubernetes API object and decides nothing by itself: every verdict comes from
//! `policy::evaluate`.

mod core;
mod deadline;
mod examine;
mod fact;
mod gone;
mod handle;
mod index;
mod judge;
mod keychain;
mod keys;
mod lookup;
mod passes;
mod policies;
mod preview;
mod queue;
mod render;
mod report;
mod revocations;
mod schedule;
mod service;
mod store;
mod subject;
mod tenants;
#[cfg(test)]
mod tests;
mod totals;

pub use examine::{Examination, ExamineError, PolicyExamination, Question, RequirementExamination, examine};
pub use fact::*;
pub use handle::{Handle, Stopped};
pub use keychain::{Keychain, KeychainHolder, PullCredentials, PullSecrets};
pub use report::*;
pub use service::{EngineOptions, start};
pub use store::StoreError;
