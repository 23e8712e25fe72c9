//! What the engine says: the current answer about a workload, a policy or a key, ready to be
//! written wherever users look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{ContainerRef, Demand, ImagePolicySpec, Mode, NextStart, Reason, SoleTrust, Stage, Verdict};
use jiff::Timestamp;
use policy::{Becomes, Excepted};

use crate::fact::{Workload, WorkloadKey};

/// The next thing to write, with its content as of now.
#[derive(Clone, Debug)]
pub enum Update {
    /// The answer about a workload, and about images whose last pod in it ended since.
    Workload(WorkloadKey, WorkloadAnswer, Vec<EndedImage>),
    /// The totals of a policy; None where the policy is gone.
    Policy(Arc<str>, Option<Box<PolicyReport>>),
    /// The totals of a key; None where the key is gone.
    Key(Arc<str>, Option<Box<KeyReport>>),
    /// What is said of a revocation; None where it is gone.
    Revocation(Arc<str>, Option<Box<RevocationReport>>),
    /// What is said of an exception; None where it is gone.
    Exception(Arc<str>, Option<Box<ExceptionReport>>),
}

impl Update {
    /// What the update is about.
    pub fn target(&self) -> Target {
        match self {
            Update::Workload(key, ..) => Target::Workload(key.clone()),
            Update::Policy(name, _) => Target::Policy(name.clone()),
            Update::Key(name, _) => Target::Key(name.clone()),
            Update::Revocation(name, _) => Target::Revocation(name.clone()),
            Update::Exception(name, _) => Target::Exception(name.clone()),
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
    /// An ImageException, by name.
    Exception(Arc<str>),
}

/// The answer about a workload.
#[derive(Clone, Debug)]
pub enum WorkloadAnswer {
    /// At least one policy covers an image that runs, or one that the template would start.
    Covered(Box<WorkloadReport>),
    /// No policy covers an image that runs, or one that the template would start.
    NotCovered,
    /// No pod runs, and there is no template.
    NothingRuns,
    /// Some image was never looked at in this process: what is written stays as it is.
    Undecided,
}

/// The answer about a workload that is covered.
#[derive(Clone, Debug)]
pub struct WorkloadReport {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Each distinct (image as written, digest) that runs, worst first, then by name; none where nothing runs.
    pub images: Vec<ImageReport>,
    /// What would happen if its template started now.
    pub next_start: StartAnswer,
}

/// What would happen if a workload's template started now.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum StartAnswer {
    /// There is no template, or no policy covers an image of it.
    #[default]
    NotCovered,
    /// An image of it, or what its tag names, is looked up for the first time: what is written stays as it is.
    Pending,
    /// This.
    Decided {
        /// What would happen.
        next: Box<NextStart>,
        /// A policy in DryRun covers an image of it.
        in_dry_run: bool,
    },
}

/// What was known of an image when its last pod in a workload had ended, or as soon as something was known after that.
#[derive(Clone, Debug)]
pub struct EndedImage {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The answer.
    pub image: ImageReport,
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
    /// What an exception passes over; with the verdict Excepted only.
    pub excepted: Option<Excepted>,
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
    /// Those without a Violating and an Unknown image of which an image passes only by an exception.
    pub excepted: i64,
    /// The others.
    pub unknown: i64,
    /// The first 20 violations in order of namespace, workload and digest.
    pub violations: Vec<api::PolicyViolation>,
    /// All violations (workload and digest).
    pub violations_total: i64,
    /// The next time at which a verdict changes by itself.
    pub next_deadline: Option<Timestamp>,
    /// Statuses of workloads, in the whole cluster, that are still to be written.
    pub pending_status_writes: i64,
    /// What is different from the policy that it supersedes, or the name of one that does not exist; None where it
    /// supersedes none.
    pub comparison: Option<Result<api::Comparison, Arc<str>>>,
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
    /// Its fingerprint, where its own stage is Revoked and there is no terminal KeyRevocation, which would outlast it.
    pub revocation_missing: Option<String>,
    /// Statuses of workloads, in the whole cluster, that are still to be written.
    pub pending_status_writes: i64,
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
    /// For how many images the signer goes on counting.
    pub honoured: i64,
    /// What others date before this goes on counting.
    pub dated_before: Option<Timestamp>,
}

/// What is said of an exception.
#[derive(Clone, Debug, PartialEq)]
pub struct ExceptionReport {
    /// Its name.
    pub name: Arc<str>,
    /// The generation of the object that this speaks of.
    pub generation: i64,
    /// Whether it passes over anything.
    pub state: ExceptionState,
    /// Workloads with an image that passes only by it.
    pub workloads: i64,
    /// Those images.
    pub images: i64,
    /// The first 20 violations that it passes over, in order of namespace, workload and image.
    pub sample: Vec<api::ExceptedViolation>,
}

/// Whether an exception passes over anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExceptionState {
    /// It does.
    InForce {
        /// The policies that it names and that do not exist.
        missing: Vec<Arc<str>>,
    },
    /// Its time is over since then.
    Expired(Timestamp),
    /// It cannot be used as it is written.
    Invalid(String),
}

/// What would change if keys, policies and revocations were others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreviewReport {
    /// What of the changes could not be read, or would not come into force.
    pub problems: Vec<String>,
    /// What would violate a policy that it does not violate now, or one that only looked so far.
    pub newly_failing: Vec<PreviewResult>,
    /// What would be known not to violate a policy any more, or only one that looks.
    pub newly_passing: Vec<PreviewResult>,
    /// What could not be told then, and can be told now or is not covered now.
    pub newly_unknown: Vec<PreviewResult>,
    /// The other results of the policies that are concerned.
    pub unchanged: i64,
    /// Of all of them, those that could not be told then.
    pub unknown: i64,
    /// What only a next start would meet.
    pub start_only: StartsOnly,
}

/// Results of workloads that would get worse with their next start, and not before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartsOnly {
    /// What would violate a policy then.
    pub newly_failing: Vec<PreviewResult>,
    /// What could not be told then, and can be told now or is not covered now.
    pub newly_unknown: Vec<PreviewResult>,
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

/// Namespace, policy and exception.
pub type ExceptedLabels = (Arc<str>, Arc<str>, Arc<str>);

/// How many workloads have which verdict, and what the engine holds; for metrics.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Workloads by (namespace, policy, mode, verdict).
    pub workloads: BTreeMap<(Arc<str>, Arc<str>, Mode, Verdict), i64>,
    /// Workloads by (namespace, policy, mode, within what time) with a verdict that gets worse by itself.
    pub falling: BTreeMap<(Arc<str>, Arc<str>, Mode, Within), i64>,
    /// Workloads with an image that passes only by an exception.
    pub excepted: BTreeMap<ExceptedLabels, i64>,
    /// When keys end, by name; those that do.
    pub key_ends: BTreeMap<Arc<str>, Timestamp>,
    /// When exceptions end, by name; those that can be used.
    pub exception_ends: BTreeMap<Arc<str>, Timestamp>,
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
    /// Tags asked for since the start, by outcome: named, absent, failed.
    pub tags: BTreeMap<&'static str, u64>,
    /// Workloads that run an image of which the tag names another digest now, by namespace.
    pub tag_drift: BTreeMap<Arc<str>, i64>,
    /// Signature verifications since the start.
    pub verifications: u64,
    /// Evaluations since the start.
    pub evaluations: u64,
    /// Updates that wait to be written.
    pub pending_updates: i64,
    /// For how long the regular look-up that has waited longest has waited for its turn, by registry and RegistryConfig;
    /// where one waits.
    pub delays: BTreeMap<(String, Option<String>), Duration>,
    /// The oldest finished look-up of a covered image.
    pub oldest_check: Option<Timestamp>,
    /// Policies, keys and exceptions that are not ready, by (kind, name).
    pub not_ready: Vec<(&'static str, Arc<str>)>,
}
