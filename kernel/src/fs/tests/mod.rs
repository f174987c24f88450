//! The file layer on the host.

mod pipe;
mod tables;
mod tmpfs;

use alloc::sync::Arc;

use super::{
    file::{File, Stop, Transfer, WriteAt},
    io::{Sink, Source},
};

/// Reads up to `len` bytes at `at`.
pub fn read(file: &Arc<dyn File>, at: u64, len: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; len];
    let mut sink = Sink::kernel(&mut bytes);
    let mut position = at;
    let mut transfer = Transfer {
        position: &mut position,
        write_at: WriteAt::Position,
        flags: 0,
        caller: None,
    };
    file.read(&mut transfer, &mut sink)?;
    // One attempt moves a window's worth at most.
    while sink.remaining() == 0 && sink.done() < len {
        sink.open_window();
        file.read(&mut transfer, &mut sink)?;
    }
    let done = sink.done();
    bytes.truncate(done);
    Ok(bytes)
}

/// Writes at `at`; how many bytes went in.
pub fn write(file: &Arc<dyn File>, at: u64, bytes: &[u8]) -> (usize, Result<(), Stop>) {
    let mut source = Source::kernel(bytes);
    let mut position = at;
    let mut transfer = Transfer {
        position: &mut position,
        write_at: WriteAt::Position,
        flags: 1,
        caller: None,
    };
    let result = file.write(&mut transfer, &mut source);
    (source.done(), result)
}
