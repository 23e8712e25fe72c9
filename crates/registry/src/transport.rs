//! One call to a registry, whole: its turn, its deadline, authentication, redirects; and what the status means.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use image::Repository;
use serde::Deserialize;
use url::Url;

use crate::auth::{Auth, Session};
use crate::credentials::Credentials;
use crate::error::{Error, Place};
use crate::gate::Gates;
use crate::options::{ClientOptions, ClientOptionsError, normalised, normalised_one};
use crate::redirect;
use crate::wire::{Call, Reply, Wire, authority};

pub(crate) struct Transport {
    wire: Wire,
    auth: Auth,
    gates: Gates,
    plain_http: BTreeSet<String>,
    timeout: Duration,
}

/// What to ask for.
pub(crate) struct Query<'a> {
    pub(crate) place: &'a Place,
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    /// Bytes accepted of the body.
    pub(crate) limit: u64,
}

/// A 200.
pub(crate) struct Success {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A 404, with the codes of its OCI error body.
pub(crate) struct Absence {
    codes: Vec<String>,
}

impl Absence {
    /// Whether it is about a name or a manifest, rather than about the endpoint.
    pub(crate) fn names_content(&self) -> bool {
        self.codes.iter().any(|code| {
            matches!(
                code.as_str(),
                "NAME_UNKNOWN" | "MANIFEST_UNKNOWN" | "NAME_INVALID"
            )
        })
    }
}

impl Transport {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientOptionsError> {
        if options.per_registry_concurrency == 0 {
            return Err(ClientOptionsError::Concurrency);
        }
        let credentials = match &options.docker_config {
            Some(path) => Credentials::read(path)?,
            None => Credentials::default(),
        };
        let token_servers = options.token_servers.iter().map(|(registry, servers)| {
            Ok((
                normalised_one("token servers", registry)?,
                normalised("token servers", servers)?,
            ))
        });
        Ok(Self {
            wire: Wire::new(options)?,
            auth: Auth::new(credentials, token_servers.collect::<Result<_, _>>()?),
            gates: Gates::new(options.per_registry_concurrency),
            plain_http: normalised("plain http", &options.plain_http)?,
            timeout: options.limits.request_timeout,
        })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.wire.meter.requests()
    }

    /// The URL of an object of a repository: `/v2/<path>/<tail>`.
    pub(crate) fn url(&self, place: &Place, tail: &str) -> Result<Url, Error> {
        let repository = &place.repository;
        let scheme = if self.plain_http.contains(repository.registry()) {
            "http"
        } else {
            "https"
        };
        let text = format!(
            "{scheme}://{}/v2/{}/{tail}",
            repository.api_host(),
            repository.path()
        );
        Url::parse(&text).map_err(|error| Error::malformed(place, format!("{text} is not a URL: {error}")))
    }

    /// Asks, with the registry's turn, deadline, credentials and redirects. `Err(NotFound)` and only it stands
    /// for 404 and is given as `Ok(Err(absence))`, so that no caller mistakes another failure for it.
    pub(crate) async fn ask(&self, query: &Query<'_>) -> Result<Result<Success, Absence>, Error> {
        let _turn = self.gates.enter(query.place.repository.registry()).await;
        let reply = tokio::time::timeout(self.timeout, self.authenticated(query))
            .await
            .map_err(|_| {
                let seconds = self.timeout.as_secs_f64();
                Error::unavailable(query.place, format!("no complete answer within {seconds} s"))
            })??;
        self.judge(query.place, reply)
    }

    async fn authenticated(&self, query: &Query<'_>) -> Result<Reply, Error> {
        let session = Session {
            wire: &self.wire,
            place: query.place,
            base: &query.url,
        };
        let brought = self.auth.beforehand(&session).await?;
        let (reply, at_registry) = self.follow(query, brought.as_ref()).await?;
        if reply.status != StatusCode::UNAUTHORIZED || !at_registry {
            return Ok(reply);
        }
        let header = self
            .auth
            .answer(&session, &reply.headers, brought.as_ref())
            .await?;
        self.follow(query, Some(&header)).await.map(|(reply, _)| reply)
    }

    /// Follows redirects. Authorization is sent only for as long as the origin is the registry's. Tells whether
    /// the answer is the registry's own.
    async fn follow(
        &self,
        query: &Query<'_>,
        mut authorization: Option<&HeaderValue>,
    ) -> Result<(Reply, bool), Error> {
        let mut url = query.url.clone();
        let mut at_registry = true;
        for _ in 0..=redirect::LIMIT {
            let call = Call {
                place: query.place,
                operation: query.operation,
                method: query.method.clone(),
                url: url.clone(),
                accept: query.accept,
                authorization,
                limit: query.limit,
            };
            let reply = self.wire.send(call).await?;
            if !is_redirect(reply.status) {
                return Ok((reply, at_registry));
            }
            let location = reply.headers.get(LOCATION).map(HeaderValue::as_bytes);
            url = redirect::next_hop(&url, location)
                .map_err(|why| Error::unavailable(query.place, format!("{}: {why}", authority(&url))))?;
            if url.origin() != query.url.origin() {
                at_registry = false;
                authorization = None;
            }
        }
        let why = format!(
            "{} redirects more than {} times",
            query.place.repository.registry(),
            redirect::LIMIT
        );
        Err(Error::unavailable(query.place, why))
    }

    /// What the status means. Only 404 is absence, whatever a body says.
    fn judge(&self, place: &Place, reply: Reply) -> Result<Result<Success, Absence>, Error> {
        let status = reply.status.as_u16();
        match reply.status {
            StatusCode::OK => Ok(Ok(Success {
                headers: reply.headers,
                body: reply.body,
            })),
            StatusCode::NOT_FOUND => Ok(Err(Absence {
                codes: error_codes(&reply.body),
            })),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = self.auth.advice(&place.repository);
                let why = format!(
                    "the registry answers {}: {advice}",
                    with_codes(status, &reply.body)
                );
                Err(Error::denied(place, Some(status), why))
            }
            _ => Err(Error::unavailable(
                place,
                format!("the registry answers {}", with_codes(status, &reply.body)),
            )),
        }
    }
}

impl Absence {
    pub(crate) fn into_error(self, place: &Place) -> Error {
        Error::NotFound { at: place.clone() }
    }
}

/// The statuses whose `Location` is followed.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn with_codes(status: u16, body: &[u8]) -> String {
    match error_codes(body).as_slice() {
        [] => format!("HTTP {status}"),
        codes => format!("HTTP {status} ({})", codes.join(", ")),
    }
}

/// The codes of an error body (OCI distribution specification, "Error codes"). They only inform.
fn error_codes(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
    }
    let is_code = |code: &String| {
        (1..=40).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => body
            .errors
            .into_iter()
            .map(|entry| entry.code)
            .filter(is_code)
            .take(4)
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// The place of an object of a repository.
pub(crate) fn place(repository: &Repository, object: String) -> Place {
    Place {
        repository: repository.clone(),
        object,
    }
}
