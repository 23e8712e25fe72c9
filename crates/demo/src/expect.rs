//! What the story promises of the statuses, and how a status that is otherwise is told. Pure.

use api::{ContainerType, ImageCompliance, ImagePolicy, SigningKey, conditions};
use kube::ResourceExt;

/// What the ImageCompliance of one workload must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The namespace.
    pub namespace: &'static str,
    /// The name of the ImageCompliance.
    pub name: &'static str,
    /// Status and reason of the condition `Compliant`.
    pub compliant: (&'static str, &'static str),
    /// The status of `DryRunCompliant`; `None` where no DryRun policy covers the workload.
    pub dry_run: Option<&'static str>,
    /// Kinds of containers that must be among those judged.
    pub containers: &'static [ContainerType],
    /// Whether there may be no answer yet: a bare pod that is younger than a minute gets one only if it violates.
    pub may_be_missing: bool,
}

impl Answer {
    /// An answer about ordinary containers by Enforce policies alone.
    pub const fn new(
        namespace: &'static str,
        name: &'static str,
        status: &'static str,
        reason: &'static str,
    ) -> Self {
        Self {
            namespace,
            name,
            compliant: (status, reason),
            dry_run: None,
            containers: &[ContainerType::Container],
            may_be_missing: false,
        }
    }

    /// The same with another status and reason; now it must be there.
    pub fn turned(self, status: &'static str, reason: &'static str) -> Self {
        Self {
            compliant: (status, reason),
            may_be_missing: false,
            ..self
        }
    }

    /// What is otherwise, if anything is.
    pub fn mismatch(&self, all: &[ImageCompliance]) -> Option<String> {
        let is_it = |object: &&ImageCompliance| {
            object.namespace().as_deref() == Some(self.namespace) && object.name_any() == self.name
        };
        let Some(found) = all.iter().find(is_it) else {
            let missing = format!("{}/{}: there is no ImageCompliance", self.namespace, self.name);
            return (!self.may_be_missing).then_some(missing);
        };
        let compliant = condition(found, conditions::COMPLIANT);
        let dry_run = condition(found, conditions::DRY_RUN_COMPLIANT).map(|(status, _)| status);
        let images = &found.status.images;
        let judged = |kind: &ContainerType| {
            images
                .iter()
                .any(|image| image.containers.iter().any(|container| container.type_ == *kind))
        };
        let forgotten: Vec<_> = self.containers.iter().filter(|kind| !judged(kind)).collect();
        let right = compliant == Some(self.compliant) && dry_run == self.dry_run && forgotten.is_empty();
        (!right).then(|| {
            format!(
                "{}/{}: expected Compliant {:?} and DryRunCompliant {:?}, found {compliant:?} and {dry_run:?}; \
                 kinds of containers not judged: {forgotten:?}",
                self.namespace, self.name, self.compliant, self.dry_run,
            )
        })
    }
}

/// Every expected answer that is otherwise, and every answer that nobody expects.
pub fn mismatches(expected: &[Answer], all: &[ImageCompliance]) -> Vec<String> {
    let known = |object: &&ImageCompliance| {
        expected.iter().any(|answer| {
            object.namespace().as_deref() == Some(answer.namespace) && object.name_any() == answer.name
        })
    };
    let surplus = all.iter().filter(|object| !known(object)).map(|object| {
        format!(
            "{}/{}: nobody expects it",
            object.namespace().unwrap_or_default(),
            object.name_any()
        )
    });
    expected
        .iter()
        .filter_map(|answer| answer.mismatch(all))
        .chain(surplus)
        .collect()
}

/// What an ImagePolicy must count.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// Its name.
    pub policy: &'static str,
    /// Workloads, compliant, violating and unknown ones.
    pub workloads: (i64, i64, i64, i64),
}

impl Count {
    /// What is otherwise, if anything is.
    pub fn mismatch(&self, all: &[ImagePolicy]) -> Option<String> {
        let policy = all.iter().find(|policy| policy.name_any() == self.policy);
        let status = policy.and_then(|policy| policy.status.as_ref());
        let found = status.map(|status| {
            (
                status.workloads,
                status.compliant,
                status.violating,
                status.unknown,
            )
        });
        let (workloads, compliant, violating, unknown) = self.workloads;
        let expected = (Some(workloads), Some(compliant), Some(violating), Some(unknown));
        (found != Some(expected)).then(|| {
            format!("ImagePolicy {}: expected (workloads, compliant, violating, unknown) {expected:?}, found {found:?}",
                self.policy)
        })
    }
}

/// What a SigningKey must count.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// Its name.
    pub key: &'static str,
    /// Workloads that rest on it alone.
    pub sole_trust: i64,
}

impl Trust {
    /// What is otherwise, if anything is.
    pub fn mismatch(&self, all: &[SigningKey]) -> Option<String> {
        let key = all.iter().find(|key| key.name_any() == self.key);
        let trust = key.and_then(|key| key.status.as_ref()?.sole_trust.as_ref());
        let found = trust.map(|trust| trust.workloads);
        (found != Some(self.sole_trust)).then(|| {
            format!(
                "SigningKey {}: expected {} workloads of sole trust, found {found:?}",
                self.key, self.sole_trust
            )
        })
    }
}

fn condition<'a>(object: &'a ImageCompliance, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = object
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((&found.status, &found.reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WEB: Answer = Answer::new("shop", "deployment-web", "True", "AllVerified");

    fn compliance(status: &str, reason: &str, container: &str) -> ImageCompliance {
        let time = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "deployment-web"},
            "status": {
                "conditions": [{"type": "Compliant", "status": status, "reason": reason, "message": "",
                    "lastTransitionTime": time}],
                "images": [{"image": "r/web", "containers": [{"name": "web", "type": container}]}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn an_answer_must_be_there_with_its_status_its_reason_and_its_containers() {
        let good = compliance("True", "AllVerified", "Container");
        assert_eq!(
            mismatches(&[WEB], std::slice::from_ref(&good)),
            Vec::<String>::new()
        );
        assert_eq!(mismatches(&[WEB], &[]).len(), 1);
        assert_eq!(
            mismatches(&[WEB], &[compliance("True", "PartlyCovered", "Container")]).len(),
            1
        );
        assert_eq!(
            mismatches(&[WEB], &[compliance("Unknown", "AllVerified", "Container")]).len(),
            1
        );
        assert_eq!(
            mismatches(&[WEB], &[compliance("True", "AllVerified", "Init")]).len(),
            1
        );
        assert_eq!(
            mismatches(
                &[Answer {
                    dry_run: Some("True"),
                    ..WEB
                }],
                &[good]
            )
            .len(),
            1
        );
    }

    #[test]
    fn an_answer_that_nobody_expects_is_a_mismatch() {
        assert_eq!(
            mismatches(&[], &[compliance("True", "AllVerified", "Container")]).len(),
            1
        );
    }

    #[test]
    fn only_an_answer_that_may_be_missing_may_be_missing() {
        let young = Answer {
            may_be_missing: true,
            ..WEB
        };
        assert!(young.mismatch(&[]).is_none());
        assert!(young.turned("False", "KeyRevoked").mismatch(&[]).is_some());
        assert!(
            young
                .mismatch(&[compliance("False", "KeyRevoked", "Container")])
                .is_some()
        );
    }
}
