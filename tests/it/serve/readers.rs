//! Peers that connect and say nothing, or ask and do not read.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bare, HERE, connect_from, metric, status, tls, tls_config};
use crate::support::server::{Server, request};

/// Line 8: neither TCP nor TLS is enough to hold a place.
#[tokio::test]
async fn a_peer_that_says_nothing_is_closed() {
    let server = Server::with(&["listen.handshakeSeconds=1", "listen.plaintext=127.0.0.1:0"]).await;
    let mut said = Vec::new();
    let stream = TcpStream::connect(server.addresses.tls).await.unwrap();
    let config = tls_config(
        &server,
        rustls::crypto::ring::default_provider(),
        &rustls::version::TLS13,
    );
    let mut over_tls = tls(config.into(), stream).await;
    let _ = over_tls.read_to_end(&mut said).await;
    metric(&server, "countersign_handshake_failures_total{reason=\"preface\"} 1").await;
    let mut plain = connect_from(&server, HERE).await;
    // All but the last byte.
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r").await.unwrap();
    let _ = plain.read_to_end(&mut said).await;
    metric(&server, "countersign_handshake_failures_total{reason=\"preface\"} 2").await;
    server.ask(request().0).await.unwrap();
}

/// Line 35: an answer that nobody reads keeps the place of its call, and its connection is closed.
#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_is_closed() {
    let server = Server::with(&[
        "listen.callsInFlight=1",
        "listen.callSeconds=1",
        "listen.plaintext=127.0.0.1:0",
    ])
    .await;
    // No room at all: the answer waits before HTTP/2. Room for a byte: it waits inside.
    for window in [0, 1] {
        let mut reader = Bare::with_window(&server, HERE, window).await;
        let _unread = reader.ask(&server).await;
        let mut other = Bare::from(&server, HERE).await;
        assert_eq!(status(&other.ask(&server).await), "8", "RESOURCE_EXHAUSTED");
        let _ = reader.ended.await.unwrap();
        server.ask(request().0).await.unwrap();
    }
    metric(
        &server,
        "countersign_connections_closed_total{reason=\"unread_answers\"} 2",
    )
    .await;
}
