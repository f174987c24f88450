//! The first process.

use alloc::{sync::Arc, vec::Vec};

use hal::traits::InterruptFrame;
use linux_raw_sys::general::O_RDWR;

use super::{
    credentials::Credentials,
    exec::{self, Request, args::Strings},
    limits::Limits,
    process::{Image, Process, ProcessParts, new_actions},
    run,
    signal::{action::Actions, set::SIGCHLD},
    table::{self, Session},
    thread::{Thread, ThreadParts},
};
use crate::{
    command_line,
    errno::{Errno, Result},
    fs::{FdTable, FsContext, OnExec, OpenFile},
    mm::AddressSpace,
    rt,
    tty::{Tty, TtyFile},
};

/// Starts `path` as process 1, in `fs`, with the console as its standard descriptors.
///
/// # Errors
/// Whatever execve would report, and `ENOMEM`.
pub async fn start_init(path: &str, fs: FsContext, console: Arc<Tty>) -> Result<()> {
    let pid = table::allocate_pid()?;
    let process = Arc::new(Process::new(ProcessParts {
        pid,
        mm: AddressSpace::new()?,
        credentials: Arc::new(Credentials::root()),
        limits: Limits::initial(),
        actions: new_actions(Actions::new()),
        image: Arc::new(Image::default()),
        session: Session::new(pid),
        group: pid,
        parent: 0,
        start_ns: rt::now(),
    }));
    let files = Arc::new(FdTable::new());
    let thread = Arc::new(Thread::new(ThreadParts {
        tid: pid,
        process: process.clone(),
        files,
        fs: Arc::new(fs),
        comm: [0; 16],
    }));
    let console = Arc::new(OpenFile::anonymous(Arc::new(TtyFile::new(console)), O_RDWR));
    for _ in 0..3 {
        thread.files().insert(console.clone(), OnExec::Keep, 3)?;
    }
    let (mut arguments, mut environment) = (Strings::default(), Strings::default());
    arguments.push(path.as_bytes())?;
    for entry in ["HOME=/", "TERM=linux", "PATH=/bin:/sbin:/usr/bin:/usr/sbin"] {
        environment.push(entry.as_bytes())?;
    }
    // As Linux does: words that the kernel does not know are init's, assignments its environment.
    for word in command_line::words().filter(|word| !is_for_the_kernel(word)) {
        let strings = if word.contains('=') {
            &mut environment
        } else {
            &mut arguments
        };
        strings.push(word.as_bytes())?;
    }
    let file = exec::open(&thread, path.as_bytes())?;
    let request = Request {
        file,
        path: Vec::from(path.as_bytes()),
        arguments,
        environment,
    };
    let prepared = exec::prepare(&thread, request).await?;
    table::insert(&process, &thread, SIGCHLD);
    let context = exec::take_over(&thread, prepared);
    if context.instruction_pointer() == 0 {
        return Err(Errno::ENOEXEC);
    }
    run::start(&thread, context, 0)
}

/// Whether the kernel itself reads this word of the command line.
fn is_for_the_kernel(word: &str) -> bool {
    matches!(word.split('=').next(), Some("quiet" | "init" | "exit" | "norandmaps"))
}
