//! Which files make a plugged-in CA: Istio's own names, or those of a `kubernetes.io/tls` Secret.
//!
//! Takes: a directory. Gives: its layout and the files' bytes, bounded. Not here: what they say.

use std::path::Path;

use zeroize::Zeroizing;

use super::finding::Report;
use crate::platform::crypto;
use crate::platform::files::{self, FileError};

/// Larger than any CA's file; a bundle of 64 certificates with long names stays far below.
const LARGEST: u64 = 1 << 20;

/// The names of one layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub certificate: &'static str,
    pub key: &'static str,
    pub roots: &'static str,
    /// Intermediates; may be absent, since a root may have signed the CA's certificate itself.
    pub chain: Option<&'static str>,
}

/// What `istioctl`'s documentation and the makefiles in Istio's `tools/certs` produce.
pub(super) const ISTIO: Layout = Layout {
    certificate: "ca-cert.pem",
    key: "ca-key.pem",
    roots: "root-cert.pem",
    chain: Some("cert-chain.pem"),
};

/// What cert-manager produces. The intermediates follow the first certificate.
pub(super) const TLS: Layout = Layout {
    certificate: "tls.crt",
    key: "tls.key",
    roots: "ca.crt",
    chain: None,
};

/// The bytes of a CA's files.
pub(super) struct Files {
    pub certificate: Zeroizing<Vec<u8>>,
    pub key: Zeroizing<Vec<u8>>,
    pub roots: Zeroizing<Vec<u8>>,
    pub chain: Option<Zeroizing<Vec<u8>>>,
}

impl Layout {
    fn required(&self) -> [&'static str; 3] {
        [self.certificate, self.key, self.roots]
    }

    fn present(&self, directory: &Path) -> Result<Vec<&'static str>, FileError> {
        let mut found = Vec::new();
        for name in self.required().into_iter().chain(self.chain) {
            if files::exists(&directory.join(name))? {
                found.push(name);
            }
        }
        Ok(found)
    }
}

/// The layout of a directory: as istiod decides, `tls.crt` makes it a TLS one. `None` when not one file of either is there.
pub(super) fn of(directory: &Path) -> Result<Option<&'static Layout>, FileError> {
    let tls = TLS.present(directory)?;
    let istio = ISTIO.present(directory)?;
    Ok(
        if tls.contains(&TLS.certificate) || (istio.is_empty() && !tls.is_empty()) {
            Some(&TLS)
        } else if istio.is_empty() {
            None
        } else {
            Some(&ISTIO)
        },
    )
}

/// A hash over what every file of either layout says at this moment, or why it cannot be read.
pub(super) fn digest(directory: &Path) -> [u8; 32] {
    let names = [&ISTIO, &TLS]
        .into_iter()
        .flat_map(|layout| layout.required().into_iter().chain(layout.chain));
    let mut all = Vec::new();
    for name in names {
        let content = match files::read_if_exists(&directory.join(name), LARGEST) {
            Ok(None) => continue,
            Ok(Some(content)) => crypto::sha256(&content),
            Err(error) => crypto::sha256(error.to_string().as_bytes()),
        };
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(&content);
    }
    crypto::sha256(&all)
}

/// Reads the files of a layout; `None` when one is missing or unreadable, which the report then says.
pub(super) fn read(directory: &Path, layout: &Layout, report: &mut Report) -> Result<Option<Files>, FileError> {
    let present = layout.present(directory)?;
    for missing in layout.required().into_iter().filter(|name| !present.contains(name)) {
        report.refuse(
            missing,
            format!("it is missing beside {}", present.join(", ")),
            "put the missing file beside the others (in Kubernetes: as a key of the same Secret), or remove them all",
        );
    }
    let other = if *layout == TLS { &ISTIO } else { &TLS };
    for unused in other.present(directory)? {
        report.warn(
            unused,
            format!("it is not used, since {} is there", layout.certificate),
            "keep the files of one layout only",
        );
    }
    if files::exists(&directory.join("ca-crl.pem"))? {
        report.warn(
            "ca-crl.pem",
            "revocation lists are not used yet",
            "distribute it to the proxies by other means if they need it",
        );
    }
    let certificate = read_one(directory, layout.certificate, &present, report);
    let key = read_one(directory, layout.key, &present, report);
    let roots = read_one(directory, layout.roots, &present, report);
    let chain = layout.chain.filter(|chain| present.contains(chain));
    let chain = match chain {
        Some(name) => match read_one(directory, name, &present, report) {
            Some(bytes) => Some(bytes),
            None => return Ok(None),
        },
        None => None,
    };
    if key.is_some() {
        warn_of_open_key(directory, layout.key, report);
    }
    Ok(certificate
        .zip(key)
        .zip(roots)
        .map(|((certificate, key), roots)| Files {
            certificate,
            key,
            roots,
            chain,
        }))
}

fn read_one(directory: &Path, name: &'static str, present: &[&str], report: &mut Report) -> Option<Zeroizing<Vec<u8>>> {
    if !present.contains(&name) {
        return None;
    }
    files::read(&directory.join(name), LARGEST)
        .map_err(|error| {
            report.refuse(
                name,
                format!("it cannot be read: {}", error.source),
                "put a PEM file there that the user of this process may read",
            );
        })
        .ok()
}

/// A group that may read is how Kubernetes gives a Secret to a process that is not root (`fsGroup`); everyone is too many.
fn warn_of_open_key(directory: &Path, key: &'static str, report: &mut Report) {
    if let Ok(mode) = files::permissions(&directory.join(key))
        && mode & 0o027 != 0
    {
        report.warn(
            key,
            format!("its mode is {mode:04o}: more can read or change it than need to"),
            "chmod 0400 (in Kubernetes: defaultMode: 0400 of the volume, with fsGroup)",
        );
    }
}
