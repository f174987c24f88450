//! Namespaces (`namespaces(7)`): of what the machine has once, several, each seen by the threads that are in it.
//!
//! A thread has one [`Namespaces`], in common with those that it came from until it asks for others ([`change`]); its user
//! namespace is part of its credentials. Each namespace is an object of its kind, kept by who is in it, by namespaces below it,
//! and by open files of it ([`file`]). What most threads are in was there from the beginning and is nobody's: such a thread has
//! no [`Namespaces`] of its own, and what is fast asks [`Thread::is_apart`] and nothing else.
//!
//! Of mount, cgroup, PID and user namespaces there are the first ones alone so far.

pub mod change;
pub mod file;
mod ipc;
mod net;
pub mod time;
mod user;
pub mod uts;

use alloc::{format, string::String, sync::Arc};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::Once;

pub use self::{
    ipc::{IpcNamespace, IpcRef, ipc_of},
    net::{NetNamespace, network_of},
    time::TimeNamespace,
    user::UserNamespace,
    uts::UtsNamespace,
};
use crate::task::{self, Thread};

/// What there are several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Linux's")]
pub enum Kind {
    Cgroup,
    Ipc,
    Mount,
    Net,
    Pid,
    Time,
    User,
    Uts,
}

impl Kind {
    /// All of them, in the order in which `setns` by a process enters them: the user namespace first, as it gives the right to enter
    /// the others.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Uts,
        Self::Ipc,
        Self::Pid,
        Self::Cgroup,
        Self::Net,
        Self::Time,
    ];

    /// Its flag of `clone`, `unshare` and `setns` (`linux/sched.h`).
    pub const fn flag(self) -> u64 {
        match self {
            Self::Time => 0x80,
            Self::Mount => 0x2_0000,
            Self::Cgroup => 0x200_0000,
            Self::Uts => 0x400_0000,
            Self::Ipc => 0x800_0000,
            Self::User => 0x1000_0000,
            Self::Pid => 0x2000_0000,
            Self::Net => 0x4000_0000,
        }
    }

    /// As `/proc` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    /// The number of the first of its kind: Linux's (`linux/proc_ns.h`), where that is fixed.
    const fn first(self) -> u64 {
        match self {
            Self::Ipc => 0xefff_ffff,
            Self::Uts => 0xefff_fffe,
            Self::User => 0xefff_fffd,
            Self::Pid => 0xefff_fffc,
            Self::Cgroup => 0xefff_fffb,
            Self::Time => 0xefff_fffa,
            Self::Mount => 0xf000_0000,
            Self::Net => 0xf000_0001,
        }
    }
}

/// What every namespace has: its number and whose it is.
pub struct Head {
    number: u64,
    owner: Arc<UserNamespace>,
}

impl Head {
    /// Of the first of its kind.
    fn first(kind: Kind) -> Self {
        Self {
            number: kind.first(),
            owner: UserNamespace::first().clone(),
        }
    }

    /// Of a new one.
    fn new(owner: Arc<UserNamespace>) -> Self {
        Self {
            number: next_number(),
            owner,
        }
    }

    /// Its number, which no other namespace has or had.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The user namespace whose capabilities count for it.
    pub const fn owner(&self) -> &Arc<UserNamespace> {
        &self.owner
    }
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(Kind::Net.first() + 1);
    NEXT.fetch_add(1, Relaxed)
}

/// A kind of which there is but one namespace, the first.
pub struct Only {
    kind: Kind,
    head: Head,
}

impl Only {
    /// The one of its kind, which has no module of its own yet.
    fn of(kind: Kind) -> Arc<Self> {
        static ALL: Once<[Arc<Only>; 8]> = Once::new();
        let all = ALL.call_once(|| {
            Kind::ALL.map(|kind| {
                Arc::new(Self {
                    kind,
                    head: Head::first(kind),
                })
            })
        });
        all.iter().find(|only| only.kind == kind).unwrap_or(&all[0]).clone()
    }
}

/// A namespace of any kind.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names are those of the kinds")]
pub enum Namespace {
    Ipc(Arc<IpcNamespace>),
    Net(Arc<NetNamespace>),
    Time(Arc<TimeNamespace>),
    User(Arc<UserNamespace>),
    Uts(Arc<UtsNamespace>),
    /// One of a kind that has no others.
    Only(Arc<Only>),
}

impl Namespace {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ipc(_) => Kind::Ipc,
            Self::Net(_) => Kind::Net,
            Self::Time(_) => Kind::Time,
            Self::User(_) => Kind::User,
            Self::Uts(_) => Kind::Uts,
            Self::Only(only) => only.kind,
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        match self {
            Self::Ipc(ipc) => ipc.head().number(),
            Self::Net(net) => net.head().number(),
            Self::Time(time) => time.head().number(),
            Self::User(user) => user.number(),
            Self::Uts(uts) => uts.head().number(),
            Self::Only(only) => only.head.number(),
        }
    }

    /// The user namespace whose capabilities count for it: of a user namespace the one above it, if there is one.
    pub fn owner(&self) -> Option<Arc<UserNamespace>> {
        Some(match self {
            Self::Ipc(ipc) => ipc.head().owner().clone(),
            Self::Net(net) => net.head().owner().clone(),
            Self::Time(time) => time.head().owner().clone(),
            Self::User(user) => user.parent()?.clone(),
            Self::Uts(uts) => uts.head().owner().clone(),
            Self::Only(only) => only.head.owner().clone(),
        })
    }

    /// As `/proc/<pid>/ns` calls it.
    pub fn text(&self) -> String {
        format!("{}:[{}]", self.kind().name(), self.number())
    }
}

/// What a thread is in, besides its user namespace.
#[derive(Clone)]
pub struct Namespaces {
    /// The machine's names.
    pub uts: Arc<UtsNamespace>,
    /// System V IPC and POSIX message queues.
    pub ipc: Arc<IpcNamespace>,
    /// The network.
    pub net: Arc<NetNamespace>,
    /// The clocks.
    pub time: Arc<TimeNamespace>,
    /// Those of its children, and of the program that it becomes.
    pub time_for_children: Arc<TimeNamespace>,
}

impl Namespaces {
    /// The first of all kinds.
    pub fn first() -> &'static Arc<Self> {
        static FIRST: Once<Arc<Namespaces>> = Once::new();
        FIRST.call_once(|| {
            Arc::new(Self {
                uts: UtsNamespace::first().clone(),
                ipc: IpcNamespace::first().clone(),
                net: NetNamespace::first().clone(),
                time: TimeNamespace::first().clone(),
                time_for_children: TimeNamespace::first().clone(),
            })
        })
    }
}

/// Which of a thread's namespaces of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one that it is in.
    Own,
    /// The one that its children will be in.
    Children,
}

/// The thread's namespace of a kind.
pub fn of(thread: &Thread, kind: Kind, whose: Whose) -> Namespace {
    match kind {
        Kind::Ipc => Namespace::Ipc(thread.namespaces().ipc.clone()),
        Kind::Net => Namespace::Net(thread.namespaces().net.clone()),
        Kind::Time => {
            let namespaces = thread.namespaces();
            Namespace::Time(match whose {
                Whose::Own => namespaces.time.clone(),
                Whose::Children => namespaces.time_for_children.clone(),
            })
        }
        Kind::User => Namespace::User(thread.credentials().user_namespace.clone()),
        Kind::Uts => Namespace::Uts(thread.namespaces().uts.clone()),
        Kind::Cgroup | Kind::Mount | Kind::Pid => Namespace::Only(Only::of(kind)),
    }
}

/// What the calling thread is in, for who is called without it as an argument; the first of all kinds in the kernel's own tasks.
pub fn current() -> Arc<Namespaces> {
    match task::current::tid().and_then(task::thread) {
        Some(thread) => thread.namespaces(),
        None => Namespaces::first().clone(),
    }
}
