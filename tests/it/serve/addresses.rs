//! No address takes everything: others still get in.

use tokio::io::AsyncReadExt;

use super::{Bare, ELSEWHERE, HERE, connect_from, metric, status};
use crate::support::server::{Server, request};

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let server = Server::with(&[
        "listen.connections=3",
        "listen.connectionsPerAddress=1",
        "listen.plaintext=127.0.0.1:0",
    ])
    .await;
    let first = connect_from(&server, ELSEWHERE).await;
    metric(&server, "countersign_connections 1").await;
    let mut second = connect_from(&server, ELSEWHERE).await;
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    metric(
        &server,
        "countersign_connections_closed_total{reason=\"connections_per_address\"} 1",
    )
    .await;
    server.ask(request().0).await.unwrap();
    // Its place is free once it leaves.
    drop(first);
    metric(&server, "countersign_connections 0").await;
    Bare::from(&server, ELSEWHERE).await.ask(&server).await;
}

/// Line 36: also where two connections, on two doors, share the calls of an address.
#[tokio::test]
async fn calls_of_one_address_are_bounded() {
    let server = Server::with(&[
        "listen.callsInFlight=2",
        "listen.callsInFlightPerAddress=1",
        "listen.callSeconds=60",
        "listen.plaintext=127.0.0.1:0",
    ])
    .await;
    let mut one = Bare::from(&server, HERE).await;
    let (hanging, mut body) = one.begin(&server);
    metric(&server, "countersign_calls_in_flight 1").await;
    let mut two = Bare::from(&server, HERE).await;
    assert_eq!(status(&two.ask(&server).await), "8", "RESOURCE_EXHAUSTED");
    let over_tls = server.ask(request().0).await.unwrap_err();
    assert_eq!(over_tls.code(), tonic::Code::ResourceExhausted);
    metric(
        &server,
        "countersign_refusals_total{reason=\"calls_in_flight_per_address\",code=\"RESOURCE_EXHAUSTED\"} 2",
    )
    .await;
    let elsewhere = Bare::from(&server, ELSEWHERE).await.ask(&server).await;
    assert!(elsewhere.headers().get("grpc-status").is_none(), "{elsewhere:?}");
    body.send_data(super::message(), true).unwrap();
    assert!(hanging.await.unwrap().headers().get("grpc-status").is_none());
}
