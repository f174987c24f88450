//! Memory that gives out at every point at which it can: system calls with the n-th allocation refused, for each n, and with
//! n frames left. Nothing aborts, nothing panics, nothing leaks. A process of its own, because it counts all memory.

#![expect(unsafe_code, reason = "an allocator that refuses")]

mod common;
#[path = "common/disk.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod disk;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::Future,
    sync::Arc,
};

use common::{now, turn};
use disk::{Drive, Kind};
use kernel::{
    errno::{Errno, Result},
    fs::{
        FsContext, OpenFile, archive, block_device::Extent, boot::mount_root, inode::OpenRequest, nameless::Anonymous,
        page_cache::PageCache,
    },
    mm::{
        AddressSpace, Frame, Map, Prot,
        fallible::{self, POLL_BOUND},
        frame,
        heap::{self, KernelHeap},
    },
    syscall::{self, fs, memory, signal},
    task::{Thread, boot::parentless},
};

/// The host's allocator, which this thread can have refuse.
struct Refusing;

thread_local! {
    /// Refusable allocations that still succeed.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Bytes that this thread's allocations hold.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// Bytes held by allocations that cannot be refused, and the most of it.
    static FIRM: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn admits(bytes: usize) -> bool {
    if !heap::can_be_refused() {
        let (firm, most) = FIRM.get();
        let firm = firm + bytes as isize;
        FIRM.set((firm, most.max(firm)));
        return true;
    }
    match LEFT.get() {
        0 => false,
        u64::MAX => true,
        left => {
            LEFT.set(left - 1);
            true
        }
    }
}

// SAFETY: hands everything on to the system's allocator, or refuses.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !admits(layout.size()) {
            return core::ptr::null_mut();
        }
        LIVE.set(LIVE.get() + layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        let (firm, most) = FIRM.get();
        FIRM.set(((firm - layout.size() as isize).max(0), most));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static REFUSING: Refusing = Refusing;

/// A thread that makes calls, with a page of strings and a page to read into.
struct Caller {
    thread: Arc<Thread>,
    page: u64,
}

impl Caller {
    fn new(root: &FsContext) -> Self {
        let thread = parentless(9100, root.fork()).unwrap();
        let page = now(thread.mm().mmap(Map::anonymous(8192, Prot::READ | Prot::WRITE))).unwrap();
        now(thread.mm().write_bytes(page, &[0; 8192])).unwrap();
        Self { thread, page }
    }

    /// The address of a string.
    fn name(&self, name: &[u8]) -> u64 {
        now(self.thread.mm().write_bytes(self.page, name)).unwrap();
        now(self.thread.mm().write_bytes(self.page + name.len() as u64, &[0])).unwrap();
        self.page
    }

    /// The address of another string.
    fn other(&self, name: &[u8]) -> u64 {
        now(self.thread.mm().write_bytes(self.page + 512, name)).unwrap();
        now(self.thread.mm().write_bytes(self.page + 512 + name.len() as u64, &[0])).unwrap();
        self.page + 512
    }

    /// Removes whatever a call may have made.
    fn remove_files(&self) {
        for name in [
            &b"/a-file"[..],
            b"/another-file",
            b"/symlink",
            b"/link",
            b"/renamed",
            b"/copy",
        ] {
            let _ = now(fs::unlinkat(&self.thread, HERE, self.name(name), 0));
        }
        let _ = now(fs::unlinkat(&self.thread, HERE, self.name(b"/dir"), 0x200));
    }

    /// Ends, and lets go of its memory.
    fn leave(self) {
        let mm = self.thread.mm();
        drop(self);
        AddressSpace::deactivate_current();
        mm.leave();
    }
}

const HERE: i32 = -100;
const CREATE: u32 = 0o102;

type Call = fn(&Caller) -> Result<u64>;

fn open(c: &Caller) -> Result<u64> {
    now(fs::openat(&c.thread, HERE, c.name(b"/a-file"), CREATE, 0o600))
}

/// A call with flags that gives the file one more name, or another.
fn from_and_to<'a, F: Future<Output = Result<u64>>>(
    c: &'a Caller,
    call: impl FnOnce(&'a Thread, i32, u64, i32, u64, u32) -> F,
    to: &[u8],
) -> Result<u64> {
    now(call(&c.thread, HERE, c.name(b"/a-file"), HERE, c.other(to), 0))
}

/// Calls, each to be made on a fresh thread, after an [`open`] that may have failed.
const CALLS: &[(&str, Call)] = &[
    ("openat", |c| {
        now(fs::openat(&c.thread, HERE, c.name(b"/another-file"), CREATE, 0o600))
    }),
    ("mkdirat", |c| now(fs::mkdirat(&c.thread, HERE, c.name(b"/dir"), 0o700))),
    ("symlinkat", |c| {
        now(fs::symlinkat(
            &c.thread,
            c.other(&[b't'; 300]),
            HERE,
            c.name(b"/symlink"),
        ))
    }),
    ("linkat", |c| from_and_to(c, fs::linkat, b"/link")),
    ("renameat2", |c| from_and_to(c, fs::renameat2, b"/renamed")),
    ("write", |c| {
        let large = now(c.thread.mm().mmap(Map::anonymous(1 << 18, Prot::READ | Prot::WRITE)))?;
        now(fs::pwrite64(&c.thread, 0, large, 1 << 18, 1 << 30))
    }),
    ("fallocate", |c| now(fs::fallocate(&c.thread, 0, 0, 0, 1 << 20))),
    ("sendfile", |c| {
        now(fs::ftruncate(&c.thread, 0, 4096))?;
        let out = now(fs::openat(&c.thread, HERE, c.name(b"/copy"), CREATE, 0o600))?;
        now(fs::sendfile(&c.thread, out as i32, 0, 0, 4096))
    }),
    ("getdents64", |c| {
        let root = now(fs::openat(&c.thread, HERE, c.name(b"/"), 0o200_000, 0))?;
        now(fs::getdents64(&c.thread, root as i32, c.page + 4096, 4096))
    }),
    ("memfd_create", |c| {
        now(fs::memfd_create(&c.thread, c.name(b"memory"), 0))
    }),
    ("pipe2 and write", |c| {
        now(fs::pipe2(&c.thread, c.page, 0))?;
        let [_, write]: [i32; 2] = now(c.thread.mm().read(c.page))?;
        now(fs::write(&c.thread, write, c.page, 8192))
    }),
    ("eventfd2", |c| fs::eventfd2(&c.thread, 1, 0)),
    ("fcntl F_DUPFD", |c| now(fs::fcntl(&c.thread, 0, 0, 500))),
    ("fcntl F_SETLK", |c| {
        // struct flock: F_WRLCK, SEEK_SET, bytes 5 to 9.
        now(c.thread.mm().write(c.page, &[1_u64, 5, 5, 0]))?;
        now(fs::fcntl(&c.thread, 0, 6, c.page))
    }),
    ("stat", |c| {
        let name = c.name(b"/a-file");
        now(fs::user::with_faults(&c.thread, || {
            fs::newfstatat(&c.thread, HERE, name, c.page + 4096, 0)
        }))
    }),
    ("getcwd", |c| now(fs::getcwd(&c.thread, c.page + 4096, 4096))),
    ("poll", |c| {
        let entries = [[0_i32, 1]; 64];
        now(c.thread.mm().write(c.page + 4096, &entries))?;
        now(fs::poll(&c.thread, c.page + 4096, 64, 0))
    }),
    ("mmap and munmap", |c| {
        let at = now(memory::mmap(&c.thread, 0, 64 << 12, 3, 0x22, -1, 0))?;
        for page in 0..64 {
            now(c.thread.mm().write(at + (page << 12), &1_u8))?;
        }
        // Every second page goes: the area splits again and again.
        for page in (0..64).step_by(2) {
            now(memory::munmap(&c.thread, at + (page << 12), 4096))?;
        }
        now(memory::mremap(&c.thread, at + 4096, 4096, 8192, 1, 0))
    }),
    ("a shared mapping of a file", |c| {
        now(fs::ftruncate(&c.thread, 0, 8192))?;
        let at = now(memory::mmap(&c.thread, 0, 8192, 3, 1, 0, 0))?;
        now(c.thread.mm().write(at + 4096, &1_u8))?;
        Ok(0)
    }),
    ("the copy of an address space", |c| {
        now(c.thread.mm().fork()).map(|child| {
            child.leave();
            0
        })
    }),
    ("setgroups", |c| {
        now(syscall::identity::setgroups(&c.thread, 200, c.page))
    }),
    ("rt_sigqueueinfo to itself", |c| {
        let _ = signal::rt_sigpending(&c.thread, c.page, 8);
        kernel::task::signal::send_to_thread(&c.thread, kernel::task::signal::SigInfo::kernel(40)).map(|()| 0)
    }),
];

/// Makes one call on a root of its own; how it went.
fn attempt(root: &FsContext, call: Call) -> Result<u64> {
    let caller = Caller::new(root);
    let result = open(&caller).and_then(|_| call(&caller));
    let budget = LEFT.replace(u64::MAX);
    caller.remove_files();
    LEFT.set(budget);
    caller.leave();
    result
}

fn free_frames() -> usize {
    frame::trim();
    frame::stats().free
}

#[test]
fn every_allocation_that_can_be_refused_may_be() {
    let _turn = turn();
    let root = mount_root(None).unwrap();
    for &(name, call) in CALLS {
        // The first time fills what the kernel keeps for ever.
        attempt(&root, call).unwrap_or_else(|errno| panic!("{name}: {errno:?} with all memory there"));
        let mut refused = 0;
        for allowed in 0.. {
            let (live, free) = (LIVE.get(), free_frames());
            FIRM.set((0, 0));
            // The thread itself is there before the call that is tested.
            LEFT.set(allowed);
            let result = attempt(&root, call);
            let left = LEFT.replace(u64::MAX);
            let (_, firm) = FIRM.get();
            assert_eq!(
                LIVE.get() - live,
                0,
                "{name}: bytes lost after {allowed} allocations: {result:?}"
            );
            assert_eq!(
                free_frames(),
                free,
                "{name}: frames lost after {allowed} allocations: {result:?}"
            );
            assert!(
                firm <= POLL_BOUND as isize,
                "{name}: {firm} bytes that cannot be refused"
            );
            match result {
                Ok(_) if left > 0 => break,
                Ok(_) => {}
                Err(Errno::ENOMEM | Errno::ENOLCK | Errno::EAGAIN | Errno::ENOSPC) => refused += 1,
                Err(errno) => panic!("{name}: {errno:?} after {allowed} allocations"),
            }
        }
        assert!(
            refused > 0 || matches!(name, "eventfd2"),
            "{name}: nothing was ever refused"
        );
    }
}

/// An archive with a directory, a link and a file of three pages and a bit.
fn archive() -> Vec<u8> {
    let mut bytes = Vec::new();
    let files: [(&str, u32, &[u8]); 4] = [
        ("d", 0o040_755, b""),
        ("d/link", 0o120_777, b"file"),
        ("d/file", 0o100_644, &[7; 13_000]),
        ("TRAILER!!!", 0, b""),
    ];
    for (name, mode, data) in files {
        let fields = [
            1,
            mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        bytes.extend_from_slice(b"070701");
        bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        for part in [name.as_bytes(), b"\0"] {
            bytes.extend_from_slice(part);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Mounts an archive that is on a disk, reads a file of it and has a page of it mapped.
fn read_archive(drive: &Drive) -> Result<u64> {
    let cache = PageCache::new(drive.disk().clone())?;
    let size = drive.disk().geometry().sectors * 512;
    let extent = Extent::new(cache, 0..size)?;
    let root = drive.wait(archive::open(&extent)).map_err(|fault| match fault {
        archive::Fault::Errno(errno) => errno,
        fault => panic!("{fault:?}"),
    })?;
    let file = root.lookup(b"d")?.lookup(b"file")?;
    let request = OpenRequest { flags: 0, caller: None };
    let open = OpenFile::anonymous(file.clone().open(&request)?, Anonymous::EventFd, 0);
    let mut bytes = vec![0; 13_000];
    let read = drive.wait(open.read_kernel(0, &mut bytes))?;
    assert!(read == 13_000 && bytes.iter().all(|byte| *byte == 7));
    file.pager().unwrap().page(3)?;
    Ok(0)
}

#[test]
fn a_disk_s_files_need_memory_that_may_be_missing() {
    let _turn = turn();
    let drive = Drive::new(Kind::default(), archive());
    let attempt = || {
        let result = read_archive(&drive);
        // What is on its way belongs to the cache that is gone.
        let budget = LEFT.replace(u64::MAX);
        drive.answer_all();
        drop(drive.take_reads());
        LEFT.set(budget);
        result
    };
    attempt().unwrap();
    attempt().unwrap();
    let mut refused = 0;
    for allowed in 0.. {
        let (live, free) = (LIVE.get(), free_frames());
        LEFT.set(allowed);
        let result = attempt();
        let left = LEFT.replace(u64::MAX);
        assert_eq!(
            LIVE.get() - live,
            0,
            "bytes lost after {allowed} allocations: {result:?}"
        );
        assert_eq!(
            free_frames(),
            free,
            "frames lost after {allowed} allocations: {result:?}"
        );
        match result {
            Ok(_) if left > 0 => break,
            Ok(_) => {}
            Err(Errno::ENOMEM) => refused += 1,
            Err(errno) => panic!("{errno:?} after {allowed} allocations"),
        }
    }
    assert!(refused > 3);
    for spare in 0.. {
        let free = free_frames();
        let mut taken = take_all();
        let keep = taken.len() - (frame::stats().reserve + spare);
        taken.truncate(keep);
        frame::trim();
        let result = attempt();
        drop(taken);
        assert_eq!(free_frames(), free, "frames lost with {spare} left: {result:?}");
        match result {
            Ok(_) => break,
            Err(Errno::ENOMEM) => {}
            Err(errno) => panic!("{errno:?} with {spare} frames left"),
        }
    }
}

/// All frames, down to the last.
fn take_all() -> Vec<Frame> {
    frame::entitle(true);
    let mut taken = Vec::with_capacity(frame::stats().total);
    taken.extend(core::iter::from_fn(|| frame::allocate().ok()));
    frame::entitle(false);
    taken
}

#[test]
fn every_frame_may_be_missing() {
    let _turn = turn();
    let root = mount_root(None).unwrap();
    // Most of memory stays away all the time: taking it frame by frame takes long.
    let mut away = take_all();
    away.truncate(away.len() - frame::stats().reserve - 600);
    for &(name, call) in CALLS {
        attempt(&root, call).unwrap();
        for spare in 0.. {
            let free = free_frames();
            let caller = Caller::new(&root);
            let mut taken = take_all();
            let keep = taken.len() - (frame::stats().reserve + spare);
            taken.truncate(keep);
            frame::trim();
            let result = open(&caller).and_then(|_| call(&caller));
            drop(taken);
            caller.remove_files();
            caller.leave();
            assert_eq!(free_frames(), free, "{name}: frames lost with {spare} left: {result:?}");
            match result {
                Ok(_) => break,
                Err(Errno::ENOMEM | Errno::ENOSPC) => {}
                Err(errno) => panic!("{name}: {errno:?} with {spare} frames left"),
            }
        }
    }
}

#[test]
fn what_cannot_be_refused_is_there_when_nothing_else_is() {
    const SIZES: [usize; 15] = [
        16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 2368, 3072,
    ];
    let _turn = turn();
    heap::trim();
    assert!(fallible::has_room() && heap::prepare());
    let mut taken = take_all();
    assert_eq!(frame::stats().free, 0);
    assert!(!fallible::has_room(), "no call begins now");
    let mut held = Vec::with_capacity(SIZES.len() * 12);
    for size in SIZES {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: not empty; freed below.
        let may = || unsafe { KernelHeap.alloc(layout) };
        assert!(heap::may_fail(may).is_null(), "{size} bytes for whoever can be refused");
        for _ in 0..12 {
            let pointer = may();
            assert!(!pointer.is_null(), "{size} bytes that cannot be refused");
            held.push((pointer, layout));
        }
    }
    taken.clear();
    frame::trim();
    assert!(fallible::has_room(), "what is kept is made whole again");
    // SAFETY: allocated above with these layouts.
    held.into_iter()
        .for_each(|(pointer, layout)| unsafe { KernelHeap.dealloc(pointer, layout) });
    heap::trim();
}
