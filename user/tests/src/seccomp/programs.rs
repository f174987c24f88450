//! Which calls and programs are refused, and what a program sees.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    ALLOW, ARCHITECTURE, ERRNO, GET_ACTION_AVAIL, Instruction, KILL_PROCESS, KILL_THREAD, LOG, LOGGED, Program,
    SET_MODE_FILTER, SET_MODE_STRICT, SPEC_ALLOW, TRACE, TRAP, VICTIM, filter, install, jump, load, mode, renounce,
    returns, seccomp, set_mode, statement, victim,
};
use crate::{
    sys::{self, fork, in_child, wait_killed},
    syscall,
};

crate::tests! { "seccomp":
    calls_are_checked;
    programs_are_checked;
    a_right_or_a_renunciation_is_needed;
    what_a_filter_sees;
    all_together_are_limited;
    a_division_by_zero_ends;
}

fn calls_are_checked() {
    for (operation, flags, argument) in [
        (4, 0, 0),
        (u32::MAX, 0, 0),
        (SET_MODE_STRICT, 1, 0),
        (SET_MODE_STRICT, 0, 1),
    ] {
        assert_eq!(
            seccomp(operation, flags, argument),
            Err(libc::EINVAL),
            "{operation} {flags}"
        );
    }
    for flags in [64, 1 << 31] {
        assert_eq!(filter(flags, VICTIM, ALLOW), Err(libc::EINVAL), "{flags}");
    }
    let available = |action: u32, flags: u32| seccomp(GET_ACTION_AVAIL, flags, &raw const action as usize);
    for action in [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOGGED, ALLOW] {
        assert_eq!(available(action, 0), Ok(0), "{action:#x}");
        assert_eq!(available(action | 1, 0), Err(libc::EOPNOTSUPP), "{action:#x}");
    }
    assert_eq!(available(0x7fff_ffff, 0), Err(libc::EOPNOTSUPP));
    assert_eq!(available(ALLOW, 1), Err(libc::EINVAL));
    assert_eq!(seccomp(GET_ACTION_AVAIL, 0, 8), Err(libc::EFAULT));
    assert_eq!(seccomp(SET_MODE_FILTER, 0, 0), Err(libc::EFAULT));
    assert_eq!(seccomp(SET_MODE_FILTER, 0, 8), Err(libc::EFAULT));
    for mode in [0, 3, u64::MAX] {
        assert_eq!(set_mode(mode, 0), Err(libc::EINVAL));
    }
    assert_eq!(set_mode(2, 8), Err(libc::EFAULT));
    assert_eq!(mode(), Ok(0));
    let program = Program {
        length: 1,
        instructions: std::ptr::without_provenance(8),
    };
    assert_eq!(
        seccomp(SET_MODE_FILTER, 0, &raw const program as usize),
        Err(libc::EFAULT)
    );
}

fn programs_are_checked() {
    let refused = |instructions: &[Instruction]| {
        in_child(|| assert_eq!(install(0, instructions), Err(libc::EINVAL)));
    };
    let accepted = |instructions: &[Instruction]| {
        in_child(|| assert_eq!(install(0, instructions), Ok(0)));
    };
    let end = returns(ALLOW);
    refused(&[]);
    refused(&[load(0)]);
    refused(&vec![end; 4097]);
    accepted(&vec![end; 4096]);
    for bad in [
        load(64),
        load(2),
        load(0xffff_f000),
        // Half-words, bytes, by X, lengths of headers.
        statement(0x28, 0),
        statement(0x30, 0),
        statement(0x40, 0),
        statement(0xb1, 0),
        // Division by nothing, modulo, shifts too far, unknown ones.
        statement(0x34, 0),
        statement(0x94, 3),
        statement(0x64, 32),
        statement(0x74, 32),
        statement(0xf4, 0),
        statement(0x0104, 0),
        statement(0x0e, 0),
        // Memory.
        statement(0x02, 16),
        statement(0x60, 0),
        // Jumps.
        statement(0x05, 1),
        statement(0x05, u32::MAX),
        jump(0x15, 0, 1, 0),
        jump(0x25, 0, 0, 1),
    ] {
        refused(&[bad, end]);
    }
    for good in [
        load(60),
        statement(0x80, 0),
        statement(0x81, 0),
        statement(0x34, 1),
        statement(0x64, 31),
        statement(0x02, 15),
        statement(0x03, 15),
        statement(0x05, 0),
        jump(0x4d, 0, 0, 0),
        statement(0x07, 0),
        statement(0x87, 0),
        statement(0x84, 0),
    ] {
        accepted(&[good, end]);
    }
    // Divided by X, which is zero at first.
    accepted(&[statement(0x01, 1), statement(0x3c, 0), end]);
    // One of two ways to the read does not write.
    refused(&[jump(0x15, 0, 0, 1), statement(0x02, 3), statement(0x60, 3), end]);
    accepted(&[
        statement(0x02, 3),
        jump(0x15, 0, 0, 1),
        statement(0x02, 3),
        statement(0x60, 3),
        end,
    ]);
}

fn a_right_or_a_renunciation_is_needed() {
    in_child(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        assert_eq!(filter(0, VICTIM, ALLOW), Err(libc::EACCES));
        // What has no length is told so first.
        assert_eq!(install(0, &[]), Err(libc::EINVAL));
        // What is wrong is not even looked at.
        assert_eq!(install(0, &[load(2)]), Err(libc::EACCES));
        renounce();
        assert_eq!(filter(0, VICTIM, ALLOW), Ok(0));
    });
    in_child(|| assert_eq!(filter(LOG | SPEC_ALLOW, VICTIM, ALLOW), Ok(0)));
}

/// What a filter finds in one word of what it sees, for a call with these arguments: the low and the high half.
fn seen(at: u32, arguments: [usize; 6]) -> u32 {
    let counters = sys::shared_counters(1);
    in_child(|| {
        let half = |high: bool| {
            let shift = if high { vec![statement(0x74, 16)] } else { vec![] };
            let mut instructions = vec![
                load(0),
                jump(0x15, 9_000 + u32::from(high), 1, 0),
                returns(ALLOW),
                load(at),
            ];
            instructions.extend(shift);
            // Shown by parts, since an error has but twelve bits.
            instructions.extend([statement(0x54, 0xfff), statement(0x44, ERRNO), statement(0x16, 0)]);
            install(0, &instructions).expect("seccomp");
        };
        half(false);
        half(true);
        let low = sys::call(9_000, &arguments).err().unwrap_or(0) as u32;
        let high = sys::call(9_001, &arguments).err().unwrap_or(0) as u32;
        counters[0].store(u64::from(high << 16 | low), Relaxed);
    });
    counters[0].load(Relaxed) as u32
}

fn what_a_filter_sees() {
    // By parts: bits 0 to 11 and 16 to 27.
    const SHOWN: u32 = 0x0fff_0fff;
    let arguments: [usize; 6] = std::array::from_fn(|i| 0x0123_0abc_0456_0def_usize + i * 0x1_0001);
    assert_eq!(seen(4, arguments), ARCHITECTURE & SHOWN);
    for (i, argument) in arguments.iter().enumerate() {
        let at = 16 + 8 * i as u32;
        assert_eq!(seen(at, arguments), *argument as u32 & SHOWN, "{i}");
        assert_eq!(seen(at + 4, arguments), (*argument >> 32) as u32 & SHOWN, "{i}");
    }
    assert_ne!(seen(8, arguments), 0);
}

fn all_together_are_limited() {
    in_child(|| {
        let long = vec![returns(ALLOW); 4096];
        let mut count = 0;
        let refused = loop {
            match install(0, &long) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, libc::ENOMEM);
        // Linux counts what it has translated the instructions to, which is more.
        assert!((3..=7).contains(&count), "{count} of 4096 instructions each");
        assert_eq!(filter(0, VICTIM, ERRNO | 9), Ok(0), "a short one still fits");
        assert_eq!(victim(), Err(9));
    });
}

fn a_division_by_zero_ends() {
    let child = fork(|| {
        install(
            0,
            &[
                load(0),
                jump(0x15, VICTIM as u32, 1, 0),
                returns(ALLOW),
                statement(0x01, 0),
                statement(0x3c, 0),
                returns(ALLOW),
            ],
        )
        .expect("seccomp");
        let _none = victim();
        1
    });
    assert_eq!(wait_killed(child), libc::SIGSYS);
}
