//! The watch of SigningKeys: specs into facts.

use std::sync::Arc;

use api::{SigningKey, SigningKeyStatus};
use engine::{Fact, KeyFacts, Target, UnreadableKey};
use kube::api::DynamicObject;
use serde_json::Value;

use crate::object_sink::Told;
use crate::objects::read_spec;

/// SigningKeys as the engine is told of them.
pub(crate) enum Keys {}

impl Told for Keys {
    const KIND: &'static str = "SigningKey";
    type Resource = SigningKey;
    type Status = SigningKeyStatus;

    fn fact(name: Arc<str>, object: &DynamicObject) -> (Fact, Option<String>) {
        let facts = key_facts(name, object);
        let problem = facts
            .spec
            .as_ref()
            .err()
            .map(|unreadable| unreadable.problem.clone());
        (Fact::Key(Box::new(facts)), problem)
    }
    fn gone(name: Arc<str>) -> Fact {
        Fact::KeyGone(name)
    }
    fn target(name: Arc<str>) -> Target {
        Target::Key(name)
    }
}

/// What an object says as a key.
fn key_facts(name: Arc<str>, object: &DynamicObject) -> KeyFacts {
    let key_ring = object.data.get("spec").and_then(|spec| spec.get("keyRing"));
    let key_ring = key_ring.and_then(Value::as_str).map(str::to_owned);
    KeyFacts {
        name,
        generation: object.metadata.generation.unwrap_or_default(),
        spec: read_spec(object).map_err(|problem| UnreadableKey { key_ring, problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(spec: Value) -> KeyFacts {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey",
            "metadata": {"name": "release-1", "generation": 2}, "spec": spec,
        });
        key_facts("release-1".into(), &serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_key_is_told_with_its_spec() {
        let facts = facts(json!({"keyRing": "release", "stage": "Active", "publicKey": {"pem": "x"}}));
        assert_eq!(facts.spec.unwrap().key_ring, "release");
    }

    /// C5.21.
    #[test]
    fn a_key_that_cannot_be_read_still_names_its_ring_where_it_can() {
        let unreadable = facts(json!({"keyRing": "release", "stage": 7})).spec.unwrap_err();
        assert_eq!(unreadable.key_ring.as_deref(), Some("release"));
        assert_eq!(facts(json!({"keyRing": 7})).spec.unwrap_err().key_ring, None);
    }
}
