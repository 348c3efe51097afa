//! The bounds that hold for everybody together.

use countersign::proto::istio::IstioCertificateRequest;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::{Code, Request};

use super::{Bare, HERE, metric, status};
use crate::support::server::{Server, request};

/// Lines 35 and 36: a call that never ends is ended, and one too many is refused at once.
#[tokio::test]
async fn calls_are_bounded_in_number_and_time() {
    let server = Server::with(&[
        "listen.callsInFlight=1",
        "listen.callSeconds=1",
        "listen.plaintext=127.0.0.1:0",
    ])
    .await;
    let mut client = Bare::from(&server, HERE).await;
    // Headers, and never a body.
    let (hanging, _body) = client.begin(&server);
    assert_eq!(status(&client.ask(&server).await), "8", "RESOURCE_EXHAUSTED");
    assert_eq!(status(&hanging.await.unwrap()), "14", "UNAVAILABLE");
    // The place is free again.
    server.ask(request().0).await.unwrap();
}

/// Line 24: sizes.
#[tokio::test]
async fn messages_and_headers_are_bounded() {
    let server = Server::start().await;
    let wish = IstioCertificateRequest {
        csr: "x".repeat(20 * 1024),
        ..request().0
    };
    assert_eq!(server.ask(wish).await.unwrap_err().code(), Code::InvalidArgument);
    let wish = IstioCertificateRequest {
        csr: "x".repeat(100 * 1024),
        ..request().0
    };
    assert_eq!(server.ask(wish).await.unwrap_err().code(), Code::OutOfRange);
    let mut call = Request::new(request().0);
    call.metadata_mut()
        .insert("x-large", "x".repeat(100 * 1024).parse().unwrap());
    assert!(server.client(None).create_certificate(call).await.is_err());
    server.ask(request().0).await.unwrap();
}

/// Line 8: connections are bounded, and one that says nothing is closed.
#[tokio::test]
async fn connections_are_bounded_in_number_and_handshakes_in_time() {
    let server = Server::with(&["listen.connections=1", "listen.handshakeSeconds=1"]).await;
    let mut first = TcpStream::connect(server.addresses.tls).await.unwrap();
    // Wait until the first is counted: the second is then one too many.
    metric(&server, "countersign_connections 1").await;
    let mut second = TcpStream::connect(server.addresses.tls).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    metric(
        &server,
        "countersign_connections_closed_total{reason=\"connections\"} 1",
    )
    .await;
    assert_eq!(
        first.read(&mut [0; 1]).await.unwrap_or(0),
        0,
        "closed after the handshake's time"
    );
    server.ask(request().0).await.unwrap();
}
