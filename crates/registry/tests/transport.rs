//! Connections, redirects, rate limits, counting.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_registry::{Client, ClientOptions, Error, ErrorKind, RequestObserver};
use support::{MANIFEST, client, digest, manifest, options, reply, repository, scripted};

#[tokio::test]
async fn plain_http_is_spoken_only_where_it_is_allowed_loopback_included() {
    let fake = scripted(|_, _| reply(200, &[("content-type", MANIFEST)], manifest())).await;
    let strict = Client::new(ClientOptions::default()).unwrap();
    let error = strict
        .manifest(&repository(&fake), &digest(manifest()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let (text, flag) = (error.to_string(), format!("--insecure-registry {}", fake.host()));
    assert!(
        text.contains("does not speak TLS") && text.contains(&flag) && text.contains("plainHTTP: true"),
        "{text}"
    );
    assert_eq!(fake.count(), 0);
    assert!(
        client(&[&fake])
            .manifest(&repository(&fake), &digest(manifest()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_registry_that_does_not_listen_is_unavailable() {
    // Bound and not listening: it refuses, and nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut options = ClientOptions::default();
    options.plain_http.insert(address.to_string());
    let client = Client::new(options).unwrap();
    let repository = format!("{address}/shop/web").parse().unwrap();
    let error = client.tagged_manifest(&repository, "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains("no connection to") && text.contains("shop/web"),
        "{text}"
    );
    assert!(matches!(
        client.referrers(&repository, &digest("")).await,
        Err(Error::Unavailable { .. })
    ));
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let fake = scripted(|seen, _| {
        let left: u32 = seen.target.split("left=").nth(1).unwrap_or("5").parse().unwrap();
        if left == 0 {
            reply(200, &[], "payload")
        } else {
            reply(302, &[("location", &format!("/x?left={}", left - 1))], "")
        }
    })
    .await;
    assert!(
        client(&[&fake])
            .blob(&repository(&fake), &digest("payload"), 100)
            .await
            .is_ok()
    );
    assert_eq!(fake.count(), 6);
    let endless = scripted(|_, _| reply(302, &[("location", "/again")], "")).await;
    let error = client(&[&endless])
        .blob(&repository(&endless), &digest(""), 100)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(endless.count(), 6);
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_an_outage_and_no_absence() {
    for location in ["", "file:///etc/passwd", "http://user:pw@127.0.0.1/"] {
        let headers = [("location", location)];
        let fake =
            scripted(move |_, _| reply(302, if location.is_empty() { &[] } else { &headers }, "")).await;
        let error = client(&[&fake])
            .tagged_manifest(&repository(&fake), "v1")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(fake.count(), 1);
    }
}

#[tokio::test]
async fn f02_after_a_429_nothing_is_sent_until_the_named_time() {
    let limited = scripted(|_, _| reply(429, &[("retry-after", "60")], "")).await;
    let other = scripted(|_, _| reply(200, &[("content-type", MANIFEST)], manifest())).await;
    let client = client(&[&limited, &other]);
    for _ in 0..20 {
        let error = client
            .tagged_manifest(&repository(&limited), "v1")
            .await
            .unwrap_err();
        let Error::RateLimited {
            retry_after: Some(wait),
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(50));
    }
    assert_eq!(limited.count(), 1);
    assert_eq!(client.requests(), 1);
    assert!(
        client
            .manifest(&repository(&other), &digest(manifest()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn f02_after_the_named_time_the_registry_is_asked_again() {
    let first = AtomicBool::new(true);
    let fake = scripted(move |_, _| match first.swap(false, Ordering::SeqCst) {
        true => reply(429, &[("retry-after", "1")], ""),
        false => reply(200, &[("content-type", MANIFEST)], manifest()),
    })
    .await;
    let client = client(&[&fake]);
    let (repository, asked) = (repository(&fake), digest(manifest()));
    assert_eq!(
        client.manifest(&repository, &asked).await.unwrap_err().kind(),
        ErrorKind::RateLimited
    );
    let healed = async {
        while client.manifest(&repository, &asked).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), healed)
        .await
        .unwrap();
    assert_eq!(fake.count(), 2);
    let all = futures::future::join_all((0..10).map(|_| client.manifest(&repository, &asked))).await;
    assert!(all.iter().all(Result::is_ok));
}

#[tokio::test]
async fn f02_a_limit_of_a_host_redirected_to_is_remembered_for_that_host() {
    let storage = scripted(|_, _| reply(429, &[("retry-after", "60")], "")).await;
    let target = format!("http://{}/blob", storage.host());
    let fake = scripted(move |seen, _| {
        if seen.path().contains("/blobs/") {
            reply(307, &[("location", &target)], "")
        } else {
            reply(200, &[("content-type", MANIFEST)], manifest())
        }
    })
    .await;
    let client = client(&[&fake]);
    for _ in 0..3 {
        let error = client
            .blob(&repository(&fake), &digest(""), 100)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::RateLimited { host, .. } if *host == storage.host()),
            "{error}"
        );
    }
    assert_eq!(storage.count(), 1);
    assert!(
        client
            .manifest(&repository(&fake), &digest(manifest()))
            .await
            .is_ok()
    );
}

#[derive(Default)]
struct Log(Mutex<Vec<(String, &'static str, &'static str)>>);

impl RequestObserver for Log {
    fn request(&self, registry: &str, operation: &'static str, outcome: &'static str, seconds: f64) {
        assert!((0.0..10.0).contains(&seconds));
        self.0
            .lock()
            .unwrap()
            .push((registry.to_owned(), operation, outcome));
    }
}

#[tokio::test]
async fn every_request_is_counted_and_observed() {
    let fake = scripted(|seen, host| match (seen.path(), seen.authorization()) {
        ("/token", _) => reply(200, &[], r#"{"token":"t"}"#),
        (_, None) => reply(
            401,
            &[(
                "www-authenticate",
                &format!("Bearer realm=\"http://{host}/token\""),
            )],
            "",
        ),
        (path, _) if path.contains("/blobs/") => reply(302, &[("location", "/moved")], ""),
        ("/moved", _) => reply(200, &[], "payload"),
        _ => reply(404, &[], ""),
    })
    .await;
    let log = Arc::new(Log::default());
    let client = Client::new(ClientOptions {
        observer: Some(log.clone()),
        ..options(&[&fake])
    })
    .unwrap();
    client
        .blob(&repository(&fake), &digest("payload"), 100)
        .await
        .unwrap();
    client.head_tag(&repository(&fake), "v1").await.unwrap();
    let host = fake.host();
    let entry = |operation, outcome| (host.clone(), operation, outcome);
    assert_eq!(
        *log.0.lock().unwrap(),
        [
            entry("blob", "challenged"),
            entry("token", "ok"),
            entry("blob", "redirected"),
            entry("blob", "ok"),
            entry("head", "not_found"),
        ]
    );
    assert_eq!(client.requests(), 5);
    assert_eq!(client.clone().requests(), 5);
}

#[tokio::test]
async fn messages_hold_no_time_that_changes_by_itself() {
    let fake = scripted(|_, _| reply(429, &[("retry-after", "60")], "")).await;
    let client = client(&[&fake]);
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(
            client
                .tagged_manifest(&repository(&fake), "v1")
                .await
                .unwrap_err()
                .to_string(),
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
}
