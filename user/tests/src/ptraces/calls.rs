//! Stops at the two ends of a call.

use super::{
    ARCH, CONT, FIRST, PC, RESULT, SETOPTIONS, SP, SYSCALL, SYSEMU, SYSGOOD, TRAP, call_info, go, info, message,
    next_call, ptrace, raw_pid, registers, set_call, set_registers, traced, wait_stopped,
};
use crate::{
    sys::{self, kill, sleep_ms, wait_exit},
    syscall,
};

crate::tests! { "ptraces":
    calls_stop_twice;
    a_call_is_changed_or_left_out;
    a_call_is_emulated;
    an_interrupted_call_shows_its_restart;
}

fn calls_stop_twice() {
    let child = traced(|| {
        raw_pid();
        syscall!(SYS_getppid).expect("getppid");
        let _ = syscall!(SYS_close, 12345);
        0
    });
    go(SYSCALL, child, 0);
    // Before getpid: the signal came after the call that raised it.
    wait_stopped(child, TRAP, 0);
    assert_eq!(call_info(child).0, 0, "without TRACESYSGOOD it does not say");
    assert_eq!(ptrace(SETOPTIONS, child, 0, 1 << 25), Err(libc::EINVAL));
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    go(SYSCALL, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    assert_eq!(call_info(child).2[2] as i32, child);
    let mut seen = Vec::new();
    for _ in 0..2 {
        go(SYSCALL, child, 0);
        wait_stopped(child, TRAP | 0x80, 0);
        let is = info(child).expect("siginfo");
        assert_eq!((is[0], is[2], is[4]), (TRAP, TRAP | 0x80, child));
        let (operation, arch, rest, length) = call_info(child);
        assert_eq!((operation, arch, length, message(child)), (1, ARCH, 80, 1));
        let words = registers(child);
        assert_eq!((rest[0], rest[1]), (words[PC], words[SP]));
        if cfg!(target_arch = "x86_64") {
            assert_eq!((words[RESULT] as i64, words[15]), (-i64::from(libc::ENOSYS), rest[2]));
        } else {
            assert_eq!(words[7], 0);
        }
        go(SYSCALL, child, 0);
        wait_stopped(child, TRAP | 0x80, 0);
        let (operation, _, result, length) = call_info(child);
        assert_eq!((operation, length, message(child)), (2, 33, 2));
        assert_eq!(result[2], registers(child)[RESULT]);
        if cfg!(target_arch = "aarch64") {
            assert_eq!(registers(child)[7], 1);
        }
        seen.push((rest[2] as i64, rest[3], result[2] as i64, result[3] as u8));
    }
    assert_eq!(seen[0].0, libc::SYS_getppid);
    assert_eq!((seen[0].2, seen[0].3), (i64::from(std::process::id() as i32), 0));
    assert_eq!(seen[1], (libc::SYS_close, 12345, -i64::from(libc::EBADF), 1));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn a_call_is_changed_or_left_out() {
    let child = traced(|| {
        let own = i64::from(raw_pid());
        let changed = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let skipped = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let given = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let argument = sys::call(libc::SYS_close, &[54321]);
        let restarted = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let right = changed == Ok(own)
            && skipped
                == if cfg!(target_arch = "x86_64") {
                    Err(libc::ENOSYS)
                } else {
                    skipped
                }
            && given == Ok(77)
            && argument == Ok(0)
            && restarted == Ok(78);
        i32::from(!right)
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    next_call(child);
    next_call(child); // getpid
    next_call(child);
    set_call(child, libc::SYS_getpid);
    next_call(child);
    next_call(child);
    set_call(child, -1);
    next_call(child);
    next_call(child);
    set_call(child, -1);
    next_call(child);
    let mut words = registers(child);
    words[RESULT] = 77;
    set_registers(child, words);
    next_call(child);
    let mut words = registers(child);
    assert_eq!(words[FIRST], 54321);
    words[FIRST] = 0;
    set_registers(child, words);
    next_call(child);
    next_call(child);
    next_call(child);
    let mut words = registers(child);
    words[RESULT] = 78;
    set_registers(child, words);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn a_call_is_emulated() {
    let child = traced(|| i32::from(sys::call(libc::SYS_getppid, &[]) != Ok(5)));
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    go(SYSEMU, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    assert_eq!(call_info(child).2[2] as i64, libc::SYS_getppid);
    let mut words = registers(child);
    words[RESULT] = 5;
    set_registers(child, words);
    go(SYSEMU, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    // The next call, not the end of the last.
    let exits = [libc::SYS_exit_group, libc::SYS_exit];
    assert!(exits.contains(&(call_info(child).2[2] as i64)));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn an_interrupted_call_shows_its_restart() {
    let (reader, writer) = sys::pipe(0);
    let child = traced(|| {
        let mut byte = [0];
        i32::from(sys::read(reader, &mut byte) != Ok(1))
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    next_call(child);
    go(SYSCALL, child, 0);
    sleep_ms(50);
    kill(child, libc::SIGWINCH).expect("kill");
    wait_stopped(child, TRAP | 0x80, 0);
    assert_eq!(registers(child)[RESULT] as i64, -512);
    go(SYSCALL, child, 0);
    wait_stopped(child, libc::SIGWINCH, 0);
    let at_signal = registers(child);
    if cfg!(target_arch = "x86_64") {
        assert_eq!((at_signal[RESULT] as i64, at_signal[15]), (-512, libc::SYS_read as u64));
    } else {
        assert_eq!(at_signal[0], reader as u64);
    }
    go(SYSCALL, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    let (operation, _, rest, _) = call_info(child);
    assert_eq!((operation, rest[2] as i64, rest[3]), (1, libc::SYS_read, reader as u64));
    sys::write(writer, b"x").expect("write");
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}
