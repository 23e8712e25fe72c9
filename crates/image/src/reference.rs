//! Image references as a pod's `image` field holds them: a repository with a tag, a digest, both or neither.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::digest::Digest;
use crate::error::{ReferenceError, shown};
use crate::repository::Repository;

/// The longest text taken for a reference: repository, tag, digest.
const REFERENCE_LIMIT: usize = 1024;

/// An image reference, read as the kubelet and containerd read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The repository, normalised.
    pub repository: Repository,
    /// The tag as written; see [`Reference::tag`] for what a missing one means.
    pub written_tag: Option<String>,
    /// The digest as written. Where there is one, runtimes ignore the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The tag to resolve: the written one, `latest` if neither tag nor digest is written, `None` if only a
    /// digest is.
    pub fn tag(&self) -> Option<&str> {
        match (&self.written_tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// Whether the reference names its content by digest.
    pub const fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }
}

/// Whether the text is a tag of the OCI distribution specification: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= 128
        && bytes.next().is_some_and(is_word)
        && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > REFERENCE_LIMIT {
            let length = text.len();
            return Err(ReferenceError::TooLong {
                found: shown(text),
                length,
                limit: REFERENCE_LIMIT,
            });
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme {
                found: shown(text),
                scheme: shown(&format!("{scheme}://")),
            });
        }
        if text.parse::<Digest>().is_ok() {
            return Err(ReferenceError::LocalId {
                found: text.to_owned(),
            });
        }
        let (name, digest) = split_digest(text)?;
        let (repository, tag) = split_tag(name)?;
        Ok(Self {
            repository: repository.parse()?,
            written_tag: tag,
            digest,
        })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((name, digest)) = text.split_once('@') else {
        return Ok((text, None));
    };
    match digest.parse() {
        Ok(digest) => Ok((name, Some(digest))),
        Err(source) => Err(ReferenceError::Digest {
            found: shown(text),
            source,
        }),
    }
}

fn split_tag(name: &str) -> Result<(&str, Option<String>), ReferenceError> {
    let last_component = name.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = name[last_component..].find(':').map(|at| at + last_component) else {
        return Ok((name, None));
    };
    let tag = &name[colon + 1..];
    if is_tag(tag) {
        Ok((&name[..colon], Some(tag.to_owned())))
    } else {
        Err(ReferenceError::Tag { found: shown(tag) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.written_tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
