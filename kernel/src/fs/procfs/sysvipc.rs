//! `/proc/sysvipc`, and the limits in `/proc/sys/kernel` (`sysvipc(7)`) and `/proc/sys/fs/mqueue`
//! (`mq_overview(7)`).

use alloc::{format, string::String, sync::Arc};
use core::{
    fmt::{Error, Result, Write},
    ops::RangeInclusive,
};

use crate::{
    errno::{self, Errno},
    ipc::{
        limits::{Limit, MAX_LIMIT_OF_OBJECTS},
        registry::{Object, Registry},
    },
    mm::fallible::TryRoom,
    namespace,
};

/// A line for each object. There may be thousands: the text grows by what can fail.
fn list<T>(out: &mut String, header: &str, registry: &Registry<T>, line: impl Fn(&Arc<Object<T>>) -> String) -> Result {
    writeln!(out, "{header}")?;
    let mut from = 0;
    while let Some((index, object)) = registry.next(from) {
        let line = line(&object);
        out.try_room(line.len()).map_err(|_| Error)?;
        out.push_str(&line);
        from = index + 1;
    }
    Ok(())
}

pub(super) fn messages(out: &mut String) -> Result {
    let header = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime";
    let ipc = namespace::current().ipc.clone();
    list(out, header, &ipc.objects().queues, |object| {
        let state = object.lock_even_if_gone();
        let (owner, queue) = (&state.permission, &state.body);
        let [sent, received, changed] = queue.times;
        format!(
            "{:10} {:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {sent:10} {received:10} {changed:10}\n",
            owner.key,
            object.id(),
            owner.mode,
            queue.bytes,
            queue.len(),
            queue.last_sender,
            queue.last_receiver,
            owner.uid,
            owner.gid,
            owner.cuid,
            owner.cgid,
        )
    })
}

pub(super) fn semaphores(out: &mut String) -> Result {
    let header = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime";
    let ipc = namespace::current().ipc.clone();
    list(out, header, &ipc.objects().sets, |object| {
        let state = object.lock_even_if_gone();
        let owner = &state.permission;
        format!(
            "{:10} {:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {:10} {:10}\n",
            owner.key,
            object.id(),
            owner.mode,
            object.weight(),
            owner.uid,
            owner.gid,
            owner.cuid,
            owner.cgid,
            state.body.operated,
            state.body.changed,
        )
    })
}

pub(super) fn segments(out: &mut String) -> Result {
    let header = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap";
    let ipc = namespace::current().ipc.clone();
    list(out, header, &ipc.objects().segments, |object| {
        let resident = object.resident_pages() * hal::PAGE_SIZE as u64;
        let state = object.lock_even_if_gone();
        let (owner, segment) = (&state.permission, &state.body);
        let [attached, detached, changed] = segment.times;
        format!(
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {attached:10} {detached:10} {changed:10} {resident:21} {:21}\n",
            owner.key,
            object.id(),
            owner.mode,
            segment.size,
            segment.creator,
            segment.last,
            segment.attached,
            owner.uid,
            owner.gid,
            owner.cuid,
            owner.cgid,
            0,
        )
    })
}

/// Sets limits from a line with a number for each, within what each may be.
fn set(line: &[u8], limits: &[(&Limit, RangeInclusive<u64>)]) -> errno::Result<()> {
    let text = core::str::from_utf8(line).map_err(|_| Errno::EINVAL)?;
    let mut values = [0; 4];
    let mut words = text.split_ascii_whitespace();
    for ((_, allowed), value) in limits.iter().zip(&mut values) {
        let word = words.next().ok_or(Errno::EINVAL)?;
        *value = word.parse().map_err(|_| Errno::EINVAL)?;
        if !allowed.contains(value) {
            return Err(Errno::EINVAL);
        }
    }
    for ((limit, _), value) in limits.iter().zip(values) {
        limit.set(value);
    }
    Ok(())
}

/// What an `int` holds.
const INT: u64 = i32::MAX as u64;

macro_rules! limits {
    ($($show:ident, $set:ident, $of:ident: [$($limit:ident => $allowed:expr),+];)*) => {$(
        pub(super) fn $show(out: &mut String) -> Result {
            let ipc = namespace::current().ipc.clone();
            let values = [$(ipc.$of().$limit.get()),+].map(|value| format!("{value}"));
            writeln!(out, "{}", values.join("\t"))
        }

        pub(super) fn $set(line: &[u8]) -> errno::Result<()> {
            let ipc = namespace::current().ipc.clone();
            set(line, &[$((&ipc.$of().$limit, $allowed)),+])
        }
    )*};
}

limits! {
    sem, set_sem, limits: [semmsl => 0..=INT, semmns => 0..=INT, semopm => 0..=INT, semmni => 0..=MAX_LIMIT_OF_OBJECTS];
    shmmax, set_shmmax, limits: [shmmax => 0..=u64::MAX];
    shmall, set_shmall, limits: [shmall => 0..=u64::MAX];
    shmmni, set_shmmni, limits: [shmmni => 0..=MAX_LIMIT_OF_OBJECTS];
    msgmax, set_msgmax, limits: [msgmax => 0..=INT];
    msgmnb, set_msgmnb, limits: [msgmnb => 0..=INT];
    msgmni, set_msgmni, limits: [msgmni => 0..=MAX_LIMIT_OF_OBJECTS];
    queues_max, set_queues_max, queue_limits: [queues => 0..=INT];
    msg_max, set_msg_max, queue_limits: [messages => 1..=65_536];
    msgsize_max, set_msgsize_max, queue_limits: [size => 128..=16 << 20];
    msg_default, set_msg_default, queue_limits: [default_messages => 1..=65_536];
    msgsize_default, set_msgsize_default, queue_limits: [default_size => 128..=16 << 20];
}
