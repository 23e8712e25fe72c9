use engine::EngineOptions;
use serde_json::{Value, json};
use std::sync::Mutex;

use super::super::Held;
use super::*;
use crate::testing::{ApiServer, time};

type Answers = Arc<Mutex<BTreeMap<String, (u16, Value)>>>;

/// The keeper, the client that it gives routes to, and what the API server answers about Secrets by name.
fn keeper() -> (Registries, Client, Answers) {
    let client = Client::new(registry::ClientOptions::default()).unwrap();
    let (engine, _) = engine::start(&EngineOptions::default(), client.clone()).unwrap();
    let answers = Answers::default();
    let of = answers.clone();
    let server = ApiServer::start(move |asked| {
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        let missing = (404, json!({"code": 404, "reason": "NotFound"}));
        of.lock().unwrap().get(name).cloned().unwrap_or(missing)
    });
    let own = OwnNamespace::new(server.client(), "assay-system".to_owned());
    (
        Registries::new(engine, client.clone(), Metrics::new("0"), own),
        client,
        answers,
    )
}

fn objects(specs: &[(&str, Value)]) -> Stock<Registries> {
    let of = |(at, (name, spec)): (usize, &(&str, Value))| {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "RegistryConfig",
            "metadata": {"name": name, "generation": 1, "creationTimestamp": time(i64::try_from(at).unwrap()).to_string()},
            "spec": spec,
        });
        (
            Arc::from(*name),
            Held::of(&serde_json::from_value(object).unwrap()),
        )
    };
    specs.iter().enumerate().map(of).collect()
}

/// `name: status/reason message` of each object.
async fn turn(keeper: &mut Registries, specs: &[(&str, Value)]) -> Vec<String> {
    let statuses = keeper.bring_up_to_date(&objects(specs), time(0)).await.unwrap();
    let shown = |(name, status): (Arc<str>, RegistryConfigStatus)| {
        let ready = &status.conditions[0];
        format!("{name}: {}/{} {}", ready.status, ready.reason, ready.message)
    };
    statuses.into_iter().map(shown).collect()
}

fn secret(data: Value) -> (u16, Value) {
    (200, json!({"apiVersion": "v1", "kind": "Secret", "data": data}))
}

#[tokio::test]
async fn routes_are_in_force_as_they_are_written_and_go_with_their_object() {
    let (mut keeper, client, _) = keeper();
    let spec = json!({
        "prefix": "docker.io",
        "mirrors": [{"prefix": "m.example.com/hub"}, {"prefix": "full.example.com", "authoritative": true}],
        "requestsPerSecond": 5, "concurrency": 2, "dailyBudget": 100,
    });
    assert!(turn(&mut keeper, &[("hub", spec)]).await[0].starts_with("hub: True/InUse"));
    let sources = client.sources(&"nginx".parse().unwrap());
    let shown: Vec<_> = sources
        .iter()
        .map(|source| (source.repository.to_string(), source.authoritative))
        .collect();
    let expected = [
        ("m.example.com/hub/library/nginx", false),
        ("full.example.com/library/nginx", true),
        ("docker.io/library/nginx", true),
    ];
    assert_eq!(
        shown,
        expected.map(|(name, complete)| (name.to_owned(), complete))
    );
    let route = keeper.in_force.as_ref().unwrap().iter().next().unwrap().clone();
    assert_eq!(route.requests_per_second.unwrap().get(), 5);
    assert_eq!(
        (
            route.concurrency.unwrap().get(),
            route.daily_budget.unwrap().get()
        ),
        (2, 100)
    );
    turn(&mut keeper, &[]).await;
    assert_eq!(client.sources(&"nginx".parse().unwrap()).len(), 1);
}

#[tokio::test]
async fn of_two_with_one_prefix_the_older_one_stays_whatever_their_names() {
    let (mut keeper, client, _) = keeper();
    let of = |mirror: &str| json!({"prefix": "docker.io", "mirrors": [{"prefix": mirror}]});
    let shown = turn(
        &mut keeper,
        &[("z", of("old.example.com")), ("a", of("new.example.com"))],
    )
    .await;
    assert!(
        shown[0].starts_with("a: False/Conflict") && shown[0].contains(" z "),
        "{shown:?}"
    );
    assert!(shown[1].starts_with("z: True/InUse"), "{shown:?}");
    let sources = client.sources(&"nginx".parse().unwrap());
    assert_eq!(sources[0].repository.as_str(), "old.example.com/library/nginx");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_the_other_routes_are_in_force() {
    let (mut keeper, client, _) = keeper();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let specs = [
        ("ca", json!({"prefix": "ca.example.com", "caBundle": broken})),
        (
            "good",
            json!({"prefix": "docker.io", "mirrors": [{"prefix": "m.example.com"}]}),
        ),
        ("limit", json!({"prefix": "l.example.com", "dailyBudget": 0})),
        ("name", json!({"prefix": "hub"})),
        ("unread", json!({"prefix": 7})),
    ];
    let shown = turn(&mut keeper, &specs).await;
    for (at, words) in [
        (0, "caBundle"),
        (2, "spec.dailyBudget is 0"),
        (3, "spec.prefix"),
        (4, "spec cannot be read"),
    ] {
        assert!(shown[at].contains("False/Invalid"), "{}", shown[at]);
        // The client names what it cannot work with in its own words.
        assert!(shown[at].contains(words) || at == 0, "{}", shown[at]);
    }
    assert!(shown[1].starts_with("good: True/InUse"), "{shown:?}");
    assert_eq!(client.sources(&"nginx".parse().unwrap()).len(), 2);
}

#[tokio::test]
async fn a_secret_gives_credentials_and_without_it_the_route_has_none_of_that_name() {
    let (mut keeper, _, answers) = keeper();
    let spec = (
        "hub",
        json!({"prefix": "docker.io", "credentials": {"secretName": "hub"}}),
    );
    let credentials = |keeper: &Registries| {
        keeper
            .in_force
            .as_ref()
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .credentials
            .clone()
    };
    let answer = |content| answers.lock().unwrap().insert("hub".to_owned(), content);

    let missing = turn(&mut keeper, std::slice::from_ref(&spec)).await;
    assert!(
        missing[0].contains("False/SecretMissing") && missing[0].contains("assay-system/hub"),
        "{missing:?}"
    );
    let none = Some(Credentials::none("Secret assay-system/hub"));
    assert_eq!(credentials(&keeper), none);

    // u and p
    answer(secret(json!({"username": "dQ==", "password": "cA=="})));
    assert!(turn(&mut keeper, std::slice::from_ref(&spec)).await[0].contains("True/InUse"));
    let given = credentials(&keeper);
    assert_ne!(given, none);

    answer((403, json!({"code": 403, "reason": "Forbidden", "message": "no"})));
    assert!(turn(&mut keeper, std::slice::from_ref(&spec)).await[0].contains("False/SecretUnreadable"));
    assert_eq!(credentials(&keeper), given, "what was read before stays");

    answer(secret(json!({"token": "cA=="})));
    assert!(turn(&mut keeper, std::slice::from_ref(&spec)).await[0].contains("False/SecretInvalid"));
    assert_eq!(credentials(&keeper), none);

    // {"auths":{"docker.io":{"username":"u","password":"p"}}}
    let config = "eyJhdXRocyI6eyJkb2NrZXIuaW8iOnsidXNlcm5hbWUiOiJ1IiwicGFzc3dvcmQiOiJwIn19fQ==";
    answer(secret(json!({".dockerconfigjson": config})));
    assert!(turn(&mut keeper, std::slice::from_ref(&spec)).await[0].contains("True/InUse"));
    answer((404, json!({"code": 404, "reason": "NotFound"})));
    turn(&mut keeper, std::slice::from_ref(&spec)).await;
    assert_eq!(
        credentials(&keeper),
        none,
        "a Secret that was deleted is used no more"
    );
}

/// Seen to fail with `LATE` for both bounds.
#[test]
fn a_pace_or_budget_that_stretches_the_interval_is_said_until_it_is_over() {
    let mut status = RegistryConfigStatus::default();
    let mut told = Vec::new();
    for minutes in [0, 14, 16, 14, 6, 4, 14] {
        let delay = Duration::from_secs(minutes * 60);
        let condition = in_time(1, delay, &status, time(0));
        told.push(condition.reason.clone());
        status.conditions = vec![condition];
    }
    let expected = [
        "InTime",
        "InTime",
        "Stretched",
        "Stretched",
        "Stretched",
        "InTime",
        "InTime",
    ];
    assert_eq!(told, expected);
}
