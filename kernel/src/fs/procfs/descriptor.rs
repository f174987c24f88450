//! `/proc/<pid>/fdinfo` (`proc_pid_fdinfo(5)`), in steps: an epoll may have many files.

use alloc::{string::String, sync::Arc};
use core::fmt::Write;

use linux_raw_sys::general::O_CLOEXEC;

use crate::{
    errno::{Errno, Result},
    fs::{OpenFile, fd_table::OnExec},
    task::Process,
};

/// See the module.
pub(super) struct Info {
    file: Arc<OpenFile>,
    on_exec: OnExec,
    /// Where the file goes on; `None` before the lines that all have.
    next: Option<u64>,
}

impl Info {
    /// Of a descriptor.
    ///
    /// # Errors
    /// `ENOENT` if it is closed.
    pub(super) fn new(process: &Arc<Process>, fd: i32) -> Result<Self> {
        let files = process.files().ok_or(Errno::ENOENT)?;
        let file = files.get(fd).map_err(|_| Errno::ENOENT)?;
        let on_exec = files.on_exec(fd).map_err(|_| Errno::ENOENT)?;
        Ok(Self {
            file,
            on_exec,
            next: None,
        })
    }

    /// Makes a little more; whether there is more to come.
    pub(super) fn step(&mut self, out: &mut String) -> Result<bool> {
        let Some(from) = self.next else {
            self.begin(out);
            self.next = Some(0);
            return Ok(true);
        };
        self.next = self.file.file().details(from, out)?;
        Ok(self.next.is_some())
    }

    fn begin(&self, out: &mut String) {
        let file = &self.file;
        let on_exec = if self.on_exec == OnExec::Close { O_CLOEXEC } else { 0 };
        // What has no place is on a mount of its own, which is not listed.
        let mount = file.location().mount.id();
        // Written into memory: cannot fail.
        let _ = writeln!(
            out,
            "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{mount}\nino:\t{}",
            file.position(),
            file.flags() | on_exec,
            file.attributes().inode,
        );
    }
}
