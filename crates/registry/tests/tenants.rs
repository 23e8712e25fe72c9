//! Credentials of others than the operator: used for their own registry, shared with nobody (invariant 7, B17,
//! B42, C3.12).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use assay_registry::{Credentials, ErrorKind, Referrers, Route, Routes};
use support::{Access, FakeRegistry, Fault, MANIFEST, On, client, digest, manifest, repository};

async fn private(users: &[(&str, &str)]) -> FakeRegistry {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    let users = users
        .iter()
        .map(|(user, password)| ((*user).to_owned(), (*password).to_owned()));
    fake.set_access(Access::Token(users.collect()));
    fake
}

/// The content of a pull secret for a registry.
fn config(fake: &FakeRegistry, user: &str, password: &str) -> String {
    format!(
        r#"{{"auths":{{"{}":{{"username":"{user}","password":"{password}"}}}}}}"#,
        fake.host()
    )
}

fn secret(name: &str, config: &str) -> Credentials {
    Credentials::from_docker_config(&format!("Secret {name}"), config.as_bytes()).unwrap()
}

/// Weakened: without `identity` in `Flight` and `Owner` both tenants get the image.
#[tokio::test]
async fn invariant_7_what_one_identity_fetched_is_not_handed_to_another() {
    let fake = private(&[("alice", "a")]).await;
    let operator = client(&[&fake]);
    let alice = operator.on_behalf_of("team-a", secret("team-a/pull", &config(&fake, "alice", "a")));
    let bob = operator.on_behalf_of("team-b", secret("team-b/pull", &config(&fake, "bob", "b")));
    let (repository, asked) = (repository(&fake), digest(manifest()));
    for _ in 0..3 {
        let (mine, theirs, ours) = tokio::join!(
            alice.manifest(&repository, &asked),
            bob.manifest(&repository, &asked),
            operator.manifest(&repository, &asked)
        );
        mine.unwrap();
        assert_eq!(theirs.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(ours.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!((alice.identity(), operator.identity()), (Some("team-a"), None));
}

#[tokio::test]
async fn the_same_password_in_another_namespace_is_another_identity() {
    let fake = private(&[("shared", "pw")]).await;
    let operator = client(&[&fake]);
    let json = config(&fake, "shared", "pw");
    let one = operator.on_behalf_of("team-a", secret("team-a/pull", &json));
    let again = operator.on_behalf_of("team-a", secret("team-a/pull", &json));
    let other = operator.on_behalf_of("team-b", secret("team-b/pull", &json));
    let (repository, asked) = (repository(&fake), digest(manifest()));
    one.manifest(&repository, &asked).await.unwrap();
    again.manifest(&repository, &asked).await.unwrap();
    assert_eq!(fake.asked("/token"), 1);
    other.manifest(&repository, &asked).await.unwrap();
    assert_eq!(fake.asked("/token"), 2);
}

#[tokio::test]
async fn a_tenants_secret_is_shown_to_the_registry_it_names_and_to_no_other() {
    let (own, other) = (private(&[("alice", "a")]).await, private(&[("alice", "a")]).await);
    let tenant =
        client(&[&own, &other]).on_behalf_of("team-a", secret("team-a/pull", &config(&own, "alice", "a")));
    tenant.head_tag(&repository(&own), "v1").await.unwrap();
    let error = tenant.head_tag(&repository(&other), "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("Secret team-a/pull"), "{error}");
    assert!(other.secrets().is_empty());
}

#[tokio::test]
async fn several_secrets_are_tried_until_one_is_accepted_and_that_one_first_from_then_on() {
    for basic in [false, true] {
        let fake = private(&[("second", "right")]).await;
        if basic {
            fake.set_access(Access::password("second", "right"));
        }
        let secrets = Credentials::united([
            secret("team-a/one", &config(&fake, "first", "wrong")),
            secret("team-a/two", &config(&fake, "second", "right")),
        ]);
        let tenant = client(&[&fake]).on_behalf_of("team-a", secrets);
        tenant.head_tag(&repository(&fake), "v1").await.unwrap();
        fake.forget();
        assert_eq!(tenant.head_tag(&repository(&fake), "v2").await, Ok(None));
        assert_eq!(fake.count(), 1, "basic: {basic}");
    }
}

/// Weakened: with the last outcome in place of the first refusal, the 404 of the second secret counts.
#[tokio::test]
async fn b42_an_absence_met_with_another_secret_than_the_refused_one_proves_nothing() {
    let fake = private(&[("second", "right")]).await;
    let secrets = Credentials::united([
        secret("team-a/one", &config(&fake, "first", "wrong")),
        secret("team-a/two", &config(&fake, "second", "right")),
    ]);
    let tenant = client(&[&fake]).on_behalf_of("team-a", secrets);
    let error = tenant.head_tag(&repository(&fake), "missing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn a_refusal_names_the_secret_and_holds_no_part_of_it() {
    let fake = private(&[]).await;
    fake.set_access(Access::password("x", "y"));
    let config = config(&fake, "alice", "hunter2");
    let tenant = client(&[&fake]).on_behalf_of("team-a", secret("team-a/pull", &config));
    let text = tenant
        .head_tag(&repository(&fake), "v1")
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("Secret team-a/pull"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("alice"), "{text}");
}

#[tokio::test]
async fn a_missing_referrers_api_is_remembered_for_one_identity() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", None, MANIFEST, manifest());
    fake.inject_times(1, On::referrers(), Fault::Status(404));
    let operator = client(&[&fake]);
    let asked = digest(manifest());
    let unsupported = operator.referrers(&repository(&fake), &asked).await;
    let tenant = operator.on_behalf_of("team-a", Credentials::none("Secret team-a/pull"));
    let listed = tenant.referrers(&repository(&fake), &asked).await;
    assert!(
        matches!(listed, Ok(Referrers::Listed(_))),
        "{unsupported:?} {listed:?}"
    );
}

#[tokio::test]
async fn a_helper_in_a_tenants_secret_is_named_and_never_run() {
    let fake = private(&[("a", "b")]).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("ran");
    let helper = format!("$(touch {})", trace.display());
    let config = format!(r#"{{"credHelpers":{{"{}":"{helper}"}}}}"#, fake.host());
    let tenant = client(&[&fake]).on_behalf_of("team-a", secret("team-a/pull", &config));
    for tag in ["v1", "v2"] {
        let denied = tenant.head_tag(&repository(&fake), tag).await;
        let text = denied.unwrap_err().to_string();
        assert!(
            text.contains("never executed") && text.contains("Secret team-a/pull"),
            "{text}"
        );
    }
    assert!(!trace.exists());
}

/// The operator's own come first; what is fetched with both is still of the one who brought the others.
#[tokio::test]
async fn c3_12_a_tenants_credentials_are_used_where_the_operators_are_missing_or_refused() {
    for operators in [None, Some("wrong")] {
        let fake = private(&[("alice", "a")]).await;
        let operator = client(&[&fake]);
        if let Some(password) = operators {
            let mut routes = Routes::default();
            routes
                .insert(Route {
                    plain_http: true,
                    credentials: Some(secret("assay-system/route", &config(&fake, "operator", password))),
                    ..Route::new("r", fake.host().parse().unwrap())
                })
                .unwrap();
            operator.set_routes(routes).unwrap();
        }
        let tenant = operator.on_behalf_of("team-a", secret("team-a/pull", &config(&fake, "alice", "a")));
        let (repository, asked) = (repository(&fake), digest(manifest()));
        tenant.manifest(&repository, &asked).await.unwrap();
        assert_eq!(
            tenant.head_tag(&repository, "missing").await,
            Ok(None),
            "what is absent for the credential that was accepted is absent"
        );
        let theirs = operator.manifest(&repository, &asked).await;
        assert_eq!(theirs.unwrap_err().kind(), ErrorKind::Denied);
    }
}

#[tokio::test]
async fn where_the_operator_has_credentials_that_are_accepted_nobody_elses_are_shown() {
    let fake = private(&[("operator", "o")]).await;
    let operator = client(&[&fake]);
    let mut routes = Routes::default();
    routes
        .insert(Route {
            plain_http: true,
            credentials: Some(secret("assay-system/route", &config(&fake, "operator", "o"))),
            ..Route::new("r", fake.host().parse().unwrap())
        })
        .unwrap();
    operator.set_routes(routes).unwrap();
    let tenant = operator.on_behalf_of(
        "team-a",
        secret("team-a/pull", &config(&fake, "alice", "hunter2")),
    );
    tenant
        .manifest(&repository(&fake), &digest(manifest()))
        .await
        .unwrap();
    assert!(
        fake.secrets().iter().all(|shown| !shown.contains("alice")),
        "{:?}",
        fake.secrets()
    );
}

/// A registry limits accounts: that one tenant spent its own is not the other's trouble, nor told to it.
/// Weakened once: with the window kept by host alone, the operator is told RateLimited.
#[tokio::test]
async fn b37_a_429_for_one_identity_is_not_shown_to_another() {
    let fake = FakeRegistry::start().await.unwrap();
    fake.put_manifest("shop/web", Some("v1"), MANIFEST, manifest());
    let operator = client(&[&fake]);
    let tenant = operator.on_behalf_of("team-a", Credentials::none("Secret team-a/pull"));
    let (repository, asked) = (repository(&fake), digest(manifest()));
    fake.inject_times(
        1,
        On::any(),
        Fault::TooManyRequests {
            retry_after: Some(600),
        },
    );
    let limited = tenant.manifest(&repository, &asked).await.unwrap_err();
    assert_eq!(limited.kind(), ErrorKind::RateLimited);
    operator.manifest(&repository, &asked).await.unwrap();
    let still = tenant.manifest(&repository, &asked).await.unwrap_err();
    assert_eq!(still.kind(), ErrorKind::RateLimited);
}
