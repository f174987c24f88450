//! What Breenix says it uses, to the last object: what leaks and costs are measured by.
//!
//! Looking changes nothing: the files stay open, and their text goes to the stack.

use std::{ffi::CString, fmt};

use crate::{sys, syscall};

/// An open file of small text.
pub struct Text(i32);

impl Text {
    /// Opens it.
    ///
    /// # Panics
    /// If that fails.
    pub fn open(path: &str) -> Self {
        let name = CString::new(path).expect("no zero in it");
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags);
        Self(file.unwrap_or_else(|error| panic!("{path}: error {error}")) as i32)
    }

    /// Reads it anew and hands it to `look`.
    pub fn read<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        let mut buffer = [0u8; 1024];
        let length = syscall!(SYS_pread64, self.0, buffer.as_mut_ptr(), buffer.len(), 0).expect("pread");
        look(std::str::from_utf8(&buffer[..length]).expect("text"))
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// The number after `name` at the start of a line.
pub fn number(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in: {text}"))
}

/// Memory in use, frames and heap objects alike.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Frames that are neither free nor in slabs of the kernel's heap: which slabs hold its objects is chance.
    pub frames: u64,
    /// Of those, frames of programs' page tables.
    pub tables: u64,
    /// Objects of the kernel's heap.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames ({} of page tables), {} heap objects, {} heap bytes",
            self.frames, self.tables, self.objects, self.bytes
        )
    }
}

/// Tells how much memory is in use.
pub struct Meter {
    text: Text,
    drop_caches: i32,
}

impl Meter {
    /// Only on Breenix.
    pub fn new() -> Self {
        let (name, flags) = (c"/proc/sys/vm/drop_caches", libc::O_WRONLY | libc::O_CLOEXEC);
        let drop_caches = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags).expect("drop_caches");
        Self {
            text: Text::open("/proc/breenix/memory"),
            drop_caches: drop_caches as i32,
        }
    }

    /// What is in use now, and not just kept for the next that wants it.
    pub fn now(&self) -> Memory {
        assert_eq!(sys::write(self.drop_caches, b"3"), Ok(1));
        self.text.read(|text| Memory {
            frames: number(text, "frames") - number(text, "frames_free") - number(text, "frames_slab"),
            tables: number(text, "frames_page_tables"),
            objects: number(text, "heap_objects"),
            bytes: number(text, "heap_bytes"),
        })
    }

    /// Checks that no more and no less is in use than `before`.
    ///
    /// A thread's last memory goes after its parent has been told of its end, on whatever CPU it was; that is waited for. What
    /// has leaked does not come back by waiting.
    ///
    /// # Errors
    /// What differs after ten seconds.
    pub fn check(&self, before: Memory) -> Result<(), String> {
        let end = sys::now() + 10_000_000_000;
        loop {
            let now = self.now();
            if now == before {
                return Ok(());
            }
            if sys::now() > end {
                return Err(format!("memory in use differs: {before} before, {now} after"));
            }
            sys::sleep_ms(5);
        }
    }

    /// What is in use once nothing changes any more: several looks in a row see the same.
    pub fn settled(&self) -> Memory {
        let (mut last, mut same) = (self.now(), 0);
        while same < 20 {
            sys::sleep_ms(5);
            let now = self.now();
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        last
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        sys::close(self.drop_caches);
    }
}
