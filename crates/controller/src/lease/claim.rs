//! When a Lease may be created, renewed or taken over: pure, on the monotonic clock of this process.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use tokio::time::Instant;

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is none.
    Create,
    /// It is ours.
    Renew,
    /// It is free, or its holder did not renew it for as long as it holds.
    TakeOver,
    /// Another replica holds it.
    Wait,
}

/// What one replica knows of the Lease.
#[derive(Debug)]
pub(super) struct Claim {
    identity: String,
    seen: Option<(LeaseSpec, Instant)>,
}

impl Claim {
    pub(super) fn new(identity: &str) -> Self {
        Claim {
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// What to do about the Lease as it was found now.
    pub(super) fn next(&mut self, found: Option<&Lease>, now: Instant) -> Next {
        let Some(lease) = found else { return Next::Create };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder == self.identity {
            return Next::Renew;
        }
        if holder.is_empty() {
            return Next::TakeOver;
        }
        let holds = holds_for(&spec);
        match &self.seen {
            Some((seen, since)) if *seen == spec => {
                if now.duration_since(*since) > holds {
                    Next::TakeOver
                } else {
                    Next::Wait
                }
            }
            _ => {
                self.seen = Some((spec, now));
                Next::Wait
            }
        }
    }
}

/// How long the holder said that the Lease holds without renewal.
fn holds_for(spec: &LeaseSpec) -> Duration {
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(super::DURATION, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    fn lease(holder: &str, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        };
        Lease {
            spec: Some(spec),
            ..Lease::default()
        }
    }

    #[test]
    fn an_absent_lease_is_created_and_a_free_one_taken() {
        let mut claim = Claim::new("me");
        let now = Instant::now();
        assert_eq!(claim.next(None, now), Next::Create);
        assert_eq!(claim.next(Some(&lease("", 0)), now), Next::TakeOver);
        assert_eq!(claim.next(Some(&Lease::default()), now), Next::TakeOver);
    }

    #[test]
    fn ones_own_lease_is_renewed() {
        assert_eq!(
            Claim::new("me").next(Some(&lease("me", 0)), Instant::now()),
            Next::Renew
        );
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_taken() {
        let mut claim = Claim::new("me");
        let mut now = Instant::now();
        for renewal in 0..100 {
            assert_eq!(claim.next(Some(&lease("other", renewal)), now), Next::Wait);
            now += Duration::from_secs(14);
            assert_eq!(claim.next(Some(&lease("other", renewal)), now), Next::Wait);
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_is_taken_after_it_was_seen_unchanged_for_its_duration() {
        let mut claim = Claim::new("me");
        let now = Instant::now();
        let stale = lease("other", -1_000_000);
        assert_eq!(
            claim.next(Some(&stale), now),
            Next::Wait,
            "its wall clock time says nothing"
        );
        assert_eq!(
            claim.next(Some(&stale), now + Duration::from_secs(15)),
            Next::Wait
        );
        assert_eq!(
            claim.next(Some(&stale), now + Duration::from_secs(16)),
            Next::TakeOver
        );
    }

    #[test]
    fn a_new_holder_starts_the_wait_anew() {
        let mut claim = Claim::new("me");
        let now = Instant::now();
        assert_eq!(claim.next(Some(&lease("one", 1)), now), Next::Wait);
        assert_eq!(
            claim.next(Some(&lease("two", 1)), now + Duration::from_secs(60)),
            Next::Wait
        );
        assert_eq!(
            claim.next(Some(&lease("two", 1)), now + Duration::from_secs(70)),
            Next::Wait
        );
        assert_eq!(
            claim.next(Some(&lease("two", 1)), now + Duration::from_secs(80)),
            Next::TakeOver
        );
    }
}
