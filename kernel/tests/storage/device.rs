//! Block devices by system calls.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
    task::{Context, Waker},
};

use kernel::{
    errno::Errno,
    fs::{FsContext, block_device, devfs, mount},
    mm::{AddressSpace, Map, Prot},
    syscall::{fs, memory},
    task::{Thread, boot::parentless},
};

use super::*;
use common::now;

const HERE: i32 = -100;
const O_RDONLY: u32 = 0;
const O_RDWR: u32 = 2;
const O_DIRECT: u32 = linux_raw_sys::general::O_DIRECT;
const MEGABYTE: usize = 1 << 20;

/// A thread with two megabytes of memory to read into.
pub struct Caller {
    pub thread: Arc<Thread>,
    pub memory: u64,
}

impl Caller {
    pub fn new(root: FsContext) -> Self {
        static NEXT: AtomicI32 = AtomicI32::new(20_000);
        let thread = parentless(NEXT.fetch_add(1, SeqCst), root).unwrap();
        let memory = now(thread.mm().mmap(Map::anonymous(2 << 20, Prot::READ | Prot::WRITE))).unwrap();
        Self { thread, memory }
    }

    /// The address of a string, behind what is read into.
    pub fn name(&self, name: &str) -> u64 {
        let at = self.memory + (2 << 20) - 4096;
        now(self.thread.mm().write_bytes(at, name.as_bytes())).unwrap();
        now(self.thread.mm().write_bytes(at + name.len() as u64, &[0])).unwrap();
        at
    }

    pub fn open(&self, name: &str, flags: u32) -> Result<i32> {
        now(fs::openat(&self.thread, HERE, self.name(name), flags, 0)).map(|fd| fd as i32)
    }

    pub fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        now(self.thread.mm().read_bytes(at, &mut bytes)).unwrap();
        bytes
    }

    /// What an ioctl puts into memory.
    pub fn control<const N: usize>(&self, fd: i32, command: u32) -> Result<[u8; N]> {
        now(fs::ioctl(&self.thread, fd, command, self.memory))?;
        Ok(self.bytes(self.memory, N).try_into().unwrap())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mm = self.thread.mm();
        AddressSpace::deactivate_current();
        mm.leave();
    }
}

/// `/dev` as a root of its own.
pub fn devices() -> FsContext {
    let root = mount::mount(devfs::root().unwrap(), None, "dev", "devtmpfs", 0).unwrap();
    FsContext::new(root.root())
}

/// Makes the disk known, as a driver does, and has it looked at.
pub fn install(drive: &Drive) {
    kernel::block::register(drive.disk().clone()).unwrap();
    drive.wait(block_device::scan());
    drive.answer_all();
    drive.take_reads();
}

fn named(name: &'static str) -> Kind {
    Kind {
        name,
        ..Kind::default()
    }
}

#[test]
fn names_numbers_and_sizes_are_what_programs_expect() {
    let _accounting = Accounting::start();
    let size = 4 * MEGABYTE;
    let table = [("start", 64, 1000), ("rest", 1024, 4095)];
    let other = [("one", 64, 1000), ("two", 1024, 4095)];
    let drives = [
        Drive::new(named("vdb"), gpt::with_table(512, size, &table)),
        Drive::new(named("nvme3n1"), gpt::with_table(512, size, &other)),
        Drive::new(
            Kind {
                name: "sdb",
                block: 4096,
                read_only: true,
                ..Kind::default()
            },
            gpt::with_table(4096, size, &[("whole", 64, 512)]),
        ),
    ];
    drives.iter().for_each(install);
    let caller = Caller::new(devices());
    let number = |name: &str| block_device::by_name(name).unwrap().number();
    assert_eq!((number("vdb").major, number("vdb").minor), (254, 16));
    assert_eq!((number("vdb2").major, number("vdb2").minor), (254, 18));
    assert_eq!((number("sdb1").major, number("sdb1").minor), (8, 17));
    let first = number("nvme3n1");
    assert_eq!((first.major, number("nvme3n1p2").minor), (259, first.minor + 2));

    let fd = caller.open("/nvme3n1p2", O_RDONLY).unwrap();
    assert_eq!(caller.control(fd, 0x8008_1272).map(u64::from_ne_bytes), Ok(3072 * 512));
    assert_eq!(caller.control(fd, 0x1260).map(u64::from_ne_bytes), Ok(3072));
    assert_eq!(caller.control(fd, 0x1268).map(u32::from_ne_bytes), Ok(512));
    assert_eq!(caller.control(fd, 0x8008_1270).map(u32::from_ne_bytes), Ok(4096));
    assert_eq!(caller.control(fd, 0x125e).map(u32::from_ne_bytes), Ok(0));
    assert_eq!(caller.control::<4>(fd, 0x5401), Err(Errno::ENOTTY));
    assert_eq!(fs::lseek(&caller.thread, fd, 0, 2), Ok(3072 * 512));
    let disk = caller.open("/sdb", O_RDONLY).unwrap();
    assert_eq!(caller.control(disk, 0x1268).map(u32::from_ne_bytes), Ok(4096));
    assert_eq!(caller.control(disk, 0x125e).map(u32::from_ne_bytes), Ok(1));
    assert_eq!(caller.open("/sdb", O_RDWR), Err(Errno::EACCES));
    let mut partitions = String::new();
    block_device::list(&mut partitions).unwrap();
    assert!(partitions.contains(" 254       18       1536 vdb2\n"), "{partitions}");
    let is = |description: &str| block_device::by_description(description).map(|device| device.name().to_owned());
    assert_eq!(is("/dev/vdb1"), Ok("vdb1".to_owned()));
    assert_eq!(is("PARTLABEL=whole"), Ok("sdb1".to_owned()));
    let identifier = block_device::by_name("vdb2").unwrap().partition().unwrap().identifier;
    assert_eq!(
        is(&format!("PARTUUID={identifier}").to_uppercase()),
        Ok("vdb2".to_owned())
    );
    assert_eq!(is("PARTLABEL=none"), Err(Errno::ENXIO));
    assert_eq!(is("PARTUUID=1-2"), Err(Errno::EINVAL));
    assert_eq!(is("LABEL=root"), Err(Errno::EINVAL));
}

#[test]
fn what_is_read_waits_for_the_disk_and_comes_whole() {
    let _accounting = Accounting::start();
    let bytes = pattern(2 * MEGABYTE);
    let drive = Drive::new(named("vdc"), bytes.clone());
    install(&drive);
    let caller = Caller::new(devices());
    let (t, memory) = (&caller.thread, caller.memory);
    let fd = caller
        .open("/vdc", O_RDONLY | linux_raw_sys::general::O_NONBLOCK)
        .unwrap();
    // O_NONBLOCK means nothing here, and a read does not end where something is missing.
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 300_000, 12_345)), Ok(300_000));
    assert_eq!(caller.bytes(memory, 300_000), bytes[12_345..312_345]);
    assert_eq!(fs::lseek(t, fd, 4000, 0), Ok(4000));
    caller.thread.files();
    block_device::by_name("vdc")
        .unwrap()
        .volume()
        .extent()
        .cache()
        .forget_unused();
    for at in [4000_usize, 5000] {
        // Over two pages, into one: all of it or nothing.
        assert_eq!(drive.wait(fs::read(t, fd, memory, 1000)), Ok(1000));
        assert_eq!(caller.bytes(memory, 1000), bytes[at..at + 1000]);
    }
    let end = bytes.len() as i64;
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 5000, end - 100)), Ok(100));
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 5000, end)), Ok(0));
    let fd = caller.open("/vdc", O_RDWR).unwrap();
    assert_eq!(now(fs::pwrite64(t, fd, memory, 512, 0)), Err(Errno::EROFS));
    drive.spoil(2000..2001);
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 512, 2000 * 512)), Err(Errno::EIO));
    assert_eq!(
        drive.wait(fs::pread64(t, fd, memory, 20_000, 1990 * 512)),
        Ok(10 * 512),
        "what is in front of a bad page"
    );
    let file = caller.open("/vdc", O_RDONLY).unwrap();
    let out = now(fs::memfd_create(t, caller.name("copy"), 0)).unwrap() as i32;
    assert_eq!(drive.wait(fs::sendfile(t, out, file, 0, 400_000)), Ok(400_000));
    assert_eq!(now(fs::pread64(t, out, memory, 400_000, 0)), Ok(400_000));
    assert_eq!(caller.bytes(memory, 400_000), bytes[..400_000]);
}

#[test]
fn mappings_wait_for_the_disk() {
    let _accounting = Accounting::start();
    let bytes = pattern(MEGABYTE + 512);
    let drive = Drive::new(named("vdd"), bytes.clone());
    install(&drive);
    let caller = Caller::new(devices());
    let t = &caller.thread;
    let fd = caller.open("/vdd", O_RDWR).unwrap();
    let length = MEGABYTE as u64 + 2 * PAGE;
    let at = now(memory::mmap(t, 0, length, 3, 2, fd, 0)).unwrap();
    let mut read = vec![0; MEGABYTE + 512];
    assert_eq!(drive.wait(t.mm().read_bytes(at, &mut read)), Ok(()));
    assert_eq!(read, bytes);
    assert_eq!(
        drive.wait(t.mm().write_bytes(at + 5, &[1, 2])),
        Ok(()),
        "a copy of one's own"
    );
    assert_eq!(caller.bytes(at + 4, 4), [bytes[4], 1, 2, bytes[7]]);
    assert_eq!(drive.bytes(), bytes);
    let past = drive.wait(t.mm().read_bytes(at + MEGABYTE as u64 + PAGE, &mut [0; 1]));
    assert_eq!(past, Err(Errno::EFAULT));
    let shared = now(memory::mmap(t, 0, PAGE, 3, 1, fd, 0)).unwrap();
    assert_eq!(drive.wait(t.mm().read_bytes(shared, &mut [0; 1])), Ok(()));
    assert_eq!(
        drive.wait(t.mm().write_bytes(shared, &[0])),
        Err(Errno::EFAULT),
        "nothing is written through the cache"
    );
    now(memory::munmap(t, at, length)).unwrap();
    block_device::by_name("vdd")
        .unwrap()
        .volume()
        .extent()
        .cache()
        .forget_unused();
    drive.spoil(100..101);
    let at = now(memory::mmap(t, 0, length, 1, 2, fd, 0)).unwrap();
    assert_eq!(
        drive.wait(t.mm().read_bytes(at + 100 * 512, &mut [0; 1])),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        drive.wait(t.mm().read_bytes(at + 90 * 512, &mut [0; 1])),
        Ok(()),
        "its neighbour is good"
    );
}

#[test]
fn direct_transfers_are_aligned_or_refused() {
    let _accounting = Accounting::start();
    let bytes = pattern(4 * MEGABYTE);
    let drive = Drive::new(named("vde"), bytes.clone());
    install(&drive);
    let caller = Caller::new(devices());
    let (t, memory) = (&caller.thread, caller.memory);
    let fd = caller.open("/vde", O_RDWR | O_DIRECT).unwrap();
    for (address, count, at) in [(memory + 1, 512, 0), (memory, 511, 0), (memory, 512, 100)] {
        assert_eq!(now(fs::pread64(t, fd, address, count, at)), Err(Errno::EINVAL));
        assert_eq!(now(fs::pwrite64(t, fd, address, count, at)), Err(Errno::EINVAL));
    }
    let cache = block_device::by_name("vde").unwrap().volume().extent().cache().clone();
    let cached = cache.cached();
    // More than goes into one request, or into all that are made at once, into memory that begins in mid-page.
    let count = 3 * MEGABYTE / 2;
    let into = memory + 1024;
    assert_eq!(
        drive.wait(fs::pread64(t, fd, into, count as u64, 512)),
        Ok(count as u64)
    );
    assert!(caller.bytes(into, count) == bytes[512..512 + count]);
    assert!(drive.take_reads().len() >= 12);
    assert_eq!(cache.cached(), cached, "past the cache");
    let end = bytes.len() as i64;
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 4096, end - 1024)), Ok(1024));
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 4096, end)), Ok(0));
    assert_eq!(fs::lseek(t, fd, 1024, 0), Ok(1024));
    assert_eq!(drive.wait(fs::read(t, fd, memory, 1024)), Ok(1024));
    assert_eq!(fs::lseek(t, fd, 0, 1), Ok(2048));
    drive.spoil(300..301);
    assert_eq!(
        drive.wait(fs::pread64(t, fd, memory, MEGABYTE as u64, 0)),
        Ok(128 << 10),
        "requests in front of the bad one"
    );
    assert_eq!(drive.wait(fs::pread64(t, fd, memory, 4096, 300 * 512)), Err(Errno::EIO));
    // Bad memory, and none.
    assert_eq!(drive.wait(fs::pread64(t, fd, 4096, 4096, 0)), Err(Errno::EFAULT));
    drive.answer_all();
    kernel::mm::reclaim::reclaim(usize::MAX);
    let taken: Vec<_> = core::iter::from_fn(|| frame::allocate().ok()).collect();
    assert_eq!(now(fs::pread64(t, fd, memory, 4096, 0)), Err(Errno::ENOMEM));
    drop(taken);
}

#[test]
fn direct_writes_reach_the_disk_and_everybody_who_looks() {
    let _accounting = Accounting::start();
    let drive = Drive::new(named("vdf"), pattern(4 * MEGABYTE));
    install(&drive);
    let caller = Caller::new(devices());
    let (t, memory) = (&caller.thread, caller.memory);
    let direct = caller.open("/vdf", O_RDWR | O_DIRECT).unwrap();
    let cached = caller.open("/vdf", O_RDONLY).unwrap();
    let mapped = now(memory::mmap(t, 0, 8 * PAGE, 1, 1, cached, 0)).unwrap();
    assert_eq!(
        drive.wait(t.mm().read_bytes(mapped, &mut [0; 8 * PAGE as usize])),
        Ok(())
    );
    assert_eq!(drive.wait(fs::pread64(t, cached, memory, 8192, 4096)), Ok(8192));
    let fresh: Vec<u8> = (0..MEGABYTE + 512).map(|at| (at / 512) as u8 | 1).collect();
    now(t.mm().write_bytes(memory, &fresh)).unwrap();
    let count = fresh.len() as u64;
    assert_eq!(drive.wait(fs::pwrite64(t, direct, memory, count, 4096)), Ok(count));
    assert!(drive.bytes()[4096..4096 + fresh.len()] == fresh[..]);
    assert_eq!(drive.wait(fs::pread64(t, cached, memory, 8192, 4096)), Ok(8192));
    assert_eq!(caller.bytes(memory, 8192), fresh[..8192]);
    let mut seen = [0; 100];
    assert_eq!(drive.wait(t.mm().read_bytes(mapped + PAGE, &mut seen)), Ok(()));
    assert_eq!(seen, fresh[..100]);
    let end = 4 * MEGABYTE as i64;
    assert_eq!(drive.wait(fs::pwrite64(t, direct, memory, 2048, end - 1024)), Ok(1024));
    assert_eq!(now(fs::pwrite64(t, direct, memory, 512, end)), Err(Errno::ENOSPC));
    drive.spoil(600..601);
    assert_eq!(
        drive.wait(fs::pwrite64(t, direct, memory, MEGABYTE as u64, 0)),
        Ok(256 << 10)
    );
    assert_eq!(drive.flushes(), 0);
    assert_eq!(drive.wait(fs::fsync(t, direct)), Ok(0));
    assert_eq!(drive.flushes(), 1);
    now(memory::munmap(t, mapped, 8 * PAGE)).unwrap();
}

#[test]
fn who_dies_in_mid_transfer_leaves_nothing_behind() {
    let _accounting = Accounting::start();
    let drive = Drive::new(named("vdg"), pattern(4 * MEGABYTE));
    install(&drive);
    let caller = Caller::new(devices());
    let (t, memory) = (&caller.thread, caller.memory);
    let fd = caller.open("/vdg", O_RDWR | O_DIRECT).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    for (answered, write) in [(0, false), (3, false), (0, true), (3, true)] {
        now(t.mm().write_bytes(memory, &vec![9; MEGABYTE])).unwrap();
        type Call<'a> = Pin<Box<dyn Future<Output = Result<u64>> + 'a>>;
        let mut call: Call<'_> = if write {
            Box::pin(fs::pwrite64(t, fd, memory, MEGABYTE as u64, 0))
        } else {
            Box::pin(fs::pread64(t, fd, memory, MEGABYTE as u64, 0))
        };
        assert!(call.as_mut().poll(&mut context).is_pending());
        for _ in 0..answered {
            drive.answer(0);
        }
        assert!(call.as_mut().poll(&mut context).is_pending());
        drop(call);
        assert!(drive.pending() > 0);
        drive.answer_all();
    }
    assert!(
        drive.bytes()[..MEGABYTE].iter().all(|byte| *byte == 9),
        "it was written all the same"
    );
}

#[test]
fn many_read_at_once_in_any_order() {
    let _accounting = Accounting::start();
    let bytes = pattern(4 * MEGABYTE);
    let drive = Drive::new(
        Kind {
            depth: 4,
            ..named("vdh")
        },
        bytes.clone(),
    );
    install(&drive);
    let callers: Vec<Caller> = (0..32).map(|_| Caller::new(devices())).collect();
    for flags in [O_DIRECT, 0] {
        let files: Vec<i32> = callers
            .iter()
            .map(|caller| caller.open("/vdh", flags).unwrap())
            .collect();
        let place = |reader: usize, round: usize| (reader * 37 + round * 101) % 1000 * 4096;
        for round in 0..4 {
            let calls = callers.iter().zip(&files).enumerate().map(|(reader, (caller, &fd))| {
                let at = place(reader, round) as i64;
                let mut call = Box::pin(fs::pread64(&caller.thread, fd, caller.memory, 4096, at));
                // As a thread's poll begins: in its own memory.
                let call: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(std::future::poll_fn(move |context| {
                    caller.thread.mm().activate();
                    call.as_mut().poll(context)
                }));
                call
            });
            let mut turn = 0;
            let results = drive.run(calls.collect(), |pending| {
                turn += 7;
                turn % pending
            });
            assert!(results.iter().all(|result| *result == Ok(4096)));
            for (reader, caller) in callers.iter().enumerate() {
                let at = place(reader, round);
                assert_eq!(caller.bytes(caller.memory, 4096), bytes[at..at + 4096]);
            }
        }
    }
}
