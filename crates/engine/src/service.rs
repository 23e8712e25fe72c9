//! The engine's task: takes facts, runs the look-ups whose time has come, hands updates over.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::Repository;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::core::Engine;
use crate::handle::{Handle, Request};
use crate::keychain::PullSecrets;
use crate::late_keys::LateKeys;
use crate::lookup::{Bodies, Clients, Pass, Resolved, look_up, resolve};
use crate::places::Places;
use crate::report::{Target, Totals, Update};
use crate::schedule::after;
use crate::store::{Store, StoreError};

/// The longest sleep: wall-clock time can jump, and deadlines are wall-clock times.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// Facts that may wait; senders wait beyond it.
const QUEUE: usize = 1024;
/// Requests that are handled before look-ups and updates get their turn.
const BATCH: usize = 256;
/// Every so many look-ups one belongs to a tag in a template, however many images wait.
const TAG_EVERY: u64 = 4;

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
    let concurrent_lookups = options.concurrent_lookups.max(1);
    let mut engine = Engine::new(store.clone());
    engine.places = Places::new(concurrent_lookups);
    let service = Service {
        engine,
        late_keys: LateKeys::default(),
        clients: Clients::new(client, options.pull_secrets.clone()),
        bodies: Bodies::new(store),
        lookups: JoinSet::new(),
        begun: 0,
        concurrent_lookups,
        waiting: VecDeque::new(),
    };
    Ok((Handle { requests }, tokio::spawn(service.run(receive))))
}

/// What a look-up found out.
enum Found {
    Pass(Box<Pass>),
    Tag(Resolved),
}

struct Service {
    engine: Engine,
    late_keys: LateKeys,
    clients: Clients,
    bodies: Bodies,
    lookups: JoinSet<Found>,
    /// Look-ups begun so far.
    begun: u64,
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
            for fact in self.late_keys.admitted(&self.engine, now) {
                self.engine.apply(fact, now);
            }
            self.engine.wake(now);
            self.start_lookups(now);
            self.hand_over(now);
        }
        self.engine.store.flush();
    }

    fn handle(&mut self, request: Request) {
        let now = Timestamp::now();
        match request {
            Request::Fact(fact) => {
                if let Some(fact) = self.late_keys.admit(fact, &self.engine, now) {
                    self.engine.apply(fact, now);
                }
            }
            Request::NextUpdate(answer) => self.waiting.push_back(answer),
            Request::Done(target, again_after) => {
                let again_at = again_after.map(|pause| after(now, pause));
                self.engine.done(target, again_at, now);
            }
            Request::Wanted(target, pause) => self.engine.queue.push_later(target, after(now, pause)),
            Request::Preview(changes, answer) => {
                if answer.send(self.engine.preview(changes, now)).is_err() {
                    tracing::debug!("whoever asked for a preview is gone");
                }
            }
            Request::Totals(answer) => {
                let delays = self.delays(now);
                let totals = self.engine.totals(now);
                if answer.send(Totals { delays, ..totals }).is_err() {
                    tracing::debug!("whoever asked for the totals is gone");
                }
            }
        }
    }

    fn absorb(&mut self, ended: Result<Found, tokio::task::JoinError>) {
        match ended {
            Ok(Found::Pass(pass)) => self.engine.absorb_pass(*pass, Timestamp::now()),
            Ok(Found::Tag(resolved)) => self.engine.absorb_tag(resolved, Timestamp::now()),
            // Look-ups catch their own panics; only the end of the runtime comes here.
            Err(error) => tracing::error!(%error, "a look-up ended without an answer"),
        }
    }

    fn start_lookups(&mut self, now: Timestamp) {
        while self.lookups.len() < self.concurrent_lookups {
            let is_for_a_tag = self.begun % TAG_EVERY == TAG_EVERY - 1;
            let begins = match is_for_a_tag {
                true => self.ask_for_a_tag(now) || self.look_up_an_image(now),
                false => self.look_up_an_image(now) || self.ask_for_a_tag(now),
            };
            if !begins {
                return;
            }
            self.begun += 1;
        }
    }

    fn look_up_an_image(&mut self, now: Timestamp) -> bool {
        let has_room = |repository: &Repository| self.clients.has_room_for_regular_work(repository);
        let Some(ask) = self.engine.next_lookup(now, &has_room) else {
            return false;
        };
        let (clients, bodies) = (self.clients.clone(), self.bodies.clone());
        let look_up = async move { Found::Pass(Box::new(look_up(clients, bodies, ask).await)) };
        self.lookups.spawn(look_up);
        true
    }

    fn ask_for_a_tag(&mut self, now: Timestamp) -> bool {
        let has_room = |repository: &Repository| self.clients.has_room_for_regular_work(repository);
        let Some(ask) = self.engine.next_tag(now, &has_room) else {
            return false;
        };
        let (clients, bodies) = (self.clients.clone(), self.bodies.clone());
        self.lookups
            .spawn(async move { Found::Tag(resolve(clients, bodies, ask).await) });
        true
    }

    /// For how long regular look-ups have waited for their turn, by registry and RegistryConfig.
    fn delays(&self, now: Timestamp) -> BTreeMap<(String, Option<String>), Duration> {
        let mut delays: BTreeMap<_, Duration> = BTreeMap::new();
        for (repository, due) in self.engine.turns.regular_in_line() {
            let place = (repository.registry().to_owned(), self.clients.route(repository));
            let delay = Duration::try_from(now.duration_since(due)).unwrap_or_default();
            let longest = delays.entry(place).or_default();
            *longest = delay.max(*longest);
        }
        delays
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
            let update = self.engine.handed_over(&target, now);
            let Some(answer) = self.waiting.pop_front() else {
                return;
            };
            if let Err(update) = answer.send(update) {
                // Whoever waited is gone; the next one gets it.
                if let Update::Workload(key, _, ended) = update {
                    self.engine.ended.put_back(&key, ended, now);
                }
                self.engine.done(target, Some(now), now);
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
        let next = next.into_iter().chain(self.late_keys.next()).min();
        let until = next.map(|time| time.duration_since(Timestamp::now()));
        let until = until.map(|pause| Duration::try_from(pause).unwrap_or(Duration::ZERO));
        until
            .unwrap_or(LONGEST_SLEEP)
            .clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }
}

impl Engine {
    /// What is to be written about a target that was taken from the queue.
    pub(crate) fn handed_over(&mut self, target: &Target, now: Timestamp) -> Update {
        let mut update = self.update(target, now);
        self.note_pending(&mut update);
        update
    }

    fn update(&mut self, target: &Target, now: Timestamp) -> Update {
        match target {
            Target::Workload(key) => {
                let ended = self.ended.take(key, now);
                Update::Workload(key.clone(), self.answer(key, now), ended)
            }
            Target::Policy(name) => Update::Policy(name.clone(), self.policy_report(name, now).map(Box::new)),
            Target::Key(name) => Update::Key(name.clone(), self.key_report(name, now).map(Box::new)),
            Target::Exception(name) => {
                Update::Exception(name.clone(), self.exception_report(name, now).map(Box::new))
            }
            Target::Revocation(name) => {
                Update::Revocation(name.clone(), self.revocation_report(name).map(Box::new))
            }
        }
    }
}
