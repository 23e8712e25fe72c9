//! What is written about ImageExceptions: the status of each.

use api::conditions::{Conditions, READY, Status, reasons};
use api::{ImageException, ImageExceptionStatus};
use engine::{ExceptionReport, ExceptionState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::CONDITION_CHARACTERS;
use super::totals::Report;
use crate::events::Note;
use crate::names::cut;
use crate::said::slim;

impl Report for ExceptionReport {
    type Object = ImageException;
    type Status = ImageExceptionStatus;
    const KIND: &'static str = "ImageException";

    fn name(&self) -> &str {
        &self.name
    }
    fn status(&self, before: &ImageExceptionStatus, now: Timestamp) -> ImageExceptionStatus {
        let conditions = Conditions {
            before: &before.conditions,
            generation: Some(self.generation),
            now,
        };
        ImageExceptionStatus {
            observed_generation: Some(self.generation),
            workloads: Some(self.workloads),
            images: Some(self.images),
            sample: self.sample.clone(),
            conditions: vec![ready(&self.state, conditions)],
        }
    }
    fn only_counts(old: &ImageExceptionStatus, new: &ImageExceptionStatus) -> bool {
        let without_counts = |status: &ImageExceptionStatus| ImageExceptionStatus {
            workloads: None,
            images: None,
            sample: Vec::new(),
            conditions: slim(&status.conditions),
            ..status.clone()
        };
        old.observed_generation.is_some() && without_counts(old) == without_counts(new)
    }
    fn news(&self, _: &str, _: &ImageExceptionStatus, _: &ImageExceptionStatus) -> Option<Note> {
        // Told on the workloads that it concerns, as VerdictExcepted.
        None
    }
}

fn ready(state: &ExceptionState, conditions: Conditions<'_>) -> Condition {
    let (status, reason, message) = match state {
        ExceptionState::InForce { missing } if missing.is_empty() => (
            Status::True,
            reasons::EXCEPTION_IN_FORCE,
            "the exception passes over what it names".to_owned(),
        ),
        ExceptionState::InForce { missing } => (
            Status::True,
            reasons::EXCEPTION_IN_FORCE,
            format!(
                "the exception passes over what it names; of its policies there is no {}",
                missing.join(", ")
            ),
        ),
        ExceptionState::Expired(end) => (
            Status::False,
            reasons::EXCEPTION_EXPIRED,
            format!("the exception ended at {end} and passes over nothing; delete it, or make another one"),
        ),
        ExceptionState::Invalid(problem) => (
            Status::False,
            reasons::EXCEPTION_INVALID,
            format!("the exception passes over nothing: {problem}"),
        ),
    };
    conditions.set(READY, status, reason, &cut(&message, CONDITION_CHARACTERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::time;

    fn said(state: ExceptionState) -> (String, String, String) {
        let report = ExceptionReport {
            name: "hotfix".into(),
            generation: 1,
            state,
            workloads: 2,
            images: 1,
            sample: Vec::new(),
        };
        let status = report.status(&ImageExceptionStatus::default(), time(0));
        assert_eq!((status.workloads, status.images), (Some(2), Some(1)));
        assert_eq!(report.status(&status, time(60)), status, "nothing changed");
        let ready = status.conditions[0].clone();
        (ready.status, ready.reason, ready.message)
    }

    #[test]
    fn the_status_says_whether_the_exception_passes_over_anything_and_why_not() {
        let in_force = |missing| said(ExceptionState::InForce { missing });
        assert_eq!(in_force(Vec::new()).1, "ExceptionInForce");
        assert!(in_force(vec!["prod".into()]).2.ends_with("there is no prod"));
        let (status, reason, message) = said(ExceptionState::Expired(time(0)));
        assert_eq!((status.as_str(), reason.as_str()), ("False", "ExceptionExpired"));
        assert!(message.contains("2026-01-01T00:00:00Z"), "{message}");
        let (status, reason, message) = said(ExceptionState::Invalid("spec.reason: found nothing".into()));
        assert_eq!((status.as_str(), reason.as_str()), ("False", "ExceptionInvalid"));
        assert!(message.contains("passes over nothing: spec.reason"), "{message}");
    }
}
