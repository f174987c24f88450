use super::super::chrome;
use super::super::dump::PAGE_FAULT;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn poll(task: u64, name: &str) -> Event {
    Event::PollBegan {
        task,
        name: name.to_owned(),
    }
}

fn ended(task: u64) -> Event {
    Event::PollEnded { task, finished: false }
}

fn woken(task: u64, by: u64, in_interrupt: bool) -> Event {
    Event::Woken { task, by, in_interrupt }
}

fn timer() -> Event {
    Event::InterruptEnded("timer".to_owned())
}

fn dump(cpus: &[&[(u64, Event)]]) -> Dump {
    let cpu = |(number, records): (usize, &&[(u64, Event)])| Cpu {
        number: number as u32,
        lost: 0,
        records: records
            .iter()
            .map(|(at, event)| Record {
                at: *at,
                event: event.clone(),
            })
            .collect(),
    };
    Dump {
        cpus: cpus.iter().enumerate().map(cpu).collect(),
        calls: BTreeMap::from([(63, "read".to_owned())]),
    }
}

/// The slices of a CPU as `kind name begin..end depth`.
fn slices(timeline: &Timeline, cpu: u32) -> Vec<String> {
    let text = |slice: &Slice| {
        let (begin, end) = (slice.begin, slice.end);
        format!("{} {} {begin}..{end} {}", slice.kind.word(), slice.name, slice.depth)
    };
    timeline
        .slices
        .iter()
        .filter(|slice| slice.cpu == cpu)
        .map(text)
        .collect()
}

#[test]
fn a_call_that_waits_goes_on_where_the_next_poll_is() {
    let first = [
        (100, poll(1, "cat")),
        (101, Event::UserBegan { tid: 7 }),
        (104, Event::UserEnded(PAGE_FAULT)),
        (106, Event::UserBegan { tid: 7 }),
        (110, Event::UserEnded("call")),
        (110, Event::CallBegan { number: 63, tid: 7 }),
        (120, ended(1)),
        (130, Event::IdleBegan),
        (170, Event::IdleEnded),
    ];
    let second = [
        (115, poll(2, "sh")),
        (140, woken(1, 2, false)),
        (145, woken(1, 2, false)),
        (
            150,
            Event::PollEnded {
                task: 2,
                finished: true,
            },
        ),
        (160, poll(1, "cat")),
        (165, Event::CallEnded { result: -4 }),
        (168, Event::CallBegan { number: 99, tid: 7 }),
    ];
    let timeline = Timeline::new(&dump(&[&first, &second]));
    assert_eq!((timeline.began, timeline.length), (100, 70));
    assert_eq!(
        slices(&timeline, 0),
        [
            "poll cat 0..20 0",
            "user user 1..4 1",
            "fault page fault 4..6 1",
            "user user 6..10 1",
            "call read 10..20 1",
            "idle idle 30..70 0"
        ]
    );
    // What is still going on ends with the trace.
    assert_eq!(
        slices(&timeline, 1),
        [
            "poll sh 15..50 0",
            "poll cat 60..70 0",
            "call read 60..65 1",
            "call call 99 68..70 1"
        ]
    );
    let facts: Vec<_> = timeline.slices.iter().flat_map(|slice| &slice.facts).collect();
    assert!(facts.contains(&&("result", "-4".to_owned())));
    let polls: Vec<_> = timeline
        .wakes
        .iter()
        .map(|wake| (wake.by.as_str(), wake.poll))
        .collect();
    assert_eq!(polls, [("sh", Some((1, 60))), ("sh", None)]);
    chrome::check(&chrome::json(&timeline, "")).unwrap();
}

#[test]
fn what_had_begun_before_the_trace_begins_with_it() {
    let first = [
        (10, Event::CallBegan { number: 63, tid: 7 }),
        (15, Event::InterruptBegan),
        (16, timer()),
        (20, ended(1)),
        (30, poll(1, "cat")),
        (31, Event::CallEnded { result: 0 }),
        (40, ended(1)),
    ];
    let second = [(12, Event::UserEnded("interrupt")), (14, ended(9))];
    let third = [(13, Event::IdleEnded), (33, timer())];
    let timeline = Timeline::new(&dump(&[&first, &second, &third]));
    assert_eq!(
        slices(&timeline, 0),
        [
            "poll cat 0..10 0",
            "call read 0..10 1",
            "interrupt timer 5..6 2",
            "poll cat 20..30 0",
            "call read 20..21 1"
        ]
    );
    assert_eq!(slices(&timeline, 1), ["poll task 9 0..4 0", "user user 0..2 1"]);
    assert_eq!(slices(&timeline, 2), ["idle idle 0..3 0"]);

    let mut torn = dump(&[&first, &second]);
    torn.cpus[1].lost = 1;
    assert_eq!(slices(&Timeline::new(&torn), 1)[0], "poll task 9 2..4 0");
}

#[test]
fn an_interrupt_ends_the_sleep_and_the_executor_wakes() {
    let records = [
        (0, Event::IdleBegan),
        (10, Event::InterruptBegan),
        (11, woken(1, 0, true)),
        (12, timer()),
        (13, Event::IdleEnded),
        (14, woken(2, 0, false)),
        (16, poll(1, "uart")),
        (17, ended(1)),
        (18, poll(2, "sleeper")),
        (19, ended(2)),
    ];
    let timeline = Timeline::new(&dump(&[&records]));
    assert_eq!(
        slices(&timeline, 0),
        [
            "idle idle 0..10 0",
            "interrupt timer 10..12 0",
            "executor executor 12..16 0",
            "poll uart 16..17 0",
            "poll sleeper 18..19 0"
        ]
    );
    let by: Vec<_> = timeline.wakes.iter().map(|wake| wake.by.as_str()).collect();
    assert_eq!(by, ["an interrupt", "the executor"]);
    chrome::check(&chrome::json(&timeline, "")).unwrap();
}

/// An interrupt's records stand behind its wakes, and the record of what was interrupted may stand behind both.
#[test]
fn what_was_interrupted_before_it_was_written_comes_first() {
    for at in [5, 6] {
        let records = [
            (0, poll(1, "sh")),
            (6, woken(2, 1, true)),
            (6, Event::InterruptBegan),
            (8, timer()),
            (at, ended(1)),
        ];
        let timeline = Timeline::new(&dump(&[&records]));
        assert_eq!(
            slices(&timeline, 0),
            [format!("poll sh 0..{at} 0"), "interrupt timer 6..8 0".to_owned()]
        );
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let task = 1..4_u64;
    prop_oneof![
        task.clone().prop_map(|task| poll(task, "task")),
        (task.clone(), any::<bool>()).prop_map(|(task, finished)| Event::PollEnded { task, finished }),
        (task.clone(), 0..3_u64, any::<bool>()).prop_map(|(task, by, interrupt)| woken(task, by, interrupt)),
        Just(Event::InterruptBegan),
        Just(timer()),
        task.clone().prop_map(|tid| Event::UserBegan { tid }),
        Just(Event::UserEnded("call")),
        Just(Event::UserEnded(PAGE_FAULT)),
        task.prop_map(|tid| Event::CallBegan { number: 63, tid }),
        Just(Event::CallEnded { result: 0 }),
        Just(Event::IdleBegan),
        Just(Event::IdleEnded),
    ]
}

proptest! {
    /// Whatever was lost of a trace: each slice has an end, lies wholly in another or apart from it, and flows bind.
    #[test]
    fn any_records_make_a_trace_that_holds_together(
        cpus in prop::collection::vec((0..3_u64, prop::collection::vec((0..40_u64, any_event()), 0..40)), 1..4)
    ) {
        let records: Vec<_> = cpus.iter().map(|(_, records)| records.as_slice()).collect();
        let mut dump = dump(&records);
        for (cpu, (lost, _)) in dump.cpus.iter_mut().zip(&cpus) {
            cpu.lost = *lost;
        }
        let timeline = Timeline::new(&dump);
        prop_assert!(timeline.slices.iter().all(|slice| slice.begin <= slice.end && slice.end <= timeline.length));
        if let Err(error) = chrome::check(&chrome::json(&timeline, "")) {
            return Err(TestCaseError::fail(error.to_string()));
        }
    }
}
