//! The listening sockets and the connections on them: accepted by every worker thread from one shared queue, bounded in number and in the
//! time until the peer speaks, drained at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::connection::{self, Http2Limits};
use super::grpc::Peer;
use super::patience::{Impatience, Patience};
use super::router::Router;
use super::tls::Tls;
use super::visitors::{Full, Quota, Visitor, Visitors};
use crate::model::ClientCertificate;
use crate::platform::Clock;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Metrics, Seldom};

/// Longest client certificate chain that is looked at.
const MAX_CLIENT_CHAIN: usize = 10;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Open at once, over all listeners; more are closed as soon as they are accepted.
    pub open: Quota,
    /// On each of them.
    pub http2: Http2Limits,
    /// From the TCP connection to the first words of HTTP/2, with the TLS handshake in between.
    pub handshake: Duration,
    /// For calls in flight to end once the process is asked to stop.
    pub drain: Duration,
}

/// What every connection needs.
pub struct Connections {
    limits: ConnectionLimits,
    visitors: Arc<Visitors>,
    /// The longest that an answer waits for its reader.
    reader: Duration,
    router: Router,
    tls: Tls,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    full: Seldom,
    failing: Seldom,
    crowded: Seldom,
}

/// How a listening socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS.
    Tls,
    /// Bare HTTP/2, only where the administrator asked for it.
    Plaintext,
}

impl Connections {
    /// Connections under these bounds.
    pub fn new(
        limits: ConnectionLimits,
        visitors: Visitors,
        reader: Duration,
        router: Router,
        tls: Tls,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            limits,
            visitors: Arc::new(visitors),
            reader,
            router,
            tls,
            metrics,
            clock,
            full: Seldom::every(60),
            failing: Seldom::every(60),
            crowded: Seldom::every(60),
        }
    }

    /// Accepts until asked to stop, then lets every connection finish its calls, for as long as the limit says.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, transport: Transport, mut shutdown: Shutdown) {
        let mut open = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.asked() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => match self.visitors.enter(address.ip()) {
                    Ok(visitor) => {
                        let first_words = Instant::now() + self.limits.handshake;
                        // Boxed: the runtime moves what it is given several times, and this is kilobytes.
                        open.spawn(Box::pin(self.clone().connection(
                            stream,
                            address,
                            transport,
                            visitor,
                            first_words,
                            shutdown.clone(),
                        )));
                    }
                    Err(full) => self.refuse(full, address),
                },
                // Out of descriptors, or the peer is gone already: nothing to do but go on, a little later.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while open.try_join_next().is_some() {}
        }
        drop(listener);
        let finished = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.drain, finished).await.is_err() {
            tracing::warn!(after = ?self.limits.drain, "connections were cut that did not end in time");
        }
    }

    fn refuse(&self, full: Full, address: SocketAddr) {
        let now = self.clock.now();
        match full {
            Full::Total => {
                self.metrics.connection_closed("connections");
                if self.full.is_due(now) {
                    tracing::warn!(
                        limit = self.limits.open.total,
                        "connections are closed: too many are open"
                    );
                }
            }
            Full::Address => {
                self.metrics.connection_closed("connections_per_address");
                if self.crowded.is_due(now) {
                    tracing::warn!(
                        address = %address.ip().to_canonical(),
                        limit = self.limits.open.per_address,
                        "connections are closed: too many of one address are open; if many callers share it, raise listen.connectionsPerAddress"
                    );
                }
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        transport: Transport,
        visitor: Arc<Visitor>,
        first_words: Instant,
        shutdown: Shutdown,
    ) {
        let patience = Patience::new(first_words, self.reader, visitor.unread.clone());
        match transport {
            Transport::Plaintext => {
                let peer = Peer {
                    address,
                    certificate: None,
                };
                self.http2(stream, peer, visitor, patience, shutdown).await;
            }
            Transport::Tls => {
                // Boxed: a connection should not hold on to the room that its handshake took.
                let handshake = Box::pin(self.handshake(stream, address));
                if let Ok(Some((stream, peer))) =
                    tokio::time::timeout_at(first_words, handshake).await.inspect_err(|_| {
                        self.metrics.handshake_failed("timeout");
                        tracing::debug!(%address, "the TLS handshake took too long");
                    })
                {
                    self.http2(stream, peer, visitor, patience, shutdown).await;
                }
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(tokio_rustls::server::TlsStream<TcpStream>, Peer)> {
        let failed = |error: &std::io::Error| {
            self.metrics.handshake_failed("tls");
            // A port that is only knocked at, as probes do, tells nobody anything.
            let is_knock = error.kind() == std::io::ErrorKind::UnexpectedEof;
            match !is_knock && self.failing.is_due(self.clock.now()) {
                true => {
                    tracing::info!(%address, %error, "a TLS handshake failed; further ones of this minute are told at level debug only");
                }
                false => tracing::debug!(%address, %error, "the TLS handshake failed"),
            }
        };
        let stream = self.tls.accept(stream).await.inspect_err(failed).ok()?;
        // Proven to be the peer's by the handshake; whether it counts is asked at every call.
        let chain = stream.get_ref().1.peer_certificates();
        let leaf = chain
            .filter(|chain| chain.len() <= MAX_CLIENT_CHAIN)
            .and_then(<[_]>::first);
        let certificate = leaf.map(|leaf| Arc::new(ClientCertificate { leaf: leaf.clone() }));
        Some((stream, Peer { address, certificate }))
    }

    async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        visitor: Arc<Visitor>,
        patience: Patience,
        shutdown: Shutdown,
    ) {
        let address = peer.address;
        let service = self.router.for_peer(peer, visitor);
        let Err(error) = connection::serve(stream, service, self.limits.http2, patience, shutdown).await else {
            return;
        };
        match error.downcast_ref() {
            Some(Impatience::Silent) => self.metrics.handshake_failed("preface"),
            Some(Impatience::Unread) => self.metrics.connection_closed("unread_answers"),
            None => {}
        }
        tracing::debug!(%address, %error, "a connection ended with an error");
    }
}
