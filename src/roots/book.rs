//! What is known of every namespace, and what is to be written next.
//!
//! Takes: what was seen, what became of writes, the bundle, the time. Gives: [`Job`]s, and a [`Survey`]. Pure: no calls, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::held::{Reader, RootSet, Text};
use super::selection::Selection;
use super::space::{CONTESTED, ECHO, Map, Place, Space};
use super::survey::{Standing, Survey};
use super::takeover::{Takeover, Turn, is_controller};
use crate::cluster::{Namespace, ObjectError, RootConfigMap, Seen};

/// Bundles of ours that may still be on their way.
const MOST_BUNDLES: usize = 8;

/// The state of the work.
#[derive(Debug)]
pub struct Book {
    selection: Selection,
    arrival: Duration,
    wanted: Arc<Text>,
    /// Sets that were wanted lately, the present one included.
    ours: VecDeque<RootSet>,
    reader: Reader,
    spaces: BTreeMap<Arc<str>, Space>,
    namespaces: Listing,
    maps: Listing,
    /// Whether everything was known once.
    synced_before: bool,
    takeover: Takeover,
    /// Namespaces whose pods wait for their ConfigMap.
    urgent: VecDeque<Arc<str>>,
    rest: VecDeque<Arc<str>>,
    waiting: BTreeSet<(Instant, Arc<str>)>,
}

/// What a list has shown.
#[derive(Clone, Copy, Debug, Default)]
struct Listing {
    /// Counts the lists; what was found in an earlier one only is gone.
    round: u32,
    /// Whether everything is known.
    complete: bool,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where.
    pub namespace: Arc<str>,
    /// The state that is replaced; `None` when there is none.
    pub replaces: Option<String>,
    /// What is written.
    pub text: Arc<Text>,
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Another CA's controller undid a write of ours.
    Controller(Arc<str>, String),
    /// Somebody changed what we wrote, again and again.
    Contested(Arc<str>, String),
}

impl Book {
    /// Nothing is known yet.
    pub fn new(selection: Selection, take_over: bool, arrival: Duration, wanted: Text) -> Self {
        Self {
            selection,
            arrival,
            ours: VecDeque::from([wanted.set.clone()]),
            wanted: Arc::new(wanted),
            reader: Reader::default(),
            spaces: BTreeMap::new(),
            namespaces: Listing::default(),
            maps: Listing::default(),
            synced_before: false,
            takeover: Takeover::new(take_over),
            urgent: VecDeque::new(),
            rest: VecDeque::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// Whether everything is known.
    pub fn is_synced(&self) -> bool {
        self.namespaces.complete && self.maps.complete
    }

    /// What is to be written; says whether it is another set.
    pub fn want(&mut self, text: Text, now: Instant) -> bool {
        if self.wanted.pem == text.pem {
            return false;
        }
        let another = self.wanted.set != text.set;
        if another {
            self.ours.push_front(text.set.clone());
            self.ours.truncate(MOST_BUNDLES);
        }
        self.wanted = Arc::new(text);
        self.line_up_all(now);
        another
    }

    /// A namespace was seen.
    pub fn see_namespace(&mut self, seen: Seen<Namespace>, now: Instant) {
        match seen {
            Seen::Begins => self.namespaces.begins(),
            Seen::Lost(_) => self.namespaces.complete = false,
            Seen::Found(namespace) => {
                let name: Arc<str> = namespace.name.as_str().into();
                let fresh = Space::new(self.is_synced(), now);
                let space = self.spaces.entry(name.clone()).or_insert(fresh);
                let selected = self.selection.takes(&namespace);
                // The first list may find thousands without: whoever comes later must not wait for them.
                space.urgent |= selected && !space.selected && self.synced_before;
                space.selected = selected;
                space.known = Some(self.namespaces.round);
                self.line_up(&name, now);
            }
            Seen::Gone(namespace) => self.lose_namespace(&namespace.name, now),
            Seen::Complete => {
                self.namespaces.complete = true;
                let round = self.namespaces.round;
                for name in self.names(|space| space.known.is_some_and(|known| known != round)) {
                    self.lose_namespace(&name, now);
                }
                self.completes(now);
            }
        }
    }

    fn lose_namespace(&mut self, name: &str, now: Instant) {
        let Some(space) = self.spaces.get_mut(name) else { return };
        (space.known, space.selected) = (None, false);
        if space.map.is_none() {
            self.spaces.remove(name);
        }
        if self.takeover.fails(name) == Turn::Go {
            self.line_up_all(now);
        }
    }

    /// A ConfigMap was seen.
    pub fn see_map(&mut self, seen: Seen<RootConfigMap>, now: Instant) -> Option<News> {
        match seen {
            Seen::Begins => self.maps.begins(),
            Seen::Lost(_) => self.maps.complete = false,
            Seen::Found(map) => return self.find_map(map, now),
            Seen::Gone(map) => self.lose_map(&map.namespace, now),
            Seen::Complete => {
                self.maps.complete = true;
                let round = self.maps.round;
                for name in self.names(|space| space.map.as_ref().is_some_and(|map| map.round != round)) {
                    self.lose_map(&name, now);
                }
                self.completes(now);
            }
        }
        None
    }

    fn find_map(&mut self, found: RootConfigMap, now: Instant) -> Option<News> {
        let held = self.reader.read(found.roots.as_deref());
        let name: Arc<str> = found.namespace.as_str().into();
        let writer = found.writer.unwrap_or_default();
        let by_controller = is_controller(&writer);
        let fresh = Space::new(false, now);
        let space = self.spaces.entry(name.clone()).or_insert(fresh);
        space.mounted.change(&held, now, self.arrival);
        let is_news = space.map.as_ref().is_none_or(|map| map.version != found.version);
        let is_foreign = is_news && !self.ours.contains(&held);
        space.map = Some(Map {
            round: self.maps.round,
            version: found.version,
            held,
            by_controller,
        });
        space.urgent = false;
        let mut news = None;
        if is_news {
            space.echo = None;
        }
        if is_foreign && space.is_contested(now) {
            if by_controller && self.takeover.undone(now) {
                news = Some(News::Controller(name.clone(), writer));
            } else if space.contests == CONTESTED {
                news = Some(News::Contested(name.clone(), writer));
            }
        }
        self.line_up(&name, now);
        news
    }

    fn lose_map(&mut self, name: &str, now: Instant) {
        let Some(space) = self.spaces.get_mut(name) else { return };
        space.mounted.change(&RootSet::default(), now, self.arrival);
        space.map = None;
        space.echo = None;
        space.urgent = self.synced_before;
        space.is_deleted(now);
        if space.known.is_none() {
            self.spaces.remove(name);
        }
        self.line_up(&name.into(), now);
    }

    /// The next write, if there is one. `only_urgent`: for a namespace whose pods wait.
    pub fn next(&mut self, only_urgent: bool, now: Instant) -> Option<Job> {
        if !self.is_synced() {
            return None;
        }
        loop {
            let urgent = self.urgent.pop_front();
            let was_urgent = urgent.is_some();
            let name = match urgent {
                None if !only_urgent => self.rest.pop_front(),
                urgent => urgent,
            }?;
            // Much may have changed since it was queued.
            let Some(space) = self.spaces.get_mut(&name) else {
                continue;
            };
            if !matches!(space.place, Place::Queued { .. }) {
                continue;
            }
            space.place = Place::Nowhere;
            if was_urgent && !space.urgent
                || !space.is_behind(&self.wanted.set, &self.takeover, now)
                || space.due(now).is_some()
            {
                self.line_up(&name, now);
                continue;
            }
            space.place = Place::InFlight;
            space.wrote = Some(now);
            if space.map.as_ref().is_some_and(|map| map.by_controller) {
                self.takeover.begins(&name, now);
            }
            return Some(Job {
                replaces: space.map.as_ref().map(|map| map.version.clone()),
                namespace: name,
                text: self.wanted.clone(),
            });
        }
    }

    /// Whether [`Self::next`] may have something.
    pub fn has_work(&self, only_urgent: bool) -> bool {
        self.is_synced() && (!self.urgent.is_empty() || !only_urgent && !self.rest.is_empty())
    }

    /// A write ended.
    pub fn done(&mut self, job: &Job, result: Result<(), &ObjectError>, now: Instant) {
        let name = &job.namespace;
        let Some(space) = self.spaces.get_mut(name) else { return };
        space.place = Place::Nowhere;
        match result {
            Ok(()) => {
                space.failures = 0;
                // What became of it is about to be seen, if it was not already.
                space.echo = (!space.holds(&job.text.set)).then_some(now + ECHO);
            }
            Err(error) => {
                space.wrote = None;
                match error {
                    // Somebody was faster; what they did is about to be seen.
                    ObjectError::Conflict => space.echo = Some(now + ECHO),
                    _ => space.fails(now),
                }
                if self.takeover.fails(name) == Turn::Go {
                    self.line_up_all(now);
                }
            }
        }
        self.line_up(name, now);
    }

    /// Lets time do what it may.
    pub fn look(&mut self, now: Instant) {
        let (spaces, wanted) = (&self.spaces, &self.wanted);
        let stands = |name: &str| {
            spaces
                .get(name)
                .is_some_and(|space| space.selected && space.holds(&wanted.set))
        };
        if self.takeover.look(now, stands) == Turn::Go {
            self.line_up_all(now);
        }
        while let Some((due, _)) = self.waiting.first()
            && *due <= now
            && let Some((_, name)) = self.waiting.pop_first()
        {
            self.line_up(&name, now);
        }
    }

    /// How it stands.
    pub fn survey(&self, now: Instant) -> Survey {
        let mut survey = Survey::new(self.is_synced());
        for (name, space) in self.spaces.iter().filter(|(_, space)| space.selected) {
            let standing = if space.holds(&self.wanted.set) {
                Standing::Current
            } else if space.failures > 1 {
                // A namespace that is just being deleted refuses once.
                Standing::Failed
            } else if space.is_left(&self.takeover, now) {
                Standing::Foreign
            } else {
                Standing::Behind
            };
            let sure = space.mounted.sure(now, self.arrival);
            survey.add(name, standing, &sure);
        }
        survey
    }

    fn names(&self, which: impl Fn(&Space) -> bool) -> Vec<Arc<str>> {
        let found = self.spaces.iter().filter(|(_, space)| which(space));
        found.map(|(name, _)| name.clone()).collect()
    }

    fn line_up_all(&mut self, now: Instant) {
        for name in self.names(|space| space.selected) {
            self.line_up(&name, now);
        }
    }

    /// Puts a namespace where it belongs, unless it is there already.
    fn line_up(&mut self, name: &Arc<str>, now: Instant) {
        let synced = self.is_synced();
        let Some(space) = self.spaces.get_mut(name) else { return };
        match space.place {
            Place::InFlight => return,
            Place::Queued { urgent } if urgent || !space.urgent => return,
            // It stays in the other queue too: whichever comes first counts.
            Place::Queued { .. } => {}
            Place::Waiting(until) => drop(self.waiting.remove(&(until, name.clone()))),
            Place::Nowhere => {}
        }
        space.place = Place::Nowhere;
        if !synced || !space.is_behind(&self.wanted.set, &self.takeover, now) {
            return;
        }
        if let Some(due) = space.due(now) {
            space.place = Place::Waiting(due);
            self.waiting.insert((due, name.clone()));
            return;
        }
        space.place = Place::Queued { urgent: space.urgent };
        let queue = match space.urgent {
            true => &mut self.urgent,
            false => &mut self.rest,
        };
        queue.push_back(name.clone());
    }

    /// A list is complete.
    fn completes(&mut self, now: Instant) {
        self.synced_before |= self.is_synced();
        self.line_up_all(now);
    }
}

impl Listing {
    fn begins(&mut self) {
        self.round += 1;
        self.complete = false;
    }
}

#[cfg(test)]
mod tests;
