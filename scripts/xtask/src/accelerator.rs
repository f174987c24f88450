//! What runs the guest's instructions: emulation, or the host's hypervisor once a guest has really run under it.
//!
//! `/dev/kvm` may be there and even make a machine whose guest never gets anywhere, so it counts for nothing by itself: our
//! kernel is booted under it, and has a few seconds to reach `/init` and power off. The answer is kept in the cache.

use crate::arch::{Arch, GuestExit};
use crate::machine::{Boot, Machine, Messages};
use crate::project;
use crate::session::{self, Input};
use crate::verdict;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(8);

/// The accelerators this tool knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulation, one host thread a CPU.
    Tcg,
    /// Linux's.
    Kvm,
    /// macOS's.
    Hvf,
}

impl Accelerator {
    /// QEMU's `-accel` argument.
    pub fn qemu_argument(self) -> &'static str {
        match self {
            Self::Tcg => "tcg,thread=multi",
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
        }
    }

    /// The host's hypervisor if a guest runs under it, else emulation.
    pub fn choose(boot: &Boot) -> Self {
        let Some(candidate) = Self::candidate(boot.arch) else {
            return Self::Tcg;
        };
        let note = project::cache_dir().join(format!("accelerator-{}", boot.arch.name()));
        // A restarted host may be another one.
        let machine = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let key = |answer: &str| format!("{} {answer}\n", machine.trim());
        match std::fs::read_to_string(&note) {
            Ok(text) if text == key("runs") => return candidate,
            Ok(text) if text == key("fails") => return Self::Tcg,
            _ => {}
        }
        let runs = candidate.runs(boot);
        // Without the note the next run asks again.
        let _ = std::fs::write(note, key(if runs { "runs" } else { "fails" }));
        if runs { candidate } else { Self::Tcg }
    }

    fn candidate(arch: Arch) -> Option<Self> {
        if arch.name() != std::env::consts::ARCH {
            return None;
        }
        if cfg!(target_os = "macos") {
            return Some(Self::Hvf);
        }
        let kvm = Path::new("/dev/kvm");
        let open = std::fs::OpenOptions::new().read(true).write(true).open(kvm);
        open.is_ok().then_some(Self::Kvm)
    }

    fn runs(self, boot: &Boot) -> bool {
        let machine = Machine {
            accelerator: self,
            words: vec!["script".into()],
            messages: Messages::Hidden,
            ..Machine::default()
        };
        let outcome = session::run(&machine, boot, Input::Bytes(b"exit 0\n".to_vec()), LIMIT, |_| {});
        outcome.is_ok_and(|outcome| {
            outcome.exit == Some(GuestExit::Status(0)) && verdict::check_build(&outcome.text(), &boot.build_id).is_ok()
        })
    }
}
