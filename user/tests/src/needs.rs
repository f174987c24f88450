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
