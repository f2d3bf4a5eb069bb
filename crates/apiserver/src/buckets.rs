//! Rate limits by address, with token buckets: a burst, and a number of actions per second after
//! it.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::connections::Address;
use crate::limits::ADDRESSES_MAX;

/// Rate limit of an action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) at_once: f64,
    pub(crate) per_second: f64,
}

/// A token bucket: the actions that are left at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: &Rate, now: Instant) -> Bucket {
        Bucket {
            left: rate.at_once,
            at: now,
        }
    }

    fn refill(&mut self, rate: &Rate, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        self.left = (self.left + more).min(rate.at_once);
        self.at = now;
    }

    /// Takes one action. Returns false when none is left.
    pub(crate) fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let is_left = self.left >= 1.0;
        self.left = (self.left - 1.0).max(0.0);
        is_left
    }
}

/// The buckets of the addresses that acted recently. At most [`ADDRESSES_MAX`].
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    addresses: HashMap<Address, Bucket>,
}

impl Buckets {
    /// Creates an empty table.
    pub(crate) fn new(rate: Rate) -> Buckets {
        Buckets {
            rate,
            addresses: HashMap::new(),
        }
    }

    /// Takes one action of `address`. Returns false when none is left.
    pub(crate) fn take(&mut self, address: Address, now: Instant) -> bool {
        let Buckets { rate, addresses } = self;
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&address) {
            addresses.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.left < rate.at_once
            });
            // Removes the address with the fewest recent actions.
            let mildest = addresses
                .iter()
                .max_by(|(_, a), (_, b)| a.left.total_cmp(&b.left));
            if let Some(mildest) = mildest.map(|(address, _)| *address)
                && addresses.len() >= ADDRESSES_MAX
            {
                addresses.remove(&mildest);
            }
        }
        let bucket = addresses
            .entry(address)
            .or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
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
    fn addresses_that_are_remembered_are_bounded() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 100 {
            buckets.take(address(number), now);
        }
        assert_eq!(buckets.addresses.len(), ADDRESSES_MAX);
    }
}
