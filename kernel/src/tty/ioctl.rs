//! Device control of terminals (`ioctl_tty(2)`).

use alloc::sync::Arc;

use linux_raw_sys::{general as raw, ioctl};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Tty,
    discipline::Flush,
    job::Steal,
    termios::{Termios, WindowSize},
};
use crate::{
    errno::Errno,
    fs::{
        Attempt, Stop,
        io::{copy_in, copy_out},
    },
    task::{Capability, Thread, signal},
};

/// When a change of settings takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// Once all output has been sent.
    Drained,
    /// The same, and unread input is thrown away.
    Flushed,
}

/// `struct winsize` (`asm-generic/termios.h`).
#[derive(Clone, Copy, FromBytes, IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct UserWindow {
    rows: u16,
    columns: u16,
    x: u16,
    y: u16,
}

fn read<T: FromBytes + IntoBytes>(address: u64) -> Attempt<T> {
    let mut value = T::new_zeroed();
    copy_in(value.as_mut_bytes(), address)?;
    Ok(value)
}

fn give<T: IntoBytes + zerocopy::Immutable>(address: u64, value: &T) -> Attempt<u64> {
    copy_out(address, value.as_bytes())?;
    Ok(0)
}

impl Tty {
    /// `ioctl` on this terminal.
    ///
    /// # Errors
    /// As `ioctl_tty(2)`; `ENOTTY` for a request that terminals do not have; [`Stop::WouldBlock`] while output drains.
    pub(super) fn control(self: &Arc<Self>, caller: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        match request {
            ioctl::TCGETS => {
                let bytes = self.settings().to_bytes();
                copy_out(argument, &bytes[..Termios::SIZE])?;
                Ok(0)
            }
            ioctl::TCGETS2 => give(argument, &self.settings().to_bytes()),
            ioctl::TCSETS => self.set(caller, When::Now, self.settings().with_termios(&read(argument)?)),
            ioctl::TCSETSW => self.set(caller, When::Drained, self.settings().with_termios(&read(argument)?)),
            ioctl::TCSETSF => self.set(caller, When::Flushed, self.settings().with_termios(&read(argument)?)),
            ioctl::TCSETS2 => self.set(caller, When::Now, self.settings().with_termios2(&read(argument)?)),
            ioctl::TCSETSW2 => self.set(caller, When::Drained, self.settings().with_termios2(&read(argument)?)),
            ioctl::TCSETSF2 => self.set(caller, When::Flushed, self.settings().with_termios2(&read(argument)?)),
            ioctl::TIOCGWINSZ => {
                let WindowSize {
                    ws_row,
                    ws_col,
                    ws_xpixel,
                    ws_ypixel,
                } = self.window_size();
                give(
                    argument,
                    &UserWindow {
                        rows: ws_row,
                        columns: ws_col,
                        x: ws_xpixel,
                        y: ws_ypixel,
                    },
                )
            }
            ioctl::TIOCSWINSZ => {
                self.set_window(read(argument)?);
                Ok(0)
            }
            ioctl::FIONREAD => give(argument, &(self.state.lock().discipline.readable_len() as u32)),
            ioctl::TIOCOUTQ => give(argument, &(self.state.lock().discipline.output_len() as u32)),
            ioctl::TCFLSH => self.flush(caller, argument),
            ioctl::TCXONC => self.flow(caller, argument),
            // There is no break to be sent: waiting for the output is all of it.
            ioctl::TCSBRK | ioctl::TCSBRKP => {
                self.check_foreground(caller, signal::set::SIGTTOU)?;
                self.drained()
            }
            ioctl::TIOCGETD => give(argument, &0u32),
            ioctl::TIOCSETD if read::<u32>(argument)? == 0 => Ok(0),
            ioctl::TIOCSETD => Err(Errno::EINVAL.into()),
            ioctl::TIOCSTI => Err(Errno::EPERM.into()),
            _ => self.control_session(caller, request, argument),
        }
    }

    fn control_session(self: &Arc<Self>, caller: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        let process = caller.process();
        match request {
            ioctl::TIOCSCTTY => {
                let may_steal = caller.credentials().can(Capability::SysAdmin);
                let steal = if argument == 1 && may_steal {
                    Steal::Yes
                } else {
                    Steal::No
                };
                self.become_controlling(process, steal)?;
                Ok(0)
            }
            ioctl::TIOCNOTTY if !self.controls(process) => Err(Errno::ENOTTY.into()),
            ioctl::TIOCNOTTY => {
                let session = process.session();
                if session.id() == process.pid() {
                    self.part(&session);
                }
                Ok(0)
            }
            ioctl::TIOCGPGRP => give(argument, &self.foreground(process)?),
            ioctl::TIOCSPGRP => {
                let group = read(argument)?;
                self.set_foreground(caller, group)?;
                Ok(0)
            }
            ioctl::TIOCGSID if self.controls(process) => give(argument, &process.session().id()),
            ioctl::TIOCVHANGUP if !caller.credentials().can(Capability::SysAdmin) => Err(Errno::EPERM.into()),
            ioctl::TIOCVHANGUP => {
                self.hang_up();
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn settings(&self) -> Termios {
        *self.state.lock().discipline.termios()
    }

    fn set(&self, caller: &Thread, when: When, new: Termios) -> Attempt<u64> {
        self.check_foreground(caller, signal::set::SIGTTOU)?;
        if when != When::Now {
            self.drained()?;
        }
        let effects = {
            let mut state = self.state.lock();
            if when == When::Flushed {
                state.discipline.flush(Flush::Input);
            }
            state.discipline.set_termios(new)
        };
        self.apply(effects);
        self.refill();
        Ok(0)
    }

    fn drained(&self) -> Attempt<u64> {
        if self.state.lock().discipline.output_len() > 0 {
            Err(Stop::WouldBlock)
        } else {
            Ok(0)
        }
    }

    fn set_window(&self, size: UserWindow) {
        let new = WindowSize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: size.x,
            ws_ypixel: size.y,
        };
        let same = |a: &WindowSize, b: &WindowSize| {
            (a.ws_row, a.ws_col, a.ws_xpixel, a.ws_ypixel) == (b.ws_row, b.ws_col, b.ws_xpixel, b.ws_ypixel)
        };
        let foreground = {
            let mut state = self.state.lock();
            if same(&state.window, &new) {
                return;
            }
            state.window = new;
            state.foreground
        };
        if let Some(group) = foreground {
            signal::signal_process_group(group, signal::set::SIGWINCH);
        }
    }

    fn flush(&self, caller: &Thread, argument: u64) -> Attempt<u64> {
        self.check_foreground(caller, signal::set::SIGTTOU)?;
        let what = match argument as u32 {
            raw::TCIFLUSH => Flush::Input,
            raw::TCOFLUSH => Flush::Output,
            raw::TCIOFLUSH => Flush::Both,
            _ => return Err(Errno::EINVAL.into()),
        };
        let effects = self.state.lock().discipline.flush(what);
        self.apply(effects);
        self.refill();
        Ok(0)
    }

    fn flow(&self, caller: &Thread, argument: u64) -> Attempt<u64> {
        self.check_foreground(caller, signal::set::SIGTTOU)?;
        let effects = {
            let mut state = self.state.lock();
            match argument as u32 {
                raw::TCOOFF => state.discipline.suspend_output(true),
                raw::TCOON => state.discipline.suspend_output(false),
                raw::TCIOFF => state.discipline.send_urgent(raw::VSTOP),
                raw::TCION => state.discipline.send_urgent(raw::VSTART),
                _ => return Err(Errno::EINVAL.into()),
            }
        };
        self.apply(effects);
        Ok(0)
    }
}
