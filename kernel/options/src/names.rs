//! Files by their names: looking at them, changing, moving and removing them; file systems.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "names",
    groups: groups! {
        newfstatat(262, 79) "flags" [flags 3] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_NO_AUTOMOUNT = 0x800,
            AT_EMPTY_PATH = 0x1000,
            AT_STATX_FORCE_SYNC = 0x2000,
            AT_STATX_DONT_SYNC = 0x4000,
        }
        statx(332, 291) "flags" [flags 2] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_NO_AUTOMOUNT = 0x800,
            AT_EMPTY_PATH = 0x1000,
            AT_STATX_FORCE_SYNC = 0x2000,
            AT_STATX_DONT_SYNC = 0x4000,
        }
        statx(332, 291) "mask" [flags 3] [ignored] {
            STATX_TYPE = 1,
            STATX_MODE = 2,
            STATX_NLINK = 4,
            STATX_UID = 8,
            STATX_GID = 0x10,
            STATX_ATIME = 0x20,
            STATX_MTIME = 0x40,
            STATX_CTIME = 0x80,
            STATX_INO = 0x100,
            STATX_SIZE = 0x200,
            STATX_BLOCKS = 0x400,
            STATX_BTIME = 0x800,
            STATX_MNT_ID = 0x1000,
            STATX_DIOALIGN = 0x2000 [ignored "no file system tells" ours "the file system"],
            STATX__RESERVED = 0x8000_0000 [refused EINVAL],
        }
        access(21, -) "mode" [flags 1] [EINVAL] {
            X_OK = 1,
            W_OK = 2,
            R_OK = 4,
        }
        faccessat(269, 48) "mode" [flags 2] [EINVAL] {
            X_OK = 1,
            W_OK = 2,
            R_OK = 4,
        }
        faccessat2(439, 439) "flags" [flags 3] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_EACCESS = 0x200,
            AT_EMPTY_PATH = 0x1000,
        }
        fchmodat2(452, 452) "flags" [flags 3] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_EMPTY_PATH = 0x1000,
        }
        fchownat(260, 54) "flags" [flags 4] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_EMPTY_PATH = 0x1000,
        }
        utimensat(280, 88) "flags" [flags 3] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_EMPTY_PATH = 0x1000,
        }
        utimensat(280, 88) "nanoseconds" [wide value 2 at 8] [EINVAL] {
            UTIME_OMIT = 0x3fff_fffe,
            UTIME_NOW = 0x3fff_ffff,
        }
        linkat(265, 37) "flags" [flags 4] [EINVAL] {
            AT_SYMLINK_FOLLOW = 0x400,
            AT_EMPTY_PATH = 0x1000,
        }
        unlinkat(263, 35) "flags" [flags 2] [EINVAL] {
            AT_REMOVEDIR = 0x200,
        }
        renameat2(316, 276) "flags" [flags 4] [EINVAL] {
            RENAME_NOREPLACE = 1,
            RENAME_EXCHANGE = 2,
            RENAME_WHITEOUT = 4 [missing EINVAL "no file systems in layers"],
        }
        execveat(322, 281) "flags" [flags 4] [EINVAL] {
            AT_SYMLINK_NOFOLLOW = 0x100,
            AT_EMPTY_PATH = 0x1000,
        }
        mknodat(259, 33) "type" [value 2] [untried "the word has the mode besides"] {
            S_IFIFO = 0x1000,
            S_IFCHR = 0x2000,
            S_IFDIR = 0x4000 [refused EPERM],
            S_IFBLK = 0x6000,
            S_IFREG = 0x8000,
            S_IFLNK = 0xa000 [refused EINVAL],
            S_IFSOCK = 0xc000,
        }
        setxattr(188, 5) "flags" [flags 4] [EINVAL] {
            XATTR_CREATE = 1,
            XATTR_REPLACE = 2,
        }
        mount(165, 40) "type" [name 2] [ENODEV] {
            tmpfs = 0,
            ramfs = 0,
            devtmpfs = 0,
            proc = 0,
            sysfs = 0,
            mqueue = 0,
        }
        mount(165, 40) "flags" [wide flags 3] [untried "some are the kernel's own and change the file system"] {
            MS_RDONLY = 1,
            MS_NOSUID = 2,
            MS_NODEV = 4,
            MS_NOEXEC = 8,
            MS_SYNCHRONOUS = 0x10,
            MS_REMOUNT = 0x20,
            MS_MANDLOCK = 0x40,
            MS_DIRSYNC = 0x80,
            MS_NOSYMFOLLOW = 0x100,
            MS_NOATIME = 0x400,
            MS_NODIRATIME = 0x800,
            MS_BIND = 0x1000 [missing EINVAL "a directory is in one place"],
            MS_MOVE = 0x2000 [missing EINVAL "mounts stay where they are"],
            MS_REC = 0x4000,
            MS_SILENT = 0x8000,
            MS_POSIXACL = 0x1_0000,
            MS_UNBINDABLE = 0x2_0000 [ignored "there is one namespace"],
            MS_PRIVATE = 0x4_0000 [ignored "there is one namespace"],
            MS_SLAVE = 0x8_0000 [ignored "there is one namespace"],
            MS_SHARED = 0x10_0000 [ignored "there is one namespace"],
            MS_RELATIME = 0x20_0000,
            MS_STRICTATIME = 0x100_0000,
            MS_LAZYTIME = 0x200_0000,
            MS_NOUSER = 0x8000_0000 [refused EINVAL],
        }
        umount2(166, 39) "flags" [flags 1] [EINVAL] {
            MNT_FORCE = 1,
            MNT_DETACH = 2,
            MNT_EXPIRE = 4 [missing EINVAL "mounts do not expire"],
            UMOUNT_NOFOLLOW = 8,
        }
    },
};
