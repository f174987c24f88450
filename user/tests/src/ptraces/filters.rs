//! Filters of calls and tracers: stops that filters want, and what tracers may know and do of filters.

use super::{
    CONT, EVENT_SECCOMP, FIRST, GET_FILTER, GET_METADATA, O_SECCOMP, O_SUSPEND_SECCOMP, RESULT, SETOPTIONS, SYSGOOD,
    call_info, go, message, next_call, ptrace, registers, set_call, set_registers, stop_here, told, traced,
    wait_stopped,
};
use crate::{
    seccomp::{ALLOW, ERRNO, LOG, TRACE, VICTIM, filter, victim},
    sys::{self, in_child, wait_exit},
    syscall,
};

crate::tests! { "ptraces":
    a_filter_stops_a_call;
    a_filtered_call_is_changed_or_left_out;
    what_becomes_of_a_call_is_filtered_anew;
    a_filter_comes_after_the_stop_at_the_call;
    without_the_option_there_is_no_call;
    filters_are_suspended;
    filters_are_read;
}

/// A traced child with a filter that wants a stop at the victim, which then does something.
fn filtered(options: usize, body: impl FnOnce() -> i32) -> i32 {
    let child = traced(|| {
        filter(0, VICTIM, TRACE | 0x1234).expect("seccomp");
        body()
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, options), Ok(0));
    child
}

fn a_filter_stops_a_call() {
    let group = victim().expect("getpgid");
    let child = filtered(O_SECCOMP, || i32::from(sys::call(VICTIM, &[0, 7]) != Ok(group)));
    go(CONT, child, 0);
    assert_eq!(told(child, EVENT_SECCOMP), 0x1234);
    let (operation, _, rest, length) = call_info(child);
    assert_eq!((operation, length), (3, 84));
    assert_eq!((rest[2] as i64, rest[4], rest[9] as u32), (VICTIM, 7, 0x1234));
    if cfg!(target_arch = "x86_64") {
        assert_eq!(registers(child)[RESULT] as i64, -i64::from(libc::ENOSYS));
    }
    // The signal of such a stop's end is none.
    go(CONT, child, libc::SIGTERM);
    assert_eq!(wait_exit(child), 0);
}

fn a_filtered_call_is_changed_or_left_out() {
    let child = filtered(O_SECCOMP, || {
        let own = sys::call(libc::SYS_getpid, &[]);
        let changed = victim() == own;
        let given = victim() == Ok(55);
        let argument = sys::call(VICTIM, &[1 << 20]).is_ok();
        i32::from(!(changed && given && argument))
    });
    go(CONT, child, 0);
    told(child, EVENT_SECCOMP);
    set_call(child, libc::SYS_getpid);
    go(CONT, child, 0);
    told(child, EVENT_SECCOMP);
    set_call(child, -1);
    let mut words = registers(child);
    words[RESULT] = 55;
    set_registers(child, words);
    go(CONT, child, 0);
    told(child, EVENT_SECCOMP);
    let mut words = registers(child);
    assert_eq!(words[FIRST], 1 << 20);
    words[FIRST] = 0;
    set_registers(child, words);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn what_becomes_of_a_call_is_filtered_anew() {
    let child = filtered(O_SECCOMP, || {
        filter(0, libc::SYS_getppid, ERRNO | 66).expect("seccomp");
        filter(0, libc::SYS_getsid, TRACE | 1).expect("seccomp");
        let refused = victim() == Err(66);
        // What would stop again is made.
        let made = victim().is_ok();
        i32::from(!(refused && made))
    });
    go(CONT, child, 0);
    told(child, EVENT_SECCOMP);
    set_call(child, libc::SYS_getppid);
    go(CONT, child, 0);
    told(child, EVENT_SECCOMP);
    set_call(child, libc::SYS_getsid);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn a_filter_comes_after_the_stop_at_the_call() {
    let child = filtered(O_SECCOMP | SYSGOOD, || {
        stop_here();
        let first = victim().is_ok();
        let second = syscall!(SYS_getppid) == sys::call(libc::SYS_getpid, &[]);
        i32::from(!(first && second))
    });
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    next_call(child);
    assert_eq!(call_info(child).2[2] as i64, VICTIM);
    go(super::SYSCALL, child, 0);
    assert_eq!(told(child, EVENT_SECCOMP), 0x1234);
    next_call(child);
    assert_eq!(message(child), 2, "the end of the call");
    next_call(child);
    // What the tracer makes a filtered call of stops at the filter too.
    set_call(child, VICTIM);
    go(super::SYSCALL, child, 0);
    assert_eq!(told(child, EVENT_SECCOMP), 0x1234);
    set_call(child, libc::SYS_getpid);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn without_the_option_there_is_no_call() {
    let child = filtered(0, || i32::from(victim() != Err(libc::ENOSYS)));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn filters_are_suspended() {
    let child = traced(|| {
        filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        let before = victim().is_ok();
        stop_here();
        i32::from(!(before && victim() == Err(9)))
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_SUSPEND_SECCOMP), Ok(0));
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    assert_eq!(ptrace(SETOPTIONS, child, 0, 0), Ok(0));
    in_child(|| {
        filter(0, VICTIM, ALLOW).expect("seccomp");
        let other = traced(|| 0);
        assert_eq!(ptrace(SETOPTIONS, other, 0, O_SUSPEND_SECCOMP), Err(libc::EPERM));
        go(CONT, other, 0);
        assert_eq!(wait_exit(other), 0);
    });
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn filters_are_read() {
    let child = traced(|| {
        filter(0, VICTIM, ERRNO | 1).expect("seccomp");
        filter(LOG, VICTIM, ERRNO | 2).expect("seccomp");
        stop_here();
        0
    });
    let mut code = [0u64; 4];
    let mut read = |tid, index: usize| {
        let length = ptrace(GET_FILTER, tid, index, code.as_mut_ptr() as usize)?;
        Ok((length, (code[2] >> 32) as u32))
    };
    assert_eq!(read(child, 0), Err(libc::EINVAL), "it has none");
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    assert_eq!(read(child, 0), Ok((4, ERRNO | 1)), "the first");
    assert_eq!(read(child, 1), Ok((4, ERRNO | 2)));
    assert_eq!(read(child, 2), Err(libc::ENOENT));
    assert_eq!(ptrace(GET_FILTER, child, 1, 0), Ok(4));
    assert_eq!(ptrace(GET_FILTER, child, 1, 8), Err(libc::EFAULT));
    let metadata = |index: u64, size: usize| {
        let mut words = [index, 77];
        ptrace(GET_METADATA, child, size, words.as_mut_ptr() as usize).map(|size| (size, words[1]))
    };
    assert_eq!(metadata(0, 16), Ok((16, 0)));
    assert_eq!(metadata(1, 100), Ok((16, u64::from(LOG))));
    assert_eq!(metadata(1, 8), Ok((8, 77)));
    assert_eq!(metadata(1, 7), Err(libc::EINVAL));
    assert_eq!(metadata(2, 16), Err(libc::ENOENT));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}
