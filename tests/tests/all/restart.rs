//! The operator killed at any moment and started again: the same statuses, nothing told twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::ImageCompliance;
use kube::api::ListParams;
use serde_json::{Value, json};

use testkit::{ApiProxy, Fate, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, eventually};
use tokio::sync::Notify;

use crate::operator::{Operator, USER, insecure, install};
use crate::own::own_cluster;
use crate::scene::{PATIENCE, Scene, condition_in, simple, summary};
use crate::servers::servers;

/// How often the operator is killed, unless `ASSAY_KILLS` says otherwise.
const KILLS: usize = 200;

fn kills() -> usize {
    let told = std::env::var("ASSAY_KILLS").ok();
    told.map_or(KILLS, |kills| kills.parse().expect("ASSAY_KILLS is a number"))
}

/// Kills the operator in the middle of a write: what stands between it and the API server holds the write, or the answer
/// to it, until the operator is dead.
struct Reaper {
    proxy: ApiProxy,
}

impl Reaper {
    /// The next process ends at its write of this number, before or after that was carried out. Everything later is held.
    /// Whoever waits is told of that write.
    fn lie_in_wait(&self, number: usize, fate: Fate) -> Arc<Notify> {
        let (writes, waiting) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let struck = waiting.clone();
        self.proxy.set_rule(move |request| {
            if !request.is_write() {
                return Fate::Forward;
            }
            match writes.fetch_add(1, Ordering::Relaxed) {
                at if at < number => Fate::Forward,
                at if at == number => {
                    struck.notify_one();
                    fate.clone()
                }
                _ => Fate::Hold,
            }
        });
        waiting
    }

    fn let_live(&self) {
        self.proxy.set_rule(|_| Fate::Forward);
    }
}

/// Waits for the write at which the process is struck; false where there was none for so long after it was ready.
async fn is_struck(struck: &Notify, operator: &Operator, within: Duration) -> bool {
    let patience = async {
        operator.until_ready().await;
        tokio::time::sleep(within).await;
    };
    tokio::select! {
        () = struck.notified() => true,
        () = patience => false,
    }
}

/// What is written about each workload: the status, and the version of the object.
async fn written(scene: &Scene) -> BTreeMap<String, (String, Option<String>)> {
    let api = scene.namespace.api::<ImageCompliance>();
    let list = api.list(&ListParams::default()).await.unwrap();
    let entry = |object: ImageCompliance| {
        let status = serde_json::to_string(&object.status).unwrap();
        (
            object.metadata.name.unwrap(),
            (status, object.metadata.resource_version),
        )
    };
    list.items.into_iter().map(entry).collect()
}

async fn told(scene: &Scene) -> Vec<String> {
    let mut told: Vec<String> = scene.events(scene.name()).await.iter().map(summary).collect();
    told.sort();
    told
}

/// F12, C2.11, C5.12: one replica without a Lease, so that each start writes at once.
#[tokio::test]
async fn f12_c5_12_an_operator_killed_at_any_write_converges_and_tells_nothing_twice() {
    let cluster = own_cluster("restart").await;
    install(cluster).await;
    let [distribution, referrers] = [&servers().await.distribution, &servers().await.referrers];
    let mut arguments = insecure(&[distribution.host(), referrers.host()]);
    arguments.push("--leader-elect=false".to_owned());
    let account = cluster
        .kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        .await
        .unwrap();
    let reaper = Reaper {
        proxy: ApiProxy::in_front_of(cluster, &account).await.unwrap(),
    };
    let operator = Operator::launch_as(cluster, "operator", reaper.proxy.kubeconfig(), &arguments);
    operator.until_ready().await;
    let scene = Scene::on(cluster, "restart").await;
    let release = scene.signer("release", "release", "Active").await;
    let other = scene.signer("other", "release", "Active").await;
    let stranger = scene.cosign.generate_key_pair("stranger").await.unwrap();
    let good = scene.signed_image(referrers, "restart/good", &release).await;
    let turning = scene.signed_image(referrers, "restart/turning", &other).await;
    let foreign = scene
        .signed_image(distribution, "restart/foreign", &stranger)
        .await;
    let bad = scene.image(distribution, "restart/bad").await;
    scene
        .create(&[
            scene.policy(
                "signed",
                "release",
                json!({"spec": {"recheck": {"interval": "1s"}}}),
            ),
            simple("good", &good.by_tag()),
            simple("foreign", &foreign.by_tag()),
            simple("bad", &bad.by_tag()),
        ])
        .await;
    let turning_ones: Vec<String> = (0..10).map(|number| format!("turning-{number}")).collect();
    let objects: Vec<_> = turning_ones
        .iter()
        .map(|name| simple(name, &turning.by_tag()))
        .collect();
    scene.create(&objects).await;
    for (name, says) in [
        ("good", "True/AllVerified"),
        ("foreign", "False/SignerNotTrusted"),
        ("bad", "False/SignatureMissing"),
    ] {
        scene.says(&format!("deployment-{name}"), says).await;
    }
    for name in &turning_ones {
        scene
            .says(&format!("deployment-{name}"), "True/AllVerified")
            .await;
    }
    scene.event("Deployment", "bad", "BecameNonCompliant").await;
    scene.event("Deployment", "foreign", "BecameNonCompliant").await;
    let before = written(&scene).await;

    // The key is turned off and on, and each process is killed at one of its first writes: statuses, Events, counts.
    let (rounds, mut struck) = (kills(), 0);
    operator.server.kill().unwrap();
    for round in 0..rounds {
        let stage = if round % 2 == 0 { "Disabled" } else { "Active" };
        scene
            .patch(
                "signingkey",
                &scene.unique("other"),
                &json!({"spec": {"stage": stage}}),
            )
            .await;
        let fate = if round / 2 % 2 == 0 {
            Fate::Hold
        } else {
            Fate::HoldAnswer
        };
        // Some live long enough to write counts, which are gathered for three seconds.
        let (number, patience) = match round % 20 {
            19 => (usize::MAX, Duration::from_millis(4500)),
            short => (short % 7, Duration::from_millis(2500)),
        };
        let at_its_write = reaper.lie_in_wait(number, fate);
        operator.server.start_again().unwrap();
        struck += usize::from(is_struck(&at_its_write, &operator, patience).await);
        operator.server.kill().unwrap();
    }
    println!("{struck} of {rounds} kills struck at a write, the others between two");
    assert!(struck * 2 > rounds, "only {struck} of {rounds} struck at a write");
    reaper.let_live();
    operator.server.start_again().unwrap();
    scene
        .patch(
            "signingkey",
            &scene.unique("other"),
            &json!({"spec": {"stage": "Revoked"}}),
        )
        .await;
    operator.until_ready().await;
    for name in &turning_ones {
        scene
            .says(&format!("deployment-{name}"), "False/KeyRevoked")
            .await;
    }
    // Mere counts are written once in 30 s, and what waits to be written is not forgotten by a kill. Totals that say what
    // is pending are put right later.
    scene
        .policy_status("signed", |status| {
            status["violating"] == 12 && status["compliant"] == 1 && status["pendingStatusWrites"].is_null()
        })
        .await;
    let key_statuses = async || {
        let safe = |status: &Value| condition_in(status, "SafeToDisable");
        let other = scene.key_status("other", |status| {
            status["effectiveStage"] == "Revoked"
                && status["soleTrust"]["workloads"] == 0
                && safe(status).starts_with("True/")
                && status["pendingStatusWrites"].is_null()
        });
        let release = scene.key_status("release", |status| {
            status["soleTrust"]["workloads"] == 1
                && safe(status).starts_with("False/")
                && status["pendingStatusWrites"].is_null()
        });
        [other.await, release.await]
    };
    let keys_before = key_statuses().await;
    let after = written(&scene).await;
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for name in ["deployment-good", "deployment-foreign", "deployment-bad"] {
        assert_eq!(
            before[name], after[name],
            "{name} was written although nothing changed"
        );
    }
    let told_once = told(&scene).await;
    // A flip is told once, or not at all where the process died between the status and its Event.
    for name in &turning_ones {
        let flips = told_once
            .iter()
            .filter(|told| {
                told.starts_with(&format!("Deployment/{name} ")) && told.contains("BecameNonCompliant")
            })
            .count();
        assert!(
            flips <= rounds.div_ceil(2) + 1,
            "{name}: {flips} times in {rounds} rounds"
        );
    }
    // It is made after the key's status, and has one itself.
    let each = r#"jsonpath={range .items[*]}{.metadata.name} {.status.conditions[0].status}{"\n"}{end}"#;
    let one = async || {
        let revocations = scene.kubectl(&["get", "keyrevocations", "-o", each]).await;
        match revocations.lines().collect::<Vec<_>>()[..] {
            [one] if one.ends_with(" True") => Ok(()),
            _ => Err(revocations),
        }
    };
    eventually("one revocation in force", PATIENCE, one)
        .await
        .unwrap();
    for unchanged in ["Deployment/bad ", "Deployment/foreign ", "Deployment/good "] {
        let about = told_once
            .iter()
            .filter(|told| told.starts_with(unchanged))
            .count();
        assert_eq!(
            about,
            usize::from(!unchanged.contains("good")),
            "{unchanged}: {told_once:?}"
        );
    }

    // Started once more on the same world: not a single write, and nothing is told.
    operator.server.kill().unwrap();
    let told_once = told(&scene).await;
    // A request that the kill cut off is logged late, as timed out.
    let writes = || {
        let mut writes = cluster.writes_by(USER).unwrap();
        writes.retain(|write| write.code != 504);
        writes
    };
    let writes_before = writes().len();
    operator.server.start_again().unwrap();
    operator.until_ready().await;
    // Everything has been looked at again when the interval has passed twice.
    let looked_at = operator
        .metric("assay_lookups_total{outcome=\"complete\"}")
        .await
        .unwrap_or_default();
    let again = async || match operator.metric("assay_lookups_total{outcome=\"complete\"}").await {
        Some(found) if found >= looked_at + 8.0 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("two more scans", Duration::from_secs(60), again)
        .await
        .unwrap();
    let new = writes().split_off(writes_before);
    let any = |_: &Value| true;
    let keys_after = [
        scene.key_status("other", any).await,
        scene.key_status("release", any).await,
    ];
    assert!(
        new.is_empty(),
        "{new:#?}, before {keys_before:#?}, after {keys_after:#?}"
    );
    assert_eq!(written(&scene).await, after);
    assert_eq!(told(&scene).await, told_once);
}

/// B49: what is in force outlives the process in the policy's status, and judges what came while there was none.
/// Weakened once: with `in_force: None` in `facts` of the controller, every workload turns Unknown/PolicyInvalid.
#[tokio::test]
async fn b49_a_policy_that_breaks_and_a_kill_leave_the_last_good_version_in_force() {
    let cluster = own_cluster("broken-policy").await;
    install(cluster).await;
    let registry = &servers().await.referrers;
    let mut arguments = insecure(&[registry.host()]);
    arguments.push("--leader-elect=false".to_owned());
    let operator = Operator::start(cluster, "operator", &arguments).await;
    let scene = Scene::on(cluster, "broken-policy").await;
    let release = scene.signer("release", "release", "Active").await;
    let good = scene.signed_image(registry, "broken-policy/good", &release).await;
    let bad = scene.image(registry, "broken-policy/bad").await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("good", &good.by_tag()),
            simple("bad", &bad.by_tag()),
        ])
        .await;
    scene.says("deployment-good", "True/AllVerified").await;
    scene.says("deployment-bad", "False/SignatureMissing").await;
    scene.event("Deployment", "bad", "BecameNonCompliant").await;
    let before = written(&scene).await;
    let breaks = async |zone: &str| {
        let broken =
            json!({"spec": {"recheck": {"interval": null, "schedule": "0 3 * * *", "timeZone": zone}}});
        scene
            .patch("imagepolicies.assay.dev", &scene.unique("signed"), &broken)
            .await;
    };
    let is_broken = async |generation: i64| {
        let said = |status: &Value| {
            condition_in(status, "Ready") == "False/PolicyInvalid"
                && status["observedGeneration"] == generation
        };
        let status = scene.policy_status("signed", said).await;
        assert_eq!(status["inForce"]["generation"], 1, "{status:#}");
        assert_eq!(
            status["inForce"]["spec"]["recheck"]["interval"], "1h",
            "{status:#}"
        );
    };

    // Broken while the operator runs, then broken otherwise while it does not: it starts with nothing but the status.
    breaks("Mars/Phobos").await;
    is_broken(2).await;
    operator.server.kill().unwrap();
    breaks("Mars/Deimos").await;
    scene
        .create(&[
            simple("late-good", &good.by_tag()),
            simple("late-bad", &bad.by_tag()),
        ])
        .await;
    operator.server.start_again().unwrap();
    operator.until_ready().await;
    scene.says("deployment-late-good", "True/AllVerified").await;
    scene.says("deployment-late-bad", "False/SignatureMissing").await;
    is_broken(3).await;
    scene.event("Deployment", "late-bad", "BecameNonCompliant").await;
    let after = written(&scene).await;
    for (name, object) in &before {
        assert_eq!(
            Some(object),
            after.get(name),
            "{name} was written although nothing changed"
        );
    }
    let told = told(&scene).await;
    assert_eq!(
        told,
        [
            "Deployment/bad BecameNonCompliant",
            "Deployment/late-bad BecameNonCompliant"
        ],
        "nothing left coverage, and nothing was told twice"
    );
}
