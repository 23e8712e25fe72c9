//! Names of images: digests, repositories, references, globs over them, and what a runtime writes into
//! `imageID`.
//!
//! Everything here is pure text handling. It knows no network and no Kubernetes object, and it is the only
//! place in the project where an image name is taken apart: whoever compares, matches or requests does so
//! with the types below.

mod digest;
mod error;
mod glob;
mod host;
mod image_id;
mod matcher;
mod reference;
mod repository;

pub use digest::{Algorithm, Digest};
pub use error::{DigestError, GlobError, ReferenceError};
pub use glob::{NameGlob, RepositoryGlob};
pub use host::normalise_registry;
pub use image_id::ImageId;
pub use reference::{Reference, is_tag};
pub use repository::Repository;
