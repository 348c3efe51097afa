//! How far the roots have spread, at one moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::held::RootSet;
use crate::model::Fingerprint;

/// How a selected namespace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its ConfigMap holds the present bundle.
    Current,
    /// It is about to.
    Behind,
    /// The last write failed; another follows.
    Failed,
    /// Somebody else keeps it, with other roots.
    Foreign,
}

/// All selected namespaces.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Whether everything is known.
    pub synced: bool,
    /// How many there are.
    pub selected: usize,
    /// Of these.
    pub current: usize,
    /// Of these.
    pub behind: usize,
    /// Of these.
    pub failed: usize,
    /// Of these.
    pub foreign: usize,
    /// One that failed, and one that is foreign.
    pub examples: (Option<Arc<str>>, Option<Arc<str>>),
    /// The roots that all of them have for sure.
    sure: Option<RootSet>,
}

impl Survey {
    pub(super) fn new(synced: bool) -> Self {
        Self {
            synced,
            selected: 0,
            current: 0,
            behind: 0,
            failed: 0,
            foreign: 0,
            examples: (None, None),
            sure: None,
        }
    }

    pub(super) fn add(&mut self, name: &Arc<str>, standing: Standing, sure: &RootSet) {
        self.selected += 1;
        match standing {
            Standing::Current => self.current += 1,
            Standing::Behind => self.behind += 1,
            Standing::Failed => {
                self.failed += 1;
                self.examples.0.get_or_insert_with(|| name.clone());
            }
            Standing::Foreign => {
                self.foreign += 1;
                self.examples.1.get_or_insert_with(|| name.clone());
            }
        }
        match &self.sure {
            // Mostly it is the very same set.
            Some(all) if Arc::ptr_eq(all, sure) => {}
            Some(all) => self.sure = Some(Arc::new(all.intersection(sure).copied().collect())),
            None => self.sure = Some(sure.clone()),
        }
    }

    /// Whether every selected namespace holds the present bundle.
    pub fn is_full(&self) -> bool {
        self.synced && self.current == self.selected
    }

    /// The roots that the pods of every selected namespace have for sure. None while anything is unknown, and none of no namespace: what
    /// nobody has is not spread.
    pub fn spread(&self) -> BTreeSet<Fingerprint> {
        match &self.sure {
            Some(sure) if self.synced => (**sure).clone(),
            _ => BTreeSet::new(),
        }
    }
}
