//! The page table of one address space, in terms of [`Frame`]s: an entry owns one reference.

#![expect(unsafe_code, reason = "moves frame references into and out of page-table entries")]

use core::mem::ManuallyDrop;

use arrayvec::ArrayVec;
use hal::{
    addr::{PhysAddr, VirtAddr},
    arch::{PageTable, PteFlags},
    traits::{OutOfFrames, PageFlags, PageTableOps, Visit},
};

use super::{MappedPage, PAGE};
use crate::mm::frame::{Frame, TableFrames};

/// The most frames that one step of a large operation takes out.
pub const STEP: usize = 256;
/// Pages handled between two looks at what else is ready to run, where a process begins or ends.
pub const FEW: usize = 32;

/// Which pages are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// Pages of files themselves, but not private copies of them.
    OfFiles,
}

/// Frames taken out of a table, not yet given back.
pub type Batch = ArrayVec<Frame, STEP>;

/// A page table whose entries own their frames.
pub struct Table {
    // None only inside drop.
    inner: Option<PageTable>,
    resident: u64,
}

impl Table {
    /// An empty table.
    pub fn new() -> Result<Self, OutOfFrames> {
        Ok(Self {
            inner: Some(PageTable::new(&TableFrames)?),
            resident: 0,
        })
    }

    fn get(&self) -> &PageTable {
        match &self.inner {
            Some(table) => table,
            None => unreachable!("the table is taken only by drop"),
        }
    }

    fn get_mut(&mut self) -> &mut PageTable {
        match &mut self.inner {
            Some(table) => table,
            None => unreachable!("the table is taken only by drop"),
        }
    }

    /// Pages mapped.
    pub const fn resident(&self) -> u64 {
        self.resident
    }

    /// Maps a page where none is.
    pub fn map(&mut self, page: u64, frame: Frame, flags: PteFlags) -> Result<(), OutOfFrames> {
        debug_assert!(
            self.get().translate(VirtAddr(page)).is_none(),
            "page {page:#x} mapped twice"
        );
        self.get_mut()
            .map(VirtAddr(page), frame.address(), flags, &TableFrames)?;
        let _owned_by_the_entry = frame.into_raw();
        self.resident += 1;
        Ok(())
    }

    /// Maps those pages of `start..end` that are not mapped and that `frame` has one for. The range is as for
    /// [`PageTableOps::fill`].
    pub fn fill(
        &mut self,
        start: u64,
        end: u64,
        flags: PteFlags,
        mut frame: impl FnMut(u64) -> Option<Frame>,
    ) -> Result<(), OutOfFrames> {
        let mut added = 0;
        let result = self
            .get_mut()
            .fill(VirtAddr(start), VirtAddr(end), &TableFrames, |page| {
                let frame = frame(page.0)?;
                added += 1;
                Some((frame.into_raw(), flags))
            });
        self.resident += added;
        result
    }

    /// Takes a page out. The caller keeps the frame until no TLB has it.
    pub fn unmap(&mut self, page: u64) -> Option<(Frame, PteFlags)> {
        let (address, flags) = self.get_mut().unmap(VirtAddr(page))?;
        self.resident -= 1;
        // SAFETY: the entry that owned the reference is gone.
        Some((unsafe { Frame::from_raw(address) }, flags))
    }

    /// Changes a mapped page's flags.
    pub fn protect(&mut self, page: u64, flags: PteFlags) {
        self.get_mut().protect(VirtAddr(page), flags);
    }

    /// The frame, without a reference to it, and the flags of a page.
    pub fn translate(&self, page: u64) -> Option<(PhysAddr, PteFlags)> {
        self.get().translate(VirtAddr(page))
    }

    /// A further reference to a page's frame, and its flags.
    pub fn frame(&self, page: u64) -> Option<(Frame, PteFlags)> {
        let (address, flags) = self.translate(page)?;
        Some((borrow(address).clone_frame(), flags))
    }

    /// References to a mapped page's frame.
    pub fn references(&self, page: u64) -> u32 {
        self.translate(page).map_or(0, |(address, _)| borrow(address).0.count())
    }

    /// What is mapped at a page.
    pub fn mapped(&self, page: u64) -> Option<MappedPage> {
        self.translate(page).map(|(address, _)| mapped(address))
    }

    /// Shows the mapped pages of `start..end`, `most` of them; returns up to where that is done.
    pub fn look(&mut self, start: u64, end: u64, most: usize, mut show: impl FnMut(MappedPage)) -> u64 {
        let (mut seen, mut done) = (0, end);
        self.get_mut()
            .visit(VirtAddr(start), VirtAddr(end), |page, address, _| {
                if seen == most {
                    done = page.0;
                    return Visit::Stop;
                }
                seen += 1;
                show(mapped(address));
                Visit::Keep
            });
        done
    }

    /// Makes a page whose only reference is the mapping's private memory, whatever it was before.
    pub fn make_private(&self, page: u64) {
        if let Some((address, _)) = self.translate(page) {
            borrow(address).0.set_of_file(false);
        }
    }

    /// Visits the mapped pages of `start..end`; a returned value replaces the flags. The closure gets a further reference to the
    /// frame by calling what it is handed.
    pub fn visit(
        &mut self,
        start: u64,
        end: u64,
        mut visit: impl FnMut(u64, &dyn Fn() -> Frame, PteFlags) -> Option<PteFlags>,
    ) {
        self.get_mut()
            .visit(VirtAddr(start), VirtAddr(end), |page, address, flags| {
                visit(page.0, &|| borrow(address).clone_frame(), flags).map_or(Visit::Keep, Visit::Change)
            });
    }

    /// Takes pages of `start..end` out, in ascending order, until `batch` is full or `most` have been looked at; returns up to
    /// where that is done.
    pub fn take(&mut self, start: u64, end: u64, which: Which, most: usize, batch: &mut Batch) -> u64 {
        // Those that stay count too: the lock is held no longer for them.
        let mut room = most.min(STEP - batch.len());
        let before = batch.len();
        let mut done = end;
        self.get_mut()
            .visit(VirtAddr(start), VirtAddr(end), |page, address, _| {
                if room == 0 {
                    done = page.0;
                    return Visit::Stop;
                }
                room -= 1;
                if which == Which::OfFiles && !borrow(address).0.is_of_file() {
                    return Visit::Keep;
                }
                // SAFETY: the entry that owned the reference goes now.
                batch.push(unsafe { Frame::from_raw(address) });
                Visit::Remove
            });
        self.resident -= (batch.len() - before) as u64;
        done
    }

    /// Maps the pages of `start..end` in `child` too, writable in neither, except for pages of files themselves, which a fault
    /// brings again; looks at [`FEW`] of them at most. Returns up to where that is done and at how many it looked.
    pub fn share(&mut self, child: &mut Self, start: u64, end: u64) -> Result<(u64, usize), OutOfFrames> {
        let (mut done, mut seen, mut result) = (end, 0, Ok(()));
        self.get_mut()
            .visit(VirtAddr(start), VirtAddr(end), |page, address, flags| {
                if seen == FEW {
                    done = page.0;
                    return Visit::Stop;
                }
                seen += 1;
                let frame = borrow(address);
                if frame.0.is_of_file() {
                    return Visit::Keep;
                }
                let shared = flags.with_write(false);
                result = child.map(page.0, frame.clone_frame(), shared);
                match result {
                    Ok(()) => Visit::Change(shared),
                    Err(_) => Visit::Stop,
                }
            });
        result?;
        Ok((done, seen))
    }

    /// Makes the calling CPU translate by this table.
    pub fn activate(&self) {
        self.get().activate();
    }

    /// As [`PageTableOps::invalidate`].
    pub fn invalidate(&self, start: u64, end: u64) {
        self.get().invalidate(VirtAddr(start), VirtAddr(end));
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut batch = Batch::new();
        let mut at = 0;
        while self.resident > 0 && at < PageTable::USER_END {
            at = self.take(at, PageTable::USER_END, Which::All, STEP, &mut batch);
            batch.clear();
        }
        if let Some(table) = self.inner.take() {
            table.release(&TableFrames);
        }
    }
}

struct Borrowed(ManuallyDrop<Frame>);

impl Borrowed {
    fn clone_frame(&self) -> Frame {
        Frame::clone(&self.0)
    }
}

/// The reference that an entry owns, borrowed.
/// A page that a table maps. Of the references to one of a file, one is that of the file's pages.
fn mapped(address: PhysAddr) -> MappedPage {
    let frame = borrow(address);
    let of_file = frame.0.is_of_file();
    MappedPage {
        frame: address.0 / PAGE,
        of_file,
        mappings: frame.0.count().saturating_sub(of_file.into()).max(1),
    }
}

fn borrow(address: PhysAddr) -> Borrowed {
    // SAFETY: the entry keeps its reference: this one is never dropped.
    Borrowed(ManuallyDrop::new(unsafe { Frame::from_raw(address) }))
}
