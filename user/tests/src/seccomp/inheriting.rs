//! Who else gets a filter.

use std::{sync::atomic::AtomicI32, sync::atomic::AtomicU32, sync::atomic::Ordering::SeqCst, thread};

use super::{ALLOW, ERRNO, LOGGED, TSYNC, TSYNC_ESRCH, VICTIM, filter, mode, renounce, victim};
use crate::{
    programs::{execute, myself},
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "seccomp":
    filters_are_inherited;
    filters_outlive_an_exec;
    status_shows_them;
    all_threads_get_one;
    threads_that_diverged_do_not;
    a_thread_in_user_mode_gets_one;
    many_filters_come_and_go [frees];
}

fn filters_are_inherited() {
    in_child(|| {
        filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        in_child(|| {
            assert_eq!(victim(), Err(9));
            in_child(|| assert_eq!(victim(), Err(9)));
        });
        assert_eq!(thread::spawn(victim).join().expect("the thread"), Err(9));
        // What a child adds is its own.
        in_child(|| {
            filter(0, libc::SYS_getppid, ERRNO | 8).expect("seccomp");
            assert_eq!(syscall!(SYS_getppid), Err(8));
        });
        assert!(syscall!(SYS_getppid).is_ok());
        thread::spawn(|| {
            filter(0, libc::SYS_getppid, ERRNO | 8).expect("seccomp");
            assert_eq!(syscall!(SYS_getppid), Err(8));
        })
        .join()
        .expect("the thread");
        assert!(syscall!(SYS_getppid).is_ok());
    });
}

/// The other side of [`filters_outlive_an_exec`].
pub fn after_exec() -> bool {
    victim() == Err(9) && mode() == Ok(2)
}

fn filters_outlive_an_exec() {
    let program = myself();
    let status = wait_exit(fork(|| {
        filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        execute(&program, &["tests", "helper", "filtered"])
    }));
    assert_eq!(status, 0);
    // By the thread that is not the first.
    let status = wait_exit(fork(|| {
        let program = program.clone();
        thread::spawn(move || {
            filter(0, VICTIM, ERRNO | 9).expect("seccomp");
            execute(&program, &["tests", "helper", "filtered"])
        })
        .join()
        .expect("the thread")
    }));
    assert_eq!(status, 0);
}

fn shown(line: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/status").expect("its status");
    let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    found
        .unwrap_or_else(|| panic!("no {line} in {text}"))
        .trim()
        .to_string()
}

fn status_shows_them() {
    assert_eq!((shown("Seccomp"), shown("Seccomp_filters")), ("0".into(), "0".into()));
    in_child(|| {
        for count in 1..4 {
            filter(0, VICTIM, ALLOW).expect("seccomp");
            assert_eq!(
                (shown("Seccomp"), shown("Seccomp_filters")),
                ("2".into(), format!("{count}"))
            );
        }
    });
}

/// Threads that wait for a word, and then say what `victim` gives them.
fn asked(count: usize, between: impl FnOnce()) -> Vec<Sys> {
    static GO: AtomicU32 = AtomicU32::new(0);
    static THERE: AtomicU32 = AtomicU32::new(0);
    GO.store(0, SeqCst);
    THERE.store(0, SeqCst);
    let threads: Vec<_> = (0..count)
        .map(|_| {
            thread::spawn(|| {
                THERE.fetch_add(1, SeqCst);
                while GO.load(SeqCst) == 0 {
                    // In a wait that nothing but a signal may end early.
                    let time = sys::timespec(10_000_000);
                    assert_eq!(syscall!(SYS_nanosleep, &raw const time, 0), Ok(0));
                }
                victim()
            })
        })
        .collect();
    while THERE.load(SeqCst) < count as u32 {
        sys::sleep_ms(1);
    }
    between();
    GO.store(1, SeqCst);
    threads
        .into_iter()
        .map(|thread| thread.join().expect("a thread"))
        .collect()
}

fn all_threads_get_one() {
    in_child(|| {
        // Not root, so that it is seen that renouncing goes along.
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        let renounced = asked(4, || {
            renounce();
            filter(TSYNC, VICTIM, ERRNO | 9).expect("seccomp");
        });
        assert_eq!(renounced, [Err(9); 4]);
    });
    in_child(|| {
        // What each has may be older.
        filter(0, VICTIM, LOGGED).expect("seccomp");
        let got = asked(4, || {
            filter(0, VICTIM, ALLOW).expect("seccomp");
            filter(TSYNC | TSYNC_ESRCH, VICTIM, ERRNO | 9).expect("seccomp");
        });
        assert_eq!(got, [Err(9); 4]);
    });
    in_child(|| {
        let got = asked(2, || {
            filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        });
        assert!(got.iter().all(Result::is_ok), "only the caller's: {got:?}");
        assert_eq!(victim(), Err(9));
    });
}

fn threads_that_diverged_do_not() {
    in_child(|| {
        static TID: AtomicI32 = AtomicI32::new(0);
        static END: AtomicU32 = AtomicU32::new(0);
        let other = thread::spawn(|| {
            filter(0, libc::SYS_getppid, ERRNO | 8).expect("seccomp");
            TID.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
            while END.load(SeqCst) == 0 {
                sys::sleep_ms(1);
            }
            assert!(victim().is_ok());
        });
        while TID.load(SeqCst) == 0 {
            sys::sleep_ms(1);
        }
        assert_eq!(filter(TSYNC, VICTIM, ERRNO | 9), Ok(TID.load(SeqCst) as usize));
        assert_eq!(filter(TSYNC | TSYNC_ESRCH, VICTIM, ERRNO | 9), Err(libc::ESRCH));
        assert!(victim().is_ok(), "the caller has not got it either");
        assert_eq!(mode(), Ok(0));
        END.store(1, SeqCst);
        other.join().expect("the thread");
        assert_eq!(filter(TSYNC, VICTIM, ERRNO | 9), Ok(0));
        assert_eq!(victim(), Err(9));
    });
}

fn a_thread_in_user_mode_gets_one() {
    in_child(|| {
        static STATE: AtomicU32 = AtomicU32::new(0);
        let other = thread::spawn(|| {
            STATE.store(1, SeqCst);
            while STATE.load(SeqCst) != 2 {
                std::hint::spin_loop();
            }
            victim()
        });
        while STATE.load(SeqCst) == 0 {
            sys::sleep_ms(1);
        }
        filter(TSYNC, VICTIM, ERRNO | 9).expect("seccomp");
        // The interrupt that tells it is on its way.
        sys::sleep_ms(20);
        STATE.store(2, SeqCst);
        assert_eq!(other.join().expect("the thread"), Err(9));
    });
}

fn many_filters_come_and_go() {
    for round in 0..20 {
        in_child(|| {
            for _ in 0..50 {
                filter(0, VICTIM, ERRNO | 9).expect("seccomp");
            }
            assert_eq!(victim(), Err(9), "{round}");
            if round % 4 == 0 {
                let children: Vec<_> = (0..4).map(|_| thread::spawn(victim)).collect();
                assert!(
                    children
                        .into_iter()
                        .all(|child| child.join().expect("a thread") == Err(9))
                );
            }
        });
    }
}
