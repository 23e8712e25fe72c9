//! CNCF distribution with content that only one user may read, and the token server that it may send clients to.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::http::{HttpServer, Reserved, json as answer};
use crate::images::RegistryWriter;
use crate::jwt::TokenSigner;
use crate::ports::{free_port, retry_on_taken_port};
use crate::server::{Server, ServerSpec};
use crate::tools::Tools;
use crate::{Result, TestkitError};

/// The only user of a [`PrivateRegistry`].
pub const REGISTRY_USER: &str = "alice";
const ISSUER: &str = "testkit tokens";
const SERVICE: &str = "testkit registry";
const TOKEN_SECONDS: i64 = 300;

/// The user's password; another one can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Password {
    /// What is taken until another one is set.
    First,
    /// Another one.
    Second,
}

impl Password {
    /// What the user writes.
    pub fn text(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    /// A file of users as distribution reads it.
    fn users(self) -> String {
        let hash = match self {
            Self::First => "$2b$05$abcdefghijklmnopqrstuu3rQZA.e/048YzLTJ55aycWHfqo0a49W",
            Self::Second => "$2b$05$abcdefghijklmnopqrstuuKbPhTOR7Pvo59BRa0eQ090CMHpax.C6",
        };
        format!("{REGISTRY_USER}:{hash}\n")
    }
}

/// How a registry asks who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateAccess {
    /// It wants the password itself.
    Basic,
    /// It sends clients to a token server, which wants the password and signs what they may do.
    Token,
}

/// Two processes of distribution over the same files: one takes what tests push, the other serves one user alone.
#[derive(Debug)]
pub struct PrivateRegistry {
    open: String,
    host: String,
    gate: Gate,
    _servers: [Server; 2],
}

/// What knows the password.
#[derive(Debug)]
enum Gate {
    Users(PathBuf),
    Tokens(TokenServer),
}

impl PrivateRegistry {
    /// Starts both; their files lie in `folder`.
    pub async fn start(folder: impl AsRef<Path>, access: PrivateAccess) -> Result<Self> {
        crate::init();
        let folder =
            std::path::absolute(folder.as_ref()).map_err(TestkitError::file("find", folder.as_ref()))?;
        std::fs::create_dir_all(&folder).map_err(TestkitError::file("create", &folder))?;
        let (gate, auth) = match access {
            PrivateAccess::Basic => {
                let users = folder.join("users");
                write(&users, &Password::First.users())?;
                let auth = json!({"htpasswd": {"realm": "test", "path": users}});
                (Gate::Users(users), auth)
            }
            PrivateAccess::Token => {
                let server = TokenServer::start()?;
                let keys = folder.join("keys.json");
                write(&keys, &server.keys.to_string())?;
                let auth = json!({"token": {
                    "realm": server.realm, "service": SERVICE, "issuer": ISSUER, "jwks": keys,
                }});
                (Gate::Tokens(server), auth)
            }
        };
        let (open, first) = distribution(&folder, "open", None).await?;
        let (host, second) = distribution(&folder, "private", Some(&auth)).await?;
        Ok(Self {
            open,
            host,
            gate,
            _servers: [first, second],
        })
    }

    /// The host part of references to what the user alone may read.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host part of references to the same content where everybody may read and write it.
    pub fn open_host(&self) -> &str {
        &self.open
    }

    /// Pushes to it.
    pub fn writer(&self) -> RegistryWriter {
        RegistryWriter::new(self.open.clone())
    }

    /// The host and port of its token server, where it has one.
    pub fn token_server(&self) -> Option<&str> {
        match &self.gate {
            Gate::Users(_) => None,
            Gate::Tokens(server) => server.realm.strip_prefix("http://")?.split('/').next(),
        }
    }

    /// How many requests its token server answered.
    pub fn token_requests(&self) -> usize {
        match &self.gate {
            Gate::Users(_) => 0,
            Gate::Tokens(server) => server.desk.requests.load(Ordering::Relaxed),
        }
    }

    /// Takes this password from now on, and no other.
    pub fn set_password(&self, password: Password) -> Result<()> {
        match &self.gate {
            // A reader in between sees one file or the other.
            Gate::Users(users) => {
                let next = users.with_extension("next");
                write(&next, &password.users())?;
                std::fs::rename(&next, users).map_err(TestkitError::file("rename", &next))?;
            }
            Gate::Tokens(server) => server.desk.set_password(password),
        }
        Ok(())
    }
}

fn write(file: &Path, content: &str) -> Result<()> {
    std::fs::write(file, content).map_err(TestkitError::file("write", file))
}

/// One process, and its host and port.
async fn distribution(folder: &Path, name: &str, auth: Option<&Value>) -> Result<(String, Server)> {
    let program = Tools::locate()?.path("distribution")?;
    retry_on_taken_port(async || {
        let host = format!("127.0.0.1:{}", free_port()?);
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": folder.join("files")}},
            "http": {"addr": host, "relativeurls": true},
        });
        if let Some(auth) = auth {
            config["auth"] = auth.clone();
        }
        let file = folder.join(format!("{name}.yml"));
        write(&file, &config.to_string())?;
        let spec = ServerSpec::new(format!("distribution-{name}"), &program, folder)
            .arg("serve")
            .arg(file)
            .env("HOME", folder);
        let server = Server::start(spec.grace(Duration::from_millis(500)))?;
        wait_until_it_listens(&server, &host).await?;
        Ok((host, server))
    })
    .await
}

async fn wait_until_it_listens(server: &Server, host: &str) -> Result<()> {
    let connects = || async move {
        let connected = tokio::net::TcpStream::connect(host).await;
        connected.map(|_| true).map_err(|error| error.to_string())
    };
    server.wait_until_ready(Duration::from_secs(60), connects).await
}

/// Gives tokens as distribution's "Token Authentication Specification" describes them.
#[derive(Debug)]
struct TokenServer {
    realm: String,
    keys: Value,
    desk: Arc<TokenDesk>,
    _serving: HttpServer,
}

/// Who gets which token.
#[derive(Debug)]
struct TokenDesk {
    signer: TokenSigner,
    password: Mutex<Password>,
    requests: AtomicUsize,
}

impl TokenServer {
    fn start() -> Result<Self> {
        let (signer, address) = (TokenSigner::new()?, Reserved::new()?);
        let (keys, realm) = (signer.key_set()?, format!("{}/token", address.url()));
        let desk = Arc::new(TokenDesk {
            signer,
            password: Mutex::new(Password::First),
            requests: AtomicUsize::new(0),
        });
        let serving = desk.clone();
        let ask = async move |headers: HeaderMap, RawQuery(query): RawQuery| {
            let (status, body) = serving.answer(&headers, &query.unwrap_or_default());
            answer(status, &body)
        };
        Ok(Self {
            realm,
            keys,
            desk,
            _serving: address.serve(Router::new().route("/token", get(ask)))?,
        })
    }
}

impl TokenDesk {
    fn set_password(&self, password: Password) {
        *self.password.lock().unwrap_or_else(PoisonError::into_inner) = password;
    }

    fn answer(&self, headers: &HeaderMap, query: &str) -> (StatusCode, Value) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.knows(headers) {
            return (
                StatusCode::UNAUTHORIZED,
                json!({"errors": [{"code": "UNAUTHORIZED"}]}),
            );
        }
        match self.signer.token(claims(query, number)) {
            Ok(token) => (
                StatusCode::OK,
                json!({"token": token, "expires_in": TOKEN_SECONDS}),
            ),
            Err(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({"message": error.to_string()}),
            ),
        }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let password = *self.password.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = format!("{REGISTRY_USER}:{}", password.text());
        let expected = format!("Basic {}", STANDARD.encode(pair));
        headers
            .get(header::AUTHORIZATION)
            .is_some_and(|found| found.as_bytes() == expected.as_bytes())
    }
}

/// That the user may pull what the scopes of the query name.
fn claims(query: &str, number: usize) -> Map<String, Value> {
    let now = Timestamp::now().as_second();
    let access: Vec<Value> = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "scope")
        .filter_map(|(_, scope)| {
            let repository = scope.strip_prefix("repository:")?.rsplit_once(':')?.0.to_owned();
            Some(json!({"type": "repository", "name": repository, "actions": ["pull"]}))
        })
        .collect();
    let claims = json!({
        "iss": ISSUER, "sub": REGISTRY_USER, "aud": SERVICE, "jti": number.to_string(),
        "iat": now - 5, "nbf": now - 5, "exp": now + TOKEN_SECONDS, "access": access,
    });
    claims.as_object().cloned().unwrap_or_default()
}
