//! What can go wrong: faults, and the requests that meet them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Response};
use futures::stream;
use serde_json::{Value, json};

use super::SeenRequest;
use super::api::{Answer, page_of};
use super::content::MANIFEST;
use crate::images::digest_of;

/// The requests that a fault is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct On {
    method: Option<Method>,
    parts: Vec<String>,
}

impl On {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests for manifests, by tag or digest.
    pub fn manifests() -> Self {
        Self::any().path("/manifests/")
    }

    /// Requests for blobs.
    pub fn blobs() -> Self {
        Self::any().path("/blobs/")
    }

    /// Requests for listings of referrers.
    pub fn referrers() -> Self {
        Self::any().path("/referrers/")
    }

    /// Requests for tokens.
    pub fn tokens() -> Self {
        Self::any().path("/token")
    }

    /// Of these, those whose path contains `part` as well.
    pub fn path(mut self, part: &str) -> Self {
        self.parts.push(part.to_owned());
        self
    }

    /// Of these, those with the method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    fn includes(&self, seen: &SeenRequest) -> bool {
        self.method.as_ref().is_none_or(|method| *method == seen.method)
            && self.parts.iter().all(|part| seen.path().contains(part))
    }
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 401 with a Bearer challenge that names this realm.
    Unauthorized {
        /// The URL of the token server.
        realm: String,
    },
    /// 403 with the code DENIED.
    Forbidden,
    /// 429.
    TooManyRequests {
        /// `Retry-After` in seconds, if it is sent.
        retry_after: Option<u64>,
    },
    /// 503 with `Retry-After` in seconds.
    ComeBack(u64),
    /// A redirect: 303, 307 or another status; `{path}` in the location becomes the path asked for.
    Redirect {
        /// The status.
        status: u16,
        /// The `Location`.
        location: String,
    },
    /// This status with the code UNAVAILABLE.
    Status(u16),
    /// The right headers, half the body, then the connection breaks.
    Truncated,
    /// Other bytes than asked for, under the headers of the right ones.
    WrongContent,
    /// 200 with these bytes as JSON.
    Body(Bytes),
    /// The proper page, with a `Link` to itself as the next one.
    LoopingLink,
    /// So many made-up referrers, in pages of a thousand.
    Referrers(usize),
    /// In turn the proper manifest and these, each `(media type, bytes)`, under the header of the proper one.
    Alternating(Vec<(String, Bytes)>),
    /// A chunked body that does not end, as fast as it is read.
    EndlessBody,
    /// A gzip body a thousand times smaller than what it holds, which is this many bytes at least.
    GzipBomb(u64),
    /// A body that does not end, a byte each time this has passed.
    Trickle(Duration),
    /// The connection is kept, and nothing is sent.
    Silence,
    /// The proper answer, so much later.
    Delay(Duration),
}

#[derive(Default)]
pub(super) struct Faults(Vec<Injected>);

struct Injected {
    on: On,
    fault: Arc<Fault>,
    left: Option<usize>,
    met: usize,
}

impl Faults {
    pub(super) fn add(&mut self, on: On, fault: Fault, left: Option<usize>) {
        self.0.push(Injected {
            on,
            fault: Arc::new(fault),
            left,
            met: 0,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that this request meets, and how many requests met it before.
    pub(super) fn next(&mut self, seen: &SeenRequest) -> Option<(Arc<Fault>, usize)> {
        let injected = self
            .0
            .iter_mut()
            .rev()
            .find(|injected| injected.left != Some(0) && injected.on.includes(seen))?;
        injected.left = injected.left.map(|left| left - 1);
        injected.met += 1;
        Some((injected.fault.clone(), injected.met - 1))
    }
}

impl Fault {
    /// The answer of a registry with this fault; `proper` is what it would answer without.
    pub(super) async fn answer(
        &self,
        seen: &SeenRequest,
        nth: usize,
        proper: impl FnOnce() -> Answer,
    ) -> Response<Body> {
        match self {
            Self::Unauthorized { realm } => {
                let challenge = format!("Bearer realm=\"{realm}\",service=\"fake\"");
                Answer::error(401, "UNAUTHORIZED")
                    .with("www-authenticate", &challenge)
                    .into_response()
            }
            Self::Forbidden => Answer::error(403, "DENIED").into_response(),
            Self::TooManyRequests { retry_after } => too_many(*retry_after).into_response(),
            Self::ComeBack(seconds) => Answer::error(503, "UNAVAILABLE")
                .with("retry-after", &seconds.to_string())
                .into_response(),
            Self::Redirect { status, location } => Answer::new(*status)
                .with("location", &location.replace("{path}", seen.path()))
                .into_response(),
            Self::Status(status) => Answer::error(*status, "UNAVAILABLE").into_response(),
            Self::Truncated => truncated(proper()),
            Self::WrongContent => {
                let proper = proper();
                let other: Vec<u8> = proper.body.iter().chain(b" ").copied().collect();
                proper.body(other).into_response()
            }
            Self::Body(body) => Answer::new(200)
                .with("content-type", "application/json")
                .body(body.clone())
                .into_response(),
            Self::LoopingLink => proper()
                .with("link", &format!("<{}>; rel=\"next\"", seen.target))
                .into_response(),
            Self::Referrers(count) => made_up(seen, *count).into_response(),
            Self::Alternating(others) => alternate(others, nth, proper()).into_response(),
            Self::EndlessBody => Answer::new(200)
                .with("content-type", MANIFEST)
                .with_body(Body::from_stream(endless())),
            Self::GzipBomb(size) => Answer::new(200)
                .with("content-type", MANIFEST)
                .with("content-encoding", "gzip")
                .with_body(bomb(*size)),
            Self::Trickle(pause) => Answer::new(200)
                .with("content-type", MANIFEST)
                .with_body(trickle(*pause)),
            Self::Silence => std::future::pending().await,
            Self::Delay(delay) => {
                tokio::time::sleep(*delay).await;
                proper().into_response()
            }
        }
    }
}

fn too_many(retry_after: Option<u64>) -> Answer {
    let answer = Answer::error(429, "TOOMANYREQUESTS");
    match retry_after {
        Some(seconds) => answer.with("retry-after", &seconds.to_string()),
        None => answer,
    }
}

fn truncated(proper: Answer) -> Response<Body> {
    let half = proper.body.slice(..proper.body.len() / 2);
    let length = proper.body.len().to_string();
    let pieces = [Ok(half), Err(std::io::Error::other("the connection breaks"))];
    proper
        .with("content-length", &length)
        .with_body(Body::from_stream(stream::iter(pieces)))
}

fn alternate(others: &[(String, Bytes)], nth: usize, proper: Answer) -> Answer {
    let turn = nth % (others.len() + 1);
    let Some((media_type, bytes)) = turn.checked_sub(1).and_then(|at| others.get(at)) else {
        return proper;
    };
    let mut answer = proper.body(bytes.clone());
    answer
        .headers
        .retain(|(name, _)| !matches!(name.as_str(), "content-type" | "content-length"));
    answer.with("content-type", media_type)
}

/// One page of made-up referrers; nothing of them is kept.
fn made_up(seen: &SeenRequest, count: usize) -> Answer {
    const PAGE: usize = 1000;
    let first: usize = seen
        .parameter("from")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let end = count.min(first + PAGE);
    let page: Vec<Value> = (first..end)
        .map(|number| {
            let digest = digest_of(number.to_string().as_bytes());
            json!({"mediaType": MANIFEST, "digest": digest, "size": 500})
        })
        .collect();
    let answer = page_of(page);
    if end < count {
        answer.with("link", &format!("<{}?from={end}>; rel=\"next\"", seen.path()))
    } else {
        answer
    }
}

/// Spaces without end: JSON that has not begun yet.
fn endless() -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    static SPACES: [u8; 64 << 10] = [b' '; 64 << 10];
    stream::repeat_with(|| Ok(Bytes::from_static(&SPACES)))
}

fn trickle(pause: Duration) -> Body {
    Body::from_stream(stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    }))
}

/// Members of a gzip file, each of 4,099 bytes that unpack to 4 MiB of spaces.
fn bomb(size: u64) -> Body {
    const HOLDS: u64 = 4 << 20;
    const HEAD: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x81, 0x00, 0x00, 0x00, 0x00,
        0xc3, 0x20, 0x95, 0xf9, 0x53, 0x1e, 0xe4, 0x55, 0x01,
    ];
    const TAIL: &[u8] = &[0x7c, 0x1b, 0x15, 0x3e, 0xfa, 0xfc, 0x00, 0x00, 0x40, 0x00];
    let mut member = HEAD.to_vec();
    member.resize(4099 - TAIL.len(), 0);
    member.extend_from_slice(TAIL);
    let members = usize::try_from(size.div_ceil(HOLDS)).unwrap_or(usize::MAX);
    let member = Bytes::from(member);
    Body::from_stream(stream::iter(
        std::iter::repeat_n(member, members).map(Ok::<_, Infallible>),
    ))
}
