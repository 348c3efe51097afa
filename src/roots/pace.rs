//! How fast calls may be made.

use std::time::Duration;

use tokio::time::Instant;

/// So many a second, evenly, with a short burst after a pause.
#[derive(Debug)]
pub struct Pace {
    step: Duration,
    next: Instant,
}

/// How much of a pause may be made up for.
const BURST: Duration = Duration::from_millis(100);

impl Pace {
    /// `rate`: at least one.
    pub fn new(rate: u32, now: Instant) -> Self {
        Self {
            step: Duration::from_secs(1) / rate.max(1),
            next: now,
        }
    }

    /// When the next call may be made.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// A call is made.
    pub fn take(&mut self, now: Instant) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.next = self.next.max(earliest) + self.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_even_pace_with_a_short_burst() {
        tokio::time::advance(Duration::from_secs(10)).await;
        let start = Instant::now();
        let mut pace = Pace::new(50, start - Duration::from_secs(5));
        let mut made = Vec::new();
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            while pace.next() <= now {
                pace.take(now);
                made.push(millisecond);
            }
        }
        assert_eq!(made.iter().filter(|at| **at == 0).count(), 6);
        assert_eq!(made.len(), 55);
    }
}
