//! Levels, edges, and whose turn it is.

use super::{
    ET, HUP, IN, ONESHOT, OUT, add, change, control, count, counter, create, event, put, ready, take, wait_with,
};
use crate::sys::{self, close, pipe};

crate::tests! { "epolls":
    levels_and_edges;
    every_write_is_an_edge;
    one_shots_are_off_until_changed;
    turns_are_taken;
}

fn levels_and_edges() {
    let (level, edge, (from, to)) = (create(), create(), pipe(0));
    add(level, from, IN);
    add(edge, from, IN | ET);
    assert_eq!((ready(level), ready(edge)), (vec![], vec![]));
    put(to);
    for _ in 0..3 {
        assert_eq!(ready(level), event(from, IN));
    }
    assert_eq!(ready(edge), event(from, IN));
    assert_eq!(ready(edge), []);
    take(from);
    assert_eq!(ready(level), [], "looked at anew");
    put(to);
    assert_eq!(ready(edge), event(from, IN));
    put(to);
    take(from);
    take(from);
    assert_eq!(ready(edge), [], "an edge that is gone by the time of the look");
    close(to);
    for _ in 0..2 {
        assert_eq!(ready(level), event(from, HUP), "told unasked");
    }
    assert_eq!(ready(edge), event(from, HUP));
    assert_eq!(ready(edge), []);
}

fn every_write_is_an_edge() {
    let (epoll, (from, to), counter) = (create(), pipe(0), counter(0));
    add(epoll, from, IN | ET);
    for _ in 0..3 {
        put(to);
        assert_eq!(ready(epoll), event(from, IN), "unread bytes are there already");
        assert_eq!(ready(epoll), []);
    }
    take(from);
    assert_eq!(ready(epoll), [], "a read that leaves something is no edge");
    put(to);
    put(to);
    assert_eq!(ready(epoll), event(from, IN), "two are one");
    assert_eq!(ready(epoll), []);
    close(from);
    // The end that writes: writes are not its edges, nor reads of what is not full.
    let (from, to) = pipe(libc::O_NONBLOCK);
    add(epoll, to, IN | OUT | ET);
    assert_eq!(ready(epoll), event(to, OUT));
    put(to);
    assert_eq!(ready(epoll), []);
    while sys::write(to, &[0; 4096]).is_ok() {}
    assert_eq!(ready(epoll), []);
    let mut page = [0; 4096];
    assert_eq!(sys::read(from, &mut page), Ok(4096));
    assert_eq!(ready(epoll), event(to, OUT));
    assert_eq!(sys::read(from, &mut page), Ok(4096));
    assert_eq!(ready(epoll), []);
    close(to);
    // A count that is added to.
    add(epoll, counter, IN | ET);
    for added in [1, 1, 0] {
        count(counter, added);
        assert_eq!(ready(epoll), event(counter, IN), "added {added}");
        assert_eq!(ready(epoll), []);
    }
    assert_eq!(sys::read(counter, &mut [0; 8]), Ok(8));
    assert_eq!(ready(epoll), []);
    change(epoll, counter, OUT | ET);
    assert_eq!(ready(epoll), event(counter, OUT));
    count(counter, 1);
    assert_eq!(ready(epoll), [], "an edge of what is not asked for");
    assert_eq!(sys::read(counter, &mut [0; 8]), Ok(8));
    assert_eq!(ready(epoll), event(counter, OUT));
}

fn one_shots_are_off_until_changed() {
    let (epoll, (from, to)) = (create(), pipe(0));
    for how in [ONESHOT, ONESHOT | ET] {
        add(epoll, from, IN | how);
        put(to);
        assert_eq!(ready(epoll), event(from, IN));
        put(to);
        assert_eq!(ready(epoll), []);
        change(epoll, from, IN | how);
        assert_eq!(ready(epoll), event(from, IN));
        take(from);
        take(from);
        change(epoll, from, IN | how);
        assert_eq!(ready(epoll), []);
        control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
    }
    // Off means that not even a hang-up is told.
    add(epoll, from, IN | ONESHOT);
    put(to);
    assert_eq!(ready(epoll), event(from, IN));
    close(to);
    assert_eq!(ready(epoll), []);
    change(epoll, from, IN | ONESHOT);
    assert_eq!(ready(epoll), event(from, IN | HUP));
}

fn turns_are_taken() {
    let (epoll, pipes) = (create(), [(); 5].map(|()| pipe(0)));
    for (from, to) in pipes {
        add(epoll, from, IN);
        put(to);
    }
    let some = |most| {
        let found = wait_with(epoll, most, 0, 0).expect("epoll_pwait");
        let number = |fd| {
            pipes
                .iter()
                .position(|(from, _)| *from == fd as i32)
                .expect("one of them")
        };
        found.into_iter().map(|(_, fd)| number(fd)).collect::<Vec<_>>()
    };
    assert_eq!([some(2), some(2), some(2)], [[0, 1], [2, 3], [4, 0]]);
    assert_eq!(some(9), [1, 2, 3, 4, 0], "each once");
    take(pipes[3].0);
    assert_eq!(some(9), [1, 2, 4, 0]);
}
