//! execve.
//!
//! The new address space is built whole before the old one is touched: everything that can fail fails with an errno and
//! the program goes on. The point of no return is short: other threads are ended, the address space is exchanged,
//! descriptors and signal actions are cleaned, and the context starts anew. Past it, only SIGKILL can come.

pub mod args;
mod becoming;
pub mod elf;
mod load;
pub mod script;
pub mod stack;
pub mod vdso;

use alloc::{sync::Arc, vec::Vec};
use core::{future::poll_fn, sync::atomic::Ordering, task::Poll};

use hal::{
    PAGE_SIZE,
    arch::{Cpu, UserContext},
    signal::AltStack,
    traced::TraceOps,
    traits::{CpuOps, InterruptFrame},
};

use self::{
    args::Strings,
    becoming::{ADDR_NO_RANDOMIZE, Becoming},
    elf::Program,
    stack::at,
};
use super::{
    exit, futex,
    limits::Resource,
    process::{Image, Process},
    ptrace::{self, link, report},
    robust,
    signal::SignalSet,
    table::TABLE,
    thread::Thread,
};
use crate::{
    command_line,
    errno::{Errno, Result},
    fs::{OpenFile, path},
    mm::{AddressSpace, STACK_TOP, fallible},
    namespace::change,
    random, syscall,
};

const PAGE: u64 = PAGE_SIZE as u64;
/// Interpreters of interpreters, at most.
const MAX_NESTING: usize = 4;
/// The new stack's first part, which grows on demand.
const STACK_SIZE: u64 = 132 << 10;
/// Where position-independent programs go, without randomisation. A third of the address space is below the mappings, so
/// that what follows has room.
const PIE_BASE: u64 = (STACK_TOP / 3 * 2) & !(PAGE - 1);
/// Where their linkers go, past the farthest that a program is moved.
const LINKER_BASE: u64 = PIE_BASE + (4 << 40);
/// Random bits of page numbers, as on x86_64 Linux: of programs, linkers and mappings (`mmap_rnd_bits`), of the stack
/// (`STACK_RND_MASK`), of the heap (32 MiB).
const MAPPING_BITS: u32 = 28;
const STACK_BITS: u32 = 22;
const HEAP_BITS: u32 = 13;

/// A program to run and what it gets.
pub struct Request {
    /// The file, open for execution.
    pub file: Arc<OpenFile>,
    /// The path as given, for `AT_EXECFN` and scripts.
    pub path: Vec<u8>,
    /// Arguments.
    pub arguments: Strings,
    /// Environment.
    pub environment: Strings,
}

/// A program that is ready to take over.
pub(super) struct Prepared {
    mm: Arc<AddressSpace>,
    signal_return: u64,
    entry: u64,
    stack: u64,
    image: Arc<Image>,
    comm: Vec<u8>,
    becoming: Becoming,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Balances `new`; a program that has taken over has its own share.
        self.mm.leave();
    }
}

/// `execve(2)`: on success the context is the new program's.
///
/// # Errors
/// As the manual page; nothing has changed then.
pub(crate) async fn execve(thread: &Arc<Thread>, context: &mut UserContext, request: Request) -> Result<()> {
    let prepared = prepare(thread, request).await?;
    end_other_threads(thread).await?;
    if !prepared.becoming.is_current(thread) {
        return Err(Errno::ERESTARTNOINTR);
    }
    robust::release(thread).await;
    futex::pi::release(thread).await;
    change::executes(thread);
    let mut new = take_over(thread, prepared);
    new.keep_call(context);
    *context = new;
    Ok(())
}

/// The limit on arguments and environment together: a quarter of the stack, at least 128 KiB, at most 6 MiB.
pub(crate) fn argument_limit(process: &Process) -> usize {
    (process.limit(Resource::Stack) / 4).clamp(128 << 10, 6 << 20) as usize
}

/// Resolves scripts, checks and maps the program.
pub(super) async fn prepare(thread: &Thread, mut request: Request) -> Result<Prepared> {
    let original = request.path.clone();
    for _ in 0..=MAX_NESTING {
        let mut start = [0; script::LINE_SIZE];
        let length = request.file.read_kernel(0, &mut start).await?;
        let Some(found) = script::parse(&start[..length])? else {
            return build(thread, request, &original).await;
        };
        let mut first: Vec<&[u8]> = Vec::new();
        first.push(&found.interpreter);
        first.extend(found.argument.as_deref());
        first.push(&request.path);
        request.arguments.replace_first(&first)?;
        request.file = open(thread, &found.interpreter)?;
        request.path = found.interpreter.clone();
    }
    Err(Errno::ELOOP)
}

async fn build(thread: &Thread, request: Request, original: &[u8]) -> Result<Prepared> {
    let process = thread.process();
    if request.arguments.size() + request.environment.size() > argument_limit(process) {
        return Err(Errno::E2BIG);
    }
    let program = load::read_program(&request.file).await?;
    let interpreter = match program.interpreter {
        Some(place) => Some(open_interpreter(thread, &request.file, place).await?),
        None => None,
    };
    let mm = AddressSpace::new()?;
    let mut prepared = Prepared {
        mm: mm.clone(),
        signal_return: 0,
        entry: 0,
        stack: 0,
        image: Arc::new(Image::default()),
        comm: base_name(original).to_vec(),
        becoming: Becoming::new(thread, &request.file)?,
    };
    let randomise = prepared.becoming.personality & ADDR_NO_RANDOMIZE == 0 && !command_line::has("norandmaps");
    let shift = |bits: u32| if randomise { random_bits(bits) * PAGE } else { 0 };

    let base = if program.header.relocatable {
        (PIE_BASE + shift(MAPPING_BITS)).wrapping_sub(program.span().0)
    } else {
        0
    };
    load::map(&mm, &request.file, &program, base).await?;
    mm.set_heap_start((base + program.end()).next_multiple_of(PAGE) + shift(HEAP_BITS));
    let stack_top = STACK_TOP - shift(STACK_BITS);
    let limit = prepared.becoming.stack_limit(thread);
    let size = (request.arguments.size() + request.environment.size()) as u64 + STACK_SIZE;
    mm.map_stack(stack_top, size, limit.max(size))?;
    mm.lower_mappings(shift(MAPPING_BITS));
    let (start, interpreter_base) = match &interpreter {
        Some((file, linker)) => {
            let base = (LINKER_BASE + shift(MAPPING_BITS)).wrapping_sub(linker.span().0);
            load::map(&mm, file, linker, base).await?;
            (base.wrapping_add(linker.header.entry), base)
        }
        None => (base.wrapping_add(program.header.entry), 0),
    };
    let vdso = vdso::map(&mm, &thread.namespaces().time_for_children)?;
    let mut auxv = auxiliary_vector(&program, base, interpreter_base, &prepared.becoming);
    if let Some(vdso) = vdso {
        prepared.signal_return = vdso.signal_return;
        auxv.push((stack::at::SYSINFO_EHDR, vdso.base));
    }
    let mut random = [0; 16];
    random::fill(&mut random);
    let built = stack::build(
        stack_top,
        &stack::Contents {
            path: &request.path,
            arguments: &request.arguments,
            environment: &request.environment,
            auxv: &auxv,
            platform: Cpu::MACHINE,
            random,
            gap: if randomise { random_bits(9) * 16 } else { 0 },
        },
    )?;
    mm.write_bytes(built.pointer, &built.bytes).await?;
    prepared.entry = start;
    prepared.stack = built.pointer;
    prepared.image = Arc::new(Image {
        path: path::path_of(request.file.location(), &thread.fs().root()).display(),
        arguments: fallible::copy(request.arguments.bytes())?,
        environment: fallible::copy(request.environment.bytes())?,
        auxv: built.auxv,
    });
    Ok(prepared)
}

/// Opens a program by a path seen from the thread's working directory.
///
/// # Errors
/// As `open(2)`; `EACCES` if it is not executable.
pub(super) fn open(thread: &Thread, path: &[u8]) -> Result<Arc<OpenFile>> {
    syscall::fs::open_executable(thread, linux_raw_sys::general::AT_FDCWD, path, 0)
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn random_bits(bits: u32) -> u64 {
    let mut bytes = [0; 8];
    random::fill(&mut bytes);
    u64::from_ne_bytes(bytes) & ((1 << bits) - 1)
}

async fn open_interpreter(
    thread: &Thread,
    file: &OpenFile,
    (offset, length): (u64, usize),
) -> Result<(Arc<OpenFile>, Program)> {
    let mut path = alloc::vec![0; length];
    if file.read_kernel(offset, &mut path).await? != length || path.pop() != Some(0) || path.contains(&0) {
        return Err(Errno::ENOEXEC);
    }
    let linker = open(thread, &path)?;
    let program = load::read_program(&linker).await.map_err(|error| match error {
        Errno::ENOEXEC => Errno::ELIBBAD,
        other => other,
    })?;
    if !program.header.relocatable || program.interpreter.is_some() {
        return Err(Errno::ELIBBAD);
    }
    Ok((linker, program))
}

fn auxiliary_vector(program: &Program, base: u64, interpreter_base: u64, becoming: &Becoming) -> Vec<(u64, u64)> {
    let (hwcap, hwcap2) = Cpu::hwcap();
    let credentials = &becoming.credentials;
    alloc::vec![
        (at::HWCAP, hwcap),
        (at::PAGESZ, PAGE),
        (at::CLKTCK, 100),
        (
            at::PHDR,
            if program.headers_address == 0 {
                0
            } else {
                base.wrapping_add(program.headers_address)
            }
        ),
        (at::PHENT, 56),
        (at::PHNUM, program.header_count as u64),
        (at::BASE, interpreter_base),
        (at::FLAGS, 0),
        (at::ENTRY, base.wrapping_add(program.header.entry)),
        (at::UID, credentials.uid.into()),
        (at::EUID, credentials.euid.into()),
        (at::GID, credentials.gid.into()),
        (at::EGID, credentials.egid.into()),
        (at::SECURE, becoming.is_secure.into()),
        (at::HWCAP2, hwcap2),
    ]
}

/// Whether tracers have not waited yet for the ends of other threads, and the caller need not end itself.
fn waits_for_tracers(thread: &Thread) -> bool {
    ptrace::is_used() && !thread.must_exit() && report::has_ended_threads(&TABLE.lock(), thread.process())
}

/// Ends every thread of the process but the caller, which becomes its first.
async fn end_other_threads(thread: &Arc<Thread>) -> Result<()> {
    let process = thread.process();
    {
        let mut shared = process.shared.lock();
        if shared.group_exit.is_some() || shared.exec.is_some() {
            return Err(Errno::EAGAIN);
        }
        shared.exec = Some(thread.tid());
        for other in shared.threads.iter().filter(|other| !Arc::ptr_eq(other, thread)) {
            ptrace::end(other);
        }
    }
    poll_fn(|cx| {
        thread.store_waker(cx.waker());
        if process.thread_count() == 1 && !waits_for_tracers(thread) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let mut after = exit::After::default();
    let mut table = TABLE.lock();
    let mut shared = process.shared.lock();
    shared.exec = None;
    let (old, new) = (thread.tid(), process.pid());
    if shared.group_exit.is_some() {
        return Err(Errno::EINTR);
    }
    if old != new {
        thread.set_tid(new);
        shared.threads.renumber(old);
        drop(shared);
        table.threads.remove(&old);
        table.threads.insert(new, thread.clone());
        table.release(old);
        link::renumber(&mut table, thread, old, &mut after);
    }
    drop(table);
    after.send();
    Ok(())
}

/// Past the point of no return: nothing here fails.
pub(super) fn take_over(thread: &Arc<Thread>, prepared: Prepared) -> UserContext {
    let process = thread.process();
    let old = process.set_mm(prepared.mm.share());
    prepared.mm.activate();
    process.max_rss.fetch_max(old.resident_pages() * 4, Ordering::Relaxed);
    old.leave();
    drop(old);
    exit::complete_vfork(process);
    let files = thread.files();
    // One count is the thread's, one ours: with more, another process shares the table.
    if Arc::strong_count(&files) > 2
        && let Ok(own) = files.fork()
    {
        drop(thread.set_files(Arc::new(own)));
    }
    drop(files);
    thread.files().close_on_exec();
    process.reset_actions();
    process.delete_timers();
    {
        let mut shared = process.shared.lock();
        shared.pending.flush_timers();
        let mut signals = thread.signals.lock();
        signals.pending.flush_timers();
        signals.alt_stack = AltStack::default();
        signals.saved_mask = None;
        signals.awaited = SignalSet::EMPTY;
    }
    thread.clear_child_tid.store(0, Ordering::Relaxed);
    thread.robust_list.store(0, Ordering::Relaxed);
    thread.rseq.clear();
    thread.set_comm(&prepared.comm);
    process.has_execed.store(true, Ordering::Relaxed);
    process.signal_return.store(prepared.signal_return, Ordering::Relaxed);
    prepared.becoming.take_effect(thread);
    process.set_image(prepared.image.clone());
    UserContext::new_user(prepared.entry, prepared.stack)
}
