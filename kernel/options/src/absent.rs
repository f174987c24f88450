//! Calls that have a number and are not there: `ENOSYS`.

use crate::Each;

/// A call that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Absent {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: Each<u16>,
    /// Whether Linux 6.1 has it, at least where it is configured so.
    pub on_linux: bool,
}

macro_rules! absent {
    ($(on_linux $on_linux:literal { $($name:ident($x86_64:tt, $aarch64:tt),)* })*) => {
        &[$($(Absent {
            name: stringify!($name),
            number: Each { x86_64: maybe!($x86_64), aarch64: maybe!($aarch64) },
            on_linux: $on_linux,
        }),*),*]
    };
}

/// All of them, up to the last number of Linux 6.1.
pub const ABSENT: &[Absent] = absent! {
    on_linux true {
        acct(163, 89),
        add_key(248, 217),
        adjtimex(159, 171),
        bpf(321, 280),
        clock_adjtime(305, 266),
        delete_module(176, 106),
        fadvise64(221, 223),
        fanotify_init(300, 262),
        fanotify_mark(301, 263),
        finit_module(313, 273),
        fsconfig(431, 431),
        fsmount(432, 432),
        fsopen(430, 430),
        fspick(433, 433),
        get_mempolicy(239, 236),
        init_module(175, 105),
        inotify_add_watch(254, 27),
        inotify_init(253, -),
        inotify_init1(294, 26),
        inotify_rm_watch(255, 28),
        io_cancel(210, 3),
        io_destroy(207, 1),
        io_getevents(208, 4),
        io_pgetevents(333, 292),
        io_setup(206, 0),
        io_submit(209, 2),
        io_uring_enter(426, 426),
        io_uring_register(427, 427),
        io_uring_setup(425, 425),
        ioperm(173, -),
        iopl(172, -),
        kexec_file_load(320, 294),
        kexec_load(246, 104),
        keyctl(250, 219),
        landlock_add_rule(445, 445),
        landlock_create_ruleset(444, 444),
        landlock_restrict_self(446, 446),
        lookup_dcookie(212, 18),
        mbind(237, 235),
        memfd_secret(447, 447),
        migrate_pages(256, 238),
        modify_ldt(154, -),
        mount_setattr(442, 442),
        move_mount(429, 429),
        move_pages(279, 239),
        name_to_handle_at(303, 264),
        open_by_handle_at(304, 265),
        open_tree(428, 428),
        perf_event_open(298, 241),
        pivot_root(155, 41),
        pkey_alloc(330, 289),
        pkey_free(331, 290),
        pkey_mprotect(329, 288),
        process_madvise(440, 440),
        process_mrelease(448, 448),
        quotactl(179, 60),
        quotactl_fd(443, 443),
        readahead(187, 213),
        remap_file_pages(216, 234),
        request_key(249, 218),
        set_mempolicy(238, 237),
        set_mempolicy_home_node(450, 450),
        splice(275, 76),
        swapoff(168, 225),
        swapon(167, 224),
        sync_file_range(277, 84),
        sysfs(139, -),
        tee(276, 77),
        userfaultfd(323, 282),
        ustat(136, -),
        vhangup(153, 58),
        vmsplice(278, 75),
    }
    on_linux false {
        _sysctl(156, -),
        afs_syscall(183, -),
        create_module(174, -),
        epoll_ctl_old(214, -),
        epoll_wait_old(215, -),
        get_kernel_syms(177, -),
        get_thread_area(211, -),
        getpmsg(181, -),
        nfsservctl(180, 42),
        putpmsg(182, -),
        query_module(178, -),
        security(185, -),
        set_thread_area(205, -),
        tuxcall(184, -),
        uselib(134, -),
        vserver(236, -),
    }
};
