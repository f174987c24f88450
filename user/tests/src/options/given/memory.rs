//! Of calls about memory.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{descriptor, room, runs, text},
    sys::{self, Sys},
    syscall,
};

/// Bytes of what is mapped for a trial.
const LENGTH: usize = 0x4000;
const READ_WRITE: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const PRIVATE: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("mmap", "prot") => with([0, LENGTH, 0, PRIVATE, usize::MAX, 0]),
        ("mmap", _) => mapped(choice),
        ("mprotect", _) => with([sys::memory(LENGTH), LENGTH]),
        ("mremap", _) => match choice {
            "MREMAP_FIXED" => {
                let target = sys::memory(LENGTH);
                with([
                    sys::memory(LENGTH),
                    LENGTH,
                    LENGTH,
                    libc::MREMAP_MAYMOVE as usize,
                    target,
                ])
            }
            "MREMAP_DONTUNMAP" => with([sys::memory(LENGTH), LENGTH, LENGTH, libc::MREMAP_MAYMOVE as usize]),
            _ => with([sys::memory(LENGTH), LENGTH, LENGTH]),
        },
        ("madvise", _) => match choice {
            "MADV_REMOVE" => with([sys::shared(LENGTH), LENGTH]),
            _ => with([sys::memory(LENGTH), LENGTH]),
        },
        ("msync" | "mlock2", _) => with([sys::memory(LENGTH), LENGTH]),
        ("mlockall", _) => match choice {
            "MCL_CURRENT" | "MCL_FUTURE" => with([0]),
            _ => with([libc::MCL_FUTURE as usize]),
        },
        ("memfd_create", _) => with([text("memory")]),
        ("process_vm_readv" | "process_vm_writev", _) => with([std::process::id() as usize, runs(), 1, runs(), 1]),
        ("membarrier", "command") => {
            // Those that are for who has asked for them before.
            for command in [4, 0x10, 0x40, 0x100] {
                let _ = syscall!(SYS_membarrier, command, 0, 0);
            }
            with([0])
        }
        ("membarrier", _) => {
            let _ = syscall!(SYS_membarrier, 0x100, 0, 0);
            with([0x80, 0, 0])
        }
        ("shmget", _) => match choice {
            "IPC_EXCL" => with([
                0x6f70 + std::process::id() as usize,
                4096,
                libc::IPC_CREAT as usize | 0o600,
            ]),
            _ => with([libc::IPC_PRIVATE as usize, 4096, 0o600]),
        }
        .undone(|id, _| remove(id)),
        ("shmat", _) => attached(choice),
        ("shmctl", _) => {
            let id = segment();
            let at = if choice == "SHM_STAT" || choice == "SHM_STAT_ANY" {
                // Places are small numbers, the ids' lower half.
                id & 0x7fff
            } else {
                id
            };
            let kept = room();
            syscall!(SYS_shmctl, id, libc::IPC_STAT, kept).expect("IPC_STAT");
            with([at, 0, kept, id]).by(|number, arguments| {
                let result = sys::call(number, &arguments);
                remove(arguments[3]);
                result
            })
        }
        _ => return None,
    })
}

fn segment() -> usize {
    syscall!(SYS_shmget, libc::IPC_PRIVATE, 4096, 0o600).expect("shmget")
}

fn remove(id: usize) {
    let _ = syscall!(SYS_shmctl, id, libc::IPC_RMID, 0);
}

/// A segment to be attached, which goes with the process.
fn attached(choice: &str) -> Given {
    let id = segment();
    let first = syscall!(SYS_shmat, id, 0, 0).expect("shmat");
    remove(id);
    match choice {
        "SHM_REMAP" => with([id, sys::memory(4096)]),
        "SHM_RND" => {
            syscall!(SYS_shmdt, syscall!(SYS_shmat, id, 0, 0).expect("shmat")).expect("shmdt");
            let place = sys::memory(4096);
            syscall!(SYS_munmap, place, 4096).expect("munmap");
            with([id, place + 1])
        }
        _ => {
            let _ = first;
            with([id])
        }
    }
}

/// Where there is room for a mapping.
fn vacant() -> usize {
    let place = sys::memory(LENGTH);
    syscall!(SYS_munmap, place, LENGTH).expect("munmap");
    place
}

fn mapped(choice: &str) -> Given {
    let flags = match choice {
        "MAP_SHARED" | "MAP_PRIVATE" => libc::MAP_ANONYMOUS as usize,
        _ => PRIVATE,
    };
    match choice {
        "MAP_SHARED_VALIDATE" => with([0, LENGTH, READ_WRITE, 0, descriptor()]),
        "MAP_FIXED" | "MAP_FIXED_NOREPLACE" => with([vacant(), LENGTH, READ_WRITE, flags, usize::MAX]).by(at_the_place),
        "MAP_32BIT" => with([0, LENGTH, READ_WRITE, flags, usize::MAX]).by(below_two_gigabytes),
        _ => with([0, LENGTH, READ_WRITE, flags, usize::MAX]),
    }
}

fn at_the_place(number: i64, arguments: [usize; 6]) -> Sys {
    match sys::call(number, &arguments)? {
        place if place == arguments[0] => Ok(place),
        _ => Err(libc::ERANGE),
    }
}

fn below_two_gigabytes(number: i64, arguments: [usize; 6]) -> Sys {
    match sys::call(number, &arguments)? {
        place @ 0..0x8000_0000 => Ok(place),
        _ => Err(libc::ERANGE),
    }
}
