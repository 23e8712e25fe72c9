//! Fifty thousand workloads turn Violating at once: what is written and told, in which order, and how fast.

use super::storm_tests::{AtWork, Judges, LONG, obscure, pace, policy, refusal, tell_of, workload};
use super::*;
use crate::events::{BURST, PER_SECOND, QUEUE};
use crate::said::Said;
use crate::testing::{ApiServer, Asked, writer_and_events};
use api::ImageCompliance;
use axum::http::Method;
use engine::{EngineOptions, Fact, PodImage, Workload};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use testkit::{FakeRegistry, Pushed};

/// Workloads of the mass violation.
const MASS: usize = 50_000;
/// Workloads of which something else is to be said at the same time.
const CALM: usize = 300;
/// Their images.
const IMAGES: usize = 20;
/// Objects in one page of a list.
const PAGE: usize = 500;

/// What the API server holds before and is asked during the mass violation.
#[derive(Default)]
struct MassShelf {
    /// Every object before, as it is listed once.
    listed: Mutex<Vec<Value>>,
    was_listed: AtomicBool,
    /// Versions of what was written.
    versions: Mutex<HashMap<String, u64>>,
    writes: Mutex<Vec<MassWrite>>,
    events: AtomicUsize,
}

/// One write.
struct MassWrite {
    at: Instant,
    /// Namespace and name; the name alone of a policy.
    of: String,
    violating: Option<i64>,
    pending: i64,
}

impl MassShelf {
    fn answer(&self, asked: &Asked) -> (u16, Value) {
        if asked.query.contains("watch=") {
            return (ApiServer::STREAM, json!([]));
        }
        if asked.path.contains("/events") {
            self.events.fetch_add(1, Ordering::Relaxed);
            return (201, asked.body.clone());
        }
        if asked.method == Method::GET {
            let listed = self.listed.lock().unwrap();
            let token = asked
                .query
                .split('&')
                .find_map(|part| part.strip_prefix("continue="));
            let from = token.map_or(0, |token| token.parse::<usize>().unwrap());
            let to = (from + PAGE).min(listed.len());
            let more = if to < listed.len() {
                to.to_string()
            } else {
                String::new()
            };
            if token.is_none() && self.was_listed.swap(true, Ordering::Relaxed) {
                return (ApiServer::NEVER, Value::Null);
            }
            let metadata = json!({"resourceVersion": "1", "continue": more});
            return (200, json!({"metadata": metadata, "items": listed[from..to]}));
        }
        let metadata = &asked.body["metadata"];
        let part = |part: &str| metadata[part].as_str().unwrap_or_default();
        let of = format!("{}/{}", part("namespace"), part("name"));
        let status = &asked.body["status"];
        self.writes.lock().unwrap().push(MassWrite {
            at: Instant::now(),
            of: of.clone(),
            violating: status["violating"].as_i64(),
            pending: status["pendingStatusWrites"].as_i64().unwrap_or_default(),
        });
        let mut versions = self.versions.lock().unwrap();
        let version = versions.entry(of).or_insert(1);
        if part("resourceVersion") != version.to_string() {
            return refusal(409, Value::Null);
        }
        *version += 1;
        let mut object = asked.body.clone();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        if part("namespace").is_empty() {
            object["metadata"]["uid"] = part("name").into();
        }
        (200, object)
    }

    /// Holds what a leader before would have written: each workload says what the engine says of one with its image.
    async fn fill(&self, engine: &Handle) {
        let mut samples = HashMap::<(Arc<str>, usize), render::Rendered>::new();
        while samples.len() < IMAGES {
            let update = engine.next_update().await.unwrap();
            let target = update.target();
            if let Update::Workload(key, WorkloadAnswer::Covered(report), _) = update {
                let sample = render::covered(&report, &Said::default(), now());
                let number: usize = key.name.trim_start_matches("web-").parse().unwrap();
                samples.entry(sample_of(&key.namespace, number)).or_insert(sample);
            }
            engine.done(target, None).await.unwrap();
        }
        let mut listed = self.listed.lock().unwrap();
        for (namespace, count) in [("mass", MASS), ("calm", CALM)] {
            let said = |number| {
                said_of(
                    &samples[&sample_of(namespace, number)],
                    &workload(namespace, number),
                )
            };
            listed.extend((0..count).map(said));
        }
    }

    fn with_writes<T>(&self, of: impl FnOnce(&[MassWrite]) -> T) -> T {
        of(&self.writes.lock().unwrap())
    }
}

/// Which workloads of a namespace run the same image.
fn sample_of(namespace: &str, number: usize) -> (Arc<str>, usize) {
    (
        namespace.into(),
        if namespace == "mass" {
            number % (IMAGES - 1)
        } else {
            0
        },
    )
}

/// An object that says of a workload what was said of another one.
fn said_of(sample: &render::Rendered, workload: &Workload) -> Value {
    let name = format!("deployment-{}", workload.reference.name);
    let owners = sample.owners.iter().cloned().map(|owner| OwnerReference {
        name: workload.reference.name.clone(),
        uid: workload.reference.uid.clone(),
        ..owner
    });
    let object = ImageCompliance {
        metadata: ObjectMeta {
            uid: Some(format!("uid of {name}")),
            namespace: Some(workload.key.namespace.to_string()),
            name: Some(name),
            resource_version: Some("1".into()),
            owner_references: Some(owners.collect()),
            ..ObjectMeta::default()
        },
        status: api::ImageComplianceStatus {
            workload: Some(workload.reference.clone()),
            ..sample.status.clone()
        },
    };
    object.to_object().unwrap()
}

/// The sum of a metric over its labels that contain this.
fn counted(page: &str, name: &str, label: &str) -> usize {
    let lines = page
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

/// F18. Weakened once: with the urgency of what gets worse that of any other change, what is no worse than before comes
/// first; without a turn for totals between workloads, they come last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_fifty_thousand_violations_at_once_are_written_once_each_first_and_within_the_budgets() {
    const RATE: u32 = 2500;
    let shelf: Arc<MassShelf> = Arc::default();
    let held = shelf.clone();
    let server = ApiServer::start(move |asked| held.answer(asked)).without_bodies();
    let registry = FakeRegistry::start().await.unwrap();
    let mut images = Vec::new();
    for number in 0..IMAGES {
        let repository = format!("shop/web-{number}");
        images.push(
            registry
                .writer()
                .push_image(&repository, "1", "web")
                .await
                .unwrap(),
        );
    }
    let calm = images.pop().unwrap();
    let runs = |image: &Pushed| PodImage {
        written: image.by_tag().into(),
        image_id: Some(image.by_digest().into()),
        ..obscure()
    };
    let plain_http = registry::ClientOptions {
        plain_http: BTreeSet::from([registry.host()]),
        ..registry::ClientOptions::default()
    };
    let client = registry::Client::new(plain_http).unwrap();
    let (engine, _task) = engine::start(&EngineOptions::default(), client).unwrap();
    let (writer, events) = writer_and_events(&server, Ledger::default());
    let writer = Writer {
        engine: engine.clone(),
        ..writer
    };
    tell_of(
        &engine,
        "calm",
        CALM,
        Judges::Violating("Name the digest."),
        |_| runs(&calm),
    )
    .await;
    tell_of(&engine, "mass", MASS, Judges::Trusting, |number| {
        runs(&images[number % images.len()])
    })
    .await;
    engine.tell(Fact::Synced).await.unwrap();
    shelf.fill(&engine).await;
    for name in ["of-calm", "of-mass"].map(Arc::from) {
        let metadata = json!({"name": &*name, "uid": &*name, "generation": 1, "resourceVersion": "1"});
        let object = json!({"apiVersion": "assay.dev/v1alpha1", "kind": "ImagePolicy", "metadata": metadata});
        writer
            .policies
            .seen(&name, Row::of(&serde_json::from_value(object).unwrap()));
    }

    // What is no worse than before is edited first; before anything of it is written, the others turn.
    engine
        .tell(policy("calm", 2, Judges::Violating("Write the digest.")))
        .await
        .unwrap();
    engine
        .tell(policy("mass", 2, Judges::Violating("Name the digest.")))
        .await
        .unwrap();
    let started = Instant::now();
    let at_work = AtWork::begin(&server, pace(RATE, 500), writer, events).await;
    let corrected = || {
        shelf.with_writes(|writes| {
            let last = writes.iter().rfind(|write| write.of == "/of-mass");
            writes.len() >= MASS + CALM && last.is_some_and(|last| last.pending == 0)
        })
    };
    at_work
        .until(
            "all is written, and no total is ahead any more",
            15 * LONG,
            corrected,
        )
        .await;
    let page = at_work.metrics.text().unwrap();
    at_work.end().await;
    // Events were sent until now.
    let took = started.elapsed();

    let is_policy = |write: &&MassWrite| write.of.starts_with('/');
    shelf.with_writes(|writes| {
        let of: Vec<&str> = writes
            .iter()
            .filter(|write| !is_policy(write))
            .map(|write| &*write.of)
            .collect();
        assert_eq!(of.len(), MASS + CALM, "one write for each");
        let calm = of.iter().position(|of| of.starts_with("calm/")).unwrap();
        // What is on its way at the same time may overtake.
        assert!(
            calm + IN_FLIGHT >= MASS,
            "what is no worse than before was written as number {calm}"
        );
        for (number, write) in writes.iter().enumerate() {
            let allowed = 501.0 + f64::from(RATE) * (write.at - started).as_secs_f64();
            assert!(
                number as f64 <= allowed,
                "write {number} came {:?} after the start",
                write.at - started
            );
        }
        let totals: Vec<(usize, &MassWrite)> = writes
            .iter()
            .enumerate()
            .filter(|(_, write)| write.of == "/of-mass")
            .collect();
        let said: Vec<_> = totals
            .iter()
            .map(|(at, total)| (at, total.violating, total.pending))
            .collect();
        println!("totals at which write, how many violate, how many are pending: {said:?}");
        let (at, first) = &totals[0];
        assert!(*at < 100, "the totals came first with write {at}");
        assert!(first.pending > i64::try_from(MASS * 9 / 10).unwrap());
        assert!(totals.iter().all(|(_, total)| total.violating == Some(50_000)));
        assert!(totals.is_sorted_by(|(_, one), (_, next)| one.pending > next.pending));
    });

    // Each flip is news about the workload and about the policy.
    let told = 2 * MASS;
    let sent = shelf.events.load(Ordering::Relaxed);
    let budget = BURST.get() as usize + (f64::from(PER_SECOND.get()) * took.as_secs_f64()) as usize + 2;
    let dropped = counted(&page, "assay_events_total", "outcome=\"dropped\"");
    println!("{told} news in {took:?}: {sent} Events were sent, {dropped} were dropped, the others wait");
    assert!(
        sent >= BURST.get() as usize && sent <= budget,
        "{sent} Events, the budget allows {budget}"
    );
    assert!(
        dropped + sent <= told && dropped + sent + QUEUE + 1 >= told,
        "{dropped} are counted as dropped"
    );
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    println!("with the stand-in and all that it holds: {peak}");
}
