use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400;
const NOW: i64 = 1_900_000_000;

static ROOTS: LazyLock<Vec<Fingerprint>> = LazyLock::new(|| (0..5_u8).map(|root| Fingerprint::of(&[root])).collect());

fn root(number: usize) -> Fingerprint {
    ROOTS[number]
}

/// A set of files whose signer ends at `signing`.
fn files(signing: usize, others: &[usize]) -> Offer {
    let mut roots = vec![root(signing)];
    roots.extend(others.iter().map(|other| root(*other)));
    Offer {
        root: root(signing),
        roots,
        chain: vec![Fingerprint::of(&[100 + signing as u8])],
        renewal: false,
    }
}

/// The machine with the mesh around it.
struct World {
    rotation: Rotation,
    now: i64,
    spread: BTreeSet<Fingerprint>,
    /// The bundle as it stood last.
    order: Vec<Fingerprint>,
    /// What answers were made from: the present one last.
    snapshots: Vec<Snapshot>,
    leaves: Vec<Leaf>,
}

#[derive(Clone)]
struct Snapshot {
    era: u64,
    signing: Option<Fingerprint>,
    bundle: BTreeSet<Fingerprint>,
    /// What it may issue without asking.
    covered: i64,
}

struct Leaf {
    root: Fingerprint,
    not_after: i64,
    /// What its holder was answered with.
    bundle: BTreeSet<Fingerprint>,
}

impl World {
    fn new(first: &Offer) -> Self {
        let mut world = Self {
            rotation: Rotation::begin(first),
            now: NOW,
            spread: BTreeSet::new(),
            order: Vec::new(),
            snapshots: Vec::new(),
            leaves: Vec::new(),
        };
        world.settle();
        world
    }

    fn settle(&mut self) {
        self.rotation.settle(Timestamp::from_unix(self.now), &self.spread);
        assert!(self.rotation.is_consistent(), "{:?}", self.rotation);
        assert!(
            !self.rotation.settle(Timestamp::from_unix(self.now), &self.spread),
            "nothing is left to settle"
        );
        // What stays keeps its place, what is new is appended: clients compare the text (conformance lines 28 and 29).
        let bundle: Vec<Fingerprint> = self.rotation.bundle().collect();
        let kept: Vec<_> = self
            .order
            .iter()
            .filter(|root| bundle.contains(root))
            .copied()
            .collect();
        assert_eq!(bundle[..kept.len()], kept);
        self.order = bundle;
        let era = self.rotation.number();
        if self.snapshots.last().is_none_or(|snapshot| snapshot.era != era) {
            self.snapshots.push(Snapshot {
                era,
                signing: self.rotation.signing(),
                bundle: self.rotation.bundle().collect(),
                covered: i64::MIN,
            });
        }
    }

    fn offer(&mut self, offer: &Offer) -> Result<(), Refused> {
        let result = self.rotation.offer(offer, Timestamp::from_unix(self.now));
        self.settle();
        result
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.settle();
    }

    /// A call that read its snapshot `back` changes ago.
    fn issue(&mut self, lifetime: i64, back: usize) -> bool {
        let index = self.snapshots.len().saturating_sub(1 + back);
        let snapshot = &mut self.snapshots[index];
        let Some(signing) = snapshot.signing else { return false };
        let not_after = self.now + lifetime;
        if not_after > snapshot.covered {
            let rounded = not_after + lifetime / 16;
            if self
                .rotation
                .cover(snapshot.era, Timestamp::from_unix(rounded))
                .is_err()
            {
                return false;
            }
            snapshot.covered = rounded;
        }
        self.leaves.push(Leaf {
            root: signing,
            not_after,
            bundle: snapshot.bundle.clone(),
        });
        true
    }

    /// As a crash would: what is durable is read back.
    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.rotation).unwrap();
        self.rotation = serde_json::from_str(&stored).unwrap();
        self.snapshots = vec![Snapshot {
            era: self.rotation.number(),
            signing: self.rotation.signing(),
            bundle: self.rotation.bundle().collect(),
            covered: self.rotation.covered().map_or(i64::MIN, Timestamp::unix),
        }];
        self.settle();
    }

    /// Any two valid leaves: each verifies against what the other's holder trusts, also by clocks that run behind.
    fn check(&mut self) {
        let now = self.now;
        self.leaves.retain(|leaf| leaf.not_after + MARGIN_SECONDS >= now);
        for leaf in &self.leaves {
            for other in &self.leaves {
                assert!(
                    other.bundle.contains(&leaf.root),
                    "a leaf under {:?} (until {}) meets a holder that trusts {:?} (until {}) at {now}\n{:#?}",
                    leaf.root,
                    leaf.not_after,
                    other.bundle,
                    other.not_after,
                    self.rotation
                );
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Offer(usize, Vec<usize>),
    Issue { hours: i64, back: usize },
    Pass { hours: i64 },
    Confirm,
    Spread,
    Restart,
    Withdraw(usize),
    Forget(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..5_usize, prop::collection::vec(0..5_usize, 0..3)).prop_map(|(signing, others)| Act::Offer(signing, others)),
        6 => (1..72_i64, 0..3_usize).prop_map(|(hours, back)| Act::Issue { hours, back }),
        4 => (0..40_i64).prop_map(|hours| Act::Pass { hours }),
        2 => Just(Act::Confirm),
        1 => Just(Act::Spread),
        1 => Just(Act::Restart),
        1 => (0..10_usize).prop_map(Act::Withdraw),
        1 => (0..5_usize).prop_map(Act::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_two_valid_leaves_verify_each_other(acts in prop::collection::vec(act(), 1..60)) {
        let first = files(0, &[]);
        let mut world = World::new(&first);
        for act in acts {
            match act {
                Act::Offer(signing, others) => {
                    let _ = world.offer(&files(signing, &others));
                }
                Act::Issue { hours, back } => {
                    world.issue(hours * 3600, back);
                }
                Act::Pass { hours } => world.pass(hours * 3600),
                Act::Confirm => {
                    let _ = world.rotation.confirm();
                    world.settle();
                }
                Act::Spread => {
                    world.spread = world.rotation.bundle().collect();
                    world.settle();
                }
                Act::Restart => world.restart(),
                // Rarely the root: nothing signs then for the rest of this case, or until another is offered.
                Act::Withdraw(number) if number < 5 => {
                    let signing = world.rotation.signing();
                    let chain: Vec<_> = (0..5).filter(|one| signing == Some(root(*one))).flat_map(|one| files(one, &[]).chain).collect();
                    world.rotation.withdraw(files(number, &[]).chain[0], &chain);
                    world.settle();
                }
                Act::Withdraw(number) => {
                    if number == 9 {
                        world.rotation.withdraw(root(4), &[]);
                        world.settle();
                    }
                }
                Act::Forget(number) => {
                    let _ = world.rotation.forget(root(number), false);
                    world.settle();
                }
            }
            world.check();
        }
    }

    /// Whatever happened before, a change that was confirmed ends: the new root signs, then the old ones are gone.
    #[test]
    fn a_confirmed_change_ends(acts in prop::collection::vec((0..4_usize, 1..72_i64, 0..40_i64), 0..20)) {
        let mut world = World::new(&files(0, &[]));
        for (signing, lifetime, pass) in acts {
            world.offer(&files(signing, &[])).unwrap();
            world.issue(lifetime * 3600, 0);
            world.pass(pass * 3600);
        }
        world.offer(&files(4, &[])).unwrap();
        world.rotation.confirm().unwrap();
        let rounded = 72 * 3600 * 17 / 16;
        world.pass(rounded + MARGIN_SECONDS + 1);
        prop_assert_eq!(world.rotation.signing(), Some(root(4)));
        world.pass(rounded + MARGIN_SECONDS + 1);
        let signed_before = world.rotation.roots.iter().any(|known| known.signed && known.root != root(4));
        prop_assert!(!signed_before, "{:?}", world.rotation);
    }
}

#[test]
fn a_new_root_waits_for_the_last_leaf_without_it_and_for_distribution() {
    let mut world = World::new(&files(0, &[]));
    assert!(world.issue(DAY, 0));
    world.offer(&files(1, &[])).unwrap();
    let both: Vec<_> = world.rotation.bundle().collect();
    assert_eq!(both, [root(0), root(1)], "the new root is appended at once");
    assert_eq!(world.rotation.signing(), Some(root(0)));
    let until = Timestamp::from_unix(NOW + DAY + DAY / 16 + MARGIN_SECONDS);
    assert_eq!(
        world.rotation.waits(&world.spread),
        [Wait::Leaves { until }, Wait::Distribution]
    );
    world.pass(until.since(Timestamp::from_unix(NOW)) + 1);
    assert_eq!(world.rotation.waits(&world.spread), [Wait::Distribution]);
    world.rotation.confirm().unwrap();
    world.settle();
    assert_eq!(world.rotation.signing(), Some(root(1)));
    // Nothing under the old root is valid any more.
    assert_eq!(world.rotation.bundle().collect::<Vec<_>>(), [root(1)]);
}

#[test]
fn the_old_root_stays_until_its_last_leaf_has_expired() {
    let mut world = World::new(&files(0, &[]));
    world.issue(3600, 0);
    world.offer(&files(1, &[])).unwrap();
    world.spread = world.rotation.bundle().collect();
    world.issue(DAY, 0);
    world.pass(2 * 3600);
    assert_eq!(world.rotation.signing(), Some(root(1)));
    let until = world.rotation.leaves_until(root(0)).unwrap();
    assert_eq!(until, Timestamp::from_unix(NOW + DAY + DAY / 16 + MARGIN_SECONDS));
    world.pass(until.since(Timestamp::from_unix(world.now)));
    assert!(world.rotation.trusts(&root(0)));
    world.pass(1);
    assert!(!world.rotation.trusts(&root(0)));
}

/// Istio's dance: first a bundle with both roots, later the new signer.
#[test]
fn a_root_that_has_long_been_in_the_bundle_signs_at_once() {
    let mut world = World::new(&files(0, &[1]));
    world.issue(DAY, 0);
    world.offer(&files(1, &[0])).unwrap();
    world.rotation.confirm().unwrap();
    world.settle();
    assert_eq!(world.rotation.signing(), Some(root(1)));
}

#[test]
fn a_root_never_leaves_because_a_file_lost_it() {
    let mut world = World::new(&files(0, &[2]));
    world.offer(&files(0, &[])).unwrap();
    world.pass(400 * DAY);
    assert!(
        world.rotation.trusts(&root(2)),
        "how long others need it is not known here"
    );
    assert_eq!(
        world.rotation.forget(root(0), true),
        Err(Refused::InUse(root(0), "it signs"))
    );
    world.rotation.forget(root(2), false).unwrap();
    assert!(!world.rotation.trusts(&root(2)));
}

#[test]
fn putting_the_old_files_back_undoes_a_change() {
    let mut world = World::new(&files(0, &[]));
    world.issue(DAY, 0);
    world.offer(&files(1, &[])).unwrap();
    world.offer(&files(0, &[])).unwrap();
    world.pass(2 * DAY);
    assert_eq!(world.rotation.signing(), Some(root(0)));
    assert_eq!(world.rotation.confirm(), Err(Refused::NothingPending));
}

#[test]
fn a_renewed_root_needs_no_distribution() {
    let mut world = World::new(&files(0, &[]));
    world.issue(DAY, 0);
    let mut renewed = files(1, &[0]);
    renewed.renewal = true;
    world.offer(&renewed).unwrap();
    world.pass(2 * DAY);
    assert_eq!(world.rotation.signing(), Some(root(1)));
    world.pass(400 * DAY);
    assert!(world.rotation.trusts(&root(0)), "its file lists it");
}

#[test]
fn a_withdrawn_signer_signs_no_more_and_its_root_may_go_on_with_another() {
    let mut world = World::new(&files(0, &[]));
    world.issue(DAY, 0);
    let leaked = files(0, &[]);
    world.rotation.withdraw(leaked.chain[0], &leaked.chain);
    world.settle();
    assert_eq!(world.rotation.signing(), None);
    assert_eq!(world.offer(&leaked), Err(Refused::Withdrawn(leaked.chain[0])));
    let mut other = files(0, &[]);
    other.chain = vec![Fingerprint::of(b"another intermediate")];
    world.offer(&other).unwrap();
    assert_eq!(
        world.rotation.signing(),
        Some(root(0)),
        "every client trusts its root already"
    );
}

#[test]
fn a_withdrawn_root_leaves_with_its_last_leaf() {
    let mut world = World::new(&files(0, &[]));
    world.issue(DAY, 0);
    world.rotation.withdraw(root(0), &files(0, &[]).chain);
    world.settle();
    assert!(!world.issue(DAY, 0));
    world.offer(&files(1, &[])).unwrap();
    world.rotation.activate_now().unwrap();
    world.settle();
    assert_eq!(world.rotation.signing(), Some(root(1)));
    assert!(world.rotation.trusts(&root(0)));
    world.pass(2 * DAY);
    assert!(!world.rotation.trusts(&root(0)));
}

/// The intermediate of the set that waits leaked before it ever signed: another one under the same root begins anew.
#[test]
fn a_withdrawn_signer_does_not_wait_to_sign() {
    let mut world = World::new(&files(0, &[]));
    world.issue(DAY, 0);
    let mut waiting = files(1, &[]);
    world.offer(&waiting).unwrap();
    world.rotation.withdraw(waiting.chain[0], &files(0, &[]).chain);
    world.settle();
    assert_eq!(
        (world.rotation.pending(), world.rotation.signing()),
        (None, Some(root(0)))
    );
    let leaked = std::mem::replace(&mut waiting.chain, vec![Fingerprint::of(b"another intermediate")]);
    world.offer(&waiting).unwrap();
    world.rotation.withdraw(leaked[0], &files(0, &[]).chain);
    assert_eq!(world.rotation.pending(), Some(root(1)));
}

#[test]
fn the_last_root_never_leaves() {
    let mut world = World::new(&files(0, &[]));
    world.rotation.withdraw(root(0), &[]);
    world.settle();
    assert_eq!(
        world.rotation.forget(root(0), true).unwrap_err().to_string(),
        format!(
            "{} is in use: it is the only one in the bundle: put files with another root in place first",
            root(0)
        )
    );
    assert_eq!(world.rotation.bundle().collect::<Vec<_>>(), [root(0)]);
    assert_eq!(world.rotation.signing(), None);
}

#[test]
fn a_call_that_read_an_old_snapshot_is_refused_once_its_time_is_over() {
    let mut world = World::new(&files(0, &[]));
    world.issue(3600, 0);
    world.offer(&files(1, &[])).unwrap();
    assert!(
        world.issue(DAY, 1),
        "its bundle lacks the new root: the change waits for it"
    );
    world.rotation.confirm().unwrap();
    world.pass(2 * 3600);
    assert_eq!(world.rotation.signing(), Some(root(0)));
    world.pass(2 * DAY);
    assert_eq!(world.rotation.signing(), Some(root(1)));
    world.snapshots.remove(1);
    assert!(!world.issue(DAY, 1), "{:?}", world.rotation);
}

#[test]
fn a_mark_is_never_lowered() {
    let mut rotation = World::new(&files(0, &[])).rotation;
    let (soon, late) = (Timestamp::from_unix(NOW + 1), Timestamp::from_unix(NOW + 2));
    rotation.cover(1, late).unwrap();
    rotation.cover(1, soon).unwrap();
    assert_eq!(rotation.covered(), Some(late));
}

#[test]
fn roots_and_changes_are_bounded() {
    let mut world = World::new(&files(0, &[]));
    let mut many = files(0, &[]);
    many.roots = (0..65_u8).map(|number| Fingerprint::of(&[number])).collect();
    let before = world.rotation.clone();
    assert_eq!(world.offer(&many), Err(Refused::TooManyRoots));
    assert_eq!(world.rotation, before);
}

#[test]
fn a_state_that_was_edited_is_noticed() {
    let good = World::new(&files(0, &[1])).rotation;
    let edits: [fn(&mut Rotation); 6] = [
        |state| state.eras.clear(),
        |state| state.eras[0].signing = Some(root(3)),
        |state| state.roots.clear(),
        |state| state.roots.push(state.roots[0].clone()),
        |state| {
            state.withdrawn.insert(root(0));
        },
        |state| {
            let era = state.eras[0].clone();
            state.eras.push(era);
        },
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut state = good.clone();
        edit(&mut state);
        assert!(!state.is_consistent(), "edit {number}");
    }
}
