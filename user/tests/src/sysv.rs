//! What the tests of System V IPC have in common, and those of what all three kinds do alike.

use crate::{
    sys::{self, Sys, in_child},
    syscall,
};

crate::tests! { "sysv":
    keys_find_what_was_made_by_them;
    who_may_do_what;
    removed_identifiers_are_none;
    the_machine_counts_what_there_is;
    files_of_proc_show_what_there_is;
    limits_can_be_read_and_set;
}

pub const IPC_CREAT: i32 = 0o1000;
pub const IPC_EXCL: i32 = 0o2000;
pub const IPC_NOWAIT: i32 = 0o4000;
pub const IPC_RMID: i32 = 0;
pub const IPC_SET: i32 = 1;
pub const IPC_STAT: i32 = 2;
pub const IPC_INFO: i32 = 3;

/// `struct ipc64_perm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Permission {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub sequence: u16,
    pad: [u16; 3],
    unused: [u64; 2],
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Semaphores,
    Memory,
    Messages,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Semaphores, Self::Memory, Self::Messages];

    /// `semget` of two, `shmget` of a page, `msgget`.
    pub fn get(self, key: i32, flags: i32) -> Sys {
        match self {
            Self::Semaphores => syscall!(SYS_semget, key, 2, flags),
            Self::Memory => syscall!(SYS_shmget, key, 4096, flags),
            Self::Messages => syscall!(SYS_msgget, key, flags),
        }
    }

    pub fn control(self, id: i32, command: i32, argument: usize) -> Sys {
        match self {
            Self::Semaphores => syscall!(SYS_semctl, id, 0, command, argument),
            Self::Memory => syscall!(SYS_shmctl, id, command, argument),
            Self::Messages => syscall!(SYS_msgctl, id, command, argument),
        }
    }

    /// `SEM_STAT` and its kin, `*_STAT_ANY`, `*_INFO`.
    fn commands(self) -> [i32; 3] {
        match self {
            Self::Semaphores => [18, 20, 19],
            Self::Memory => [13, 15, 14],
            Self::Messages => [11, 13, 12],
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Semaphores => "/proc/sysvipc/sem",
            Self::Memory => "/proc/sysvipc/shm",
            Self::Messages => "/proc/sysvipc/msg",
        }
    }
}

/// An object, removed with this.
pub struct Object {
    pub kind: Kind,
    pub id: i32,
}

impl Object {
    pub fn new(kind: Kind, key: i32, flags: i32) -> Self {
        let id = kind.get(key, flags | IPC_CREAT).expect("get") as i32;
        Self { kind, id }
    }

    pub fn of(kind: Kind, id: i32) -> Self {
        Self { kind, id }
    }

    pub fn control(&self, command: i32, argument: usize) -> Sys {
        self.kind.control(self.id, command, argument)
    }

    /// What `IPC_STAT` says, as words.
    pub fn stat(&self) -> Result<[u64; 16], i32> {
        let mut words = [0u64; 16];
        self.control(IPC_STAT, words.as_mut_ptr() as usize).map(|_| words)
    }

    pub fn permission(&self) -> Permission {
        let words = self.stat().expect("IPC_STAT");
        let mut permission = Permission::default();
        // SAFETY: the first six words are one.
        unsafe {
            (&raw mut permission)
                .cast::<[u64; 6]>()
                .write([words[0], words[1], words[2], words[3], words[4], words[5]])
        };
        permission
    }

    pub fn remove(&self) -> Sys {
        self.control(IPC_RMID, 0)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.remove();
    }
}

/// A key that no other test uses.
pub fn key() -> i32 {
    let pid = syscall!(SYS_getpid).expect("getpid") as i32;
    0x5e00_0000 | pid
}

/// Runs `body` in a child as another user.
pub fn as_user(uid: u32, body: impl FnOnce()) {
    in_child(|| {
        syscall!(SYS_setgroups, 0, 0).expect("setgroups");
        syscall!(SYS_setresgid, uid, uid, uid).expect("setresgid");
        syscall!(SYS_setresuid, uid, uid, uid).expect("setresuid");
        body();
    });
}

fn keys_find_what_was_made_by_them() {
    for kind in Kind::ALL {
        let key = key();
        assert_eq!(kind.get(key, 0o600), Err(libc::ENOENT));
        assert_eq!(kind.get(key, IPC_EXCL | 0o600), Err(libc::ENOENT));
        let object = Object::new(kind, key, 0o640);
        assert_eq!(kind.get(key, 0o600), Ok(object.id as usize));
        assert_eq!(kind.get(key, IPC_CREAT | 0o600), Ok(object.id as usize));
        assert_eq!(kind.get(key, IPC_CREAT | IPC_EXCL), Err(libc::EEXIST));
        let permission = object.permission();
        assert_eq!((permission.key, permission.mode), (key, 0o640), "{kind:?}");
        assert_eq!(permission.sequence as i32, object.id >> 15);
        let private = [0, IPC_EXCL].map(|flags| Object::of(kind, kind.get(0, flags | 0o600).expect("private") as i32));
        assert!(private[0].id != private[1].id && private[0].permission().key == 0);
        object.remove().expect("IPC_RMID");
        assert_eq!(kind.get(key, 0o600), Err(libc::ENOENT));
    }
}

fn who_may_do_what() {
    for kind in Kind::ALL {
        let key = key();
        let object = Object::new(kind, key, 0o604);
        as_user(1234, || {
            assert_eq!(kind.get(key, 0), Ok(object.id as usize), "nothing asked for");
            assert_eq!(kind.get(key, 0o4), Ok(object.id as usize));
            assert_eq!(kind.get(key, 0o400), Ok(object.id as usize), "whosever the bit");
            assert_eq!(kind.get(key, 0o600), Err(libc::EACCES), "{kind:?}");
            let mut words = object.stat().expect("readable");
            assert_eq!(object.control(IPC_SET, words.as_mut_ptr() as usize), Err(libc::EPERM));
            assert_eq!(object.remove(), Err(libc::EPERM));
        });
        // Given away: uid and gid are the second and the third word of 32 bits, the mode is the sixth.
        let mut words = object.stat().expect("IPC_STAT");
        words[0] = words[0] & 0xffff_ffff | 1234 << 32;
        words[1] = words[1] & !0xffff_ffff | 4321;
        words[2] = words[2] & 0xffff_ffff | 0o7_7060 << 32;
        object.control(IPC_SET, words.as_mut_ptr() as usize).expect("IPC_SET");
        let now = object.permission();
        assert_eq!(
            (now.uid, now.gid, now.cuid, now.cgid, now.mode),
            (1234, 4321, 0, 0, 0o060)
        );
        as_user(4321, || {
            assert_eq!(kind.get(key, 0o600), Ok(object.id as usize), "the group")
        });
        as_user(5555, || {
            assert_eq!(kind.get(key, 0o4), Err(libc::EACCES));
            assert_eq!(object.stat().err(), Some(libc::EACCES));
            let [by_place, for_all, _] = kind.commands();
            let mut words = [0u64; 16];
            let place = object.id & 0x7fff;
            let mut show = |command| kind.control(place, command, words.as_mut_ptr() as usize);
            assert_eq!(show(by_place), Err(libc::EACCES));
            assert_eq!(show(for_all), Ok(object.id as usize), "{kind:?}");
        });
        as_user(1234, || {
            assert_eq!(kind.get(key, 0o4), Err(libc::EACCES), "the owner has no bit");
            assert_eq!(object.stat().err(), Some(libc::EACCES));
            object.remove().expect("the owner may");
        });
        assert_eq!(object.remove(), Err(libc::EINVAL));
        words[0] |= 0xffff_ffff << 32;
        let other = Object::new(kind, 0, 0o600);
        assert_eq!(
            other.control(IPC_SET, words.as_mut_ptr() as usize),
            Err(libc::EINVAL),
            "no such user"
        );
    }
}

fn removed_identifiers_are_none() {
    for kind in Kind::ALL {
        let object = Object::new(kind, 0, 0o600);
        let id = object.id;
        object.remove().expect("IPC_RMID");
        let mut words = [0u64; 16];
        for command in [IPC_STAT, IPC_RMID, IPC_SET] {
            assert_eq!(
                kind.control(id, command, words.as_mut_ptr() as usize),
                Err(libc::EINVAL),
                "{kind:?} {command}"
            );
        }
        assert_eq!(
            kind.control(-1, IPC_STAT, words.as_mut_ptr() as usize),
            Err(libc::EINVAL)
        );
        let next = Object::new(kind, 0, 0o600);
        assert_ne!(next.id, id);
        assert_eq!(kind.control(next.id, 99, 0), Err(libc::EINVAL), "no such command");
        assert_eq!(kind.control(next.id, IPC_STAT, 8), Err(libc::EFAULT));
        assert_eq!(kind.control(next.id, IPC_SET, 8), Err(libc::EFAULT));
        assert_eq!(kind.control(next.id, IPC_INFO, 8), Err(libc::EFAULT));
    }
}

fn the_machine_counts_what_there_is() {
    let int = |words: &[u64], index: usize| (words[index / 2] >> (index % 2 * 32)) as i32;
    for kind in Kind::ALL {
        let object = Object::new(kind, 0, 0o600);
        let mut words = [0u64; 16];
        let [_, _, info] = kind.commands();
        let mut ask = |command| {
            let last = kind.control(0, command, words.as_mut_ptr() as usize).expect("info");
            (last, words)
        };
        let (last, limits) = ask(IPC_INFO);
        assert!(last as i32 >= object.id & 0x7fff, "{kind:?}: {last}");
        let (_, usage) = ask(info);
        match kind {
            Kind::Semaphores => {
                let shown: Vec<i32> = (0..10).map(|index| int(&limits, index)).collect();
                let sets = 32_000;
                let all = 1_024_000_000;
                assert_eq!(shown, [all, sets, all, all, sets, 500, 500, 20, 32_767, 32_767]);
                assert!(int(&usage, 7) >= 1 && int(&usage, 9) >= 2, "sets and semaphores");
            }
            Kind::Memory => {
                assert_eq!(limits[..5], [u64::MAX - (1 << 24), 1, 4096, 4096, u64::MAX - (1 << 24)]);
                assert!(int(&usage, 0) >= 1 && usage[1] >= 1, "segments and pages");
            }
            Kind::Messages => {
                let shown: Vec<i32> = (0..7).map(|index| int(&limits, index)).collect();
                assert_eq!(shown, [512_000, 16_384, 8192, 16_384, 32_000, 16, 16_384]);
                assert_eq!(int(&limits, 7) & 0xffff, 0xffff);
                assert!(int(&usage, 0) >= 1, "queues");
            }
        }
    }
}

fn files_of_proc_show_what_there_is() {
    for kind in Kind::ALL {
        let object = Object::new(kind, key(), 0o640);
        let text = std::fs::read_to_string(kind.file()).expect("/proc/sysvipc");
        let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let names = columns(text.lines().next().expect("names"));
        let line = text
            .lines()
            .skip(1)
            .map(columns)
            .find(|line| line[1] == object.id.to_string());
        let line = line.unwrap_or_else(|| panic!("no {} in\n{text}", object.id));
        let value = |name: &str| line[names.iter().position(|other| other == name).expect(name)].clone();
        assert_eq!(value("key"), key().to_string());
        assert_eq!((value("perms"), value("cuid")), ("640".to_owned(), "0".to_owned()));
        let wanted = match kind {
            Kind::Semaphores => ("nsems", "2"),
            Kind::Memory => ("size", "4096"),
            Kind::Messages => ("qnum", "0"),
        };
        assert_eq!(value(wanted.0), wanted.1);
        assert_eq!(names.len(), line.len());
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert!(
            lengths.iter().all(|length| *length == lengths[0]),
            "columns are aligned:\n{text}"
        );
    }
}

fn limits_can_be_read_and_set() {
    let path = |name: &str| format!("/proc/sys/kernel/{name}");
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("a limit");
    assert_eq!(read("sem"), "32000\t1024000000\t500\t32000\n");
    let expected = [
        ("shmmax", "18446744073692774399\n"),
        ("shmall", "18446744073692774399\n"),
        ("shmmni", "4096\n"),
        ("msgmax", "8192\n"),
        ("msgmnb", "16384\n"),
        ("msgmni", "32000\n"),
    ];
    for (name, value) in expected {
        assert_eq!(read(name), value, "{name}");
    }
    let set = |name: &str, value: &str| std::fs::write(path(name), value).map_err(|error| error.raw_os_error());
    let open = || syscall!(SYS_shmget, 0, 8192, 0o600);
    let segment = Object::of(Kind::Memory, open().expect("two pages") as i32);
    assert_eq!(set("shmmax", "4096\n"), Ok(()));
    let refused = open();
    assert_eq!(set("shmmax", "18446744073692774399\n"), Ok(()));
    assert_eq!(refused, Err(libc::EINVAL));
    drop(segment);
    assert_eq!(set("shmmni", "nonsense\n"), Err(Some(libc::EINVAL)));
    assert_eq!(read("shmmni"), "4096\n");
}

/// Waits until a process sleeps in the kernel, or has ended.
pub fn until_asleep(pid: i32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let state = stat.rsplit(')').next().map(str::trim_start);
        if state.is_some_and(|state| state.starts_with(['S', 'Z'])) {
            return;
        }
        sys::sleep_ms(1);
    }
}
