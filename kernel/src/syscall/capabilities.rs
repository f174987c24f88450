//! Capabilities (`capabilities(7)`): `capget`, `capset`, and what `prctl` does with them.

use linux_raw_sys::prctl::{
    PR_CAP_AMBIENT_CLEAR_ALL, PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_LOWER, PR_CAP_AMBIENT_RAISE,
};

use super::identity::change;
use crate::{
    errno::{Errno, Result},
    task::{
        self, Capability, Thread,
        capabilities::{CapabilitySet, SecureBits},
    },
};

/// `_LINUX_CAPABILITY_VERSION_1` to `_3` (`linux/capability.h`), and how many 32-bit words each has of a set.
const VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];
/// The newest, which is told to who asks for another.
const VERSION: u32 = VERSIONS[2].0;

/// Effective, permitted and inheritable: `struct __user_cap_data_struct`, once for each word.
type Data = [[u32; 3]; 2];

/// How many words a set has for the version in a header; `None` if there is no such version, which the header tells then.
async fn words(t: &Thread, header: u64) -> Result<Option<usize>> {
    let mm = t.mm();
    let asked: u32 = mm.read(header).await?;
    let found = VERSIONS.iter().find(|(version, _)| *version == asked);
    if found.is_none() {
        mm.write(header, &VERSION).await?;
    }
    Ok(found.map(|(_, words)| *words))
}

/// `capget(2)`: of the caller or another thread.
///
/// # Errors
/// `EFAULT`, `EINVAL` for a version that is not there (unless nothing but the right one is asked for) or a negative number,
/// `ESRCH`.
pub async fn capget(t: &Thread, header: u64, data: u64) -> Result<u64> {
    let words = match (words(t, header).await?, data) {
        (_, 0) => return Ok(0),
        (None, _) => return Err(Errno::EINVAL),
        (Some(words), _) => words,
    };
    let mm = t.mm();
    let pid: i32 = mm.read(header.wrapping_add(4)).await?;
    let of = match pid {
        i32::MIN..0 => return Err(Errno::EINVAL),
        0 => t.credentials(),
        _ if pid == t.tid() => t.credentials(),
        _ => task::thread(pid)
            .map(|thread| thread.credentials())
            .or_else(|| task::process(pid).map(|process| process.credentials()))
            .ok_or(Errno::ESRCH)?,
    };
    let sets = &of.capabilities;
    let mut out = Data::default();
    for (i, set) in [sets.effective, sets.permitted, sets.inheritable]
        .into_iter()
        .enumerate()
    {
        (out[0][i], out[1][i]) = (set.bits() as u32, (set.bits() >> 32) as u32);
    }
    mm.write(data, &out[..words]).await?;
    Ok(0)
}

/// `capset(2)`: of the caller alone.
///
/// # Errors
/// `EFAULT`, `EINVAL` for a version that is not there, `EPERM` for another thread or more than may be had.
pub async fn capset(t: &Thread, header: u64, data: u64) -> Result<u64> {
    let words = words(t, header).await?.ok_or(Errno::EINVAL)?;
    let mm = t.mm();
    let pid: i32 = mm.read(header.wrapping_add(4)).await?;
    if pid != 0 && pid != t.tid() {
        return Err(Errno::EPERM);
    }
    let mut given = Data::default();
    for (i, word) in given.iter_mut().take(words).enumerate() {
        *word = mm
            .read(data.wrapping_add(i as u64 * size_of::<[u32; 3]>() as u64))
            .await?;
    }
    let [effective, permitted, inheritable] =
        [0, 1, 2].map(|i| CapabilitySet::from_bits(u64::from(given[1][i]) << 32 | u64::from(given[0][i])));
    change(t, |credentials| {
        if credentials.capabilities.set(effective, permitted, inheritable) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    })
}

/// How the caller's capabilities go together with user 0.
pub(super) fn secure_bits(t: &Thread) -> SecureBits {
    t.credentials().capabilities.secure_bits
}

/// `PR_SET_SECUREBITS`.
pub(super) fn set_secure_bits(t: &Thread, bits: u64) -> Result<u64> {
    let new = u8::try_from(bits)
        .ok()
        .and_then(SecureBits::from_bits)
        .ok_or(Errno::EPERM)?;
    change(t, |credentials| {
        if !credentials.capabilities.secure_bits.may_become(new) || !credentials.can(Capability::Setpcap) {
            return Err(Errno::EPERM);
        }
        credentials.capabilities.secure_bits = new;
        Ok(())
    })
}

/// `PR_SET_KEEPCAPS`.
pub(super) fn keep(t: &Thread, keep: bool) -> Result<u64> {
    change(t, |credentials| {
        let bits = &mut credentials.capabilities.secure_bits;
        if bits.contains(SecureBits::KEEP_CAPS_LOCKED) {
            return Err(Errno::EPERM);
        }
        bits.set(SecureBits::KEEP_CAPS, keep);
        Ok(())
    })
}

/// `PR_CAPBSET_READ`.
pub(super) fn is_bounding(t: &Thread, number: u64) -> Result<u64> {
    let asked = CapabilitySet::of_number(number).ok_or(Errno::EINVAL)?;
    Ok(u64::from(t.credentials().capabilities.bounding.has_any(asked)))
}

/// `PR_CAPBSET_DROP`.
pub(super) fn drop_bounding(t: &Thread, number: u64) -> Result<u64> {
    change(t, |credentials| {
        if !credentials.can(Capability::Setpcap) {
            return Err(Errno::EPERM);
        }
        let bounding = &mut credentials.capabilities.bounding;
        *bounding = bounding.without(CapabilitySet::of_number(number).ok_or(Errno::EINVAL)?);
        Ok(())
    })
}

/// `PR_CAP_AMBIENT`.
pub(super) fn ambient(t: &Thread, [operation, number, unused @ ..]: [u64; 4]) -> Result<u64> {
    let rest_is_zero = unused == [0; 2];
    if operation == PR_CAP_AMBIENT_CLEAR_ALL.into() {
        if number != 0 || !rest_is_zero {
            return Err(Errno::EINVAL);
        }
        return change(t, |credentials| {
            credentials.capabilities.ambient = CapabilitySet::EMPTY;
            Ok(())
        });
    }
    let one = CapabilitySet::of_number(number)
        .filter(|_| rest_is_zero)
        .ok_or(Errno::EINVAL)?;
    match u32::try_from(operation) {
        Ok(PR_CAP_AMBIENT_IS_SET) => Ok(u64::from(t.credentials().capabilities.ambient.has_any(one))),
        Ok(PR_CAP_AMBIENT_RAISE) => change(t, |credentials| {
            let sets = &mut credentials.capabilities;
            if !one.is_within(sets.permitted & sets.inheritable)
                || sets.secure_bits.contains(SecureBits::NO_AMBIENT_RAISE)
            {
                return Err(Errno::EPERM);
            }
            sets.ambient = sets.ambient | one;
            Ok(())
        }),
        Ok(PR_CAP_AMBIENT_LOWER) => change(t, |credentials| {
            let sets = &mut credentials.capabilities;
            sets.ambient = sets.ambient.without(one);
            Ok(())
        }),
        _ => Err(Errno::EINVAL),
    }
}
