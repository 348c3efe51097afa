//! How long a connection waits for its peer: for the first words of HTTP/2, and for the peer to take what it asked for. A connection that is
//! idle after that may stay.
//!
//! An answer that waits for room in the peer's window is never polled, so it cannot end itself: the connection looks after its answers. That
//! costs no timer for a call: one alarm for a connection, set only when something is left over at the end of a turn.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// What every client says first (RFC 9113, 3.4): 24 bytes, and a frame of settings, of which the header takes 9.
pub const OPENING: u64 = 24 + 9;

/// How far a stream has come, in bytes from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What the peer has sent.
    pub heard: u64,
    /// What we want to send.
    pub said: u64,
    /// How much of that has left us.
    pub left: u64,
}

/// Pieces of answers that the peer has not taken yet, in two generations: counting them tells, without the age of each, whether one has
/// waited for a whole alarm.
#[derive(Debug, Default)]
pub struct Unread {
    /// The generation that new ones belong to.
    young: AtomicUsize,
    generations: [AtomicUsize; 2],
}

// Relaxed throughout: a connection and its answers live on one thread.
impl Unread {
    /// One more; the answer says which generation it belongs to.
    pub fn add(&self) -> usize {
        let young = self.young.load(Ordering::Relaxed);
        self.generations[young].fetch_add(1, Ordering::Relaxed);
        young
    }

    /// One of this generation was taken, or given up.
    pub fn taken(&self, generation: usize) {
        self.generations[generation].fetch_sub(1, Ordering::Relaxed);
    }

    fn old(&self) -> usize {
        self.generations[self.young.load(Ordering::Relaxed) ^ 1].load(Ordering::Relaxed)
    }

    fn any(&self) -> bool {
        self.generations.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// The young become the old. Only while there are no old ones.
    fn age(&self) {
        self.young.fetch_xor(1, Ordering::Relaxed);
    }
}

/// Why a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impatience {
    /// The peer did not begin to speak.
    #[error("the peer did not begin to speak HTTP/2 in time")]
    Silent,
    /// The peer asked, and does not read.
    #[error("the peer does not take what it asked for")]
    Unread,
}

/// The patience with one peer.
pub struct Patience {
    /// With what it has not taken: from the turn that leaves it over, the peer is cut after one to two times this span. A turn comes with every
    /// answer's head and every frame of the peer, and with our pings at the latest.
    reader: Duration,
    unread: Arc<Unread>,
    spoken: bool,
    alarm: Option<Pin<Box<Sleep>>>,
    /// What must have left when the alarm goes off.
    mark: u64,
}

impl Patience {
    /// The peer must begin to speak by `first_words`, and not leave an answer lying for longer than `reader`.
    pub fn new(first_words: Instant, reader: Duration, unread: Arc<Unread>) -> Self {
        Self {
            reader,
            unread,
            spoken: false,
            alarm: Some(Box::pin(sleep_until(first_words))),
            mark: 0,
        }
    }

    /// At the end of each turn of the connection; ready when it must be cut.
    pub fn poll(&mut self, progress: Progress, context: &mut Context<'_>) -> Poll<Impatience> {
        if !self.spoken && progress.heard >= OPENING {
            self.spoken = true;
            self.alarm = None;
        }
        loop {
            let alarm = match &mut self.alarm {
                Some(alarm) => alarm,
                None if progress.left == progress.said && !self.unread.any() => return Poll::Pending,
                None => {
                    self.unread.age();
                    self.mark = progress.said;
                    self.alarm.insert(Box::pin(sleep(self.reader)))
                }
            };
            ready!(alarm.as_mut().poll(context));
            if !self.spoken {
                return Poll::Ready(Impatience::Silent);
            }
            if progress.left < self.mark || self.unread.old() > 0 {
                return Poll::Ready(Impatience::Unread);
            }
            self.alarm = None;
        }
    }
}
