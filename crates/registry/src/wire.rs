//! One HTTP request and its capped answer: no redirects, no authentication, no meaning.

use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use crate::error::{Error, Place, shown};
use crate::meter::Meter;
use crate::options::{ClientOptions, ClientOptionsError};
use crate::throttle::{Throttle, retry_after};

/// How much of an error's body is read, to find its code.
const ERROR_BODY: usize = 16 << 10;
/// How much is reserved before the first byte came, whatever `Content-Length` says.
const FIRST_RESERVE: usize = 16 << 10;

pub(crate) struct Wire {
    http: reqwest::Client,
    throttle: Throttle,
    pub(crate) meter: Meter,
}

pub(crate) struct Call<'a> {
    pub(crate) place: &'a Place,
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// Bytes accepted of a successful answer's body.
    pub(crate) limit: u64,
}

/// A complete answer: of a success the whole body, of anything else at most its beginning.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Wire {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientOptionsError> {
        let http = reqwest::Client::builder()
            .user_agent(&options.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(options.limits.connect_timeout)
            .pool_max_idle_per_host(options.per_registry_concurrency)
            .build()
            .map_err(|error| ClientOptionsError::Https {
                why: root_cause(&error),
            })?;
        Ok(Self {
            http,
            throttle: Throttle::default(),
            meter: Meter::new(options.observer.clone()),
        })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// [`Error::RateLimited`] for a 429, or without a request while the host's window lasts;
    /// [`Error::Unavailable`] for no answer; [`Error::TooLarge`] for a body past the limit. Any other status is
    /// an answer.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Reply, Error> {
        let host = authority(&call.url);
        let leave = self
            .throttle
            .enter(&host, Instant::now())
            .map_err(|wait| Error::RateLimited {
                at: call.place.clone(),
                host: host.clone(),
                retry_after: Some(wait),
            })?;
        let mut measurement = self.meter.begin(call.place.repository.registry(), call.operation);
        let result = self.exchange(&call, &host).await;
        if answered(&result) {
            leave.answered();
        }
        measurement.outcome(outcome(&result));
        result
    }

    async fn exchange(&self, call: &Call<'_>, host: &str) -> Result<Reply, Error> {
        let mut request = self.http.request(call.method.clone(), call.url.clone());
        if let Some(accept) = call.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = call.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let response = request
            .send()
            .await
            .map_err(|error| Error::unavailable(call.place, failure(host, error)))?;
        match response.status() {
            StatusCode::OK => success(call, host, response).await,
            StatusCode::TOO_MANY_REQUESTS => Err(self.limited(call, host, response.headers())),
            status if status.is_redirection() => Ok(without_body(response)),
            _ => Ok(refusal(response).await),
        }
    }

    fn limited(&self, call: &Call<'_>, host: &str, headers: &HeaderMap) -> Error {
        let named = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let named = named.and_then(|value| retry_after(value, SystemTime::now()));
        let wait = self.throttle.limited(host, named, Instant::now());
        Error::RateLimited {
            at: call.place.clone(),
            host: host.to_owned(),
            retry_after: Some(wait),
        }
    }
}

async fn success(call: &Call<'_>, host: &str, mut response: reqwest::Response) -> Result<Reply, Error> {
    if call.method == Method::HEAD {
        return Ok(without_body(response));
    }
    let encoding = response.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::malformed(
            call.place,
            "it is compressed although that was not asked for",
        ));
    }
    let too_large = || Error::TooLarge {
        at: call.place.clone(),
        what: "the answer's size in bytes",
        limit: call.limit,
    };
    if response
        .content_length()
        .is_some_and(|length| length > call.limit)
    {
        return Err(too_large());
    }
    let mut body = BytesMut::with_capacity(FIRST_RESERVE);
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Error::unavailable(call.place, failure(host, error)))?
    {
        if (body.len() + chunk.len()) as u64 > call.limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: body.freeze(),
    })
}

fn without_body(response: reqwest::Response) -> Reply {
    Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: Bytes::new(),
    }
}

/// An answer other than a success; a body that breaks off or is too long counts as far as it came.
async fn refusal(mut response: reqwest::Response) -> Reply {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(ERROR_BODY - body.len())]);
        if body.len() == ERROR_BODY {
            break;
        }
    }
    Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: body.freeze(),
    }
}

/// Whether the host answered, other than with 429.
const fn answered(result: &Result<Reply, Error>) -> bool {
    matches!(
        result,
        Ok(_) | Err(Error::TooLarge { .. } | Error::Malformed { .. })
    )
}

fn outcome(result: &Result<Reply, Error>) -> &'static str {
    match result {
        Err(error) => error.kind().label(),
        Ok(reply) if reply.status.is_redirection() => "redirected",
        Ok(reply) => match reply.status {
            StatusCode::OK => "ok",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::UNAUTHORIZED => "challenged",
            StatusCode::FORBIDDEN => "denied",
            _ => "unavailable",
        },
    }
}

/// `host:port` of a URL, as windows of rate limits and messages name it.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn failure(host: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    let cause = root_cause(&error);
    if error.is_timeout() {
        format!("connecting to {host} took too long")
    } else if error.is_connect() {
        format!("no connection to {host}: {cause}")
    } else {
        format!("the answer of {host} broke off: {cause}")
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    shown(&cause.to_string())
}
