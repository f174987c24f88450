//! `membarrier(2)`: memory barriers on the CPUs where others run, so that those others need none of their own.
//!
//! A task is spawned for each CPU that matters and joined. To a private command only those CPUs do that have the process's address
//! space active: one that comes to it later passes a barrier on its way ([`AddressSpace::activate`](crate::mm::AddressSpace::activate)),
//! and one that has left it has been seen to leave. What a program runs on a CPU comes either before that CPU's task, whose barrier the
//! caller then sees the effects of, or after it, and sees what the caller did before the call; a thread that moves meanwhile is no
//! exception, since one piece of it happens before the next. The thread that the task came before has been away from its CPU, which
//! is what ends restartable sequences ([`rseq`](crate::task::rseq)), too.

use core::sync::atomic::{Ordering, fence};

use executor::{Class, SpawnOptions};
use hal::{arch::Cpu, traits::CpuOps};
use linux_raw_sys::general as linux;
use smallvec::SmallVec;

use crate::{
    errno::{Errno, Result},
    rt,
    task::Thread,
};

const fn bit(command: linux::membarrier_cmd) -> u32 {
    command as u32
}

const GLOBAL: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_GLOBAL);
const GLOBAL_EXPEDITED: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_GLOBAL_EXPEDITED);
const PRIVATE: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
const PRIVATE_SYNC_CORE: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
const PRIVATE_RSEQ: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
const REGISTER_GLOBAL: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
const REGISTER_PRIVATE: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
const REGISTER_SYNC_CORE: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE);
const REGISTER_RSEQ: u32 = bit(linux::membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ);
const ALL: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | PRIVATE
    | PRIVATE_SYNC_CORE
    | PRIVATE_RSEQ
    | REGISTER_GLOBAL
    | REGISTER_PRIVATE
    | REGISTER_SYNC_CORE
    | REGISTER_RSEQ;

/// `MEMBARRIER_CMD_FLAG_CPU`.
const ON_ONE_CPU: u32 = linux::membarrier_cmd_flag::MEMBARRIER_CMD_FLAG_CPU as u32;

/// `membarrier(2)`, with the commands of Linux 6.1.
///
/// # Errors
/// `EINVAL`; `EPERM` for a private command that the process has not registered; `ENOMEM`.
pub async fn membarrier(t: &Thread, command: u32, flags: u32, cpu: i32) -> Result<u64> {
    let may_name_a_cpu = command == PRIVATE_RSEQ;
    if flags != 0 && !(may_name_a_cpu && flags == ON_ONE_CPU) {
        return Err(Errno::EINVAL);
    }
    match command {
        0 => Ok(u64::from(ALL)),
        GLOBAL | GLOBAL_EXPEDITED => on(online(), false).await,
        PRIVATE | PRIVATE_SYNC_CORE | PRIVATE_RSEQ => {
            if t.mm().barriers.load(Ordering::Relaxed) & command == 0 {
                return Err(Errno::EPERM);
            }
            let one = u32::try_from(cpu).ok().and_then(|cpu| 1u64.checked_shl(cpu));
            match (flags & ON_ONE_CPU != 0).then_some(one) {
                // As on Linux, a CPU that does not exist runs nobody. A number below zero stands for all.
                Some(Some(one)) => on(own(t) & one, false).await,
                Some(None) if cpu >= 0 => Ok(0),
                _ => on(own(t), command == PRIVATE_SYNC_CORE).await,
            }
        }
        REGISTER_GLOBAL => Ok(0),
        REGISTER_PRIVATE | REGISTER_SYNC_CORE | REGISTER_RSEQ => {
            // Each is the bit after that of its command.
            t.mm().barriers.fetch_or(command >> 1, Ordering::Relaxed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn online() -> u64 {
    rt::executor().online()
}

/// Those on which threads of the process may be running. What the caller did before is seen by who comes to be among them.
fn own(t: &Thread) -> u64 {
    fence(Ordering::SeqCst);
    let own = t.mm().active_cpus();
    fence(Ordering::SeqCst);
    own & online()
}

/// Has the CPUs of `mask` pass a full barrier, and fetch their instructions anew where `synchronize` says so.
async fn on(mask: u64, synchronize: bool) -> Result<u64> {
    fence(Ordering::SeqCst);
    let mut tasks = SmallVec::<[_; 4]>::new();
    let mut spawned = Ok(0);
    for cpu in (0..u64::BITS).filter(|cpu| mask >> cpu & 1 != 0) {
        let options = const { SpawnOptions::new(Class::Service, "membarrier") }.cpu(cpu);
        let task = rt::executor().spawn(options, async move {
            fence(Ordering::SeqCst);
            if synchronize {
                Cpu::synchronize_instructions();
            }
        });
        match task {
            Ok(task) => tasks.push(task),
            Err(error) => {
                spawned = Err(error.into());
                break;
            }
        }
    }
    for task in tasks {
        // Nobody aborts it.
        let _ended = task.await;
    }
    fence(Ordering::SeqCst);
    spawned
}
