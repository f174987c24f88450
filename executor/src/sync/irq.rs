//! From an interrupt to a task: no lock, no allocation, nothing freed.

use core::{
    future::poll_fn,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
    task::Poll,
};

use futures_util::task::AtomicWaker;

/// Counts what an interrupt handler signals, for one task to wait for. [`IrqCell::signal`] may be called in any context;
/// one task waits at a time (of several the last one to register is woken).
///
/// The task's waker must be one of this executor's: dropping another kind in the handler could free memory.
pub struct IrqCell {
    pending: AtomicU32,
    waker: AtomicWaker,
}

impl IrqCell {
    /// Nothing signalled.
    pub const fn new() -> Self {
        Self {
            pending: AtomicU32::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// Counts one and wakes the waiting task. Any context.
    pub fn signal(&self) {
        self.pending.fetch_add(1, Release);
        self.waker.wake();
    }

    /// How many signals there were since the last look; they are taken.
    pub fn take(&self) -> u32 {
        if self.pending.load(Relaxed) == 0 {
            0
        } else {
            self.pending.swap(0, Acquire)
        }
    }

    /// Waits for at least one signal and takes all there are; how many. Cancelling loses none.
    pub async fn wait(&self) -> u32 {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.take() {
                0 => Poll::Pending,
                count => Poll::Ready(count),
            }
        })
        .await
    }
}

impl Default for IrqCell {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Ring`] can hold: an unsigned integer.
pub trait Word: Copy + sealed::Word {}

mod sealed {
    use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

    pub trait Word: Sized {
        type Cell;
        const EMPTY: Self::Cell;
        fn load(cell: &Self::Cell) -> Self;
        fn store(self, cell: &Self::Cell);
    }

    macro_rules! word {
        ($integer:ty, $cell:ty) => {
            impl super::Word for $integer {}
            impl Word for $integer {
                type Cell = $cell;
                const EMPTY: $cell = <$cell>::new(0);
                fn load(cell: &$cell) -> Self {
                    cell.load(Relaxed)
                }
                fn store(self, cell: &$cell) {
                    cell.store(self, Relaxed);
                }
            }
        };
    }

    word!(u8, AtomicU8);
    word!(u32, AtomicU32);
    word!(u64, AtomicU64);
}

/// A ring from one producer (an interrupt handler) to one consumer (a task): of bytes, or of a device's completions, each a
/// word. `N` is a power of two, at most 2^31. An [`IrqCell`] beside it wakes the consumer.
///
/// With more than one producer or consumer at a time words are lost or doubled; nothing worse happens.
pub struct Ring<W: Word, const N: usize> {
    words: [W::Cell; N],
    /// Words ever pushed, modulo 2^32.
    head: AtomicU32,
    /// Words ever popped, modulo 2^32.
    tail: AtomicU32,
    lost: AtomicU32,
}

/// A ring of bytes.
pub type ByteRing<const N: usize> = Ring<u8, N>;

impl<W: Word, const N: usize> Ring<W, N> {
    /// An empty ring.
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two() && N <= 1 << 31, "a ring's size is a power of two") };
        Self {
            words: [const { W::EMPTY }; N],
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            lost: AtomicU32::new(0),
        }
    }

    /// Adds a word; false, and counted as lost, if the ring is full. By the producer, in any context.
    pub fn push(&self, word: W) -> bool {
        let head = self.head.load(Relaxed);
        if head.wrapping_sub(self.tail.load(Acquire)) as usize >= N {
            self.lost.store(self.lost.load(Relaxed).wrapping_add(1), Relaxed);
            return false;
        }
        word.store(&self.words[head as usize % N]);
        self.head.store(head.wrapping_add(1), Release);
        true
    }

    /// Takes the oldest word. By the consumer.
    pub fn pop(&self) -> Option<W> {
        let tail = self.tail.load(Relaxed);
        if self.head.load(Acquire) == tail {
            return None;
        }
        let word = W::load(&self.words[tail as usize % N]);
        self.tail.store(tail.wrapping_add(1), Release);
        Some(word)
    }

    /// Words that found the ring full.
    pub fn lost(&self) -> u32 {
        self.lost.load(Relaxed)
    }

    /// Whether there is nothing to pop.
    pub fn is_empty(&self) -> bool {
        self.head.load(Acquire) == self.tail.load(Relaxed)
    }
}

impl<W: Word, const N: usize> Default for Ring<W, N> {
    fn default() -> Self {
        Self::new()
    }
}
