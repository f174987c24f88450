//! Filters of system calls.

pub mod actions;
pub mod inheriting;
pub mod listeners;
pub mod programs;

use crate::{sys::Sys, syscall};

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const TSYNC: u32 = 1;
pub(crate) const LOG: u32 = 2;
const SPEC_ALLOW: u32 = 4;
const NEW_LISTENER: u32 = 8;
const TSYNC_ESRCH: u32 = 16;
const WAIT_KILLABLE: u32 = 32;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
pub(crate) const TRACE: u32 = 0x7ff0_0000;
const LOGGED: u32 = 0x7ffc_0000;
pub(crate) const ALLOW: u32 = 0x7fff_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// A call that nobody needs here.
pub(crate) const VICTIM: i64 = libc::SYS_getpgid;

#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

const fn statement(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        k,
    }
}

/// Loads a word of what a filter sees: the number at 0, the architecture at 4, the address at 8, arguments from 16 on.
const fn load(at: u32) -> Instruction {
    statement(0x20, at)
}

const fn returns(value: u32) -> Instruction {
    statement(0x06, value)
}

fn seccomp(operation: u32, flags: u32, argument: usize) -> Sys {
    syscall!(SYS_seccomp, operation, flags, argument)
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

fn install(flags: u32, instructions: &[Instruction]) -> Sys {
    let program = Program {
        length: instructions.len() as u16,
        instructions: instructions.as_ptr(),
    };
    seccomp(SET_MODE_FILTER, flags, &raw const program as usize)
}

/// Has calls of one number end as `value` says, others be made.
pub(crate) fn filter(flags: u32, number: i64, value: u32) -> Sys {
    install(
        flags,
        &[load(0), jump(0x15, number as u32, 0, 1), returns(value), returns(ALLOW)],
    )
}

pub(crate) fn victim() -> Sys {
    syscall!(SYS_getpgid, 0)
}

fn renounce() {
    syscall!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).expect("PR_SET_NO_NEW_PRIVS");
}

fn mode() -> Sys {
    syscall!(SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0)
}

fn set_mode(mode: u64, argument: usize) -> Sys {
    syscall!(SYS_prctl, libc::PR_SET_SECCOMP, mode, argument, 0, 0)
}
