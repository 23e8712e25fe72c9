//! Internal addresses are refused: as names, as addresses, through redirects, token servers and pages (B19, F05).
//! The servers of these tests are on loopback, so what is refused is seen by their logs staying empty.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use assay_registry::{Client, ClientOptions, Error, ErrorKind, Route, Routes};
use image::Repository;
use support::{FakeRegistry, Fault, MANIFEST, On, digest, manifest, repository};

/// A client that refuses internal addresses with these exceptions.
fn strict(allowed: &[&str]) -> ClientOptions {
    ClientOptions {
        forbid_internal_addresses: true,
        allowed_internal_addresses: allowed.iter().map(|text| (*text).to_owned()).collect(),
        ..ClientOptions::default()
    }
}

fn plain(mut options: ClientOptions, servers: &[&FakeRegistry]) -> Client {
    options.plain_http = servers.iter().map(|fake| fake.host()).collect::<BTreeSet<_>>();
    Client::new(options).unwrap()
}

async fn serving() -> FakeRegistry {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    fake
}

fn denied(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("internal address"), "{error}");
}

/// Weakened: with `may_reach` always true, connections are made; without the check of literals the first three are.
#[tokio::test]
async fn b19_an_image_name_never_leads_inside() {
    let fake = FakeRegistry::start_tls().await.unwrap();
    let client = Client::new(strict(&[])).unwrap();
    let port = fake.address().port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:7f00:1]:{port}"),
        format!("localhost:{port}"),
        "169.254.169.254".to_owned(),
        "10.0.0.1".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        "100.100.100.200:80".to_owned(),
    ] {
        let repository: Repository = format!("{host}/shop/web").parse().unwrap();
        denied(&client.tagged_manifest(&repository, "v1").await.unwrap_err());
    }
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn a_registry_that_an_administrator_names_may_be_private_and_is_asked() {
    let fake = serving().await;
    let by_option = plain(strict(&[]), &[&fake]);
    assert!(
        by_option
            .head_tag(&repository(&fake), "v1")
            .await
            .unwrap()
            .is_some()
    );
    let by_route = Client::new(strict(&[])).unwrap();
    by_route.head_tag(&repository(&fake), "v1").await.unwrap_err();
    let mut routes = Routes::default();
    routes
        .insert(Route {
            plain_http: true,
            ..Route::new("r", fake.host().parse().unwrap())
        })
        .unwrap();
    by_route.set_routes(routes).unwrap();
    assert!(
        by_route
            .head_tag(&repository(&fake), "v1")
            .await
            .unwrap()
            .is_some()
    );
    by_route.set_routes(Routes::default()).unwrap();
    denied(&by_route.head_tag(&repository(&fake), "v1").await.unwrap_err());
}

/// A tenant's image name knocks at no other door of a host that an administrator named. Weakened once: with hosts named
/// without their ports, connections are made.
#[tokio::test]
async fn b19_another_port_of_a_registry_that_an_administrator_names_is_refused() {
    let (named, other) = (serving().await, FakeRegistry::start_tls().await.unwrap());
    let (of_named, of_other) = (named.address().port(), other.address().port());
    for host in ["127.0.0.1", "localhost"] {
        let mut options = strict(&[]);
        options.plain_http = BTreeSet::from([format!("{host}:{of_named}")]);
        let client = Client::new(options).unwrap();
        let at = |port: u16| -> Repository { format!("{host}:{port}/shop/web").parse().unwrap() };
        assert!(client.head_tag(&at(of_named), "v1").await.unwrap().is_some());
        let refused = client.head_tag(&at(of_other), "v1").await.unwrap_err();
        denied(&refused);
        assert!(
            refused.to_string().contains(&format!("{host}:{of_other} is at")),
            "{refused}"
        );
        let without: Repository = format!("{host}/shop/web").parse().unwrap();
        denied(&client.head_tag(&without, "v1").await.unwrap_err());
    }
    assert_eq!(other.count(), 0);
}

/// Weakened: with `own` always true the redirect from one named registry to the other is followed.
#[tokio::test]
async fn b19_a_registry_cannot_redirect_inside_not_even_to_another_that_is_named() {
    let (target, hostile) = (serving().await, serving().await);
    let named = plain(strict(&[]), &[&target, &hostile]);
    let port = target.address().port();
    for location in [
        format!("http://127.0.0.1:{port}{{path}}"),
        format!("http://localhost:{port}{{path}}"),
        format!("http://[::ffff:127.0.0.1]:{port}{{path}}"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.96.0.1/api/v1/secrets".to_owned(),
    ] {
        for status in [302, 307] {
            hostile.heal();
            hostile.inject(
                On::any(),
                Fault::Redirect {
                    status,
                    location: location.clone(),
                },
            );
            let asked = digest(manifest());
            let manifest = named.manifest(&repository(&hostile), &asked).await;
            let error = manifest.unwrap_err();
            if !location.contains("127.0.0.1:") || location.contains("ffff") {
                denied(&error);
            } else {
                assert_eq!(error.kind(), ErrorKind::Denied, "{location}: {error}");
            }
        }
    }
    assert_eq!(target.count(), 0);
}

#[tokio::test]
async fn b19_a_redirect_to_an_allowed_address_is_followed_without_credentials() {
    let (storage, fake) = (serving().await, serving().await);
    fake.inject(
        On::any(),
        Fault::Redirect {
            status: 307,
            location: format!("http://{}{{path}}", storage.host()),
        },
    );
    for allowed in ["127.0.0.1", "127.0.0.0/8"] {
        let client = plain(strict(&[allowed]), &[&fake]);
        client
            .manifest(&repository(&fake), &digest(manifest()))
            .await
            .unwrap();
    }
    assert_eq!((storage.count(), storage.secrets().len()), (2, 0));
}

#[tokio::test]
async fn b19_an_allowed_name_may_be_anywhere_and_no_other_name_is() {
    let fake = serving().await;
    let port = fake.address().port();
    let by_name: Repository = format!("localhost:{port}/shop/web").parse().unwrap();
    let mut options = strict(&["LocalHost"]);
    options.plain_http = BTreeSet::from([format!("localhost:{port}")]);
    let client = Client::new(options).unwrap();
    assert!(client.head_tag(&by_name, "v1").await.unwrap().is_some());
    denied(&client.head_tag(&repository(&fake), "v1").await.unwrap_err());
    assert_eq!(fake.count(), 1);
}

/// Options that name a token server for a registry.
fn with_token_server(registry: &FakeRegistry, server: &str) -> ClientOptions {
    let mut options = strict(&[]);
    options
        .token_servers
        .insert(registry.host(), BTreeSet::from([server.to_owned()]));
    options
}

#[tokio::test]
async fn a_token_server_that_an_administrator_names_may_be_private() {
    let (inside, fake) = (serving().await, serving().await);
    let server = format!("localhost:{}", inside.address().port());
    let realm = format!("http://{server}/token");
    fake.inject(On::any(), Fault::Unauthorized { realm });
    let client = plain(with_token_server(&fake, &server), &[&fake]);
    client.head_tag(&repository(&fake), "v1").await.unwrap_err();
    assert_eq!(inside.asked("/token"), 1);
}

#[tokio::test]
async fn b19_a_token_server_at_a_metadata_address_is_refused_even_where_it_is_named() {
    let fake = serving().await;
    let realm = "http://169.254.169.254/token".to_owned();
    fake.inject(On::any(), Fault::Unauthorized { realm });
    let client = plain(with_token_server(&fake, "169.254.169.254"), &[&fake]);
    denied(&client.head_tag(&repository(&fake), "v1").await.unwrap_err());
}

#[tokio::test]
async fn without_the_option_everything_is_asked() {
    let fake = serving().await;
    let client = plain(ClientOptions::default(), &[&fake]);
    assert!(client.head_tag(&repository(&fake), "v1").await.unwrap().is_some());
}

#[tokio::test]
async fn an_exception_that_is_none_is_refused_by_name() {
    for wrong in ["10.0.0.0/33", "http://r.io", "a b", "*.io", "10.0.0.1:5000", ""] {
        let error = Client::new(strict(&[wrong])).err().expect("refused").to_string();
        assert!(error.contains(&format!("{wrong:?}")), "{error}");
    }
}
