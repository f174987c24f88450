//! Filters of system calls (`seccomp(2)`).
//!
//! A filter belongs to a thread's credentials: so it goes to what the thread starts, outlives an exec, and costs who has none
//! nothing. A thread that has one knows by its own `AfterCall::FILTERED`, to which [`attention::FILTER`] leads; only then are its
//! calls looked at. A thread that another one gives a filter (`SECCOMP_FILTER_FLAG_TSYNC`) while it is in user mode gets to know by
//! the interrupt that is sent: a call that it makes before that arrives is one from before.
//!
//! A filter may want to wait: for a supervisor's answer ([`listener`]), or, of a traced thread, for the tracer. Looking at a call
//! ([`look`]) does not wait; [`attention::ASK`] has a thread that is not traced come by where it can ([`call_after_asking`]), and a traced one
//! waits in its own turns.

pub mod bpf;
pub mod listener;

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering};

use hal::{
    abi::Abi,
    arch::{ABI, UserContext},
    traits::{InterruptFrame, SyscallFrame},
};

use self::{
    bpf::{Instruction, Program, WORDS},
    listener::{Answer, Asking, Listener},
};
use super::{
    exit,
    fp::{Away, OnCpu},
    pid::Pid,
    process::WaitStatus,
    signal::{
        SigInfo, force,
        set::{SIGKILL, SIGSYS},
    },
    thread::{Thread, attention, comm_text},
};
use crate::{
    errno::{Errno, Result},
    mm::fallible,
    syscall::{
        self,
        table::{self, Call},
    },
};

/// `SECCOMP_RET_*` (`linux/seccomp.h`).
pub mod action {
    /// The action of a filter's result.
    pub const FULL: u32 = 0xffff_0000;
    /// The rest: what comes with it.
    pub const DATA: u32 = 0xffff;
    /// End the process.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// End the thread.
    pub const KILL_THREAD: u32 = 0;
    /// Raise SIGSYS.
    pub const TRAP: u32 = 0x0003_0000;
    /// Fail with an errno.
    pub const ERRNO: u32 = 0x0005_0000;
    /// Ask a listener.
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    /// Ask a tracer.
    pub const TRACE: u32 = 0x7ff0_0000;
    /// Make the call, and say so.
    pub const LOG: u32 = 0x7ffc_0000;
    /// Make the call.
    pub const ALLOW: u32 = 0x7fff_0000;
}

/// The largest errno that [`action::ERRNO`] gives (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;
/// How many instructions all filters of a thread may have (`MAX_INSNS_PER_PATH`), and what each counts besides its own.
const MAX_INSTRUCTIONS: usize = 32768;
const OVERHEAD: usize = 4;
/// How many calls each filter writes about.
const MESSAGES: u32 = 16;

/// What a thread's calls have to pass.
#[derive(Debug)]
pub enum Filter {
    /// Nothing but reading, writing and ending (`SECCOMP_MODE_STRICT`).
    Strict,
    /// A program, and what was there before it.
    Programs(Link),
}

/// One program of several.
#[derive(Debug)]
pub struct Link {
    program: Program,
    previous: Option<Arc<Filter>>,
    /// How many there are, with the earlier ones.
    count: u32,
    /// Instructions and overhead, with the earlier ones.
    weight: usize,
    messages: AtomicU32,
    logs: bool,
    asking: Option<Asking>,
}

impl Link {
    /// The listener, if it has one that is open.
    fn listener(&self) -> Option<&Arc<Listener>> {
        let listener = &self.asking.as_ref()?.0;
        listener.is_open().then_some(listener)
    }

    /// The program's instructions.
    pub fn instructions(&self) -> &[Instruction] {
        self.program.code()
    }

    /// Whether what it does not allow is to be written about (`SECCOMP_FILTER_FLAG_LOG`).
    pub const fn logs(&self) -> bool {
        self.logs
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // One by one: thousands would take the stack.
        let mut next = self.previous.take();
        while let Some(Filter::Programs(mut link)) = next.and_then(Arc::into_inner) {
            next = link.previous.take();
        }
    }
}

impl Filter {
    fn link(&self) -> Option<&Link> {
        match self {
            Self::Strict => None,
            Self::Programs(link) => Some(link),
        }
    }

    /// `SECCOMP_MODE_*`, as `prctl` and `/proc` show it.
    pub const fn mode(&self) -> u8 {
        match self {
            Self::Strict => 1,
            Self::Programs(_) => 2,
        }
    }

    /// How many programs there are.
    pub fn count(&self) -> u32 {
        self.link().map_or(0, |link| link.count)
    }

    /// It and those before it.
    fn chain(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        core::iter::successors(Some(self), |filter| filter.link()?.previous.as_ref())
    }

    /// The program that was installed as number `index`, the first as 0.
    pub fn program(&self, index: u64) -> Option<&Link> {
        let later = u64::from(self.count()).checked_sub(index)?.checked_sub(1)?;
        let mut link = self.link()?;
        for _ in 0..later {
            link = link.previous.as_ref()?.link()?;
        }
        Some(link)
    }

    /// What the strictest program says, and which that is. The latest of several that agree.
    fn run(self: &Arc<Self>, data: &[u32; WORDS]) -> (u32, Option<&Link>) {
        let mut result = (action::ALLOW, None);
        for link in self.chain().filter_map(|filter| filter.link()) {
            let said = link.program.run(data);
            let order = |said: u32| (said & action::FULL).cast_signed();
            if order(said) < order(result.0) {
                result = (said, Some(link));
            }
        }
        result
    }
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It is made.
    Make,
    /// It is not: the context has what it returns, or the thread has a signal, or its end, to come.
    Leave,
    /// A listener says.
    Ask(Arc<Listener>),
    /// A tracer says, who is told this; where there is none the call fails with `ENOSYS`.
    Trace(u32),
}

/// `AUDIT_ARCH_*` (`linux/audit.h`) of the machine.
const fn architecture() -> u32 {
    match ABI {
        Abi::X86_64 => 0xc000_003e,
        Abi::Aarch64 => 0xc000_00b7,
    }
}

/// `struct seccomp_data`: the number, the architecture, the address behind the call, six arguments.
fn data(context: &UserContext) -> [u32; WORDS] {
    let mut data = [0; WORDS];
    (data[0], data[1]) = (context.syscall_number() as u32, architecture());
    let wide = core::iter::once(context.instruction_pointer()).chain(context.syscall_arguments());
    for (pair, value) in data[2..].as_chunks_mut().0.iter_mut().zip(wide) {
        *pair = [value as u32, (value >> 32) as u32];
    }
    data
}

/// Whether the call that the context stands at, of a thread that is not traced, is made at once. A thread that has to ask before
/// has [`attention::ASK`].
pub(super) fn passes(thread: &Arc<Thread>, context: &mut UserContext) -> bool {
    match look(thread, context) {
        Verdict::Make => true,
        Verdict::Leave => false,
        Verdict::Ask(_) => {
            thread.kick(attention::ASK);
            false
        }
        Verdict::Trace(_) => {
            refuse(context);
            false
        }
    }
}

/// Nobody is there to say what becomes of the call.
pub(super) fn refuse(context: &mut UserContext) {
    context.set_return_value(Errno::ENOSYS.as_return_value());
}

/// Asks a listener about the call that the context stands at: whether it is made. If it is not the context has what it returns.
///
/// # Errors
/// `ERESTARTSYS` if a signal ends the wait.
pub(super) async fn ask(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    listener: &Listener,
) -> Result<bool> {
    let data = data(context);
    match Away::new(thread, context, on_cpu, listener.ask(thread, data)).await {
        Ok(Some(Answer::Make)) => return Ok(true),
        Ok(Some(Answer::Returns(value))) => context.set_return_value(value),
        Ok(None) => refuse(context),
        Err(Errno::ERESTARTSYS) => return Err(Errno::ERESTARTSYS),
        Err(errno) => context.set_return_value(errno.as_return_value()),
    }
    Ok(false)
}

/// Goes on with a call that [`passes`] had ask; the restart code if a signal interrupted it.
pub(super) async fn call_after_asking(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
) -> Option<Errno> {
    let makes = match look(thread, context) {
        Verdict::Ask(listener) => match ask(thread, context, on_cpu, &listener).await {
            Ok(makes) => makes,
            Err(errno) => return Some(errno),
        },
        Verdict::Make => true,
        Verdict::Leave => false,
        Verdict::Trace(_) => {
            refuse(context);
            false
        }
    };
    if !makes {
        return None;
    }
    syscall::make(thread, context, on_cpu).await
}

/// Looks at the call that the context stands at.
pub(super) fn look(thread: &Arc<Thread>, context: &mut UserContext) -> Verdict {
    let credentials = thread.credentials();
    match &credentials.filter {
        None => Verdict::Make,
        Some(filter) if matches!(**filter, Filter::Strict) => check_strictly(thread, context),
        Some(filter) => {
            let (said, link) = filter.run(&data(context));
            act(thread, context, said, link)
        }
    }
}

fn check_strictly(thread: &Arc<Thread>, context: &UserContext) -> Verdict {
    let call = table::find(context.syscall_number());
    if matches!(call, Some(Call::read | Call::write | Call::exit | Call::rt_sigreturn)) {
        return Verdict::Make;
    }
    report(thread, context, "may only read, write and end");
    exit::kill_thread(thread, SIGKILL);
    Verdict::Leave
}

fn act(thread: &Arc<Thread>, context: &mut UserContext, said: u32, link: Option<&Link>) -> Verdict {
    let data = said & action::DATA;
    match said & action::FULL {
        action::ALLOW => return Verdict::Make,
        action::LOG => {
            if link.is_some_and(|link| link.messages.fetch_add(1, Ordering::Relaxed) < MESSAGES) {
                report(thread, context, "is to be written about");
            }
            return Verdict::Make;
        }
        action::ERRNO => context.set_return_value(-i64::from(data.min(MAX_ERRNO))),
        // The registers are as they were at the call.
        action::TRAP => force(thread, signal(context, data)),
        action::TRACE => return Verdict::Trace(data),
        action::USER_NOTIF => match link.and_then(Link::listener) {
            Some(listener) => return Verdict::Ask(listener.clone()),
            None => refuse(context),
        },
        action::KILL_THREAD if thread.process().thread_count() > 1 => {
            report(thread, context, "ends its thread");
            exit::kill_thread(thread, SIGSYS);
        }
        _ => {
            report(thread, context, "ends its process");
            exit::exit_group(thread.process(), WaitStatus::killed(SIGSYS));
        }
    }
    Verdict::Leave
}

/// The SIGSYS of a call that traps (`SYS_SECCOMP`).
fn signal(context: &UserContext, reason: u32) -> SigInfo {
    const SYS_SECCOMP: i32 = 1;
    SigInfo::call(
        SYS_SECCOMP,
        reason.cast_signed(),
        context.instruction_pointer(),
        context.syscall_number() as i32,
        architecture(),
    )
}

#[cold]
fn report(thread: &Thread, context: &UserContext, what: &str) {
    log::info!(
        "{}[{}]: system call {} at pc {:#x} {what} (seccomp)",
        comm_text(&thread.comm()),
        thread.tid(),
        context.syscall_number(),
        context.instruction_pointer(),
    );
}

/// Lets the thread make nothing but the four calls from now on.
///
/// # Errors
/// `EINVAL` if it has a filter of programs.
pub fn restrict(thread: &Thread) -> Result<()> {
    thread.change_credentials(|credentials| match credentials.filter.as_deref() {
        Some(Filter::Programs(_)) => Err(Errno::EINVAL),
        _ => {
            credentials.filter = Some(Arc::new(Filter::Strict));
            Ok(())
        }
    })?;
    thread.kick(attention::FILTER);
    Ok(())
}

/// Who gets a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// The caller.
    Itself,
    /// All threads of the process, whose filters must be older ones of the caller's.
    All,
}

/// What belongs to a program that is installed.
#[derive(Debug, Default)]
pub struct With {
    /// Whether what it does not allow is to be written about.
    pub logs: bool,
    /// Whom it asks. Gone if installing fails.
    pub asking: Option<Asking>,
}

/// A thread whose filters are others, so that it cannot have the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged(pub Pid);

/// Adds a program to what the thread's calls have to pass.
///
/// # Errors
/// `EINVAL` if the thread is restricted to the four calls, `EBUSY` if it is to ask one listener and asks another already, `ENOMEM` if
/// all programs together are too long.
pub fn install(thread: &Thread, program: Program, whom: For, with: With) -> Result<core::result::Result<(), Diverged>> {
    // So that no thread begins meanwhile, nor two of these cross.
    let shared = thread.process().shared.lock();
    let own = thread.credentials();
    let previous = own.filter.clone();
    let (count, weight) = match previous.as_deref() {
        None => (0, 0),
        Some(Filter::Strict) => return Err(Errno::EINVAL),
        Some(Filter::Programs(link)) => (link.count, link.weight + OVERHEAD),
    };
    let asks = |filter: &Arc<Filter>| filter.link().is_some_and(|link| link.listener().is_some());
    if with.asking.is_some() && previous.as_ref().is_some_and(|there| there.chain().any(asks)) {
        return Err(Errno::EBUSY);
    }
    let weight = weight + program.code().len();
    if weight > MAX_INSTRUCTIONS {
        return Err(Errno::ENOMEM);
    }
    let filter = Arc::new(Filter::Programs(Link {
        program,
        previous,
        count: count + 1,
        weight,
        messages: AtomicU32::new(0),
        logs: with.logs,
        asking: with.asking,
    }));
    let others: Vec<&Arc<Thread>> = match whom {
        For::Itself => Vec::new(),
        For::All => shared
            .threads
            .iter()
            // Who ends makes no more calls, and may be waited for by who calls this.
            .filter(|other| other.tid() != thread.tid() && !other.is_over())
            .collect(),
    };
    let is_older = |there: &Arc<Filter>| filter.chain().any(|filter| Arc::ptr_eq(filter, there));
    let diverged = others.iter().find(|other| {
        other
            .credentials()
            .filter
            .as_ref()
            .is_some_and(|there| !is_older(there))
    });
    if let Some(other) = diverged {
        return Ok(Err(Diverged(other.tid())));
    }
    // What differs from the caller's credentials needs a copy for each.
    let copies = others
        .iter()
        .filter(|other| !Arc::ptr_eq(&other.credentials(), &own))
        .count();
    fallible::afford(copies * 2 * size_of::<super::Credentials>())?;
    let mut common = super::Credentials::clone(&own);
    common.filter = Some(filter.clone());
    let common = Arc::new(common);
    for other in others {
        if !other.replace_credentials(&own, &common) {
            other.change_credentials(|credentials| {
                credentials.filter = Some(filter.clone());
                credentials.no_new_privileges |= own.no_new_privileges;
                Ok(())
            })?;
        }
        other.kick(attention::FILTER);
    }
    if !thread.replace_credentials(&own, &common) {
        thread.change_credentials(|credentials| {
            credentials.filter = Some(filter.clone());
            Ok(())
        })?;
    }
    thread.kick(attention::FILTER);
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::{bpf::Instruction, *};
    use crate::task::testing;

    fn returns(value: u32) -> Program {
        Program::new(alloc::vec![Instruction {
            code: 6,
            k: value,
            ..Instruction::default()
        }])
        .unwrap()
    }

    fn said_after(values: &[u32]) -> u32 {
        hal::host::machine().attach(31);
        let thread = testing::thread(9300);
        for value in values {
            install(&thread, returns(*value), For::Itself, With::default())
                .unwrap()
                .unwrap();
        }
        let filter = thread.credentials().filter.clone().unwrap();
        assert_eq!(filter.count() as usize, values.len());
        filter.run(&[0; WORDS]).0
    }

    #[test]
    fn the_strictest_counts_whatever_the_order() {
        use action::*;
        let descending = [ALLOW, LOG, TRACE, USER_NOTIF, ERRNO, TRAP, KILL_THREAD, KILL_PROCESS];
        for pair in descending.windows(2) {
            assert_eq!(said_after(&[pair[0], pair[1]]), pair[1]);
            assert_eq!(said_after(&[pair[1], pair[0]]), pair[1]);
        }
        assert_eq!(said_after(&[ERRNO | 1, ERRNO | 2]), ERRNO | 2, "the latest of equals");
        assert_eq!(said_after(&[ALLOW | 7]), ALLOW);
    }

    #[test]
    fn all_programs_together_are_limited_and_go_without_recursion() {
        hal::host::machine().attach(31);
        let thread = testing::thread(9301);
        let mut count = 0;
        while install(&thread, returns(action::ALLOW), For::Itself, With::default()).is_ok() {
            count += 1;
        }
        assert_eq!(count, 1 + (MAX_INSTRUCTIONS - 1) / (1 + OVERHEAD));
        assert_eq!(
            install(&thread, returns(action::ALLOW), For::Itself, With::default()),
            Err(Errno::ENOMEM)
        );
        assert_eq!(restrict(&thread), Err(Errno::EINVAL));
        // On a stack that a frame for each would not fit.
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || {
                hal::host::machine().attach(31);
                thread.change_credentials(|credentials| {
                    credentials.filter = None;
                    Ok(())
                })
            })
            .unwrap()
            .join()
            .unwrap()
            .unwrap();
    }

    #[test]
    fn a_thread_that_has_another_filter_keeps_all_from_one() {
        hal::host::machine().attach(31);
        let first = testing::thread(9302);
        let second = Arc::new(Thread::new(crate::task::thread::ThreadParts {
            tid: 9303,
            process: first.process().clone(),
            files: first.files(),
            fs: first.fs(),
            credentials: first.credentials(),
            namespaces: None,
            comm: first.comm(),
        }));
        first.process().shared.lock().threads.push(second.clone());
        install(&first, returns(action::ALLOW), For::All, With::default())
            .unwrap()
            .unwrap();
        assert!(Arc::ptr_eq(&first.credentials(), &second.credentials()));
        install(&first, returns(action::LOG), For::Itself, With::default())
            .unwrap()
            .unwrap();
        assert_eq!(second.credentials().filter.as_ref().unwrap().count(), 1);
        install(&first, returns(action::LOG), For::All, With::default())
            .unwrap()
            .unwrap();
        assert_eq!(second.credentials().filter.as_ref().unwrap().count(), 3);
        install(&second, returns(action::LOG), For::Itself, With::default())
            .unwrap()
            .unwrap();
        assert_eq!(
            install(&first, returns(action::LOG), For::All, With::default()),
            Ok(Err(Diverged(9303)))
        );
        assert_eq!(first.credentials().filter.as_ref().unwrap().count(), 3);
        // Once it ends it is in nobody's way, although it has not left its process yet.
        second.exiting.store(true, core::sync::atomic::Ordering::Relaxed);
        install(&first, returns(action::LOG), For::All, With::default())
            .unwrap()
            .unwrap();
        assert_eq!(second.credentials().filter.as_ref().unwrap().count(), 4);
        assert_eq!(first.credentials().filter.as_ref().unwrap().count(), 4);
    }
}
