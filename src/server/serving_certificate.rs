//! The certificate that the listener shows: issued by the CA itself and renewed in time, or read from files and read again when they
//! change. A change reaches new handshakes at once and disturbs no connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::sync::watch;

use crate::issue::{Issuer, Refusal};
use crate::model::{CaCertificate, CertificateError, KeyAlgorithm, Lifetime, ServingName, Validity};
use crate::platform::shutdown::Shutdown;
use crate::platform::{Clock, crypto, files};
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
    /// Whether the files, if it comes from files, can be used.
    pub fn check_files(&self) -> Result<(), ServingError> {
        match self {
            Self::Issued { .. } => Ok(()),
            Self::Files { certificate, key } => read(certificate, key).map(drop),
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

/// Certificates larger than this are none.
const FILE_LIMIT: u64 = 256 * 1024;

/// How often files and the clock are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Keeps the serving certificate fresh.
pub struct ServingCertificate {
    source: Source,
    issuer: Arc<Issuer>,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Arc<CertifiedKey>>,
    leaf: CaCertificate,
    generation: u64,
    /// What the files held when they were last taken.
    content: Option<(Vec<u8>, [u8; 32])>,
}

struct Fresh {
    key: CertifiedKey,
    leaf: CaCertificate,
    content: Option<(Vec<u8>, [u8; 32])>,
}

impl ServingCertificate {
    /// Gets the first one; there is no serving without it.
    pub fn new(source: Source, issuer: Arc<Issuer>, clock: Arc<dyn Clock>) -> Result<Self, ServingError> {
        let fresh = obtain(&source, &issuer)?;
        let generation = issuer.ca().borrow().generation();
        let (current, _) = watch::channel(Arc::new(fresh.key));
        Ok(Self {
            source,
            issuer,
            clock,
            current,
            leaf: fresh.leaf,
            generation,
            content: fresh.content,
        })
    }

    /// The channel that handshakes read.
    pub fn watch(&self) -> watch::Receiver<Arc<CertifiedKey>> {
        self.current.subscribe()
    }

    /// The one in use.
    pub fn leaf(&self) -> &CaCertificate {
        &self.leaf
    }

    /// Renews until asked to stop. `renewed` hears of every new one.
    pub async fn keep_fresh(mut self, mut shutdown: Shutdown, renewed: impl Fn(&CaCertificate)) {
        let mut ca = self.issuer.ca();
        let (mut told, again) = (String::new(), Seldom::every(3600));
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
                Ok(true) => renewed(&self.leaf),
                Ok(false) => {}
                // It is tried every few seconds; who reads the log needs to hear of it once, and again while it lasts.
                Err(error) if error.to_string() == told && !again.is_due(self.clock.now()) => {}
                Err(error) => {
                    told = error.to_string();
                    tracing::error!(%error, not_after = %self.leaf.validity().not_after, "the serving certificate could not be renewed: the one in use stays");
                }
            }
        }
    }

    /// Takes a new one if it is time; says whether it did.
    pub fn refresh(&mut self) -> Result<bool, ServingError> {
        let due = match &self.source {
            Source::Files { .. } => true,
            Source::Issued { .. } => {
                let Validity { not_before, not_after } = self.leaf.validity();
                let half = not_before.plus(not_after.since(not_before) / 2);
                self.clock.now() >= half || self.issuer.ca().borrow().generation() != self.generation
            }
        };
        if !due {
            return Ok(false);
        }
        let generation = self.issuer.ca().borrow().generation();
        let fresh = obtain(&self.source, &self.issuer)?;
        self.generation = generation;
        if fresh.content.is_some() && fresh.content == self.content {
            return Ok(false);
        }
        (self.leaf, self.content) = (fresh.leaf, fresh.content);
        self.current.send_replace(Arc::new(fresh.key));
        Ok(true)
    }
}

fn obtain(source: &Source, issuer: &Issuer) -> Result<Fresh, ServingError> {
    match source {
        Source::Issued { names, lifetime } => issue(names, *lifetime, issuer),
        Source::Files { certificate, key } => read(certificate, key),
    }
}

fn issue(names: &[ServingName], lifetime: Lifetime, issuer: &Issuer) -> Result<Fresh, ServingError> {
    use rcgen::PublicKeyData;
    let key = rcgen::KeyPair::generate().map_err(|error| ServingError::Key(error.to_string()))?;
    let issued = issuer.serving(
        names.to_vec(),
        &key.subject_public_key_info(),
        KeyAlgorithm::P256,
        lifetime,
    )?;
    let leaf = CaCertificate::parse(issued.certificate())?;
    // The chain below the root: what clients need to find their way to the root that they hold.
    let above = issued.ca().intermediates().map(|member| member.der().clone());
    let chain: Vec<_> = std::iter::once(leaf.der().clone()).chain(above).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Fresh {
        key: certified(chain, key)?,
        leaf,
        content: None,
    })
}

fn read(certificate: &std::path::Path, key: &std::path::Path) -> Result<Fresh, ServingError> {
    let content = |path: &std::path::Path| {
        let path = path.to_owned();
        move |finding: String| ServingError::Content { path, finding }
    };
    let chain_text = files::read(certificate, FILE_LIMIT)?;
    let key_text = files::read(key, FILE_LIMIT)?;
    let chain = CertificateDer::pem_slice_iter(&chain_text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(certificate)(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| content(certificate)("it holds no certificate".into()))?;
    let leaf = CaCertificate::parse(leaf)?;
    let private = PrivateKeyDer::from_pem_slice(&key_text).map_err(|error| content(key)(error.to_string()))?;
    let certified = certified(chain, private)?;
    certified
        .keys_match()
        .map_err(|_| content(key)("the key does not belong to the certificate".into()))?;
    Ok(Fresh {
        key: certified,
        leaf,
        content: Some((chain_text.to_vec(), crypto::sha256(&key_text))),
    })
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, ServingError> {
    let key = crypto::tls_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| ServingError::Key(error.to_string()))?;
    Ok(CertifiedKey::new(chain, key))
}
