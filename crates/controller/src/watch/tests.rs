use super::*;
use crate::testing::{ApiServer, Asked};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::sync::Mutex;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);

/// What a sink was told, as `init`, `+name` for an object of a list, `name` for one of a watch, `-name`, `done`.
type Told = Arc<Mutex<Vec<String>>>;

struct Recorder(Told);

impl Sink<ConfigMap> for Recorder {
    async fn event(&mut self, event: Event<ConfigMap>) -> Result<(), Stopped> {
        let told = match event {
            Event::Init => "init".to_owned(),
            Event::InitDone => "done".to_owned(),
            Event::InitApply(object) => format!("+{}", object.name_any()),
            Event::Apply(object) => object.name_any(),
            Event::Delete(object) => format!("-{}", object.name_any()),
        };
        self.0.lock().unwrap().push(told);
        Ok(())
    }
}

/// The same of a kind that is listed in protobuf.
struct InProtobuf(Recorder);

impl Sink<ConfigMap> for InProtobuf {
    async fn event(&mut self, event: Event<ConfigMap>) -> Result<(), Stopped> {
        self.0.event(event).await
    }

    fn protobuf(&self) -> Option<ReadProtobuf<ConfigMap>> {
        Some(pages::tests::config_map)
    }
}

fn patience() -> Patience {
    Patience {
        relist: LONG * 100,
        silence: LONG * 100,
        retry: Duration::from_millis(1),
    }
}

fn object(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string()}})
}

fn list(version: u64, names: &[&str], token: Option<&str>) -> (u16, Value) {
    let items: Vec<Value> = names.iter().map(|name| object(name, 1)).collect();
    (
        200,
        json!({"metadata": {"resourceVersion": version.to_string(), "continue": token}, "items": items}),
    )
}

fn event(kind: &str, name: &str, version: u64) -> Value {
    json!({"type": kind, "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": object(name, version)["metadata"]}})
}

fn error(code: u16) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": "R", "message": "m"})
}

fn is_watch(asked: &Asked) -> bool {
    asked.query.contains("watch=")
}

/// Whether a request only asks how far the API server is.
fn asks_for_version(asked: &Asked) -> bool {
    asked.query.contains("limit=1&") || asked.query.ends_with("limit=1")
}

/// Watches with this patience until the sink was told these words last.
async fn told(
    patience: Patience,
    answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    last: &str,
) -> (Vec<String>, Vec<Asked>) {
    told_to(Recorder, patience, answers, last).await
}

async fn told_to<S: Sink<ConfigMap>>(
    sink: impl FnOnce(Told) -> S,
    patience: Patience,
    answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    last: &str,
) -> (Vec<String>, Vec<Asked>) {
    let server = ApiServer::start(answers);
    let (watch, _control) = Watch::of("Test", Metrics::new("0"), Health::default(), patience);
    let told = Told::default();
    let watching = watch.run(Api::<ConfigMap>::all(server.client()), sink(told.clone()));
    let ended = async {
        while !told.lock().unwrap().join(" ").ends_with(last) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let watching = async {
        tokio::select! {
            _ = watching => panic!("the watch ended by itself"),
            () = ended => {}
        }
    };
    if tokio::time::timeout(LONG, watching).await.is_err() {
        panic!("only {:?} of {:#?}", told.lock().unwrap(), server.requests());
    }
    let told = told.lock().unwrap().clone();
    (told, server.requests())
}

/// Answers the number-th watch.
fn watches(asked: &Asked, counted: &Mutex<usize>) -> usize {
    assert!(is_watch(asked));
    let mut counted = counted.lock().unwrap();
    *counted += 1;
    *counted
}

#[tokio::test]
async fn a_list_comes_in_pages_and_is_whole_before_anything_else_is_heard() {
    let answers = |asked: &Asked| match (is_watch(asked), asked.query.contains("continue=next")) {
        (true, _) => (ApiServer::STREAM, json!([event("ADDED", "c", 8)])),
        (false, false) => list(7, &["a"], Some("next")),
        (false, true) => list(7, &["b"], None),
    };
    let (told, requests) = told(patience(), answers, "done c").await;
    assert_eq!(told, ["init", "+a", "+b", "done", "c"]);
    assert!(requests[0].query.contains("limit=200"), "{}", requests[0].query);
    assert!(
        requests[2].query.contains("resourceVersion=7"),
        "{}",
        requests[2].query
    );
}

/// A list of which a page fails tells of no object as gone: it begins anew.
#[tokio::test]
async fn a_list_that_breaks_off_begins_anew() {
    let answers = |asked: &Asked| match (is_watch(asked), asked.number) {
        (false, 0) => list(7, &["a"], Some("next")),
        (false, 1) => (410, error(410)),
        (false, _) => list(9, &["b"], None),
        (true, _) => (ApiServer::NEVER, Value::Null),
    };
    let (told, _) = told(patience(), answers, "done").await;
    assert_eq!(told, ["init", "+a", "init", "+b", "done"]);
}

/// F14: what ended goes on where it stopped, with the last version that was seen, a bookmark's too.
#[tokio::test]
async fn f14_a_watch_that_ends_goes_on_after_the_last_thing_that_was_heard() {
    let count = Mutex::new(0);
    let answers = move |asked: &Asked| {
        if asks_for_version(asked) {
            return list(30, &[], None);
        }
        if !is_watch(asked) {
            return list(7, &[], None);
        }
        match watches(asked, &count) {
            1 => (200, json!([event("ADDED", "a", 8)])),
            2 => (200, json!([event("BOOKMARK", "", 20)])),
            _ => (ApiServer::STREAM, json!([event("DELETED", "a", 21)])),
        }
    };
    let (told, requests) = told(patience(), answers, "-a").await;
    assert_eq!(told, ["init", "done", "a", "-a"]);
    let from: Vec<&str> = requests
        .iter()
        .filter(|asked| is_watch(asked))
        .filter_map(|asked| asked.query.split("resourceVersion=").nth(1)?.split('&').next())
        .collect();
    assert_eq!(from, ["7", "8", "20"]);
}

/// F14: both ways in which the API server says that it does not hold a version any more.
#[tokio::test]
async fn f14_after_410_everything_is_listed_anew_and_what_is_missing_is_told_as_gone() {
    for within_the_stream in [true, false] {
        let count = Mutex::new(0);
        let answers = move |asked: &Asked| {
            if !is_watch(asked) {
                return match asked.number {
                    0 => list(7, &["a", "b"], None),
                    _ => list(99, &["b"], None),
                };
            }
            match (watches(asked, &count), within_the_stream) {
                (1, true) => (200, json!([{"type": "ERROR", "object": error(410)}])),
                (1, false) => (410, error(410)),
                _ => (ApiServer::NEVER, Value::Null),
            }
        };
        let (told, requests) = told(patience(), answers, "init +b done").await;
        assert_eq!(told, ["init", "+a", "+b", "done", "init", "+b", "done"]);
        assert_eq!(requests.iter().filter(|asked| !is_watch(asked)).count(), 2);
    }
}

/// F15.
#[tokio::test]
async fn f15_an_api_server_that_is_behind_what_was_seen_makes_everything_be_listed_anew() {
    for break_off in ["by a bookmark", "by an end", "by a failure"] {
        let count = Mutex::new(0);
        let answers = move |asked: &Asked| {
            if asks_for_version(asked) {
                return list(50, &[], None);
            }
            if !is_watch(asked) {
                return match asked.number {
                    0 => list(100, &["a"], None),
                    _ => list(50, &["b"], None),
                };
            }
            match (watches(asked, &count), break_off) {
                (1, "by a bookmark") => (ApiServer::STREAM, json!([event("BOOKMARK", "", 50)])),
                (1, "by an end") => (200, json!([])),
                (1, _) => (503, error(503)),
                _ => (ApiServer::NEVER, Value::Null),
            }
        };
        let (told, _) = told(patience(), answers, "init +b done").await;
        assert_eq!(told, ["init", "+a", "done", "init", "+b", "done"]);
    }
}

#[tokio::test]
async fn a_silent_watch_is_begun_anew_where_it_stopped_and_nothing_is_listed_for_it() {
    let count = Mutex::new(0);
    let answers = move |asked: &Asked| {
        if asks_for_version(asked) {
            return list(9, &[], None);
        }
        if !is_watch(asked) {
            return list(7, &[], None);
        }
        match watches(asked, &count) {
            1 => (ApiServer::STREAM, json!([event("ADDED", "a", 8)])),
            _ => (ApiServer::STREAM, json!([event("MODIFIED", "a", 9)])),
        }
    };
    let impatient = Patience {
        silence: SHORT,
        ..patience()
    };
    let (told, _) = told(impatient, answers, "a a").await;
    assert_eq!(told, ["init", "done", "a", "a"]);
}

/// F15: bounded by the interval, whatever the watch says.
#[tokio::test]
async fn f15_everything_is_listed_anew_when_the_list_is_old() {
    let answers = |asked: &Asked| match is_watch(asked) {
        true => (ApiServer::STREAM, json!([])),
        false if asked.number == 0 => list(7, &["a"], None),
        false => list(7, &[], None),
    };
    let impatient = Patience {
        relist: SHORT,
        ..patience()
    };
    let (told, _) = told(impatient, answers, "done init done").await;
    // A third list may have begun before anybody looked.
    assert_eq!(told[..5], ["init", "+a", "done", "init", "done"]);
}

#[tokio::test]
async fn failures_one_after_the_other_lead_to_a_new_list() {
    let answers = |asked: &Asked| match is_watch(asked) {
        true => (500, error(500)),
        false => list(7, &[], None),
    };
    let (_, requests) = told(patience(), answers, "done init done").await;
    let lists: Vec<usize> = requests
        .iter()
        .filter(|asked| !is_watch(asked) && !asks_for_version(asked))
        .map(|asked| asked.number)
        .collect();
    // After each failure but the last it is asked how far the API server is.
    assert_eq!(lists[..2], [0, 2 * FAILURES_BEFORE_LIST as usize]);
}

async fn told_in_protobuf(
    answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    last: &str,
) -> (String, Vec<Asked>) {
    let sink = |told| InProtobuf(Recorder(told));
    let (told, requests) = told_to(sink, patience(), answers, last).await;
    (told.join(" "), requests)
}

fn asks_for_protobuf(asked: &Asked) -> bool {
    asked.accept.starts_with("application/vnd.kubernetes.protobuf")
}

#[tokio::test]
async fn a_kind_of_many_objects_is_listed_in_protobuf_where_the_server_has_it() {
    let in_protobuf = |asked: &Asked| match (is_watch(asked), asked.query.contains("continue=next")) {
        (true, _) => (ApiServer::STREAM, json!([event("ADDED", "c", 8)])),
        (false, false) => (ApiServer::PROTOBUF, pages::tests::page_of(&["a"], "next")),
        (false, true) => (ApiServer::PROTOBUF, pages::tests::page_of(&["b"], "")),
    };
    let in_json = |asked: &Asked| match (is_watch(asked), asked.query.contains("continue=next")) {
        (true, _) => (ApiServer::STREAM, json!([event("ADDED", "c", 8)])),
        (false, false) => list(7, &["a"], Some("next")),
        (false, true) => list(7, &["b"], None),
    };
    let expected = "init +a +b done c";
    let (told, requests) = told_in_protobuf(in_protobuf, "done c").await;
    assert_eq!(told, expected);
    let (lists, watches) = requests.split_at(2);
    assert!(lists.iter().all(asks_for_protobuf), "{lists:#?}");
    assert!(
        lists
            .iter()
            .all(|asked| asked.accept.contains("application/json"))
    );
    assert!(!watches.iter().any(asks_for_protobuf), "{watches:#?}");
    assert!(watches[0].query.contains("resourceVersion=7"), "{watches:#?}");
    let (told, _) = told_in_protobuf(in_json, "done c").await;
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_cannot_be_had_in_protobuf_is_listed_in_json() {
    let broken = || (ApiServer::PROTOBUF, json!(b"k8s\0\xff".to_vec()));
    let refused = |code: u16| move || (code, error(code));
    let troubles: [Box<dyn Fn() -> (u16, Value) + Send + Sync>; 3] =
        [Box::new(broken), Box::new(refused(406)), Box::new(refused(415))];
    for trouble in troubles {
        let answers = move |asked: &Asked| match (is_watch(asked), asks_for_protobuf(asked)) {
            (true, _) => (ApiServer::STREAM, json!([])),
            (false, true) => trouble(),
            (false, false) => list(7, &["a"], None),
        };
        let (told, _) = told_in_protobuf(answers, "done").await;
        assert_eq!(told, "init init +a done");
    }
}

/// What a list tells of as gone is gone for good: half a list must never pass for a whole one.
#[tokio::test]
async fn a_list_in_protobuf_that_ends_early_begins_anew() {
    let half = || {
        let whole: Vec<u8> = serde_json::from_value(pages::tests::page_of(&["b"], "")).unwrap();
        (ApiServer::PROTOBUF, json!(whole[..whole.len() - 1].to_vec()))
    };
    let expired = || (410, error(410));
    let nothing = || (ApiServer::PROTOBUF, json!(Vec::<u8>::new()));
    for trouble in [half, expired, nothing] {
        let answers = move |asked: &Asked| match (is_watch(asked), asked.number) {
            (true, _) => (ApiServer::STREAM, json!([])),
            (false, 1) => trouble(),
            (false, _) if asked.query.contains("continue=next") && asks_for_protobuf(asked) => {
                (ApiServer::PROTOBUF, pages::tests::page_of(&["b"], ""))
            }
            (false, _) if asks_for_protobuf(asked) => {
                (ApiServer::PROTOBUF, pages::tests::page_of(&["a"], "next"))
            }
            (false, _) => list(7, &["a", "b"], None),
        };
        let (told, requests) = told_in_protobuf(answers, "done").await;
        assert_eq!(told, "init +a init +a +b done");
        let protobuf_failed = !asks_for_protobuf(&requests[2]);
        assert_eq!(protobuf_failed, trouble().0 == ApiServer::PROTOBUF);
    }
}

#[test]
fn a_watch_without_the_right_to_it_says_what_to_do() {
    let refused = |code: u16| {
        let status = serde_json::from_value(error(code)).unwrap();
        next_step(&WatchError::Api(kube::Error::Api(status)))
    };
    assert!(refused(403).contains("config/rbac"));
    assert!(refused(404).contains("crds"));
    assert!(refused(500).contains("API server"));
    assert!(next_step(&WatchError::TimedOut).contains("API server"));
}

#[test]
fn only_what_is_certainly_older_is_behind() {
    assert!(is_behind("9", "10"));
    assert!(!is_behind("10", "10"));
    assert!(!is_behind("11", "10"));
    assert!(!is_behind("b", "a") && !is_behind("a", "b"));
}

/// A list that was under way when a fresh one was asked for is none.
#[tokio::test]
async fn a_fresh_list_is_one_that_began_after_it_was_asked_for() {
    let server = ApiServer::start(|asked| match (is_watch(asked), asked.number) {
        (true, _) => (ApiServer::STREAM, json!([])),
        (false, 0) => list(7, &["a"], Some("next")),
        (false, _) => list(7, &["b"], None),
    });
    let (watch, mut control) = Watch::of("Test", Metrics::new("0"), Health::default(), patience());
    let (told, pages) = (Told::default(), server.until_requests(1));
    let watching = tokio::spawn(watch.run(Api::<ConfigMap>::all(server.client()), Recorder(told.clone())));
    pages.await;
    let fresh = tokio::time::timeout(LONG, control.fresh()).await.unwrap();
    assert!(fresh.is_ok());
    assert_eq!(
        told.lock().unwrap().iter().filter(|told| *told == "done").count(),
        2
    );
    watching.abort();
}
