//! Who there is: processes, threads, families, groups and sessions, under one lock.
//!
//! A process is in the table from fork until it is reaped; `exit` tells a zombie from a living one. A number is given
//! back when nothing bears it any more ([`Table::release`]), so that a group outlives its leader without its number
//! being given to a stranger.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use super::{
    pid::{Pid, PidAllocator},
    process::{Process, WaitStatus},
    ptrace::Tracee,
    signal::Signo,
    thread::Thread,
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    tty::Tty,
};

/// A session: the process groups of one login, with at most one controlling terminal.
pub struct Session {
    id: Pid,
    tty: SpinLock<Option<Arc<Tty>>>,
}

impl Session {
    /// A session without a terminal.
    pub fn new(id: Pid) -> Arc<Self> {
        Arc::new(Self {
            id,
            tty: SpinLock::new(Rank::Signals, None),
        })
    }

    /// The number of the process that made it.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// The controlling terminal.
    pub fn tty(&self) -> Option<Arc<Tty>> {
        self.tty.lock().clone()
    }

    /// Replaces the controlling terminal and returns the old one.
    pub fn set_tty(&self, tty: Option<Arc<Tty>>) -> Option<Arc<Tty>> {
        core::mem::replace(&mut *self.tty.lock(), tty)
    }
}

/// A process's place in the family.
pub(super) struct Node {
    pub process: Arc<Process>,
    pub parent: Pid,
    pub children: Vec<Pid>,
    pub group: Pid,
    pub session: Pid,
    /// What the parent gets when the process ends; 0 for nothing.
    pub exit_signal: Signo,
    /// Set once every thread is gone.
    pub exit: Option<WaitStatus>,
    /// A stop the parent has not waited for yet.
    pub stopped: Option<Signo>,
    /// A continuation the parent has not waited for yet.
    pub continued: bool,
}

/// The table.
pub(super) struct Table {
    pids: PidAllocator,
    pub processes: BTreeMap<Pid, Node>,
    pub threads: BTreeMap<Pid, Arc<Thread>>,
    /// Threads that are traced, by number; those that have ended until their tracer has waited for them.
    pub tracees: BTreeMap<Pid, Arc<Tracee>>,
    /// Members of each group, zombies included.
    pub groups: BTreeMap<Pid, Vec<Pid>>,
    /// How many processes, zombies included, each session has.
    pub sessions: BTreeMap<Pid, usize>,
}

pub(super) static TABLE: SpinLock<Table> = SpinLock::new(Rank::ProcessTable, Table::new());

impl Table {
    const fn new() -> Self {
        Self {
            pids: PidAllocator::new(),
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
            tracees: BTreeMap::new(),
            groups: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.processes.get(&pid)
    }

    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.processes.get_mut(&pid)
    }

    /// Gives a number back if nothing bears it.
    pub fn release(&mut self, pid: Pid) {
        let borne = self.processes.contains_key(&pid)
            || self.threads.contains_key(&pid)
            || self.groups.contains_key(&pid)
            || self.sessions.contains_key(&pid);
        if !borne {
            self.pids.free(pid);
        }
    }

    pub fn join_group(&mut self, pid: Pid, group: Pid) {
        self.groups.entry(group).or_default().push(pid);
        if let Some(node) = self.processes.get_mut(&pid) {
            node.group = group;
            node.process.group.store(group, Ordering::Relaxed);
        }
    }

    pub fn leave_group(&mut self, pid: Pid, group: Pid) {
        if let Some(members) = self.groups.get_mut(&group) {
            members.retain(|member| *member != pid);
            if members.is_empty() {
                self.groups.remove(&group);
                self.release(group);
            }
        }
    }

    pub fn join_session(&mut self, session: Pid) {
        *self.sessions.entry(session).or_default() += 1;
    }

    pub fn leave_session(&mut self, session: Pid) {
        if let Some(count) = self.sessions.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                self.sessions.remove(&session);
                self.release(session);
            }
        }
    }

    /// Takes a zombie out for good.
    pub fn remove(&mut self, pid: Pid) -> Option<Node> {
        let node = self.processes.get(&pid)?;
        let (parent, group, session) = (node.parent, node.group, node.session);
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children.retain(|child| *child != pid);
        }
        // While the process bears its number, leaving a group or session of the same number does not give it back.
        self.leave_group(pid, group);
        self.leave_session(session);
        let node = self.processes.remove(&pid)?;
        self.release(pid);
        Some(node)
    }

    /// Whether `group` is orphaned (POSIX): no living member has a parent in another group of the same session. `ignored`
    /// counts as gone.
    pub fn is_orphaned(&self, group: Pid, ignored: Option<Pid>) -> bool {
        let members = self.groups.get(&group).map_or(&[][..], Vec::as_slice);
        !members
            .iter()
            .filter(|pid| Some(**pid) != ignored)
            .filter_map(|pid| self.node(*pid))
            .any(|node| {
                node.exit.is_none()
                    && self.node(node.parent).is_some_and(|parent| {
                        parent.group != node.group && parent.session == node.session && node.parent != 1
                    })
            })
    }

    /// Whether a living member of `group` is stopped.
    pub fn has_stopped_member(&self, group: Pid) -> bool {
        let members = self.groups.get(&group).map_or(&[][..], Vec::as_slice);
        members
            .iter()
            .filter_map(|pid| self.node(*pid))
            .any(|node| node.exit.is_none() && node.process.shared.lock().stop.is_some())
    }

    pub fn members(&self, group: Pid) -> Vec<Arc<Process>> {
        let members = self.groups.get(&group).map_or(&[][..], Vec::as_slice);
        members
            .iter()
            .filter_map(|pid| self.node(*pid))
            .map(|node| node.process.clone())
            .collect()
    }
}

/// Takes a number for a process or thread.
///
/// # Errors
/// `EAGAIN` if all are taken.
pub(super) fn allocate_pid() -> Result<Pid> {
    TABLE.lock().pids.allocate()
}

/// Gives back a number that was never used.
pub(super) fn release_pid(pid: Pid) {
    TABLE.lock().release(pid);
}

static FORKS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Processes made since boot.
pub fn forks() -> u64 {
    FORKS.load(core::sync::atomic::Ordering::Relaxed)
}

/// Adds a process, with its first thread, as a child of `process.parent()`.
pub(super) fn insert(process: &Arc<Process>, thread: &Arc<Thread>, exit_signal: Signo) {
    let session = process.session().id();
    let (pid, group) = (process.pid(), process.group());
    FORKS.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    let mut table = TABLE.lock();
    let node = Node {
        process: process.clone(),
        parent: process.parent(),
        children: Vec::new(),
        group,
        session,
        exit_signal,
        exit: None,
        stopped: None,
        continued: false,
    };
    table.processes.insert(pid, node);
    table.threads.insert(pid, thread.clone());
    if let Some(parent) = table.node_mut(process.parent()) {
        parent.children.push(pid);
    }
    table.join_group(pid, group);
    table.join_session(session);
    process.shared.lock().threads.push(thread.clone());
}

/// The process with a number, zombies included.
pub fn process(pid: Pid) -> Option<Arc<Process>> {
    TABLE.lock().node(pid).map(|node| node.process.clone())
}

/// The living thread with a number.
pub fn thread(tid: Pid) -> Option<Arc<Thread>> {
    TABLE.lock().threads.get(&tid).cloned()
}

/// Every process, zombies included, by number.
pub fn processes() -> Vec<Arc<Process>> {
    TABLE
        .lock()
        .processes
        .values()
        .map(|node| node.process.clone())
        .collect()
}

/// The process, zombies included, for which `key` gives the largest value; `None` where it gives none for any. Takes no
/// memory. `key` runs under the table's lock.
pub(super) fn max_by_key<K: Ord>(mut key: impl FnMut(&Process) -> Option<K>) -> Option<Arc<Process>> {
    let table = TABLE.lock();
    let nodes = table.processes.values();
    let best = nodes.filter_map(|node| Some((key(&node.process)?, &node.process)));
    best.max_by(|(one, _), (other, _)| one.cmp(other))
        .map(|(_, process)| process.clone())
}

/// Every process of a group, zombies included.
pub fn group_members(group: Pid) -> Vec<Arc<Process>> {
    TABLE.lock().members(group)
}

/// Whether a group with a member in `session` exists.
pub fn group_is_in_session(group: Pid, session: Pid) -> bool {
    let table = TABLE.lock();
    table.groups.get(&group).is_some_and(|members| {
        members
            .iter()
            .filter_map(|pid| table.node(*pid))
            .any(|node| node.session == session)
    })
}

/// Whether a group is orphaned: then terminal stops have no effect and background reads are EIO.
pub fn is_orphaned_group(group: Pid) -> bool {
    TABLE.lock().is_orphaned(group, None)
}

/// The status of an ended, unreaped process.
pub fn exit_status(pid: Pid) -> Option<WaitStatus> {
    TABLE.lock().node(pid).and_then(|node| node.exit)
}

/// `setpgid(2)` for `caller`.
///
/// # Errors
/// As the manual page: `ESRCH`, `EPERM`, `EACCES`, `EINVAL`.
pub fn set_group(caller: &Process, pid: Pid, group: Pid) -> Result<()> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = if pid == 0 { caller.pid() } else { pid };
    let group = if group == 0 { pid } else { group };
    let mut table = TABLE.lock();
    let own = table.node(caller.pid()).ok_or(Errno::ESRCH)?;
    let node = table.node(pid).ok_or(Errno::ESRCH)?;
    if pid != caller.pid() {
        if node.parent != caller.pid() {
            return Err(Errno::ESRCH);
        }
        if node.session != own.session {
            return Err(Errno::EPERM);
        }
        if node.process.has_execed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    }
    if node.session == pid {
        return Err(Errno::EPERM);
    }
    let (old, session) = (node.group, node.session);
    if group != pid {
        let members = table.groups.get(&group).ok_or(Errno::EPERM)?;
        if !members
            .iter()
            .filter_map(|pid| table.node(*pid))
            .any(|node| node.session == session)
        {
            return Err(Errno::EPERM);
        }
    }
    if old != group {
        table.join_group(pid, group);
        table.leave_group(pid, old);
    }
    Ok(())
}

/// `setsid(2)`.
///
/// # Errors
/// `EPERM` if a group with the caller's number exists.
pub fn new_session(process: &Process) -> Result<Pid> {
    let pid = process.pid();
    let mut table = TABLE.lock();
    if table.groups.contains_key(&pid) {
        return Err(Errno::EPERM);
    }
    let node = table.node_mut(pid).ok_or(Errno::ESRCH)?;
    let (group, session) = (node.group, node.session);
    node.session = pid;
    process.set_session(Session::new(pid));
    table.join_session(pid);
    table.join_group(pid, pid);
    table.leave_group(pid, group);
    table.leave_session(session);
    Ok(pid)
}

/// The group and session of a process; 0 is the caller's.
///
/// # Errors
/// `ESRCH` if there is none.
pub fn group_and_session(caller: &Process, pid: Pid) -> Result<(Pid, Pid)> {
    let pid = if pid == 0 { caller.pid() } else { pid };
    let table = TABLE.lock();
    let pid = table.threads.get(&pid).map_or(pid, |thread| thread.process().pid());
    table
        .node(pid)
        .map(|node| (node.group, node.session))
        .ok_or(Errno::ESRCH)
}
