//! A change of root that cuts nobody off, as a pure machine.
//!
//! Takes: what the CA's files offer, the leaves that are about to leave, an admin's word, the time. Gives: which roots clients are told to
//! trust, which root signs, and what a change still waits for. Not here: files, keys, waiting.
//!
//! For any two valid leaves issued here, each verifies against the bundle that the other's holder was answered with. Two rules keep that:
//!
//! - a root *signs* only when the last leaf that was answered without it in the bundle has expired;
//! - a root *leaves the bundle* only when the last leaf under it has expired.
//!
//! Both are read off the *eras*: spans in which bundle and signing root stayed the same, each with the latest NotAfter that left in it. An era
//! is forgotten when that has passed, with a margin for clocks that differ.
//!
//! ```text
//! offered ──► published (in the bundle) ──► signs ──► outgoing (another signs) ──► retired (out of the bundle)
//!             waits for: leaves without it,             waits for: leaves under it,
//!             distribution or an admin's word           its file to drop it
//! ```

mod gates;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use gates::{Outlook, RootOutlook, Wait};

use crate::model::{Fingerprint, Timestamp};

/// Added to a leaf's NotAfter before it counts as expired everywhere: clocks of verifiers differ from ours.
pub const MARGIN_SECONDS: i64 = 300;
/// More roots than any mesh has; every client verifies against all of them, and each answer carries them.
const MOST_ROOTS: usize = 64;
/// More changes in the lifetime of one leaf than anyone makes; each is kept until its leaves have expired.
const MOST_ERAS: usize = 1_000;

/// Where the CA stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Oldest first; never empty, the last is now.
    eras: Vec<Era>,
    /// The bundle in the order of joining.
    roots: Vec<Root>,
    /// The root that is to sign.
    change: Option<Change>,
    /// Certificates whose key is not to be believed any more.
    withdrawn: BTreeSet<Fingerprint>,
}

/// A span in which bundle and signing root stayed the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Era {
    number: u64,
    roots: BTreeSet<Fingerprint>,
    /// None signs after a withdrawal.
    signing: Option<Fingerprint>,
    /// No leaf that left in this era is valid after this point. None left yet: `None`.
    until: Option<i64>,
}

/// A root of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    root: Fingerprint,
    /// The files list it.
    listed: bool,
    /// It signed here: how long it is needed is known.
    signed: bool,
}

/// A change of root that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    root: Fingerprint,
    /// The signer and what stands between it and that root.
    chain: Vec<Fingerprint>,
    since: i64,
    /// An admin said that it has been distributed.
    confirmed: bool,
    /// The signing root with new dates: who trusts the one trusts the other's key.
    renewal: bool,
}

/// A set of CA files that was found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The root that its signer ends at.
    pub root: Fingerprint,
    /// Every root that it lists.
    pub roots: Vec<Fingerprint>,
    /// The signer and what stands between it and the root.
    pub chain: Vec<Fingerprint>,
    /// Its root is the one that signs, with new dates: same name, same key.
    pub renewal: bool,
}

/// Why something does not happen. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Withdrawn for good.
    #[error("{0} was withdrawn and signs no more; make another key and certificate")]
    Withdrawn(Fingerprint),
    /// Too many.
    #[error("the bundle would hold more than {MOST_ROOTS} roots; remove those that nobody needs")]
    TooManyRoots,
    /// Too fast.
    #[error(
        "more than {MOST_ERAS} changes of roots within the life of one certificate; wait until earlier ones have settled"
    )]
    TooManyChanges,
    /// The caller's snapshot is of a time that is over.
    #[error("the CA has changed since; ask again")]
    EraIsOver,
    /// There is no change.
    #[error("no change of root is pending")]
    NothingPending,
    /// Not the change that was meant.
    #[error("another root is pending by now; look again before you say more about it")]
    AnotherPending,
    /// No such root.
    #[error("{0} is not in the bundle")]
    Unknown(Fingerprint),
    /// It cannot go.
    #[error("{0} is in use: {1}")]
    InUse(Fingerprint, &'static str),
}

impl Rotation {
    /// The first CA: nobody trusts another yet.
    pub fn begin(offer: &Offer) -> Self {
        let roots: Vec<Root> = offer
            .roots
            .iter()
            .map(|root| Root {
                root: *root,
                listed: true,
                signed: *root == offer.root,
            })
            .collect();
        Self {
            eras: vec![Era {
                number: 1,
                roots: offer.roots.iter().copied().collect(),
                signing: Some(offer.root),
                until: None,
            }],
            roots,
            change: None,
            withdrawn: BTreeSet::new(),
        }
    }

    /// Whether a stored value can be one of ours: whoever edits it by hand must not make us sign with a root that is not in the bundle.
    pub fn is_consistent(&self) -> bool {
        let bundle: BTreeSet<Fingerprint> = self.bundle().collect();
        let in_bundle = |root: &Fingerprint| bundle.contains(root);
        let Some(now) = self.eras.last() else { return false };
        self.eras
            .array_windows()
            .all(|[before, after]| before.number < after.number)
            && now.roots == bundle
            && bundle.len() == self.roots.len()
            && now.signing.iter().all(in_bundle)
            && self.change.iter().all(|change| in_bundle(&change.root))
            && now.signing.iter().all(|signing| !self.withdrawn.contains(signing))
    }

    /// A sound set of files. Its roots join the bundle at once; if its root is not the one that signs, a change begins.
    pub fn offer(&mut self, offer: &Offer, now: Timestamp) -> Result<(), Refused> {
        if let Some(withdrawn) = offer
            .chain
            .iter()
            .chain([&offer.root])
            .find(|one| self.withdrawn.contains(one))
        {
            return Err(Refused::Withdrawn(*withdrawn));
        }
        let mut added: Vec<Fingerprint> = Vec::new();
        for root in &offer.roots {
            if !self.trusts(root) && !added.contains(root) {
                added.push(*root);
            }
        }
        if self.roots.len() + added.len() > MOST_ROOTS {
            return Err(Refused::TooManyRoots);
        }
        if !added.is_empty() && self.eras.len() >= MOST_ERAS {
            return Err(Refused::TooManyChanges);
        }
        for root in &mut self.roots {
            root.listed = offer.roots.contains(&root.root);
        }
        self.roots.extend(added.iter().map(|root| Root {
            root: *root,
            listed: true,
            signed: false,
        }));
        if self.signing() == Some(offer.root) {
            self.change = None;
        } else if let Some(change) = self.change.as_mut().filter(|change| change.root == offer.root) {
            change.chain.clone_from(&offer.chain);
        } else {
            self.change = Some(Change {
                root: offer.root,
                chain: offer.chain.clone(),
                since: now.unix(),
                confirmed: false,
                renewal: offer.renewal,
            });
        }
        self.open_era(self.signing());
        Ok(())
    }

    /// A leaf of an era is about to leave and lasts until `not_after`; only when this was accepted, and is durable, it may.
    pub fn cover(&mut self, era: u64, not_after: Timestamp) -> Result<(), Refused> {
        let era = self
            .eras
            .iter_mut()
            .find(|known| known.number == era)
            .ok_or(Refused::EraIsOver)?;
        era.until = era.until.max(Some(not_after.unix()));
        Ok(())
    }

    /// An admin says that every client's own root file holds the pending root.
    pub fn confirm(&mut self) -> Result<(), Refused> {
        self.change.as_mut().ok_or(Refused::NothingPending)?.confirmed = true;
        Ok(())
    }

    /// The pending root signs from now on, whatever it waits for: whoever was answered without it refuses its leaves.
    pub fn activate_now(&mut self) -> Result<(), Refused> {
        let change = self.change.take().ok_or(Refused::NothingPending)?;
        self.activate(change.root);
        Ok(())
    }

    /// A key leaked: nothing that it signed is offered or signed with again. `chain` is the one that signs now. Its root stays in the
    /// bundle, as every leaf would else be refused at once, until it is retired.
    pub fn withdraw(&mut self, certificate: Fingerprint, chain: &[Fingerprint]) {
        self.withdrawn.insert(certificate);
        if self.signing() == Some(certificate) || chain.contains(&certificate) {
            self.open_era(None);
        }
        let is_to_sign = |change: &Change| change.root == certificate || change.chain.contains(&certificate);
        if self.change.as_ref().is_some_and(is_to_sign) {
            self.change = None;
        }
    }

    /// Takes a root out of the bundle. With `force` also if leaves under it are still valid: their holders are refused from then on.
    pub fn forget(&mut self, root: Fingerprint, force: bool) -> Result<(), Refused> {
        let known = self
            .roots
            .iter()
            .find(|known| known.root == root)
            .ok_or(Refused::Unknown(root))?;
        if self.signing() == Some(root) {
            return Err(Refused::InUse(root, "it signs"));
        }
        if self.change.as_ref().is_some_and(|change| change.root == root) {
            return Err(Refused::InUse(root, "it is to sign"));
        }
        if known.listed && !self.withdrawn.contains(&root) {
            return Err(Refused::InUse(
                root,
                "the CA's files list it, and it would come back: remove it there first",
            ));
        }
        if self.roots.len() == 1 {
            return Err(Refused::InUse(
                root,
                "it is the only one in the bundle: put files with another root in place first",
            ));
        }
        if !force && self.eras.iter().any(|era| era.signing == Some(root)) {
            return Err(Refused::InUse(root, "certificates under it are still valid"));
        }
        self.drop_root(root);
        Ok(())
    }

    /// Lets time do what it may: forgets eras whose leaves have expired, lets the pending root sign, retires roots. `spread` holds the roots
    /// that every client's root file is known to have. Says whether anything changed.
    pub fn settle(&mut self, now: Timestamp, spread: &BTreeSet<Fingerprint>) -> bool {
        let before = (self.eras.len(), self.number());
        loop {
            let present = self.number();
            self.eras.retain(|era| era.number == present || !era.is_over(now));
            if self.change.is_some() && self.waits(spread).is_empty() {
                let _ = self.activate_now();
            } else if let Some(root) = self
                .roots
                .iter()
                .map(|root| root.root)
                .find(|root| self.may_retire(root))
            {
                self.drop_root(root);
            } else {
                return before != (self.eras.len(), self.number());
            }
        }
    }

    /// Counts the eras, from 1: a client that was answered in an era has that era's bundle.
    pub fn number(&self) -> u64 {
        self.eras.last().map_or(0, |era| era.number)
    }

    /// The bundle, in the order of joining.
    pub fn bundle(&self) -> impl Iterator<Item = Fingerprint> {
        self.roots.iter().map(|root| root.root)
    }

    /// The root that signs; none after a withdrawal.
    pub fn signing(&self) -> Option<Fingerprint> {
        self.eras.last().and_then(|era| era.signing)
    }

    /// How long the leaves that may leave without asking last.
    pub fn covered(&self) -> Option<Timestamp> {
        self.eras.last().and_then(|era| era.until).map(Timestamp::from_unix)
    }

    /// When the last leaf of all has expired; `None` when none is valid.
    pub fn last_leaf(&self) -> Option<Timestamp> {
        self.eras.iter().filter_map(Era::end).max()
    }

    /// The root that is to sign.
    pub fn pending(&self) -> Option<Fingerprint> {
        self.change.as_ref().map(|change| change.root)
    }

    /// Whether a root signed here, signs no more, and has leaves that are still valid.
    pub fn is_outgoing(&self, root: &Fingerprint) -> bool {
        self.signing() != Some(*root) && !self.withdrawn.contains(root) && self.leaves_until(*root).is_some()
    }

    /// Whether a certificate was withdrawn.
    pub fn is_withdrawn(&self, certificate: &Fingerprint) -> bool {
        self.withdrawn.contains(certificate)
    }

    fn trusts(&self, root: &Fingerprint) -> bool {
        self.roots.iter().any(|known| known.root == *root)
    }

    fn activate(&mut self, root: Fingerprint) {
        if let Some(known) = self.roots.iter_mut().find(|known| known.root == root) {
            known.signed = true;
        }
        self.open_era(Some(root));
    }

    fn may_retire(&self, root: &Fingerprint) -> bool {
        let wanted =
            |known: &Root| known.root == *root && known.signed && (!known.listed || self.withdrawn.contains(root));
        // Without any root there would be no bundle to answer with, and nothing to publish.
        self.roots.len() > 1
            && self.roots.iter().any(wanted)
            && self.eras.iter().all(|era| era.signing != Some(*root))
            && self.change.as_ref().is_none_or(|change| change.root != *root)
    }

    fn drop_root(&mut self, root: Fingerprint) {
        self.roots.retain(|known| known.root != root);
        self.open_era(self.signing());
    }

    /// A new era, unless nothing that makes one has changed.
    fn open_era(&mut self, signing: Option<Fingerprint>) {
        let roots: BTreeSet<Fingerprint> = self.bundle().collect();
        if self
            .eras
            .last()
            .is_some_and(|era| era.roots == roots && era.signing == signing)
        {
            return;
        }
        self.eras.push(Era {
            number: self.number() + 1,
            roots,
            signing,
            until: None,
        });
    }
}

impl Era {
    /// The point from which no leaf of this era counts.
    fn end(&self) -> Option<Timestamp> {
        self.until.map(|until| Timestamp::from_unix(until).plus(MARGIN_SECONDS))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.end().is_none_or(|end| end < now)
    }
}

#[cfg(test)]
mod tests;
