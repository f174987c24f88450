//! Goes through the records in their order, and keeps for each CPU what it does.

use super::super::dump::{Cpu, Dump, Event, PAGE_FAULT, Record};
use super::{Kind, Slice, Timeline, Wake};
use std::collections::BTreeMap;

type Facts = Vec<(&'static str, String)>;

/// A call that has begun.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    tid: u64,
}

/// What is known of one CPU at one time.
#[derive(Default)]
struct Track {
    cpu: u32,
    /// Slices that have no end yet, the outer ones first.
    open: Vec<Slice>,
    /// When the last poll, sleep or work of the executor ended.
    since: u64,
    /// When the last outermost slice ended.
    free_since: u64,
    /// The task that is polled, as far as it is known.
    task: Option<u64>,
    /// Whether something has begun or ended here.
    known: bool,
}

fn track(cpu: &Cpu, began: u64) -> Track {
    let first = cpu.records.iter().map(|record| record.at).min().unwrap_or(began) - began;
    let since = if cpu.lost == 0 { 0 } else { first };
    Track {
        cpu: cpu.number,
        since,
        free_since: since,
        ..Track::default()
    }
}

impl Track {
    fn begin(&mut self, kind: Kind, name: String, at: u64, facts: Facts) {
        self.known = true;
        self.open.push(Slice {
            cpu: self.cpu,
            kind,
            name,
            begin: at,
            end: at,
            depth: self.open.len(),
            facts,
        });
    }

    /// Ends the slices that are open, down to so many.
    fn close(&mut self, depth: usize, at: u64, slices: &mut Vec<Slice>) {
        while let Some(slice) = self.open.pop_if(|slice| slice.depth >= depth) {
            if slice.depth == 0 && matches!(slice.kind, Kind::Poll | Kind::Executor | Kind::Idle) {
                self.since = at;
            }
            slices.push(Slice { end: at, ..slice });
        }
        if depth == 0 {
            self.free_since = at;
        }
    }

    /// The innermost open slice of a kind.
    fn find(&self, kind: Kind) -> Option<usize> {
        self.open.iter().rposition(|slice| slice.kind == kind)
    }

    /// Ends the innermost slice of a kind, and what lies in it. False if there is none.
    fn end(&mut self, kind: Kind, at: u64, slices: &mut Vec<Slice>, facts: Facts) -> bool {
        let Some(index) = self.find(kind) else { return false };
        self.open[index].facts.extend(facts);
        self.close(index, at, slices);
        true
    }
}

/// Makes slices of records.
pub struct Builder<'a> {
    calls: &'a BTreeMap<u64, String>,
    /// What each task was called last.
    names: BTreeMap<u64, String>,
    /// The task that each thread is.
    threads: BTreeMap<u64, u64>,
    /// Tasks that have been woken and not been polled since, each with its wake's index.
    pending: BTreeMap<u64, usize>,
    /// Tasks that make a call.
    calling: BTreeMap<u64, Call>,
    tracks: Vec<Track>,
    timeline: Timeline,
}

impl<'a> Builder<'a> {
    /// For these records, which [`Builder::add`] is to get next.
    pub fn new(dump: &'a Dump, records: &[(usize, &Record)]) -> Self {
        let began = records.first().map_or(0, |(_, record)| record.at);
        let end = records.last().map_or(0, |(_, record)| record.at);
        let mut builder = Self {
            calls: &dump.calls,
            names: BTreeMap::new(),
            threads: BTreeMap::new(),
            pending: BTreeMap::new(),
            calling: BTreeMap::new(),
            tracks: dump.cpus.iter().map(|cpu| track(cpu, began)).collect(),
            timeline: Timeline {
                cpus: dump.cpus.iter().map(|cpu| cpu.number).collect(),
                began,
                length: end - began,
                lost: dump.cpus.iter().map(|cpu| cpu.lost).sum(),
                ..Timeline::default()
            },
        };
        builder.note_names(records);
        builder
    }

    fn note_names(&mut self, records: &[(usize, &Record)]) {
        let mut polled = vec![None; self.tracks.len()];
        // Threads that each CPU ran in a poll of which only the end can tell whose it is.
        let mut unknown = vec![Vec::new(); self.tracks.len()];
        for (cpu, record) in records {
            match &record.event {
                Event::PollBegan { task, name } => {
                    self.names.insert(*task, name.clone());
                    polled[*cpu] = Some(*task);
                    unknown[*cpu].clear();
                }
                Event::PollEnded { task, .. } => {
                    self.threads.extend(unknown[*cpu].drain(..).map(|tid| (tid, *task)));
                    polled[*cpu] = None;
                }
                Event::UserBegan { tid } | Event::CallBegan { tid, .. } => match polled[*cpu] {
                    Some(task) => _ = self.threads.insert(*tid, task),
                    None => unknown[*cpu].push(*tid),
                },
                _ => {}
            }
        }
    }

    /// Ends what is open.
    pub fn finish(self) -> Timeline {
        let Self {
            mut timeline, tracks, ..
        } = self;
        for mut track in tracks {
            track.close(0, timeline.length, &mut timeline.slices);
        }
        let order = |slice: &Slice| (slice.begin, slice.cpu, slice.depth, slice.end);
        timeline.slices.sort_by_key(order);
        timeline
    }

    /// The next record, of the CPU with this index.
    pub fn add(&mut self, cpu: usize, record: &Record) {
        let mut track = std::mem::take(&mut self.tracks[cpu]);
        self.event(&mut track, record.at - self.timeline.began, &record.event);
        self.tracks[cpu] = track;
    }

    fn name(&self, task: u64) -> String {
        self.names
            .get(&task)
            .cloned()
            .unwrap_or_else(|| format!("task {task:x}"))
    }

    fn event(&mut self, track: &mut Track, at: u64, event: &Event) {
        let executor_ends = !matches!(
            event,
            Event::Woken { .. } | Event::InterruptBegan | Event::InterruptEnded(_)
        );
        if executor_ends && track.open.first().is_some_and(|slice| slice.kind == Kind::Executor) {
            track.close(0, at, &mut self.timeline.slices);
        }
        match event {
            Event::PollBegan { task, name } => self.poll_began(track, at, *task, name),
            Event::PollEnded { task, finished } => self.poll_ended(track, at, *task, *finished),
            Event::Woken { task, by, in_interrupt } => self.woken(track, at, *task, *by, *in_interrupt),
            Event::InterruptBegan => {
                // It is what ends the sleep.
                track.end(Kind::Idle, at, &mut self.timeline.slices, Vec::new());
                track.begin(Kind::Interrupt, "interrupt".to_owned(), at, Vec::new());
            }
            Event::InterruptEnded(source) => {
                if let Some(index) = track.find(Kind::Interrupt) {
                    track.open[index].name = source.clone();
                    track.close(index, at, &mut self.timeline.slices);
                }
            }
            Event::UserBegan { tid } => {
                self.assume_poll(track, at, self.threads.get(tid).copied());
                for kind in [Kind::User, Kind::Fault] {
                    track.end(kind, at, &mut self.timeline.slices, Vec::new());
                }
                track.begin(Kind::User, "user".to_owned(), at, vec![("thread", tid.to_string())]);
            }
            Event::UserEnded(why) => {
                if !track.known {
                    self.assume_poll(track, at, None);
                    track.begin(Kind::User, "user".to_owned(), track.since, Vec::new());
                }
                track.end(
                    Kind::User,
                    at,
                    &mut self.timeline.slices,
                    vec![("until", (*why).to_owned())],
                );
                if *why == PAGE_FAULT {
                    track.begin(Kind::Fault, PAGE_FAULT.to_owned(), at, Vec::new());
                }
            }
            Event::CallBegan { number, tid } => {
                let name = self.calls.get(number).cloned();
                let name = name.unwrap_or_else(|| format!("call {number}"));
                self.assume_poll(track, at, self.threads.get(tid).copied());
                self.call(track, at, Call { name, tid: *tid });
            }
            Event::CallEnded { result } => {
                track.end(
                    Kind::Call,
                    at,
                    &mut self.timeline.slices,
                    vec![("result", result.to_string())],
                );
                if let Some(task) = track.task {
                    self.calling.remove(&task);
                }
            }
            Event::IdleBegan => {
                track.close(0, at, &mut self.timeline.slices);
                track.begin(Kind::Idle, "idle".to_owned(), at, Vec::new());
            }
            Event::IdleEnded => {
                if !track.known {
                    track.begin(Kind::Idle, "idle".to_owned(), track.since, Vec::new());
                }
                track.end(Kind::Idle, at, &mut self.timeline.slices, Vec::new());
            }
        }
    }

    fn poll_began(&mut self, track: &mut Track, at: u64, task: u64, name: &str) {
        track.close(0, at, &mut self.timeline.slices);
        track.task = Some(task);
        track.begin(Kind::Poll, name.to_owned(), at, vec![("task", format!("{task:x}"))]);
        if let Some(wake) = self.pending.remove(&task) {
            self.timeline.wakes[wake].poll = Some((track.cpu, at));
        }
        if let Some(call) = self.calling.remove(&task) {
            self.call(track, at, call);
        }
    }

    fn poll_ended(&mut self, track: &mut Track, at: u64, task: u64, finished: bool) {
        self.assume_poll(track, at, Some(task));
        let ended = finished.then(|| ("ended", "with it".to_owned()));
        track.end(Kind::Poll, at, &mut self.timeline.slices, ended.into_iter().collect());
        track.task = None;
        if finished {
            self.calling.remove(&task);
        }
    }

    /// Something happens that does so in a poll alone, of a task if it is known. A poll of whose beginning there is no record
    /// began after whatever else the CPU was seen to do, and what was seen since lies within.
    fn assume_poll(&mut self, track: &mut Track, at: u64, task: Option<u64>) {
        if track.find(Kind::Poll).is_none() {
            track.close(0, at, &mut self.timeline.slices);
            let (cpu, begin) = (track.cpu, track.since);
            let within = |slice: &&mut Slice| slice.cpu == cpu && slice.begin >= begin;
            let slices = self.timeline.slices.iter_mut();
            slices.filter(within).for_each(|slice| slice.depth += 1);
            track.begin(Kind::Poll, "some task".to_owned(), begin, Vec::new());
        }
        if let (None, Some(task), Some(index)) = (track.task, task, track.find(Kind::Poll)) {
            track.task = Some(task);
            track.open[index].name = self.name(task);
            track.open[index].facts.push(("task", format!("{task:x}")));
        }
    }

    fn call(&mut self, track: &mut Track, at: u64, call: Call) {
        let facts = vec![("thread", call.tid.to_string())];
        track.begin(Kind::Call, call.name.clone(), at, facts);
        if let Some(task) = track.task {
            self.calling.insert(task, call);
        }
    }

    fn woken(&mut self, track: &mut Track, at: u64, task: u64, by: u64, in_interrupt: bool) {
        if by != 0 && !in_interrupt {
            self.assume_poll(track, at, Some(by));
        } else if track.open.is_empty() {
            track.begin(Kind::Executor, "executor".to_owned(), track.free_since, Vec::new());
        }
        let name = self.name(task);
        let index = self.timeline.wakes.len();
        self.pending.entry(task).or_insert(index);
        if let Some(slice) = track.open.last_mut() {
            slice.facts.push(("wakes", name.clone()));
        }
        let by = match by {
            _ if in_interrupt => "an interrupt".to_owned(),
            0 => "the executor".to_owned(),
            task => self.name(task),
        };
        self.timeline.wakes.push(Wake {
            cpu: track.cpu,
            at,
            name,
            by,
            poll: None,
        });
    }
}
