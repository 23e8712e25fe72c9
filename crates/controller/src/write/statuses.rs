//! The statuses of policies and keys: pure, from the engine's totals.

use api::conditions::{COMPARED, Conditions, ENFORCED, READY, SAFE_TO_DISABLE, Status, reasons};
use api::{ImagePolicyStatus, InForce, Mode, SigningKeyStatus};
use engine::{KeyReport, PolicyProblem, PolicyReport};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::names::cut;
use crate::said::slim;

/// The longest message of a condition, in characters.
pub(crate) const CONDITION_CHARACTERS: usize = 1024;

/// What is said of a policy.
pub(crate) fn policy(report: &PolicyReport, before: &ImagePolicyStatus, now: Timestamp) -> ImagePolicyStatus {
    let in_force = report.in_force.as_ref();
    let conditions = Conditions {
        before: &before.conditions,
        generation: Some(report.generation),
        now,
    };
    ImagePolicyStatus {
        observed_generation: Some(report.generation),
        in_force: in_force.map(|(generation, spec)| InForce {
            generation: *generation,
            spec: (**spec).clone(),
        }),
        images: Some(report.images),
        workloads: Some(report.workloads),
        compliant: Some(report.compliant),
        trusted: Some(report.trusted).filter(|trusted| *trusted > 0),
        violating: Some(report.violating),
        unknown: Some(report.unknown),
        excepted: Some(report.excepted).filter(|excepted| *excepted > 0),
        violations: report.violations.clone(),
        violations_total: Some(report.violations_total),
        next_deadline: report.next_deadline.map(|time| Time(whole_seconds(time))),
        pending_status_writes: pending(report.pending_status_writes),
        comparison: report
            .comparison
            .as_ref()
            .and_then(|compared| compared.clone().ok()),
        conditions: [
            Some(policy_ready(report, conditions)),
            Some(enforced(report, conditions)),
            compared(report, conditions),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// Left out where nothing is pending.
fn pending(writes: i64) -> Option<i64> {
    Some(writes).filter(|writes| *writes > 0)
}

fn policy_ready(report: &PolicyReport, conditions: Conditions<'_>) -> Condition {
    let (status, reason, message) = match &report.problem {
        None => (
            Status::True,
            reasons::POLICY_COMPILED,
            "the policy is in force as it is written",
        ),
        Some(PolicyProblem::Invalid(message)) => (Status::False, reasons::POLICY_INVALID, message.as_str()),
        Some(PolicyProblem::KeysMissing(message)) => (Status::False, reasons::KEY_MISSING, message.as_str()),
    };
    let message = cut(message, CONDITION_CHARACTERS);
    conditions.set(READY, status, reason, &message)
}

fn compared(report: &PolicyReport, conditions: Conditions<'_>) -> Option<Condition> {
    Some(match report.comparison.as_ref()? {
        Ok(comparison) => {
            let message = format!(
                "status.comparison says what is different from {}",
                comparison.policy
            );
            conditions.set(COMPARED, Status::True, reasons::SUPERSEDED_FOUND, &message)
        }
        Err(missing) => {
            let message = format!(
                "spec.supersedes: found {missing}, which is no ImagePolicy of this cluster; nothing can be compared"
            );
            conditions.set(COMPARED, Status::False, reasons::SUPERSEDED_MISSING, &message)
        }
    })
}

fn enforced(report: &PolicyReport, conditions: Conditions<'_>) -> Condition {
    let (reason, message) = match report.mode {
        Mode::DryRun => (
            reasons::DRY_RUN,
            "the policy only shows what it would find; set spec.mode to Warn or Enforce",
        ),
        Mode::Warn | Mode::Enforce | Mode::Other => (
            reasons::WEBHOOK_NOT_INSTALLED,
            "what runs is judged and reported; no webhook acts on what starts",
        ),
    };
    conditions.set(ENFORCED, Status::False, reason, message)
}

/// A time as statuses carry it, without the fraction of its second.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// What is said of a key.
pub(crate) fn key(report: &KeyReport, before: &SigningKeyStatus, now: Timestamp) -> SigningKeyStatus {
    let identity = report.identity.as_ref().ok();
    let conditions = Conditions {
        before: &before.conditions,
        generation: Some(report.generation),
        now,
    };
    SigningKeyStatus {
        observed_generation: Some(report.generation),
        fingerprint: identity.map(|identity| identity.fingerprint.clone()),
        algorithm: identity.map(|identity| identity.algorithm.clone()),
        effective_stage: report.effective_stage,
        effective_transparency_log: report.transparency_log,
        expires: report
            .expires
            .map(|time| time.to_zoned(TimeZone::UTC).date().to_string()),
        images: Some(report.images),
        sole_trust: Some(report.sole_trust.clone()),
        pending_status_writes: pending(report.pending_status_writes),
        conditions: vec![key_ready(report, conditions), safe_to_disable(report, conditions)],
    }
}

fn key_ready(report: &KeyReport, conditions: Conditions<'_>) -> Condition {
    let (status, reason, message) = match &report.identity {
        Ok(_) => (Status::True, reasons::KEY_USABLE, "the key can be used to verify"),
        Err(problem) => (Status::False, reasons::KEY_INVALID, problem.as_str()),
    };
    let message = cut(message, CONDITION_CHARACTERS);
    conditions.set(READY, status, reason, &message)
}

fn safe_to_disable(report: &KeyReport, conditions: Conditions<'_>) -> Condition {
    let dependents = report.sole_trust.workloads;
    let starting = report.sole_trust.start_only;
    let (status, reason, message) = if report.undecided > 0 {
        let message = format!(
            "{} covered images cannot be told now and may depend on this key; {dependents} workloads do for certain",
            report.undecided
        );
        (Status::Unknown, reasons::UNDECIDED, message)
    } else if dependents > 0 {
        let message = format!("{dependents} workloads would get a worse verdict without this key");
        (Status::False, reasons::WORKLOADS_DEPEND, message)
    } else if starting > 0 {
        let message = format!(
            "nothing that runs would get a worse verdict without this key, but {starting} workloads would with their \
             next start"
        );
        (Status::False, reasons::WORKLOADS_DEPEND, message)
    } else {
        (
            Status::True,
            reasons::NOTHING_DEPENDS,
            "nothing that runs or starts next would get a worse verdict without this key".to_owned(),
        )
    };
    conditions.set(SAFE_TO_DISABLE, status, reason, &message)
}

/// Whether two statuses of a policy differ in mere counts only.
pub(crate) fn policies_differ_in_counts_only(old: &ImagePolicyStatus, new: &ImagePolicyStatus) -> bool {
    let without_counts = |status: &ImagePolicyStatus| ImagePolicyStatus {
        images: None,
        workloads: None,
        compliant: None,
        trusted: None,
        violating: None,
        unknown: None,
        excepted: None,
        violations: Vec::new(),
        violations_total: None,
        next_deadline: None,
        pending_status_writes: None,
        comparison: None,
        conditions: slim(&status.conditions),
        ..status.clone()
    };
    old.observed_generation.is_some() && without_counts(old) == without_counts(new)
}

/// Whether two statuses of a key differ in mere counts only.
pub(crate) fn keys_differ_in_counts_only(old: &SigningKeyStatus, new: &SigningKeyStatus) -> bool {
    let without_counts = |status: &SigningKeyStatus| SigningKeyStatus {
        images: None,
        sole_trust: None,
        pending_status_writes: None,
        conditions: slim(&status.conditions),
        ..status.clone()
    };
    old.observed_generation.is_some() && without_counts(old) == without_counts(new)
}

#[cfg(test)]
#[path = "statuses_tests.rs"]
mod tests;
