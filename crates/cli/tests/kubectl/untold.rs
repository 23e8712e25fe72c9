//! What cannot be told, what the API server would not take, and what a KeyRevocation holds: none of it ends as clean.

use serde_json::{Value, json};

use crate::commands::{preview, result};
use crate::golden;
use crate::recorded::Recorded;

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";

fn write_key(cluster: &Recorded, stage: &str) {
    let key = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "metadata": {"name": "release-2025"},
        "spec": {"keyRing": "release", "stage": stage, "publicKey": {"pem": KEY}},
    });
    std::fs::write(cluster.folder().join("keys.yaml"), key.to_string()).unwrap();
}

/// Nothing gets worse of what is known, and three results are not known.
fn untold() -> Value {
    let mut status = preview(&[], &[], &[], "sha256:ee");
    status["unknown"] = 3.into();
    status
}

/// Fails on a build that asks for what gets worse alone.
#[test]
fn what_cannot_be_told_is_not_clean_and_yes_does_not_agree_to_it() {
    let cluster = Recorded::start();
    write_key(&cluster, "Disabled");
    cluster.answer_previews([untold()]);
    let ran = golden(
        "untold",
        &cluster,
        &[
            &["diff", "-f", "keys.yaml"],
            &["key", "impact", "release-2025", "--stage", "Disabled"],
            &["key", "images", "release-2025"],
            &["key", "stage", "release-2025", "Disabled", "--yes"],
            &[
                "key",
                "stage",
                "release-2025",
                "Disabled",
                "--yes",
                "--expect-results",
                "sha256:ee",
            ],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [2, 2, 2, 1, 1]
    );
    assert!(cluster.writes().is_empty(), "{:?}", cluster.writes());
    let agreed = [
        "key",
        "stage",
        "release-2025",
        "Disabled",
        "--yes",
        "--accept-unknown",
    ];
    let ran = golden("untold-accepted", &cluster, &[&agreed]);
    assert_eq!(ran[0].code, 0);
    assert_eq!(cluster.writes().len(), 1);
}

/// Fails on a build that asks the operator alone.
#[test]
fn a_diff_of_what_the_api_server_would_not_take_is_an_error_and_predicts_nothing() {
    let cluster = Recorded::start();
    write_key(&cluster, "Active");
    cluster.answer_previews([preview(&[], &[], &[], "sha256:cc")]);
    cluster.refuse(
        "release-2025",
        422,
        "SigningKey.assay.dev \"release-2025\" is invalid: spec: Invalid value: spec.stage may not leave Revoked",
    );
    let ran = golden("diff-refused", &cluster, &[&["diff", "-f", "keys.yaml"]]);
    assert_eq!(ran[0].code, 2);
    assert!(cluster.previews().is_empty(), "nothing is asked of the operator");
    cluster.refuse(
        "release-2025",
        403,
        "signingkeys.assay.dev \"release-2025\" is forbidden: ValidatingAdmissionPolicy 'guard' with binding 'guard' \
         denied request: not on a Friday",
    );
    let ran = golden("diff-denied", &cluster, &[&["diff", "-f", "keys.yaml"]]);
    assert_eq!(ran[0].code, 2);

    // Who may not write keys is told so, and what they would do is said.
    cluster.refuse("nothing", 422, "");
    cluster.forbid(&["write signingkeys"]);
    let ran = golden("diff-not-tried", &cluster, &[&["diff", "-f", "keys.yaml"]]);
    assert_eq!(ran[0].code, 0);
    assert!(cluster.writes().is_empty(), "nothing is applied");
}

/// A Hold with the images that it honours, and the key as it counts then.
fn held(cluster: &Recorded) {
    let fingerprint = "5".repeat(64);
    let honoured = format!("sha256:{}", "2".repeat(64));
    let spec = json!({"fingerprint": fingerprint, "reason": "Hold", "honourDigests": [honoured]});
    cluster.set(json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "KeyRevocation", "metadata": {"name": fingerprint}, "spec": spec,
    }));
    let mut key = cluster.object("SigningKey", "release-2025");
    key["status"]["effectiveStage"] = "Disabled".into();
    cluster.set(key);
}

/// Fails on a build that asks for the stage alone.
#[test]
fn under_a_hold_it_is_said_what_holds_the_key_what_lifts_it_and_what_still_rests_on_it() {
    let cluster = Recorded::start();
    held(&cluster);
    let mut rests = preview(
        &[result("shop", "Deployment/web", "mesh/proxy", '2', "KeyDisabled")],
        &[],
        &[],
        "sha256:aa",
    );
    rests["startOnly"] = json!({
        "newlyFailingTotal": 1, "newlyUnknownTotal": 0,
        "newlyFailing": [result("bank", "CronJob/nightly", "bank/nightly:1", '6', "KeyDisabled")],
    });
    cluster.answer_previews([rests]);
    let ran = golden(
        "held",
        &cluster,
        &[
            &["rotate", "release"],
            &["key", "images", "release-2025"],
            &["key", "images", "release-2025", "-o", "json"],
            &["key", "freeze", "release-2025"],
            &["key", "stage", "release-2025", "Active", "--dry-run"],
            &["key", "stage", "release-2025", "Revoked", "--dry-run"],
        ],
    );
    assert_eq!(
        ran.iter().map(|ran| ran.code).collect::<Vec<_>>(),
        [1, 1, 1, 2, 0, 0]
    );
    let says = ran[0].stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        says.contains("kubectl delete keyrevocation") && !says.contains("which can be undone"),
        "{says}"
    );
    assert!(!ran[1].text.contains("nothing rests"), "{}", ran[1].text);
}

/// What fails by the key is read before the step without a way back is called free.
/// Fails on a build that asks for the stages alone.
#[test]
fn a_revocation_is_blocked_while_something_fails_by_the_disabled_key() {
    let cluster = Recorded::start();
    let mut key = cluster.object("SigningKey", "release-2025");
    key["spec"]["stage"] = "Disabled".into();
    key["status"]["effectiveStage"] = "Disabled".into();
    key["status"]["soleTrust"] = json!({"images": 0, "workloads": 0, "pods": 0});
    key["status"]["conditions"][1]["status"] = "True".into();
    cluster.set(key);
    let ran = golden("rotate-disabled", &cluster, &[&["rotate", "release"]]);
    assert_eq!(ran[0].code, 0);
    let mut compliance = cluster.object("ImageCompliance", "cronjob-report");
    let failing = json!({
        "name": "prod-signed", "mode": "Enforce", "verdict": "Violating", "reason": "KeyDisabled",
        "since": "2026-11-20T08:00:00Z",
    });
    compliance["status"]["images"][0]["policies"][0] = failing;
    cluster.set(compliance);
    let ran = golden("rotate-failing", &cluster, &[&["rotate", "release"]]);
    assert_eq!(ran[0].code, 1);
    cluster.forbid(&["imagecompliances"]);
    let ran = golden("rotate-not-told", &cluster, &[&["rotate", "release"]]);
    assert_eq!(ran[0].code, 1);
    assert!(
        cluster.writes().is_empty() && cluster.previews().is_empty(),
        "it only reads"
    );
}
