//! How fast the loop of writes goes: its budget, and its rest after failures.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// The rest after one failed write.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// The longest rest after failures one after the other.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How fast is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) per_second: NonZeroU32,
    pub(crate) burst: NonZeroU32,
}

/// When the loop may go on after failures. It is kept while the loop does other things in between,
/// so that a rest that is interrupted is not forgotten.
#[derive(Debug)]
pub(super) struct Rest {
    until: Instant,
}

impl Rest {
    /// No rest is due.
    pub(super) fn none(now: Instant) -> Self {
        Rest { until: now }
    }

    /// So many writes failed since this was asked last; gives the end of the rest.
    pub(super) fn after(
        &mut self,
        failures: u32,
        now: Instant,
        spread: impl Fn(Duration) -> Duration,
    ) -> Instant {
        if failures > 0 {
            let rest = REST_AFTER_FAILURE.saturating_mul(failures).min(LONGEST_REST);
            self.until = self.until.max(now + spread(rest));
        }
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(duration: Duration) -> Duration {
        duration
    }

    #[test]
    fn a_rest_lasts_whatever_the_loop_does_in_between() {
        let start = Instant::now();
        let mut rest = Rest::none(start);
        let end = start + Duration::from_millis(500);
        assert_eq!(rest.after(5, start, exactly), end);
        for passed in [0, 10, 200, 499] {
            let now = start + Duration::from_millis(passed);
            assert_eq!(rest.after(0, now, exactly), end, "after {passed} ms");
        }
    }

    #[test]
    fn failures_during_a_rest_never_shorten_it() {
        let start = Instant::now();
        let mut rest = Rest::none(start);
        let end = rest.after(50, start, exactly);
        assert_eq!(rest.after(1, start + Duration::from_millis(1), exactly), end);
        assert!(rest.after(50, start + Duration::from_millis(1), exactly) > end);
    }

    #[test]
    fn a_rest_has_an_end_however_many_writes_fail() {
        let start = Instant::now();
        assert_eq!(
            Rest::none(start).after(u32::MAX, start, exactly),
            start + LONGEST_REST
        );
        assert_eq!(Rest::none(start).after(0, start, exactly), start);
    }
}
