//! Work that would stall an async thread (over about 200 µs of cryptography), on threads of its own.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Room for slow work: so many pieces at once, the rest waits without a thread. Cheap to clone; the copies share the room.
#[derive(Clone, Debug)]
pub struct SlowWork(Arc<Semaphore>);

impl SlowWork {
    /// With room for so many pieces of work at once.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Does the work and gives its result; `None` when its thread is gone.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let room = self.0.clone().acquire_owned().await.ok()?;
        let run = move || {
            // The room is given back when the work is done, not when the caller gives up.
            let _room = room;
            work()
        };
        tokio::task::spawn_blocking(run).await.ok()
    }
}
