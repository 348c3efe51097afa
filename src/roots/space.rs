//! One namespace: what it holds, and what hinders us.
//!
//! Pure; [`Book`](super::book::Book) keeps one for each.

use std::time::Duration;

use tokio::time::Instant;

use super::held::{Mounted, RootSet};
use super::takeover::Takeover;

/// How long the API server may take to tell us of a write of ours, before it is looked into.
pub const ECHO: Duration = Duration::from_secs(5);
/// After a failed write; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Whoever changes what we wrote within this span works against us.
const CONTEST: Duration = Duration::from_secs(600);
/// So many times in a row, and it is left to the other for that span.
pub const CONTESTED: u32 = 3;
/// A ConfigMap that is deleted again and again is not left to anyone: pods wait for it.
const LONGEST_ABSENCE: Duration = Duration::from_secs(60);

/// A namespace.
#[derive(Debug)]
pub struct Space {
    /// The list that the namespace itself was found in.
    pub known: Option<u32>,
    /// It gets the roots.
    pub selected: bool,
    /// Its ConfigMap.
    pub map: Option<Map>,
    /// What its pods have.
    pub mounted: Mounted,
    /// Pods wait for the ConfigMap.
    pub urgent: bool,
    /// When we wrote last, unless somebody is known to have written since.
    pub wrote: Option<Instant>,
    /// How often somebody changed what we wrote shortly before.
    pub contests: u32,
    /// Writes that failed in a row.
    pub failures: u32,
    /// Until then the news of a write is waited for.
    pub echo: Option<Instant>,
    /// Until then nothing is tried.
    pause: Option<Instant>,
    /// Where it stands in line.
    pub place: Place,
}

/// A ConfigMap.
#[derive(Debug)]
pub struct Map {
    /// The list that it was found in.
    pub round: u32,
    /// Which state of it this is.
    pub version: String,
    /// The roots in it.
    pub held: RootSet,
    /// Another CA's controller wrote them.
    pub by_controller: bool,
}

/// Where a namespace stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not at all.
    Nowhere,
    /// Its turn comes.
    Queued {
        /// Before those who can wait.
        urgent: bool,
    },
    /// Until then.
    Waiting(Instant),
    /// It is being written.
    InFlight,
}

impl Space {
    /// `is_new`: everything was known, and it was not there.
    pub fn new(is_new: bool, now: Instant) -> Self {
        Self {
            known: None,
            selected: false,
            map: None,
            mounted: match is_new {
                true => Mounted::never(now),
                false => Mounted::unknown(now),
            },
            urgent: false,
            wrote: None,
            contests: 0,
            failures: 0,
            echo: None,
            pause: None,
            place: Place::Nowhere,
        }
    }

    /// Whether it holds exactly these roots.
    pub fn holds(&self, wanted: &RootSet) -> bool {
        self.map.as_ref().is_some_and(|map| map.held == *wanted)
    }

    /// Whether it is to be written.
    pub fn is_behind(&self, wanted: &RootSet, takeover: &Takeover, now: Instant) -> bool {
        let by_other = self.map.as_ref().is_some_and(|map| map.by_controller);
        self.selected && !self.holds(wanted) && (!by_other || takeover.may(now))
    }

    /// Whether it is left to somebody else.
    pub fn is_left(&self, takeover: &Takeover, now: Instant) -> bool {
        let contested = self.contests >= CONTESTED && self.due(now).is_some();
        self.map
            .as_ref()
            .is_some_and(|map| contested || map.by_controller && !takeover.may(now))
    }

    /// When something may be done again, if not now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.echo.max(self.pause).filter(|due| *due > now)
    }

    /// A write failed.
    pub fn fails(&mut self, now: Instant) {
        let pause = FIRST_PAUSE * 2_u32.pow(self.failures.min(9));
        self.failures += 1;
        self.pause = Some(now + pause.min(LONGEST_PAUSE));
    }

    /// It was changed to something that is not ours. Says whether that was somebody who works against us.
    pub fn is_contested(&mut self, now: Instant) -> bool {
        self.counts(now, CONTEST)
    }

    /// It was deleted.
    pub fn is_deleted(&mut self, now: Instant) {
        self.counts(now, LONGEST_ABSENCE);
    }

    fn counts(&mut self, now: Instant, longest: Duration) -> bool {
        let Some(wrote) = self.wrote.take() else { return false };
        if now >= wrote + CONTEST {
            self.contests = 0;
            return false;
        }
        self.contests += 1;
        // Anyone may change it once; it is put right at once.
        let pause = match self.contests {
            1 => Duration::ZERO,
            few if few < CONTESTED => FIRST_PAUSE * 2,
            many if longest < CONTEST => longest.min(FIRST_PAUSE * 2_u32.pow(many.min(9))),
            _ => longest,
        };
        self.pause = Some(now + pause);
        true
    }
}
