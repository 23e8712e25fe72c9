//! A client of the OCI distribution specification that can be trusted with hostile registries.
//!
//! It fetches manifests, tags, referrers and blobs, hashes what it got, and tells absence from trouble: only a
//! 404 is absence. Everything remote is capped in bytes, pages and time. Credentials go to the registry they
//! were written for and to nobody else. It knows nothing of signatures, and it does not retry: when to ask
//! again is the caller's schedule.
//!
//! Formats: OCI distribution specification 1.1, OCI image specification 1.1 (image index and image manifest),
//! Docker image manifest version 2 schema 2 and its manifest list.

mod auth;
mod challenge;
mod client;
mod credentials;
mod document;
mod error;
mod gate;
mod json;
mod link;
mod meter;
mod options;
#[cfg(test)]
mod properties;
mod redirect;
mod referrers;
mod throttle;
mod token;
mod transport;
mod wire;

pub use client::{Client, TagHint};
pub use document::{Descriptor, Document, Manifest, ManifestError, Platform};
pub use error::{Error, ErrorKind, Place};
pub use meter::RequestObserver;
pub use options::{ClientOptions, ClientOptionsError, Limits};
pub use referrers::Referrers;
