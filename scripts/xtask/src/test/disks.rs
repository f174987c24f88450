//! Disks at every controller: what is on them, and disks that fail or say nothing.

use super::Tally;
use super::guest::{compare, report};
use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::{self, Input};
use crate::verdict;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(240);
/// Bytes of each disk.
const BYTES: usize = 8 << 20;
/// The sector that cannot be read where one cannot.
const BAD: usize = 4096;

/// A disk that does not answer, and one that does after three seconds.
const SILENCE: &str = "driver=throttle,throttle-group=slow,file.driver=null-co,file.size=8388608,file.read-zeroes=on";
const LATE: &str = "driver=null-co,size=8388608,read-zeroes=on,latency-ns=3000000000";

/// The disks' names, with what each is connected to: QEMU's devices, of a backend of that name.
const DISKS: [(&str, &[&str]); 3] = [
    ("nvme0n1", &["nvme,serial=test,drive="]),
    ("sda", &["ahci,id=ahci", "ide-hd,bus=ahci.0,drive="]),
    // Reads that the emulator has made one would fail as one.
    ("vda", &["virtio-blk-pci,request-merging=off,drive="]),
];

/// Reads and writes, with several requests at once, past the cache and through it.
const GOOD: &str = "
for d in nvme0n1 sda vda; do
    sha256sum /dev/$d | cut -c1-64
    dd if=/dev/$d bs=64k iflag=direct 2>/dev/null | sha256sum | cut -c1-64
    for i in 0 1 2 3 4 5 6 7; do dd if=/dev/$d of=/tmp/$i bs=256k skip=$((4*i)) count=4 iflag=direct 2>/dev/null & done
    wait
    cat /tmp/[0-7] | sha256sum | cut -c1-64
    dd if=/bin/busybox of=/tmp/new bs=64k count=4 2>/dev/null
    dd if=/tmp/new of=/dev/$d bs=64k seek=3 oflag=direct conv=notrunc 2>/dev/null && echo written
    dd if=/dev/$d bs=64k skip=3 count=4 2>/dev/null | cmp - /tmp/new && echo same
done
";

/// Reads around a sector that cannot be read, and of it.
const BROKEN: &str = "
for d in nvme0n1 sda vda; do
    dd if=/dev/$d bs=4096 skip=511 count=1 2>/dev/null | wc -c
    dd if=/dev/$d bs=4096 skip=512 count=1 2>&1 | grep -o 'Input/output error'
    dd if=/dev/$d bs=4096 skip=513 count=1 2>/dev/null | wc -c
    dd if=/dev/$d bs=4096 skip=512 count=1 iflag=direct 2>&1 | grep -o 'Input/output error'
    for i in 0 1 2 3 4 5 6 7; do dd if=/dev/$d of=/tmp/$i bs=4096 skip=$((508+i)) count=1 iflag=direct 2>/dev/null & done
    wait
    cat /tmp/[0-7] | wc -c
    rm /tmp/[0-7]
done
";

/// Reads of which none is answered, but the first few.
const SILENT: &str = "
for d in nvme0n1 sda vda; do
    dd if=/dev/$d of=/dev/null bs=64k count=2 iflag=direct 2>/dev/null
    for i in 0 1 2 3; do (dd if=/dev/$d bs=4096 skip=$((800+i)) count=1 iflag=direct 2>&1 | grep -o 'Input/output error') & done
    wait
done
echo alive
";

/// Runs the suite on one architecture.
///
/// # Errors
/// A build failed, or the images cannot be written.
pub fn all(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    let image = image(arch)?;
    let sum = Sha256::digest(fs::read(&image)?);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut tally = Tally::default();
    let each = |lines: &str| lines.repeat(DISKS.len());
    let file = format!(
        "file.driver=file,file.filename={}",
        image.display().to_string().replace(',', ",,")
    );
    for (name, gic, backend, script, expected, words) in [
        (
            "good",
            2,
            format!("snapshot=on,driver=raw,{file}"),
            GOOD,
            each(&format!("{sum}\n{sum}\n{sum}\nwritten\nsame\n")),
            "",
        ),
        (
            "broken",
            3,
            format!(
                "snapshot=on,driver=raw,file.driver=blkdebug,file.inject-error.0.event=read_aio,file.inject-error.0.sector={BAD},file.image.driver=file,\
                 file.image.filename={}",
                image.display()
            ),
            BROKEN,
            each("4096\nInput/output error\n4096\nInput/output error\n28672\n"),
            "",
        ),
        (
            "silent",
            2,
            SILENCE.to_owned(),
            SILENT,
            each("Input/output error\nInput/output error\nInput/output error\nInput/output error\n") + "alive\n",
            "disk_timeout=1",
        ),
    ] {
        println!("{}: {name} disks", arch.name());
        let machine = machine(gic, &backend, words);
        tally.add(&one(&boot, &machine, name, script, &expected)?);
    }
    Ok(tally)
}

fn one(boot: &Boot, machine: &Machine, name: &str, script: &str, expected: &str) -> Result<Tally> {
    let mut outcome = session::run(machine, boot, Input::Bytes(script.into()), LIMIT, |_| {})?;
    let whole = outcome.log.clone();
    let result = verdict::check_success(&outcome, &boot.build_id).and_then(|()| {
        // The kernel says when it resets a disk.
        let lines = whole.split_inclusive(|byte| *byte == b'\n');
        outcome.log = lines
            .filter(|line| !line.starts_with(b"["))
            .flatten()
            .copied()
            .collect();
        compare(&outcome, expected)
    });
    outcome.log = whole;
    if let Err(error) = &result {
        report(&format!("{}-disks-{name}", boot.arch.name()), &outcome, error)?;
    }
    Ok(Tally::of(result.is_ok()))
}

/// A machine with a disk of each kind, whose writes are lost with it.
fn machine(gic: u32, backend: &str, words: &str) -> Machine {
    let mut devices: Vec<String> = Vec::new();
    for (name, connected) in DISKS {
        // A byte a second, once a few have been read: by firmware, by the emulator, by whoever looks for partitions. What comes
        // then waits for hours.
        let slow = format!("throttle-group,id=slow-{name},x-bps-read=1,x-bps-read-max=65536");
        devices.extend(["-object".to_owned(), slow]);
        let backend = match name {
            // Its reset waits for what is under way, in the emulator, with the whole machine: that has to have an end.
            "sda" if backend == SILENCE => LATE.to_owned(),
            _ => backend.replace("throttle-group=slow", &format!("throttle-group=slow-{name}")),
        };
        devices.push("-drive".to_owned());
        devices.push(format!("if=none,id={name},{backend}"));
        for device in connected {
            let drive = if device.ends_with('=') { name } else { "" };
            devices.extend(["-device".to_owned(), format!("{device}{drive}")]);
        }
    }
    Machine {
        gic,
        devices,
        words: ["script", "quiet", words].map(str::to_owned).into(),
        ..Machine::default()
    }
}

/// A disk's contents: bytes that differ from place to place.
fn image(arch: Arch) -> Result<PathBuf> {
    let path: &Path = &project::target_dir()
        .join("test")
        .join(format!("{}-disks.img", arch.name()));
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(BYTES);
    while bytes.len() < BYTES {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        bytes.extend((state >> 32).to_le_bytes());
    }
    fs::create_dir_all(project::target_dir().join("test"))?;
    fs::write(path, bytes)?;
    Ok(path.to_owned())
}
