//! The doors themselves: TLS, those who watch, the end, and who may open them.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Bare, HERE, http_get, message, metric, tls, tls_config};
use crate::support::server::{ISSUER, Server, request};
use countersign::platform::SystemClock;

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
            let config = Arc::new(tls_config(&server, provider, version));
            // Twice with one memory of sessions: the second handshake is a full one as well. By address, so without a server name.
            for _ in 0..2 {
                let stream = TcpStream::connect(server.addresses.tls).await.unwrap();
                let stream = tls(config.clone(), stream).await;
                let (_, session) = stream.get_ref();
                assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]), "{suite}");
                assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full), "{suite}");
                assert_eq!(session.peer_certificates().unwrap().len(), 1, "the root is not sent");
            }
        }
    }
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

/// Another cluster whose keys cannot be had is no reason to take this one's CA out of service.
#[tokio::test]
async fn an_issuer_that_is_away_stops_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let issuers = format!(
        "authentication.issuers=[{{issuer: '{ISSUER}', jwksFile: '{}/jwks.json'}}, \
         {{issuer: 'https://away.test', jwksUri: 'https://127.0.0.1:9/keys'}}]",
        directory.path().display()
    );
    let server = Server::at(Arc::new(SystemClock), directory, &[&issuers]).await;
    let ready = http_get(&server, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    server.ask(request().0).await.unwrap();
}

/// Line 40: calls in flight end well, connections are told to go, the sockets close.
#[tokio::test]
async fn a_stop_lets_calls_in_flight_finish() {
    let server = Server::with(&["listen.plaintext=127.0.0.1:0", "logging.level=off"]).await;
    let address = server.addresses.plaintext.unwrap();
    let mut client = Bare::from(&server, HERE).await;
    let (answer, mut body) = client.begin(&server);
    metric(&server, "countersign_calls_in_flight 1").await;
    // A request that never ends at the HTTP door must not keep the process alive.
    let mut half = TcpStream::connect(server.addresses.monitoring).await.unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\nX").await.unwrap();
    server.ask_to_stop();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    body.send_data(message(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut content = answer.into_body();
    assert!(content.data().await.unwrap().unwrap().len() > 500, "a certificate");
    let trailers = content.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    // GOAWAY without an error.
    client.ended.await.unwrap().unwrap();
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

/// Somebody else's certificate, which everyone can see, with a key of one's own (RFC 8446, 4.4.3).
#[derive(Debug)]
struct Stolen(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Stolen {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn whoever_shows_a_certificate_holds_its_key() {
    use rustls::pki_types::pem::PemObject;
    let server = Server::with(&["authentication.clientCertificates=true"]).await;
    let (wish, key) = request();
    let leaf = server.ask(wish).await.unwrap().cert_chain.remove(0);
    let leaf = rustls::pki_types::CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let other = request().1;
    for (key, holds_it) in [(key, true), (other, false)] {
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.pem().as_bytes()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![leaf.clone()], key);
        let provider = rustls::crypto::ring::default_provider();
        let mut config = tls_config(&server, provider, &rustls::version::TLS13);
        config.client_auth_cert_resolver = Arc::new(Stolen(Arc::new(shown)));
        let stream = TcpStream::connect(server.addresses.tls).await.unwrap();
        let stream = tls(Arc::new(config), stream).await;
        // TLS 1.3 clients learn at their first read what the server thinks of their certificate.
        let spoken = async {
            let (mut client, connection) = h2::client::handshake(stream).await?;
            let connection = tokio::spawn(connection);
            let head = http::Request::get("http://ca/").body(()).unwrap();
            let answered = client.send_request(head, true)?.0.await.map(drop);
            connection.abort();
            answered
        };
        assert_eq!(spoken.await.is_ok(), holds_it);
    }
}

/// Sixty-four who hold on to the door of those who watch must not make the process look dead, nor keep it from ending.
#[tokio::test]
async fn the_door_for_those_who_watch_is_nobodys_to_keep() {
    let server = Server::start().await;
    let mut holders = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(server.addresses.monitoring).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        holders.push(stream);
    }
    // Each was answered once, and has lost its place.
    assert!(http_get(&server, "/healthz").await.starts_with("HTTP/1.1 200"));
    for holder in &mut holders {
        *holder = TcpStream::connect(server.addresses.monitoring).await.unwrap();
        holder.write_all(b"GET /healthz").await.unwrap();
    }
    // While they go on talking, a stop is a stop: the first of them would be cut only after seconds.
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(4), server.stop()).await;
    stopped.expect("the door waits for a place").unwrap();
}
