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
use tokio::sync::mpsc;

use crate::ending;
use crate::health::{Health, pulse};
use crate::metrics::{EventOutcome, Metrics};
use crate::names::hash;
use crate::write::request::{Refused, Requests};

/// Events in one second, sustained.
pub(crate) const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Events at once.
pub(crate) const BURST: NonZeroU32 = NonZeroU32::new(300).unwrap();
/// Events that may wait; what comes on top is dropped and counted.
pub(crate) const QUEUE: usize = 4096;
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
            self.metrics
                .event(refused.into_inner().reason, EventOutcome::Dropped);
        }
    }
}

/// Sends news as Events.
pub(crate) struct EventTask {
    notes: mpsc::Receiver<Note>,
    requests: Requests,
    health: Health,
    instance: String,
    budget: DefaultDirectRateLimiter,
}

impl EventTask {
    pub(crate) fn new(requests: Requests, health: Health, instance: String) -> (Self, EventQueue) {
        let (sender, notes) = mpsc::channel(QUEUE);
        let budget = RateLimiter::direct(Quota::per_second(PER_SECOND).allow_burst(BURST));
        let queue = EventQueue {
            notes: sender,
            metrics: requests.metrics.clone(),
        };
        (
            EventTask {
                notes,
                requests,
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
        self.requests.metrics.event(note.reason, outcome);
    }

    async fn post(&self, note: &Note, event: &Event) -> EventOutcome {
        let mut attempt = 1;
        loop {
            let Err(refused) = self.requests.post_event(note.namespace(), event).await else {
                return EventOutcome::Written;
            };
            let pause = match &refused {
                Refused::NotAsItWas(_) => return EventOutcome::Exists,
                Refused::NamespaceGone | Refused::NotLeading => return EventOutcome::Dropped,
                Refused::Invalid(_) | Refused::Forbidden(_) => {
                    tracing::error!(reason = note.reason, %refused, "an Event is refused and not sent");
                    return EventOutcome::Failed;
                }
                Refused::Throttled(pause) => *pause,
                Refused::Trouble(_) => Duration::from_secs(attempt.into()),
            };
            tracing::warn!(reason = note.reason, attempt, %refused, "an Event could not be sent");
            if attempt == ATTEMPTS {
                return EventOutcome::Failed;
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Leadership;
    use crate::testing::ApiServer;
    use serde_json::{Value, json};
    use std::time::Instant;

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

    /// What becomes of an Event that the API server answers so, and how often it is asked.
    async fn sent(answer: Value, status: u16) -> (EventOutcome, usize, Duration) {
        let server = ApiServer::start(move |_| (status, answer.clone()));
        let requests = server.writes(Leadership::Alone);
        let (task, _queue) = EventTask::new(requests, Health::default(), "replica".to_owned());
        let note = note(&[]);
        let started = Instant::now();
        let outcome = task
            .post(&note, &note.event("replica", Timestamp::UNIX_EPOCH))
            .await;
        (outcome, server.requests().len(), started.elapsed())
    }

    #[tokio::test]
    async fn an_event_is_sent_once_and_one_that_exists_is_no_failure() {
        let (outcome, requests, _) = sent(json!({"regarding": {}, "eventTime": null}), 201).await;
        assert_eq!((outcome, requests), (EventOutcome::Written, 1));
        let exists = json!({"code": 409, "reason": "AlreadyExists", "message": "m"});
        let (outcome, requests, _) = sent(exists, 409).await;
        assert_eq!((outcome, requests), (EventOutcome::Exists, 1));
    }

    #[tokio::test]
    async fn after_the_last_attempt_nothing_is_waited_for() {
        let busy = json!({"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 5}});
        let (outcome, requests, took) = sent(busy, 429).await;
        assert_eq!((outcome, requests), (EventOutcome::Failed, 3));
        assert!(
            took < Duration::from_secs(15),
            "two pauses of five seconds between three attempts: {took:?}"
        );
    }

    #[tokio::test]
    async fn what_is_forbidden_is_not_tried_again() {
        let forbidden = json!({"code": 403, "reason": "Forbidden", "message": "no"});
        let (outcome, requests, _) = sent(forbidden, 403).await;
        assert_eq!((outcome, requests), (EventOutcome::Failed, 1));
    }
}
