//! An API server that answers as a test says, without a network.

use std::future::Future;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::clients::Clients;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::write::request::Requests;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How many requests came before.
    pub(crate) number: usize,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The header.
    pub(crate) accept: String,
    /// Null where it has none.
    pub(crate) body: Value,
}

impl Asked {
    fn without_body(&self) -> Self {
        Asked {
            number: self.number,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            accept: self.accept.clone(),
            body: Value::Null,
        }
    }
}

type Answers = dyn Fn(&Asked) -> (u16, Value) + Send + Sync;

/// The server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiServer {
    answers: Arc<Answers>,
    requests: Arc<Mutex<Vec<Asked>>>,
    count: Arc<watch::Sender<usize>>,
    news: broadcast::Sender<String>,
    keeps_bodies: bool,
}

/// So many lines of news may be on their way.
const NEWS: usize = 1 << 16;

impl ApiServer {
    /// The status of a request that is never answered.
    pub(crate) const NEVER: u16 = 0;
    /// The status of a watch that goes on after its events, with what [`ApiServer::tell_watches`] is told.
    pub(crate) const STREAM: u16 = 1;
    /// The status of an answer that says it is in protobuf, of these bytes.
    pub(crate) const PROTOBUF: u16 = 2;

    /// `answers` gives the status and the object of the answer to each request; an array is one line for each entry,
    /// as a watch has them.
    pub(crate) fn start(answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        ApiServer {
            answers: Arc::new(answers),
            requests: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
            news: broadcast::Sender::new(NEWS),
            keeps_bodies: true,
        }
    }

    /// Forgets what requests said, for tests with very many of them.
    pub(crate) fn without_bodies(self) -> Self {
        ApiServer {
            keeps_bodies: false,
            ..self
        }
    }

    /// Sends one more line to every watch that goes on.
    pub(crate) fn tell_watches(&self, line: &Value) {
        // Nobody may be watching.
        drop(self.news.send(format!("{line}\n")));
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> kube::Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        };
        kube::Client::new(Router::new().fallback(answer), "default")
    }

    /// Clients of this server.
    pub(crate) fn clients(&self) -> Clients {
        Clients {
            reads: self.client(),
            writes: self.client(),
        }
    }

    /// Requests to this server.
    pub(crate) fn writes(&self, leadership: Leadership) -> Requests {
        Requests {
            client: self.client(),
            leadership,
            metrics: Metrics::new("0"),
        }
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until so many requests came.
    pub(crate) fn until_requests(&self, count: usize) -> impl Future<Output = ()> + Send + 'static {
        let mut counted = self.count.subscribe();
        async move {
            counted.wait_for(|counted| *counted >= count).await.unwrap();
        }
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let (head, body) = request.into_parts();
        let bytes: Bytes = to_bytes(body, usize::MAX).await.unwrap();
        let asked = {
            let mut requests = self.requests.lock().unwrap();
            let asked = Asked {
                number: requests.len(),
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                accept: head
                    .headers
                    .get(ACCEPT)
                    .map_or("", |said| said.to_str().unwrap())
                    .to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            requests.push(match self.keeps_bodies {
                true => asked.clone(),
                false => asked.without_body(),
            });
            asked
        };
        self.count.send_modify(|count| *count += 1);
        let news = self.news.subscribe();
        let (status, object) = (self.answers)(&asked);
        if status == Self::NEVER {
            std::future::pending::<()>().await;
        }
        let text = match &object {
            Value::Array(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            object => object.to_string(),
        };
        if status == Self::STREAM {
            let lines = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(text))]);
            let news = stream::unfold(news, async |mut news| {
                let line = news.recv().await.ok()?;
                Some((Ok(Bytes::from(line)), news))
            });
            return Body::from_stream(lines.chain(news).chain(stream::pending())).into_response();
        }
        if status == Self::PROTOBUF {
            let bytes: Vec<u8> = serde_json::from_value(object).unwrap();
            return ([(CONTENT_TYPE, "application/vnd.kubernetes.protobuf")], bytes).into_response();
        }
        (StatusCode::from_u16(status).unwrap(), text).into_response()
    }
}
