//! The callers: HTTP/2 over TLS 1.3, as lean as can be, since they must not need more CPU than the server does.
//!
//! Takes: prepared calls. Gives: how long they took, how many failed, and some answers, unread. Not here: judging those answers.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::call::Call;
use crate::machine::process_cpu;

/// The only method that is called.
const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// One answer in so many is kept, to be judged when the clock has stopped.
const SAMPLE: usize = 50;
/// Each may hold some ten thousand ports; a closed connection keeps its port for a minute.
const SOURCES: usize = 16;
/// Connections that are being opened at any time.
const HANDSHAKES: usize = 16;

/// What it takes to call one server.
#[derive(Clone)]
pub struct Caller {
    door: SocketAddr,
    tls: TlsConnector,
    name: ServerName<'static>,
    uri: Uri,
    connections: Arc<AtomicUsize>,
}

/// An open connection.
pub type Line = SendRequest<Bytes>;

/// What came of some calls.
pub struct Outcome {
    /// How many were made.
    pub calls: usize,
    /// From the first to the last.
    pub wall: Duration,
    /// Our own CPU time.
    pub load: Duration,
    /// Microseconds of each.
    pub latencies: Vec<u32>,
    /// Every so many calls, the call and the body of its answer.
    pub sample: Vec<(Call, Bytes)>,
}

impl Caller {
    /// Trusts the root in `root_file`, and nothing else, for the server at `door`.
    pub fn new(door: SocketAddr, root_file: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(root_file)? {
            roots.add(root?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            door,
            tls: TlsConnector::from(Arc::new(config)),
            name: ServerName::from(door.ip()),
            uri: Uri::builder()
                .scheme("https")
                .authority(door.to_string())
                .path_and_query(PATH)
                .build()?,
            connections: Arc::default(),
        })
    }

    /// Opens `count` connections, each driven by a task of its own.
    pub async fn lines(&self, count: usize) -> Result<Vec<Line>> {
        let mut opening = JoinSet::new();
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            while opening.len() < HANDSHAKES.min(count - lines.len()) {
                let caller = self.clone();
                opening.spawn(async move {
                    let (line, connection) = caller.connect().await?;
                    tokio::spawn(connection);
                    line.ready().await.context("waiting for the server's settings")
                });
            }
            lines.push(opening.join_next().await.context("no connection is being opened")???);
        }
        Ok(lines)
    }

    /// Makes all calls over these connections, `in_flight` at a time, spread evenly.
    pub async fn warm(&self, lines: &[Line], in_flight: usize, calls: Vec<Call>) -> Result<Outcome> {
        let (caller, lines) = (self.clone(), Arc::<[Line]>::from(lines));
        spread(in_flight, calls, move |number, call| {
            let line = lines.get(number % lines.len()).cloned();
            let uri = caller.uri.clone();
            async move { exchange(line.context("no connection")?, uri, call).await }
        })
        .await
    }

    /// Makes all calls, each over a connection of its own, `in_flight` at a time.
    pub async fn cold(&self, in_flight: usize, calls: Vec<Call>) -> Result<Outcome> {
        let caller = self.clone();
        spread(in_flight, calls, move |_, call| {
            let caller = caller.clone();
            async move {
                let (line, connection) = caller.connect().await?;
                // The exchange owns the only handle: when it is done, the connection closes in order, and that belongs to the cost.
                let (answer, closed) = tokio::join!(exchange(line, caller.uri, call), connection);
                closed?;
                answer
            }
        })
        .await
    }

    async fn connect(&self) -> Result<(Line, Connection<TlsStream<TcpStream>>)> {
        let socket = TcpSocket::new_v4()?;
        if self.door.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let number = self.connections.fetch_add(1, Ordering::Relaxed) % SOURCES;
            socket.bind(SocketAddr::from(([127, 0, 0, 1 + number as u8], 0)))?;
        }
        let stream = socket.connect(self.door).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let stream = self
            .tls
            .connect(self.name.clone(), stream)
            .await
            .context("TLS handshake")?;
        ensure!(
            stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            "the server does not offer h2"
        );
        Ok(h2::client::Builder::new().enable_push(false).handshake(stream).await?)
    }
}

/// Keeps `in_flight` calls on their way until there are none left.
async fn spread<F, A>(in_flight: usize, calls: Vec<Call>, make: F) -> Result<Outcome>
where
    F: Fn(usize, Call) -> A + Clone + Send + 'static,
    A: Future<Output = Result<Bytes>> + Send,
{
    let calls = Arc::<[Call]>::from(calls);
    let next = Arc::new(AtomicUsize::new(0));
    let (start, load_before) = (Instant::now(), process_cpu());
    let workers: Vec<_> = (0..in_flight.min(calls.len()))
        .map(|_| {
            let (calls, next, make) = (calls.clone(), next.clone(), make.clone());
            tokio::spawn(async move {
                let (mut latencies, mut sample) = (Vec::new(), Vec::new());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(call) = calls.get(number) else { break };
                    let sent = Instant::now();
                    let body = make(number, call.clone())
                        .await
                        .with_context(|| format!("call {number}"))?;
                    latencies.push(sent.elapsed().as_micros() as u32);
                    if number.is_multiple_of(SAMPLE) {
                        sample.push((call.clone(), body));
                    }
                }
                anyhow::Ok((latencies, sample))
            })
        })
        .collect();
    let mut outcome = Outcome {
        calls: calls.len(),
        wall: Duration::ZERO,
        load: Duration::ZERO,
        latencies: Vec::with_capacity(calls.len()),
        sample: Vec::new(),
    };
    for worker in workers {
        let (latencies, sample) = worker.await??;
        outcome.latencies.extend(latencies);
        outcome.sample.extend(sample);
    }
    outcome.wall = start.elapsed();
    outcome.load = process_cpu() - load_before;
    Ok(outcome)
}

/// One call; whatever is not OK is an error.
async fn exchange(line: Line, uri: Uri, call: Call) -> Result<Bytes> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(AUTHORIZATION, call.authorization);

    let (answer, mut sending) = line.ready().await?.send_request(request, false)?;
    sending.send_data(call.message, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    match status(&trailers) {
        Some(b"0") => Ok(message.freeze()),
        _ => bail!("HTTP {}, {trailers:?}", head.status),
    }
}

fn status(trailers: &HeaderMap) -> Option<&[u8]> {
    Some(trailers.get("grpc-status")?.as_bytes())
}
