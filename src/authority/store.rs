//! What the CA must remember over restarts: `ca-state.json` in its directory. Public: it holds no key.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rotation::Rotation;
use crate::model::{Bundle, CaCertificate, Fingerprint, Timestamp, pem};
use crate::platform::files::{self, FileError, Mode};

const FILE: &str = "ca-state.json";
const VERSION: u32 = 1;
/// 64 roots, 100 signers and 1,000 eras of them stay far below.
const LARGEST: u64 = 16 << 20;
/// Signers that are remembered so that their leaves may renew themselves.
const MOST_SIGNERS: usize = 100;

/// What is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub rotation: Rotation,
    /// Every root of the bundle.
    pub roots: Vec<CaCertificate>,
    /// The signers of leaves that may still be valid, the present one last.
    pub signers: Vec<Signer>,
    /// A plugged-in CA signed once: an empty folder must never make another root.
    pub plugged_in: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Signer {
    pub certificate: CaCertificate,
    pub root: Fingerprint,
    /// When its last leaf has expired; `None` for the present one.
    pub until: Option<Timestamp>,
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not one of ours.
    #[error(
        "{} cannot be used: {finding}; it says which roots workloads trust: restore it from a backup, or remove it once no certificate is valid \
         that was issued before",
        path.display()
    )]
    Content {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        finding: String,
    },
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OnDisk {
    version: u32,
    rotation: Rotation,
    roots: Vec<String>,
    signers: Vec<SignerOnDisk>,
    plugged_in: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignerOnDisk {
    certificate: String,
    root: Fingerprint,
    until: Option<i64>,
}

impl Stored {
    /// Where the first CA stands.
    pub fn begin(rotation: Rotation, roots: &Bundle) -> Self {
        Self {
            rotation,
            roots: roots.roots().to_vec(),
            signers: Vec::new(),
            plugged_in: false,
        }
    }

    /// A root of the bundle.
    pub fn root(&self, fingerprint: Fingerprint) -> Option<&CaCertificate> {
        self.roots.iter().find(|root| root.fingerprint() == fingerprint)
    }

    /// From now on this one signs, and the one before it may still have leaves until `covered`.
    pub fn set_signer(&mut self, certificate: &CaCertificate, root: Fingerprint, covered: Option<Timestamp>) {
        if self
            .signers
            .last()
            .is_some_and(|last| last.certificate == *certificate && last.root == root)
        {
            return;
        }
        for before in self.signers.iter_mut().filter(|signer| signer.until.is_none()) {
            before.until = covered.or(Some(Timestamp::from_unix(0)));
        }
        self.signers.retain(|signer| signer.certificate != *certificate);
        self.signers.push(Signer {
            certificate: certificate.clone(),
            root,
            until: None,
        });
        let surplus = self.signers.len().saturating_sub(MOST_SIGNERS);
        self.signers.drain(..surplus);
    }

    /// Reads the state of a directory; `None` when there never was one.
    pub fn read(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = directory.join(FILE);
        let Some(bytes) = files::read_if_exists(&path, LARGEST)? else {
            return Ok(None);
        };
        Self::parse(&bytes)
            .map(Some)
            .map_err(|finding| StoreError::Content { path, finding })
    }

    /// Replaces the state of a directory.
    pub fn write(&self, directory: &Path) -> Result<(), FileError> {
        let signers = self.signers.iter().map(|signer| SignerOnDisk {
            certificate: signer.certificate.pem().to_owned(),
            root: signer.root,
            until: signer.until.map(Timestamp::unix),
        });
        let on_disk = OnDisk {
            version: VERSION,
            rotation: self.rotation.clone(),
            roots: self.roots.iter().map(|root| root.pem().to_owned()).collect(),
            signers: signers.collect(),
            plugged_in: self.plugged_in,
        };
        files::write_with(&directory.join(FILE), Mode::Public, |file| {
            serde_json::to_writer(&mut *file, &on_disk)?;
            file.write_all(b"\n")
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let on_disk: OnDisk = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if on_disk.version != VERSION {
            return Err(format!(
                "its version is {}, this program knows {VERSION}",
                on_disk.version
            ));
        }
        let roots: Vec<CaCertificate> = on_disk
            .roots
            .iter()
            .map(|root| certificate(root))
            .collect::<Result<_, _>>()?;
        let known: Vec<Fingerprint> = roots.iter().map(CaCertificate::fingerprint).collect();
        if !on_disk.rotation.is_consistent() || on_disk.rotation.bundle().collect::<Vec<_>>() != known {
            return Err("it contradicts itself".into());
        }
        let signers = on_disk.signers.into_iter().map(|signer| {
            Ok(Signer {
                certificate: certificate(&signer.certificate)?,
                root: signer.root,
                until: signer.until.map(Timestamp::from_unix),
            })
        });
        Ok(Self {
            rotation: on_disk.rotation,
            roots,
            signers: signers.collect::<Result<_, String>>()?,
            plugged_in: on_disk.plugged_in,
        })
    }
}

fn certificate(text: &str) -> Result<CaCertificate, String> {
    let der = pem::single("CERTIFICATE", text).ok_or("a certificate in it is not PEM")?;
    CaCertificate::parse(&der).map_err(|error| error.to_string())
}
