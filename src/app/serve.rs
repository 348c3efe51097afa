//! `serve`, read top to bottom: from a checked configuration to open doors.

use std::net::SocketAddr;
use std::sync::Arc;

use super::authenticators::{self, Background};
use super::ca::authority_config;
use super::config::{self, Config};
use crate::authority::{self, Authority, CaSnapshot, Steering};
use crate::cluster::ApiServer;
use crate::issue::plan::Profile;
use crate::issue::{Issuer, Policy};
use crate::platform::shutdown::{Shutdown, shutdown, signal_to_stop};
use crate::platform::{Clock, SystemClock, SystemRandom, process, worker};
use crate::roots::Distribution;
use crate::server::{self, Bound, ConnectionLimits, Parts};
use crate::telemetry::{Metrics, Readiness, log};
use anyhow::Context;
use tokio::runtime::Handle;

/// What an [`App`] sees of the world and shows to it.
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whether we can do our job.
    pub readiness: Readiness,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Outside {
    /// The host's clock; nothing counted yet.
    pub fn of_host() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// Another clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let readiness = Readiness::default();
        let metrics = Arc::new(Metrics::new(clock.clone(), &readiness));
        Self {
            clock,
            readiness,
            metrics,
        }
    }
}

/// The program `serve`: logs, no core dumps, the CA, until a signal asks it to stop.
pub fn run(config: &Config, new_root: bool) -> anyhow::Result<()> {
    let outside = Outside::of_host();
    let _log = log::start(&config.logging, &outside.metrics)?;
    if let Err(error) = process::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps cannot be forbidden: one would hold the CA key");
    }
    if let Some(files) = process::raise_file_limit()
        && usize::try_from(files).is_ok_and(|files| files < config.listen.connections + 100)
    {
        let connections = config.listen.connections;
        tracing::warn!(
            files,
            connections,
            "the process may open fewer files than listen.connections allows connections: raise its limit or lower the setting"
        );
    }
    runtime()?.block_on(async {
        let app = App::open(config, new_root, outside).await?;
        let (trigger, asked) = shutdown();
        let serving = app.run(asked);
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended,
            signal = signal_to_stop() => tracing::info!(signal = signal?, "asked to stop: finishing the calls in flight"),
        }
        trigger.stop();
        serving.await
    })
}

/// The runtime of what works behind the doors: token reviews, keys, the serving certificate, health. The doors have threads of their own.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

/// A CA whose doors are open, not yet serving.
pub struct App {
    bound: Bound,
    authority: Authority,
    background: Background,
    roots: Option<Distribution>,
}

impl App {
    /// Opens the CA, every way to authenticate, and the doors. `new_root` lets a lost self-signed root be replaced.
    pub async fn open(config: &Config, new_root: bool, outside: Outside) -> anyhow::Result<Self> {
        let Outside {
            clock,
            readiness,
            metrics,
        } = outside;
        let mut authority = authority::open(&authority_config(config, new_root), clock.clone(), metrics.clone())?;
        for warning in &authority.warnings {
            tracing::warn!(source = %authority.source, "{warning}");
        }
        match authority.signing() {
            Ok(ca) => tracing::info!(
                source = %authority.source,
                signer = ca.signer().subject_text(),
                key = %ca.key().algorithm(),
                not_after = %ca.validity().not_after,
                roots = ca.bundle().roots().len(),
                generation = ca.generation(),
                "the CA is open"
            ),
            Err(why) => tracing::error!(source = %authority.source, %why, "the CA is open, and cannot sign"),
        }
        let roots = roots(config, &mut authority, &clock, &metrics).await?;
        let (authenticators, background) = authenticators::open(config, clock.clone(), &metrics, &readiness)
            .await
            .context("authentication")?;
        let issuer = Arc::new(Issuer::new(
            authenticators,
            authority.watch(),
            policy(&config.certificates),
            clock.clone(),
            Arc::new(SystemRandom::default()),
            metrics.clone(),
        ));
        let parts = Parts {
            issuer,
            clock,
            metrics,
            readiness,
        };
        let bound = Bound::bind(server_config(config), parts).await?;
        tracing::info!(
            address = %bound.address(),
            plaintext = bound.plaintext().map(tracing::field::display),
            monitoring = %bound.monitoring(),
            "listening"
        );
        Ok(Self {
            bound,
            authority,
            background,
            roots,
        })
    }

    /// As [`Self::open`], with the host's clock and without a log.
    pub async fn open_quietly(config: &Config) -> anyhow::Result<Self> {
        Self::open(config, false, Outside::of_host()).await
    }

    /// Where the doors are: the real addresses, also where port 0 was asked for.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            tls: self.bound.address(),
            plaintext: self.bound.plaintext(),
            monitoring: self.bound.monitoring(),
        }
    }

    /// The CA as it stands.
    pub fn ca(&self) -> anyhow::Result<Arc<CaSnapshot>> {
        Ok(self.authority.signing()?)
    }

    /// The admin's hand on the CA, once it is run.
    pub fn steering(&self) -> Steering {
        self.authority.steering()
    }

    /// Serves until asked to stop, then drains.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            bound,
            authority,
            background,
            roots,
        } = self;
        background.start(&shutdown);
        if let Some(roots) = roots {
            tokio::spawn(roots.run(shutdown.clone()));
        }
        // The lock goes last: no other process may sign before this one is done.
        let (close, closing) = crate::platform::shutdown::shutdown();
        let keeper = worker::start("ca".into(), authority.run(closing)).context("the CA's thread cannot be started")?;
        let ended = bound.serve(shutdown).await;
        close.stop();
        keeper.await;
        Ok(ended?)
    }
}

/// Where a running CA is reached.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// gRPC over TLS.
    pub tls: SocketAddr,
    /// gRPC without TLS.
    pub plaintext: Option<SocketAddr>,
    /// HTTP.
    pub monitoring: SocketAddr,
}

/// The ConfigMaps with roots, over a client of their own: thousands of writes must not stand before token reviews.
async fn roots(
    config: &Config,
    authority: &mut Authority,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Distribution>> {
    let Some(maps) = &config.root_config_maps else {
        return Ok(None);
    };
    let server = ApiServer::connect(config.authentication.kubeconfig.as_deref(), Handle::current())
        .await
        .context("distribution of the roots")?;
    let settings = maps.distribution.clone();
    let roots = Distribution::new(settings, server, authority.watch(), clock.clone(), metrics.clone());
    if maps.prove_spread {
        authority.heed(roots.spread());
    }
    Ok(Some(roots))
}

fn policy(certificates: &config::Certificates) -> Policy {
    Policy {
        profile: Profile {
            default: certificates.default_lifetime,
            maximum: certificates.maximum_lifetime,
            minimum: certificates.minimum_lifetime,
        },
        strict_csr: certificates.strict_csr,
    }
}

fn server_config(config: &Config) -> server::Config {
    let listen = &config.listen;
    server::Config {
        address: listen.address,
        plaintext: listen.plaintext,
        monitoring: config.monitoring,
        connections: ConnectionLimits {
            connections: listen.connections,
            streams: listen.streams_per_connection,
            header_list_bytes: listen.header_list_bytes,
            handshake: listen.handshake,
            drain: config.drain,
        },
        message_bytes: listen.message_bytes,
        calls_in_flight: listen.calls_in_flight,
        call: listen.call,
        threads: listen.threads.unwrap_or_else(process::parallelism),
        client_certificates: config.authentication.client_certificates,
        serving: config.serving_certificate.clone(),
    }
}
