//! How likely a process is to be killed for memory (`proc_pid_oom_score(5)`, `proc_pid_oom_score_adj(5)`).

use alloc::{format, sync::Arc, vec::Vec};
use core::sync::atomic::Ordering::Relaxed;

use crate::{
    errno::{Errno, Result},
    mm,
    task::{Capability, Process, Thread, oom},
};

/// The largest adjustment: as if all of memory were the process's.
const MOST: i32 = 1000;

pub(super) fn score(process: &Arc<Process>) -> Result<Vec<u8>> {
    let total = mm::frame::stats().total.max(1) as i64;
    // As Linux scales it: from 0 to 1000, and twice as much with the adjustment.
    let points = oom::badness(process).map_or(0, |points| {
        let thousandths = 1000 + points.saturating_mul(1000) / total;
        thousandths.max(0) * 2 / 3
    });
    Ok(format!("{points}\n").into_bytes())
}

pub(super) fn adjustment(process: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(format!("{}\n", process.oom_adjustment.load(Relaxed)).into_bytes())
}

/// Who lowers it needs a capability, unless it only goes back to what one who had that made of it.
pub(super) fn set_adjustment(process: &Arc<Process>, caller: &Thread, line: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(line).map_err(|_| Errno::EINVAL)?;
    let wanted: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-MOST..=MOST).contains(&wanted) {
        return Err(Errno::EINVAL);
    }
    let is_able = caller.credentials().can(Capability::SysResource);
    if wanted < process.oom_least.load(Relaxed) && !is_able {
        return Err(Errno::EACCES);
    }
    process.oom_adjustment.store(wanted, Relaxed);
    if is_able {
        process.oom_least.store(wanted, Relaxed);
    }
    Ok(())
}
