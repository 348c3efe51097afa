//! What a namespace's ConfigMap holds, and since when its pods can be expected to have it.
//!
//! Takes: the ConfigMap's text, over time. Gives: sets of roots. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Bundle, Fingerprint, pem};

/// Roots as a set: in a ConfigMap neither their order nor text around them says anything.
pub type RootSet = Arc<BTreeSet<Fingerprint>>;

/// More than any bundle has.
const MOST_ROOTS: usize = 1000;
/// Different texts are few: what one bundle makes, over a change or two.
const MOST_TEXTS: usize = 16;

/// A bundle as it is written.
#[derive(Debug)]
pub struct Text {
    /// PEM.
    pub pem: String,
    /// The roots in it.
    pub set: RootSet,
}

impl Text {
    /// Of a bundle.
    pub fn of(bundle: &Bundle) -> Self {
        Self {
            pem: bundle.pem().to_owned(),
            set: Arc::new(bundle.roots().iter().map(|root| root.fingerprint()).collect()),
        }
    }
}

/// Reads texts that are mostly the same one, thousands of times.
#[derive(Debug, Default)]
pub struct Reader(VecDeque<Text>);

impl Reader {
    /// The roots in a text; none in one that cannot be read in exactly one way.
    pub fn read(&mut self, text: Option<&str>) -> RootSet {
        let Some(text) = text else { return RootSet::default() };
        if let Some(known) = self.0.iter().find(|known| known.pem == text) {
            return known.set.clone();
        }
        let blocks = pem::blocks(text.as_bytes(), MOST_ROOTS).unwrap_or_default();
        let found = match blocks
            .iter()
            .all(|block| block.label == pem::CERTIFICATE && !block.encrypted)
        {
            true => blocks.iter().map(|block| Fingerprint::of(&block.der)).collect(),
            false => BTreeSet::new(),
        };
        // One set is kept for all texts that mean it.
        let set = match self.0.iter().find(|known| *known.set == found) {
            Some(known) => known.set.clone(),
            None => Arc::new(found),
        };
        if text.len() <= 256 << 10 {
            self.0.push_front(Text {
                pem: text.to_owned(),
                set: set.clone(),
            });
            self.0.truncate(MOST_TEXTS);
        }
        set
    }
}

/// What the pods of a namespace have in their root files.
///
/// A kubelet brings a changed ConfigMap into running pods only some time later (Kubernetes: its sync period plus the delay of its cache). Until
/// then a pod may have the one or the other, and only roots that are in both count.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// `None`: there was nothing, so that pods wait for their first ConfigMap.
    before: Option<RootSet>,
    now: RootSet,
    since: Instant,
}

impl Mounted {
    /// Of a namespace that is new.
    pub fn never(now: Instant) -> Self {
        Self {
            before: None,
            now: RootSet::default(),
            since: now,
        }
    }

    /// Of a namespace whose past is unknown.
    pub fn unknown(now: Instant) -> Self {
        Self {
            before: Some(RootSet::default()),
            ..Self::never(now)
        }
    }

    /// The ConfigMap holds this now; an empty set when there is none.
    pub fn change(&mut self, set: &RootSet, now: Instant, arrival: Duration) {
        if self.now == *set {
            return;
        }
        self.before = Some(match self.before {
            Some(_) => self.sure(now, arrival),
            None => set.clone(),
        });
        self.now = set.clone();
        self.since = now;
    }

    /// The roots that every pod has for sure.
    pub fn sure(&self, now: Instant, arrival: Duration) -> RootSet {
        match &self.before {
            Some(before) if now < self.since + arrival && !Arc::ptr_eq(before, &self.now) => {
                Arc::new(before.intersection(&self.now).copied().collect())
            }
            _ => self.now.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRIVAL: Duration = Duration::from_secs(60);

    fn certificate(name: &str) -> String {
        pem::certificate(name.as_bytes())
    }

    fn set(names: &[&str]) -> RootSet {
        Arc::new(names.iter().map(|name| Fingerprint::of(name.as_bytes())).collect())
    }

    #[test]
    fn order_and_text_around_say_nothing() {
        let mut reader = Reader::default();
        let (a, b) = (certificate("a"), certificate("b"));
        let expected = set(&["a", "b"]);
        for text in [
            format!("{a}{b}"),
            format!("{b}# the company's\n{a}"),
            format!("{a}{b}{a}"),
        ] {
            assert_eq!(reader.read(Some(&text)), expected, "{text}");
        }
        let all = [format!("{a}{b}"), format!("{b}{a}")].map(|text| reader.read(Some(&text)));
        assert!(Arc::ptr_eq(&all[0], &all[1]), "one set is kept for all");
        assert_eq!(reader.read(Some(&a)), set(&["a"]));
    }

    #[test]
    fn what_cannot_be_read_holds_nothing() {
        let mut reader = Reader::default();
        let a = certificate("a");
        for text in [
            "",
            "nothing",
            &a[..a.len() - 10],
            &format!("{a}{}", pem::encode("PRIVATE KEY", b"k")),
        ] {
            assert_eq!(reader.read(Some(text)), set(&[]), "{text}");
        }
        assert_eq!(reader.read(None), set(&[]));
    }

    #[test]
    fn texts_that_are_remembered_are_few() {
        let mut reader = Reader::default();
        for number in 0..100 {
            reader.read(Some(&certificate(&number.to_string())));
        }
        reader.read(Some(&"x".repeat(1 << 20)));
        assert_eq!(reader.0.len(), MOST_TEXTS);
    }

    #[tokio::test(start_paused = true)]
    async fn pods_have_a_change_some_time_later() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut mounted = Mounted::never(start);
        let steps: [(u64, &[&str], u64, &[&str]); 9] = [
            // Changed then, to this; so looked at then, every pod has this.
            (5, &["a"], 5, &["a"]),
            (10, &["a", "b"], 10, &["a"]),
            (40, &["a", "b"], 69, &["a"]),
            (70, &["a", "b"], 70, &["a", "b"]),
            (100, &["b"], 100, &["b"]),
            (200, &[], 200, &[]),
            // Gone and back: a kubelet may have noticed.
            (201, &["b"], 260, &[]),
            (260, &["b"], 261, &["b"]),
            (300, &["a"], 360, &["a"]),
        ];
        for (changed, holds, looked, sure) in steps {
            mounted.change(&set(holds), later(changed), ARRIVAL);
            assert_eq!(
                mounted.sure(later(looked), ARRIVAL),
                set(sure),
                "{changed} {holds:?} {looked}"
            );
        }
        let mut unknown = Mounted::unknown(start);
        unknown.change(&set(&["a"]), start, ARRIVAL);
        assert_eq!(unknown.sure(later(59), ARRIVAL), set(&[]));
        assert_eq!(unknown.sure(later(60), ARRIVAL), set(&["a"]));
    }
}
