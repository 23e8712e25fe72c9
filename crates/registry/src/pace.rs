//! How fast and how often one registry may be asked: a token bucket and a budget for a day.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The window of a budget, from the first request on.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The pace of one route.
#[derive(Default)]
pub(crate) struct Pace {
    bucket: Option<Bucket>,
    budget: Option<Budget>,
}

struct Bucket {
    per_second: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
}

struct Budget {
    limit: u64,
    spent: Mutex<Spent>,
}

#[derive(Clone, Copy)]
struct Spent {
    since: Option<Instant>,
    requests: u64,
}

impl Spent {
    const NOTHING: Self = Self {
        since: None,
        requests: 0,
    };
}

/// Why no request may be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Too many calls wait for their turn already.
    Rate { per_second: NonZeroU32, wait: Duration },
    /// The budget is spent.
    Budget { limit: u64, wait: Duration },
}

impl Pace {
    /// A pace. What `before` has spent of its budget stays spent, and a bucket of the same size stays as full as
    /// it is.
    pub(crate) fn new(
        per_second: Option<NonZeroU32>,
        daily_budget: Option<NonZeroU64>,
        before: Option<&Self>,
    ) -> Self {
        let spent = before
            .and_then(|before| before.budget.as_ref())
            .map_or(Spent::NOTHING, Budget::spent);
        Self {
            bucket: per_second.map(Bucket::new),
            budget: daily_budget.map(|limit| Budget {
                limit: limit.get(),
                spent: Mutex::new(spent),
            }),
        }
    }

    /// Whether requests are let through one after the other.
    pub(crate) const fn is_set(&self) -> bool {
        self.bucket.is_some()
    }

    /// Whether the budget allows what can wait: regular work has three quarters of it, evenly over the day. The rest is
    /// for what is new, which would otherwise find nothing left until the next day.
    pub(crate) fn has_room_for_regular_work(&self) -> bool {
        let now = Instant::now();
        self.budget.as_ref().is_none_or(|budget| budget.is_ahead(now))
    }

    /// Waits until a request may be sent, at most `patience`, and counts it.
    pub(crate) async fn turn(&self, patience: Duration) -> Result<(), Held> {
        if let Some(bucket) = &self.bucket {
            bucket.turn(patience).await?;
        }
        match &self.budget {
            Some(budget) => budget.spend(Instant::now()),
            None => Ok(()),
        }
    }
}

impl Bucket {
    fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            limiter: RateLimiter::direct(Quota::per_second(per_second)),
        }
    }

    async fn turn(&self, patience: Duration) -> Result<(), Held> {
        let deadline = Instant::now() + patience;
        while let Err(early) = self.limiter.check() {
            let wait = early
                .wait_time_from(DefaultClock::default().now())
                .max(Duration::from_millis(1));
            if Instant::now() + wait > deadline {
                return Err(Held::Rate {
                    per_second: self.per_second,
                    wait,
                });
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

impl Budget {
    fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Less was spent than regular work may have used until now.
    fn is_ahead(&self, now: Instant) -> bool {
        let spent = self.spent();
        let Some(begun) = spent
            .since
            .map(|since| now.duration_since(since))
            .filter(|begun| *begun < DAY)
        else {
            return true;
        };
        let share = u128::from(self.limit) * 3 / 4 * begun.as_millis() / DAY.as_millis();
        u128::from(spent.requests) <= share
    }

    fn spend(&self, now: Instant) -> Result<(), Held> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match spent.since {
            Some(since) if now.duration_since(since) < DAY => since,
            _ => {
                *spent = Spent {
                    since: Some(now),
                    requests: 0,
                };
                now
            }
        };
        if spent.requests >= self.limit {
            return Err(Held::Budget {
                limit: self.limit,
                wait: DAY - now.duration_since(since),
            });
        }
        spent.requests += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_lasts_a_day_and_survives_a_change_of_the_route() {
        let limit = |limit| NonZeroU64::new(limit);
        let pace = Pace::new(None, limit(3), None);
        let now = Instant::now();
        let spend = |pace: &Pace, now| pace.budget.as_ref().unwrap().spend(now);
        for _ in 0..3 {
            assert_eq!(spend(&pace, now), Ok(()));
        }
        let hour = Duration::from_secs(3600);
        let spent = |limit, wait| Err(Held::Budget { limit, wait });
        assert_eq!(spend(&pace, now + hour), spent(3, DAY - hour));
        let wider = Pace::new(None, limit(4), Some(&pace));
        assert_eq!(spend(&wider, now), Ok(()));
        assert_eq!(spend(&wider, now), spent(4, DAY));
        assert_eq!(spend(&wider, now + DAY), Ok(()));
    }

    /// Seen to fail with the whole budget as the share of regular work.
    #[test]
    fn regular_work_is_spread_over_the_day_and_leaves_some_for_what_is_new() {
        let pace = Pace::new(None, NonZeroU64::new(240), None);
        let budget = pace.budget.as_ref().unwrap();
        let (begin, hour) = (Instant::now(), Duration::from_secs(3600));
        let spent_by = |hours: u32| {
            let now = begin + hour * hours;
            while budget.is_ahead(now) {
                budget.spend(now).unwrap();
            }
            budget.spent().requests
        };
        assert_eq!(
            [spent_by(0), spent_by(1), spent_by(12), spent_by(23)],
            [1, 8, 91, 173]
        );
        assert!(budget.is_ahead(begin + DAY), "a new day has begun");
    }

    #[tokio::test]
    async fn c2_03_calls_wait_for_the_bucket_and_not_for_ever() {
        let pace = Pace::new(NonZeroU32::new(20), None, None);
        let begin = Instant::now();
        for _ in 0..25 {
            pace.turn(Duration::from_secs(5)).await.unwrap();
        }
        assert!(
            begin.elapsed() >= Duration::from_millis(200),
            "{:?}",
            begin.elapsed()
        );
        let held = loop {
            if let Err(held) = pace.turn(Duration::ZERO).await {
                break held;
            }
        };
        assert!(matches!(held, Held::Rate { per_second, .. } if per_second.get() == 20));
    }
}
