//! The listening sockets and the connections on them: accepted by every worker thread from one shared queue, bounded in number and in the
//! time their handshake takes, drained at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::cork::Corked;
use super::grpc::Peer;
use super::router::Router;
use super::tls::TlsSettings;
use crate::platform::Clock;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Metrics, Seldom};

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Open at once, over all listeners; more are closed as soon as they are accepted.
    pub connections: usize,
    /// Calls at once on one connection.
    pub streams: u32,
    /// All headers of one call, in bytes.
    pub header_list_bytes: u32,
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// For calls in flight to end once the process is asked to stop.
    pub drain: Duration,
}

/// What every connection needs.
pub struct Connections {
    limits: ConnectionLimits,
    room: Arc<Semaphore>,
    router: Router,
    tls: TlsSettings,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    full: Seldom,
    failing: Seldom,
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
        router: Router,
        tls: TlsSettings,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            limits,
            room: Arc::new(Semaphore::new(limits.connections)),
            router,
            tls,
            metrics,
            clock,
            full: Seldom::every(60),
            failing: Seldom::every(60),
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
                Ok((stream, address)) => match self.room.clone().try_acquire_owned() {
                    Ok(room) => {
                        // Boxed: the runtime moves what it is given several times, and this is kilobytes.
                        open.spawn(Box::pin(self.clone().connection(
                            stream,
                            address,
                            transport,
                            room,
                            shutdown.clone(),
                        )));
                    }
                    Err(_) => {
                        self.metrics.connections_refused.inc();
                        if self.full.is_due(self.clock.now()) {
                            tracing::warn!(
                                limit = self.limits.connections,
                                "connections are closed: too many are open"
                            );
                        }
                    }
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

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        transport: Transport,
        room: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) {
        let _room = room;
        let _open = self.metrics.connections.enter();
        // Small answers must not wait for acknowledgements of the one before.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        match transport {
            Transport::Plaintext => {
                self.http2(
                    stream,
                    Peer {
                        address,
                        certificate: None,
                    },
                    shutdown,
                )
                .await;
            }
            Transport::Tls => {
                // Boxed: a connection should not hold on to the room that its handshake took.
                let handshake = Box::pin(self.handshake(stream, address));
                if let Ok(Some((stream, peer))) = tokio::time::timeout(self.limits.handshake, handshake)
                    .await
                    .inspect_err(|_| {
                        self.metrics.handshake_failed("timeout");
                        tracing::debug!(%address, "the TLS handshake took too long");
                    })
                {
                    self.http2(stream, peer, shutdown).await;
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
        let (config, possession) = self
            .tls
            .for_connection()
            .map_err(std::io::Error::other)
            .inspect_err(failed)
            .ok()?;
        let stream = TlsAcceptor::from(config)
            .accept(stream)
            .await
            .inspect_err(failed)
            .ok()?;
        let certificate = possession
            .certificate(stream.get_ref().1.peer_certificates())
            .map(Arc::new);
        Some((stream, Peer { address, certificate }))
    }

    async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        mut shutdown: Shutdown,
    ) {
        let address = peer.address;
        let corked = Corked::new(stream);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(self.limits.header_list_bytes)
            // Requests are a few kilobytes: large windows would only let a caller make us hold more.
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .max_send_buf_size(64 * 1024)
            // As istiod does: a ping after 30 s of silence finds dead peers.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(corked.handle()), self.router.for_peer(peer));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = corked.drive(connection.as_mut()) => ended,
            () = shutdown.asked() => {
                connection.as_mut().graceful_shutdown();
                corked.drive(connection.as_mut()).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "a connection ended with an error");
        }
    }
}
