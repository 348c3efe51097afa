//! The admin's hand on a running CA: what may be asked of it, and what it says of itself.
//!
//! Takes: acts, from the admin's door. Gives: [`Status`]. Not here: who may ask (the door), what an act does (`rotation`, `keeper`).

use tokio::sync::{mpsc, oneshot};

use super::rotation::{Outlook, Refused};
use super::{Finding, Source};
use crate::model::{CaCertificate, Fingerprint};
use crate::platform::files::FileError;

/// A line to the CA's keeper. Cloned freely; it answers one after the other.
#[derive(Clone, Debug)]
pub struct Steering(mpsc::Sender<Command>);

/// What the keeper is asked.
#[derive(Debug)]
pub(super) enum Command {
    Act {
        act: Act,
        /// Only while this root is the one that is to sign.
        pending: Option<Fingerprint>,
        reply: oneshot::Sender<Result<(), SteeringError>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

/// What an admin may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Every client's own root file holds the pending root.
    Confirm,
    /// The pending root signs now, whatever it waits for.
    ActivateNow,
    /// This certificate's key leaked: nothing is signed with it, or under it, any more.
    Withdraw(Fingerprint),
    /// This root leaves the bundle; with `force` also if leaves under it are still valid.
    Forget {
        /// Which.
        root: Fingerprint,
        /// Whatever it breaks.
        force: bool,
    },
    /// A self-signed CA gets another root with a key of its own, which is a change of root.
    Rotate,
    /// Look at the files now.
    Reload,
}

/// Why an act was not done. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The rules of a change of root.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It could not be made durable.
    #[error("nothing was changed, since it could not be put on record: {0}")]
    File(#[from] FileError),
    /// The files are no CA.
    #[error("the files cannot be used, the last good ones sign on: {0}")]
    Files(String),
    /// Only a self-signed CA makes roots.
    #[error(
        "a root can be made only where ca.type is self-signed: for a plugged-in CA put files with another root in place"
    )]
    NotSelfSigned,
    /// It could not be made.
    #[error("no root was made: {0}")]
    NoRoot(String),
    /// The CA is closing.
    #[error("the CA is closing")]
    Closing,
}

/// The CA as people see it.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where its files are.
    pub source: Source,
    /// Counts the times that bundle or signing root changed.
    pub generation: u64,
    /// What signs, the signer first; or why nothing does.
    pub chain: Result<Vec<CaCertificate>, String>,
    /// The state of a change of root.
    pub outlook: Outlook,
    /// Every root of the bundle.
    pub roots: Vec<CaCertificate>,
    /// What is to be said of the files as they lie there now.
    pub files: Files,
}

/// The CA's files, as they were last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// They are what signs, or what is to sign.
    Taken,
    /// They are no CA: the last good ones count.
    Bad(Vec<Finding>),
    /// They are sound, and not taken.
    Refused(String),
    /// There are none: the last good ones count, until this process ends.
    Gone,
}

impl Steering {
    pub(super) fn new(keeper: mpsc::Sender<Command>) -> Self {
        Self(keeper)
    }

    /// Does something; when this returns, it is durable and in force.
    pub async fn act(&self, act: Act) -> Result<(), SteeringError> {
        self.send(act, None).await
    }

    /// As [`Self::act`], if `root` is the one that is to sign: an admin speaks of the change that they saw.
    pub async fn act_while_pending(&self, root: Fingerprint, act: Act) -> Result<(), SteeringError> {
        self.send(act, Some(root)).await
    }

    async fn send(&self, act: Act, pending: Option<Fingerprint>) -> Result<(), SteeringError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Command::Act { act, pending, reply }).await;
        sent.map_err(|_| SteeringError::Closing)?;
        answer.await.map_err(|_| SteeringError::Closing)?
    }

    /// How it stands; `None` when the CA is closing.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Status { reply }).await.ok()?;
        answer.await.ok()
    }
}
