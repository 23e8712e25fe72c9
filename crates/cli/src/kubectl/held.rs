//! Why a key counts as another stage than its object says, and what ends that: a KeyRevocation, or another SigningKey of
//! the same signer.

use api::{KeyRevocation, RevocationReason, SigningKey, Stage};

use crate::cluster::{ClusterError, Session};

/// What makes a key count as less than its object says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Holder {
    /// The KeyRevocation of the signer, and its reason.
    Revocation(String, RevocationReason),
    /// Another SigningKey with the same signer, and its stage.
    Key(String, Stage),
    /// It may not be read.
    NotTold,
}

/// A key that counts as another stage than its object says.
#[derive(Clone, Debug)]
pub(super) struct Held {
    key: String,
    written: Stage,
    counts: Stage,
    pub(super) holder: Holder,
}

/// The stage that counts.
pub(super) fn stage(key: &SigningKey) -> Stage {
    let effective = key.status.as_ref().and_then(|status| status.effective_stage);
    effective.unwrap_or(key.spec.stage)
}

/// How many workloads rest on the key: those that run it and those that only a next start would concern. None where
/// the operator has not said.
pub(super) fn dependents(key: &SigningKey) -> Option<usize> {
    let sole = key.status.as_ref()?.sole_trust.as_ref()?;
    usize::try_from(sole.workloads.saturating_add(sole.start_only)).ok()
}

/// Why a key counts as another stage than its object says; None where it does not.
pub(super) async fn held(session: &Session, key: &SigningKey) -> Result<Option<Held>, ClusterError> {
    if !is_held(key) {
        return Ok(None);
    }
    let fingerprint = key
        .status
        .as_ref()
        .and_then(|status| status.fingerprint.as_deref());
    let revocation: Option<KeyRevocation> = match fingerprint {
        Some(fingerprint) => readable(session.maybe(fingerprint).await)?.flatten(),
        None => None,
    };
    let others: Vec<SigningKey> = readable(session.all().await)?.unwrap_or_default();
    Ok(Some(Held::by(key, revocation.as_ref(), &others)))
}

/// None where it may not be read.
fn readable<T>(answer: Result<T, ClusterError>) -> Result<Option<T>, ClusterError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The operator has judged by the object as it is, and another stage counts.
fn is_held(key: &SigningKey) -> bool {
    let status = key.status.as_ref();
    let is_judged = status.is_some_and(|status| status.observed_generation == key.metadata.generation);
    is_judged && stage(key) != key.spec.stage
}

impl Held {
    fn by(key: &SigningKey, revocation: Option<&KeyRevocation>, others: &[SigningKey]) -> Self {
        let fingerprint =
            |key: &SigningKey| key.status.as_ref().and_then(|status| status.fingerprint.clone());
        let counts = stage(key);
        let is_same = |other: &&SigningKey| {
            other.metadata.name != key.metadata.name
                && fingerprint(other).is_some()
                && fingerprint(other) == fingerprint(key)
                && other.spec.stage == counts
        };
        let by_revocation = revocation.filter(|one| one.spec.reason.stage() == counts);
        let holder = match (by_revocation, others.iter().find(is_same)) {
            (Some(one), _) => Holder::Revocation(one.spec.fingerprint.clone(), one.spec.reason),
            (None, Some(other)) => {
                Holder::Key(other.metadata.name.clone().unwrap_or_default(), other.spec.stage)
            }
            (None, None) => Holder::NotTold,
        };
        Held {
            key: key.metadata.name.clone().unwrap_or_default(),
            written: key.spec.stage,
            counts,
            holder,
        }
    }

    /// What holds it, and what ends that.
    pub(super) fn sentence(&self) -> String {
        let Held {
            key, written, counts, ..
        } = self;
        let (written, counts) = (written.as_str(), counts.as_str());
        let head = format!("SigningKey/{key} counts as {counts} although its spec.stage is {written}");
        match &self.holder {
            Holder::Revocation(name, RevocationReason::Hold) => format!(
                "{head}: KeyRevocation/{name} holds it (reason Hold), and no stage of the SigningKey changes that. To \
                 lift it: kubectl delete keyrevocation {name}. To make it final: kubectl assay key revoke {key} --reason \
                 KeyCompromise"
            ),
            Holder::Revocation(name, reason) => format!(
                "{head}: KeyRevocation/{name} revokes its signer (reason {reason:?}), and no stage of the SigningKey \
                 changes that. It is terminal: sign with another key of the ring"
            ),
            Holder::Key(name, stage) => format!(
                "{head}: SigningKey/{name} is the same signer in stage {}, and the most restrictive stage counts for \
                 both. To lift it: change the stage of SigningKey/{name}, or delete it",
                stage.as_str()
            ),
            Holder::NotTold => format!(
                "{head}: a KeyRevocation or another SigningKey of the same signer holds it, which you may not read: ask \
                 whoever has the role assay-auditor"
            ),
        }
    }

    /// A Hold, which whoever keeps the keys can lift.
    pub(super) fn by_hold(&self) -> Option<&str> {
        match &self.holder {
            Holder::Revocation(name, RevocationReason::Hold) => Some(name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str, written: &str, counts: &str) -> SigningKey {
        serde_json::from_value(json!({
            "metadata": {"name": name, "generation": 1},
            "spec": {"keyRing": "release", "stage": written, "publicKey": {"pem": "p"}},
            "status": {"observedGeneration": 1, "effectiveStage": counts, "fingerprint": "ab"},
        }))
        .unwrap()
    }

    fn revocation(reason: &str) -> KeyRevocation {
        let spec = json!({"fingerprint": "ab", "reason": reason});
        serde_json::from_value(json!({"metadata": {"name": "ab"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_holds_a_key_is_named_with_what_ends_it() {
        let held = key("old", "Active", "Disabled");
        assert!(is_held(&held) && !is_held(&key("old", "Active", "Active")));
        let hold = Held::by(&held, Some(&revocation("Hold")), &[]);
        assert!(hold.sentence().contains("kubectl delete keyrevocation ab"));
        assert_eq!(hold.by_hold(), Some("ab"));
        let revoked = Held::by(
            &key("old", "Active", "Revoked"),
            Some(&revocation("KeyCompromise")),
            &[],
        );
        assert!(revoked.sentence().contains("terminal") && revoked.by_hold().is_none());
        let twin = [held.clone(), key("twin", "Disabled", "Disabled")];
        let by_twin = Held::by(&held, None, &twin);
        assert_eq!(by_twin.holder, Holder::Key("twin".to_owned(), Stage::Disabled));
        assert!(by_twin.sentence().contains("SigningKey/twin"));
        let untold = Held::by(&held, None, &[]);
        assert!(untold.sentence().contains("may not read"));
    }

    #[test]
    fn next_starts_rest_on_a_key_as_well() {
        let mut one = key("old", "Active", "Active");
        assert_eq!(dependents(&one), None);
        let sole = json!({"images": 1, "workloads": 2, "pods": 1, "startOnly": 3});
        one.status.as_mut().unwrap().sole_trust = serde_json::from_value(sole).unwrap();
        assert_eq!(dependents(&one), Some(5));
    }
}
