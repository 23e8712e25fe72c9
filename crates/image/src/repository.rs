//! Repositories: a registry and a path, in the one form that is matched, compared and requested.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::error::{ReferenceError, shown};
use crate::host::{DEFAULT_REGISTRY, DEFAULT_REGISTRY_API, names_registry, normalise_registry};

/// The longest path of a repository (OCI distribution specification, "Pulling manifests").
const PATH_LIMIT: usize = 255;
/// The longest text that can name a repository: host, port, slash, path.
const NAME_LIMIT: usize = 253 + 6 + 1 + PATH_LIMIT + 1;

/// A normalised repository, written `registry/path`: `nginx`, `docker.io/nginx` and
/// `index.docker.io/library/nginx` are all `docker.io/library/nginx`. Normalising is idempotent: the written
/// form parses to the same value. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    name: Arc<str>,
    registry_length: u16,
}

impl Repository {
    /// The registry: `host`, `host:port` or `[ipv6]:port`, lower case; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.name[..usize::from(self.registry_length)]
    }

    /// The path within the registry: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.name[usize::from(self.registry_length) + 1..]
    }

    /// The whole: `docker.io/library/nginx`.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Where the registry answers the distribution API: the registry itself, but `registry-1.docker.io` for
    /// `docker.io`.
    pub fn api_host(&self) -> &str {
        match self.registry() {
            DEFAULT_REGISTRY => DEFAULT_REGISTRY_API,
            registry => registry,
        }
    }

    fn new(registry: &str, path: &str, whole: &str) -> Result<Self, ReferenceError> {
        let registry_length = u16::try_from(registry.len()).map_err(|_| ReferenceError::Host {
            found: shown(registry),
            why: "it is too long",
        })?;
        check_path(path, whole)?;
        Ok(Self {
            name: format!("{registry}/{path}").into(),
            registry_length,
        })
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Reads a repository as the kubelet reads an image name; a tag or a digest is refused.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > NAME_LIMIT {
            return Err(ReferenceError::TooLong {
                found: shown(text),
                length: text.len(),
                limit: NAME_LIMIT,
            });
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme {
                found: shown(text),
                scheme: shown(&format!("{scheme}://")),
            });
        }
        if text.contains('@') {
            return Err(ReferenceError::NotARepository { found: shown(text) });
        }
        if is_image_id(text) {
            return Err(ReferenceError::LocalId {
                found: text.to_owned(),
            });
        }
        match text.split_once('/') {
            Some((first, path)) if names_registry(first) => {
                let registry = normalise_registry(first)?;
                if registry == DEFAULT_REGISTRY {
                    docker_hub(path, text)
                } else {
                    Self::new(&registry, path, text)
                }
            }
            _ => docker_hub(text, text),
        }
    }
}

fn docker_hub(path: &str, whole: &str) -> Result<Repository, ReferenceError> {
    if path.contains('/') {
        Repository::new(DEFAULT_REGISTRY, path, whole)
    } else {
        Repository::new(DEFAULT_REGISTRY, &format!("library/{path}"), whole)
    }
}

fn check_path(path: &str, whole: &str) -> Result<(), ReferenceError> {
    if path.len() > PATH_LIMIT {
        return Err(ReferenceError::TooLong {
            found: shown(whole),
            length: path.len(),
            limit: PATH_LIMIT,
        });
    }
    if path.contains(':') {
        return Err(ReferenceError::NotARepository { found: shown(whole) });
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase { found: shown(whole) });
    }
    match path.split('/').find(|component| !is_path_component(component)) {
        None => Ok(()),
        Some(component) => Err(ReferenceError::Path {
            found: shown(whole),
            component: shown(component),
        }),
    }
}

/// Whether this is a path component of the OCI distribution specification:
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
pub(crate) fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(*first)
        && is_word(*last)
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(is_separator)
}

fn is_separator(text: &str) -> bool {
    matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

/// Whether the text is the bare id of an image (64 hexadecimal digits), which the kubelet refuses as a name.
pub(crate) fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Repository {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
