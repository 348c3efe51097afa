//! Our key and certificate: where they come from, and the one immutable value that an answer is made from.
//!
//! Takes: a directory (self-signed or plugged-in `cacerts`) and the time. Gives: [`CaSnapshot`], checked whole, or everything that is wrong
//! with the files. Not here: what is issued under it.

mod certificates;
mod chain;
mod coverage;
mod finding;
mod folder;
mod keeper;
mod key;
mod layout;
mod link;
mod member;
pub mod offline;
mod plugged_in;
mod reissue;
mod renew;
mod root;
pub mod rotation;
mod self_signed;
mod snapshot;
mod state;
pub mod steering;
mod store;
mod tell;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use coverage::{Coverage, NotCovered};
pub use finding::{Finding, Findings, Report};
pub use root::{RootAlgorithm, RootError};
pub use self_signed::SelfSignedConfig;
pub use snapshot::{CaSnapshot, LoadedCa, SnapshotError};
pub use state::{CaState, Stopped};
pub use steering::Steering;
pub use store::StoreError;

use folder::Folder;
use keeper::{Keeper, Set};
use rotation::Rotation;
use steering::Files;
use store::Stored;

use crate::model::{Fingerprint, Timestamp};
use crate::platform::Clock;
use crate::platform::files::{self, DirectoryLock, FileError, LockError};
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Metrics, Seldom};

/// Which CA signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaKind {
    /// The plugged-in one when its directory has any of its files; else the self-signed one, unless a plugged-in one ever signed.
    #[default]
    Auto,
    /// The self-signed one.
    SelfSigned,
    /// The plugged-in one.
    PluggedIn,
}

/// Where the CA is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which one signs.
    pub kind: CaKind,
    /// The directory of the plugged-in CA.
    pub plugged_in_directory: PathBuf,
    /// The self-signed CA. With [`CaKind::Auto`] its directory also remembers that a plugged-in one signed.
    pub self_signed: SelfSignedConfig,
}

/// Where a CA came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A root of our own in this directory.
    SelfSigned(PathBuf),
    /// Files made elsewhere, in this directory.
    PluggedIn(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfSigned(directory) => write!(f, "self-signed root in {}", directory.display()),
            Self::PluggedIn(directory) => write!(f, "plugged-in CA in {}", directory.display()),
        }
    }
}

/// The CA of this process. Keeps the lock on its directory.
pub struct Authority {
    /// Where it came from.
    pub source: Source,
    /// What an admin should look at.
    pub warnings: Vec<Finding>,
    keeper: Keeper,
    steering: Steering,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// The CA as it stands, to watch for changes.
    pub fn watch(&self) -> watch::Receiver<Arc<CaState>> {
        self.keeper.state.subscribe()
    }

    /// What signs, or why nothing does.
    pub fn signing(&self) -> Result<Arc<CaSnapshot>, Stopped> {
        self.keeper.state.borrow().signing.clone()
    }

    /// A line to it, for as long as it is [run](Self::run).
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// From now on a pending root that is in this set needs no admin's word for it: every client's own root file is known to hold it.
    pub fn heed(&mut self, spread: watch::Receiver<BTreeSet<Fingerprint>>) {
        self.keeper.spread = spread;
    }

    /// Looks at files and time, and answers whoever holds a [`Steering`], until asked to stop. Reads and writes files, so it wants a thread of
    /// its own.
    pub async fn run(self, shutdown: Shutdown) {
        self.keeper.run(shutdown).await;
    }
}

/// What a look at the CA's files found.
#[derive(Debug)]
pub struct Inspection {
    /// The CA; none with an error in the report. None without any: nothing is there yet, and `serve` would make a root.
    pub ca: Option<LoadedCa>,
    /// Where it is.
    pub source: Source,
    /// Everything found.
    pub report: Report,
}

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files of the plugged-in CA are no CA.
    #[error("the plugged-in CA in {} cannot be used: {findings}", directory.display())]
    PluggedIn {
        /// Where.
        directory: PathBuf,
        /// Why.
        findings: Findings,
    },
    /// It must be plugged in and is not there.
    #[error(
        "{} holds no plugged-in CA; put ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem (or tls.crt, tls.key and ca.crt) there, or \
         set ca.type to self-signed",
        .0.display()
    )]
    NothingPluggedIn(PathBuf),
    /// It was plugged in once, and is gone.
    #[error(
        "{} holds no plugged-in CA any more, but one signed: workloads that trust its root would refuse certificates of another; put it back, \
         or, if another root is wanted, set ca.type to self-signed",
        .0.display()
    )]
    PluggedInIsGone(PathBuf),
    /// The self-signed root was there, and cannot be used.
    #[error(
        "the self-signed root in {} cannot be used, and no other is made since workloads trust it: {findings} (if it is lost for good, \
         --new-root makes another and keeps these files)",
        directory.display()
    )]
    RootLost {
        /// Where.
        directory: PathBuf,
        /// Why.
        findings: Findings,
    },
    /// What it remembers cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A root could not be made.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Another process has the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Most calls that wait for the keeper: a burst whose leaves last longer than any before.
const MOST_WAITING: usize = 4096;
/// Most commands of admins that wait.
const MOST_COMMANDS: usize = 16;

/// Opens the CA, and makes a self-signed root where none ever was.
///
/// Where a CA signed before, this also succeeds when its files are gone or broken: nothing is then signed until they are back, but the
/// bundle is kept, and an admin can change the root.
pub fn open(config: &Config, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Authority, Error> {
    let directory = &config.self_signed.directory;
    files::create_private_directory(directory)?;
    let lock = DirectoryLock::take(directory)?;
    let stored = Stored::read(directory)?;
    let now = clock.now();
    let mut warnings = Vec::new();
    let offered = offered(config, stored.as_ref(), now, &mut warnings);
    let (set, files) = match (offered, &stored) {
        (Ok(set), _) => (Some(set), Files::Taken),
        (Err(error), None) => return Err(error),
        (Err(Error::PluggedIn { findings, .. }), Some(_)) => (None, Files::Bad(findings.0)),
        (Err(Error::PluggedInIsGone(_) | Error::NothingPluggedIn(_)), Some(_)) => (None, Files::Gone),
        (Err(error), Some(_)) => return Err(error),
    };
    let source = match (&set, config.kind) {
        (Some(set), _) => set.source.clone(),
        (None, CaKind::SelfSigned) => Source::SelfSigned(directory.clone()),
        (None, _) => Source::PluggedIn(config.plugged_in_directory.clone()),
    };
    // With no CA in force yet the first one needs no change of root; what is remembered is written before anything is published.
    let stored = match (stored, &set) {
        (Some(stored), _) => stored,
        (None, Some(set)) => Stored::begin(Rotation::begin(&set.ca.offer(None)), set.ca.roots()),
        (None, None) => return Err(Error::NothingPluggedIn(config.plugged_in_directory.clone())),
    };
    let (ask, asks) = mpsc::channel(MOST_WAITING);
    let (line, commands) = mpsc::channel(MOST_COMMANDS);
    let mut keeper = Keeper {
        sets: others(config, &stored, set.as_ref(), now),
        config: config.clone(),
        clock,
        metrics,
        source: source.clone(),
        files,
        failing: Seldom::every(3600),
        folder: Folder::new(config.plugged_in_directory.clone()),
        state: watch::channel(Arc::new(
            CaState::before(&stored.roots).ok_or_else(|| Error::NothingPluggedIn(directory.clone()))?,
        ))
        .0,
        spread: watch::channel(BTreeSet::new()).1,
        stored,
        commands,
        asks,
        ask,
        _lock: lock,
    };
    if let Some(Err(error)) = set.map(|set| keeper.offer(set)) {
        keeper.files = Files::Refused(error.to_string());
    }
    keeper.publish();
    if config.self_signed.new_root && keeper.state.borrow().signing.is_err() {
        // The root that signed is lost for good, and the administrator said so: nothing is gained by waiting.
        let _ = keeper.act(steering::Act::ActivateNow);
    }
    Ok(Authority {
        source,
        warnings,
        keeper,
        steering: Steering::new(line),
    })
}

/// The CA that is to sign, by `ca.type`.
fn offered(
    config: &Config,
    stored: Option<&Stored>,
    now: Timestamp,
    warnings: &mut Vec<Finding>,
) -> Result<Set, Error> {
    if plugged_in_is_wanted(config, stored)? {
        let inspection = inspect_plugged_in(&config.plugged_in_directory, now)?;
        let source = inspection.source.clone();
        let (ca, found) = inspection.into_ca()?;
        warnings.extend(found);
        return Ok(Set {
            ca: Arc::new(ca),
            source,
        });
    }
    let mut report = Report::default();
    let directory = self_signed::present(&config.self_signed.directory)?;
    let own = SelfSignedConfig {
        directory: directory.clone(),
        ..config.self_signed.clone()
    };
    let ca = self_signed::open(&own, now, &mut report)?;
    warnings.extend(report.warnings);
    Ok(Set {
        ca: Arc::new(ca),
        source: Source::SelfSigned(directory),
    })
}

/// What else is at hand: the CA that signed so far signs until the one that is offered may.
fn others(config: &Config, stored: &Stored, offered: Option<&Set>, now: Timestamp) -> Vec<Set> {
    let is_offered = |source: &Source| offered.is_some_and(|set| set.source == *source);
    let mut found = Vec::new();
    for directory in self_signed::directories(&config.self_signed.directory).unwrap_or_default() {
        let inspected = self_signed::inspect(&directory, now, &mut Report::default());
        let source = Source::SelfSigned(directory);
        if !is_offered(&source)
            && let Ok(self_signed::State::Usable(ca)) = inspected
        {
            found.push(Set {
                ca: Arc::from(ca),
                source,
            });
        }
    }
    let plugged_in = Source::PluggedIn(config.plugged_in_directory.clone());
    if stored.plugged_in
        && !is_offered(&plugged_in)
        && let Ok(Inspection { ca: Some(ca), .. }) = inspect_plugged_in(&config.plugged_in_directory, now)
    {
        found.push(Set {
            ca: Arc::new(ca),
            source: plugged_in,
        });
    }
    found
}

/// Looks at the CA that [`open`] would open. Writes nothing, takes no lock, reports everything that can be found.
pub fn inspect(config: &Config, now: Timestamp) -> Result<Inspection, Error> {
    let directory = &config.self_signed.directory;
    let stored = Stored::read(directory)?;
    if plugged_in_is_wanted(config, stored.as_ref())? {
        return Ok(inspect_plugged_in(&config.plugged_in_directory, now)?);
    }
    let directory = &self_signed::present(directory)?;
    let mut report = Report::default();
    let state = self_signed::inspect(directory, now, &mut report)?;
    Ok(Inspection {
        ca: match state {
            self_signed::State::Usable(ca) => Some(*ca),
            _ => None,
        },
        source: Source::SelfSigned(directory.clone()),
        report,
    })
}

/// Looks at the plugged-in CA of a directory. Writes nothing, reports everything that can be found.
pub fn inspect_plugged_in(directory: &Path, now: Timestamp) -> Result<Inspection, FileError> {
    let mut report = Report::default();
    let ca = plugged_in::load(directory, now, &mut report)?;
    Ok(Inspection {
        ca,
        source: Source::PluggedIn(directory.to_owned()),
        report,
    })
}

impl Inspection {
    /// The CA and what was warned about, or why there is none.
    fn into_ca(self) -> Result<(LoadedCa, Vec<Finding>), Error> {
        let directory = match self.source {
            Source::PluggedIn(directory) | Source::SelfSigned(directory) => directory,
        };
        match self.ca {
            Some(ca) => Ok((ca, self.report.warnings)),
            None if self.report.errors.is_empty() => Err(Error::NothingPluggedIn(directory)),
            None => Err(Error::PluggedIn {
                directory,
                findings: self.report.errors.into(),
            }),
        }
    }
}

/// Decides between the two; an error where `auto` may not fall back.
fn plugged_in_is_wanted(config: &Config, stored: Option<&Stored>) -> Result<bool, Error> {
    match config.kind {
        CaKind::PluggedIn => Ok(true),
        CaKind::SelfSigned => Ok(false),
        CaKind::Auto if layout::of(&config.plugged_in_directory)?.is_some() => Ok(true),
        CaKind::Auto if stored.is_some_and(|stored| stored.plugged_in) => {
            Err(Error::PluggedInIsGone(config.plugged_in_directory.clone()))
        }
        CaKind::Auto => Ok(false),
    }
}
