//! The services beside the one for certificates: health and reflection, for anybody.

use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::{ELSEWHERE, HERE};
use crate::support::server::{Server, request};

/// Through the plaintext door, from an address of this machine.
async fn channel(server: &Server, from: &str) -> Channel {
    let uri = format!("http://{}", server.addresses.plaintext.unwrap());
    let endpoint = Endpoint::new(uri).unwrap().local_address(Some(from.parse().unwrap()));
    endpoint.connect().await.unwrap()
}

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.into() }
}

fn list_services() -> ServerReflectionRequest {
    ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    }
}

#[tokio::test]
async fn grpc_health_and_reflection_answer() {
    let server = Server::with(&["listen.plaintext=127.0.0.1:0"]).await;
    let channel = channel(&server, HERE).await;
    let mut health = HealthClient::new(channel.clone());
    for name in ["", "istio.v1.auth.IstioCertificateService"] {
        let status = health.check(service(name)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{name:?}");
    }
    // Strangers may ask, in few bytes.
    let long = service(&"x".repeat(5000));
    assert_eq!(health.check(long).await.unwrap_err().code(), Code::OutOfRange);
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(list_services()))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    assert!(
        list.service
            .iter()
            .any(|service| service.name == "istio.v1.auth.IstioCertificateService"),
        "{list:?}"
    );
    // Line 9: in the clear nobody gets in without a token either.
    let mut client =
        countersign::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient::new(channel);
    let refused = client.create_certificate(request().0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// Watches of one address are bounded, take no place of a certificate or a health check, and last.
#[tokio::test]
async fn watches_are_bounded_in_number_and_last() {
    let server = Server::with(&[
        "listen.plaintext=127.0.0.1:0",
        "listen.callsInFlight=1",
        "listen.callSeconds=1",
        "logging.level=off",
    ])
    .await;
    let mut health = HealthClient::new(channel(&server, HERE).await);
    let mut watches = Vec::new();
    let refused = loop {
        match health.watch(service("")).await {
            Ok(answer) => watches.push(answer.into_inner()),
            Err(status) => break status,
        }
    };
    assert_eq!((watches.len(), refused.code()), (16, Code::ResourceExhausted));
    for watch in &mut watches {
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
    }
    // Others may watch, and nobody's place is taken.
    let mut other = HealthClient::new(channel(&server, ELSEWHERE).await);
    other.watch(service("")).await.unwrap();
    health.check(service("")).await.unwrap();
    server.ask(request().0).await.unwrap();
    // Reflection ends with the time of a call, though its caller could go on asking; a watch sees the end of the server.
    let asking = tokio_stream::once(list_services()).chain(tokio_stream::pending());
    let mut answers = ServerReflectionClient::new(channel(&server, HERE).await)
        .server_reflection_info(asking)
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.unwrap().is_some());
    assert!(answers.message().await.unwrap().is_none());
    server.ask_to_stop();
    for watch in &mut watches {
        let last = watch.message().await.unwrap().unwrap();
        assert_eq!(last.status(), ServingStatus::NotServing);
    }
}

/// Reflection is bounded in number, apart from certificates and watches.
#[tokio::test]
async fn reflection_is_bounded_in_number() {
    let server = Server::with(&[
        "listen.plaintext=127.0.0.1:0",
        "listen.callsInFlight=1",
        "listen.callSeconds=60",
        "logging.level=off",
    ])
    .await;
    let channel = channel(&server, HERE).await;
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut open = Vec::new();
    let refused = loop {
        match reflection.server_reflection_info(tokio_stream::pending()).await {
            Ok(answer) => open.push(answer),
            Err(status) => break status,
        }
    };
    assert_eq!((open.len(), refused.code()), (16, Code::ResourceExhausted));
    HealthClient::new(channel).watch(service("")).await.unwrap();
    server.ask(request().0).await.unwrap();
}
