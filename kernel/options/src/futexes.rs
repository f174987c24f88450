//! Futexes.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "futexes",
    groups: groups! {
        futex(202, 98) "command" [value 1] [ENOSYS] {
            FUTEX_WAIT = 0,
            FUTEX_WAKE = 1,
            FUTEX_FD = 2 [refused ENOSYS],
            FUTEX_REQUEUE = 3,
            FUTEX_CMP_REQUEUE = 4,
            FUTEX_WAKE_OP = 5,
            FUTEX_LOCK_PI = 6,
            FUTEX_UNLOCK_PI = 7,
            FUTEX_TRYLOCK_PI = 8,
            FUTEX_WAIT_BITSET = 9,
            FUTEX_WAKE_BITSET = 10,
            FUTEX_WAIT_REQUEUE_PI = 11,
            FUTEX_CMP_REQUEUE_PI = 12,
            FUTEX_LOCK_PI2 = 13,
        }
        futex(202, 98) "flags" [flags 1] [ENOSYS] {
            FUTEX_CMD = 0xf [never "it is the command"],
            FUTEX_PRIVATE_FLAG = 0x80,
            FUTEX_CLOCK_REALTIME = 0x100,
        }
        futex(202, 98) "operation of FUTEX_WAKE_OP" [value 5] [untried "operands stand beside it"] {
            FUTEX_OP_SET = 0,
            FUTEX_OP_ADD = 0x1000_0000,
            FUTEX_OP_OR = 0x2000_0000,
            FUTEX_OP_ANDN = 0x3000_0000,
            FUTEX_OP_XOR = 0x4000_0000,
            FUTEX_OP_OPARG_SHIFT = 0x8000_0000,
            FUTEX_OP_CMP_NE = 0x100_0000,
            FUTEX_OP_CMP_LT = 0x200_0000,
            FUTEX_OP_CMP_LE = 0x300_0000,
            FUTEX_OP_CMP_GT = 0x400_0000,
            FUTEX_OP_CMP_GE = 0x500_0000,
        }
        futex_waitv(449, 449) "flags" [flags 2] [EINVAL] {}
        futex_waitv(449, 449) "flags of a waiter" [flags 0 at 16] [EINVAL] {
            FUTEX_32 = 2,
            FUTEX_PRIVATE_FLAG = 0x80,
        }
        futex_waitv(449, 449) "clock" [value 4] [EINVAL] {
            CLOCK_REALTIME = 0,
            CLOCK_MONOTONIC = 1,
        }
        futex_wake(454, 454) "flags" [flags 3] [EINVAL] {
            FUTEX2_SIZE_U32 = 2,
            FUTEX2_NUMA = 4 [missing EINVAL "Linux 6.16 has it"],
            FUTEX2_MPOL = 8 [missing EINVAL "Linux 6.16 has it"],
            FUTEX2_PRIVATE = 0x80,
        }
        futex_wait(455, 455) "flags" [flags 3] [EINVAL] {
            FUTEX2_SIZE_U32 = 2,
            FUTEX2_NUMA = 4 [missing EINVAL "Linux 6.16 has it"],
            FUTEX2_MPOL = 8 [missing EINVAL "Linux 6.16 has it"],
            FUTEX2_PRIVATE = 0x80,
        }
        futex_requeue(456, 456) "flags" [flags 1] [EINVAL] {}
    },
};
