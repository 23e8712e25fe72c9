//! Routes in force: mirrors, evidence elsewhere, certificates, plain http, credentials, and their change at run
//! time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use assay_registry::{
    Certificates, Client, ClientOptions, Credentials, ErrorKind, Mirror, Referrers, Route, Routes,
};
use image::Repository;
use support::{Access, FakeRegistry, MANIFEST, digest, manifest, repository};

fn routes(all: Vec<Route>) -> Routes {
    let mut routes = Routes::default();
    for route in all {
        routes.insert(route).unwrap();
    }
    routes
}

fn plain(name: &str, fake: &FakeRegistry) -> Route {
    Route {
        plain_http: true,
        ..Route::new(name, fake.host().parse().unwrap())
    }
}

fn client(all: Vec<Route>) -> Client {
    let client = Client::new(ClientOptions::default()).unwrap();
    client.set_routes(routes(all)).unwrap();
    client
}

/// "Not mirrored" is a 404 for the image; "not signed" is the image without anything that refers to it.
#[tokio::test]
async fn a_digest_that_only_a_mirror_serves_is_found_there_with_what_refers_to_it() {
    let (empty, full) = (
        FakeRegistry::start().await.unwrap(),
        FakeRegistry::start().await.unwrap(),
    );
    let subject = full.put_manifest("hub/library/nginx", None, MANIFEST, manifest());
    let attached = full.attach(
        "hub/library/nginx",
        &subject,
        "application/vnd.example",
        "evidence",
    );
    let mirror = |fake: &FakeRegistry, path: &str| Mirror {
        prefix: format!("{}{path}", fake.host()).parse().unwrap(),
        authoritative: false,
    };
    let hub = Route {
        mirrors: vec![mirror(&empty, ""), mirror(&full, "/hub")],
        ..Route::new("hub", "docker.io".parse().unwrap())
    };
    let client = client(vec![hub, plain("empty", &empty), plain("full", &full)]);
    let sources = client.sources(&"nginx".parse().unwrap());
    let asked = digest(manifest());
    let not_mirrored = client.manifest(&sources[0].repository, &asked).await.unwrap_err();
    assert_eq!(not_mirrored.kind(), ErrorKind::NotFound);
    assert!(!sources[0].authoritative);
    client.manifest(&sources[1].repository, &asked).await.unwrap();
    let Referrers::Listed(listed) = client.referrers(&sources[1].evidence, &asked).await.unwrap() else {
        panic!("not listed")
    };
    assert_eq!(listed[0].digest.to_string(), attached);
    assert_eq!(sources[2].repository.as_str(), "docker.io/library/nginx");
    assert!(sources[2].authoritative && sources[2].origin);
}

#[tokio::test]
async fn evidence_is_found_in_the_evidence_repository_as_cosign_puts_it_there() {
    let fake = FakeRegistry::start().await.unwrap();
    let subject = fake.put_manifest("shop/web", None, MANIFEST, manifest());
    let tag = format!("{}.sig", subject.replace(':', "-"));
    fake.put_manifest("signatures", Some(&tag), MANIFEST, manifest());
    let route = Route {
        evidence_repository: Some(format!("{}/signatures", fake.host()).parse().unwrap()),
        ..plain("r", &fake)
    };
    let client = client(vec![route]);
    let source = client.sources(&repository(&fake)).remove(0);
    assert_eq!(client.tagged_manifest(&source.repository, &tag).await, Ok(None));
    assert!(
        client
            .tagged_manifest(&source.evidence, &tag)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_route_brings_the_certificates_of_its_own_registry_and_of_no_other() {
    let (one, other) = (
        FakeRegistry::start_tls().await.unwrap(),
        FakeRegistry::start_tls().await.unwrap(),
    );
    for fake in [&one, &other] {
        fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    }
    let certificates = Certificates::from_pem(one.authority().unwrap().as_bytes()).unwrap();
    let trusting = |fake: &FakeRegistry| Route {
        ca_bundle: Some(certificates.clone()),
        ..Route::new("tls", fake.host().parse().unwrap())
    };
    let client = client(vec![trusting(&one), trusting(&other)]);
    assert!(
        client
            .tagged_manifest(&repository(&one), "v1")
            .await
            .unwrap()
            .is_some()
    );
    let error = client
        .tagged_manifest(&repository(&other), "v1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    client.set_routes(Routes::default()).unwrap();
    let error = client.tagged_manifest(&repository(&one), "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("vouches for its certificate") && text.contains("caBundle"),
        "{text}"
    );
    assert_eq!((one.count(), other.count()), (1, 0));
}

#[tokio::test]
async fn https_is_spoken_unless_a_route_allows_plain_http_and_routes_change_at_once() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    let client = client(Vec::new());
    let clone = client.clone();
    assert!(clone.head_tag(&repository(&fake), "v1").await.is_err());
    assert_eq!(fake.count(), 0);
    client.set_routes(routes(vec![plain("r", &fake)])).unwrap();
    assert!(clone.head_tag(&repository(&fake), "v1").await.unwrap().is_some());
    client.set_routes(Routes::default()).unwrap();
    assert!(clone.head_tag(&repository(&fake), "v1").await.is_err());
    assert_eq!(fake.count(), 1);
}

fn password(user: &str, password: &str) -> Credentials {
    Credentials::from_password("Secret assay-system/registry", user, password).unwrap()
}

#[tokio::test]
async fn a_routes_credentials_go_to_its_prefix_and_nowhere_else() {
    let (one, other) = (
        FakeRegistry::start().await.unwrap(),
        FakeRegistry::start().await.unwrap(),
    );
    for fake in [&one, &other] {
        fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
        fake.set_access(Access::token_for("user", "secret"));
    }
    let with = Route {
        credentials: Some(password("user", "secret")),
        prefix: format!("{}/shop", one.host()).parse().unwrap(),
        ..plain("with", &one)
    };
    let client = client(vec![with, plain("one", &one), plain("other", &other)]);
    assert!(client.head_tag(&repository(&one), "v1").await.unwrap().is_some());
    let elsewhere: Repository = format!("{}/other/web", one.host()).parse().unwrap();
    for denied in [&elsewhere, &repository(&other)] {
        let error = client.head_tag(denied, "v1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    let basic = |fake: &FakeRegistry| {
        let secrets = fake.secrets();
        secrets
            .iter()
            .filter(|secret| secret.starts_with("Basic"))
            .count()
    };
    assert_eq!((basic(&one), basic(&other)), (1, 0));
}

/// Weakened: with the position of a key in place of `Key::id` in `Owner`, the first token is used again.
#[tokio::test]
async fn a_token_got_with_one_password_is_not_used_after_the_password_changed() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    fake.set_access(Access::token_for("user", "old"));
    let with = |secret: &str| {
        routes(vec![Route {
            credentials: Some(password("user", secret)),
            ..plain("r", &fake)
        }])
    };
    let client = client(Vec::new());
    client.set_routes(with("old")).unwrap();
    assert!(client.head_tag(&repository(&fake), "v1").await.is_ok());
    client.set_routes(with("wrong")).unwrap();
    let error = client.head_tag(&repository(&fake), "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(
        error.to_string().contains("Secret assay-system/registry"),
        "{error}"
    );
}

#[tokio::test]
async fn a_routes_secret_that_holds_nothing_is_named_in_the_refusal() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.set_access(Access::password("user", "secret"));
    let route = Route {
        credentials: Some(Credentials::none("Secret assay-system/registry")),
        ..plain("r", &fake)
    };
    let error = client(vec![route])
        .head_tag(&repository(&fake), "v1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.to_string().contains("Secret assay-system/registry"),
        "{error}"
    );
}

#[tokio::test]
async fn certificates_that_no_client_can_use_leave_the_routes_in_force() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    let client = client(vec![plain("good", &fake)]);
    let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    if let Ok(certificates) = Certificates::from_pem(garbage) {
        let broken = Route {
            ca_bundle: Some(certificates),
            ..Route::new("broken", "r.io".parse().unwrap())
        };
        let error = client.set_routes(routes(vec![broken])).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
    assert!(client.head_tag(&repository(&fake), "v1").await.unwrap().is_some());
}
