//! Hosts that said 429, or 503 with a `Retry-After`: until the time they named, nothing is sent to them; then one request
//! probes (F02).
//!
//! A host that has not answered for a while is probed as well: the first request goes alone, and the others wait
//! a moment for its answer. So a host that limits gets one request in a window, not as many as are under way. Those
//! that are on their way when an answering host begins to limit cannot be called back.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// The wait where a 429 names none, and after a probe that was not answered.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// The longest wait that is honoured.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long a first request to a host that did not limit goes alone: one that hangs must not take the others along.
const HESITATION: Duration = Duration::from_secs(2);
/// A host is trusted to answer for so long after its last answer.
const TRUSTED: Duration = Duration::from_secs(60);
/// Above this many hosts, those without a window or a probe are forgotten.
const REMEMBERED: usize = 1024;

#[derive(Default)]
pub(crate) struct Throttle {
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Default)]
struct Host {
    /// When it answered last, other than with a wish to be left alone.
    answered: Option<Instant>,
    /// Nothing is sent before.
    closed_until: Option<Instant>,
    /// What it said last when it wished so.
    cause: PauseCause,
    probing: bool,
    /// Told when a probe ends.
    ended: Arc<Notify>,
}

/// Nothing is sent to a host for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) wait: Duration,
    pub(crate) cause: PauseCause,
}

/// What the host said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PauseCause {
    /// 429.
    #[default]
    Limited,
    /// 503.
    Unavailable,
}

/// Leave to send one request.
pub(crate) struct Leave<'a> {
    throttle: &'a Throttle,
    host: String,
    probes: bool,
}

enum Entry {
    Open,
    Probe,
    Closed(Pause),
    Wait {
        ended: Arc<Notify>,
        /// The probe is that of a host that had limited.
        limited: bool,
    },
}

impl Throttle {
    /// Leave to send a request to `host` now or once a probe under way is answered, or how long to wait.
    pub(crate) async fn enter(&self, host: &str) -> Result<Leave<'_>, Pause> {
        loop {
            let probes = match self.entry(host, Instant::now()) {
                Entry::Open => false,
                Entry::Probe => true,
                Entry::Closed(pause) => return Err(pause),
                Entry::Wait { ended, limited } => {
                    if self.wait(host, &ended, limited).await {
                        continue;
                    }
                    false
                }
            };
            return Ok(Leave {
                throttle: self,
                host: host.to_owned(),
                probes,
            });
        }
    }

    /// Remembers that `host` wishes to be left alone. Returns how long nothing will be sent to it.
    fn pause(&self, host: &str, cause: PauseCause, retry_after: Option<Duration>, now: Instant) -> Pause {
        let wait = retry_after
            .unwrap_or(DEFAULT_WAIT)
            .clamp(Duration::from_secs(1), LONGEST_WAIT);
        let mut hosts = self.hosts();
        make_room(&mut hosts, now);
        let host = hosts.entry(host.to_owned()).or_default();
        host.cause = cause;
        host.close(now + wait);
        Pause { wait, cause }
    }

    fn entry(&self, host: &str, now: Instant) -> Entry {
        let mut hosts = self.hosts();
        make_room(&mut hosts, now);
        let host = hosts.entry(host.to_owned()).or_default();
        if let Some(until) = host.closed_until
            && now < until
        {
            return Entry::Closed(Pause {
                wait: until - now,
                cause: host.cause,
            });
        }
        if host.probing {
            return Entry::Wait {
                ended: host.ended.clone(),
                limited: host.closed_until.is_some(),
            };
        }
        let trusted = host
            .answered
            .is_some_and(|answered| now.duration_since(answered) < TRUSTED);
        if trusted && host.closed_until.is_none() {
            return Entry::Open;
        }
        host.probing = true;
        Entry::Probe
    }

    /// Waits for a probe to end; false if that takes too long for a host that had not limited.
    async fn wait(&self, host: &str, ended: &Notify, limited: bool) -> bool {
        let mut ended = pin!(ended.notified());
        ended.as_mut().enable();
        // It may have ended before the line above.
        if !self.is_probed(host) {
            return true;
        }
        if limited {
            ended.await;
            return true;
        }
        tokio::time::timeout(HESITATION, ended).await.is_ok()
    }

    fn is_probed(&self, host: &str) -> bool {
        self.hosts().get(host).is_some_and(|host| host.probing)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    fn close(&mut self, until: Instant) {
        self.closed_until = Some(self.closed_until.map_or(until, |before| before.max(until)));
        self.answered = None;
        self.ended.notify_waiters();
    }
}

impl Leave<'_> {
    /// The host wishes to be left alone. Returns how long nothing will be sent to it.
    pub(crate) fn paused(&mut self, cause: PauseCause, retry_after: Option<Duration>) -> Pause {
        let pause = self
            .throttle
            .pause(&self.host, cause, retry_after, Instant::now());
        if self.probes {
            self.probes = false;
            if let Some(host) = self.throttle.hosts().get_mut(&self.host) {
                host.probing = false;
                host.ended.notify_waiters();
            }
        }
        pause
    }

    /// The host answers, and does not wish to be left alone: where this was a probe, the window is over.
    pub(crate) fn answered(&mut self) {
        let mut hosts = self.throttle.hosts();
        let Some(host) = hosts.get_mut(&self.host) else {
            return;
        };
        if self.probes {
            self.probes = false;
            host.probing = false;
            host.closed_until = None;
            host.ended.notify_waiters();
        }
        if host.closed_until.is_none() {
            host.answered = Some(Instant::now());
        }
    }
}

impl Drop for Leave<'_> {
    /// A probe without an answer: another one goes out, not at once where the host had limited.
    fn drop(&mut self) {
        if !self.probes {
            return;
        }
        let mut hosts = self.throttle.hosts();
        if let Some(host) = hosts.get_mut(&self.host) {
            host.probing = false;
            if host.closed_until.is_some() {
                host.close(Instant::now() + DEFAULT_WAIT);
            }
            host.ended.notify_waiters();
        }
    }
}

fn make_room(hosts: &mut HashMap<String, Host>, now: Instant) {
    if hosts.len() >= REMEMBERED {
        hosts.retain(|_, host| host.probing || host.closed_until.is_some_and(|until| until > now));
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

    fn limit(throttle: &Throttle, wait: Duration, now: Instant) {
        throttle.pause("r.io", PauseCause::Limited, Some(wait), now);
    }

    /// What a request that comes at a time is told.
    fn told(throttle: &Throttle, host: &str, now: Instant) -> &'static str {
        match throttle.entry(host, now) {
            Entry::Open => "open",
            Entry::Probe => "probe",
            Entry::Closed(_) => "closed",
            Entry::Wait { .. } => "wait",
        }
    }

    fn leave<'a>(throttle: &'a Throttle, host: &str) -> Leave<'a> {
        Leave {
            throttle,
            host: host.to_owned(),
            probes: true,
        }
    }

    /// Weakened: without `host.probing = true` a second probe goes out.
    #[test]
    fn f02_until_the_named_time_nothing_may_be_sent_then_one_probe() {
        let throttle = Throttle::default();
        let now = Instant::now();
        assert_eq!(told(&throttle, "r.io", now), "probe");
        assert_eq!(told(&throttle, "r.io", now), "wait");
        leave(&throttle, "r.io").answered();
        assert_eq!(told(&throttle, "r.io", now), "open");
        limit(&throttle, MINUTE, now);
        assert_eq!(told(&throttle, "r.io", now), "closed");
        assert_eq!(told(&throttle, "other.io", now), "probe");
        let later = now + MINUTE;
        assert_eq!(told(&throttle, "r.io", later), "probe");
        assert_eq!(told(&throttle, "r.io", later), "wait");
        limit(&throttle, MINUTE, later);
        drop(leave(&throttle, "r.io"));
        assert_eq!(told(&throttle, "r.io", later), "closed");
        let end = later + MINUTE;
        assert_eq!(told(&throttle, "r.io", end), "probe");
        leave(&throttle, "r.io").answered();
        assert_eq!(told(&throttle, "r.io", Instant::now()), "open");
    }

    #[test]
    fn f02_a_probe_without_an_answer_keeps_the_window_shut_for_a_while() {
        let throttle = Throttle::default();
        let past = Instant::now() - MINUTE;
        limit(&throttle, Duration::from_secs(1), past);
        assert_eq!(told(&throttle, "r.io", Instant::now()), "probe");
        drop(leave(&throttle, "r.io"));
        assert_eq!(told(&throttle, "r.io", Instant::now()), "closed");
    }

    #[test]
    fn a_host_that_was_silent_for_long_is_probed() {
        let throttle = Throttle::default();
        let now = Instant::now();
        assert_eq!(told(&throttle, "r.io", now), "probe");
        leave(&throttle, "r.io").answered();
        assert_eq!(told(&throttle, "r.io", now + TRUSTED + MINUTE), "probe");
    }

    #[test]
    fn a_shorter_answer_does_not_shorten_a_window() {
        let throttle = Throttle::default();
        let now = Instant::now();
        limit(&throttle, MINUTE, now);
        limit(&throttle, Duration::from_secs(1), now);
        assert!(matches!(throttle.entry("r.io", now), Entry::Closed(pause) if pause.wait == MINUTE));
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
