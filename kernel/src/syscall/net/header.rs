//! `struct msghdr`, and the control messages that come with it (`recvmsg(2)`, `cmsg(3)`).

use alloc::{sync::Arc, vec::Vec};

use linux_raw_sys::{general as linux, net};

use crate::{
    errno::{Errno, Result},
    fs::{
        Attempt, OnExec, OpenFile, Stop, UserSlice,
        io::{copy_in, copy_out},
    },
    mm::{
        fallible::{TryRoom, TryRoomExact},
        user,
    },
    net::unix::{
        Outgoing,
        core::Core,
        message::{Credentials, NOBODY, Taken},
        options::Passes,
        rights::{MOST, Rights},
    },
    syscall::{
        fs::{
            descriptor_limit,
            user::{Vectors, field},
        },
        pidfd,
    },
    task::{self, Capability, Thread, limits::Resource},
};

/// `SOL_SOCKET` (`asm-generic/socket.h`).
pub const SOL_SOCKET: i32 = 1;
/// `SCM_PIDFD` (`linux/socket.h`).
const SCM_PIDFD: u32 = 4;
/// Bytes of `struct cmsghdr`.
const CONTROL: usize = size_of::<net::cmsghdr>();
/// The most bytes of control messages (`net.core.optmem_max`).
const MOST_CONTROL: usize = 20480;
/// Bytes of `struct ucred`.
const UCRED: usize = size_of::<net::ucred>();
/// Bytes of a `struct msghdr`.
pub const HEADER: usize = size_of::<net::msghdr>();

/// A `struct msghdr`.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Where it stands.
    pub address: u64,
    /// Where the address stands, or 0, and its length.
    pub name: u64,
    /// See above.
    pub name_length: i32,
    vectors: u64,
    vector_count: u64,
    /// Where control messages stand.
    pub control: u64,
    /// Their bytes.
    pub control_length: u64,
}

impl Header {
    /// Reads one.
    ///
    /// # Errors
    /// `EINVAL` for a negative length, `EMSGSIZE` for too many vectors; a page that is missing.
    pub fn read(address: u64) -> Attempt<Self> {
        let bytes: [u8; HEADER] = user::read(address)?;
        let name = field!(bytes, net::msghdr, msg_name);
        let name_length = field!(bytes, net::msghdr, msg_namelen) as i32;
        if name != 0 && name_length < 0 {
            return Err(Errno::EINVAL.into());
        }
        let vector_count = field!(bytes, net::msghdr, msg_iovlen);
        if vector_count > u64::from(linux::UIO_MAXIOV) {
            return Err(Errno::EMSGSIZE.into());
        }
        Ok(Self {
            address,
            name,
            name_length: if name == 0 {
                0
            } else {
                name_length.min(super::address::STORAGE as i32)
            },
            vectors: field!(bytes, net::msghdr, msg_iov),
            vector_count,
            control: field!(bytes, net::msghdr, msg_control),
            control_length: field!(bytes, net::msghdr, msg_controllen),
        })
    }

    /// The caller's memory.
    ///
    /// # Errors
    /// `EINVAL` for a negative length; `EFAULT`; a page that is missing.
    pub fn vectors(&self) -> Attempt<Vectors> {
        let mut slices = Vectors::new();
        let mut sum = 0u64;
        for index in 0..self.vector_count {
            let [base, length]: [u64; 2] = user::read(self.vectors.wrapping_add(index * 16))?;
            if length > i64::MAX as u64 {
                return Err(Errno::EINVAL.into());
            }
            sum = sum.saturating_add(length);
            slices.push(UserSlice::new(base, length)?);
        }
        Ok(slices)
    }

    /// The only run of the caller's memory.
    ///
    /// # Errors
    /// As [`Header::vectors`]; that there are more, which an attempt does not go through.
    pub fn only_run(&self) -> Attempt<UserSlice> {
        if self.vector_count > 1 {
            return Err(Stop::WouldBlock);
        }
        Ok(self.vectors()?.first().copied().unwrap_or_default())
    }

    /// Writes what a receiver is told of lengths and flags.
    ///
    /// # Errors
    /// A page that is missing.
    pub fn answer(&self, flags: u32, control: u64) -> Attempt<()> {
        let at = |offset: usize| self.address + offset as u64;
        user::write(at(core::mem::offset_of!(net::msghdr, msg_flags)), &flags)?;
        user::write(at(core::mem::offset_of!(net::msghdr, msg_controllen)), &control)?;
        Ok(())
    }

    /// Where the address's length stands.
    pub const fn name_length_at(&self) -> u64 {
        self.address + core::mem::offset_of!(net::msghdr, msg_namelen) as u64
    }

    /// Whether what a receiver is told can be written.
    ///
    /// # Errors
    /// A page that is missing.
    pub fn check_writable(&self) -> Attempt<()> {
        user::check_writable(self.address, HEADER)?;
        if self.control != 0 {
            user::check_writable(self.control, self.control_length.min(MOST_TOLD as u64) as usize)?;
        }
        if self.name != 0 {
            user::check_writable(self.name, self.name_length as usize)?;
        }
        Ok(())
    }
}

/// Bytes that a receiver is told at most.
const MOST_TOLD: usize = 3 * CONTROL + 2 * 16 + MOST * 4;

const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// Reads what a sender wants to be sent besides bytes.
///
/// # Errors
/// `ENOBUFS` for too much, `EINVAL`, `EBADF`, `EPERM`, `ESRCH`, `ETOOMANYREFS`, `ENOMEM`; a page that is missing.
pub fn outgoing(t: &Thread, address: u64, length: u64) -> Attempt<Outgoing> {
    let mut out = Outgoing::default();
    if length == 0 {
        return Ok(out);
    }
    if length > MOST_CONTROL as u64 {
        return Err(Errno::ENOBUFS.into());
    }
    let mut control = Vec::new();
    control.try_room_exact(length as usize)?;
    control.resize(length as usize, 0);
    copy_in(&mut control, address)?;
    let mut files: Vec<Arc<OpenFile>> = Vec::new();
    let mut rest = control.as_slice();
    while rest.len() >= CONTROL {
        let length = field!(rest, net::cmsghdr, cmsg_len);
        let level = field!(rest, net::cmsghdr, cmsg_level) as i32;
        let kind = field!(rest, net::cmsghdr, cmsg_type) as u32;
        if length < CONTROL as u64 || length > rest.len() as u64 {
            return Err(Errno::EINVAL.into());
        }
        let length = length as usize;
        let data = &rest[CONTROL..length];
        if level == SOL_SOCKET {
            match kind {
                net::SCM_RIGHTS => add_files(t, data, &mut files)?,
                net::SCM_CREDENTIALS => out.credentials = Some(given_credentials(t, data)?),
                _ => return Err(Errno::EINVAL.into()),
            }
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    if !files.is_empty() {
        let credentials = t.credentials();
        let limit = t.process().limit(Resource::OpenFiles);
        let unlimited = credentials.can(Capability::SysResource) || credentials.can(Capability::SysAdmin);
        let limit = (!unlimited).then_some(limit);
        out.rights = Some(Rights::new(files, credentials.uid, limit)?);
    }
    Ok(out)
}

fn add_files(t: &Thread, data: &[u8], files: &mut Vec<Arc<OpenFile>>) -> Result<()> {
    let (descriptors, _) = data.as_chunks::<4>();
    if files.len() + descriptors.len() > MOST {
        return Err(Errno::EINVAL);
    }
    files.try_room(descriptors.len())?;
    let table = t.files();
    for descriptor in descriptors {
        files.push(table.get(i32::from_ne_bytes(*descriptor))?);
    }
    Ok(())
}

/// Who a sender says to be, which it has to be, or to have the capability of being.
fn given_credentials(t: &Thread, data: &[u8]) -> Result<Credentials> {
    if data.len() != UCRED {
        return Err(Errno::EINVAL);
    }
    let pid = field!(data, net::ucred, pid) as i32;
    let (uid, gid) = (
        field!(data, net::ucred, uid) as u32,
        field!(data, net::ucred, gid) as u32,
    );
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::EINVAL);
    }
    let own = t.credentials();
    let is_pid = pid == t.process().pid() || own.can(Capability::SysAdmin);
    let is_user = [own.uid, own.euid, own.suid].contains(&uid) || own.can(Capability::Setuid);
    let is_group = [own.gid, own.egid, own.sgid].contains(&gid) || own.can(Capability::Setgid);
    if !(is_pid && is_user && is_group) {
        return Err(Errno::EPERM);
    }
    let process = task::process(pid).ok_or(Errno::ESRCH)?;
    Ok(Credentials {
        pid,
        uid,
        gid,
        process: Arc::downgrade(&process),
    })
}

/// `struct ucred`.
pub fn ucred(pid: i32, uid: u32, gid: u32) -> [u8; UCRED] {
    let mut bytes = [0; UCRED];
    bytes[..4].copy_from_slice(&pid.to_ne_bytes());
    bytes[4..8].copy_from_slice(&uid.to_ne_bytes());
    bytes[8..].copy_from_slice(&gid.to_ne_bytes());
    bytes
}

/// The caller's room for control messages, while they are written.
pub struct Control {
    address: u64,
    left: u64,
    /// Bytes written.
    pub used: u64,
    /// Whether something had no room.
    pub cut: bool,
}

impl Control {
    /// The room that a header gives.
    pub const fn of(header: &Header) -> Self {
        Self {
            address: header.control,
            left: header.control_length,
            used: 0,
            cut: false,
        }
    }

    /// Writes a control message, or as much as there is room for.
    fn put(&mut self, kind: u32, data: &[u8]) -> Result<()> {
        if self.left < CONTROL as u64 {
            self.cut = true;
            return Ok(());
        }
        let mut length = CONTROL + data.len();
        if self.left < length as u64 {
            self.cut = true;
            length = self.left as usize;
        }
        self.put_header(kind, length)?;
        copy_out(self.address + self.used + CONTROL as u64, &data[..length - CONTROL]).map_err(|_| Errno::EFAULT)?;
        self.advance(CONTROL + data.len());
        Ok(())
    }

    fn put_header(&self, kind: u32, length: usize) -> Result<()> {
        let mut header = [0; CONTROL];
        header[..8].copy_from_slice(&(length as u64).to_ne_bytes());
        header[8..12].copy_from_slice(&SOL_SOCKET.to_ne_bytes());
        header[12..].copy_from_slice(&kind.to_ne_bytes());
        copy_out(self.address + self.used, &header).map_err(|_| Errno::EFAULT)
    }

    fn advance(&mut self, length: usize) {
        let space = (aligned(length) as u64).min(self.left);
        self.used += space;
        self.left -= space;
    }

    /// Gives files out, as many as there is room and descriptors for.
    fn put_files(&mut self, t: &Thread, rights: Rights, on_exec: OnExec) -> Result<()> {
        let files = rights.into_files();
        let all = files.len();
        let room = self.left.saturating_sub(CONTROL as u64) / 4;
        let mut descriptors = Vec::new();
        let table = t.files();
        for file in files.into_iter().take(room.min(MOST as u64) as usize) {
            match table.insert(file, on_exec, descriptor_limit(t)) {
                Ok(fd) => descriptors.push(fd),
                Err(_) => break,
            }
        }
        if descriptors.len() < all {
            self.cut = true;
        }
        if descriptors.is_empty() {
            return Ok(());
        }
        let length = CONTROL + descriptors.len() * 4;
        let bytes: Vec<u8> = descriptors.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
        let written = self
            .put_header(net::SCM_RIGHTS, length)
            .and_then(|()| copy_out(self.address + self.used + CONTROL as u64, &bytes).map_err(|_| Errno::EFAULT));
        if let Err(errno) = written {
            for fd in descriptors {
                drop(table.remove(fd));
            }
            return Err(errno);
        }
        self.advance(length);
        Ok(())
    }

    /// Writes all that a receiver on `core` is to be told.
    ///
    /// # Errors
    /// `EFAULT` if the room went away meanwhile; `EMFILE`, `ENOMEM` for a descriptor of the sender.
    pub fn tell(&mut self, t: &Thread, core: &Core, taken: &mut Taken, on_exec: OnExec) -> Result<()> {
        let credentials = taken.credentials.take().flatten();
        if self.address == 0 {
            self.cut = core.passes(Passes::WHO) || taken.has_rights;
            return Ok(());
        }
        if core.passes(Passes::CREDENTIALS) {
            let (pid, uid, gid) = credentials
                .as_ref()
                .map_or((0, NOBODY, NOBODY), |who| (who.pid, who.uid, who.gid));
            self.put(net::SCM_CREDENTIALS, &ucred(pid, uid, gid))?;
        }
        if let Some(rights) = taken.rights.take() {
            self.put_files(t, *rights, on_exec)?;
        }
        if core.passes(Passes::PIDFD) {
            self.put_pidfd(t, credentials.as_ref())?;
        }
        Ok(())
    }

    fn put_pidfd(&mut self, t: &Thread, who: Option<&Credentials>) -> Result<()> {
        if self.left < (CONTROL + 4) as u64 {
            self.cut = true;
            return Ok(());
        }
        let Some(who) = who else { return Ok(()) };
        let opened = who
            .process
            .upgrade()
            .filter(|process| task::process(process.pid()).is_some())
            .ok_or(Errno::ESRCH)
            .and_then(|process| pidfd::open(t, process, 0));
        // As Linux: what went wrong stands where the descriptor would.
        let told = opened.unwrap_or_else(|errno| -errno.number());
        self.put(SCM_PIDFD, &told.to_ne_bytes()).inspect_err(|_| {
            if let Ok(fd) = opened {
                drop(t.files().remove(fd));
            }
        })
    }
}

/// Whether files can be given out by a receiver that has this room.
pub const fn takes_files(header: &Header) -> bool {
    header.control != 0
}
