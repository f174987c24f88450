//! The discipline, byte by byte.

use linux_raw_sys::general as raw;
use proptest::prelude::*;

use super::{
    read::{ReadTimes, Readiness},
    *,
};
use crate::tty::buffer::INPUT_SIZE;

fn machine(change: impl FnOnce(&mut Termios)) -> LineDiscipline {
    let mut termios = Termios::default();
    change(&mut termios);
    LineDiscipline::new(termios)
}

fn screen(machine: &mut LineDiscipline) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 100];
    loop {
        let (count, _) = machine.take_output(&mut piece);
        if count == 0 {
            return String::from_utf8_lossy(&all).into_owned();
        }
        all.extend_from_slice(&piece[..count]);
    }
}

fn read_at(machine: &mut LineDiscipline, length: usize, times: ReadTimes) -> Option<Vec<u8>> {
    let Readiness::Ready { copy, consume } = machine.readiness(length, times) else {
        return None;
    };
    let (first, second) = machine.front(copy);
    let bytes = [first, second].concat();
    machine.consume(consume);
    Some(bytes)
}

fn read(machine: &mut LineDiscipline, length: usize) -> Option<Vec<u8>> {
    read_at(machine, length, ReadTimes::default())
}

fn line(machine: &mut LineDiscipline) -> String {
    String::from_utf8(read(machine, 4096).expect("a line")).expect("UTF-8")
}

#[test]
fn a_line_is_echoed_and_read_once_it_ends() {
    let mut machine = machine(|_| {});
    let (taken, effects) = machine.receive(b"ls");
    assert_eq!((taken, effects.readable, effects.output), (2, false, true));
    assert_eq!(read(&mut machine, 10), None);
    assert!(machine.receive(b"\r").1.readable);
    assert_eq!(screen(&mut machine), "ls\r\n");
    assert_eq!(line(&mut machine), "ls\n");
}

#[test]
fn a_short_reader_gets_a_line_in_pieces_and_never_two_lines() {
    let mut machine = machine(|_| {});
    machine.receive(b"abcdef\nxy\n");
    assert_eq!(read(&mut machine, 4).as_deref(), Some(&b"abcd"[..]));
    assert_eq!(read(&mut machine, 10).as_deref(), Some(&b"ef\n"[..]));
    assert_eq!(read(&mut machine, 10).as_deref(), Some(&b"xy\n"[..]));
}

#[test]
fn erase_takes_the_character_off_the_screen() {
    let mut machine = machine(|_| {});
    machine.receive(b"ab\x7fc\x01\x7f\n");
    assert_eq!(screen(&mut machine), "ab\x08 \x08c^A\x08 \x08\x08 \x08\r\n");
    assert_eq!(line(&mut machine), "ac\n");
    machine.receive(b"\x7f\x7f");
    assert_eq!(screen(&mut machine), "", "nothing typed, nothing to erase");
}

#[test]
fn erase_knows_how_wide_a_tab_was() {
    let mut machine = machine(|_| {});
    machine.write(b"$ ");
    machine.receive(b"abc\t\x7f");
    // Prompt 2 + abc 3 = column 5; the tab went to 8: three columns back.
    assert_eq!(screen(&mut machine), "$ abc\t\x08\x08\x08");
    machine.receive(b"\tx\t\x7f");
    assert_eq!(screen(&mut machine), "\tx\t\x08\x08\x08\x08\x08\x08\x08");
}

#[test]
fn erase_takes_a_whole_character_where_the_terminal_speaks_utf8() {
    let mut machine = machine(|termios| termios.iflag |= raw::IUTF8);
    machine.receive("aü€\x7f\n".as_bytes());
    assert_eq!(screen(&mut machine), "aü€\x08 \x08\r\n");
    assert_eq!(line(&mut machine), "aü\n");
    machine.receive("é\t\x7f\n".as_bytes());
    assert_eq!(screen(&mut machine), "é\t\x08\x08\x08\x08\x08\x08\x08\r\n");
}

#[test]
fn word_erase_and_kill() {
    let mut machine = machine(|_| {});
    machine.receive(b"one two  \x17");
    assert_eq!(screen(&mut machine), format!("one two  {}", "\x08 \x08".repeat(5)));
    machine.receive(b"\x15x\n");
    assert_eq!(screen(&mut machine), format!("{}x\r\n", "\x08 \x08".repeat(4)));
    assert_eq!(line(&mut machine), "x\n");
}

#[test]
fn kill_without_echoke_shows_itself_and_a_newline() {
    let mut machine = machine(|termios| termios.lflag &= !raw::ECHOKE);
    machine.receive(b"abc\x15d\n");
    assert_eq!(screen(&mut machine), "abc^U\r\nd\r\n");
    assert_eq!(line(&mut machine), "d\n");
}

#[test]
fn printing_erasure() {
    let mut machine = machine(|termios| termios.lflag |= raw::ECHOPRT);
    machine.receive(b"abc\x7f\x7fd\n");
    assert_eq!(screen(&mut machine), "abc\\cb/d\r\n");
    assert_eq!(line(&mut machine), "ad\n");
}

#[test]
fn reprint_and_literal_next() {
    let mut machine = machine(|_| {});
    machine.receive(b"ab\x12c\x16\x03\n");
    assert_eq!(screen(&mut machine), "ab^R\r\nabc^\x08^C\r\n");
    assert_eq!(line(&mut machine), "abc\x03\n");
}

#[test]
fn interrupt_in_mid_line_signals_and_throws_the_line_away() {
    let mut machine = machine(|_| {});
    let (_, effects) = machine.receive(b"half\x03");
    assert_eq!(effects.signals, 1 << raw::SIGINT);
    assert_eq!(
        screen(&mut machine),
        "^C",
        "the echo of the line itself was flushed with the output"
    );
    machine.receive(b"\x1c\x1a");
    assert_eq!(screen(&mut machine), "^Z");
    machine.receive(b"whole\n");
    assert_eq!(line(&mut machine), "whole\n");
}

#[test]
fn noflsh_keeps_both_buffers_and_no_isig_makes_it_a_character() {
    let mut keeping = machine(|termios| termios.lflag |= raw::NOFLSH);
    assert_eq!(keeping.receive(b"half\x1a\n").1.signals, 1 << raw::SIGTSTP);
    assert_eq!(screen(&mut keeping), "half^Z\r\n");
    assert_eq!(line(&mut keeping), "half\n");
    let mut plain = machine(|termios| termios.lflag &= !raw::ISIG);
    assert_eq!(plain.receive(b"\x03\n").1.signals, 0);
    assert_eq!(line(&mut plain), "\x03\n");
}

#[test]
fn end_of_file() {
    let mut machine = machine(|_| {});
    machine.receive(b"\x04");
    assert_eq!(read(&mut machine, 10).as_deref(), Some(&b""[..]));
    assert_eq!(read(&mut machine, 10), None, "one end of file, one empty read");
    machine.receive(b"abc\x04def\n");
    assert_eq!(machine.readable_len(), 7);
    assert_eq!(read(&mut machine, 3).as_deref(), Some(&b"abc"[..]));
    assert_eq!(
        read(&mut machine, 10).as_deref(),
        Some(&b"def\n"[..]),
        "no empty read between"
    );
    assert_eq!(screen(&mut machine), "abcdef\r\n");
}

#[test]
fn input_translations() {
    let mut igncr = machine(|termios| termios.iflag |= raw::IGNCR);
    igncr.receive(b"a\rb\n");
    assert_eq!(line(&mut igncr), "ab\n");
    let mut inlcr = machine(|termios| termios.iflag = raw::INLCR | raw::ISTRIP);
    inlcr.receive(b"a\xc1\n\x04");
    assert_eq!(line(&mut inlcr), "aA\r");
    let mut parmrk = machine(|termios| termios.iflag |= raw::PARMRK);
    parmrk.receive(b"\xff\n");
    assert_eq!(read(&mut parmrk, 9).as_deref(), Some(&b"\xff\xff\n"[..]));
}

#[test]
fn second_line_ends() {
    let mut machine = machine(|termios| {
        termios.cc[raw::VEOL as usize] = b';';
        termios.cc[raw::VEOL2 as usize] = b',';
    });
    machine.receive(b"a;b,c\n");
    assert_eq!(
        [line(&mut machine), line(&mut machine), line(&mut machine)],
        ["a;", "b,", "c\n"]
    );
}

#[test]
fn flow_control_holds_output_back() {
    let mut machine = machine(|_| {});
    machine.receive(b"\x13");
    machine.write(b"held");
    assert_eq!(screen(&mut machine), "");
    assert!(machine.receive(b"\x11").1.output);
    assert_eq!(screen(&mut machine), "held");
    machine.suspend_output(true);
    machine.write(b"x");
    machine.receive(b"\x11");
    assert_eq!(screen(&mut machine), "", "TCOOFF is not undone from the keyboard");
    assert!(machine.suspend_output(false).output);
    assert_eq!(screen(&mut machine), "x");
    machine.receive(b"\x13");
    let mut termios = *machine.termios();
    termios.iflag &= !raw::IXON;
    assert!(!machine.set_termios(termios).output);
    machine.write(b"y");
    assert_eq!(screen(&mut machine), "y", "clearing IXON lets a stopped terminal go");
}

#[test]
fn ixany_starts_by_any_character() {
    let mut machine = machine(|termios| termios.iflag |= raw::IXANY);
    machine.receive(b"\x13");
    machine.write(b"held");
    machine.receive(b"k");
    assert_eq!(screen(&mut machine), "heldk");
}

#[test]
fn output_processing() {
    let mut cooked = machine(|termios| termios.oflag |= raw::TAB3);
    cooked.write(b"ab\tc\n\td\r\te");
    assert_eq!(screen(&mut cooked), "ab      c\r\n        d\r        e");
    let mut mapped = machine(|termios| termios.oflag = raw::OPOST | raw::OCRNL | raw::OLCUC);
    mapped.write(b"ab\rc\n");
    assert_eq!(screen(&mut mapped), "AB\nC\n");
    let mut no_cr_at_start = machine(|termios| termios.oflag = raw::OPOST | raw::ONOCR);
    no_cr_at_start.write(b"\ra\r\r");
    assert_eq!(screen(&mut no_cr_at_start), "a\r");
    let mut plain = machine(|termios| termios.oflag = 0);
    plain.write(b"a\n\tb");
    assert_eq!(screen(&mut plain), "a\n\tb");
}

#[test]
fn a_full_output_buffer_stops_the_writer_but_not_the_echo() {
    let mut machine = machine(|_| {});
    let (taken, _) = machine.write(&[b'\n'; 5000]);
    assert_eq!(taken, 2048, "each newline takes two places");
    assert_eq!(machine.write(b"x").0, 0);
    machine.receive(b"k");
    assert!(screen(&mut machine).ends_with("\nk"));
    assert_eq!(machine.write(b"x").0, 1);
}

#[test]
fn raw_mode_without_times() {
    let mut machine = machine(|termios| termios.lflag = 0);
    assert_eq!(machine.readiness(5, ReadTimes::default()), Readiness::Wait);
    assert!(machine.receive(b"a\r").1.readable);
    assert_eq!(read(&mut machine, 5).as_deref(), Some(&b"a\n"[..]), "ICRNL still holds");
    let mut termios = *machine.termios();
    termios.cc[raw::VMIN as usize] = 3;
    machine.set_termios(termios);
    machine.receive(b"ab");
    assert!(!machine.poll_readable());
    assert_eq!(read(&mut machine, 5), None);
    assert_eq!(
        read(&mut machine, 2).as_deref(),
        Some(&b"ab"[..]),
        "VMIN is bounded by the caller's buffer"
    );
    machine.receive(b"abcd");
    assert_eq!(read(&mut machine, 9).as_deref(), Some(&b"abcd"[..]));
}

#[test]
fn raw_mode_with_times() {
    let tenths = |count: u64| count * 100_000_000;
    let set = |machine: &mut LineDiscipline, minimum, time| {
        let mut termios = *machine.termios();
        (termios.cc[raw::VMIN as usize], termios.cc[raw::VTIME as usize]) = (minimum, time);
        machine.set_termios(termios);
    };
    let mut machine = machine(|termios| termios.lflag = 0);
    set(&mut machine, 0, 0);
    assert_eq!(read(&mut machine, 5).as_deref(), Some(&b""[..]), "no wait at all");
    set(&mut machine, 0, 5);
    let mut times = ReadTimes {
        now: 0,
        started: tenths(1),
        last_input: 0,
    };
    times.now = tenths(2);
    assert_eq!(machine.readiness(5, times), Readiness::WaitUntil(tenths(6)));
    times.now = tenths(6);
    assert_eq!(
        read_at(&mut machine, 5, times).as_deref(),
        Some(&b""[..]),
        "the time for the first byte is over"
    );
    machine.receive(b"x");
    assert_eq!(read(&mut machine, 5).as_deref(), Some(&b"x"[..]), "one byte suffices");
    set(&mut machine, 3, 5);
    assert_eq!(
        machine.readiness(5, times),
        Readiness::Wait,
        "the time runs from the first byte on"
    );
    machine.receive(b"x");
    times.last_input = tenths(7);
    times.now = tenths(8);
    assert_eq!(machine.readiness(5, times), Readiness::WaitUntil(tenths(12)));
    times.now = tenths(12);
    assert_eq!(read_at(&mut machine, 5, times).as_deref(), Some(&b"x"[..]));
}

#[test]
fn changing_the_mode_loses_nothing() {
    let mut machine = machine(|_| {});
    machine.receive(b"one\ntw");
    let canonical = *machine.termios();
    machine.set_termios(Termios {
        lflag: canonical.lflag & !raw::ICANON,
        ..canonical
    });
    assert_eq!(read(&mut machine, 2).as_deref(), Some(&b"on"[..]));
    machine.set_termios(canonical);
    assert_eq!(read(&mut machine, 2).as_deref(), Some(&b"e\n"[..]));
    assert_eq!(read(&mut machine, 9).as_deref(), Some(&b"tw"[..]));
}

#[test]
fn a_line_longer_than_the_buffer_keeps_room_for_its_end() {
    let mut machine = machine(|termios| termios.lflag &= !raw::ECHO);
    assert_eq!(machine.receive(&[b'x'; 5000]).0, 5000);
    machine.receive(b"\n");
    let got = read(&mut machine, 9000).expect("a line");
    assert_eq!((got.len(), got.last()), (INPUT_SIZE, Some(&b'\n')));
    assert_eq!(read(&mut machine, 10), None);
}

#[test]
fn finished_lines_hold_further_input_back() {
    let mut machine = machine(|termios| {
        termios.lflag &= !raw::ECHO;
        termios.iflag |= raw::IXOFF;
    });
    machine.receive(b"line\n");
    let (taken, effects) = machine.receive(&[b'x'; 5000]);
    assert!(taken < 4096 && effects.output);
    assert_eq!(screen(&mut machine), "\x13", "the peer is asked to stop");
    machine.flush(Flush::Input);
    assert_eq!(screen(&mut machine), "\x11");
    assert_eq!(machine.receive(b"z").0, 1);
}

/// The line as a person would edit it: only what is left counts.
fn edit(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut current) = (Vec::new(), Vec::new());
    for &byte in bytes {
        match byte {
            0x7f => drop(current.pop()),
            0x15 => current.clear(),
            0x03 => {
                lines.clear();
                current.clear();
            }
            b'\r' | b'\n' => {
                current.push(b'\n');
                lines.push(core::mem::take(&mut current));
            }
            byte => current.push(byte),
        }
    }
    lines
}

/// A terminal's screen: one row of characters and a cursor, tabs to columns of eight.
fn render(output: &str) -> String {
    let (mut row, mut cursor) = (Vec::new(), 0);
    for character in output.chars() {
        match character {
            '\x08' => cursor -= 1,
            '\t' => cursor += 8 - cursor % 8,
            _ => {
                row.resize(row.len().max(cursor + 1), ' ');
                row[cursor] = character;
                cursor += 1;
            }
        }
    }
    row.iter().collect::<String>().trim_end().to_string()
}

fn show(line: &str) -> String {
    let shown = line.chars().map(|c| match c {
        '\t' => c.to_string(),
        c if (c as u32) < 32 => format!("^{}", (c as u8 ^ 0x40) as char),
        c => c.to_string(),
    });
    render(&shown.collect::<String>())
}

proptest! {
    #[test]
    fn editing_leaves_what_a_person_would_expect(
        bytes in proptest::collection::vec(
            prop_oneof![8 => b'a'..=b'z', 2 => Just(0x7f), 1 => Just(0x15), 1 => Just(3), 2 => Just(b'\n')], 0..300),
        cut in 1usize..50,
    ) {
        let mut machine = machine(|_| {});
        for piece in bytes.chunks(cut) {
            prop_assert_eq!(machine.receive(piece).0, piece.len());
        }
        let mut lines = Vec::new();
        while let Some(got) = read(&mut machine, 4096) {
            lines.push(got);
        }
        prop_assert_eq!(lines, edit(&bytes));
    }

    #[test]
    fn the_screen_shows_the_edited_line(
        keys in proptest::collection::vec(
            prop_oneof![6 => "[a-zü€é]", 2 => Just("\t".to_string()), 1 => Just("\x01".to_string()), 4 => Just("\x7f".to_string()),
                1 => Just("\x17".to_string())], 0..60),
        prompt in "[$#a-z ]{0,12}",
    ) {
        let mut machine = machine(|termios| termios.iflag |= raw::IUTF8);
        machine.write(prompt.as_bytes());
        machine.receive(keys.concat().as_bytes());
        let output = screen(&mut machine);
        machine.receive(b"\n");
        let edited = line(&mut machine);
        prop_assert_eq!(render(&output), show(&format!("{prompt}{}", edited.trim_end_matches('\n'))));
    }

    #[test]
    fn any_settings_and_any_bytes_hold_the_bounds(
        (iflag, oflag, lflag) in (0u32..0x8000, 0u32..0x8000, 0u32..0x2_0000),
        cc in proptest::array::uniform19(any::<u8>()),
        steps in proptest::collection::vec((0u8..6, proptest::collection::vec(any::<u8>(), 0..700)), 0..40),
    ) {
        let mut machine = machine(|termios| {
            (termios.iflag, termios.oflag, termios.lflag, termios.cc) = (iflag, oflag, lflag, cc);
        });
        for (step, bytes) in steps {
            match step {
                0 | 1 => prop_assert!(machine.receive(&bytes).0 <= bytes.len()),
                2 => prop_assert!(machine.write(&bytes).0 <= bytes.len()),
                3 => drop(read(&mut machine, bytes.len())),
                4 => {
                    let mut termios = *machine.termios();
                    termios.lflag ^= raw::ICANON;
                    machine.set_termios(termios);
                }
                _ => drop(machine.take_output(&mut vec![0; bytes.len()])),
            }
            prop_assert!(machine.readable_len() < INPUT_SIZE + 1);
            prop_assert!(machine.output_len() <= 8192);
        }
    }
}
