//! Deliveries to a small HTTP receiver: what arrives, in which order, how often, and what does not hold anybody up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{Mode, Reason, Verdict};
use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::testing::{time, workload};
use crate::transitions::{News, Transition};
use crate::write::news::About;

const SECRET: &str = "a secret that only the two know";

/// One request as it arrived.
#[derive(Clone, Debug)]
struct Arrived {
    headers: HeaderMap,
    body: Bytes,
}

impl Arrived {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn image(&self) -> String {
        self.event()["data"]["image"].as_str().unwrap().to_owned()
    }
}

/// A receiver that answers as told, by the number of the request.
#[derive(Clone)]
struct Hook {
    arrived: Arc<Mutex<Vec<Arrived>>>,
    answers: Arc<dyn Fn(usize) -> u16 + Send + Sync>,
    count: Arc<watch::Sender<usize>>,
}

impl Hook {
    /// The receiver and its URL.
    async fn start(answers: impl Fn(usize) -> u16 + Send + Sync + 'static) -> (Hook, String) {
        let hook = Hook {
            arrived: Arc::default(),
            answers: Arc::new(answers),
            count: Arc::new(watch::Sender::new(0)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hook, url)
    }

    async fn until(&self, count: usize) -> Vec<Arrived> {
        let mut counted = self.count.subscribe();
        let all = counted.wait_for(|counted| *counted >= count);
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .unwrap()
            .unwrap();
        self.arrived.lock().unwrap().clone()
    }
}

async fn take(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let number = {
        let mut arrived = hook.arrived.lock().unwrap();
        arrived.push(Arrived { headers, body });
        arrived.len() - 1
    };
    let status = (hook.answers)(number);
    hook.count.send_modify(|count| *count += 1);
    if status == 0 {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(status).unwrap()
}

struct Sender {
    task: NotifyTask,
    queue: NotifyQueue,
    metrics: Arc<Metrics>,
    folder: tempfile::TempDir,
}

impl Sender {
    fn to(url: &str, room: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        std::fs::write(&secret_file, SECRET).unwrap();
        let options = NotifyOptions {
            url: url.to_owned(),
            secret_file,
            source: "/clusters/a".to_owned(),
        };
        let metrics = Metrics::new("0");
        let mut receiver = Receiver::new(&options).unwrap();
        receiver.pause = Duration::from_millis(5);
        let (task, queue) = NotifyTask::with(receiver, room, metrics.clone());
        Sender {
            task,
            queue,
            metrics,
            folder,
        }
    }

    fn counted(&self, outcome: &str, count: usize) -> bool {
        let line = format!("assay_notifications_total{{outcome=\"{outcome}\"}} {count}");
        self.metrics.text().unwrap().lines().any(|found| found == line)
    }
}

fn event(image: &str) -> CloudEvent {
    let workload = workload("Deployment");
    let about = About {
        namespace: "shop",
        workload: &workload.reference,
    };
    let transition = Transition {
        image: image.into(),
        digest: "sha256:01".into(),
        policy: "prod".into(),
        generation: Some(3),
        mode: Mode::Enforce,
        verdict: Verdict::Violating,
        reason: Reason::KeyRevoked,
        message: "only a revoked key signed".into(),
        since: time(60),
        evidence: Vec::new(),
        signers: vec!["ab".into()],
        previous: Some((Verdict::Compliant, Reason::AllVerified)),
        news: Some(News::BecameNonCompliant),
    };
    CloudEvent::of_transition(&about, &transition, News::BecameNonCompliant.as_str())
}

/// What a receiver computes by itself.
fn expected_signature(arrived: &Arrived) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = [
        arrived.header("webhook-id").as_bytes(),
        b".",
        arrived.header("webhook-timestamp").as_bytes(),
        b".",
        &arrived.body,
    ]
    .concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}

#[tokio::test]
async fn a_notification_is_a_cloud_event_that_its_receiver_can_verify() {
    let (hook, url) = Hook::start(|_| 204).await;
    let sender = Sender::to(&url, 8);
    sender.queue.tell(|| event("r/web:1"));
    tokio::spawn(sender.task.run(std::future::pending()));
    let arrived = hook.until(1).await.remove(0);
    assert_eq!(
        arrived.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(arrived.header("webhook-signature"), expected_signature(&arrived));
    let sent = arrived.event();
    assert_eq!(sent["id"], arrived.header("webhook-id"));
    assert_eq!(sent["specversion"], "1.0");
    assert_eq!(sent["type"], "dev.assay.BecameNonCompliant");
    assert_eq!(sent["source"], "/clusters/a");
    assert_eq!(sent["subject"], "shop/Deployment/web");
    assert_eq!(sent["time"], "2026-01-01T00:01:00Z");
    assert_eq!(sent["data"]["reason"], "KeyRevoked");
    assert_eq!(
        sent["data"]["previous"],
        json!({"verdict": "Compliant", "reason": "AllVerified"})
    );
    assert_eq!(
        sent["data"]["policy"],
        json!({"name": "prod", "generation": 3, "mode": "Enforce"})
    );
}

/// Fails on a build in which the image is no part of what makes an id.
#[test]
fn the_same_news_have_the_same_id_and_others_have_another() {
    assert_eq!(event("r/web:1").id, event("r/web:1").id);
    assert_ne!(event("r/web:1").id, event("r/api:1").id);
}

/// Fails on a build that sends the next one while the first is tried again.
#[tokio::test]
async fn trouble_is_tried_again_under_the_same_id_and_nothing_overtakes() {
    let (hook, url) = Hook::start(|number| [500, 503, 429, 200, 200][number]).await;
    let sender = Sender::to(&url, 8);
    sender.queue.tell(|| event("r/first:1"));
    sender.queue.tell(|| event("r/second:1"));
    let metrics = sender.metrics.clone();
    let running = tokio::spawn(sender.task.run(std::future::pending()));
    let arrived = hook.until(5).await;
    let images: Vec<String> = arrived.iter().map(Arrived::image).collect();
    assert_eq!(
        images,
        ["r/first:1", "r/first:1", "r/first:1", "r/first:1", "r/second:1"]
    );
    assert!(
        arrived[..4]
            .iter()
            .all(|one| one.header("webhook-id") == arrived[0].header("webhook-id"))
    );
    assert_eq!(
        arrived[3].header("webhook-signature"),
        expected_signature(&arrived[3])
    );
    drop(sender.queue);
    running.await.unwrap();
    let delivered = r#"assay_notifications_total{outcome="delivered"} 2"#;
    assert!(metrics.text().unwrap().contains(delivered));
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again_and_what_never_arrives_is_given_up() {
    let (hook, url) = Hook::start(|number| if number == 0 { 400 } else { 500 }).await;
    let sender = Sender::to(&url, 8);
    assert_eq!(sender.task.receiver.deliver(&event("r/a")).await, Outcome::Failed);
    assert_eq!(hook.until(1).await.len(), 1, "a refusal is no trouble");
    assert_eq!(sender.task.receiver.deliver(&event("r/b")).await, Outcome::Failed);
    assert_eq!(hook.until(6).await.len(), 6, "five attempts");
}

/// Fails on a build in which telling waits for room: it never ends.
#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted_and_nobody_waits() {
    let (hook, url) = Hook::start(|_| 0).await;
    let sender = Sender::to(&url, 2);
    let (task, queue, metrics) = (sender.task, sender.queue.clone(), sender.metrics.clone());
    tokio::spawn(task.run(std::future::pending()));
    queue.tell(|| event("r/never-answered"));
    hook.until(1).await;
    for number in 0..5 {
        queue.tell(|| event(&format!("r/{number}")));
    }
    let dropped = r#"assay_notifications_total{outcome="dropped"} 3"#;
    assert!(metrics.text().unwrap().contains(dropped));
}

#[tokio::test]
async fn what_waits_is_sent_at_the_end_and_what_was_under_way_first() {
    let (hook, url) = Hook::start(|number| if number == 0 { 0 } else { 200 }).await;
    let sender = Sender::to(&url, 8);
    for image in ["r/first", "r/second"] {
        sender.queue.tell(|| event(image));
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (task, queue) = (sender.task, sender.queue);
    let running = tokio::spawn(task.run(async { drop(stopped.await) }));
    hook.until(1).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    let images: Vec<String> = hook.until(3).await.iter().map(Arrived::image).collect();
    assert_eq!(images, ["r/first", "r/first", "r/second"]);
    queue.tell(|| event("r/late"));
}

#[tokio::test]
async fn a_secret_is_read_anew_and_a_missing_one_sends_nothing_unsigned() {
    let (hook, url) = Hook::start(|_| 200).await;
    let sender = Sender::to(&url, 8);
    let file = sender.folder.path().join("secret");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(sender.task.receiver.deliver(&event("r/a")).await, Outcome::Failed);
    assert_eq!(hook.arrived.lock().unwrap().len(), 0);
    std::fs::write(&file, format!("another secret that comes next\n{SECRET}\n")).unwrap();
    assert_eq!(
        sender.task.receiver.deliver(&event("r/a")).await,
        Outcome::Delivered
    );
    let arrived = hook.until(1).await.remove(0);
    let signatures: Vec<&str> = arrived.header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2);
    assert!(signatures.contains(&expected_signature(&arrived).as_str()));
    assert!(
        !sender.counted("delivered", 1),
        "the task counts, not the receiver"
    );
}

#[test]
fn a_receiver_that_cannot_be_used_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    let new = |url: &str| {
        let options = NotifyOptions {
            url: url.to_owned(),
            secret_file: secret_file.clone(),
            source: "/assay".to_owned(),
        };
        Receiver::new(&options)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(
        new("https://hooks.example.com")
            .unwrap_err()
            .contains("--notify-secret-file")
    );
    std::fs::write(&secret_file, "short").unwrap();
    assert!(
        new("https://hooks.example.com")
            .unwrap_err()
            .contains("at least 24 characters")
    );
    std::fs::write(&secret_file, SECRET).unwrap();
    assert!(new("https://hooks.example.com").is_ok());
    for url in [
        "hooks.example.com",
        "ftp://hooks.example.com",
        "file:///etc/passwd",
    ] {
        assert!(new(url).unwrap_err().starts_with("--notify-url"), "{url}");
    }
}
