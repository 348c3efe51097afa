//! Whether we can do our job, and if not, why: named conditions, each with one line for people.
//!
//! Anyone who reaches the port reads [`Report`], so it says nothing but words of ours: paths, addresses and what others answered are for the
//! log. The types see to that: what is public is `&'static str`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// All conditions of the process. Cheap to share.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, State>>>);

/// One condition, held by whoever knows about it. A copy speaks of the same condition; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    all: Readiness,
}

/// What is wrong: for everyone, and whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble it is and, where that is always the same, the remedy.
    pub public: &'static str,
    /// All of it; for the log.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Met,
    Pending(&'static str),
    Failed(Trouble),
}

/// All conditions at one moment. Prints one line each, as `/readyz` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(BTreeMap<&'static str, State>);

impl Readiness {
    /// A condition that is not met yet because of `why`. The process is ready when all conditions are met.
    pub fn await_condition(&self, name: &'static str, why: &'static str) -> Condition {
        let condition = Condition {
            name,
            all: self.clone(),
        };
        condition.set(State::Pending(why));
        condition
    }

    /// All conditions now.
    pub fn report(&self) -> Report {
        Report(self.lock().clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Condition {
    /// It is met.
    pub fn met(&self) {
        self.set(State::Met);
    }

    /// It is not met yet, and needs nobody.
    pub fn pending(&self, why: &'static str) {
        self.set(State::Pending(why));
    }

    /// It is not met, and somebody should look.
    pub fn failed(&self, trouble: Trouble) {
        self.set(State::Failed(trouble));
    }

    /// Logs changes only: conditions are often set again to what they are.
    fn set(&self, state: State) {
        let mut all = self.all.lock();
        if all.get(self.name) == Some(&state) {
            return;
        }
        match &state {
            State::Met => tracing::info!(condition = self.name, "condition for readiness met"),
            State::Pending(why) => tracing::info!(condition = self.name, why, "condition for readiness pending"),
            State::Failed(Trouble { public, detail }) => {
                tracing::warn!(
                    condition = self.name,
                    why = detail,
                    public,
                    "condition for readiness failed"
                );
            }
        }
        all.insert(self.name, state);
    }
}

impl Report {
    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        self.0.values().all(|state| *state == State::Met)
    }

    /// Every condition's name, and whether it is met.
    pub fn conditions(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.0.iter().map(|(name, state)| (*name, *state == State::Met))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ready() { "ready" } else { "not ready" })?;
        self.0.iter().try_for_each(|(name, state)| match state {
            State::Met => writeln!(f, "[ok] {name}"),
            State::Pending(why) => writeln!(f, "[pending] {name}: {why}"),
            State::Failed(trouble) => writeln!(f, "[failed] {name}: {} (the log says more)", trouble.public),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_condition_is_met() {
        let readiness = Readiness::default();
        let ca = readiness.await_condition("ca", "loading");
        let review = readiness.await_condition("token-review", "first review outstanding");
        ca.met();
        assert!(!readiness.report().is_ready());
        review.failed(Trouble {
            public: "the API server forbids it (403)",
            detail: "https://10.0.0.1: may not create tokenreviews".into(),
        });
        assert_eq!(
            readiness.report().to_string(),
            "not ready\n[ok] ca\n[failed] token-review: the API server forbids it (403) (the log says more)\n"
        );
        review.clone().met();
        drop(review);
        assert_eq!(readiness.report().to_string(), "ready\n[ok] ca\n[ok] token-review\n");
        ca.pending("reloading");
        assert!(!readiness.report().is_ready());
    }
}
