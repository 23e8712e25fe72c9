//! Kubernetes Events (events.k8s.io/v1) about news: on the workload and on the policy, or on a key.
//!
//! They have a budget of their own and a bounded queue, so that they never delay a status. Names are
//! made of what the news says: telling it twice gives AlreadyExists, not a second Event.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::ending;
use crate::health::{Health, pulse};
use crate::lease::{Leadership, REQUEST_DEADLINE};
use crate::metrics::Metrics;
use crate::names::hash;
use crate::write::request::{Refused, refusal};

/// Events in one second, sustained.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Events at once.
const BURST: NonZeroU32 = NonZeroU32::new(300).unwrap();
/// Events that may wait; what comes on top is dropped and counted.
const QUEUE: usize = 4096;
/// How often one Event is tried.
const ATTEMPTS: u32 = 3;
/// The longest note, in bytes.
const NOTE_BYTES: usize = 1000;
/// The longest part of a name that comes from the object, in bytes.
const NAME_BYTES: usize = 200;
/// Events about objects without a namespace live here.
const CLUSTER_NAMESPACE: &str = "default";
/// Who reports.
const REPORTER: &str = "assay.dev/controller";

/// The name under which the loop shows signs of life.
const NAME: &str = "events";

/// One piece of news about one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) reason: &'static str,
    pub(crate) warning: bool,
    pub(crate) action: &'static str,
    pub(crate) regarding: ObjectReference,
    pub(crate) related: Option<ObjectReference>,
    pub(crate) text: String,
    /// What makes this news another one than all others about the object.
    pub(crate) identity: Vec<String>,
}

impl Note {
    /// The Event as it is sent.
    fn event(&self, instance: &str, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta {
                namespace: Some(self.namespace().to_owned()),
                name: Some(self.name()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(cut_bytes(instance, 128).to_owned()),
            action: Some(self.action.to_owned()),
            reason: Some(self.reason.to_owned()),
            type_: Some(if self.warning { "Warning" } else { "Normal" }.to_owned()),
            regarding: Some(self.regarding.clone()),
            related: self.related.clone(),
            note: Some(cut_bytes(&self.text, NOTE_BYTES).to_owned()),
            ..Event::default()
        }
    }

    fn namespace(&self) -> &str {
        self.regarding.namespace.as_deref().unwrap_or(CLUSTER_NAMESPACE)
    }

    fn name(&self) -> String {
        let regarding = &self.regarding;
        let of = |part: &Option<String>| part.clone().unwrap_or_default();
        let mut parts = vec![of(&regarding.kind), of(&regarding.uid), self.reason.to_owned()];
        parts.extend(self.identity.iter().cloned());
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let name = of(&regarding.name);
        let name =
            cut_bytes(&name, NAME_BYTES).trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
        format!("{name}.{}", hash(&parts, 20))
    }
}

/// The longest beginning of a text that has at most so many bytes.
fn cut_bytes(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

/// Takes news. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    notes: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
}

impl EventQueue {
    /// Tells a piece of news if there is room for it.
    pub(crate) fn tell(&self, note: Note) {
        if let Err(refused) = self.notes.try_send(note) {
            self.metrics.event(refused.into_inner().reason, "dropped");
        }
    }
}

/// Sends news as Events.
pub(crate) struct EventTask {
    notes: mpsc::Receiver<Note>,
    client: Client,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    health: Health,
    instance: String,
    budget: DefaultDirectRateLimiter,
}

impl EventTask {
    pub(crate) fn new(
        client: Client,
        leadership: Leadership,
        metrics: Arc<Metrics>,
        health: Health,
        instance: String,
    ) -> (Self, EventQueue) {
        let (sender, notes) = mpsc::channel(QUEUE);
        let budget = RateLimiter::direct(Quota::per_second(PER_SECOND).allow_burst(BURST));
        let queue = EventQueue {
            notes: sender,
            metrics: metrics.clone(),
        };
        (
            EventTask {
                notes,
                client,
                leadership,
                metrics,
                health,
                instance,
                budget,
            },
            queue,
        )
    }

    /// Sends until `stop` completes, then what waits, for [`ending::FLUSH`] at most.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut beat = pulse();
        loop {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => self.send(note).await,
                    None => return,
                },
                _ = beat.tick() => self.health.beat(NAME),
                () = &mut stop => break,
            }
        }
        if tokio::time::timeout(ending::FLUSH, self.flush()).await.is_err() {
            tracing::warn!("some Events could not be sent before the end of the process");
        }
    }

    async fn flush(&mut self) {
        self.notes.close();
        while let Some(note) = self.notes.recv().await {
            self.send(note).await;
        }
    }

    async fn send(&mut self, note: Note) {
        self.budget.until_ready().await;
        self.health.beat(NAME);
        let event = note.event(&self.instance, Timestamp::now());
        let outcome = self.post(&note, &event).await;
        self.metrics.event(note.reason, outcome);
    }

    async fn post(&self, note: &Note, event: &Event) -> &'static str {
        let api: Api<Event> = Api::namespaced(self.client.clone(), note.namespace());
        for attempt in 1..=ATTEMPTS {
            if !self.leadership.leads() {
                return "dropped";
            }
            let answer =
                tokio::time::timeout(REQUEST_DEADLINE, api.create(&PostParams::default(), event)).await;
            let refused = match answer {
                Ok(Ok(_)) => return "written",
                Ok(Err(error)) => refusal(&error),
                Err(_) => Refused::Trouble("no answer in time".to_owned()),
            };
            match refused {
                Refused::NotAsItWas(_) => return "exists",
                Refused::NamespaceGone | Refused::NotLeading => return "dropped",
                Refused::Throttled(pause) => tokio::time::sleep(pause).await,
                Refused::Invalid(problem) => {
                    tracing::error!(
                        reason = note.reason,
                        problem,
                        "the API server does not accept an Event"
                    );
                    return "failed";
                }
                Refused::Trouble(problem) => {
                    tracing::warn!(reason = note.reason, problem, "an Event could not be sent");
                    tokio::time::sleep(Duration::from_secs(attempt.into())).await;
                }
            }
        }
        "failed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(identity: &[&str]) -> Note {
        let regarding = ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("Deployment".into()),
            namespace: Some("shop".into()),
            name: Some("web".into()),
            uid: Some("d".into()),
            ..ObjectReference::default()
        };
        Note {
            reason: "BecameNonCompliant",
            warning: true,
            action: "Verify",
            regarding,
            related: None,
            text: "r/web violates".into(),
            identity: identity.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    #[test]
    fn telling_the_same_news_twice_makes_the_same_name() {
        let (one, again) = (note(&["prod", "sha256:01"]), note(&["prod", "sha256:01"]));
        assert_eq!(one.name(), again.name());
        assert_ne!(one.name(), note(&["prod", "sha256:02"]).name());
        assert_ne!(
            one.name(),
            Note {
                reason: "BecameCompliant",
                ..one.clone()
            }
            .name()
        );
        assert!(one.name().starts_with("web."));
    }

    #[test]
    fn a_name_fits_and_does_not_end_its_first_part_badly() {
        let mut long = note(&[]);
        long.regarding.name = Some(format!("{}-{}", "a".repeat(199), "b".repeat(54)));
        let name = long.name();
        assert!(name.len() <= 253);
        assert!(!name.contains("-."), "{name}");
    }

    #[test]
    fn a_note_fits_into_its_bytes() {
        let event = Note {
            text: "ä".repeat(2000),
            ..note(&[])
        }
        .event("replica", Timestamp::UNIX_EPOCH);
        let text = event.note.unwrap();
        assert!(text.len() <= NOTE_BYTES && text.starts_with('ä'));
    }

    #[test]
    fn news_about_an_object_without_a_namespace_goes_to_the_default_one() {
        let mut about_a_policy = note(&[]);
        about_a_policy.regarding.namespace = None;
        let event = about_a_policy.event("replica", Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }

    #[test]
    fn news_that_finds_no_room_is_dropped_and_counted() {
        let metrics = Metrics::new("0");
        let (sender, _receiver) = mpsc::channel(1);
        let queue = EventQueue {
            notes: sender,
            metrics: metrics.clone(),
        };
        queue.tell(note(&["1"]));
        queue.tell(note(&["2"]));
        let dropped = r#"assay_events_total{reason="BecameNonCompliant",outcome="dropped"} 1"#;
        assert!(metrics.text().unwrap().contains(dropped));
    }
}
