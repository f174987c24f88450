//! Calls on epolls.

use alloc::{boxed::Box, sync::Arc};
use core::{
    future::{Future, poll_fn, ready},
    pin::pin,
    task::Poll,
};

use hal::{arch::PageTable, traits::PageTableOps};
use linux_raw_sys::general as linux;

use super::{
    open::{descriptor_limit, on_exec},
    poll::{deadline, deadline_at_once, masked, milliseconds, settled, signal_mask},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        OpenFile, Stop,
        epoll::{self, DATA, Delivery, EVENT, EpollFile, IN_A_TURN, Interest},
        file::Attempt,
        io::{copy_in, copy_out},
        nameless::Anonymous,
    },
    rt,
    task::{Capability, Thread},
};

/// `epoll_create1(2)`.
///
/// # Errors
/// `EINVAL`, `EMFILE`, `ENOMEM`.
pub fn epoll_create1(t: &Thread, flags: u32) -> Result<u64> {
    if flags & !linux::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = OpenFile::anonymous(
        Arc::new(EpollFile::new(t.credentials().uid)),
        Anonymous::EventPoll,
        linux::O_RDWR,
    );
    Ok(t.files().insert(Arc::new(file), on_exec(flags), descriptor_limit(t))? as u64)
}

/// `epoll_create(2)`.
///
/// # Errors
/// `EINVAL` for a size that is not positive, which means nothing else; as [`epoll_create1`].
pub fn epoll_create(t: &Thread, size: i32) -> Result<u64> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(t, 0)
}

/// What may be asked together with `EPOLLEXCLUSIVE`.
const WITH_EXCLUSIVE: u32 = linux::EPOLLIN
    | linux::EPOLLOUT
    | linux::EPOLLERR
    | linux::EPOLLHUP
    | linux::EPOLLWAKEUP
    | linux::EPOLLET
    | linux::EPOLLEXCLUSIVE;

/// A `struct epoll_event` of the caller's.
fn event(address: u64) -> Attempt<Interest> {
    let mut bytes = [0; EVENT];
    copy_in(&mut bytes, address)?;
    let (mut events, mut data) = ([0; 4], [0; 8]);
    events.copy_from_slice(&bytes[..4]);
    data.copy_from_slice(&bytes[DATA..DATA + 8]);
    Ok(Interest {
        events: u32::from_ne_bytes(events),
        data: u64::from_ne_bytes(data),
    })
}

/// `epoll_ctl(2)`. `EPOLLWAKEUP` needs a privilege and is taken out where that is missing; the machine never sleeps, so it
/// has no effect but to be shown.
///
/// # Errors
/// `EFAULT`, `EBADF`; `EPERM` for a file that cannot be watched; `EINVAL` where `epfd` is no epoll or is `fd`, for an operation
/// that there is not, and for what does not go with `EPOLLEXCLUSIVE`; `EEXIST`, `ENOENT`; `ELOOP`, `ENOSPC`, `ENOMEM`.
pub fn epoll_ctl(t: &Thread, epfd: i32, operation: u32, fd: i32, address: u64) -> Attempt<u64> {
    let mut interest = match operation {
        linux::EPOLL_CTL_DEL => Interest { events: 0, data: 0 },
        _ => event(address)?,
    };
    let files = t.files();
    let (watching, file) = (files.get_usable(epfd)?, files.get_usable(fd)?);
    if file.file().poll_queue().is_none() {
        return Err(Errno::EPERM.into());
    }
    if !t.credentials().can(Capability::BlockSuspend) {
        interest.events &= !linux::EPOLLWAKEUP;
    }
    let epoll = epoll::of(&watching).filter(|_| !Arc::ptr_eq(&watching, &file));
    let epoll = epoll.ok_or(Errno::EINVAL)?;
    let exclusive = interest.events & linux::EPOLLEXCLUSIVE != 0;
    match operation {
        linux::EPOLL_CTL_ADD => {
            if exclusive && (epoll::of(&file).is_some() || interest.events & !WITH_EXCLUSIVE != 0) {
                return Err(Errno::EINVAL.into());
            }
            epoll.add(fd, &file, interest)?;
        }
        linux::EPOLL_CTL_MOD if exclusive => return Err(Errno::EINVAL.into()),
        linux::EPOLL_CTL_MOD => epoll.change(fd, &file, interest)?,
        linux::EPOLL_CTL_DEL => epoll.remove(fd, &file)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// One wait for events.
#[derive(Clone, Copy)]
struct Events {
    epfd: i32,
    array: u64,
    most: i32,
}

impl Events {
    /// The file, and how many events there is room for.
    fn check(self, t: &Thread) -> Result<(Arc<OpenFile>, usize)> {
        let most = usize::try_from(self.most).ok();
        let most = most.filter(|&most| most > 0 && most <= i32::MAX as usize / EVENT);
        let most = most.ok_or(Errno::EINVAL)?;
        let end = self.array.checked_add((most * EVENT) as u64);
        if end.is_none_or(|end| end > PageTable::USER_END) {
            return Err(Errno::EFAULT);
        }
        Ok((t.usable_file(self.epfd)?, most))
    }

    /// What is ready, if it is not so much that others should have their turn, and every page is there.
    /// `is_late` says whether it is not worth waiting for anything.
    fn at_once(self, t: &Thread, is_late: impl FnOnce() -> bool) -> Attempt<u64> {
        let (file, most) = self.check(t)?;
        let core = epoll::of(&file).ok_or(Errno::EINVAL)?;
        if let Some(put) = epoll::lone(core, |event| copy_out(self.array, event)) {
            return Ok(put.map(|()| 1)?);
        }
        let mut delivery = Delivery::whole(core, most);
        match delivery.go_on(IN_A_TURN, &mut |at, events| copy_out(self.array + at, events)) {
            Ok(false) => Err(Stop::WouldBlock),
            // A page was missing behind some: the rest is for the next call.
            Err(fault) if delivery.found() == 0 => Err(fault.into()),
            _ if delivery.found() > 0 || is_late() => Ok(delivery.found() as u64),
            _ => Err(Stop::WouldBlock),
        }
    }

    async fn or_wait(self, t: &Thread, deadline: Option<u64>) -> Result<u64> {
        let (file, most) = self.check(t)?;
        let core = epoll::of(&file).ok_or(Errno::EINVAL)?;
        loop {
            let found = self.collect(t, core, most).await?;
            if let Some(found) = settled(found, deadline) {
                return Ok(found);
            }
            let mut wait = pin!(core.waiters().wait());
            wait.as_mut().enable();
            if core.listed() > 0 {
                // A wake that was given already goes on to the next, if this look is in vain.
                continue;
            }
            let mut sleep = pin!(deadline.map(rt::sleep_until));
            t.interruptible(poll_fn(|context| {
                let mut woken = wait.as_mut().poll(context).is_ready();
                if let Some(sleep) = sleep.as_mut().as_pin_mut() {
                    woken |= sleep.poll(context).is_ready();
                }
                if woken { Poll::Ready(()) } else { Poll::Pending }
            }))
            .await?;
        }
    }

    /// Delivers what is ready, in turns.
    async fn collect(self, t: &Thread, core: &epoll::Core, most: usize) -> Result<u64> {
        let mut delivery = Delivery::new(core, most);
        loop {
            match delivery.go_on(IN_A_TURN, &mut |at, events| copy_out(self.array + at, events)) {
                Ok(true) => return Ok(delivery.found() as u64),
                Ok(false) => rt::yield_now().await,
                Err(fault) => match t.mm().resolve(fault).await {
                    Err(_) if delivery.found() > 0 => return Ok(delivery.found() as u64),
                    resolved => resolved?,
                },
            }
        }
    }

    /// Waits under a signal mask. A signal ends the wait for good, with a handler or without.
    async fn wait(self, t: &Thread, mask: Option<u64>, deadline: Option<u64>) -> Result<u64> {
        match masked(t, mask, self.or_wait(t, deadline)).await {
            Err(Errno::ERESTARTNOHAND) => Err(Errno::EINTR),
            other => other,
        }
    }

    /// As [`Events::wait`]; mask and deadline are still to be read.
    async fn wait_masked(
        self,
        t: &Thread,
        deadline: impl Future<Output = Result<Option<u64>>>,
        mask: u64,
        size: u64,
    ) -> Result<u64> {
        let deadline = deadline.await?;
        let mask = signal_mask(t, mask, size).await?;
        self.wait(t, mask, deadline).await
    }
}

/// `epoll_wait(2)`.
pub async fn epoll_wait(t: &Thread, epfd: i32, array: u64, most: i32, timeout: i32) -> Result<u64> {
    let events = Events { epfd, array, most };
    Box::pin(events.wait(t, None, milliseconds(timeout))).await
}

/// [`epoll_wait`] where it need not wait.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EBADF`; that it has to wait.
pub fn epoll_wait_at_once(t: &Thread, epfd: i32, array: u64, most: i32, timeout: i32) -> Attempt<u64> {
    Events { epfd, array, most }.at_once(t, || timeout == 0)
}

/// `epoll_pwait(2)`.
pub async fn epoll_pwait(
    t: &Thread,
    epfd: i32,
    array: u64,
    most: i32,
    timeout: i32,
    mask: u64,
    size: u64,
) -> Result<u64> {
    let events = Events { epfd, array, most };
    let deadline = ready(Ok(milliseconds(timeout)));
    Box::pin(events.wait_masked(t, deadline, mask, size)).await
}

/// Whether the mask of a call that need not wait is right; it has no effect.
fn check_mask(mask: u64, size: u64) -> Attempt<()> {
    if mask == 0 {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::EINVAL.into());
    }
    Ok(copy_in(&mut [0; 8], mask)?)
}

/// [`epoll_pwait`] where it need not wait.
///
/// # Errors
/// As [`epoll_wait_at_once`].
pub fn epoll_pwait_at_once(
    t: &Thread,
    epfd: i32,
    array: u64,
    most: i32,
    timeout: i32,
    mask: u64,
    size: u64,
) -> Attempt<u64> {
    check_mask(mask, size)?;
    Events { epfd, array, most }.at_once(t, || timeout == 0)
}

/// `epoll_pwait2(2)`: the timeout is a `struct timespec`, or none.
pub async fn epoll_pwait2(
    t: &Thread,
    epfd: i32,
    array: u64,
    most: i32,
    timeout: u64,
    mask: u64,
    size: u64,
) -> Result<u64> {
    let events = Events { epfd, array, most };
    Box::pin(events.wait_masked(t, deadline(t, timeout, 1), mask, size)).await
}

/// [`epoll_pwait2`] where it need not wait.
///
/// # Errors
/// As [`epoll_wait_at_once`].
pub fn epoll_pwait2_at_once(
    t: &Thread,
    epfd: i32,
    array: u64,
    most: i32,
    timeout: u64,
    mask: u64,
    size: u64,
) -> Attempt<u64> {
    let deadline = deadline_at_once(timeout, 1).ok_or(Stop::WouldBlock)?;
    check_mask(mask, size)?;
    Events { epfd, array, most }.at_once(t, || settled(0, deadline).is_some())
}
