//! Physical and user-virtual addresses as types, so that they are not mistaken for each other.

use crate::PAGE_SIZE;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address as a number.
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// The start of the page that holds this address.
            pub const fn page_floor(self) -> Self {
                Self(self.0 & !(PAGE_SIZE as u64 - 1))
            }

            /// The first page start at or above this address; `None` where that does not fit in 64 bits.
            pub const fn page_ceil(self) -> Option<Self> {
                match self.0.checked_add(PAGE_SIZE as u64 - 1) {
                    Some(sum) => Some(Self(sum).page_floor()),
                    None => None,
                }
            }

            /// Bytes from the start of the page to this address.
            pub const fn page_offset(self) -> usize {
                (self.0 & (PAGE_SIZE as u64 - 1)) as usize
            }

            /// Whether this is the start of a page.
            pub const fn is_page_aligned(self) -> bool {
                self.page_offset() == 0
            }

            /// This address moved up by `bytes`; `None` on overflow.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({:#x})", stringify!($name), self.0)
            }
        }
    };
}

address! {
    /// An address on the memory bus.
    PhysAddr
}

address! {
    /// An address in a process's half of the address space. It says nothing about whether something is mapped there.
    VirtAddr
}
