//! The seam for time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::model::Timestamp;

/// Where time comes from: wall time for certificates and tokens, monotonic time for durations and caches.
pub trait Clock: Send + Sync {
    /// The wall clock, in whole seconds.
    fn now(&self) -> Timestamp;
    /// The monotonic clock.
    fn instant(&self) -> Instant;
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is moved; for tests, ours and those of programs that embed the library.
#[derive(Debug)]
pub struct TestClock(Mutex<(Timestamp, Instant)>);

impl TestClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new((now, SystemClock.instant())))
    }

    /// Lets a span pass on both clocks.
    pub fn pass(&self, span: Duration) {
        let mut time = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        time.0 = time.0.plus(i64::try_from(span.as_secs()).unwrap_or(i64::MAX));
        time.1 += span;
    }

    /// Sets the wall clock alone, as an administrator or a broken time service would.
    pub fn set(&self, now: Timestamp) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).0 = now;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).0
    }

    fn instant(&self) -> Instant {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).1
    }
}
