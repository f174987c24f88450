//! Restartable sequences (`rseq(2)`, `linux/rseq.h`): a thread tells where it notes a short piece of its code that has to run in one
//! go on one CPU. The kernel writes there which CPU that is, and where the thread was taken off its CPU or gets a signal within such a
//! piece, it goes on at the piece's abort handler.
//!
//! Whether a thread has been away is seen where its poll resumes ([`Away`]), so a thread without such a place pays for one load
//! there. A preempted thread and one whose page fault waited are looked at on their way back to user mode; as on Linux what is found
//! wrong (a piece that contradicts itself, a signature that is not the thread's) is a `SIGSEGV`.

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hal::{
    arch::{PageTable, PerCpu, UserContext},
    traits::{InterruptFrame, PageTableOps, PerCpuOps},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    fp::{Away, OnCpu},
    signal::{SigInfo, force, set::SIGSEGV},
    thread::Thread,
};
use crate::{
    errno::{Errno, Result},
    fs::file::{Attempt, Stop},
    mm::user::{self, UserFault},
};

/// Bytes of `struct rseq` as first published, which is the one that Linux 6.1 has; and its alignment.
const SIZE: u32 = 32;
/// `RSEQ_FLAG_UNREGISTER`.
const UNREGISTER: u32 = 1;
/// `RSEQ_CPU_ID_UNINITIALIZED`, in `cpu_id`.
const UNINITIALIZED: u32 = u32::MAX;
/// Where `rseq_cs` stands in `struct rseq`; before it `cpu_id_start` and `cpu_id`.
const SECTION: u64 = 8;
/// Where its `flags` stand.
const FLAGS: u64 = 16;

/// Where a thread's `struct rseq` is; nowhere at first.
pub struct Registration {
    /// Its address; 0 for none.
    address: AtomicU64,
    /// What stands before each abort handler.
    signature: AtomicU32,
    /// The CPU that is written there, as far as the kernel knows; [`UNINITIALIZED`] where it has to be written anew.
    told: AtomicU32,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            address: AtomicU64::new(0),
            signature: AtomicU32::new(0),
            told: AtomicU32::new(UNINITIALIZED),
        }
    }
}

impl Registration {
    /// Whether there is one.
    #[inline]
    pub fn is_there(&self) -> bool {
        self.address.load(Ordering::Relaxed) != 0
    }

    fn set(&self, address: u64, signature: u32) {
        self.signature.store(signature, Ordering::Relaxed);
        self.told.store(UNINITIALIZED, Ordering::Relaxed);
        self.address.store(address, Ordering::Relaxed);
    }

    /// Forgets it: another program has come.
    pub fn clear(&self) {
        self.set(0, 0);
    }

    /// Takes it over from the parent of a new process, whose memory is a copy.
    pub fn inherit(&self, parent: &Self) {
        let address = parent.address.load(Ordering::Relaxed);
        self.set(address, parent.signature.load(Ordering::Relaxed));
    }
}

/// `struct rseq_cs` (`linux/rseq.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Section {
    version: u32,
    flags: u32,
    start: u64,
    length: u64,
    abort: u64,
}

impl Section {
    /// Whether it is one.
    fn is_sound(&self) -> bool {
        let end = self.start.checked_add(self.length);
        self.version == 0
            && end.is_some_and(|end| end < PageTable::USER_END)
            && (4..PageTable::USER_END).contains(&self.abort)
            && !self.contains(self.abort)
    }

    fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.length
    }
}

/// Of a sequence that contradicts itself, or is not the thread's.
const UNSOUND: Stop = Stop::Errno(Errno::EFAULT);

/// Has the thread go on at the abort handler if it stands within a sequence.
fn leave_section(thread: &Thread, context: &mut UserContext) -> Attempt<()> {
    let registration = thread.rseq.address.load(Ordering::Relaxed);
    let noted = registration + SECTION;
    let address: u64 = user::read(noted)?;
    if address == 0 {
        return Ok(());
    }
    let section: Section = user::read(address)?;
    if !section.is_sound() {
        return Err(UNSOUND);
    }
    let signature: u32 = user::read(section.abort - 4)?;
    if signature != thread.rseq.signature.load(Ordering::Relaxed) {
        return Err(UNSOUND);
    }
    let within = section.contains(context.instruction_pointer());
    // Flags of either once said when not to leave it. They are gone, and looked at where they would have had a meaning.
    if within && (section.flags != 0 || user::read::<u32>(registration + FLAGS)? != 0) {
        return Err(UNSOUND);
    }
    user::write(noted, &0u64)?;
    if within {
        context.set_instruction_pointer(section.abort);
    }
    Ok(())
}

fn tell_cpu(address: u64) -> core::result::Result<(), UserFault> {
    let cpu = PerCpu::cpu_id();
    user::write(address, &[cpu, cpu])
}

/// Whether the thread has noted no sequence. By the active address space, which is its own.
#[inline]
fn is_outside(thread: &Thread) -> bool {
    let noted = thread.rseq.address.load(Ordering::Relaxed) + SECTION;
    user::read::<u64>(noted) == Ok(0)
}

/// Sees to a thread that has been away from its CPU, before it goes back to user mode: a `SIGSEGV` where what it has noted is wrong.
/// Nearly always it has noted nothing, and is where it was: then that is all.
#[inline]
pub(super) async fn resumed(thread: &Arc<Thread>, context: &mut UserContext, on_cpu: &mut OnCpu) {
    // The first poll of a thread begins with whatever translations its CPU has.
    on_cpu.mm.activate();
    if thread.rseq.told.load(Ordering::Relaxed) != PerCpu::cpu_id() || !is_outside(thread) {
        see_to(thread, context, on_cpu).await;
    }
}

async fn see_to(thread: &Arc<Thread>, context: &mut UserContext, on_cpu: &mut OnCpu) {
    let seen = attempt(thread, context, on_cpu, |context| {
        leave_section(thread, context)?;
        let registration = &thread.rseq;
        tell_cpu(registration.address.load(Ordering::Relaxed))?;
        registration.told.store(PerCpu::cpu_id(), Ordering::Relaxed);
        Ok(())
    });
    if seen.await.is_err() {
        force(thread, SigInfo::kernel(SIGSEGV));
    }
}

/// Sees to a thread that a signal's handler is about to interrupt.
///
/// # Errors
/// `EFAULT`: what it has noted is wrong, and it cannot have a handler run.
pub(super) async fn interrupted(thread: &Arc<Thread>, context: &mut UserContext, on_cpu: &mut OnCpu) -> Result<()> {
    if !thread.rseq.is_there() {
        return Ok(());
    }
    on_cpu.mm.activate();
    if is_outside(thread) {
        return Ok(());
    }
    attempt(thread, context, on_cpu, |context| leave_section(thread, context)).await
}

async fn attempt(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    mut act: impl FnMut(&mut UserContext) -> Attempt<()>,
) -> Result<()> {
    loop {
        match act(context) {
            Ok(()) => return Ok(()),
            Err(Stop::Fault(fault)) => {
                let mm = on_cpu.mm.clone();
                let resolved = Box::pin(async move { mm.resolve(fault).await });
                Away::new(thread, context, on_cpu, resolved).await?;
            }
            Err(Stop::Errno(errno)) => return Err(errno),
            Err(Stop::WouldBlock) => return Err(Errno::EAGAIN),
        }
    }
}

/// What a call of `rseq` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A registration is made.
    Comes,
    /// It is taken back.
    Leaves,
}

/// `rseq(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM` for another signature, `EBUSY` if the thread has registered it already, `EFAULT`.
pub fn rseq(thread: &Thread, address: u64, size: u32, flags: u32, signature: u32) -> Attempt<u64> {
    match check(thread, address, size, flags, signature)? {
        Change::Comes => {
            tell_cpu(address)?;
            // This poll's CPU. A later poll on another is noticed from now on.
            thread.rseq.set(address, signature);
            thread.rseq.told.store(PerCpu::cpu_id(), Ordering::Relaxed);
        }
        Change::Leaves => {
            user::write(address, &[0, UNINITIALIZED])?;
            thread.rseq.clear();
        }
    }
    Ok(0)
}

fn check(thread: &Thread, address: u64, size: u32, flags: u32, signature: u32) -> Result<Change> {
    let registered = thread.rseq.address.load(Ordering::Relaxed);
    let is_same = registered == address && size == SIZE;
    let knows = thread.rseq.signature.load(Ordering::Relaxed) == signature;
    if flags == UNREGISTER {
        return match (registered != 0 && is_same, knows) {
            (false, _) => Err(Errno::EINVAL),
            (true, false) => Err(Errno::EPERM),
            (true, true) => Ok(Change::Leaves),
        };
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if registered != 0 {
        return Err(match (is_same, knows) {
            (false, _) => Errno::EINVAL,
            (true, false) => Errno::EPERM,
            (true, true) => Errno::EBUSY,
        });
    }
    if size != SIZE || !address.is_multiple_of(u64::from(SIZE)) {
        return Err(Errno::EINVAL);
    }
    if address == 0 || address > PageTable::USER_END - u64::from(SIZE) {
        return Err(Errno::EFAULT);
    }
    Ok(Change::Comes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::testing;

    #[test]
    fn sections_that_contradict_themselves_are_seen() {
        let good = Section {
            start: 0x1000,
            length: 0x10,
            abort: 0x2000,
            ..Section::default()
        };
        assert!(good.is_sound());
        for bad in [
            Section { version: 1, ..good },
            Section {
                start: u64::MAX - 4,
                ..good
            },
            Section {
                start: PageTable::USER_END,
                ..good
            },
            Section {
                abort: PageTable::USER_END,
                ..good
            },
            Section { abort: 3, ..good },
            Section { abort: 0x1000, ..good },
            Section { abort: 0x100f, ..good },
        ] {
            assert!(!bad.is_sound(), "{bad:x?}");
        }
        assert!(good.contains(0x1000) && good.contains(0x100f));
        assert!(!good.contains(0xfff) && !good.contains(0x1010));
    }

    #[test]
    fn registering_is_checked_in_linux_s_order() {
        let thread = testing::thread(9101);
        let register = |address, size, flags, signature| check(&thread, address, size, flags, signature);
        assert_eq!(register(0x1000, 32, 0, 7), Ok(Change::Comes));
        assert_eq!(register(0x1000, 31, 0, 7), Err(Errno::EINVAL));
        assert_eq!(register(0x1010, 32, 0, 7), Err(Errno::EINVAL));
        assert_eq!(register(0x1000, 32, 2, 7), Err(Errno::EINVAL));
        assert_eq!(register(PageTable::USER_END, 32, 0, 7), Err(Errno::EFAULT));
        assert_eq!(register(0x1000, 32, UNREGISTER, 7), Err(Errno::EINVAL));
        thread.rseq.set(0x1000, 7);
        assert_eq!(register(0x1000, 32, 0, 7), Err(Errno::EBUSY));
        assert_eq!(register(0x1000, 32, 0, 8), Err(Errno::EPERM));
        assert_eq!(register(0x2000, 32, 0, 7), Err(Errno::EINVAL));
        assert_eq!(register(0x1000, 32, UNREGISTER, 8), Err(Errno::EPERM));
        assert_eq!(register(0x2000, 32, UNREGISTER, 7), Err(Errno::EINVAL));
        assert_eq!(register(0x1000, 32, UNREGISTER | 2, 7), Err(Errno::EINVAL));
        assert_eq!(register(0x1000, 32, UNREGISTER, 7), Ok(Change::Leaves));
    }
}
