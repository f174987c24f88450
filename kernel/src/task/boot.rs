//! The first process.

use alloc::{sync::Arc, vec::Vec};

use hal::traits::InterruptFrame;

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
    errno::{Errno, Result},
    fs::{self, FdTable, FsContext, mount::Location},
    mm::AddressSpace,
    rt,
    tty::Tty,
};

/// Starts `path` as process 1, with `root` as its root directory and `/dev/console` as its standard descriptors.
///
/// # Errors
/// Whatever execve would report, and `ENOMEM`.
pub async fn start_init(path: &str, root: Location, _tty: Arc<Tty>) -> Result<()> {
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
        fs: Arc::new(FsContext::new(root)),
        comm: [0; 16],
    }));
    if let Err(error) = fs::open_standard_descriptors(&thread) {
        log::error!("init starts without /dev/console: {error:?}");
    }
    let (mut arguments, mut environment) = (Strings::default(), Strings::default());
    arguments.push(path.as_bytes())?;
    for entry in ["HOME=/", "TERM=linux", "PATH=/bin:/sbin:/usr/bin:/usr/sbin"] {
        environment.push(entry.as_bytes())?;
    }
    let file = fs::open_executable(&thread, path.as_bytes())?;
    let request = Request { file, path: Vec::from(path.as_bytes()), arguments, environment };
    let prepared = exec::prepare(&thread, request).await?;
    table::insert(&process, &thread, SIGCHLD);
    let context = exec::take_over(&thread, prepared);
    if context.instruction_pointer() == 0 {
        return Err(Errno::ENOEXEC);
    }
    run::start(&thread, context, 0)
}
