//! A registry in the test's own process that can misbehave: a real HTTP server on loopback with content, that
//! answers as the OCI distribution specification says until a [`Fault`] is injected, and remembers every request.
//!
//! Clients push to it and pull from it as from any other registry (manifests, blobs, tags, referrers with pages,
//! the fallback tag). It stops when it is dropped.
//!
//! - `content`: what it holds. `api`: how it answers. `access`: whom. `fault`: what goes wrong. `listen`: plain
//!   or TLS connections.

mod access;
mod api;
mod content;
mod fault;
mod listen;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response};

pub use access::Access;
pub use fault::{Fault, On};

use crate::{RegistryWriter, Result, TestkitError};
use access::Gatekeeper;
use api::Answer;
use content::Content;
use fault::Faults;
use listen::Listening;

/// The most bytes of a pushed body.
const PUSH_LIMIT: usize = 64 << 20;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
}

impl SeenRequest {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    /// The value of a parameter of the query, as written.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
    }
}

/// A listening registry.
pub struct FakeRegistry {
    listening: Listening,
    state: Arc<State>,
}

type Script = dyn Fn(&SeenRequest, &str) -> Response<Body> + Send + Sync;

/// What the server's connections share.
struct State {
    host: String,
    script: Option<Box<Script>>,
    seen: Mutex<Vec<SeenRequest>>,
    content: Mutex<Content>,
    gatekeeper: Mutex<Gatekeeper>,
    faults: Mutex<Faults>,
}

impl FakeRegistry {
    /// An empty registry that speaks plain http, has the referrers API and asks for no credentials.
    ///
    /// # Errors
    /// No port can be listened on.
    pub async fn start() -> Result<Self> {
        Self::listen(None, false).await
    }

    /// The same over https, with a certificate of an authority of its own: [`FakeRegistry::authority`].
    ///
    /// # Errors
    /// No port can be listened on, or no certificate made.
    pub async fn start_tls() -> Result<Self> {
        Self::listen(None, true).await
    }

    /// A server whose every answer the closure gives; it gets the request and the server's own `host:port`.
    ///
    /// # Errors
    /// No port can be listened on.
    pub async fn scripted<F>(answer: F) -> Result<Self>
    where
        F: Fn(&SeenRequest, &str) -> Response<Body> + Send + Sync + 'static,
    {
        Self::listen(Some(Box::new(answer)), false).await
    }

    async fn listen(script: Option<Box<Script>>, tls: bool) -> Result<Self> {
        let (listener, address) = listen::bind().await?;
        let state = Arc::new(State {
            host: address.to_string(),
            script,
            seen: Mutex::default(),
            content: Mutex::default(),
            gatekeeper: Mutex::default(),
            faults: Mutex::default(),
        });
        let shared = state.clone();
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let state = shared.clone();
            async move { Ok::<_, Infallible>(state.answer(request).await) }
        });
        let listening = listen::serve(listener, address, app, tls)?;
        Ok(Self { listening, state })
    }

    /// The host part of image references: `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        self.state.host.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// The certificate of the authority that signed the server's, PEM; `None` without TLS.
    pub fn authority(&self) -> Option<&str> {
        self.listening.authority.as_deref()
    }

    /// Pushes to it over HTTP, as to any other registry.
    pub fn writer(&self) -> RegistryWriter {
        RegistryWriter::new(self.host())
    }

    /// Puts a blob into a repository (a path without the host). Returns its digest.
    pub fn put_blob(&self, repository: &str, content: impl Into<Bytes>) -> String {
        self.content().put_blob(repository, content.into())
    }

    /// Puts a manifest into a repository, under a tag if one is given. Returns its digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> String {
        self.content()
            .put_manifest(repository, tag, media_type, content.into())
    }

    /// Attaches an artifact of one layer to the manifest `subject`, as clients do it: by the manifest's `subject`,
    /// and in the fallback tag where the registry has no referrers API. Returns the artifact's digest.
    pub fn attach(
        &self,
        repository: &str,
        subject: &str,
        layer_type: &str,
        layer: impl Into<Bytes>,
    ) -> String {
        self.content()
            .attach(repository, subject, layer_type, layer.into())
    }

    /// Removes a manifest with its tags, or a tag, or a blob; whether it was there.
    pub fn delete(&self, repository: &str, reference: &str) -> bool {
        self.content().delete(repository, reference)
    }

    /// Whether it has the referrers API (it does at first).
    pub fn set_referrers_api(&self, has: bool) {
        self.content().referrers_api = has;
    }

    /// How many referrers a page lists (1,000 at first).
    pub fn set_page_size(&self, size: usize) {
        self.content().page_size = size.max(1);
    }

    /// Whom it serves (everybody at first).
    pub fn set_access(&self, access: Access) {
        lock(&self.state.gatekeeper).access = access;
    }

    /// No token that was issued so far is accepted any more.
    pub fn revoke_tokens(&self) {
        lock(&self.state.gatekeeper).revoke();
    }

    /// From now on the requests that `on` names meet the fault. Of several faults the one injected last counts.
    pub fn inject(&self, on: On, fault: Fault) {
        lock(&self.state.faults).add(on, fault, None);
    }

    /// The next `times` requests that `on` names meet the fault, and then no more.
    pub fn inject_times(&self, times: usize, on: On, fault: Fault) {
        lock(&self.state.faults).add(on, fault, Some(times));
    }

    /// Takes every fault back.
    pub fn heal(&self) {
        lock(&self.state.faults).clear();
    }

    /// Every request so far, in the order of their arrival.
    pub fn seen(&self) -> Vec<SeenRequest> {
        lock(&self.state.seen).clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// How many requests had a path that contains `part`.
    pub fn asked(&self, part: &str) -> usize {
        lock(&self.state.seen)
            .iter()
            .filter(|seen| seen.path().contains(part))
            .count()
    }

    /// Every `Authorization` header received.
    pub fn secrets(&self) -> Vec<String> {
        lock(&self.state.seen)
            .iter()
            .filter_map(|seen| seen.authorization().map(str::to_owned))
            .collect()
    }

    /// Forgets the requests seen so far.
    pub fn forget(&self) {
        lock(&self.state.seen).clear();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.state.content)
    }
}

impl State {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let seen = SeenRequest {
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
        };
        lock(&self.seen).push(seen.clone());
        if let Some(script) = &self.script {
            return script(&seen, &self.host);
        }
        let Ok(body) = to_bytes(body, PUSH_LIMIT).await else {
            return Answer::error(413, "SIZE_INVALID").into_response();
        };
        let fault = lock(&self.faults).next(&seen);
        let proper = || self.proper(&seen, body);
        match fault {
            Some((fault, nth)) => fault.answer(&seen, nth, proper).await,
            None => proper().into_response(),
        }
    }

    /// The answer without any fault.
    fn proper(&self, seen: &SeenRequest, body: Bytes) -> Answer {
        let admitted = lock(&self.gatekeeper).admit(seen, &self.host);
        match admitted {
            Ok(()) => lock(&self.content).answer(seen, body),
            Err(answer) => answer,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> TestkitError {
    let what = what.to_owned();
    move |error| TestkitError::Invalid(format!("the fake registry cannot {what}: {error}"))
}
