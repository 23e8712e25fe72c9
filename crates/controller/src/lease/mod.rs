//! Leadership by a Lease, so that two replicas never both write.
//!
//! The holder renews every [`RENEW_EVERY`] and stops writing [`WRITE_FOR`] after the last renewal began,
//! well before another replica may take over; both measure with their own monotonic clock and never
//! compare wall clocks. Every change of the Lease carries the resourceVersion it rests on. A lapse does
//! not end the process: the replica stays warm and claims the Lease again.

mod claim;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use self::claim::{Claim, Next};
use crate::health::Health;

/// How long a Lease holds without renewal.
const DURATION: Duration = Duration::from_secs(12);
/// How often the holder renews.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long after the begin of the last renewal the holder writes.
pub(crate) const WRITE_FOR: Duration = Duration::from_secs(8);
/// One request may not take longer; together with [`WRITE_FOR`] it stays below [`DURATION`].
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(3);
/// Giving the Lease back takes two requests at most, and together no longer than one may.
pub(crate) const RELEASE_WITHIN: Duration = REQUEST_DEADLINE;
/// How often others look whether the Lease is free.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A holder that crashes is followed within this time: it renewed just before, the others saw that one look later, and
/// look once more when it has run out.
#[cfg(test)]
const FOLLOWED_WITHIN: Duration = Duration::from_secs(15);
/// How soon a failed renewal is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The name under which the loop shows signs of life.
const NAME: &str = "lease";

const _: () = assert!(WRITE_FOR.as_secs() + REQUEST_DEADLINE.as_secs() < DURATION.as_secs());
#[cfg(test)]
const _: () = assert!(DURATION.as_secs() + 2 * LOOK_EVERY.as_secs() < FOLLOWED_WITHIN.as_secs());

/// Why the Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("the API server does not answer about the Lease in time")]
    TimedOut,
    #[error("the Lease cannot be read or written: {0}; check the operator's Role in its namespace")]
    Api(#[from] kube::Error),
}

/// Whether this replica may write now. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Leadership {
    /// A single replica that is known to be alone: it always may.
    Alone,
    /// It may until then, while an [`Elector`] holds the Lease.
    Elected(watch::Receiver<Option<Instant>>),
}

impl Leadership {
    /// May a write begin now?
    pub(crate) fn leads(&self) -> bool {
        match self {
            Leadership::Alone => true,
            Leadership::Elected(until) => until.borrow().is_some_and(|until| Instant::now() < until),
        }
    }

    /// Waits until this replica may write.
    pub(crate) async fn gained(&mut self) {
        while !self.leads() {
            let Leadership::Elected(until) = self else { return };
            if until.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this replica may not write.
    pub(crate) async fn lost(&mut self) {
        let Leadership::Elected(receiver) = self else {
            return std::future::pending().await;
        };
        loop {
            let Some(until) = *receiver.borrow_and_update() else {
                return;
            };
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                changed = receiver.changed() => if changed.is_err() {
                    tokio::time::sleep_until(until).await;
                    return;
                }
            }
        }
    }
}

/// Where the Lease lives and who claims it.
#[derive(Clone, Debug)]
pub(crate) struct LeaseOptions {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) identity: String,
}

/// Claims the Lease and keeps it.
pub(crate) struct Elector {
    api: Api<Lease>,
    options: LeaseOptions,
    claim: Claim,
    held: Option<Lease>,
    until: watch::Sender<Option<Instant>>,
    health: Health,
}

impl Elector {
    pub(crate) fn new(client: Client, options: LeaseOptions, health: Health) -> (Self, Leadership) {
        let (until, receiver) = watch::channel(None);
        let elector = Elector {
            api: Api::namespaced(client, &options.namespace),
            claim: Claim::new(&options.identity),
            options,
            held: None,
            until,
            health,
        };
        (elector, Leadership::Elected(receiver))
    }

    /// Claims and renews until `stop` completes, then gives the Lease back.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let claimed_meanwhile = loop {
            self.health.beat(NAME);
            let pause = tokio::select! {
                pause = self.round() => pause,
                () = &mut stop => break true,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut stop => break false,
            }
        };
        self.release(claimed_meanwhile).await;
    }

    /// One attempt to get or keep the Lease; says how long to wait for the next.
    async fn round(&mut self) -> Duration {
        let begun = Instant::now();
        let attempt = match tokio::time::timeout(REQUEST_DEADLINE, self.attempt()).await {
            Ok(attempt) => attempt,
            Err(_) => Err(LeaseError::TimedOut),
        };
        match attempt {
            Ok(Some(lease)) => {
                let led = self.until.borrow().is_some_and(|until| begun < until);
                if !led {
                    tracing::info!(identity = self.options.identity, "this replica leads");
                }
                self.held = Some(lease);
                self.until.send_replace(Some(begun + WRITE_FOR));
                RENEW_EVERY
            }
            Ok(None) => {
                self.step_down();
                LOOK_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "claiming the Lease failed and is tried again");
                RETRY_AFTER
            }
        }
    }

    /// The Lease as held by this replica, or None where another one holds it.
    async fn attempt(&mut self) -> Result<Option<Lease>, LeaseError> {
        if let Some(held) = self.held.clone()
            && let Some(renewed) = self.write(self.renewed(held)).await?
        {
            return Ok(Some(renewed));
        }
        let found = self.api.get_opt(&self.options.name).await?;
        match (self.claim.next(found.as_ref(), Instant::now()), found) {
            (Next::Wait, _) => Ok(None),
            (Next::Create, _) | (_, None) => self.create().await,
            (Next::Renew, Some(found)) => self.write(self.renewed(found)).await,
            (Next::TakeOver, Some(found)) => self.write(self.taken_over(found)).await,
        }
    }

    async fn create(&self) -> Result<Option<Lease>, LeaseError> {
        let metadata = ObjectMeta {
            name: Some(self.options.name.clone()),
            ..ObjectMeta::default()
        };
        let lease = self.taken_over(Lease { metadata, spec: None });
        lost_race(self.api.create(&PostParams::default(), &lease).await)
    }

    /// None where somebody else changed the Lease in between.
    async fn write(&self, lease: Lease) -> Result<Option<Lease>, LeaseError> {
        lost_race(
            self.api
                .replace(&self.options.name, &PostParams::default(), &lease)
                .await,
        )
    }

    fn renewed(&self, mut lease: Lease) -> Lease {
        let spec = lease.spec.get_or_insert_default();
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        spec.lease_duration_seconds = Some(seconds(DURATION));
        lease
    }

    fn taken_over(&self, lease: Lease) -> Lease {
        let before = lease.spec.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            acquire_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(
                before
                    .lease_transitions
                    .map_or(0, |count| count.saturating_add(1)),
            ),
            ..LeaseSpec::default()
        };
        self.renewed(Lease {
            metadata: lease.metadata,
            spec: Some(spec),
        })
    }

    fn step_down(&mut self) {
        if self.held.take().is_some() {
            tracing::warn!(
                identity = self.options.identity,
                "another replica leads; this one stays warm"
            );
        }
        self.until.send_replace(None);
    }

    /// Gives the Lease back, so that another replica need not wait for it to expire. A claim that the end
    /// of the process interrupted may have reached the API server all the same.
    async fn release(mut self, claimed_meanwhile: bool) {
        self.until.send_replace(None);
        let held = self.held.take();
        if held.is_none() && !claimed_meanwhile {
            return;
        }
        match tokio::time::timeout(RELEASE_WITHIN, self.give_back(held)).await {
            Ok(Ok(Some(_))) => tracing::info!("the Lease is given back"),
            Ok(Ok(None)) => tracing::info!("another replica holds the Lease already"),
            Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be given back and will expire"),
            Err(_) => tracing::warn!("the Lease could not be given back in time and will expire"),
        }
    }

    /// None where another replica holds the Lease.
    async fn give_back(&self, held: Option<Lease>) -> Result<Option<Lease>, LeaseError> {
        if let Some(held) = held
            && let Some(free) = self.write(freed(held)).await?
        {
            return Ok(Some(free));
        }
        match self.api.get_opt(&self.options.name).await? {
            Some(found) if holder(&found) == self.options.identity => self.write(freed(found)).await,
            Some(_) | None => Ok(None),
        }
    }
}

/// The Lease as nobody holds it.
fn freed(mut lease: Lease) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    lease
}

fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

/// A conflict says that another replica was faster.
fn lost_race(written: Result<Lease, kube::Error>) -> Result<Option<Lease>, LeaseError> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
