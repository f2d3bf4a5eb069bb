//! Rate limits on invalid credentials, by address. Above the limit, each one closes its connection,
//! so a guess costs a handshake, and the handshakes of an address are limited too. A valid
//! credential is accepted regardless of earlier failures.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::buckets::{Bucket, Buckets, Rate};
use crate::connections::Address;
use crate::limits::{ATTEMPTS_BURST, ATTEMPTS_PER_SECOND, ATTEMPTS_PER_SECOND_ALL};

const OF_ADDRESS: Rate = Rate {
    at_once: ATTEMPTS_BURST,
    per_second: ATTEMPTS_PER_SECOND,
};
const OF_ALL: Rate = Rate {
    at_once: ATTEMPTS_PER_SECOND_ALL,
    per_second: ATTEMPTS_PER_SECOND_ALL,
};

/// Counts the invalid credentials of all addresses.
pub(crate) struct Attempts {
    failures: Mutex<Failures>,
}

struct Failures {
    addresses: Buckets,
    /// Of all addresses together.
    all: Bucket,
}

impl Default for Attempts {
    fn default() -> Attempts {
        let failures = Failures {
            addresses: Buckets::new(OF_ADDRESS),
            all: Bucket::full(Instant::now()),
        };
        Attempts {
            failures: Mutex::new(failures),
        }
    }
}

impl Attempts {
    /// Counts an invalid credential from `address`. Returns false when the limit of the address, or
    /// of all addresses, is reached.
    pub(crate) fn may_fail(&self, address: Address, now: Instant) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Failures { addresses, all } = &mut *failures;
        let (of_all, of_address) = (all.take(&OF_ALL, now), addresses.take(address, now));
        of_all && of_address
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn many_addresses_together_are_slowed_down() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let from = |number: u32| Address::of(IpAddr::from(number.to_be_bytes()));
        let passed = (0..1_000)
            .filter(|number| attempts.may_fail(from(*number), now))
            .count();
        assert_eq!(passed, ATTEMPTS_PER_SECOND_ALL as usize);
    }
}
