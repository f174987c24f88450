//! What an operation that need not wait costs on the heap: nothing. A process of its own, for a global allocator that counts.
#![expect(unsafe_code, reason = "a counting global allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use kernel::{
    fs::{
        FdTable, FileKind, Inode, OnExec, OpenFile, Readiness, Sink, Source, Whence,
        file::WriteAt,
        inode::{NewFile, OpenRequest},
        nameless::Anonymous,
        pipe::Pipe,
        tmpfs::{Limits, TmpFs},
    },
    mm::{MemoryObject, Pager},
};

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

struct Counting;

fn count() {
    COUNT.set(COUNT.get() + 1);
}

// SAFETY: the system's allocator behind a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `body` allocates and frees, the second time.
fn cost(mut body: impl FnMut()) -> u64 {
    body();
    let before = COUNT.get();
    body();
    COUNT.get() - before
}

fn read(file: &OpenFile, at: Option<u64>, bytes: &mut [u8]) -> usize {
    let mut sink = Sink::kernel(bytes);
    let mut at = at;
    file.read(None, at.as_mut(), &mut sink).expect("read");
    sink.done()
}

fn write(file: &OpenFile, at: Option<u64>, bytes: &[u8]) -> usize {
    let mut source = Source::kernel(bytes);
    let mut at = at;
    file.write(None, at.as_mut(), &mut source, WriteAt::Position)
        .expect("write");
    source.done()
}

fn open(inode: Arc<dyn Inode>) -> OpenFile {
    let request = OpenRequest { flags: 2, caller: None };
    OpenFile::anonymous(inode.open(&request).expect("open"), Anonymous::EventFd, 2)
}

#[test]
fn what_costs_is_counted() {
    assert_eq!(cost(|| drop(std::hint::black_box(Box::new(7)))), 2);
    assert_ne!(cost(|| drop(Pipe::ends())), 0);
}

#[test]
fn a_pipe_with_room_costs_nothing() {
    let (reader, writer) = Pipe::ends();
    let (reader, writer) = (
        OpenFile::anonymous(reader, Anonymous::EventFd, 0),
        OpenFile::anonymous(writer, Anonymous::EventFd, 1),
    );
    let mut bytes = [0; 4096];
    for length in [1, 100, 4096] {
        let through = || {
            assert_eq!(write(&writer, None, &[7; 4096][..length]), length);
            assert!(reader.file().readiness().contains(Readiness::IN));
            assert_eq!(read(&reader, None, &mut bytes[..length]), length);
        };
        assert_eq!(cost(through), 0, "{length} bytes");
    }
}

#[test]
fn a_page_that_is_there_costs_nothing() {
    let root: Arc<dyn Inode> = TmpFs::create(Limits::default(), 0o755).expect("tmpfs");
    let file = open(
        root.create(b"f", &NewFile::new(FileKind::Regular, 0o644, 0, 0))
            .expect("create"),
    );
    let mut bytes = [0; 8192];
    assert_eq!(cost(|| assert_eq!(write(&file, Some(0), &[7; 8192]), 8192)), 0);
    assert_eq!(cost(|| assert_eq!(read(&file, Some(0), &mut bytes), 8192)), 0);
    assert_eq!(cost(|| _ = file.seek(0, Whence::Set).expect("seek")), 0);
    assert_eq!(cost(|| _ = file.attributes()), 0);
    let shared = MemoryObject::new();
    assert_eq!(cost(|| drop(shared.page(3).expect("page"))), 0);
}

#[test]
fn descriptors_cost_nothing_to_find_and_to_use_again() {
    let table = FdTable::new();
    let file = Arc::new(OpenFile::anonymous(Pipe::ends().0, Anonymous::EventFd, 0));
    let fd = table.insert(file.clone(), OnExec::Keep, 100).expect("insert");
    assert_eq!(cost(|| drop(table.get(fd).expect("get"))), 0);
    let again = || {
        let other = table.insert(file.clone(), OnExec::Keep, 100).expect("insert");
        drop(table.remove(other).expect("remove"));
    };
    assert_eq!(cost(again), 0);
}
