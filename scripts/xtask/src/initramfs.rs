//! The tree that the kernel unpacks into its first root file system.
//!
//! | path | what |
//! |---|---|
//! | `/init` | `user/init` |
//! | `/bin/<name>` | every other program of `user/` (`tests` among them); busybox and links for its applets |
//! | `/boot/kernel.sym` | the kernel's symbol table, see [`crate::symbols`] |
//! | `/etc` | the little that programs look for |
//!
//! `/sbin`, `/usr/bin` and `/usr/sbin` are links to `/bin`.
//!
//! Or the tree is somebody's own, of which the kernel wants nothing: it gets `/init` if it has none, and the symbol table.

use crate::arch::Arch;
use crate::cpio::Archive;
use crate::project::{self, Program};
use crate::{busybox, symbols, tree};
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ETC: [(&str, &str); 9] = [
    (
        "passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    ("group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("shells", "/bin/sh\n"),
    ("hostname", "breenix\n"),
    ("hosts", "127.0.0.1\tlocalhost breenix\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    (
        "profile",
        "export PATH=/bin HOME=${HOME:-/root} TERM=${TERM:-vt100}\nPS1='\\w \\$ '\n",
    ),
    ("issue", "Breenix\n"),
    // What the suite `boot` of `scripts/bench` has the shell read before its first prompt.
    ("bench", "exec /bin/bench boot\n"),
];

/// Builds the user programs and writes the archive; returns its path.
///
/// # Errors
/// A build failed, or busybox is missing.
pub fn build(arch: Arch, kernel: &Path) -> Result<PathBuf> {
    let path = kernel.with_file_name("initramfs.cpio");
    write_atomically(&path, &tree(arch, kernel)?.into_bytes())?;
    Ok(path)
}

/// The tree in `directory` instead of ours.
///
/// # Errors
/// As [`build`]; or the directory cannot be read.
pub fn build_of(arch: Arch, kernel: &Path, directory: &Path) -> Result<PathBuf> {
    let path = kernel.with_file_name("initramfs-of-directory.cpio");
    write_atomically(&path, &own_tree(arch, kernel, directory)?.into_bytes())?;
    Ok(path)
}

/// The same files as a root file system for a disk, and the little that a kernel with such a root wants in its initramfs: its
/// symbol table, which it needs before there are disks. Returns the paths of both. With a `directory`, its tree instead.
///
/// # Errors
/// As [`build_of`].
pub fn build_for_disk(arch: Arch, kernel: &Path, directory: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    let root = kernel.with_file_name("root.cpio");
    let files = match directory {
        Some(directory) => own_tree(arch, kernel, directory)?,
        None => tree(arch, kernel)?,
    };
    write_atomically(&root, &files.into_disk_bytes())?;
    let mut archive = Archive::default();
    add_symbols(&mut archive, kernel)?;
    let symbols = kernel.with_file_name("symbols.cpio");
    write_atomically(&symbols, &archive.into_bytes())?;
    Ok((root, symbols))
}

/// The same with the files of a directory besides, at their places; what is there already stays.
///
/// # Errors
/// As [`build`]; or the directory cannot be read.
pub fn build_with(arch: Arch, kernel: &Path, directory: &Path) -> Result<PathBuf> {
    let mut archive = tree(arch, kernel)?;
    tree::add(&mut archive, directory)?;
    let path = kernel.with_file_name("initramfs-with-programs.cpio");
    write_atomically(&path, &archive.into_bytes())?;
    Ok(path)
}

/// The same files, but for what is our kernel's own: for another one. Returns the path.
///
/// # Errors
/// As [`build`].
pub fn build_without_kernel(arch: Arch) -> Result<PathBuf> {
    let directory = project::target_dir().join("test");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{}-programs.cpio", arch.name()));
    write_atomically(&path, &programs_tree(arch)?.into_bytes())?;
    Ok(path)
}

/// The tree in `directory` instead of ours, and besides it that of `besides` below `/<place>`.
///
/// # Errors
/// As [`build_of`].
pub fn build_of_both(arch: Arch, kernel: &Path, directory: &Path, (place, besides): (&str, &Path)) -> Result<PathBuf> {
    let mut archive = own_tree(arch, kernel, directory)?;
    archive.directory(place, 0o755);
    tree::add_at(&mut archive, besides, &format!("{place}/"))?;
    let path = kernel.with_file_name(format!("initramfs-with-{place}.cpio"));
    write_atomically(&path, &archive.into_bytes())?;
    Ok(path)
}

fn tree(arch: Arch, kernel: &Path) -> Result<Archive> {
    let mut archive = programs_tree(arch)?;
    add_symbols(&mut archive, kernel)?;
    Ok(archive)
}

/// The tree in `directory`, with what it lacks to be started: places to mount at, the first process, the kernel's symbols.
fn own_tree(arch: Arch, kernel: &Path, directory: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    tree::add(&mut archive, directory)?;
    for place in ["dev", "proc", "run", "sys"] {
        if !archive.contains(place) {
            archive.directory(place, 0o755);
        }
    }
    if !archive.contains("tmp") {
        archive.directory("tmp", 0o1777);
    }
    if !archive.contains("init") {
        let programs = build_programs(arch)?;
        let init = programs.iter().find(|program| place(program) == "init");
        let path = &init.context("user/init was not built")?.path;
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file("init", 0o755, data);
    }
    add_symbols(&mut archive, kernel)?;
    Ok(archive)
}

fn programs_tree(arch: Arch) -> Result<Archive> {
    let programs = build_programs(arch)?;
    let mut archive = Archive::default();
    skeleton(&mut archive);
    for program in &programs {
        let data = fs::read(&program.path).with_context(|| format!("cannot read {}", program.path.display()))?;
        archive.file(&place(program), 0o755, data);
    }
    add_busybox(&mut archive, busybox::binary(arch)?);
    Ok(archive)
}

fn add_symbols(archive: &mut Archive, kernel: &Path) -> Result<()> {
    let elf = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    archive.file("boot/kernel.sym", 0o644, symbols::table(&symbols::functions(&elf)?));
    Ok(())
}

/// Writes beside and renames: a QEMU that was started with the old file keeps it.
///
/// # Errors
/// The directory cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("new{}", std::process::id()));
    fs::write(&temporary, bytes).with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

fn skeleton(archive: &mut Archive) {
    for directory in [
        "bin", "boot", "dev", "etc", "home", "lib", "mnt", "proc", "run", "sys", "usr", "var",
    ] {
        archive.directory(directory, 0o755);
    }
    archive.directory("root", 0o700);
    archive.directory("tmp", 0o1777);
    archive.directory("var/log", 0o755);
    archive.symlink("var/tmp", "../tmp");
    archive.symlink("sbin", "bin");
    archive.symlink("usr/bin", "../bin");
    archive.symlink("usr/sbin", "../bin");
    for (name, text) in ETC {
        archive.file(&format!("etc/{name}"), 0o644, text);
    }
}

fn place(program: &Program) -> String {
    match program.package.as_str() {
        "user-init" => "init".to_owned(),
        _ => format!("bin/{}", program.name),
    }
}

fn add_busybox(archive: &mut Archive, binary: Vec<u8>) {
    for applet in busybox::applets(&binary) {
        let path = format!("bin/{applet}");
        if !archive.contains(&path) {
            archive.symlink(&path, "busybox");
        }
    }
    archive.file("bin/busybox", 0o755, binary);
}

/// The user programs as static Linux programs: for musl where rustup has that target, else for glibc.
fn build_programs(arch: Arch) -> Result<Vec<Program>> {
    let mut command = project::cargo();
    let target = user_target(arch);
    command
        .args(["build", "--release", "--target", &target])
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    for package in user_packages()? {
        command.args(["--package", &package]);
    }
    configure_linker(&mut command, &target);
    project::build(&mut command)
}

fn user_packages() -> Result<Vec<String>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(project::root().join("user")).context("no user/")? {
        let manifest = entry?.path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(manifest) else {
            continue;
        };
        packages.extend(
            text.lines()
                .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
                .map(str::to_owned),
        );
    }
    packages.sort();
    Ok(packages)
}

/// The target of static user programs: for musl where the compiler in use has it, else for glibc.
pub fn user_target(arch: Arch) -> String {
    let musl = format!("{}-unknown-linux-musl", arch.name());
    if has_std(&musl) {
        musl
    } else {
        format!("{}-unknown-linux-gnu", arch.name())
    }
}

/// Whether the workspace's compiler has a standard library for `target`.
fn has_std(target: &str) -> bool {
    let mut rustc = Command::new(project::root().join("scripts/compiler"));
    rustc
        .args(["rustc", "--print", "target-libdir", "--target", target])
        .current_dir(project::root());
    let Ok(output) = rustc.output() else { return false };
    let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    fs::read_dir(directory)
        .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_std(&file.file_name().to_string_lossy()))))
}

/// Tells a command of cargo's how programs for `target` become static ones.
pub fn configure_linker(command: &mut Command, target: &str) {
    let variable = |suffix: &str| format!("CARGO_TARGET_{}_{suffix}", target.to_uppercase().replace('-', "_"));
    command.env(variable("RUSTFLAGS"), "-C target-feature=+crt-static");
    let native = target.starts_with(env::consts::ARCH) && cfg!(target_os = "linux");
    if target.ends_with("musl") {
        // The target brings its own libc and start files: the linker alone is enough, for either architecture.
        command.env(variable("LINKER"), "rust-lld");
    } else if !native {
        let gcc = format!("{}-linux-gnu-gcc", target.split('-').next().unwrap_or_default());
        command.env(variable("LINKER"), gcc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_go_where_their_package_says() {
        let program = |package: &str| Program {
            package: package.into(),
            name: "x".into(),
            path: PathBuf::new(),
        };
        assert_eq!(place(&program("user-init")), "init");
        assert_eq!(place(&program("user-tests")), "bin/x");
        assert_eq!(place(&program("user-demo")), "bin/x");
    }

    #[test]
    fn applets_never_hide_our_own_programs() {
        let mut archive = Archive::default();
        skeleton(&mut archive);
        archive.file("bin/cat", 0o755, *b"ours");
        add_busybox(&mut archive, b"\0[\0[[\0cat\0\0".to_vec());
        let text = String::from_utf8_lossy(&archive.into_bytes()).into_owned();
        assert!(
            text.contains("bin/cat\0ours") || text.contains("ours"),
            "our cat is there"
        );
        assert!(text.contains("bin/[["));
    }

    #[test]
    fn user_packages_are_found() {
        assert!(user_packages().unwrap().contains(&"user-init".to_owned()));
    }
}
