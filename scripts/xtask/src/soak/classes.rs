//! The classes, and the stressors of stress-ng that each has.

/// Stressors that have something in common.
#[derive(Debug)]
pub struct Class {
    /// What it is called.
    pub name: &'static str,
    /// `stress-ng --<stressor>`.
    pub stressors: &'static [&'static str],
}

/// All of them, but for what needs hardware, a network or calls that are not there.
pub const CLASSES: [Class; 19] = [
    Class {
        name: "cpu",
        stressors: &[
            "cpu",
            "matrix",
            "qsort",
            "bsearch",
            "vecmath",
            "getrandom",
            "usersyscall",
        ],
    },
    Class {
        name: "vm",
        stressors: &[
            "vm",
            "vm-addr",
            "vm-rw",
            "vm-segv",
            "stack",
            "stackmmap",
            "bigheap",
            "brk",
            "malloc",
            "mlock",
            "mincore",
            "msync",
            "madvise",
            "mremap",
            "shm",
            "shm-sysv",
            "remap",
            "fault",
            "memfd",
        ],
    },
    Class {
        name: "mmap",
        stressors: &[
            "mmap",
            "mmapaddr",
            "mmapfixed",
            "mmapfork",
            "mmapmany",
            "munmap",
            "mprotect",
        ],
    },
    Class {
        name: "fork",
        stressors: &[
            "fork",
            "forkheavy",
            "vfork",
            "vforkmany",
            "exec",
            "zombie",
            "daemon",
            "wait",
            "exit-group",
            "spawn",
            "session",
            "ptrace",
        ],
    },
    Class {
        name: "clone",
        stressors: &["clone", "pidfd", "kcmp"],
    },
    Class {
        name: "futex",
        stressors: &["futex", "sem", "mutex"],
    },
    Class {
        name: "signal",
        stressors: &[
            "signal",
            "sigabrt",
            "sigchld",
            "sigfd",
            "sigfpe",
            "sigio",
            "signest",
            "sigpending",
            "sigpipe",
            "sigq",
            "sigrt",
            "sigsegv",
            "sigsuspend",
            "sigtrap",
            "kill",
        ],
    },
    Class {
        name: "pthread",
        stressors: &[
            "pthread",
            "membarrier",
            "rseq",
            "seccomp",
            "set",
            "get",
            "rlimit",
            "prctl",
        ],
    },
    Class {
        name: "switch",
        stressors: &["switch", "context", "yield", "mq", "msg", "sem-sysv"],
    },
    Class {
        name: "timer",
        stressors: &[
            "timer",
            "timerfd",
            "itimer",
            "hrtimers",
            "clock",
            "nanosleep",
            "alarm",
            "sleep",
        ],
    },
    Class {
        name: "schedule",
        stressors: &["schedpolicy", "affinity", "resched", "nice", "loadavg"],
    },
    Class {
        name: "filesystem",
        stressors: &[
            "access",
            "chdir",
            "chmod",
            "chown",
            "copy-file",
            "dentry",
            "dir",
            "dirdeep",
            "dirmany",
            "dup",
            "fallocate",
            "fcntl",
            "filename",
            "fpunch",
            "fsize",
            "fstat",
            "getdent",
            "hdd",
            "io",
            "iomix",
            "link",
            "mknod",
            "open",
            "procfs",
            "readahead",
            "rename",
            "seek",
            "symlink",
            "sync-file",
            "sysfs",
            "touch",
            "unlink",
            "utime",
            "xattr",
        ],
    },
    Class {
        name: "pipe",
        stressors: &["pipe", "pipeherd", "fifo"],
    },
    Class {
        name: "poll",
        stressors: &["poll"],
    },
    Class {
        name: "epoll",
        stressors: &["epoll", "eventfd"],
    },
    Class {
        name: "locks",
        stressors: &["flock", "locka", "lockf", "lockofd"],
    },
    Class {
        name: "tmpfs",
        stressors: &["tmpfs", "mmapfork", "memfd"],
    },
    Class {
        name: "unix-socket",
        stressors: &["sockpair", "sockfd"],
    },
    Class {
        name: "pty",
        stressors: &["pty"],
    },
];

/// What fails on Linux in the same machine as well, or asks for what is not there.
pub const KNOWN: [(&str, &str); 0] = [];
