//! That a plugged-in root signed: kept in the directory of the self-signed CA, so that an empty `cacerts` mount never makes another root.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::model::Bundle;
use crate::platform::files::{self, FileError, Mode};

const FILE: &str = "plugged-in-root.pem";

/// The file that shows that a plugged-in root signed. Its being there counts, whatever is in it.
pub(super) fn of(directory: &Path) -> Result<Option<PathBuf>, FileError> {
    let path = directory.join(FILE);
    Ok(files::exists(&path)?.then_some(path))
}

/// Remembers the roots of a plugged-in CA before it signs.
pub(super) fn remember(directory: &Path, roots: &Bundle) -> Result<(), FileError> {
    let path = directory.join(FILE);
    let known = files::read_if_exists(&path, 4 << 20);
    if known.is_ok_and(|known| known.is_some_and(|known| known.as_slice() == roots.pem().as_bytes())) {
        return Ok(());
    }
    files::write(&path, roots.pem().as_bytes(), Mode::Public)
}

/// Says that workloads may still trust a self-signed root that signs no more.
pub(super) fn warn_of_self_signed(directory: &Path) -> Result<Option<Finding>, FileError> {
    let path = directory.join("ca-cert.pem");
    Ok(files::exists(&path)?.then(|| {
        Finding::new(
            path.display(),
            "a self-signed root is here that no longer signs, since a CA is plugged in",
            "make sure that no workload still trusts only that root, then move its files away",
        )
    }))
}
