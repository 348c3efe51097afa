//! What a change waits for, and until when.

use std::collections::BTreeSet;

use super::Rotation;
use crate::model::{Fingerprint, Timestamp};

/// Something that a change of root waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Leaves that were answered without the root in their bundle.
    Leaves {
        /// When the last of them has expired.
        until: Timestamp,
    },
    /// Evidence that every client's own root file holds the root, with which it checks its channel to us; or an admin's word for it.
    Distribution,
}

/// The state as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Every root of the bundle, in order.
    pub roots: Vec<RootOutlook>,
    /// The root that is to sign, since when it has been in the bundle for that, and what it waits for.
    pub change: Option<(Fingerprint, Timestamp, Vec<Wait>)>,
    /// Certificates that were withdrawn.
    pub withdrawn: Vec<Fingerprint>,
}

/// One root as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootOutlook {
    /// Which.
    pub root: Fingerprint,
    /// It signs.
    pub signs: bool,
    /// The CA's files list it.
    pub listed: bool,
    /// When the last leaf under it has expired; `None` when none is valid.
    pub leaves_until: Option<Timestamp>,
}

impl Rotation {
    /// What the pending change waits for; nothing when there is none.
    pub fn waits(&self, spread: &BTreeSet<Fingerprint>) -> Vec<Wait> {
        let Some(change) = &self.change else {
            return Vec::new();
        };
        let without = self.eras.iter().filter(|era| !era.roots.contains(&change.root));
        let leaves = without
            .filter_map(super::Era::end)
            .max()
            .map(|until| Wait::Leaves { until });
        // One that signed before has been in every client's hands since then.
        let signed = self.roots.iter().any(|root| root.root == change.root && root.signed);
        let distributed = signed || change.confirmed || change.renewal || spread.contains(&change.root);
        leaves
            .into_iter()
            .chain((!distributed).then_some(Wait::Distribution))
            .collect()
    }

    /// When the last leaf under a root has expired; `None` when none is valid.
    pub fn leaves_until(&self, root: Fingerprint) -> Option<Timestamp> {
        let under = self.eras.iter().filter(|era| era.signing == Some(root));
        under.filter_map(super::Era::end).max()
    }

    /// The state for people.
    pub fn outlook(&self, spread: &BTreeSet<Fingerprint>) -> Outlook {
        let roots = self.roots.iter().map(|root| RootOutlook {
            root: root.root,
            signs: self.signing() == Some(root.root),
            listed: root.listed,
            leaves_until: self.leaves_until(root.root),
        });
        Outlook {
            roots: roots.collect(),
            change: self
                .change
                .as_ref()
                .map(|change| (change.root, Timestamp::from_unix(change.since), self.waits(spread))),
            withdrawn: self.withdrawn.iter().copied().collect(),
        }
    }
}
