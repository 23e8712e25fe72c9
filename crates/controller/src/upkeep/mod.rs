//! Kinds that the controller itself keeps up to date: what their objects refer to is read, told, and
//! answered in their statuses.
//!
//! Unlike policies and keys they wait in no queue of the engine. One task a kind takes the objects
//! in, hands all of them to its [`Kept`] whenever one changed or something is due, and writes the
//! statuses while this replica leads.

pub(crate) mod own_namespace;
pub(crate) mod previews;
pub(crate) mod registries;
pub(crate) mod trust_roots;
mod tuf;
mod tuf_store;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use engine::Stopped;
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::health::{Health, pulse};
use crate::jitter::spread;
use crate::lease::Leadership;
use crate::objects::{UNREADABLE, read_spec};
use crate::watch::{Roll, Sink};
use crate::write::now;
use crate::write::request::{Refused, Requests};

/// How often what the objects refer to is read again.
const READ_EVERY: Duration = Duration::from_secs(60);
/// Events that may wait.
const QUEUE: usize = 64;

/// A kind that is kept up to date.
pub(crate) trait Kept: Send + 'static {
    /// The kind, for logs and metrics.
    const KIND: &'static str;
    /// The name under which the task shows signs of life; the watch has the kind's.
    const LOOP: &'static str;
    /// The kind, for requests.
    type Resource: kube::Resource<DynamicType = ()>;
    /// What a user writes.
    type Spec: DeserializeOwned + Send + Sync;
    /// What the operator answers.
    type Status: Clone + PartialEq + Default + DeserializeOwned + Serialize + Send + Sync;

    /// Reads what the objects refer to, tells whom it concerns, and gives the status of each object.
    fn bring_up_to_date(
        &mut self,
        objects: &Stock<Self>,
        now: Timestamp,
    ) -> impl Future<Output = Result<BTreeMap<Arc<str>, Self::Status>, Stopped>> + Send;

    /// When it wants to be asked again, at the latest.
    fn due(&self) -> Option<Instant> {
        None
    }
}

/// The uid, the generation and a hash of the spec.
pub(crate) type Version = (String, i64, u64);

/// The objects of a kind, by name.
pub(crate) type Stock<K> = BTreeMap<Arc<str>, Held<<K as Kept>::Spec, <K as Kept>::Status>>;

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Held<Spec, Status> {
    uid: String,
    resource_version: String,
    pub(crate) generation: i64,
    spec_hash: u64,
    pub(crate) created: Option<Timestamp>,
    /// The spec, or why it cannot be read.
    pub(crate) spec: Result<Spec, String>,
    pub(crate) status: Status,
}

impl<Spec: DeserializeOwned, Status: Default + DeserializeOwned> Held<Spec, Status> {
    /// An object as the API server tells it; a status that cannot be read counts as absent, and is written anew.
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let status = object.data.get("status").cloned().unwrap_or_default();
        let metadata = &object.metadata;
        Held {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            spec_hash: crate::objects::spec_hash(object),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            spec: read_spec(object),
            status: serde_json::from_value(status).unwrap_or_default(),
        }
    }
}

impl<Spec, Status> Held<Spec, Status> {
    /// What tells this version of the spec from every other: a name and a generation come again after a deletion, and
    /// all of it where the API server's store was set back.
    fn version(&self) -> Version {
        (self.uid.clone(), self.generation, self.spec_hash)
    }
}

/// Hands what a watch sees to the task.
pub(crate) struct UpkeepSink {
    events: mpsc::Sender<Event<DynamicObject>>,
}

impl Sink<DynamicObject> for UpkeepSink {
    async fn event(&mut self, event: Event<DynamicObject>) -> Result<(), Stopped> {
        self.events.send(event).await.map_err(|_| Stopped)
    }
}

/// The task of one kind.
pub(crate) struct UpkeepTask<K: Kept> {
    kept: K,
    objects: Stock<K>,
    roll: Roll<Arc<str>>,
    events: mpsc::Receiver<Event<DynamicObject>>,
    requests: Requests,
    leadership: Leadership,
    health: Health,
    /// A complete list was taken in.
    listed: bool,
    /// Becomes true when everything that existed at the start is told.
    told: watch::Sender<bool>,
}

impl<K: Kept> UpkeepTask<K> {
    /// The task, what its watch tells, and what becomes true when everything that existed at the start is told.
    pub(crate) fn new(
        kept: K,
        requests: Requests,
        health: Health,
    ) -> (Self, UpkeepSink, watch::Receiver<bool>) {
        let (events, receive) = mpsc::channel(QUEUE);
        let (told, all_told) = watch::channel(false);
        let task = UpkeepTask {
            kept,
            objects: BTreeMap::new(),
            roll: Roll::default(),
            events: receive,
            leadership: requests.leadership.clone(),
            requests,
            health,
            listed: false,
            told,
        };
        (task, UpkeepSink { events }, all_told)
    }

    /// Keeps the objects up to date until the watch ends.
    pub(crate) async fn run(mut self) -> Result<(), Stopped> {
        let mut beat = pulse();
        let mut read_again = Instant::now();
        let mut led = false;
        // How long was waited after the last refusal; longer each time.
        let mut refused: Option<Duration> = None;
        loop {
            let due = self.kept.due().map_or(read_again, |due| due.min(read_again));
            tokio::select! {
                event = self.events.recv() => {
                    let mut changed = self.take(event.ok_or(Stopped)?);
                    while let Ok(event) = self.events.try_recv() {
                        changed |= self.take(event);
                    }
                    if !changed {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
                () = self.leadership.gained(), if !led => {}
                _ = beat.tick() => {
                    led = self.leadership.leads();
                    self.health.beat(K::LOOP);
                    continue;
                }
            }
            led = self.leadership.leads();
            read_again = Instant::now() + spread(READ_EVERY);
            if self.listed {
                let pause = self.bring_up_to_date().await?;
                refused = pause.map(|pause| pause.max(2 * refused.unwrap_or_default()));
                if let Some(pause) = refused {
                    read_again = read_again.min(Instant::now() + spread(pause));
                }
                self.told.send_replace(true);
            }
        }
    }

    /// Takes an event in; says whether there is something to do about it.
    fn take(&mut self, event: Event<DynamicObject>) -> bool {
        match event {
            Event::Init => {
                self.roll.list_begins();
                false
            }
            Event::InitDone => {
                for name in self.roll.list_ended() {
                    self.objects.remove(&name);
                }
                self.listed = true;
                true
            }
            Event::Apply(object) | Event::InitApply(object) => self.seen(&object),
            Event::Delete(object) => {
                let name: Arc<str> = object.metadata.name.unwrap_or_default().into();
                self.roll.gone(&name);
                self.objects.remove(&name).is_some()
            }
        }
    }

    fn seen(&mut self, object: &DynamicObject) -> bool {
        let Some(name) = object.metadata.name.as_deref().map(Arc::<str>::from) else {
            return false;
        };
        self.roll.seen(name.clone());
        let now = Held::of(object);
        let before = self.objects.get(&name);
        let same = before.is_some_and(|before| {
            (&before.uid, before.generation) == (&now.uid, now.generation) && before.status == now.status
        });
        if let (false, Err(problem)) = (same, &now.spec) {
            self.requests.metrics.watch_error(K::KIND);
            tracing::error!(kind = K::KIND, %name, problem, "{UNREADABLE}");
        }
        self.objects.insert(name, now);
        !same
    }

    /// Writes every status that is not as it should be; says how soon to try again what could not be written.
    async fn bring_up_to_date(&mut self) -> Result<Option<Duration>, Stopped> {
        let statuses = self.kept.bring_up_to_date(&self.objects, now()).await?;
        if !self.leadership.leads() {
            return Ok(None);
        }
        let mut again = None;
        for (name, status) in statuses {
            let Some(held) = self.objects.get_mut(&name) else {
                continue;
            };
            if held.status == status {
                continue;
            }
            match put::<K>(&self.requests, &name, &held.resource_version, &status).await {
                Ok(written) => {
                    held.resource_version = written;
                    held.status = status;
                }
                Err(refused) => {
                    tracing::warn!(kind = K::KIND, %name, %refused, "a status was not written and is tried again");
                    again = again.into_iter().chain(refused.passes_within()).min();
                }
            }
        }
        Ok(again)
    }
}

/// Writes one status; gives the version of the object that carries it.
async fn put<K: Kept>(
    requests: &Requests,
    name: &str,
    version: &str,
    status: &K::Status,
) -> Result<String, Refused> {
    let status = serde_json::to_value(status).map_err(|error| Refused::Invalid(error.to_string()))?;
    let object = requests
        .put_status::<K::Resource>(K::KIND, name, version, status)
        .await?;
    Ok(object.metadata.resource_version.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ApiServer;
    use api::{RegistryConfig, RegistryConfigSpec, RegistryConfigStatus};
    use serde_json::json;

    /// Answers each object with its generation.
    struct Answers;

    impl Kept for Answers {
        const KIND: &'static str = "RegistryConfig";
        const LOOP: &'static str = "answers";
        type Resource = RegistryConfig;
        type Spec = RegistryConfigSpec;
        type Status = RegistryConfigStatus;

        async fn bring_up_to_date(
            &mut self,
            objects: &Stock<Self>,
            _now: Timestamp,
        ) -> Result<BTreeMap<Arc<str>, RegistryConfigStatus>, Stopped> {
            let answer = |held: &Held<_, _>| RegistryConfigStatus {
                observed_generation: Some(held.generation),
                ..RegistryConfigStatus::default()
            };
            let answers = objects.iter().map(|(name, held)| (name.clone(), answer(held)));
            Ok(answers.collect())
        }
    }

    /// Weakened once: where what was refused is written with the next reading, it takes a minute.
    #[tokio::test]
    async fn a_status_that_the_api_server_has_no_time_for_is_written_soon() {
        let object = json!({"apiVersion": "assay.dev/v1alpha1", "kind": "RegistryConfig",
            "metadata": {"name": "r", "uid": "u", "resourceVersion": "1", "generation": 1},
            "spec": {"prefix": "r.example"}});
        let written = object.clone();
        let server = ApiServer::start(move |request| match request.number {
            0 => (503, json!({"code": 503, "message": "m"})),
            _ => (200, written.clone()),
        });
        let requests = server.writes(Leadership::Alone);
        let (task, mut sink, _told) = UpkeepTask::new(Answers, requests, Health::default());
        let running = tokio::spawn(task.run());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        for event in [Event::Init, Event::InitApply(object), Event::InitDone] {
            sink.event(event).await.unwrap();
        }
        let both = server.until_requests(2);
        assert!(tokio::time::timeout(READ_EVERY / 3, both).await.is_ok());
        running.abort();
    }
}
