//! Scheduling policies and their priorities.

use alloc::sync::Arc;

use hal::PAGE_SIZE;
use linux_raw_sys::general::{
    SCHED_BATCH, SCHED_DEADLINE, SCHED_FIFO, SCHED_FLAG_ALL, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_KEEP_POLICY,
    SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_UTIL_CLAMP, SCHED_IDLE, SCHED_NORMAL, SCHED_RESET_ON_FORK, SCHED_RR,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    sched::{SLICE, may_change, target},
    types::Timespec,
};
use crate::{
    errno::{Errno, Result},
    task::{
        Capability, Thread,
        limits::Resource,
        schedule::{self, Policy},
    },
};

/// `struct sched_attr` (`linux/sched/types.h`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// `SCHED_DEADLINE`'s, in nanoseconds: runtime, deadline, period.
    deadline: [u64; 3],
    /// Least and most utilisation.
    clamps: [u32; 2],
}

/// The size of its first version, without `clamps`.
const FIRST_SIZE: u32 = 48;
const SIZE: u32 = size_of::<Attributes>() as u32;

/// What `policy` is where the thread's own is to stay (`SETPARAM_POLICY`).
const KEEP: i32 = -1;

/// Gives a thread what `wanted` says, as far as the caller may.
fn change(t: &Thread, other: &Thread, wanted: &Attributes) -> Result<u64> {
    let old = other.policy.get();
    let old_nice = other.nice();
    let keeps = wanted.policy.cast_signed() == KEEP;
    let new = Policy {
        number: if keeps { old.number } else { wanted.policy },
        priority: wanted.priority,
        reset_on_fork: if keeps {
            old.reset_on_fork
        } else {
            wanted.flags & u64::from(SCHED_FLAG_RESET_ON_FORK) != 0
        },
    };
    if !matches!(
        new.number,
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_FIFO | SCHED_RR
    ) || wanted.flags & !u64::from(SCHED_FLAG_ALL) != 0
        || wanted.priority > 99
        || new.is_real_time() != (wanted.priority != 0)
    {
        return Err(Errno::EINVAL);
    }
    if !(t.credentials().can(Capability::SysNice) || is_allowed(t, other, new, wanted.nice)) {
        return Err(Errno::EPERM);
    }
    if wanted.flags & u64::from(SCHED_FLAG_UTIL_CLAMP) != 0 {
        // As without `CONFIG_UCLAMP_TASK`.
        return Err(Errno::EOPNOTSUPP);
    }
    let has_nice = takes_nice(new.number);
    if new == old && (!has_nice || wanted.nice == old_nice) {
        return Ok(0);
    }
    if wanted.flags & u64::from(SCHED_FLAG_KEEP_PARAMS) != 0 {
        // Nor does the policy change then, which is one of them.
        other.policy.set(Policy {
            reset_on_fork: new.reset_on_fork,
            ..old
        });
        return Ok(0);
    }
    if has_nice {
        other.set_nice(wanted.nice);
    }
    other.policy.set(new);
    schedule::apply(other);
    Ok(0)
}

/// Whether the policy goes by the nice value that comes with it (`fair_policy`): `SCHED_IDLE` leaves the thread's as it is.
const fn takes_nice(policy: u32) -> bool {
    matches!(policy, SCHED_NORMAL | SCHED_BATCH)
}

/// Whether the change needs no privilege (`user_check_sched_setscheduler`).
fn is_allowed(t: &Thread, other: &Thread, new: Policy, nice: i32) -> bool {
    let old = other.policy.get();
    let old_nice = other.nice();
    let fits_nice = !takes_nice(new.number) || nice >= old_nice || schedule::allows_nice(other, nice);
    let limit = other.process().limits().get(Resource::RealtimePriority).soft;
    let fits_priority = !new.is_real_time()
        || ((new.number == old.number || limit != 0)
            && (new.priority <= old.priority || u64::from(new.priority) <= limit));
    // `SCHED_IDLE` counts as nice 20: leaving it is a reduction.
    let leaves_idle = old.number == SCHED_IDLE && new.number != SCHED_IDLE;
    fits_nice
        && fits_priority
        && (!leaves_idle || schedule::allows_nice(other, old_nice))
        && may_change(t, other)
        && (!old.reset_on_fork || new.reset_on_fork)
}

async fn change_simply(t: &Arc<Thread>, tid: i32, policy: i32, parameter: u64) -> Result<u64> {
    if parameter == 0 || tid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = t.mm().read::<u32>(parameter).await?;
    let other = target(t, tid)?;
    let mut wanted = Attributes {
        policy: policy.cast_unsigned(),
        nice: other.nice(),
        priority,
        ..Attributes::default()
    };
    if policy != KEEP && wanted.policy & SCHED_RESET_ON_FORK != 0 {
        wanted.policy &= !SCHED_RESET_ON_FORK;
        wanted.flags = SCHED_FLAG_RESET_ON_FORK.into();
    }
    change(t, &other, &wanted)
}

/// `sched_setscheduler(2)`.
///
/// # Errors
/// `EINVAL` (for `SCHED_DEADLINE` too, which is not there), `EFAULT`, `ESRCH`, `EPERM`.
pub async fn sched_setscheduler(t: &Arc<Thread>, tid: i32, policy: i32, parameter: u64) -> Result<u64> {
    if policy < 0 {
        return Err(Errno::EINVAL);
    }
    change_simply(t, tid, policy, parameter).await
}

/// `sched_setparam(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ESRCH`, `EPERM`.
pub async fn sched_setparam(t: &Arc<Thread>, tid: i32, parameter: u64) -> Result<u64> {
    change_simply(t, tid, KEEP, parameter).await
}

/// `sched_getscheduler(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn sched_getscheduler(t: &Arc<Thread>, tid: i32) -> Result<u64> {
    let policy = target(t, tid)?.policy.get();
    let reset = if policy.reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
    Ok((policy.number | reset).into())
}

/// `sched_getparam(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EFAULT`.
pub async fn sched_getparam(t: &Arc<Thread>, tid: i32, parameter: u64) -> Result<u64> {
    if parameter == 0 {
        return Err(Errno::EINVAL);
    }
    let priority = target(t, tid)?.policy.get().priority;
    t.mm().write(parameter, &priority).await?;
    Ok(0)
}

/// Fills in the nice value or the priority, as the policy has one.
fn fill_parameters(other: &Thread, attributes: &mut Attributes) {
    let policy = other.policy.get();
    if policy.is_real_time() {
        attributes.priority = policy.priority;
    } else {
        attributes.nice = other.nice();
    }
}

/// Reads a `struct sched_attr` of any version (`sched_copy_attr`).
async fn read_attributes(t: &Thread, address: u64) -> Result<Attributes> {
    let mm = t.mm();
    let size = match mm.read::<u32>(address).await? {
        0 => FIRST_SIZE,
        size => size,
    };
    let mut attributes = Attributes::default();
    let mut fits = (FIRST_SIZE..=PAGE_SIZE as u32).contains(&size);
    if fits {
        let known = size.min(SIZE);
        mm.read_bytes(address, &mut attributes.as_mut_bytes()[..known as usize])
            .await?;
        for at in (SIZE..size).map(u64::from) {
            fits &= mm.read::<u8>(address + at).await? == 0;
        }
    }
    if !fits {
        // As there, whether or not it can be told.
        let _ = mm.write(address, &SIZE).await;
        return Err(Errno::E2BIG);
    }
    if attributes.flags & u64::from(SCHED_FLAG_UTIL_CLAMP) != 0 && size < SIZE {
        return Err(Errno::EINVAL);
    }
    attributes.nice = attributes.nice.clamp(-20, 19);
    Ok(attributes)
}

/// `sched_setattr(2)`.
///
/// # Errors
/// `EINVAL` (for `SCHED_DEADLINE` too, which is not there), `EFAULT`, `E2BIG` for a size that no version has or fields that are
/// not known, `ESRCH`, `EPERM`, `EOPNOTSUPP` for utilisation clamps.
pub async fn sched_setattr(t: &Arc<Thread>, tid: i32, attributes: u64, flags: u32) -> Result<u64> {
    if attributes == 0 || tid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut wanted = read_attributes(t, attributes).await?;
    if wanted.policy.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if wanted.flags & u64::from(SCHED_FLAG_KEEP_POLICY) != 0 {
        wanted.policy = KEEP.cast_unsigned();
    }
    let other = target(t, tid)?;
    if wanted.flags & u64::from(SCHED_FLAG_KEEP_PARAMS) != 0 {
        fill_parameters(&other, &mut wanted);
    }
    change(t, &other, &wanted)
}

/// `sched_getattr(2)`.
///
/// # Errors
/// `EINVAL` for a size that is too small or more than a page, `ESRCH`, `EFAULT`.
pub async fn sched_getattr(t: &Arc<Thread>, tid: i32, attributes: u64, size: u32, flags: u32) -> Result<u64> {
    if attributes == 0 || tid < 0 || flags != 0 || !(FIRST_SIZE..=PAGE_SIZE as u32).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let other = target(t, tid)?;
    let policy = other.policy.get();
    let mut found = Attributes {
        size: size.min(SIZE),
        policy: policy.number,
        ..Attributes::default()
    };
    if policy.reset_on_fork {
        found.flags = SCHED_FLAG_RESET_ON_FORK.into();
    }
    fill_parameters(&other, &mut found);
    let bytes = found.as_bytes();
    t.mm().write_bytes(attributes, &bytes[..found.size as usize]).await?;
    Ok(0)
}

fn priority_range(policy: i32) -> Result<(u64, u64)> {
    match policy.cast_unsigned() {
        SCHED_FIFO | SCHED_RR => Ok((1, 99)),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_get_priority_max(2)`.
///
/// # Errors
/// `EINVAL` for an unknown policy.
pub fn sched_get_priority_max(_t: &Thread, policy: i32) -> Result<u64> {
    priority_range(policy).map(|(_, max)| max)
}

/// `sched_get_priority_min(2)`.
///
/// # Errors
/// `EINVAL` for an unknown policy.
pub fn sched_get_priority_min(_t: &Thread, policy: i32) -> Result<u64> {
    priority_range(policy).map(|(min, _)| min)
}

/// `sched_rr_get_interval(2)`: the slice; none under `SCHED_FIFO`.
///
/// # Errors
/// `ESRCH`, `EINVAL`, `EFAULT`.
pub async fn sched_rr_get_interval(t: &Arc<Thread>, tid: i32, interval: u64) -> Result<u64> {
    let slice = match target(t, tid)?.policy.get().number {
        SCHED_RR => executor::ROUND_ROBIN_SLICE,
        SCHED_FIFO => 0,
        _ => SLICE,
    };
    t.mm().write(interval, &Timespec::from_nanoseconds(slice)).await?;
    Ok(0)
}
