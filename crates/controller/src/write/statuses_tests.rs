use std::sync::Arc;

use super::*;
use crate::testing::time;
use api::{SoleTrust, Stage};
use engine::KeyIdentity;

fn policy_report() -> PolicyReport {
    PolicyReport {
        name: "prod".into(),
        generation: 4,
        in_force: None,
        problem: None,
        mode: Mode::Enforce,
        images: 3,
        workloads: 3,
        compliant: 2,
        trusted: 0,
        violating: 1,
        unknown: 0,
        excepted: 0,
        violations: Vec::new(),
        violations_total: 1,
        next_deadline: None,
        pending_status_writes: 0,
        comparison: None,
    }
}

fn key_report() -> KeyReport {
    KeyReport {
        name: "release-1".into(),
        generation: 2,
        identity: Ok(KeyIdentity {
            fingerprint: "ab".into(),
            algorithm: "ECDSA-P256".into(),
        }),
        effective_stage: Some(Stage::Active),
        transparency_log: Some(api::Demand::Ignore),
        expires: None,
        images: 5,
        sole_trust: SoleTrust::default(),
        undecided: 0,
        revocation_missing: None,
        pending_status_writes: 0,
    }
}

fn shown(conditions: &[Condition], type_: &str) -> String {
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    format!("{}/{}", found.status, found.reason)
}

fn of_policy(report: &PolicyReport) -> ImagePolicyStatus {
    policy(report, &ImagePolicyStatus::default(), time(0))
}

fn of_key(report: &KeyReport) -> SigningKeyStatus {
    key(report, &SigningKeyStatus::default(), time(0))
}

/// C5.21.
#[test]
fn a_policy_is_ready_when_it_compiled_and_its_key_rings_exist() {
    let ready = |problem| {
        shown(
            &of_policy(&PolicyReport {
                problem,
                ..policy_report()
            })
            .conditions,
            READY,
        )
    };
    assert_eq!(ready(None), "True/PolicyCompiled");
    assert_eq!(
        ready(Some(PolicyProblem::Invalid("x".into()))),
        "False/PolicyInvalid"
    );
    assert_eq!(
        ready(Some(PolicyProblem::KeysMissing("x".into()))),
        "False/KeyMissing"
    );
}

#[test]
fn no_policy_pretends_to_be_enforced() {
    for (mode, expected) in [
        (Mode::DryRun, "False/DryRun"),
        (Mode::Warn, "False/WebhookNotInstalled"),
        (Mode::Enforce, "False/WebhookNotInstalled"),
    ] {
        let status = of_policy(&PolicyReport {
            mode,
            ..policy_report()
        });
        assert_eq!(shown(&status.conditions, ENFORCED), expected);
    }
}

#[test]
fn the_version_in_force_is_kept_in_the_status() {
    let spec: api::ImagePolicySpec = serde_json::from_value(serde_json::json!({
        "match": {"images": ["r/**"]},
        "require": [{"name": "signed", "signature": {"signedBy": ["release"]}}],
    }))
    .unwrap();
    let report = PolicyReport {
        in_force: Some((3, Arc::new(spec.clone()))),
        ..policy_report()
    };
    let status = of_policy(&report);
    assert_eq!(
        (status.observed_generation, status.in_force),
        (Some(4), Some(InForce { generation: 3, spec }))
    );
}

#[test]
fn a_key_is_ready_when_it_can_be_read() {
    assert_eq!(shown(&of_key(&key_report()).conditions, READY), "True/KeyUsable");
    let broken = of_key(&KeyReport {
        identity: Err("not a key".into()),
        ..key_report()
    });
    assert_eq!(shown(&broken.conditions, READY), "False/KeyInvalid");
    assert_eq!((broken.fingerprint, broken.algorithm), (None, None));
}

/// C5.01.
#[test]
fn a_key_is_safe_to_disable_only_when_it_is_certain_that_nothing_depends_on_it() {
    let safe = |workloads, undecided| {
        let sole_trust = SoleTrust {
            workloads,
            ..SoleTrust::default()
        };
        shown(
            &of_key(&KeyReport {
                sole_trust,
                undecided,
                ..key_report()
            })
            .conditions,
            SAFE_TO_DISABLE,
        )
    };
    assert_eq!(safe(0, 0), "True/NothingDepends");
    assert_eq!(safe(2, 0), "False/WorkloadsDepend");
    assert_eq!(safe(0, 1), "Unknown/Undecided");
    assert_eq!(safe(2, 1), "Unknown/Undecided");
}

#[test]
fn the_expiry_is_a_date() {
    let expires = Some("2027-01-31T22:00:00Z".parse().unwrap());
    assert_eq!(
        of_key(&KeyReport {
            expires,
            ..key_report()
        })
        .expires
        .as_deref(),
        Some("2027-01-31")
    );
}

#[test]
fn counts_alone_are_told_from_everything_else() {
    let old = of_policy(&policy_report());
    let differs =
        |report: PolicyReport| policies_differ_in_counts_only(&old, &policy(&report, &old, time(5)));
    assert!(differs(PolicyReport {
        violating: 2,
        compliant: 1,
        trusted: 0,
        next_deadline: Some(time(9)),
        ..policy_report()
    }));
    assert!(!differs(PolicyReport {
        generation: 5,
        ..policy_report()
    }));
    assert!(!differs(PolicyReport {
        problem: Some(PolicyProblem::Invalid("x".into())),
        ..policy_report()
    }));
    assert!(
        !policies_differ_in_counts_only(&ImagePolicyStatus::default(), &old),
        "the first status is written at once"
    );

    let old = of_key(&key_report());
    let differs = |report: KeyReport| keys_differ_in_counts_only(&old, &key(&report, &old, time(5)));
    assert!(differs(KeyReport {
        images: 6,
        ..key_report()
    }));
    assert!(!differs(KeyReport {
        effective_stage: Some(Stage::Revoked),
        ..key_report()
    }));
    let sole_trust = SoleTrust {
        workloads: 1,
        ..SoleTrust::default()
    };
    assert!(
        !differs(KeyReport {
            sole_trust,
            ..key_report()
        }),
        "the condition SafeToDisable flips"
    );
}

#[test]
fn an_unchanged_report_renders_the_same_status_at_any_time() {
    let policy_status = of_policy(&policy_report());
    assert_eq!(policy(&policy_report(), &policy_status, time(99)), policy_status);
    let key_status = of_key(&key_report());
    assert_eq!(key(&key_report(), &key_status, time(99)), key_status);
}

#[test]
fn a_status_is_read_back_as_it_was_written() {
    let next_deadline = Some("2027-01-31T22:00:00.75Z".parse().unwrap());
    let written = of_policy(&PolicyReport {
        next_deadline,
        ..policy_report()
    });
    let read: ImagePolicyStatus = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
    assert_eq!(read, written);
}
