//! Of calls that open files, and that ask something of one that is open.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{HERE, descriptor, fresh, kept, name_of_file, pipe, room, runs, text, words},
    syscall,
};

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("open" | "openat" | "openat2", _) => opened(group, choice),
        ("close_range", _) => with([500, 600]),
        ("lseek", _) => with([descriptor()]),
        ("fallocate", _) => match choice {
            "FALLOC_FL_PUNCH_HOLE" => with([descriptor(), libc::FALLOC_FL_KEEP_SIZE as usize, 0, 4096]),
            _ => with([descriptor(), 0, 0, 4096]),
        },
        ("preadv2" | "pwritev2", _) => with([descriptor(), runs(), 1, 0, 0]),
        ("copy_file_range", _) => with([descriptor(), 0, descriptor(), 0, 100]),
        ("flock", _) => with([descriptor()]),
        ("fcntl", "command") => command(choice),
        ("fcntl", "flags of F_SETFL") => with([descriptor(), libc::F_SETFL as usize]),
        ("fcntl", "seals of F_ADD_SEALS") => {
            let file = syscall!(SYS_memfd_create, text("sealed"), libc::MFD_ALLOW_SEALING).expect("memfd_create");
            with([file, libc::F_ADD_SEALS as usize])
        }
        ("fcntl", "type of struct flock" | "whence of struct flock") => {
            with([descriptor(), libc::F_SETLK as usize, words(&[0, 0, 1])])
        }
        ("getrandom", _) => with([room(), 16]),
        _ => return None,
    })
}

/// What is to be opened, and with which flags besides.
fn opened(group: &Group, choice: &str) -> Given {
    let (name, flags, mode) = match choice {
        "O_CREAT" => (fresh("made"), libc::O_WRONLY, 0o600),
        "O_EXCL" => (fresh("made"), libc::O_CREAT, 0o600),
        "O_TMPFILE" => (".".into(), libc::O_RDWR, 0o600),
        "O_DIRECTORY" => (".".into(), 0, 0),
        "O_TRUNC" | "O_APPEND" => (name_of_file(), libc::O_WRONLY, 0),
        _ => (name_of_file(), 0, 0),
    };
    let (name, flags, mode) = (text(&name), flags as usize, mode as usize);
    match group.call {
        "open" => with([name, flags, mode]),
        "openat" => with([HERE, name, flags, mode]),
        _ => with([HERE, name, words(&[flags as u64, mode as u64, 0]), 24]),
    }
}

fn command(choice: &str) -> Given {
    let argument = match choice {
        "F_GETLK" | "F_SETLK" | "F_SETLKW" | "F_OFD_GETLK" | "F_OFD_SETLK" | "F_OFD_SETLKW" => words(&[0, 0, 1]),
        "F_SETOWN" => std::process::id() as usize,
        "F_SETOWN_EX" => kept([1, std::process::id()]),
        "F_GETOWN_EX" | "F_GETOWNER_UIDS" | "F_GET_RW_HINT" | "F_SET_RW_HINT" => room(),
        "F_SETSIG" => libc::SIGIO as usize,
        "F_SETLEASE" => libc::F_RDLCK as usize,
        "F_NOTIFY" => 4,
        "F_SETPIPE_SZ" => 65536,
        "F_ADD_SEALS" => libc::F_SEAL_SHRINK as usize,
        _ => 0,
    };
    let on = match choice {
        "F_SETPIPE_SZ" | "F_GETPIPE_SZ" => pipe().0,
        "F_ADD_SEALS" | "F_GET_SEALS" => {
            syscall!(SYS_memfd_create, text("sealed"), libc::MFD_ALLOW_SEALING).expect("memfd_create")
        }
        "F_SETLEASE" => {
            // For reading, of a file that nobody has open for writing.
            syscall!(SYS_openat, HERE, text(&name_of_file()), libc::O_RDONLY).expect("open")
        }
        "F_NOTIFY" => syscall!(SYS_openat, HERE, text("."), libc::O_RDONLY).expect("open"),
        _ => descriptor(),
    };
    with([on, 0, argument])
}
