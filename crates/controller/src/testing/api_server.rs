//! An API server that answers as a test says, without a network.

use std::future::Future;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::watch;

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
    /// Null where it has none.
    pub(crate) body: Value,
}

type Answers = dyn Fn(&Asked) -> (u16, Value) + Send + Sync;

/// The server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiServer {
    answers: Arc<Answers>,
    requests: Arc<Mutex<Vec<Asked>>>,
    count: Arc<watch::Sender<usize>>,
}

impl ApiServer {
    /// The status of a request that is never answered.
    pub(crate) const NEVER: u16 = 0;

    /// `answers` gives the status and the object of the answer to each request.
    pub(crate) fn start(answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        ApiServer {
            answers: Arc::new(answers),
            requests: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
        }
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
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            requests.push(asked.clone());
            asked
        };
        self.count.send_modify(|count| *count += 1);
        let (status, object) = (self.answers)(&asked);
        if status == Self::NEVER {
            std::future::pending::<()>().await;
        }
        (StatusCode::from_u16(status).unwrap(), object.to_string()).into_response()
    }
}
