//! Credentials that were refused, by the address that they came from. An address that fails too often is not heard for a while: secrets cannot be
//! guessed at the speed of the network, and signatures cost processor time to check.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::connections::Address;
use crate::limits::{ATTEMPT_ADDRESSES_MAX, ATTEMPTS_BURST, ATTEMPTS_PER_SECOND, ATTEMPTS_PER_SECOND_ALL};

/// How many failures are left, as of a moment.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant, size: f64) -> Bucket {
        Bucket { left: size, at: now }
    }

    fn refill(&mut self, now: Instant, per_second: f64, size: f64) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.left = (self.left + more).min(size);
        self.at = now;
    }
}

/// The failures of all addresses.
#[derive(Default)]
pub(crate) struct Attempts {
    /// How many addresses have failed lately: most requests need to know only that it is none.
    failing: AtomicUsize,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    /// Of addresses that have failed lately.
    addresses: HashMap<Address, Bucket>,
    /// Of all together. None until somebody fails.
    all: Option<Bucket>,
}

impl Attempts {
    /// Whether a credential from `address` is to be looked at. An address without a failure is always heard; one with some is not while it
    /// has failed too often itself, or while all together have.
    pub(crate) fn may_try(&self, address: Address, now: Instant) -> bool {
        if self.failing.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { addresses, all } = &mut *buckets;
        let Some(bucket) = addresses.get_mut(&address) else {
            return true;
        };
        bucket.refill(now, ATTEMPTS_PER_SECOND, ATTEMPTS_BURST);
        if bucket.left >= ATTEMPTS_BURST {
            addresses.remove(&address);
            self.failing.store(addresses.len(), Ordering::Relaxed);
            return true;
        }
        let all_may = all.as_mut().is_none_or(|all| {
            all.refill(now, ATTEMPTS_PER_SECOND_ALL, ATTEMPTS_PER_SECOND_ALL);
            all.left >= 1.0
        });
        bucket.left >= 1.0 && all_may
    }

    /// Notes that a credential from `address` was refused.
    pub(crate) fn failed(&self, address: Address, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { addresses, all } = &mut *buckets;
        let all = all.get_or_insert_with(|| Bucket::full(now, ATTEMPTS_PER_SECOND_ALL));
        all.refill(now, ATTEMPTS_PER_SECOND_ALL, ATTEMPTS_PER_SECOND_ALL);
        all.left = (all.left - 1.0).max(0.0);
        if addresses.len() >= ATTEMPT_ADDRESSES_MAX && !addresses.contains_key(&address) {
            addresses.retain(|_, bucket| {
                bucket.refill(now, ATTEMPTS_PER_SECOND, ATTEMPTS_BURST);
                bucket.left < ATTEMPTS_BURST
            });
            // Those that have failed least are forgotten; the bound on all together holds still.
            if addresses.len() >= ATTEMPT_ADDRESSES_MAX
                && let Some(mildest) = addresses
                    .iter()
                    .max_by(|(_, a), (_, b)| a.left.total_cmp(&b.left))
                    .map(|(address, _)| *address)
            {
                addresses.remove(&mildest);
            }
        }
        let bucket = addresses
            .entry(address)
            .or_insert_with(|| Bucket::full(now, ATTEMPTS_BURST));
        bucket.refill(now, ATTEMPTS_PER_SECOND, ATTEMPTS_BURST);
        bucket.left = (bucket.left - 1.0).max(0.0);
        self.failing.store(addresses.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn address(number: u32) -> Address {
        Address::of(IpAddr::from(number.to_be_bytes()))
    }

    /// How many of `count` wrong credentials are looked at.
    fn guesses(attempts: &Attempts, address: Address, count: usize, now: Instant) -> usize {
        let tries = (0..count).filter(|_| {
            let may = attempts.may_try(address, now);
            if may {
                attempts.failed(address, now);
            }
            may
        });
        tries.count()
    }

    #[test]
    fn address_that_guesses_is_slowed_down_alone() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let burst = ATTEMPTS_BURST as usize;
        assert_eq!(guesses(&attempts, address(1), 5_000, now), burst);
        assert!(attempts.may_try(address(2), now));
        let later = now + Duration::from_secs(1);
        assert_eq!(
            guesses(&attempts, address(1), 5_000, later),
            ATTEMPTS_PER_SECOND as usize
        );
        let recovered = later + Duration::from_secs(3600);
        assert!(attempts.may_try(address(1), recovered));
        assert_eq!(attempts.failing.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn many_addresses_together_are_slowed_down() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let mut looked_at = 0;
        // Each fails once to begin with; then all that have failed share what is left.
        for number in 0..1_000 {
            looked_at += guesses(&attempts, address(number), 10, now);
        }
        assert!(looked_at <= 1_000 + ATTEMPTS_PER_SECOND_ALL as usize);
        assert!(
            attempts.may_try(address(5_000), now),
            "a stranger without a failure is heard"
        );
    }

    #[test]
    fn addresses_that_are_remembered_are_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..u32::try_from(ATTEMPT_ADDRESSES_MAX).unwrap() + 100 {
            attempts.failed(address(number), now);
        }
        assert_eq!(attempts.failing.load(Ordering::Relaxed), ATTEMPT_ADDRESSES_MAX);
    }
}
