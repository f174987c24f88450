//! The directories of `/proc`: what is in them, and listing them.

use alloc::sync::Arc;
use core::fmt::Write;

use arrayvec::ArrayString;

use super::{GlobalText, Kind, Node, Walk, bus, global, mounts, namespaces, oom, process, system, sysvipc};
use crate::{
    errno::{Errno, Result},
    fs::{
        block_device,
        file::{Attempt, DirectoryEntry, File, Positioning, Whence, list_dots},
        inode::Inode,
    },
    task::{self, Pid},
};

const fn text(make: GlobalText) -> Kind {
    Kind::Global(make)
}

/// `/proc`, without the processes.
const ROOT: &[(&str, Kind)] = &[
    ("self", Kind::OwnProcess),
    ("thread-self", Kind::OwnThread),
    ("breenix", Kind::Directory(BREENIX)),
    ("bus", Kind::Directory(BUS)),
    ("cmdline", text(global::command_line)),
    ("cpuinfo", text(global::cpu_info)),
    ("filesystems", text(global::file_systems)),
    ("interrupts", text(global::interrupts)),
    ("loadavg", text(global::load_average)),
    ("meminfo", text(global::memory_info)),
    ("mounts", Kind::Link("self/mounts")),
    ("partitions", text(block_device::list)),
    ("stat", text(global::stat)),
    ("sysrq-trigger", Kind::Command(global::sysrq)),
    ("sys", Kind::Directory(SYS)),
    ("sysvipc", Kind::Directory(SYSVIPC)),
    ("tty", Kind::Directory(TTY)),
    ("uptime", text(global::uptime)),
    ("version", text(global::version)),
    ("vmstat", text(system::memory_counters)),
];

const TTY: &[(&str, Kind)] = &[("drivers", text(system::tty_drivers))];

const BUS: &[(&str, Kind)] = &[("pci", Kind::Directory(BUS_PCI))];

const BUS_PCI: &[(&str, Kind)] = &[("devices", text(bus::pci_devices))];

const BREENIX: &[(&str, Kind)] = &[
    #[cfg(debug_assertions)]
    ("crash", Kind::Command(global::crash)),
    ("cpus", text(global::executor_cpus)),
    ("interrupt_context", text(global::interrupt_context)),
    ("memory", text(global::memory_in_use)),
    ("tasks", text(global::executor_tasks)),
    ("trace", Kind::Trace),
];

const SYSVIPC: &[(&str, Kind)] = &[
    ("msg", text(sysvipc::messages)),
    ("sem", text(sysvipc::semaphores)),
    ("shm", text(sysvipc::segments)),
];

const SYS: &[(&str, Kind)] = &[
    ("fs", Kind::Directory(SYS_FS)),
    ("kernel", Kind::Directory(SYS_KERNEL)),
    ("net", Kind::Directory(SYS_NET)),
    ("vm", Kind::Directory(SYS_VM)),
];

const SYS_FS: &[(&str, Kind)] = &[
    ("epoll", Kind::Directory(SYS_FS_EPOLL)),
    ("mqueue", Kind::Directory(SYS_FS_MQUEUE)),
    ("nr_open", text(system::descriptors_limit)),
    ("pipe-max-size", text(system::pipe_limit)),
];

const SYS_FS_MQUEUE: &[(&str, Kind)] = &[
    (
        "msg_default",
        Kind::Setting(sysvipc::msg_default, sysvipc::set_msg_default),
    ),
    ("msg_max", Kind::Setting(sysvipc::msg_max, sysvipc::set_msg_max)),
    (
        "msgsize_default",
        Kind::Setting(sysvipc::msgsize_default, sysvipc::set_msgsize_default),
    ),
    (
        "msgsize_max",
        Kind::Setting(sysvipc::msgsize_max, sysvipc::set_msgsize_max),
    ),
    (
        "queues_max",
        Kind::Setting(sysvipc::queues_max, sysvipc::set_queues_max),
    ),
];

const SYS_NET: &[(&str, Kind)] = &[("core", Kind::Directory(SYS_NET_CORE))];

const SYS_NET_CORE: &[(&str, Kind)] = &[
    ("rmem_max", text(system::socket_buffer_limit)),
    ("somaxconn", text(system::backlog_limit)),
    ("wmem_max", text(system::socket_buffer_limit)),
];

const SYS_FS_EPOLL: &[(&str, Kind)] = &[(
    "max_user_watches",
    Kind::Setting(global::max_user_watches, global::set_max_user_watches),
)];

const SYS_VM: &[(&str, Kind)] = &[
    (
        "drop_caches",
        Kind::Setting(global::dropped_caches, global::drop_caches),
    ),
    ("max_map_count", text(global::max_map_count)),
    ("overcommit_memory", text(global::overcommit_memory)),
];

const SYS_KERNEL: &[(&str, Kind)] = &[
    ("cap_last_cap", text(system::last_capability)),
    ("domainname", text(system::domain_name)),
    ("hostname", Kind::Setting(global::host_name, global::set_host_name)),
    ("msgmax", Kind::Setting(sysvipc::msgmax, sysvipc::set_msgmax)),
    ("msgmnb", Kind::Setting(sysvipc::msgmnb, sysvipc::set_msgmnb)),
    ("msgmni", Kind::Setting(sysvipc::msgmni, sysvipc::set_msgmni)),
    ("ngroups_max", text(system::groups_limit)),
    ("osrelease", text(global::os_release)),
    ("ostype", text(global::os_type)),
    ("pid_max", text(global::pid_max)),
    ("random", Kind::Directory(SYS_KERNEL_RANDOM)),
    ("sched_rr_timeslice_ms", text(global::round_robin_slice)),
    ("sched_rt_period_us", text(global::real_time_period)),
    ("sched_rt_runtime_us", text(global::real_time_runtime)),
    ("sem", Kind::Setting(sysvipc::sem, sysvipc::set_sem)),
    ("shmall", Kind::Setting(sysvipc::shmall, sysvipc::set_shmall)),
    ("shmmax", Kind::Setting(sysvipc::shmmax, sysvipc::set_shmmax)),
    ("shmmni", Kind::Setting(sysvipc::shmmni, sysvipc::set_shmmni)),
    ("version", text(global::os_version)),
];

const SYS_KERNEL_RANDOM: &[(&str, Kind)] = &[
    ("boot_id", text(global::boot_id)),
    ("entropy_avail", text(global::entropy)),
    ("uuid", text(global::uuid)),
];

/// `/proc/<pid>`.
fn of_process(pid: Pid) -> [(&'static str, Kind); 27] {
    use process::Place;
    [
        ("allocations", Kind::Allocations(pid)),
        ("auxv", Kind::Private(pid, process::auxiliary_vector)),
        ("cmdline", Kind::OfProcess(pid, process::command_line)),
        ("comm", Kind::OfProcess(pid, process::name)),
        ("cwd", Kind::Place(pid, Place::WorkingDirectory)),
        ("environ", Kind::Private(pid, process::environment)),
        ("exe", Kind::Place(pid, Place::Program)),
        ("fd", Kind::Descriptors(pid)),
        ("fdinfo", Kind::DescriptorInfos(pid)),
        ("limits", Kind::OfProcess(pid, process::limits)),
        ("maps", Kind::Walk(pid, Walk::Areas)),
        ("mem", Kind::Memory(pid)),
        ("mountinfo", Kind::OfProcess(pid, mounts::mount_info)),
        ("mounts", Kind::OfProcess(pid, mounts::mounts)),
        ("ns", Kind::Namespaces(pid)),
        ("oom_score", Kind::OfProcess(pid, oom::score)),
        (
            "oom_score_adj",
            Kind::ProcessSetting(pid, oom::adjustment, oom::set_adjustment),
        ),
        ("pagemap", Kind::PageMap(pid)),
        ("root", Kind::Place(pid, Place::Root)),
        ("smaps", Kind::Walk(pid, Walk::AreasInDetail)),
        ("smaps_rollup", Kind::Walk(pid, Walk::AreasTogether)),
        ("stat", Kind::OfProcess(pid, process::stat)),
        ("statm", Kind::OfProcess(pid, process::memory)),
        ("status", Kind::Status(pid)),
        ("task", Kind::Threads(pid)),
        (
            "timens_offsets",
            Kind::ProcessSetting(pid, namespaces::time_offsets, namespaces::set_time_offsets),
        ),
        ("wchan", Kind::OfProcess(pid, process::wait_channel)),
    ]
}

fn number(name: &[u8]) -> Option<i32> {
    let digits = core::str::from_utf8(name).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten()
}

fn among(entries: &[(&str, Kind)], name: &[u8]) -> Option<Kind> {
    entries
        .iter()
        .find(|(entry, _)| entry.as_bytes() == name)
        .map(|(_, kind)| *kind)
}

/// What `name` is in a directory of this kind.
pub(super) fn find(directory: &Kind, name: &[u8]) -> Result<Kind> {
    let found = match directory {
        Kind::Root => among(ROOT, name).or_else(|| {
            number(name)
                .filter(|pid| process::find(*pid).is_ok())
                .map(Kind::Process)
        }),
        Kind::Directory(entries) => among(entries, name),
        Kind::Process(pid) => {
            process::find(*pid)?;
            among(&of_process(*pid), name)
        }
        Kind::Namespaces(pid) => {
            process::find(*pid)?;
            among(&namespaces::of_process(*pid), name)
        }
        Kind::Numbered(number, entries) => entries(*number)
            .into_iter()
            .find(|(entry, _)| entry.as_bytes() == name)
            .map(|(_, kind)| kind),
        Kind::Descriptors(pid) | Kind::DescriptorInfos(pid) => {
            let files = process::find(*pid)?.files().ok_or(Errno::ENOENT)?;
            number(name)
                .filter(|fd| files.get(*fd).is_ok())
                .map(|fd| match directory {
                    Kind::Descriptors(_) => Kind::Descriptor(*pid, fd),
                    _ => Kind::Walk(*pid, Walk::DescriptorInfo(fd)),
                })
        }
        Kind::Threads(pid) => {
            let process = process::find(*pid)?;
            number(name)
                .filter(|tid| task::thread(*tid).is_some_and(|thread| Arc::ptr_eq(thread.process(), &process)))
                .map(Kind::Process)
        }
        _ => return Err(Errno::ENOTDIR),
    };
    found.ok_or(Errno::ENOENT)
}

/// A name in a directory.
type Name = ArrayString<32>;

/// Where the numbered entries start, behind the fixed ones.
const NUMBERED: u64 = 0x1000;

/// The fixed entry behind a position, of which the first two are the dots'.
fn fixed(entries: &[(&str, Kind)], position: u64) -> Option<(u64, Name)> {
    let place = position.saturating_sub(2);
    let (name, _) = entries.get(usize::try_from(place).ok()?)?;
    Some((place + 3, Name::from(name).ok()?))
}

/// The numbered entry behind a position: `behind` finds the first number from one on.
fn numbered(position: u64, behind: impl FnOnce(Pid) -> Option<i32>) -> Option<(u64, Name)> {
    let number = behind(Pid::try_from(position.saturating_sub(NUMBERED)).ok()?)?;
    let mut name = Name::new();
    write!(name, "{number}").ok()?;
    Some((NUMBERED + 1 + number as u64, name))
}

/// The entry behind a position, and the position behind it: ascending, so that a listing goes on where it stopped whatever
/// came or went.
fn behind(directory: &Kind, position: u64) -> Result<Option<(u64, Name)>> {
    Ok(match directory {
        Kind::Root => fixed(ROOT, position).or_else(|| {
            numbered(position, |from| {
                task::table::next(from - 1, |_| true).map(|process| process.pid())
            })
        }),
        Kind::Directory(entries) => fixed(entries, position),
        Kind::Process(pid) => {
            process::find(*pid)?;
            fixed(&of_process(*pid), position)
        }
        Kind::Namespaces(pid) => {
            process::find(*pid)?;
            fixed(&namespaces::of_process(*pid), position)
        }
        Kind::Numbered(number, entries) => {
            let place = position.saturating_sub(2);
            let named = entries(*number).into_iter().nth(place as usize);
            named.and_then(|(name, _)| Some((place + 3, Name::from(&name).ok()?)))
        }
        Kind::Descriptors(pid) | Kind::DescriptorInfos(pid) => {
            let files = process::find(*pid)?.files();
            numbered(position, |from| files?.next(from.cast_unsigned()))
        }
        Kind::Threads(pid) => {
            let process = process::find(*pid)?;
            numbered(position, |from| task::table::next_thread(from - 1, &process))
        }
        _ => return Err(Errno::ENOTDIR),
    })
}

/// An open directory.
pub(super) struct Directory {
    node: Arc<Node>,
}

impl Directory {
    pub(super) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }
}

impl File for Directory {
    fn read_directory(
        &self,
        position: &mut u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> Attempt<()>,
    ) -> Attempt<()> {
        list_dots(position, (self.node.number, self.node.number), emit)?;
        while let Some((next, name)) = behind(&self.node.kind, *position)? {
            // What has gone meanwhile is left out.
            if let Ok(inode) = self.node.lookup(name.as_bytes()) {
                let (_, number) = inode.identity();
                emit(&DirectoryEntry {
                    name: name.as_bytes(),
                    inode: number,
                    kind: inode.kind(),
                    next,
                })?;
            }
            *position = next;
        }
        Ok(())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        super::seek(position, offset, whence)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}
