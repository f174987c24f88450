//! Alternate signal stacks: none while a handler runs on them (`SS_AUTODISARM`), and what they are there for.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst},
};

use crate::{
    arch,
    sys::{self, fork, handle, kill, wait_exit},
    syscall,
};

const SIZE: usize = 65536;
/// `SS_AUTODISARM` (`linux/signal.h`).
const DISARMS: u32 = 1 << 31;

crate::tests! { "alternate":
    a_stack_is_disarmed_while_it_is_used;
    a_disarmed_stack_is_used_again;
    flags_are_checked;
    a_return_without_a_frame_says_where;
}

static FLAGS: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];
static PLACES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static OTHER: AtomicUsize = AtomicUsize::new(0);
static CHANGED: AtomicI32 = AtomicI32::new(-1);

fn own() -> i32 {
    std::process::id() as i32
}

/// Base, flags and bytes of the alternate stack.
fn stack() -> [usize; 3] {
    let mut stack = [0; 3];
    syscall!(SYS_sigaltstack, 0, stack.as_mut_ptr()).expect("sigaltstack");
    stack[1] &= 0xffff_ffff;
    stack
}

fn set(base: usize, flags: u32) -> Result<usize, i32> {
    let description = [base, flags as usize, SIZE];
    syscall!(SYS_sigaltstack, description.as_ptr(), 0)
}

extern "C" fn looks(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    let local = 0_u8;
    PLACES[0].store(std::hint::black_box(&raw const local).addr(), SeqCst);
    FLAGS[0].store(stack()[1] as i32, SeqCst);
    // SAFETY: the kernel hands a handler its context.
    let saved = unsafe { (*context.cast::<libc::ucontext_t>()).uc_stack.ss_flags };
    FLAGS[1].store(saved, SeqCst);
    CHANGED.store(set(OTHER.load(SeqCst), 0).err().unwrap_or(0), SeqCst);
}

fn a_stack_is_disarmed_while_it_is_used() {
    let (base, other) = (sys::memory(SIZE), sys::memory(SIZE));
    OTHER.store(other, SeqCst);
    set(base, DISARMS).expect("sigaltstack");
    assert_eq!(stack(), [base, DISARMS as usize, SIZE]);
    handle(libc::SIGUSR1, libc::SA_ONSTACK, &[], looks);
    kill(own(), libc::SIGUSR1).expect("kill");
    assert!((base..base + SIZE).contains(&PLACES[0].load(SeqCst)));
    assert_eq!(FLAGS[0].load(SeqCst), libc::SS_DISABLE, "there is none");
    assert_eq!(FLAGS[1].load(SeqCst) as u32, DISARMS, "what is set again");
    assert_eq!(CHANGED.load(SeqCst), 0, "another may be set meanwhile");
    assert_eq!(stack(), [base, DISARMS as usize, SIZE], "the return sets it again");
}

extern "C" fn inner(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    let local = 0_u8;
    PLACES[1].store(std::hint::black_box(&raw const local).addr(), SeqCst);
}

extern "C" fn outer(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    let _ = set(OTHER.load(SeqCst), DISARMS);
    let _ = kill(own(), libc::SIGUSR2);
}

fn a_disarmed_stack_is_used_again() {
    let (base, other) = (sys::memory(SIZE), sys::memory(SIZE));
    OTHER.store(other, SeqCst);
    set(base, DISARMS | libc::SS_ONSTACK as u32).expect("sigaltstack");
    handle(libc::SIGUSR1, libc::SA_ONSTACK, &[], outer);
    handle(libc::SIGUSR2, libc::SA_ONSTACK, &[], inner);
    kill(own(), libc::SIGUSR1).expect("kill");
    assert!(
        (other..other + SIZE).contains(&PLACES[1].load(SeqCst)),
        "from one to the other"
    );
    assert_eq!(stack()[0], base);
}

fn flags_are_checked() {
    let base = sys::memory(SIZE);
    assert_eq!(set(base, 4), Err(libc::EINVAL));
    assert_eq!(set(base, DISARMS | 4), Err(libc::EINVAL));
    assert_eq!(set(base, DISARMS | libc::SS_DISABLE as u32), Ok(0));
    assert_eq!(stack()[1] as i32 & libc::SS_DISABLE, libc::SS_DISABLE);
    assert_eq!(stack()[2], 0);
}

extern "C" fn look_where(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands a handler its signal.
    let said = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // SAFETY: ends the process.
    unsafe { libc::_exit(i32::from(said != arch::NOWHERE)) }
}

fn a_return_without_a_frame_says_where() {
    let child = fork(|| {
        set(sys::memory(SIZE), 0).expect("sigaltstack");
        handle(libc::SIGSEGV, libc::SA_ONSTACK, &[], look_where);
        arch::sigreturn_from_nowhere()
    });
    assert_eq!(wait_exit(child), 0);
}
