//! Registries that go away and come back: nothing turns Violating, what is known stays, and all heals by itself.

use std::time::Duration;

use serde_json::json;
use testkit::{Outage, eventually};

use crate::manifests::with;
use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{PATIENCE, Scene, condition, condition_in, simple, summary};
use crate::servers::servers;

/// The same image through the front.
fn through(front: &Outage, image: &testkit::Pushed) -> String {
    let path = image.repository.split_once('/').unwrap().1;
    format!("{}/{path}@{}", front.host(), image.digest)
}

fn stale(compliance: &api::ImageCompliance) -> bool {
    compliance.status.images[0].policies[0].stale_since.is_some()
}

/// A good, a bad and a late image behind the front; what is known is judged.
struct Fleet {
    good: String,
    bad: String,
    late: String,
}

async fn fleet(scene: &Scene, front: &Outage, patch: serde_json::Value) -> Fleet {
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let good = scene.signed_image(registry, "outage/good", &release).await;
    let bad = scene.image(registry, "outage/bad").await;
    let late = scene.signed_image(registry, "outage/late", &release).await;
    let fleet = Fleet {
        good: through(front, &good),
        bad: through(front, &bad),
        late: through(front, &late),
    };
    let often = json!({"spec": {"recheck": {"interval": "1s"}}});
    scene
        .create(&[
            scene.policy("signed", "release", with(often, patch)),
            simple("good", &fleet.good),
            simple("bad", &fleet.bad),
        ])
        .await;
    scene.says("deployment-good", "True/AllVerified").await;
    scene.says("deployment-bad", "False/SignatureMissing").await;
    fleet
}

/// A workload whose image was pulled before the outage, under an operator that never saw it.
fn new_workload(image: &str) -> serde_json::Value {
    let annotation = format!("{}.main", testkit::node::annotation::IMAGE_ID);
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    crate::scene::deployment("late", spec, json!({(annotation.as_str()): image}))
}

/// During an outage: known verdicts are kept and marked stale, a new digest has no answer.
async fn holds_during_the_outage(scene: &Scene) {
    let kept = |says: &'static str| {
        move |written: &api::ImageCompliance| condition(written) == says && stale(written)
    };
    scene
        .until(
            "deployment-good",
            "kept and stale",
            PATIENCE,
            kept("True/AllVerified"),
        )
        .await;
    scene
        .until(
            "deployment-bad",
            "kept and stale",
            PATIENCE,
            kept("False/SignatureMissing"),
        )
        .await;
    scene.says("deployment-late", "Unknown/RegistryUnavailable").await;
}

async fn heals(scene: &Scene) {
    let healed = |says: &'static str| {
        move |written: &api::ImageCompliance| condition(written) == says && !stale(written)
    };
    scene
        .until("deployment-late", "healed", PATIENCE, healed("True/AllVerified"))
        .await;
    scene
        .until("deployment-good", "healed", PATIENCE, healed("True/AllVerified"))
        .await;
    scene
        .until(
            "deployment-bad",
            "healed",
            PATIENCE,
            healed("False/SignatureMissing"),
        )
        .await;
}

/// F01, C5.14, B43.
#[tokio::test]
async fn f01_c5_14_b43_in_an_outage_nothing_turns_violating_and_all_heals_by_itself() {
    let (scene, shared) = Scene::shared("outage").await;
    let front = shared.front();
    let fleet = fleet(&scene, &front, json!({})).await;
    front.refuse();
    scene.create(&[new_workload(&fleet.late)]).await;
    holds_during_the_outage(&scene).await;
    let stale_workloads = format!(
        "assay_stale_workloads{{namespace=\"{}\",policy=\"{}\"}}",
        scene.name(),
        scene.unique("signed")
    );
    shared.operator.until_metric(&stale_workloads, 2.0).await;
    let (status, _) = shared.operator.get("/readyz").await.unwrap();
    assert_eq!(status, 200, "an outage of a registry never removes readiness");
    front.restore();
    heals(&scene).await;
    // An Event follows its status.
    scene.event("Deployment", "late", "BecameCompliant").await;
    let told: Vec<String> = scene.events(scene.name()).await.iter().map(summary).collect();
    let expected = [
        "Deployment/bad BecameNonCompliant",
        "Deployment/late VerdictUnknown",
        "Deployment/late BecameCompliant",
    ];
    assert_eq!(told, expected);
}

/// When the operator gives a request to a registry up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// More images than the operator looks up at the same time, in one registry (16) and in all (64).
const HUNG: usize = 80;

/// A workload of so many images behind the front, each its own.
fn hung_workload(front: &Outage) -> serde_json::Value {
    let image = |number: usize| format!("{}/outage/hung@sha256:{number:064x}", front.host());
    let containers: Vec<_> = (0..HUNG)
        .map(|number| json!({"name": format!("c{number}"), "image": image(number)}))
        .collect();
    let image_ids: serde_json::Map<_, _> = (0..HUNG)
        .map(|number| {
            let annotation = format!("{}.c{number}", testkit::node::annotation::IMAGE_ID);
            (annotation, json!(image(number)))
        })
        .collect();
    crate::scene::deployment("hung", json!({"containers": containers}), image_ids.into())
}

/// Whether nothing is known yet of half of the images that hang.
fn still_hangs(written: Option<&api::ImageCompliance>) -> bool {
    let waits = |image: &&api::ImageResult| image.policies[0].reason == api::Reason::Pending;
    // Nothing is written of a workload before its images were looked at for the first time.
    written.is_none_or(|written| written.status.images.iter().filter(waits).count() >= HUNG / 2)
}

/// A registry that takes connections and never answers is an outage too. F03.
#[tokio::test]
async fn f03_a_registry_that_hangs_holds_up_no_other() {
    let (scene, shared) = Scene::shared("hanging").await;
    let front = shared.front();
    let fleet = fleet(&scene, &front, json!({})).await;
    front.swallow();
    scene
        .create(&[new_workload(&fleet.late), hung_workload(&front)])
        .await;
    scene
        .kubectl(&["rollout", "status", "deployment/hung", "--timeout=60s"])
        .await;
    let held = async || match front.held() {
        0 => Err("no connection hangs".to_owned()),
        _ => Ok(()),
    };
    eventually("look-ups to hang", PATIENCE, held).await.unwrap();
    let other = scene
        .image(&servers().await.distribution, "outage/elsewhere")
        .await;
    let started = std::time::Instant::now();
    scene.create(&[simple("elsewhere", &other.by_tag())]).await;
    scene.says("deployment-elsewhere", "False/SignatureMissing").await;
    let took = started.elapsed();
    println!("another registry was answered about within {took:?}");
    assert!(
        took < 2 * REQUEST_TIMEOUT,
        "it waited until what hangs was given up: {took:?}"
    );
    // What hangs takes several rounds of a request's time-out: in one line with it, the answer would have come last.
    let hung = scene.compliance("deployment-hung").await;
    assert!(
        still_hangs(hung.as_ref()),
        "the other registry waited for what hangs: {hung:#?}"
    );
    holds_during_the_outage(&scene).await;
    front.restore();
    heals(&scene).await;
}

/// Only Compliant decays: after `maxStaleness` it is not believed any more; a violation stays.
#[tokio::test]
async fn after_max_staleness_compliant_is_unknown_and_a_violation_stays() {
    let (scene, shared) = Scene::shared("staleness").await;
    let front = shared.front();
    fleet(
        &scene,
        &front,
        json!({"spec": {"recheck": {"maxStaleness": "5s"}}}),
    )
    .await;
    front.refuse();
    scene.says("deployment-good", "Unknown/Stale").await;
    let bad = scene.until("deployment-bad", "stale", PATIENCE, stale).await;
    assert_eq!(condition(&bad), "False/SignatureMissing");
    scene.event("Deployment", "good", "VerdictUnknown").await;
    front.restore();
    scene.says("deployment-good", "True/AllVerified").await;
    scene.event("Deployment", "good", "BecameCompliant").await;
}

/// F01 with a restart, B47: what was known is on disk.
#[tokio::test]
async fn f01_b47_an_operator_that_is_killed_and_started_again_in_an_outage_keeps_what_it_knew() {
    let cluster = own_cluster("outage").await;
    install(cluster).await;
    let front = Outage::in_front_of(&servers().await.referrers.host())
        .await
        .unwrap();
    let operator = Operator::start(cluster, "operator", &insecure(&[front.host()])).await;
    let scene = Scene::on(cluster, "outage-restart").await;
    let fleet = fleet(&scene, &front, json!({})).await;
    front.refuse();
    scene.until("deployment-good", "stale", PATIENCE, stale).await;
    scene.until("deployment-bad", "stale", PATIENCE, stale).await;
    // A kill between a status and its Event takes the Event with it.
    scene.event("Deployment", "bad", "BecameNonCompliant").await;
    operator.server.kill().unwrap();
    operator.server.start_again().unwrap();
    operator.until_ready().await;
    scene.create(&[new_workload(&fleet.late)]).await;
    holds_during_the_outage(&scene).await;
    // What is read from disk is never proof that there is no other signature: without its key the image is not
    // Compliant any more, and no violation either until the registry answers.
    let stage = async |stage: &str| {
        let patch = json!({"spec": {"stage": stage}});
        scene.patch("signingkey", &scene.unique("release"), &patch).await;
    };
    stage("Disabled").await;
    scene.says("deployment-good", "Unknown/RegistryUnavailable").await;
    stage("Active").await;
    scene.says("deployment-good", "True/AllVerified").await;
    front.restore();
    heals(&scene).await;
    // An Event follows its status.
    scene.event("Deployment", "late", "BecameCompliant").await;
    let told: Vec<String> = scene.events(scene.name()).await.iter().map(summary).collect();
    for once in [
        "Deployment/bad BecameNonCompliant",
        "Deployment/late VerdictUnknown",
        "Deployment/late BecameCompliant",
    ] {
        assert_eq!(told.iter().filter(|told| *told == once).count(), 1, "{told:?}");
    }
    scene
        .policy_status("signed", |status| {
            condition_in(status, "Ready") == "True/PolicyCompiled"
        })
        .await;
}
