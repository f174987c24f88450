//! Signal actions: who has them in common, and that they change as a whole.

use std::{collections::BTreeSet, ffi::c_void, thread};

use crate::{
    programs,
    sys::{self, RawAction, exchange_action, wait_exit},
    syscall,
};

crate::tests! { "actions":
    actions_are_exchanged_as_a_whole;
    clone_shares_actions_or_copies_them [frees];
    execve_gives_a_process_its_own;
    fork_copies_what_is_shared;
    bad_actions_are_refused;
}

const LENGTH: usize = 0x10000;

fn handler_of(signo: i32) -> usize {
    exchange_action(signo, None).expect("rt_sigaction")[0] as usize
}

extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// An action by which it is known again. Nothing of it is ever used: the signal is not sent.
fn action(token: u64) -> RawAction {
    [token << 12, 0, token << 13, token << 20]
}

/// Sets one and tells which was there.
fn exchange(token: u64) -> u64 {
    let old = exchange_action(libc::SIGUSR1, Some(action(token))).expect("rt_sigaction");
    assert_eq!(old, action(old[0] >> 12), "half of one and half of another");
    old[0] >> 12
}

fn actions_are_exchanged_as_a_whole() {
    const ROUNDS: u64 = 20_000;
    exchange(1);
    let threads: Vec<_> = (1..=3u64)
        .map(|who| {
            thread::spawn(move || {
                (0..ROUNDS)
                    .map(|round| exchange(who << 16 | round))
                    .collect::<Vec<u64>>()
            })
        })
        .collect();
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    for thread in threads {
        for token in thread.join().expect("a thread") {
            assert!(seen.insert(token), "two exchanged the same action");
        }
    }
    assert!(seen.insert(exchange(1)), "the last is nobody's yet");
    assert_eq!(seen.len() as u64, 3 * ROUNDS + 1, "each action was seen once");
    sys::disposition(libc::SIGUSR1, libc::SIG_DFL);
}

extern "C" fn ignore(_: *mut c_void) -> i32 {
    sys::disposition(libc::SIGUSR1, libc::SIG_IGN);
    0
}

fn clone_shares_actions_or_copies_them() {
    let stack = sys::memory(LENGTH);
    let start = |flags| {
        let child = sys::clone_on(stack, LENGTH, flags | libc::CLONE_VM | libc::SIGCHLD, ignore).expect("clone");
        assert_eq!(wait_exit(child), 0);
    };
    sys::handle(libc::SIGUSR1, 0, &[], nothing);
    start(0);
    assert_eq!(handler_of(libc::SIGUSR1), nothing as *const () as usize, "a copy");
    // Twice: what is in common already can be shared once more.
    for _ in 0..2 {
        sys::handle(libc::SIGUSR1, 0, &[], nothing);
        start(libc::CLONE_SIGHAND);
        assert_eq!(handler_of(libc::SIGUSR1), libc::SIG_IGN);
    }
    let _ = syscall!(SYS_munmap, stack, LENGTH);
}

extern "C" fn handle_and_execute(_: *mut c_void) -> i32 {
    sys::handle(libc::SIGUSR2, 0, &[], nothing);
    programs::execute("/bin/sleep", &["sleep", "0"]);
    9
}

fn execve_gives_a_process_its_own() {
    let stack = sys::memory(LENGTH);
    sys::handle(libc::SIGUSR1, 0, &[], nothing);
    let flags = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::SIGCHLD;
    let child = sys::clone_on(stack, LENGTH, flags, handle_and_execute).expect("clone");
    let handler = nothing as *const () as usize;
    assert_eq!(handler_of(libc::SIGUSR1), handler, "only the child's was reset");
    assert_eq!(
        handler_of(libc::SIGUSR2),
        handler,
        "what the child did before was done to both"
    );
    assert_eq!(wait_exit(child), 0);
    sys::kill(std::process::id() as i32, libc::SIGUSR2).expect("kill");
}

extern "C" fn fork_and_ignore(_: *mut c_void) -> i32 {
    wait_exit(sys::fork(|| {
        sys::disposition(libc::SIGUSR1, libc::SIG_DFL);
        sys::disposition(libc::SIGUSR2, libc::SIG_IGN);
        0
    }))
}

fn fork_copies_what_is_shared() {
    let stack = sys::memory(LENGTH);
    sys::handle(libc::SIGUSR1, 0, &[], nothing);
    let flags = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::SIGCHLD;
    let child = sys::clone_on(stack, LENGTH, flags, fork_and_ignore).expect("clone");
    assert_eq!(wait_exit(child), 0);
    assert_eq!(handler_of(libc::SIGUSR1), nothing as *const () as usize);
    assert_eq!(handler_of(libc::SIGUSR2), libc::SIG_DFL);
}

fn bad_actions_are_refused() {
    let action: RawAction = [libc::SIG_IGN as u64, 0, 0, 0];
    for signo in [0, -1, 65, libc::SIGKILL, libc::SIGSTOP] {
        assert_eq!(exchange_action(signo, Some(action)), Err(libc::EINVAL), "{signo}");
    }
    exchange_action(libc::SIGKILL, None).expect("to look is allowed");
    assert_eq!(
        syscall!(SYS_rt_sigaction, libc::SIGUSR1, action.as_ptr(), 0, 4),
        Err(libc::EINVAL)
    );
    assert_eq!(syscall!(SYS_rt_sigaction, libc::SIGUSR1, 16, 0, 8), Err(libc::EFAULT));
    // What cannot be signalled cannot be blocked in a handler either.
    exchange_action(libc::SIGUSR1, Some([libc::SIG_IGN as u64, 0, 0, !0])).expect("rt_sigaction");
    let mask = exchange_action(libc::SIGUSR1, Some(action)).expect("rt_sigaction")[3];
    assert_eq!(mask, !sys::set_of(&[libc::SIGKILL, libc::SIGSTOP]));
    // Across two pages, of which the second comes as it is used.
    let memory = sys::memory(0x3000);
    let old = memory + 0x1000 - 16;
    assert_eq!(syscall!(SYS_rt_sigaction, libc::SIGUSR1, 0, old, 8), Ok(0));
    assert_eq!(sys::peek(old), libc::SIG_IGN as u8);
}
