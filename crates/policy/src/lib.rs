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
mod exception;
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

pub use attested::latest_date;
pub use compile::{CompileError, CompiledPolicy, Problem};
pub use condition::{ImageSummary, rank, severity, workload_condition, worst};
pub use evaluate::{
    Becomes, Judgement, badness, evaluate, is_outage, newest_attestation, rests_on_retiring, sole_trust,
};
pub use exception::{CompiledException, Excepted, ExceptionError, passing_over};
pub use facts::{
    Completeness, DigestFacts, Forgotten, Gap, ImageFacts, ItemFacts, Key, KeyRings, Knowledge, Nature,
    Running, Spared, Veto,
};
pub use message::cut;
pub use recheck::{DEFAULT_INTERVAL, DEFAULT_MAX_STALENESS, DEFAULT_WARN_BEFORE, RecheckPlan, Schedule};
pub use vex::is_predicate_type as holds_exploitability_statements;
