//! What is sent: CloudEvents 1.0 in the structured mode of their HTTP binding, as JSON.

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use crate::events::Note;
use crate::forecasts::Forecast;
use crate::names::hash;
use crate::transitions::Transition;
use crate::write::news::About;

/// The media type of a CloudEvent in JSON.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// How every type begins.
const TYPE: &str = "dev.assay.";

/// One CloudEvent, but for its source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CloudEvent {
    /// The same whenever and by whomever this is told.
    pub(super) id: String,
    type_: String,
    subject: String,
    time: String,
    data: Value,
}

impl CloudEvent {
    /// A verdict changed, and that is news.
    pub(crate) fn of_transition(about: &About<'_>, transition: &Transition, news: &str) -> Self {
        let time = transition.since.to_string();
        let mut data = data(about, &transition.image, &transition.digest);
        data["policy"] = json!({
            "name": transition.policy,
            "generation": transition.generation,
            "mode": transition.mode.as_str(),
        });
        data["verdict"] = json!(transition.verdict);
        data["reason"] = json!(transition.reason);
        data["message"] = json!(transition.message);
        data["previous"] = match transition.previous {
            Some((verdict, reason)) => json!({"verdict": verdict, "reason": reason}),
            None => Value::Null,
        };
        data["evidence"] = json!(transition.evidence);
        data["signers"] = json!(transition.signers);
        Self::new(news, &about.workload.uid, subject(about), time, data)
    }

    /// A verdict gets worse by itself before long.
    pub(crate) fn of_forecast(about: &About<'_>, forecast: &Forecast, now: &str) -> Self {
        let mut data = data(about, &forecast.image, &forecast.digest);
        data["policy"] = json!({
            "name": forecast.policy,
            "generation": forecast.generation,
            "mode": forecast.mode.as_str(),
        });
        data["verdict"] = json!(forecast.verdict);
        data["at"] = json!(forecast.at.to_string());
        data["becomes"] = json!({
            "verdict": forecast.becomes.verdict,
            "reason": forecast.becomes.reason,
            "message": forecast.becomes.message,
        });
        let id = [
            &about.workload.uid,
            &forecast.policy,
            &forecast.image,
            &forecast.digest,
        ];
        let id = format!("{} {}", id.map(String::as_str).join(" "), forecast.at.as_second());
        let event = Self::new(
            "WillBecomeNonCompliant",
            &about.workload.uid,
            subject(about),
            now.into(),
            data,
        );
        CloudEvent {
            id: hash(&["WillBecomeNonCompliant", &id], 32),
            ..event
        }
    }

    /// News about a policy or a key itself.
    pub(crate) fn of_object(note: &Note, now: &str) -> Self {
        let ObjectReference { kind, name, uid, .. } = &note.regarding;
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let data = json!({"kind": kind, "name": name, "uid": uid, "message": note.text});
        let subject = format!("{}/{}", part(kind), part(name));
        let event = Self::new(note.reason, &part(uid), subject, now.into(), data);
        let identity: Vec<&str> = note.identity.iter().map(String::as_str).collect();
        CloudEvent {
            id: hash(&[&[note.reason, &part(uid)], identity.as_slice()].concat(), 32),
            ..event
        }
    }

    fn new(type_: &str, uid: &str, subject: String, time: String, data: Value) -> Self {
        CloudEvent {
            id: hash(&[type_, uid, &time, &data.to_string()], 32),
            type_: format!("{TYPE}{type_}"),
            subject,
            time,
            data,
        }
    }

    /// As it is sent.
    pub(super) fn body(&self, source: &str) -> Vec<u8> {
        let event = json!({
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": self.type_,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": "application/json",
            "data": self.data,
        });
        event.to_string().into_bytes()
    }
}

fn subject(about: &About<'_>) -> String {
    let workload = about.workload;
    format!("{}/{}/{}", about.namespace, workload.kind, workload.name)
}

fn data(about: &About<'_>, image: &str, digest: &str) -> Value {
    let workload = about.workload;
    json!({
        "namespace": about.namespace,
        "workload": {
            "apiVersion": workload.api_version,
            "kind": workload.kind,
            "name": workload.name,
            "uid": workload.uid,
        },
        "image": image,
        "digest": digest,
    })
}
