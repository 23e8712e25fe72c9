//! One HTTP request and its capped answer: no redirects, no authentication, no meaning.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::SemaphorePermit;
use url::Url;

use crate::credentials::Identity;
use crate::error::{Error, Place, shown};
use crate::guard::{Guard, ResolveError};
use crate::lane::Lane;
use crate::meter::Meter;
use crate::pace::Held;
use crate::throttle::{Leave, PauseCause, Throttle, retry_after};
use crate::waits::Waits;

/// How much of an error's body is read, to find its code.
const ERROR_BODY: usize = 16 << 10;
/// How much is reserved before the first byte came, whatever `Content-Length` says.
const FIRST_RESERVE: usize = 16 << 10;
/// A body longer than this waits for its turn among the large ones of its lane.
const LARGE: usize = 256 << 10;
/// How long one request waits for the pace of its lane.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Wire {
    pub(crate) guard: Guard,
    pub(crate) meter: Meter,
    throttle: Throttle,
}

pub(crate) struct Call<'a> {
    pub(crate) place: &'a Place,
    pub(crate) lane: &'a Lane,
    /// On whose behalf: that one account is limited says nothing of another.
    pub(crate) identity: Identity,
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Whether it goes where an administrator or the image's name says, rather than where the registry points to.
    pub(crate) own: bool,
    pub(crate) accept: Option<&'static str>,
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// Bytes accepted of a successful answer's body.
    pub(crate) limit: u64,
    /// How long the call waits for its turn.
    pub(crate) waits: &'a Waits,
}

/// A complete answer: of a success the whole body, of anything else at most its beginning.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Wire {
    pub(crate) fn new(guard: Guard, meter: Meter) -> Self {
        Self {
            guard,
            meter,
            throttle: Throttle::default(),
        }
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// [`Error::RateLimited`] for a 429, or without a request while the host's window lasts or a limit of our own
    /// is reached; [`Error::Denied`] for a destination that is refused; [`Error::Unavailable`] for no answer, and for
    /// a 503 that names a time, or without a request until then; [`Error::TooLarge`] for a body past the limit. Any
    /// other status is an answer.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Reply, Error> {
        let host = authority(&call.url);
        if let Err(error) = self.guard.check(&call.url, call.own).await {
            return Err(unresolved(call.place, &error));
        }
        let mut leave = self
            .throttle
            .enter(&call.identity.apart(&host))
            .await
            .map_err(|pause| Error::paused(call.place, host.clone(), pause))?;
        if let Err(held) = pace(&call, &host).await {
            self.meter.held(call.place.repository.registry());
            return Err(held);
        }
        let mut measurement = self.meter.begin(call.place.repository.registry(), call.operation);
        let result = exchange(&call, &host, &mut leave).await;
        measurement.outcome(outcome(&result));
        result
    }
}

/// Waits until the pace of the lane lets the request through, and counts it.
async fn pace(call: &Call<'_>, host: &str) -> Result<(), Error> {
    let Call { place, lane, .. } = call;
    let _waiting = call.waits.begin();
    lane.pace.turn(PATIENCE).await.map_err(|held| {
        let config = lane.name.as_ref().map_or_else(
            || "the operator's options".to_owned(),
            |name| format!("RegistryConfig {name}"),
        );
        let (why, wait) = match held {
            Held::Rate { per_second, wait } => (
                format!("{config} allows {per_second} requests a second, and too many wait"),
                wait,
            ),
            Held::Budget { limit, wait } => (
                format!("{config} allows {limit} requests a day, which are spent"),
                wait,
            ),
        };
        Error::RateLimited {
            at: (*place).clone(),
            host: host.to_owned(),
            why,
            retry_after: Some(wait),
        }
    })
}

fn unresolved(place: &Place, error: &ResolveError) -> Error {
    match error {
        ResolveError::Refused(refused) => Error::denied(place, None, refused.to_string()),
        ResolveError::Unresolved { .. } => Error::unavailable(place, error.to_string()),
    }
}

async fn exchange(call: &Call<'_>, host: &str, leave: &mut Leave<'_>) -> Result<Reply, Error> {
    let mut request = call.lane.http.request(call.method.clone(), call.url.clone());
    if let Some(accept) = call.accept {
        request = request.header(ACCEPT, accept);
    }
    if let Some(authorization) = call.authorization {
        request = request.header(AUTHORIZATION, authorization.clone());
    }
    let response = request
        .send()
        .await
        .map_err(|error| failure(call.place, host, &error))?;
    let named = named_wait(&response);
    let cause = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Some(PauseCause::Limited),
        // One that names no time may be of this request alone.
        StatusCode::SERVICE_UNAVAILABLE if named.is_some() => Some(PauseCause::Unavailable),
        _ => None,
    };
    if let Some(cause) = cause {
        let pause = leave.paused(cause, named);
        return Err(Error::paused(call.place, host.to_owned(), pause));
    }
    leave.answered();
    match response.status() {
        StatusCode::OK => success(call, host, response).await,
        status if status.is_redirection() => Ok(without_body(response)),
        _ => Ok(refusal(response).await),
    }
}

/// The time that the answer names in `Retry-After`.
fn named_wait(response: &reqwest::Response) -> Option<Duration> {
    let named = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(named, SystemTime::now())
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
    let mut large: Option<SemaphorePermit<'_>> = None;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failure(call.place, host, &error))?
    {
        if (body.len() + chunk.len()) as u64 > call.limit {
            return Err(too_large());
        }
        if large.is_none() && body.len() + chunk.len() > LARGE {
            // Nothing closes the semaphore.
            if let Ok(permit) = call.lane.large.acquire().await {
                large = Some(permit);
            }
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: without_slack(body),
    })
}

/// The bytes without the room that was reserved for more: whoever keeps a signature of 300 bytes keeps no more than that.
fn without_slack(body: BytesMut) -> Bytes {
    match body.capacity() - body.len() > body.len() / 4 {
        true => Bytes::copy_from_slice(&body),
        false => body.freeze(),
    }
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

fn failure(place: &Place, host: &str, error: &reqwest::Error) -> Error {
    if let Some(resolve) = resolve_error(error) {
        return unresolved(place, resolve);
    }
    let cause = root_cause(error);
    let why = if error.is_timeout() {
        format!("connecting to {host} took too long")
    } else if error.is_connect() {
        let advice = tls_error(error).and_then(|found| what_to_do(found, place, host));
        format!("no connection to {host}: {}", advice.unwrap_or(cause))
    } else {
        format!("the answer of {host} broke off: {cause}")
    };
    Error::unavailable(place, why)
}

/// What the guard said when the name was resolved for a connection.
fn resolve_error(error: &reqwest::Error) -> Option<&ResolveError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What was wrong with TLS.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What is wrong and what to do, where the text of the error would not tell. A host that a registry names, for tokens or
/// for blobs, is spoken to as the registry says, and trusted as the registry is.
fn what_to_do(error: &rustls::Error, place: &Place, host: &str) -> Option<String> {
    let registry = place.repository.registry();
    match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) if host == registry => {
            Some(format!(
                "it does not speak TLS; where plain http is meant, say plainHTTP: true in a RegistryConfig, or \
                 --insecure-registry {registry}"
            ))
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Some("it does not speak TLS".to_owned())
        }
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => Some(format!(
            "nobody known here vouches for its certificate; put its authority in caBundle of a RegistryConfig for \
             {registry}, or in the file that SSL_CERT_FILE names"
        )),
        _ => None,
    }
}

type AnyError = dyn std::error::Error + 'static;

/// The error and what caused it, one after the other.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &AnyError> {
    let first: &AnyError = error;
    std::iter::successors(Some(first), |current| {
        // What an I/O error wraps is left out by `source`.
        let wrapped = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        wrapped
            .map(|wrapped| wrapped as &AnyError)
            .or_else(|| current.source())
    })
}

pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    shown(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with `freeze` for every body: 16 KiB are kept for each signature.
    #[test]
    fn a_body_keeps_no_more_memory_than_it_needs() {
        for length in [300, 10_000, 1_000_000] {
            let mut body = BytesMut::with_capacity(FIRST_RESERVE);
            for _ in 0..length / 100 {
                body.extend_from_slice(&[7; 100]);
            }
            let kept = without_slack(body).try_into_mut().unwrap();
            assert!(
                kept.capacity() <= length + length / 4,
                "{length}: {}",
                kept.capacity()
            );
        }
    }
}
