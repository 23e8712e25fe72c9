//! What the engine is told: one fact at a time, from whoever watches.
//!
//! Facts are the engine's own words; they hold no Kubernetes API object.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use api::{
    ContainerType, ImageExceptionSpec, ImagePolicySpec, InForce, KeyRevocationSpec, PreviewedKind, Reason,
    SigningKeySpec, WorkloadRef,
};
use jiff::Timestamp;

use crate::keychain::Keychain;
use crate::uid::Uid;

/// One thing that became true.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A pod that is not finished exists and looks like this.
    Pod(PodFacts),
    /// A pod is gone or finished; by uid.
    PodGone(Uid),
    /// The template of a workload looks like this.
    Template(TemplateFacts),
    /// A workload has no template any more.
    TemplateGone(WorkloadKey),
    /// A namespace has these labels.
    Namespace {
        /// Its name.
        name: Arc<str>,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// A namespace is gone.
    NamespaceGone(Arc<str>),
    /// A policy says this.
    Policy(Box<PolicyFacts>),
    /// A policy is gone.
    PolicyGone(Arc<str>),
    /// Somebody who may write the policy asks that everything that it covers be looked at now.
    RecheckRequested {
        /// The policy.
        policy: Arc<str>,
        /// When it was asked.
        at: Timestamp,
    },
    /// A SigningKey says this.
    Key(Box<KeyFacts>),
    /// A SigningKey is gone.
    KeyGone(Arc<str>),
    /// A KeyRevocation says this.
    Revocation(Box<RevocationFacts>),
    /// A KeyRevocation is gone.
    RevocationGone(Arc<str>),
    /// An ImageException says this.
    Exception(Box<ExceptionFacts>),
    /// An ImageException is gone.
    ExceptionGone(Arc<str>),
    /// What a TrustRoot holds, or why it cannot be used.
    TrustRoot {
        /// Its name.
        name: Arc<str>,
        /// Its content.
        root: Result<Arc<verify::TrustRoot>, String>,
    },
    /// A TrustRoot is gone.
    TrustRootGone(Arc<str>),
    /// Registries are asked in another way from now on. The client that look-ups use has the routes already.
    Registries(registry::Routes),
    /// A verdict that an earlier process wrote: a violation stays until positive evidence.
    Remembered(RememberedViolation),
    /// Another replica wrote this.
    SaidElsewhere(SaidElsewhere),
    /// Everything that existed at the start was told. Before this nothing is reported, because a
    /// key or a policy that was not told yet would look like one that is missing.
    Synced,
}

impl Fact {
    /// An object that a preview can delete is gone; None of a kind that this version does not know.
    pub fn gone(kind: PreviewedKind, name: Arc<str>) -> Option<Fact> {
        match kind {
            PreviewedKind::SigningKey => Some(Fact::KeyGone(name)),
            PreviewedKind::ImagePolicy => Some(Fact::PolicyGone(name)),
            PreviewedKind::KeyRevocation => Some(Fact::RevocationGone(name)),
            PreviewedKind::ImageException => Some(Fact::ExceptionGone(name)),
            PreviewedKind::Other => None,
        }
    }
}

/// A pod as the engine needs it.
#[derive(Clone, Debug)]
pub struct PodFacts {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The top-level workload it belongs to.
    pub workload: Arc<Workload>,
    /// Every image of every container and image volume.
    pub images: Vec<PodImage>,
    /// Whose credentials may be used for its images where the operator's do not suffice; None for nobody's.
    pub keychain: Option<Arc<Keychain>>,
}

/// One image of one container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodImage {
    /// The container's name, or the volume's.
    pub container: Arc<str>,
    /// What kind of container.
    pub container_type: ContainerType,
    /// The image as the pod's spec writes it.
    pub written: Arc<str>,
    /// `imageID` as the runtime wrote it; empty where it wrote none. None where the API has no place
    /// for it (image volumes): then only a digest in the spec tells what runs.
    pub image_id: Option<Arc<str>>,
}

/// What a workload would start next.
#[derive(Clone, Debug)]
pub struct TemplateFacts {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Every image of every container and image volume, as the template writes it.
    pub images: Vec<Arc<str>>,
    /// Whose credentials may be used for its images where the operator's do not suffice; None for nobody's.
    pub keychain: Option<Arc<Keychain>>,
}

/// A top-level workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// What names it.
    pub key: WorkloadKey,
    /// What it is.
    pub reference: WorkloadRef,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
}

/// Names a top-level workload. A clone shares the names: tables hold many of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey(Arc<WorkloadNames>);

/// What a workload is called: namespace, API group, kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadNames {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its API group; empty for the core group.
    pub group: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl WorkloadKey {
    /// What names a workload of this namespace.
    pub fn of(namespace: Arc<str>, workload: &WorkloadRef) -> Self {
        WorkloadKey::from(WorkloadNames {
            namespace,
            group: group_of(&workload.api_version).into(),
            kind: workload.kind.as_str().into(),
            name: workload.name.as_str().into(),
        })
    }
}

impl From<WorkloadNames> for WorkloadKey {
    fn from(names: WorkloadNames) -> Self {
        WorkloadKey(Arc::new(names))
    }
}

impl Deref for WorkloadKey {
    type Target = WorkloadNames;

    fn deref(&self) -> &WorkloadNames {
        &self.0
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The API group of an `apiVersion`: `apps` of `apps/v1`; empty for the core group.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

impl Workload {
    /// A workload of this namespace.
    pub fn new(namespace: Arc<str>, reference: WorkloadRef, created: Timestamp) -> Self {
        Workload {
            key: WorkloadKey::of(namespace, &reference),
            reference,
            created,
        }
    }
}

/// A policy object.
#[derive(Clone, Debug)]
pub struct PolicyFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its spec, or why it cannot be read.
    pub spec: Result<ImagePolicySpec, String>,
    /// The last version that could be evaluated, as the status keeps it.
    pub in_force: Option<InForce>,
}

/// A SigningKey object.
#[derive(Clone, Debug)]
pub struct KeyFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its spec, or why it cannot be read.
    pub spec: Result<SigningKeySpec, UnreadableKey>,
}

/// An object of which it counts when it was made.
#[derive(Clone, Debug)]
pub struct ObjectFacts<Spec> {
    /// Its name.
    pub name: Arc<str>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Its spec, or why it cannot be read.
    pub spec: Result<Spec, String>,
}

/// A KeyRevocation object, named by the fingerprint of the signer. One that cannot be read revokes.
pub type RevocationFacts = ObjectFacts<KeyRevocationSpec>;

/// An ImageException object. One that cannot be read passes over nothing.
pub type ExceptionFacts = ObjectFacts<ImageExceptionSpec>;

/// A SigningKey object that cannot be read.
#[derive(Clone, Debug)]
pub struct UnreadableKey {
    /// Its key ring where at least that can be read.
    pub key_ring: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// A Violating result that an earlier process wrote into an ImageCompliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedViolation {
    /// The workload.
    pub workload: WorkloadKey,
    /// The image as the spec writes it.
    pub written: Arc<str>,
    /// The digest that ran.
    pub digest: Arc<str>,
    /// The policy.
    pub policy: Arc<str>,
    /// The requirement that failed.
    pub requirement: Option<Arc<str>>,
    /// Why.
    pub reason: Reason,
    /// The message.
    pub message: String,
    /// Since when this is the answer.
    pub since: Timestamp,
    /// Since when it could not be refreshed.
    pub stale_since: Option<Timestamp>,
}

/// What another replica wrote about the images of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidElsewhere {
    /// The workload.
    pub workload: WorkloadKey,
    /// What is Compliant or Violating.
    pub images: Vec<SaidOfImage>,
}

/// What another replica wrote of one image by one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidOfImage {
    /// The image as the spec writes it.
    pub written: Arc<str>,
    /// The digest that runs.
    pub digest: Arc<str>,
    /// The policy.
    pub policy: Arc<str>,
    /// Why it violates; None where it is Compliant.
    pub violation: Option<Reason>,
}
