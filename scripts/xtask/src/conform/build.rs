//! Builds Linux's test programs, static, from the distribution's package of its source.
//!
//! | path | what |
//! |---|---|
//! | `<cache>/linux/source.tar.xz` | the package's archive, from `scripts/setup --conform` |
//! | `<cache>/linux/<arch>/libraries` | static libraries that some of the programs want, and their headers |
//! | `target/conform/<arch>/source` | the part of the source that is needed |
//! | `target/conform/<arch>/headers` | the headers that programs include |
//! | `target/conform/<arch>/built/<directory>` | what each directory of kselftest came to |
//!
//! A program that does not build is not run, on either kernel.

use crate::arch::Arch;
use crate::linux;
use crate::project;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Changes with what is built, and how: what was built otherwise is built anew.
const RECIPE: &str = "1";

/// The directories of kselftest whose programs are run, on both architectures.
const DIRECTORIES: [&str; 43] = [
    "breakpoints",
    "capabilities",
    "clone3",
    "core",
    "exec",
    "filesystems",
    "filesystems/epoll",
    "futex/functional",
    "ipc",
    "kcmp",
    "lib",
    "membarrier",
    "memfd",
    "mincore",
    "mount",
    "mount_setattr",
    "move_mount_set_group",
    "mqueue",
    "net/af_unix",
    "nsfs",
    "openat2",
    "pid_namespace",
    "pidfd",
    "prctl",
    "proc",
    "ptrace",
    "rlimits",
    "rseq",
    "sched",
    "seccomp",
    "sigaltstack",
    "signal",
    "size",
    "splice",
    "sync",
    "syscall_user_dispatch",
    "timens",
    "timers",
    "tmpfs",
    "user",
    "vDSO",
    "vm",
    "mm",
];

/// The same, on one architecture.
fn own_directories(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Aarch64 => &[
            "arm64/abi",
            "arm64/bti",
            "arm64/fp",
            "arm64/mte",
            "arm64/pauth",
            "arm64/signal",
            "arm64/tags",
        ],
        Arch::X86_64 => &["x86"],
    }
}

/// What of the source is unpacked, as patterns of tar's below the archive's one directory.
const NEEDED: [&str; 13] = [
    "Makefile",
    "Kbuild",
    "scripts",
    "include",
    "mm/gup_test.h",
    "arch/*/include",
    "arch/*/Makefile*",
    "arch/*/tools",
    "arch/*/entry/syscalls",
    "tools/arch",
    "tools/include",
    "tools/testing/selftests",
    "usr/include",
];

/// Programs that are built and not run: an emulated machine is too slow for what they measure, or they go on for minutes, or want
/// huge pages, arguments, a real clock or a machine that sleeps.
const NOT_RUN: [&str; 34] = [
    "breakpoints/step_after_suspend_test",
    "prctl/disable-tsc-ctxt-sw-stress-test",
    "prctl/disable-tsc-on-off-stress-test",
    "rseq/param_test",
    "rseq/param_test_benchmark",
    "rseq/param_test_compare_twice",
    "rseq/param_test_mm_cid",
    "seccomp/seccomp_benchmark",
    "syscall_user_dispatch/sud_benchmark",
    "timers/inconsistency-check",
    "timers/mqueue-lat",
    "timers/nsleep-lat",
    "timers/raw_skew",
    "timers/rtcpie",
    "timers/set-timer-lat",
    "timers/threadtest",
    "vm/compaction_test",
    "vm/gup_test",
    "vm/hugepage-mmap",
    "vm/hugepage-mremap",
    "vm/hugepage-shm",
    "vm/hugepage-vmemmap",
    "vm/hugetlb-madvise",
    "vm/khugepaged",
    "vm/map_hugetlb",
    "vm/split_huge_page_test",
    "vm/thuge-gen",
    "vm/transhuge-stress",
    "vm/userfaultfd",
    "vm/va_128TBswitch",
    "vm/virtual_address_range",
    "vm/write_to_hugetlbfs",
    "arm64/fp/fp-stress",
    "arm64/fp/sve-probe-vls",
];

/// Where nolibc's program ends up, and the directory that it makes up.
pub const NOLIBC: &str = "nolibc";

/// A program of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// Kselftest's directory.
    pub directory: String,
    /// The program's name in it.
    pub name: String,
}

impl Program {
    /// Both, as they are named in reports.
    pub fn path(&self) -> String {
        format!("{}/{}", self.directory, self.name)
    }
}

/// The programs of an architecture.
#[derive(Debug)]
pub struct Built {
    /// Where the directories are.
    pub root: PathBuf,
    /// All that can be run, nolibc's among them.
    pub programs: Vec<Program>,
}

impl Built {
    /// None yet, of an architecture.
    pub fn none(arch: Arch) -> Self {
        Self {
            root: place(arch).join("built"),
            programs: Vec::new(),
        }
    }
}

/// Where everything of an architecture is kept.
pub fn place(arch: Arch) -> PathBuf {
    project::target_dir().join("conform").join(arch.name())
}

/// Builds what is not built yet.
///
/// # Errors
/// The source or a compiler cannot be had. A program that does not build is no error.
pub fn build(arch: Arch) -> Result<Built> {
    let recipe = Recipe::new(arch)?;
    recipe.once("source", || recipe.unpack())?;
    recipe.once("headers", || recipe.headers())?;
    recipe.once(NOLIBC, || recipe.nolibc())?;
    for directory in recipe.directories() {
        recipe.once(directory, || recipe.directory(directory))?;
    }
    recipe.built()
}

struct Recipe {
    arch: Arch,
    place: PathBuf,
    libraries: PathBuf,
}

impl Recipe {
    fn new(arch: Arch) -> Result<Self> {
        let libraries = linux::cached_by("--conform", arch, "libraries", false)?;
        Ok(Self {
            arch,
            place: place(arch),
            libraries: libraries.context("scripts/setup --conform brought no libraries")?,
        })
    }

    /// Does what has not been done yet by this recipe.
    fn once(&self, what: &str, how: impl FnOnce() -> Result<()>) -> Result<()> {
        let stamp = self.place.join(format!("done/{}", what.replace('/', "-")));
        if fs::read_to_string(&stamp).ok().as_deref() == Some(RECIPE) {
            return Ok(());
        }
        println!("building Linux's test programs for {}: {what}", self.arch.name());
        how().with_context(|| what.to_owned())?;
        fs::create_dir_all(self.place.join("done"))?;
        Ok(fs::write(&stamp, RECIPE)?)
    }

    fn source(&self) -> PathBuf {
        self.place.join("source")
    }

    fn kselftest(&self) -> PathBuf {
        self.source().join("tools/testing/selftests")
    }

    /// The headers as an argument of the compiler.
    fn includes(&self) -> String {
        format!("-isystem {}", self.place.join("headers/usr/include").display())
    }

    fn output(&self, directory: &str) -> PathBuf {
        self.place.join("built").join(directory)
    }

    /// Linux's own name of the architecture.
    fn linux_arch(&self) -> &'static str {
        match self.arch {
            Arch::Aarch64 => "arm64",
            Arch::X86_64 => "x86",
        }
    }

    /// How the names of the compiler's programs begin.
    fn prefix(&self) -> String {
        if self.arch.name() == std::env::consts::ARCH {
            String::new()
        } else {
            format!("{}-linux-gnu-", self.arch.name())
        }
    }

    fn compiler(&self) -> String {
        let libraries = self.libraries.display();
        format!("{}gcc -static -I{libraries}/include -L{libraries}/lib", self.prefix())
    }

    fn directories(&self) -> impl Iterator<Item = &'static str> {
        let all = DIRECTORIES.iter().chain(own_directories(self.arch)).copied();
        all.filter(|directory| self.kselftest().join(directory).join("Makefile").exists())
    }

    fn unpack(&self) -> Result<()> {
        let archive = project::cache_dir().join("linux/source.tar.xz");
        for old in ["source", "headers", "built"] {
            let path = self.place.join(old);
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        fs::create_dir_all(self.source())?;
        let mut tar = Command::new("tar");
        tar.arg("xJf").arg(&archive).arg("-C").arg(self.source());
        tar.args(["--strip-components=1", "--wildcards", "--no-wildcards-match-slash"]);
        tar.args(NEEDED.map(|pattern| format!("*/{pattern}")));
        // A version of Linux need not have each of them.
        let said = tar.stderr(Stdio::piped()).output().context("cannot start tar")?;
        ensure!(
            self.kselftest().join("lib.mk").exists(),
            "no kselftest in {}: {}",
            archive.display(),
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(())
    }

    fn headers(&self) -> Result<()> {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(self.source());
        make.arg(format!("ARCH={}", self.linux_arch()));
        make.arg(format!("O={}", self.place.join("headers").display()));
        run(make.arg("headers"), &self.place.join("headers.log"))
    }

    /// The one program that brings its own C library along and checks the basics; as the first process too.
    fn nolibc(&self) -> Result<()> {
        fs::create_dir_all(self.output(NOLIBC))?;
        let nolibc = self.source().join("tools/include/nolibc/nolibc.h");
        let script = format!(
            "{}gcc -Os -fno-ident -fno-asynchronous-unwind-tables -s -nostdlib -static {} -include {} -o {} {} -lgcc",
            self.prefix(),
            self.includes(),
            nolibc.display(),
            self.output(NOLIBC).join("nolibc-test").display(),
            self.kselftest().join("nolibc/nolibc-test.c").display()
        );
        run(Command::new("sh").args(["-c", &script]), &self.place.join("nolibc.log"))
    }

    fn make(&self, directory: &str) -> Command {
        let mut make = Command::new("make");
        make.args(["-s", "-k", "-C"]).arg(self.kselftest().join(directory));
        make.arg(format!("OUTPUT={}", self.output(directory).display()));
        make.arg(format!("ARCH={}", self.linux_arch()));
        make.arg(format!("MACHINE={}", self.arch.name()));
        make.arg(format!("CROSS_COMPILE={}", self.prefix()));
        make.arg(format!("CC={}", self.compiler()));
        make.arg(format!("KHDR_INCLUDES={}", self.includes()));
        make.arg(format!("top_srcdir={}", self.source().display()));
        // Neither kernel need run programs of 32 bits.
        make.arg("CAN_BUILD_I386=0");
        if directory == "openat2" {
            // Its own flags ask for sanitizers, which cannot be linked statically.
            make.arg(format!("CFLAGS=-O2 {}", self.includes()));
        }
        // What these inherit from the directory above.
        make.env(
            "CFLAGS",
            format!("-O2 -I{} {}", self.kselftest().display(), self.includes()),
        );
        make
    }

    fn directory(&self, directory: &str) -> Result<()> {
        let output = self.output(directory);
        fs::create_dir_all(&output)?;
        if directory == "rseq" {
            self.rseq(&output)?;
        }
        let log = self.place.join(format!("{}.log", directory.replace('/', "-")));
        // A program that does not build is missing, no more; its log says why.
        _ = run(self.make(directory).arg("all"), &log);
        let mut strip = Command::new(format!("{}strip", self.prefix()));
        strip.args(programs_in(&output)?).stderr(Stdio::null());
        // Scripts among them are left as they are.
        strip.status().context("cannot start strip")?;
        Ok(())
    }

    /// The library of these programs is a shared one. This makes a static one in its place, and a newer file for make's sake.
    fn rseq(&self, output: &Path) -> Result<()> {
        let script = format!(
            "cd {} && {} -O2 -I. -I{} {} -c rseq.c -o {}/rseq.o && cd {} && {}ar rcs librseq.a rseq.o && : >librseq.so",
            self.kselftest().join("rseq").display(),
            self.compiler(),
            self.source().join("tools/include").display(),
            self.includes(),
            output.display(),
            output.display(),
            self.prefix()
        );
        run(
            Command::new("sh").args(["-c", &script]),
            &self.place.join("librseq.log"),
        )
    }

    fn built(&self) -> Result<Built> {
        let mut programs = vec![Program {
            directory: NOLIBC.to_owned(),
            name: "nolibc-test".to_owned(),
        }];
        for directory in self.directories() {
            let names = self.names(directory)?;
            programs.extend(names.into_iter().map(|name| Program {
                directory: directory.to_owned(),
                name,
            }));
        }
        programs.retain(|program| !NOT_RUN.contains(&program.path().as_str()));
        programs.sort();
        programs.dedup();
        Ok(Built {
            root: self.place.join("built"),
            programs,
        })
    }

    /// The programs of a directory that are to be run and were built.
    fn names(&self, directory: &str) -> Result<Vec<String>> {
        let output = self.output(directory);
        if ["vm", "mm"].contains(&directory) {
            // A script for bash runs these, most of them as they are.
            let programs = programs_in(&output)?.into_iter();
            let names = programs.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
            return Ok(names.collect());
        }
        let said = self
            .make(directory)
            .arg("emit_tests")
            .output()
            .context("cannot start make")?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let names = said
            .lines()
            .filter_map(|line| line.split_once(':').map(|(_, name)| name));
        let is_there = |name: &&str| is_program(&output.join(name));
        Ok(names.filter(is_there).map(str::to_owned).collect())
    }
}

fn is_program(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn programs_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if is_program(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Runs a command whose output goes into a file.
fn run(command: &mut Command, log: &Path) -> Result<()> {
    let file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        status.success(),
        "{} failed: see {}",
        command.get_program().display(),
        log.display()
    );
    Ok(())
}
