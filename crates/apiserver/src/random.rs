//! Random bytes for names, UIDs and jitter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

/// A source of random bytes. Cheap to clone; clones draw from the same source.
#[derive(Clone)]
pub(crate) enum Random {
    /// The kernel's generator.
    Kernel(SystemRandom),
    /// A reproducible sequence from a seed.
    Seeded(Arc<AtomicU64>),
}

impl Random {
    pub(crate) fn kernel() -> Random {
        Random::Kernel(SystemRandom::new())
    }

    pub(crate) fn seeded(seed: u64) -> Random {
        Random::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    /// Fills `bytes`. Returns None when the kernel returns no random bytes.
    pub(crate) fn fill(&self, bytes: &mut [u8]) -> Option<()> {
        match self {
            Random::Kernel(kernel) => kernel.fill(bytes).ok(),
            Random::Seeded(state) => {
                for chunk in bytes.chunks_mut(8) {
                    let word = split_mix(state.fetch_add(GOLDEN, Ordering::Relaxed)).to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
                Some(())
            }
        }
    }
}

/// Step of the SplitMix64 generator. Each state occurs once in 2^64 steps, and each gives a
/// different word.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_another_seed_others() {
        let draw = |seed| {
            let random = Random::seeded(seed);
            let mut bytes = [[0; 16]; 2];
            for part in &mut bytes {
                random.clone().fill(part).expect("a sequence never ends");
            }
            bytes
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_ne!(draw(7)[0], draw(7)[1]);
    }
}
