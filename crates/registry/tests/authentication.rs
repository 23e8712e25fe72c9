//! Tokens and passwords: they reach the registry they are for, once, and nobody else (B17, F05).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use assay_registry::{Client, ClientOptions, ClientOptionsError, Error, ErrorKind};
use axum::body::Body;
use axum::http::Response;
use support::{FakeRegistry, MANIFEST, SeenRequest, digest, manifest, options, reply, repository, scripted};

/// `user:secret` in base64.
const PAIR: &str = "dXNlcjpzZWNyZXQ=";
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn good() -> Response<Body> {
    reply(200, &[("content-type", MANIFEST)], manifest())
}

fn challenge(realm: &str) -> Response<Body> {
    let text = format!("Bearer realm=\"{realm}\",service=\"fake\",scope=\"repository:shop/web:pull\"");
    reply(401, &[("www-authenticate", &text)], "")
}

/// A registry that wants a token from its own `/token`, which counts up: `token-0`, `token-1`. Only the tokens
/// from `valid` on are accepted.
async fn token_registry(valid: usize) -> FakeRegistry {
    let issued = Arc::new(AtomicUsize::new(0));
    scripted(move |seen, host| {
        if seen.path() == "/token" {
            let number = issued.fetch_add(1, Ordering::SeqCst);
            return reply(
                200,
                &[],
                format!(r#"{{"token":"token-{number}","expires_in":300}}"#),
            );
        }
        let number = seen
            .authorization()
            .and_then(|text| text.strip_prefix("Bearer token-")?.parse().ok());
        if number.is_some_and(|number: usize| number >= valid) {
            good()
        } else {
            challenge(&format!("http://{host}/token"))
        }
    })
    .await
}

fn with_config(options: ClientOptions, config: &str) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config).unwrap();
    (
        Client::new(ClientOptions {
            docker_config: Some(path),
            ..options
        })
        .unwrap(),
        folder,
    )
}

fn with_password(servers: &[&FakeRegistry], owner: &FakeRegistry) -> (Client, tempfile::TempDir) {
    with_config(
        options(servers),
        &format!(r#"{{"auths":{{"{}":{{"auth":"{PAIR}"}}}}}}"#, owner.host()),
    )
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_for_many_calls() {
    let fake = token_registry(0).await;
    let client = support::client(&[&fake]);
    let (repository, asked) = (repository(&fake), digest(manifest()));
    let all = futures::future::join_all((0..30).map(|_| client.manifest(&repository, &asked))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(fake.asked("/token"), 1);
    client.manifest(&repository, &asked).await.unwrap();
    assert_eq!(fake.asked("/token"), 1);
    let token = fake
        .seen()
        .into_iter()
        .find(|seen| seen.path() == "/token")
        .unwrap();
    assert_eq!(
        token.target,
        "/token?service=fake&scope=repository%3Ashop%2Fweb%3Apull"
    );
    assert_eq!(token.authorization(), None);
}

#[tokio::test]
async fn a_token_is_for_one_repository_and_fetched_without_another_challenge() {
    let fake = token_registry(0).await;
    let client = support::client(&[&fake]);
    let asked = digest(manifest());
    client.manifest(&repository(&fake), &asked).await.unwrap();
    let other = format!("{}/other", fake.host()).parse().unwrap();
    client.manifest(&other, &asked).await.unwrap();
    let targets: Vec<String> = fake.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets.len(), 5, "{targets:?}");
    assert_eq!(targets[3], "/token?service=fake&scope=repository%3Aother%3Apull");
    assert_eq!(fake.secrets(), ["Bearer token-0", "Bearer token-1"]);
}

#[tokio::test]
async fn a_token_the_registry_no_longer_takes_is_replaced_once() {
    let fake = token_registry(1).await;
    let client = support::client(&[&fake]);
    let asked = digest(manifest());
    let first = client.manifest(&repository(&fake), &asked).await.unwrap_err();
    assert!(
        matches!(
            first,
            Error::Denied {
                status: Some(401),
                ..
            }
        ),
        "{first}"
    );
    client.manifest(&repository(&fake), &asked).await.unwrap();
    assert_eq!(
        fake.secrets(),
        ["Bearer token-0", "Bearer token-0", "Bearer token-1"]
    );
}

#[tokio::test]
async fn credentials_that_are_refused_are_not_tried_again_and_again() {
    let fake = token_registry(usize::MAX).await;
    let error = support::client(&[&fake])
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(fake.count(), 3);
    let fake = scripted(|_, _| reply(401, &[("www-authenticate", "Basic realm=\"x\"")], "")).await;
    let (client, _folder) = with_password(&[&fake], &fake);
    for requests in [2, 4] {
        let error = client
            .manifest(&repository(&fake), &digest(""))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(
            !error.to_string().contains("secret") && !error.to_string().contains(PAIR),
            "{error}"
        );
        assert!(fake.count() <= requests);
    }
}

#[tokio::test]
async fn static_credentials_go_to_the_registrys_own_token_server() {
    let fake = token_registry(0).await;
    let (client, _folder) = with_password(&[&fake], &fake);
    client
        .manifest(&repository(&fake), &digest(manifest()))
        .await
        .unwrap();
    assert_eq!(fake.secrets(), [BASIC, "Bearer token-0"]);
}

#[tokio::test]
async fn a_password_is_sent_when_asked_for_and_from_then_on() {
    let fake = scripted(|seen, _| match seen.authorization() {
        Some(BASIC) => good(),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"fake\"")], ""),
    })
    .await;
    let (client, _folder) = with_password(&[&fake], &fake);
    for _ in 0..3 {
        client
            .manifest(&repository(&fake), &digest(manifest()))
            .await
            .unwrap();
    }
    assert_eq!((fake.count(), fake.secrets().len()), (4, 3));
    let error = support::client(&[&fake])
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("auths"), "{error}");
}

#[tokio::test]
async fn b17_a_hostile_realm_receives_nothing_at_all() {
    let hostile = scripted(|_, _| reply(200, &[], r#"{"token":"evil"}"#)).await;
    let realm = format!("http://{}/token", hostile.host());
    let fake = scripted(move |_, _| challenge(&realm)).await;
    let (client, _folder) = with_password(&[&fake, &hostile], &fake);
    let error = client
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Denied { why, .. } if why.contains(&hostile.host())),
        "{error}"
    );
    let error = support::client(&[&fake, &hostile])
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(hostile.count(), 0);
    assert!(fake.secrets().is_empty());
}

#[tokio::test]
async fn a_token_server_elsewhere_is_used_where_the_options_allow_it() {
    let server = scripted(|_, _| reply(200, &[], r#"{"access_token":"good"}"#)).await;
    let realm = format!("http://{}/token", server.host());
    let fake = scripted(move |seen, _| match seen.authorization() {
        Some("Bearer good") => good(),
        _ => challenge(&realm),
    })
    .await;
    let mut options = options(&[&fake]);
    options
        .token_servers
        .insert(fake.host(), BTreeSet::from([server.host()]));
    let (client, _folder) = with_config(
        options,
        &format!(r#"{{"auths":{{"{}":{{"auth":"{PAIR}"}}}}}}"#, fake.host()),
    );
    client
        .manifest(&repository(&fake), &digest(manifest()))
        .await
        .unwrap();
    assert_eq!(server.secrets(), [BASIC]);
    assert_eq!(fake.secrets(), ["Bearer good"]);
}

#[tokio::test]
async fn b17_a_token_server_that_redirects_is_not_followed() {
    let hostile = scripted(|_, _| reply(200, &[], r#"{"token":"evil"}"#)).await;
    let target = format!("http://{}/token", hostile.host());
    let fake = scripted(move |seen, host| match seen.path() {
        "/token" => reply(307, &[("location", &target)], ""),
        _ => challenge(&format!("http://{host}/token")),
    })
    .await;
    let (client, _folder) = with_password(&[&fake, &hostile], &fake);
    let error = client
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(hostile.count(), 0);
}

#[tokio::test]
async fn b17_a_redirect_to_another_host_carries_no_credentials() {
    let storage = scripted(|_, _| reply(200, &[], "payload")).await;
    let target = format!("http://{}/bucket/blob?signature=x", storage.host());
    for status in [301, 302, 303, 307, 308] {
        let target = target.clone();
        let fake = scripted(move |seen, _| match seen.authorization() {
            Some(BASIC) => reply(status, &[("location", &target)], ""),
            _ => reply(401, &[("www-authenticate", "Basic realm=\"fake\"")], ""),
        })
        .await;
        let (client, _folder) = with_password(&[&fake], &fake);
        let blob = client
            .blob(&repository(&fake), &digest("payload"), 100)
            .await
            .unwrap();
        assert_eq!(blob, "payload");
        assert_eq!(fake.secrets(), [BASIC]);
    }
    assert_eq!(storage.count(), 5);
    let leaks: Vec<SeenRequest> = storage
        .seen()
        .into_iter()
        .filter(|seen| format!("{:?}", seen.headers).contains("dXNlcjp") || seen.authorization().is_some())
        .collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

#[tokio::test]
async fn b17_credentials_do_not_come_back_after_a_detour() {
    let detour = scripted(|seen, _| {
        let back = seen.target.split("back=").nth(1).unwrap().to_owned();
        reply(302, &[("location", &back)], "")
    })
    .await;
    let away = format!("http://{}/?back=", detour.host());
    let fake = scripted(move |seen, host| match (seen.path(), seen.authorization()) {
        ("/final", _) => reply(200, &[], "payload"),
        (_, Some(BASIC)) => reply(302, &[("location", &format!("{away}http://{host}/final"))], ""),
        _ => reply(401, &[("www-authenticate", "Basic")], ""),
    })
    .await;
    let (client, _folder) = with_password(&[&fake], &fake);
    client
        .blob(&repository(&fake), &digest("payload"), 100)
        .await
        .unwrap();
    let last = fake.seen().pop().unwrap();
    assert_eq!((last.path(), last.authorization()), ("/final", None));
    assert!(detour.secrets().is_empty());
}

#[tokio::test]
async fn a_redirect_on_the_same_host_keeps_them() {
    let fake = scripted(|seen, _| match (seen.path(), seen.authorization()) {
        ("/moved", Some(BASIC)) => reply(200, &[], "payload"),
        (_, Some(BASIC)) => reply(307, &[("location", "/moved")], ""),
        _ => reply(401, &[("www-authenticate", "Basic")], ""),
    })
    .await;
    let (client, _folder) = with_password(&[&fake], &fake);
    client
        .blob(&repository(&fake), &digest("payload"), 100)
        .await
        .unwrap();
}

#[tokio::test]
async fn b17_a_challenge_from_a_host_redirected_to_is_not_answered() {
    for basic in [false, true] {
        let hostile = scripted(move |_, host| match basic {
            true => reply(401, &[("www-authenticate", "Basic realm=\"fake\"")], ""),
            false => challenge(&format!("http://{host}/token")),
        })
        .await;
        let target = format!("http://{}/blob", hostile.host());
        let fake = scripted(move |_, _| reply(302, &[("location", &target)], "")).await;
        let (client, _folder) = with_password(&[&fake, &hostile], &fake);
        let error = client
            .blob(&repository(&fake), &digest(""), 100)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!((hostile.count(), hostile.secrets().len()), (1, 0));
        assert_eq!((fake.count(), fake.secrets().len()), (1, 0));
    }
}

#[tokio::test]
async fn one_registrys_credentials_never_reach_another() {
    let other = scripted(|_, host| challenge(&format!("http://{host}/token"))).await;
    let fake = token_registry(0).await;
    let (client, _folder) = with_password(&[&fake, &other], &fake);
    client
        .manifest(&repository(&fake), &digest(manifest()))
        .await
        .unwrap();
    client
        .manifest(&repository(&other), &digest(""))
        .await
        .unwrap_err();
    assert!(other.secrets().is_empty());
}

#[tokio::test]
async fn failures_of_the_token_server_are_told_apart() {
    for (status, body, kind) in [
        (200, "{}", ErrorKind::Malformed),
        (200, "<html>", ErrorKind::Malformed),
        (401, "", ErrorKind::Denied),
        (403, "", ErrorKind::Denied),
        (404, "", ErrorKind::Unavailable),
        (429, "", ErrorKind::RateLimited),
        (503, "", ErrorKind::Unavailable),
    ] {
        let fake = scripted(move |seen, host| match seen.path() {
            "/token" => reply(status, &[], body),
            _ => challenge(&format!("http://{host}/token")),
        })
        .await;
        let client = support::client(&[&fake]);
        let error = client
            .tagged_manifest(&repository(&fake), "v1")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "HTTP {status}: {error}");
    }
}

#[tokio::test]
async fn a_failing_token_server_is_asked_once_for_all_that_wait() {
    let fake = scripted(|seen, host| match seen.path() {
        "/token" => reply(503, &[], ""),
        _ => challenge(&format!("http://{host}/token")),
    })
    .await;
    let client = support::client(&[&fake]);
    let repository = repository(&fake);
    let (first, second) = (digest("1"), digest("2"));
    let (one, two) = tokio::join!(
        client.manifest(&repository, &first),
        client.manifest(&repository, &second)
    );
    assert!(one.unwrap_err().to_string().contains(&first.to_string()));
    assert!(two.unwrap_err().to_string().contains(&second.to_string()));
    assert!(fake.asked("/token") <= 2);
}

#[tokio::test]
async fn an_odd_challenge_is_a_denial() {
    for header in [
        "",
        "Negotiate abc",
        "Bearer",
        "Bearer realm=\"x\"",
        "Digest realm=\"x\"",
    ] {
        let fake = scripted(move |_, _| reply(401, &[("www-authenticate", header)], "")).await;
        let error = support::client(&[&fake])
            .manifest(&repository(&fake), &digest(""))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{header}: {error}");
    }
}

#[tokio::test]
async fn credential_helpers_are_never_run_but_named() {
    let fake = scripted(|_, _| reply(401, &[("www-authenticate", "Basic realm=\"fake\"")], "")).await;
    let config = format!(
        r#"{{"credHelpers":{{"{}":"evil"}},"credsStore":"evil"}}"#,
        fake.host()
    );
    let (client, _folder) = with_config(options(&[&fake]), &config);
    let error = client
        .manifest(&repository(&fake), &digest(""))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("never executed"), "{error}");
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_by_name() {
    let missing = ClientOptions {
        docker_config: Some("/nowhere/config.json".into()),
        ..ClientOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("config.json");
    std::fs::write(&broken, "{\"auths\": secret}").unwrap();
    let broken = ClientOptions {
        docker_config: Some(broken),
        ..ClientOptions::default()
    };
    let host = ClientOptions {
        plain_http: BTreeSet::from(["http://r.io".to_owned()]),
        ..ClientOptions::default()
    };
    let none = ClientOptions {
        per_registry_concurrency: 0,
        ..ClientOptions::default()
    };
    let refusal = |options| Client::new(options).err().expect("refused");
    assert!(matches!(
        refusal(missing),
        ClientOptionsError::DockerConfigRead { .. }
    ));
    let text = refusal(broken).to_string();
    assert!(text.contains("config.json") && !text.contains("secret"), "{text}");
    assert!(refusal(host).to_string().contains("http://r.io"));
    assert!(matches!(refusal(none), ClientOptionsError::Concurrency));
}
