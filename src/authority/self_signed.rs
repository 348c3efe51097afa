//! A root of our own in a directory: `ca-key.pem`, `ca-cert.pem` and, for people and scripts, `root-cert.pem` (at first a copy).
//!
//! Takes: the directory, which the caller has locked. Gives: the root that is there, or a new one if none ever was.
//!
//! A new root is written in this order, each file whole or not at all, so that a crash at any instant leaves no root or a usable one:
//!
//! 1. the key as `ca-key.pem.new`: alone it means that no root was ever used;
//! 2. `ca-cert.pem`: from here on a root exists, and the key beside it is the one of step 1;
//! 3. the key as `ca-key.pem`, `root-cert.pem`, and `ca-key.pem.new` is removed.
//!
//! So any of `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` says that a root existed: then no other is made unless an administrator asks.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::finding::Report;
use super::layout::{Files, Layout};
use super::root::{self, RootAlgorithm};
use super::{Error, LoadedCa, plugged_in, renew};
use crate::model::{CaCertificate, Lifetime, Timestamp};
use crate::platform::files::{self, FileError, Mode};
use crate::platform::{Random, SystemRandom};

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const NEW_KEY: &str = "ca-key.pem.new";
const ROOTS: &str = "root-cert.pem";
/// Before the number of a further root, which has a directory of its own.
const FURTHER: &str = "root-";
const LARGEST: u64 = 1 << 20;

/// What a self-signed root is, and where it is kept.
#[derive(Clone, Debug)]
pub struct SelfSignedConfig {
    /// Where the root is kept. Only one process may use it at a time.
    pub directory: PathBuf,
    /// The key of a new root.
    pub algorithm: RootAlgorithm,
    /// How long a new root lives.
    pub lifetime: Lifetime,
    /// The organization in a new root's name: the trust domain.
    pub organization: String,
    /// Lets a new root be made although the directory shows that one existed, when that one cannot be used. Its files are kept aside. A root
    /// that can be used is never replaced.
    pub new_root: bool,
}

/// What a directory holds.
pub(super) enum State {
    /// No root ever was.
    Fresh,
    /// A root that can be used.
    Usable(Box<LoadedCa>),
    /// A root was, and cannot be used: the report says why.
    Lost,
}

/// Looks at a directory, writes nothing.
pub(super) fn inspect(directory: &Path, now: Timestamp, report: &mut Report) -> Result<State, FileError> {
    let read = |name: &str| files::read_if_exists(&directory.join(name), LARGEST);
    let (certificate, key, new_key, roots) = (read(CERTIFICATE)?, read(KEY)?, read(NEW_KEY)?, read(ROOTS)?);
    if certificate.is_none() && key.is_none() && roots.is_none() {
        return Ok(State::Fresh);
    }
    // Between the steps 2 and 3 the key has its first name only.
    let key_name = if key.is_some() || new_key.is_none() {
        KEY
    } else {
        NEW_KEY
    };
    let present = |name: &'static str, there: bool| there.then_some(name);
    let there: Vec<_> = [
        present(CERTIFICATE, certificate.is_some()),
        present(KEY, key.is_some()),
        present(ROOTS, roots.is_some()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (certificate, key) = match (certificate, key.or(new_key)) {
        (Some(certificate), Some(key)) => (certificate, key),
        (certificate, _) => {
            let missing = if certificate.is_none() { CERTIFICATE } else { KEY };
            report.refuse(
                missing,
                format!("it is missing, but a root existed: there is {}", there.join(", ")),
                "restore it from a backup",
            );
            return Ok(State::Lost);
        }
    };
    let mode = files::permissions(&directory.join(key_name))?;
    if mode & 0o077 != 0 {
        report.warn(
            key_name,
            format!("its mode is {mode:04o}: others than its owner can use the key"),
            "chmod 0600, and think about who has read it",
        );
    }
    let layout = Layout {
        certificate: CERTIFICATE,
        key: key_name,
        roots: if roots.is_some() { ROOTS } else { CERTIFICATE },
        chain: None,
    };
    let files = Files {
        roots: roots.unwrap_or_else(|| certificate.clone()),
        certificate,
        key,
        chain: None,
    };
    Ok(match plugged_in::assemble(&layout, &files, now, report) {
        Some(snapshot) if snapshot.signer().is_self_issued() => State::Usable(Box::new(snapshot)),
        Some(_) => {
            report.refuse(
                CERTIFICATE,
                "it is not self-signed",
                "a CA that another one signed belongs into the directory of the plugged-in CA",
            );
            State::Lost
        }
        None => State::Lost,
    })
}

/// Opens the root of a directory, or makes the first one there.
pub(super) fn open(config: &SelfSignedConfig, now: Timestamp, report: &mut Report) -> Result<LoadedCa, Error> {
    let directory = &config.directory;
    match inspect(directory, now, report)? {
        State::Usable(snapshot) => {
            if config.new_root {
                report.warn(
                    CERTIFICATE,
                    "no new root was made: this one can be used",
                    "stop asking for a new root",
                );
            }
            finish(directory)?;
            return Ok(*snapshot);
        }
        State::Lost if !config.new_root => {
            return Err(Error::RootLost {
                directory: directory.clone(),
                findings: std::mem::take(&mut report.errors).into(),
            });
        }
        State::Lost => {
            for name in [ROOTS, CERTIFICATE, KEY, NEW_KEY] {
                if let Some(aside) = keep_aside(directory, name, now)? {
                    report.warn(
                        name,
                        format!("a new root was asked for; the old file is kept as {aside}"),
                        "keep it safe",
                    );
                }
            }
            report.errors.clear();
        }
        State::Fresh => {}
    }
    create(config, now, &SystemRandom::default())?;
    finish(directory)?;
    match inspect(directory, now, report)? {
        State::Usable(snapshot) => Ok(*snapshot),
        _ => Err(Error::RootLost {
            directory: directory.clone(),
            findings: std::mem::take(&mut report.errors).into(),
        }),
    }
}

/// The subdirectories of further roots, made by [`rotate`], oldest first.
fn further(base: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !files::exists(base)? {
        return Ok(Vec::new());
    }
    let number = |name: &String| name.strip_prefix(FURTHER)?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = files::list(base)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers
        .into_iter()
        .map(|number| base.join(format!("{FURTHER}{number}")))
        .collect())
}

/// Every directory that holds, or should hold, a root: the first one's, which is the base, then further ones. One in which a crash left
/// nothing that was ever used is not among them.
pub(super) fn directories(base: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut all = vec![base.to_owned()];
    for directory in further(base)? {
        if files::exists(&directory.join(CERTIFICATE))? {
            all.push(directory);
        }
    }
    Ok(all)
}

/// The directory of the root that is to sign: the last.
pub(super) fn present(base: &Path) -> Result<PathBuf, FileError> {
    Ok(directories(base)?.pop().unwrap_or_else(|| base.to_owned()))
}

/// Makes another root with a key of its own beside those that are there. Nothing is taken away.
pub(super) fn rotate(config: &SelfSignedConfig, now: Timestamp) -> Result<PathBuf, Error> {
    let last = further(&config.directory)?.pop();
    let last = last.and_then(|last| last.file_name()?.to_str()?.strip_prefix(FURTHER)?.parse::<u32>().ok());
    let directory = config.directory.join(format!("{FURTHER}{}", last.unwrap_or(1) + 1));
    files::create_private_directory(&directory)?;
    let config = SelfSignedConfig {
        directory: directory.clone(),
        ..config.clone()
    };
    create(&config, now, &SystemRandom::default())?;
    finish(&directory)?;
    Ok(directory)
}

/// Gives the root of a directory new dates. The old certificate stays in `root-cert.pem` until it has expired. A crash between the two writes
/// leaves a certificate and a bundle that fit each other.
pub(super) fn renew(directory: &Path, ca: &LoadedCa, lifetime: Lifetime, now: Timestamp) -> Result<(), Error> {
    let renewed = renew::renew(ca, lifetime, now, &SystemRandom::default())?;
    let valid = |root: &&CaCertificate| root.validity().not_after >= now;
    let before = ca.roots().roots().iter().filter(valid).map(CaCertificate::pem);
    let roots: String = std::iter::once(renewed.pem()).chain(before).collect();
    files::write(&directory.join(ROOTS), roots.as_bytes(), Mode::Public)?;
    files::write(&directory.join(CERTIFICATE), renewed.pem().as_bytes(), Mode::Public)?;
    Ok(())
}

/// Removes the key and the certificates of a root that nobody trusts any more.
pub(super) fn remove(directory: &Path) -> Result<(), FileError> {
    // The certificate goes last: until then the directory says that a root was there.
    for name in [KEY, NEW_KEY, ROOTS, CERTIFICATE] {
        files::remove(&directory.join(name))?;
    }
    Ok(())
}

/// Steps 1 and 2.
fn create(config: &SelfSignedConfig, now: Timestamp, random: &dyn Random) -> Result<(), Error> {
    let root = root::make(config.algorithm, &config.organization, config.lifetime, now, random)?;
    files::write(&config.directory.join(NEW_KEY), root.key.as_bytes(), Mode::Secret)?;
    files::write(
        &config.directory.join(CERTIFICATE),
        root.certificate.as_bytes(),
        Mode::Public,
    )?;
    Ok(())
}

/// Step 3, as far as it is still to be done. The root that is there was found usable.
fn finish(directory: &Path) -> Result<(), FileError> {
    if !files::exists(&directory.join(KEY))? {
        let key: Zeroizing<Vec<u8>> = files::read(&directory.join(NEW_KEY), LARGEST)?;
        files::write(&directory.join(KEY), &key, Mode::Secret)?;
    }
    if !files::exists(&directory.join(ROOTS))? {
        let certificate = files::read(&directory.join(CERTIFICATE), LARGEST)?;
        files::write(&directory.join(ROOTS), &certificate, Mode::Public)?;
    }
    files::remove(&directory.join(NEW_KEY))
}

/// Moves a file to a dated name that is free; `None` when there is no such file.
fn keep_aside(directory: &Path, name: &str, now: Timestamp) -> Result<Option<String>, FileError> {
    if !files::exists(&directory.join(name))? {
        return Ok(None);
    }
    let date = now.to_string().replace(':', "-");
    let mut aside = format!("{name}.{date}.old");
    let mut count = 1;
    while files::exists(&directory.join(&aside))? {
        count += 1;
        aside = format!("{name}.{date}-{count}.old");
    }
    files::rename(&directory.join(name), &directory.join(&aside))?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of the writes is what makes every crash harmless: stopped at either, the steps before it are done and none after it.
    #[test]
    fn the_key_is_there_before_the_certificate() {
        for (obstacle, left) in [(NEW_KEY, vec![NEW_KEY]), (CERTIFICATE, vec![CERTIFICATE, NEW_KEY])] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(directory.path().join(obstacle).join("x")).unwrap();
            let config = SelfSignedConfig {
                directory: directory.path().to_owned(),
                algorithm: RootAlgorithm::P256,
                lifetime: Lifetime::from_seconds(3600).unwrap(),
                organization: "cluster.local".into(),
                new_root: false,
            };
            let result = create(&config, Timestamp::from_unix(1_893_456_000), &SystemRandom::default());
            assert!(matches!(result, Err(Error::File(_))), "{result:?}");
            assert_eq!(files::list(directory.path()).unwrap(), left);
        }
    }
}
