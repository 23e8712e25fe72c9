//! Small builders for the tests of this crate, and an API server without a network.

mod api_server;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use api::{ContainerRef, ContainerType, Mode, Reason, Verdict, WorkloadRef};
use engine::{EngineOptions, ImageReport, PolicyAnswer, StartAnswer, Workload, WorkloadReport};
use jiff::Timestamp;
use tokio::sync::watch;

pub(crate) use self::api_server::{ApiServer, Asked};
use crate::events::EventTask;
use crate::health::Health;
use crate::inventory::Roster;
use crate::inventory::lookup::Lookup;
use crate::lease::Leadership;
use crate::ledger::Ledger;
use crate::notify::NotifyQueue;
use crate::objects::Objects;
use crate::write::Writer;

pub(crate) fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// A writer of a replica that leads, with an engine that knows nothing, and no Events.
pub(crate) fn writer(server: &ApiServer, ledger: Ledger) -> Writer {
    writer_and_events(server, ledger).0
}

/// The same with what sends its Events.
pub(crate) fn writer_and_events(server: &ApiServer, ledger: Ledger) -> (Writer, EventTask) {
    let registries = registry::Client::new(registry::ClientOptions::default()).unwrap();
    let (engine, _task) = engine::start(&EngineOptions::default(), registries).unwrap();
    let requests = server.writes(Leadership::Alone);
    let (events, queue) = EventTask::new(requests.clone(), Health::default(), "replica".to_owned());
    let writer = Writer {
        notifications: NotifyQueue::of_nobody(),
        exceptions: Objects::default(),
        engine,
        reads: server.client(),
        requests,
        ledger,
        policies: Objects::default(),
        keys: Objects::default(),
        revocations: Objects::default(),
        events: queue,
        lookup: Arc::new(Lookup::default()),
        roster: Roster::default(),
        pods_told: watch::channel(true).1,
        health: Health::default(),
        minimum_age: Duration::ZERO,
        failures: AtomicU32::new(0),
    };
    (writer, events)
}

/// An answer of a policy in mode Enforce.
pub(crate) fn answer(policy: &str, verdict: Verdict, reason: Reason) -> PolicyAnswer {
    let message = if verdict == Verdict::Compliant {
        String::new()
    } else {
        format!("{reason} by {policy}")
    };
    PolicyAnswer {
        policy: policy.into(),
        generation: 3,
        mode: Mode::Enforce,
        verdict,
        requirement: Some("signed".into()),
        reason,
        message: message.into(),
        excepted: None,
        valid_until: None,
        becomes: None,
        warned: false,
        stale_since: None,
        evidence: vec!["sha256:e1".into()],
        signers: vec!["aa".into()],
    }
}

/// The same in mode DryRun.
pub(crate) fn dry_run(answer: PolicyAnswer) -> PolicyAnswer {
    PolicyAnswer {
        mode: Mode::DryRun,
        ..answer
    }
}

pub(crate) fn image(image: &str, digest: &str, policies: Vec<PolicyAnswer>) -> ImageReport {
    ImageReport {
        image: image.into(),
        digest: digest.into(),
        containers: vec![ContainerRef {
            name: "web".into(),
            type_: ContainerType::Container,
        }],
        policies,
    }
}

/// A report about Deployment/web in namespace shop.
pub(crate) fn report(images: Vec<ImageReport>) -> WorkloadReport {
    WorkloadReport {
        workload: workload("Deployment"),
        images,
        next_start: StartAnswer::default(),
    }
}

pub(crate) fn workload(kind: &str) -> Arc<Workload> {
    let reference = WorkloadRef {
        api_version: match kind {
            "Pod" => "v1".into(),
            "Job" => "batch/v1".into(),
            _ => "apps/v1".into(),
        },
        kind: kind.into(),
        name: "web".into(),
        uid: "d".into(),
        observed_generation: Some(1),
        managed_by: None,
    };
    Arc::new(Workload::new("shop".into(), reference, time(0)))
}
