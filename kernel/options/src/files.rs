//! Opening files, and what is asked of one that is open.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "files",
    groups: groups! {
        open(2, -) "flags" [flags 1] [ignored] {
            O_WRONLY = 1,
            O_RDWR = 2,
            O_CREAT = 0x40,
            O_EXCL = 0x80,
            O_NOCTTY = 0x100,
            O_TRUNC = 0x200,
            O_APPEND = 0x400,
            O_NONBLOCK = 0x800,
            O_DSYNC = 0x1000,
            O_ASYNC = 0x2000,
            O_DIRECT = 0x4000 [since "6.6" note "of files in memory"],
            O_LARGEFILE = 0x8000,
            O_DIRECTORY = 0x1_0000,
            O_NOFOLLOW = 0x2_0000,
            O_NOATIME = 0x4_0000,
            O_CLOEXEC = 0x8_0000,
            O_SYNC = 0x10_1000,
            O_PATH = 0x20_0000,
            O_TMPFILE = 0x41_0000,
        }
        openat(257, 56) "flags" [flags 2] [ignored] {
            O_WRONLY = 1,
            O_RDWR = 2,
            O_CREAT = 0x40,
            O_EXCL = 0x80,
            O_NOCTTY = 0x100,
            O_TRUNC = 0x200,
            O_APPEND = 0x400,
            O_NONBLOCK = 0x800,
            O_DSYNC = 0x1000,
            O_ASYNC = 0x2000,
            O_DIRECT = (0x4000, 0x1_0000) [since "6.6" note "of files in memory"],
            O_LARGEFILE = (0x8000, 0x2_0000),
            O_DIRECTORY = (0x1_0000, 0x4000),
            O_NOFOLLOW = (0x2_0000, 0x8000),
            O_NOATIME = 0x4_0000,
            O_CLOEXEC = 0x8_0000,
            O_SYNC = 0x10_1000,
            O_PATH = 0x20_0000,
            O_TMPFILE = (0x41_0000, 0x40_4000),
        }
        openat2(437, 437) "flags" [wide flags 2 at 0] [EINVAL] {
            O_WRONLY = 1,
            O_RDWR = 2,
            O_CREAT = 0x40,
            O_EXCL = 0x80,
            O_NOCTTY = 0x100,
            O_TRUNC = 0x200,
            O_APPEND = 0x400,
            O_NONBLOCK = 0x800,
            O_DSYNC = 0x1000,
            O_ASYNC = 0x2000,
            O_DIRECT = (0x4000, 0x1_0000) [since "6.6" note "of files in memory"],
            O_LARGEFILE = (0x8000, 0x2_0000),
            O_DIRECTORY = (0x1_0000, 0x4000),
            O_NOFOLLOW = (0x2_0000, 0x8000),
            O_NOATIME = 0x4_0000,
            O_CLOEXEC = 0x8_0000,
            O_SYNC = 0x10_1000,
            O_PATH = 0x20_0000,
            O_TMPFILE = (0x41_0000, 0x40_4000),
            FMODE_NONOTIFY = 0x400_0000 [note "of no effect, as on Linux"],
        }
        openat2(437, 437) "resolve" [wide flags 2 at 16] [EINVAL] {
            RESOLVE_NO_XDEV = 1,
            RESOLVE_NO_MAGICLINKS = 2,
            RESOLVE_NO_SYMLINKS = 4,
            RESOLVE_BENEATH = 8,
            RESOLVE_IN_ROOT = 0x10,
            RESOLVE_CACHED = 0x20,
        }
        close_range(436, 436) "flags" [flags 2] [EINVAL] {
            CLOSE_RANGE_UNSHARE = 2,
            CLOSE_RANGE_CLOEXEC = 4,
        }
        lseek(8, 62) "whence" [value 2] [EINVAL] {
            SEEK_SET = 0,
            SEEK_CUR = 1,
            SEEK_END = 2,
            SEEK_DATA = 3,
            SEEK_HOLE = 4,
        }
        fallocate(285, 47) "mode" [flags 1] [EOPNOTSUPP] {
            FALLOC_FL_KEEP_SIZE = 1,
            FALLOC_FL_PUNCH_HOLE = 2,
            FALLOC_FL_NO_HIDE_STALE = 4 [refused EOPNOTSUPP],
            FALLOC_FL_COLLAPSE_RANGE = 8 [refused EOPNOTSUPP note "of files in memory, as the next"],
            FALLOC_FL_ZERO_RANGE = 0x10 [refused EOPNOTSUPP],
            FALLOC_FL_INSERT_RANGE = 0x20 [refused EOPNOTSUPP],
            FALLOC_FL_UNSHARE_RANGE = 0x40 [refused EOPNOTSUPP],
        }
        preadv2(327, 286) "flags" [flags 5] [EOPNOTSUPP] {
            RWF_HIPRI = 1,
            RWF_DSYNC = 2,
            RWF_SYNC = 4,
            RWF_NOWAIT = 8 [refused EOPNOTSUPP note "of files in memory"],
            RWF_APPEND = 0x10,
        }
        pwritev2(328, 287) "flags" [flags 5] [EOPNOTSUPP] {
            RWF_HIPRI = 1,
            RWF_DSYNC = 2,
            RWF_SYNC = 4,
            RWF_NOWAIT = 8 [refused EOPNOTSUPP note "of files in memory"],
            RWF_APPEND = 0x10,
        }
        copy_file_range(326, 285) "flags" [flags 5] [EINVAL] {}
        flock(73, 32) "operation" [short 1] [EINVAL] {
            LOCK_SH = 1,
            LOCK_EX = 2,
            LOCK_SH_NB = 5 [note "LOCK_SH | LOCK_NB, as the next"],
            LOCK_EX_NB = 6,
            LOCK_UN = 8,
            LOCK_UN_NB = 12,
            LOCK_MAND = 32 [note "of no effect, as on Linux"],
        }
        fcntl(72, 25) "command" [value 1] [EINVAL] {
            F_DUPFD = 0,
            F_GETFD = 1,
            F_SETFD = 2,
            F_GETFL = 3,
            F_SETFL = 4,
            F_GETLK = 5,
            F_SETLK = 6,
            F_SETLKW = 7,
            F_SETOWN = 8 [missing EINVAL "no signals of input and output"],
            F_GETOWN = 9,
            F_SETSIG = 10 [missing EINVAL "no signals of input and output"],
            F_GETSIG = 11,
            F_SETOWN_EX = 15 [missing EINVAL "no signals of input and output"],
            F_GETOWN_EX = 16 [missing EINVAL "no signals of input and output"],
            F_GETOWNER_UIDS = 17 [missing EINVAL "no signals of input and output"],
            F_OFD_GETLK = 36,
            F_OFD_SETLK = 37,
            F_OFD_SETLKW = 38,
            F_SETLEASE = 1024 [missing EINVAL "no leases"],
            F_GETLEASE = 1025,
            F_NOTIFY = 1026 [missing EINVAL "no notices of directories"],
            F_DUPFD_CLOEXEC = 1030,
            F_SETPIPE_SZ = 1031,
            F_GETPIPE_SZ = 1032,
            F_ADD_SEALS = 1033,
            F_GET_SEALS = 1034,
            F_GET_RW_HINT = 1035 [missing EINVAL "writes are not told apart by life time"],
            F_SET_RW_HINT = 1036 [missing EINVAL "writes are not told apart by life time"],
        }
        fcntl(72, 25) "flags of F_SETFL" [flags 2] [ignored] {
            O_APPEND = 0x400,
            O_NONBLOCK = 0x800,
            O_ASYNC = 0x2000 [ignored "no signals of input and output"],
            O_DIRECT = (0x4000, 0x1_0000) [since "6.6" note "of files in memory"],
            O_NOATIME = 0x4_0000,
        }
        fcntl(72, 25) "seals of F_ADD_SEALS" [flags 2] [EINVAL] {
            F_SEAL_SEAL = 1,
            F_SEAL_SHRINK = 2,
            F_SEAL_GROW = 4,
            F_SEAL_WRITE = 8,
            F_SEAL_FUTURE_WRITE = 0x10,
            F_SEAL_EXEC = 0x20 [missing EINVAL "Linux 6.3 has it" since "6.3"],
        }
        fcntl(72, 25) "type of struct flock" [half 2 at 0] [EINVAL] {
            F_RDLCK = 0,
            F_WRLCK = 1,
            F_UNLCK = 2,
        }
        fcntl(72, 25) "whence of struct flock" [half 2 at 2] [EINVAL] {
            SEEK_SET = 0,
            SEEK_CUR = 1,
            SEEK_END = 2,
        }
        getrandom(318, 278) "flags" [flags 2] [EINVAL] {
            GRND_NONBLOCK = 1,
            GRND_RANDOM = 2,
            GRND_INSECURE = 4,
        }
    },
};
