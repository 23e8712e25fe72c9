//! What the client's tests share: documents, and clients that may speak plain http to fake registries.

#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use assay_registry::{Client, ClientOptions, Limits};
use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use image::{Digest, Repository};
pub use testkit::{Access, FakeRegistry, Fault, On, SeenRequest};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A server whose answers the closure gives.
pub async fn scripted<F>(answer: F) -> FakeRegistry
where
    F: Fn(&SeenRequest, &str) -> Response<Body> + Send + Sync + 'static,
{
    FakeRegistry::scripted(answer).await.unwrap()
}

/// The repository `shop/web` of a registry.
pub fn repository(registry: &FakeRegistry) -> Repository {
    format!("{}/shop/web", registry.host()).parse().unwrap()
}

/// Options that allow plain http to the given servers.
pub fn options(servers: &[&FakeRegistry]) -> ClientOptions {
    ClientOptions {
        plain_http: servers.iter().map(|fake| fake.host()).collect::<BTreeSet<_>>(),
        limits: Limits {
            request_timeout: Duration::from_secs(60),
            ..Limits::default()
        },
        ..ClientOptions::default()
    }
}

pub fn client(servers: &[&FakeRegistry]) -> Client {
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
