//! Users and groups (`credentials(7)`).

use alloc::{sync::Arc, vec::Vec};

use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoomExact,
    task::{Capability, Credentials, Thread},
};

/// "Leave it" in the `setre*` and `setres*` calls.
const KEEP: u32 = u32::MAX;

/// `getuid(2)`.
pub fn getuid(t: &Thread) -> Result<u64> {
    Ok(t.credentials().uid.into())
}

/// `geteuid(2)`.
pub fn geteuid(t: &Thread) -> Result<u64> {
    Ok(t.credentials().euid.into())
}

/// `getgid(2)`.
pub fn getgid(t: &Thread) -> Result<u64> {
    Ok(t.credentials().gid.into())
}

/// `getegid(2)`.
pub fn getegid(t: &Thread) -> Result<u64> {
    Ok(t.credentials().egid.into())
}

async fn store_three(t: &Thread, addresses: [u64; 3], ids: [u32; 3]) -> Result<u64> {
    for (address, id) in addresses.into_iter().zip(ids) {
        t.mm().write(address, &id).await?;
    }
    Ok(0)
}

/// `getresuid(2)`.
pub async fn getresuid(t: &Thread, real: u64, effective: u64, saved: u64) -> Result<u64> {
    let c = t.credentials();
    store_three(t, [real, effective, saved], [c.uid, c.euid, c.suid]).await
}

/// `getresgid(2)`.
pub async fn getresgid(t: &Thread, real: u64, effective: u64, saved: u64) -> Result<u64> {
    let c = t.credentials();
    store_three(t, [real, effective, saved], [c.gid, c.egid, c.sgid]).await
}

/// Replaces the caller's credentials by what `edit` makes of them.
pub(super) fn change(t: &Thread, edit: impl FnMut(&mut Credentials) -> Result<()>) -> Result<u64> {
    t.change_credentials(edit).map(|()| 0)
}

/// As [`change`], where the users change: capabilities follow.
fn change_users(t: &Thread, mut edit: impl FnMut(&mut Credentials) -> Result<()>) -> Result<u64> {
    change(t, |c| {
        let old = c.users();
        edit(c)?;
        c.capabilities.users_changed(old, c.users());
        Ok(())
    })
}

/// `new`, or `old` where [`KEEP`] is asked; without privilege it must be among `allowed`.
fn pick(old: u32, new: u32, allowed: &[u32], privileged: bool) -> Result<u32> {
    match new {
        KEEP => Ok(old),
        _ if privileged || allowed.contains(&new) => Ok(new),
        _ => Err(Errno::EPERM),
    }
}

/// `setuid(2)`.
pub fn setuid(t: &Thread, uid: u32) -> Result<u64> {
    if uid == KEEP {
        return Err(Errno::EINVAL);
    }
    change_users(t, |c| {
        if c.can(Capability::Setuid) {
            (c.uid, c.suid) = (uid, uid);
        } else if uid != c.uid && uid != c.suid {
            return Err(Errno::EPERM);
        }
        (c.euid, c.fsuid) = (uid, uid);
        Ok(())
    })
}

/// `setgid(2)`.
pub fn setgid(t: &Thread, gid: u32) -> Result<u64> {
    if gid == KEEP {
        return Err(Errno::EINVAL);
    }
    change(t, |c| {
        if c.can(Capability::Setgid) {
            (c.gid, c.sgid) = (gid, gid);
        } else if gid != c.gid && gid != c.sgid {
            return Err(Errno::EPERM);
        }
        (c.egid, c.fsgid) = (gid, gid);
        Ok(())
    })
}

/// `setresuid(2)`.
pub fn setresuid(t: &Thread, real: u32, effective: u32, saved: u32) -> Result<u64> {
    change_users(t, |c| {
        let (old, may) = ([c.uid, c.euid, c.suid], c.can(Capability::Setuid));
        c.uid = pick(c.uid, real, &old, may)?;
        c.euid = pick(c.euid, effective, &old, may)?;
        c.suid = pick(c.suid, saved, &old, may)?;
        c.fsuid = c.euid;
        Ok(())
    })
}

/// `setresgid(2)`.
pub fn setresgid(t: &Thread, real: u32, effective: u32, saved: u32) -> Result<u64> {
    change(t, |c| {
        let (old, may) = ([c.gid, c.egid, c.sgid], c.can(Capability::Setgid));
        c.gid = pick(c.gid, real, &old, may)?;
        c.egid = pick(c.egid, effective, &old, may)?;
        c.sgid = pick(c.sgid, saved, &old, may)?;
        c.fsgid = c.egid;
        Ok(())
    })
}

/// `setreuid(2)`: the saved user follows where the real one is set or the effective one leaves the real one. The real one
/// may not become the saved one.
pub fn setreuid(t: &Thread, real: u32, effective: u32) -> Result<u64> {
    change_users(t, |c| {
        let (old, may) = ([c.uid, c.euid, c.suid], c.can(Capability::Setuid));
        c.uid = pick(c.uid, real, &old[..2], may)?;
        c.euid = pick(c.euid, effective, &old, may)?;
        if real != KEEP || effective != KEEP && effective != old[0] {
            c.suid = c.euid;
        }
        c.fsuid = c.euid;
        Ok(())
    })
}

/// `setregid(2)`.
pub fn setregid(t: &Thread, real: u32, effective: u32) -> Result<u64> {
    change(t, |c| {
        let (old, may) = ([c.gid, c.egid, c.sgid], c.can(Capability::Setgid));
        c.gid = pick(c.gid, real, &old[..2], may)?;
        c.egid = pick(c.egid, effective, &old, may)?;
        if real != KEEP || effective != KEEP && effective != old[0] {
            c.sgid = c.egid;
        }
        c.fsgid = c.egid;
        Ok(())
    })
}

/// `setfsuid(2)`: returns the old value, whatever becomes of the new.
pub fn setfsuid(t: &Thread, uid: u32) -> Result<u64> {
    let old = t.credentials().fsuid;
    change(t, |c| {
        let may = c.can(Capability::Setuid) || [c.uid, c.euid, c.suid, c.fsuid].contains(&uid);
        if uid != KEEP && may {
            c.fsuid = uid;
            c.capabilities.file_user_changed(old, uid);
        }
        Ok(())
    })?;
    Ok(old.into())
}

/// `setfsgid(2)`: as [`setfsuid`].
pub fn setfsgid(t: &Thread, gid: u32) -> Result<u64> {
    let old = t.credentials().fsgid;
    change(t, |c| {
        let may = c.can(Capability::Setgid) || [c.gid, c.egid, c.sgid, c.fsgid].contains(&gid);
        if gid != KEEP && may {
            c.fsgid = gid;
        }
        Ok(())
    })?;
    Ok(old.into())
}

/// `getgroups(2)`.
pub async fn getgroups(t: &Thread, size: i32, address: u64) -> Result<u64> {
    let credentials = t.credentials();
    let groups = &credentials.groups;
    if size < 0 || size != 0 && (size as usize) < groups.len() {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        t.mm().write(address, groups.as_slice()).await?;
    }
    Ok(groups.len() as u64)
}

/// The most supplementary groups (`NGROUPS_MAX`).
pub const MOST_GROUPS: u32 = 65536;

/// `setgroups(2)`.
pub async fn setgroups(t: &Thread, size: u32, address: u64) -> Result<u64> {
    if !t.credentials().can(Capability::Setgid) {
        return Err(Errno::EPERM);
    }
    if size > MOST_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups: Vec<u32> = Vec::new();
    groups.try_room_exact(size as usize)?;
    let mm = t.mm();
    for i in 0..u64::from(size) {
        let group = mm.read(address.wrapping_add(i * 4)).await?;
        if group == KEEP {
            return Err(Errno::EINVAL);
        }
        groups.push(group);
    }
    groups.sort_unstable();
    let groups = Arc::new(groups);
    change(t, |c| {
        c.groups = groups.clone();
        Ok(())
    })
}
