//! The HTTP door for those who watch over us: `/metrics`, `/healthz` (the process runs), `/readyz` (it can answer; if not, why).

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::Parts;

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
    let now = parts.clock.now();
    match parts.metrics.render(now) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text),
        Err(error) => {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::INTERNAL_SERVER_ERROR, plain, error.to_string())
        }
    }
}

async fn ready(State(parts): State<Parts>) -> impl IntoResponse {
    let code = if parts.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, parts.readiness.report())
}
