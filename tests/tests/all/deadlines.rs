//! Verdicts that change by the clock alone: at the time that they named, told by the operator's own times.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use testkit::predicates::{Build, Scanner, vulnerabilities};
use testkit::{Format, KeyPair};

use crate::changes::requests;
use crate::manifests::with;
use crate::scene::{Scene, simple};
use crate::servers::servers;

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap()
}

/// When each of the keys ends, in seconds after the first: whoever looks every few seconds is late for most of them.
const ENDS: [i64; 5] = [0, 2, 4, 6, 8];

/// Keys that end by themselves. What counts is when the operator judged anew, as it wrote it, not when that arrived here;
/// and of five flips the third best, so that a machine that stands still for a moment fails nobody.
/// Weakened once: with `Engine::next_wake` without the deadlines, so that the engine looks every five seconds.
#[tokio::test]
async fn a_verdict_changes_by_itself_within_a_second_of_the_time_that_it_named() {
    let (scene, _) = Scene::shared("deadline").await;
    let registry = &servers().await.referrers;
    let mut signed = Vec::new();
    for number in 0..ENDS.len() {
        let pair = scene
            .cosign
            .generate_key_pair(&format!("release-{number}"))
            .await
            .unwrap();
        let repository = format!("deadline/web-{number}");
        let image = scene.signed_image(registry, &repository, &pair).await;
        signed.push((pair, image));
    }
    let first = in_seconds(45);
    let ends = ENDS.map(|seconds| first + SignedDuration::from_secs(seconds));
    let mut objects = vec![scene.policy("signed", "release", json!({}))];
    for (number, (pair, image)) in signed.iter().enumerate() {
        let key = scene.signing_key(&format!("release-{number}"), "release", "Active", pair);
        objects.push(with(key, json!({"spec": {"notAfter": ends[number].to_string()}})));
        objects.push(simple(&format!("web-{number}"), &image.by_tag()));
    }
    scene.create(&objects).await;
    for (number, end) in ends.iter().enumerate() {
        let good = scene
            .says(&format!("deployment-web-{number}"), "True/AllVerified")
            .await;
        let named = good.status.images[0].policies[0].valid_until.clone().unwrap().0;
        assert_eq!(named, *end);
    }
    let position = registry.log_position().unwrap();
    let mut late = Vec::new();
    for (number, end) in ends.iter().enumerate() {
        let bad = scene
            .says(&format!("deployment-web-{number}"), "False/KeyExpired")
            .await;
        // Half a minute after a flip it is looked up again.
        let repository = format!("deadline/web-{number}");
        assert_eq!(requests(registry, position, &repository), Vec::<String>::new());
        // Statuses carry whole seconds.
        late.push(bad.status.images[0].policies[0].since.0.as_second() - end.as_second());
        let event = scene
            .event("Deployment", &format!("web-{number}"), "BecameNonCompliant")
            .await;
        let told = event.event_time.unwrap().0.duration_since(*end);
        println!("web-{number} ended {end}, and an Event was sent {told:#} later");
    }
    late.sort_unstable();
    assert!(late[0] >= 0, "it was early: {late:?}");
    assert!(late[ENDS.len() / 2] <= 1, "late by so many seconds: {late:?}");
}

/// C4.05, C4.07: seven days pass for a scan and for a build that were young enough when the workloads started; the pods
/// run on. Weakened once: with `valid_until` of an attestation left out, nothing ever changes.
#[tokio::test]
async fn c4_05_c4_07_what_an_attestation_proves_grows_too_old_while_the_workload_runs() {
    const MAX_AGE: SignedDuration = SignedDuration::from_hours(168);
    let (scene, _) = Scene::shared("ages").await;
    let registry = &servers().await.referrers;
    let pair: KeyPair = scene.signer("release", "release", "Active").await;
    let scanned = scene.image(registry, "ages/scanned").await;
    let built = scene.image(registry, "ages/built").await;
    let end = in_seconds(50);
    let scan = vulnerabilities(Scanner::Trivy, end - MAX_AGE, &[]);
    let build = Build {
        builder: "https://ci.example.com/builder@v1",
        repository: "https://github.com/shop/web",
        git_ref: "refs/heads/main",
        commit: "0123456789abcdef0123456789abcdef01234567",
        finished: end - MAX_AGE,
    };
    for (image, type_, predicate) in [
        (&scanned, "vuln", scan),
        (&built, "slsaprovenance1", build.slsa_v1()),
    ] {
        scene
            .cosign
            .attest(&image.by_digest(), &pair, type_, &predicate, Format::Bundle)
            .await
            .unwrap();
    }
    let ring = scene.unique("release");
    let wanted = |name: &str, requirement: serde_json::Value| {
        let images = json!({"match": {"images": [format!("**/ages/{name}")]},
            "require": [with(json!({"name": "young"}), requirement)]});
        scene.policy(name, "release", json!({"spec": images}))
    };
    let scan = json!({"vulnerabilities": {"signedBy": [&ring], "maxAge": "168h", "maxFixable": "Low", "maxUnfixable": "Low"}});
    let provenance = json!({"provenance": {"signedBy": [&ring], "builderId": build.builder,
        "sourceRepository": build.repository, "maxAge": "168h"}});
    scene
        .create(&[
            wanted("scanned", scan),
            wanted("built", provenance),
            simple("scanned", &scanned.by_tag()),
            simple("built", &built.by_tag()),
        ])
        .await;
    let names = ["scanned", "built"];
    for name in names {
        let good = scene
            .says(&format!("deployment-{name}"), "True/AllVerified")
            .await;
        let named = good.status.images[0].policies[0].valid_until.clone().unwrap().0;
        assert_eq!(named, end, "{name}");
    }
    let pods = [
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].metadata.uid} {.items[*].status.phase}",
    ];
    let running = scene.kubectl(&pods).await;
    let position = registry.log_position().unwrap();
    for name in names {
        let bad = scene
            .says(&format!("deployment-{name}"), "False/AttestationExpired")
            .await;
        assert!(
            bad.status.images[0].policies[0].since.0 >= end,
            "{name} was early: {bad:?}"
        );
        assert_eq!(
            requests(registry, position, &format!("ages/{name}")),
            Vec::<String>::new()
        );
        scene.event("Deployment", name, "BecameNonCompliant").await;
    }
    assert_eq!(scene.kubectl(&pods).await, running, "what runs is not touched");
}
