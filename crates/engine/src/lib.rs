//! The engine: the index of what runs, the evidence store, the schedule and incremental re-evaluation. Facts go in,
//! updates are pulled out; data flows one way. It knows no Kubernetes API object.
//!
//! The way of a change: a [`Fact`] is applied (`core`) to the `index` of what runs or to the policies and `keys`; the
//! subjects that it touches are covered and judged anew (`judge`); what differs waits in the `queue`, is pulled by the
//! writers through the task (`service`, `handle`) and rendered as of then (`render`, `totals`). A look-up whose turn it is
//! (`turns`, `passes`) asks a registry in a task of its own (`lookup`); what it found comes back as a pass, is taken in
//! (`known`) and judged in the same way.
//!
//! Every verdict begins with `policy::evaluate`. What time and memory add to it is added here: a verdict that could not be
//! refreshed becomes stale, and a violation stays until positive evidence ends it (`judge`, `deadline`, `gone`).
//!
//! | word | meaning |
//! |---|---|
//! | subject | a digest under the repository of the pod's spec, with somebody's credentials: what is looked up and judged |
//! | use, origin | a workload that runs or would start a subject, and the name by which it calls it |
//! | pass | what one look-up found out about a subject and the indexes or platforms related to it |
//! | item | one piece of evidence: a signature or an attestation, as bytes that were read once |
//! | knowledge | the items of one digest, with what each signer was found to say of them, and whether that is all |
//! | judgement | what one policy says of a subject; an answer is a judgement about one workload |
//! | share, vouching, tally | what a workload and a subject add to the totals, and the sums, kept by difference |
//!
//! What runs: `index`, `templates`, `tags`, `ended`, `tenants`. What is known: `known`, `subject`, `store`, `keys`,
//! `policies`, `exceptions`, `revocations`. What is judged: `judge`, `deadline`, `start`, `vouching`. What is said:
//! `render`, `report`, `totals`, `tally`, `pending`. Without a cluster: `examine` (one image), `offline` and `preview`
//! (what a change would do).

mod comparison;
mod core;
mod deadline;
mod ended;
mod examine;
mod exceptions;
mod fact;
mod gone;
mod handle;
mod heard;
mod index;
mod judge;
mod keychain;
mod keys;
mod known;
mod late_keys;
mod lookup;
mod naming;
mod offline;
mod passes;
mod past;
mod pending;
mod places;
mod policies;
mod preview;
mod queue;
mod render;
mod report;
mod requested;
mod revocations;
mod schedule;
mod service;
mod share;
mod signers;
mod small;
mod start;
mod store;
mod subject;
mod tags;
mod tally;
mod templates;
mod tenants;
#[cfg(test)]
mod tests;
mod totals;
mod turns;
mod uid;
mod vouching;

pub use examine::{Examination, ExamineError, PolicyExamination, Question, RequirementExamination, examine};
pub use fact::*;
pub use handle::{Handle, Stopped};
pub use keychain::{Keychain, KeychainHolder, PullCredentials, PullSecrets};
pub use offline::compare;
pub use report::*;
pub use service::{EngineOptions, start};
pub use signers::{Signable, Signers, signers};
pub use store::StoreError;
pub use uid::Uid;
