use super::*;
use crate::testing::ApiServer;
use axum::http::Method;
use engine::EngineOptions;
use serde_json::{Value, json};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

/// An API server without objects: every list is empty, every watch is silent, a Lease is kept.
fn empty_cluster() -> ApiServer {
    let lease = std::sync::Mutex::new(None::<Value>);
    ApiServer::start(move |request| {
        let mut lease = lease.lock().unwrap();
        match (&request.method, request.path.contains("/leases")) {
            (&Method::GET, true) => match &*lease {
                Some(lease) => (200, lease.clone()),
                None => (
                    404,
                    json!({"code": 404, "reason": "NotFound", "message": "no Lease"}),
                ),
            },
            (_, true) => {
                *lease = Some(request.body.clone());
                (200, request.body.clone())
            }
            (_, false) if request.query.contains("watch=") => (ApiServer::NEVER, Value::Null),
            (_, false) => (200, json!({"metadata": {"resourceVersion": "1"}, "items": []})),
        }
    })
}

fn holders(server: &ApiServer) -> Vec<String> {
    let writes = server
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("/leases") && request.method != Method::GET);
    let holder = |body: &Value| body["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    writes.map(|request| holder(&request.body)).collect()
}

/// The same without the renewals: a slow machine makes some.
fn holders_in_turn(server: &ApiServer) -> Vec<String> {
    let mut holders = holders(server);
    holders.dedup();
    holders
}

fn options() -> ControllerOptions {
    ControllerOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        namespace: "assay-system".to_owned(),
        identity: "me".to_owned(),
        ..ControllerOptions::default()
    }
}

/// A fault is no reason to let another replica wait for the Lease to run out.
#[tokio::test]
async fn after_a_fault_the_lease_is_given_back_and_the_loop_that_ended_is_named() {
    let server = empty_cluster();
    let registries = registry::Client::new(registry::ClientOptions::default()).unwrap();
    let (engine, engine_task) = engine::start(&EngineOptions::default(), registries.clone()).unwrap();
    let elected = server.until_requests(1);
    let leads = {
        let server = server.clone();
        async move {
            elected.await;
            while holders(&server).is_empty() {
                tokio::task::yield_now().await;
            }
        }
    };
    let controller = tokio::spawn(run(
        options(),
        server.clients(),
        registries,
        engine,
        Metrics::new("0"),
        std::future::pending(),
    ));
    tokio::time::timeout(LONG, leads).await.unwrap();
    engine_task.abort();
    let fault = tokio::time::timeout(LONG, controller).await.unwrap().unwrap();
    let fault = fault.unwrap_err();
    assert!(matches!(fault, ControllerError::LoopFailed { .. }), "{fault}");
    assert_eq!(holders_in_turn(&server), ["me", ""]);
}

#[tokio::test]
async fn an_orderly_end_gives_the_lease_back_and_is_no_error() {
    let server = empty_cluster();
    let registries = registry::Client::new(registry::ClientOptions::default()).unwrap();
    let (engine, _engine_task) = engine::start(&EngineOptions::default(), registries.clone()).unwrap();
    let asked_to_end = {
        let server = server.clone();
        async move {
            while holders(&server).is_empty() {
                server.until_requests(server.requests().len() + 1).await;
            }
        }
    };
    let ended = run(
        options(),
        server.clients(),
        registries,
        engine,
        Metrics::new("0"),
        asked_to_end,
    );
    tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
    assert_eq!(holders_in_turn(&server), ["me", ""]);
}

#[test]
fn a_fault_names_the_loop() {
    let ended = |result| {
        ControllerError::from(LoopEnd {
            name: "events",
            result,
        })
        .to_string()
    };
    let alone = ended(Ok(Ok(())));
    assert!(
        alone.contains("the loop events") && !alone.contains("engine"),
        "{alone}"
    );
    let stopped = ended(Ok(Err(Stopped.into())));
    assert!(
        stopped.contains("the loop events") && stopped.contains("engine"),
        "{stopped}"
    );
}
