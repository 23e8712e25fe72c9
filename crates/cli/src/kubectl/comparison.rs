//! What a policy's status says of it beside the policy that it supersedes: pure.

use api::conditions::COMPARED;
use api::{Comparison, ImagePolicy};
use serde_json::{Value, json};

use crate::table::counted;

/// A policy beside the one that it is to take the place of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Beside<'a> {
    policy: &'a str,
    supersedes: &'a str,
    /// None where the operator has not compared them, or cannot.
    comparison: Option<&'a Comparison>,
    /// Why there is none.
    why_not: &'a str,
}

impl<'a> Beside<'a> {
    /// None where the policy supersedes no other.
    pub(super) fn of(policy: &'a ImagePolicy) -> Option<Self> {
        let supersedes = policy.spec.supersedes.as_deref()?;
        let status = policy.status.as_ref();
        // What was said of an earlier version is not said of this one.
        let status = status.filter(|status| status.observed_generation == policy.metadata.generation);
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        let compared = conditions.iter().find(|condition| condition.type_ == COMPARED);
        Some(Beside {
            policy: policy.metadata.name.as_deref().unwrap_or_default(),
            supersedes,
            comparison: status.and_then(|status| status.comparison.as_ref()),
            why_not: match compared {
                Some(compared) if compared.status != "True" => &compared.message,
                _ => "the operator has not compared them as they are written",
            },
        })
    }

    pub(super) fn supersedes(&self) -> &'a str {
        self.supersedes
    }

    pub(super) fn sentence(&self) -> String {
        let Beside {
            policy, supersedes, ..
        } = self;
        let Some(compared) = self.comparison else {
            return format!(
                "ImagePolicy/{policy} is to take the place of {supersedes}: {}",
                self.why_not
            );
        };
        let untold = usize::try_from(compared.unknown).unwrap_or_default();
        format!(
            "ImagePolicy/{policy} beside {supersedes}, which it is to take the place of: {} newly failing, {} newly \
             unknown, {} newly passing; {} cannot be told by it",
            compared.newly_failing_total,
            compared.newly_unknown_total,
            compared.newly_passing_total,
            counted(untold, "result")
        )
    }

    /// The shape of docs/kubectl-assay.md.
    pub(super) fn as_json(&self) -> Value {
        json!({"policy": self.policy, "supersedes": self.supersedes, "comparison": self.comparison})
    }
}
