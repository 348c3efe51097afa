//! The doors: gRPC for proxies, HTTP for those who watch over us, a Unix socket for the admin.
//!
//! Takes: an [`Issuer`] and where to listen. Gives: [`Bound`], whose addresses are the real ones, so that tests bind port 0 and ask. Not
//! here: who may have what.
//!
//! Each worker thread runs a runtime of its own and accepts from the same queue: whoever is idle takes the next connection, and a
//! connection never changes threads. The HTTP door has a thread of its own as well, since strangers reach it; health and the serving
//! certificate live on the caller's runtime.

pub mod admin_door;
mod answer;
mod connection;
mod cork;
mod grpc;
mod health;
mod http_door;
mod limits;
mod listener;
mod patience;
mod router;
mod serving_certificate;
pub mod status;
mod tls;
mod visitors;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

pub use self::connection::Http2Limits;
use self::limits::CallLimits;
pub use self::listener::ConnectionLimits;
use self::listener::{Connections, Transport};
use self::router::Router;
use self::serving_certificate::ServingCertificate;
pub use self::serving_certificate::{ServingError, Source as ServingSource};
use self::tls::Tls;
pub use self::visitors::Quota;
use self::visitors::Visitors;
use crate::issue::Issuer;
use crate::platform::crypto::TlsPolicy;
use crate::platform::shutdown::Shutdown;
use crate::platform::{Clock, worker};
use crate::telemetry::{Metrics, Readiness};

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// TLS, for proxies.
    pub address: SocketAddr,
    /// Plaintext, for proxies; only if asked for.
    pub plaintext: Option<SocketAddr>,
    /// HTTP: metrics, health, readiness.
    pub monitoring: SocketAddr,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// Largest request message, in bytes.
    pub message_bytes: usize,
    /// Calls for certificates at once, over all connections.
    pub calls_in_flight: Quota,
    /// The longest that a call may take, and then its answer to be read.
    pub call: Duration,
    /// Worker threads.
    pub threads: usize,
    /// Whether clients are asked for certificates. Nobody is asked for what would not count: checking costs us, and chains take room.
    pub client_certificates: bool,
    /// Where the serving certificate comes from.
    pub serving: ServingSource,
    /// What TLS takes.
    pub tls: TlsPolicy,
}

/// What the doors need from the rest of the house.
#[derive(Clone)]
pub struct Parts {
    /// The issuing path.
    pub issuer: Arc<Issuer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether we can answer.
    pub readiness: Readiness,
}

/// Why the doors do not open, or closed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("{setting}: cannot listen on {address}: {source}; {}", listen_remedy(source))]
    Listen {
        /// The address's setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the host said.
        source: std::io::Error,
    },
    /// No serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The TLS library takes no such configuration; a fault of ours.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The reflection service's descriptors cannot be read; a fault of ours.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A worker could not be started.
    #[error("cannot start a worker thread: {0}")]
    Worker(std::io::Error),
    /// A worker ended although nobody asked it to.
    #[error("a worker thread ended unexpectedly")]
    WorkerEnded,
    /// Health or the serving certificate was given up although nobody asked for that.
    #[error("the work behind the doors ended unexpectedly")]
    BackgroundEnded,
    /// The HTTP door ended although nobody asked it to.
    #[error("the HTTP door ended unexpectedly")]
    HttpEnded,
}

/// Open sockets, not yet served.
pub struct Bound {
    listeners: Vec<(TcpListener, Transport)>,
    monitoring: TcpListener,
    serving: ServingCertificate,
    router: Router,
    reporter: tonic_health::server::HealthReporter,
    config: Config,
    parts: Parts,
}

impl Bound {
    /// Opens every socket and gets the first serving certificate.
    pub async fn bind(config: Config, parts: Parts) -> Result<Self, ServerError> {
        let mut listeners = vec![(listen("listen.address", config.address)?, Transport::Tls)];
        if let Some(address) = config.plaintext {
            listeners.push((listen("listen.plaintext", address)?, Transport::Plaintext));
        }
        let monitoring = listen("monitoring.address", config.monitoring)?;
        let serving = ServingCertificate::new(
            config.serving.clone(),
            config.tls.clone(),
            parts.issuer.clone(),
            parts.clock.clone(),
        )?;
        serving
            .leaf()
            .into_iter()
            .for_each(|leaf| parts.metrics.certificates.set_serving(leaf));
        let (reporter, health) = tonic_health::server::health_reporter();
        let health = health.max_decoding_message_size(router::SIDE_MESSAGE_BYTES);
        let limits = CallLimits::new(config.call, parts.clock.clone(), parts.metrics.clone());
        let (issuer, clock, metrics) = (parts.issuer.clone(), parts.clock.clone(), parts.metrics.clone());
        let router = Router::new(issuer, clock, metrics, limits, config.message_bytes, health)?;
        Ok(Self {
            listeners,
            monitoring,
            serving,
            router,
            reporter,
            config,
            parts,
        })
    }

    /// Where TLS is served.
    pub fn address(&self) -> SocketAddr {
        self.local(Transport::Tls).unwrap_or(self.config.address)
    }

    /// Where plaintext is served, if it is.
    pub fn plaintext(&self) -> Option<SocketAddr> {
        self.local(Transport::Plaintext)
    }

    /// Where HTTP is served.
    pub fn monitoring(&self) -> SocketAddr {
        self.monitoring.local_addr().unwrap_or(self.config.monitoring)
    }

    fn local(&self, wanted: Transport) -> Option<SocketAddr> {
        self.listeners
            .iter()
            .find(|(_, transport)| *transport == wanted)?
            .0
            .local_addr()
            .ok()
    }

    /// Serves until asked to stop, then drains. The end of any part before that is an error.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), ServerError> {
        let Self {
            listeners,
            monitoring,
            serving,
            router,
            reporter,
            config,
            parts,
        } = self;
        let tls = Tls::new(&config.tls, &serving.watch(), config.client_certificates)?;
        let (metrics, clock) = (parts.metrics.clone(), parts.clock.clone());
        let visitors = Visitors::new(config.connections.open, config.calls_in_flight, metrics.clone());
        let connections = Arc::new(Connections::new(
            config.connections,
            visitors,
            config.call,
            router,
            tls,
            metrics,
            clock,
        ));
        // Health before the first call: nobody is told "ready" before a test signature verified.
        let mut health = health::Health::new(reporter, parts.clone());
        health.check().await;
        let mut background = tokio::task::JoinSet::new();
        background.spawn(health.keep_checking(shutdown.clone()));
        let metrics = parts.metrics.clone();
        background.spawn(serving.keep_fresh(shutdown.clone(), move |leaf| metrics.certificates.set_serving(leaf)));
        // The HTTP door stays open while calls drain: probes should see why we are not ready.
        let (http_stop, http_asked) = crate::platform::shutdown::shutdown();
        let http = start_http(monitoring, parts.clone(), http_asked)?;
        tokio::pin!(http);
        let mut workers = tokio::task::JoinSet::new();
        for index in 0..config.threads.max(1) {
            let ended = start_worker(index, &listeners, connections.clone(), shutdown.clone())?;
            workers.spawn(ended);
        }
        drop(listeners);
        let mut asked = shutdown.clone();
        let result = tokio::select! {
            biased;
            () = asked.asked() => {
                parts.readiness.await_condition("running", "the process was asked to stop");
                while workers.join_next().await.is_some() {}
                Ok(())
            }
            _ = workers.join_next() => Err(ServerError::WorkerEnded),
            () = &mut http => Err(ServerError::HttpEnded),
            _ = background.join_next() => Err(ServerError::BackgroundEnded),
        };
        http_stop.stop();
        if result.is_ok() {
            http.await;
        }
        result
    }
}

/// A listening socket with a queue long enough for a storm of new connections.
fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    let open = || {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit both: peers that vanished without a word are found, and small answers do not wait for acknowledgements
        // of the one before.
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        socket.bind(address)?;
        socket.listen(4096)?.into_std()
    };
    open().map_err(|source| ServerError::Listen {
        setting,
        address,
        source,
    })
}

fn listen_remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => "end who listens there, or give another port",
        ErrorKind::AddrNotAvailable => "give an address of this host, or 0.0.0.0 or [::] for all of them",
        ErrorKind::PermissionDenied => "give a port from 1024 on, or the right to use lower ones",
        _ => "give another address",
    }
}

/// Starts one worker; the future ends when the worker does.
fn start_worker(
    index: usize,
    listeners: &[(TcpListener, Transport)],
    connections: Arc<Connections>,
    shutdown: Shutdown,
) -> Result<impl Future<Output = ()> + Send + 'static, ServerError> {
    let sockets: Vec<_> = listeners
        .iter()
        .map(|(listener, transport)| Ok((listener.try_clone()?, *transport)))
        .collect::<std::io::Result<_>>()
        .map_err(ServerError::Worker)?;
    worker::start(format!("worker-{index}"), async move {
        let mut doors = tokio::task::JoinSet::new();
        for (socket, transport) in sockets {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => drop(doors.spawn(connections.clone().serve(socket, transport, shutdown.clone()))),
                Err(error) => return tracing::error!(%error, "a worker cannot use its socket"),
            }
        }
        // One that ends before it is asked to ends the worker, and that is noticed.
        while doors.join_next().await.is_some() && shutdown.is_asked() {}
    })
    .map_err(ServerError::Worker)
}

/// Starts the HTTP door; the future ends when it does.
fn start_http(
    listener: TcpListener,
    parts: Parts,
    shutdown: Shutdown,
) -> Result<impl Future<Output = ()> + Send + 'static, ServerError> {
    worker::start("http".into(), async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => http_door::serve(listener, parts, shutdown).await,
            Err(error) => tracing::error!(%error, "the HTTP door cannot use its socket"),
        }
    })
    .map_err(ServerError::Worker)
}
