//! Who runs when, and how much of the disks they have.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "scheduling",
    groups: groups! {
        sched_setscheduler(144, 119) "policy" [value 1] [EINVAL] {
            SCHED_OTHER = 0,
            SCHED_FIFO = 1,
            SCHED_RR = 2,
            SCHED_BATCH = 3,
            SCHED_IDLE = 5,
            SCHED_DEADLINE = 6 [refused EINVAL],
            SCHED_RESET_ON_FORK = 0x4000_0000,
        }
        sched_setattr(314, 274) "policy" [value 1 at 4] [EINVAL] {
            SCHED_OTHER = 0,
            SCHED_FIFO = 1,
            SCHED_RR = 2,
            SCHED_BATCH = 3,
            SCHED_IDLE = 5,
            SCHED_DEADLINE = 6 [missing EINVAL "no deadlines"],
        }
        sched_setattr(314, 274) "sched_flags" [wide flags 1 at 8] [EINVAL] {
            SCHED_FLAG_RESET_ON_FORK = 1,
            SCHED_FLAG_RECLAIM = 2,
            SCHED_FLAG_DL_OVERRUN = 4,
            SCHED_FLAG_KEEP_POLICY = 8,
            SCHED_FLAG_KEEP_PARAMS = 0x10,
            SCHED_FLAG_UTIL_CLAMP_MIN = 0x20 [refused EOPNOTSUPP ours "CONFIG_UCLAMP_TASK"],
            SCHED_FLAG_UTIL_CLAMP_MAX = 0x40 [refused EOPNOTSUPP ours "CONFIG_UCLAMP_TASK"],
        }
        sched_setattr(314, 274) "flags" [flags 2] [EINVAL] {}
        sched_getattr(315, 275) "flags" [flags 3] [EINVAL] {}
        sched_get_priority_max(146, 125) "policy" [value 0] [EINVAL] {
            SCHED_OTHER = 0,
            SCHED_FIFO = 1,
            SCHED_RR = 2,
            SCHED_BATCH = 3,
            SCHED_IDLE = 5,
            SCHED_DEADLINE = 6,
        }
        getpriority(140, 141) "which" [value 0] [EINVAL] {
            PRIO_PROCESS = 0,
            PRIO_PGRP = 1,
            PRIO_USER = 2,
        }
        setpriority(141, 140) "which" [value 0] [EINVAL] {
            PRIO_PROCESS = 0,
            PRIO_PGRP = 1,
            PRIO_USER = 2 [never "it is about everybody's"],
        }
        ioprio_get(252, 31) "which" [value 0] [EINVAL] {
            IOPRIO_WHO_PROCESS = 1,
            IOPRIO_WHO_PGRP = 2,
            IOPRIO_WHO_USER = 3,
        }
        ioprio_set(251, 30) "class" [value 2] [untried "data stand beside the class"] {
            IOPRIO_CLASS_NONE = 0,
            IOPRIO_CLASS_RT = 0x2000 [ignored "disks do not go by priorities"],
            IOPRIO_CLASS_BE = 0x4000 [ignored "disks do not go by priorities"],
            IOPRIO_CLASS_IDLE = 0x6000 [ignored "disks do not go by priorities"],
        }
    },
};
