//! Memory: mapping it, and what is said of it.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "memory",
    groups: groups! {
        mmap(9, 222) "prot" [flags 2] [ignored] {
            PROT_READ = 1,
            PROT_WRITE = 2,
            PROT_EXEC = 4,
            PROT_SEM = 8,
            PROT_BTI = (-, 0x10) [ignored "no branch targets are enforced for programs"],
            PROT_MTE = (-, 0x20) [ignored "no memory tags for programs" ours "the CPU"],
        }
        mmap(9, 222) "flags" [flags 3] [ignored] {
            MAP_SHARED = 1,
            MAP_PRIVATE = 2,
            MAP_SHARED_VALIDATE = 3,
            MAP_TYPE = 4 [refused EINVAL note "of the kinds of mapping, whatever is not one of the three"],
            MAP_DROPPABLE = 8 [refused EINVAL note "Linux 6.11 has it"],
            MAP_FIXED = 0x10,
            MAP_ANONYMOUS = 0x20,
            MAP_32BIT = (0x40, -),
            MAP_GROWSDOWN = 0x100,
            MAP_DENYWRITE = 0x800 [note "of no effect on Linux either, as the next"],
            MAP_EXECUTABLE = 0x1000,
            MAP_LOCKED = 0x2000,
            MAP_NORESERVE = 0x4000,
            MAP_POPULATE = 0x8000,
            MAP_NONBLOCK = 0x1_0000,
            MAP_STACK = 0x2_0000,
            MAP_HUGETLB = 0x4_0000 [ignored "the pages are small ones" ours "huge pages that are set aside"],
            MAP_SYNC = 0x8_0000 [note "without MAP_SHARED_VALIDATE"],
            MAP_FIXED_NOREPLACE = 0x10_0000,
        }
        mprotect(10, 226) "prot" [flags 2] [EINVAL] {
            PROT_READ = 1,
            PROT_WRITE = 2,
            PROT_EXEC = 4,
            PROT_SEM = 8,
            PROT_BTI = (-, 0x10) [missing EINVAL "no branch targets are enforced for programs"],
            PROT_MTE = (-, 0x20) [missing EINVAL "no memory tags for programs"],
            PROT_GROWSDOWN = 0x100_0000 [missing EINVAL "a change goes as far as it says"],
            PROT_GROWSUP = 0x200_0000 [refused EINVAL],
        }
        mremap(25, 216) "flags" [flags 3] [EINVAL] {
            MREMAP_MAYMOVE = 1,
            MREMAP_FIXED = 2,
            MREMAP_DONTUNMAP = 4,
        }
        madvise(28, 233) "advice" [value 2] [EINVAL] {
            MADV_NORMAL = 0,
            MADV_RANDOM = 1,
            MADV_SEQUENTIAL = 2,
            MADV_WILLNEED = 3,
            MADV_DONTNEED = 4,
            MADV_FREE = 8,
            MADV_REMOVE = 9 [missing EINVAL "holes are made by fallocate"],
            MADV_DONTFORK = 10,
            MADV_DOFORK = 11,
            MADV_MERGEABLE = 12 [missing EINVAL "pages are not merged"],
            MADV_UNMERGEABLE = 13 [missing EINVAL "pages are not merged"],
            MADV_HUGEPAGE = 14,
            MADV_NOHUGEPAGE = 15,
            MADV_DONTDUMP = 16,
            MADV_DODUMP = 17,
            MADV_WIPEONFORK = 18,
            MADV_KEEPONFORK = 19,
            MADV_COLD = 20,
            MADV_PAGEOUT = 21,
            MADV_POPULATE_READ = 22,
            MADV_POPULATE_WRITE = 23,
            MADV_DONTNEED_LOCKED = 24,
            MADV_COLLAPSE = 25 [ignored "no huge pages for programs" ours "huge pages"],
            MADV_HWPOISON = 100 [missing EINVAL "memory is not declared broken"],
            MADV_SOFT_OFFLINE = 101 [missing EINVAL "memory is not declared broken"],
        }
        msync(26, 227) "flags" [flags 2] [EINVAL] {
            MS_ASYNC = 1,
            MS_INVALIDATE = 2,
            MS_SYNC = 4,
        }
        mlock2(325, 284) "flags" [flags 2] [EINVAL] {
            MLOCK_ONFAULT = 1,
        }
        mlockall(151, 230) "flags" [flags 0] [EINVAL] {
            MCL_CURRENT = 1,
            MCL_FUTURE = 2,
            MCL_ONFAULT = 4,
        }
        memfd_create(319, 279) "flags" [flags 1] [EINVAL] {
            MFD_CLOEXEC = 1,
            MFD_ALLOW_SEALING = 2,
            MFD_HUGETLB = 4 [missing EINVAL "no huge pages for programs"],
            MFD_NOEXEC_SEAL = 8 [missing EINVAL "no such seal" since "6.3"],
            MFD_EXEC = 0x10 [since "6.3"],
        }
        process_vm_readv(310, 270) "flags" [wide flags 5] [EINVAL] {}
        process_vm_writev(311, 271) "flags" [wide flags 5] [EINVAL] {}
        membarrier(324, 283) "command" [value 0] [EINVAL] {
            MEMBARRIER_CMD_QUERY = 0,
            MEMBARRIER_CMD_GLOBAL = 1,
            MEMBARRIER_CMD_GLOBAL_EXPEDITED = 2,
            MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED = 4,
            MEMBARRIER_CMD_PRIVATE_EXPEDITED = 8,
            MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED = 0x10,
            MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE = 0x20,
            MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 0x40,
            MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ = 0x80,
            MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ = 0x100,
            MEMBARRIER_CMD_GET_REGISTRATIONS = 0x200 [missing EINVAL "Linux 6.3 has it" since "6.3"],
        }
        membarrier(324, 283) "flags" [flags 1] [EINVAL] {
            MEMBARRIER_CMD_FLAG_CPU = 1,
        }
        shmget(29, 194) "flags" [flags 2] [ignored] {
            IPC_CREAT = 0x200,
            IPC_EXCL = 0x400,
            SHM_HUGETLB = 0x800 [missing EINVAL "no huge pages for programs"],
            SHM_NORESERVE = 0x1000,
        }
        shmat(30, 196) "flags" [flags 2] [ignored] {
            SHM_RDONLY = 0x1000,
            SHM_RND = 0x2000,
            SHM_REMAP = 0x4000,
            SHM_EXEC = 0x8000,
        }
        shmctl(31, 195) "command" [value 1] [EINVAL] {
            IPC_RMID = 0,
            IPC_SET = 1,
            IPC_STAT = 2,
            IPC_INFO = 3,
            SHM_LOCK = 11,
            SHM_UNLOCK = 12,
            SHM_STAT = 13,
            SHM_INFO = 14,
            SHM_STAT_ANY = 15,
        }
    },
};
