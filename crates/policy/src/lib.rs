//! Compiles policies and judges images: pure functions of policy, facts, keys and time.
//!
//! [`CompiledPolicy::compile`] reads a policy once and refuses what it does not understand; [`evaluate`] then
//! answers for one image: [`Judgement`]. [`workload_condition`] folds the answers about a workload's images into
//! its condition. Nothing here knows a network, a cluster or a clock: time is an argument, and what is not known
//! is said in [`ImageFacts`] by whoever fills it.

mod attestation;
mod attested;
mod compile;
mod condition;
mod evaluate;
mod expression;
mod facts;
mod matching;
mod memo;
mod message;
mod own_time;
mod place;
mod provenance;
mod recheck;
mod require;
mod rule;
mod scan;
mod selector;
mod signature;
mod signers;
mod slsa;
mod tally;
#[cfg(test)]
mod tests;
mod trusted;
mod vex;
mod vulnerabilities;

pub use compile::{CompileError, CompiledPolicy, Problem};
pub use condition::{ImageSummary, rank, severity, workload_condition, worst};
pub use evaluate::{Becomes, Judgement, badness, evaluate, newest_attestation, sole_trust};
pub use facts::{
    Completeness, DigestFacts, Gap, ImageFacts, ItemFacts, Key, KeyRings, Knowledge, Nature, Running, Spared,
    Veto,
};
pub use recheck::{DEFAULT_INTERVAL, DEFAULT_MAX_STALENESS, DEFAULT_WARN_BEFORE, RecheckPlan, Schedule};
