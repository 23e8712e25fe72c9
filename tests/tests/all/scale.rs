//! Two hundred workloads: how fast a revocation is told, and that an unchanged scan writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::ImageCompliance;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use testkit::{BulkSigner, eventually};

use crate::operator::{Operator, USER, USER_AGENT, insecure, install};
use crate::own::own_cluster;
use crate::scene::{Scene, condition, simple};
use crate::servers::servers;

const WORKLOADS: usize = 200;

/// Writes of the operator but for its Lease.
fn writes(cluster: &testkit::Cluster) -> Vec<testkit::ApiRequest> {
    let mut writes = cluster.writes_by(USER).unwrap();
    writes.retain(|write| write.resource != "leases");
    writes
}

/// How many images were looked at two times: one look asks nothing twice.
fn looked_at_twice<'a>(requests: impl Iterator<Item = &'a testkit::LoggedRequest>) -> usize {
    let mut times = BTreeMap::<(&str, &str), usize>::new();
    for request in requests {
        *times.entry((&request.method, &request.path)).or_default() += 1;
    }
    let repository = |path: &str| path.split('/').nth(3).map(str::to_owned);
    let twice = times.iter().filter(|(_, times)| **times >= 2);
    let images: BTreeSet<_> = twice.filter_map(|((_, path), _)| repository(path)).collect();
    images.len()
}

async fn until_all(scene: &Scene, says: &str) {
    let api = scene.namespace.api::<ImageCompliance>();
    let look = async || {
        let list = api.list(&ListParams::default()).await.unwrap().items;
        let saying = list
            .iter()
            .filter(|compliance| condition(compliance) == says)
            .count();
        if saying == WORKLOADS {
            Ok(())
        } else {
            Err(format!("{saying} of {}", list.len()))
        }
    };
    eventually(
        &format!("{WORKLOADS} times {says}"),
        Duration::from_secs(180),
        look,
    )
    .await
    .unwrap();
}

/// What a template would start is known when its tag was asked for, which can be after the pods were judged.
async fn until_every_start_is_admitted(scene: &Scene) {
    let api = scene.namespace.api::<ImageCompliance>();
    let look = async || {
        let list = api.list(&ListParams::default()).await.unwrap().items;
        let others = list.iter().filter(|compliance| {
            let next = compliance.status.next_start.as_ref();
            next.is_none_or(|next| next.decision != api::StartDecision::Admit)
        });
        match others.count() {
            0 => Ok(()),
            others => Err(format!("{others} of {} would not be admitted", list.len())),
        }
    };
    eventually("every start to be admitted", Duration::from_secs(180), look)
        .await
        .unwrap();
}

/// When each object was first seen to say something, until all do.
async fn when_each_says(api: &Api<ImageCompliance>, version: &str, says: &str) -> BTreeMap<String, Instant> {
    let parameters = WatchParams::default().timeout(120);
    let mut events = std::pin::pin!(api.watch(&parameters, version).await.unwrap());
    let mut seen = BTreeMap::new();
    while seen.len() < WORKLOADS {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
        match event.unwrap_or_else(|_| panic!("only {} of {WORKLOADS} say {says}", seen.len())) {
            Some(Ok(WatchEvent::Modified(object))) if condition(&object) == says => {
                seen.entry(object.metadata.name.unwrap())
                    .or_insert_with(Instant::now);
            }
            Some(Ok(_)) => {}
            other => panic!("the watch ended: {other:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_05_two_hundred_workloads_flip_by_one_write_each_and_unchanged_scans_write_nothing() {
    let cluster = own_cluster("scale").await;
    install(cluster).await;
    let registry = &servers().await.distribution;
    let operator = Operator::start(cluster, "operator", &insecure(&[registry.host()])).await;
    let scene = Scene::on(cluster, "scale").await;
    let release = scene.signer("release", "release", "Active").await;
    let signer = BulkSigner::new(&release).unwrap();
    let writer = registry.writer();
    let images: Vec<_> = stream::iter(0..WORKLOADS)
        .map(async |number| {
            let image = writer
                .push_image(&format!("scale/{number}"), "1", scene.name())
                .await?;
            signer.sign(&writer, &image).await?;
            Ok::<_, testkit::TestkitError>(image)
        })
        .buffered(8)
        .try_collect()
        .await
        .unwrap();
    scene
        .create(&[scene.policy(
            "signed",
            "release",
            json!({"spec": {"recheck": {"interval": "5s"}}}),
        )])
        .await;
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = scene.namespace.api();
    let started = Instant::now();
    stream::iter(images.iter().enumerate())
        .map(async |(number, image)| {
            let object = serde_json::from_value(simple(&format!("web-{number}"), &image.by_tag())).unwrap();
            deployments
                .create(&PostParams::default(), &object)
                .await
                .map(drop)
        })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await
        .unwrap();
    until_all(&scene, "True/AllVerified").await;
    println!(
        "first scan of {WORKLOADS} workloads that came one by one: {:?}",
        started.elapsed()
    );

    until_every_start_is_admitted(&scene).await;
    // C5.12, C5.13: two more looks at every image, and not one write. Counts are written within 30 s.
    // Totals that say what is pending are put right later.
    let settled = |status: &serde_json::Value| {
        status["compliant"] == WORKLOADS && status["pendingStatusWrites"].is_null()
    };
    scene.policy_status("signed", settled).await;
    scene
        .key_status("release", |status| {
            status["soleTrust"]["workloads"] == WORKLOADS && status["pendingStatusWrites"].is_null()
        })
        .await;
    let before = writes(cluster).len();
    let position = registry.log_position().unwrap();
    let scanned = async || {
        let asked = registry.access_log_since(position).unwrap();
        let own = asked.iter().filter(|request| {
            request.user_agent.starts_with(USER_AGENT) && request.path.starts_with("/v2/scale/")
        });
        let twice = looked_at_twice(own);
        if twice == WORKLOADS {
            Ok(())
        } else {
            Err(format!("{twice} images were looked at twice"))
        }
    };
    eventually(
        "every image to be looked at two more times",
        Duration::from_secs(90),
        scanned,
    )
    .await
    .unwrap();
    let new = writes(cluster).split_off(before);
    assert!(new.is_empty(), "an unchanged scan wrote {new:#?}");

    let api = scene.namespace.api::<ImageCompliance>();
    let list = api.list(&ListParams::default().limit(1)).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let before = writes(cluster).len();
    let revoke = async {
        let started = Instant::now();
        scene
            .patch(
                "signingkey",
                &scene.unique("release"),
                &json!({"spec": {"stage": "Revoked"}}),
            )
            .await;
        started
    };
    let (started, seen) = tokio::join!(revoke, when_each_says(&api, &version, "False/KeyRevoked"));
    let mut times: Vec<Duration> = seen.values().map(|time| time.duration_since(started)).collect();
    times.sort();
    println!(
        "revocation of {WORKLOADS} workloads: first {:?}, median {:?}, p99 {:?}, last {:?}",
        times[0],
        times[WORKLOADS / 2],
        times[WORKLOADS * 99 / 100 - 1],
        times[WORKLOADS - 1]
    );
    // The audit log is written a moment after the answer.
    let flips = || {
        let mut flips = writes(cluster).split_off(before);
        flips.retain(|write| write.resource == "imagecompliances");
        let sent = flips.len();
        flips.retain(|write| write.code < 300);
        (flips.len(), sent - flips.len())
    };
    let logged = async || match flips() {
        (written, _) if written >= WORKLOADS => Ok(()),
        (written, refused) => Err(format!("{written} writes, and {refused} refused")),
    };
    eventually("the writes to be logged", Duration::from_secs(10), logged)
        .await
        .unwrap();
    let (written, refused) = flips();
    assert_eq!(written, WORKLOADS, "one write for each workload");
    // What is answered too late is sent again, and refused as overtaken.
    assert!(refused <= WORKLOADS / 20, "{refused} writes were refused");
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    let resident = metrics
        .lines()
        .find(|line| line.starts_with("process_resident_memory_bytes"));
    println!("{}", resident.unwrap_or("no process_resident_memory_bytes"));
}
