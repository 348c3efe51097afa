//! The whole CA over real sockets: the contract, its bounds, its doors. The numbers are the lines of the conformance table in `docs/`.

use std::sync::Arc;

use countersign::agent::{ClientIdentity, check_answer};
use countersign::model::Identity;
use countersign::platform::{Clock, SystemClock};
use countersign::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use crate::support::server::{IDENTITY, Server, request};

fn lifetime(answer: &IstioCertificateResponse) -> i64 {
    let leaf = countersign::model::pem::blocks(answer.cert_chain[0].as_bytes(), 1).unwrap();
    let validity = countersign::model::CaCertificate::parse(&leaf[0].der)
        .unwrap()
        .validity();
    validity.not_after.since(SystemClock.now())
}

fn metadata(key: &str, value: Kind) -> Option<prost_types::Struct> {
    let value = prost_types::Value { kind: Some(value) };
    Some(prost_types::Struct {
        fields: [(key.to_owned(), value)].into(),
    })
}

/// Lines 25 to 32, 34: what an answer is made of.
#[tokio::test]
async fn an_answer_is_leaf_then_bundle() {
    let server = Server::start().await;
    let (wish, key) = request();
    let answer = server.ask(wish).await.unwrap();
    assert_eq!(answer.cert_chain.len(), 2);
    assert_eq!(answer.cert_chain[1], server.root);
    assert!(
        answer
            .cert_chain
            .iter()
            .all(|element| element.ends_with("-----END CERTIFICATE-----\n"))
    );
    check_answer(
        &answer.cert_chain,
        &key,
        &Identity::parse(IDENTITY).unwrap(),
        SystemClock.now(),
    )
    .unwrap();
    let again = server.ask(request().0).await.unwrap();
    assert_eq!(again.cert_chain[1], answer.cert_chain[1]);
    assert_ne!(again.cert_chain[0], answer.cert_chain[0]);
}

/// Line 23: lifetimes.
#[tokio::test]
async fn lifetimes_are_default_exact_or_refused() {
    let server = Server::start().await;
    for (asked, expected) in [
        (0, Ok(86_400)),
        (-1, Ok(86_400)),
        (i64::MIN, Ok(86_400)),
        (60, Ok(60)),
        (3_600, Ok(3_600)),
        (7_776_000, Ok(7_776_000)),
        (
            59,
            Err(
                "CSR signing error (requested TTL 59 s is less than the min allowed TTL 60 s: its owner would renew without end)",
            ),
        ),
        (
            7_776_001,
            Err("CSR signing error (requested TTL 7776001 s is greater than the max allowed TTL 7776000 s)"),
        ),
        (
            i64::MAX,
            Err(
                "CSR signing error (requested TTL 9223372036854775807 s is greater than the max allowed TTL 7776000 s)",
            ),
        ),
    ] {
        let answer = server
            .ask(IstioCertificateRequest {
                validity_duration: asked,
                ..request().0
            })
            .await;
        match expected {
            Ok(seconds) => {
                let got = lifetime(&answer.unwrap());
                assert!((seconds - 1..=seconds).contains(&got), "{asked}: {got}");
            }
            Err(message) => {
                let status = answer.unwrap_err();
                assert_eq!(
                    (status.code(), status.message()),
                    (Code::InvalidArgument, message),
                    "{asked}"
                );
            }
        }
    }
}

/// Lines 19, 20, 22: metadata.
#[tokio::test]
async fn impersonation_is_refused_and_other_metadata_ignored() {
    let server = Server::start().await;
    let text = |text: &str| Kind::StringValue(text.into());
    for (key, value) in [
        ("CertSigner", text("")),
        ("CertSigner", text("signer1")),
        ("Unknown", Kind::NumberValue(1.0)),
        ("ImpersonatedIdentity", text("")),
        ("impersonatedidentity", text("spiffe://cluster.local/ns/x/sa/y")),
    ] {
        let wish = IstioCertificateRequest {
            metadata: metadata(key, value),
            ..request().0
        };
        server.ask(wish).await.unwrap();
    }
    for value in [
        text("spiffe://cluster.local/ns/x/sa/y"),
        text(IDENTITY),
        text("junk"),
        Kind::NullValue(0),
        Kind::NumberValue(1.0),
        Kind::BoolValue(true),
        Kind::ListValue(prost_types::ListValue::default()),
    ] {
        let wish = IstioCertificateRequest {
            metadata: metadata("ImpersonatedIdentity", value.clone()),
            ..request().0
        };
        let status = server.ask(wish).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{value:?}");
        assert_eq!(status.message(), "request impersonation authentication failure");
    }
}

/// Lines 10, 11, 13: where the token is looked for.
#[tokio::test]
async fn the_first_bearer_token_counts() {
    let server = Server::start().await;
    let good = server.token();
    let bearer = format!("Bearer {good}");
    let (lower, basic, junk) = (
        format!("bearer {good}"),
        "Basic dXNlcg==".to_owned(),
        "Bearer junk".to_owned(),
    );
    let expired = format!("Bearer {}", server.token_for(-30));
    for (headers, accepted) in [
        (vec![&bearer], true),
        (vec![&lower], true),
        (vec![&basic, &bearer], true),
        (vec![], false),
        (vec![&basic], false),
        (vec![&junk, &bearer], false),
        (vec![&good], false),
        (vec![&expired], false),
    ] {
        let headers: Vec<&str> = headers.into_iter().map(String::as_str).collect();
        match server.call(&headers, request().0).await {
            Ok(_) => assert!(accepted, "{headers:?}"),
            Err(status) => {
                assert!(!accepted, "{headers:?}: {status}");
                assert_eq!(status.code(), Code::Unauthenticated);
                assert_eq!(status.message(), "request authenticate failure");
            }
        }
    }
    for (cluster, accepted) in [
        (vec![""], true),
        (vec!["Kubernetes"], true),
        (vec!["a", "b"], true),
        (vec!["other"], false),
    ] {
        let mut call = Request::new(request().0);
        call.metadata_mut().insert("authorization", bearer.parse().unwrap());
        for value in &cluster {
            call.metadata_mut().append("clusterid", value.parse().unwrap());
        }
        let answer = server.client(None).create_certificate(call).await;
        assert_eq!(answer.is_ok(), accepted, "{cluster:?}");
    }
}

/// Lines 5 and 12: client certificates.
#[tokio::test]
async fn a_client_certificate_renews_itself_and_never_blocks_a_token() {
    let server = Server::with(&["authentication.clientCertificates=true"]).await;
    let (wish, key) = request();
    let answer = server.ask(wish).await.unwrap();
    let with_root = answer.cert_chain.concat();
    let own = || {
        Some(ClientIdentity {
            chain: with_root.as_bytes(),
            key: Box::leak(Box::new(key.pem())).as_bytes(),
        })
    };
    // No token: the certificate decides, even with the root at the end of its chain, as Istio's agent sends it.
    server.client(own()).create_certificate(request().0).await.unwrap();
    // An expired token does not hurt it; a wrong one is final.
    for (token, accepted) in [(server.token_for(-30), true), ("junk".to_owned(), false)] {
        let mut call = Request::new(request().0);
        call.metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        assert_eq!(server.client(own()).create_certificate(call).await.is_ok(), accepted);
    }
    // A certificate of somebody else: no help without a token, no harm with one.
    let stranger = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let (chain, key) = (stranger.cert.pem(), stranger.signing_key.serialize_pem());
    let foreign = || {
        Some(ClientIdentity {
            chain: chain.as_bytes(),
            key: key.as_bytes(),
        })
    };
    let refused = server
        .client(foreign())
        .create_certificate(request().0)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut call = Request::new(request().0);
    call.metadata_mut()
        .insert("authorization", format!("Bearer {}", server.token()).parse().unwrap());
    server.client(foreign()).create_certificate(call).await.unwrap();
    // Where it is not switched on, it counts for nothing.
    let strict = Server::start().await;
    let (wish, key) = request();
    let chain = strict.ask(wish).await.unwrap().cert_chain.concat();
    let own = ClientIdentity {
        chain: chain.as_bytes(),
        key: Box::leak(Box::new(key.pem())).as_bytes(),
    };
    let refused = strict
        .client(Some(own))
        .create_certificate(request().0)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// Lines 35 and 36: a call that never ends is ended, and one too many is refused at once.
#[tokio::test]
async fn calls_are_bounded_in_number_and_time() {
    let server = Server::with(&[
        "listen.callsInFlight=1",
        "listen.callSeconds=1",
        "listen.plaintext=127.0.0.1:0",
    ])
    .await;
    let stream = TcpStream::connect(server.addresses.plaintext.unwrap()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let head = || {
        http::Request::post("http://ca/istio.v1.auth.IstioCertificateService/CreateCertificate")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap()
    };
    // Headers, and never a body.
    let (hanging, _body) = client.send_request(head(), false).unwrap();
    let (second, mut body) = client.send_request(head(), false).unwrap();
    body.send_data(bytes::Bytes::new(), true).unwrap();
    let status = |answer: &http::Response<h2::RecvStream>| answer.headers()["grpc-status"].to_str().unwrap().to_owned();
    assert_eq!(status(&second.await.unwrap()), "8", "RESOURCE_EXHAUSTED");
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
    while !http_get(&server, "/metrics")
        .await
        .contains("\ncountersign_connections 1\n")
    {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(server.addresses.tls).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    assert_eq!(
        first.read(&mut [0; 1]).await.unwrap_or(0),
        0,
        "closed after the handshake's time"
    );
    server.ask(request().0).await.unwrap();
}

/// Lines 1, 2, 4, 6: TLS of the listener.
#[tokio::test]
async fn tls_is_1_2_or_1_3_with_h2_and_no_resumption() {
    let server = Server::start().await;
    for (version, suites) in [
        (
            &rustls::version::TLS13,
            vec![
                "TLS13_AES_128_GCM_SHA256",
                "TLS13_AES_256_GCM_SHA384",
                "TLS13_CHACHA20_POLY1305_SHA256",
            ],
        ),
        (
            &rustls::version::TLS12,
            vec![
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            ],
        ),
    ] {
        for suite in suites {
            let mut provider = rustls::crypto::ring::default_provider();
            provider
                .cipher_suites
                .retain(|known| format!("{:?}", known.suite()) == suite);
            let mut roots = rustls::RootCertStore::empty();
            let root = countersign::model::pem::blocks(server.root.as_bytes(), 1).unwrap();
            roots.add(root[0].der.to_vec().into()).unwrap();
            let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec()];
            let config = Arc::new(config);
            // Twice with one memory of sessions: the second handshake is a full one as well. By address, so without a server name.
            for _ in 0..2 {
                let stream = TcpStream::connect(server.addresses.tls).await.unwrap();
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let stream = tokio_rustls::TlsConnector::from(config.clone())
                    .connect(name, stream)
                    .await
                    .unwrap();
                let (_, session) = stream.get_ref();
                assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]), "{suite}");
                assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full), "{suite}");
                assert_eq!(session.peer_certificates().unwrap().len(), 1, "the root is not sent");
            }
        }
    }
}

async fn http_get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.addresses.monitoring).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn those_who_watch_are_told() {
    let server = Server::start().await;
    server.ask(request().0).await.unwrap();
    server.call(&[], request().0).await.unwrap_err();
    let metrics = http_get(&server, "/metrics").await;
    for line in [
        "citadel_server_csr_count 2",
        "citadel_server_success_cert_issuance_count 1",
        "citadel_server_authentication_failure_count 1",
        "countersign_grants_total{method=\"offline_jwt\"} 1",
        "countersign_refusals_total{reason=\"no_credentials\",code=\"UNAUTHENTICATED\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing in\n{metrics}"
        );
    }
    for kind in ["root", "signer", "serving"] {
        assert!(
            metrics.contains(&format!(
                "countersign_certificate_expiry_timestamp_seconds{{kind=\"{kind}\""
            )),
            "{kind}"
        );
    }
    assert!(http_get(&server, "/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = http_get(&server, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("[ok] signing") && ready.contains("[ok] token-keys"),
        "{ready}"
    );
}

/// Whoever reaches the port learns the kind of trouble; the path, and what the host said, is for the log.
#[tokio::test]
async fn strangers_are_told_no_paths() {
    let server = Server::with(&[
        "authentication.issuers=[{issuer: 'https://hidden.test', jwksUri: 'https://127.0.0.1:9/hidden'}]",
    ])
    .await;
    let ready = http_get(&server, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let told = "[failed] token-keys: a token issuer was not reached (the log says more)";
    assert!(ready.lines().any(|line| line == told), "{ready}");
    for hidden in ["hidden", "127.0.0.1", "os error"] {
        assert!(!ready.contains(hidden), "{ready}");
    }
}

#[tokio::test]
async fn grpc_health_and_reflection_answer() {
    let server = Server::with(&["listen.plaintext=127.0.0.1:0"]).await;
    let uri = format!("http://{}", server.addresses.plaintext.unwrap());
    let channel = tonic::transport::Endpoint::new(uri).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in ["", "istio.v1.auth.IstioCertificateService"] {
        let asked = tonic_health::pb::HealthCheckRequest {
            service: service.into(),
        };
        let status = health.check(asked).await.unwrap().into_inner().status();
        assert_eq!(
            status,
            tonic_health::pb::health_check_response::ServingStatus::Serving,
            "{service:?}"
        );
    }
    // Strangers may ask, in few bytes.
    let asked = tonic_health::pb::HealthCheckRequest {
        service: "x".repeat(5000),
    };
    assert_eq!(health.check(asked).await.unwrap_err().code(), Code::OutOfRange);
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let asked = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(asked))
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

/// Line 40: calls in flight end well, connections are told to go, the sockets close.
#[tokio::test]
async fn a_stop_lets_calls_in_flight_finish() {
    let server = Server::with(&["listen.plaintext=127.0.0.1:0", "logging.level=off"]).await;
    let address = server.addresses.plaintext.unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let head = http::Request::post("http://ca/istio.v1.auth.IstioCertificateService/CreateCertificate")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", server.token()))
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(head, false).unwrap();
    while !http_get(&server, "/metrics")
        .await
        .contains("\ncountersign_calls_in_flight 1\n")
    {
        tokio::task::yield_now().await;
    }
    // A request that never ends at the HTTP door must not keep the process alive.
    let mut half = TcpStream::connect(server.addresses.monitoring).await.unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\nX").await.unwrap();
    server.ask_to_stop();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let message = prost::Message::encode_to_vec(&request().0);
    let frame = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    body.send_data(frame.into(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut content = answer.into_body();
    assert!(content.data().await.unwrap().unwrap().len() > 500, "a certificate");
    let trailers = content.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    // GOAWAY without an error.
    ended.await.unwrap().unwrap();
    server.stop().await.unwrap();
}

/// Two processes in one directory would make two different sets of certificates; two on one port would share their callers.
#[tokio::test]
async fn a_directory_and_a_port_belong_to_one_process() {
    let server = Server::start().await;
    let directory = server.directory.path().display().to_string();
    let settings = |ca: &str, port: u16| {
        format!(
            "listen: {{address: '127.0.0.1:{port}'}}\nmonitoring: {{address: '127.0.0.1:0'}}\n\
             ca: {{type: self-signed, selfSigned: {{directory: '{directory}/{ca}'}}}}\n\
             authentication: {{issuers: [{{issuer: 'https://issuer.test', jwksFile: '{directory}/jwks.json'}}]}}\n"
        )
    };
    for (ca, port, message) in [
        ("ca", 0, "is in use by another countersign process"),
        ("other", server.addresses.tls.port(), "cannot listen on 127.0.0.1:"),
    ] {
        let settings = countersign::app::settings::Settings::parse(&settings(ca, port), "test").unwrap();
        let config = countersign::app::config::Config::check(&settings, &std::collections::BTreeMap::new()).unwrap();
        let error = countersign::app::serve::App::open_quietly(&config).await.err().unwrap();
        assert!(format!("{error:#}").contains(message), "{error:#}");
    }
}
