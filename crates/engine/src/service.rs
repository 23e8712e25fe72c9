//! The engine's task: takes facts, runs the look-ups whose time has come, hands updates over.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::core::Engine;
use crate::handle::{Handle, Request};
use crate::keychain::PullSecrets;
use crate::lookup::{Bodies, Clients, Pass, look_up};
use crate::report::{Target, Update};
use crate::schedule::after;
use crate::store::{Store, StoreError};

/// The longest sleep: wall-clock time can jump, and deadlines are wall-clock times.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// Facts that may wait; senders wait beyond it.
const QUEUE: usize = 1024;
/// Requests that are handled before look-ups and updates get their turn.
const BATCH: usize = 256;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The folder for what survives a restart; None keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Look-ups at the same time, over all registries.
    pub concurrent_lookups: usize,
    /// Who brings the credentials behind the keychains of pods; None where pods bring none.
    pub pull_secrets: Option<Arc<dyn PullSecrets>>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            data_dir: None,
            concurrent_lookups: 64,
            pull_secrets: None,
        }
    }
}

/// Starts the engine in a task of the current runtime. It ends when every handle is dropped.
pub fn start(
    options: &EngineOptions,
    client: registry::Client,
) -> Result<(Handle, tokio::task::JoinHandle<()>), StoreError> {
    let store = Arc::new(Store::open(options.data_dir.as_deref())?);
    let (requests, receive) = mpsc::channel(QUEUE);
    let service = Service {
        engine: Engine::new(store.clone()),
        clients: Clients::new(client, options.pull_secrets.clone()),
        bodies: Bodies::new(store),
        lookups: JoinSet::new(),
        concurrent_lookups: options.concurrent_lookups.max(1),
        waiting: VecDeque::new(),
    };
    Ok((Handle { requests }, tokio::spawn(service.run(receive))))
}

struct Service {
    engine: Engine,
    clients: Clients,
    bodies: Bodies,
    lookups: JoinSet<Pass>,
    concurrent_lookups: usize,
    /// Those who wait for an update.
    waiting: VecDeque<oneshot::Sender<Update>>,
}

impl Service {
    async fn run(mut self, mut receive: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let pause = self.pause();
            tokio::select! {
                received = receive.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    batch.drain(..).for_each(|request| self.handle(request));
                }
                Some(ended) = self.lookups.join_next() => self.absorb(ended),
                () = tokio::time::sleep(pause) => {}
            }
            let now = Timestamp::now();
            self.engine.wake(now);
            self.start_lookups(now);
            self.hand_over(now);
        }
        self.engine.store.flush();
    }

    fn handle(&mut self, request: Request) {
        let now = Timestamp::now();
        match request {
            Request::Fact(fact) => self.engine.apply(fact, now),
            Request::NextUpdate(answer) => self.waiting.push_back(answer),
            Request::Done(target, again_after) => {
                self.engine
                    .queue
                    .done(target, again_after.map(|pause| after(now, pause)));
            }
            Request::Wanted(target, pause) => self.engine.queue.push_later(target, after(now, pause)),
            Request::Preview(changes, answer) => {
                if answer.send(self.engine.preview(changes, now)).is_err() {
                    tracing::debug!("whoever asked for a preview is gone");
                }
            }
            Request::Totals(answer) => {
                if answer.send(self.engine.totals(now)).is_err() {
                    tracing::debug!("whoever asked for the totals is gone");
                }
            }
        }
    }

    fn absorb(&mut self, ended: Result<Pass, tokio::task::JoinError>) {
        match ended {
            Ok(pass) => self.engine.absorb_pass(pass, Timestamp::now()),
            // Look-ups catch their own panics; only the end of the runtime comes here.
            Err(error) => tracing::error!(%error, "a look-up ended without an answer"),
        }
    }

    fn start_lookups(&mut self, now: Timestamp) {
        let room = self.concurrent_lookups.saturating_sub(self.lookups.len());
        for ask in self.engine.due_lookups(now, room) {
            let (clients, bodies) = (self.clients.clone(), self.bodies.clone());
            self.lookups.spawn(look_up(clients, bodies, ask));
        }
    }

    fn hand_over(&mut self, now: Timestamp) {
        if !self.engine.synced {
            return;
        }
        self.waiting.retain(|answer| !answer.is_closed());
        while !self.waiting.is_empty() {
            let Some(target) = self.engine.queue.pop(now) else {
                return;
            };
            let update = self.engine.update(&target, now);
            let Some(answer) = self.waiting.pop_front() else {
                return;
            };
            if answer.send(update).is_err() {
                // Whoever waited is gone; the next one gets it.
                self.engine.queue.done(target, Some(now));
            }
        }
    }

    /// How long nothing is to be done.
    fn pause(&self) -> Duration {
        let full = self.lookups.len() >= self.concurrent_lookups;
        let next = if full {
            self.engine.next_time_besides_lookups()
        } else {
            self.engine.next_time()
        };
        let until = next.map(|time| time.duration_since(Timestamp::now()));
        let until = until.map(|pause| Duration::try_from(pause).unwrap_or(Duration::ZERO));
        until
            .unwrap_or(LONGEST_SLEEP)
            .clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }
}

impl Engine {
    fn update(&self, target: &Target, now: Timestamp) -> Update {
        match target {
            Target::Workload(key) => Update::Workload(key.clone(), self.answer(key, now)),
            Target::Policy(name) => Update::Policy(name.clone(), self.policy_report(name, now).map(Box::new)),
            Target::Key(name) => Update::Key(name.clone(), self.key_report(name).map(Box::new)),
            Target::Revocation(name) => {
                Update::Revocation(name.clone(), self.revocation_report(name).map(Box::new))
            }
        }
    }
}
