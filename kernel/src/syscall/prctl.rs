//! What a process asks for itself: `prctl`, `personality`, `arch_prctl`.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use hal::{
    arch::{Cpu, PageTable},
    traits::{CpuOps, InterruptFrame, PageTableOps},
};
use linux_raw_sys::prctl::{
    PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_CAPBSET_READ, PR_GET_CHILD_SUBREAPER, PR_GET_DUMPABLE, PR_GET_KEEPCAPS,
    PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_GET_PDEATHSIG, PR_GET_SECCOMP, PR_GET_SECUREBITS, PR_GET_TIMERSLACK,
    PR_GET_TIMING, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_SECUREBITS, PR_SET_TIMERSLACK, PR_SET_TIMING, PR_TIMING_STATISTICAL,
};

use super::{capabilities, identity, seccomp};
use crate::{
    errno::{Errno, Result},
    task::{Thread, capabilities::SecureBits},
};

/// `prctl(2)`, the common part.
///
/// # Errors
/// `EINVAL` for operations that are not there, `EFAULT`.
pub async fn prctl(t: &Thread, operation: u32, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
    const DEFAULT_TIMER_SLACK: u64 = 50_000;
    let process = t.process();
    let unused_are_zero = b == 0 && c == 0 && d == 0;
    match operation {
        PR_SET_NAME => {
            let mut name = [0; 16];
            read_short_string(t, a, &mut name[..15]).await?;
            t.set_comm(&name);
            Ok(0)
        }
        PR_GET_NAME => {
            t.mm().write_bytes(a, &t.comm()).await?;
            Ok(0)
        }
        PR_SET_PDEATHSIG => {
            let signo = i32::try_from(a)
                .ok()
                .filter(|signo| (0..=64).contains(signo))
                .ok_or(Errno::EINVAL)?;
            process.parent_death_signal.store(signo, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            t.mm()
                .write(a, &process.parent_death_signal.load(Ordering::Relaxed))
                .await?;
            Ok(0)
        }
        PR_SET_DUMPABLE => {
            process.dumpable.store(i32::from(small_flag(a)?), Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_DUMPABLE => Ok(process.dumpable.load(Ordering::Relaxed) as u64),
        PR_SET_NO_NEW_PRIVS if a == 1 && unused_are_zero => identity::change(t, |credentials| {
            credentials.no_new_privileges = true;
            Ok(())
        }),
        PR_GET_NO_NEW_PRIVS if a == 0 && unused_are_zero => Ok(u64::from(t.credentials().no_new_privileges)),
        PR_SET_CHILD_SUBREAPER => {
            process.set_subreaper(a != 0);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            t.mm().write(a, &i32::from(process.is_subreaper())).await?;
            Ok(0)
        }
        PR_SET_KEEPCAPS => capabilities::keep(t, small_flag(a)?),
        PR_GET_KEEPCAPS => Ok(u64::from(capabilities::secure_bits(t).contains(SecureBits::KEEP_CAPS))),
        PR_GET_SECUREBITS => Ok(u64::from(capabilities::secure_bits(t).bits())),
        PR_SET_SECUREBITS => capabilities::set_secure_bits(t, a),
        PR_CAPBSET_READ => capabilities::is_bounding(t, a),
        PR_CAPBSET_DROP => capabilities::drop_bounding(t, a),
        PR_CAP_AMBIENT => capabilities::ambient(t, [a, b, c, d]),
        PR_GET_SECCOMP => Ok(seccomp::mode(t)),
        PR_SET_SECCOMP => Box::pin(seccomp::set_mode(t, a, b)).await,
        PR_GET_TIMING => Ok(u64::from(PR_TIMING_STATISTICAL)),
        // There is no other, on Linux either.
        PR_SET_TIMING if a == u64::from(PR_TIMING_STATISTICAL) => Ok(0),
        PR_SET_TIMERSLACK => Ok(0),
        PR_GET_TIMERSLACK => Ok(DEFAULT_TIMER_SLACK),
        _ => Err(Errno::EINVAL),
    }
}

fn small_flag(value: u64) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// Reads up to `out.len()` bytes of a string, stopping at its zero.
async fn read_short_string(t: &Thread, address: u64, out: &mut [u8]) -> Result<()> {
    let mm = t.mm();
    for (offset, byte) in out.iter_mut().enumerate() {
        *byte = mm.read::<u8>(address.wrapping_add(offset as u64)).await?;
        if *byte == 0 {
            break;
        }
    }
    Ok(())
}

/// `personality(2)`: only the default execution domain and its flags.
///
/// # Errors
/// None.
pub fn personality(t: &Thread, persona: u32) -> Result<u64> {
    const QUERY: u32 = u32::MAX;
    let stored = &t.process().personality;
    let old = if persona == QUERY {
        stored.load(Ordering::Relaxed)
    } else {
        stored.swap(persona, Ordering::Relaxed)
    };
    Ok(u64::from(old))
}

/// `arch_prctl(2)`: the FS and GS base of x86_64.
///
/// # Errors
/// `EINVAL` for operations that are not there, `EPERM` for an address outside user space, `EFAULT`.
pub async fn arch_prctl(
    t: &Thread,
    context: &mut <Cpu as CpuOps>::UserContext,
    operation: u32,
    address: u64,
) -> Result<u64> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    let is_user = address < PageTable::USER_END;
    match operation {
        SET_FS | SET_GS if !is_user => Err(Errno::EPERM),
        SET_FS => {
            context.set_thread_pointer(address);
            Ok(0)
        }
        GET_FS => {
            t.mm().write(address, &context.thread_pointer()).await?;
            Ok(0)
        }
        SET_GS => {
            if context.set_gs_base(address) {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        GET_GS => {
            let base = context.gs_base().ok_or(Errno::EINVAL)?;
            t.mm().write(address, &base).await?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
