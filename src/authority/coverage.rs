//! How long the leaves last that may leave: the high-water mark of NotAfter that is durable for an era of the CA (see `rotation`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::model::Timestamp;

/// The mark of one snapshot. A leaf that lasts longer must ask first; the mark is then raised well beyond it, so that few have to.
#[derive(Debug)]
pub struct Coverage {
    until: AtomicI64,
    era: u64,
    /// None: nothing ever changes, so nothing needs to be remembered.
    keeper: Option<mpsc::Sender<Ask>>,
}

/// May a leaf leave that lasts until then?
#[derive(Debug)]
pub(super) struct Ask {
    pub coverage: Arc<Coverage>,
    pub not_after: Timestamp,
    pub reply: oneshot::Sender<Result<(), NotCovered>>,
}

/// A leaf may not leave: how long it lasts could not be put on record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate may not leave: {0}")]
pub struct NotCovered(pub String);

impl Coverage {
    /// For a CA that never changes.
    pub fn unlimited() -> Self {
        Self {
            until: AtomicI64::new(i64::MAX),
            era: 0,
            keeper: None,
        }
    }

    pub(super) fn new(era: u64, until: Option<Timestamp>, keeper: mpsc::Sender<Ask>) -> Self {
        Self {
            until: AtomicI64::new(until.map_or(i64::MIN, Timestamp::unix)),
            era,
            keeper: Some(keeper),
        }
    }

    /// Lets a leaf leave that lasts until `not_after`. Waits for the disk when it lasts longer than any before.
    pub async fn admit(self: &Arc<Self>, not_after: Timestamp) -> Result<(), NotCovered> {
        if self.reaches(not_after) {
            return Ok(());
        }
        let gone = || NotCovered("the CA is closing".into());
        let keeper = self.keeper.as_ref().ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            coverage: self.clone(),
            not_after,
            reply,
        };
        keeper.send(ask).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(super) fn reaches(&self, not_after: Timestamp) -> bool {
        not_after.unix() <= self.until.load(Ordering::Acquire)
    }

    pub(super) fn raise(&self, until: Timestamp) {
        self.until.fetch_max(until.unix(), Ordering::AcqRel);
    }

    pub(super) fn era(&self) -> u64 {
        self.era
    }
}
