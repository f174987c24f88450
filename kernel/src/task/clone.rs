//! fork, vfork, clone, clone3: one function with flags.
//!
//! Everything that can fail is done before the child is visible; then it enters the table and its future is spawned. The
//! caller's FP/SIMD values have been saved into the context that is copied.

use alloc::{boxed::Box, sync::Arc};
use core::{future::poll_fn, sync::atomic::Ordering, task::Poll};

use hal::{
    arch::{PageTable, UserContext},
    traits::{InterruptFrame, PageTableOps, SyscallFrame},
};

use super::{
    capabilities::{Capability, CapabilitySet},
    exec::vdso,
    limits::Resource,
    pid::Pid,
    process::{Process, ProcessParts},
    ptrace::{Tracee, events::Fork},
    run,
    signal::{Signo, action::ActionTable, set::SIGNALS},
    table::{self, TABLE},
    thread::{Thread, ThreadParts, attention},
};
use crate::{
    errno::{Errno, Result},
    mm::AddressSpace,
    namespace::{self, Kind},
    rt,
    syscall::pidfd,
};

/// `CLONE_*` (`linux/sched.h`).
pub mod flags {
    /// The low byte: the signal at exit.
    pub const CSIGNAL: u64 = 0xff;
    /// Share memory.
    pub const CLONE_VM: u64 = 0x100;
    /// Share root, working directory, umask.
    pub const CLONE_FS: u64 = 0x200;
    /// Share descriptors.
    pub const CLONE_FILES: u64 = 0x400;
    /// Share signal actions.
    pub const CLONE_SIGHAND: u64 = 0x800;
    /// Return a process descriptor.
    pub const CLONE_PIDFD: u64 = 0x1000;
    /// The caller's tracer traces the child as well.
    pub const CLONE_PTRACE: u64 = 0x2000;
    /// The caller's tracer is not told of the child.
    pub const CLONE_UNTRACED: u64 = 0x80_0000;
    /// The parent waits until the child execs or ends.
    pub const CLONE_VFORK: u64 = 0x4000;
    /// Of no effect for long, and refused where it might get one.
    pub const CLONE_DETACHED: u64 = 0x40_0000;
    /// The caller's parent becomes the child's.
    pub const CLONE_PARENT: u64 = 0x8000;
    /// A thread of the same process.
    pub const CLONE_THREAD: u64 = 0x1_0000;
    /// Share what semaphores get back at the end.
    pub const CLONE_SYSVSEM: u64 = 0x4_0000;
    /// Set the thread pointer.
    pub const CLONE_SETTLS: u64 = 0x8_0000;
    /// Store the number in the caller's memory.
    pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
    /// Clear and wake a word at exit.
    pub const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
    /// Store the number in the child's memory.
    pub const CLONE_CHILD_SETTID: u64 = 0x100_0000;
    /// Reset handlers to default.
    pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
}

use flags::*;

/// What clone3 can ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs {
    /// `CLONE_*` without the signal.
    pub flags: u64,
    /// Sent to the parent at the end.
    pub exit_signal: Signo,
    /// The child's stack pointer; 0 for the caller's.
    pub stack: u64,
    /// The child's thread pointer, with `CLONE_SETTLS`.
    pub tls: u64,
    /// Where the number goes in the caller's memory.
    pub parent_tid: u64,
    /// Where the process descriptor goes in the caller's memory, with `CLONE_PIDFD`.
    pub pidfd: u64,
    /// Where the number goes in the child's memory, and what is cleared at its end.
    pub child_tid: u64,
}

impl CloneArgs {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    fn check(&self) -> Result<()> {
        let bad = self.has(CLONE_SIGHAND) && !self.has(CLONE_VM)
            || self.has(CLONE_THREAD) && !self.has(CLONE_SIGHAND)
            || self.has(CLONE_SIGHAND) && self.has(CLONE_CLEAR_SIGHAND)
            || self.has(CLONE_PIDFD)
                && (self.has(CLONE_THREAD | CLONE_DETACHED)
                    || self.has(CLONE_PARENT_SETTID) && self.pidfd == self.parent_tid)
            || self.has(CLONE_SYSVSEM) && self.has(Kind::Ipc.flag())
            || self.has(CLONE_VM) && self.has(Kind::Time.flag())
            || self.has(namespace::change::ALL & !namespace::change::MADE)
            || !(0..=SIGNALS).contains(&self.exit_signal)
            || self.has(CLONE_SETTLS) && self.tls >= PageTable::USER_END;
        if bad { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

/// Makes the child; its number.
///
/// # Errors
/// `EINVAL` for contradictory flags, `EAGAIN` if there are too many processes, `EPERM` for namespaces without `CAP_SYS_ADMIN`, `ENOMEM`.
pub(crate) async fn clone(thread: &Arc<Thread>, context: &mut UserContext, args: CloneArgs) -> Result<Pid> {
    args.check()?;
    let process = thread.process();
    if !may_have_another(thread) {
        return Err(Errno::EAGAIN);
    }
    let namespaces = namespace::change::of_child(thread, args.flags)?;
    let tid = Number(table::allocate_pid()?);
    let child_process = if args.has(CLONE_THREAD) {
        process.clone()
    } else {
        copy_process(thread, tid.0, &args).await?
    };
    rt::give_way().await;
    let space = Space(if args.has(CLONE_THREAD) {
        None
    } else {
        Some(child_process.mm())
    });
    if let Some(namespaces) = &namespaces
        && !args.has(CLONE_VM)
        && !Arc::ptr_eq(&namespaces.time, &thread.namespaces().time)
    {
        vdso::enter_time(&child_process.mm(), &namespaces.time).await?;
    }
    let files = if args.has(CLONE_FILES) {
        thread.files()
    } else {
        Arc::new(thread.files().fork()?)
    };
    let fs = if args.has(CLONE_FS) {
        thread.fs()
    } else {
        Arc::new(thread.fs().fork())
    };
    let parts = ThreadParts {
        tid: tid.0,
        process: child_process,
        files,
        fs,
        credentials: thread.credentials(),
        namespaces,
        comm: thread.comm(),
    };
    let is_filtered = parts.credentials.filter.is_some();
    let child = Arc::new(Thread::new(parts));
    if is_filtered {
        child.kick(attention::FILTER);
    }
    let fork = inherit(thread, &child, &args).map(|tracee| Fork::new(tracee, &args));
    let mut child_context = context.clone();
    child_context.set_return_value(0);
    if args.stack != 0 {
        child_context.set_stack_pointer(args.stack);
    }
    if args.has(CLONE_SETTLS) {
        child_context.set_thread_pointer(args.tls);
    }
    let number = tid.0;
    // After the child has got its descriptors, which this one is not among unless they are shared.
    let descriptor = match args.has(CLONE_PIDFD) {
        true => Some(Descriptor::new(thread, child.process())?),
        false => None,
    };
    if let Some(descriptor) = &descriptor {
        thread.mm().write(args.pidfd, &descriptor.fd).await?;
    }
    if args.has(CLONE_PARENT_SETTID) {
        // As on Linux, nobody is told that it could not be.
        let _written = thread.mm().write_bytes(args.parent_tid, &number.to_ne_bytes()).await;
    }
    if args.has(CLONE_VFORK) {
        *child.process().vfork.lock() = Some(thread.clone());
    }
    publish(thread, &child, &args)?;
    core::mem::forget(tid);
    space.keep();
    if let Some(fork) = &fork {
        fork.link(&child, &args);
    }
    let set_tid = if args.has(CLONE_CHILD_SETTID) {
        args.child_tid
    } else {
        0
    };
    if let Err(error) = run::start(&child, child_context, set_tid) {
        withdraw(&child);
        return Err(error);
    }
    if let Some(descriptor) = descriptor {
        core::mem::forget(descriptor);
    }
    if let Some(fork) = &fork {
        Box::pin(fork.born(thread, context, number)).await;
    }
    if args.has(CLONE_VFORK) {
        wait_for_vfork(thread, child.process()).await;
        if let Some(fork) = &fork {
            Box::pin(fork.vfork_done(thread, context, number)).await;
        }
    }
    Ok(number)
}

/// Whether the caller's real user may have one thread more (`RLIMIT_NPROC`).
fn may_have_another(thread: &Thread) -> bool {
    const EXEMPT: CapabilitySet = CapabilitySet::of(&[Capability::SysResource, Capability::SysAdmin]);
    let credentials = thread.credentials();
    if credentials.uid == 0 || credentials.can_any(EXEMPT) {
        return true;
    }
    let limit = thread.process().limit(Resource::Processes);
    let table = TABLE.lock();
    // They are counted only where there are enough of all users' to matter.
    (table.threads.len() as u64) < limit
        || (table
            .threads
            .values()
            .filter(|other| other.credentials().uid == credentials.uid)
            .count() as u64)
            < limit
}

/// A number that goes back if the child does not come to be.
struct Number(Pid);

impl Drop for Number {
    fn drop(&mut self) {
        table::release_pid(self.0);
    }
}

/// A process descriptor that is closed if the child does not come to be.
struct Descriptor<'a> {
    thread: &'a Thread,
    fd: i32,
}

impl<'a> Descriptor<'a> {
    fn new(thread: &'a Thread, child: &Arc<Process>) -> Result<Self> {
        let fd = pidfd::open(thread, child.clone(), 0)?;
        Ok(Self { thread, fd })
    }
}

impl Drop for Descriptor<'_> {
    fn drop(&mut self) {
        let _closed = self.thread.files().remove(self.fd);
    }
}

/// A new process's use of its address space, which ends if the child does not come to be.
struct Space(Option<Arc<AddressSpace>>);

impl Space {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(mm) = &self.0 {
            mm.leave();
        }
    }
}

async fn copy_process(thread: &Thread, pid: Pid, args: &CloneArgs) -> Result<Arc<Process>> {
    let process = thread.process();
    let mm = if args.has(CLONE_VM) {
        process.mm().share()
    } else {
        process.mm().fork().await?
    };
    let actions = if args.has(CLONE_SIGHAND) {
        process.share_actions()
    } else {
        let mut actions = ActionTable::new(process.with_actions(|actions| actions.clone()));
        if args.has(CLONE_CLEAR_SIGHAND) {
            actions.reset_for_exec();
        }
        actions
    };
    let parent = if args.has(CLONE_PARENT) {
        process.parent()
    } else {
        process.pid()
    };
    let creator = if args.has(CLONE_PARENT) {
        process.creator.load(Ordering::Relaxed)
    } else {
        thread.tid()
    };
    let child = Process::new(ProcessParts {
        pid,
        mm,
        credentials: thread.credentials(),
        limits: process.limits(),
        actions,
        image: process.image(),
        session: process.session(),
        group: process.group(),
        parent,
        start_ns: rt::now(),
    });
    child.creator.store(creator, Ordering::Relaxed);
    child
        .dumpable
        .store(process.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    child
        .personality
        .store(process.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    for (child, own) in [
        (&child.oom_adjustment, &process.oom_adjustment),
        (&child.oom_least, &process.oom_least),
    ] {
        child.store(own.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    child
        .signal_return
        .store(process.signal_return.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(Arc::new(child))
}

/// What the child has of its parent. Returns what its parent shares with a tracer.
fn inherit(thread: &Thread, child: &Thread, args: &CloneArgs) -> Option<Arc<Tracee>> {
    child
        .affinity
        .store(thread.affinity.load(Ordering::Relaxed), Ordering::Relaxed);
    super::schedule::inherit(thread, child);
    child
        .io_priority
        .store(thread.io_priority.load(Ordering::Relaxed), Ordering::Relaxed);
    if args.has(CLONE_SYSVSEM) {
        thread.share_undo_list(child);
    }
    if args.has(CLONE_CHILD_CLEARTID) {
        child.clear_child_tid.store(args.child_tid, Ordering::Relaxed);
    }
    if !args.has(CLONE_VM) {
        child.rseq.inherit(&thread.rseq);
    }
    let (mask, alt_stack, tracee) = {
        let signals = thread.signals.lock();
        (signals.mask, signals.alt_stack, signals.tracee.clone())
    };
    let mut signals = child.signals.lock();
    signals.mask = mask;
    // With shared memory the two would run on one stack, except for vfork, whose parent waits.
    if !args.has(CLONE_VM) || args.has(CLONE_VFORK) {
        signals.alt_stack = alt_stack;
    }
    tracee
}

/// Enters the child into the table. A caller that has to end has no child any more.
fn publish(thread: &Thread, child: &Arc<Thread>, args: &CloneArgs) -> Result<()> {
    if thread.must_exit() {
        return Err(Errno::ERESTARTNOINTR);
    }
    if !args.has(CLONE_THREAD) {
        table::insert(child.process(), child, args.exit_signal);
        return Ok(());
    }
    let mut table = TABLE.lock();
    let mut shared = child.process().shared.lock();
    if shared.group_exit.is_some() || shared.exec.is_some() {
        return Err(Errno::ERESTARTNOINTR);
    }
    if shared.stop.is_some() {
        child.kick(attention::STOP);
    }
    // Another thread may have given a filter to all there were.
    let credentials = thread.credentials();
    child.replace_credentials(&child.credentials(), &credentials);
    if credentials.filter.is_some() {
        child.kick(attention::FILTER);
    }
    table.threads.insert(child.tid(), child.clone());
    child.process().clock_gains(child);
    shared.threads.push(child.clone());
    Ok(())
}

/// Takes back a child whose future could not be spawned.
fn withdraw(child: &Arc<Thread>) {
    let process = child.process();
    let tid = child.tid();
    let mut table = TABLE.lock();
    process.shared.lock().threads.remove(child);
    let thread = table.threads.remove(&tid);
    let tracee = table.tracees.remove(&tid);
    let node = if tid == process.pid() { table.remove(tid) } else { None };
    if tid != process.pid() {
        table.release(tid);
    }
    drop(table);
    if node.is_some() {
        process.mm().leave();
    }
    drop((thread, node, tracee));
}

async fn wait_for_vfork(thread: &Thread, child: &Process) {
    poll_fn(|cx| {
        thread.store_waker(cx.waker());
        if thread.must_exit() || child.vfork.lock().is_none() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
