//! Our key and certificate: where they come from, and the one immutable value that an answer is made from.
//!
//! Takes: a directory (self-signed or plugged-in `cacerts`) and the time. Gives: [`CaSnapshot`], checked whole, or everything that is wrong
//! with the files. Not here: what is issued under it.

mod certificates;
mod chain;
mod finding;
mod key;
mod layout;
mod link;
mod member;
mod memory;
mod plugged_in;
mod root;
mod self_signed;
mod snapshot;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use finding::{Finding, Findings, Report};
pub use root::{RootAlgorithm, RootError};
pub use self_signed::SelfSignedConfig;
pub use snapshot::{CaSnapshot, SnapshotError};

use crate::model::Timestamp;
use crate::platform::files::{self, DirectoryLock, FileError, LockError};

/// Where istiod looks for a plugged-in CA, and where its chart mounts the Secret `cacerts`.
pub const PLUGGED_IN_DIRECTORY: &str = "/etc/cacerts";

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

/// The CA of this process. Keeps the lock on the directory of the self-signed CA, unless only a plugged-in one may sign.
#[derive(Debug)]
pub struct Authority {
    /// The CA as it was when it was opened.
    pub snapshot: Arc<CaSnapshot>,
    /// Where it came from.
    pub source: Source,
    /// What an admin should look at.
    pub warnings: Vec<Finding>,
    _lock: Option<DirectoryLock>,
}

/// What a look at the CA's files found.
#[derive(Debug)]
pub struct Inspection {
    /// The CA; none with an error in the report. None without any: nothing is there yet, and `serve` would make a root.
    pub snapshot: Option<CaSnapshot>,
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
        "{} holds no plugged-in CA any more, but {} shows that one signed: workloads that trust its root would refuse certificates of another; \
         put the plugged-in CA back, or, if another root is wanted, set ca.type to self-signed",
        directory.display(),
        memory.display()
    )]
    PluggedInIsGone {
        /// Where it should be.
        directory: PathBuf,
        /// What remembers it.
        memory: PathBuf,
    },
    /// That it was plugged in cannot be kept in mind.
    #[error(
        "cannot remember that a plugged-in CA signs, which ca.type auto needs: {0}; make that directory writable, or set ca.type to plugged-in"
    )]
    Memory(LockError),
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

/// Opens the CA that is to sign, and makes a self-signed root where none ever was.
pub fn open(config: &Config, now: Timestamp) -> Result<Authority, Error> {
    let directory = &config.self_signed.directory;
    if !plugged_in_is_wanted(config)? {
        let lock = lock(directory)?;
        let mut report = Report::default();
        let snapshot = self_signed::open(&config.self_signed, now, &mut report)?;
        return Ok(Authority {
            snapshot: Arc::new(snapshot),
            source: Source::SelfSigned(directory.clone()),
            warnings: report.warnings,
            _lock: Some(lock),
        });
    }
    let inspection = inspect_plugged_in(&config.plugged_in_directory, now)?;
    let source = inspection.source.clone();
    let (snapshot, mut warnings) = inspection.into_ca()?;
    let mut held = None;
    if config.kind == CaKind::Auto {
        let lock = lock(directory).map_err(Error::Memory)?;
        memory::remember(directory, snapshot.bundle()).map_err(|error| Error::Memory(error.into()))?;
        warnings.extend(memory::warn_of_self_signed(directory)?);
        held = Some(lock);
    }
    Ok(Authority {
        snapshot: Arc::new(snapshot),
        source,
        warnings,
        _lock: held,
    })
}

/// Looks at the CA that [`open`] would open. Writes nothing, takes no lock, reports everything that can be found.
pub fn inspect(config: &Config, now: Timestamp) -> Result<Inspection, Error> {
    if plugged_in_is_wanted(config)? {
        return Ok(inspect_plugged_in(&config.plugged_in_directory, now)?);
    }
    let directory = &config.self_signed.directory;
    let mut report = Report::default();
    let state = self_signed::inspect(directory, now, &mut report)?;
    Ok(Inspection {
        snapshot: match state {
            self_signed::State::Usable(snapshot) => Some(*snapshot),
            _ => None,
        },
        source: Source::SelfSigned(directory.clone()),
        report,
    })
}

/// Looks at the plugged-in CA of a directory. Writes nothing, reports everything that can be found.
pub fn inspect_plugged_in(directory: &Path, now: Timestamp) -> Result<Inspection, FileError> {
    let mut report = Report::default();
    let snapshot = plugged_in::load(directory, now, &mut report)?;
    Ok(Inspection {
        snapshot,
        source: Source::PluggedIn(directory.to_owned()),
        report,
    })
}

impl Inspection {
    /// The CA and what was warned about, or why there is none.
    fn into_ca(self) -> Result<(CaSnapshot, Vec<Finding>), Error> {
        let directory = match self.source {
            Source::PluggedIn(directory) | Source::SelfSigned(directory) => directory,
        };
        match self.snapshot {
            Some(snapshot) => Ok((snapshot, self.report.warnings)),
            None if self.report.errors.is_empty() => Err(Error::NothingPluggedIn(directory)),
            None => Err(Error::PluggedIn {
                directory,
                findings: self.report.errors.into(),
            }),
        }
    }
}

/// Decides between the two; an error where `auto` may not fall back.
fn plugged_in_is_wanted(config: &Config) -> Result<bool, Error> {
    match config.kind {
        CaKind::PluggedIn => Ok(true),
        CaKind::SelfSigned => Ok(false),
        CaKind::Auto if layout::of(&config.plugged_in_directory)?.is_some() => Ok(true),
        CaKind::Auto => match memory::of(&config.self_signed.directory)? {
            Some(memory) => Err(Error::PluggedInIsGone {
                directory: config.plugged_in_directory.clone(),
                memory,
            }),
            None => Ok(false),
        },
    }
}

fn lock(directory: &Path) -> Result<DirectoryLock, LockError> {
    files::create_private_directory(directory)?;
    DirectoryLock::take(directory)
}
