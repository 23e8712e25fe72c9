//! Evidence formats and cryptography: evidence × image digest × verifier → claim.
//!
//! An [`Item`] is what a registry gave: a simple-signing payload with its signature, a DSSE envelope, or a Sigstore
//! bundle. [`verify()`] asks one [`Verifier`] about it (a public key, or a Fulcio identity, with what is asked of logs
//! and timestamps) and answers [`Outcome::Verified`] with a [`Claim`], [`Outcome::Refused`] or [`Outcome::CannotTell`].
//!
//! Nothing in here knows a network, a cluster or a policy, and nothing panics on remote bytes. Whether a signer is
//! trusted, and what a refusal means for a verdict, is decided by the policy crate.

mod artifact;
mod bundle;
mod certificate;
mod claim;
mod cosign_layer;
mod document;
mod dsse;
mod ed25519;
mod elsewhere;
mod identity;
mod item;
mod key;
mod key_error;
mod layer;
mod material;
mod outcome;
mod pem;
mod sigstore;
mod simple_signing;
mod spki;
mod statement;
mod strict_json;
mod trust_root;
mod verifier;
mod verify;

pub use artifact::{Artifact, ArtifactRefusal, VerifiedArtifact, verify_artifact};
pub use claim::{Claim, ClaimKind, Format, Identity, SubjectKind, TimeSource, TrustedTime, TrustedTimes};
pub use elsewhere::Keeper;
pub use identity::{IdentityMatcher, Pattern, PatternError};
pub use item::{Item, ItemKind};
pub use key::{Fingerprint, KeyAlgorithm, PublicKey};
pub use key_error::KeyError;
pub use layer::Layer;
pub use outcome::{Cap, Cause, Outcome, Refusal};
pub use statement::Statement;
pub use trust_root::{TrustRoot, TrustRootError};
pub use verifier::keyless_fingerprint;
pub use verifier::{Demand, LogDemand, TimestampDemand, Verifier, VerifierError, VerifierId};
pub use verify::verify;
