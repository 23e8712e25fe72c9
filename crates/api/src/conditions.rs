//! The condition types and reasons of every kind, and one way to set them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// ImageCompliance: every Warn or Enforce policy that covers a running image holds.
pub const COMPLIANT: &str = "Compliant";
/// ImageCompliance: every DryRun policy that covers a running image holds.
pub const DRY_RUN_COMPLIANT: &str = "DryRunCompliant";
/// SigningKey, KeyRevocation, ImagePolicy, ImageException, TrustRoot and RegistryConfig: the object can be used as it is written.
pub const READY: &str = "Ready";
/// ImagePolicy: a webhook answers for it.
pub const ENFORCED: &str = "Enforced";
/// SigningKey: nothing that runs would fail without this key.
pub const SAFE_TO_DISABLE: &str = "SafeToDisable";

/// ImagePolicy: what is different from the policy that it supersedes is said.
pub const COMPARED: &str = "Compared";

/// RegistryConfig: what holds is looked at again when its policies ask for that.
pub const IN_TIME: &str = "InTime";

/// PolicyPreview: what would change is said.
pub const COMPLETE: &str = "Complete";

/// TrustRoot: something in it ends soon, or has ended.
pub const EXPIRING: &str = "Expiring";

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl Status {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::True => "True",
            Status::False => "False",
            Status::Unknown => "Unknown",
        }
    }
}

/// Reasons of [`READY`], [`ENFORCED`] and [`SAFE_TO_DISABLE`].
pub mod reasons {
    /// ImagePolicy is Ready: it is in force as it is written.
    pub const POLICY_COMPILED: &str = "PolicyCompiled";
    /// ImagePolicy is not Ready: it cannot be used as it is written.
    pub const POLICY_INVALID: &str = "PolicyInvalid";
    /// ImagePolicy is not Ready: a key ring that it names has no usable key.
    pub const KEY_MISSING: &str = "KeyMissing";
    /// SigningKey is Ready: signatures can be verified with it.
    pub const KEY_USABLE: &str = "KeyUsable";
    /// SigningKey is not Ready: it cannot be used as it is written.
    pub const KEY_INVALID: &str = "KeyInvalid";
    /// KeyRevocation is Ready: the signer is revoked as it is written.
    pub const REVOCATION_IN_FORCE: &str = "RevocationInForce";
    /// KeyRevocation is not Ready: something in it cannot be used; what it revokes is revoked all the same.
    pub const REVOCATION_INVALID: &str = "RevocationInvalid";
    /// ImageException is Ready: it passes over what it names.
    pub const EXCEPTION_IN_FORCE: &str = "ExceptionInForce";
    /// ImageException is not Ready: its time is over, it passes over nothing.
    pub const EXCEPTION_EXPIRED: &str = "ExceptionExpired";
    /// ImageException is not Ready: it cannot be used as it is written, and passes over nothing.
    pub const EXCEPTION_INVALID: &str = "ExceptionInvalid";
    /// ImagePolicy is Compared: the status says what is different.
    pub const SUPERSEDED_FOUND: &str = "SupersededFound";
    /// ImagePolicy is not Compared: the policy that it supersedes does not exist.
    pub const SUPERSEDED_MISSING: &str = "SupersededMissing";
    /// PolicyPreview is Complete: the status says what would change.
    pub const PREVIEW_COMPUTED: &str = "Computed";
    /// PolicyPreview is not Complete: the changes would not come about as they are written.
    pub const PREVIEW_INVALID: &str = "Invalid";
    /// ImagePolicy is not Enforced: its mode only shows what it would find.
    pub const DRY_RUN: &str = "DryRun";
    /// ImagePolicy is not Enforced: nothing acts on what starts.
    pub const WEBHOOK_NOT_INSTALLED: &str = "WebhookNotInstalled";
    /// SigningKey is SafeToDisable: nothing that runs rests on it alone.
    pub const NOTHING_DEPENDS: &str = "NothingDepends";
    /// SigningKey is not SafeToDisable: something that runs rests on it alone.
    pub const WORKLOADS_DEPEND: &str = "WorkloadsDepend";
    /// It is not known whether a SigningKey is SafeToDisable: some images cannot be told now.
    pub const UNDECIDED: &str = "Undecided";
}

/// What the conditions of one object have in common.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// The conditions that the object has.
    pub before: &'a [Condition],
    /// `observedGeneration`.
    pub generation: Option<i64>,
    /// The time.
    pub now: Timestamp,
}

impl Conditions<'_> {
    /// A condition; see [`condition`].
    pub fn set(&self, type_: &str, status: Status, reason: &str, message: &str) -> Condition {
        let Conditions {
            before,
            generation,
            now,
        } = *self;
        condition(before, type_, status, reason, message, generation, now)
    }
}

/// A condition; its `lastTransitionTime` is kept from `previous` unless the status changed.
pub fn condition(
    previous: &[Condition],
    type_: &str,
    status: Status,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let kept = previous
        .iter()
        .find(|old| old.type_ == type_ && old.status == status.as_str())
        .map(|old| old.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: kept.unwrap_or(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let start = Timestamp::from_second(100).unwrap();
        let later = Timestamp::from_second(200).unwrap();
        let first = condition(&[], READY, Status::True, "Usable", "", None, start);
        let same = condition(
            std::slice::from_ref(&first),
            READY,
            Status::True,
            "Other",
            "",
            None,
            later,
        );
        assert_eq!(same.last_transition_time.0, start);
        let flipped = condition(&[first], READY, Status::False, "KeyInvalid", "", None, later);
        assert_eq!(flipped.last_transition_time.0, later);
    }
}
