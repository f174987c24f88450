//! The kernel's random generator: ChaCha20, seeded from firmware and the CPU, stirred whenever the CPU offers more.

use hal::{
    arch::{Cpu, Timer},
    traits::{CpuOps, TimerOps},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::sync::{Rank, SpinLock};

/// Bytes drawn under one taking of the lock.
const PIECE: usize = 256;

static GENERATOR: SpinLock<Option<ChaCha20Rng>> = SpinLock::new(Rank::Random, None);

/// The CPU's own generator and the clock, mixed into a seed.
fn stir(seed: &mut [u8; 32]) {
    for (index, piece) in seed.chunks_exact_mut(8).enumerate() {
        let word = Cpu::random().unwrap_or(0) ^ Timer::now().rotate_left(index as u32 * 16);
        for (byte, more) in piece.iter_mut().zip(word.to_le_bytes()) {
            *byte ^= more;
        }
    }
}

/// Seeds the generator. Where firmware gave no entropy and the CPU has no generator, what comes out is hard to guess for
/// programs but not for whoever knows the boot's timing.
pub fn init(entropy: Option<[u8; 32]>) {
    let mut seed = entropy.unwrap_or_default();
    stir(&mut seed);
    *GENERATOR.lock() = Some(ChaCha20Rng::from_seed(seed));
}

/// Fills `bytes` with random ones.
pub fn fill(bytes: &mut [u8]) {
    for piece in bytes.chunks_mut(PIECE) {
        let mut generator = GENERATOR.lock();
        let generator = generator.get_or_insert_with(|| {
            let mut seed = [0; 32];
            stir(&mut seed);
            ChaCha20Rng::from_seed(seed)
        });
        generator.fill_bytes(piece);
    }
}

/// Mixes what somebody wrote to `/dev/urandom` in. It can only add to what cannot be guessed.
pub fn mix(bytes: &[u8]) {
    let mut seed = [0; 32];
    fill(&mut seed);
    for (index, byte) in bytes.iter().enumerate() {
        seed[index % 32] = seed[index % 32].rotate_left(3) ^ byte;
    }
    stir(&mut seed);
    *GENERATOR.lock() = Some(ChaCha20Rng::from_seed(seed));
}

/// A random word.
pub fn word() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
