//! Of calls about signals, clocks and timers.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{room, words},
    sys::{self, Sys},
    syscall,
};

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("rt_sigprocmask", _) => with([0, words(&[0]), 0, 8]),
        ("rt_sigaction", _) => {
            let given = with([libc::SIGUSR1 as usize, words(&[0]), 0, 8]);
            if choice.is_empty() {
                given
            } else {
                given.by(keeps_the_flags)
            }
        }
        ("sigaltstack", _) => with([words(&[sys::memory(65536) as u64, 0, 65536])]),
        ("clock_gettime" | "clock_getres", _) => with([0, room()]),
        ("clock_nanosleep", "flags") => with([libc::CLOCK_MONOTONIC as usize, 0, words(&[0, 0])]),
        ("clock_nanosleep", _) => with([0, 0, words(&[0, 0])]),
        ("timer_create", "clock") => with([0, 0, room()]),
        ("timer_create", _) => {
            let signal = libc::SIGUSR1 as u64;
            let thread = syscall!(SYS_gettid).expect("gettid") as u64;
            with([libc::CLOCK_MONOTONIC as usize, words(&[0, signal, thread]), room()])
        }
        ("timer_settime", _) => {
            let id = room();
            syscall!(SYS_timer_create, libc::CLOCK_MONOTONIC, 0, id).expect("timer_create");
            // SAFETY: the call has written it.
            let id = unsafe { *(id as *const u32) };
            with([id as usize, 0, words(&[0, 0, 1 << 40, 0]), 0])
        }
        ("getitimer", _) => with([0, room()]),
        ("setitimer", _) => with([0, words(&[0, 0, 1 << 20, 0]), 0]),
        _ => return None,
    })
}

/// `rt_sigaction`, which fails if a flag does not stay.
fn keeps_the_flags(number: i64, arguments: [usize; 6]) -> Sys {
    sys::call(number, &arguments)?;
    let kept = room();
    sys::call(number, &[arguments[0], 0, kept, 8])?;
    // SAFETY: two structures that have been made for this.
    let [asked, kept] = [arguments[1], kept].map(|action| unsafe { *(action as *const u64).add(1) });
    if kept & asked == asked {
        Ok(0)
    } else {
        Err(libc::ERANGE)
    }
}
