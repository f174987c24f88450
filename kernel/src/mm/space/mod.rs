//! Address spaces: the areas that a process has mapped, and the pages that it has touched.
//!
//! Two structures behind one lock: [`area::Areas`] says what *may* be at an address, [`table::Table`] what *is* there. Everything
//! is lazy: `mmap` only writes areas; [`AddressSpace::fault`] finds the page when it is touched.
//!
//! **Copy-on-write needs no marks.** A private page is mapped writable only while its frame has one reference, which is that
//! mapping. Fork adds references and takes write permission away on both sides; a write fault then finds either a
//! count of one (take permission back) or more (copy). Pages of files are always referred to by their page cache as well, so a
//! private file mapping is the same case.
//!
//! **Files.** A read fault maps what is in memory of the file around it too, as far as an aligned window of 16 pages and the area
//! go. A fork leaves pages that are the file's own to such faults and copies entries of private copies alone.
//!
//! **Fork** goes through the pages in steps as well. While it does, areas do not change, and a write to a shared page waits:
//! another CPU may still write to it by a translation from before.
//!
//! **Waiting.** The lock is a short spin lock. What must wait happens between two holds of it and looks again
//! afterwards: a pager brings a page ([`crate::mm::pager`]), other CPUs forget stale translations ([`tlb`]). Long changes go in
//! steps of [`table::STEP`] pages, each complete in itself (areas and pages of a piece vanish together), so that interrupts are not
//! masked for long and concurrent calls see only states that Linux could show as well.
//!
//! **Life.** An `Arc<AddressSpace>` keeps tables alive; a CPU that was last to run a process keeps one. What keeps *pages* is the count
//! of users: processes that share the space ([`AddressSpace::share`]). The last [`AddressSpace::leave`] frees every page at
//! once, whatever idle CPU still holds the root.

mod access;
mod advise;
mod area;
mod fault;
mod fork;
mod heap;
mod map;
mod populate;
mod protect;
mod remap;
mod report;
mod residence;
mod table;
mod tlb;
mod unmap;

use alloc::{
    boxed::Box,
    sync::{Arc, Weak},
};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use hal::{
    PAGE_SIZE,
    arch::{PageTable, PteFlags},
    traits::{PageFlags, PageTableOps},
};

use area::{Area, Areas, Role};
pub use area::{Attach, MAX_AREAS, MIN_ADDRESS, STACK_GAP};
pub use fault::FaultError;
pub use map::{Map, MapFlags};
pub use remap::RemapFlags;
pub use report::MapEntry;
pub use residence::{MappedPage, PageUse, Residence, USER_PAGES};
use table::{Batch, FEW, STEP, Table, Which};
use tlb::Tlb;

use crate::{
    errno::{Errno, Result},
    mm::pager::Mappings,
    rt,
    sync::{Rank, SpinLock, SpinLockGuard, WaitQueue},
};

bitflags::bitflags! {
    /// What a program may do with its pages (`PROT_*`, `asm-generic/mman-common.h`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// `PROT_READ`.
        const READ = 1;
        /// `PROT_WRITE`.
        const WRITE = 2;
        /// `PROT_EXEC`.
        const EXEC = 4;
    }
}

impl Prot {
    /// The flags of a page that is not to be written before a write fault has said that it may be.
    fn page_flags(self) -> PteFlags {
        PteFlags::READ
            .with_user(true)
            .with_execute(self.contains(Self::EXEC))
            .with_no_access(self.is_empty())
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// The user half of one or more processes.
pub struct AddressSpace {
    inner: SpinLock<Inner>,
    tlb: Tlb,
    users: AtomicU32,
    this: Weak<Self>,
    /// The commands of `membarrier(2)` that have been registered.
    pub(crate) barriers: AtomicU32,
    /// Woken when a fork is over.
    fork_over: WaitQueue,
}

struct Inner {
    areas: Areas,
    table: Table,
    layout: Layout,
    /// Whether a fork goes through the pages: areas stay as they are, and shared pages are not copied, until it is over.
    forking: bool,
}

/// Where things are put when nobody says where.
#[derive(Clone, Copy, Debug)]
struct Layout {
    // Mappings are placed below this.
    mmap_top: u64,
    heap_start: u64,
    heap_end: u64,
}

/// The highest address a program's stack may start at, [`AddressSpace::map_stack`]'s usual `top`.
pub const STACK_TOP: u64 = PageTable::USER_END & !(PAGE - 1);

/// Room kept between the stack's top and the first mapping (Linux's `MIN_GAP` on both machines).
const MMAP_GAP: u64 = 128 << 20;

impl AddressSpace {
    /// An empty address space with one user.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        let table = Table::new().map_err(|_| Errno::ENOMEM)?;
        let layout = Layout {
            mmap_top: (STACK_TOP - MMAP_GAP) & !(PAGE - 1),
            heap_start: 0,
            heap_end: 0,
        };
        Ok(Self::with(Inner {
            areas: Areas::default(),
            table,
            layout,
            forking: false,
        }))
    }

    fn with(inner: Inner) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            inner: SpinLock::new(Rank::AddressSpace, inner),
            tlb: Tlb::new(),
            users: AtomicU32::new(1),
            barriers: AtomicU32::new(0),
            this: this.clone(),
            fork_over: WaitQueue::new(),
        })
    }

    /// The inside, once no fork goes through it: for whoever changes areas.
    async fn unforked(&self) -> SpinLockGuard<'_, Inner> {
        loop {
            {
                let inner = self.inner.lock();
                if !inner.forking {
                    return inner;
                }
            }
            self.wait_for_fork().await;
        }
    }

    /// Boxed, because it is rare and every thread's future has room for every wait.
    fn wait_for_fork(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.fork_over.wait_until(|| (!self.inner.lock().forking).then_some(())))
    }

    /// Has the pager of an area know the space. Before the area is there.
    fn announce(&self, area: &Area) {
        if let Some(mappings) = area.mappings() {
            mappings.add(self.tlb.id(), &self.this);
        }
    }

    /// The same address space for a further process (`CLONE_VM`). Each [`AddressSpace::share`] and [`AddressSpace::new`] is
    /// undone by one [`AddressSpace::leave`].
    #[must_use = "the further user has to leave in the end"]
    pub fn share(self: &Arc<Self>) -> Arc<Self> {
        self.users.fetch_add(1, SeqCst);
        self.clone()
    }

    /// Ends one process's use. The last frees every page and area at once; until the tables go too (with the last `Arc`), every user
    /// access faults.
    ///
    /// # Panics
    /// In debug builds, if there are more leaves than users.
    pub fn leave(&self) {
        if self.is_last_to_leave() {
            self.forget_areas();
            let mut at = 0;
            while at < PageTable::USER_END {
                at = self.free_pages(at, STEP);
            }
            self.forget_all();
        }
    }

    /// As [`AddressSpace::leave`], giving way now and then to what else is ready to run. Dropping the future leaves pages to the last
    /// `Arc`.
    ///
    /// # Panics
    /// As [`AddressSpace::leave`].
    pub async fn leave_in_turns(&self) {
        if self.is_last_to_leave() {
            self.forget_areas();
            let mut at = 0;
            while at < PageTable::USER_END {
                rt::give_way().await;
                at = self.free_pages(at, FEW);
            }
            self.forget_all();
        }
    }

    fn is_last_to_leave(&self) -> bool {
        let before = self.users.fetch_sub(1, SeqCst);
        debug_assert_ne!(before, 0, "an address space left too often");
        before == 1
    }

    /// Processes that use the space.
    pub fn users(&self) -> u32 {
        self.users.load(SeqCst)
    }

    // What follows is for the last user alone. Nobody runs on a stale translation then: an idle CPU that still has the root
    // touches no user address before it activates another space. Frames can go without waiting for it.

    fn forget_areas(&self) {
        let areas = core::mem::take(&mut self.inner.lock().areas);
        // Once for each object, whose areas mostly are neighbours; more often than that does no harm.
        let mut left: Option<&Mappings> = None;
        for mappings in areas.iter().filter_map(Area::mappings) {
            if !left.is_some_and(|left| core::ptr::eq(left, mappings)) {
                mappings.remove(self.tlb.id());
            }
            left = Some(mappings);
        }
    }

    /// Frees at most so many pages from `at` on; up to where.
    fn free_pages(&self, at: u64, most: usize) -> u64 {
        let mut batch = Batch::new();
        self.inner
            .lock()
            .table
            .take(at, PageTable::USER_END, Which::All, most, &mut batch)
    }

    fn forget_all(&self) {
        let inner = self.inner.lock();
        let _nobody_waits = self.tlb.forget(&inner.table, 0, PageTable::USER_END, &mut Batch::new());
    }

    /// Pages mapped at this moment.
    pub fn resident_pages(&self) -> u64 {
        self.inner.lock().table.resident()
    }

    /// Bytes of all areas.
    pub fn size(&self) -> u64 {
        self.inner.lock().areas.iter().map(|area| area.len()).sum()
    }
}

fn page_floor(address: u64) -> u64 {
    address & !(PAGE - 1)
}

fn page_ceil(address: u64) -> Option<u64> {
    address.checked_add(PAGE - 1).map(page_floor)
}

/// A range as a call gives it: its first byte and one past its last, rounded up to a page.
fn check_range(address: u64, length: u64) -> Result<(u64, u64)> {
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = page_ceil(length)
        .and_then(|length| address.checked_add(length))
        .ok_or(Errno::ENOMEM)?;
    Ok((address, end))
}
