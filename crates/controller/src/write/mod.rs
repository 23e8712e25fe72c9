//! Pulls updates from the engine and writes them, while this replica leads.
//!
//! One loop pulls and decides; requests run beside it, a few at a time and within a budget. The
//! engine hands over the most urgent update first and with its content as of then, so nothing is
//! pulled before it can be written.

mod exceptions;
pub(crate) mod news;
mod orphans;
mod pace;
pub(crate) mod render;
pub(crate) mod request;
mod revocations;
mod statuses;
mod totals;
mod workloads;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::{ImageExceptionStatus, ImagePolicyStatus, KeyRevocationStatus, SigningKeyStatus};
use engine::{Handle, Stopped, Target, Update, WorkloadAnswer, WorkloadKey};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::pace::Pace;
use self::pace::Rest;
use self::request::{Refused, Requests};
pub(crate) use self::statuses::CONDITION_CHARACTERS;
use self::totals::Report;
use self::workloads::{Decision, Work};
use crate::ending;
use crate::events::EventQueue;
use crate::health::{Health, pulse};
use crate::inventory::Roster;
use crate::inventory::lookup::Lookup;
use crate::jitter::spread;
use crate::lease::Leadership;
use crate::ledger::{After, Before, Ledger, Place};
use crate::notify::NotifyQueue;
use crate::objects::{Objects, Row};
use crate::versions::Meanwhile;
use crate::watch::ListControl;

/// How many updates are written at the same time.
const IN_FLIGHT: usize = 16;
/// How soon an update comes again that found its object busy.
const BUSY: Duration = Duration::from_millis(200);
/// How soon an update comes again that the API server does not accept.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// The name under which the loop shows signs of life.
const NAME: &str = "writer";

/// Everything that a write needs.
pub(crate) struct Writer {
    pub(crate) engine: Handle,
    pub(crate) reads: Client,
    pub(crate) requests: Requests,
    pub(crate) ledger: Ledger,
    pub(crate) policies: Objects<ImagePolicyStatus>,
    pub(crate) keys: Objects<SigningKeyStatus>,
    pub(crate) revocations: Objects<KeyRevocationStatus>,
    pub(crate) exceptions: Objects<ImageExceptionStatus>,
    pub(crate) events: EventQueue,
    pub(crate) notifications: NotifyQueue,
    pub(crate) lookup: Arc<Lookup>,
    pub(crate) roster: Roster,
    /// Becomes true when every pod of the first list is in the roster.
    pub(crate) pods_told: watch::Receiver<bool>,
    pub(crate) health: Health,
    pub(crate) minimum_age: Duration,
    pub(crate) failures: AtomicU32,
}

/// How a write ended: when the target is wanted again, if it is.
#[must_use = "what is wanted again must be asked for again"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requeue {
    pub(crate) again: Option<Duration>,
}

impl Requeue {
    /// What somebody else did meanwhile is put right at once.
    fn after(meanwhile: Meanwhile, again: Option<Duration>) -> Self {
        Requeue {
            again: match meanwhile {
                Meanwhile::ChangedByOthers => Some(Duration::ZERO),
                Meanwhile::Untouched => again,
            },
        }
    }
}

/// What is left to do about an update once everything that needs no request was done.
enum Planned {
    Done(Target, Requeue),
    Workload(Box<(WorkloadKey, Place, Before, Work)>),
    Policy(Box<engine::PolicyReport>, Box<Row<ImagePolicyStatus>>),
    Key(Box<engine::KeyReport>, Box<Row<SigningKeyStatus>>),
    Revocation(Box<engine::RevocationReport>, Box<Row<KeyRevocationStatus>>),
    Exception(Box<engine::ExceptionReport>, Box<Row<ImageExceptionStatus>>),
    /// A KeyRevocation is to be made, so that the revocation outlasts the key.
    Revoke(Box<engine::KeyReport>, Requeue),
}

type Pull = Pin<Box<dyn Future<Output = Result<Update, Stopped>> + Send>>;

/// Why a term of writing ended.
enum TermEnd {
    Lost,
    Stop,
}

/// The time as it is written: statuses carry whole seconds.
pub(crate) fn now() -> Timestamp {
    statuses::whole_seconds(Timestamp::now())
}

impl Writer {
    /// Writes whenever this replica leads, until `stop`; then lets writes under way end.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut lists: ListControl,
        pace: Pace,
        stop: CancellationToken,
    ) -> Result<(), Stopped> {
        let budget = RateLimiter::direct(Quota::per_second(pace.per_second).allow_burst(pace.burst));
        let mut leadership = self.requests.leadership.clone();
        // Ends with this function, so that nothing holds the engine afterwards.
        let mut handing_back = JoinSet::new();
        loop {
            if let StandbyEnd::Stop = stand_by(&mut leadership, &self.health, &stop).await {
                return Ok(());
            }
            // What another replica wrote last must be seen before it is compared with.
            tokio::select! {
                listed = lists.fresh() => listed?,
                () = leadership.lost() => continue,
                () = stop.cancelled() => return Ok(()),
            }
            self.ledger.set_writes(true);
            let term = self.clone().term(&budget, &stop, &mut handing_back).await;
            self.ledger.set_writes(false);
            if let TermEnd::Stop = term? {
                return Ok(());
            }
        }
    }

    /// Writes until leadership is lost or the process ends.
    async fn term(
        self: Arc<Self>,
        budget: &DefaultDirectRateLimiter,
        stop: &CancellationToken,
        handing_back: &mut JoinSet<()>,
    ) -> Result<TermEnd, Stopped> {
        let mut writes = JoinSet::new();
        let sweeps = CancellationToken::new();
        writes.spawn(self.clone().sweep(sweeps.clone()));
        let end = self.pull(budget, stop, &mut writes, handing_back).await;
        sweeps.cancel();
        drain(writes, ending::WRITES).await;
        end
    }

    async fn pull(
        self: &Arc<Self>,
        budget: &DefaultDirectRateLimiter,
        stop: &CancellationToken,
        writes: &mut JoinSet<()>,
        handing_back: &mut JoinSet<()>,
    ) -> Result<TermEnd, Stopped> {
        let slots = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut leadership = self.requests.leadership.clone();
        let mut may_write = false;
        let mut pull: Option<Pull> = None;
        let mut rest = Rest::none(tokio::time::Instant::now());
        let mut beat = pulse();
        let end = loop {
            let failures = self.failures.swap(0, Ordering::Relaxed);
            let rested = rest.after(failures, tokio::time::Instant::now(), spread);
            let next = async {
                if !may_write {
                    tokio::time::sleep_until(rested).await;
                    budget.until_ready().await;
                    may_write = true;
                }
                let slot = slots.clone().acquire_owned().await.map_err(|_| Stopped)?;
                let engine = self.engine.clone();
                let update = pull
                    .get_or_insert_with(|| Box::pin(async move { engine.next_update().await }))
                    .await;
                pull = None;
                Ok::<_, Stopped>((slot, update?))
            };
            let (slot, update) = tokio::select! {
                next = next => next?,
                _ = beat.tick() => { self.health.beat(NAME); continue; }
                Some(ended) = writes.join_next() => { log_fault(ended); continue; }
                () = leadership.lost() => break TermEnd::Lost,
                () = stop.cancelled() => break TermEnd::Stop,
            };
            match self.plan(update) {
                Planned::Done(target, ended) => self.engine.done(target, ended.again).await?,
                planned => {
                    may_write = false;
                    let writer = self.clone();
                    writes.spawn(async move {
                        writer.carry_out(planned).await;
                        drop(slot);
                    });
                }
            }
        };
        if let (TermEnd::Lost, Some(pull)) = (&end, pull) {
            handing_back.spawn(hand_back(self.engine.clone(), pull));
        }
        Ok(end)
    }

    /// Does what needs no request.
    fn plan(&self, update: Update) -> Planned {
        let target = update.target();
        match update {
            Update::Workload(key, answer, ended) => {
                self.record_ended(&key, &ended);
                self.plan_workload(key, answer)
            }
            Update::Policy(_, None)
            | Update::Key(_, None)
            | Update::Revocation(_, None)
            | Update::Exception(_, None) => Planned::Done(target, Requeue { again: None }),
            Update::Policy(_, Some(report)) => match self.plan_status(&*report, &self.policies) {
                Ok(row) => Planned::Policy(report, row),
                Err(ended) => Planned::Done(target, ended),
            },
            Update::Key(_, Some(report)) => match self.plan_status(&*report, &self.keys) {
                Ok(row) => Planned::Key(report, row),
                Err(ended) if report.revocation_missing.is_some() => Planned::Revoke(report, ended),
                Err(ended) => Planned::Done(target, ended),
            },
            Update::Revocation(_, Some(report)) => match self.plan_status(&*report, &self.revocations) {
                Ok(row) => Planned::Revocation(report, row),
                Err(ended) => Planned::Done(target, ended),
            },
            Update::Exception(_, Some(report)) => match self.plan_status(&*report, &self.exceptions) {
                Ok(row) => Planned::Exception(report, row),
                Err(ended) => Planned::Done(target, ended),
            },
        }
    }

    fn plan_workload(&self, key: WorkloadKey, answer: WorkloadAnswer) -> Planned {
        let place = Place::of(&key);
        let target = Target::Workload(key.clone());
        let Some(before) = self.begin(&place) else {
            return Planned::Done(target, Requeue { again: Some(BUSY) });
        };
        let content_hash =
            |rendered: &render::Rendered| self.ledger.content_hash(&rendered.status, &rendered.owners);
        match workloads::decide(answer, &before, self.minimum_age, now(), content_hash) {
            Decision::Do(work) => Planned::Workload(Box::new((key, place, before, work))),
            Decision::Nothing(again) => Planned::Done(target, self.ended(&place, After::Nothing, again)),
        }
    }

    /// The row to write a status over, or how the update ended without a write.
    fn plan_status<R: Report>(
        &self,
        report: &R,
        objects: &Objects<R::Status>,
    ) -> Result<Box<Row<R::Status>>, Requeue> {
        let name = report.name();
        let Some((row, heard)) = objects.begin(name) else {
            let busy = objects.uid(name).is_some();
            return Err(Requeue {
                again: busy.then_some(BUSY),
            });
        };
        self.tell_of_object(heard);
        let again = match totals::decide(report, &row, now(), Instant::now()) {
            totals::Decision::Write => return Ok(Box::new(row)),
            totals::Decision::Nothing => None,
            totals::Decision::Later(pause) => Some(pause),
        };
        Err(Requeue::after(objects.end(name, None), again))
    }

    async fn carry_out(&self, planned: Planned) {
        let (target, ended) = match planned {
            Planned::Done(target, ended) => (target, ended),
            Planned::Workload(planned) => {
                let (key, place, before, work) = *planned;
                let ended = self.do_work(&key, &place, before, work).await;
                (Target::Workload(key), ended)
            }
            Planned::Policy(report, row) => {
                let ended = self.write_status(&*report, &self.policies, *row).await;
                (Target::Policy(report.name), ended)
            }
            Planned::Key(report, row) => {
                let mut ended = self.write_status(&*report, &self.keys, *row).await;
                if report.revocation_missing.is_some() {
                    ended.again.get_or_insert(Duration::ZERO);
                }
                (Target::Key(report.name), ended)
            }
            Planned::Revocation(report, row) => {
                let ended = self.write_status(&*report, &self.revocations, *row).await;
                (Target::Revocation(report.name), ended)
            }
            Planned::Exception(report, row) => {
                let ended = self.write_status(&*report, &self.exceptions, *row).await;
                (Target::Exception(report.name), ended)
            }
            Planned::Revoke(report, status) => {
                let made = self.make_revocation(&report).await;
                let again = status.again.or(made.again);
                (Target::Key(report.name), Requeue { again })
            }
        };
        if self.engine.done(target, ended.again).await.is_err() {
            tracing::debug!("the engine stopped before a write ended");
        }
    }

    /// When an update is wanted again whose write was refused; None where it is to be dropped.
    pub(crate) fn again_after(&self, refused: &Refused, object: impl Fn() -> String) -> Option<Duration> {
        match refused {
            Refused::NamespaceGone => None,
            Refused::NotLeading => Some(BUSY),
            Refused::Invalid(_) | Refused::Forbidden(_) => {
                tracing::error!(object = object(), %refused, "a write is refused; it is tried again rarely");
                Some(spread(AFTER_REFUSAL))
            }
            Refused::Throttled(_) | Refused::NotAsItWas(_) | Refused::Away(_) | Refused::Trouble(_) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(object = object(), %refused, "a write failed and is tried again");
                refused.passes_within().map(spread)
            }
        }
    }
}

/// Why a replica stopped to stand by.
#[derive(Debug, PartialEq, Eq)]
enum StandbyEnd {
    Leads,
    Stop,
}

/// Shows signs of life until this replica leads or the process ends.
async fn stand_by(leadership: &mut Leadership, health: &Health, stop: &CancellationToken) -> StandbyEnd {
    let mut beat = pulse();
    loop {
        tokio::select! {
            () = leadership.gained() => return StandbyEnd::Leads,
            _ = beat.tick() => health.beat(NAME),
            () = stop.cancelled() => return StandbyEnd::Stop,
        }
    }
}

/// Waits for what is under way, not too long; nothing of it runs on afterwards.
async fn drain(mut writes: JoinSet<()>, within: Duration) {
    let ended = tokio::time::timeout(within, async {
        while let Some(ended) = writes.join_next().await {
            log_fault(ended);
        }
    });
    if ended.await.is_err() {
        tracing::warn!(
            abandoned = writes.len(),
            "some writes did not end in time and are abandoned"
        );
        writes.shutdown().await;
    }
}

fn log_fault(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a write ended by a fault of this program");
    }
}

/// Gives back an update that was asked for and is not wanted any more.
async fn hand_back(engine: Handle, pull: Pull) {
    let Ok(update) = pull.await else { return };
    if engine.done(update.target(), Some(Duration::ZERO)).await.is_err() {
        tracing::debug!("the engine stopped before an update was handed back");
    }
}

#[cfg(test)]
#[path = "mass_tests.rs"]
mod mass_tests;

#[cfg(test)]
#[path = "storm_tests.rs"]
mod storm_tests;

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a future is polled in a while.
    async fn polls(future: impl Future, within: Duration) -> u32 {
        let (mut future, mut polls) = (std::pin::pin!(future), 0);
        let counted = std::future::poll_fn(|context| {
            polls += 1;
            future.as_mut().poll(context).map(drop)
        });
        assert!(tokio::time::timeout(within, counted).await.is_err(), "it goes on");
        polls
    }

    #[tokio::test]
    async fn a_standby_sleeps_between_its_signs_of_life() {
        let (_holder, until) = watch::channel(None);
        let mut leadership = Leadership::Elected(until);
        let (health, stop) = (Health::default(), CancellationToken::new());
        let polls = polls(
            stand_by(&mut leadership, &health, &stop),
            Duration::from_millis(200),
        )
        .await;
        assert!(polls <= 3, "woken {polls} times in 200 ms");
    }

    #[tokio::test]
    async fn a_standby_ends_when_it_leads_and_when_the_process_ends() {
        let (holder, until) = watch::channel(None);
        let mut leadership = Leadership::Elected(until);
        let (health, stop) = (Health::default(), CancellationToken::new());
        let far = tokio::time::Instant::now() + Duration::from_secs(3600);
        holder.send_replace(Some(far));
        assert_eq!(stand_by(&mut leadership, &health, &stop).await, StandbyEnd::Leads);
        holder.send_replace(None);
        stop.cancel();
        assert_eq!(stand_by(&mut leadership, &health, &stop).await, StandbyEnd::Stop);
    }

    #[tokio::test]
    async fn a_write_that_does_not_end_in_time_does_not_run_on() {
        let held = Arc::new(());
        let mut writes = JoinSet::new();
        let used = held.clone();
        writes.spawn(async move {
            std::future::pending::<()>().await;
            drop(used);
        });
        drain(writes, Duration::from_millis(10)).await;
        assert_eq!(Arc::strong_count(&held), 1, "the task is gone");
    }
}
