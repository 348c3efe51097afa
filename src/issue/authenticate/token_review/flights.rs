//! One piece of work for all who want the same at the same time ("single flight").
//!
//! Takes: a key and work. Gives: the work's result, to everyone who asked while it was under way. Not here: what happens afterwards.
//!
//! The work is a task of its own on a given runtime, so that nobody who waits for it can break it by going away. It is given up shortly after
//! the last one who waits has run out of time. Work that ends without a result (given up, panicked, its runtime gone) tells those who
//! still wait, and leaves nothing behind: whoever asks next starts afresh.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Key;

/// How much longer the work may go on than the last of those who wait for it, so that their own timers end first.
const GRACE: Duration = Duration::from_millis(20);

/// All work under way. Cheap to clone.
pub struct Flights<V>(Arc<Mutex<HashMap<Key, Flight<V>>>>);

/// One piece of work under way.
pub struct Flight<V> {
    result: watch::Receiver<Option<V>>,
    /// When the last of those who wait runs out of time; only ever moved on.
    until: Arc<Mutex<Instant>>,
    /// Who started it.
    peer: Option<IpAddr>,
}

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    /// Joins the work for `key`, or starts it. `start` is called when there is none, with how much `peer` has started that is still under
    /// way, and may answer at once instead; it is called under a lock and must not wait.
    pub fn join<W>(
        &self,
        key: Key,
        until: Instant,
        runtime: &Handle,
        peer: Option<IpAddr>,
        start: impl FnOnce(usize) -> Result<W, V>,
    ) -> Result<Flight<V>, V>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let mut flights = lock(&self.0);
        if let Some(flight) = flights.get(&key) {
            let mut last = lock(&flight.until);
            *last = until.max(*last);
            return Ok(flight.clone());
        }
        // At most as many as there may be reviews: counting them costs less than a review by far.
        let work = start(flights.values().filter(|flight| flight.peer == peer).count())?;
        let (result, receiver) = watch::channel(None);
        let flight = Flight {
            result: receiver,
            until: Arc::new(Mutex::new(until)),
            peer,
        };
        flights.insert(key, flight.clone());
        drop(flights);
        let landing = Landing {
            flights: self.clone(),
            key,
            result,
        };
        let until = flight.until.clone();
        // A runtime that is gone drops the task inside `spawn`; its landing then takes the lock that was given back above.
        runtime.spawn(async move {
            tokio::select! {
                value = work => { landing.result.send_replace(Some(value)); }
                () = given_up(&until) => {}
            }
        });
        Ok(flight)
    }

    /// How many pieces of work are under way.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl<V: Clone> Flight<V> {
    /// The result; `None` when the work ended without one.
    pub async fn landed(mut self) -> Option<V> {
        let result = self.result.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }
}

/// Takes the work off the list before anyone can learn that it ended, in whatever way it ends.
struct Landing<V> {
    flights: Flights<V>,
    key: Key,
    result: watch::Sender<Option<V>>,
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        lock(&self.flights.0).remove(&self.key);
    }
}

async fn given_up(until: &Mutex<Instant>) {
    loop {
        let end = *lock(until) + GRACE;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}

/// Nothing is left half done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl<V> Clone for Flights<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Self {
        Self {
            result: self.result.clone(),
            until: self.until.clone(),
            peer: self.peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::sync::oneshot;

    const KEY: Key = [7; 32];

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn never(_: usize) -> Result<std::future::Pending<u32>, u32> {
        unreachable!("there is work under way")
    }

    #[tokio::test]
    async fn everyone_gets_the_one_result() {
        let flights = Flights::default();
        let runtime = Handle::current();
        let (give, wait) = oneshot::channel();
        let leader = flights
            .join(KEY, soon(), &runtime, None, |_| Ok(async { wait.await.unwrap() }))
            .ok()
            .unwrap();
        drop(leader);
        let follower = flights.join(KEY, soon(), &runtime, None, never).ok().unwrap();
        give.send(5).unwrap();
        assert_eq!(follower.landed().await, Some(5));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn an_answer_at_once_starts_nothing() {
        let flights = Flights::default();
        let answer = flights.join(KEY, soon(), &Handle::current(), None, |_| {
            Err::<std::future::Pending<u32>, _>(3)
        });
        assert_eq!(answer.err(), Some(3));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_panic_strands_nobody() {
        let flights = Flights::<u32>::default();
        let runtime = Handle::current();
        let panics = |_| Ok(async { panic!("as work may") });
        let flight = flights.join(KEY, soon(), &runtime, None, panics).ok().unwrap();
        assert_eq!(flight.landed().await, None);
        let again = flights
            .join(KEY, soon(), &runtime, None, |_| Ok(async { 4 }))
            .ok()
            .unwrap();
        assert_eq!(again.landed().await, Some(4));
    }

    #[test]
    fn a_runtime_that_is_gone_strands_nobody() {
        let flights = Flights::<u32>::default();
        let gone = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = gone.handle().clone();
        drop(gone);
        let here = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let flight = flights
            .join(KEY, soon(), &handle, None, |_| Ok(pending()))
            .ok()
            .unwrap();
        assert_eq!(here.block_on(flight.landed()), None);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn work_lasts_as_long_as_the_last_who_waits() {
        let flights = Flights::<u32>::default();
        let runtime = Handle::current();
        let after = |millis| Instant::now() + Duration::from_millis(millis);
        let last = after(200);
        let first = flights
            .join(KEY, after(1), &runtime, None, |_| Ok(pending()))
            .ok()
            .unwrap();
        flights.join(KEY, last, &runtime, None, never).ok().unwrap();
        flights.join(KEY, after(50), &runtime, None, never).ok().unwrap();
        assert_eq!(first.landed().await, None);
        assert!(Instant::now() >= last);
    }
}
