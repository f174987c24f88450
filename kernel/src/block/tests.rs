use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use proptest::prelude::*;

use super::*;
use crate::{errno::Errno, mm::frame};

const TIMEOUT: u64 = 1_000_000;

/// A device that does what the test says.
#[derive(Default)]
struct Device {
    depth: u16,
    flushes_alone: bool,
    /// What it has, by tag: the first sector.
    has: BTreeMap<u16, u64>,
    started: Vec<u64>,
    ended: Vec<(u16, Result<()>)>,
    untold: usize,
    stalled: bool,
    resets: usize,
    lost: bool,
}

#[derive(Clone)]
struct Handle(Arc<Mutex<Device>>);

impl Handle {
    fn device(&self) -> MutexGuard<'_, Device> {
        self.0.lock().unwrap()
    }

    /// The device ends the request that begins at this sector.
    fn end(&self, sector: u64, result: Result<()>) {
        let mut device = self.device();
        assert_eq!(device.untold, 0, "the device has not been told");
        let tag = *device.has.iter().find(|(_, has)| **has == sector).unwrap().0;
        device.has.remove(&tag);
        device.ended.push((tag, result));
    }

    fn has(&self) -> Vec<u64> {
        let mut has: Vec<u64> = self.device().has.values().copied().collect();
        has.sort_unstable();
        has
    }
}

impl Hardware for Handle {
    fn depth(&self) -> u16 {
        self.device().depth
    }

    fn start(&mut self, tag: u16, command: &Command<'_>) {
        let mut device = self.device();
        assert!(tag < device.depth && !device.stalled);
        assert_eq!(command.pages.len(), pages_of(command.sectors));
        assert!(device.has.insert(tag, command.sector).is_none(), "a tag is used twice");
        device.started.push(command.sector);
        device.untold += 1;
    }

    fn ring(&mut self) {
        self.device().untold = 0;
    }

    fn reap(&mut self, _: usize) -> Option<(u16, Result<()>)> {
        let mut device = self.device();
        (!device.ended.is_empty()).then(|| device.ended.remove(0))
    }

    fn stalled(&self) -> bool {
        self.device().stalled
    }

    fn flushes_alone(&self) -> bool {
        self.device().flushes_alone
    }

    fn reset(&mut self, now: u64) -> Reset {
        let mut device = self.device();
        device.resets += 1;
        if device.lost {
            return Reset::Failed;
        }
        if device.resets % 2 == 1 {
            return Reset::Until(now + 1);
        }
        device.has.clear();
        device.ended.clear();
        device.stalled = false;
        Reset::Done
    }
}

/// What requests were told, by their first sectors.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, Result<usize>)>>);

impl Told {
    fn take(&self) -> Vec<(u64, Result<usize>)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Completion for Told {
    fn complete(&self, token: u64, outcome: Result<Pages>) {
        self.0.lock().unwrap().push((token, outcome.map(|pages| pages.len())));
    }
}

struct Bench {
    device: Handle,
    disk: Arc<Disk>,
    told: Arc<Told>,
}

impl Bench {
    fn new(depth: u16) -> Self {
        let device = Handle(Arc::new(Mutex::new(Device {
            depth,
            flushes_alone: true,
            ..Device::default()
        })));
        let name = Name::from("test").unwrap();
        let queue = Queue::with_timeout(name, Box::new(device.clone()), TIMEOUT).unwrap();
        let geometry = Geometry {
            sectors: 1000,
            block: 1024,
            most_pages: 2,
            read_only: false,
            write_cache: true,
        };
        Self {
            device,
            disk: Disk::on(queue, 0, name, geometry).unwrap(),
            told: Arc::default(),
        }
    }

    fn ask(&self, operation: Operation, sector: u64, sectors: u32, pages: usize) -> Result<()> {
        self.disk.submit(Request {
            operation,
            sector,
            sectors,
            pages: (0..pages).map(|_| frame::allocate().unwrap()).collect(),
            done: self.told.clone(),
            token: sector,
        })
    }

    fn read(&self, sector: u64) {
        self.ask(Operation::Read, sector, 2, 1).unwrap();
    }

    fn queue(&self) -> &Queue {
        self.disk.queue()
    }

    /// What the watching task does, without its waits.
    fn recover(&self) {
        assert!(self.queue().needs_recovery());
        let stalled = self.queue().is_stalled();
        while let Reset::Until(_) = self.queue().reset_step() {}
        self.queue().resume(stalled);
    }

    fn wait(&self, time: u64) {
        hal::host::machine().advance_clock(time);
    }
}

#[test]
fn requests_wait_for_tags_in_order() {
    let bench = Bench::new(2);
    for sector in [0, 2, 4, 6, 8] {
        bench.read(sector);
    }
    assert_eq!(bench.device.has(), [0, 2]);
    bench.device.end(2, Ok(()));
    bench.queue().reap(0);
    assert_eq!((bench.device.has(), bench.told.take()), (vec![0, 4], vec![(2, Ok(1))]));
    bench.device.end(4, Err(Errno::EIO));
    bench.device.end(0, Ok(()));
    bench.queue().reap(0);
    assert_eq!(bench.told.take(), [(4, Err(Errno::EIO)), (0, Ok(1))]);
    assert_eq!(bench.device.device().started, [0, 2, 4, 6, 8]);
}

#[test]
fn what_the_disk_has_not_is_refused() {
    let bench = Bench::new(2);
    let refused = [
        (Operation::Read, 1000, 2, 1),
        (Operation::Read, 998, 4, 1),
        (Operation::Read, u64::MAX - 1, 2, 1),
        (Operation::Read, 1, 2, 1),
        (Operation::Read, 0, 1, 1),
        (Operation::Read, 0, 0, 1),
        (Operation::Read, 0, 2, 0),
        (Operation::Read, 0, 10, 1),
        (Operation::Read, 0, 18, 3),
        (Operation::Flush, 0, 2, 0),
    ];
    for (operation, sector, sectors, pages) in refused {
        let outcome = bench.ask(operation, sector, sectors, pages);
        assert_eq!(
            outcome,
            Err(Errno::EINVAL),
            "{operation:?} {sector}+{sectors} of {pages}"
        );
    }
    bench.ask(Operation::Write, 998, 2, 2).unwrap();
    assert_eq!((bench.device.has(), bench.told.take()), (vec![998], vec![]));
}

#[test]
fn geometries_that_cannot_be_are_refused() {
    let good = *Bench::new(1).disk.geometry();
    let refused = [
        Geometry { block: 256, ..good },
        Geometry { block: 8192, ..good },
        Geometry { block: 1536, ..good },
        Geometry { sectors: 999, ..good },
        Geometry { sectors: !1, ..good },
        Geometry { most_pages: 0, ..good },
        Geometry {
            most_pages: MOST_PAGES + 1,
            ..good
        },
    ];
    for geometry in refused {
        let bench = Bench::new(1);
        let queue = Arc::clone(bench.disk.queue());
        let disk = Disk::on(queue, 0, Name::from("test").unwrap(), geometry);
        assert_eq!(disk.err(), Some(Errno::EINVAL), "{geometry:?}");
    }
}

#[test]
fn a_device_that_ends_what_it_has_not_is_not_believed() {
    let bench = Bench::new(2);
    bench.read(0);
    bench.device.device().ended = vec![(7, Ok(())), (u16::MAX, Ok(())), (0, Ok(()))];
    // Whichever tag the request has, the other one is nobody's.
    bench.device.device().ended.push((1, Ok(())));
    bench.queue().reap(0);
    assert_eq!(bench.told.take(), [(0, Ok(1))]);
}

#[test]
fn a_flush_that_wants_to_be_alone_is() {
    let bench = Bench::new(4);
    bench.read(0);
    bench.ask(Operation::Flush, 500, 0, 0).unwrap();
    bench.read(2);
    assert_eq!(bench.device.has(), [0]);
    bench.device.end(0, Ok(()));
    bench.queue().reap(0);
    assert_eq!(bench.device.has(), [500]);
    bench.read(4);
    bench.device.end(500, Ok(()));
    bench.queue().reap(0);
    assert_eq!(bench.device.has(), [2, 4]);
    assert_eq!(bench.told.take(), [(0, Ok(1)), (500, Ok(0))]);
}

#[test]
fn of_a_device_that_stops_only_the_request_at_fault_fails() {
    let bench = Bench::new(4);
    for sector in [0, 2, 4, 6, 8] {
        bench.read(sector);
    }
    bench.device.end(0, Ok(()));
    bench.device.device().stalled = true;
    bench.queue().reap(0);
    // Nothing new goes to a device that has stopped.
    assert_eq!(
        (bench.device.has(), bench.told.take()),
        (vec![2, 4, 6], vec![(0, Ok(1))])
    );
    bench.recover();
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        let has = bench.device.has();
        assert_eq!(has.len(), 1, "each is tried by itself");
        if has[0] == 4 {
            bench.device.device().stalled = true;
            bench.queue().reap(0);
            bench.recover();
        } else {
            bench.device.end(has[0], Ok(()));
            bench.queue().reap(0);
        }
        outcomes.append(&mut bench.told.take());
    }
    outcomes.sort_unstable_by_key(|(sector, _)| *sector);
    assert_eq!(outcomes, [(2, Ok(1)), (4, Err(Errno::EIO)), (6, Ok(1))]);
    assert_eq!(bench.device.has(), [8]);
}

#[test]
fn what_gets_no_answer_fails_when_its_time_is_up() {
    let bench = Bench::new(2);
    bench.read(0);
    bench.wait(TIMEOUT / 2);
    bench.read(2);
    bench.read(4);
    assert!(!bench.queue().needs_recovery());
    bench.wait(TIMEOUT / 2);
    bench.recover();
    assert_eq!(bench.told.take(), [(0, Err(Errno::EIO))]);
    // The younger one is tried again, by itself, for as long as it had left.
    assert_eq!(bench.device.has(), [2]);
    bench.wait(TIMEOUT / 2);
    bench.recover();
    assert_eq!(bench.told.take(), [(2, Err(Errno::EIO))]);
    assert_eq!(bench.device.has(), [4]);
    assert!(!bench.queue().needs_recovery());
    bench.device.end(4, Ok(()));
    bench.queue().reap(0);
    assert_eq!(bench.told.take(), [(4, Ok(1))]);
}

#[test]
fn a_silent_device_costs_many_requests_no_more_than_one() {
    let bench = Bench::new(8);
    for sector in (0..16).step_by(2) {
        bench.read(sector);
        bench.wait(1);
    }
    bench.wait(TIMEOUT);
    bench.recover();
    assert_eq!(bench.told.take().len(), 8);
    assert_eq!(bench.device.device().resets, 2);
}

#[test]
fn a_lost_device_fails_everything_at_once() {
    let bench = Bench::new(1);
    bench.read(0);
    bench.read(2);
    bench.device.device().lost = true;
    bench.wait(TIMEOUT);
    assert_eq!(bench.queue().reset_step(), Reset::Failed);
    bench.queue().give_up();
    assert_eq!(bench.told.take(), [(0, Err(Errno::EIO)), (2, Err(Errno::EIO))]);
    assert_eq!(bench.ask(Operation::Read, 4, 2, 1), Err(Errno::EIO));
    assert!(!bench.queue().needs_recovery());
    // What the device may still write to belongs to nobody else, ever; an end that comes late is nobody's.
    bench.device.device().ended.push((0, Ok(())));
    bench.queue().reap(0);
    assert_eq!(bench.told.take(), []);
}

#[test]
fn memory_is_the_request_s_until_the_end() {
    let bench = Bench::new(1);
    let page = frame::allocate_zeroed().unwrap();
    let request = Request {
        operation: Operation::Read,
        sector: 4,
        sectors: 2,
        pages: [page.clone()].into_iter().collect(),
        done: bench.told.clone(),
        token: 4,
    };
    bench.disk.submit(request).unwrap();
    assert_eq!(page.count(), 2);
    bench.device.end(4, Ok(()));
    bench.queue().reap(0);
    assert_eq!((page.count(), bench.told.take()), (1, vec![(4, Ok(1))]));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    Flush,
    End(usize, bool),
    Reap,
    Stall,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Read),
        1 => Just(Step::Flush),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Step::End(which, good)),
        3 => Just(Step::Reap),
        1 => Just(Step::Stall),
        1 => (0..TIMEOUT).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever the device does, each request is told of its end once, and in the end all have been.
    #[test]
    fn every_request_ends_once(depth in 1u16..6, steps in prop::collection::vec(step(), 1..120)) {
        let bench = Bench::new(depth);
        let mut asked = 0;
        let mut told = Vec::new();
        for step in steps {
            match step {
                Step::Read => {
                    bench.read(2 * asked);
                    asked += 1;
                }
                Step::Flush => {
                    bench.ask(Operation::Flush, 2 * asked, 0, 0).unwrap();
                    asked += 1;
                }
                Step::End(which, good) => {
                    let has = bench.device.has();
                    if !has.is_empty() && !bench.device.device().stalled {
                        let result = if good { Ok(()) } else { Err(Errno::EIO) };
                        bench.device.end(has[which % has.len()], result);
                    }
                }
                Step::Reap => _ = bench.queue().reap(0),
                Step::Stall => {
                    bench.device.device().stalled = true;
                    bench.queue().reap(0);
                }
                Step::Wait(time) => bench.wait(time),
            }
            if bench.queue().needs_recovery() {
                bench.recover();
            }
            told.append(&mut bench.told.take());
        }
        for _ in 0..2 * asked + 2 {
            for sector in bench.device.has() {
                bench.device.end(sector, Ok(()));
            }
            while bench.queue().reap(0) {}
            if bench.queue().needs_recovery() {
                bench.recover();
            }
        }
        told.append(&mut bench.told.take());
        let mut sectors: Vec<u64> = told.iter().map(|(sector, _)| *sector).collect();
        sectors.sort_unstable();
        prop_assert_eq!(sectors, (0..asked).map(|index| 2 * index).collect::<Vec<_>>());
    }
}
