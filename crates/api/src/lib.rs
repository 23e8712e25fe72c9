//! The Kubernetes resources of Assay, group `assay.dev`, version `v1alpha1`.
//!
//! Here live the types a user applies ([`SigningKey`], [`KeyRevocation`], [`ImagePolicy`], [`ImageException`],
//! [`PolicyPreview`], [`TrustRoot`], [`RegistryConfig`]) and the one
//! a user reads ([`ImageCompliance`]), their stable reasons and condition types, and the generation of their
//! CustomResourceDefinitions. Nothing here runs: no evaluation, no client, no clock.

// Each `validation` of a resource is an attribute of its own.
#![allow(clippy::duplicated_attributes)]

mod compliance;
pub mod conditions;
pub mod crd;
mod duration;
mod image_exception;
mod key;
mod key_revocation;
mod policy;
mod policy_preview;
mod reason;
mod registry_config;
mod requirement;
mod schema;
mod schema_sources;
mod trust_root;

pub use compliance::{
    ContainerRef, ContainerType, ImageCompliance, ImageComplianceStatus, ImageResult, NextStart, PassedOver,
    PolicyResult, StartDecision, WillBecome, WorkloadRef,
};
pub use duration::{DurationError, parse_duration};
pub use image_exception::{
    ExceptedViolation, ImageException, ImageExceptionSpec, ImageExceptionStatus, LONGEST_EXCEPTION_DAYS,
};
pub use key::{
    Demand, Keyless, PUBLIC_GOOD, PublicKeySource, SigningKey, SigningKeySpec, SigningKeyStatus, SoleTrust,
    Stage, WorkloadSample,
};
pub use key_revocation::{
    EarlierSignatures, KeyRevocation, KeyRevocationSpec, KeyRevocationStatus, RevocationReason,
};
pub use policy::{
    Comparison, ImagePolicy, ImagePolicySpec, ImagePolicyStatus, InForce, Match, Mode, MultiArch, OnUnknown,
    PolicyViolation, RECHECK_REQUESTED_AT, Recheck, RunsAs,
};
pub use policy_preview::{
    DEFAULT_PREVIEW_TTL, PolicyPreview, PolicyPreviewSpec, PolicyPreviewStatus, PreviewChange, PreviewResult,
    PreviewedKind, PreviewedName, PreviewedStarts,
};
pub use reason::{Reason, Verdict};
pub use registry_config::{CredentialsRef, Mirror, RegistryConfig, RegistryConfigSpec, RegistryConfigStatus};
pub use requirement::{
    AllowedVulnerability, AttestationRequirement, MaxSeverity, ProvenanceRequirement, Requirement,
    SignatureRequirement, TrustedRequirement, Validation, VulnerabilitiesRequirement,
};
pub use trust_root::{BuiltInRoot, ConfigMapRef, TrustRoot, TrustRootSpec, TrustRootStatus, TufSource};

/// The API group of every kind.
pub const GROUP: &str = "assay.dev";
/// The version this build serves.
pub const VERSION: &str = "v1alpha1";
/// The field manager of every write that Assay makes.
pub const FIELD_MANAGER: &str = "assay";
