//! What a tracer reads and changes: memory, registers, masks of signals.

use std::{fs, os::unix::fs::FileExt, ptr, sync::atomic::Ordering::SeqCst};

#[cfg(target_arch = "x86_64")]
use super::PC;
use super::{
    CONT, GENERAL, GETREGSET, GETSIGMASK, KEPT, PEEK, PEEKSIGINFO, SETSIGINFO, SETSIGMASK, WORD, WORDS, go, info,
    landmark, landmark_address, peek, poke, ptrace, raw_pid, register_set, registers, set_register_set, set_registers,
    stop_here, traced, wait_stopped, word,
};
use crate::{
    sys::{self, kill, wait_exit},
    syscall,
};

crate::tests! { "ptraces":
    memory_is_read_and_written;
    text_is_written_to_although_it_is_read_only;
    registers_are_read_and_set;
    signals_are_changed_and_masks_read;
    the_status_file_tells;
    memory_is_a_file;
}

fn memory_is_read_and_written() {
    let hidden = sys::memory(8192);
    // SAFETY: it is ours.
    unsafe { ptr::write(hidden as *mut u64, 99) };
    syscall!(SYS_mprotect, hidden, 8192, libc::PROT_NONE).expect("mprotect");
    let hole = sys::memory(1 << 20);
    let shared = sys::mmap(0, 4096, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_ANONYMOUS).expect("mmap");
    syscall!(SYS_munmap, hole, 1 << 20).expect("munmap");
    WORD.store(11, SeqCst);
    let child = traced(|| i32::from(WORD.load(SeqCst) != 12));
    assert_eq!(peek(child, word()), Ok(11));
    assert_eq!(poke(child, word(), 12), Ok(0));
    assert_eq!(peek(child, word()), Ok(12));
    assert_eq!(peek(child, word() + 3).map(|word| word >> 40), Ok(0));
    assert_eq!(WORD.load(SeqCst), 11, "the tracer's own");
    // Protection does not hide anything from a tracer.
    assert_eq!(peek(child, hidden), Ok(99));
    assert_eq!(peek(child, hidden + 4096), Ok(0));
    assert_eq!(poke(child, hidden, 98), Ok(0));
    assert_eq!(poke(child, hidden + 4096, 97), Ok(0));
    assert_eq!((peek(child, hidden), peek(child, hidden + 4096)), (Ok(98), Ok(97)));
    assert_eq!(peek(child, hole), Err(libc::EIO));
    assert_eq!(poke(child, hole, 1), Err(libc::EIO));
    assert_eq!(poke(child, shared, 1), Err(libc::EIO));
    assert_eq!(peek(child, usize::MAX - 3), Err(libc::EIO));
    assert_eq!(ptrace(PEEK, child, word(), 8), Err(libc::EFAULT));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn text_is_written_to_although_it_is_read_only() {
    let child = traced(|| i32::from(landmark(3) != 4));
    let at = landmark_address();
    let code = peek(child, at).expect("peek");
    assert_eq!(poke(child, at, !code), Ok(0));
    assert_eq!(peek(child, at), Ok(!code));
    // SAFETY: the function's own code.
    assert_eq!(unsafe { ptr::read_unaligned(at as *const u64) }, code);
    assert_eq!(poke(child, at, code), Ok(0));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn registers_are_read_and_set() {
    let child = traced(|| 3);
    let first = registers(child);
    let mut changed = first;
    changed[KEPT] = 0x1234_5678_9abc_def0;
    set_registers(child, changed);
    assert_eq!(registers(child), changed);
    set_registers(child, first);
    let mut words = [0u64; 64];
    // In part, of what there is not, and of no whole number of registers.
    let mut vector = [words.as_mut_ptr() as usize, 16];
    assert_eq!(ptrace(GETREGSET, child, GENERAL, vector.as_mut_ptr() as usize), Ok(0));
    assert_eq!((vector[1], words[0], words[1], words[2]), (16, first[0], first[1], 0));
    assert_eq!(register_set(child, 0x9999, &mut words), Err(libc::EINVAL));
    vector[1] = 12;
    assert_eq!(
        ptrace(GETREGSET, child, GENERAL, vector.as_mut_ptr() as usize),
        Err(libc::EINVAL)
    );
    vector[1] = 4096;
    assert_eq!(ptrace(GETREGSET, child, GENERAL, vector.as_mut_ptr() as usize), Ok(0));
    assert_eq!(vector[1], WORDS * 8);
    let mut fp = [0u64; 66];
    let length = register_set(child, 2, &mut fp).expect("FP registers");
    assert_eq!(length, if cfg!(target_arch = "x86_64") { 512 } else { 528 });
    fp[20] ^= 0xff;
    let there = fp;
    assert_eq!(set_register_set(child, 2, &mut fp, length), Ok(0));
    fp = [0; 66];
    register_set(child, 2, &mut fp).expect("FP registers");
    assert_eq!(fp[..length / 8], there[..length / 8]);
    #[cfg(target_arch = "x86_64")]
    {
        let mut whole = [0u64; 1024];
        let length = register_set(child, 0x202, &mut whole).expect("XSAVE area");
        assert!(length >= 576);
        assert_eq!(whole[20], fp[20]);
        assert_eq!(whole[64] & !whole[58], 0, "components are among those there are");
        whole[21] = 42;
        assert_eq!(set_register_set(child, 0x202, &mut whole, length), Ok(0));
        assert_eq!(set_register_set(child, 0x202, &mut whole, 512), Err(libc::EFAULT));
        register_set(child, 2, &mut fp).expect("FP registers");
        assert_eq!(fp[21], 42);
        let mut user = [0u64; 27];
        assert_eq!(ptrace(12, child, 0, user.as_mut_ptr() as usize), Ok(0));
        assert_eq!(user, first);
        let mut value = 0u64;
        assert_eq!(ptrace(3, child, PC * 8, &raw mut value as usize), Ok(0));
        assert_eq!(value, first[PC]);
        assert_eq!(ptrace(6, child, KEPT * 8, 55), Ok(0));
        assert_eq!(registers(child)[KEPT], 55);
        assert_eq!(ptrace(6, child, KEPT * 8, first[KEPT] as usize), Ok(0));
        assert_eq!(ptrace(3, child, 4, &raw mut value as usize), Err(libc::EIO));
        assert_eq!(ptrace(3, child, 4096, &raw mut value as usize), Err(libc::EIO));
        let mut bad = first;
        bad[17] = 0x10;
        assert_eq!(set_register_set(child, GENERAL, &mut bad, WORDS * 8), Err(libc::EIO));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut tls = [0u64];
        assert_eq!(register_set(child, 0x401, &mut tls), Ok(8));
        assert_ne!(tls[0], 0);
        let mut bad = first;
        bad[33] |= 5;
        assert_eq!(set_register_set(child, GENERAL, &mut bad, WORDS * 8), Err(libc::EINVAL));
    }
    set_registers(child, first);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 3);
}

fn signals_are_changed_and_masks_read() {
    let child = traced(|| {
        sys::mask(libc::SIG_SETMASK, &[libc::SIGUSR1, libc::SIGUSR2]);
        kill(raw_pid(), libc::SIGUSR1).expect("kill");
        stop_here();
        0
    });
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    let mut mask = 0u64;
    assert_eq!(ptrace(GETSIGMASK, child, 8, &raw mut mask as usize), Ok(0));
    assert_eq!(mask, 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGUSR2 - 1));
    assert_eq!(ptrace(GETSIGMASK, child, 4, &raw mut mask as usize), Err(libc::EINVAL));
    let mut infos = [[0i32; 32]; 3];
    let mut arguments = [0u64, 3 << 32 | 1];
    let count = ptrace(
        PEEKSIGINFO,
        child,
        arguments.as_mut_ptr() as usize,
        infos.as_mut_ptr() as usize,
    );
    assert_eq!((count, infos[0][0], infos[0][4]), (Ok(1), libc::SIGUSR1, child));
    // It waits where it is blocked.
    let mut own = info(child).expect("siginfo");
    own[2] = -77;
    assert_eq!(ptrace(SETSIGINFO, child, 0, own.as_mut_ptr() as usize), Ok(0));
    assert_eq!(info(child).map(|info| info[2]), Ok(-77));
    mask = 0;
    assert_eq!(ptrace(SETSIGMASK, child, 8, &raw mut mask as usize), Ok(0));
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGUSR1, 0);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn status_line(tid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{tid}/status")).expect("status");
    let line = text.lines().find(|line| line.starts_with(name)).expect("line");
    line[name.len()..].trim().to_string()
}

fn the_status_file_tells() {
    let child = traced(|| 0);
    assert_eq!(status_line(child, "State:"), "t (tracing stop)");
    assert_eq!(status_line(child, "TracerPid:"), raw_pid().to_string());
    assert_eq!(status_line(raw_pid(), "TracerPid:"), "0");
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn memory_is_a_file() {
    let child = traced(|| i32::from(WORD.load(SeqCst) != 21 || landmark(1) != 2));
    let mut options = fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .open(format!("/proc/{child}/mem"))
        .expect("open");
    file.write_all_at(&21u64.to_ne_bytes(), word() as u64).expect("write");
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, word() as u64).expect("read");
    assert_eq!(u64::from_ne_bytes(bytes), 21);
    file.read_exact_at(&mut bytes, landmark_address() as u64).expect("read");
    file.write_all_at(&bytes, landmark_address() as u64).expect("write");
    assert_eq!(
        file.read_at(&mut bytes, 8).map_err(|e| e.raw_os_error()),
        Err(Some(libc::EIO))
    );
    assert_eq!(
        file.write_at(&bytes, 8).map_err(|e| e.raw_os_error()),
        Err(Some(libc::EIO))
    );
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
    assert_eq!(
        file.read_at(&mut bytes, word() as u64).map_err(|e| e.raw_os_error()),
        Ok(0)
    );
}
