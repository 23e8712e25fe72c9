//! From what a registry failed to answer to what evaluation is told about it.

use std::time::Duration;

use api::Reason;
use policy::Gap;
use registry::{Error, ErrorKind};

/// Why a digest was not read to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortfall {
    pub(crate) gap: Gap,
    /// The registry asked to wait so long.
    pub(crate) retry_after: Option<Duration>,
}

impl Shortfall {
    pub(crate) fn unavailable(detail: &str) -> Shortfall {
        Shortfall {
            gap: Gap {
                reason: Reason::RegistryUnavailable,
                detail: detail.into(),
            },
            retry_after: None,
        }
    }

    pub(crate) fn too_large(detail: &str) -> Shortfall {
        Shortfall {
            gap: Gap {
                reason: Reason::EvidenceTooLarge,
                detail: detail.into(),
            },
            retry_after: None,
        }
    }

    /// The digest itself could not be read.
    pub(crate) fn of_subject(error: &Error) -> Shortfall {
        match error.kind() {
            ErrorKind::NotFound => Shortfall {
                gap: Gap {
                    reason: Reason::ImageNotFound,
                    detail: error.to_string().into(),
                },
                retry_after: None,
            },
            _ => Shortfall::of(error),
        }
    }

    /// Something about the digest could not be read. What a listing names and the registry does not
    /// serve may be a signature: it is a gap, never an absence.
    pub(crate) fn of(error: &Error) -> Shortfall {
        let reason = match error.kind() {
            ErrorKind::Denied => Reason::RegistryDenied,
            ErrorKind::RateLimited => Reason::RateLimited,
            ErrorKind::TooLarge => Reason::EvidenceTooLarge,
            ErrorKind::NotFound
            | ErrorKind::Unavailable
            | ErrorKind::DigestMismatch
            | ErrorKind::Malformed => Reason::RegistryUnavailable,
        };
        Shortfall {
            gap: Gap {
                reason,
                detail: error.to_string().into(),
            },
            retry_after: error.retry_after(),
        }
    }

    /// Keeps the one that tells the user most; of equals the same one, whichever came first.
    pub(crate) fn worse(first: Option<Shortfall>, second: Option<Shortfall>) -> Option<Shortfall> {
        let retry_after = [&first, &second]
            .into_iter()
            .flatten()
            .filter_map(|shortfall| shortfall.retry_after)
            .max();
        let mut told = [first, second].into_iter().flatten().min_by(|one, other| {
            let order = |shortfall: &Shortfall| (rank(shortfall.gap.reason), shortfall.gap.detail.clone());
            order(one).cmp(&order(other))
        })?;
        told.retry_after = retry_after;
        Some(told)
    }
}

fn rank(reason: Reason) -> u8 {
    match reason {
        Reason::ImageNotFound => 0,
        Reason::RegistryDenied => 1,
        Reason::RateLimited => 2,
        Reason::EvidenceTooLarge => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weakened once: by reason alone, the message depends on which of two bodies was asked for first.
    #[test]
    fn of_two_equal_shortfalls_the_same_is_told_whichever_came_first() {
        let (one, other) = (Shortfall::unavailable("blob a"), Shortfall::unavailable("blob b"));
        let first = Shortfall::worse(Some(one.clone()), Some(other.clone()));
        assert_eq!(first, Shortfall::worse(Some(other), Some(one)));
    }
}
