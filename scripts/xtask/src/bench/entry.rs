//! When a kernel's first instruction ran, by the machine's own counter, without a change to the kernel.
//!
//! QEMU waits with its first instruction for whoever speaks gdb's remote protocol, which here is this. It lets the firmware run to the
//! kernel's entry and puts, for one step, an instruction there that reads the counter; then everything is as it was, and the guest goes
//! on. Where instructions are time, a step is a nanosecond. But as a running machine stops its clock may go on to the next timer, as if
//! it were idle: so only what comes after the stop counts, and the counter is read twice, to see that it does not move then.

use crate::arch::Arch;
use anyhow::{Context, Result, bail, ensure};
use object::elf::{FileHeader64, NoteType};
use object::read::elf::{FileHeader, ProgramHeader};
use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long QEMU may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the firmware may take.
const FIRMWARE: Duration = Duration::from_secs(300);

/// QEMU's few instructions before an arm64 kernel lie in the memory's first page.
const ARM_LOADER: std::ops::Range<u64> = 0x4000_0000..0x4000_1000;
const ARM_LOADER_STEPS: usize = 64;
/// `mrs x0, cntvct_el0` and `mrs x0, cntfrq_el0`.
const ARM_COUNTER: [u8; 4] = 0xd53b_e040_u32.to_le_bytes();
const ARM_FREQUENCY: [u8; 4] = 0xd53b_e000_u32.to_le_bytes();
const ARM_PC: u64 = 32;

/// Where QEMU puts a bzImage's real-mode part, whose code begins after the boot sector (Documentation/arch/x86/boot.rst).
const BZIMAGE_ENTRY: u64 = 0x1_0200;
/// `rdtsc`, whose time stamp is in nanoseconds where instructions are.
const X86_COUNTER: [u8; 2] = [0x0f, 0x31];
const X86_RAX: u64 = 0;
const X86_RDX: u64 = 3;
const X86_RIP: u64 = 16;

/// Nanoseconds that a step may take.
const STEP: u64 = 1_000;

/// Nanoseconds from the machine's start, with a jump of its clock, to the kernel's first instruction; the guest runs on.
///
/// # Errors
/// QEMU does not answer, or the kernel does not begin where it should.
pub fn time(socket: &Path, arch: Arch, image: &Path) -> Result<u64> {
    let mut guest = Guest::connect(socket)?;
    let time = match arch {
        Arch::Aarch64 => arm(&mut guest),
        Arch::X86_64 => entry(&fs::read(image)?).and_then(|entry| x86(&mut guest, entry)),
    };
    // Whatever came of it.
    guest.ask("D")?;
    time
}

fn arm(guest: &mut Guest) -> Result<u64> {
    let mut steps = 0;
    let mut entry = guest.register(ARM_PC)?;
    while ARM_LOADER.contains(&entry) {
        steps += 1;
        ensure!(steps < ARM_LOADER_STEPS, "QEMU's loader does not end");
        guest.step()?;
        entry = guest.register(ARM_PC)?;
    }
    let before = guest.register(0)?;
    let mut read = |instruction: &[u8]| -> Result<u64> {
        guest.step_with(entry, instruction)?;
        let value = guest.register(0)?;
        guest.set_register(ARM_PC, entry)?;
        Ok(value)
    };
    let (frequency, counts) = (read(&ARM_FREQUENCY)?, [read(&ARM_COUNTER)?, read(&ARM_COUNTER)?]);
    guest.set_register(0, before)?;
    ensure!(frequency > 0, "the counter has no frequency");
    still(counts.map(|count| (u128::from(count) * 1_000_000_000 / u128::from(frequency)) as u64))
}

fn x86(guest: &mut Guest, entry: u64) -> Result<u64> {
    guest.run_to(entry)?;
    let registers = [X86_RAX, X86_RDX, X86_RIP];
    let mut before = Vec::new();
    for register in registers {
        before.push(guest.register(register)?);
    }
    let mut times = [0; 2];
    for time in &mut times {
        guest.step_with(entry, &X86_COUNTER)?;
        *time = guest.register(X86_RDX)? << 32 | guest.register(X86_RAX)? & 0xffff_ffff;
        for (register, value) in registers.into_iter().zip(&before) {
            guest.set_register(register, *value)?;
        }
    }
    still(times)
}

/// The later of two times, a step apart.
fn still([first, second]: [u64; 2]) -> Result<u64> {
    let step = second.checked_sub(first);
    ensure!(
        step.is_some_and(|step| step < STEP),
        "the clock moves from {first} to {second} in a step"
    );
    Ok(second)
}

/// The physical address at which QEMU has an x86 kernel begin: an ELF file where its PVH note says (Xen's `public/elfnote.h`), or a
/// bzImage.
fn entry(image: &[u8]) -> Result<u64> {
    const PVH: NoteType = NoteType(18);
    let Ok(header) = FileHeader64::<object::Endianness>::parse(image) else {
        ensure!(
            image.get(0x202..0x206) == Some(b"HdrS"),
            "neither an ELF file nor a bzImage"
        );
        return Ok(BZIMAGE_ENTRY);
    };
    let endian = header.endian()?;
    for segment in header.program_headers(endian, image)? {
        let Some(mut notes) = segment.notes(endian, image)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if (note.name(), note.n_type(endian)) == (b"Xen", PVH) {
                let mut address = [0; 8];
                let length = note.desc().len().min(8);
                address[..length].copy_from_slice(&note.desc()[..length]);
                return Ok(u64::from_le_bytes(address));
            }
        }
    }
    bail!("the kernel has no PVH entry")
}

/// A stopped guest (the remote protocol: gdb's manual, appendix E).
struct Guest {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Guest {
    fn connect(socket: &Path) -> Result<Self> {
        let start = Instant::now();
        let writer = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > PATIENCE => return Err(error).context("QEMU waits for no debugger"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        writer.set_read_timeout(Some(FIRMWARE))?;
        let mut guest = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        // Only who asks for this may read single registers.
        guest.ask("qXfer:features:read:target.xml:0,1000")?;
        Ok(guest)
    }

    /// Sends a packet; the answer's content.
    fn ask(&mut self, question: &str) -> Result<String> {
        write!(self.writer, "{}", packet(question))?;
        let mut answer = Vec::new();
        let mut byte = [0];
        // Acknowledgements come before it.
        while byte != *b"$" {
            self.reader.read_exact(&mut byte).context("QEMU has ended")?;
        }
        loop {
            self.reader.read_exact(&mut byte).context("QEMU has ended")?;
            if byte == *b"#" {
                break;
            }
            answer.push(byte[0]);
        }
        self.reader.read_exact(&mut [0; 2])?;
        self.writer.write_all(b"+")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(!answer.starts_with('E'), "QEMU refuses {question}: {answer}");
        Ok(answer)
    }

    fn register(&mut self, number: u64) -> Result<u64> {
        let answer = self.ask(&format!("p{number:x}"))?;
        let bytes = bytes(&answer).with_context(|| format!("register {number} is {answer:?}"))?;
        ensure!(!bytes.is_empty() && bytes.len() <= 8, "register {number} is {answer:?}");
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn set_register(&mut self, number: u64, value: u64) -> Result<()> {
        self.ask(&format!("P{number:x}={}", digits(&value.to_le_bytes())))
            .map(drop)
    }

    fn step(&mut self) -> Result<()> {
        self.ask("s").map(drop)
    }

    /// A step of another instruction than what lies there.
    fn step_with(&mut self, address: u64, instruction: &[u8]) -> Result<()> {
        let length = instruction.len();
        let before = self.ask(&format!("m{address:x},{length:x}"))?;
        self.ask(&format!("M{address:x},{length:x}:{}", digits(instruction)))?;
        self.step()?;
        self.ask(&format!("M{address:x},{length:x}:{before}")).map(drop)
    }

    fn run_to(&mut self, address: u64) -> Result<()> {
        self.ask(&format!("Z1,{address:x},1"))?;
        self.ask("c")?;
        self.ask(&format!("z1,{address:x},1")).map(drop)
    }
}

fn packet(content: &str) -> String {
    let sum = content.bytes().fold(0u8, u8::wrapping_add);
    format!("${content}#{sum:02x}")
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_a_sum() {
        assert_eq!(packet("p10"), "$p10#d1");
        assert_eq!(bytes("0f31"), Some(vec![0x0f, 0x31]));
        assert_eq!(digits(&X86_COUNTER), "0f31");
        assert_eq!(bytes("0f3"), None);
    }

    #[test]
    fn a_kernel_begins_where_its_format_says() {
        let mut image = vec![0; 0x300];
        assert!(entry(&image).is_err());
        image[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(entry(&image).unwrap(), BZIMAGE_ENTRY);
    }
}
