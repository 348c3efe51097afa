//! Who is connected, and how much of what we have each address holds: connections and calls are bounded over all and for each address, so
//! that no single peer takes everything. By address and not by identity: a thousand pods of one service account may renew together.
//!
//! The table is touched when a connection opens and when the last of it is gone, and holds no address without a connection; a call touches
//! counters only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::patience::Unread;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Present;

/// The most at once. Both are at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Over all.
    pub total: usize,
    /// For one address.
    pub per_address: usize,
}

/// What is bounded together. Strangers may ask for health and reflection: those never take the place of a certificate, nor the watches, which
/// may last, the place of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Calls for certificates.
    Certificates,
    /// Health checks and reflection.
    Side,
    /// Watches of health.
    Watches,
}

const POOLS: usize = 3;

/// Of [`Pool::Side`] and [`Pool::Watches`] each. Sixteen addresses must conspire to fill one.
const SMALL: Quota = Quota {
    total: 256,
    per_address: 16,
};

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// That over all.
    Total,
    /// That for one address.
    Address,
}

/// Everybody who is connected.
pub struct Visitors {
    connections: Quota,
    calls: [Quota; POOLS],
    metrics: Arc<Metrics>,
    taken: Taken,
    present: Mutex<Connected>,
}

#[derive(Default)]
struct Connected {
    total: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Default)]
struct Address {
    connections: usize,
    taken: Arc<Taken>,
}

/// How many places of each pool are taken.
#[derive(Default)]
struct Taken([AtomicUsize; POOLS]);

impl Taken {
    fn take(&self, pool: Pool, most: usize) -> bool {
        self.0[pool as usize]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < most).then_some(count + 1)
            })
            .is_ok()
    }

    fn give_back(&self, pool: Pool) {
        self.0[pool as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that was let in; it counts until this and every [`Place`] of it are dropped.
pub struct Visitor {
    visitors: Arc<Visitors>,
    address: IpAddr,
    taken: Arc<Taken>,
    /// Answers on their way to it.
    pub unread: Arc<Unread>,
    _present: Present,
}

/// A place among the calls of a pool, until it is dropped.
pub struct Place {
    /// Who holds it.
    pub visitor: Arc<Visitor>,
    pool: Pool,
    _present: Option<Present>,
}

impl Visitors {
    /// Nobody yet. `calls` bounds those for certificates.
    pub fn new(connections: Quota, calls: Quota, metrics: Arc<Metrics>) -> Self {
        Self {
            connections,
            calls: [calls, SMALL, SMALL],
            metrics,
            taken: Taken::default(),
            present: Mutex::default(),
        }
    }

    /// Lets a connection in, if there is room.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Arc<Visitor>, Full> {
        // A socket for both protocols shows 10.0.0.1 as ::ffff:10.0.0.1: one peer.
        let address = address.to_canonical();
        let taken = {
            let connected = &mut *self.lock();
            if connected.total >= self.connections.total {
                return Err(Full::Total);
            }
            let theirs = connected.addresses.entry(address).or_default();
            if theirs.connections >= self.connections.per_address {
                return Err(Full::Address);
            }
            theirs.connections += 1;
            connected.total += 1;
            theirs.taken.clone()
        };
        Ok(Arc::new(Visitor {
            visitors: self.clone(),
            address,
            taken,
            unread: Arc::default(),
            _present: self.metrics.connections.enter(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.present.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Visitor {
    /// A place for a call, if there is one.
    pub fn enter(self: &Arc<Self>, pool: Pool) -> Result<Place, Full> {
        let visitors = &self.visitors;
        let quota = visitors.calls[pool as usize];
        if !self.taken.take(pool, quota.per_address) {
            return Err(Full::Address);
        }
        if !visitors.taken.take(pool, quota.total) {
            self.taken.give_back(pool);
            return Err(Full::Total);
        }
        Ok(Place {
            visitor: self.clone(),
            pool,
            _present: (pool == Pool::Certificates).then(|| visitors.metrics.calls_in_flight.enter()),
        })
    }

    /// Where it comes from, IPv4 as IPv4.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.visitor.taken.give_back(self.pool);
        self.visitor.visitors.taken.give_back(self.pool);
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let connected = &mut *self.visitors.lock();
        connected.total -= 1;
        if let Entry::Occupied(mut theirs) = connected.addresses.entry(self.address) {
            theirs.get_mut().connections -= 1;
            if theirs.get().connections == 0 {
                theirs.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::SystemClock;
    use crate::telemetry::Readiness;

    fn visitors(connections: (usize, usize), calls: (usize, usize)) -> Arc<Visitors> {
        let quota = |(total, per_address)| Quota { total, per_address };
        let metrics = Arc::new(Metrics::new(Arc::new(SystemClock), &Readiness::default()));
        Arc::new(Visitors::new(quota(connections), quota(calls), metrics))
    }

    fn enter(visitors: &Arc<Visitors>, address: &str) -> Result<Arc<Visitor>, Full> {
        visitors.enter(address.parse().unwrap())
    }

    #[test]
    fn an_address_leaves_room_for_others_and_is_forgotten_when_it_leaves() {
        let all = visitors((3, 2), (1, 1));
        let first = enter(&all, "10.0.0.1").unwrap();
        let mapped = enter(&all, "::ffff:10.0.0.1").unwrap();
        assert_eq!(enter(&all, "10.0.0.1").err(), Some(Full::Address));
        assert_eq!(enter(&all, "::ffff:10.0.0.1").err(), Some(Full::Address));
        let other = enter(&all, "fd00::1").unwrap();
        assert_eq!(enter(&all, "fd00::2").err(), Some(Full::Total));
        assert_eq!(all.metrics.connections.now(), 3);
        drop(mapped);
        let again = enter(&all, "10.0.0.1").unwrap();
        drop((first, other, again));
        assert!(all.lock().addresses.is_empty());
        assert_eq!((all.lock().total, all.metrics.connections.now()), (0, 0));
    }

    #[test]
    fn calls_of_all_connections_of_an_address_count_together() {
        let all = visitors((9, 9), (3, 2));
        let (one, two) = (enter(&all, "10.0.0.1").unwrap(), enter(&all, "10.0.0.1").unwrap());
        let other = enter(&all, "10.0.0.2").unwrap();
        let (first, second) = (
            one.enter(Pool::Certificates).unwrap(),
            two.enter(Pool::Certificates).unwrap(),
        );
        assert_eq!(one.enter(Pool::Certificates).err(), Some(Full::Address));
        let third = other.enter(Pool::Certificates).unwrap();
        assert_eq!(other.enter(Pool::Certificates).err(), Some(Full::Total));
        assert_eq!(all.metrics.calls_in_flight.now(), 3);
        // A refusal for want of room takes nothing from the address.
        drop(first);
        let again = other.enter(Pool::Certificates).unwrap();
        assert_eq!(other.enter(Pool::Certificates).err(), Some(Full::Address));
        drop((second, third, again));
        assert_eq!(all.metrics.calls_in_flight.now(), 0);
    }

    #[test]
    fn pools_are_apart() {
        let all = visitors((9, 9), (1, 1));
        let visitor = enter(&all, "10.0.0.1").unwrap();
        let mut held: Vec<Place> = Vec::new();
        for (pool, most) in [
            (Pool::Certificates, 1),
            (Pool::Side, SMALL.per_address),
            (Pool::Watches, SMALL.per_address),
        ] {
            held.extend((0..most).map(|_| visitor.enter(pool).unwrap()));
            assert_eq!(visitor.enter(pool).err(), Some(Full::Address), "{pool:?}");
        }
    }

    #[test]
    fn a_call_that_outlives_its_connection_still_counts_for_its_address() {
        let all = visitors((9, 9), (9, 1));
        let visitor = enter(&all, "10.0.0.1").unwrap();
        let place = visitor.enter(Pool::Certificates).unwrap();
        drop(visitor);
        let back = enter(&all, "10.0.0.1").unwrap();
        assert_eq!(back.enter(Pool::Certificates).err(), Some(Full::Address));
        drop(place);
        back.enter(Pool::Certificates).unwrap();
    }
}
