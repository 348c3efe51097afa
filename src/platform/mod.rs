//! What the host gives: time, randomness, files, cryptography, threads, signals. The only room that may ask the host for any of them.
//!
//! Takes: nothing of ours but `model` values. Gives: seams ([`Clock`], [`Random`]) and helpers. Not here: policy.

mod clock;
pub mod crypto;
pub mod files;
pub mod private_socket;
pub mod process;
mod random;
pub mod shutdown;
mod slow_work;
pub mod worker;

pub use clock::{Clock, SystemClock, TestClock};
pub use random::{Random, RandomError, SystemRandom};
pub use slow_work::SlowWork;
