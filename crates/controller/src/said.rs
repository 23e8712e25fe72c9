//! What was last said of a workload, as small as the next answer needs it.

use std::collections::HashMap;
use std::sync::Arc;

use api::{
    ImageComplianceStatus, ImageResult, Mode, NextStart, PolicyResult, Reason, Verdict, WillBecome,
    WorkloadRef,
};
use engine::{RememberedViolation, SaidElsewhere, SaidOfImage, WorkloadKey};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

/// The last answer about a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) workload: Option<WorkloadRef>,
    pub(crate) verdict: Option<Verdict>,
    /// Without their messages.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) results: Vec<SaidResult>,
    /// What would happen if the workload's template started.
    pub(crate) next_start: Option<Box<NextStart>>,
    /// Some results were left out of the object, and none of those is in `results`.
    pub(crate) forgot_some: bool,
}

/// The last answer of one policy about one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SaidResult {
    pub(crate) image: String,
    pub(crate) digest: String,
    pub(crate) policy: String,
    pub(crate) mode: Mode,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    pub(crate) since: Timestamp,
    /// The last verdict that was not merely waiting for a first look.
    pub(crate) settled: Option<Verdict>,
    /// When it falls, where that was told.
    pub(crate) warned: Option<Timestamp>,
}

/// What was last said as it is kept until the next answer: as the bytes of its text, for it is kept of thousands of
/// workloads and looked at rarely.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<Box<[u8]>>);

impl Kept {
    /// Something was said of a workload.
    pub(crate) fn is_about_a_workload(&self) -> bool {
        self.0.is_some()
    }

    /// What was said; nothing where nothing was said of a workload.
    pub(crate) fn said(&self) -> Said {
        self.read().unwrap_or_default()
    }

    /// The workload that it speaks of.
    pub(crate) fn key(&self, namespace: &str) -> Option<WorkloadKey> {
        /// The rest is passed over.
        #[derive(Deserialize)]
        struct About {
            workload: WorkloadRef,
        }
        let About { workload } = self.read()?;
        Some(WorkloadKey::of(namespace.into(), &workload))
    }

    fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        let read = serde_json::from_slice(self.0.as_deref()?);
        read.inspect_err(|error| {
            tracing::error!(%error, "what was last said of a workload cannot be read back; it is said anew");
        })
        .ok()
    }
}

impl From<&Said> for Kept {
    fn from(said: &Said) -> Self {
        let bytes = || match serde_json::to_vec(said) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) => {
                tracing::error!(%error, "what is said of a workload cannot be kept; it will be said anew");
                None
            }
        };
        Kept(said.workload.as_ref().and_then(|_| bytes()))
    }
}

/// Results by image, digest and policy.
pub(crate) type Index<'a> = HashMap<(&'a str, &'a str, &'a str), &'a SaidResult>;

impl SaidResult {
    /// What is said of an image; `before` is what was said of it by the same policy.
    pub(crate) fn of(image: &ImageResult, result: &PolicyResult, before: Option<&SaidResult>) -> Self {
        let settled_before = before.and_then(|said| said.settled);
        SaidResult {
            image: image.image.clone(),
            digest: image.digest.clone(),
            policy: result.name.clone(),
            mode: result.mode,
            verdict: result.verdict,
            reason: result.reason,
            since: result.since.0,
            settled: settled(result.verdict, result.reason, settled_before),
            warned: warned(result),
        }
    }
}

impl Said {
    /// What an object on the API server says.
    pub(crate) fn of(status: &ImageComplianceStatus) -> Self {
        let results = status.images.iter().flat_map(|image| {
            let results = image.policies.iter();
            results.map(|result| SaidResult::of(image, result, None))
        });
        Said {
            workload: status.workload.clone(),
            verdict: status.verdict,
            conditions: slim(&status.conditions),
            results: results.collect(),
            next_start: status.next_start.clone().map(Box::new),
            forgot_some: status.omitted.is_some_and(|omitted| omitted > 0),
        }
    }

    pub(crate) fn index(&self) -> Index<'_> {
        self.results
            .iter()
            .map(|said| {
                (
                    (said.image.as_str(), said.digest.as_str(), said.policy.as_str()),
                    said,
                )
            })
            .collect()
    }

    /// The uid of the workload that this speaks of; empty where it speaks of none.
    pub(crate) fn uid(&self) -> &str {
        self.workload.as_ref().map_or("", |workload| &workload.uid)
    }
}

/// Whether an answer is none yet: a first look is under way.
pub(crate) fn is_waiting(verdict: Verdict, reason: Reason) -> bool {
    verdict == Verdict::Unknown && reason == Reason::Pending
}

/// When the result falls, where it says that this was told.
fn warned(result: &PolicyResult) -> Option<Timestamp> {
    let told = result.will_become.as_ref().is_some_and(|becomes| becomes.warned);
    result.valid_until.as_ref().filter(|_| told).map(|until| until.0)
}

/// The last verdict that was not merely waiting for a first look, after this answer.
fn settled(verdict: Verdict, reason: Reason, before: Option<Verdict>) -> Option<Verdict> {
    if is_waiting(verdict, reason) {
        before
    } else {
        Some(verdict)
    }
}

/// Conditions without their messages; what a next condition keeps is its time.
pub(crate) fn slim(conditions: &[Condition]) -> Vec<Condition> {
    conditions
        .iter()
        .map(|condition| Condition {
            message: String::new(),
            ..condition.clone()
        })
        .collect()
}

/// Why a result violates the policy, and what is said of it, also where an exception passes over that.
fn violation(result: &PolicyResult) -> Option<(Reason, &Option<String>)> {
    match (result.verdict, &result.exception) {
        (Verdict::Violating, _) => Some((result.reason, &result.message)),
        (Verdict::Excepted, Some(passed_over)) => {
            let is_it = |becomes: &&WillBecome| becomes.reason == passed_over.reason;
            let after = result.will_become.as_ref().filter(is_it);
            let message = after.map_or(&result.message, |becomes| &becomes.message);
            Some((passed_over.reason, message))
        }
        _ => None,
    }
}

/// The violations that an object on the API server tells of: each stays until positive evidence.
pub(crate) fn violations(namespace: &str, status: &ImageComplianceStatus) -> Vec<RememberedViolation> {
    let Some(workload) = &status.workload else {
        return Vec::new();
    };
    let key = WorkloadKey::of(namespace.into(), workload);
    let of_image = |image: &ImageResult| {
        let violating = image
            .policies
            .iter()
            .filter_map(|result| Some((result, violation(result)?)));
        let remembered = violating.map(|(result, (reason, message))| RememberedViolation {
            workload: key.clone(),
            written: image.image.as_str().into(),
            digest: image.digest.as_str().into(),
            policy: result.name.as_str().into(),
            requirement: result.requirement.as_deref().map(Into::into),
            reason,
            message: message.clone().unwrap_or_default(),
            since: result.since.0,
            stale_since: result.stale_since.as_ref().map(|time| time.0),
        });
        remembered.collect::<Vec<_>>()
    };
    status.images.iter().flat_map(of_image).collect()
}

/// What an object that another replica wrote tells of: what is Compliant or Violating.
pub(crate) fn elsewhere(namespace: &str, status: &ImageComplianceStatus) -> Option<SaidElsewhere> {
    let workload = WorkloadKey::of(namespace.into(), status.workload.as_ref()?);
    let of_image = |image: &ImageResult| {
        let (written, digest): (Arc<str>, Arc<str>) =
            (image.image.as_str().into(), image.digest.as_str().into());
        let settled = image.policies.iter().filter_map(|result| match result.verdict {
            Verdict::Compliant => Some((result, None)),
            Verdict::Violating => Some((result, Some(result.reason))),
            _ => None,
        });
        let said = settled.map(|(result, violation)| SaidOfImage {
            written: written.clone(),
            digest: digest.clone(),
            policy: result.name.as_str().into(),
            violation,
        });
        said.collect::<Vec<_>>()
    };
    Some(SaidElsewhere {
        workload,
        images: status.images.iter().flat_map(of_image).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> ImageComplianceStatus {
        let result = |name: &str, verdict: &str, reason: &str| {
            json!({"name": name, "mode": "Enforce", "verdict": verdict, "reason": reason, "requirement": "signed",
                "message": "no signature", "since": "2026-01-01T00:00:00Z", "staleSince": "2026-01-02T00:00:00Z"})
        };
        serde_json::from_value(json!({
            "verdict": "Violating",
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d"},
            "images": [{"image": "r/web:1", "digest": "sha256:01", "containers": [], "policies": [
                result("a", "Violating", "SignatureMissing"),
                result("b", "Unknown", "Pending"),
                result("c", "Compliant", "AllVerified"),
            ]}],
            "omitted": 3,
        }))
        .unwrap()
    }

    #[test]
    fn of_what_another_replica_wrote_it_is_told_what_holds_and_what_violates() {
        let said = elsewhere("shop", &status()).unwrap();
        assert_eq!(&*said.workload.name, "web");
        let said: Vec<_> = said
            .images
            .iter()
            .map(|image| (&*image.written, &*image.digest, &*image.policy, image.violation))
            .collect();
        let (written, digest) = ("r/web:1", "sha256:01");
        assert_eq!(
            said,
            [
                (written, digest, "a", Some(Reason::SignatureMissing)),
                (written, digest, "c", None),
            ]
        );
        assert!(elsewhere("shop", &ImageComplianceStatus::default()).is_none());
    }

    #[test]
    fn every_violation_is_remembered_and_nothing_else() {
        let violations = violations("shop", &status());
        assert_eq!(violations.len(), 1);
        let violation = &violations[0];
        assert_eq!(
            (&*violation.workload.group, &*violation.workload.kind),
            ("apps", "Deployment")
        );
        assert_eq!(
            (&*violation.written, &*violation.digest, &*violation.policy),
            ("r/web:1", "sha256:01", "a")
        );
        assert_eq!(violation.reason, Reason::SignatureMissing);
        assert_eq!(violation.requirement.as_deref(), Some("signed"));
        assert!(violation.stale_since.is_some());
    }

    /// C5.20.
    #[test]
    fn a_violation_that_an_exception_passes_over_is_remembered_as_what_it_is() {
        let mut status = status();
        let result = json!({"name": "a", "mode": "Enforce", "verdict": "Excepted", "reason": "Excepted",
            "requirement": "signed", "message": "ImageException hotfix passes over this", "since": "2026-01-01T00:00:00Z",
            "exception": {"name": "hotfix", "reason": "SignatureMissing"}, "validUntil": "2026-02-01T00:00:00Z",
            "willBecome": {"verdict": "Violating", "reason": "SignatureMissing", "message": "no signature"}});
        status.images[0].policies = vec![serde_json::from_value(result).unwrap()];
        let violations = violations("shop", &status);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].reason, Reason::SignatureMissing);
        assert_eq!(violations[0].message, "no signature");
    }

    #[test]
    fn what_is_kept_is_what_was_said() {
        let mut status = status();
        status.next_start = serde_json::from_value(json!({"verdict": "Unknown", "decision": "Deny"})).ok();
        status.images[0].policies[0].verdict = Verdict::Other;
        let said = Said::of(&status);
        let kept = Kept::from(&said);
        assert!(kept.is_about_a_workload());
        assert_eq!(kept.said(), said);
        assert_eq!(kept.key("shop").unwrap().name.as_ref(), "web");
        let nothing = Kept::from(&Said::default());
        assert!(!nothing.is_about_a_workload());
        assert_eq!(nothing.said(), Said::default());
    }

    #[test]
    fn what_waits_for_a_first_look_has_no_settled_verdict() {
        let said = Said::of(&status());
        let settled: Vec<_> = said.results.iter().map(|result| result.settled).collect();
        assert_eq!(
            settled,
            [Some(Verdict::Violating), None, Some(Verdict::Compliant)]
        );
        assert!(said.forgot_some);
        assert_eq!(said.index().len(), 3);
    }

    #[test]
    fn a_verdict_stays_settled_while_the_image_waits_for_another_look() {
        let before = Some(Verdict::Violating);
        assert_eq!(settled(Verdict::Unknown, Reason::Pending, before), before);
        assert_eq!(
            settled(Verdict::Unknown, Reason::Stale, before),
            Some(Verdict::Unknown)
        );
    }
}
