//! What the watches of the kinds that become facts have in common (ImagePolicies, SigningKeys, KeyRevocations and
//! ImageExceptions): an object whose spec changed is told, and its status is kept for the writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{Fact, Handle, Stopped, Target};
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;

use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::objects::{Objects, Row, UNREADABLE};
use crate::watch::{Roll, Sink};

/// A kind of which objects become facts.
pub(crate) trait Told: Send + 'static {
    /// The kind, for metrics and logs.
    const KIND: &'static str;
    /// The kind, for requests.
    type Resource: kube::Resource<DynamicType = ()>;
    /// What the operator says of an object of this kind.
    type Status: Clone + PartialEq + Default + DeserializeOwned + Send;

    /// What the object says, and what is wrong with it where it cannot be read.
    fn fact(name: Arc<str>, object: &DynamicObject) -> (Fact, Option<String>);
    /// That the object is gone.
    fn gone(name: Arc<str>) -> Fact;
    /// What writes about the object are called.
    fn target(name: Arc<str>) -> Target;
    /// What somebody asks for by an annotation, apart from the spec: its value, and what it says.
    fn request(_: &Arc<str>, _: &DynamicObject) -> Option<(String, Result<Fact, String>)> {
        None
    }
}

/// Tells the engine of the objects of one kind.
pub(crate) struct ObjectSink<K: Told> {
    engine: Handle,
    objects: Objects<K::Status>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    roll: Roll<Arc<str>>,
    /// What was asked for last of each object.
    requested: BTreeMap<Arc<str>, String>,
}

impl<K: Told> ObjectSink<K> {
    pub(crate) fn new(
        engine: Handle,
        objects: Objects<K::Status>,
        leadership: Leadership,
        metrics: Arc<Metrics>,
    ) -> Self {
        ObjectSink {
            engine,
            objects,
            leadership,
            metrics,
            roll: Roll::default(),
            requested: BTreeMap::new(),
        }
    }

    async fn seen(&mut self, object: DynamicObject) -> Result<(), Stopped> {
        let Some(name) = object.metadata.name.as_deref().map(Arc::<str>::from) else {
            return Ok(());
        };
        self.roll.seen(name.clone());
        let change = self.objects.seen(&name, Row::of(&object));
        if change.spec {
            let (fact, problem) = K::fact(name.clone(), &object);
            if let Some(problem) = problem {
                self.metrics.watch_error(K::KIND);
                tracing::error!(kind = K::KIND, %name, problem, "{UNREADABLE}");
            }
            self.engine.tell(fact).await?;
        } else if change.status && self.leadership.leads() {
            self.engine
                .wanted(K::target(name.clone()), Duration::ZERO)
                .await?;
        }
        self.asked(&name, &object).await
    }

    /// Tells what is asked for by an annotation, each request once.
    async fn asked(&mut self, name: &Arc<str>, object: &DynamicObject) -> Result<(), Stopped> {
        let Some((value, request)) = K::request(name, object) else {
            self.requested.remove(name);
            return Ok(());
        };
        if self.requested.get(name) == Some(&value) {
            return Ok(());
        }
        self.requested.insert(name.clone(), value);
        match request {
            Ok(fact) => self.engine.tell(fact).await,
            Err(problem) => {
                tracing::warn!(kind = K::KIND, %name, problem, "a request cannot be read and is not heeded");
                Ok(())
            }
        }
    }

    async fn gone(&mut self, name: Arc<str>) -> Result<(), Stopped> {
        self.roll.gone(&name);
        self.objects.gone(&name);
        self.requested.remove(&name);
        self.engine.tell(K::gone(name)).await
    }
}

impl<K: Told> Sink<DynamicObject> for ObjectSink<K> {
    async fn event(&mut self, event: Event<DynamicObject>) -> Result<(), Stopped> {
        match event {
            Event::Init => self.roll.list_begins(),
            Event::InitDone => {
                for name in self.roll.list_ended() {
                    self.gone(name).await?;
                }
            }
            Event::Apply(object) | Event::InitApply(object) => self.seen(object).await?,
            Event::Delete(object) => {
                if let Some(name) = object.metadata.name {
                    self.gone(name.into()).await?;
                }
            }
        }
        Ok(())
    }
}
