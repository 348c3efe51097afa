//! The HTTP door for those who watch over us: `/metrics`, `/healthz` (the process runs), `/readyz` (it can answer; if not, why).

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::Parts;
use crate::telemetry::metrics::CONTENT_TYPE;

/// Serves until asked to stop.
pub async fn serve(listener: TcpListener, parts: Parts, stop: oneshot::Receiver<()>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(parts);
    axum::serve(listener, routes)
        .with_graceful_shutdown(async {
            let _ = stop.await;
        })
        .await
}

async fn metrics(State(parts): State<Parts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], parts.metrics.render())
}

async fn ready(State(parts): State<Parts>) -> impl IntoResponse {
    let report = parts.readiness.report();
    let code = if report.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, report.to_string())
}
