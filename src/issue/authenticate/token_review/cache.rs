//! What reviews said, for a short while.
//!
//! Takes: verdicts. Gives: them back, as long as they hold. Not here: anything undecided.
//!
//! Good and bad have a cache each: a flood of junk fills the one for bad and evicts nothing good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;

use super::Key;
use crate::issue::authenticate::{Caller, Reason, Verdict};
use crate::platform::Clock;

/// Both caches.
pub struct ReviewCache {
    good: Cache<Key, (Caller, Instant)>,
    bad: Cache<Key, (Reason, Instant)>,
    good_lasts: Duration,
    bad_lasts: Duration,
    clock: Arc<dyn Clock>,
}

impl ReviewCache {
    /// Two empty caches of at most `most` entries each.
    pub fn new(most: usize, good_lasts: Duration, bad_lasts: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            good: cache(most, good_lasts),
            bad: cache(most, bad_lasts),
            good_lasts,
            bad_lasts,
            clock,
        }
    }

    /// What is known and still holds. A caller is never known beyond the end of its proof.
    pub fn get(&self, key: &Key) -> Option<Verdict> {
        let now = self.clock.instant();
        let good = self.good.get(key).filter(|(caller, until)| {
            // RFC 7519, 4.1.4: not accepted on or after its end.
            let proven = caller.proof().expires.is_none_or(|end| self.clock.now() < end);
            now < *until && proven
        });
        if let Some((caller, _)) = good {
            return Some(Verdict::Accepted(Box::new(caller)));
        }
        let (reason, until) = self.bad.get(key)?;
        (now < until).then_some(Verdict::Rejected(reason))
    }

    /// Keeps what was asked at `asked`, from when on it counts: what changed at the API server while it answered is not seen.
    pub fn put(&self, key: Key, verdict: &Verdict, asked: Instant) {
        match verdict {
            Verdict::Accepted(caller) => self
                .good
                .insert(key, (caller.as_ref().clone(), asked + self.good_lasts)),
            Verdict::Rejected(reason) => self.bad.insert(key, (reason.clone(), asked + self.bad_lasts)),
            Verdict::NotMine | Verdict::Undecided(_) => {}
        }
    }

    /// How many entries there are: good, bad.
    pub fn len(&self) -> (u64, u64) {
        self.good.run_pending_tasks();
        self.bad.run_pending_tasks();
        (self.good.entry_count(), self.bad.entry_count())
    }
}

/// The library's own clock only throws away what ours has ended already.
fn cache<V: Clone + Send + Sync + 'static>(most: usize, lasts: Duration) -> Cache<Key, V> {
    Cache::builder().max_capacity(most as u64).time_to_live(lasts).build()
}
