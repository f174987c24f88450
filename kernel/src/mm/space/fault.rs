//! Page faults: the one place where pages come into being.

use alloc::{boxed::Box, sync::Arc};
use core::{future::Future, pin::Pin};

use hal::{
    arch::{PageTable, PteFlags},
    traits::{PageFlags, PageTableOps},
    trap::Access,
};

use super::{
    AddressSpace, Inner, PAGE, Prot, Role, STACK_GAP,
    area::{Area, Content, Sharing},
    page_floor,
    table::Batch,
    tlb::Generation,
};
use crate::{
    errno::Errno,
    mm::{
        frame::{self, Frame},
        pager::{Mappings, Pager},
    },
    task::{current, table},
};

/// Why an access cannot be made to work, and with which signal the program hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    MapErr,
    /// It is mapped but not for this access: SIGSEGV, `SEGV_ACCERR`.
    AccErr,
    /// The object has no such page, or cannot bring it: SIGBUS, `BUS_ADRERR`.
    Bus,
    /// Memory is exhausted: the OOM killer's turn.
    Oom,
    /// The thread that wants the page has been told to end, and does not wait for it.
    Ending,
}

/// What one look at the fault came to.
enum Step {
    Done(Generation),
    /// Somebody else has already done it; stale translations may be about.
    Spurious,
    /// A fork has to be over first.
    Forking,
    Ask(Question),
}

/// What one attempt to write to a page from outside came to.
pub(super) enum Poked {
    /// It is written; other CPUs have to forget the page that was there.
    Written(Generation),
    /// The page has to be brought first.
    Missing(Access),
    /// A fork has to be over first.
    Forking,
}

/// What a pager has to be asked, outside the lock.
struct Question {
    pager: Arc<dyn Pager>,
    index: u64,
    write: bool,
    /// Pages before and from this one on that a read fault maps too if they are in memory: within [`AROUND`], aligned to as
    /// many, and within the area.
    before: u8,
    after: u8,
    /// What [`Mappings::cuts`](crate::mm::pager::Mappings::cuts) said before the pager was asked.
    cuts: u64,
}

/// Pages around a read fault (Linux's `fault_around_bytes`).
const AROUND: u64 = 16;

impl AddressSpace {
    /// Makes an access to `address` work, or says why it cannot. Returns once the access can be tried again; in
    /// this address space, on any CPU. Faults of several CPUs on the same page are fine.
    ///
    /// # Errors
    /// [`FaultError`].
    pub fn fault(&self, address: u64, access: Access) -> impl Future<Output = Result<(), FaultError>> + Send {
        self.fault_with(address, access, false)
    }

    /// As [`AddressSpace::fault`], whatever the program itself may do with the page, for whoever looks into the space from outside.
    pub(super) fn force(
        &self,
        address: u64,
        access: Access,
    ) -> Pin<Box<dyn Future<Output = Result<(), FaultError>> + Send + '_>> {
        Box::pin(self.fault_with(address, access, access != Access::Write))
    }

    async fn fault_with(&self, address: u64, access: Access, forced: bool) -> Result<(), FaultError> {
        if address >= PageTable::USER_END {
            return Err(FaultError::MapErr);
        }
        let mut answer = None;
        loop {
            match self.look(address, access, forced, &mut answer)? {
                Step::Done(generation) => {
                    self.tlb.wait(generation).await;
                    return Ok(());
                }
                Step::Spurious => {
                    self.tlb.settle().await;
                    return Ok(());
                }
                Step::Forking => {
                    answer = None;
                    self.wait_for_fork().await;
                }
                Step::Ask(question) => {
                    let frame = question.ask().await?;
                    answer = Some((question, frame));
                }
            }
        }
    }

    // Not in the async function, whose state would have to hold the batch. The answer is taken if it is used, and handed on by
    // reference, since it is large for what most faults are.
    fn look(
        &self,
        address: u64,
        access: Access,
        forced: bool,
        answer: &mut Option<(Question, Frame)>,
    ) -> Result<Step, FaultError> {
        // The frame that is replaced is dropped outside the lock.
        let mut batch = Batch::new();
        let step = self
            .inner
            .lock()
            .fault(self, address, access, forced, answer, &mut batch)?;
        match step {
            Step::Ask(question) if access != Access::Write => self.look_around(address, access, question),
            step => Ok(step),
        }
    }

    /// Maps the page asked for and those around it if it is in memory.
    #[inline(never)]
    fn look_around(&self, address: u64, access: Access, question: Question) -> Result<Step, FaultError> {
        let mut pages = [const { None }; AROUND as usize];
        let (before, count) = (question.before, question.before + question.after);
        let pages = &mut pages[..usize::from(count)];
        question
            .pager
            .pages_in_memory(question.index - u64::from(before), pages);
        // What is not mapped is dropped outside the lock.
        if pages[usize::from(before)].is_some() && self.inner.lock().map_around(address, access, &question, pages)? {
            return Ok(Step::Done(Generation::NONE));
        }
        Ok(Step::Ask(question))
    }
}

impl Question {
    async fn ask(&self) -> Result<Frame, FaultError> {
        match self.attempt() {
            // Boxed, because every thread's future has room for every wait.
            None => Box::pin(self.wait()).await,
            Some(answer) => answer,
        }
    }

    /// The pager's answer; `None` if the page is on its way.
    fn attempt(&self) -> Option<Result<Frame, FaultError>> {
        let page = if self.write {
            self.pager.page_for_write(self.index)
        } else {
            self.pager.page(self.index)
        };
        match page {
            Ok(frame) => Some(Ok(frame)),
            Err(Errno::EAGAIN) => None,
            Err(Errno::ENOMEM) => Some(Err(FaultError::Oom)),
            Err(_) => Some(Err(FaultError::Bus)),
        }
    }

    /// Waits for the answer. Dropping it is safe: the page comes for whoever else wants it.
    async fn wait(&self) -> Result<Frame, FaultError> {
        let Some(arrivals) = self.pager.arrivals(self.index) else {
            // It has broken its word: nobody would wake us.
            return Err(FaultError::Bus);
        };
        let arrived = arrivals.wait_again_until(|| self.attempt());
        match current::tid().and_then(table::thread) {
            Some(thread) => thread.killable(arrived).await.unwrap_or(Err(FaultError::Ending)),
            None => arrived.await,
        }
    }

    /// Whether it is what a read fault on `page` of `area` has to ask, all of it.
    fn stands(&self, area: &Area, page: u64) -> bool {
        area.object_page(page).is_some_and(|(pager, index)| {
            Arc::ptr_eq(&self.pager, pager) && self.index == index && self.cuts == cuts(pager)
        }) && around(area, page) == (self.before, self.after)
    }

    /// Whether this still is the question to ask, and its answer of use.
    fn answers(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pager, &other.pager)
            && self.index == other.index
            && self.write >= other.write
            && self.cuts == other.cuts
    }
}

fn permits(prot: Prot, access: Access) -> bool {
    match access {
        // Neither machine has pages that can be written or run but not read.
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Execute => prot.contains(Prot::EXEC),
    }
}

impl Inner {
    fn fault(
        &mut self,
        space: &AddressSpace,
        address: u64,
        access: Access,
        forced: bool,
        answer: &mut Option<(Question, Frame)>,
        batch: &mut Batch,
    ) -> Result<Step, FaultError> {
        let page = page_floor(address);
        if self.areas.recall(address).is_none() {
            self.grow_stack(page)?;
        }
        let area = self.areas.recall(address).ok_or(FaultError::MapErr)?;
        if !forced && !permits(area.prot, access) {
            return Err(FaultError::AccErr);
        }
        let flags = area.prot.page_flags();
        match self.table.frame(page) {
            Some((frame, current)) if access == Access::Write && !current.writable() => {
                self.write_fault(space, page, frame, answer, batch)
            }
            Some((frame, current)) => {
                let wanted = flags.with_write(current.writable() && area.prot.contains(Prot::WRITE));
                if wanted == current {
                    self.table.invalidate(page, page + PAGE);
                    return Ok(Step::Spurious);
                }
                sync_code(wanted, &frame);
                self.table.protect(page, wanted);
                Ok(Step::Done(space.tlb.forget(&self.table, page, page + PAGE, batch)))
            }
            None => self.bring(page, access, answer),
        }
    }

    /// A write to a page that is mapped without write permission, in an area that has it.
    fn write_fault(
        &mut self,
        space: &AddressSpace,
        page: u64,
        frame: Frame,
        answer: &mut Option<(Question, Frame)>,
        batch: &mut Batch,
    ) -> Result<Step, FaultError> {
        let area = self.areas.recall(page).ok_or(FaultError::MapErr)?;
        let flags = area.prot.page_flags().with_write(true);
        if area.sharing == Sharing::Shared {
            let question = question(area, page, true).ok_or(FaultError::Bus)?;
            return match answer.take() {
                Some((asked, answer)) if asked.answers(&question) && answer.address() == frame.address() => {
                    frame.written();
                    self.table.protect(page, flags);
                    self.table.invalidate(page, page + PAGE);
                    Ok(Step::Done(Generation::NONE))
                }
                Some((asked, answer)) if asked.answers(&question) => self.replace(space, page, answer, flags, batch),
                _ => Ok(Step::Ask(question)),
            };
        }
        drop(frame);
        if self.table.references(page) == 1 {
            // Ours alone: nobody can get another reference but through this table, whose lock we hold.
            self.table.make_private(page);
            self.table.protect(page, flags);
            self.table.invalidate(page, page + PAGE);
            return Ok(Step::Done(Generation::NONE));
        }
        if self.forking {
            return Ok(Step::Forking);
        }
        let (old, _) = self.table.frame(page).ok_or(FaultError::MapErr)?;
        let copy = old.duplicate().map_err(|_| FaultError::Oom)?;
        sync_code(flags, &copy);
        self.replace(space, page, copy, flags, batch)
    }

    /// Writes to a page that is there and may be written to, or is private and nobody else's. Not more than a page.
    pub(super) fn poke_at_once(&mut self, at: u64, from: &[u8]) -> bool {
        let page = page_floor(at);
        let Some(area) = self.areas.recall(at) else {
            return false;
        };
        let (writable, shared) = (area.prot.contains(Prot::WRITE), area.sharing == Sharing::Shared);
        let own = self.table.references(page) == 1 && !shared && !matches!(area.content, Content::Special(_));
        let Some((frame, flags)) = self.table.frame(page) else {
            return false;
        };
        let may = if writable {
            flags.writable()
        } else {
            own && !frame.is_of_file()
        };
        if may {
            frame.write((at - page) as usize, from);
            sync_code(flags, &frame);
        }
        may
    }

    /// See [`AddressSpace::write_remote`]; `from` is within a page.
    pub(super) fn poke(
        &mut self,
        space: &AddressSpace,
        at: u64,
        from: &[u8],
        batch: &mut Batch,
    ) -> Result<Poked, FaultError> {
        let page = page_floor(at);
        let area = self.areas.recall(at).ok_or(FaultError::MapErr)?;
        let writable = area.prot.contains(Prot::WRITE);
        if !writable && (area.sharing == Sharing::Shared || matches!(area.content, Content::Special(_))) {
            return Err(FaultError::AccErr);
        }
        let access = if writable { Access::Write } else { Access::Read };
        let Some((frame, flags)) = self.table.frame(page) else {
            return Ok(Poked::Missing(access));
        };
        if writable && !flags.writable() {
            return Ok(Poked::Missing(access));
        }
        let offset = (at - page) as usize;
        drop(frame);
        if self.poke_at_once(at, from) {
            return Ok(Poked::Written(Generation::NONE));
        }
        if self.forking {
            return Ok(Poked::Forking);
        }
        let (frame, _) = self.table.frame(page).ok_or(FaultError::MapErr)?;
        let copy = frame.duplicate().map_err(|_| FaultError::Oom)?;
        copy.write(offset, from);
        sync_code(flags, &copy);
        match self.replace(space, page, copy, flags, batch)? {
            Step::Done(generation) => Ok(Poked::Written(generation)),
            _ => Ok(Poked::Written(Generation::NONE)),
        }
    }

    /// Puts another frame where one is mapped: first away with the old one, everywhere, then the new (Arm ARM D8.16,
    /// break-before-make).
    fn replace(
        &mut self,
        space: &AddressSpace,
        page: u64,
        new: Frame,
        flags: PteFlags,
        batch: &mut Batch,
    ) -> Result<Step, FaultError> {
        if let Some((old, _)) = self.table.unmap(page) {
            batch.push(old);
        }
        let generation = space.tlb.forget(&self.table, page, page + PAGE, batch);
        // The table is there, so this cannot fail; if it did, the next fault would begin anew.
        self.table.map(page, new, flags).map_err(|_| FaultError::Oom)?;
        Ok(Step::Done(generation))
    }

    /// Maps `pages`, the answer to a read fault, where nothing is mapped; false if that is no longer what is to be done.
    fn map_around(
        &mut self,
        address: u64,
        access: Access,
        asked: &Question,
        pages: &mut [Option<Frame>],
    ) -> Result<bool, FaultError> {
        let page = page_floor(address);
        let Some(area) = self.areas.recall(address) else {
            return Ok(false);
        };
        if !permits(area.prot, access) || !asked.stands(area, page) {
            return Ok(false);
        }
        let flags = area.prot.page_flags();
        let start = page - u64::from(asked.before) * PAGE;
        let end = page + u64::from(asked.after) * PAGE;
        let frame = |at: u64| {
            let frame = pages[((at - start) / PAGE) as usize].take()?;
            sync_code(flags, &frame);
            Some(frame)
        };
        let filled = self.table.fill(start, end, flags, frame);
        filled.map(|()| true).map_err(|_| FaultError::Oom)
    }

    /// A page that is not mapped.
    fn bring(&mut self, page: u64, access: Access, answer: &mut Option<(Question, Frame)>) -> Result<Step, FaultError> {
        let area = self.areas.recall(page).ok_or(FaultError::MapErr)?;
        let write = access == Access::Write;
        let flags = area.prot.page_flags();
        let (frame, flags) = match (&area.content, area.sharing) {
            (Content::Anonymous, _) => {
                let frame = frame::allocate_zeroed().map_err(|_| FaultError::Oom)?;
                (frame, flags.with_write(area.prot.contains(Prot::WRITE)))
            }
            (Content::Special(frame), _) => (frame.clone(), flags),
            (Content::Object { .. }, sharing) => {
                let shared = sharing == Sharing::Shared;
                let question = question(area, page, write && shared).ok_or(FaultError::Bus)?;
                match answer.take() {
                    Some((asked, frame)) if asked.answers(&question) => match (write, shared) {
                        (true, true) => {
                            frame.written();
                            (frame, flags.with_write(true))
                        }
                        (true, false) => (frame.duplicate().map_err(|_| FaultError::Oom)?, flags.with_write(true)),
                        (false, _) => (frame, flags),
                    },
                    _ => return Ok(Step::Ask(question)),
                }
            }
        };
        sync_code(flags, &frame);
        self.table.map(page, frame, flags).map_err(|_| FaultError::Oom)?;
        Ok(Step::Done(Generation::NONE))
    }

    /// Grows a stack down to `page`, if there is one above and it may.
    fn grow_stack(&mut self, page: u64) -> Result<(), FaultError> {
        let above = self.areas.at_or_above(page).ok_or(FaultError::MapErr)?;
        let Role::Stack(limit) = above.role else {
            return Err(FaultError::MapErr);
        };
        if above.end - page > limit {
            return Err(FaultError::MapErr);
        }
        if let Some(below) = self.areas.below(page)
            && !below.prot.is_empty()
            && page - below.end < STACK_GAP
        {
            return Err(FaultError::MapErr);
        }
        let from = above.start;
        self.areas.grow_down(from, page);
        Ok(())
    }
}

fn question(area: &Area, page: u64, write: bool) -> Option<Question> {
    let (pager, index) = area.object_page(page)?;
    let (before, after) = around(area, page);
    Some(Question {
        cuts: cuts(pager),
        pager: pager.clone(),
        index,
        write,
        before,
        after,
    })
}

fn cuts(pager: &Arc<dyn Pager>) -> u64 {
    pager.mappings().map_or(0, Mappings::cuts)
}

/// See [`Question::before`] and [`Question::after`].
fn around(area: &Area, page: u64) -> (u8, u8) {
    let first = page & !(AROUND * PAGE - 1);
    let (start, end) = (first.max(area.start), (first + AROUND * PAGE).min(area.end));
    (((page - start) / PAGE) as u8, ((end - page) / PAGE) as u8)
}

fn sync_code(flags: PteFlags, frame: &Frame) {
    if flags.executable() {
        frame.sync_code();
    }
}
