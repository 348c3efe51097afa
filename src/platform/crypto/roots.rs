//! Certificates from PEM files, as TLS takes them.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use crate::model::pem::{self, PemError};

/// Most blocks in a file: the bundle of an operating system has about 150.
const MOST_BLOCKS: usize = 1000;

/// Why a file gives nothing to trust, or to show.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RootsError {
    /// Not PEM.
    #[error("{error}; {}", .error.remedy())]
    Pem {
        /// The finding.
        #[from]
        error: PemError,
    },
    /// Other blocks alone.
    #[error("it holds no certificate (BEGIN CERTIFICATE); put the certificate in PEM there")]
    None,
    /// Certificates that TLS cannot use.
    #[error("none of its certificates can be used to verify others")]
    Unusable,
}

/// Every certificate of a file, in order; blocks of other kinds are passed over.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let found: Vec<_> = pem::blocks(text, MOST_BLOCKS)?
        .into_iter()
        .filter(|block| block.label == pem::CERTIFICATE)
        .map(|block| CertificateDer::from(block.der.to_vec()))
        .collect();
    if found.is_empty() {
        return Err(RootsError::None);
    }
    Ok(found)
}

/// The certificates of a file, to trust. Those that TLS cannot use are passed over, as ztunnel does; at least one must remain.
pub fn roots(text: &[u8]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates(text)?) {
        (0, _) => Err(RootsError::Unusable),
        _ => Ok(roots),
    }
}
