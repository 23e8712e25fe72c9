//! CNCF distribution that asks for a password, and for tokens of a token server: the client gets what its
//! credentials allow, and an absence is an absence only for who may look (C3.12).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use assay_registry::{Client, ClientOptions, Credentials, ErrorKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::Repository;
use testkit::{Password, PrivateAccess, PrivateRegistry, REGISTRY_USER};

fn basic(password: &str) -> String {
    STANDARD.encode(format!("{REGISTRY_USER}:{password}"))
}

/// A registry with an image that its user alone may read.
struct Place {
    registry: PrivateRegistry,
    _folder: tempfile::TempDir,
}

impl Place {
    async fn start(access: PrivateAccess) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = PrivateRegistry::start(folder.path(), access).await.unwrap();
        let writer = registry.writer();
        writer.push_image("shop/web", "1.0", "seed").await.unwrap();
        Self {
            registry,
            _folder: folder,
        }
    }

    fn options(&self) -> ClientOptions {
        ClientOptions {
            plain_http: BTreeSet::from([self.registry.host().to_owned()]),
            ..ClientOptions::default()
        }
    }

    fn web(&self) -> Repository {
        format!("{}/shop/web", self.registry.host()).parse().unwrap()
    }

    fn secret(&self, password: &str) -> Credentials {
        let host = self.registry.host();
        let config = format!(r#"{{"auths":{{"{host}":{{"auth":"{}"}}}}}}"#, basic(password));
        Credentials::from_docker_config("Secret shop/pull", config.as_bytes()).unwrap()
    }

    /// What everybody may expect who is let in, and who is not.
    async fn check_access(&self, client: &Client) {
        let password = Password::First.text();
        let tenant = client.on_behalf_of("shop", self.secret(password));
        assert!(
            tenant
                .tagged_manifest(&self.web(), "1.0")
                .await
                .unwrap()
                .is_some()
        );
        assert_eq!(tenant.tagged_manifest(&self.web(), "2.0").await, Ok(None));
        for (name, stranger) in [
            ("without credentials", client.clone()),
            (
                "with a wrong password",
                client.on_behalf_of("shop", self.secret("wrong")),
            ),
            (
                "with an empty secret",
                client.on_behalf_of("shop", Credentials::none("Secret shop/pull")),
            ),
        ] {
            for tag in ["1.0", "2.0"] {
                let error = stranger.tagged_manifest(&self.web(), tag).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
                let text = error.to_string();
                assert!(
                    name == "without credentials" || text.contains("Secret shop/pull"),
                    "{name}: {text}"
                );
                assert!(
                    !text.contains("wrong") && !text.contains(&basic(password)),
                    "{text}"
                );
            }
        }
    }
}

#[tokio::test]
async fn c3_12_distribution_with_a_password() {
    let place = Place::start(PrivateAccess::Basic).await;
    place.check_access(&Client::new(place.options()).unwrap()).await;
}

#[tokio::test]
async fn c3_12_distribution_with_a_token_server() {
    let place = Place::start(PrivateAccess::Token).await;
    let host = place.registry.host().to_owned();
    let tokens = place.registry.token_server().unwrap().to_owned();
    let options = ClientOptions {
        token_servers: BTreeMap::from([(host, BTreeSet::from([tokens]))]),
        ..place.options()
    };
    place.check_access(&Client::new(options).unwrap()).await;

    let asked = place.registry.token_requests();
    let unpinned = Client::new(place.options()).unwrap();
    let tenant = unpinned.on_behalf_of("shop", place.secret(Password::First.text()));
    let error = tenant.tagged_manifest(&place.web(), "1.0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(
        place.registry.token_requests(),
        asked,
        "a realm that is not allowed got a request"
    );
}
