//! What the watches of KeyRevocations and ImageExceptions have in common: the engine is told of the spec, and of when the
//! object was made.

use std::sync::Arc;

use engine::{Fact, ObjectFacts, Target};
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;

use crate::object_sink::Told;
use crate::objects::read_spec;

/// A kind of which the time of creation counts.
pub(crate) trait Dated: Send + 'static {
    const KIND: &'static str;
    type Resource: kube::Resource<DynamicType = ()>;
    type Spec: DeserializeOwned;
    type Status: Clone + PartialEq + Default + DeserializeOwned + Send;

    fn fact(facts: ObjectFacts<Self::Spec>) -> Fact;
    fn gone(name: Arc<str>) -> Fact;
    fn target(name: Arc<str>) -> Target;
}

impl<K: Dated> Told for K {
    const KIND: &'static str = <K as Dated>::KIND;
    type Resource = <K as Dated>::Resource;
    type Status = <K as Dated>::Status;

    fn fact(name: Arc<str>, object: &DynamicObject) -> (Fact, Option<String>) {
        let facts = ObjectFacts {
            name,
            generation: object.metadata.generation.unwrap_or_default(),
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            spec: read_spec(object),
        };
        let problem = facts.spec.as_ref().err().cloned();
        (<K as Dated>::fact(facts), problem)
    }
    fn gone(name: Arc<str>) -> Fact {
        <K as Dated>::gone(name)
    }
    fn target(name: Arc<str>) -> Target {
        <K as Dated>::target(name)
    }
}
