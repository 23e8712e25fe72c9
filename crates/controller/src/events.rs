//! Kubernetes Events (events.k8s.io/v1) about news: on the workload and on the policy, or on a key.
//!
//! They have a budget of their own and a bounded queue, so that they never delay a status. Names are
//! made of what the news says: telling it twice gives AlreadyExists, not a second Event. An Event carries the time of
//! its news, however late it is sent; one whose turn comes while this replica does not lead waits until it leads again.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

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
/// How long one Event is tried from its turn on.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// How soon an Event is tried again where the API server is not there.
const AWAY: Duration = Duration::from_secs(1);
/// How often at most: by then the Lease has lapsed, and whoever leads again goes on.
const ATTEMPTS_AWAY: u32 = 15;
/// How often one Event is tried that meets trouble: those that wait behind it may have none.
const ATTEMPTS: u32 = 4;
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

/// A piece of news that is to be sent.
#[derive(Clone, Debug)]
struct Waiting {
    note: Note,
    since: Timestamp,
}

/// Takes news. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    notes: mpsc::Sender<Waiting>,
    metrics: Arc<Metrics>,
}

impl EventQueue {
    /// Tells a piece of news if there is room for it.
    pub(crate) fn tell(&self, note: Note) {
        let reason = note.reason;
        let since = Timestamp::now();
        if self.notes.try_send(Waiting { note, since }).is_err() {
            self.metrics.event(reason, EventOutcome::Dropped);
        }
    }
}

/// Sends news as Events.
pub(crate) struct EventTask {
    notes: mpsc::Receiver<Waiting>,
    /// What is being sent.
    under_way: Option<Waiting>,
    requests: Requests,
    health: Health,
    instance: String,
    budget: DefaultDirectRateLimiter,
    tried_for: Duration,
    /// Since when this replica is known not to lead.
    lapsed: Option<Instant>,
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
                under_way: None,
                requests,
                health,
                instance,
                budget,
                tried_for: TRIED_FOR,
                lapsed: None,
            },
            queue,
        )
    }

    /// Sends until `stop` completes, then what is under way and what waits, for [`ending::FLUSH`] at most.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        if let SendingEnd::NothingLeft = self.send_until(stop).await {
            return;
        }
        self.notes.close();
        if timeout(ending::FLUSH, self.send_all()).await.is_err() {
            tracing::warn!("some Events could not be sent before the end of the process");
        }
    }

    async fn send_until(&mut self, stop: impl Future<Output = ()>) -> SendingEnd {
        let health = self.health.clone();
        let mut beat = pulse();
        let (mut stop, mut sending) = (std::pin::pin!(stop), std::pin::pin!(self.send_all()));
        loop {
            tokio::select! {
                () = &mut sending => return SendingEnd::NothingLeft,
                _ = beat.tick() => health.beat(NAME),
                () = &mut stop => return SendingEnd::Stop,
            }
        }
    }

    /// Sends what comes. What was under way when this was interrupted is sent first.
    async fn send_all(&mut self) {
        loop {
            if self.under_way.is_none() {
                self.under_way = self.notes.recv().await;
            }
            let Some(waiting) = self.under_way.clone() else {
                return;
            };
            self.budget.until_ready().await;
            let event = waiting.note.event(&self.instance, waiting.since);
            let outcome = self.post(&waiting.note, &event).await;
            self.requests.metrics.event(waiting.note.reason, outcome);
            self.under_way = None;
        }
    }

    async fn post(&mut self, note: &Note, event: &Event) -> EventOutcome {
        let mut leadership = self.requests.leadership.clone();
        let turn = Instant::now();
        let (mut failed, mut away) = (0, 0);
        loop {
            if leadership.leads() {
                self.lapsed = None;
            }
            let Err(refused) = self.requests.post_event(note.namespace(), event).await else {
                return EventOutcome::Written;
            };
            let (pause, since, given_up) = match &refused {
                Refused::NotAsItWas(_) => return EventOutcome::Exists,
                Refused::NamespaceGone => return EventOutcome::Dropped,
                Refused::Invalid(_) | Refused::Forbidden(_) => {
                    tracing::error!(reason = note.reason, %refused, "an Event is refused and not sent");
                    return EventOutcome::Failed;
                }
                Refused::NotLeading => {
                    let lapsed = *self.lapsed.get_or_insert_with(Instant::now);
                    (Duration::ZERO, lapsed, EventOutcome::Dropped)
                }
                Refused::Throttled(pause) => (*pause, turn, EventOutcome::Failed),
                Refused::Away(_) => {
                    away += 1;
                    (AWAY, turn, EventOutcome::Failed)
                }
                Refused::Trouble(_) => {
                    failed += 1;
                    (Duration::from_secs(failed.into()), turn, EventOutcome::Failed)
                }
            };
            let (again, deadline) = (Instant::now() + pause, since + self.tried_for);
            let may_be_sent = async {
                sleep_until(again).await;
                leadership.gained().await;
            };
            let is_the_last = failed == ATTEMPTS || away == ATTEMPTS_AWAY || again >= deadline;
            if is_the_last || timeout_at(deadline, may_be_sent).await.is_err() {
                tracing::warn!(reason = note.reason, %refused, "an Event could not be sent and is given up");
                return given_up;
            }
        }
    }
}

/// Why Events are sent no more.
enum SendingEnd {
    NothingLeft,
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Leadership;
    use crate::testing::ApiServer;
    use serde_json::{Value, json};
    use tokio::sync::watch;

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

    fn written() -> (u16, Value) {
        (201, json!({"regarding": {}, "eventTime": null}))
    }

    fn busy() -> (u16, Value) {
        (
            429,
            json!({"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 25}}),
        )
    }

    /// What sends the Events of a replica with this leadership.
    fn sender(server: &ApiServer, leadership: Leadership) -> (EventTask, EventQueue) {
        EventTask::new(server.writes(leadership), Health::default(), "replica".to_owned())
    }

    /// What becomes of an Event that the API server answers so, and how often it is asked.
    async fn sent((status, answer): (u16, Value)) -> (EventOutcome, usize) {
        let server = ApiServer::start(move |_| (status, answer.clone()));
        let (mut task, _queue) = sender(&server, Leadership::Alone);
        let note = note(&[]);
        let event = note.event("replica", Timestamp::UNIX_EPOCH);
        (task.post(&note, &event).await, server.requests().len())
    }

    #[tokio::test]
    async fn an_event_is_sent_once_and_one_that_exists_is_no_failure() {
        assert_eq!(sent(written()).await, (EventOutcome::Written, 1));
        let exists = json!({"code": 409, "reason": "AlreadyExists", "message": "m"});
        assert_eq!(sent((409, exists)).await, (EventOutcome::Exists, 1));
    }

    #[tokio::test]
    async fn no_pause_is_waited_for_that_nothing_follows() {
        let server = ApiServer::start(|_| busy());
        let (mut task, _queue) = sender(&server, Leadership::Alone);
        task.tried_for = Duration::from_secs(20);
        let note = note(&[]);
        let event = note.event("replica", Timestamp::UNIX_EPOCH);
        let started = Instant::now();
        assert_eq!(task.post(&note, &event).await, EventOutcome::Failed);
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn trouble_that_passes_delays_an_event() {
        let server = ApiServer::start(|request| match request.number {
            0 => (503, json!({"code": 503, "message": "m"})),
            _ => written(),
        });
        let (task, queue) = sender(&server, Leadership::Alone);
        queue.tell(note(&[]));
        drop(queue);
        task.run(std::future::pending()).await;
        assert_eq!(server.requests().len(), 2);
    }

    /// Weakened once: with an API server that is away taken for trouble of the one Event, it is given up after six seconds.
    #[tokio::test]
    async fn an_event_outlives_an_api_server_that_is_away_for_longer_than_the_lease_lasts() {
        let server = ApiServer::start(|request| match request.number {
            0..9 => (503, json!({"code": 503, "message": "m"})),
            _ => written(),
        });
        let (mut task, _queue) = sender(&server, Leadership::Alone);
        let note = note(&[]);
        let event = note.event("replica", Timestamp::UNIX_EPOCH);
        assert_eq!(task.post(&note, &event).await, EventOutcome::Written);
    }

    /// A replica that led, and does not now.
    fn lapsed() -> (watch::Sender<Option<Instant>>, Leadership) {
        let (holder, until) = watch::channel(Some(Instant::now()));
        (holder, Leadership::Elected(until))
    }

    /// A Lease that lapses for a moment takes no Event with it. Weakened once: with Events dropped where the replica
    /// does not lead, nothing is sent.
    #[tokio::test]
    async fn an_event_waits_until_its_replica_leads_again_and_carries_the_time_of_its_news() {
        let server = ApiServer::start(|_| written());
        let (holder, leadership) = lapsed();
        let (task, queue) = sender(&server, leadership);
        let before = Timestamp::now();
        queue.tell(note(&[]));
        let after = Timestamp::now();
        drop(queue);
        let task = tokio::spawn(task.run(std::future::pending()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.requests().is_empty(), "nothing is sent without the Lease");
        holder.send_replace(Some(Instant::now() + TRIED_FOR));
        task.await.unwrap();
        let [sent] = server.requests().try_into().unwrap();
        let at: Timestamp = sent.body["eventTime"].as_str().unwrap().parse().unwrap();
        let micro = jiff::SignedDuration::from_micros(1);
        assert!(
            (before - micro..=after).contains(&at),
            "{at} is not when the news was found"
        );
    }

    #[tokio::test]
    async fn events_whose_replica_leads_no_more_are_dropped_together_and_counted() {
        let server = ApiServer::start(|_| written());
        let (_holder, leadership) = lapsed();
        let (mut task, queue) = sender(&server, leadership);
        task.tried_for = Duration::from_secs(3);
        let metrics = queue.metrics.clone();
        let count = 20;
        for number in 0..count {
            queue.tell(note(&[&number.to_string()]));
        }
        drop(queue);
        let started = Instant::now();
        task.run(std::future::pending()).await;
        assert!(server.requests().is_empty());
        let dropped = format!(r#"outcome="dropped"}} {count}"#);
        assert!(metrics.text().unwrap().contains(&dropped));
        assert!(
            started.elapsed() < Duration::from_secs(3) * count / 2,
            "they do not wait one after the other: {:?}",
            started.elapsed()
        );
    }

    /// The end of the process interrupts a pause, and the Event that paused is sent before it. Weakened once: without
    /// what is under way, the first one is lost.
    #[tokio::test]
    async fn what_is_under_way_at_the_end_of_the_process_is_sent_before_it() {
        let server = ApiServer::start(|request| match request.number {
            0 => busy(),
            _ => written(),
        });
        let (task, queue) = sender(&server, Leadership::Alone);
        queue.tell(note(&["1"]));
        queue.tell(note(&["2"]));
        let started = Instant::now();
        task.run(server.until_requests(1)).await;
        let names = server.requests().into_iter();
        let names: Vec<_> = names.map(|sent| sent.body["metadata"]["name"].clone()).collect();
        assert_eq!(names.len(), 3);
        assert_eq!(names[0], names[1], "the first one twice, the second one once");
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn what_is_forbidden_is_not_tried_again() {
        let forbidden = json!({"code": 403, "reason": "Forbidden", "message": "no"});
        assert_eq!(sent((403, forbidden)).await, (EventOutcome::Failed, 1));
    }
}
