//! Descriptors that are no files: counters, timers, signals, epoll, pipes.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "events",
    groups: groups! {
        eventfd2(290, 19) "flags" [flags 1] [EINVAL] {
            EFD_SEMAPHORE = 1,
            EFD_NONBLOCK = 0x800,
            EFD_CLOEXEC = 0x8_0000,
        }
        signalfd4(289, 74) "flags" [flags 3] [EINVAL] {
            SFD_NONBLOCK = 0x800,
            SFD_CLOEXEC = 0x8_0000,
        }
        timerfd_create(283, 85) "clock" [value 0] [EINVAL] {
            CLOCK_REALTIME = 0,
            CLOCK_MONOTONIC = 1,
            CLOCK_BOOTTIME = 7,
            CLOCK_REALTIME_ALARM = 8,
            CLOCK_BOOTTIME_ALARM = 9,
        }
        timerfd_create(283, 85) "flags" [flags 1] [EINVAL] {
            TFD_NONBLOCK = 0x800,
            TFD_CLOEXEC = 0x8_0000,
        }
        timerfd_settime(286, 86) "flags" [flags 1] [EINVAL] {
            TFD_TIMER_ABSTIME = 1,
            TFD_TIMER_CANCEL_ON_SET = 2,
        }
        epoll_create1(291, 20) "flags" [flags 0] [EINVAL] {
            EPOLL_CLOEXEC = 0x8_0000,
        }
        pipe2(293, 59) "flags" [flags 1] [EINVAL] {
            O_NOTIFICATION_PIPE = 0x80 [missing EINVAL "no notices of the kernel's"],
            O_NONBLOCK = 0x800,
            O_DIRECT = (0x4000, 0x1_0000) [missing EINVAL "no pipes of packets"],
            O_CLOEXEC = 0x8_0000,
        }
        dup3(292, 24) "flags" [flags 2] [EINVAL] {
            O_CLOEXEC = 0x8_0000,
        }
    },
};
