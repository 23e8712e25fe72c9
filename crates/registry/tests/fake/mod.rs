//! A registry in the test's own process that answers as a closure tells it to, and remembers what it was asked.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_registry::{Client, ClientOptions, Limits};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use image::{Digest, Repository};
use tokio::net::TcpListener;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn authorization(&self) -> Option<&str> {
        self.headers
            .get("authorization")
            .map(|value| value.to_str().unwrap())
    }
}

/// A listening server. It stops with the test's runtime.
#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Starts a server; the closure gets its own `host:port`.
    pub async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen, &str) -> Response<Body> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Self {
            address,
            seen: Arc::default(),
        };
        let seen = fake.seen.clone();
        let host = fake.host();
        let answer = Arc::new(answer);
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let asked = Seen {
                method: request.method().clone(),
                target: request.uri().to_string(),
                headers: request.headers().clone(),
            };
            seen.lock().unwrap().push(asked.clone());
            let (answer, host) = (answer.clone(), host.clone());
            async move { Ok::<_, Infallible>(answer(&asked, &host)) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        fake
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn repository(&self) -> Repository {
        format!("{}/shop/web", self.address).parse().unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The requests whose path contains `part`.
    pub fn asked(&self, part: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.path().contains(part))
            .count()
    }

    /// Every `Authorization` header received.
    pub fn secrets(&self) -> Vec<String> {
        self.seen()
            .iter()
            .filter_map(|seen| seen.authorization().map(str::to_owned))
            .collect()
    }
}

/// Options that allow plain http to the given servers.
pub fn options(servers: &[&Fake]) -> ClientOptions {
    ClientOptions {
        plain_http: servers.iter().map(|fake| fake.host()).collect::<BTreeSet<_>>(),
        limits: Limits {
            request_timeout: Duration::from_secs(5),
            ..Limits::default()
        },
        ..ClientOptions::default()
    }
}

pub fn client(servers: &[&Fake]) -> Client {
    Client::new(options(servers)).unwrap()
}

pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// An OCI error body.
pub fn oci_error(status: u16, code: &str) -> Response<Body> {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#);
    reply(status, &[("content-type", "application/json")], body)
}

/// A body that never ends, in pieces of `size` bytes every `pause`.
pub fn endless(size: usize, pause: Duration) -> Body {
    let piece = Bytes::from(vec![b' '; size]);
    Body::from_stream(futures::stream::unfold(piece, move |piece| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Infallible>(piece.clone()), piece))
    }))
}

pub fn digest(text: impl AsRef<[u8]>) -> Digest {
    Digest::sha256(text.as_ref())
}

pub fn descriptor(media_type: &str, content: &str) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
        digest(content),
        content.len()
    )
}

/// An image manifest.
pub fn manifest() -> String {
    let config = descriptor("application/vnd.oci.image.config.v1+json", "{}");
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", "layer");
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#)
}

/// An index over manifests with the given contents.
pub fn index(contents: &[&str]) -> String {
    let children: Vec<String> = contents
        .iter()
        .map(|content| descriptor(MANIFEST, content))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
        children.join(",")
    )
}
