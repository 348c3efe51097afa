//! Service-account tokens, by the API server's word (`TokenReview`).
//!
//! Takes: a token. Gives: a [`Verdict`]. Not here: how the API server is asked (`cluster`).
//!
//! Reviews in flight are bounded, and one address may have a quarter of them under way: whoever sends junk in any number, each text another,
//! takes no room from other addresses.
//!
//! A verdict is remembered for seconds: positive ones at most ten, since the API server itself remembers for ten, and never past the token's
//! own end; negative ones at most two. What the API server could not say is never remembered. Callers may sit on any runtime; reviews run
//! on the API client's.

mod cache;
mod flights;
mod judge;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use zeroize::Zeroizing;

use self::cache::ReviewCache;
use self::flights::Flights;
use super::{Audiences, Reason, Verdict};
use crate::cluster::{ApiServer, CallError, Review, ReviewError, Slot, TokenReviews};
use crate::model::{BearerToken, Timestamp, TrustDomain};
use crate::platform::{Clock, crypto};
use crate::telemetry::Trouble;

/// SHA-256 over the audiences and a token: caches hold no tokens.
type Key = [u8; 32];

/// Longest that a review may take.
const MOST_TIME: Duration = Duration::from_secs(60);
/// One address may have one part in so many of them.
const SHARE: usize = 4;
/// How often one caller tries when reviews end without a word.
const ATTEMPTS: usize = 2;

/// The label of a review that took too long, for us or for the caller.
const OUT_OF_TIME: &str = "review_timeout";

/// How to review, and for whom.
#[derive(Clone, Debug)]
pub struct TokenReviewConfig {
    /// A token must be meant for one of these.
    pub audiences: Audiences,
    /// The trust domain of this cluster's service accounts.
    pub trust_domain: TrustDomain,
    /// What this cluster is called.
    pub cluster: String,
    /// How long an acceptance is remembered.
    pub positive_ttl: Duration,
    /// How long a rejection is remembered.
    pub negative_ttl: Duration,
    /// How many reviews may be in flight: each is a connection.
    pub in_flight: usize,
    /// How long a review may take.
    pub time_limit: Duration,
    /// How many acceptances, and how many rejections, are remembered.
    pub cache_entries: usize,
    /// While the API server refuses us: how often to see whether it still does.
    pub probe_every: Duration,
}

impl TokenReviewConfig {
    /// The values that everyone gets: settings reach none of them.
    pub fn new(audiences: Audiences, trust_domain: TrustDomain, cluster: String) -> Self {
        Self {
            audiences,
            trust_domain,
            cluster,
            positive_ttl: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(2),
            in_flight: 100,
            time_limit: Duration::from_secs(5),
            cache_entries: 10_000,
            probe_every: Duration::from_secs(5),
        }
    }
}

/// The authenticator. Cheap to clone; used by all threads.
#[derive(Clone)]
pub struct TokenReviewAuthenticator(Arc<Inner>);

struct Inner {
    config: TokenReviewConfig,
    server: ApiServer,
    reviews: TokenReviews,
    cache: ReviewCache,
    flights: Flights<Verdict>,
    /// Why the API server refuses us, if it does.
    health: watch::Sender<Option<Trouble>>,
    /// Whether a task watches over that; written only while `health` is locked.
    probing: AtomicBool,
    /// Stands for the audiences in keys.
    audiences: Key,
    clock: Arc<dyn Clock>,
}

impl TokenReviewAuthenticator {
    /// An authenticator that asks this API server.
    pub fn new(config: TokenReviewConfig, server: ApiServer, clock: Arc<dyn Clock>) -> Self {
        let mut listed = Vec::new();
        for audience in &*config.audiences {
            listed.extend((audience.len() as u64).to_be_bytes());
            listed.extend(audience.as_bytes());
        }
        Self(Arc::new(Inner {
            reviews: TokenReviews::new(server.clone(), config.audiences.to_vec(), config.in_flight),
            cache: ReviewCache::new(
                config.cache_entries,
                config.positive_ttl,
                config.negative_ttl,
                clock.clone(),
            ),
            flights: Flights::default(),
            health: watch::Sender::new(None),
            probing: AtomicBool::new(false),
            audiences: crypto::sha256(&listed),
            config,
            server,
            clock,
        }))
    }

    /// Says whose token this is. `cluster_id` is the cluster that the caller claims to be of, `peer` the address it calls from. Ends by
    /// `deadline`.
    pub async fn authenticate(
        &self,
        token: &BearerToken,
        cluster_id: Option<&str>,
        peer: Option<IpAddr>,
        deadline: Instant,
    ) -> Verdict {
        let inner = &self.0;
        if let Some(other) = cluster_id.filter(|name| !name.is_empty())
            && other != inner.config.cluster
        {
            let detail = format!(
                "the caller says it is of cluster {:?}; this is {:?}",
                brief(other),
                inner.config.cluster
            );
            return Verdict::Rejected(Reason::new("unknown_cluster", detail));
        }
        let token = token.reveal();
        let key = inner.key(token);
        if let Some(known) = inner.cache.get(&key) {
            return known;
        }
        let end = match judge::presentable(token, &inner.config.audiences, inner.clock.now()) {
            Ok(end) => end,
            Err(reason) => return Verdict::Rejected(reason),
        };
        // Nobody waits for a review longer than all attempts can take.
        let left = deadline.saturating_duration_since(inner.clock.instant());
        let until = tokio::time::Instant::now() + left.min(MOST_TIME * ATTEMPTS as u32);
        let out_of_time = || {
            let detail = "the caller's time ran out before the API server answered";
            Verdict::Undecided(Reason::new(OUT_OF_TIME, detail))
        };
        if left.is_zero() {
            return out_of_time();
        }
        // A socket for both protocols shows 10.0.0.1 as ::ffff:10.0.0.1: one peer.
        let peer = peer.map(|peer| peer.to_canonical());
        for _ in 0..ATTEMPTS {
            let start = |theirs| inner.start(key, token, end, theirs);
            let flight = match inner.flights.join(key, until, inner.server.runtime(), peer, start) {
                Ok(flight) => flight,
                Err(verdict) => return verdict,
            };
            match tokio::time::timeout_at(until, flight.landed()).await {
                Ok(Some(verdict)) => return verdict,
                Ok(None) => {}
                Err(_) => return out_of_time(),
            }
        }
        Verdict::Undecided(Reason::new("review_abandoned", "the review ended without a word"))
    }

    /// Why the API server refuses us, if it does: nobody can be authenticated this way until that is mended. Follows every review.
    pub fn health(&self) -> watch::Receiver<Option<Trouble>> {
        self.0.health.subscribe()
    }

    /// Sees whether we may ask for reviews at all, by asking about a text that is no token.
    pub async fn probe(&self) -> Result<(), ReviewError> {
        self.0.probe().await
    }

    /// How many verdicts are remembered: acceptances, rejections.
    pub fn remembered(&self) -> (u64, u64) {
        self.0.cache.len()
    }

    /// How many reviews are under way.
    pub fn under_way(&self) -> usize {
        self.0.flights.len()
    }
}

impl Inner {
    fn key(&self, token: &str) -> Key {
        let mut text = Zeroizing::new(Vec::with_capacity(self.audiences.len() + token.len()));
        text.extend(self.audiences);
        text.extend(token.as_bytes());
        crypto::sha256(&text)
    }

    /// The work of one review, if there is room for it and its result did not arrive meanwhile. The peer has `theirs` under way already.
    fn start(
        self: &Arc<Self>,
        key: Key,
        token: &str,
        end: Option<Timestamp>,
        theirs: usize,
    ) -> Result<impl Future<Output = Verdict> + Send + use<>, Verdict> {
        if let Some(known) = self.cache.get(&key) {
            return Err(known);
        }
        let share = self.config.in_flight.div_ceil(SHARE);
        if theirs >= share {
            let detail = format!("{share} token reviews for this address are in flight already, which is its share");
            return Err(Verdict::Undecided(Reason::new(Reason::REVIEWS_OVERLOADED, detail)));
        }
        let slot = self
            .reviews
            .slot()
            .map_err(|error| Verdict::Undecided(reason(&error)))?;
        let (inner, token) = (self.clone(), Zeroizing::new(token.to_owned()));
        Ok(async move {
            let asked = inner.clock.instant();
            let verdict = match inner.review(slot, &token).await {
                Ok(review) => match judge::judge(review, &inner.config, end, inner.clock.now()) {
                    Ok(caller) => Verdict::Accepted(Box::new(caller)),
                    Err(reason) => Verdict::Rejected(reason),
                },
                Err(error) => Verdict::Undecided(reason(&error)),
            };
            inner.cache.put(key, &verdict, asked);
            verdict
        })
    }

    async fn review(self: &Arc<Self>, slot: Slot, token: &str) -> Result<Review, ReviewError> {
        let answer = self.reviews.review(slot, token, self.config.time_limit).await;
        match &answer {
            Ok(_) => {
                let mended = self.health.send_if_modified(|health| health.take().is_some());
                if mended {
                    tracing::info!("the API server reviews tokens for us again");
                }
            }
            Err(ReviewError::Call(error @ (CallError::Forbidden(_) | CallError::Unauthorized(_)))) => {
                self.refused(error);
            }
            Err(_) => {}
        }
        answer
    }

    /// Readiness goes off with the reason. Then no callers come any more, so it falls to us to see when it ends.
    fn refused(self: &Arc<Self>, error: &CallError) {
        let public = match error {
            CallError::Forbidden(_) => {
                "the API server forbids us token reviews (403): bind our service account to the ClusterRole system:auth-delegator"
            }
            _ => "the API server refuses our own credentials (401): see that our token is valid and mounted",
        };
        let trouble = Trouble {
            public,
            detail: format!("{public}; it says: {error}"),
        };
        let mut start_probing = false;
        self.health.send_if_modified(|health| {
            if health.is_none() {
                tracing::error!(why = trouble.detail, "the API server does not review tokens for us");
            }
            start_probing = !self.probing.swap(true, Ordering::Relaxed);
            let news = health.as_ref() != Some(&trouble);
            *health = Some(trouble);
            news
        });
        if start_probing {
            let (inner, every) = (Arc::downgrade(self), self.config.probe_every);
            self.server.runtime().spawn(probe_until_mended(inner, every));
        }
    }

    /// Whether nothing is left to probe for.
    fn done_probing(&self) -> bool {
        let mut done = false;
        self.health.send_if_modified(|health| {
            done = health.is_none();
            self.probing.store(!done, Ordering::Relaxed);
            false
        });
        done
    }

    async fn probe(self: &Arc<Self>) -> Result<(), ReviewError> {
        self.review(self.reviews.slot()?, "probe").await.map(drop)
    }
}

async fn probe_until_mended(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.done_probing() {
            return;
        }
        // Whatever it says is in `health`.
        let _ = inner.probe().await;
    }
}

fn reason(error: &ReviewError) -> Reason {
    let label = match error {
        ReviewError::Overloaded(_) => Reason::REVIEWS_OVERLOADED,
        ReviewError::Call(CallError::TimedOut(_)) => OUT_OF_TIME,
        ReviewError::Call(CallError::Unreachable(_)) => "review_unreachable",
        ReviewError::Call(CallError::Unauthorized(_)) => "review_unauthorized",
        ReviewError::Call(CallError::Forbidden(_)) => "review_forbidden",
        ReviewError::Call(CallError::Busy) => "review_throttled",
        ReviewError::Call(CallError::Status(_)) => "review_failed",
        ReviewError::Call(CallError::Unreadable(_)) => "review_unreadable",
    };
    Reason::new(label, error.to_string())
}

/// A header's text, as much as a log line bears.
fn brief(text: &str) -> String {
    text.chars().take(100).collect()
}
