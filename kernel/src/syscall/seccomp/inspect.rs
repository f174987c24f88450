//! What a tracer learns of a thread's filters: `PTRACE_SECCOMP_GET_FILTER` and `PTRACE_SECCOMP_GET_METADATA`.

use alloc::sync::Arc;

use zerocopy::IntoBytes;

use super::flags;
use crate::{
    errno::{Errno, Result},
    mm::fallible,
    task::{
        Capability, Thread,
        seccomp::{Filter, Link},
    },
};

/// The filters of a thread that the caller may see.
fn filters(t: &Thread, of: &Thread) -> Result<Arc<Filter>> {
    let credentials = t.credentials();
    if !credentials.can(Capability::SysAdmin) || credentials.filter.is_some() {
        return Err(Errno::EACCES);
    }
    let filters = of.credentials().filter.clone();
    filters
        .filter(|filter| matches!(**filter, Filter::Programs(_)))
        .ok_or(Errno::EINVAL)
}

fn program(filters: &Filter, index: u64) -> Result<&Link> {
    filters.program(index).ok_or(Errno::ENOENT)
}

/// Stores the instructions of a filter; how many there are.
///
/// # Errors
/// `EACCES`, `EINVAL` for a thread without, `ENOENT`, `EFAULT`, `ENOMEM`.
pub async fn filter(t: &Thread, of: &Thread, index: u64, to: u64) -> Result<u64> {
    let filters = filters(t, of)?;
    let instructions = program(&filters, index)?.instructions();
    if to != 0 {
        let bytes = fallible::copy(instructions.as_bytes())?;
        t.mm().write_bytes(to, &bytes).await?;
    }
    Ok(instructions.len() as u64)
}

/// Stores the flags of a filter behind its index (`struct seccomp_metadata`): how many bytes it has stored of the two.
///
/// # Errors
/// As [`filter`]; `EINVAL` for less than an index.
pub async fn metadata(t: &Thread, of: &Thread, size: u64, at: u64) -> Result<u64> {
    let filters = filters(t, of)?;
    let size = size.min(16);
    if size < 8 {
        return Err(Errno::EINVAL);
    }
    let index: u64 = t.mm().read(at).await?;
    let flags = if program(&filters, index)?.logs() {
        flags::LOG
    } else {
        0
    };
    let words = [index, flags.into()];
    t.mm().write_bytes(at, &words.as_bytes()[..size as usize]).await?;
    Ok(size)
}
