//! POSIX message queues.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::{
    sys::{self, Sys, fork, wait_exit},
    syscall,
    sysv::{as_user, until_asleep},
};

crate::tests! { "mqueues":
    names_are_looked_at;
    the_most_urgent_comes_first [frees];
    what_is_asked_for_is_looked_at;
    a_full_queue_makes_senders_wait;
    an_empty_one_makes_receivers_wait;
    the_most_urgent_who_waits_is_served_first (60);
    a_time_ends_a_wait;
    a_message_is_told_of_once;
    who_waits_gets_it_and_nobody_is_told;
    closing_ends_the_telling;
    it_is_waited_for_as_other_files;
    permissions_are_looked_at;
    limits_are_kept;
    queues_are_files;
    a_name_that_is_gone_leaves_the_queue;
}

const NONBLOCK: i64 = libc::O_NONBLOCK as i64;

/// `struct mq_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Attr {
    flags: i64,
    messages: i64,
    bytes: i64,
    current: i64,
    reserved: [i64; 4],
}

fn attr(messages: i64, bytes: i64) -> Attr {
    Attr {
        messages,
        bytes,
        ..Attr::default()
    }
}

fn open(name: &std::ffi::CStr, flags: i32, mode: u32, attr: Option<&Attr>) -> Sys {
    let attr = attr.map_or(std::ptr::null(), std::ptr::from_ref);
    syscall!(SYS_mq_open, name.as_ptr(), flags, mode, attr)
}

fn unlink(name: &std::ffi::CStr) -> Sys {
    syscall!(SYS_mq_unlink, name.as_ptr())
}

/// A queue without a name by now.
fn queue(messages: i64, flags: i32) -> i32 {
    let name = c"of-the-tests";
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | flags;
    let queue = open(name, flags, 0o600, Some(&attr(messages, 64))).expect("mq_open");
    unlink(name).expect("mq_unlink");
    queue as i32
}

fn send(queue: i32, priority: u32, text: &[u8]) -> Sys {
    syscall!(SYS_mq_timedsend, queue, text.as_ptr(), text.len(), priority, 0)
}

fn receive_until(queue: i32, time: Option<libc::timespec>) -> Result<(u32, Vec<u8>), i32> {
    let (mut buffer, mut priority) = ([0_u8; 64], 0_u32);
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let length = syscall!(
        SYS_mq_timedreceive,
        queue,
        buffer.as_mut_ptr(),
        64,
        &raw mut priority,
        time
    )?;
    Ok((priority, buffer[..length].to_vec()))
}

fn receive(queue: i32) -> Result<(u32, Vec<u8>), i32> {
    receive_until(queue, None)
}

fn state(queue: i32) -> Attr {
    let mut attr = Attr::default();
    syscall!(SYS_mq_getsetattr, queue, 0, &raw mut attr).expect("mq_getsetattr");
    attr
}

fn names_are_looked_at() {
    let create = libc::O_CREAT | libc::O_RDWR;
    assert_eq!(open(c"", create, 0o600, None), Err(libc::ENOENT));
    assert_eq!(open(c"/a", create, 0o600, None), Err(libc::EACCES));
    assert_eq!(open(c"a/b", create, 0o600, None), Err(libc::EACCES));
    assert_eq!(open(c".", create, 0o600, None), Err(libc::EACCES));
    let long = std::ffi::CString::new(vec![b'x'; 256]).expect("no zero");
    assert_eq!(open(&long, create, 0o600, None), Err(libc::ENAMETOOLONG));
    assert_eq!(open(c"mq-none", libc::O_RDWR, 0, None), Err(libc::ENOENT));
    assert_eq!(unlink(c"mq-none"), Err(libc::ENOENT));
    assert_eq!(syscall!(SYS_mq_open, 1, create, 0o600, 0), Err(libc::EFAULT));
    assert_eq!(
        syscall!(SYS_mq_open, c"mq-a".as_ptr(), create, 0o600, 1),
        Err(libc::EFAULT)
    );
    let made = open(c"mq-a", create | libc::O_EXCL, 0o600, None).expect("mq_open") as i32;
    assert_eq!(open(c"mq-a", create | libc::O_EXCL, 0o600, None), Err(libc::EEXIST));
    assert_eq!(open(c"mq-a", libc::O_RDWR | libc::O_WRONLY, 0, None), Err(libc::EINVAL));
    let again = open(c"mq-a", create, 0o600, Some(&attr(-1, -1))).expect("it is there") as i32;
    assert_eq!(state(again), attr(10, 8192));
    // Whatever the flags say it is closed by exec.
    assert_eq!(
        syscall!(SYS_fcntl, made, libc::F_GETFD, 0),
        Ok(libc::FD_CLOEXEC as usize)
    );
    assert_eq!(unlink(c"mq-a"), Ok(0));
    assert_eq!(unlink(c"mq-a"), Err(libc::ENOENT));
    sys::close(made);
    sys::close(again);
}

fn the_most_urgent_comes_first() {
    let queue = queue(8, libc::O_NONBLOCK);
    for (priority, text) in [(3, "a"), (0, "b"), (32_767, "c"), (3, "d"), (0, "")] {
        send(queue, priority, text.as_bytes()).expect("mq_send");
    }
    assert_eq!(state(queue).current, 5);
    let order: Vec<_> = (0..5).map(|_| receive(queue).expect("a message")).collect();
    let order: Vec<_> = order
        .iter()
        .map(|(priority, text)| (*priority, String::from_utf8_lossy(text)))
        .collect();
    assert_eq!(
        order,
        [
            (32_767, "c".into()),
            (3, "a".into()),
            (3, "d".into()),
            (0, "b".into()),
            (0, "".into())
        ]
    );
    assert_eq!(receive(queue), Err(libc::EAGAIN));
    sys::close(queue);
}

fn what_is_asked_for_is_looked_at() {
    let queue = queue(2, libc::O_NONBLOCK);
    let text = [b'x'; 65];
    assert_eq!(send(queue, 32_768, b"a"), Err(libc::EINVAL));
    assert_eq!(send(queue, 0, &text), Err(libc::EMSGSIZE));
    assert_eq!(send(queue, 0, &text[..64]), Ok(0));
    assert_eq!(syscall!(SYS_mq_timedsend, queue, 1, 8, 0, 0), Err(libc::EFAULT));
    let mut buffer = [0_u8; 64];
    let room = |length: usize, queue: i32| {
        let mut buffer = [0_u8; 64];
        syscall!(SYS_mq_timedreceive, queue, buffer.as_mut_ptr(), length, 0, 0)
    };
    assert_eq!(room(63, queue), Err(libc::EMSGSIZE));
    assert_eq!(room(64, -1), Err(libc::EBADF));
    // Before anything else a time is looked at, although there is no need to wait.
    let wrong = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000,
    };
    assert_eq!(receive_until(queue, Some(wrong)), Err(libc::EINVAL));
    assert_eq!(
        syscall!(
            SYS_mq_timedreceive,
            -1_i32,
            buffer.as_mut_ptr(),
            64,
            0,
            &raw const wrong
        ),
        Err(libc::EINVAL)
    );
    assert_eq!(receive(queue).map(|(_, text)| text.len()), Ok(64));
    let (out, into) = sys::pipe(0);
    for other in [out, into] {
        assert_eq!(send(other, 0, b"a"), Err(libc::EBADF));
        assert_eq!(receive(other), Err(libc::EBADF));
        assert_eq!(syscall!(SYS_mq_notify, other, 0), Err(libc::EBADF));
        assert_eq!(syscall!(SYS_mq_getsetattr, other, 0, 0), Err(libc::EBADF));
        sys::close(other);
    }
    let set = |flags: i64| {
        let new = Attr { flags, ..attr(99, 99) };
        let mut old = Attr::default();
        syscall!(SYS_mq_getsetattr, queue, &raw const new, &raw mut old).map(|_| old.flags)
    };
    assert_eq!(set(NONBLOCK | 1), Err(libc::EINVAL));
    assert_eq!(set(0), Ok(NONBLOCK));
    assert_eq!(set(NONBLOCK), Ok(0));
    assert_eq!(
        state(queue),
        Attr {
            flags: NONBLOCK,
            ..attr(2, 64)
        }
    );
    assert_eq!(sys::write(queue, b"a"), Err(libc::EINVAL), "by its own calls alone");
    sys::close(queue);
}

fn a_full_queue_makes_senders_wait() {
    let queue = queue(1, 0);
    send(queue, 0, b"first").expect("mq_send");
    let child = fork(|| i32::from(send(queue, 9, b"second") != Ok(0)));
    until_asleep(child);
    assert_eq!(receive(queue), Ok((0, b"first".to_vec())));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(receive(queue), Ok((9, b"second".to_vec())));
    sys::close(queue);
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handled(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {
    HANDLED.fetch_add(1, SeqCst);
}

fn an_empty_one_makes_receivers_wait() {
    let queue = queue(1, 0);
    let child = fork(|| i32::from(receive(queue) != Ok((5, b"it".to_vec()))));
    until_asleep(child);
    send(queue, 5, b"it").expect("mq_send");
    assert_eq!(wait_exit(child), 0);
    // A signal ends it, or has it go on.
    for (flags, expected) in [(0, Err(libc::EINTR)), (libc::SA_RESTART, Ok((1, b"on".to_vec())))] {
        let child = fork(|| {
            sys::handle(libc::SIGUSR1, flags, &[], handled);
            i32::from(receive(queue) != expected)
        });
        until_asleep(child);
        sys::kill(child, libc::SIGUSR1).expect("kill");
        if flags != 0 {
            sys::sleep_ms(20);
            until_asleep(child);
            send(queue, 1, b"on").expect("mq_send");
        }
        assert_eq!(wait_exit(child), 0, "{flags}");
    }
    sys::close(queue);
}

fn the_most_urgent_who_waits_is_served_first() {
    let queue = queue(1, 0);
    let children: Vec<i32> = [0, 30, 0, 20]
        .into_iter()
        .map(|priority: i32| {
            let child = fork(|| {
                if priority > 0 {
                    syscall!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const priority).expect("SCHED_FIFO");
                }
                receive(queue).map_or(99, |(_, text)| text[0].into())
            });
            sys::sleep_ms(10);
            until_asleep(child);
            child
        })
        .collect();
    for number in [1_u8, 2, 3, 4] {
        send(queue, 0, &[number]).expect("mq_send");
    }
    let order: Vec<i32> = children.into_iter().map(wait_exit).collect();
    assert_eq!(order, [3, 1, 4, 2]);
    sys::close(queue);
}

fn a_time_ends_a_wait() {
    let queue = queue(1, 0);
    let time = |ahead: i64| {
        let time = sys::clock(libc::CLOCK_REALTIME).saturating_add_signed(ahead);
        sys::timespec(time)
    };
    for ahead in [-5_000_000_000, 30_000_000] {
        assert_eq!(receive_until(queue, Some(time(ahead))), Err(libc::ETIMEDOUT));
    }
    send(queue, 0, b"a").expect("mq_send");
    let until = time(30_000_000);
    assert_eq!(
        syscall!(SYS_mq_timedsend, queue, b"b".as_ptr(), 1, 0, &raw const until),
        Err(libc::ETIMEDOUT)
    );
    assert_eq!(
        receive_until(queue, Some(time(-1))).map(|(_, text)| text),
        Ok(b"a".to_vec())
    );
    sys::close(queue);
}

fn event(how: i32, signo: i32) -> libc::sigevent {
    let mut event = sys::silent_event();
    event.sigev_notify = how;
    event.sigev_signo = signo;
    event.sigev_value.sival_ptr = 0x1234_5678 as *mut _;
    event
}

fn notify(queue: i32, how: i32, signo: i32) -> Sys {
    let event = event(how, signo);
    syscall!(SYS_mq_notify, queue, &raw const event)
}

/// The next signal that waits, if there is one.
fn pending() -> Option<(i32, i32, i32, usize)> {
    let (set, none) = (sys::set_of(&[libc::SIGUSR1]), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    let mut info = sys::empty_info();
    let signo = syscall!(SYS_rt_sigtimedwait, &raw const set, &raw mut info, &raw const none, 8).ok()?;
    // SAFETY: a queued signal's fields.
    let (pid, value) = unsafe { (info.si_pid(), info.si_value().sival_ptr as usize) };
    Some((signo as i32, info.si_code, pid, value))
}

fn a_message_is_told_of_once() {
    const SI_MESGQ: i32 = -3;
    sys::mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
    let queue = queue(4, libc::O_NONBLOCK);
    assert_eq!(notify(queue, 7, libc::SIGUSR1), Err(libc::EINVAL));
    assert_eq!(notify(queue, libc::SIGEV_SIGNAL, 65), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_mq_notify, queue, 1), Err(libc::EFAULT));
    send(queue, 0, b"before").expect("mq_send");
    notify(queue, libc::SIGEV_SIGNAL, libc::SIGUSR1).expect("mq_notify");
    assert_eq!(notify(queue, libc::SIGEV_NONE, 0), Err(libc::EBUSY));
    send(queue, 0, b"not into an empty one").expect("mq_send");
    assert_eq!(pending(), None);
    while receive(queue).is_ok() {}
    let child = fork(|| i32::from(send(queue, 0, b"this") != Ok(0)));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(pending(), Some((libc::SIGUSR1, SI_MESGQ, child, 0x1234_5678)));
    receive(queue).expect("it");
    send(queue, 0, b"no more").expect("mq_send");
    assert_eq!(pending(), None);
    // It can be taken back, by who asked for it.
    receive(queue).expect("it");
    notify(queue, libc::SIGEV_SIGNAL, libc::SIGUSR1).expect("mq_notify");
    let child = fork(|| i32::from(syscall!(SYS_mq_notify, queue, 0) != Ok(0)));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(notify(queue, libc::SIGEV_NONE, 0), Err(libc::EBUSY));
    assert_eq!(syscall!(SYS_mq_notify, queue, 0), Ok(0));
    send(queue, 0, b"nobody").expect("mq_send");
    assert_eq!(pending(), None);
    // By a socket, with a cookie.
    assert_eq!(notify(queue, libc::SIGEV_THREAD, -1), Err(libc::EFAULT));
    let cookie = [0_u8; 32];
    let by_socket = |socket: i32| {
        let mut event = event(libc::SIGEV_THREAD, socket);
        event.sigev_value.sival_ptr = cookie.as_ptr() as *mut _;
        syscall!(SYS_mq_notify, queue, &raw const event)
    };
    assert_eq!(by_socket(-1), Err(libc::EBADF));
    let (out, into) = sys::pipe(0);
    assert_eq!(by_socket(out), Err(libc::ENOTSOCK));
    [out, into, queue].into_iter().for_each(sys::close);
}

fn who_waits_gets_it_and_nobody_is_told() {
    sys::mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
    let queue = queue(1, 0);
    notify(queue, libc::SIGEV_SIGNAL, libc::SIGUSR1).expect("mq_notify");
    let child = fork(|| i32::from(receive(queue) != Ok((0, b"a".to_vec()))));
    until_asleep(child);
    send(queue, 0, b"a").expect("mq_send");
    assert_eq!(wait_exit(child), 0);
    assert_eq!(pending(), None);
    send(queue, 0, b"b").expect("mq_send");
    assert!(pending().is_some());
    sys::close(queue);
}

fn closing_ends_the_telling() {
    let queue = queue(1, 0);
    let other = syscall!(SYS_dup, queue).expect("dup") as i32;
    notify(queue, libc::SIGEV_SIGNAL, libc::SIGUSR1).expect("mq_notify");
    let text = || std::fs::read_to_string(format!("/proc/self/fd/{queue}")).expect("the queue's text");
    assert_eq!(
        text(),
        format!(
            "QSIZE:{:<10} NOTIFY:{:<5} SIGNO:{:<5} NOTIFY_PID:{:<6}\n",
            0,
            0,
            libc::SIGUSR1,
            std::process::id()
        )
    );
    // Reading the text was an opening and a closing.
    assert_eq!(notify(queue, libc::SIGEV_NONE, 0), Ok(0));
    let child = fork(|| {
        sys::close(other);
        0
    });
    assert_eq!(wait_exit(child), 0);
    assert_eq!(
        notify(queue, libc::SIGEV_NONE, 0),
        Err(libc::EBUSY),
        "another's closing"
    );
    sys::close(other);
    assert_eq!(notify(queue, libc::SIGEV_NONE, 0), Ok(0));
    // Its process's end does as well.
    let _ = syscall!(SYS_mq_notify, queue, 0);
    let child = fork(|| i32::from(notify(queue, libc::SIGEV_NONE, 0) != Ok(0)));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(notify(queue, libc::SIGEV_NONE, 0), Ok(0));
    sys::close(queue);
}

fn it_is_waited_for_as_other_files() {
    let queue = queue(1, 0);
    let (input, output) = (libc::POLLIN, libc::POLLOUT);
    assert_eq!(sys::poll(queue, input | output, 0), output);
    let child = fork(|| i32::from(sys::poll(queue, input, 5_000) != input));
    until_asleep(child);
    send(queue, 0, b"a").expect("mq_send");
    assert_eq!(wait_exit(child), 0);
    assert_eq!(sys::poll(queue, input | output, 0), input);
    let child = fork(|| i32::from(sys::poll(queue, output, 5_000) != output));
    until_asleep(child);
    receive(queue).expect("it");
    assert_eq!(wait_exit(child), 0);
    sys::close(queue);
}

fn permissions_are_looked_at() {
    let (name, create) = (c"mq-perm", libc::O_CREAT | libc::O_EXCL | libc::O_RDWR);
    syscall!(SYS_umask, 0o022).expect("umask");
    let made = open(name, create, 0o666, None).expect("mq_open") as i32;
    as_user(1000, || {
        assert_eq!(open(name, libc::O_WRONLY, 0, None), Err(libc::EACCES));
        assert_eq!(open(name, libc::O_RDWR, 0, None), Err(libc::EACCES));
        let reads = open(name, libc::O_RDONLY, 0, None).expect("it may") as i32;
        assert_eq!(send(reads, 0, b"a"), Err(libc::EBADF));
        assert_eq!(unlink(name), Err(libc::EPERM), "the directory is sticky");
        let own = open(c"mq-own", create, 0o600, None).expect("mq_open") as i32;
        assert_eq!(unlink(c"mq-own"), Ok(0));
        sys::close(own);
    });
    let writes = open(name, libc::O_WRONLY, 0, None).expect("mq_open") as i32;
    assert_eq!(receive(writes), Err(libc::EBADF));
    unlink(name).expect("mq_unlink");
    sys::close(made);
    sys::close(writes);
}

fn limits_are_kept() {
    let (name, create) = (c"mq-limits", libc::O_CREAT | libc::O_EXCL | libc::O_RDWR);
    let make = |messages: i64, bytes: i64| {
        let made = open(name, create, 0o600, Some(&attr(messages, bytes)))?;
        unlink(name)?;
        sys::close(made as i32);
        Ok(())
    };
    let wrong = Err(libc::EINVAL);
    for (messages, bytes) in [(0, 1), (1, 0), (-1, 1), (1, -1), (65_537, 1), (1, (16 << 20) + 1)] {
        assert_eq!(make(messages, bytes), wrong, "{messages} {bytes}");
    }
    assert_eq!(make(1000, 100), Ok(()), "who is privileged");
    assert_eq!(make(65_536, 1 << 20), Err(libc::EMFILE));
    as_user(1000, || {
        assert_eq!(make(11, 1), wrong);
        assert_eq!(make(1, 8193), wrong);
        assert_eq!(make(10, 8192), Ok(()));
        let limit = libc::rlimit {
            rlim_cur: 2000,
            rlim_max: 2000,
        };
        // RLIMIT_MSGQUEUE
        syscall!(SYS_prlimit64, 0, 12, &raw const limit, 0).expect("prlimit");
        // Each message counts with 96 bytes besides its own.
        assert_eq!(make(10, 104), Ok(()));
        assert_eq!(make(10, 105), Err(libc::EMFILE));
    });
    let shown = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}")).expect("a limit");
        text.trim().parse::<u32>().expect("a number")
    };
    let limits = ["queues_max", "msg_max", "msgsize_max", "msg_default", "msgsize_default"].map(shown);
    assert_eq!(limits, [256, 10, 8192, 10, 8192]);
}

fn queues_are_files() {
    let place = "/tmp/mqueue-of-tests";
    std::fs::create_dir(place).expect("mkdir");
    let target = std::ffi::CString::new(place).expect("no zero");
    syscall!(SYS_mount, c"none".as_ptr(), target.as_ptr(), c"mqueue".as_ptr(), 0, 0).expect("mount");
    let create = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let made = open(c"mq-listed", create, 0o640, Some(&attr(3, 64))).expect("mq_open") as i32;
    send(made, 0, b"twelve bytes").expect("mq_send");
    let path = format!("{place}/mq-listed");
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.starts_with("QSIZE:12 "), "{text}");
    let listed: Vec<_> = std::fs::read_dir(place)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(listed.contains(&"mq-listed".into()), "{listed:?}");
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let data = std::fs::metadata(&path).expect("stat");
    assert_eq!((data.mode(), data.size(), data.nlink()), (0o100_640, 80, 1));
    assert_eq!(std::fs::metadata(place).expect("stat").mode(), 0o041_777);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::write(format!("{place}/mq-by-path"), b"").expect("a queue by its path");
    let by_path = open(c"mq-by-path", libc::O_RDWR, 0, None).expect("mq_open") as i32;
    assert_eq!(state(by_path), attr(10, 8192));
    std::fs::remove_file(&path).expect("unlink");
    assert_eq!(open(c"mq-listed", libc::O_RDWR, 0, None), Err(libc::ENOENT));
    unlink(c"mq-by-path").expect("mq_unlink");
    sys::close(made);
    sys::close(by_path);
    syscall!(SYS_umount2, target.as_ptr(), 0).expect("umount");
    std::fs::remove_dir(place).expect("rmdir");
}

fn a_name_that_is_gone_leaves_the_queue() {
    let (name, create) = (c"mq-gone", libc::O_CREAT | libc::O_EXCL | libc::O_RDWR);
    let first = open(name, create, 0o600, Some(&attr(2, 64))).expect("mq_open") as i32;
    unlink(name).expect("mq_unlink");
    let second = open(name, create, 0o600, Some(&attr(1, 64))).expect("another") as i32;
    send(first, 0, b"first").expect("mq_send");
    assert_eq!((state(first).current, state(second).current), (1, 0));
    assert_eq!(receive(first).map(|(_, text)| text), Ok(b"first".to_vec()));
    unlink(name).expect("mq_unlink");
    sys::close(first);
    sys::close(second);
}
