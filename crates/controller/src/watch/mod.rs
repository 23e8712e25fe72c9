//! One way to watch a kind: list in pages, watch, recover, list anew from time to time.
//!
//! Objects are handed on one by one and not kept. Everything that can go wrong with a watch is dealt
//! with here. Errors are counted, retried ever more slowly and, where they last, answered with a new
//! list. A watch of which nothing is heard, not even the bookmarks that the API server sends every
//! minute, is broken off and begun anew where it stopped. After each break the API server is asked how
//! far it is: one that is behind what was seen lost its store or was given an older one, and everything
//! is listed anew. So it is from time to time in any case, because watches were seen to miss events.

mod pages;
mod roll;

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine::Stopped;
use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval};

pub(crate) use self::pages::ReadProtobuf;
use self::pages::{Page, ProtobufError, page};
pub(crate) use self::roll::Roll;
use crate::health::{Health, pulse};
use crate::jitter::spread;
use crate::metrics::Metrics;
use crate::versions::ResourceVersion;

/// So many failures one after the other lead to a new list.
const FAILURES_BEFORE_LIST: u32 = 5;
/// Objects in one page of a list.
const PAGE: u32 = 200;
/// A page that takes longer, or a watch that takes longer to begin, has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The longest pause after failures one after the other.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What the API server answers, or sends in a watch, where it does not hold the version any more.
const EXPIRED: u16 = 410;
/// What servers answer that do not know an encoding.
const NOT_ACCEPTABLE: u16 = 406;
const UNSUPPORTED: u16 = 415;

/// How patient watches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// A list is never older than this, give or take a tenth (`--relist-interval`).
    pub(crate) relist: Duration,
    /// A watch of which nothing is heard for so long is broken off (`--watch-silence`).
    pub(crate) silence: Duration,
    /// The pause after the first failure; it doubles.
    pub(crate) retry: Duration,
}

impl Patience {
    /// The pause after the first failure.
    pub(crate) const RETRY: Duration = Duration::from_millis(800);
}

/// Who is told of what a watch sees.
pub(crate) trait Sink<K>: Send {
    /// `Init` before and `InitDone` after a complete list; what such a list does not hold is gone. A list that fails
    /// begins anew with another `Init`.
    fn event(&mut self, event: Event<K>) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// The objects of one page of a list.
    fn page(&mut self, objects: Vec<K>) -> impl Future<Output = Result<(), Stopped>> + Send
    where
        K: Send,
    {
        async move {
            for object in objects {
                self.event(Event::InitApply(object)).await?;
            }
            Ok(())
        }
    }

    /// How the objects of a list are read from protobuf; None where they come in JSON.
    fn protobuf(&self) -> Option<ReadProtobuf<K>> {
        None
    }

    /// What comes next of a list is as of this version of the API server's store.
    fn listing(&mut self, _at: &str) {}

    /// The API server's store was set back: the next list is true, however old its versions are.
    fn set_back(&mut self) {}
}

/// Lists begun and finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    begun: u64,
    /// The number of the last list that was finished.
    finished: u64,
}

/// Waits for lists of a watch and asks for new ones. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ListControl {
    lists: watch::Receiver<Lists>,
    again: Arc<Notify>,
}

impl ListControl {
    /// Waits for the first complete list.
    pub(crate) async fn first(&mut self) -> Result<(), Stopped> {
        self.lists
            .wait_for(|lists| lists.finished > 0)
            .await
            .map(drop)
            .map_err(|_| Stopped)
    }

    /// Asks for a list that begins from now on, and waits for its end.
    pub(crate) async fn fresh(&mut self) -> Result<(), Stopped> {
        let begun = self.lists.borrow().begun;
        self.again.notify_one();
        self.lists
            .wait_for(|lists| lists.finished > begun)
            .await
            .map(drop)
            .map_err(|_| Stopped)
    }
}

/// Why a request of a watch did not do what it should.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("no answer in time")]
    TimedOut,
    #[error("a list without a resourceVersion")]
    NoVersion,
    #[error("a list in protobuf cannot be read: {0}")]
    Protobuf(#[from] ProtobufError),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl WatchError {
    /// Whether the same list in JSON may be better.
    fn lies_in_protobuf(&self) -> bool {
        matches!(self, WatchError::Protobuf(_)) || [NOT_ACCEPTABLE, UNSUPPORTED].contains(&self.code())
    }

    /// The HTTP status, where the API server answered with one.
    fn code(&self) -> u16 {
        match self {
            WatchError::Api(kube::Error::Api(status)) => status.code,
            _ => 0,
        }
    }
}

/// How a watch goes on.
#[derive(Debug)]
enum Next {
    /// With a new list.
    List,
    /// With a new list of a store that was set back.
    ListSetBack,
    /// Where it stopped.
    Resume,
}

/// The watch of one kind.
pub(crate) struct Watch {
    kind: &'static str,
    metrics: Arc<Metrics>,
    health: Health,
    patience: Patience,
    lists: watch::Sender<Lists>,
    again: Arc<Notify>,
}

impl Watch {
    /// A watch of this kind, and what others need to wait for its lists.
    pub(crate) fn of(
        kind: &'static str,
        metrics: Arc<Metrics>,
        health: Health,
        patience: Patience,
    ) -> (Self, ListControl) {
        let (lists, receiver) = watch::channel(Lists::default());
        let again = Arc::new(Notify::new());
        let control = ListControl {
            lists: receiver,
            again: again.clone(),
        };
        (
            Watch {
                kind,
                metrics,
                health,
                patience,
                lists,
                again,
            },
            control,
        )
    }

    /// Watches until the engine stops.
    pub(crate) async fn run<K>(self, api: Api<K>, mut sink: impl Sink<K>) -> Result<(), Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut round = Round {
            beat: pulse(),
            failures: 0,
            plain: false,
        };
        loop {
            let version = self.list(&api, &mut sink, &mut round).await?;
            self.follow(&api, &mut sink, version, &mut round).await?;
        }
    }

    /// Lists until that succeeds; gives the version that the list shows.
    async fn list<K>(
        &self,
        api: &Api<K>,
        sink: &mut impl Sink<K>,
        round: &mut Round,
    ) -> Result<String, Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        loop {
            match self.list_once(api, sink, round).await? {
                Ok(version) => return Ok(version),
                Err(error) => self.failed(&error, round).await,
            }
        }
    }

    async fn list_once<K>(
        &self,
        api: &Api<K>,
        sink: &mut impl Sink<K>,
        round: &mut Round,
    ) -> Result<Result<String, WatchError>, Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        self.lists.send_modify(|lists| lists.begun += 1);
        sink.event(Event::Init).await?;
        let mut asked = ListParams::default().limit(PAGE);
        let protobuf = sink.protobuf().filter(|_| !round.plain);
        loop {
            let answer = within(Box::pin(page(api, &asked, protobuf)));
            let Page {
                objects,
                version,
                next,
            } = match self.beating(round, answer).await {
                Ok(page) => page,
                Err(error) => {
                    round.plain |= error.lies_in_protobuf();
                    return Ok(Err(error));
                }
            };
            if let Some(at) = &version {
                sink.listing(at);
            }
            sink.page(objects).await?;
            asked.continue_token = next;
            if asked.continue_token.is_none() {
                let Some(version) = version else {
                    return Ok(Err(WatchError::NoVersion));
                };
                sink.event(Event::InitDone).await?;
                self.lists.send_modify(|lists| lists.finished = lists.begun);
                self.metrics.list_finished(self.kind);
                return Ok(Ok(version));
            }
        }
    }

    /// Watches from a version on, and returns when a new list is due.
    async fn follow<K>(
        &self,
        api: &Api<K>,
        sink: &mut impl Sink<K>,
        mut version: String,
        round: &mut Round,
    ) -> Result<(), Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let list_again = Instant::now() + spread(self.patience.relist);
        let mut broke = false;
        loop {
            let ended = match std::mem::replace(&mut broke, true) {
                true => self.beating(round, self.behind(api, &version)).await,
                false => Ok(Next::Resume),
            };
            let ended = match ended {
                Ok(Next::Resume) => {
                    self.watch_once(api, sink, &mut version, list_again, round)
                        .await?
                }
                ended => ended,
            };
            match ended {
                Ok(Next::List) => return Ok(()),
                Ok(Next::ListSetBack) => {
                    sink.set_back();
                    return Ok(());
                }
                Ok(Next::Resume) => {}
                Err(error) if error.code() == EXPIRED => {
                    tracing::info!(
                        kind = self.kind,
                        "the API server does not hold that version any more; listing anew"
                    );
                    return Ok(());
                }
                Err(error) => {
                    self.failed(&error, round).await;
                    if round.failures >= FAILURES_BEFORE_LIST {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One watch from its begin to its end.
    async fn watch_once<K>(
        &self,
        api: &Api<K>,
        sink: &mut impl Sink<K>,
        version: &mut String,
        list_again: Instant,
        round: &mut Round,
    ) -> Result<Result<Next, WatchError>, Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let parameters = WatchParams::default();
        let began = self.beating(round, within(api.watch(&parameters, version))).await;
        match began {
            Ok(events) => self.hear(pin!(events), sink, version, list_again, round).await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// Hands on what one watch brings, until it ends.
    async fn hear<K>(
        &self,
        mut events: impl Stream<Item = Result<WatchEvent<K>, kube::Error>> + Unpin,
        sink: &mut impl Sink<K>,
        version: &mut String,
        list_again: Instant,
        round: &mut Round,
    ) -> Result<Result<Next, WatchError>, Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut heard = Instant::now();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tokio::time::sleep_until(list_again) => return Ok(Ok(Next::List)),
                () = self.again.notified() => return Ok(Ok(Next::List)),
                () = tokio::time::sleep_until(heard + self.patience.silence) => {
                    self.metrics.watch_error(self.kind);
                    tracing::warn!(kind = self.kind, silent = ?self.patience.silence, "nothing is heard of a watch; it is begun anew");
                    return Ok(Ok(Next::Resume));
                }
                _ = round.beat.tick() => {
                    self.health.beat(self.kind);
                    continue;
                }
            };
            let (event, seen) = match event {
                None => return Ok(Ok(Next::Resume)),
                Some(Err(error)) => return Ok(Err(error.into())),
                Some(Ok(WatchEvent::Error(status))) => return Ok(Err(kube::Error::Api(status).into())),
                Some(Ok(WatchEvent::Bookmark(mark))) => (None, Some(mark.metadata.resource_version)),
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    let seen = object.meta().resource_version.clone();
                    (Some(Event::Apply(object)), seen)
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    let seen = object.meta().resource_version.clone();
                    (Some(Event::Delete(object)), seen)
                }
            };
            round.failures = 0;
            if let Some(seen) = seen {
                if is_behind(&seen, version) {
                    self.went_back(&seen, version);
                    return Ok(Ok(Next::ListSetBack));
                }
                *version = seen;
            }
            if let Some(event) = event {
                sink.event(event).await?;
            }
            heard = Instant::now();
        }
    }

    /// Whether a watch can go on from the version that was seen last: not where the API server is behind it.
    async fn behind<K>(&self, api: &Api<K>, version: &str) -> Result<Next, WatchError>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug,
    {
        let list = within(api.list_metadata(&ListParams::default().limit(1))).await?;
        let now = list.metadata.resource_version.ok_or(WatchError::NoVersion)?;
        if is_behind(&now, version) {
            self.went_back(&now, version);
            return Ok(Next::ListSetBack);
        }
        Ok(Next::Resume)
    }

    fn went_back(&self, now: &str, seen: &str) {
        self.metrics.watch_error(self.kind);
        tracing::warn!(
            kind = self.kind,
            now,
            seen,
            "the API server is behind what it showed before: its store was set back; listing anew"
        );
    }

    /// Tells of a failure and waits, longer after each one.
    async fn failed(&self, error: &WatchError, round: &mut Round) {
        self.metrics.watch_error(self.kind);
        tracing::warn!(kind = self.kind, %error, next = next_step(error), "a watch failed and is retried");
        let pause = self.patience.retry.saturating_mul(1 << round.failures.min(10));
        round.failures += 1;
        self.beating(round, tokio::time::sleep(spread(pause.min(LONGEST_PAUSE))))
            .await;
    }

    /// Shows signs of life while something else is waited for.
    async fn beating<T>(&self, round: &mut Round, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                _ = round.beat.tick() => self.health.beat(self.kind),
            }
        }
    }
}

/// What one watch keeps over its requests.
struct Round {
    beat: Interval,
    /// Failures one after the other.
    failures: u32,
    /// Lists come in JSON from now on: the API server's protobuf could not be had, or not be read.
    plain: bool,
}

/// The answer to a request that may not take for ever.
async fn within<T, E: Into<WatchError>>(
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, WatchError> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(WatchError::TimedOut),
    }
}

/// Whether a version is certainly older than another one.
fn is_behind(version: &str, seen: &str) -> bool {
    let (version, seen) = (ResourceVersion::from(version), ResourceVersion::from(seen));
    seen.is_newer_than(&version) && !version.is_newer_than(&seen)
}

/// What whoever runs the operator can do about a watch that failed.
fn next_step(error: &WatchError) -> &'static str {
    if matches!(error, WatchError::Protobuf(_)) {
        return "nothing: it is listed in JSON from now on";
    }
    match error.code() {
        403 => "give the operator its rights: kubectl apply -k config/rbac",
        404 => "install the definitions: kubectl apply -k crds",
        _ => "if it lasts, look at the API server and the network between",
    }
}

#[cfg(test)]
mod tests;
