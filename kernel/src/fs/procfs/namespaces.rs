//! `/proc/<pid>/ns`: links that lead to namespaces by themselves (`namespaces(7)`).

use alloc::{sync::Arc, vec::Vec};

use super::{Kind, process};
use crate::{
    errno::{Errno, Result},
    fs::inode::Target,
    namespace::{self, Namespace, TimeNamespace, Whose, file},
    task::{self, Pid, Process, Thread, ptrace::link},
};

/// What is in the directory.
pub(super) const fn of_process(pid: Pid) -> [(&'static str, Kind); 10] {
    use namespace::Kind as Of;
    const fn link(pid: Pid, kind: Of) -> Kind {
        Kind::Namespace(pid, kind, Whose::Own)
    }
    [
        ("cgroup", link(pid, Of::Cgroup)),
        ("ipc", link(pid, Of::Ipc)),
        ("mnt", link(pid, Of::Mount)),
        ("net", link(pid, Of::Net)),
        ("pid", link(pid, Of::Pid)),
        ("pid_for_children", Kind::Namespace(pid, Of::Pid, Whose::Children)),
        ("time", link(pid, Of::Time)),
        ("time_for_children", Kind::Namespace(pid, Of::Time, Whose::Children)),
        ("user", link(pid, Of::User)),
        ("uts", link(pid, Of::Uts)),
    ]
}

/// That of the thread of this number, or of the process's first one, for who may look into it.
fn find(pid: Pid, kind: namespace::Kind, whose: Whose) -> Result<Namespace> {
    let process = process::find(pid)?;
    let caller = task::current::tid().and_then(task::thread);
    if !caller.is_some_and(|caller| link::may_trace(&caller, &process)) {
        return Err(Errno::EACCES);
    }
    let thread = task::thread(pid).or_else(|| process.first_thread());
    Ok(namespace::of(&*thread.ok_or(Errno::ENOENT)?, kind, whose))
}

pub(super) fn describe(pid: Pid, kind: namespace::Kind, whose: Whose) -> Result<Vec<u8>> {
    Ok(find(pid, kind, whose)?.text().into_bytes())
}

pub(super) fn follow(pid: Pid, kind: namespace::Kind, whose: Whose) -> Result<Target> {
    Ok(Target::Location(file::place(find(pid, kind, whose)?)))
}

fn time_for_children(process: &Process) -> Result<Arc<TimeNamespace>> {
    let thread = process.first_thread().ok_or(Errno::ESRCH)?;
    Ok(thread.namespaces().time_for_children.clone())
}

/// `timens_offsets`: how far the clocks of the process's children are ahead of the machine's.
pub(super) fn time_offsets(process: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(time_for_children(process)?.text().into_bytes())
}

pub(super) fn set_time_offsets(process: &Arc<Process>, caller: &Thread, text: &[u8]) -> Result<()> {
    time_for_children(process)?.set(&caller.credentials(), text)
}
