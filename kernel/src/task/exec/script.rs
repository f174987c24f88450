//! `#!` lines.

use alloc::vec::Vec;

use crate::errno::{Errno, Result};

/// How much of a file is looked at (`BINPRM_BUF_SIZE`).
pub const LINE_SIZE: usize = 256;

/// What a script's first line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The interpreter's path.
    pub interpreter: Vec<u8>,
    /// Everything after it, as one argument.
    pub argument: Option<Vec<u8>>,
}

/// Reads the first line; `None` if it is no `#!` line.
///
/// # Errors
/// `ENOEXEC` if it names nothing, or is too long to hold the interpreter's name.
pub fn parse(start: &[u8]) -> Result<Option<Script>> {
    let Some(line) = start.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let (line, complete) = match line.iter().position(|byte| *byte == b'\n' || *byte == 0) {
        Some(end) => (&line[..end], true),
        None => (line, start.len() < LINE_SIZE),
    };
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let line = line.trim_ascii_start();
    let end = line.iter().position(blank);
    // A name cut off by the end of the buffer would be another name.
    if line.is_empty() || end.is_none() && !complete {
        return Err(Errno::ENOEXEC);
    }
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_ascii();
    Ok(Some(Script {
        interpreter: name.to_vec(),
        argument: (!rest.is_empty()).then(|| rest.to_vec()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_linux_reads_them() {
        let script = |line: &[u8]| parse(line).map(|found| found.map(|s| (s.interpreter, s.argument)));
        assert_eq!(script(b"#!/bin/sh\necho"), Ok(Some((b"/bin/sh".to_vec(), None))));
        assert_eq!(
            script(b"#! /bin/awk -f  x \nx"),
            Ok(Some((b"/bin/awk".to_vec(), Some(b"-f  x".to_vec()))))
        );
        assert_eq!(script(b"#!\n"), Err(Errno::ENOEXEC));
        assert_eq!(script(b"echo"), Ok(None));
        let mut long = b"#!/".to_vec();
        long.resize(LINE_SIZE, b'x');
        assert_eq!(script(&long), Err(Errno::ENOEXEC));
    }
}
