use engine::EngineOptions;
use serde_json::{Value, json};
use std::sync::Mutex;

use super::*;
use crate::testing::{ApiServer, time};

/// A log alone; its key verifies nothing.
fn document(end: Option<Timestamp>) -> String {
    let mut log = json!({
        "baseUrl": "https://log.example.com", "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": "MCowBQYDK2VwAyEAt8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244=",
            "keyDetails": "PKIX_ED25519", "validFor": {"start": "2025-01-01T00:00:00Z"},
        },
        "logId": {"keyId": "AAAA"},
    });
    if let Some(end) = end {
        log["publicKey"]["validFor"]["end"] = json!(end.to_string());
    }
    let media_type = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
    json!({"mediaType": media_type, "tlogs": [log]}).to_string()
}

type Answer = Arc<Mutex<(u16, Value)>>;

/// The keeper, and what the API server answers about any ConfigMap.
fn keeper() -> (TrustRoots, Answer) {
    let registries = registry::Client::new(registry::ClientOptions::default()).unwrap();
    let (engine, _) = engine::start(&EngineOptions::default(), registries).unwrap();
    let answer: Answer = Arc::new(Mutex::new((404, json!({"code": 404, "reason": "NotFound"}))));
    let answers = answer.clone();
    let server = ApiServer::start(move |_| answers.lock().unwrap().clone());
    let own = OwnNamespace::new(server.client(), "assay-system".to_owned());
    (TrustRoots::new(engine, Metrics::new("0"), own, None), answer)
}

fn object(spec: Value, generation: i64) -> Held<TrustRootSpec, TrustRootStatus> {
    let object = json!({
        "apiVersion": "assay.dev/v1alpha1", "kind": "TrustRoot",
        "metadata": {"name": "own", "uid": "u", "generation": generation}, "spec": spec,
    });
    Held::of(&serde_json::from_value(object).unwrap())
}

/// The status of the one object, kept for the next turn.
async fn turn(
    keeper: &mut TrustRoots,
    held: &mut Held<TrustRootSpec, TrustRootStatus>,
    now: Timestamp,
) -> String {
    let objects = [("own".into(), held.clone())].into();
    let statuses = keeper.bring_up_to_date(&objects, now).await.unwrap();
    held.status = statuses["own"].clone();
    let shown = |type_: &str| {
        let all = &held.status.conditions;
        let found = all.iter().find(|condition| condition.type_ == type_).unwrap();
        format!("{}/{}", found.status, found.reason)
    };
    format!("{} {}", shown(READY), shown(EXPIRING))
}

fn ready_message(held: &Held<TrustRootSpec, TrustRootStatus>) -> String {
    held.status.conditions[0].message.clone()
}

#[tokio::test]
async fn a_root_in_the_object_or_built_in_is_usable_and_what_is_none_is_named_with_its_field() {
    let (mut keeper, _) = keeper();
    let mut inline = object(json!({"inline": document(None)}), 1);
    assert_eq!(
        turn(&mut keeper, &mut inline, time(0)).await,
        "True/Usable False/NoEnd"
    );
    let mut broken = object(json!({"inline": "{}"}), 2);
    assert_eq!(
        turn(&mut keeper, &mut broken, time(0)).await,
        "False/Invalid Unknown/NotReady"
    );
    assert!(
        ready_message(&broken).contains("spec.inline"),
        "{}",
        ready_message(&broken)
    );
    assert_eq!(broken.status.digest, None);
    for built_in in ["PublicGood", "Staging"] {
        let mut root = object(json!({"builtIn": built_in}), 3);
        let shown = turn(&mut keeper, &mut root, time(0)).await;
        assert!(shown.starts_with("True/Usable"), "{built_in}: {shown}");
    }
    for unknown in [
        json!({"builtIn": "Private"}),
        json!({"url": "x"}),
        json!({"inline": 7}),
    ] {
        let mut root = object(unknown, 4);
        assert!(
            turn(&mut keeper, &mut root, time(0))
                .await
                .starts_with("False/Invalid")
        );
    }
}

#[tokio::test]
async fn a_config_map_that_is_missing_is_no_root_and_one_that_cannot_be_read_leaves_the_last_one() {
    let (mut keeper, answer) = keeper();
    let mut root = object(json!({"configMapRef": {"name": "roots"}}), 1);
    assert_eq!(
        turn(&mut keeper, &mut root, time(0)).await,
        "False/ConfigMapMissing Unknown/NotReady"
    );
    assert!(
        ready_message(&root).contains("ConfigMap assay-system/roots"),
        "{}",
        ready_message(&root)
    );
    *answer.lock().unwrap() = (200, json!({"data": {"trusted_root.json": document(None)}}));
    assert!(
        turn(&mut keeper, &mut root, time(0))
            .await
            .starts_with("True/Usable")
    );
    let trouble = (
        503,
        json!({"code": 503, "reason": "ServiceUnavailable", "message": "etcd"}),
    );
    *answer.lock().unwrap() = trouble;
    assert!(
        turn(&mut keeper, &mut root, time(0))
            .await
            .starts_with("True/RefreshFailing")
    );
    assert!(root.status.digest.is_some());
    let mut recreated = Held {
        uid: "v".to_owned(),
        ..root.clone()
    };
    let shown = turn(&mut keeper, &mut recreated, time(0)).await;
    assert!(
        shown.starts_with("False/Unavailable"),
        "what a deleted object gave does not count: {shown}"
    );
    let mut edited = object(json!({"configMapRef": {"name": "others"}}), 2);
    let shown = turn(&mut keeper, &mut edited, time(0)).await;
    assert!(
        shown.starts_with("False/Unavailable"),
        "what another spec gave does not count: {shown}"
    );
    *answer.lock().unwrap() = (200, json!({"data": {"other.json": document(None)}}));
    assert!(
        turn(&mut keeper, &mut root, time(0))
            .await
            .starts_with("False/ConfigMapMissing")
    );
    assert!(
        ready_message(&root).contains("no entry trusted_root.json"),
        "{}",
        ready_message(&root)
    );
}

#[tokio::test]
async fn the_time_of_the_refresh_moves_only_with_the_content() {
    let (mut keeper, _) = keeper();
    let mut root = object(json!({"inline": document(None)}), 1);
    turn(&mut keeper, &mut root, time(0)).await;
    let first = root.status.clone();
    turn(&mut keeper, &mut root, time(60)).await;
    assert_eq!(root.status, first, "nothing changed, so nothing is to be written");
    let mut edited = object(json!({"inline": document(Some(time(100_000_000)))}), 2);
    edited.status = first.clone();
    turn(&mut keeper, &mut edited, time(120)).await;
    assert_ne!(edited.status.digest, first.digest);
    assert_eq!(edited.status.refreshed, Some(Time(time(120))));
}

#[tokio::test]
async fn a_root_that_ends_within_thirty_days_is_expiring() {
    const DAY: i64 = 24 * 3600;
    let (mut keeper, _) = keeper();
    let end = time(100 * DAY);
    let mut root = object(json!({"inline": document(Some(end))}), 1);
    for (now, expected) in [
        (69, "False/InTime"),
        (70, "True/EndsSoon"),
        (99, "True/EndsSoon"),
        (100, "True/Expired"),
        (101, "True/Expired"),
    ] {
        let shown = turn(&mut keeper, &mut root, time(now * DAY)).await;
        assert_eq!(shown, format!("True/Usable {expected}"), "day {now}");
    }
    assert_eq!(root.status.expires.as_deref(), Some(date(end).as_str()));
}
