//! What starts the peers and looks at what they did.
//!
//! Every program is a child that ends with the value that holds it, and at the latest with this process, however that ends.

pub mod certificate;
pub mod cluster;
pub mod companies;
pub mod countersign;
pub mod istio;
pub mod openssl;
pub mod pods;
pub mod process;
pub mod scene;
pub mod wait;
pub mod webpki;

use std::path::PathBuf;

/// A program that `tests/run` made.
pub fn part(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    match path.filter(|path| path.exists()) {
        Some(path) => path,
        None => panic!(
            "{variable} does not name a program that is there. `tests/run` builds it and runs these tests; \
             for these tests alone: set -a; eval \"$(tests/real/parts/build)\"; cargo test --test real"
        ),
    }
}
