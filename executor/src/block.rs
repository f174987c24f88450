//! What a timer wheel's slots are made of: bags of records, in blocks.

use crate::{
    prim::{OwnedU32, OwnedU64},
    slab::{Found, Whole},
    task::NONE,
};

/// Records of a block.
pub const RECORDS: u32 = 10;
/// The bag of what is due. A slot's is `level << 6 | index`.
pub const DUE: u32 = u32::MAX;

/// A sleeper in the wheel.
pub struct Record {
    pub deadline: OwnedU64,
    /// The number of its waker, if it is one of this executor.
    pub number: OwnedU64,
    /// Its entry.
    pub entry: OwnedU32,
}

impl Record {
    pub fn copy(&self, from: &Self) {
        self.deadline.set(from.deadline.get());
        self.number.set(from.number.get());
        self.entry.set(from.entry.get());
    }
}

/// Some records of one bag. The owner's alone.
#[repr(align(64))]
pub struct Block {
    /// The bag's next block, or the next free block.
    pub next: OwnedU32,
    /// The number of its bag, or of the slot that has passed and whose blocks are now in [`DUE`].
    pub bag: OwnedU32,
    /// Records in use, from the first on.
    pub count: OwnedU32,
    pub records: [Record; RECORDS as usize],
}

/// A block, found by its number.
pub type BlockRef<'a> = Found<'a, Block>;

impl Whole for Block {
    fn new() -> Self {
        Self {
            next: OwnedU32::new(NONE),
            bag: OwnedU32::new(DUE),
            count: OwnedU32::new(0),
            records: [const {
                Record {
                    deadline: OwnedU64::new(0),
                    number: OwnedU64::new(0),
                    entry: OwnedU32::new(NONE),
                }
            }; RECORDS as usize],
        }
    }

    #[inline]
    fn link(&self) -> &OwnedU32 {
        &self.next
    }
}

/// A list of blocks.
pub struct Bag {
    pub head: OwnedU32,
    /// The last block, if there is one.
    pub tail: OwnedU32,
}

impl Bag {
    pub const fn new() -> Self {
        Self {
            head: OwnedU32::new(NONE),
            tail: OwnedU32::new(NONE),
        }
    }

    /// Puts a block in front.
    pub fn prepend(&self, block: BlockRef<'_>) {
        let head = self.head.get();
        if head == NONE {
            self.tail.set(block.number);
        }
        block.next.set(head);
        self.head.set(block.number);
    }
}
