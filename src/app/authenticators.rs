//! Picks the ways to authenticate that the configuration asks for, and keeps readiness informed about them.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::config::Config;
use crate::cluster::ApiServer;
use crate::issue::authenticate::Authenticators;
use crate::issue::authenticate::offline::{KeyRefresher, OfflineJwt};
use crate::issue::authenticate::token_review::TokenReviewAuthenticator;
use crate::platform::Clock;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Condition, Metrics, Readiness, Trouble};

/// How often readiness hears about token keys.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The work that authenticators need done behind them.
pub struct Background {
    keys: Option<(OfflineJwt, KeyRefresher, Condition)>,
    reviews: Option<(TokenReviewAuthenticator, Condition)>,
}

/// Opens every way in. Keys are fetched once before the doors open, so that keys that are at hand are there for the first caller.
pub async fn open(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
    readiness: &Readiness,
) -> anyhow::Result<(Authenticators, Background)> {
    let authentication = &config.authentication;
    let mut keys = None;
    if !authentication.issuers.is_empty() {
        let condition = readiness.await_condition("token-keys", "no keys were fetched yet");
        let (offline, refresher) = OfflineJwt::new(authentication.issuers.clone(), clock.clone(), metrics);
        refresher.refresh_once().await;
        tell_about_keys(&offline, &condition);
        keys = Some((offline, refresher, condition));
    }
    let mut reviews = None;
    if let Some((credentials, review)) = &authentication.token_review {
        let server = ApiServer::connect(credentials, Handle::current()).await?;
        let authenticator = TokenReviewAuthenticator::new(review.clone(), server, clock);
        let condition = readiness.await_condition("token-review", "the API server was not asked yet");
        reviews = Some((authenticator, condition));
    }
    let authenticators = Authenticators::new(
        keys.as_ref().map(|(offline, _, _)| offline.clone()),
        reviews.as_ref().map(|(authenticator, _)| authenticator.clone()),
        authentication.client_certificates.clone(),
    )?;
    Ok((authenticators, Background { keys, reviews }))
}

impl Background {
    /// Starts the work; it ends when asked to stop.
    pub fn start(self, shutdown: &Shutdown) {
        if let Some((offline, refresher, condition)) = self.keys {
            tokio::spawn(refresher.run(shutdown.clone()));
            let mut shutdown = shutdown.clone();
            tokio::spawn(async move {
                let mut look = tokio::time::interval(LOOK_EVERY);
                loop {
                    tokio::select! {
                        () = shutdown.asked() => return,
                        _ = look.tick() => tell_about_keys(&offline, &condition),
                    }
                }
            });
        }
        if let Some((authenticator, condition)) = self.reviews {
            tokio::spawn(watch_reviews(authenticator, condition, shutdown.clone()));
        }
    }
}

/// One issuer that is away stops nobody but its own callers: log and metrics tell of it.
fn tell_about_keys(offline: &OfflineJwt, condition: &Condition) {
    let all = offline.key_status();
    if all.iter().any(|status| status.usable) {
        return condition.met();
    }
    let mut troubles = all.into_iter().map(|status| match status.failure {
        Some(Trouble { public, detail }) => (public, format!("{}: {detail}", status.issuer)),
        None => ("no keys were fetched yet", status.issuer),
    });
    match troubles.next() {
        None => condition.met(),
        Some((public, first)) => {
            let all: Vec<String> = std::iter::once(first)
                .chain(troubles.map(|(_, detail)| detail))
                .collect();
            let detail = format!("token keys cannot be used: {}", all.join("; "));
            condition.failed(Trouble { public, detail });
        }
    }
}

async fn watch_reviews(authenticator: TokenReviewAuthenticator, condition: Condition, mut shutdown: Shutdown) {
    let mut health = authenticator.health();
    // An API server that is merely away does not make us unready: its return needs nobody here, and callers are told to come back.
    if let Err(error) = authenticator.probe().await {
        tracing::warn!(%error, "the API server did not answer a first token review");
    }
    loop {
        match health.borrow_and_update().as_ref() {
            None => condition.met(),
            Some(trouble) => condition.failed(trouble.clone()),
        }
        tokio::select! {
            () = shutdown.asked() => return,
            changed = health.changed() => if changed.is_err() { return },
        }
    }
}
