//! Warnings that would otherwise repeat with every request.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::Timestamp;

/// Lets one in a span of time through.
#[derive(Debug)]
pub struct Seldom {
    next: AtomicI64,
    /// In seconds.
    span: i64,
}

impl Seldom {
    /// At most one every `span` seconds.
    pub const fn every(span: i64) -> Self {
        Self {
            next: AtomicI64::new(i64::MIN),
            span,
        }
    }

    /// Whether it is time again; whoever hears yes is the only one.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let after = now.plus(self.span).unix();
        now.unix() >= next
            && self
                .next
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_a_span() {
        let seldom = Seldom::every(60);
        let due: Vec<bool> = [0, 1, 59, 60, 61, 200]
            .into_iter()
            .map(|second| seldom.is_due(Timestamp::from_unix(second)))
            .collect();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
