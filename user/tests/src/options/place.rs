//! What trials work on: a directory, files, memory.

use std::{
    env, ffi::CString, fs, os::fd::IntoRawFd, path::PathBuf, sync::atomic::AtomicU32, sync::atomic::Ordering::Relaxed,
};

use crate::sys;

/// A descriptor that is none.
pub const NOWHERE: usize = -1_i32 as usize;
/// The working directory.
pub const HERE: usize = libc::AT_FDCWD as usize;

/// A directory to work in, which goes when this does.
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one and goes there.
    pub fn new() -> Self {
        let path = PathBuf::from(format!("/tmp/options-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        env::set_current_dir(&path).expect("chdir");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = env::set_current_dir("/");
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What stays until the process ends.
pub fn kept<T>(value: T) -> usize {
    std::ptr::from_mut(Box::leak(Box::new(value))) as usize
}

/// A string's address.
pub fn text(text: &str) -> usize {
    CString::new(text).expect("no zero in it").into_raw() as usize
}

/// Zeroes, for a call to write to or to be a structure.
pub fn room() -> usize {
    kept([0u64; 512])
}

/// Words as a structure, with room behind them.
pub fn words(words: &[u64]) -> usize {
    let mut all = [0; 512];
    all[..words.len()].copy_from_slice(words);
    kept(all)
}

/// A `struct iovec` of a little room.
pub fn runs() -> usize {
    words(&[room() as u64, 16])
}

/// A name in the directory that no other trial uses.
pub fn fresh(kind: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{kind}-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

/// The name of a file of two pages.
pub fn name_of_file() -> String {
    let name = fresh("file");
    fs::write(&name, [7; 8192]).expect("a file");
    name
}

/// Such a file, open for reading and writing.
pub fn descriptor() -> usize {
    let file = fs::File::options().read(true).write(true).open(name_of_file());
    file.expect("open").into_raw_fd() as usize
}

/// A pipe: the reading and the writing end.
pub fn pipe() -> (usize, usize) {
    let (read, write) = sys::pipe(0);
    (read as usize, write as usize)
}
