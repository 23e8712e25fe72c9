//! A stand-in for what goes wrong between a client and the API server: a forwarder for one client that can hold a
//! request back, answer it itself, or hand it on and swallow the answer, while the API server itself is the real one.
//!
//! The client speaks plain http with it and is known to the API server by its own token.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode, header};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{Cluster, Result, TestkitError, background};

/// Longer bodies are not sent by any client here.
const LONGEST: usize = 16 << 20;

/// A request that is about to be handed on.
#[derive(Debug, Clone)]
pub struct Passing {
    /// As `GET`.
    pub method: Method,
    /// With its query.
    pub path: String,
}

impl Passing {
    /// It may change something.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It is handed on, and its answer back.
    Forward,
    /// It is answered here, with a Status of this code, and never handed on.
    Refuse(u16),
    /// It is neither handed on nor answered.
    Hold,
    /// It is handed on and carried out, and never answered.
    HoldAnswer,
}

type Rule = dyn Fn(&Passing) -> Fate + Send + Sync;

/// The forwarder. It ends with the process.
pub struct ApiProxy {
    kubeconfig: PathBuf,
    rule: Arc<Mutex<Arc<Rule>>>,
}

impl fmt::Debug for ApiProxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ApiProxy").finish_non_exhaustive()
    }
}

impl ApiProxy {
    /// Starts to forward everything for whoever uses this kubeconfig, which must hold a token.
    pub async fn in_front_of(cluster: &Cluster, kubeconfig: &Path) -> Result<Self> {
        crate::init();
        let invalid = |error: &dyn fmt::Display| {
            TestkitError::Invalid(format!("a proxy for {}: {error}", kubeconfig.display()))
        };
        let rule: Arc<Mutex<Arc<Rule>>> = Arc::new(Mutex::new(Arc::new(|_| Fate::Forward)));
        let mut file = Kubeconfig::read_from(kubeconfig).map_err(|error| invalid(&error))?;
        let entry = file.clusters.first_mut().and_then(|entry| entry.cluster.as_mut());
        let entry = entry.ok_or_else(|| invalid(&"it names no cluster"))?;
        let authority = entry.certificate_authority_data.take().unwrap_or_default();
        let server = Arc::new(Upstream::new(cluster.url(), &authority).map_err(|error| invalid(&error))?);
        let (port, listening) = tokio::sync::oneshot::channel();
        let rules = rule.clone();
        background::runtime()?.spawn(async move {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await;
            let address = listener
                .as_ref()
                .ok()
                .and_then(|listener| listener.local_addr().ok());
            let (Ok(listener), Some(address)) = (listener, address) else {
                return;
            };
            if port.send(address.port()).is_err() {
                return;
            }
            let answer = move |request: Request| {
                let (rule, server) = (
                    rules.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    server.clone(),
                );
                async move { server.pass(request, &*rule).await }
            };
            if let Err(error) = axum::serve(listener, Router::new().fallback(answer)).await {
                tracing::error!(%error, "the proxy ended");
            }
        });
        let port = listening.await.map_err(|error| invalid(&error))?;
        entry.server = Some(format!("http://127.0.0.1:{port}"));
        let own = kubeconfig.with_extension(format!("through-{port}.kubeconfig"));
        let text = serde_json::to_string(&file).map_err(|error| invalid(&error))?;
        std::fs::write(&own, text).map_err(TestkitError::file("write", &own))?;
        Ok(ApiProxy {
            kubeconfig: own,
            rule,
        })
    }

    /// A kubeconfig of the same user that leads here.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on this decides what becomes of each request.
    pub fn set_rule(&self, rule: impl Fn(&Passing) -> Fate + Send + Sync + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rule);
    }
}

/// The real API server.
struct Upstream {
    url: String,
    http: reqwest::Client,
}

impl Upstream {
    /// The authority as kubeconfigs hold it: PEM in base64.
    fn new(
        url: &str,
        authority: &str,
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        use base64::Engine as _;
        let pem = base64::engine::general_purpose::STANDARD.decode(authority)?;
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .build()?;
        Ok(Upstream {
            url: url.to_owned(),
            http,
        })
    }

    async fn pass(&self, request: Request, rule: &Rule) -> Response<Body> {
        let passing = Passing {
            method: request.method().clone(),
            path: request.uri().to_string(),
        };
        let fate = rule(&passing);
        match fate {
            Fate::Refuse(code) => return refusal(code),
            Fate::Hold => return std::future::pending().await,
            Fate::Forward | Fate::HoldAnswer => {}
        }
        let answer = match self.forward(request, &passing.path).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, path = passing.path, "the API server does not answer");
                refusal(502)
            }
        };
        match fate {
            Fate::HoldAnswer => std::future::pending().await,
            _ => answer,
        }
    }

    async fn forward(
        &self,
        request: Request,
        path: &str,
    ) -> std::result::Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let body = to_bytes(body, LONGEST).await?;
        let answer = self
            .http
            .request(head.method, format!("{}{path}", self.url))
            .headers(headers)
            .body(body)
            .send()
            .await?;
        let mut response = Response::builder().status(answer.status());
        for name in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::RETRY_AFTER,
        ] {
            if let Some(value) = answer.headers().get(&name) {
                response = response.header(name, value);
            }
        }
        Ok(response.body(Body::from_stream(answer.bytes_stream()))?)
    }
}

/// The API server's own way to say no.
fn refusal(code: u16) -> Response<Body> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "refused by the proxy of a test", "details": {"retryAfterSeconds": 1},
    });
    let mut response = Response::new(Body::from(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
