//! What tests need that a Linux may be without: newer than it, or left out where it was configured.

use crate::{
    syscall,
    sysv::{IPC_NOWAIT, Kind, Object},
};

/// Something that a kernel has or has not.
#[derive(Debug)]
pub struct Need {
    /// It, in words that follow `needs`.
    pub what: &'static str,
    /// Whether this kernel has it.
    pub is_there: fn() -> bool,
}

/// `MSG_COPY`.
pub const MESSAGE_COPIES: Need = Need {
    what: "needs CONFIG_CHECKPOINT_RESTORE",
    is_there: || {
        const COPY: i32 = 0o4_0000;
        let queue = Object::new(Kind::Messages, 0, 0o600);
        let mut message = [0u64; 2];
        syscall!(SYS_msgrcv, queue.id, message.as_mut_ptr(), 8, 0, COPY | IPC_NOWAIT) != Err(libc::ENOSYS)
    },
};

/// Attributes `user.*` of files in memory.
pub const USER_ATTRIBUTES: Need = Need {
    what: "needs Linux 6.6",
    is_there: || {
        let path = c"/tmp/tests-attributes";
        let _there = std::fs::write("/tmp/tests-attributes", "");
        let set = syscall!(SYS_setxattr, path.as_ptr(), c"user.tests".as_ptr(), path.as_ptr(), 1, 0);
        let _gone = std::fs::remove_file("/tmp/tests-attributes");
        set != Err(libc::EOPNOTSUPP)
    },
};

/// `futex_wake`, `futex_wait` and `futex_requeue`.
pub const SIZED_FUTEXES: Need = Need {
    what: "needs Linux 6.7",
    is_there: || crate::sys::call(454, &[0, 0, 0, 0]) != Err(libc::ENOSYS),
};
