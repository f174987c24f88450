use alloc::string::String;

use super::*;

/// All that a snapshot says.
fn read(snapshot: &Snapshot) -> Vec<String> {
    let line = |number| snapshot.line(number).unwrap();
    (0..).map_while(line).map(|line| line.trim_end().into()).collect()
}

/// The trace is one for the whole program, so one test switches it.
#[test]
fn a_trace_is_started_read_and_stopped() {
    // A CPU that no other test is.
    hal::host::machine().attach(62);
    for wrong in [
        "",
        "on 63",
        "on 1048577",
        "on x",
        "on 64 64",
        "off 1",
        "later",
        "\u{e9}",
    ] {
        assert_eq!(command(wrong.as_bytes()), Err(Errno::EINVAL), "{wrong}");
    }
    assert_eq!(command(b"\xff"), Err(Errno::EINVAL));
    user_began(1, 1);
    start(65, 62..63).unwrap();
    assert!(is_on() && rt::executor().is_timed());
    assert_eq!(start(64, 62..63), Err(Errno::EBUSY));
    assert!(!is_on());
    start(128, 62..63).unwrap();
    for at in 1..=128 {
        user_began(at, 7);
    }
    interrupt(5, Interrupt::Line(33));

    let snapshot = Snapshot::take();
    assert!(!is_on());
    user_began(1, 8);
    let lines = read(&snapshot);
    assert!((0..lines.len() as u64).all(|number| snapshot.line(number).unwrap().unwrap().len() == LINE));
    let [cpus, calls] = [1, lines.len() - 128 - 3];
    assert_eq!(lines[0], format!("BREENIX-TRACE 1 cpus {cpus} calls {calls}"));
    assert_eq!(lines[1], format!("R 3e {:016x} {:016x}", 130, 128));
    assert!(lines[2].starts_with("N "), "{}", lines[2]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("N ")).count(), calls);
    let records = &lines[calls + 2..];
    assert_eq!(
        records[0],
        format!("E 3e u {:016x} {:016x} {:016x} {:016x}", 3, 7, 0, 0)
    );
    assert!(
        records[127].starts_with("E 3e I ") && records[127].ends_with(&format!("{:016x} {:016x} {:016x}", 3, 33, 0))
    );
    assert_eq!(records[128..], [format!("BREENIX-TRACE-END {:016x}", 128)]);

    let mut last = String::new();
    write_last(&mut last).unwrap();
    assert!(last.starts_with("CPU 62: the last 16 of 130 events\n"), "{last}");
    assert!(last.ends_with("interrupt ends: Line(33)\n"), "{last}");
    assert_eq!(last.lines().count(), 17);

    start(128, 62..63).unwrap();
    assert_eq!(snapshot.line(0).err(), Some(Errno::ESTALE));
    stop();
}
