//! Lock ranks (invariant I13): a CPU takes locks in ascending rank only.

/// Where a lock stands in the order. A CPU that holds a lock may take only locks further down this list; debug builds
/// panic otherwise, naming both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// One process's timers: their signals are sent under it, so that none comes from a timer that is gone.
    Timers = 0,
    /// The table of processes, groups and sessions.
    ProcessTable,
    /// One process's children and exit state.
    Process,
    /// What a traced thread and its tracer share.
    Tracee,
    /// What a seccomp listener is asked.
    Listener,
    /// One process's signal state.
    Signals,
    /// Signal actions that several processes have in common.
    SharedActions,
    /// One terminal.
    Tty,
    /// One descriptor table.
    Descriptors,
    /// Root, working directory and umask of one process.
    FsContext,
    /// One open file's position and flags.
    OpenFile,
    /// The mount table.
    Mounts,
    /// One directory.
    Directory,
    /// One file's contents.
    Inode,
    /// One pipe.
    Pipe,
    /// What a socket is bound and connected to.
    Socket,
    /// What waits in a socket to be received.
    SocketInbox,
    /// The names of sockets.
    SocketNames,
    /// The files that are on their way in messages.
    InFlight,
    /// The list of all waits for file locks.
    LockWaits,
    /// The locks of some files.
    FileLocks,
    /// One address space's list of areas.
    AddressSpace,
    /// The semaphore sets in which a process has something to undo.
    IpcUndo,
    /// The System V IPC objects of one kind.
    Ipc,
    /// One System V IPC object.
    IpcObject,
    /// The list of caches.
    Caches,
    /// One cache of pages.
    PageCache,
    /// One memory object's pages.
    MemoryObject,
    /// One address space's page table.
    PageTable,
    /// The move of waiters between two buckets of the futex table.
    FutexRequeue,
    /// The futex table's buckets.
    Futex,
    /// Who waits for which priority-inheriting lock of whom.
    FutexOwners,
    /// One interrupt line's registration.
    Interrupt,
    /// A device's registers.
    Device,
    /// The cells of the screen.
    Screen,
    /// The graph of epolls.
    EpollNesting,
    /// One epoll's entries, and the users of epolls.
    Epoll,
    /// Those who watch by one poll queue.
    PollWatchers,
    /// A wait queue.
    WaitQueue,
    /// The executor's slab.
    Executor,
    /// The page of clocks that programs read.
    Clocks,
    /// The kernel's random generator.
    Random,
    /// The heap's slabs.
    Heap,
    /// The heap's backing.
    HeapBacking,
    /// One CPU's magazine of free frames.
    FrameCache,
    /// The frame allocator.
    Frames,
    /// The console's line, for messages.
    Log,
}

impl Rank {
    /// The rank of this number, for locks whose rank is a constant parameter.
    ///
    /// # Panics
    /// If the number is none of a rank that may be given this way.
    pub const fn from_number(number: u8) -> Self {
        match number {
            _ if number == Self::WaitQueue as u8 => Self::WaitQueue,
            _ if number == Self::Executor as u8 => Self::Executor,
            _ => panic!("no constant lock of this rank"),
        }
    }
}

#[cfg(debug_assertions)]
mod check {
    use super::Rank;

    #[cfg(target_os = "none")]
    mod held {
        use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
        use hal::traits::PerCpuOps;

        // One word a CPU, touched by that CPU alone with interrupts masked.
        static HELD: [AtomicU64; hal::MAX_CPUS] = [const { AtomicU64::new(0) }; hal::MAX_CPUS];

        pub fn get() -> u64 {
            HELD[hal::arch::PerCpu::cpu_id() as usize].load(Relaxed)
        }

        pub fn set(word: u64) {
            HELD[hal::arch::PerCpu::cpu_id() as usize].store(word, Relaxed);
        }
    }

    #[cfg(not(target_os = "none"))]
    mod held {
        use std::cell::Cell;

        std::thread_local!(static HELD: Cell<u64> = const { Cell::new(0) });

        pub fn get() -> u64 {
            HELD.with(Cell::get)
        }

        pub fn set(word: u64) {
            HELD.with(|held| held.set(word));
        }
    }

    pub fn acquire(rank: Rank) {
        let held = held::get();
        assert!(
            held >> rank as u8 == 0,
            "lock of rank {rank:?} taken while a lock of rank number {} is held",
            63 - held.leading_zeros()
        );
        held::set(held | 1 << rank as u8);
    }

    pub fn release(rank: Rank) {
        held::set(held::get() & !(1 << rank as u8));
    }
}

#[cfg(not(debug_assertions))]
mod check {
    use super::Rank;

    pub const fn acquire(_: Rank) {}
    pub const fn release(_: Rank) {}
}

pub(super) use check::{acquire, release};
