//! The initial stack, laid out as Linux does (`fs/exec.c`, `fs/binfmt_elf.c`), from the top down: eight zero bytes, the
//! program's path, environment strings, argument strings, a random gap, the platform's name, sixteen random bytes, then
//! aligned to 16 bytes and ascending from the stack pointer: argc, argv, null, envp, null, auxv.

use alloc::vec::Vec;

use super::args::Strings;
use crate::{errno::Result, mm::fallible::TryRoomExact};

/// `AT_*` (`linux/auxvec.h`, `asm/auxvec.h`).
#[expect(missing_docs, reason = "the names are Linux's")]
pub mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
    pub const MINSIGSTKSZ: u64 = 51;
}

/// What goes on the stack.
pub struct Contents<'a> {
    /// The path given to execve.
    pub path: &'a [u8],
    /// Arguments.
    pub arguments: &'a Strings,
    /// Environment.
    pub environment: &'a Strings,
    /// The auxiliary vector without what points into the stack (`RANDOM`, `EXECFN`, `PLATFORM`) and without its end.
    pub auxv: &'a [(u64, u64)],
    /// `AT_PLATFORM`.
    pub platform: &'a str,
    /// `AT_RANDOM`.
    pub random: [u8; 16],
    /// Bytes left free above the platform's name, below 8 KiB.
    pub gap: u64,
}

/// A built stack.
pub struct Stack {
    /// The initial stack pointer: `bytes` belong there.
    pub pointer: u64,
    /// Everything from the stack pointer to the top.
    pub bytes: Vec<u8>,
    /// The auxiliary vector as pushed.
    pub auxv: Vec<u64>,
}

/// Lays the stack out below `top`.
///
/// # Errors
/// `ENOMEM`.
pub fn build(top: u64, contents: &Contents<'_>) -> Result<Stack> {
    let path = top - 8 - (contents.path.len() as u64 + 1);
    let environment = path - contents.environment.bytes().len() as u64;
    let arguments = environment - contents.arguments.bytes().len() as u64;
    let platform = ((arguments - contents.gap) & !15) - (contents.platform.len() as u64 + 1);
    let random = platform - 16;
    let mut auxv = Vec::new();
    for &(key, value) in contents.auxv {
        auxv.extend([key, value]);
    }
    auxv.extend([
        at::RANDOM,
        random,
        at::EXECFN,
        path,
        at::PLATFORM,
        platform,
        at::NULL,
        0,
    ]);
    let words = 1 + contents.arguments.count() + 1 + contents.environment.count() + 1 + auxv.len();
    let pointer = (random - words as u64 * 8) & !15;

    let size = (top - pointer) as usize;
    let mut bytes = Vec::new();
    bytes.try_room_exact(size)?;
    bytes.resize(size, 0);
    let mut put = |address: u64, from: &[u8]| {
        let at = (address - pointer) as usize;
        bytes[at..at + from.len()].copy_from_slice(from);
    };
    put(path, contents.path);
    put(environment, contents.environment.bytes());
    put(arguments, contents.arguments.bytes());
    put(platform, contents.platform.as_bytes());
    put(random, &contents.random);
    let mut vector = Vec::new();
    vector.try_room_exact(words)?;
    vector.push(contents.arguments.count() as u64);
    vector.extend(contents.arguments.offsets().map(|offset| arguments + offset as u64));
    vector.push(0);
    vector.extend(contents.environment.offsets().map(|offset| environment + offset as u64));
    vector.push(0);
    vector.extend(&auxv);
    for (i, word) in vector.iter().enumerate() {
        put(pointer + i as u64 * 8, &word.to_ne_bytes());
    }
    Ok(Stack { pointer, bytes, auxv })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_reads_back() {
        let (mut arguments, mut environment) = (Strings::default(), Strings::default());
        arguments.push(b"sh").unwrap();
        arguments.push(b"-c").unwrap();
        environment.push(b"A=1").unwrap();
        for gap in [0, 1, 4095] {
            let contents = Contents {
                path: b"/bin/sh",
                arguments: &arguments,
                environment: &environment,
                auxv: &[(at::PAGESZ, 4096)],
                platform: "x86_64",
                random: [7; 16],
                gap,
            };
            let top = 0x7fff_0000;
            let stack = build(top, &contents).unwrap();
            assert_eq!(stack.pointer % 16, 0);
            assert_eq!(stack.pointer + stack.bytes.len() as u64, top);
            let word = |i: usize| u64::from_ne_bytes(stack.bytes[i * 8..i * 8 + 8].try_into().unwrap());
            let string = |address: u64| {
                let at = (address - stack.pointer) as usize;
                let end = stack.bytes[at..].iter().position(|byte| *byte == 0).unwrap();
                stack.bytes[at..at + end].to_vec()
            };
            assert_eq!(word(0), 2);
            assert_eq!(
                (string(word(1)), string(word(2)), word(3)),
                (b"sh".to_vec(), b"-c".to_vec(), 0)
            );
            assert_eq!((string(word(4)), word(5)), (b"A=1".to_vec(), 0));
            assert_eq!((word(6), word(7), word(8)), (at::PAGESZ, 4096, at::RANDOM));
            assert_eq!((word(10), string(word(11))), (at::EXECFN, b"/bin/sh".to_vec()));
            assert_eq!((word(12), string(word(13))), (at::PLATFORM, b"x86_64".to_vec()));
        }
    }
}
