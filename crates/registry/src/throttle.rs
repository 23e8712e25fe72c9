//! Registries that said 429: until the time they named, nothing is sent to them; then one request probes (F02).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The wait where a 429 names none.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// The longest wait that is honoured.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// What callers are told to wait while a probe is under way.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Above this many hosts, those whose time is over are forgotten.
const REMEMBERED: usize = 1024;

#[derive(Default)]
pub(crate) struct Throttle {
    hosts: Mutex<HashMap<String, Window>>,
}

struct Window {
    until: Instant,
    probing: bool,
}

/// Leave to send one request.
pub(crate) struct Leave<'a> {
    throttle: &'a Throttle,
    probes: Option<String>,
}

impl Throttle {
    /// Leave to send a request to `host` now, or how long to wait.
    pub(crate) fn enter(&self, host: &str, now: Instant) -> Result<Leave<'_>, Duration> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = hosts.get_mut(host) else {
            return Ok(Leave {
                throttle: self,
                probes: None,
            });
        };
        if now < window.until {
            return Err(window.until - now);
        }
        if window.probing {
            return Err(PROBE_WAIT);
        }
        window.probing = true;
        Ok(Leave {
            throttle: self,
            probes: Some(host.to_owned()),
        })
    }

    /// Remembers that `host` answered 429. Returns how long nothing will be sent to it.
    pub(crate) fn limited(&self, host: &str, retry_after: Option<Duration>, now: Instant) -> Duration {
        let wait = retry_after
            .unwrap_or(DEFAULT_WAIT)
            .clamp(Duration::from_secs(1), LONGEST_WAIT);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= REMEMBERED {
            hosts.retain(|_, window| window.until > now);
        }
        let until = now + wait;
        let window = hosts.entry(host.to_owned()).or_insert(Window {
            until,
            probing: false,
        });
        window.until = window.until.max(until);
        wait
    }
}

impl Leave<'_> {
    /// The host answered, and not with 429: the window is over.
    pub(crate) fn answered(mut self) {
        if let Some(host) = self.probes.take() {
            self.throttle
                .hosts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&host);
        }
    }
}

impl Drop for Leave<'_> {
    /// Without an answer, or with another 429, the next request after the window probes again.
    fn drop(&mut self) {
        let Some(host) = &self.probes else { return };
        let mut hosts = self.throttle.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = hosts.get_mut(host) {
            window.probing = false;
        }
    }
}

/// The time a `Retry-After` header names: seconds, or an HTTP date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = header.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(
        date.duration_since(now)
            .unwrap_or(Duration::ZERO)
            .min(LONGEST_WAIT),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn f02_until_the_named_time_nothing_may_be_sent_then_one_probe() {
        let throttle = Throttle::default();
        let now = Instant::now();
        throttle
            .enter("r.io", now)
            .unwrap_or_else(|_| panic!("free"))
            .answered();
        throttle.limited("r.io", Some(MINUTE), now);
        assert_eq!(throttle.enter("r.io", now).err(), Some(MINUTE));
        assert!(throttle.enter("other.io", now).is_ok());
        let later = now + MINUTE;
        let probe = throttle.enter("r.io", later);
        assert!(probe.is_ok());
        assert_eq!(throttle.enter("r.io", later).err(), Some(PROBE_WAIT));
        drop(probe);
        let probe = throttle.enter("r.io", later);
        assert!(probe.is_ok());
        throttle.limited("r.io", None, later);
        drop(probe);
        assert_eq!(throttle.enter("r.io", later).err(), Some(DEFAULT_WAIT));
        let end = later + DEFAULT_WAIT;
        throttle
            .enter("r.io", end)
            .unwrap_or_else(|_| panic!("probe"))
            .answered();
        assert!(throttle.enter("r.io", end).is_ok());
        assert!(throttle.enter("r.io", end).is_ok());
    }

    #[test]
    fn a_shorter_answer_does_not_shorten_a_window() {
        let throttle = Throttle::default();
        let now = Instant::now();
        throttle.limited("r.io", Some(MINUTE), now);
        throttle.limited("r.io", Some(Duration::from_secs(1)), now);
        assert_eq!(throttle.enter("r.io", now).err(), Some(MINUTE));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(MINUTE));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("99999999999999999999999", now), Some(LONGEST_WAIT));
        for wrong in ["", "-1", "soon", "1.5", "+5"] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
