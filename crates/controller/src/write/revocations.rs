//! What is written about KeyRevocations: the status of each, and one for a SigningKey that became Revoked, so that the
//! revocation outlasts the key.

use api::conditions::{Conditions, READY, Status, reasons};
use api::{
    EarlierSignatures, KeyRevocation, KeyRevocationSpec, KeyRevocationStatus, RevocationReason, SigningKey,
};
use engine::{KeyReport, RevocationReport};
use jiff::Timestamp;
use kube::Resource;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::request::Refused;
use super::totals::Report;
use super::{CONDITION_CHARACTERS, Requeue, Writer};
use crate::events::Note;
use crate::names::cut;

impl Report for RevocationReport {
    type Object = KeyRevocation;
    type Status = KeyRevocationStatus;
    const KIND: &'static str = "KeyRevocation";

    fn name(&self) -> &str {
        &self.name
    }
    fn status(&self, before: &KeyRevocationStatus, now: Timestamp) -> KeyRevocationStatus {
        status(self, before, now)
    }
    fn only_counts(_: &KeyRevocationStatus, _: &KeyRevocationStatus) -> bool {
        false
    }
    fn news(&self, _: &str, _: &KeyRevocationStatus, _: &KeyRevocationStatus) -> Option<Note> {
        // Told on the SigningKeys that it concerns, as KeyStageChanged.
        None
    }
}

/// What is said of a revocation.
fn status(report: &RevocationReport, before: &KeyRevocationStatus, now: Timestamp) -> KeyRevocationStatus {
    let conditions = Conditions {
        before: &before.conditions,
        generation: Some(report.generation),
        now,
    };
    let ready = match &report.problem {
        None => conditions.set(
            READY,
            Status::True,
            reasons::REVOCATION_IN_FORCE,
            "the signer is revoked as it is written",
        ),
        Some(problem) => conditions.set(
            READY,
            Status::False,
            reasons::REVOCATION_INVALID,
            &cut(problem, CONDITION_CHARACTERS),
        ),
    };
    KeyRevocationStatus {
        observed_generation: Some(report.generation),
        signing_keys: Some(match report.keys.as_slice() {
            [] => "none".to_owned(),
            keys => cut(&keys.join(","), CONDITION_CHARACTERS),
        }),
        earlier_signatures: Some(match report.dated_before {
            Some(_) => EarlierSignatures::AcceptIfTimestamped,
            None => EarlierSignatures::Reject,
        }),
        honoured_digests: Some(report.honoured),
        conditions: vec![ready],
    }
}

impl Writer {
    /// Makes the KeyRevocation that a Revoked key lacks, or makes a Hold last that is there.
    pub(super) async fn make_revocation(&self, report: &KeyReport) -> Requeue {
        let Some(fingerprint) = &report.revocation_missing else {
            return Requeue { again: None };
        };
        let made = match self.requests.get_object::<KeyRevocation>(fingerprint).await {
            Ok(None) => {
                let revocation = revocation_of(&report.name, fingerprint);
                self.requests
                    .create_object(RevocationReport::KIND, &revocation)
                    .await
            }
            Ok(Some(there)) => match lasting(&there) {
                Some(patch) => {
                    self.requests
                        .patch_object::<KeyRevocation>(RevocationReport::KIND, fingerprint, &patch)
                        .await
                }
                None => Ok(()),
            },
            Err(refused) => Err(refused),
        };
        match made {
            // What is there already, or was changed meanwhile, is on its way here by the watch.
            Ok(()) | Err(Refused::NotAsItWas(_)) => Requeue { again: None },
            Err(refused) => Requeue {
                again: self.again_after(&refused, || format!("KeyRevocation/{fingerprint}")),
            },
        }
    }
}

/// What turns a Hold, as it was read, into a revocation that lasts: what it honours stays. None where it is no Hold.
fn lasting(there: &DynamicObject) -> Option<Value> {
    let is_hold = there.data["spec"]["reason"] == "Hold";
    is_hold.then(|| {
        json!({
            "metadata": {"resourceVersion": there.metadata.resource_version},
            "spec": {"reason": RevocationReason::Unspecified},
        })
    })
}

/// The least that makes a revocation last. Why it was made, only a person can say.
fn revocation_of(key: &str, fingerprint: &str) -> KeyRevocation {
    let kind = SigningKey::kind(&());
    let spec = KeyRevocationSpec {
        fingerprint: fingerprint.to_owned(),
        reason: RevocationReason::Unspecified,
        effective_from: None,
        earlier_signatures: None,
        honour_digests: Vec::new(),
        note: Some(format!(
            "made because {kind} {key} became Revoked, so that it stays revoked when that object is gone"
        )),
    };
    KeyRevocation::new(fingerprint, spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::time;
    use api::Stage;

    fn report() -> RevocationReport {
        RevocationReport {
            name: "ab".into(),
            generation: 1,
            problem: None,
            keys: vec!["release-1".into(), "release-2".into()],
            honoured: 2,
            dated_before: None,
        }
    }

    #[test]
    fn the_status_says_which_keys_it_concerns_and_what_it_leaves() {
        let said = status(&report(), &KeyRevocationStatus::default(), time(0));
        assert_eq!(said.signing_keys.as_deref(), Some("release-1,release-2"));
        assert_eq!(said.earlier_signatures, Some(EarlierSignatures::Reject));
        assert_eq!(said.honoured_digests, Some(2));
        assert_eq!(said.conditions[0].status, "True");
        assert_eq!(status(&report(), &said, time(60)), said, "nothing changed");
    }

    #[test]
    fn a_revocation_without_a_key_and_with_a_fault_says_so() {
        let faulty = RevocationReport {
            problem: Some("spec.effectiveFrom: found nothing".into()),
            keys: Vec::new(),
            ..report()
        };
        let said = status(&faulty, &KeyRevocationStatus::default(), time(0));
        assert_eq!(said.signing_keys.as_deref(), Some("none"));
        let ready = &said.conditions[0];
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "RevocationInvalid")
        );
    }

    #[test]
    fn a_hold_as_it_was_read_turns_terminal_and_nothing_else_of_it_changes() {
        let there = |reason: &str| {
            serde_json::from_value::<DynamicObject>(json!({
                "apiVersion": "assay.dev/v1alpha1", "kind": "KeyRevocation",
                "metadata": {"name": "ab", "resourceVersion": "7"},
                "spec": {"fingerprint": "ab", "reason": reason, "honourDigests": ["sha256:01"]},
            }))
            .unwrap()
        };
        let expected = json!({"metadata": {"resourceVersion": "7"}, "spec": {"reason": "Unspecified"}});
        assert_eq!(lasting(&there("Hold")), Some(expected));
        assert_eq!(lasting(&there("KeyCompromise")), None);
    }

    #[test]
    fn the_revocation_of_a_key_is_terminal_and_named_by_the_fingerprint() {
        let made = revocation_of("release-1", "ab");
        assert_eq!(made.metadata.name.as_deref(), Some("ab"));
        assert_eq!(
            (made.spec.fingerprint.as_str(), made.spec.reason.stage()),
            ("ab", Stage::Revoked)
        );
    }
}
