//! Epolls over files whose readiness the test sets, beside a plain model.

use std::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use proptest::prelude::*;

use super::*;
use crate::{
    fs::{eventfd::Counting, eventfd::EventCounter, nameless::Anonymous, pipe::Pipe},
    mm::user::UserFault,
    sync::SpinLock,
};

/// A file that is what it is told to be.
struct Told {
    ready: SpinLock<Readiness>,
    queue: PollQueue,
}

impl File for Told {
    fn readiness(&self) -> Readiness {
        *self.ready.lock()
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}

fn open(file: impl File + 'static) -> Arc<OpenFile> {
    Arc::new(OpenFile::anonymous(Arc::new(file), Anonymous::EventFd, linux::O_RDWR))
}

fn told() -> Arc<OpenFile> {
    open(Told {
        ready: SpinLock::new(Rank::Pipe, Readiness::empty()),
        queue: PollQueue::new(),
    })
}

fn tell(file: &OpenFile, ready: Readiness) {
    let told: &Told = file.file().as_any().unwrap().downcast_ref().unwrap();
    *told.ready.lock() = ready;
    told.queue.wake(ready);
}

fn epoll() -> Arc<OpenFile> {
    open(EpollFile::new(77))
}

fn core(epoll: &OpenFile) -> &Arc<Core> {
    of(epoll).unwrap()
}

const IN: u32 = linux::EPOLLIN;
const ET: u32 = linux::EPOLLET;

fn add(epoll: &OpenFile, fd: i32, file: &Arc<OpenFile>, events: u32) -> Result<()> {
    core(epoll).add(
        fd,
        file,
        Interest {
            events,
            data: fd as u64,
        },
    )
}

/// Events and data of what is ready, at most `most`.
fn collect(epoll: &OpenFile, most: usize) -> Vec<(u32, u64)> {
    let mut bytes = vec![0u8; most * EVENT];
    let mut delivery = Delivery::new(core(epoll), most);
    let mut put = |at: u64, events: &[u8]| {
        bytes[at as usize..][..events.len()].copy_from_slice(events);
        Ok(())
    };
    assert_eq!(delivery.go_on(usize::MAX, &mut put), Ok(true));
    let found = delivery.found();
    drop(delivery);
    bytes[..found * EVENT]
        .chunks(EVENT)
        .map(|event| {
            (
                u32::from_ne_bytes(event[..4].try_into().unwrap()),
                u64::from_ne_bytes(event[DATA..DATA + 8].try_into().unwrap()),
            )
        })
        .collect()
}

#[test]
fn levels_and_edges() {
    let (level, edge, file) = (epoll(), epoll(), told());
    add(&level, 1, &file, IN).unwrap();
    add(&edge, 1, &file, IN | ET).unwrap();
    assert_eq!(add(&edge, 1, &file, IN), Err(Errno::EEXIST));
    assert_eq!(collect(&edge, 4), []);
    tell(&file, Readiness::IN);
    for _ in 0..3 {
        assert_eq!(collect(&level, 4), [(IN, 1)]);
    }
    assert_eq!(collect(&edge, 4), [(IN, 1)]);
    assert_eq!(collect(&edge, 4), []);
    tell(&file, Readiness::IN);
    assert_eq!(collect(&edge, 4), [(IN, 1)], "every wake is an edge");
    tell(&file, Readiness::OUT);
    assert_eq!(collect(&edge, 4), []);
    assert_eq!(collect(&level, 4), [], "looked at anew");
    assert_eq!(core(&level).listed(), 0);
}

#[test]
fn turns_are_taken() {
    let (epoll, files) = (epoll(), [(); 5].map(|()| told()));
    for (fd, file) in (0..).zip(&files) {
        add(&epoll, fd, file, IN).unwrap();
        tell(file, Readiness::IN);
    }
    let numbers = |found: Vec<(u32, u64)>| found.into_iter().map(|(_, data)| data).collect::<Vec<_>>();
    assert_eq!(numbers(collect(&epoll, 2)), [0, 1]);
    assert_eq!(numbers(collect(&epoll, 2)), [2, 3]);
    assert_eq!(numbers(collect(&epoll, 2)), [4, 0]);
    assert_eq!(numbers(collect(&epoll, 9)), [1, 2, 3, 4, 0], "each once");
}

#[test]
fn pages_that_are_missing_lose_no_event() {
    let (epoll, files) = (epoll(), [(); 40].map(|()| told()));
    for (fd, file) in (0..).zip(&files) {
        add(&epoll, fd, file, IN | if fd % 2 == 0 { ET } else { 0 }).unwrap();
        tell(file, Readiness::IN);
    }
    let mut delivery = Delivery::new(core(&epoll), 40);
    let missing = |copied| UserFault {
        address: 0,
        access: hal::trap::Access::Write,
        copied,
    };
    for _ in 0..2 {
        assert_eq!(delivery.go_on(usize::MAX, &mut |_, _| Err(missing(0))), Err(missing(0)));
        assert_eq!(delivery.found(), 0);
    }
    // Three and a half were written.
    let copied = 3 * EVENT + EVENT / 2;
    let went_on = delivery.go_on(usize::MAX, &mut |_, _| Err(missing(copied)));
    assert_eq!((went_on, delivery.found()), (Err(missing(copied)), 3));
    drop(delivery);
    let found: Vec<u64> = collect(&epoll, 64).into_iter().map(|(_, data)| data).collect();
    let rest = (3..40).chain([1]);
    assert_eq!(found, rest.collect::<Vec<_>>(), "in their order");
}

#[test]
fn a_call_that_is_given_up_leaves_all_in_the_list() {
    let (epoll, files) = (epoll(), [(); 40].map(|()| told()));
    for (fd, file) in (0..).zip(&files) {
        add(&epoll, fd, file, IN).unwrap();
        tell(file, Readiness::IN);
    }
    let mut delivery = Delivery::new(core(&epoll), 40);
    assert_eq!(delivery.go_on(20, &mut |_, _| Ok(())), Ok(false));
    assert_eq!(delivery.found(), 20);
    assert_eq!(core(&epoll).listed(), 20, "those delivered wait for the call's end");
    // One of each goes meanwhile.
    core(&epoll).remove(3, &files[3]).unwrap();
    core(&epoll).remove(30, &files[30]).unwrap();
    drop(delivery);
    let found: Vec<u64> = collect(&epoll, 64).into_iter().map(|(_, data)| data).collect();
    assert_eq!(found.len(), 38);
    assert_eq!(found[..2], [20, 21]);
}

#[test]
fn a_file_that_is_closed_is_gone() {
    let (first, second, file) = (epoll(), epoll(), told());
    add(&first, 1, &file, IN).unwrap();
    add(&first, 2, &file, IN | ET).unwrap();
    add(&second, 1, &file, IN).unwrap();
    tell(&file, Readiness::IN);
    assert_eq!(collect(&first, 9).len(), 2);
    drop(file);
    assert_eq!(core(&first).entries.lock().len(), 0);
    assert_eq!(collect(&second, 9), []);
    // Another file that has the queue stays.
    let (read, write) = Pipe::ends();
    let read: Arc<dyn File> = read;
    let one = Arc::new(OpenFile::anonymous(read.clone(), Anonymous::EventFd, linux::O_RDONLY));
    let other = Arc::new(OpenFile::anonymous(read, Anonymous::EventFd, linux::O_RDONLY));
    add(&first, 1, &one, IN).unwrap();
    add(&first, 1, &other, IN).unwrap();
    drop(one);
    drop(write);
    assert_eq!(collect(&first, 9), [(linux::EPOLLHUP, 1)]);
}

#[test]
fn a_closed_epoll_leaves_the_queues() {
    let file = told();
    let (one, two) = (epoll(), epoll());
    add(&one, 1, &file, IN).unwrap();
    add(&two, 1, &file, IN).unwrap();
    drop(one);
    tell(&file, Readiness::IN);
    assert_eq!(collect(&two, 9), [(IN, 1)]);
    drop(two);
    let told: &Told = file.file().as_any().unwrap().downcast_ref().unwrap();
    assert!(!told.queue.is_watched());
    assert!(!file.is_watched());
}

#[test]
fn the_ends_of_a_pipe_are_told_apart() {
    let (read, write) = Pipe::ends();
    let (read, write) = (
        Arc::new(OpenFile::anonymous(read, Anonymous::EventFd, linux::O_RDONLY)),
        Arc::new(OpenFile::anonymous(write, Anonymous::EventFd, linux::O_WRONLY)),
    );
    let epoll = epoll();
    add(&epoll, 1, &read, IN | linux::EPOLLOUT | ET).unwrap();
    add(&epoll, 2, &write, IN | linux::EPOLLOUT | ET).unwrap();
    assert_eq!(collect(&epoll, 9), [(linux::EPOLLOUT, 2)]);
    for _ in 0..2 {
        crate::fs::tests::write(write.file(), 0, b"x").1.unwrap();
        assert_eq!(
            collect(&epoll, 9),
            [(IN, 1)],
            "a write is no event to the end that writes"
        );
    }
}

#[test]
fn one_wake_for_one_waiter() {
    use core::{future::Future, pin::pin, task::Context};
    let (epoll, counter) = (epoll(), open(EventCounter::new(0, Counting::All)));
    add(&epoll, 1, &counter, IN | ET).unwrap();
    let mut first = pin!(core(&epoll).waiters().wait());
    let mut second = pin!(core(&epoll).waiters().wait());
    let mut context = Context::from_waker(core::task::Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    crate::fs::tests::write(counter.file(), 0, &1u64.to_ne_bytes())
        .1
        .unwrap();
    assert!(first.as_mut().enable(), "it has been woken");
    assert!(!second.as_mut().enable());
    // Who gives up passes the wake on.
    first.as_mut().cancel();
    assert!(second.as_mut().enable());
}

#[test]
fn exclusive_entries_are_told_one_by_one() {
    use core::{future::Future, pin::pin, task::Context};
    let file = told();
    let (one, two, three) = (epoll(), epoll(), epoll());
    add(&one, 1, &file, IN | linux::EPOLLEXCLUSIVE).unwrap();
    add(&two, 1, &file, IN | linux::EPOLLEXCLUSIVE).unwrap();
    add(&three, 1, &file, IN).unwrap();
    let mut wait = pin!(core(&two).waiters().wait());
    let mut context = Context::from_waker(core::task::Waker::noop());
    assert!(wait.as_mut().poll(&mut context).is_pending());
    tell(&file, Readiness::IN);
    // Nobody waits for the first, so it is not enough.
    assert_eq!([&one, &two, &three].map(|epoll| core(epoll).listed()), [1, 1, 1]);
    let told: &Told = file.file().as_any().unwrap().downcast_ref().unwrap();
    *told.ready.lock() = Readiness::empty();
    for epoll in [&one, &two] {
        assert_eq!(collect(epoll, 1), []);
    }
    let mut other = pin!(core(&one).waiters().wait());
    assert!(other.as_mut().poll(&mut context).is_pending());
    tell(&file, Readiness::IN);
    assert_eq!([&one, &two].map(|epoll| core(epoll).listed()), [1, 0]);
}

#[test]
fn epolls_watch_epolls() {
    let file = told();
    let chain: Vec<_> = (0..5).map(|_| epoll()).collect();
    add(&chain[0], 1, &file, IN | ET).unwrap();
    for pair in chain.windows(2) {
        add(&pair[1], 1, &pair[0], IN).unwrap();
    }
    let sixth = epoll();
    assert_eq!(add(&sixth, 1, &chain[4], IN), Err(Errno::ELOOP));
    assert_eq!(add(&chain[0], 2, &sixth, IN), Err(Errno::ELOOP), "from below as well");
    assert_eq!(add(&chain[0], 2, &chain[4], IN), Err(Errno::ELOOP));
    assert_eq!(add(&chain[1], 2, &chain[2], IN), Err(Errno::ELOOP));
    assert_eq!(collect(&chain[4], 1), []);
    tell(&file, Readiness::IN);
    for _ in 0..2 {
        assert_eq!(collect(&chain[4], 1), [(IN, 1)]);
    }
    assert_eq!(collect(&chain[0], 1), [(IN, 1)]);
    assert_eq!(collect(&chain[4], 1), [], "the edge has been seen");
    assert_eq!(chain[4].file().readiness(), Readiness::empty());
    tell(&file, Readiness::IN);
    assert_eq!(chain[4].file().readiness(), Readiness::READABLE);
    drop(chain);
    assert!(!file.is_watched());
}

#[test]
fn ways_up_are_few() {
    let (inner, file) = (epoll(), told());
    add(&inner, 1, &file, IN).unwrap();
    let outer: Vec<_> = (0..501).map(|_| epoll()).collect();
    for (number, outer) in outer.iter().enumerate() {
        let expected = if number < 500 { Ok(()) } else { Err(Errno::EINVAL) };
        assert_eq!(add(outer, 1, &inner, IN), expected);
    }
    assert_eq!(add(&inner, 2, &told(), IN), Ok(()));
}

/// What the model knows of an entry.
#[derive(Clone, Copy, Debug)]
struct Model {
    events: u32,
    off: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, u32),
    Change(usize, u32),
    Remove(usize),
    Tell(usize, bool),
    Collect(usize),
    Close(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = 0..8usize;
    let how = prop_oneof![
        Just(0),
        Just(ET),
        Just(linux::EPOLLONESHOT),
        Just(linux::EPOLLONESHOT | ET)
    ];
    let step = prop_oneof![
        (file.clone(), how.clone()).prop_map(|(file, how)| Step::Add(file, IN | how)),
        (file.clone(), how).prop_map(|(file, how)| Step::Change(file, IN | how)),
        file.clone().prop_map(Step::Remove),
        (file.clone(), any::<bool>()).prop_map(|(file, ready)| Step::Tell(file, ready)),
        (file.clone(), any::<bool>()).prop_map(|(file, ready)| Step::Tell(file, ready)),
        (1..6usize).prop_map(Step::Collect),
        (1..6usize).prop_map(Step::Collect),
        file.prop_map(Step::Close),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Entries, the list and deliveries, step by step beside a queue of numbers.
    #[test]
    fn it_is_as_the_model_says(steps in steps()) {
        let epoll = epoll();
        let mut files: Vec<_> = (0..8).map(|_| told()).collect();
        let mut ready = [false; 8];
        let mut entries: BTreeMap<usize, Model> = BTreeMap::new();
        let mut list: VecDeque<usize> = VecDeque::new();
        let enlist = |list: &mut VecDeque<usize>, file| if !list.contains(&file) { list.push_back(file) };
        for step in steps {
            match step {
                Step::Add(file, events) => {
                    let expected = if entries.contains_key(&file) { Err(Errno::EEXIST) } else { Ok(()) };
                    prop_assert_eq!(add(&epoll, file as i32, &files[file], events), expected);
                    if expected.is_ok() {
                        entries.insert(file, Model { events, off: false });
                        if ready[file] { enlist(&mut list, file) }
                    }
                }
                Step::Change(file, events) => {
                    let expected = if entries.contains_key(&file) { Ok(()) } else { Err(Errno::ENOENT) };
                    let interest = Interest { events, data: file as u64 };
                    prop_assert_eq!(core(&epoll).change(file as i32, &files[file], interest), expected);
                    if expected.is_ok() {
                        entries.insert(file, Model { events, off: false });
                        if ready[file] { enlist(&mut list, file) }
                    }
                }
                Step::Remove(file) => {
                    let expected = entries.remove(&file).map(|_| ()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(core(&epoll).remove(file as i32, &files[file]), expected);
                    list.retain(|listed| *listed != file);
                }
                Step::Tell(file, now) => {
                    ready[file] = now;
                    tell(&files[file], if now { Readiness::IN } else { Readiness::empty() });
                    if entries.get(&file).is_some_and(|entry| !entry.off) { enlist(&mut list, file) }
                }
                Step::Collect(most) => {
                    let (mut expected, mut again) = (Vec::new(), Vec::new());
                    for _ in 0..list.len() {
                        if expected.len() == most { break }
                        let file = list.pop_front().unwrap();
                        let entry = entries.get_mut(&file).unwrap();
                        if entry.off || !ready[file] { continue }
                        expected.push((IN, file as u64));
                        if entry.events & linux::EPOLLONESHOT != 0 { entry.off = true }
                        else if entry.events & ET == 0 { again.push(file) }
                    }
                    list.extend(again);
                    prop_assert_eq!(collect(&epoll, most), expected);
                }
                Step::Close(file) => {
                    files[file] = told();
                    ready[file] = false;
                    entries.remove(&file);
                    list.retain(|listed| *listed != file);
                }
            }
            prop_assert_eq!(core(&epoll).entries.lock().len(), entries.len());
            prop_assert_eq!(core(&epoll).listed(), list.len());
        }
    }
}

#[test]
fn threads_deliver_each_event_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const FILES: usize = 32;
    const ROUNDS: usize = 10;
    let epoll = epoll();
    let files: Vec<_> = (0..FILES).map(|_| told()).collect();
    for (fd, file) in (0..).zip(&files) {
        add(&epoll, fd, file, IN | linux::EPOLLONESHOT).unwrap();
    }
    let delivered: Vec<AtomicUsize> = (0..FILES).map(|_| AtomicUsize::new(0)).collect();
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while total.load(Ordering::SeqCst) < FILES * ROUNDS {
                    for (_, fd) in collect(&epoll, 5) {
                        delivered[fd as usize].fetch_add(1, Ordering::SeqCst);
                        total.fetch_add(1, Ordering::SeqCst);
                    }
                    std::thread::yield_now();
                }
            });
        }
        for round in 1..=ROUNDS {
            for (fd, file) in (0..).zip(&files) {
                tell(file, Readiness::IN);
                // Two wakes, one event: it is off by then.
                tell(file, Readiness::IN);
                while delivered[fd as usize].load(Ordering::SeqCst) < round {
                    std::thread::yield_now();
                }
                assert_eq!(delivered[fd as usize].load(Ordering::SeqCst), round);
                tell(file, Readiness::empty());
                let interest = Interest {
                    events: IN | linux::EPOLLONESHOT,
                    data: fd as u64,
                };
                core(&epoll).change(fd, file, interest).unwrap();
            }
        }
    });
}

#[test]
fn thousands_come_and_go() {
    let (epoll, file) = (epoll(), told());
    for fd in 0..5000 {
        add(&epoll, fd, &file, IN).unwrap();
    }
    tell(&file, Readiness::IN);
    assert_eq!(collect(&epoll, 6000).len(), 5000);
    drop(file);
    assert_eq!(core(&epoll).entries.lock().len(), 0);
}
