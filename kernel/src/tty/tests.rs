//! The terminal's driver side, with everything but processes.

use alloc::sync::Arc;

use super::{Tty, TtyFile, termios::Termios};
use crate::fs::{DeviceNumber, File, Readiness, Sink, Stop, Transfer, file::WriteAt, io::Source};

fn terminal() -> Arc<Tty> {
    Tty::new("ttyT0", DeviceNumber::new(4, 65), Termios::default())
}

fn transfer(position: &mut u64) -> Transfer<'_> {
    Transfer {
        position,
        write_at: WriteAt::Position,
        flags: 0,
        caller: None,
    }
}

fn read(file: &TtyFile, length: usize) -> Result<Vec<u8>, Stop> {
    let mut buffer = vec![0; length];
    let mut sink = Sink::kernel(&mut buffer);
    file.read(&mut transfer(&mut 0), &mut sink)?;
    let done = sink.done();
    buffer.truncate(done);
    Ok(buffer)
}

#[test]
fn a_line_comes_through_the_file() {
    let tty = terminal();
    let file = TtyFile::new(tty.clone());
    assert_eq!(read(&file, 10), Err(Stop::WouldBlock));
    tty.input(b"hello\r");
    assert!(file.readiness().contains(Readiness::READABLE));
    assert_eq!(read(&file, 3).as_deref(), Ok(&b"hel"[..]));
    assert_eq!(read(&file, 10).as_deref(), Ok(&b"lo\n"[..]));
    let mut echo = [0; 20];
    assert_eq!(tty.take_output(&mut echo), 7);
}

#[test]
fn nothing_received_is_lost_while_nobody_reads() {
    let tty = terminal();
    let file = TtyFile::new(tty.clone());
    let line = b"0123456789abcdef\n";
    for _ in 0..1000 {
        tty.input(line);
    }
    assert!(!tty.accepts_input());
    for _ in 0..1000 {
        assert_eq!(read(&file, 100).as_deref(), Ok(&line[..]));
    }
    assert!(tty.accepts_input());
    assert_eq!(read(&file, 100), Err(Stop::WouldBlock));
}

#[test]
fn a_writer_waits_for_the_device() {
    let tty = terminal();
    let file = TtyFile::new(tty.clone());
    let bytes = [b'x'; 5000];
    let mut source = Source::kernel(&bytes);
    assert_eq!(file.write(&mut transfer(&mut 0), &mut source), Err(Stop::WouldBlock));
    assert_eq!(source.done(), 4096);
    assert!(!file.readiness().contains(Readiness::WRITABLE));
    assert_eq!(tty.take_output(&mut [0; 9000]), 4096);
    assert_eq!(file.write(&mut transfer(&mut 0), &mut source), Ok(()));
    assert_eq!(tty.take_output(&mut [0; 9000]), 904);
}

#[test]
fn a_hang_up_ends_the_files_opened_before() {
    let tty = terminal();
    let before = TtyFile::new(tty.clone());
    tty.hang_up();
    assert_eq!(read(&before, 10).as_deref(), Ok(&b""[..]));
    assert!(before.readiness().contains(Readiness::HUP));
    let after = TtyFile::new(tty);
    assert_eq!(read(&after, 10), Err(Stop::WouldBlock));
}
