//! When keys are fetched: at once, every five minutes, soon after a failure, and on demand when a token names an unknown key.
//!
//! Whoever can reach us can send tokens that name unknown keys, so demand never causes more than a trickle: after each fetch a pause that
//! doubles for as long as demand brings no news. Demand within the pause waits for its end.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::KeySet;
use super::fetch::Fetcher;
use super::store::Publisher;
use crate::issue::authenticate::offline::IssuerConfig;
use crate::platform::Clock;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// From one fetch to the next when nothing happens; also the longest pause.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// The shortest pause before a fetch on demand.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
/// The shortest pause after a failure: at start an API server may be seconds away.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// The background work that brings the keys of every issuer.
pub struct KeyRefresher {
    issuers: Vec<IssuerRefresher>,
}

impl KeyRefresher {
    /// All of them.
    pub fn new(issuers: Vec<IssuerRefresher>) -> Self {
        Self { issuers }
    }

    /// Fetches the keys of every issuer once. The outcome is in [`OfflineJwt::key_status`](crate::issue::authenticate::offline::OfflineJwt).
    pub async fn refresh_once(&self) {
        for issuer in &self.issuers {
            issuer.fetch().await;
        }
    }

    /// Keeps all keys fresh until asked to stop. Fetches at once.
    pub async fn run(self, mut shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        for issuer in self.issuers {
            tasks.spawn(issuer.run());
        }
        // Dropping the set ends its tasks.
        shutdown.asked().await;
    }
}

/// The same for one issuer.
pub struct IssuerRefresher {
    name: String,
    fetcher: Fetcher,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    fetched: Counter,
    failed: Counter,
    last_success: Gauge,
}

enum Outcome {
    Changed,
    Same,
    Failed,
}

impl IssuerRefresher {
    /// For this issuer, under this name in logs and metrics.
    pub fn new(
        config: &IssuerConfig,
        name: &str,
        publisher: Publisher,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            name: name.to_owned(),
            fetcher: Fetcher::new(config),
            publisher,
            clock,
            fetched: metrics.key_fetches(name, "ok"),
            failed: metrics.key_fetches(name, "error"),
            last_success: metrics.keys_fetched(name),
        }
    }

    async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        let mut retry = SHORTEST_RETRY;
        let mut on_demand = false;
        loop {
            match self.fetch().await {
                Outcome::Failed => {
                    sleep(retry).await;
                    retry = (retry * 2).min(PERIOD);
                    continue;
                }
                Outcome::Same if on_demand => pause = (pause * 2).min(PERIOD),
                Outcome::Same | Outcome::Changed => pause = SHORTEST_PAUSE,
            }
            retry = SHORTEST_RETRY;
            sleep(pause).await;
            on_demand = tokio::select! {
                biased;
                () = self.publisher.wanted() => true,
                () = sleep(PERIOD - pause) => false,
            };
        }
    }

    async fn fetch(&self) -> Outcome {
        // Before the fetch: the answer tells of no later moment with certainty.
        let (since, at) = (self.clock.instant(), self.clock.now());
        let document = self.fetcher.fetch().await.map_err(|error| error.to_string());
        match document.and_then(|document| KeySet::parse(&document).map_err(|error| error.to_string())) {
            Ok(set) => {
                self.fetched.inc();
                self.last_success.set(at.unix());
                let (keys, skipped) = (set.len(), set.skipped().join("; "));
                if !self.publisher.publish(set, since, at) {
                    return Outcome::Same;
                }
                tracing::info!(issuer = self.name, keys, "token keys fetched");
                if !skipped.is_empty() {
                    tracing::warn!(
                        issuer = self.name,
                        skipped,
                        "some token keys cannot be used and were left out"
                    );
                }
                Outcome::Changed
            }
            Err(why) => {
                self.failed.inc();
                if self.publisher.fail(why.clone()) {
                    match self.publisher.has_keys() {
                        true => tracing::warn!(
                            issuer = self.name,
                            why,
                            "token keys could not be fetched; the last ones are kept for an hour"
                        ),
                        false => tracing::warn!(
                            issuer = self.name,
                            why,
                            "token keys could not be fetched, and there are none yet"
                        ),
                    }
                }
                Outcome::Failed
            }
        }
    }
}
