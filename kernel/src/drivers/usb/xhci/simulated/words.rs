//! Registers of four bytes each.

use std::sync::Mutex;

use crate::drivers::registers::RegisterBlock;

/// Registers that keep what is written.
pub struct Words(Mutex<Vec<u32>>);

impl Words {
    pub fn new(bytes: usize) -> Self {
        Self(Mutex::new(vec![0; bytes / 4]))
    }
}

/// What of a block of registers is never asked for.
macro_rules! words_only {
    () => {
        fn read_u8(&self, _: usize) -> u8 {
            unreachable!("words")
        }

        fn write_u8(&self, _: usize, _: u8) {
            unreachable!("words")
        }

        fn read_u16(&self, _: usize) -> u16 {
            unreachable!("words")
        }

        fn write_u16(&self, _: usize, _: u16) {
            unreachable!("words")
        }
    };
}

impl RegisterBlock for Words {
    words_only!();

    fn read_u32(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        self.0.lock().unwrap()[offset / 4]
    }

    fn write_u32(&self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        self.0.lock().unwrap()[offset / 4] = value;
    }
}

pub(super) use words_only;
