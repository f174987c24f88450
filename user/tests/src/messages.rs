//! System V message queues.

use crate::{
    sys::{self, Sys, fork, kill, wait_exit},
    syscall,
    sysv::{IPC_NOWAIT, IPC_SET, Kind, Object, as_user, until_asleep},
};

crate::tests! { "messages":
    messages_come_as_they_were_sent [frees];
    types_are_chosen_from;
    arguments_are_looked_at;
    too_long_a_message_stays_or_is_cut;
    a_copy_leaves_it_there [needs MESSAGE_COPIES];
    a_full_queue_makes_senders_wait;
    receivers_get_what_suits_them_in_order;
    a_removal_ends_waits;
    a_signal_ends_a_wait_and_is_never_restarted_from;
    numbers_and_times_are_kept;
    a_change_is_noticed_by_who_waits;
    a_limit_is_raised_by_root_alone;
}

const NOERROR: i32 = 0o1_0000;
const EXCEPT: i32 = 0o2_0000;
const COPY: i32 = 0o4_0000;

/// A buffer for a message, its type first.
#[repr(C, align(8))]
struct Buffer([u8; 8 + 16_384]);

fn queue() -> Object {
    Object::of(Kind::Messages, syscall!(SYS_msgget, 0, 0o600).expect("msgget") as i32)
}

impl Object {
    fn send_with(&self, kind: i64, text: &[u8], flags: i32) -> Sys {
        let mut buffer = Buffer([0; 8 + 16_384]);
        buffer.0[..8].copy_from_slice(&kind.to_ne_bytes());
        buffer.0[8..8 + text.len()].copy_from_slice(text);
        syscall!(SYS_msgsnd, self.id, &raw const buffer, text.len(), flags)
    }

    fn send(&self, kind: i64, text: &[u8]) -> Sys {
        self.send_with(kind, text, IPC_NOWAIT)
    }

    fn receive_with(&self, size: usize, kind: i64, flags: i32) -> Result<(i64, Vec<u8>), i32> {
        let mut buffer = Buffer([0; 8 + 16_384]);
        let length = syscall!(SYS_msgrcv, self.id, &raw mut buffer, size, kind, flags)?;
        let kind = i64::from_ne_bytes(buffer.0[..8].try_into().expect("eight"));
        Ok((kind, buffer.0[8..8 + length].to_vec()))
    }

    fn receive(&self, kind: i64) -> Result<(i64, Vec<u8>), i32> {
        self.receive_with(100, kind, IPC_NOWAIT)
    }

    /// Bytes, messages, bytes that there may be.
    fn amounts(&self) -> [u64; 3] {
        let words = self.stat().expect("IPC_STAT");
        [words[9], words[10], words[11]]
    }
}

fn messages_come_as_they_were_sent() {
    let queue = queue();
    assert_eq!(queue.receive(0), Err(libc::ENOMSG));
    assert_eq!(queue.send(5, b"first"), Ok(0));
    assert_eq!(queue.send(i64::MAX, b""), Ok(0));
    let long: Vec<u8> = (0..8192).map(|index| index as u8).collect();
    assert_eq!(queue.send(1, &long), Ok(0));
    assert_eq!(queue.amounts(), [8197, 3, 16_384]);
    assert_eq!(queue.receive(0), Ok((5, b"first".to_vec())));
    assert_eq!(queue.receive(0), Ok((i64::MAX, Vec::new())));
    assert_eq!(queue.receive_with(8192, 0, 0), Ok((1, long)));
    assert_eq!(queue.amounts(), [0, 0, 16_384]);
}

fn types_are_chosen_from() {
    let queue = queue();
    for (kind, text) in [(4, b"a"), (2, b"b"), (7, b"c"), (2, b"d"), (4, b"e")] {
        queue.send(kind, text).expect("msgsnd");
    }
    let text = |got: Result<(i64, Vec<u8>), i32>| got.map(|(_, text)| text[0]);
    assert_eq!(text(queue.receive(7)), Ok(b'c'));
    assert_eq!(text(queue.receive(7)), Err(libc::ENOMSG));
    assert_eq!(text(queue.receive(-1)), Err(libc::ENOMSG));
    assert_eq!(text(queue.receive(-9)), Ok(b'b'), "the first of the lowest");
    assert_eq!(text(queue.receive_with(100, 4, IPC_NOWAIT | EXCEPT)), Ok(b'd'));
    assert_eq!(text(queue.receive_with(100, 4, IPC_NOWAIT | EXCEPT)), Err(libc::ENOMSG));
    assert_eq!(text(queue.receive(i64::MIN)), Ok(b'a'));
    assert_eq!(
        text(queue.receive_with(100, 0, IPC_NOWAIT | EXCEPT)),
        Ok(b'e'),
        "without a type it says nothing"
    );
}

fn arguments_are_looked_at() {
    let queue = queue();
    assert_eq!(queue.send(0, b"x"), Err(libc::EINVAL));
    assert_eq!(queue.send(-1, b"x"), Err(libc::EINVAL));
    let mut message = Buffer([1; 8 + 16_384]);
    let text = &raw mut message;
    let send = |id: i32, address: usize, size: usize| syscall!(SYS_msgsnd, id, address, size, IPC_NOWAIT);
    assert_eq!(send(queue.id, text as usize, 8193), Err(libc::EINVAL));
    assert_eq!(send(queue.id, text as usize, usize::MAX), Err(libc::EINVAL));
    assert_eq!(send(queue.id, 8, 1), Err(libc::EFAULT));
    assert_eq!(send(queue.id, 8, 8193), Err(libc::EFAULT), "the type is read first");
    assert_eq!(send(-1, text as usize, 1), Err(libc::EINVAL));
    assert_eq!(send(queue.id + (1 << 15), text as usize, 1), Err(libc::EINVAL));
    let page = sys::memory(8192);
    syscall!(SYS_munmap, page + 4096, 4096).expect("munmap");
    poke_word(page + 4096 - 8, 1);
    assert_eq!(send(queue.id, page + 4096 - 8, 1), Err(libc::EFAULT));
    assert_eq!(send(queue.id, page + 4096 - 8, 0), Ok(0));
    let receive = |id: i32, size: usize, flags: i32| syscall!(SYS_msgrcv, id, text, size, 0, flags);
    assert_eq!(receive(queue.id, usize::MAX, IPC_NOWAIT), Err(libc::EINVAL));
    assert_eq!(receive(-1, 1, IPC_NOWAIT), Err(libc::EINVAL));
    assert_eq!(receive(queue.id, 1, COPY), Err(libc::EINVAL), "a copy never waits");
    assert_eq!(receive(queue.id, 1, COPY | EXCEPT | IPC_NOWAIT), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_msgrcv, queue.id, 8, 1, 0, IPC_NOWAIT), Err(libc::EFAULT));
}

fn poke_word(address: usize, word: u64) {
    for (index, byte) in word.to_ne_bytes().into_iter().enumerate() {
        sys::poke(address + index, byte);
    }
}

fn too_long_a_message_stays_or_is_cut() {
    let queue = queue();
    queue.send(1, b"hello").expect("msgsnd");
    assert_eq!(queue.receive_with(4, 0, 0), Err(libc::E2BIG));
    assert_eq!(queue.amounts(), [5, 1, 16_384]);
    assert_eq!(queue.receive_with(2, 0, NOERROR), Ok((1, b"he".to_vec())));
    assert_eq!(queue.receive(0), Err(libc::ENOMSG), "the rest is gone");
    // Who waits with too little room is told, and the message stays for others.
    let waiter = fork(|| queue.receive_with(4, 0, 0).map_or_else(|error| error, |_| 0));
    until_asleep(waiter);
    queue.send(1, b"hello").expect("msgsnd");
    assert_eq!(wait_exit(waiter), libc::E2BIG);
    assert_eq!(queue.receive(0), Ok((1, b"hello".to_vec())));
}

fn a_copy_leaves_it_there() {
    let queue = queue();
    for text in [b"one", b"two"] {
        queue.send(3, text).expect("msgsnd");
    }
    let copy = |number: i64, size: usize, more: i32| queue.receive_with(size, number, COPY | IPC_NOWAIT | more);
    assert_eq!(copy(1, 100, 0), Ok((3, b"two".to_vec())));
    assert_eq!(copy(0, 100, 0), Ok((3, b"one".to_vec())));
    assert_eq!(copy(2, 100, 0), Err(libc::ENOMSG));
    assert_eq!(copy(-1, 100, 0), Err(libc::ENOMSG));
    assert_eq!(copy(1, 2, 0), Err(libc::E2BIG));
    assert_eq!(copy(1, 2, NOERROR), Err(libc::EINVAL), "it is never cut");
    let words = queue.stat().expect("IPC_STAT");
    assert_eq!((words[7], words[12] >> 32), (0, 0), "nobody has received");
    assert_eq!(queue.amounts()[1], 2);
}

fn a_full_queue_makes_senders_wait() {
    let queue = queue();
    let full = [0; 8192];
    assert_eq!((queue.send(1, &full), queue.send(2, &full)), (Ok(0), Ok(0)));
    assert_eq!(queue.send(3, b"x"), Err(libc::EAGAIN));
    assert_eq!(queue.send(3, b""), Ok(0), "there is room for nothing");
    let sender = |kind: i64, length: usize| {
        let sender = fork(|| {
            queue
                .send_with(kind, &full[..length], 0)
                .map_or_else(|error| error, |_| 0)
        });
        until_asleep(sender);
        sender
    };
    let long = sender(4, 8192);
    queue.receive_with(8192, 1, 0).expect("msgrcv");
    assert_eq!(wait_exit(long), 0);
    assert_eq!(queue.amounts()[1], 3);
    queue.receive_with(8192, 4, 0).expect("msgrcv");
    // A short one passes a long one that does not fit.
    assert_eq!(
        (queue.send(5, &full[..10]), queue.send(6, &full[..8000])),
        (Ok(0), Ok(0))
    );
    let (long, short) = (sender(7, 500), sender(8, 190));
    queue.receive_with(8192, 5, 0).expect("msgrcv");
    assert_eq!(wait_exit(short), 0);
    queue.receive_with(8192, 2, 0).expect("msgrcv");
    assert_eq!(wait_exit(long), 0);
    // Empty ones are counted.
    let mut words = queue.stat().expect("IPC_STAT");
    while queue.receive_with(8192, 0, IPC_NOWAIT).is_ok() {}
    words[11] = 3;
    queue.control(IPC_SET, words.as_mut_ptr() as usize).expect("IPC_SET");
    assert!((0..3).all(|_| queue.send(1, b"") == Ok(0)));
    assert_eq!(queue.send(1, b""), Err(libc::EAGAIN));
}

fn receivers_get_what_suits_them_in_order() {
    let queue = queue();
    let receiver = |kind: i64| {
        let child = fork(|| {
            queue
                .receive_with(100, kind, 0)
                .map_or(255, |(kind, text)| kind as i32 * 10 + i32::from(text[0]))
        });
        until_asleep(child);
        child
    };
    let (three, any, up_to_four) = (receiver(3), receiver(0), receiver(-4));
    queue.send(5, &[1]).expect("msgsnd");
    assert_eq!(wait_exit(any), 51);
    queue.send(5, &[2]).expect("nobody wants it");
    queue.send(4, &[3]).expect("msgsnd");
    assert_eq!(wait_exit(up_to_four), 43);
    queue.send(3, &[4]).expect("msgsnd");
    assert_eq!(wait_exit(three), 34);
    assert_eq!(queue.amounts(), [1, 1, 16_384]);
    queue.receive(0).expect("msgrcv");
    let pair = [receiver(0), receiver(0)];
    queue.send(1, &[1]).expect("msgsnd");
    assert_eq!(wait_exit(pair[0]), 11, "the elder first");
    queue.send(1, &[2]).expect("msgsnd");
    assert_eq!(wait_exit(pair[1]), 12);
}

fn a_removal_ends_waits() {
    let queue = queue();
    let receiver = fork(|| queue.receive_with(1, 9, 0).map_or_else(|error| error, |_| 0));
    let full = [0; 8192];
    assert_eq!((queue.send(1, &full), queue.send(2, &full)), (Ok(0), Ok(0)));
    let sender = fork(|| queue.send_with(1, &full, 0).map_or_else(|error| error, |_| 0));
    [receiver, sender].into_iter().for_each(until_asleep);
    queue.remove().expect("IPC_RMID");
    assert_eq!([receiver, sender].map(wait_exit), [libc::EIDRM; 2]);
    assert_eq!(queue.send(1, b"x"), Err(libc::EINVAL));
}

fn a_signal_ends_a_wait_and_is_never_restarted_from() {
    extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}
    let queue = queue();
    let waiter = |flags: i32| {
        let child = fork(|| {
            sys::handle(libc::SIGUSR1, flags, &[], nothing);
            queue.receive_with(100, 0, 0).map_or_else(|error| error, |_| 0)
        });
        until_asleep(child);
        child
    };
    let child = waiter(libc::SA_RESTART);
    kill(child, libc::SIGUSR1).expect("kill");
    assert_eq!(wait_exit(child), libc::EINTR);
    // A stop is no handler: the call goes on.
    let child = waiter(0);
    kill(child, libc::SIGSTOP).expect("kill");
    sys::wait(child, libc::WUNTRACED).expect("wait4");
    kill(child, libc::SIGCONT).expect("kill");
    until_asleep(child);
    queue.send(1, b"x").expect("msgsnd");
    assert_eq!(wait_exit(child), 0);
    let child = waiter(0);
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(sys::wait_killed(child), libc::SIGKILL);
    queue.send(1, b"y").expect("msgsnd");
    assert_eq!(queue.receive(0), Ok((1, b"y".to_vec())), "the dead get none");
}

fn numbers_and_times_are_kept() {
    let queue = queue();
    let words = queue.stat().expect("IPC_STAT");
    assert_eq!(
        (words[6], words[7], words[12]),
        (0, 0, 0),
        "nothing sent, nothing received"
    );
    assert!(words[8] > 1_600_000_000);
    let sender = fork(|| queue.send(1, b"x").map_or(1, |_| 0));
    assert_eq!(wait_exit(sender), 0);
    let receiver = fork(|| queue.receive(0).map_or(1, |_| 0));
    assert_eq!(wait_exit(receiver), 0);
    let words = queue.stat().expect("IPC_STAT");
    assert!(words[6] >= words[8] && words[7] >= words[6]);
    assert_eq!((words[12] as i32, (words[12] >> 32) as i32), (sender, receiver));
    // Who waits for it receives it.
    let receiver = fork(|| queue.receive_with(100, 0, 0).map_or(1, |_| 0));
    until_asleep(receiver);
    queue.send(1, b"x").expect("msgsnd");
    let me = syscall!(SYS_getpid).expect("getpid") as u64;
    assert_eq!(queue.stat().expect("IPC_STAT")[12], (receiver as u64) << 32 | me);
    assert_eq!(wait_exit(receiver), 0);
}

fn a_change_is_noticed_by_who_waits() {
    let queue = Object::of(Kind::Messages, syscall!(SYS_msgget, 0, 0o666).expect("msgget") as i32);
    let receiver = fork(|| {
        as_user(1234, || assert_eq!(queue.receive_with(1, 9, 0), Err(libc::EACCES)));
        0
    });
    sys::sleep_ms(300);
    let full = [0; 8192];
    assert_eq!((queue.send(1, &full), queue.send(2, &full)), (Ok(0), Ok(0)));
    let sender = fork(|| queue.send_with(1, &full, 0).map_or_else(|error| error, |_| 0));
    until_asleep(sender);
    let mut words = queue.stat().expect("IPC_STAT");
    words[2] = words[2] & 0xffff_ffff | 0o600 << 32;
    words[11] = 30_000;
    queue.control(IPC_SET, words.as_mut_ptr() as usize).expect("IPC_SET");
    assert_eq!(wait_exit(sender), 0, "there is more room");
    assert_eq!(wait_exit(receiver), 0, "it may not read any more");
}

fn a_limit_is_raised_by_root_alone() {
    let queue = Object::of(Kind::Messages, syscall!(SYS_msgget, 0, 0o666).expect("msgget") as i32);
    let mut words = queue.stat().expect("IPC_STAT");
    // Uid 1234 owns it.
    words[0] = words[0] & 0xffff_ffff | 1234 << 32;
    words[11] = 20_000;
    queue.control(IPC_SET, words.as_mut_ptr() as usize).expect("IPC_SET");
    as_user(1234, || {
        let mut words = queue.stat().expect("IPC_STAT");
        let mut set = |limit: u64| {
            words[11] = limit;
            queue.control(IPC_SET, words.as_mut_ptr() as usize)
        };
        assert_eq!(set(16_385), Err(libc::EPERM));
        assert_eq!(set(16_384), Ok(0));
        assert_eq!(set(100), Ok(0));
        assert_eq!(queue.send(1, &[0; 101]), Err(libc::EAGAIN));
    });
}
