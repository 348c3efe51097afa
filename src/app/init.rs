//! `init`: CAs made by hand, on disk. A root and its key in a directory that stays offline, and beside it a folder to plug in for every cluster.
//!
//! Nothing that exists is ever replaced. A folder appears whole, and only when what it holds was found sound by the same look that `check` and
//! `serve` take; of a root the key comes first, so that no certificate is left without one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::authority::offline::{self, Cluster, ROOT_CERTIFICATE, ROOT_KEY, Wanted};
use crate::authority::{self, Finding, Findings, LoadedCa, RootAlgorithm};
use crate::cluster::secret_manifest;
use crate::model::{Lifetime, Timestamp};
use crate::platform::SystemRandom;
use crate::platform::files::{self, Mode, NewDirectory};

/// Larger than any file of a CA.
const LARGEST: u64 = 1 << 20;

/// What a root and an intermediate both have.
#[derive(Debug)]
pub struct Authority {
    /// The directory of the root.
    pub directory: PathBuf,
    /// The kind of a new key.
    pub algorithm: RootAlgorithm,
    /// A key that exists, in place of a new one; `-` is standard input.
    pub key: Option<PathBuf>,
    /// O of its name.
    pub organization: String,
    /// CN of its name.
    pub common_name: Option<String>,
    /// From now on.
    pub lifetime: Lifetime,
}

/// What only an intermediate has.
#[derive(Debug)]
pub struct Intermediate {
    /// The cluster's name.
    pub cluster: String,
    /// The folder to make.
    pub out: PathBuf,
    /// DNS names in its certificate.
    pub names: Vec<String>,
    /// The root's key when it is elsewhere; `-` is standard input.
    pub root_key: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The files.
    pub files: Vec<PathBuf>,
    /// What is in them.
    pub ca: LoadedCa,
    /// What somebody should look at.
    pub warnings: Vec<Finding>,
}

/// Makes a root.
pub fn root(wanted: &Authority, now: Timestamp) -> anyhow::Result<Made> {
    let directory = &wanted.directory;
    let (key_file, certificate_file) = (directory.join(ROOT_KEY), directory.join(ROOT_CERTIFICATE));
    refuse_existing(&certificate_file, "a root is never replaced; give another --dir")?;
    if wanted.key.is_none() {
        refuse_existing(
            &key_file,
            "a key is never replaced; give --key to make a certificate for it, or another --dir",
        )?;
    }
    let given = wanted.given_key()?;
    let made = offline::root(&wanted.as_wanted(given.as_deref()), now, &SystemRandom::default())?;
    let ca = offline::read_root(made.certificate.as_bytes(), made.key.as_bytes(), now)?;
    files::create_private_directory(directory)?;
    let mut written = Vec::new();
    if wanted.key.is_none() {
        files::create(&key_file, made.key.as_bytes(), Mode::Secret)?;
        written.push(key_file.clone());
    }
    if let Err(error) = files::create(&certificate_file, made.certificate.as_bytes(), Mode::Public) {
        // It was made a moment ago, and is of no use to anyone.
        written.iter().try_for_each(|made| files::remove(made))?;
        return Err(error.into());
    }
    written.push(certificate_file);
    Ok(Made {
        files: written,
        ca,
        warnings: Vec::new(),
    })
}

/// Makes an intermediate under the root of the directory, as a folder to plug in.
pub fn cacerts(wanted: &Authority, intermediate: &Intermediate, now: Timestamp) -> anyhow::Result<Made> {
    let out = &intermediate.out;
    refuse_existing(out, "a folder is never replaced; give another --cluster or --out")?;
    let certificate_file = wanted.directory.join(ROOT_CERTIFICATE);
    let certificate = files::read(&certificate_file, LARGEST)
        .context("there is no root to sign with; make one with countersign init root")?;
    let key_file = intermediate.root_key.as_deref();
    let key = read_key(key_file.unwrap_or(&wanted.directory.join(ROOT_KEY)))?;
    let root = offline::read_root(&certificate, key.as_bytes(), now)
        .with_context(|| format!("the root in {}", wanted.directory.display()))?;
    let given = wanted.given_key()?;
    let cluster = Cluster {
        name: &intermediate.cluster,
        names: &intermediate.names,
    };
    let wanted = wanted.as_wanted(given.as_deref());
    let made = offline::intermediate(&wanted, &cluster, &root, now, &SystemRandom::default())?;
    let folder = NewDirectory::begin(out)?;
    let mut written = Vec::new();
    for (name, content) in offline::cacerts(&made, &root) {
        let mode = match name == "ca-key.pem" {
            true => Mode::Secret,
            false => Mode::Public,
        };
        files::create(&folder.hidden().join(name), &content, mode)?;
        written.push(out.join(name));
    }
    let (ca, warnings) = sound(folder.hidden(), now)?;
    folder.finish()?;
    Ok(Made {
        files: written,
        ca,
        warnings,
    })
}

/// The Kubernetes Secret of a folder that was found sound, YAML. It holds the key.
pub fn secret(cacerts: &Path, namespace: &str, name: &str, now: Timestamp) -> anyhow::Result<Zeroizing<String>> {
    sound(cacerts, now)?;
    let mut data = BTreeMap::new();
    for file in authority::offline::FILES {
        if let Some(content) = files::read_if_exists(&cacerts.join(file), LARGEST)? {
            data.insert(file, content);
        }
    }
    Ok(secret_manifest(namespace, name, &data)?)
}

/// What `check` and `serve` would find.
fn sound(directory: &Path, now: Timestamp) -> anyhow::Result<(LoadedCa, Vec<Finding>)> {
    let found = authority::inspect_plugged_in(directory, now)?;
    match found.ca {
        Some(ca) => Ok((ca, found.report.warnings)),
        None if found.report.errors.is_empty() => {
            bail!(
                "{} holds no CA; countersign init cacerts makes one",
                directory.display()
            )
        }
        None => bail!("this CA could not be used: {}", Findings::from(found.report.errors)),
    }
}

impl Authority {
    fn given_key(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        self.key.as_deref().map(read_key).transpose()
    }

    fn as_wanted<'a>(&'a self, given: Option<&'a String>) -> Wanted<'a> {
        Wanted {
            key: match (&self.key, given) {
                (Some(path), Some(text)) => offline::Key::Given(path.to_str().unwrap_or("the key"), text.as_bytes()),
                _ => offline::Key::Make(self.algorithm),
            },
            organization: &self.organization,
            common_name: self.common_name.as_deref(),
            lifetime: self.lifetime,
        }
    }
}

/// A key may come through a pipe from what decrypts it, so that it never lies on a disk.
fn read_key(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(files::read_text_or_pipe(path, LARGEST)?))
}

fn refuse_existing(path: &Path, remedy: &str) -> anyhow::Result<()> {
    match files::is_taken(path) {
        true => bail!("{} exists: {remedy}", path.display()),
        false => Ok(()),
    }
}
