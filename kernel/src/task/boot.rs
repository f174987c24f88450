//! The first process.

use alloc::{format, sync::Arc, vec, vec::Vec};

use hal::traits::InterruptFrame;
use linux_raw_sys::general::O_RDWR;

use super::{
    credentials::Credentials,
    exec::{self, Request, args::Strings},
    limits::Limits,
    pid::Pid,
    process::{Image, Process, ProcessParts},
    run,
    signal::{
        action::{ActionTable, Actions},
        set::SIGCHLD,
    },
    table::{self, Session},
    thread::{Thread, ThreadParts},
};
use crate::{
    command_line::{self, Word},
    errno::{Errno, Result},
    fs::{FdTable, FsContext, OnExec, OpenFile, nameless},
    mm::AddressSpace,
    rt,
    tty::{Tty, TtyFile, device::number_of},
};

/// Starts `path` as process 1, in `fs`, with the console as its standard descriptors.
///
/// # Errors
/// Whatever execve would report, and `ENOMEM`.
pub async fn start_init(path: &str, fs: FsContext, console: Arc<Tty>) -> Result<()> {
    let pid = table::allocate_pid()?;
    let thread = parentless(pid, fs)?;
    let place = nameless::device(format!("/dev/{}", console.name()), number_of(&console));
    let console = Arc::new(OpenFile::new(Arc::new(TtyFile::new(console)), place, O_RDWR));
    for _ in 0..3 {
        thread.files().insert(console.clone(), OnExec::Keep, 3)?;
    }
    let (arguments, environment) = strings(path, command_line::words())?;
    let file = exec::open(&thread, path.as_bytes())?;
    let request = Request {
        file,
        path: Vec::from(path.as_bytes()),
        arguments,
        environment,
    };
    let prepared = exec::prepare(&thread, request).await?;
    table::insert(thread.process(), &thread, SIGCHLD);
    let context = exec::take_over(&thread, prepared);
    if context.instruction_pointer() == 0 {
        return Err(Errno::ENOEXEC);
    }
    run::start(&thread, context, 0)
}

/// A thread alone in a process that nobody has made: root's, in a session of its own, with an empty address space and no
/// descriptors. Neither is in a table, nor the thread in its process's list.
///
/// # Errors
/// `ENOMEM`.
pub fn parentless(pid: Pid, fs: FsContext) -> Result<Arc<Thread>> {
    let credentials = Arc::new(Credentials::root());
    let process = Arc::new(Process::new(ProcessParts {
        pid,
        mm: AddressSpace::new()?,
        credentials: credentials.clone(),
        limits: Limits::initial(),
        actions: ActionTable::new(Actions::new()),
        image: Arc::new(Image::default()),
        session: Session::new(pid),
        group: pid,
        parent: 0,
        start_ns: rt::now(),
    }));
    Ok(Arc::new(Thread::new(ThreadParts {
        tid: pid,
        process,
        files: Arc::new(FdTable::new()),
        fs: Arc::new(fs),
        credentials,
        namespaces: None,
        comm: [0; 16],
    })))
}

/// What the first program gets to read. As Linux does it: words that the kernel does not know are its arguments, assignments
/// its environment, where the last one to a name counts.
fn strings<'a>(path: &str, words: impl Iterator<Item = Word<'a>>) -> Result<(Strings, Strings)> {
    let mut arguments = Strings::default();
    arguments.push(path.as_bytes())?;
    let mut variables = vec![
        ("HOME", "/"),
        ("TERM", "linux"),
        ("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"),
    ];
    for word in words.filter(|word| !is_for_the_kernel(word.name)) {
        match word.value {
            None => arguments.push(word.name.as_bytes())?,
            Some(value) => match variables.iter_mut().find(|(name, _)| *name == word.name) {
                Some(variable) => variable.1 = value,
                None => variables.push((word.name, value)),
            },
        }
    }
    let mut environment = Strings::default();
    for (name, value) in variables {
        environment.push(format!("{name}={value}").as_bytes())?;
    }
    Ok((arguments, environment))
}

/// Whether the kernel itself reads the word with this name.
fn is_for_the_kernel(name: &str) -> bool {
    matches!(
        name,
        "quiet" | "init" | "exit" | "norandmaps" | "root" | "rootfstype" | "ro" | "rw"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(strings: &Strings) -> Vec<&str> {
        let text = core::str::from_utf8(strings.bytes()).unwrap();
        text.split_terminator('\0').collect()
    }

    #[test]
    fn words_and_assignments_reach_init() {
        let line = r#"LINES=24 quiet script run="/bin/tests run x" exit=psci LINES=50 TERM=vt220"#;
        let (arguments, environment) = strings("/init", command_line::parse(line)).unwrap();
        assert_eq!(lines(&arguments), ["/init", "script"]);
        assert_eq!(
            lines(&environment),
            [
                "HOME=/",
                "TERM=vt220",
                "PATH=/bin:/sbin:/usr/bin:/usr/sbin",
                "LINES=50",
                "run=/bin/tests run x"
            ]
        );
    }
}
