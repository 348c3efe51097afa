//! `serve`, read top to bottom: from a checked configuration to open doors.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use super::config::{self, CaSource, Config};
use crate::authority::{self, Authority, CaKind, RootAlgorithm, SelfSignedConfig};
use crate::issue::authenticate::Authenticators;
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
    background: Vec<super::authenticators::Background>,
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
            super::authenticators::open(config, clock.clone(), &metrics, &readiness).await?;
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
        Ok(Self { bound, authority, background })
    }
}
