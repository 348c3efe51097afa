//! `serve`, read top to bottom: from a checked configuration to open doors.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Handle;

use super::authenticators::{self, Background};
use super::config::{Config, Problems};
use super::look;
use crate::authority::{self, Authority, CaSnapshot, Steering};
use crate::cluster::ApiServer;
use crate::issue::Issuer;
use crate::platform::shutdown::{Shutdown, on_hangup, shutdown, signal_to_stop};
use crate::platform::{Clock, SystemClock, SystemRandom, process, worker};
use crate::roots::Distribution;
use crate::server::admin_door::AdminDoor;
use crate::server::{Bound, Parts};
use crate::telemetry::{Metrics, Readiness, log};

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

/// What else is open: listeners, the API server, issuers, the runtimes' own.
const FILES_BESIDE_CONNECTIONS: usize = 100;

/// The program `serve`: logs, no core dumps, the CA, until a signal asks it to stop.
///
/// Once there is a log, also what ends the process is told there, in its format, and nowhere else.
pub fn run(config: &Config) -> anyhow::Result<Ended> {
    let outside = Outside::of_host();
    let _log = log::start(&config.logging, &outside.metrics)?;
    Ok(match serve(config, outside) {
        Ok(()) => Ended::AsAsked,
        Err(error) => {
            tracing::error!("{}", explain(&error).replace('\n', "; "));
            Ended::Failed
        }
    })
}

/// How the program ended; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked it to.
    AsAsked,
    /// It could not start, or not go on.
    Failed,
}

/// Tells in the log's format that settings do not fit, for those who read only that.
pub fn refuse(problems: &Problems, logging: &log::Config) -> anyhow::Result<Ended> {
    let _log = log::start(logging, &Outside::of_host().metrics)?;
    for problem in problems.iter() {
        tracing::error!("{problem}");
    }
    Ok(Ended::Failed)
}

/// An error with its causes; many of ours name theirs already.
pub fn explain(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |told, cause| match told {
            told if told.is_empty() => cause,
            told if told.contains(&cause) => told,
            told => format!("{told}: {cause}"),
        })
}

fn serve(config: &Config, outside: Outside) -> anyhow::Result<()> {
    if let Err(error) = process::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps cannot be forbidden: one would hold the CA key");
    }
    let needed = config.server.connections.open.total + FILES_BESIDE_CONNECTIONS;
    if let Some(files) = process::raise_file_limit()
        && usize::try_from(files).is_ok_and(|files| files < needed)
    {
        tracing::warn!(
            files,
            needed,
            "the process may open too few files for as many connections as listen.connections allows: raise its limit or lower the setting"
        );
    }
    runtime()?.block_on(async {
        // Daemons reload at it; whoever sends it should learn what it does here, and not lose the CA.
        tokio::spawn(on_hangup(|| {
            tracing::warn!("SIGHUP changes nothing: files of the CA are read when they change, settings at the start only");
        })?);
        let app = App::open(config, outside).await?;
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
    admin: Option<AdminDoor>,
    authority: Authority,
    background: Background,
    roots: Option<Distribution>,
}

impl App {
    /// Opens the CA, every way to authenticate, and the doors.
    pub async fn open(config: &Config, outside: Outside) -> anyhow::Result<Self> {
        let Outside {
            clock,
            readiness,
            metrics,
        } = outside;
        let problems = [config.missing_here.clone(), look::files(config).await].concat();
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        let mut authority = authority::open(&config.ca, clock.clone(), metrics.clone())?;
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
            config.policy,
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
        let bound = Bound::bind(config.server.clone(), parts).await?;
        let admin = match &config.admin {
            Some(path) => Some(
                AdminDoor::open(path, authority.steering())
                    .await
                    .context("admin.socket")?,
            ),
            None => None,
        };
        tracing::info!(
            address = %bound.address(),
            plaintext = bound.plaintext().map(tracing::field::display),
            monitoring = %bound.monitoring(),
            admin = admin.as_ref().map(|door| tracing::field::display(door.path().display())),
            "listening"
        );
        Ok(Self {
            bound,
            admin,
            authority,
            background,
            roots,
        })
    }

    /// As [`Self::open`], with the host's clock and without a log.
    pub async fn open_quietly(config: &Config) -> anyhow::Result<Self> {
        Self::open(config, Outside::of_host()).await
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
            admin,
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
        // The admin may look as long as anything is signed.
        let (leave, leaving) = crate::platform::shutdown::shutdown();
        let admin = admin.map(|door| tokio::spawn(door.serve(leaving)));
        let ended = bound.serve(shutdown).await;
        leave.stop();
        if let Some(admin) = admin {
            let _ = admin.await;
        }
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
    let server = ApiServer::connect(&maps.credentials, Handle::current())
        .await
        .context("distribution of the roots")?;
    let settings = maps.distribution.clone();
    let roots = Distribution::new(settings, server, authority.watch(), clock.clone(), metrics.clone());
    if maps.prove_spread {
        authority.heed(roots.spread());
    }
    Ok(Some(roots))
}
