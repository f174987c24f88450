//! Signals, clocks and timers.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "signals and time",
    groups: groups! {
        rt_sigprocmask(14, 135) "how" [value 0] [EINVAL] {
            SIG_BLOCK = 0,
            SIG_UNBLOCK = 1,
            SIG_SETMASK = 2,
        }
        rt_sigaction(13, 134) "flags" [wide flags 1 at 8] [ignored] {
            SA_NOCLDSTOP = 1,
            SA_NOCLDWAIT = 2,
            SA_SIGINFO = 4,
            SA_EXPOSE_TAGBITS = 0x800,
            SA_RESTORER = (0x400_0000, -),
            SA_ONSTACK = 0x800_0000,
            SA_RESTART = 0x1000_0000,
            SA_NODEFER = 0x4000_0000,
            SA_RESETHAND = 0x8000_0000,
        }
        sigaltstack(131, 132) "flags" [value 0 at 8] [EINVAL] {
            SS_ONSTACK = 1,
            SS_DISABLE = 2,
            SS_AUTODISARM = 0x8000_0000,
            SS_ONSTACK_AUTODISARM = 0x8000_0001 [note "SS_ONSTACK | SS_AUTODISARM, as the next"],
            SS_DISABLE_AUTODISARM = 0x8000_0002,
        }
        clock_gettime(228, 113) "clock" [value 0] [EINVAL] {
            CLOCK_REALTIME = 0,
            CLOCK_MONOTONIC = 1,
            CLOCK_PROCESS_CPUTIME_ID = 2,
            CLOCK_THREAD_CPUTIME_ID = 3,
            CLOCK_MONOTONIC_RAW = 4,
            CLOCK_REALTIME_COARSE = 5,
            CLOCK_MONOTONIC_COARSE = 6,
            CLOCK_BOOTTIME = 7,
            CLOCK_REALTIME_ALARM = 8 [ours "a clock with an alarm"],
            CLOCK_BOOTTIME_ALARM = 9 [ours "a clock with an alarm"],
            CLOCK_TAI = 11,
        }
        clock_getres(229, 114) "clock" [value 0] [EINVAL] {
            CLOCK_REALTIME = 0,
            CLOCK_MONOTONIC = 1,
            CLOCK_PROCESS_CPUTIME_ID = 2,
            CLOCK_THREAD_CPUTIME_ID = 3,
            CLOCK_MONOTONIC_RAW = 4,
            CLOCK_REALTIME_COARSE = 5,
            CLOCK_MONOTONIC_COARSE = 6,
            CLOCK_BOOTTIME = 7,
            CLOCK_REALTIME_ALARM = 8 [ours "a clock with an alarm"],
            CLOCK_BOOTTIME_ALARM = 9 [ours "a clock with an alarm"],
            CLOCK_TAI = 11,
        }
        clock_nanosleep(230, 115) "clock" [value 0] [EINVAL] {
            CLOCK_REALTIME = 0,
            CLOCK_MONOTONIC = 1,
            CLOCK_PROCESS_CPUTIME_ID = 2,
            CLOCK_THREAD_CPUTIME_ID = 3 [refused EOPNOTSUPP],
            CLOCK_MONOTONIC_RAW = 4 [refused EOPNOTSUPP],
            CLOCK_REALTIME_COARSE = 5 [refused EOPNOTSUPP],
            CLOCK_MONOTONIC_COARSE = 6 [refused EOPNOTSUPP],
            CLOCK_BOOTTIME = 7,
            CLOCK_REALTIME_ALARM = 8 [ours "a clock with an alarm"],
            CLOCK_BOOTTIME_ALARM = 9 [ours "a clock with an alarm"],
            CLOCK_TAI = 11,
        }
        clock_nanosleep(230, 115) "flags" [flags 1] [ignored] {
            TIMER_ABSTIME = 1,
        }
        timer_create(222, 107) "clock" [value 0] [EINVAL] {
            CLOCK_REALTIME = 0,
            CLOCK_MONOTONIC = 1,
            CLOCK_PROCESS_CPUTIME_ID = 2,
            CLOCK_THREAD_CPUTIME_ID = 3,
            CLOCK_MONOTONIC_RAW = 4 [refused EOPNOTSUPP],
            CLOCK_REALTIME_COARSE = 5 [refused EOPNOTSUPP],
            CLOCK_MONOTONIC_COARSE = 6 [refused EOPNOTSUPP],
            CLOCK_BOOTTIME = 7,
            CLOCK_REALTIME_ALARM = 8 [ours "a clock with an alarm"],
            CLOCK_BOOTTIME_ALARM = 9 [ours "a clock with an alarm"],
            CLOCK_TAI = 11,
        }
        timer_create(222, 107) "sigev_notify" [value 1 at 12] [EINVAL] {
            SIGEV_SIGNAL = 0,
            SIGEV_NONE = 1,
            SIGEV_THREAD = 2,
            SIGEV_THREAD_ID = 4,
        }
        timer_settime(223, 110) "flags" [flags 1] [ignored] {
            TIMER_ABSTIME = 1,
        }
        getitimer(36, 102) "which" [value 0] [EINVAL] {
            ITIMER_REAL = 0,
            ITIMER_VIRTUAL = 1,
            ITIMER_PROF = 2,
        }
        setitimer(38, 103) "which" [value 0] [EINVAL] {
            ITIMER_REAL = 0,
            ITIMER_VIRTUAL = 1,
            ITIMER_PROF = 2,
        }
    },
};
