//! The whole CA over real sockets: the contract, its bounds, its doors. The numbers are the lines of the conformance table in `docs/`.

mod addresses;
mod bounds;
mod contract;
mod doors;
mod readers;
mod side;
mod tls;

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::server::{Server, request};

/// Where the program's own clients call from.
const HERE: &str = "127.0.0.1";
/// Another address of this machine.
const ELSEWHERE: &str = "127.0.0.2";

async fn http_get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.addresses.monitoring).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until the metrics have this line.
async fn metric(server: &Server, line: &str) {
    while !http_get(server, "/metrics").await.lines().any(|found| found == line) {
        tokio::task::yield_now().await;
    }
}

/// A connection to the plaintext door from an address of this machine.
async fn connect_from(server: &Server, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(server.addresses.plaintext.unwrap()).await.unwrap()
}

/// TLS with `h2`, as the mesh's clients begin it.
fn tls_config(
    server: &Server,
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let root = countersign::model::pem::blocks(server.root.as_bytes(), 1).unwrap();
    roots.add(root[0].der.to_vec().into()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn tls(config: Arc<rustls::ClientConfig>, stream: TcpStream) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(config).connect(name, stream).await.unwrap()
}

/// HTTP/2 on the plaintext door, down to its frames.
struct Bare {
    client: SendRequest<Bytes>,
    /// Done when the connection is.
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Bare {
    async fn from(server: &Server, address: &str) -> Self {
        Self::with_window(server, address, 65_535).await
    }

    /// With room for so many bytes of each answer.
    async fn with_window(server: &Server, address: &str, bytes: u32) -> Self {
        let stream = connect_from(server, address).await;
        let mut builder = h2::client::Builder::new();
        let (client, connection) = builder.initial_window_size(bytes).handshake(stream).await.unwrap();
        Self {
            client,
            ended: tokio::spawn(connection),
        }
    }

    /// A call for a certificate whose message is still to come.
    fn begin(&mut self, server: &Server) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let head = http::Request::post("http://ca/istio.v1.auth.IstioCertificateService/CreateCertificate")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", server.token()))
            .body(())
            .unwrap();
        self.client.send_request(head, false).unwrap()
    }

    /// A whole call; what comes back is the head of its answer.
    async fn ask(&mut self, server: &Server) -> http::Response<RecvStream> {
        let (answer, mut body) = self.begin(server);
        body.send_data(message(), true).unwrap();
        answer.await.unwrap()
    }
}

/// A good request as it travels.
fn message() -> Bytes {
    let message = prost::Message::encode_to_vec(&request().0);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat().into()
}

/// The status of a call that was refused at once.
fn status(answer: &http::Response<RecvStream>) -> &str {
    answer.headers()["grpc-status"].to_str().unwrap()
}
