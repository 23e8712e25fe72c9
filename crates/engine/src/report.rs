//! What the engine says: the current answer about a workload, a policy or a key, ready to be
//! written wherever users look.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ContainerRef, Demand, ImagePolicySpec, Mode, Reason, RevocationReason, SoleTrust, Stage, Verdict};
use jiff::Timestamp;
use policy::Becomes;

use crate::fact::{Workload, WorkloadKey};

/// The next thing to write, with its content as of now.
#[derive(Clone, Debug)]
pub enum Update {
    /// The answer about a workload.
    Workload(WorkloadKey, WorkloadAnswer),
    /// The totals of a policy; None where the policy is gone.
    Policy(Arc<str>, Option<Box<PolicyReport>>),
    /// The totals of a key; None where the key is gone.
    Key(Arc<str>, Option<Box<KeyReport>>),
    /// What is said of a revocation; None where it is gone.
    Revocation(Arc<str>, Option<Box<RevocationReport>>),
}

impl Update {
    /// What the update is about.
    pub fn target(&self) -> Target {
        match self {
            Update::Workload(key, _) => Target::Workload(key.clone()),
            Update::Policy(name, _) => Target::Policy(name.clone()),
            Update::Key(name, _) => Target::Key(name.clone()),
            Update::Revocation(name, _) => Target::Revocation(name.clone()),
        }
    }
}

/// What an update is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A workload.
    Workload(WorkloadKey),
    /// An ImagePolicy, by name.
    Policy(Arc<str>),
    /// A SigningKey, by name.
    Key(Arc<str>),
    /// A KeyRevocation, by name.
    Revocation(Arc<str>),
}

/// The answer about a workload.
#[derive(Clone, Debug)]
pub enum WorkloadAnswer {
    /// Pods run and at least one policy covers an image.
    Covered(Box<WorkloadReport>),
    /// Pods run and no policy covers an image.
    NotCovered,
    /// No pod runs.
    NothingRuns,
    /// Some image was never looked at in this process: what is written stays as it is.
    Undecided,
}

/// The answer about a workload that is covered.
#[derive(Clone, Debug)]
pub struct WorkloadReport {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Each distinct (image as written, digest), worst first, then by name.
    pub images: Vec<ImageReport>,
}

/// The answer about one image of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageReport {
    /// As the spec writes it.
    pub image: Arc<str>,
    /// The digest that runs; empty where it cannot be told.
    pub digest: String,
    /// The containers that run it, in order.
    pub containers: Vec<ContainerRef>,
    /// One answer for each covering policy, in order of name.
    pub policies: Vec<PolicyAnswer>,
}

/// The answer of one policy about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyAnswer {
    /// The policy.
    pub policy: Arc<str>,
    /// The generation that was evaluated.
    pub generation: i64,
    /// Its mode.
    pub mode: Mode,
    /// The answer.
    pub verdict: Verdict,
    /// The requirement that decided.
    pub requirement: Option<Arc<str>>,
    /// Why.
    pub reason: Reason,
    /// For the owner; empty where Compliant.
    pub message: Arc<str>,
    /// When it changes by itself.
    pub valid_until: Option<Timestamp>,
    /// What it is from then on.
    pub becomes: Option<Arc<Becomes>>,
    /// That is worse, and closer than the policy's `warnBefore`.
    pub warned: bool,
    /// Since when it could not be refreshed although it was due.
    pub stale_since: Option<Timestamp>,
    /// The evidence items that were seen (content digests), for the transition record.
    pub evidence: Vec<String>,
    /// The fingerprints of the keys that made it hold, or of all known ones that signed, for the transition record.
    pub signers: Vec<String>,
}

impl PolicyAnswer {
    /// It gets worse by itself.
    pub fn falls(&self) -> bool {
        self.becomes
            .as_ref()
            .is_some_and(|becomes| becomes.is_worse_than(self.verdict))
    }
}

/// The totals of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyReport {
    /// Its name.
    pub name: Arc<str>,
    /// The generation of the object that this speaks of.
    pub generation: i64,
    /// The version that decides; None where no version ever could be evaluated.
    pub in_force: Option<(i64, Arc<ImagePolicySpec>)>,
    /// None where the policy is usable, else what is wrong.
    pub problem: Option<PolicyProblem>,
    /// The mode of the version that decides.
    pub mode: Mode,
    /// Distinct digests it covers.
    pub images: i64,
    /// Workloads it covers.
    pub workloads: i64,
    /// Workloads of which every covered image is Compliant.
    pub compliant: i64,
    /// Those of them of which an image is passed without evidence, by a requirement of kind `trusted`.
    pub trusted: i64,
    /// Workloads with a Violating image.
    pub violating: i64,
    /// The others.
    pub unknown: i64,
    /// The first 20 violations in order of namespace, workload and digest.
    pub violations: Vec<api::PolicyViolation>,
    /// All violations (workload and digest).
    pub violations_total: i64,
    /// The next time at which a verdict changes by itself.
    pub next_deadline: Option<Timestamp>,
}

/// Why a policy is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyProblem {
    /// The spec cannot be evaluated.
    Invalid(String),
    /// Key rings that it names have no usable key.
    KeysMissing(String),
}

/// The totals of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyReport {
    /// Its name.
    pub name: Arc<str>,
    /// The generation of the object that this speaks of.
    pub generation: i64,
    /// The key as read, or what is wrong with it.
    pub identity: Result<KeyIdentity, String>,
    /// The stage that counts.
    pub effective_stage: Option<Stage>,
    /// What is asked of a transparency log.
    pub transparency_log: Option<Demand>,
    /// From then on it does not count.
    pub expires: Option<Timestamp>,
    /// Distinct digests that run and carry a signature by it.
    pub images: i64,
    /// What would get a worse verdict without it.
    pub sole_trust: SoleTrust,
    /// How many covered digests cannot be told, so that `sole_trust` may be too low.
    pub undecided: i64,
    /// Its fingerprint, where its own stage is Revoked and there is no KeyRevocation that would outlast it.
    pub revocation_missing: Option<String>,
}

/// What is said of a revocation.
#[derive(Clone, Debug, PartialEq)]
pub struct RevocationReport {
    /// Its name: the fingerprint of the signer.
    pub name: Arc<str>,
    /// The generation of the object that this speaks of.
    pub generation: i64,
    /// None where it is carried out as it is written, else what is wrong.
    pub problem: Option<String>,
    /// The SigningKeys with the fingerprint, in order.
    pub keys: Vec<Arc<str>>,
    /// The stage that the signer is in at least.
    pub stage: Stage,
    /// For how many images the signer goes on counting.
    pub honoured: i64,
    /// What others date before this goes on counting.
    pub dated_before: Option<Timestamp>,
    /// Why; None where the object cannot be read.
    pub reason: Option<RevocationReason>,
}

/// What would change if keys, policies and revocations were others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreviewReport {
    /// What of the changes could not be read, or would not come into force.
    pub problems: Vec<String>,
    /// What would violate a policy that it does not violate now, or one that only looked so far.
    pub newly_failing: Vec<PreviewResult>,
    /// What would not violate a policy any more, or only one that looks.
    pub newly_passing: Vec<PreviewResult>,
    /// The other results of the policies that are concerned.
    pub unchanged: i64,
    /// Of all of them, those that could not be told then.
    pub unknown: i64,
}

/// One policy's result about one image of a workload.
pub use api::PreviewResult;

/// A key as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIdentity {
    /// SHA-256 of the canonical SPKI, lower-case hex.
    pub fingerprint: String,
    /// As `ECDSA-P256`.
    pub algorithm: String,
}

/// How far ahead a verdict is looked for that gets worse by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Within {
    /// The policy's `warnBefore`.
    WarnBefore,
    /// Seven days.
    Week,
    /// Thirty days.
    Month,
}

/// How many workloads have which verdict, and what the engine holds; for metrics.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Workloads by (namespace, policy, mode, verdict).
    pub workloads: BTreeMap<(Arc<str>, Arc<str>, Mode, Verdict), i64>,
    /// Workloads by (namespace, policy, mode, within what time) with a verdict that gets worse by itself.
    pub falling: BTreeMap<(Arc<str>, Arc<str>, Mode, Within), i64>,
    /// Workloads by (namespace, policy) with a verdict that could not be refreshed.
    pub stale: BTreeMap<(Arc<str>, Arc<str>), i64>,
    /// Workloads that no policy covers, by namespace.
    pub uncovered: BTreeMap<Arc<str>, i64>,
    /// Pods held.
    pub pods: i64,
    /// Distinct (repository, digest) held.
    pub subjects: i64,
    /// Look-ups finished since the start, by outcome: complete, incomplete.
    pub lookups: BTreeMap<&'static str, u64>,
    /// Signature verifications since the start.
    pub verifications: u64,
    /// Evaluations since the start.
    pub evaluations: u64,
    /// Updates that wait to be written.
    pub pending_updates: i64,
    /// The oldest finished look-up of a covered image.
    pub oldest_check: Option<Timestamp>,
    /// Policies and keys that are not ready, by (kind, name).
    pub not_ready: Vec<(&'static str, Arc<str>)>,
}
