//! The current key set of one issuer: published by its refresher, read by every request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use tokio::sync::{Notify, watch};

use super::{KeySet, VerificationKey};
use crate::model::Timestamp;
use crate::telemetry::Trouble;

/// How long a set is good without news of its source.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// How young a set must be for a missing key to be final.
const FRESH: Duration = Duration::from_secs(10);

/// What requests see.
#[derive(Clone)]
pub struct KeyStore {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
}

/// What the refresher holds.
pub struct Publisher {
    state: watch::Sender<State>,
    wanted: Arc<Notify>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Why the last fetch failed, unless it succeeded.
    failure: Option<Trouble>,
}

struct Held {
    set: Arc<KeySet>,
    /// When its fetch began, on both clocks.
    since: Instant,
    at: Timestamp,
}

impl Held {
    /// The age is checked at every use, so that keys end in time even if nobody refreshes them any more.
    fn is_usable(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) <= KEPT
    }
}

/// What a search for a key gives.
pub enum Lookup {
    /// The one key.
    Found(Arc<VerificationKey>),
    /// No key was named, and more than one could be meant.
    Ambiguous,
    /// There is no such key; final if the set is fresh.
    Unknown {
        /// Whether the set was fetched only just now.
        fresh: bool,
    },
    /// There are no keys.
    Unavailable,
}

/// The keys of one issuer, for metrics and readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The issuer; with its cluster where several have the same name.
    pub issuer: String,
    /// When the keys in use were fetched.
    pub fetched: Option<Timestamp>,
    /// Whether there are keys, and they are not too old.
    pub usable: bool,
    /// Why the last fetch failed, unless it succeeded.
    pub failure: Option<Trouble>,
}

/// A store without keys, and the hand that fills it.
pub fn key_store() -> (KeyStore, Publisher) {
    let (sender, receiver) = watch::channel(State::default());
    let wanted = Arc::new(Notify::new());
    let store = KeyStore {
        state: receiver,
        wanted: wanted.clone(),
    };
    let publisher = Publisher { state: sender, wanted };
    (store, publisher)
}

impl KeyStore {
    /// The key of this name; or, when none is named, the only one for this algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm, now: Instant) -> Lookup {
        let state = self.state.borrow();
        let Some(held) = state.held.as_ref().filter(|held| held.is_usable(now)) else {
            return Lookup::Unavailable;
        };
        let found = match kid {
            Some(kid) => held.set.named(kid),
            None => {
                let mut fitting = held.set.for_algorithm(algorithm);
                let first = fitting.next();
                if fitting.next().is_some() {
                    return Lookup::Ambiguous;
                }
                first
            }
        };
        match found {
            Some(key) => Lookup::Found(key.clone()),
            None => Lookup::Unknown {
                fresh: now.saturating_duration_since(held.since) < FRESH,
            },
        }
    }

    /// Asks for a fetch as soon as the refresher's pause is over. However often it is asked, it is one fetch.
    pub fn ask_for_refresh(&self) {
        self.wanted.notify_one();
    }

    /// How the keys are.
    pub fn status(&self, issuer: &str, now: Instant) -> KeyStatus {
        let state = self.state.borrow();
        KeyStatus {
            issuer: issuer.to_owned(),
            fetched: state.held.as_ref().map(|held| held.at),
            usable: state.held.as_ref().is_some_and(|held| held.is_usable(now)),
            failure: state.failure.clone(),
        }
    }
}

impl Publisher {
    /// Puts a set in place of the one before; says whether it comes from another document.
    pub fn publish(&self, set: KeySet, since: Instant, at: Timestamp) -> bool {
        let set = Arc::new(set);
        let mut changed = true;
        self.state.send_modify(|state| {
            changed = !state.held.as_ref().is_some_and(|held| held.set.is_same(&set));
            state.held = Some(Held { set, since, at });
            state.failure = None;
        });
        changed
    }

    /// Keeps the set, and says why there is no newer one; says whether that is news.
    pub fn fail(&self, trouble: Trouble) -> bool {
        let mut changed = false;
        self.state.send_modify(|state| {
            changed = state.failure.as_ref() != Some(&trouble);
            state.failure = Some(trouble);
        });
        changed
    }

    /// Whether there ever were keys.
    pub fn has_keys(&self) -> bool {
        self.state.borrow().held.is_some()
    }

    /// Returns when a request asked for a fetch since the last time.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}
