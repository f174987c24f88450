//! Calls on process descriptors.

use alloc::sync::Arc;

use linux_raw_sys::general::{O_CLOEXEC, O_NONBLOCK, O_RDWR};

use crate::{
    errno::{Errno, Result},
    fs::{OnExec, OpenFile, nameless::Anonymous, pidfd::PidFile, procfs},
    syscall::{fs::descriptor_limit, signal::read_info_of},
    task::{
        self, Pid, Process, Thread,
        ptrace::link::may_trace,
        signal::{
            SigInfo,
            info::code::{SI_TKILL, SI_USER},
            send,
        },
    },
};

/// Gives the caller a descriptor of a process.
///
/// # Errors
/// `EMFILE`, `ENOMEM`.
pub fn open(t: &Thread, process: Arc<Process>, flags: u32) -> Result<i32> {
    let file = OpenFile::anonymous(
        Arc::new(PidFile::new(process)),
        Anonymous::PidFd,
        O_RDWR | O_CLOEXEC | flags,
    );
    t.files().insert(Arc::new(file), OnExec::Close, descriptor_limit(t))
}

/// `pidfd_open(2)`.
///
/// # Errors
/// `EINVAL` for flags but `PIDFD_NONBLOCK`, or a number of a thread alone; `ESRCH`, `EMFILE`, `ENOMEM`.
pub fn pidfd_open(t: &Thread, pid: Pid, flags: u32) -> Result<u64> {
    if flags & !O_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let process = task::process(pid).ok_or_else(|| match task::thread(pid) {
        Some(_) => Errno::EINVAL,
        None => Errno::ESRCH,
    })?;
    Ok(open(t, process, flags)? as u64)
}

/// `pidfd_send_signal(2)`. A directory `/proc/<pid>` will do as well.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EFAULT`, `EPERM`, `ESRCH`; `EAGAIN` if a realtime signal cannot be queued.
pub async fn pidfd_send_signal(t: &Thread, fd: i32, signo: i32, info: u64, flags: u32) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = match PidFile::find(t, fd) {
        Ok((process, _)) => process,
        Err(_) => procfs::process_of(&*t.files().get_usable(fd)?)?,
    };
    let info = if info == 0 {
        SigInfo::from_process(signo, SI_USER, t.process().pid(), t.credentials().uid)
    } else {
        let given = read_info_of(t, info).await?;
        if given.signo() != signo {
            return Err(Errno::EINVAL);
        }
        let forged = given.code() >= SI_USER || given.code() == SI_TKILL;
        if forged && t.tid() != process.pid() {
            return Err(Errno::EPERM);
        }
        given
    };
    let there = task::process(process.pid()).is_some_and(|there| Arc::ptr_eq(&there, &process));
    if !there {
        return Err(Errno::ESRCH);
    }
    send::signal_one(t, &process, signo, info).map(|()| 0)
}

/// `pidfd_getfd(2)`.
///
/// # Errors
/// `EINVAL` for any flag; `EBADF`, `ESRCH`, `EPERM`, `EMFILE`, `ENOMEM`.
pub fn pidfd_getfd(t: &Thread, pidfd: i32, fd: i32, flags: u32) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = PidFile::find(t, pidfd)?;
    if !process.has_exited() && !may_trace(t, &process) {
        return Err(Errno::EPERM);
    }
    let files = process.files().ok_or(Errno::ESRCH)?;
    let file = files.get(fd)?;
    Ok(t.files().insert(file, OnExec::Close, descriptor_limit(t))? as u64)
}
