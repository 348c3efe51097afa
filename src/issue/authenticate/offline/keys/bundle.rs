//! The CAs that an issuer's server is checked with: a PEM file, or a directory as a ConfigMap is mounted.
//!
//! Read anew at every fetch, which is how a change is noticed. A change for the worse changes nothing: what was trusted is trusted on, and
//! the log says so once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;

use super::fetch::{FetchError, MOST_BYTES};
use crate::platform::crypto::roots;
use crate::platform::files::{self, FileError};

/// What ConfigMaps call it: Kubernetes and cert-manager, OpenShift's injection of trusted CAs, istiod's mount at `/cacerts`. No others are
/// read: a directory may hold a server's own certificate as well, and whoever has its key must not become a CA.
const NAMES: [&str; 3] = ["ca.crt", "ca-bundle.crt", "extra.pem"];

/// The CAs at a path.
pub struct Bundle {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    good: Option<Arc<RootCertStore>>,
    /// Why the good one is not the latest.
    fault: Option<String>,
}

impl Bundle {
    /// At this path.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: Mutex::default(),
        }
    }

    /// What is there now, or else what was there last and could be used.
    pub async fn roots(&self) -> Result<Arc<RootCertStore>, FetchError> {
        let path = self.path.clone();
        // Off the async threads: a file may lie on a slow mount.
        let found = match tokio::task::spawn_blocking(move || read(&path)).await {
            Ok(found) => found,
            Err(gone) => Err(FetchError::Tls(gone.to_string())),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        match (found, state.good.clone()) {
            (Ok(found), _) => {
                let found = Arc::new(found);
                state.good = Some(found.clone());
                if state.fault.take().is_some() {
                    tracing::info!(%path, "the CA bundle of a token issuer can be used again");
                }
                Ok(found)
            }
            (Err(error), Some(good)) => {
                let fault = error.to_string();
                if state.fault.as_ref() != Some(&fault) {
                    tracing::warn!(%path, why = fault, "the CA bundle of a token issuer cannot be used; what it held before is trusted on");
                    state.fault = Some(fault);
                }
                Ok(good)
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// Whether a path holds certificates that can be trusted, as a fetch will read it.
pub fn check_ca_file(path: &Path) -> Result<(), String> {
    read(path).map(drop).map_err(|error| error.to_string())
}

/// All of it or nothing: a file that cannot be used beside one that can is a mistake all the same.
fn read(path: &Path) -> Result<RootCertStore, FetchError> {
    let limit = MOST_BYTES as u64;
    if !files::is_directory(path) {
        return parsed(path, &files::read(path, limit)?);
    }
    let mut all = RootCertStore::empty();
    for name in NAMES {
        let path = path.join(name);
        if let Some(text) = files::read_if_exists(&path, limit)? {
            all.roots.extend(parsed(&path, &text)?.roots);
        }
    }
    match all.is_empty() {
        true => Err(FetchError::File(FileError {
            action: "find ca.crt, ca-bundle.crt or extra.pem in",
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })),
        false => Ok(all),
    }
}

fn parsed(path: &Path, text: &[u8]) -> Result<RootCertStore, FetchError> {
    roots(text).map_err(|why| FetchError::Bundle {
        path: path.to_owned(),
        why,
    })
}
