//! `serve`, read top to bottom: from a checked configuration to open doors.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use super::authenticators::{self, Background};
use super::config::{self, CaSource, Config};
use crate::authority::{self, Authority, CaKind, CaSnapshot, RootAlgorithm, SelfSignedConfig};
use crate::issue::plan::Profile;
use crate::issue::{Issuer, Policy};
use crate::model::KeyAlgorithm;
use crate::platform::shutdown::Shutdown;
use crate::platform::{Clock, SystemClock, SystemRandom, crypto, process};
use crate::server::{self, Bound, ConnectionLimits, Parts, ServingSource};
use crate::telemetry::{Metrics, Readiness};

/// A CA whose doors are open, not yet serving.
pub struct App {
    bound: Bound,
    /// Holds the lock on the CA's directory for as long as we may sign.
    authority: Authority,
    background: Background,
}

impl App {
    /// Opens the CA, every way to authenticate, and the doors. `new_root` lets a lost self-signed root be replaced.
    pub async fn open(config: &Config, new_root: bool) -> anyhow::Result<Self> {
        crypto::install_jwt_provider();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let readiness = Readiness::default();
        let metrics = Arc::new(Metrics::new(clock.clone(), &readiness));
        let authority = authority::open(&authority_config(config, new_root), clock.now())?;
        for warning in &authority.warnings {
            tracing::warn!(source = %authority.source, "{warning}");
        }
        let ca = &authority.snapshot;
        tracing::info!(
            source = %authority.source,
            signer = ca.signer().subject_text(),
            key = %ca.key().algorithm(),
            not_after = %ca.validity().not_after,
            roots = ca.bundle().roots().len(),
            "the CA is open"
        );
        metrics.certificates.set_ca(ca.chain(), ca.bundle());
        let (authenticators, background) =
            authenticators::open(config, clock.clone(), &metrics, &readiness).await.context("authentication")?;
        let issuer = Arc::new(Issuer::new(
            authenticators,
            watch::channel(ca.clone()).1,
            policy(&config.certificates),
            clock.clone(),
            Arc::new(SystemRandom::default()),
            metrics.clone(),
        ));
        let parts = Parts { issuer, clock, metrics, readiness };
        let bound = Bound::bind(server_config(config), parts).await?;
        tracing::info!(
            address = %bound.address(),
            plaintext = bound.plaintext().map(tracing::field::display),
            monitoring = %bound.monitoring(),
            "listening"
        );
        Ok(Self { bound, authority, background })
    }

    /// Where the doors are: the real addresses, also where port 0 was asked for.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            tls: self.bound.address(),
            plaintext: self.bound.plaintext(),
            monitoring: self.bound.monitoring(),
        }
    }

    /// The CA as it was opened.
    pub fn ca(&self) -> &CaSnapshot {
        &self.authority.snapshot
    }

    /// Serves until asked to stop, then drains.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { bound, authority, background } = self;
        background.start(&shutdown);
        let ended = bound.serve(shutdown).await;
        // The lock goes last: no other process may sign before this one is done.
        drop(authority);
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

/// What the CA room needs of the configuration.
pub fn authority_config(config: &Config, new_root: bool) -> authority::Config {
    authority::Config {
        kind: match config.ca.source {
            CaSource::Auto => CaKind::Auto,
            CaSource::SelfSigned => CaKind::SelfSigned,
            CaSource::PluggedIn => CaKind::PluggedIn,
        },
        plugged_in_directory: config.ca.directory.clone(),
        self_signed: SelfSignedConfig {
            directory: config.ca.self_signed_directory.clone(),
            algorithm: match config.ca.self_signed_algorithm {
                KeyAlgorithm::P384 => RootAlgorithm::P384,
                _ => RootAlgorithm::P256,
            },
            lifetime: config.ca.self_signed_lifetime,
            organization: config.trust_domain.to_string(),
            new_root,
        },
    }
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
        serving: match &config.serving_certificate {
            config::ServingCertificate::Issued { names, lifetime } => {
                ServingSource::Issued { names: names.clone(), lifetime: *lifetime }
            }
            config::ServingCertificate::Files { certificate, key } => {
                ServingSource::Files { certificate: certificate.clone(), key: key.clone() }
            }
        },
    }
}
