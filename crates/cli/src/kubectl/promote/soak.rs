//! How long a policy stood as it is. Pure.

use std::str::FromStr;

use api::ImagePolicy;
use api::conditions::READY;
use jiff::{SignedDuration, Timestamp};

use crate::span::{NotASpan, Span};

/// The time of a soak; None for none.
#[derive(Clone, Debug)]
pub(super) struct Soak(Option<Span>);

impl FromStr for Soak {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        match text {
            "0" | "0s" => Ok(Soak(None)),
            text => text.parse().map(|span| Soak(Some(span))),
        }
    }
}

impl Soak {
    /// When a soak that ends now began; None for none.
    pub(super) fn begun(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = i64::try_from(self.0.as_ref()?.seconds()).unwrap_or(i64::MAX);
        let begun = now.checked_sub(SignedDuration::from_secs(seconds));
        Some(begun.unwrap_or(Timestamp::MIN))
    }

    /// The policy is in force as it is written, and was so for the whole time.
    pub(super) fn is_over(&self, policy: &ImagePolicy, now: Timestamp) -> Result<(), String> {
        let Some(soak) = &self.0 else { return Ok(()) };
        let status = policy.status.as_ref();
        let ready = status.and_then(|status| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == READY)
        });
        let generation = policy.metadata.generation;
        let ready = match ready {
            Some(ready) if ready.status == "True" && ready.observed_generation == generation => ready,
            Some(ready) if ready.observed_generation == generation => {
                return Err(format!(
                    "its condition Ready is {}: {}",
                    ready.status, ready.message
                ));
            }
            _ => return Err("the operator has not judged by it as it is written: is it running?".to_owned()),
        };
        let written = written(policy).ok_or(
            "since when its spec is as it is cannot be told: metadata.managedFields says nothing of it; \
             --soak 0s goes on without",
        )?;
        let since = written.max(ready.last_transition_time.0);
        let stood = now.duration_since(since);
        let needed = SignedDuration::from_secs(i64::try_from(soak.seconds()).unwrap_or(i64::MAX));
        if stood >= needed {
            return Ok(());
        }
        let left = needed - stood;
        let left = match left.as_mins() {
            0 => format!("{} s", left.as_secs() + 1),
            minutes => format!("{} h {} min", left.as_hours(), minutes % 60),
        };
        Err(format!(
            "it stands as it is since {since}, and the soak is {soak}: {left} are left"
        ))
    }
}

/// When the spec was last written; None where nobody says.
fn written(policy: &ImagePolicy) -> Option<Timestamp> {
    let entries = policy.metadata.managed_fields.iter().flatten();
    let of_spec = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| !fields.0["f:spec"].is_null())
    });
    let times: Option<Vec<Timestamp>> = of_spec
        .map(|entry| entry.time.as_ref().map(|time| time.0))
        .collect();
    times?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn policy(written: Option<&str>, ready: &str, since: &str, observed: i64) -> ImagePolicy {
        let fields = written.map(|time| {
            json!([
                {"manager": "kubectl", "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:mode": {}}}},
                {"manager": "kubectl-assay-recheck", "operation": "Update", "time": NOW, "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {"f:assay.dev/recheck-requested-at": {}}}}},
                {"manager": "assay", "operation": "Update", "time": NOW, "subresource": "status", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}},
            ])
        });
        serde_json::from_value(json!({
            "metadata": {"name": "p", "generation": 3, "managedFields": fields.unwrap_or(Value::Null)},
            "spec": {"match": {"images": ["**"]}, "require": []},
            "status": {"conditions": [{
                "type": "Ready", "status": ready, "reason": "R", "message": "why", "observedGeneration": observed,
                "lastTransitionTime": since,
            }]},
        }))
        .unwrap()
    }

    fn over(soak: &str, policy: &ImagePolicy) -> Result<(), String> {
        soak.parse::<Soak>()
            .unwrap()
            .is_over(policy, NOW.parse().unwrap())
    }

    /// C5.09.
    #[test]
    fn c5_09_a_soak_is_over_when_the_spec_stood_and_was_in_force_for_all_of_it() {
        let day_before = Some("2026-11-21T12:00:00Z");
        let long = "2026-11-01T00:00:00Z";
        assert_eq!(over("24h", &policy(day_before, "True", long, 3)), Ok(()));
        let edited = over("24h", &policy(Some("2026-11-22T11:00:00Z"), "True", long, 3)).unwrap_err();
        assert!(edited.contains("23 h 0 min are left"), "{edited}");
        let soon = over("24h", &policy(Some("2026-11-21T12:00:20Z"), "True", long, 3)).unwrap_err();
        assert!(soon.contains("21 s are left"), "{soon}");
        let healed = over("24h", &policy(day_before, "True", "2026-11-22T00:00:00Z", 3)).unwrap_err();
        assert!(healed.contains("12 h 0 min are left"), "{healed}");
    }

    #[test]
    fn what_is_not_in_force_or_not_told_is_no_soak() {
        let long = "2026-11-01T00:00:00Z";
        assert!(
            over("1h", &policy(Some(long), "False", long, 3))
                .unwrap_err()
                .contains("Ready is False")
        );
        assert!(
            over("1h", &policy(Some(long), "True", long, 2))
                .unwrap_err()
                .contains("has not judged")
        );
        assert!(
            over("1h", &policy(None, "True", long, 3))
                .unwrap_err()
                .contains("managedFields")
        );
        assert_eq!(over("0s", &policy(None, "False", long, 2)), Ok(()));
        assert!("soon".parse::<Soak>().is_err());
    }
}
