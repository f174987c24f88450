//! What of an address space is in memory, and with whom it is shared.

use hal::{PAGE_SIZE, arch::PageTable, traits::PageTableOps};

use super::{AddressSpace, PAGE};

/// The pages that an address space may have.
pub const USER_PAGES: u64 = PageTable::USER_END / PAGE;

/// Pages that are looked at with the lock held, at most.
const AT_ONCE: usize = 512;

/// Bits of a fraction of a page.
const FRACTION: u32 = 12;

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPage {
    /// The frame's number.
    pub frame: u64,
    /// Whether it is of a file or of shared memory.
    pub of_file: bool,
    /// How many mappings have it, as far as is known: whoever else refers to it counts as one.
    pub mappings: u32,
}

/// How a page is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageUse {
    /// By several, and its file has what it holds.
    SharedClean,
    /// By several.
    SharedDirty,
    /// By one, and its file has what it holds.
    PrivateClean,
    /// By one.
    PrivateDirty,
}

/// How much of some areas is in memory. A page of a file is clean, one that belongs to programs alone is dirty: nothing else is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    pages: [u64; 4],
    /// Pages divided by their mappings: of files, and of no file. In fractions of a page.
    shares: [u64; 2],
}

impl Residence {
    fn count(&mut self, page: MappedPage) {
        let page_use = match (page.mappings > 1, page.of_file) {
            (true, true) => PageUse::SharedClean,
            (true, false) => PageUse::SharedDirty,
            (false, true) => PageUse::PrivateClean,
            (false, false) => PageUse::PrivateDirty,
        };
        self.pages[page_use as usize] += 1;
        self.shares[usize::from(!page.of_file)] += (1 << FRACTION) / u64::from(page.mappings.max(1));
    }

    /// Counts what another has as well.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.pages.iter_mut().zip(other.pages) {
            *sum += more;
        }
        for (sum, more) in self.shares.iter_mut().zip(other.shares) {
            *sum += more;
        }
    }

    /// Bytes that are used so.
    pub const fn bytes(&self, page_use: PageUse) -> u64 {
        self.pages[page_use as usize] * PAGE
    }

    /// Bytes in memory.
    pub fn resident(&self) -> u64 {
        self.pages.iter().sum::<u64>() * PAGE
    }

    /// Of them, those of no file.
    pub const fn anonymous(&self) -> u64 {
        self.bytes(PageUse::SharedDirty) + self.bytes(PageUse::PrivateDirty)
    }

    /// Bytes, those of each page divided by its mappings.
    pub const fn proportional(&self) -> u64 {
        ((self.shares[0] + self.shares[1]) * PAGE) >> FRACTION
    }

    /// Of them, those of no file.
    pub const fn proportional_anonymous(&self) -> u64 {
        (self.shares[1] * PAGE) >> FRACTION
    }

    /// Of them, those that no file has.
    pub const fn proportional_dirty(&self) -> u64 {
        self.proportional_anonymous()
    }
}

impl AddressSpace {
    /// The page with this number, if it is mapped.
    pub fn mapped_page(&self, page: u64) -> Option<MappedPage> {
        (page < USER_PAGES)
            .then(|| self.inner.lock().table.mapped(page * PAGE))
            .flatten()
    }

    /// Counts the pages of `start..end` into `sum`, a bounded number of them; returns up to where that is done.
    pub fn residence(&self, start: u64, end: u64, sum: &mut Residence) -> u64 {
        self.inner
            .lock()
            .table
            .look(start, end, AT_ONCE, |page| sum.count(page))
    }
}

const _: () = assert!(PAGE_SIZE == 1 << FRACTION);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_by_who_has_them() {
        let mut found = Residence::default();
        let page = |of_file, mappings| MappedPage {
            frame: 1,
            of_file,
            mappings,
        };
        [page(true, 1), page(true, 4), page(false, 1), page(false, 2)]
            .into_iter()
            .for_each(|page| found.count(page));
        assert_eq!(found.resident(), 4 * PAGE);
        assert_eq!(found.anonymous(), 2 * PAGE);
        assert_eq!(found.proportional(), PAGE + PAGE / 4 + PAGE + PAGE / 2);
        assert_eq!(found.proportional_anonymous(), PAGE + PAGE / 2);
        for page_use in [
            PageUse::SharedClean,
            PageUse::SharedDirty,
            PageUse::PrivateClean,
            PageUse::PrivateDirty,
        ] {
            assert_eq!(found.bytes(page_use), PAGE);
        }
        let mut sum = found;
        sum.add(&found);
        assert_eq!(sum.resident(), 8 * PAGE);
    }
}
