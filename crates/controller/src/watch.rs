//! One way to watch a kind: list, watch, recover, list anew from time to time.
//!
//! Objects are handed on one by one and not kept. Everything that can go wrong with a watch is dealt
//! with here: errors are counted, retried ever more slowly and, where they last, answered with a new
//! list; so is silence, because watches were seen to miss events after a restore of the API server's
//! store.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine::Stopped;
use futures::StreamExt;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::health::{Health, pulse};
use crate::jitter::spread;
use crate::metrics::Metrics;

/// A list is never older than this, give or take a tenth.
const LIST_EVERY: Duration = Duration::from_secs(50 * 60);
/// So many failures one after the other lead to a new list.
const FAILURES_BEFORE_LIST: u32 = 5;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// Who is told of what a watch sees.
pub(crate) trait Sink<K>: Send {
    /// `Init` before and `InitDone` after a complete list; what such a list does not hold is gone.
    fn event(&mut self, event: Event<K>) -> impl Future<Output = Result<(), Stopped>> + Send;
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

/// The watch of one kind.
pub(crate) struct Watch {
    kind: &'static str,
    metrics: Arc<Metrics>,
    health: Health,
    lists: watch::Sender<Lists>,
    again: Arc<Notify>,
}

impl Watch {
    /// A watch of this kind, and what others need to wait for its lists.
    pub(crate) fn of(kind: &'static str, metrics: Arc<Metrics>, health: Health) -> (Self, ListControl) {
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
        loop {
            self.list_and_watch(&api, &mut sink).await?;
        }
    }

    /// Returns when a new list is due.
    async fn list_and_watch<K>(&self, api: &Api<K>, sink: &mut impl Sink<K>) -> Result<(), Stopped>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(watcher(api.clone(), Config::default().page_size(PAGE)).default_backoff());
        let list_again = Instant::now() + spread(LIST_EVERY);
        let mut beat = pulse();
        let mut listing = true;
        let mut failures = 0;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        failures = 0;
                        listing = self.note(&event, listing);
                        let ends_a_list = matches!(event, Event::InitDone);
                        sink.event(event).await?;
                        if ends_a_list {
                            self.lists.send_modify(|lists| lists.finished = lists.begun);
                        }
                    }
                    Some(Err(error)) => {
                        failures += 1;
                        self.metrics.watch_error(self.kind);
                        tracing::warn!(kind = self.kind, %error, next = next_step(&error), "a watch failed and is retried");
                        if failures >= FAILURES_BEFORE_LIST && !listing {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(list_again), if !listing => return Ok(()),
                () = self.again.notified(), if !listing => return Ok(()),
                _ = beat.tick() => self.health.beat(self.kind),
            }
        }
    }

    /// Whether a list is under way after this event.
    fn note<K>(&self, event: &Event<K>, listing: bool) -> bool {
        match event {
            Event::Init => {
                self.lists.send_modify(|lists| lists.begun += 1);
                true
            }
            Event::InitDone => false,
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => listing,
        }
    }
}

/// What whoever runs the operator can do about a watch that failed.
fn next_step(error: &watcher::Error) -> &'static str {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        _ => 0,
    };
    match code {
        403 => "give the operator its rights: kubectl apply -k config/rbac",
        404 => "install the definitions: kubectl apply -k crds",
        _ => "if it lasts, look at the API server and the network between",
    }
}

/// Which objects a complete list held, so that the others can be told as gone.
#[derive(Debug)]
pub(crate) struct Roll<I> {
    present: std::collections::HashMap<I, u32>,
    list: u32,
}

impl<I> Default for Roll<I> {
    fn default() -> Self {
        Roll {
            present: std::collections::HashMap::new(),
            list: 0,
        }
    }
}

impl<I: Clone + Eq + std::hash::Hash> Roll<I> {
    pub(crate) fn list_begins(&mut self) {
        self.list += 1;
    }

    pub(crate) fn seen(&mut self, id: I) {
        self.present.insert(id, self.list);
    }

    pub(crate) fn gone(&mut self, id: &I) {
        self.present.remove(id);
    }

    /// What the list did not hold.
    pub(crate) fn list_ended(&mut self) -> Vec<I> {
        let list = self.list;
        self.present
            .extract_if(|_, seen| *seen != list)
            .map(|(id, _)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_complete_list_does_not_hold_is_gone_once() {
        let mut roll = Roll::default();
        roll.list_begins();
        roll.seen("a");
        roll.seen("b");
        assert_eq!(roll.list_ended(), Vec::<&str>::new());
        roll.seen("c");
        roll.gone(&"a");
        roll.list_begins();
        roll.seen("c");
        assert_eq!(roll.list_ended(), ["b"]);
        roll.list_begins();
        roll.seen("c");
        assert_eq!(roll.list_ended(), Vec::<&str>::new());
    }

    #[test]
    fn a_watch_without_the_right_to_it_says_what_to_do() {
        let refused = |code: u16| {
            let status = serde_json::json!({"code": code, "reason": "Forbidden", "message": "no"});
            let status = serde_json::from_value(status).unwrap();
            next_step(&watcher::Error::InitialListFailed(kube::Error::Api(status)))
        };
        assert!(refused(403).contains("config/rbac"));
        assert!(refused(404).contains("crds"));
        assert!(refused(500).contains("API server"));
    }

    #[tokio::test]
    async fn a_fresh_list_is_one_that_began_after_it_was_asked_for() {
        let (watch, mut control) = Watch::of("Test", Metrics::new("0"), Health::default());
        let state = |watch: &Watch, event: Event<()>| watch.note(&event, false);
        state(&watch, Event::Init);
        let waiting = tokio::spawn(async move { control.fresh().await.is_ok() });
        tokio::task::yield_now().await;
        watch.again.notified().await;
        watch.lists.send_modify(|lists| lists.finished = lists.begun);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "that list began before");
        state(&watch, Event::Init);
        watch.lists.send_modify(|lists| lists.finished = lists.begun);
        assert!(waiting.await.unwrap());
    }
}
