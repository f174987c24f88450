//! Of calls that go by names of files.

use std::{fs, os::unix::fs::symlink};

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{HERE, fresh, name_of_file, room, text, words},
    sys::{self, Sys},
    syscall,
};

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    let name = || text(&name_of_file());
    let link = || {
        let link = fresh("link");
        symlink(name_of_file(), &link).expect("symlink");
        text(&link)
    };
    Some(match (group.call, group.what) {
        ("newfstatat", _) => match choice {
            "AT_EMPTY_PATH" => with([open(), text(""), room()]),
            _ => with([HERE, link(), room()]),
        },
        ("statx", "flags") => match choice {
            "AT_EMPTY_PATH" => with([open(), text(""), 0, 0x7ff, room()]),
            _ => with([HERE, link(), 0, 0x7ff, room()]),
        },
        ("statx", _) => match choice {
            "" | "STATX_DIOALIGN" => with([HERE, name(), 0, 0, room()]),
            _ => with([HERE, name(), 0, 0, room()]).by(answers_what_is_asked),
        },
        ("access", _) => with([program()]),
        ("faccessat", _) => with([HERE, program()]),
        ("faccessat2", _) => match choice {
            "AT_EMPTY_PATH" => with([open(), text("")]),
            _ => with([HERE, link(), libc::R_OK as usize]),
        },
        ("fchmodat2", _) => match choice {
            "AT_EMPTY_PATH" => with([open(), text(""), 0o600]),
            _ => with([HERE, name(), 0o600]),
        },
        ("fchownat", _) => match choice {
            "AT_EMPTY_PATH" => with([open(), text(""), 1, 1]),
            _ => with([HERE, link(), 1, 1]),
        },
        ("utimensat", "flags") => match choice {
            "AT_EMPTY_PATH" => with([open(), text("")]),
            _ => with([HERE, link()]),
        },
        ("utimensat", _) => with([HERE, name(), words(&[0, 0, 0, 0])]),
        ("linkat", _) => match choice {
            "AT_EMPTY_PATH" => with([open(), text(""), HERE, text(&fresh("linked"))]),
            _ => with([HERE, link(), HERE, text(&fresh("linked"))]),
        },
        ("unlinkat", _) => match choice {
            "AT_REMOVEDIR" => {
                let name = fresh("directory");
                fs::create_dir(&name).expect("mkdir");
                with([HERE, text(&name)])
            }
            _ => with([HERE, name()]),
        },
        ("renameat2", _) => match choice {
            "RENAME_EXCHANGE" => with([HERE, name(), HERE, name()]),
            _ => with([HERE, name(), HERE, text(&fresh("renamed"))]),
        },
        ("execveat", _) => {
            let given = match choice {
                "AT_EMPTY_PATH" => with([open(), text(""), words(&[]), words(&[])]),
                _ => with([HERE, name(), words(&[]), words(&[])]),
            };
            // It is no program.
            given.fails(libc::EACCES)
        }
        ("mknodat", _) => with([HERE, text(&fresh("node")), 0, 0x103]),
        ("setxattr", _) => {
            let file = name();
            let attribute = text("trusted.options");
            if choice == "XATTR_REPLACE" {
                syscall!(SYS_setxattr, file, attribute, text("x"), 1, 0).expect("setxattr");
            }
            with([file, attribute, text("x"), 1])
        }
        ("mount", "type") => {
            let name = text(&directory());
            with([text("none"), name]).undone(|_, arguments| unmount(arguments[1]))
        }
        ("mount", _) => mounted(choice),
        ("umount2", _) => {
            let name = text(&directory());
            syscall!(SYS_mount, text("none"), name, text("tmpfs"), 0, 0).expect("mount");
            let given = with([name]).by(|number, arguments| {
                let result = sys::call(number, &arguments);
                unmount(arguments[0]);
                result
            });
            match choice {
                // The first time it is only marked.
                "MNT_EXPIRE" => given.fails(libc::EAGAIN),
                _ => given,
            }
        }
        _ => return None,
    })
}

/// A file, open.
fn open() -> usize {
    syscall!(SYS_openat, HERE, text(&name_of_file()), libc::O_RDWR).expect("open")
}

/// A file that may be run.
fn program() -> usize {
    let name = text(&name_of_file());
    syscall!(SYS_fchmodat, HERE, name, 0o700).expect("chmod");
    name
}

fn directory() -> String {
    let name = fresh("directory");
    fs::create_dir(&name).expect("mkdir");
    name
}

fn unmount(name: usize) {
    while syscall!(SYS_umount2, name, libc::MNT_DETACH).is_ok() {}
}

/// `statx`, which fails if it does not tell what it was asked for.
fn answers_what_is_asked(number: i64, arguments: [usize; 6]) -> Sys {
    sys::call(number, &arguments)?;
    // SAFETY: the first word of the structure, which has been made for the call.
    let told = unsafe { *(arguments[4] as *const u32) };
    if told as usize & arguments[3] == arguments[3] {
        Ok(0)
    } else {
        Err(libc::ENODATA)
    }
}

/// A directory that is a mount, or is to be one.
fn mounted(choice: &str) -> Given {
    let name = text(&directory());
    let source = match choice {
        "MS_BIND" | "MS_MOVE" => text(&directory()),
        _ => text("none"),
    };
    let before = match choice {
        "MS_REMOUNT" | "MS_PRIVATE" | "MS_SLAVE" | "MS_SHARED" | "MS_UNBINDABLE" => Some(name),
        "MS_MOVE" => Some(source),
        _ => None,
    };
    if let Some(place) = before {
        syscall!(SYS_mount, text("none"), place, text("tmpfs"), 0, 0).expect("mount");
    }
    if choice == "MS_MOVE" {
        // Not out of what is shared.
        let _ = syscall!(SYS_mount, 0, text("/"), 0, libc::MS_PRIVATE | libc::MS_REC, 0);
    }
    with([source, name, text("tmpfs")]).by(|number, arguments| {
        let result = sys::call(number, &arguments);
        unmount(arguments[1]);
        unmount(arguments[0]);
        result
    })
}
