//! A certificate as files, under the names that Istio's own agent gives them (`OUTPUT_CERTS`).

use std::path::Path;

use super::answer::Certificate;
use crate::platform::files::{self, FileError, Mode};

/// The private key; for its owner's eyes only.
pub const KEY: &str = "key.pem";
/// Leaf and intermediates.
pub const CHAIN: &str = "cert-chain.pem";
/// The roots to trust.
pub const ROOTS: &str = "root-cert.pem";

/// Makes a directory that certificates will be written into, and tries whether they can be: the CA need not issue what would be lost.
pub fn prepare(directory: &Path) -> Result<(), FileError> {
    files::create_private_directory(directory)?;
    files::try_writing(directory)?;
    [KEY, CHAIN, ROOTS]
        .into_iter()
        .try_for_each(|name| files::require_replaceable(&directory.join(name)))
}

impl Certificate {
    /// Leaf and intermediates in one text.
    pub fn chain_pem(&self) -> String {
        self.chain.concat()
    }

    /// Writes the three files into a directory, which [`prepare`] made ready. Each is whole at every instant; the chain comes last,
    /// since that is the one whose change readers wait for.
    pub fn write(&self, directory: &Path) -> Result<(), FileError> {
        files::write(&directory.join(ROOTS), self.bundle.as_bytes(), Mode::Public)?;
        files::write(&directory.join(KEY), self.key.as_bytes(), Mode::Secret)?;
        files::write(&directory.join(CHAIN), self.chain_pem().as_bytes(), Mode::Public)
    }
}
