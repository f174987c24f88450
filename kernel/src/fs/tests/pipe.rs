//! Pipes: what goes in comes out, in order; small writes are whole.

use alloc::sync::Arc;
use std::collections::VecDeque;

use proptest::prelude::*;

use super::{read, write};
use crate::{
    errno::Errno,
    fs::{
        File, Readiness,
        file::Stop,
        pipe::{DEFAULT_CAPACITY, End, PIPE_BUF, Pipe},
    },
};

fn ends() -> (Arc<dyn File>, Arc<dyn File>) {
    let (read, write) = Pipe::ends();
    (read, write)
}

#[test]
fn end_of_file_and_broken_pipe() {
    let (reader, writer) = ends();
    assert_eq!(read(&reader, 0, 10), Err(Stop::WouldBlock));
    assert_eq!(write(&writer, 0, b"abc"), (3, Ok(())));
    assert_eq!(reader.readiness(), Readiness::READABLE);
    drop(writer);
    assert_eq!(read(&reader, 0, 10), Ok(b"abc".to_vec()));
    assert_eq!(read(&reader, 0, 10), Ok(Vec::new()));
    assert!(reader.readiness().contains(Readiness::HUP));
    let (reader, writer) = ends();
    drop(reader);
    assert_eq!(write(&writer, 0, b"abc"), (0, Err(Stop::Errno(Errno::EPIPE))));
    assert!(writer.readiness().contains(Readiness::ERR));
}

/// The opening wakes whoever waits on the other side, who may be gone by the next look.
#[test]
fn a_fifo_s_two_sides_meet_once_and_for_all() {
    for (first, second) in [(End::Read, End::Write), (End::Write, End::Read)] {
        let pipe = Arc::new(Pipe::new());
        let (waiting, alone) = pipe.open(first);
        let seen = alone.expect("nobody is there yet");
        assert!(!pipe.has_met(first, seen));
        let (late, alone) = pipe.open(second);
        assert!(pipe.has_met(first, seen));
        drop(waiting);
        assert_eq!(alone, None, "has met the one who has gone");
        drop(late);
        // What was before does not count.
        let (_end, alone) = pipe.open(first);
        assert!(!pipe.has_met(first, alone.expect("alone again")));
    }
}

#[test]
fn capacity_changes() {
    let (reader, writer) = Pipe::ends();
    let pipe = reader.pipe().clone();
    assert_eq!(pipe.set_capacity(1), Ok(4096));
    assert_eq!(pipe.set_capacity(4097), Ok(8192));
    let file: Arc<dyn File> = writer;
    assert_eq!(write(&file, 0, &[1; 8192]), (8192, Ok(())));
    assert_eq!(pipe.set_capacity(4096), Err(Errno::EBUSY));
    assert_eq!(pipe.set_capacity(2 << 20), Err(Errno::EPERM));
}

proptest! {
    #[test]
    fn bytes_in_are_bytes_out(steps in proptest::collection::vec((any::<bool>(), 0usize..12_000), 1..60)) {
        let (reader, writer) = ends();
        let mut model = VecDeque::new();
        let mut next = 0u8;
        for (writes, len) in steps {
            if writes {
                let bytes: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                let (done, result) = write(&writer, 0, &bytes);
                let room = DEFAULT_CAPACITY - model.len();
                if len <= PIPE_BUF {
                    prop_assert!(done == len || done == 0, "a small write was split");
                    prop_assert_eq!(done == len, room >= len);
                } else {
                    prop_assert_eq!(done, room.min(len));
                }
                prop_assert_eq!(result.is_ok(), done == len);
                model.extend(&bytes[..done]);
                next = next.wrapping_sub((len - done) as u8);
            } else if len > 0 {
                match read(&reader, 0, len) {
                    Ok(bytes) => {
                        let expected: Vec<u8> = model.drain(..len.min(model.len())).collect();
                        prop_assert_eq!(bytes, expected);
                    }
                    Err(stop) => {
                        prop_assert_eq!(stop, Stop::WouldBlock);
                        prop_assert!(model.is_empty());
                    }
                }
            }
        }
    }
}
