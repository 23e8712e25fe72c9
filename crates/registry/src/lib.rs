//! A client of the OCI distribution specification that can be trusted with hostile registries.
//!
//! It fetches manifests, tags, referrers and blobs, hashes what it got, and tells absence from trouble: only a
//! 404 is absence. Everything remote is capped in bytes, pages and time. Credentials go to the registry they
//! were written for and to nobody else. It knows nothing of signatures, and it does not retry: when to ask
//! again is the caller's schedule.
//!
//! Formats: OCI distribution specification 1.1, OCI image specification 1.1 (image index and image manifest),
//! Docker image manifest version 2 schema 2 and its manifest list.

mod addresses;
mod auth;
mod certificates;
mod challenge;
mod client;
mod credentials;
mod docker_config;
mod document;
mod error;
mod flight;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod http_client;
mod json;
mod lane;
mod link;
mod meter;
mod options;
mod pace;
#[cfg(test)]
mod properties;
mod redirect;
mod referrers;
mod routes;
mod throttle;
mod token;
mod transport;
mod wire;

pub use certificates::{Certificates, CertificatesError};
pub use client::{Client, RoutesError, TagHint};
pub use credentials::{Credentials, CredentialsError};
pub use document::{Descriptor, Document, Manifest, ManifestError, Platform};
pub use error::{Error, ErrorKind, Place};
pub use meter::RequestObserver;
pub use options::{ClientOptions, ClientOptionsError, Limits};
pub use referrers::Referrers;
pub use routes::{Mirror, Prefix, Route, RouteConflict, Routes, Source};
