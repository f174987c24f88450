//! What `/proc/<pid>` shows of files and memory, and `/sys` of the machine.

use std::fs;

use crate::{
    sys::{self, fork, in_child},
    syscall,
};

crate::tests! { "proc_files":
    fdinfo_shows_position_and_flags;
    fdinfo_shows_what_kinds_of_files_have;
    fdinfo_of_many_watched_files_is_whole;
    fdinfo_is_that_of_its_process;
    smaps_shows_what_is_in_memory;
    smaps_is_whole_for_many_areas (60);
    pagemap_shows_pages;
    pagemap_hides_frames;
    others_may_not_look;
    oom_adjustments_are_kept;
    settings_of_the_kernel_are_there;
    sysfs_shows_cpus;
    sysfs_shows_the_node;
}

const PAGE: usize = 4096;

fn info(descriptor: i32) -> String {
    fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).expect("fdinfo")
}

/// What follows a name at a line's beginning.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)).map(str::trim);
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn fdinfo_shows_position_and_flags() {
    let path = format!("/tmp/fdinfo-{}", std::process::id());
    fs::write(&path, [7; 100]).expect("write");
    let name = std::ffi::CString::new(path.clone()).expect("no zero");
    let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CLOEXEC;
    let file = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags, 0).expect("openat") as i32;
    syscall!(SYS_lseek, file, 42, 0).expect("lseek");
    let text = info(file);
    assert_eq!(field(&text, "pos:"), "42");
    let shown = u32::from_str_radix(field(&text, "flags:"), 8).expect("octal") as i32;
    // `O_LARGEFILE` of both machines, which C libraries do not agree about.
    assert_eq!(shown & !0o500000, flags, "{text}");
    use std::os::unix::fs::MetadataExt;
    let inode = fs::metadata(&path).expect("metadata").ino();
    assert_eq!(field(&text, "ino:"), inode.to_string());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let id = field(&text, "mnt_id:");
    assert!(
        mounts.lines().any(|line| line.split(' ').next() == Some(id)),
        "{id} of {mounts}"
    );
    sys::close(file);
    assert!(fs::read(format!("/proc/self/fdinfo/{file}")).is_err());
    fs::remove_file(&path).expect("unlink");
}

fn fdinfo_shows_what_kinds_of_files_have() {
    let event = syscall!(SYS_eventfd2, 0x1234, 0).expect("eventfd2") as i32;
    assert_eq!(field(&info(event), "eventfd-count:"), "1234");
    let set = sys::set_of(&[libc::SIGUSR1, libc::SIGALRM]);
    let signals = syscall!(SYS_signalfd4, -1i32, &raw const set, 8, 0).expect("signalfd4") as i32;
    assert_eq!(field(&info(signals), "sigmask:"), format!("{set:016x}"));
    let timer = syscall!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0).expect("timerfd_create") as i32;
    let setting = [3u64, 5, 1000, 0];
    syscall!(SYS_timerfd_settime, timer, 0, setting.as_ptr(), 0).expect("timerfd_settime");
    let text = info(timer);
    assert_eq!(field(&text, "clockid:"), "1");
    assert_eq!(field(&text, "ticks:"), "0");
    assert_eq!(field(&text, "settime flags:"), "00");
    assert_eq!(field(&text, "it_interval:"), "(3, 5)");
    assert!(field(&text, "it_value:").starts_with("(999, "), "{text}");
    let process = syscall!(SYS_pidfd_open, std::process::id(), 0).expect("pidfd_open") as i32;
    assert_eq!(field(&info(process), "Pid:"), std::process::id().to_string());
}

fn watch(epoll: i32, descriptor: i32, events: u32, data: u64) {
    let event = libc::epoll_event { events, u64: data };
    let add = libc::EPOLL_CTL_ADD;
    syscall!(SYS_epoll_ctl, epoll, add, descriptor, &raw const event).expect("epoll_ctl");
}

fn fdinfo_of_many_watched_files_is_whole() {
    let epoll = syscall!(SYS_epoll_create1, 0).expect("epoll_create1") as i32;
    let events: Vec<i32> = (0..300)
        .map(|_| syscall!(SYS_eventfd2, 0, 0).expect("eventfd2") as i32)
        .collect();
    for event in &events {
        watch(epoll, *event, libc::EPOLLIN as u32, 0x1000 + *event as u64);
    }
    let text = info(epoll);
    let mut shown: Vec<i32> = text
        .lines()
        .filter_map(|line| line.strip_prefix("tfd:"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let descriptor = words[0].parse().expect("a number");
            // What is told whether it is asked for or not may show as well.
            assert_eq!(u32::from_str_radix(words[2], 16).expect("hex") & 0x7, 1, "{line}");
            assert_eq!(words[4], format!("{:x}", 0x1000 + descriptor), "{line}");
            descriptor
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, events);
}

fn fdinfo_is_that_of_its_process() {
    let (reader, writer) = sys::pipe(0);
    let child = fork(|| {
        sys::close(writer);
        let _ = sys::read(reader, &mut [0]);
        0
    });
    sys::sleep_ms(100);
    let there = |descriptor: i32| fs::read(format!("/proc/{child}/fdinfo/{descriptor}")).is_ok();
    assert!(there(reader) && !there(writer));
    sys::close(writer);
    assert_eq!(sys::wait_exit(child), 0);
}

/// The part of `smaps` about the area that begins at `start`.
fn area(start: usize) -> String {
    let text = fs::read_to_string("/proc/self/smaps").expect("smaps");
    let first = format!("{start:08x}-");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&first));
    let mut part = vec![lines.next().expect("the area")];
    part.extend(lines.take_while(|line| line.split(' ').next().is_some_and(|word| word.ends_with(':'))));
    part.join("\n")
}

fn kib(text: &str, name: &str) -> usize {
    let value = field(text, name).strip_suffix(" kB").expect("kB");
    value.parse().expect("a number")
}

fn smaps_shows_what_is_in_memory() {
    // Between two areas that are unlike it.
    let all = sys::memory(64 * PAGE);
    let start = all + 16 * PAGE;
    for edge in [all, all + 48 * PAGE] {
        syscall!(SYS_mprotect, edge, 16 * PAGE, libc::PROT_NONE).expect("mprotect");
    }
    (0..5).for_each(|page| sys::poke(start + page * PAGE, 1));
    let text = area(start);
    assert_eq!(kib(&text, "Size:"), 32 * 4);
    assert_eq!((kib(&text, "Rss:"), kib(&text, "Pss:")), (20, 20), "{text}");
    assert_eq!(
        (kib(&text, "Private_Dirty:"), kib(&text, "Anonymous:")),
        (20, 20),
        "{text}"
    );
    assert_eq!(kib(&text, "Swap:"), 0);
    assert!(field(&text, "VmFlags:").starts_with("rd wr mr mw me"), "{text}");
    in_child(|| {
        let text = area(start);
        assert_eq!(
            (kib(&text, "Rss:"), kib(&text, "Pss:"), kib(&text, "Shared_Dirty:")),
            (20, 10, 20),
            "{text}"
        );
    });
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("smaps_rollup");
    assert!(rollup.lines().next().is_some_and(|line| line.ends_with("[rollup]")));
    assert!(kib(&rollup, "Rss:") >= 20 && kib(&rollup, "Pss:") <= kib(&rollup, "Rss:"));
}

fn smaps_is_whole_for_many_areas() {
    let start = sys::memory(800 * PAGE);
    (0..400).for_each(|pair| {
        syscall!(SYS_mprotect, start + pair * 2 * PAGE, PAGE, libc::PROT_READ).expect("mprotect");
    });
    for (file, lines) in [("maps", 1), ("smaps", 20)] {
        let text = fs::read_to_string(format!("/proc/self/{file}")).expect("a text");
        assert!(text.lines().count() >= 800 * lines, "{file}: {}", text.lines().count());
        for page in 0..800 {
            let first = format!("{:08x}-", start + page * PAGE);
            let found = text.lines().filter(|line| line.starts_with(&first)).count();
            // The last may have become one with what is behind it.
            assert_eq!(found, 1, "{file}: {first}");
        }
    }
}

fn page_words(start: usize, words: &mut [u64]) -> sys::Sys {
    let file = syscall!(
        SYS_openat,
        libc::AT_FDCWD,
        c"/proc/self/pagemap".as_ptr(),
        libc::O_RDONLY
    )?;
    let read = syscall!(SYS_pread64, file, words.as_mut_ptr(), words.len() * 8, start / PAGE * 8);
    sys::close(file as i32);
    read
}

fn pagemap_shows_pages() {
    const PRESENT: u64 = 1 << 63;
    const EXCLUSIVE: u64 = 1 << 56;
    let start = sys::memory(4 * PAGE);
    for page in [1, 3] {
        sys::poke(start + page * PAGE, 1);
    }
    let mut words = [0u64; 4];
    assert_eq!(page_words(start, &mut words), Ok(32));
    assert_eq!(
        words.map(|word| word & PRESENT != 0),
        [false, true, false, true],
        "{words:x?}"
    );
    assert_eq!(words[1] & EXCLUSIVE, EXCLUSIVE, "{words:x?}");
    assert_ne!(words[1] & ((1 << 55) - 1), 0, "root is told where it is");
    let file = syscall!(
        SYS_openat,
        libc::AT_FDCWD,
        c"/proc/self/pagemap".as_ptr(),
        libc::O_RDONLY
    )
    .expect("openat");
    let room = words.as_mut_ptr();
    assert_eq!(syscall!(SYS_pread64, file, room, 8, 4), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_pread64, file, room, 7, 8), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_pread64, file, room, 8, 1u64 << 60),
        Ok(0),
        "there is an end"
    );
}

fn pagemap_hides_frames() {
    let start = sys::memory(PAGE);
    sys::poke(start, 1);
    in_child(|| {
        sys::poke(start, 2);
        syscall!(SYS_setresuid, 65534, 65534, 65534).expect("setresuid");
        syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).expect("PR_SET_DUMPABLE");
        let mut words = [0u64];
        assert_eq!(page_words(start, &mut words), Ok(8));
        assert_eq!((words[0] >> 63, words[0] & ((1 << 55) - 1)), (1, 0), "{words:x?}");
    });
}

fn others_may_not_look() {
    in_child(|| {
        let child = fork(|| {
            sys::sleep_ms(1000);
            0
        });
        syscall!(SYS_setresuid, 65534, 65534, 65534).expect("setresuid");
        for file in [
            "environ",
            "auxv",
            "maps",
            "smaps",
            "smaps_rollup",
            "pagemap",
            "fdinfo/0",
        ] {
            let error = fs::read(format!("/proc/{child}/{file}"))
                .expect_err(file)
                .raw_os_error();
            assert_eq!(error, Some(libc::EACCES), "{file}");
        }
        assert!(fs::read(format!("/proc/{child}/stat")).is_ok());
    });
}

fn oom_adjustments_are_kept() {
    let path = "/proc/self/oom_score_adj";
    let shown = || fs::read_to_string(path).expect("oom_score_adj");
    let score = |of: &str| -> i64 {
        let text = fs::read_to_string(format!("/proc/{of}/oom_score")).expect("oom_score");
        text.trim().parse().expect("a number")
    };
    fs::write(path, "0").expect("write");
    let before = score("self");
    fs::write(path, "500\n").expect("write");
    assert_eq!(shown(), "500\n");
    assert!(score("self") > before + 200, "{} after {before}", score("self"));
    for bad in ["1001", "-1001", "x"] {
        let error = fs::write(path, bad).expect_err(bad).raw_os_error();
        assert_eq!(error, Some(libc::EINVAL), "{bad}");
    }
    in_child(|| {
        assert_eq!(shown(), "500\n", "a child has its parent's");
        syscall!(SYS_setresuid, 65534, 65534, 65534).expect("setresuid");
        syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).expect("PR_SET_DUMPABLE");
        fs::write(path, "600").expect("higher");
        fs::write(path, "500").expect("as low as it was");
        let error = fs::write(path, "499").expect_err("lower").raw_os_error();
        assert_eq!(error, Some(libc::EACCES));
    });
    fs::write(path, "0").expect("write");
}

fn settings_of_the_kernel_are_there() {
    let number = |path: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/sys/{path}")).expect(path);
        text.trim().parse().expect("a number")
    };
    assert!(number("kernel/cap_last_cap") >= 40);
    assert_eq!(number("kernel/ngroups_max"), 65536);
    assert_eq!(number("fs/nr_open"), 1 << 20);
    assert_eq!(number("fs/pipe-max-size"), 1 << 20);
    let drivers = fs::read_to_string("/proc/tty/drivers").expect("drivers");
    assert!(drivers.lines().any(|line| line.contains("system:console")), "{drivers}");
    let counters = fs::read_to_string("/proc/vmstat").expect("vmstat");
    assert!(
        counters.lines().any(|line| line.starts_with("nr_free_pages ")),
        "{counters}"
    );
}

/// A file below `/sys`, which is mounted if it is not.
fn system(path: &str) -> String {
    if fs::metadata("/sys/devices").is_err() {
        let name = c"sysfs".as_ptr();
        let _ = fs::create_dir("/sys");
        syscall!(SYS_mount, name, c"/sys".as_ptr(), name, 0, 0).expect("mount");
    }
    let text = fs::read_to_string(format!("/sys/devices/system/{path}"));
    text.unwrap_or_else(|error| panic!("{path}: {error}")).trim().into()
}

fn sysfs_shows_cpus() {
    let cpus = sys::cpus();
    let all = match cpus.len() {
        1 => String::from("0"),
        count => format!("0-{}", count - 1),
    };
    assert_eq!(system("cpu/online"), all);
    assert_eq!(system("cpu/present"), all);
    for cpu in cpus {
        let listed: usize = system(&format!("cpu/cpu{cpu}/topology/core_id"))
            .parse()
            .expect("a number");
        let siblings = system(&format!("cpu/cpu{cpu}/topology/thread_siblings_list"));
        assert!(listed < 1024 && siblings.contains(&cpu.to_string()), "{siblings}");
    }
    assert!(fs::metadata("/sys/devices/system/cpu/cpu4096").is_err());
    let magic = {
        // SAFETY: all-zero is a valid statfs.
        let mut status: libc::statfs = unsafe { std::mem::zeroed() };
        syscall!(SYS_statfs, c"/sys".as_ptr(), &raw mut status).expect("statfs");
        status.f_type
    };
    assert_eq!(magic as u32, 0x6265_6572);
}

fn sysfs_shows_the_node() {
    assert_eq!(system("node/online"), "0");
    assert_eq!(system("node/node0/distance"), "10");
    let memory = system("node/node0/meminfo");
    let line = memory
        .lines()
        .find(|line| line.contains("MemTotal:"))
        .expect("MemTotal");
    assert!(line.starts_with("Node 0 MemTotal:") && line.ends_with(" kB"), "{line}");
    assert_eq!(system("node/node0/cpulist"), system("cpu/online"));
}
