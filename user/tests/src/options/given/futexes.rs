//! Of futexes.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{kept, room, words},
    syscall,
};

const WAIT_BITSET: usize = libc::FUTEX_WAIT_BITSET as usize;
const ALL: usize = u32::MAX as usize;

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    // A word that is 0.
    let word = room();
    Some(match (group.call, group.what) {
        ("futex", "command") => match choice {
            // Waiting for it to be 1 no longer.
            "FUTEX_WAIT" | "FUTEX_WAIT_BITSET" | "FUTEX_WAIT_REQUEUE_PI" => {
                with([word, 0, 1, 0, word + 8, ALL]).fails(libc::EAGAIN)
            }
            "FUTEX_CMP_REQUEUE_PI" => with([word, 0, 1, 1, word + 8, 0]),
            "FUTEX_UNLOCK_PI" => {
                let thread = syscall!(SYS_gettid).expect("gettid");
                with([kept(thread), 0])
            }
            "FUTEX_WAKE_BITSET" => with([word, 0, 1, 0, 0, ALL]),
            _ => with([word, 0, 0, 0, word + 8, 0]),
        },
        ("futex", "flags") => with([word, WAIT_BITSET, 1, 0, 0, ALL]).fails(libc::EAGAIN),
        ("futex", _) => with([word, libc::FUTEX_WAKE_OP as usize, 1, 1, word + 8]),
        ("futex_waitv", "flags of a waiter") => {
            let size = if choice == "FUTEX_32" { 0 } else { 2 };
            with([words(&[1, word as u64, size]), 1]).fails(libc::EAGAIN)
        }
        ("futex_waitv", "clock") => with([words(&[1, word as u64, 2]), 1, 0, words(&[0, 0])]).fails(libc::EAGAIN),
        ("futex_waitv", _) => with([words(&[1, word as u64, 2]), 1]).fails(libc::EAGAIN),
        ("futex_wake", _) => with([word, ALL, 1, if choice == "FUTEX2_SIZE_U32" { 0 } else { 2 }]),
        ("futex_wait", _) => {
            let size = if choice == "FUTEX2_SIZE_U32" { 0 } else { 2 };
            with([word, 1, ALL, size]).fails(libc::EAGAIN)
        }
        ("futex_requeue", _) => with([words(&[0, word as u64, 2, 0, word as u64 + 8, 2])]),
        _ => return None,
    })
}
