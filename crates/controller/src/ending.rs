//! How long an orderly end of the process may take, share by share: what writes, the Lease, the pages,
//! the engine.

use std::time::Duration;

/// Everything together; documented, and what a pod is given by default (`terminationGracePeriodSeconds`).
const ALL: Duration = Duration::from_secs(30);

/// Writes under way end.
pub(crate) const WRITES: Duration = Duration::from_secs(10);
/// The writer itself ends: its writes, and what it has to say of it.
pub(crate) const WRITER: Duration = Duration::from_secs(12);
/// Events that wait are sent.
pub(crate) const FLUSH: Duration = Duration::from_secs(5);
/// The sender of Events ends: the one under way, and those that wait.
pub(crate) const EVENTS: Duration = Duration::from_secs(7);
/// The sender of notifications ends: it sends what waits while Events are sent.
pub(crate) const NOTIFICATIONS: Duration = Duration::from_millis(500);
/// The Lease is given back.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// Who still reads a page when everything else has ended is not waited for longer.
pub(crate) const PAGES: Duration = Duration::from_millis(500);
/// The engine ends, after its last handle was dropped and everything it keeps is on disk.
pub const ENGINE: Duration = Duration::from_secs(4);

const fn sum(shares: &[Duration]) -> u128 {
    let (mut sum, mut at) = (0, 0);
    while at < shares.len() {
        sum += shares[at].as_millis();
        at += 1;
    }
    sum
}

const _: () = assert!(
    sum(&[WRITER, EVENTS, NOTIFICATIONS, LEASE, PAGES, ENGINE]) < ALL.as_millis(),
    "an orderly end takes longer than a pod is given"
);
const _: () = assert!(
    WRITES.as_millis() < WRITER.as_millis() && FLUSH.as_millis() < EVENTS.as_millis(),
    "what is under way may not take longer than who waits for it"
);
const _: () = assert!(crate::lease::RELEASE_WITHIN.as_millis() < LEASE.as_millis());
