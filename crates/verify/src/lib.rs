//! Evidence formats and cryptography: evidence × image digest × key → claim.
//!
//! An [`Item`] is what a registry gave: a simple-signing payload with its signature, or a Sigstore bundle.
//! [`verify_signature`] asks one [`PublicKey`] about it and answers [`Outcome::Verified`] with a [`Claim`],
//! [`Outcome::Refused`] or [`Outcome::CannotTell`].
//!
//! Nothing in here knows a network, a cluster, a policy or a clock, and nothing panics on remote bytes.
//! Whether a key is trusted, and what a refusal means for a verdict, is decided by the policy crate.

mod bundle;
mod document;
mod dsse;
mod ed25519;
mod item;
mod key;
mod key_error;
mod outcome;
mod pem;
mod simple_signing;
mod spki;
mod statement;
mod strict_json;
mod verify;

pub use item::{Item, ItemKind};
pub use key::{Fingerprint, KeyAlgorithm, PublicKey};
pub use key_error::KeyError;
pub use outcome::{Cap, Cause, Claim, Format, Outcome, Refusal};
pub use verify::verify_signature;
