//! The watch of namespaces: names and labels into facts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine::{Fact, Handle, Stopped};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;

use crate::watch::{Roll, Sink};

/// Tells the engine of namespaces.
pub(crate) struct NamespaceSink {
    engine: Handle,
    labels: HashMap<Arc<str>, BTreeMap<String, String>>,
    roll: Roll<Arc<str>>,
}

impl NamespaceSink {
    pub(crate) fn new(engine: Handle) -> Self {
        NamespaceSink {
            engine,
            labels: HashMap::new(),
            roll: Roll::default(),
        }
    }

    /// The facts that an event makes true.
    fn facts(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> Vec<Fact> {
        match event {
            Event::Init => self.roll.list_begins(),
            Event::InitDone => {
                let gone = self.roll.list_ended();
                return gone.into_iter().map(|name| self.gone(name)).collect();
            }
            Event::Delete(namespace) => {
                if let Some(name) = namespace.metadata.name {
                    return vec![self.gone(name.into())];
                }
            }
            Event::Apply(namespace) | Event::InitApply(namespace) => {
                let Some(name) = namespace.metadata.name else {
                    return Vec::new();
                };
                return self.seen(name.into(), namespace.metadata.labels.unwrap_or_default());
            }
        }
        Vec::new()
    }

    fn seen(&mut self, name: Arc<str>, labels: BTreeMap<String, String>) -> Vec<Fact> {
        self.roll.seen(name.clone());
        if self.labels.get(&name) == Some(&labels) {
            return Vec::new();
        }
        self.labels.insert(name.clone(), labels.clone());
        vec![Fact::Namespace { name, labels }]
    }

    fn gone(&mut self, name: Arc<str>) -> Fact {
        self.roll.gone(&name);
        self.labels.remove(&name);
        Fact::NamespaceGone(name)
    }
}

impl Sink<PartialObjectMeta<Namespace>> for NamespaceSink {
    async fn event(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> Result<(), Stopped> {
        for fact in self.facts(event) {
            self.engine.tell(fact).await?;
        }
        Ok(())
    }
}
