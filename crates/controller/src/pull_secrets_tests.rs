use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::testing::ApiServer;

type Answers = Arc<Mutex<BTreeMap<String, (u16, Value)>>>;

/// A reader, and what the API server answers by the end of the path (`secrets/pull`); everything else is forbidden.
fn reader() -> (PullSecretReader, Answers, ApiServer) {
    let answers = Answers::default();
    let of = answers.clone();
    let server = ApiServer::start(move |asked| {
        if asked.path.ends_with("/selfsubjectreviews") {
            let user = json!({"username": "system:serviceaccount:assay-system:assay"});
            return (201, json!({"metadata": {}, "status": {"userInfo": user}}));
        }
        let name = asked.path.rsplitn(3, '/').take(2).collect::<Vec<_>>();
        let name = format!("{}/{}", name[1], name[0]);
        let forbidden = (403, json!({"kind": "Status", "code": 403, "reason": "Forbidden"}));
        of.lock().unwrap().get(&name).cloned().unwrap_or(forbidden)
    });
    let reader = PullSecretReader::new(server.client(), "assay-system".to_owned());
    (reader, answers, server)
}

fn answer(answers: &Answers, name: &str, status: u16, object: Value) {
    answers.lock().unwrap().insert(name.to_owned(), (status, object));
}

fn missing() -> Value {
    json!({"kind": "Status", "code": 404, "reason": "NotFound"})
}

fn secret(type_: &str, key: &str, content: &str) -> Value {
    use k8s_openapi::ByteString;
    let data = BTreeMap::from([(key.to_owned(), ByteString(content.as_bytes().to_vec()))]);
    json!({"apiVersion": "v1", "kind": "Secret", "type": type_, "data": data})
}

fn docker_config(host: &str) -> Value {
    let content = format!(r#"{{"auths":{{"{host}":{{"auth":"YTpi"}}}}}}"#);
    secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &content)
}

fn keychain(holder: KeychainHolder) -> Keychain {
    Keychain {
        namespace: "shop".into(),
        holder,
    }
}

fn names(names: &[&str]) -> Keychain {
    keychain(KeychainHolder::Secrets(
        names.iter().map(|name| Arc::from(*name)).collect(),
    ))
}

const GRANT: &str = "kubectl -n shop create rolebinding assay-pull-secret-reader \
     --clusterrole=assay-pull-secret-reader --serviceaccount=assay-system:assay";

#[tokio::test]
async fn c3_12_secrets_that_may_not_be_read_are_named_with_the_one_command_that_grants_it() {
    let (reader, answers, _) = reader();
    answer(&answers, "secrets/three", 404, missing());
    let found = reader.read(&names(&["one", "two", "one", "three"])).await;
    assert_eq!(
        found.troubles[0],
        format!("the operator may not read Secret shop/one, Secret shop/two; to allow it: {GRANT}")
    );
    assert!(
        found.troubles[1]
            .starts_with("Secret shop/three does not exist; make it: kubectl -n shop create secret"),
        "{:?}",
        found.troubles
    );
    assert_eq!(found.troubles.len(), 2);
}

#[tokio::test]
async fn c3_12_the_secrets_of_the_service_account_are_read_where_the_pod_names_none() {
    let (reader, answers, _) = reader();
    let account = keychain(KeychainHolder::ServiceAccount("builder".into()));
    let found = reader.read(&account).await;
    assert_eq!(
        found.troubles,
        [format!(
            "the operator may not read ServiceAccount shop/builder; to allow it: {GRANT}"
        )]
    );
    reader.refused(&account);
    let object = |secrets: Value| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}, "imagePullSecrets": secrets});
    answer(&answers, "serviceaccounts/builder", 200, object(json!([])));
    let found = reader.read(&account).await;
    assert_eq!(
        found.troubles,
        ["neither the pod nor ServiceAccount shop/builder names imagePullSecrets"]
    );
    reader.refused(&account);
    answer(
        &answers,
        "serviceaccounts/builder",
        200,
        object(json!([{"name": "pull"}])),
    );
    answer(&answers, "secrets/pull", 200, docker_config("r.io"));
    let found = reader.read(&account).await;
    assert!(found.troubles.is_empty(), "{:?}", found.troubles);
    assert!(found.credentials.are_for(&"r.io/a".parse().unwrap()));
}

#[tokio::test]
async fn both_types_are_read_and_one_that_cannot_be_spoils_no_other() {
    let (reader, answers, _) = reader();
    let old = r#"{"old.io":{"auth":"YTpi"}}"#;
    answer(
        &answers,
        "secrets/old",
        200,
        secret("kubernetes.io/dockercfg", ".dockercfg", old),
    );
    answer(&answers, "secrets/new", 200, docker_config("new.io"));
    answer(
        &answers,
        "secrets/opaque",
        200,
        secret("Opaque", ".dockerconfigjson", "{}"),
    );
    answer(
        &answers,
        "secrets/broken",
        200,
        secret(
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            r#"{"auths": hunter2"#,
        ),
    );
    let found = reader.read(&names(&["broken", "old", "opaque", "new"])).await;
    for repository in ["old.io/a", "new.io/a"] {
        assert!(
            found.credentials.are_for(&repository.parse().unwrap()),
            "{repository}"
        );
    }
    let text = found.troubles.join("; ");
    assert!(text.contains("Secret shop/broken is not valid"), "{text}");
    assert!(text.contains("Secret shop/opaque has the type Opaque"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// Weakened once: with an answer that failed taken for a Secret that is missing, nothing says that it may be there.
#[tokio::test]
async fn what_the_api_server_does_not_answer_may_be_there_and_what_it_refuses_is_not() {
    let (reader, answers, _) = reader();
    answer(&answers, "secrets/pull", 200, docker_config("r.io"));
    answer(&answers, "secrets/missing", 404, missing());
    let found = reader.read(&names(&["forbidden", "missing", "pull"])).await;
    assert!(!found.incomplete);
    for status in [500, 503, 429] {
        let trouble = json!({"kind": "Status", "code": status, "reason": "Trouble"});
        answer(&answers, "secrets/other", status, trouble);
        let found = reader.read(&names(&["other", "pull", &status.to_string()])).await;
        assert!(found.incomplete, "{status}");
        assert!(found.credentials.are_for(&"r.io/a".parse().unwrap()));
        assert!(
            found
                .troubles
                .iter()
                .any(|trouble| trouble.contains("Secret shop/other cannot be read"))
        );
    }
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("s{number}")).collect()
}

/// Sixteen Secrets of a slow API server take as long as four. Weakened once: with one read after the other, no second
/// request comes.
#[tokio::test]
async fn a_few_secrets_are_read_at_the_same_time() {
    let server = ApiServer::start(|_| (ApiServer::NEVER, Value::Null));
    let reader = PullSecretReader::new(server.client(), "assay-system".to_owned());
    let come = server.until_requests(AT_ONCE);
    let reading = tokio::spawn(async move {
        let all = many(MOST);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        reader.read(&names(&all)).await
    });
    tokio::time::timeout(Duration::from_secs(4), come)
        .await
        .expect("they are asked for before the first answer");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.requests().len(), AT_ONCE);
    reading.abort();
}

#[tokio::test]
async fn of_many_secrets_the_first_sixteen_are_read_each_once() {
    let (reader, answers, server) = reader();
    let all = many(MOST + 2);
    for name in &all {
        answer(
            &answers,
            &format!("secrets/{name}"),
            200,
            docker_config(&format!("{name}.io")),
        );
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let found = reader.read(&names(&all)).await;
    assert_eq!(server.requests().len(), MOST);
    assert_eq!(
        found.troubles,
        ["only the first 16 pull secrets of a pod are read"]
    );
    for (at, name) in all.iter().enumerate() {
        let read = found
            .credentials
            .are_for(&format!("{name}.io/a").parse().unwrap());
        assert_eq!(read, at < MOST, "{name}");
    }
}

#[tokio::test]
async fn what_is_read_is_used_again_for_a_moment_and_read_anew_after_a_refusal() {
    let (reader, answers, server) = reader();
    answer(&answers, "secrets/pull", 200, docker_config("r.io"));
    let keychain = names(&["pull"]);
    for _ in 0..5 {
        reader.read(&keychain).await;
    }
    assert_eq!(server.requests().len(), 1);
    reader.refused(&keychain);
    assert!(reader.kept().is_empty(), "nothing is in memory");
    reader.read(&keychain).await;
    assert_eq!(server.requests().len(), 2);
    let all_gets = server.requests().iter().all(|asked| {
        asked.method == axum::http::Method::GET && asked.path == "/api/v1/namespaces/shop/secrets/pull"
    });
    assert!(all_gets, "by name: never a list, never a watch");
}

#[tokio::test]
async fn what_was_read_is_out_of_memory_after_a_while() {
    let (mut reader, answers, _) = reader();
    reader.kept_for = Duration::from_millis(200);
    answer(&answers, "secrets/pull", 200, docker_config("r.io"));
    reader.read(&names(&["pull"])).await;
    let forgotten = async {
        while !reader.kept().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten)
        .await
        .unwrap();
}

#[test]
fn debug_prints_hold_no_secret() {
    let object = serde_json::from_value(docker_config("r.io")).unwrap();
    let credentials = credentials_in("Secret shop/pull", object).unwrap();
    assert!(!format!("{credentials:?}").contains("YTpi"));
}
