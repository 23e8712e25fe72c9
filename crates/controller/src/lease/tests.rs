use super::*;
use crate::testing::ApiServer;
use axum::http::Method;
use serde_json::{Value, json};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn leadership_ends_by_itself_when_it_is_not_renewed() {
    let end = Instant::now() + SHORT;
    let (_holder, until) = watch::channel(Some(end));
    let mut leadership = Leadership::Elected(until);
    leadership.lost().await;
    assert!(Instant::now() >= end);
    assert!(!leadership.leads());
}

#[tokio::test]
async fn a_renewal_lengthens_leadership() {
    let (holder, until) = watch::channel(Some(Instant::now() + SHORT * 50));
    let mut leadership = Leadership::Elected(until);
    let waiting = tokio::spawn(async move {
        leadership.lost().await;
        Instant::now()
    });
    tokio::task::yield_now().await;
    let end = Instant::now() + SHORT * 60;
    holder.send_replace(Some(end));
    assert!(waiting.await.unwrap() >= end);
}

#[tokio::test]
async fn leadership_begins_with_the_lease_and_ends_at_once_with_stepping_down() {
    let (holder, until) = watch::channel(None);
    let mut leadership = Leadership::Elected(until);
    assert!(!leadership.leads());
    holder.send_replace(Some(Instant::now() + LONG));
    assert!(leadership.leads());
    leadership.gained().await;
    holder.send_replace(None);
    leadership.lost().await;
    assert!(!leadership.leads());
}

#[tokio::test]
async fn a_single_replica_leads_without_end() {
    let mut leadership = Leadership::Alone;
    leadership.gained().await;
    assert!(leadership.leads());
    assert!(tokio::time::timeout(SHORT, leadership.lost()).await.is_err());
}

fn elector(server: &ApiServer) -> (Elector, Leadership) {
    let options = LeaseOptions {
        namespace: "assay-system".to_owned(),
        name: "assay-controller".to_owned(),
        identity: "me".to_owned(),
    };
    Elector::new(server.client(), options, Health::default())
}

fn lease(holder: &str, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "assay-controller", "namespace": "assay-system", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    })
}

/// Who holds the Lease after each write of it.
fn holders(server: &ApiServer) -> Vec<String> {
    let writes = server.requests().into_iter();
    let writes = writes.filter(|request| request.method == Method::PUT);
    let holder = |body: &Value| body["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    writes.map(|request| holder(&request.body)).collect()
}

#[tokio::test]
async fn the_lease_is_given_back_at_the_end_of_the_process() {
    let server = ApiServer::start(|request| match request.method {
        Method::GET => (200, lease("", "1")),
        _ => (200, request.body.clone()),
    });
    let (elector, mut leadership) = elector(&server);
    let stop = async move {
        leadership.gained().await;
    };
    tokio::time::timeout(Duration::from_secs(20), elector.run(stop))
        .await
        .unwrap();
    assert_eq!(holders(&server), ["me", ""]);
}

/// A claim that hangs neither holds up the end of the process nor leaves the Lease taken: whoever waits for its answer
/// takes it for a claim that failed, and gives nothing back.
#[tokio::test]
async fn a_claim_that_hangs_is_interrupted_by_the_end_and_given_back_where_it_was_heard() {
    let server = ApiServer::start(|request| match (&request.method, request.number) {
        (&Method::GET, 0) => (200, lease("", "1")),
        // The claim is heard, and its answer never comes.
        (&Method::PUT, 1) => (ApiServer::NEVER, Value::Null),
        (&Method::GET, _) => (200, lease("me", "2")),
        _ => (200, request.body.clone()),
    });
    let (elector, _leadership) = elector(&server);
    let claimed = server.until_requests(2);
    elector.run(claimed).await;
    assert_eq!(holders(&server), ["me", ""]);
}

#[tokio::test]
async fn a_lease_that_another_replica_took_is_not_touched_at_the_end() {
    let server = ApiServer::start(|request| match (&request.method, request.number) {
        (&Method::GET, 0) => (200, lease("", "1")),
        (&Method::GET, _) => (200, lease("another", "7")),
        (_, 1) => (200, request.body.clone()),
        _ => (
            409,
            json!({"code": 409, "reason": "Conflict", "message": "changed"}),
        ),
    });
    let (elector, mut leadership) = elector(&server);
    elector.run(async move { leadership.gained().await }).await;
    assert_eq!(holders(&server), ["me", ""], "the second write met a conflict");
    assert_eq!(server.requests().len(), 4);
}
