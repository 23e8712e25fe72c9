//! The watch of ImageExceptions: specs into facts.

use std::sync::Arc;

use api::{ImageException, ImageExceptionSpec, ImageExceptionStatus};
use engine::{ExceptionFacts, Fact, Target};

use crate::dated::Dated;

/// ImageExceptions as the engine is told of them.
pub(crate) enum Exceptions {}

impl Dated for Exceptions {
    const KIND: &'static str = "ImageException";
    type Resource = ImageException;
    type Spec = ImageExceptionSpec;
    type Status = ImageExceptionStatus;

    fn fact(facts: ExceptionFacts) -> Fact {
        Fact::Exception(Box::new(facts))
    }
    fn gone(name: Arc<str>) -> Fact {
        Fact::ExceptionGone(name)
    }
    fn target(name: Arc<str>) -> Target {
        Target::Exception(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_sink::Told;
    use serde_json::{Value, json};

    fn facts(spec: Value) -> ExceptionFacts {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "ImageException",
            "metadata": {"name": "hotfix", "generation": 2, "creationTimestamp": "2026-03-01T00:00:00Z"},
            "spec": spec,
        });
        let (fact, problem) =
            <Exceptions as Told>::fact("hotfix".into(), &serde_json::from_value(object).unwrap());
        let Fact::Exception(facts) = fact else {
            panic!("it is told as another kind")
        };
        assert_eq!(facts.spec.as_ref().err(), problem.as_ref());
        *facts
    }

    #[test]
    fn an_exception_is_told_with_its_spec_and_when_it_was_made() {
        let facts = facts(json!({
            "policies": ["prod"], "images": ["**"], "namespaces": ["shop"],
            "expires": "2026-03-02T00:00:00Z", "reason": "vendor fixes it",
        }));
        assert_eq!(facts.spec.unwrap().reason, "vendor fixes it");
        assert_eq!(facts.created.unwrap().to_string(), "2026-03-01T00:00:00Z");
    }

    /// C5.21.
    #[test]
    fn an_exception_that_cannot_be_read_is_told_as_one() {
        let problem = facts(json!({"policies": ["prod"], "expires": "tomorrow"}))
            .spec
            .unwrap_err();
        assert!(problem.contains("spec cannot be read"), "{problem}");
    }
}
