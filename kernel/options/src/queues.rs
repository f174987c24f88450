//! System V's semaphores and messages, and POSIX's queues.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "queues",
    groups: groups! {
        semget(64, 190) "flags" [flags 2] [ignored] {
            IPC_CREAT = 0x200,
            IPC_EXCL = 0x400,
        }
        semctl(66, 191) "command" [value 2] [EINVAL] {
            IPC_RMID = 0,
            IPC_SET = 1,
            IPC_STAT = 2,
            IPC_INFO = 3,
            GETPID = 11,
            GETVAL = 12,
            GETALL = 13,
            GETNCNT = 14,
            GETZCNT = 15,
            SETVAL = 16,
            SETALL = 17,
            SEM_STAT = 18,
            SEM_INFO = 19,
            SEM_STAT_ANY = 20,
        }
        semop(65, 193) "flags" [half flags 1 at 4] [ignored] {
            IPC_NOWAIT = 0x800,
            SEM_UNDO = 0x1000,
        }
        msgget(68, 186) "flags" [flags 1] [ignored] {
            IPC_CREAT = 0x200,
            IPC_EXCL = 0x400,
        }
        msgctl(71, 187) "command" [value 1] [EINVAL] {
            IPC_RMID = 0,
            IPC_SET = 1,
            IPC_STAT = 2,
            IPC_INFO = 3,
            MSG_STAT = 11,
            MSG_INFO = 12,
            MSG_STAT_ANY = 13,
        }
        msgsnd(69, 189) "flags" [flags 3] [ignored] {
            IPC_NOWAIT = 0x800,
        }
        msgrcv(70, 188) "flags" [flags 4] [ignored] {
            IPC_NOWAIT = 0x800,
            MSG_NOERROR = 0x1000,
            MSG_EXCEPT = 0x2000,
            MSG_COPY = 0x4000 [ours "CONFIG_CHECKPOINT_RESTORE"],
        }
        mq_open(240, 180) "flags" [flags 1] [ignored] {
            O_WRONLY = 1,
            O_RDWR = 2,
            O_CREAT = 0x40,
            O_EXCL = 0x80,
            O_NONBLOCK = 0x800,
            O_DIRECT = (0x4000, 0x1_0000) [ignored "a fault: Linux says EINVAL" ours "how files are opened"],
            O_CLOEXEC = 0x8_0000,
        }
        mq_getsetattr(245, 185) "mq_flags" [wide flags 1 at 0] [EINVAL] {
            O_NONBLOCK = 0x800,
        }
        mq_notify(244, 184) "sigev_notify" [value 1 at 12] [EINVAL] {
            SIGEV_SIGNAL = 0,
            SIGEV_NONE = 1,
            SIGEV_THREAD = 2 [missing EBADF "the C library would hand over a netlink socket"],
        }
    },
};
