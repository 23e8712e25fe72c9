//! The task around the inventory: watch events in, facts out, questions about owners asked.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Handle, Stopped, WorkloadKey};
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use super::climb::BuiltIn;
use super::lookup::{Found, Lookup};
use super::owners::OwnerQuestion;
use super::registered::{RegisteredSink, SeenRegistered, WorkloadTemplate};
use super::slim::{SlimOwner, SlimPod, SlimWorkload, Unreadable};
use super::templates::TemplateFound;
use super::{ANSWER_WAIT, Effects, Inventory, OWNER_WAIT, protobuf};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::watch::{ReadProtobuf, Sink};

/// How many watch events, and pages of lists, may wait for the inventory.
const QUEUE: usize = 32;
/// How many owners and templates are asked for at the same time.
const QUESTIONS: usize = 4;
/// How often it is looked for pods that waited long enough.
const TICK: Duration = Duration::from_millis(250);
/// How often it is looked for owners that could not be read and are due again.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// How often the inventory is tidied.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// The name under which the loop shows signs of life.
const NAME: &str = "inventory";

/// What a watch saw: one event, or those of one page of a list.
#[derive(Debug)]
pub(crate) enum Observation {
    Pods(Vec<Event<SlimPod>>),
    Owners(&'static BuiltIn, Vec<Event<SlimOwner>>),
    Workloads(&'static BuiltIn, Vec<Event<SlimWorkload>>),
    Registered(SeenRegistered),
}

/// Takes the events of the pods' watch.
pub(crate) struct PodSink(mpsc::Sender<Observation>);

/// Takes the events of the watch of one built-in kind of owners.
pub(crate) struct OwnerSink(&'static BuiltIn, mpsc::Sender<Observation>);

/// Takes the events of the watch of one built-in kind that is watched with its templates.
pub(crate) struct WorkloadSink(&'static BuiltIn, mpsc::Sender<Observation>);

impl Sink<SlimPod> for PodSink {
    fn protobuf(&self) -> Option<ReadProtobuf<SlimPod>> {
        Some(protobuf::pod)
    }

    async fn event(&mut self, event: Event<SlimPod>) -> Result<(), Stopped> {
        let seen = Observation::Pods(vec![event]);
        self.0.send(seen).await.map_err(|_| Stopped)
    }

    async fn page(&mut self, pods: Vec<SlimPod>) -> Result<(), Stopped> {
        let seen = Observation::Pods(listed(pods));
        self.0.send(seen).await.map_err(|_| Stopped)
    }
}

impl Sink<SlimOwner> for OwnerSink {
    fn protobuf(&self) -> Option<ReadProtobuf<SlimOwner>> {
        Some(protobuf::owner)
    }

    async fn event(&mut self, event: Event<SlimOwner>) -> Result<(), Stopped> {
        let seen = Observation::Owners(self.0, vec![event]);
        self.1.send(seen).await.map_err(|_| Stopped)
    }

    async fn page(&mut self, owners: Vec<SlimOwner>) -> Result<(), Stopped> {
        let seen = Observation::Owners(self.0, listed(owners));
        self.1.send(seen).await.map_err(|_| Stopped)
    }
}

impl Sink<SlimWorkload> for WorkloadSink {
    async fn event(&mut self, event: Event<SlimWorkload>) -> Result<(), Stopped> {
        let seen = Observation::Workloads(self.0, vec![event]);
        self.1.send(seen).await.map_err(|_| Stopped)
    }

    async fn page(&mut self, workloads: Vec<SlimWorkload>) -> Result<(), Stopped> {
        let seen = Observation::Workloads(self.0, listed(workloads));
        self.1.send(seen).await.map_err(|_| Stopped)
    }
}

fn listed<K>(objects: Vec<K>) -> Vec<Event<K>> {
    objects.into_iter().map(Event::InitApply).collect()
}

/// The way into the inventory for the watches.
#[derive(Clone, Debug)]
pub(crate) struct Inlet(mpsc::Sender<Observation>);

impl Inlet {
    pub(crate) fn pods(&self) -> PodSink {
        PodSink(self.0.clone())
    }

    pub(crate) fn owners(&self, kind: &'static BuiltIn) -> OwnerSink {
        OwnerSink(kind, self.0.clone())
    }

    pub(crate) fn workloads(&self, kind: &'static BuiltIn) -> WorkloadSink {
        WorkloadSink(kind, self.0.clone())
    }

    pub(crate) fn registered(&self, kind: Arc<WorkloadTemplate>) -> RegisteredSink {
        RegisteredSink::new(kind, self.0.clone())
    }
}

/// What the API server is asked for.
#[derive(Clone, Debug)]
enum Question {
    Owner(OwnerQuestion),
    Template(WorkloadKey),
}

/// What it said.
enum Answered {
    Owner(Found),
    Template(TemplateFound),
}

/// The inventory with all it talks to.
pub(crate) struct InventoryTask {
    inventory: Inventory,
    observations: mpsc::Receiver<Observation>,
    questions: VecDeque<Question>,
    answers: JoinSet<Answered>,
    /// What is asked by which of the tasks.
    asked: HashMap<Id, Question>,
    lookup: Arc<Lookup>,
    client: Client,
    engine: Handle,
    metrics: Arc<Metrics>,
    health: Health,
    pods_listed: Option<Instant>,
    told: watch::Sender<bool>,
}

impl InventoryTask {
    /// The task, the way in, and what becomes true when every pod of the first list was told.
    pub(crate) fn new(
        inventory: Inventory,
        lookup: Arc<Lookup>,
        client: Client,
        engine: Handle,
        metrics: Arc<Metrics>,
        health: Health,
    ) -> (Self, Inlet, watch::Receiver<bool>) {
        let (inlet, observations) = mpsc::channel(QUEUE);
        let (told, all_told) = watch::channel(false);
        let task = InventoryTask {
            inventory,
            observations,
            questions: VecDeque::new(),
            answers: JoinSet::new(),
            asked: HashMap::new(),
            lookup,
            client,
            engine,
            metrics,
            health,
            pods_listed: None,
            told,
        };
        (task, Inlet(inlet), all_told)
    }

    /// Runs until the engine stops or every watch is gone.
    pub(crate) async fn run(mut self) -> Result<(), Stopped> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidy_at = Instant::now() + TIDY_EVERY;
        let mut ask_again_at = Instant::now() + ASK_AGAIN_EVERY;
        loop {
            let effects = tokio::select! {
                observation = self.observations.recv() => match observation {
                    Some(observation) => self.observe(observation),
                    None => return Err(Stopped),
                },
                Some(answer) = self.answers.join_next_with_id() => self.answered(answer, Instant::now()),
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.health.beat(NAME);
                    let mut effects = self.inventory.release_waiting(now);
                    if now >= ask_again_at {
                        ask_again_at = now + ASK_AGAIN_EVERY;
                        effects.add(self.inventory.ask_again(now));
                    }
                    if now >= tidy_at {
                        tidy_at = now + TIDY_EVERY;
                        let due = self.inventory.tidy();
                        effects.add(due);
                    }
                    effects
                }
            };
            self.carry_out(effects).await?;
        }
    }

    /// A question that panicked counts as one that could not be answered: it is asked again.
    fn answered(&mut self, answer: Result<(Id, Answered), JoinError>, now: Instant) -> Effects {
        let (id, answered) = match answer {
            Ok((id, answered)) => (id, Some(answered)),
            Err(error) => {
                tracing::error!(%error, "asking for an owner ended by a fault of this program");
                (error.id(), None)
            }
        };
        match (self.asked.remove(&id), answered) {
            (Some(Question::Owner(question)), Some(Answered::Owner(found))) => {
                self.inventory.answered(&question, found, now)
            }
            (Some(Question::Owner(question)), _) => {
                self.inventory.answered(&question, Found::OutOfReach, now)
            }
            (Some(Question::Template(key)), Some(Answered::Template(found))) => {
                self.template_answered(&key, found)
            }
            (Some(Question::Template(key)), _) => self.template_answered(&key, TemplateFound::OutOfReach),
            (None, _) => Effects::default(),
        }
    }

    fn template_answered(&mut self, key: &WorkloadKey, found: TemplateFound) -> Effects {
        let mut effects = Effects::default();
        if let Some(kind) = BuiltIn::of(&key.group, &key.kind) {
            let read = self.inventory.template_answered(kind, key, found, &mut effects);
            self.note_unreadable(&key.kind, &key.namespace, &key.name, read);
        }
        effects
    }

    /// A template that cannot be read is not judged; what was known of it before is kept.
    fn note_unreadable(&self, kind: &str, namespace: &str, name: &str, read: Result<(), Unreadable>) {
        if let Err(error) = read {
            let kind_of_watch = BuiltIn::named(kind).map_or("registered", |kind| kind.kind);
            self.metrics.watch_error(kind_of_watch);
            tracing::error!(kind, namespace, name, %error,
                "a template cannot be read and is not judged; what was known of it before is kept");
        }
    }

    fn observe(&mut self, observation: Observation) -> Effects {
        let now = Instant::now();
        let mut effects = Effects::default();
        match observation {
            Observation::Pods(events) => events
                .into_iter()
                .for_each(|event| effects.add(self.observe_pod(event, now))),
            Observation::Owners(kind, events) => events
                .into_iter()
                .for_each(|event| effects.add(self.observe_owner(kind, event, now))),
            Observation::Workloads(kind, events) => events
                .into_iter()
                .for_each(|event| effects.add(self.observe_workload(kind, event, now))),
            Observation::Registered(seen) => effects.add(self.observe_registered(seen)),
        }
        effects
    }

    fn observe_workload(
        &mut self,
        kind: &'static BuiltIn,
        event: Event<SlimWorkload>,
        now: Instant,
    ) -> Effects {
        let workload = match event {
            Event::Init => {
                self.inventory.owners_list_begins(kind);
                return Effects::default();
            }
            Event::InitDone => return self.inventory.owners_list_ended(kind, now),
            Event::Delete(workload) => return self.inventory.owner_deleted(kind, &workload.metadata, now),
            Event::Apply(workload) | Event::InitApply(workload) => workload,
        };
        let mut effects = self.inventory.owner(kind, &workload.metadata, now);
        let read = self.inventory.workload(kind, &workload, &mut effects);
        let namespace = workload.namespace().unwrap_or_default();
        self.note_unreadable(kind.kind, &namespace, &workload.name_any(), read);
        effects
    }

    fn observe_registered(&mut self, seen: SeenRegistered) -> Effects {
        let mut effects = Effects::default();
        match seen {
            SeenRegistered::Is(template) => {
                let read = self.inventory.registered(&template, &mut effects);
                let namespace = template.metadata.namespace.as_deref().unwrap_or_default();
                let name = template.metadata.name.as_deref().unwrap_or_default();
                self.note_unreadable(&template.kind, namespace, name, read);
            }
            SeenRegistered::Gone(template) => self.inventory.registered_gone(&template, &mut effects),
            SeenRegistered::Missing(gone) => self.inventory.registered_missing(gone, &mut effects),
        }
        effects
    }

    fn observe_pod(&mut self, event: Event<SlimPod>, now: Instant) -> Effects {
        match event {
            Event::Init => self.inventory.pods_list_begins(),
            Event::InitDone => {
                self.pods_listed.get_or_insert_with(Instant::now);
                return self.inventory.pods_list_ended();
            }
            Event::Delete(pod) => return self.inventory.pod_deleted(&pod),
            Event::Apply(pod) | Event::InitApply(pod) => match self.inventory.pod(&pod, now) {
                Ok(effects) => return effects,
                Err(error) => {
                    self.metrics.watch_error("Pod");
                    let namespace = pod.namespace();
                    tracing::error!(namespace, name = pod.name_any(), uid = pod.uid(), %error,
                        "a pod cannot be read and is not judged; what was known of it before is kept");
                }
            },
        }
        Effects::default()
    }

    fn observe_owner(&mut self, kind: &'static BuiltIn, event: Event<SlimOwner>, now: Instant) -> Effects {
        match event {
            Event::Init => {
                self.inventory.owners_list_begins(kind);
                Effects::default()
            }
            Event::InitDone => self.inventory.owners_list_ended(kind, now),
            Event::InitApply(owner) => self.inventory.owner_listed(kind, &owner.metadata, now),
            Event::Apply(owner) => self.inventory.owner(kind, &owner.metadata, now),
            Event::Delete(owner) => self.inventory.owner_deleted(kind, &owner.metadata, now),
        }
    }

    async fn carry_out(&mut self, effects: Effects) -> Result<(), Stopped> {
        for question in effects.questions {
            // Whatever the trouble with custom kinds is, it is none of those that most pods have.
            match BuiltIn::of(&question.owner.group, &question.owner.kind) {
                Some(_) => self.questions.push_front(Question::Owner(question)),
                None => self.questions.push_back(Question::Owner(question)),
            }
        }
        self.questions
            .extend(effects.templates.into_iter().map(Question::Template));
        self.ask();
        self.engine.tell_all(effects.facts).await?;
        if !*self.told.borrow() && self.is_all_told() {
            self.told.send_replace(true);
        }
        Ok(())
    }

    /// Asks for owners and templates, a few at a time.
    fn ask(&mut self) {
        while self.answers.len() < QUESTIONS
            && let Some(question) = self.questions.pop_front()
        {
            if matches!(&question, Question::Owner(question) if !self.inventory.is_open(question)) {
                continue;
            }
            let (lookup, client, asked) = (self.lookup.clone(), self.client.clone(), question.clone());
            let task = self.answers.spawn(async move {
                match asked {
                    Question::Owner(question) => Answered::Owner(lookup.find(&client, &question.owner).await),
                    Question::Template(key) => Answered::Template(lookup.template(&client, &key).await),
                }
            });
            self.asked.insert(task.id(), question);
        }
    }

    /// Every pod of the first list is told after the inventory's patience; pods that came since may be held,
    /// and must not hold everything up.
    fn is_all_told(&self) -> bool {
        let patience_is_over = |listed: Instant| listed.elapsed() > ANSWER_WAIT + OWNER_WAIT;
        self.pods_listed
            .is_some_and(|listed| patience_is_over(listed) || self.inventory.holds_nobody())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ApiServer;
    use engine::{EngineOptions, Fact};
    use serde_json::{Value, json};

    fn task() -> InventoryTask {
        let registries = registry::Client::new(registry::ClientOptions::default()).unwrap();
        let (engine, _task) = engine::start(&EngineOptions::default(), registries).unwrap();
        let server = ApiServer::start(|_| (ApiServer::NEVER, Value::Null));
        let lookup = Arc::new(Lookup::default());
        let (inventory, metrics, health) = (Inventory::default(), Metrics::new("0"), Health::default());
        InventoryTask::new(inventory, lookup, server.client(), engine, metrics, health).0
    }

    fn pod_of_a_custom_owner() -> SlimPod {
        pod_of("db.example.com/v1", "Postgres", "main")
    }

    /// A pod that is called as its owner.
    fn pod_of(api_version: &str, kind: &str, name: &str) -> SlimPod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "ownerReferences": [
                {"apiVersion": api_version, "kind": kind, "name": name, "uid": "p", "controller": true},
            ]},
            "spec": {"containers": [{"name": "db", "image": "r/db:1"}]},
            "status": {"phase": "Running", "containerStatuses": [{"name": "db", "imageID": ""}]},
        }))
        .unwrap()
    }

    /// An owner of which nothing is heard must not count as being asked for until the process ends.
    #[tokio::test]
    async fn a_question_that_panics_is_answered_as_out_of_reach() {
        let mut task = task();
        let now = Instant::now();
        let mut effects = task.inventory.pod(&pod_of_a_custom_owner(), now).unwrap();
        assert!(effects.facts.is_empty(), "the pod waits for its owner");
        let key = effects.questions.remove(0);
        let question = task.answers.spawn(async { panic!("by a test") });
        task.asked.insert(question.id(), Question::Owner(key));
        let answer = task.answers.join_next_with_id().await.unwrap();
        let effects = task.answered(answer, now);
        let [Fact::Pod(pod)] = effects.facts.as_slice() else {
            panic!("the pod is told: {effects:?}")
        };
        assert_eq!(
            pod.workload.reference.managed_by.as_deref(),
            Some("Postgres.db.example.com/main")
        );
        assert!(task.asked.is_empty());
    }

    #[tokio::test]
    async fn the_first_list_is_not_told_while_a_pod_waits_for_an_answer() {
        let mut task = task();
        let now = Instant::now();
        task.inventory.pod(&pod_of_a_custom_owner(), now).unwrap();
        let before = |ago: Duration| now.checked_sub(ago);
        task.pods_listed = before(ANSWER_WAIT);
        assert!(!task.is_all_told());
        task.pods_listed = before(ANSWER_WAIT + 2 * OWNER_WAIT);
        assert!(
            task.is_all_told(),
            "one that never answers holds nobody up for ever"
        );
    }

    /// A custom kind that hangs may take every place for as long as a question may last.
    #[tokio::test]
    async fn a_replica_set_is_asked_for_before_owners_of_custom_kinds() {
        let mut task = task();
        let now = Instant::now();
        let mut effects = Effects::default();
        for name in ["a", "b", "c", "d", "e"] {
            let pod = pod_of("x.io/v1", "App", name);
            effects.add(task.inventory.pod(&pod, now).unwrap());
        }
        let pod = pod_of("apps/v1", "ReplicaSet", "web");
        effects.add(task.inventory.pod(&pod, now).unwrap());
        task.carry_out(effects).await.unwrap();
        let is_of_web = |question: &Question| matches!(question, Question::Owner(question) if &*question.owner.name == "web");
        assert!(task.asked.values().any(is_of_web), "{:?}", task.asked);
        assert_eq!((task.asked.len(), task.questions.len()), (QUESTIONS, 2));
    }
}
