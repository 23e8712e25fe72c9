//! CNCF distribution that asks for a password, and for tokens of a token server: the client gets what its
//! credentials allow, and an absence is an absence only for who may look (C3.12).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use assay_registry::{Client, ClientOptions, Credentials, ErrorKind};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use image::Repository;
use serde_json::{Value, json};
use support::{FakeRegistry, SeenRequest, reply, scripted};
use testkit::{RegistryWriter, Server, ServerSpec, Tools, free_port};

/// `user` with the password `secret`, hashed by bcrypt.
const USERS: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const BASIC: &str = "user:secret";

/// Distribution with its files in a folder.
struct Distribution {
    host: String,
    server: Server,
}

impl Distribution {
    async fn start(folder: &Path, port: u16, auth: Option<Value>) -> Self {
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": folder.join("content")}},
            "http": {"addr": format!("127.0.0.1:{port}"), "relativeurls": true},
        });
        if let Some(auth) = auth {
            config["auth"] = auth;
        }
        let path = folder.join("config.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let program = Tools::locate().unwrap().path("distribution").unwrap();
        let spec = ServerSpec::new("distribution", program, folder)
            .arg("serve")
            .arg(path)
            .env("HOME", folder);
        let started = Self {
            host: format!("127.0.0.1:{port}"),
            server: Server::start(spec).unwrap(),
        };
        started.wait().await;
        started
    }

    /// Until it answers, be it with a demand for authentication.
    async fn wait(&self) {
        let address = self.host.clone();
        let ready = || async {
            let connected = tokio::net::TcpStream::connect(&address).await;
            connected.map(|_| true).map_err(|error| error.to_string())
        };
        self.server
            .wait_until_ready(Duration::from_secs(60), ready)
            .await
            .unwrap();
    }

    /// One that holds `shop/web:1.0` and asks as `auth` says.
    async fn with_image(folder: &Path, auth: Value) -> Self {
        let port = free_port().unwrap();
        let open = Self::start(folder, port, None).await;
        RegistryWriter::new(&open.host)
            .push_image("shop/web", "1.0", "seed")
            .await
            .unwrap();
        open.server.stop().unwrap();
        drop(open);
        Self::start(folder, port, Some(auth)).await
    }

    fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.host).parse().unwrap()
    }

    fn options(&self) -> ClientOptions {
        ClientOptions {
            plain_http: BTreeSet::from([self.host.clone()]),
            ..ClientOptions::default()
        }
    }

    fn secret(&self, pair: &str) -> Credentials {
        let config = format!(
            r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#,
            self.host,
            STANDARD.encode(pair)
        );
        Credentials::from_docker_config("Secret shop/pull", config.as_bytes()).unwrap()
    }
}

/// What everybody may expect who is let in, and who is not.
async fn check_access(registry: &Distribution, client: &Client) {
    let tenant = client.with_credentials("shop", registry.secret(BASIC));
    let web = registry.repository("shop/web");
    assert!(tenant.tagged_manifest(&web, "1.0").await.unwrap().is_some());
    assert_eq!(tenant.tagged_manifest(&web, "2.0").await, Ok(None));
    for (name, stranger) in [
        ("without credentials", client.clone()),
        (
            "with a wrong password",
            client.with_credentials("shop", registry.secret("user:wrong")),
        ),
        (
            "with an empty secret",
            client.with_credentials("shop", Credentials::none("Secret shop/pull")),
        ),
    ] {
        for tag in ["1.0", "2.0"] {
            let error = stranger.tagged_manifest(&web, tag).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
            let text = error.to_string();
            assert!(
                name == "without credentials" || text.contains("Secret shop/pull"),
                "{name}: {text}"
            );
            assert!(
                !text.contains("wrong") && !text.contains(&STANDARD.encode(BASIC)),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn c3_12_distribution_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, USERS).unwrap();
    let auth = json!({"htpasswd": {"realm": "test", "path": users}});
    let registry = Distribution::with_image(folder.path(), auth).await;
    check_access(&registry, &Client::new(registry.options()).unwrap()).await;
}

/// Signs the tokens that distribution trusts.
struct Issuer {
    key: EcdsaKeyPair,
    server: String,
}

impl Issuer {
    fn new() -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            server: "test issuer".to_owned(),
        }
    }

    /// The public key as a set of JSON web keys (RFC 7517).
    fn keys(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..65]);
        let coordinate = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "test", "x": coordinate(x), "y": coordinate(y)}]})
    }

    /// A token to pull one repository (distribution's token authentication, "JWT").
    fn token(&self, scope: &str) -> String {
        let name = scope.split(':').nth(1).unwrap_or("");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": "test"});
        let claims = json!({
            "iss": self.server, "sub": "user", "aud": "registry", "jti": "1",
            "iat": now - 10, "nbf": now - 10, "exp": now + 300,
            "access": [{"type": "repository", "name": name, "actions": ["pull"]}],
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The token server; only who knows the password gets one.
    async fn serve(self) -> FakeRegistry {
        let expected = format!("Basic {}", STANDARD.encode(BASIC));
        scripted(move |seen: &SeenRequest, _| {
            if seen.authorization() != Some(&expected) {
                return reply(401, &[], "");
            }
            let scope = seen.parameter("scope").unwrap_or("");
            let scope = scope.replace("%3A", ":").replace("%2F", "/");
            reply(
                200,
                &[],
                json!({"token": self.token(&scope), "expires_in": 300}).to_string(),
            )
        })
        .await
    }
}

#[tokio::test]
async fn c3_12_distribution_with_a_token_server() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, issuer.keys().to_string()).unwrap();
    let tokens = issuer.serve().await;
    let realm = format!("http://{}/token", tokens.host());
    let auth =
        json!({"token": {"realm": realm, "service": "registry", "issuer": "test issuer", "jwks": keys}});
    let registry = Distribution::with_image(folder.path(), auth).await;
    let mut options = registry.options();
    options
        .token_servers
        .insert(registry.host.clone(), BTreeSet::from([tokens.host()]));
    check_access(&registry, &Client::new(options).unwrap()).await;

    let asked = tokens.count();
    let unpinned = Client::new(registry.options()).unwrap();
    let tenant = unpinned.with_credentials("shop", registry.secret(BASIC));
    let error = tenant
        .tagged_manifest(&registry.repository("shop/web"), "1.0")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(tokens.count(), asked, "a realm that is not allowed got a request");
}
