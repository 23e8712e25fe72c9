//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ImagePolicyStatus, SigningKeyStatus};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::Handle;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::lease::Leadership;
use crate::metrics::{KeyUse, Metrics, Snapshot};
use crate::objects::Objects;

/// A scrape does not wait longer for the engine; it then shows what it saw last.
const TOTALS_DEADLINE: Duration = Duration::from_secs(2);
/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) engine: Handle,
    pub(crate) leadership: Leadership,
    pub(crate) policies: Objects<ImagePolicyStatus>,
    pub(crate) keys: Objects<SigningKeyStatus>,
}

/// Serves the pages until `stop` completes.
pub(crate) async fn serve(
    listener: TcpListener,
    pages: Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(pages);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn metrics(State(pages): State<Pages>) -> Response {
    pages.metrics.leads(pages.leadership.leads());
    if let Ok(Ok(totals)) = tokio::time::timeout(TOTALS_DEADLINE, pages.engine.totals()).await {
        let snapshot = Snapshot {
            totals,
            policies: pages.policies.names(),
            keys: pages.keys.names(),
            key_uses: pages.keys.each(KeyUse::of),
        };
        pages.metrics.show(snapshot);
    }
    match pages.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(pages): State<Pages>) -> Response {
    let stuck = pages.health.stuck(Instant::now());
    if stuck.is_empty() {
        return "ok".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("stuck: {}", stuck.join(", ")),
    )
        .into_response()
}

async fn readyz(State(pages): State<Pages>) -> Response {
    if pages.health.is_ready() {
        return "ok".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the first lists are not told yet, or the process ends",
    )
        .into_response()
}
