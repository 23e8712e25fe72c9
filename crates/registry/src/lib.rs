//! A client of the OCI distribution specification that can be trusted with hostile registries.
//!
//! It fetches manifests, tags, referrers and blobs, hashes what it got, and tells absence from trouble: only a
//! 404 is absence. Everything remote is capped in bytes, values, pages and time. Credentials go to the registry they
//! were written for and to nobody else. It knows nothing of signatures, and it does not retry: when to ask
//! again is the caller's schedule.
//!
//! - [`Client`] asks; [`Client::on_behalf_of`] asks for somebody else, with the operator's credentials first, and what
//!   was fetched for one identity is never handed to another.
//! - [`Routes`] say how registries are asked (mirrors, certificates, credentials, pace), and change at run time.
//! - [`ClientOptions`] say what holds for all of them; among others whether internal addresses are refused.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured, as curl reads them.
//!
//! Formats: OCI distribution specification 1.1, OCI image specification 1.1 (image index and image manifest),
//! Docker image manifest version 2 schema 2 and its manifest list.

mod addresses;
mod auth;
mod certificates;
mod challenge;
mod client;
mod cloud;
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
mod waits;
mod wire;

pub use certificates::{Certificates, CertificatesError};
pub use client::{Client, RoutesError, TagHint};
pub use cloud::Cloud;
pub use credentials::{Credentials, CredentialsError};
pub use document::{Descriptor, Document, Manifest, ManifestError, Platform};
pub use error::{Error, ErrorKind, Place};
pub use meter::RequestObserver;
pub use options::{ClientOptions, ClientOptionsError, Limits};
pub use referrers::Referrers;
pub use routes::{Mirror, Prefix, Route, RouteConflict, Routes, Source};
pub use waits::Waits;
