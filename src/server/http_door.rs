//! The HTTP door for those who watch over us: `/metrics`, `/healthz` (the process runs), `/readyz` (it can answer; if not, what
//! kind of trouble it is in).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Parts;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::metrics::CONTENT_TYPE;

/// Open connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 64;
/// The longest that a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// The longest that a connection may last: one request, one answer.
const CONNECTION: Duration = Duration::from_secs(10);

/// Serves until asked to stop; what is then still open is cut. Strangers reach this door: it has a thread of its own, so that nothing they do
/// here delays a token review or a refresh of keys.
pub async fn serve(listener: TcpListener, parts: Parts, mut shutdown: Shutdown) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(parts);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async { (room.clone().acquire_owned().await, listener.accept().await) };
        let accepted = tokio::select! {
            () = shutdown.asked() => return,
            accepted = next => accepted,
        };
        match accepted {
            (place, Ok((stream, _))) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(CONNECTION, connection(stream, routes)).await;
                });
            }
            // Out of descriptors, or the peer is gone already: nothing to do but go on, a little later.
            (_, Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, routes: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // Probes come seldom: a place that is kept between two of them would be one less for others.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of the HTTP door ended with an error");
    }
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
