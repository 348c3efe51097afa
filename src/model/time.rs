//! Points and spans of time with the one-second grain that certificates have.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From whole seconds since the epoch.
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Whole seconds since the epoch.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// This point later by a span; stays at the last representable point rather than wrap.
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Whole seconds from `earlier` to this point, negative if this is the earlier one.
    pub const fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_secs()).unwrap_or(i64::MAX)),
            Err(before) => Self(-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX)),
        }
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = time::OffsetDateTime::from_unix_timestamp(self.0)
            .ok()
            .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} s after 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The time between NotBefore and NotAfter, both included (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: Timestamp,
    /// Last second.
    pub not_after: Timestamp,
}

impl Validity {
    /// Whether a point lies inside.
    pub fn contains(self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// A positive lifetime in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(u32);

impl Lifetime {
    /// From seconds; `None` for nothing, and for more than 136 years.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Self)
    }

    /// In seconds.
    pub const fn seconds(self) -> i64 {
        self.0 as i64
    }

    /// How far NotBefore is set back against clocks that run behind: two minutes as istiod does, but at most a tenth of the lifetime.
    /// ztunnel renews at the middle of NotBefore..NotAfter, so a fixed two minutes would make a two-minute certificate renew for ever.
    pub const fn backdate(self) -> i64 {
        let tenth = self.seconds() / 10;
        if tenth < 120 { tenth } else { 120 }
    }
}

impl From<Lifetime> for Duration {
    fn from(lifetime: Lifetime) -> Self {
        Duration::from_secs(u64::from(lifetime.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_utc() {
        assert_eq!(Timestamp::from_unix(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::from_unix(i64::MAX).to_string(),
            format!("{} s after 1970", i64::MAX)
        );
    }

    proptest! {
        /// Conformance line 33: (lifetime − back-dating)/2 stays positive with a margin for every lifetime that we accept.
        #[test]
        fn backdating_never_loops_a_client(seconds in 1u32..) {
            let lifetime = Lifetime::from_seconds(i64::from(seconds)).unwrap();
            prop_assert!(lifetime.backdate() <= 120 && lifetime.backdate() * 10 <= lifetime.seconds());
        }
    }
}
