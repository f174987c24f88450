//! System V shared memory.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::{
    programs,
    sys::{self, Sys, fork, in_child, peek, poke, wait_exit, wait_killed},
    syscall,
    sysv::{IPC_CREAT, Kind, Object, as_user, key},
};

crate::tests! { "segments":
    memory_is_shared_and_zero_at_first [frees];
    arguments_are_looked_at;
    addresses_are_as_asked_for;
    rights_decide_how_it_is_attached;
    attachments_are_counted [frees];
    a_removed_segment_lives_until_its_last_detach [frees];
    an_exec_and_an_end_detach [frees];
    parts_are_detached_together;
    maps_name_it;
    times_and_numbers_are_kept;
    locks_need_a_right_or_a_limit;
    what_is_past_the_end_is_a_bus_error;
}

const PAGE: usize = 4096;
const RDONLY: i32 = 0o1_0000;
const RND: i32 = 0o2_0000;
const REMAP: i32 = 0o4_0000;
const EXEC: i32 = 0o10_0000;
const DEST: u32 = 0o1000;
const LOCKED: u32 = 0o2000;

fn segment(size: usize, mode: i32) -> Object {
    Object::of(
        Kind::Memory,
        syscall!(SYS_shmget, 0, size, mode).expect("shmget") as i32,
    )
}

fn attach(id: i32, address: usize, flags: i32) -> Sys {
    syscall!(SYS_shmat, id, address, flags)
}

fn detach(address: usize) -> Sys {
    syscall!(SYS_shmdt, address)
}

impl Object {
    fn attached(&self) -> u64 {
        self.stat().expect("IPC_STAT")[11]
    }

    /// Who made it and who last came or went.
    fn processes(&self) -> (i32, i32) {
        let word = self.stat().expect("IPC_STAT")[10];
        (word as i32, (word >> 32) as i32)
    }

    /// Last attach, last detach, last change.
    fn times(&self) -> [u64; 3] {
        let words = self.stat().expect("IPC_STAT");
        [words[7], words[8], words[9]]
    }
}

fn memory_is_shared_and_zero_at_first() {
    let segment = segment(3 * PAGE, 0o600);
    let [here, there] = [0; 2].map(|address| attach(segment.id, address, 0).expect("shmat"));
    assert!(here != there && (0..3).all(|page| peek(here + page * PAGE) == 0));
    poke(here + 5000, 7);
    assert_eq!(peek(there + 5000), 7);
    // SAFETY: a word of the segment.
    let word = unsafe { &*(here as *const AtomicU64) };
    let child = fork(|| {
        word.fetch_add(5, SeqCst);
        poke(there + 9000, 9);
        0
    });
    assert_eq!(wait_exit(child), 0);
    assert_eq!((word.load(SeqCst), peek(here + 9000)), (5, 9));
    let other = fork(|| {
        detach(here).expect("shmdt");
        let again = attach(segment.id, 0, RDONLY).expect("shmat");
        i32::from(peek(again + 5000) != 7)
    });
    assert_eq!(wait_exit(other), 0);
    assert_eq!((detach(here), detach(there)), (Ok(0), Ok(0)));
    let again = attach(segment.id, 0, 0).expect("shmat");
    assert_eq!(peek(again + 5000), 7, "it stays without attachments");
    detach(again).expect("shmdt");
}

fn arguments_are_looked_at() {
    let get = |size: usize, flags: i32| syscall!(SYS_shmget, 0, size, flags);
    assert_eq!(get(0, 0o600), Err(libc::EINVAL));
    assert_eq!(get(usize::MAX, 0o600), Err(libc::EINVAL));
    assert_eq!(get(1 << 50, 0o600), Err(libc::ENOMEM), "more than there is");
    let key = key();
    let segment = Object::of(
        Kind::Memory,
        syscall!(SYS_shmget, key, 5000, IPC_CREAT | 0o600).expect("shmget") as i32,
    );
    assert_eq!(segment.stat().expect("IPC_STAT")[6], 5000);
    assert_eq!(syscall!(SYS_shmget, key, 0, 0o600), Ok(segment.id as usize));
    assert_eq!(syscall!(SYS_shmget, key, 5000, 0o600), Ok(segment.id as usize));
    assert_eq!(
        syscall!(SYS_shmget, key, 5001, 0o600),
        Err(libc::EINVAL),
        "not even within its last page"
    );
    assert_eq!(attach(-1, 0, 0), Err(libc::EINVAL));
    assert_eq!(attach(segment.id + (1 << 15), 0, 0), Err(libc::EINVAL));
    assert_eq!(attach(segment.id, 0, REMAP), Err(libc::EINVAL));
    assert_eq!(attach(segment.id, 12, 0), Err(libc::EINVAL));
    assert_eq!(detach(12), Err(libc::EINVAL));
    let memory = sys::memory(PAGE);
    assert_eq!(detach(memory), Err(libc::EINVAL), "other memory");
    assert_eq!(peek(memory), 0, "which stays");
    assert_eq!(segment.attached(), 0);
}

fn addresses_are_as_asked_for() {
    let segment = segment(2 * PAGE, 0o600);
    let room = sys::memory(4 * PAGE);
    poke(room, 1);
    assert_eq!(attach(segment.id, room, 0), Err(libc::EINVAL), "something is there");
    assert_eq!(attach(segment.id, room + 3 * PAGE, 0), Err(libc::EINVAL));
    assert_eq!(
        attach(segment.id, room + 100, REMAP),
        Err(libc::EINVAL),
        "no page begins there"
    );
    assert_eq!(segment.attached(), 0);
    assert_eq!(attach(segment.id, room + PAGE + 100, REMAP | RND), Ok(room + PAGE));
    poke(room + PAGE, 3);
    assert_eq!((peek(room), peek(room + 3 * PAGE)), (1, 0));
    detach(room + PAGE).expect("shmdt");
    assert_eq!(
        attach(segment.id, room + PAGE, 0),
        Ok(room + PAGE),
        "nothing is there now"
    );
    assert_eq!(peek(room + PAGE), 3);
    assert_eq!(detach(room), Err(libc::EINVAL), "not its beginning");
    detach(room + PAGE).expect("shmdt");
    assert_eq!(attach(segment.id, 1, RND | REMAP), Err(libc::EINVAL), "down to nothing");
}

fn rights_decide_how_it_is_attached() {
    let segment = segment(PAGE, 0o644);
    let read_only = attach(segment.id, 0, RDONLY).expect("shmat");
    let writes = fork(|| {
        poke(read_only, 1);
        0
    });
    assert_eq!(wait_killed(writes), libc::SIGSEGV);
    let protect = |prot: i32| syscall!(SYS_mprotect, read_only, PAGE, prot);
    assert_eq!(protect(libc::PROT_READ | libc::PROT_WRITE), Err(libc::EACCES));
    assert_eq!(protect(libc::PROT_READ | libc::PROT_EXEC), Ok(0));
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    assert!(
        maps.contains(&format!("{read_only:08x}-{:08x} r-xs", read_only + PAGE)),
        "{maps}"
    );
    as_user(1234, || {
        assert!(attach(segment.id, 0, RDONLY).is_ok());
        assert_eq!(attach(segment.id, 0, 0), Err(libc::EACCES));
        assert_eq!(attach(segment.id, 0, RDONLY | EXEC), Err(libc::EACCES));
    });
    let code = attach(segment.id, 0, EXEC).expect("shmat");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    assert!(maps.contains(&format!("{code:08x}-{:08x} rwxs", code + PAGE)), "{maps}");
}

fn attachments_are_counted() {
    let segment = segment(4 * PAGE, 0o600);
    let first = attach(segment.id, 0, 0).expect("shmat");
    let second = attach(segment.id, 0, RDONLY).expect("shmat");
    assert_eq!(segment.attached(), 2);
    in_child(|| {
        assert_eq!(segment.attached(), 4, "a fork has its own");
        detach(first).expect("shmdt");
        assert_eq!(segment.attached(), 3);
        std::thread::spawn(|| ()).join().expect("join");
        assert_eq!(segment.attached(), 3, "a thread has not");
    });
    assert_eq!(segment.attached(), 2);
    // Each part that a mapping falls into counts.
    syscall!(SYS_mprotect, first + PAGE, PAGE, libc::PROT_READ).expect("mprotect");
    assert_eq!(segment.attached(), 4);
    syscall!(SYS_munmap, first + PAGE, PAGE).expect("munmap");
    assert_eq!(segment.attached(), 3);
    syscall!(SYS_munmap, second, 2 * PAGE).expect("munmap");
    assert_eq!(segment.attached(), 3);
    syscall!(SYS_madvise, first, PAGE, libc::MADV_DONTFORK).expect("madvise");
    in_child(|| assert_eq!(segment.attached(), 5, "what is not forked is not counted"));
    let moved = syscall!(SYS_mremap, first, PAGE, 2 * PAGE, libc::MREMAP_MAYMOVE).expect("mremap");
    assert_eq!(segment.attached(), 3, "a move is none");
    syscall!(SYS_munmap, moved, 2 * PAGE).expect("munmap");
    assert_eq!(segment.attached(), 2);
    detach(first).expect("what is left of it");
    syscall!(SYS_munmap, second + 2 * PAGE, 2 * PAGE).expect("munmap");
    assert_eq!(segment.attached(), 0);
}

fn a_removed_segment_lives_until_its_last_detach() {
    let key = key();
    let segment = Object::new(Kind::Memory, key, 0o600);
    let address = attach(segment.id, 0, 0).expect("shmat");
    poke(address, 7);
    segment.remove().expect("IPC_RMID");
    let permission = segment.permission();
    assert_eq!((permission.key, permission.mode), (0, DEST | 0o600));
    assert_eq!(Kind::Memory.get(key, 0o600), Err(libc::ENOENT));
    let again = attach(segment.id, 0, RDONLY).expect("one may still come");
    assert_eq!((peek(again), segment.attached()), (7, 2));
    segment.remove().expect("once more");
    detach(address).expect("shmdt");
    let child = fork(|| 0);
    assert_eq!(wait_exit(child), 0);
    assert_eq!(peek(again), 7);
    detach(again).expect("shmdt");
    assert_eq!(segment.stat().err(), Some(libc::EINVAL));
    assert_eq!(attach(segment.id, 0, 0), Err(libc::EINVAL));
}

fn an_exec_and_an_end_detach() {
    let me = programs::myself();
    let segment = segment(PAGE, 0o600);
    let (reader, writer) = sys::pipe(0);
    let child = fork(|| {
        attach(segment.id, 0, 0).expect("shmat");
        attach(segment.id, 0, 0).expect("shmat");
        assert_eq!(segment.attached(), 2);
        let number = writer.to_string();
        programs::execute(&me, &[&me, "helper", "closed", &number])
    });
    assert_eq!(wait_exit(child), 1, "the descriptor is still open there");
    assert_eq!(segment.attached(), 0);
    let child = fork(|| {
        attach(segment.id, 0, 0).expect("shmat");
        sys::close(reader);
        sys::write(writer, b"x").expect("write");
        sys::sleep_ms(60_000);
        0
    });
    sys::read(reader, &mut [0]).expect("read");
    assert_eq!(segment.attached(), 1);
    sys::kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(wait_killed(child), libc::SIGKILL);
    assert_eq!(segment.attached(), 0);
    assert_eq!(segment.processes().1, child, "who went last");
}

fn parts_are_detached_together() {
    let segment = segment(5 * PAGE, 0o600);
    let address = attach(segment.id, 0, 0).expect("shmat");
    syscall!(SYS_munmap, address, PAGE).expect("munmap");
    syscall!(SYS_mprotect, address + 2 * PAGE, PAGE, libc::PROT_READ).expect("mprotect");
    let hole = address + 3 * PAGE;
    sys::mmap(
        hole,
        PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
    )
    .expect("mmap");
    poke(hole, 4);
    assert_eq!(segment.attached(), 3);
    detach(address).expect("where it began");
    assert_eq!((segment.attached(), peek(hole)), (0, 4), "and nothing else");
}

fn maps_name_it() {
    let key = key();
    let segment = Object::new(Kind::Memory, key, 0o600);
    let address = attach(segment.id, 0, 0).expect("shmat");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = maps.lines().find(|line| line.starts_with(&format!("{address:08x}-")));
    let words: Vec<&str> = line.expect("a line").split_whitespace().collect();
    let id = segment.id.to_string();
    let name = format!("/SYSV{key:08x}");
    assert_eq!(words[1..], ["rw-s", "00000000", "00:01", &id, &name, "(deleted)"]);
}

fn times_and_numbers_are_kept() {
    let segment = segment(PAGE, 0o600);
    let me = syscall!(SYS_getpid).expect("getpid") as i32;
    let [attached, detached, changed] = segment.times();
    assert!(attached == 0 && detached == 0 && changed > 1_600_000_000);
    assert_eq!(segment.processes(), (me, 0));
    let address = attach(segment.id, 0, 0).expect("shmat");
    let [attached, detached, _] = segment.times();
    assert!(attached >= changed && detached == 0);
    assert_eq!(segment.processes(), (me, me));
    let child = fork(|| i32::from(segment.processes() != (me, me)));
    assert_eq!(wait_exit(child), 0, "the parent attached for it");
    assert_eq!(segment.processes(), (me, child), "which it gave up itself");
    assert!(segment.times()[1] >= changed);
    detach(address).expect("shmdt");
    assert_eq!(segment.processes(), (me, me));
    sys::sleep_ms(1100);
    let mut words = segment.stat().expect("IPC_STAT");
    segment
        .control(crate::sysv::IPC_SET, words.as_mut_ptr() as usize)
        .expect("IPC_SET");
    assert!(segment.times()[2] > changed);
}

fn locks_need_a_right_or_a_limit() {
    const LOCK: i32 = 11;
    const UNLOCK: i32 = 12;
    let segment = segment(2 * PAGE, 0o666);
    assert_eq!(segment.control(LOCK, 0), Ok(0));
    assert_eq!(segment.permission().mode, LOCKED | 0o666);
    assert_eq!(segment.control(LOCK, 0), Ok(0), "once more");
    assert_eq!(segment.control(UNLOCK, 0), Ok(0));
    assert_eq!(segment.permission().mode, 0o666);
    as_user(1234, || {
        assert_eq!(segment.control(LOCK, 0), Err(libc::EPERM), "another's")
    });
    as_user(1235, || {
        let own = Object::of(
            Kind::Memory,
            syscall!(SYS_shmget, 0, 2 * PAGE, 0o600).expect("shmget") as i32,
        );
        let limit = |bytes: u64| {
            syscall!(SYS_prlimit64, 0, libc::RLIMIT_MEMLOCK, [bytes, 1 << 20].as_ptr(), 0).expect("prlimit64");
        };
        limit(0);
        assert_eq!(own.control(LOCK, 0), Err(libc::EPERM));
        limit(PAGE as u64);
        assert_eq!(own.control(LOCK, 0), Err(libc::ENOMEM));
        limit(2 * PAGE as u64);
        assert_eq!(own.control(LOCK, 0), Ok(0));
        assert_eq!(own.control(UNLOCK, 0), Ok(0));
        drop(own);
    });
}

fn what_is_past_the_end_is_a_bus_error() {
    let segment = segment(PAGE + 1, 0o600);
    let address = attach(segment.id, 0, 0).expect("shmat");
    poke(address + PAGE + 100, 1);
    let grown = syscall!(SYS_mremap, address, 2 * PAGE, 3 * PAGE, libc::MREMAP_MAYMOVE).expect("mremap");
    let child = fork(|| {
        peek(grown + 2 * PAGE);
        0
    });
    assert_eq!(wait_killed(child), libc::SIGBUS);
    assert_eq!(peek(grown + PAGE + 100), 1);
}
