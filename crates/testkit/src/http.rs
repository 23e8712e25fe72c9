//! An HTTP server within this process, for what the test kit plays itself.

use std::net::{Ipv4Addr, TcpListener};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{Result, TestkitError, background};

/// A loopback port that is taken, but not served yet: its address goes into what will be served there.
#[derive(Debug)]
pub(crate) struct Reserved {
    listener: TcpListener,
    url: String,
}

impl Reserved {
    pub(crate) fn new() -> Result<Self> {
        let failed =
            |error: std::io::Error| TestkitError::Invalid(format!("cannot listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        Ok(Self { listener, url })
    }

    /// `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Serves from now on, on a runtime that does not end with the caller's.
    pub(crate) fn serve(self, router: Router) -> Result<HttpServer> {
        let runtime = background::runtime()?;
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|error| TestkitError::Invalid(format!("cannot serve {}: {error}", self.url)))?;
        drop(entered);
        let serving = runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(HttpServer { serving })
    }
}

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    serving: JoinHandle<std::io::Result<()>>,
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

/// A refusal that says why; the clients print it.
pub(crate) fn refusal(error: &TestkitError) -> Response {
    let body = serde_json::json!({"code": 400, "message": error.to_string()});
    json(StatusCode::BAD_REQUEST, &body)
}
