//! Another process's memory: `process_vm_readv(2)` and `process_vm_writev(2)`.

use crate::{
    sys::{self, Sys, fork, kill, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "process_vm":
    a_child_is_read_and_written;
    runs_need_not_match;
    what_cannot_be_accessed_ends_it;
    calls_are_checked;
    strangers_are_refused;
    much_is_copied;
}

type Run = [usize; 2];

fn run(bytes: &[u8]) -> Run {
    [bytes.as_ptr() as usize, bytes.len()]
}

/// To be written to.
fn room(bytes: &mut [u8]) -> Run {
    [bytes.as_mut_ptr() as usize, bytes.len()]
}

fn read(pid: i32, own: &[Run], other: &[Run]) -> Sys {
    syscall!(
        SYS_process_vm_readv,
        pid,
        own.as_ptr(),
        own.len(),
        other.as_ptr(),
        other.len(),
        0
    )
}

fn write(pid: i32, own: &[Run], other: &[Run]) -> Sys {
    syscall!(
        SYS_process_vm_writev,
        pid,
        own.as_ptr(),
        own.len(),
        other.as_ptr(),
        other.len(),
        0
    )
}

/// A child with what its parent has, that waits.
fn sleeper() -> i32 {
    fork(|| {
        loop {
            sys::sleep_ms(1000);
        }
    })
}

fn end(child: i32) {
    kill(child, libc::SIGKILL).expect("kill");
    wait_killed(child);
}

fn a_child_is_read_and_written() {
    let memory = sys::memory(4096);
    sys::poke(memory, 1);
    let flag = sys::shared(4096);
    let child = fork(|| {
        sys::poke(memory, 2);
        sys::poke(flag, 1);
        while sys::peek(memory) != 3 {
            sys::sleep_ms(1);
        }
        0
    });
    while sys::peek(flag) == 0 {
        sys::sleep_ms(1);
    }
    let mut byte = [0];
    assert_eq!(read(child, &[room(&mut byte)], &[[memory, 1]]), Ok(1));
    assert_eq!((byte, sys::peek(memory)), ([2], 1), "the child's own copy");
    assert_eq!(write(child, &[run(&[3])], &[[memory, 1]]), Ok(1));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(sys::peek(memory), 1);
}

fn runs_need_not_match() {
    let text = b"one run there, three runs here".to_vec();
    let child = sleeper();
    let (mut a, mut b, mut c) = ([0; 3], [0; 20], [0; 20]);
    let own = [room(&mut a), room(&mut []), room(&mut b), room(&mut c)];
    assert_eq!(read(child, &own, &[run(&text)]), Ok(30));
    assert_eq!([a.as_slice(), &b, &c[..7]].concat(), text);
    let other = [run(&text[..2]), run(&text[3..])];
    assert_eq!(read(child, &[room(&mut a)], &other), Ok(3), "as much as fits");
    assert_eq!(&a, b"on ");
    end(child);
}

fn what_cannot_be_accessed_ends_it() {
    let memory = sys::memory(3 * 4096);
    assert_eq!(syscall!(SYS_mprotect, memory + 4096, 4096, libc::PROT_NONE), Ok(0));
    assert_eq!(syscall!(SYS_mprotect, memory + 8192, 4096, libc::PROT_READ), Ok(0));
    let mut own = vec![0u8; 3 * 4096];
    let child = sleeper();
    let at = own.as_mut_ptr() as usize;
    assert_eq!(read(child, &[[at, 3 * 4096]], &[[memory, 3 * 4096]]), Ok(4096));
    assert_eq!(read(child, &[[at, 4096]], &[[memory + 4096, 4096]]), Err(libc::EFAULT));
    assert_eq!(
        read(child, &[[at, 8192]], &[[memory + 8192, 4096], [memory + 4096, 4096]]),
        Ok(4096)
    );
    assert_eq!(
        write(child, &[[at, 4096]], &[[memory + 8192, 4096]]),
        Err(libc::EFAULT),
        "read only"
    );
    assert_eq!(write(child, &[[at, 4096]], &[[memory, 4096]]), Ok(4096));
    assert_eq!(
        read(child, &[[memory, 8192]], &[[at, 8192]]),
        Ok(4096),
        "the caller's own counts as well"
    );
    assert_eq!(read(child, &[[at, 1]], &[[8, 1]]), Err(libc::EFAULT));
    end(child);
}

fn calls_are_checked() {
    let own = std::process::id() as i32;
    let (from, mut to) = ([7u8; 4], [0u8; 4]);
    assert_eq!(read(own, &[room(&mut to)], &[run(&from)]), Ok(4), "of oneself");
    assert_eq!(to, [7; 4]);
    let flags = syscall!(SYS_process_vm_readv, own, 0, 0, 0, 0, 1);
    assert_eq!(flags, Err(libc::EINVAL));
    assert_eq!(read(-1, &[], &[]), Ok(0), "nothing to do comes first");
    assert_eq!(read(own, &[run(&to)], &[]), Ok(0));
    assert_eq!(read(i32::MAX, &[run(&to)], &[run(&from)]), Err(libc::ESRCH));
    assert_eq!(read(own, &vec![run(&to); 1025], &[run(&from)]), Err(libc::EINVAL));
    assert_eq!(read(own, &[run(&to)], &vec![run(&from); 1025]), Err(libc::EINVAL));
    let nowhere = syscall!(SYS_process_vm_readv, own, 8, 1, 8, 1, 0);
    assert_eq!(nowhere, Err(libc::EFAULT));
    let child = fork(|| 0);
    while !std::fs::read_to_string(format!("/proc/{child}/stat"))
        .expect("stat")
        .contains(") Z ")
    {
        sys::sleep_ms(1);
    }
    assert_eq!(
        read(child, &[run(&to)], &[run(&from)]),
        Err(libc::ESRCH),
        "its memory is gone"
    );
    assert_eq!(wait_exit(child), 0);
}

fn strangers_are_refused() {
    let mut byte = [0];
    let at = room(&mut byte);
    let target = std::process::id() as i32;
    let child = fork(|| {
        assert_eq!(syscall!(SYS_setresuid, 1000, 1000, 1000), Ok(0));
        assert_eq!(read(target, &[at], &[at]), Err(libc::EPERM));
        assert_eq!(write(target, &[at], &[at]), Err(libc::EPERM));
        0
    });
    assert_eq!(wait_exit(child), 0);
}

fn much_is_copied() {
    const LENGTH: usize = 1 << 20;
    let pattern: Vec<u8> = (0..LENGTH).map(|at| ((at * 31) >> 3) as u8).collect();
    let child = sleeper();
    let mut copy = vec![0; LENGTH + 3];
    assert_eq!(read(child, &[room(&mut copy[3..])], &[run(&pattern)]), Ok(LENGTH));
    assert!(copy[3..] == pattern[..]);
    end(child);
}
