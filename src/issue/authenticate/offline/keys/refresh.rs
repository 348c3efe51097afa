//! When keys are fetched: at once, every five minutes, soon after a failure, and on demand when a token names an unknown key.
//!
//! Whoever can reach us can send tokens that name unknown keys, so demand never causes more than a trickle: after each fetch a pause, and
//! demand within it waits for its end. It is never longer, however much junk comes: so long at most is a really new key unknown.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::KeySet;
use super::fetch::Fetcher;
use super::store::Publisher;
use crate::issue::authenticate::offline::IssuerConfig;
use crate::platform::Clock;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::Trouble;
use crate::telemetry::metrics::Metrics;

/// From one fetch to the next when nothing happens.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// Between two fetches, at least; after failures, at most.
const PAUSE: Duration = Duration::from_secs(30);
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
        let mut retry = SHORTEST_RETRY;
        loop {
            if !self.fetch().await {
                sleep(retry).await;
                retry = (retry * 2).min(PAUSE);
                continue;
            }
            retry = SHORTEST_RETRY;
            sleep(PAUSE).await;
            // News or none: it is time.
            let _ = timeout(PERIOD - PAUSE, self.publisher.wanted()).await;
        }
    }

    /// Says whether it succeeded.
    async fn fetch(&self) -> bool {
        // Before the fetch: the answer tells of no later moment with certainty.
        let (since, at) = (self.clock.instant(), self.clock.now());
        let document = self.fetcher.fetch().await.map_err(|error| Trouble {
            public: error.public(),
            detail: error.to_string(),
        });
        let set = document.and_then(|document| {
            KeySet::parse(&document).map_err(|error| Trouble {
                public: "the key set of a token issuer cannot be used",
                detail: error.to_string(),
            })
        });
        match set {
            Ok(set) => {
                self.fetched.inc();
                self.last_success.set(at.unix());
                let (keys, skipped) = (set.len(), set.skipped().join("; "));
                if !self.publisher.publish(set, since, at) {
                    return true;
                }
                tracing::info!(issuer = self.name, keys, "token keys fetched");
                if !skipped.is_empty() {
                    tracing::warn!(
                        issuer = self.name,
                        skipped,
                        "some token keys cannot be used and were left out"
                    );
                }
                true
            }
            Err(trouble) => {
                self.failed.inc();
                if self.publisher.fail(trouble.clone()) {
                    let (issuer, why) = (&self.name, trouble.detail);
                    match self.publisher.has_keys() {
                        true => tracing::warn!(
                            issuer,
                            why,
                            "token keys could not be fetched; the last ones are kept for an hour"
                        ),
                        false => tracing::warn!(issuer, why, "token keys could not be fetched, and there are none yet"),
                    }
                }
                false
            }
        }
    }
}
