//! Shared memory segments (`shmop(2)`).
//!
//! A segment's pages are those of a file without a name in a tmpfs that all segments have in common, so they are shared as `memfd`s
//! are. Together they have at most half of memory; a page beyond that is a SIGBUS. Each area that shows a segment holds an
//! [`Attachment`](crate::mm::space::Attach) to it, whose number is `shm_nattch`: the copies of a fork and the parts of a mapping that was cut
//! count one by one, as on Linux.

use alloc::{
    format,
    sync::{Arc, Weak},
};

use hal::PAGE_SIZE;

use super::{
    IPC_PRIVATE, Objects,
    registry::{New, Object, Request, Room, State},
    seconds,
};
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::SetAttributes,
        inode::Inode,
        tmpfs::{self, TmpInode},
    },
    mm::{Backing, Frame, Pager, frame, space::Attach},
    namespace::IpcRef,
    task::{Capability, Credentials, Pid, current},
};

/// `SHM_DEST`: removed at the last detach.
pub const DESTROYED: u32 = 0o1000;
/// `SHM_LOCKED`.
pub const LOCKED: u32 = 0o2000;
/// `SHM_HUGETLB`.
const HUGE: i32 = 0o4000;
/// `SHM_NORESERVE`.
const NO_RESERVE: i32 = 0o1_0000;

/// A segment.
pub struct Segment {
    /// Bytes, as asked for.
    pub size: u64,
    /// Who made it.
    pub creator: Pid,
    /// Who last attached or detached it.
    pub last: Pid,
    /// Areas that show it, and calls that are about to make one.
    pub attached: u64,
    /// Times, in seconds: of the last attach, the last detach, the last change by `shmctl`.
    pub times: [i64; 3],
    /// Whose limit its lock counts against.
    locked_by: Option<u32>,
    file: Arc<TmpInode>,
    /// While there are areas that show it.
    pages: Weak<Pages>,
}

/// What the areas of a segment show.
struct Pages {
    /// Kept as long as something of it is attached.
    home: IpcRef,
    id: i32,
    key: i32,
    size: u64,
    file: Arc<TmpInode>,
}

impl Pager for Pages {
    fn page(&self, index: u64) -> Result<Frame> {
        Pager::page(&*self.file, index)
    }

    fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        self.file.pages_in_memory(first, into);
    }

    fn describe(&self) -> Option<Backing> {
        Some(Backing {
            device: (0, 1),
            inode: self.id as u64,
            path: format!("/SYSV{:08x} (deleted)", self.key),
        })
    }
}

fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE as u64)
}

impl Attach for Pages {
    fn attached(&self) {
        if let Ok(object) = self.home.segments.get(self.id)
            && let Ok(mut state) = object.lock()
        {
            let segment = &mut state.body;
            segment.attached += 1;
            segment.last = current::pid();
            segment.times[0] = seconds();
        }
    }

    fn detached(&self) {
        detach(&self.home, self.id, true);
    }

    fn segment(&self) -> Option<u64> {
        Some(pages_of(self.size) * PAGE_SIZE as u64)
    }
}

/// One attachment less, which makes itself known where it was more than the attempt at one. The last removes a segment that waits
/// for that.
fn detach(among: &Objects, id: i32, known: bool) {
    let Ok(object) = among.segments.get(id) else { return };
    let over = {
        let Ok(mut state) = object.lock() else { return };
        let segment = &mut state.body;
        segment.attached -= 1;
        if known {
            segment.last = current::pid();
            segment.times[1] = seconds();
        }
        segment.attached == 0 && state.permission.mode & DESTROYED != 0
    };
    if over {
        // Somebody may have attached it meanwhile, or have been faster.
        let last = |state: &mut State<Segment>| Ok(state.body.attached == 0 && state.permission.mode & DESTROYED != 0);
        let removed = among.segments.remove_if(id, last);
        drop(removed);
    }
}

/// A use of a segment that is about to become an area.
pub struct Attaching {
    pages: Arc<Pages>,
}

impl Attaching {
    /// What to map.
    pub fn pager(&self) -> Arc<dyn Pager> {
        self.pages.clone()
    }

    /// Whom to tell.
    pub fn attach(&self) -> Arc<dyn Attach> {
        self.pages.clone()
    }

    /// Bytes to map.
    pub fn size(&self) -> u64 {
        self.pages.size
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        detach(&self.pages.home, self.pages.id, false);
    }
}

/// Begins to attach a segment.
///
/// # Errors
/// `EINVAL`, `EACCES`, `EIDRM`.
pub fn attach(home: IpcRef, id: i32, credentials: &Credentials, wanted: u32) -> Result<Attaching> {
    let object = home.segments.get(id)?;
    let mut state = object.lock()?;
    state.check(credentials, wanted)?;
    let key = state.permission.key;
    let segment = &mut state.body;
    segment.attached += 1;
    if let Some(pages) = segment.pages.upgrade() {
        return Ok(Attaching { pages });
    }
    let pages = Arc::new(Pages {
        home: home.clone(),
        id,
        key,
        size: segment.size,
        file: segment.file.clone(),
    });
    segment.pages = Arc::downgrade(&pages);
    Ok(Attaching { pages })
}

/// `shmget(2)`.
///
/// # Errors
/// `EINVAL`, `ENOSPC`, `ENOMEM`, `ENOENT`, `EEXIST`, `EACCES`.
pub fn get(among: &Objects, request: &Request<'_>, size: u64, creator: Pid) -> Result<i32> {
    let room = Room {
        objects: among.limits.shmmni.get(),
        weight: among.limits.shmall.get(),
    };
    let fits = |object: &Object<Segment>| {
        if object.lock_even_if_gone().body.size < size {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    among.segments.find_or_make(request, room, fits, || {
        if size == 0 || size > among.limits.shmmax.get() {
            return Err(Errno::EINVAL);
        }
        let weight = pages_of(size);
        let used = among.segments.usage().1;
        if used.checked_add(weight).is_none_or(|total| total > room.weight) {
            return Err(Errno::ENOSPC);
        }
        // There are no huge pages.
        if request.flags & HUGE != 0 || size > tmpfs::MAX_FILE_SIZE {
            return Err(Errno::EINVAL);
        }
        if request.flags & NO_RESERVE == 0 && weight > frame::stats().total as u64 {
            return Err(Errno::ENOMEM);
        }
        let file = tmpfs::unnamed_segment()?;
        let grown = SetAttributes {
            size: Some(size),
            ..SetAttributes::default()
        };
        Inode::set_attributes(&*file, &grown)?;
        let segment = Segment {
            size,
            creator,
            last: 0,
            attached: 0,
            times: [0, 0, seconds()],
            locked_by: None,
            file,
            pages: Weak::new(),
        };
        Ok(New { body: segment, weight })
    })
}

/// `IPC_RMID`: removes a segment, at once or with its last attachment.
///
/// # Errors
/// `EINVAL`, `EPERM`.
pub fn remove(among: &Objects, id: i32, credentials: &Credentials) -> Result<()> {
    let removed = among.segments.remove_if(id, |state| {
        state.check_control(credentials)?;
        if state.body.attached == 0 {
            return Ok(true);
        }
        state.permission.mode |= DESTROYED;
        state.permission.key = IPC_PRIVATE;
        Ok(false)
    })?;
    drop(removed);
    Ok(())
}

/// `SHM_LOCK` and `SHM_UNLOCK`. Nothing is ever paged out; what is locked counts against `limit` bytes (`RLIMIT_MEMLOCK`).
///
/// # Errors
/// `EINVAL`, `EPERM`, `EIDRM`, `ENOMEM`.
pub fn set_locked(among: &Objects, id: i32, locked: bool, credentials: &Credentials, limit: u64) -> Result<()> {
    let object = among.segments.get(id)?;
    let mine = locked_bytes(among, credentials.uid);
    let mut state = object.lock()?;
    let may_lock = credentials.can(Capability::IpcLock);
    if !may_lock && (!state.permission.is_owned_by(credentials) || locked && limit == 0) {
        return Err(Errno::EPERM);
    }
    if locked == (state.permission.mode & LOCKED != 0) {
        return Ok(());
    }
    if locked {
        let bytes = object.weight().saturating_mul(PAGE_SIZE as u64);
        if !may_lock && mine.saturating_add(bytes) > limit {
            return Err(Errno::ENOMEM);
        }
        state.body.locked_by = Some(credentials.uid);
        state.permission.mode |= LOCKED;
    } else {
        state.body.locked_by = None;
        state.permission.mode &= !LOCKED;
    }
    Ok(())
}

fn every_segment(among: &Objects) -> impl Iterator<Item = Arc<Object<Segment>>> {
    let mut from = 0;
    core::iter::from_fn(move || {
        let (index, object) = among.segments.next(from)?;
        from = index + 1;
        Some(object)
    })
}

fn locked_bytes(among: &Objects, uid: u32) -> u64 {
    every_segment(among)
        .filter(|object| object.lock_even_if_gone().body.locked_by == Some(uid))
        .map(|object| object.weight().saturating_mul(PAGE_SIZE as u64))
        .fold(0, u64::saturating_add)
}

/// Pages of all segments that are in memory.
pub fn resident_pages(among: &Objects) -> u64 {
    every_segment(among).map(|object| object.resident_pages()).sum()
}

impl Object<Segment> {
    /// Its pages that are in memory.
    pub fn resident_pages(&self) -> u64 {
        let file = self.lock_even_if_gone().body.file.clone();
        Inode::attributes(&*file).blocks / (PAGE_SIZE as u64 / 512)
    }
}
