//! Patterns over repositories and over names.
//!
//! A pattern is matched against the whole normalised repository (`registry/path`), never against a tag or a
//! digest, and never against what somebody wrote. Where a pattern names a registry literally, it is normalised
//! as a reference is.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::error::{GlobError, ReferenceError, shown};
use crate::host::{DEFAULT_REGISTRY, names_registry, normalise_registry};
use crate::matcher::{Matcher, Token};
use crate::repository::{Repository, is_path_component};

/// The longest pattern.
const PATTERN_LIMIT: usize = 255;

/// A pattern over repositories, compiled once.
///
/// `*` matches any sequence within a component and never crosses `/`; `**` matches any sequence and crosses
/// `/` (so `host/shop/**` matches everything below `host/shop`, but not `host/shop` itself). Both also match
/// nothing. The pattern is anchored at both ends.
///
/// The first component is a registry if it holds `.` or `:`, is `localhost`, `*` or `**`; otherwise the pattern
/// means Docker Hub, as a reference would: `nginx` is `docker.io/library/nginx`, `acme/*` is
/// `docker.io/acme/*`. A wildcard in a first component that could be either is refused.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RepositoryGlob {
    written: Box<str>,
    matcher: Matcher,
}

impl RepositoryGlob {
    /// Whether the repository matches.
    pub fn matches(&self, repository: &Repository) -> bool {
        self.matcher.is_match(repository.as_str())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl FromStr for RepositoryGlob {
    type Err = GlobError;

    fn from_str(written: &str) -> Result<Self, GlobError> {
        check_text(written)?;
        let normal = normalise(written)?;
        Ok(Self {
            written: written.into(),
            matcher: Matcher::new(&tokens(&normal, Token::WithinComponent)),
        })
    }
}

fn check_text(written: &str) -> Result<(), GlobError> {
    let found = || shown(written);
    if written.is_empty() {
        return Err(GlobError::Empty);
    }
    if written.len() > PATTERN_LIMIT {
        return Err(GlobError::TooLong {
            found: found(),
            length: written.len(),
            limit: PATTERN_LIMIT,
        });
    }
    if written.contains("://") {
        return Err(GlobError::Scheme { found: found() });
    }
    if written.contains('@') {
        return Err(GlobError::Digest { found: found() });
    }
    if written.contains("***") {
        return Err(GlobError::TooManyStars { found: found() });
    }
    if written.chars().any(char::is_uppercase) {
        return Err(GlobError::UpperCase { found: found() });
    }
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "*/.:_-[]".contains(c);
    match written.chars().find(|c| !valid(*c)) {
        Some(character) => Err(GlobError::Character {
            found: found(),
            character,
        }),
        None => Ok(()),
    }
}

/// The pattern in the form that is matched: registry first.
fn normalise(written: &str) -> Result<String, GlobError> {
    if written == "**" {
        return Ok(written.to_owned());
    }
    let Some((first, path)) = written.split_once('/') else {
        return docker_hub(written, written);
    };
    if first.contains("**") && first != "**" {
        return Err(GlobError::CrossingHost {
            found: shown(written),
        });
    }
    if !names_registry(first) && !matches!(first, "*" | "**") {
        return docker_hub(written, written);
    }
    let registry = normal_host(first, written)?;
    if registry == DEFAULT_REGISTRY {
        return docker_hub(path, written);
    }
    check_path(path, written)?;
    Ok(format!("{registry}/{path}"))
}

/// A pattern on Docker Hub: a single component means an official image, as in a reference.
fn docker_hub(path: &str, written: &str) -> Result<String, GlobError> {
    let ambiguous = |suggestions| {
        Err(GlobError::Ambiguous {
            found: shown(written),
            suggestions,
        })
    };
    let names_host = path != written;
    if written == "*" {
        return ambiguous(
            "`**` for every repository, `docker.io/library/*` for Docker's official images".to_owned(),
        );
    }
    if !names_host && !path.contains('/') && path.contains("**") {
        return ambiguous(format!(
            "`docker.io/{path}` for Docker Hub, `**/{path}` for every registry"
        ));
    }
    let first = path.split('/').next().unwrap_or(path);
    if !names_host && path.contains('/') && first.contains('*') {
        return ambiguous(format!(
            "`docker.io/{path}` for Docker Hub, or a host with a dot or a port"
        ));
    }
    check_path(path, written)?;
    let official = !path.contains('/') && !path.contains("**");
    Ok(if official {
        format!("{DEFAULT_REGISTRY}/library/{path}")
    } else {
        format!("{DEFAULT_REGISTRY}/{path}")
    })
}

fn normal_host(first: &str, written: &str) -> Result<String, GlobError> {
    let invalid = |why| GlobError::Host {
        found: shown(written),
        host: shown(first),
        why,
    };
    if first.contains('*') {
        return check_wildcard_host(first)
            .map(|()| first.to_owned())
            .map_err(invalid);
    }
    normalise_registry(first).map_err(|error| match error {
        ReferenceError::Host { why, .. } => invalid(why),
        _ => invalid("it does not parse"),
    })
}

/// A host with wildcards cannot be normalised, so it must be written in the normal form.
fn check_wildcard_host(host: &str) -> Result<(), &'static str> {
    if host.contains(['[', ']', '_']) {
        return Err("a host with a wildcard holds letters, digits, dots, hyphens and a port");
    }
    if host.ends_with(":443") {
        return Err("port 443 is never part of a normalised registry: leave it out");
    }
    if host.ends_with('.') || host.contains(".:") {
        return Err("a trailing dot is never part of a normalised registry: leave it out");
    }
    if host.split('.').any(|label| label.starts_with("xn--")) {
        return Err("internationalised (punycode) names are refused, because they can look like other names");
    }
    Ok(())
}

fn check_path(path: &str, written: &str) -> Result<(), GlobError> {
    if path.contains(':') {
        return Err(GlobError::Tag {
            found: shown(written),
        });
    }
    let possible = |component: &str| {
        if component.contains('*') {
            !component.contains(['[', ']'])
        } else {
            is_path_component(component)
        }
    };
    match path.split('/').find(|component| !possible(component)) {
        Some(component) => Err(GlobError::Component {
            found: shown(written),
            component: shown(component),
        }),
        None => Ok(()),
    }
}

/// A pattern over names of namespaces: `*` matches any sequence, also none; anchored at both ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NameGlob {
    written: Box<str>,
    matcher: Matcher,
}

impl NameGlob {
    /// Whether the name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl FromStr for NameGlob {
    type Err = GlobError;

    fn from_str(written: &str) -> Result<Self, GlobError> {
        if written.is_empty() {
            return Err(GlobError::Empty);
        }
        if written.len() > PATTERN_LIMIT {
            let length = written.len();
            return Err(GlobError::TooLong {
                found: shown(written),
                length,
                limit: PATTERN_LIMIT,
            });
        }
        if written.chars().any(char::is_uppercase) {
            return Err(GlobError::UpperCase {
                found: shown(written),
            });
        }
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '*' | '-');
        if let Some(character) = written.chars().find(|c| !valid(*c)) {
            return Err(GlobError::Character {
                found: shown(written),
                character,
            });
        }
        Ok(Self {
            written: written.into(),
            matcher: Matcher::new(&tokens(written, Token::Anything)),
        })
    }
}

/// Splits a checked pattern into tokens; `single` is what one star means, two are always [`Token::Anything`].
fn tokens(pattern: &str, single: Token) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern.as_bytes();
    loop {
        rest = match rest {
            [] => return tokens,
            [b'*', b'*', rest @ ..] => {
                tokens.push(Token::Anything);
                rest
            }
            [b'*', rest @ ..] => {
                tokens.push(single);
                rest
            }
            [byte, rest @ ..] => {
                tokens.push(Token::Literal(*byte));
                rest
            }
        };
    }
}

macro_rules! text_form {
    ($glob:ty) => {
        impl fmt::Display for $glob {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.written)
            }
        }

        impl fmt::Debug for $glob {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.written, f)
            }
        }

        impl Serialize for $glob {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.written)
            }
        }

        impl<'de> Deserialize<'de> for $glob {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

text_form!(RepositoryGlob);
text_form!(NameGlob);
