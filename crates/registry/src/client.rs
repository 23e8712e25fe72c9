//! The client: manifests, tags and blobs. Referrers have a module of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use image::{Digest, Repository, is_tag};

use crate::credentials::{Caller, Credentials, Identity};
use crate::docker_config;
use crate::document::{ACCEPT, Manifest};
use crate::error::{Error, Place, shown};
use crate::options::{ClientOptions, ClientOptionsError, Limits};
use crate::routes::{Routes, Source};
use crate::transport::{Absence, Query, Success, Transport, place};
use crate::waits::Waits;

/// A client of any number of registries. Clones share connections, tokens, limits and counters.
///
/// Nothing is retried, and no answer is cached except tokens, the demand for them, a registry's 429 and the
/// absence of its referrers API. Calls for the same thing at the same time share one answer.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    caller: Arc<Caller>,
    /// What counts how long this client's requests wait for their turn.
    waits: Option<Arc<Waits>>,
}

pub(crate) struct Inner {
    transport: Transport,
    pub(crate) limits: Limits,
    pub(crate) clock: fn() -> Instant,
    /// Repositories whose registry answered an identity that it has no referrers API, and when.
    pub(crate) without_referrers: Mutex<HashMap<(Identity, Repository), Instant>>,
}

/// Why routes were not put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("RegistryConfig {route} cannot be used: its certificates are not accepted: {why}")]
pub struct RoutesError {
    /// The RegistryConfig.
    pub route: String,
    /// What the TLS library says.
    pub why: String,
}

/// What a registry says a tag points at, without being asked for the content: good to see whether something
/// changed, never to decide by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagHint {
    /// The digest the registry claims.
    Digest(Digest),
    /// The registry claims no digest, or none that parses; what the tag points at, if anything, only a GET tells.
    NoDigest,
}

impl Client {
    /// A client with these options; reads the docker config and sets up TLS. The TLS provider is the process's
    /// default one, or aws-lc-rs.
    ///
    /// # Errors
    /// [`ClientOptionsError`], naming the option.
    pub fn new(options: ClientOptions) -> Result<Self, ClientOptionsError> {
        let transport = Transport::new(&options)?;
        let credentials = match &options.docker_config {
            Some(path) => docker_config::read_file(path)?,
            None => Credentials::default(),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                transport,
                limits: options.limits,
                clock: options.clock,
                without_referrers: Mutex::default(),
            }),
            caller: Arc::new(Caller::operator(credentials)),
            waits: None,
        })
    }

    /// The same client for somebody else: where the operator has credentials for a repository they are tried first, and
    /// these where it has none or is refused. Nothing that was fetched or learned for another identity is used for this
    /// one or the other way round. `identity` names on whose behalf (a namespace with its pull secrets); two clients with
    /// the same name and the same credentials are the same identity.
    #[must_use]
    pub fn on_behalf_of(&self, identity: &str, credentials: Credentials) -> Self {
        Self {
            inner: self.inner.clone(),
            caller: Arc::new(Caller::other(&self.caller, identity, credentials)),
            waits: self.waits.clone(),
        }
    }

    /// The same client, of which it is counted how long its requests wait for their turn.
    #[must_use]
    pub fn counting_waits(&self, waits: Arc<Waits>) -> Self {
        Self {
            waits: Some(waits),
            ..self.clone()
        }
    }

    /// The name of the route that a repository is asked by, if there is one.
    pub fn route(&self, repository: &Repository) -> Option<String> {
        self.inner.transport.route(repository)
    }

    /// Whether what can wait may be asked at the sources of a repository without using up a daily budget that is kept for
    /// what is new.
    pub fn has_room_for_regular_work(&self, repository: &Repository) -> bool {
        let transport = &self.inner.transport;
        self.sources(repository).iter().all(|source| {
            let asked = [&source.repository, &source.evidence];
            asked
                .into_iter()
                .all(|repository| transport.has_room_for_regular_work(repository))
        })
    }

    /// On whose behalf this client asks; `None` for the operator itself.
    pub fn identity(&self) -> Option<&str> {
        Some(&*self.caller.name).filter(|_| self.caller.identity != Identity::Operator)
    }

    /// Puts routes in the place of those in force, for all clones and identities at once. Calls under way end as
    /// they began; what an unchanged route has spent of its budget stays spent.
    ///
    /// # Errors
    /// [`RoutesError`]; those in force stay.
    pub fn set_routes(&self, routes: Routes) -> Result<(), RoutesError> {
        let set = self.inner.transport.set_routes(routes);
        set.map_err(|(route, why)| RoutesError { route, why })
    }

    /// Where the images of a repository may be found, in the order in which they are to be asked. There is always
    /// one.
    pub fn sources(&self, repository: &Repository) -> Vec<Source> {
        self.inner.transport.lanes().routes.sources(repository)
    }

    /// How many HTTP requests were sent so far.
    pub fn requests(&self) -> u64 {
        self.inner.transport.requests()
    }

    /// The manifest with this digest; its bytes are hashed here.
    ///
    /// # Errors
    /// [`Error`]; a 404 is [`Error::NotFound`].
    pub async fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Manifest, Error> {
        let at = place(repository, format!("manifest {digest}"));
        let query = self.manifest_query(&at, "manifest", Method::GET, &digest.to_string())?;
        match self.ask(&query).await? {
            Ok(answer) => read_manifest(&at, digest, answer),
            Err(absence) => Err(absence.into_error(&at)),
        }
    }

    /// The manifest that a tag points at now; its digest (sha256) is that of the bytes received. `None` if, and
    /// only if, the registry answers 404.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tagged_manifest(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Option<Manifest>, Error> {
        let at = tag_place(repository, tag)?;
        let query = self.manifest_query(&at, "tag", Method::GET, tag)?;
        match self.ask(&query).await? {
            Ok(answer) => {
                let digest = Digest::sha256(&answer.body);
                read_manifest(&at, &digest, answer).map(Some)
            }
            Err(_absence) => Ok(None),
        }
    }

    /// What the registry claims a tag points at. `None` if, and only if, it answers 404.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn head_tag(&self, repository: &Repository, tag: &str) -> Result<Option<TagHint>, Error> {
        let at = tag_place(repository, tag)?;
        let query = self.manifest_query(&at, "head", Method::HEAD, tag)?;
        match self.ask(&query).await? {
            Ok(answer) => Ok(Some(hint(&answer.headers))),
            Err(absence) if absence.is_hearsay() => Ok(Some(TagHint::NoDigest)),
            Err(_absence) => Ok(None),
        }
    }

    /// The blob with this digest, hashed here. `limit` is in bytes; the client's own limit holds as well.
    ///
    /// # Errors
    /// [`Error`]; a 404 is [`Error::NotFound`].
    pub async fn blob(&self, repository: &Repository, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let at = place(repository, format!("blob {digest}"));
        let query = Query {
            place: &at,
            operation: "blob",
            method: Method::GET,
            url: self.inner.transport.url(&at, &format!("blobs/{digest}"))?,
            accept: None,
            limit: limit.min(self.inner.limits.blob_bytes),
        };
        let answer = self
            .ask(&query)
            .await?
            .map_err(|absence| absence.into_error(&at))?;
        let found = digest.of_same_algorithm(&answer.body);
        if found != *digest {
            return Err(mismatch(&at, digest.clone(), found));
        }
        Ok(answer.body)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    pub(crate) fn caller(&self) -> Identity {
        self.caller.identity.clone()
    }

    pub(crate) async fn ask(&self, query: &Query<'_>) -> Result<Result<Success, Absence>, Error> {
        let transport = &self.inner.transport;
        transport.ask(&self.caller, self.waits.clone(), query).await
    }

    fn manifest_query<'a>(
        &self,
        at: &'a Place,
        operation: &'static str,
        method: Method,
        reference: &str,
    ) -> Result<Query<'a>, Error> {
        let url = self.inner.transport.url(at, &format!("manifests/{reference}"))?;
        Ok(Query {
            place: at,
            operation,
            method,
            url,
            accept: Some(ACCEPT),
            limit: self.inner.limits.manifest_bytes,
        })
    }
}

fn tag_place(repository: &Repository, tag: &str) -> Result<Place, Error> {
    let at = place(repository, format!("tag {}", shown(tag)));
    if is_tag(tag) {
        return Ok(at);
    }
    Err(Error::malformed(
        &at,
        "the tag asked for is not of the specification's grammar; nothing was sent",
    ))
}

fn read_manifest(at: &Place, digest: &Digest, answer: Success) -> Result<Manifest, Error> {
    let content_type = answer
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    Manifest::read(digest, content_type, answer.body).map_err(|error| error.at(at))
}

fn mismatch(at: &Place, expected: Digest, found: Digest) -> Error {
    Error::DigestMismatch {
        at: at.clone(),
        expected: Box::new(expected),
        found: Box::new(found),
    }
}

fn hint(headers: &HeaderMap) -> TagHint {
    let claimed = headers
        .get("docker-content-digest")
        .and_then(|value| value.to_str().ok());
    match claimed.map(str::parse) {
        Some(Ok(digest)) => TagHint::Digest(digest),
        Some(Err(_)) | None => TagHint::NoDigest,
    }
}
