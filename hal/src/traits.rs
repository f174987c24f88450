//! The nine traits: what the kernel's generic code asks of a machine.
//!
//! Each is implemented by a type of the same name in `aarch64`, `x86_64` and `host`, re-exported by `hal::arch`:
//!
//! | trait | `arch::` type | module |
//! |---|---|---|
//! | [`PrivilegeLevel`] | `Privilege` | `privilege` |
//! | [`InterruptFrame`], [`SyscallFrame`] | `UserContext` | `exception_frame` / `interrupt_frame` |
//! | [`PageFlags`], [`PageTableOps`] | `PteFlags`, `PageTable` | `paging` |
//! | [`PerCpuOps`] | `PerCpu` | `percpu` |
//! | [`TimerOps`] | `Timer` | `timer` |
//! | [`InterruptController`] | `Controller`, by `arch::controller()` | `gic` / `apic` |
//! | [`CpuOps`] | `Cpu` | `cpu` |
//!
//! [`FpOps`] is a part of the user context with a trait of its own.

#![expect(unsafe_code, reason = "declares copies between a program and raw memory")]

use vdso::Counter;

use crate::addr::{PhysAddr, VirtAddr};
use crate::trap::{Fault, InterruptToken, Trap};

/// The privilege an interrupted context ran at.
pub trait PrivilegeLevel: Copy + Eq + core::fmt::Debug {
    /// The kernel's level (EL1, ring 0).
    const KERNEL: Self;
    /// The programs' level (EL0, ring 3).
    const USER: Self;

    /// Whether this is [`PrivilegeLevel::USER`].
    fn is_user(self) -> bool {
        self == Self::USER
    }
}

/// A thread's registers as saved at a trap: the one saved form, and what `enter_user` goes back to.
pub trait InterruptFrame: Clone + Send + Sync + 'static {
    /// The privilege type of the machine.
    type Privilege: PrivilegeLevel;
    /// The FP/SIMD state that belongs to the context.
    type Fp: FpOps;

    /// A context that starts at `entry` with stack pointer `stack`, every other register zero, FP/SIMD state initial.
    fn new_user(entry: u64, stack: u64) -> Self;
    /// The address of the next instruction.
    fn instruction_pointer(&self) -> u64;
    /// Sets the address of the next instruction.
    fn set_instruction_pointer(&mut self, address: u64);
    /// The user stack pointer.
    fn stack_pointer(&self) -> u64;
    /// Sets the user stack pointer.
    fn set_stack_pointer(&mut self, address: u64);
    /// The frame-pointer register, to start a user backtrace from.
    fn frame_pointer(&self) -> u64;
    /// The thread pointer (`TPIDR_EL0`, `FS_BASE`).
    fn thread_pointer(&self) -> u64;
    /// Sets the thread pointer. The value has been checked to be a user address.
    fn set_thread_pointer(&mut self, address: u64);
    /// The second thread pointer where programs have one (x86_64's `GS_BASE`, for `arch_prctl`); `None` elsewhere.
    fn gs_base(&self) -> Option<u64> {
        None
    }
    /// Sets the second thread pointer; false where there is none or the value is no user address.
    fn set_gs_base(&mut self, _address: u64) -> bool {
        false
    }
    /// The level the context runs at; always user for a context made by [`InterruptFrame::new_user`].
    fn privilege(&self) -> Self::Privilege;
    /// The FP/SIMD state's saved copy.
    fn fp(&self) -> &Self::Fp;
    /// The FP/SIMD state's saved copy, to change.
    fn fp_mut(&mut self) -> &mut Self::Fp;
    /// Why its last instruction could not be carried out, where [`Trap::Fault`] said so.
    fn fault(&self) -> Fault;
    /// Loads what of the context stays in the CPU while the kernel works for it: FP/SIMD registers and thread pointers. User
    /// mode finds what was loaded last on its CPU. Interrupts are masked.
    fn load_kept(&self) {
        self.fp().restore();
    }
    /// Saves what [`InterruptFrame::load_kept`] loads, which user mode may have changed since.
    fn save_kept(&mut self) {
        self.fp_mut().save();
    }
}

/// FP/SIMD registers. The kernel is built soft-float and never touches them, so a thread's values stay in the CPU while
/// the kernel works for it and are saved only when its poll ends.
pub trait FpOps: Clone + Send + Sync {
    /// Copies this CPU's FP/SIMD registers into the saved state.
    fn save(&mut self);
    /// Loads this CPU's FP/SIMD registers from the saved state.
    fn restore(&self);
}

/// A context at a system call.
pub trait SyscallFrame: InterruptFrame {
    /// The system-call number.
    fn syscall_number(&self) -> u64;
    /// The six arguments.
    fn syscall_arguments(&self) -> [u64; 6];
    /// Sets what the call returns: a value, or a negated errno.
    fn set_return_value(&mut self, value: i64);
    /// What [`SyscallFrame::set_return_value`] set last.
    fn return_value(&self) -> i64;
    /// Undoes the call, so that the next entry to user mode makes it again with its first arguments (`ERESTARTSYS`).
    fn rewind_syscall(&mut self);
    /// Undoes the call, so that the next entry to user mode makes call `number` in its place (`ERESTART_RESTARTBLOCK`).
    fn rewind_syscall_to(&mut self, number: u64);
}

/// What becomes of a page that [`PageTableOps::visit`] visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit<F> {
    /// Nothing.
    Keep,
    /// It gets other flags.
    Change(F),
    /// It is mapped no longer.
    Remove,
    /// Nothing, and no more pages are visited.
    Stop,
}

/// Attributes of one mapped page, for user and kernel mappings alike.
pub trait PageFlags: Copy + Eq + core::fmt::Debug {
    /// A readable page of normal cacheable memory, not writable, not executable, not for user mode.
    const READ: Self;
    /// Adds write permission.
    fn with_write(self, on: bool) -> Self;
    /// Adds execute permission, for user mode if the page is a user page.
    fn with_execute(self, on: bool) -> Self;
    /// Makes it a user page.
    fn with_user(self, on: bool) -> Self;
    /// A page that no access may use but that keeps its frame (`PROT_NONE`), in user mappings only.
    fn with_no_access(self, on: bool) -> Self;
    /// Device memory: uncached, strongly ordered.
    fn with_device(self, on: bool) -> Self;
    /// Whether writing is permitted.
    fn writable(self) -> bool;
    /// Whether execution is permitted.
    fn executable(self) -> bool;
    /// Whether user mode may use the page.
    fn user(self) -> bool;
}

/// Where page tables come from and go to.
pub trait FrameSource {
    /// A frame of zeroes, or `None` when memory is exhausted.
    fn allocate_table(&self) -> Option<PhysAddr>;
    /// Takes back a frame from [`FrameSource::allocate_table`], which no CPU can reach any more.
    fn free_table(&self, frame: PhysAddr);
}

/// No frame was left for a page table. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

/// Pages, aligned to as many, within which the range of [`PageTableOps::fill`] lies.
pub const FILL: u64 = 64;

/// The user half of one address space; the kernel half is shared by all. Addresses handed in are page-aligned and below
/// [`PageTableOps::USER_END`].
///
/// No call invalidates a TLB by itself except where it says so: the caller batches, then calls
/// [`PageTableOps::invalidate`] on every CPU that needs it.
pub trait PageTableOps: Sized + Send + Sync {
    /// The flags of one page.
    type Flags: PageFlags;
    /// The first address past the user half.
    const USER_END: u64;
    /// Whether instruction fetch sees whatever has been written, so that [`PageTableOps::sync_instruction_cache`] has
    /// nothing to do.
    const COHERENT_CODE: bool;
    /// Whether [`PageTableOps::invalidate`] reaches every CPU by itself (aarch64) or only this one (x86_64).
    const BROADCAST_INVALIDATE: bool;

    /// An empty user half.
    ///
    /// # Errors
    /// [`OutOfFrames`] if there is no frame for the root.
    fn new(frames: &impl FrameSource) -> Result<Self, OutOfFrames>;
    /// Maps one page, replacing what was mapped there.
    ///
    /// # Errors
    /// [`OutOfFrames`] if an intermediate table is missing and cannot be had.
    fn map(
        &mut self,
        page: VirtAddr,
        frame: PhysAddr,
        flags: Self::Flags,
        frames: &impl FrameSource,
    ) -> Result<(), OutOfFrames>;
    /// Maps those pages of `start..end` that are not mapped and that `fill` has something for; it is asked about each of
    /// them, in ascending order. The range lies within [`FILL`] pages, aligned to as many.
    ///
    /// # Errors
    /// [`OutOfFrames`] as [`PageTableOps::map`]; `fill` has not been called.
    fn fill(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        frames: &impl FrameSource,
        fill: impl FnMut(VirtAddr) -> Option<(PhysAddr, Self::Flags)>,
    ) -> Result<(), OutOfFrames>;
    /// Removes one page; `None` if none was mapped. Tables that become empty stay until [`PageTableOps::release`].
    fn unmap(&mut self, page: VirtAddr) -> Option<(PhysAddr, Self::Flags)>;
    /// Changes the flags of one mapped page; false if none is mapped.
    fn protect(&mut self, page: VirtAddr, flags: Self::Flags) -> bool;
    /// The frame and flags of one page.
    fn translate(&self, page: VirtAddr) -> Option<(PhysAddr, Self::Flags)>;
    /// Visits the mapped pages of `start..end` in ascending order, skipping empty tables whole, and does with each what `visit`
    /// says.
    fn visit(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        visit: impl FnMut(VirtAddr, PhysAddr, Self::Flags) -> Visit<Self::Flags>,
    );
    /// Makes this the user half that the calling CPU translates by.
    fn activate(&self);
    /// Takes whatever user half the calling CPU translates by away from it: every user address then faults.
    fn deactivate();
    /// Drops what the calling CPU's TLB (every CPU's, where [`PageTableOps::BROADCAST_INVALIDATE`]) holds of these
    /// pages of this address space, after making earlier table writes visible to the walkers.
    fn invalidate(&self, start: VirtAddr, end: VirtAddr);
    /// Gives every table frame back, the root included. The mapped frames are the caller's business. No CPU may have it
    /// active any more.
    fn release(self, frames: &impl FrameSource);
    /// Makes instructions just written to `frame` (through the direct map) visible to instruction fetch on every CPU.
    fn sync_instruction_cache(frame: PhysAddr);
}

/// Per-CPU data, found through `TPIDR_EL1` / `GS`.
pub trait PerCpuOps {
    /// The calling CPU's number, 0 for the boot CPU, dense. Changes under the caller's feet only at an await.
    fn cpu_id() -> u32;
    /// Whether the calling CPU is inside interrupt dispatch.
    fn in_interrupt() -> bool;
    /// Marks the calling CPU as inside interrupt dispatch, or no longer. Called with interrupts masked.
    fn set_in_interrupt(on: bool);
}

/// The clock and the calling CPU's one-shot timer.
pub trait TimerOps {
    /// Nanoseconds since boot: monotonic, the same on every CPU.
    fn now() -> u64;
    /// The counter behind [`TimerOps::now`], for time that is added up: it begins anywhere, and is not ordered against what surrounds it
    /// but by going to user mode and coming back. The same counter for as long as user mode has been entered.
    fn ticks() -> u64;
    /// How many nanoseconds so many [`TimerOps::ticks`] take, rounded down.
    fn nanoseconds(ticks: u64) -> u64;
    /// Ticks per second of the counter behind [`TimerOps::now`].
    fn frequency_hz() -> u64;
    /// The counter behind [`TimerOps::now`], where programs can read it themselves and so make the same time of it.
    fn user_counter() -> Option<Counter>;
    /// Raises [`InterruptSource::Timer`] on the calling CPU at `deadline` (the clock of [`TimerOps::now`], in
    /// nanoseconds), never early and at once if it has passed; replaces the deadline armed before.
    fn arm(deadline: u64);
    /// Forgets the armed deadline.
    fn disarm();
}

/// How a line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Pending for as long as the device holds it: masked until the driver has served it.
    Level,
    /// Pending once per edge.
    Edge,
}

/// What an acknowledged interrupt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptSource {
    /// A device's line, by the controller's numbering (INTID, or global system interrupt).
    Line(u32, Trigger),
    /// The calling CPU's one-shot timer. The controller has disarmed it, so that it does not fire again.
    Timer,
    /// Another CPU's [`InterruptController::send_ipi`].
    Ipi,
}

/// An acknowledged interrupt, to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// What it is.
    pub source: InterruptSource,
    /// The controller's own number for it, for [`InterruptController::end`].
    pub raw: u32,
}

/// Most messages of one device.
pub const MAX_EVENTS: u32 = 32;

/// A write to memory by which a device interrupts (PCI Local Bus 3.0, 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to, as the device says it.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// The interrupt controller. Every call is safe from any CPU and, but for those that allocate and free, in interrupt context.
pub trait InterruptController: Sync {
    /// Claims the interrupt that was signalled; `None` if it was spurious.
    fn acknowledge(&self, token: InterruptToken) -> Option<Interrupt>;
    /// Ends a claimed interrupt.
    fn end(&self, interrupt: Interrupt);
    /// Sets a line up, still masked, and routes it to `cpu`.
    fn configure(&self, line: u32, trigger: Trigger, cpu: u32);
    /// Keeps a line from being signalled. What arrives meanwhile stays pending.
    fn mask(&self, line: u32);
    /// Lets a line be signalled.
    fn unmask(&self, line: u32);
    /// A line of its own for a device's message, edge-triggered, routed to `cpu` and unmasked. `requester` is the device as the
    /// bus names it (a PCI function's bus, device and function number), `event` the number of the message among its own, below
    /// [`MAX_EVENTS`]. `None` where the controller takes no messages, or no more.
    fn allocate_message(&self, requester: u32, event: u32, cpu: u32) -> Option<(u32, Message)>;
    /// Gives a line of [`InterruptController::allocate_message`] back, whose device does not send any more.
    fn free_message(&self, line: u32);
    /// Signals an edge-triggered line by software, as its device would, to the calling CPU: for measuring and testing.
    /// False if there is no such line.
    fn raise(&self, line: u32) -> bool;
    /// Interrupts another CPU (or this one). Stores made before are visible to that CPU's handler.
    fn send_ipi(&self, cpu: u32);
}

/// How the machine is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Power off. Under an emulator with an exit device its exit status is this; elsewhere the status is lost.
    PowerOff(u8),
    /// Restart.
    Reset,
}

/// Bytes of a user copy that were not copied, because the page they belong to faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFault {
    /// The bytes copied before it.
    pub copied: usize,
}

/// The CPU itself.
pub trait CpuOps {
    /// The user context of the machine.
    type UserContext: SyscallFrame;
    /// What [`CpuOps::mask_interrupts`] has to put back.
    type InterruptState: Copy;

    /// Masks interrupts on the calling CPU and returns how they were.
    fn mask_interrupts() -> Self::InterruptState;
    /// As [`CpuOps::mask_interrupts`], for who knows how they were: a few instructions less.
    fn disable_interrupts();
    /// Puts back what [`CpuOps::mask_interrupts`] returned.
    fn restore_interrupts(state: Self::InterruptState);
    /// Unmasks interrupts.
    fn unmask_interrupts();
    /// Whether interrupts are unmasked.
    fn interrupts_enabled() -> bool;
    /// Called with interrupts masked: sleeps until one is pending, with no window in which it could be missed. Returns
    /// with interrupts masked; the interrupt has been dispatched, or will be as soon as they are unmasked.
    fn idle();
    /// A hint that the caller spins.
    fn relax();
    /// Has the calling CPU fetch its next instructions anew, as memory has them (Arm ARM B2.3.6, context synchronization; Intel SDM
    /// volume 3, 9.1.3, handling self- and cross-modifying code).
    fn synchronize_instructions();
    /// Goes to user mode and comes back at the next trap. Called with interrupts masked; they are unmasked in user mode
    /// and masked again on return. FP/SIMD registers are not touched.
    fn enter_user(context: &mut Self::UserContext) -> Trap;
    /// Copies from the active user half. Bounds have been checked against [`PageTableOps::USER_END`]; permissions are
    /// those of user mode.
    ///
    /// # Errors
    /// [`CopyFault`] at the first page that is not readable; the bytes before it have been copied.
    fn copy_from_user(to: &mut [u8], from: u64) -> Result<(), CopyFault> {
        // SAFETY: a slice is valid for writes.
        unsafe { Self::copy_from_user_to(to.as_mut_ptr(), from, to.len()) }
    }
    /// Copies to the active user half; otherwise as [`CpuOps::copy_from_user`].
    ///
    /// # Errors
    /// [`CopyFault`] at the first page that is not writable; the bytes before it have been copied.
    fn copy_to_user(to: u64, from: &[u8]) -> Result<(), CopyFault> {
        // SAFETY: a slice is valid for reads.
        unsafe { Self::copy_to_user_from(to, from.as_ptr(), from.len()) }
    }
    /// As [`CpuOps::copy_from_user`], to memory that others, user mode too, may access at the same time; it may be the
    /// very page that is copied from.
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes.
    ///
    /// # Errors
    /// As [`CpuOps::copy_from_user`].
    unsafe fn copy_from_user_to(to: *mut u8, from: u64, length: usize) -> Result<(), CopyFault>;
    /// As [`CpuOps::copy_to_user`], from memory that others, user mode too, may access at the same time.
    ///
    /// # Safety
    /// `from` is valid for reads of `length` bytes.
    ///
    /// # Errors
    /// As [`CpuOps::copy_to_user`].
    unsafe fn copy_to_user_from(to: u64, from: *const u8, length: usize) -> Result<(), CopyFault>;
    /// Atomically compares the aligned user word at `address` with `expected` and stores `new` where they are equal;
    /// returns what was there.
    ///
    /// # Errors
    /// [`CopyFault`] if the page is not writable.
    fn user_compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, CopyFault>;
    /// Atomically loads the aligned user word at `address`.
    ///
    /// # Errors
    /// [`CopyFault`] if the page is not readable.
    fn user_load(address: u64) -> Result<u32, CopyFault>;
    /// Where a frame of RAM stands in the kernel's direct map.
    fn phys_to_virt(address: PhysAddr) -> *mut u8;
    /// Starts the secondary CPU `cpu`, which then calls `breenix_secondary`. Returns false where firmware refuses.
    fn start_cpu(cpu: u32) -> bool;
    /// Leaves the machine; falls back to halting for ever.
    fn shutdown(how: Shutdown) -> !;
    /// Random bits from the CPU, where it has a generator.
    fn random() -> Option<u64>;
    /// `AT_HWCAP` and `AT_HWCAP2`.
    fn hwcap() -> (u64, u64);
    /// `AT_PLATFORM` and `uname -m`.
    const MACHINE: &'static str;
    /// One CPU's section of `/proc/cpuinfo`, as Linux prints it on this architecture.
    fn describe(cpu: u32, out: &mut dyn core::fmt::Write) -> core::fmt::Result;
    /// Walks the calling CPU's stack by frame pointers from `frame_pointer`, calling `frame` with each return address;
    /// stops where the chain leaves the CPU's kernel stacks.
    fn backtrace(frame_pointer: u64, frame: &mut dyn FnMut(u64));
    /// The caller's frame pointer.
    fn frame_pointer() -> u64;
}
