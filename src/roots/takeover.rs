//! Whether ConfigMaps that another CA's controller wrote may be overwritten.
//!
//! Takes: what became of our writes. Gives: yes, no, or one as a probe. Pure.
//!
//! What such a controller wrote says nothing about whether it still runs: an istiod with `ENABLE_CA_SERVER=false` leaves its ConfigMaps behind,
//! an active one restores them within moments. So one namespace is written first, and the others when that one was left alone for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The names under which the API server keeps account of what other CAs' controllers write: the names of their programs.
const CONTROLLERS: [&str; 2] = ["pilot-discovery", "cert-manager-istio-csr"];

/// How long a probe must be left alone. istiod restores within a second, or some tens of them when it works through thousands.
pub const PROBE: Duration = Duration::from_secs(30);
/// After a probe that was undone; doubled each time.
const FIRST_REST: Duration = Duration::from_secs(300);
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Whether a writer is another CA's controller.
pub fn is_controller(writer: &str) -> bool {
    CONTROLLERS.contains(&writer)
}

/// How it stands.
#[derive(Debug)]
pub struct Takeover {
    /// The admin wants it.
    wanted: bool,
    state: State,
    /// Probes that were undone, in a row.
    undone: u32,
}

#[derive(Debug)]
enum State {
    /// The next write is a probe, from this point on.
    Unproven(Option<Instant>),
    /// This namespace was written, and must stay so until then.
    Probing(Arc<str>, Instant),
    /// Nobody undoes what we write.
    Proven,
}

/// What a change of the state means for namespaces that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Same,
    /// They may go on.
    Go,
}

impl Takeover {
    /// `wanted`: the admin wants it.
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            state: State::Unproven(None),
            undone: 0,
        }
    }

    /// Whether one may be overwritten now.
    pub fn may(&self, now: Instant) -> bool {
        self.wanted
            && match &self.state {
                State::Unproven(from) => from.is_none_or(|from| from <= now),
                State::Probing(..) => false,
                State::Proven => true,
            }
    }

    /// One is being overwritten.
    pub fn begins(&mut self, namespace: &Arc<str>, now: Instant) {
        if let State::Unproven(_) = self.state {
            self.state = State::Probing(namespace.clone(), now + PROBE);
        }
    }

    /// That write failed, or the namespace went away: it shows nothing.
    pub fn fails(&mut self, namespace: &str) -> Turn {
        match &self.state {
            State::Probing(probe, _) if **probe == *namespace => {
                self.state = State::Unproven(None);
                Turn::Go
            }
            _ => Turn::Same,
        }
    }

    /// A controller overwrote what we wrote shortly before. Says whether this is news.
    pub fn undone(&mut self, now: Instant) -> bool {
        if let State::Unproven(Some(from)) = self.state
            && now < from
        {
            return false;
        }
        let rest = FIRST_REST * 2_u32.pow(self.undone.min(4));
        self.undone += 1;
        self.state = State::Unproven(Some(now + rest.min(LONGEST_REST)));
        true
    }

    /// Time passed. `stands`: whether a namespace still holds what we wrote.
    pub fn look(&mut self, now: Instant, stands: impl Fn(&str) -> bool) -> Turn {
        match &self.state {
            State::Probing(probe, until) if *until <= now => {
                if stands(probe) {
                    self.undone = 0;
                    self.state = State::Proven;
                } else {
                    self.state = State::Unproven(None);
                }
                Turn::Go
            }
            State::Unproven(Some(from)) if *from <= now => {
                self.state = State::Unproven(None);
                Turn::Go
            }
            _ => Turn::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_is_written_first_and_the_others_when_it_was_left_alone() {
        let start = Instant::now();
        let mut takeover = Takeover::new(true);
        let first: Arc<str> = "a".into();
        assert!(takeover.may(start));
        takeover.begins(&first, start);
        assert!(!takeover.may(start));
        assert_eq!(takeover.fails("b"), Turn::Same);
        assert_eq!(takeover.look(start + PROBE / 2, |_| true), Turn::Same);
        assert_eq!(takeover.look(start + PROBE, |name| name == "a"), Turn::Go);
        assert!(takeover.may(start + PROBE));
        takeover.begins(&first, start + PROBE);
        assert!(takeover.may(start + PROBE), "it stays proven");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_undone_is_repeated_ever_more_rarely() {
        let mut now = Instant::now();
        let mut takeover = Takeover::new(true);
        let mut rests = Vec::new();
        for _ in 0..6 {
            assert!(takeover.may(now));
            takeover.begins(&"a".into(), now);
            assert!(takeover.undone(now), "it is news");
            assert!(!takeover.undone(now), "once");
            let undone = now;
            while !takeover.may(now) {
                assert_eq!(takeover.look(now, |_| true), Turn::Same);
                now += Duration::from_secs(60);
            }
            assert_eq!(takeover.look(now, |_| true), Turn::Go);
            rests.push((now - undone).as_secs() / 60);
        }
        assert_eq!(rests, [5, 10, 20, 40, 60, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_shows_nothing_is_made_elsewhere() {
        let now = Instant::now();
        let mut takeover = Takeover::new(true);
        takeover.begins(&"a".into(), now);
        assert_eq!(takeover.fails("a"), Turn::Go);
        assert!(takeover.may(now));
        takeover.begins(&"b".into(), now);
        assert_eq!(
            takeover.look(now + PROBE, |_| false),
            Turn::Go,
            "it is not there any more"
        );
        takeover.begins(&"c".into(), now + PROBE);
        assert!(!takeover.may(now + PROBE));
    }

    #[tokio::test(start_paused = true)]
    async fn never_unless_wanted() {
        assert!(!Takeover::new(false).may(Instant::now()));
        assert!(is_controller("pilot-discovery") && is_controller("cert-manager-istio-csr"));
        assert!(!is_controller("kubectl-edit") && !is_controller(crate::cluster::WRITER));
    }
}
