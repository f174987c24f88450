//! What one process may do to another: tracing it, and filters of calls.

use crate::Family;

pub(crate) const FAMILY: Family = Family {
    name: "tracing",
    groups: groups! {
        ptrace(101, 117) "request" [wide value 0] [EIO] {
            PTRACE_TRACEME = 0,
            PTRACE_PEEKTEXT = 1,
            PTRACE_PEEKDATA = 2,
            PTRACE_PEEKUSER = (3, -),
            PTRACE_POKETEXT = 4,
            PTRACE_POKEDATA = 5,
            PTRACE_POKEUSER = (6, -),
            PTRACE_CONT = 7,
            PTRACE_KILL = 8,
            PTRACE_SINGLESTEP = 9,
            PTRACE_GETREGS = (12, -),
            PTRACE_SETREGS = (13, -),
            PTRACE_GETFPREGS = (14, -),
            PTRACE_SETFPREGS = (15, -),
            PTRACE_ATTACH = 16,
            PTRACE_DETACH = 17,
            PTRACE_OLDSETOPTIONS = (21, -),
            PTRACE_SYSCALL = 24,
            PTRACE_ARCH_PRCTL = (30, -) [missing EIO "a tracer sets the bases as registers"],
            PTRACE_SYSEMU = 31,
            PTRACE_SYSEMU_SINGLESTEP = 32,
            PTRACE_SINGLEBLOCK = (33, -) [missing EIO "no steps from branch to branch"],
            PTRACE_PEEKMTETAGS = (-, 33) [missing EIO "no memory tags for programs"],
            PTRACE_POKEMTETAGS = (-, 34) [missing EIO "no memory tags for programs"],
            PTRACE_SETOPTIONS = 0x4200,
            PTRACE_GETEVENTMSG = 0x4201,
            PTRACE_GETSIGINFO = 0x4202,
            PTRACE_SETSIGINFO = 0x4203,
            PTRACE_GETREGSET = 0x4204,
            PTRACE_SETREGSET = 0x4205,
            PTRACE_SEIZE = 0x4206,
            PTRACE_INTERRUPT = 0x4207,
            PTRACE_LISTEN = 0x4208,
            PTRACE_PEEKSIGINFO = 0x4209,
            PTRACE_GETSIGMASK = 0x420a,
            PTRACE_SETSIGMASK = 0x420b,
            PTRACE_SECCOMP_GET_FILTER = 0x420c [ours "CONFIG_CHECKPOINT_RESTORE"],
            PTRACE_SECCOMP_GET_METADATA = 0x420d [ours "CONFIG_CHECKPOINT_RESTORE"],
            PTRACE_GET_SYSCALL_INFO = 0x420e,
            PTRACE_GET_RSEQ_CONFIGURATION = 0x420f [missing EIO "for checkpoints"],
        }
        ptrace(101, 117) "options" [wide flags 3] [EINVAL] {
            PTRACE_O_TRACESYSGOOD = 1,
            PTRACE_O_TRACEFORK = 2,
            PTRACE_O_TRACEVFORK = 4,
            PTRACE_O_TRACECLONE = 8,
            PTRACE_O_TRACEEXEC = 0x10,
            PTRACE_O_TRACEVFORKDONE = 0x20,
            PTRACE_O_TRACEEXIT = 0x40,
            PTRACE_O_TRACESECCOMP = 0x80,
            PTRACE_O_EXITKILL = 0x10_0000,
            PTRACE_O_SUSPEND_SECCOMP = 0x20_0000 [ours "CONFIG_CHECKPOINT_RESTORE"],
        }
        ptrace(101, 117) "flags of PTRACE_PEEKSIGINFO" [flags 2 at 8] [EINVAL] {
            PTRACE_PEEKSIGINFO_SHARED = 1,
        }
        seccomp(317, 277) "operation" [value 0] [EINVAL] {
            SECCOMP_SET_MODE_STRICT = 0,
            SECCOMP_SET_MODE_FILTER = 1,
            SECCOMP_GET_ACTION_AVAIL = 2,
            SECCOMP_GET_NOTIF_SIZES = 3,
        }
        seccomp(317, 277) "flags" [flags 1] [EINVAL] {
            SECCOMP_FILTER_FLAG_TSYNC = 1,
            SECCOMP_FILTER_FLAG_LOG = 2,
            SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4,
            SECCOMP_FILTER_FLAG_NEW_LISTENER = 8,
            SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 0x10,
            SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20,
        }
        seccomp(317, 277) "action" [value 2 at 0] [EOPNOTSUPP] {
            SECCOMP_RET_KILL_THREAD = 0,
            SECCOMP_RET_TRAP = 0x3_0000,
            SECCOMP_RET_ERRNO = 0x5_0000,
            SECCOMP_RET_USER_NOTIF = 0x7fc0_0000,
            SECCOMP_RET_TRACE = 0x7ff0_0000,
            SECCOMP_RET_LOG = 0x7ffc_0000,
            SECCOMP_RET_ALLOW = 0x7fff_0000,
            SECCOMP_RET_KILL_PROCESS = 0x8000_0000,
        }
        prctl(157, 167) "mode of PR_SET_SECCOMP" [wide value 1] [EINVAL] {
            SECCOMP_MODE_STRICT = 1,
            SECCOMP_MODE_FILTER = 2,
        }
    },
};
