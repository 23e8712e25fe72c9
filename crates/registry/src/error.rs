//! What can go wrong when a registry is asked. Every error names what was asked for; none holds a secret, and
//! no message holds a time or a count that changes by itself, because messages end up in statuses.

use std::fmt;
use std::time::Duration;

use image::{Digest, Repository};

use crate::throttle::{Pause, PauseCause};

/// What was asked for: one object of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The repository.
    pub repository: Repository,
    /// The object in it: `manifest sha256:…`, `tag v1`, `blob sha256:…`, `referrers of sha256:…`.
    pub object: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.object, self.repository)
    }
}

/// Why a registry gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The registry answered 404: it does not have it.
    #[error("the registry does not have {at}")]
    NotFound {
        /// What was asked for.
        at: Place,
    },
    /// The registry, or the token server that it names, refuses: 401, 403, or a demand that is not met because
    /// it would give credentials away.
    #[error("access to {at} is denied: {why}")]
    Denied {
        /// What was asked for.
        at: Place,
        /// The HTTP status, where the registry refused.
        status: Option<u16>,
        /// Who refused, and what to do about it.
        why: String,
    },
    /// The registry answered 429, now or a moment ago, or a limit of our own is reached; until then no request is
    /// sent.
    #[error("{why}, so {at} was not fetched; it is asked again when that allows")]
    RateLimited {
        /// What was asked for.
        at: Place,
        /// The host that is not asked, which may be one the registry redirects to.
        host: String,
        /// Who limits.
        why: String,
        /// How long to wait, where that is known.
        retry_after: Option<Duration>,
    },
    /// No usable answer: no connection, no trusted certificate, a time-out, a broken transfer, or a status that
    /// is neither success, absence, refusal nor limit.
    #[error("{at} could not be fetched: {why}")]
    Unavailable {
        /// What was asked for.
        at: Place,
        /// What happened.
        why: String,
        /// How long to wait, where the registry says so beside a 503.
        retry_after: Option<Duration>,
    },
    /// The answer is larger than what is accepted.
    #[error("{at}: {what} exceeds the limit of {limit}")]
    TooLarge {
        /// What was asked for.
        at: Place,
        /// What was counted, with its unit.
        what: &'static str,
        /// The limit, in that unit.
        limit: u64,
    },
    /// The content does not hash to the digest it was asked for by.
    #[error("{at}: the registry serves content with the digest {found} where {expected} was asked for")]
    DigestMismatch {
        /// What was asked for.
        at: Place,
        /// The digest asked for.
        expected: Box<Digest>,
        /// The digest of what came.
        found: Box<Digest>,
    },
    /// The answer is not what the specification says.
    #[error("{at}: the registry's answer is malformed: {why}")]
    Malformed {
        /// What was asked for.
        at: Place,
        /// What is wrong with it.
        why: String,
    },
}

/// The kinds of [`Error`], to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 404.
    NotFound,
    /// 401, 403 or a demand that would leak credentials.
    Denied,
    /// 429.
    RateLimited,
    /// No answer, or a server error.
    Unavailable,
    /// Past a limit.
    TooLarge,
    /// Content that does not hash to its digest.
    DigestMismatch,
    /// Against the specification.
    Malformed,
}

impl ErrorKind {
    /// The kind as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::TooLarge => "too_large",
            Self::DigestMismatch => "digest_mismatch",
            Self::Malformed => "malformed",
        }
    }
}

impl Error {
    /// The kind.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::DigestMismatch { .. } => ErrorKind::DigestMismatch,
            Self::Malformed { .. } => ErrorKind::Malformed,
        }
    }

    /// What was asked for.
    pub const fn place(&self) -> &Place {
        match self {
            Self::NotFound { at }
            | Self::Denied { at, .. }
            | Self::RateLimited { at, .. }
            | Self::Unavailable { at, .. }
            | Self::TooLarge { at, .. }
            | Self::DigestMismatch { at, .. }
            | Self::Malformed { at, .. } => at,
        }
    }

    /// The same failure, met by another request of the same repository.
    pub(crate) fn at(mut self, place: &Place) -> Self {
        match &mut self {
            Self::NotFound { at }
            | Self::Denied { at, .. }
            | Self::RateLimited { at, .. }
            | Self::Unavailable { at, .. }
            | Self::TooLarge { at, .. }
            | Self::DigestMismatch { at, .. }
            | Self::Malformed { at, .. } => at.clone_from(place),
        }
        self
    }

    pub(crate) fn unavailable(place: &Place, why: impl Into<String>) -> Self {
        Self::Unavailable {
            at: place.clone(),
            why: why.into(),
            retry_after: None,
        }
    }

    pub(crate) fn malformed(place: &Place, why: impl Into<String>) -> Self {
        Self::Malformed {
            at: place.clone(),
            why: why.into(),
        }
    }

    /// A host answered 429, or 503 with the time at which to come back.
    pub(crate) fn paused(place: &Place, host: String, pause: Pause) -> Self {
        let retry_after = Some(pause.wait);
        match pause.cause {
            PauseCause::Limited => Self::RateLimited {
                at: place.clone(),
                why: format!("{host} limits the rate of requests"),
                host,
                retry_after,
            },
            PauseCause::Unavailable => Self::Unavailable {
                at: place.clone(),
                why: format!("{host} answered 503 and says when to come back; until then it is not asked"),
                retry_after,
            },
        }
    }

    /// How long to wait before the same is asked again, where the registry or a limit of our own says so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn denied(place: &Place, status: Option<u16>, why: impl Into<String>) -> Self {
        Self::Denied {
            at: place.clone(),
            status,
            why: why.into(),
        }
    }
}

/// Remote text as messages may show it: one line, printable, at most 200 characters.
pub(crate) fn shown(text: &str) -> String {
    const LIMIT: usize = 200;
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(LIMIT).collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}
