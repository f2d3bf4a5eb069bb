//! Rate limits by address, with token buckets: a burst, and a number of actions per second after
//! it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::connections::Address;
use crate::limits::ADDRESSES_MAX;

/// Rate limit of an action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) at_once: f64,
    pub(crate) per_second: f64,
}

/// A token bucket, stored as the time at which it is full again. Each action moves that time, so it
/// also determines how many actions are left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    pub(crate) fn full(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    /// Takes one action. Returns false when none is left, and leaves the bucket as it is: a client
    /// that sends too much gets the rate, not nothing.
    pub(crate) fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + Duration::from_secs_f64(1.0 / rate.per_second);
        let is_left = full_at - now <= Duration::from_secs_f64(rate.at_once / rate.per_second);
        if is_left {
            self.full_at = full_at;
        }
        is_left
    }
}

/// The buckets of the addresses that acted recently. At most [`ADDRESSES_MAX`].
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    addresses: HashMap<Address, Bucket>,
    /// The same buckets, ordered by the time at which they are full. A new address gets room
    /// without a scan of all others, because every new connection may have a new address.
    by_full: BTreeSet<(Instant, Address)>,
}

impl Buckets {
    /// Creates an empty table.
    pub(crate) fn new(rate: Rate) -> Buckets {
        Buckets {
            rate,
            addresses: HashMap::new(),
            by_full: BTreeSet::new(),
        }
    }

    /// Takes one action of `address`. Returns false when none is left.
    pub(crate) fn take(&mut self, address: Address, now: Instant) -> bool {
        let mut bucket = match self.addresses.remove(&address) {
            Some(bucket) => {
                self.by_full.remove(&(bucket.full_at, address));
                bucket
            }
            None => Bucket::full(now),
        };
        while let Some((full_at, first)) = self.by_full.first().copied()
            // Removes full buckets and, for room, the address with the fewest recent actions.
            && (full_at <= now || self.addresses.len() >= ADDRESSES_MAX)
        {
            self.by_full.pop_first();
            self.addresses.remove(&first);
        }
        let is_left = bucket.take(&self.rate, now);
        self.by_full.insert((bucket.full_at, address));
        self.addresses.insert(address, bucket);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate {
        at_once: 50.0,
        per_second: 5.0,
    };

    fn address(number: u32) -> Address {
        Address::of(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn address_that_does_it_too_often_is_slowed_down_alone() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        let mut times =
            |from: u32, at: Instant| (0..5_000).filter(|_| buckets.take(address(from), at)).count();
        assert_eq!(times(1, now), 50);
        assert_eq!(times(2, now), 50);
        assert_eq!(times(1, now + Duration::from_secs(1)), 5);
        assert_eq!(times(1, now + Duration::from_secs(3600)), 50);
    }

    #[test]
    fn address_above_its_rate_gets_its_rate() {
        let (mut buckets, start) = (Buckets::new(RATE), Instant::now());
        // Twice the rate, for 100 seconds.
        let passed =
            (0..1_000).filter(|step| buckets.take(address(1), start + Duration::from_millis(100) * *step));
        assert!((545..=550).contains(&passed.count()));
    }

    #[test]
    fn address_with_the_fewest_recent_actions_makes_room() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        let busy = address(0);
        assert_eq!((0..60).filter(|_| buckets.take(busy, now)).count(), 50);
        for number in 1..=2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            buckets.take(address(number), now);
        }
        assert!(!buckets.take(busy, now));
        assert_eq!(buckets.by_full.len(), buckets.addresses.len());
    }

    #[test]
    fn addresses_that_are_remembered_are_bounded() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 100 {
            buckets.take(address(number), now);
        }
        assert_eq!(buckets.addresses.len(), ADDRESSES_MAX);
    }
}
