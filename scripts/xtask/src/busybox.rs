//! Busybox as the distribution ships it: an unmodified static binary, and the names under which it can be called.

use crate::arch::Arch;
use crate::project;
use anyhow::{Context, Result, ensure};

/// The binary that `scripts/setup` unpacked for this architecture.
///
/// # Errors
/// It is not there, or has no applets.
pub fn binary(arch: Arch) -> Result<Vec<u8>> {
    let path = project::cache_dir().join("busybox").join(arch.name()).join("busybox");
    let bytes = std::fs::read(&path).with_context(|| format!("no busybox at {}: run scripts/setup", path.display()))?;
    ensure!(!applets(&bytes).is_empty(), "no table of applets in {}", path.display());
    Ok(bytes)
}

/// The applets' names, read from the binary's own table, so that a foreign architecture's needs no emulator.
///
/// Busybox keeps them sorted and separated by NUL, `[` and `[[` first, and an empty name behind the last. What stands before the
/// first is anything: up to 1.35 a NUL, in 1.37 the end of another table.
pub fn applets(binary: &[u8]) -> Vec<String> {
    let start = b"[\0[[\0";
    let Some(at) = binary.windows(start.len()).position(|window| window == start) else {
        return Vec::new();
    };
    let names = binary[at..]
        .split(|byte| *byte == 0)
        .take_while(|name| !name.is_empty());
    names
        .map_while(|name| std::str::from_utf8(name).ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_end_at_the_empty_one() {
        let binary = b"\x7fELF...\0[\0[[\0ash\0cat\0\0other\0";
        assert_eq!(applets(binary), ["[", "[[", "ash", "cat"]);
        assert_eq!(applets(b"\x002[\x002[[\0\xae [\0[[\0ash\0\0"), ["[", "[[", "ash"]);
        assert!(applets(b"no table").is_empty());
    }

    #[test]
    fn the_native_binary_says_the_same() {
        let path = project::cache_dir()
            .join("busybox")
            .join(Arch::host().name())
            .join("busybox");
        let Ok(output) = Command::new(&path).arg("--list").output() else {
            return;
        };
        let listed: Vec<_> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(applets(&std::fs::read(path).unwrap()), listed);
    }
}
