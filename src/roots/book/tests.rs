use proptest::prelude::*;

use super::*;
use crate::cluster::WRITER;
use crate::model::{Fingerprint, pem};

/// What may happen, to one of a few namespaces.
#[derive(Clone, Copy, Debug)]
enum Step {
    Namespace(u8, bool),
    NamespaceGone(u8),
    /// Holds the bundle of this number, by this writer.
    Map(u8, u8, u8),
    MapGone(u8),
    Want(u8),
    Next(bool),
    /// The oldest write ends so.
    Done(u8),
    Pass(u16),
    /// A list of one sort begins, shows some, and is complete.
    List(bool, u8),
    Lost(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..5_u8;
    prop_oneof![
        (name.clone(), any::<bool>()).prop_map(|(name, taken)| Step::Namespace(name, taken)),
        name.clone().prop_map(Step::NamespaceGone),
        (name.clone(), 0..4_u8, 0..3_u8).prop_map(|(name, text, writer)| Step::Map(name, text, writer)),
        name.prop_map(Step::MapGone),
        (0..4_u8).prop_map(Step::Want),
        any::<bool>().prop_map(Step::Next),
        any::<bool>().prop_map(Step::Next),
        (0..4_u8).prop_map(Step::Done),
        (0..4_u8).prop_map(Step::Done),
        (0..20_000_u16).prop_map(Step::Pass),
        (any::<bool>(), any::<u8>()).prop_map(|(sort, shown)| Step::List(sort, shown)),
        any::<bool>().prop_map(Step::Lost),
    ]
}

fn text(number: u8) -> Text {
    let pem = pem::certificate(&[number]);
    let set = Arc::new(BTreeSet::from([Fingerprint::of(&[number])]));
    Text { pem, set }
}

fn name(number: u8) -> String {
    format!("n{number}")
}

fn namespace(number: u8, taken: bool) -> Namespace {
    Namespace {
        name: name(number),
        labels: BTreeMap::new(),
        terminating: !taken,
    }
}

struct World {
    book: Book,
    now: Instant,
    writes: VecDeque<Job>,
    version: u32,
}

impl World {
    fn new(take_over: bool) -> Self {
        let now = Instant::now();
        let arrival = Duration::from_secs(60);
        let mut book = Book::new(Selection::default(), take_over, arrival, text(0));
        book.see_namespace(Seen::Begins, now);
        book.see_namespace(Seen::Complete, now);
        book.see_map(Seen::Begins, now);
        book.see_map(Seen::Complete, now);
        Self {
            book,
            now,
            writes: VecDeque::new(),
            version: 0,
        }
    }

    fn map(&mut self, number: u8, holds: u8, writer: u8) -> RootConfigMap {
        self.version += 1;
        RootConfigMap {
            namespace: name(number),
            version: self.version.to_string(),
            roots: Some(text(holds).pem),
            writer: Some(["kubectl-edit", "pilot-discovery", WRITER][usize::from(writer)].into()),
        }
    }

    fn take(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Namespace(number, taken) => self.book.see_namespace(Seen::Found(namespace(number, taken)), now),
            Step::NamespaceGone(number) => self.book.see_namespace(Seen::Gone(namespace(number, true)), now),
            Step::Map(number, holds, writer) => {
                let map = self.map(number, holds, writer);
                self.book.see_map(Seen::Found(map), now);
            }
            Step::MapGone(number) => {
                let map = self.map(number, 0, 0);
                self.book.see_map(Seen::Gone(map), now);
            }
            Step::Want(number) => drop(self.book.want(text(number), now)),
            Step::Next(only_urgent) => self.next(only_urgent),
            Step::Done(how) => {
                let Some(job) = self.writes.pop_front() else { return };
                match how {
                    0 => self.book.done(&job, Err(&ObjectError::Conflict), now),
                    1 => self.book.done(&job, Err(&ObjectError::Absent), now),
                    _ => self.book.done(&job, Ok(()), now),
                }
            }
            Step::Pass(milliseconds) => {
                self.now += Duration::from_millis(milliseconds.into());
                self.book.look(self.now);
            }
            Step::List(true, shown) => {
                self.book.see_namespace(Seen::Begins, now);
                for number in (0..5).filter(|number| shown & (1 << number) != 0) {
                    self.book.see_namespace(Seen::Found(namespace(number, true)), now);
                }
                self.book.see_namespace(Seen::Complete, now);
            }
            Step::List(false, shown) => {
                self.book.see_map(Seen::Begins, now);
                for number in (0..5).filter(|number| shown & (1 << number) != 0) {
                    let map = self.map(number, shown >> 6, 2);
                    self.book.see_map(Seen::Found(map), now);
                }
                self.book.see_map(Seen::Complete, now);
            }
            Step::Lost(true) => self.book.see_namespace(Seen::Lost(ObjectError::Expired), now),
            Step::Lost(false) => drop(self.book.see_map(Seen::Lost(ObjectError::Expired), now)),
        }
    }

    fn next(&mut self, only_urgent: bool) {
        let urgent: BTreeSet<Arc<str>> = self
            .ready()
            .filter(|(_, space)| space.urgent)
            .map(|(name, _)| name)
            .collect();
        let Some(job) = self.book.next(only_urgent, self.now) else {
            return;
        };
        assert!(
            urgent.is_empty() || urgent.contains(&job.namespace),
            "{urgent:?} came later"
        );
        assert!(!only_urgent || urgent.contains(&job.namespace));
        self.writes.push_back(job);
    }

    /// Namespaces that could be written now.
    fn ready(&self) -> impl Iterator<Item = (Arc<str>, &Space)> {
        let (book, now) = (&self.book, self.now);
        let could = move |space: &Space| {
            book.is_synced()
                && space.place != Place::InFlight
                && space.is_behind(&book.wanted.set, &book.takeover, now)
                && space.due(now).is_none()
        };
        let spaces = self.book.spaces.iter().filter(move |(_, space)| could(space));
        spaces.map(|(name, space)| (name.clone(), space))
    }

    /// Nobody is forgotten: whoever could be written stands in the queue that is due to him, and whoever waits is called.
    fn check(&self) {
        let book = &self.book;
        for (name, space) in self.ready() {
            // A waiting one is called with the next look.
            if !matches!(space.place, Place::Waiting(due) if due <= self.now) {
                let queue = if space.urgent { &book.urgent } else { &book.rest };
                assert!(matches!(space.place, Place::Queued { .. }), "{name}: {space:?}");
                assert!(
                    queue.contains(&name) || book.urgent.contains(&name),
                    "{name}: {space:?}"
                );
            }
        }
        for (name, space) in &book.spaces {
            if let Place::Waiting(due) = space.place {
                assert!(book.waiting.contains(&(due, name.clone())), "{name}: {space:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nobody_is_forgotten_and_who_waits_goes_first(take_over in any::<bool>(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(take_over);
        for step in steps {
            world.take(step);
            world.check();
        }
    }
}
