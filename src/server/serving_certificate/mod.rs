//! The certificate that the listener shows: issued by the CA itself and renewed in time, or read from files and read again when they
//! change. A change reaches new handshakes at once and disturbs no connection.
//!
//! Clients check their channel to us against a root file of their own, so in a change of root our certificate changes last, and the one in use
//! is kept on disk: after a restart the key that could issue another under the old root may be gone.

mod kept;
mod obtain;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::authority::{CaState, LoadedCa};
use crate::issue::{Issuer, Refusal};
use crate::model::{CaCertificate, CertificateError, Lifetime, ServingName, Validity};
use crate::platform::crypto::TlsPolicy;
use crate::platform::shutdown::Shutdown;
use crate::platform::{Clock, files};
use crate::telemetry::Seldom;

/// Where the serving certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From our own CA.
    Issued {
        /// The names and addresses under which clients reach us.
        names: Vec<ServingName>,
        /// How long one lasts; it is renewed at half of it.
        lifetime: Lifetime,
        /// The directory where the one in use is kept.
        kept_in: PathBuf,
    },
    /// From files that somebody else renews.
    Files {
        /// The certificate and its intermediates, PEM.
        certificate: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
    },
}

impl Source {
    /// Whether the files, if it comes from files, can be used under this policy.
    pub fn check_files(&self, tls: &TlsPolicy) -> Result<(), ServingError> {
        match self {
            Self::Issued { .. } => Ok(()),
            Self::Files { certificate, key } => obtain::read(certificate, key, tls).map(drop),
        }
    }
}

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The CA did not issue it.
    #[error("the CA could not issue its own serving certificate: {0}")]
    Refused(#[from] Refusal),
    /// No key could be made.
    #[error("no key for the serving certificate could be made: {0}")]
    Key(String),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// A file does not hold what it should.
    #[error("{}: {finding}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The finding.
        finding: String,
    },
    /// The certificate cannot be read.
    #[error("the serving certificate: {0}")]
    Certificate(#[from] CertificateError),
}

/// How often files and the clock are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What handshakes read; nothing while there is none.
pub type Current = Option<Arc<CertifiedKey>>;

/// Keeps the serving certificate fresh.
pub struct ServingCertificate {
    source: Source,
    tls: TlsPolicy,
    issuer: Arc<Issuer>,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Current>,
    held: Option<Held>,
    failing: Seldom,
}

/// A serving certificate.
struct Held {
    key: Arc<CertifiedKey>,
    leaf: CaCertificate,
    origin: Origin,
}

/// Where one is from.
enum Origin {
    /// This CA issued it.
    Issued(Arc<LoadedCa>),
    /// An earlier process had it issued, under this root.
    Kept(Box<CaCertificate>),
    /// Files with this content (of the key its hash).
    Files(Vec<u8>, [u8; 32]),
}

impl ServingCertificate {
    /// Gets the first one. While the CA cannot sign there may be none, and handshakes fail; files that cannot be read are an error.
    pub fn new(
        source: Source,
        tls: TlsPolicy,
        issuer: Arc<Issuer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServingError> {
        let mut serving = Self {
            source,
            tls,
            issuer,
            clock,
            current: watch::channel(None).0,
            held: None,
            failing: Seldom::every(300),
        };
        match serving.refresh() {
            Err(error @ ServingError::Refused(Refusal::Stopped(_))) => {
                tracing::error!(%error, "there is no serving certificate: nobody can connect until there is");
            }
            result => drop(result?),
        }
        Ok(serving)
    }

    /// The channel that handshakes read.
    pub fn watch(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    /// The one in use.
    pub fn leaf(&self) -> Option<&CaCertificate> {
        Some(&self.held.as_ref()?.leaf)
    }

    /// Renews until asked to stop. `renewed` hears of every new one.
    pub async fn keep_fresh(mut self, mut shutdown: Shutdown, renewed: impl Fn(&CaCertificate)) {
        let mut ca = self.issuer.ca();
        loop {
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(CHECK_EVERY) => {}
                changed = ca.changed() => if changed.is_err() { return },
            }
            // Files are read and the CA's key, which may be a slow one, signs: off the thread that token reviews run on.
            let refreshed = tokio::task::spawn_blocking(move || (self.refresh(), self)).await;
            let Ok((refreshed, back)) = refreshed else {
                tracing::error!("the renewal of the serving certificate broke off: it is not renewed any more");
                return;
            };
            self = back;
            match refreshed {
                Ok(true) => self.leaf().into_iter().for_each(&renewed),
                Ok(false) => {}
                Err(error) if self.failing.is_due(self.clock.now()) => {
                    let not_after = self.leaf().map(|leaf| leaf.validity().not_after.to_string());
                    tracing::error!(%error, not_after, "the serving certificate could not be renewed: the one in use stays");
                }
                Err(_) => {}
            }
        }
    }

    /// Takes a new one if it is time; says whether it did.
    pub fn refresh(&mut self) -> Result<bool, ServingError> {
        let fresh = match &self.source {
            Source::Files { certificate, key } => {
                let fresh = obtain::read(certificate, key, &self.tls)?;
                match (&self.held, &fresh.origin) {
                    (
                        Some(Held {
                            origin: Origin::Files(chain, key),
                            ..
                        }),
                        Origin::Files(now, key_now),
                    ) if chain == now && key == key_now => {
                        return Ok(false);
                    }
                    _ => fresh,
                }
            }
            Source::Issued {
                names,
                lifetime,
                kept_in,
            } => {
                let ca = self.issuer.ca();
                let state = ca.borrow().clone();
                if self.held.as_ref().is_some_and(|held| self.serves_on(held, &state)) {
                    return Ok(false);
                }
                // Another process may have had one issued whose root we cannot sign under any more.
                let kept = (self.held.is_none())
                    .then(|| kept::read(kept_in, names))
                    .flatten()
                    .filter(|kept| self.serves_on(kept, &state));
                match kept {
                    Some(kept) => kept,
                    None => {
                        let (fresh, secret) = obtain::issue(names, *lifetime, &self.issuer)?;
                        // Worth having, not worth failing for.
                        if let Err(error) = kept::write(kept_in, &fresh, &secret) {
                            tracing::warn!(%error, "the serving certificate could not be kept: after a restart in the middle of a change of root there may be none");
                        }
                        fresh
                    }
                }
            }
        };
        self.current.send_replace(Some(fresh.key.clone()));
        self.held = Some(fresh);
        Ok(true)
    }

    /// Whether an issued one needs no successor yet.
    fn serves_on(&self, held: &Held, state: &CaState) -> bool {
        let Validity { not_before, not_after } = held.leaf.validity();
        let now = self.clock.now();
        let life = not_after.since(not_before);
        match &held.origin {
            Origin::Files(..) => false,
            Origin::Issued(by) => {
                let same = |(serving, until): &(Arc<crate::authority::CaSnapshot>, Option<_>)| {
                    Arc::ptr_eq(by, serving.ca()) && until.is_none_or(|until| until <= not_after)
                };
                // When nothing can issue another, this one must do.
                now < not_before.plus(life / 2) && state.serving.as_ref().is_none_or(same)
            }
            Origin::Kept(root) => {
                let can_be_issued = |(serving, _): &(Arc<crate::authority::CaSnapshot>, _)| serving.ca().is_under(root);
                now < not_before.plus(life / 10 * 9)
                    && state.bundle.roots().contains(root.as_ref())
                    && !state.serving.as_ref().is_some_and(can_be_issued)
            }
        }
    }
}
