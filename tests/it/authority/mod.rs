//! The CA's own key and certificate: plugged-in folders good and bad, and the self-signed root through crashes and losses.

mod choice;
mod leaf;
mod self_signed;
mod vectors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use countersign::authority::{
    self, Authority, CaKind, CaSnapshot, Config, Error, Finding, RootAlgorithm, SelfSignedConfig, Source,
};
use countersign::model::{Lifetime, Timestamp};
use countersign::platform::TestClock;
use countersign::telemetry::{Metrics, Readiness};

/// 2030-01-01T00:00:00Z: the time at which every vector is judged.
const NOW: Timestamp = Timestamp::from_unix(1_893_456_000);

fn cacerts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/cacerts")
}

/// A CA that was opened and can sign; closed when dropped.
#[derive(Debug)]
struct Opened {
    #[expect(dead_code, reason = "held: the lock goes with it")]
    authority: Authority,
    snapshot: Arc<CaSnapshot>,
    source: Source,
    warnings: Vec<Finding>,
}

fn open(config: &Config, now: Timestamp) -> Result<Opened, Error> {
    let clock = Arc::new(TestClock::at(now));
    let metrics = Arc::new(Metrics::new(clock.clone(), &Readiness::default()));
    let authority = authority::open(config, clock, metrics)?;
    Ok(Opened {
        snapshot: authority.signing().unwrap(),
        source: authority.source.clone(),
        warnings: authority.warnings.clone(),
        authority,
    })
}

/// A CA that was opened and cannot sign, and why.
fn stopped(config: &Config, now: Timestamp) -> String {
    let clock = Arc::new(TestClock::at(now));
    let metrics = Arc::new(Metrics::new(clock.clone(), &Readiness::default()));
    authority::open(config, clock, metrics)
        .unwrap()
        .signing()
        .unwrap_err()
        .to_string()
}

/// A configuration below `directory`: the plugged-in CA in `cacerts`, the self-signed one in `own`.
fn config(kind: CaKind, directory: &Path) -> Config {
    Config {
        kind,
        plugged_in_directory: directory.join("cacerts"),
        self_signed: SelfSignedConfig {
            directory: directory.join("own"),
            algorithm: RootAlgorithm::P256,
            lifetime: Lifetime::from_seconds(10 * 365 * 86_400).unwrap(),
            organization: "cluster.local".into(),
            new_root: false,
        },
    }
}

/// Copies a folder of vectors, with keys that only their owner may read: what a checkout gives them depends on the machine.
fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Every file of a directory with its content, without the lock and what is remembered; empty when there is no directory.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            ![".lock", "ca-state.json"].contains(&&*entry.file_name().to_string_lossy())
                && entry.file_type().unwrap().is_file()
        })
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}
