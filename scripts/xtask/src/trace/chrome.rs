//! The Chrome trace event format, which Perfetto reads: <https://ui.perfetto.dev>, "Open trace file".
//!
//! One process, a thread for each CPU. Slices are complete events (`X`), which lie within each other; a wake that led to a
//! poll is a flow (`s`, `f`) from the slice it happened in. Times are microseconds since the trace began.

use super::timeline::{Slice, Timeline, Wake};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const PROCESS: u32 = 1;

/// The whole trace, an event a line. `title` says what was traced.
pub fn json(timeline: &Timeline, title: &str) -> String {
    let mut events = vec![json!({"ph": "M", "name": "process_name", "pid": PROCESS, "args": {"name": title}})];
    for cpu in &timeline.cpus {
        let of_thread =
            |name: &str, args: Value| json!({"ph": "M", "name": name, "pid": PROCESS, "tid": cpu, "args": args});
        events.push(of_thread("thread_name", json!({"name": format!("CPU {cpu}")})));
        events.push(of_thread("thread_sort_index", json!({"sort_index": cpu})));
    }
    // A flow's ends come after the slices that they lie in.
    let slices = timeline.slices.iter().map(|slice| (slice.begin, 0, complete(slice)));
    let flows = timeline
        .wakes
        .iter()
        .enumerate()
        .filter_map(|(id, wake)| flow(id, wake));
    let mut timed: Vec<(u64, u8, Value)> = slices.chain(flows.flatten()).collect();
    timed.sort_by_key(|(at, order, _)| (*at, *order));
    events.extend(timed.into_iter().map(|(_, _, event)| event));

    let lines = events.iter().map(Value::to_string).collect::<Vec<_>>().join(",\n");
    let other = json!({"began_ns_since_boot": timeline.began, "lost_records": timeline.lost});
    format!("{{\"displayTimeUnit\":\"ns\",\"otherData\":{other},\"traceEvents\":[\n{lines}\n]}}\n")
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn complete(slice: &Slice) -> Value {
    let mut args = Map::new();
    for (name, value) in &slice.facts {
        // What happens several times in one slice is one value with commas.
        match args.get_mut(*name) {
            Some(Value::String(before)) => *before = format!("{before}, {value}"),
            _ => _ = args.insert((*name).to_owned(), json!(value)),
        }
    }
    json!({
        "ph": "X", "cat": slice.kind.word(), "name": slice.name, "pid": PROCESS, "tid": slice.cpu,
        "ts": micros(slice.begin), "dur": micros(slice.end - slice.begin), "args": args,
    })
}

fn flow(id: usize, wake: &Wake) -> Option<[(u64, u8, Value); 2]> {
    let (cpu, at) = wake.poll?;
    let from = json!({
        "ph": "s", "id": id, "cat": "wake", "name": "wake", "pid": PROCESS, "tid": wake.cpu, "ts": micros(wake.at),
        "args": {"of": wake.name, "by": wake.by},
    });
    let to = json!({
        "ph": "f", "bp": "e", "id": id, "cat": "wake", "name": "wake", "pid": PROCESS, "tid": cpu, "ts": micros(at),
    });
    Some([(wake.at, 1, from), (at, 2, to)])
}

/// Checks a trace's structure: events sorted, slices of a thread within each other or apart, each flow with two ends, in
/// order, within slices.
///
/// # Errors
/// What is wrong.
pub fn check(text: &str) -> Result<()> {
    let trace: Value = serde_json::from_str(text)?;
    let events = trace["traceEvents"].as_array().context("there are no events")?;
    let nanos = |event: &Value, name: &str| -> Result<u64> {
        let value = event[name].as_f64().with_context(|| format!("no {name} in {event}"))?;
        ensure!(value >= 0.0, "{name} is negative in {event}");
        Ok((value * 1000.0).round() as u64)
    };
    let mut last = 0;
    // Of each thread, the ends of the slices that lie around the next one.
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut flows: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ended = 0;
    for event in events.iter().filter(|event| event["ph"] != "M") {
        let (at, thread) = (nanos(event, "ts")?, event["tid"].as_u64().context("no thread")?);
        ensure!(last <= at, "{event} comes too late");
        last = at;
        let around = open.entry(thread).or_default();
        if event["ph"] == "X" {
            let end = at + nanos(event, "dur")?;
            // A slice that ends where this one begins lies around it only if this one has no length.
            while around
                .pop_if(|outer| *outer < at || (*outer == at && end > at))
                .is_some()
            {}
            ensure!(
                around.last().is_none_or(|outer| end <= *outer),
                "{event} ends outside of what it lies in"
            );
            around.push(end);
            continue;
        }
        ensure!(around.iter().any(|end| at <= *end), "{event} lies in no slice");
        let id = event["id"].as_u64().context("a flow without a number")?;
        match event["ph"].as_str() {
            Some("s") => ensure!(flows.insert(id, at).is_none(), "flow {id} begins twice"),
            Some("f") => {
                ensure!(flows.contains_key(&id), "flow {id} ends before it begins");
                ended += 1;
            }
            _ => anyhow::bail!("what is {event}?"),
        }
    }
    ensure!(ended == flows.len(), "{} flows begin, {ended} end", flows.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Kind;
    use super::*;

    fn slice(cpu: u32, kind: Kind, begin: u64, end: u64, depth: usize) -> Slice {
        Slice {
            cpu,
            kind,
            name: format!("{}-{begin}", kind.word()),
            begin,
            end,
            depth,
            facts: vec![("wakes", "a".to_owned()), ("wakes", "b".to_owned())],
        }
    }

    fn timeline() -> Timeline {
        let wake = |at, poll| Wake {
            cpu: 0,
            at,
            name: "cat".to_owned(),
            by: "sh".to_owned(),
            poll,
        };
        Timeline {
            cpus: vec![0, 1],
            slices: vec![
                slice(0, Kind::Poll, 0, 1500, 0),
                slice(0, Kind::User, 0, 700, 1),
                slice(1, Kind::Poll, 900, 1000, 0),
            ],
            wakes: vec![wake(800, Some((1, 900))), wake(850, None)],
            began: 5,
            length: 1500,
            lost: 0,
        }
    }

    #[test]
    fn a_trace_has_its_threads_slices_and_flows() {
        let text = json(&timeline(), "some command");
        check(&text).unwrap();
        let trace: Value = serde_json::from_str(&text).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let phases: Vec<_> = events.iter().filter_map(|event| event["ph"].as_str()).collect();
        assert_eq!(phases, ["M", "M", "M", "M", "M", "X", "X", "s", "X", "f"]);
        assert_eq!(events[0]["args"]["name"], "some command");
        assert_eq!(events[3]["args"]["name"], "CPU 1");
        assert_eq!((&events[5]["ts"], &events[5]["dur"]), (&json!(0.0), &json!(1.5)));
        assert_eq!(events[5]["args"]["wakes"], "a, b");
        assert_eq!((&events[9]["tid"], &events[9]["bp"]), (&json!(1), &json!("e")));
    }

    #[test]
    fn what_is_wrong_with_a_trace_is_found() {
        let good = timeline();
        let wrong = |change: fn(&mut Timeline)| {
            let mut timeline = good.clone();
            change(&mut timeline);
            check(&json(&timeline, "")).unwrap_err().to_string()
        };
        assert!(wrong(|timeline| timeline.slices[1].end = 1600).contains("ends outside"));
        assert!(wrong(|timeline| timeline.wakes[0].at = 1501).contains("ends before"));
        assert!(wrong(|timeline| timeline.wakes[0].cpu = 1).contains("in no slice"));
        assert!(check("{}").is_err());
    }
}
