//! Counting and timing of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Is told of every HTTP request, each hop of a redirect and each token included.
pub trait RequestObserver: Send + Sync {
    /// `registry` is the one the call was for; `operation` is `manifest`, `tag`, `head`, `referrers`, `blob` or
    /// `token`; `outcome` is `ok`, `redirected`, `challenged`, `abandoned` (timed out or given up by the caller)
    /// or the label of an [`crate::ErrorKind`]; `seconds` is the time from sending to the last byte read.
    fn request(&self, registry: &str, operation: &'static str, outcome: &'static str, seconds: f64);

    /// A request was not sent: the pace of its registry did not let it through in time, or the budget is spent.
    fn held(&self, _registry: &str) {}
}

#[derive(Clone, Default)]
pub(crate) struct Meter {
    requests: Arc<AtomicU64>,
    observer: Option<Arc<dyn RequestObserver>>,
}

impl Meter {
    pub(crate) fn new(observer: Option<Arc<dyn RequestObserver>>) -> Self {
        Self {
            requests: Arc::default(),
            observer,
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn held(&self, registry: &str) {
        if let Some(observer) = &self.observer {
            observer.held(registry);
        }
    }

    pub(crate) fn begin<'a>(&'a self, registry: &'a str, operation: &'static str) -> Measurement<'a> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Measurement {
            meter: self,
            registry,
            operation,
            outcome: "abandoned",
            begin: Instant::now(),
        }
    }
}

/// One request under way; reports when dropped.
pub(crate) struct Measurement<'a> {
    meter: &'a Meter,
    registry: &'a str,
    operation: &'static str,
    outcome: &'static str,
    begin: Instant,
}

impl Measurement<'_> {
    pub(crate) const fn outcome(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        let seconds = self.begin.elapsed().as_secs_f64();
        tracing::trace!(
            registry = self.registry,
            operation = self.operation,
            outcome = self.outcome,
            seconds
        );
        if let Some(observer) = &self.meter.observer {
            observer.request(self.registry, self.operation, self.outcome, seconds);
        }
    }
}
