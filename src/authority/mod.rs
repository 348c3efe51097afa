//! Our key and certificate: where they come from, and the one immutable value that an answer is made from.
//!
//! Takes: a directory (self-signed or plugged-in `cacerts`). Gives: [`CaSnapshot`], checked whole. Not here: what is issued under it.

mod snapshot;

pub use snapshot::{CaSnapshot, SnapshotError};
