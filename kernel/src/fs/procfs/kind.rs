//! What a file of these trees is, and what follows from that alone.

use alloc::{string::String, sync::Arc, vec::Vec};

use super::process;
use crate::{
    errno::Result,
    fs::attributes::FileKind,
    namespace,
    task::{Pid, Process, Thread},
};

/// Makes a global file's text.
pub type GlobalText = fn(&mut String) -> core::fmt::Result;
/// Makes the text of a file about something with a number.
pub type NumberedText = fn(u64, &mut String) -> core::fmt::Result;
/// Makes the bytes of a file about a process.
pub type ProcessText = fn(&Arc<Process>) -> Result<Vec<u8>>;
/// What is in a directory about something with a number. What is there stays at its place, and more comes at the end.
pub type Entries = fn(u64) -> Vec<(String, Kind)>;

/// What a node is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `/proc` itself.
    Root,
    /// A directory with fixed contents.
    Directory(&'static [(&'static str, Kind)]),
    /// A directory about something with a number.
    Numbered(u64, Entries),
    /// A text about the machine.
    Global(GlobalText),
    /// A text about something with a number.
    About(u64, NumberedText),
    /// A file to write one line to, with the text it shows.
    Setting(GlobalText, fn(&[u8]) -> Result<()>),
    /// The trace of all CPUs.
    Trace,
    /// A file to write one line to and not to be read.
    Command(fn(&[u8]) -> Result<()>),
    /// A fixed link.
    Link(&'static str),
    /// A link that depends on a number.
    LinkOf(u64, fn(u64) -> String),
    /// `self`.
    OwnProcess,
    /// `thread-self`.
    OwnThread,
    /// `/proc/<pid>`, or `/proc/<pid>/task/<tid>`.
    Process(Pid),
    /// A text about a process.
    OfProcess(Pid, ProcessText),
    /// One for those who may trace it.
    Private(Pid, ProcessText),
    /// A text about a process that is set by a line.
    ProcessSetting(Pid, ProcessText, fn(&Arc<Process>, &Thread, &[u8]) -> Result<()>),
    /// A text about a process that is made in steps.
    Walk(Pid, Walk),
    /// `status`, of a process or one of its threads.
    Status(Pid),
    /// `/proc/<pid>/fd`.
    Descriptors(Pid),
    /// A descriptor.
    Descriptor(Pid, i32),
    /// `/proc/<pid>/fdinfo`.
    DescriptorInfos(Pid),
    /// `/proc/<pid>/task`.
    Threads(Pid),
    /// What was allocated for a thread.
    Allocations(Pid),
    /// `mem`.
    Memory(Pid),
    /// `pagemap`.
    PageMap(Pid),
    /// `exe`, `cwd`, `root`.
    Place(Pid, process::Place),
    /// `/proc/<pid>/ns`.
    Namespaces(Pid),
    /// A namespace.
    Namespace(Pid, namespace::Kind, namespace::Whose),
}

/// A text that is made in steps, as it can be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// `maps`.
    Areas,
    /// `smaps`.
    AreasInDetail,
    /// `smaps_rollup`.
    AreasTogether,
    /// In `fdinfo`.
    DescriptorInfo(i32),
}

impl Kind {
    /// The process or thread that it is about.
    pub(super) const fn pid(&self) -> Option<Pid> {
        match self {
            Self::Process(pid)
            | Self::OfProcess(pid, _)
            | Self::Private(pid, _)
            | Self::ProcessSetting(pid, ..)
            | Self::Walk(pid, _)
            | Self::Status(pid)
            | Self::Descriptors(pid)
            | Self::Descriptor(pid, _)
            | Self::DescriptorInfos(pid)
            | Self::Threads(pid)
            | Self::Allocations(pid)
            | Self::Memory(pid)
            | Self::PageMap(pid)
            | Self::Place(pid, _)
            | Self::Namespaces(pid)
            | Self::Namespace(pid, ..) => Some(*pid),
            _ => None,
        }
    }

    /// The permission bits.
    pub(super) const fn permissions(&self) -> u16 {
        match self {
            Self::Root
            | Self::Directory(_)
            | Self::Numbered(..)
            | Self::Process(_)
            | Self::Threads(_)
            | Self::Namespaces(_)
            | Self::DescriptorInfos(_) => 0o555,
            Self::Descriptors(_) => 0o500,
            Self::Setting(..) | Self::ProcessSetting(..) => 0o644,
            Self::Command(_) => 0o200,
            Self::Trace | Self::Memory(_) => 0o600,
            Self::Private(..) | Self::PageMap(_) => 0o400,
            Self::Global(_)
            | Self::About(..)
            | Self::OfProcess(..)
            | Self::Walk(..)
            | Self::Status(_)
            | Self::Allocations(_) => 0o444,
            Self::Link(_)
            | Self::LinkOf(..)
            | Self::OwnProcess
            | Self::OwnThread
            | Self::Descriptor(..)
            | Self::Namespace(..)
            | Self::Place(..) => 0o777,
        }
    }

    /// The type of file.
    pub(super) const fn file_kind(&self) -> FileKind {
        match self {
            Self::Root
            | Self::Directory(_)
            | Self::Numbered(..)
            | Self::Process(_)
            | Self::Descriptors(_)
            | Self::DescriptorInfos(_)
            | Self::Namespaces(_)
            | Self::Threads(_) => FileKind::Directory,
            Self::Global(_)
            | Self::About(..)
            | Self::Setting(..)
            | Self::Trace
            | Self::Command(_)
            | Self::OfProcess(..)
            | Self::Private(..)
            | Self::ProcessSetting(..)
            | Self::Walk(..)
            | Self::Status(_)
            | Self::Allocations(_)
            | Self::PageMap(_)
            | Self::Memory(_) => FileKind::Regular,
            Self::Link(_)
            | Self::LinkOf(..)
            | Self::OwnProcess
            | Self::OwnThread
            | Self::Descriptor(..)
            | Self::Namespace(..)
            | Self::Place(..) => FileKind::Symlink,
        }
    }

    /// Whether something can be written to it.
    pub(super) const fn takes_writes(&self) -> bool {
        matches!(
            self,
            Self::Setting(..) | Self::ProcessSetting(..) | Self::Trace | Self::Command(_) | Self::Memory(_)
        )
    }

    /// Whether only those may open it who may trace the process.
    pub(super) const fn is_private(&self) -> bool {
        matches!(self, Self::Private(..) | Self::PageMap(_) | Self::Walk(..))
    }
}
