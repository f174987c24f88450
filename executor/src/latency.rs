//! How long a task waits from its wake to its poll, counted in two words.

use crate::prim::OwnedU64;

/// How long tasks waited from their wake to their poll: eight counts, by powers of four from a microsecond on, each at most
/// 65535. When one is full all are halved.
pub struct Latencies([OwnedU64; 2]);

impl Latencies {
    pub const fn new() -> Self {
        Self([OwnedU64::new(0), OwnedU64::new(0)])
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.0[0].set(0);
        self.0[1].set(0);
    }

    /// The counts.
    pub fn counts(&self) -> [u16; 8] {
        let words = u128::from(self.0[0].get()) | u128::from(self.0[1].get()) << 64;
        core::array::from_fn(|n| (words >> (16 * n)) as u16)
    }

    /// Counts a wait of so many nanoseconds.
    pub fn count(&self, ns: u64) {
        let bucket = ((u64::BITS - (ns >> 10).leading_zeros()).div_ceil(2) as usize).min(7);
        let (word, shift) = (&self.0[bucket / 4], 16 * (bucket % 4));
        if word.get() >> shift & 0xffff == 0xffff {
            // Each by one place, without what falls from one into the next.
            self.0
                .iter()
                .for_each(|word| word.set(word.get() >> 1 & 0x7fff_7fff_7fff_7fff));
        }
        word.set(word.get() + (1 << shift));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_powers_of_four() {
        let latencies = Latencies::new();
        for ns in [0, 1023, 1024, 4095, 4096, 16_383, 16_384, u64::MAX] {
            latencies.count(ns);
        }
        assert_eq!(latencies.counts(), [2, 2, 2, 1, 0, 0, 0, 1]);
        (0..70_000).for_each(|_| latencies.count(0));
        let counts = latencies.counts();
        assert!(counts[0] > 30_000 && counts[1] == 1, "{counts:?}");
    }
}
