//! What a hung guest was doing: asked of QEMU over its monitor, with names from the kernel's ELF file.
//!
//! The kernel keeps the name of what each CPU runs in the static `BREENIX_CPU_STATUS`: 64 entries of 64 bytes, text that
//! ends with NUL. It is read from the guest's memory, so it needs no help from a kernel that no longer answers.

use crate::machine::Boot;
use crate::monitor::Monitor;
use crate::symbols;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const STATUS: &str = "BREENIX_CPU_STATUS";
const ENTRY: usize = 64;
const ENTRIES: usize = 64;

/// A report of every CPU's task and program counter; a line that says why if QEMU does not tell.
pub fn diagnose(boot: &Boot, monitor: &Path) -> String {
    report(boot, monitor).unwrap_or_else(|error| format!("no diagnosis: {error:#}\n"))
}

fn report(boot: &Boot, monitor: &Path) -> Result<String> {
    let mut monitor = Monitor::connect(monitor)?;
    // The memory is to be read at one moment.
    monitor.command("stop")?;
    let registers = monitor.command("info registers -a")?;
    let elf = std::fs::read(&boot.elf).unwrap_or_default();
    let functions = symbols::functions(&elf).unwrap_or_default();
    let names = symbols::static_address(&elf, STATUS).map(|address| monitor.memory(address, ENTRY * ENTRIES));
    let names = match names {
        Some(Ok(bytes)) => bytes,
        Some(Err(_)) | None => Vec::new(),
    };
    Ok(describe(&registers, &functions, &names))
}

fn describe(registers: &str, functions: &BTreeMap<u64, String>, names: &[u8]) -> String {
    let mut out = String::new();
    for (cpu, (counter, link)) in program_counters(registers).into_iter().enumerate() {
        let task = names.chunks(ENTRY).nth(cpu).map_or(String::new(), text);
        let task = if task.is_empty() { "unknown" } else { &task };
        let symbol = |address| symbols::describe(functions, address).unwrap_or_else(|| "not in the kernel".to_owned());
        let _ = write!(out, "CPU {cpu}: task {task}, at {counter:#x} ({})", symbol(counter));
        if let Some(link) = link {
            let _ = write!(out, ", link {link:#x} ({})", symbol(link));
        }
        out.push('\n');
    }
    out
}

fn text(entry: &[u8]) -> String {
    let end = entry.iter().position(|byte| *byte == 0).unwrap_or(entry.len());
    String::from_utf8_lossy(&entry[..end]).into_owned()
}

/// Program counter and, where there is one, link register of each CPU.
fn program_counters(registers: &str) -> Vec<(u64, Option<u64>)> {
    let words: Vec<&str> = registers.split_whitespace().collect();
    let mut counters = Vec::new();
    let mut link = None;
    for (index, word) in words.iter().enumerate() {
        let value = |prefix: &str| {
            let digits = word.strip_prefix(prefix)?;
            // QEMU 7.2 writes `PC=ffff…` and `X30=ffff…`; a blank may stand between in others.
            let digits = if digits.is_empty() {
                words.get(index + 1)?
            } else {
                &digits
            };
            u64::from_str_radix(digits, 16).ok()
        };
        if let Some(counter) = value("PC=").or_else(|| value("RIP=")).or_else(|| value("EIP=")) {
            counters.push((counter, None));
        }
        if let Some(value) = value("X30=") {
            link = Some(value);
        }
        if let (Some(last), Some(_)) = (counters.last_mut(), link) {
            last.1 = link.take();
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_is_described() {
        let functions = BTreeMap::from([(0xffff_ffff_8000_1000, "executor::run".to_owned())]);
        let registers = "\r\nCPU#0\r\nRAX=0 RBX=0\r\nRIP=ffffffff80001004 RFL=46 [---Z-P-]\r\n\r\nCPU#1\r\nRIP=0000000000401000 RFL=2";
        let mut names = vec![0; 2 * ENTRY];
        names[..4].copy_from_slice(b"idle");
        let report = describe(registers, &functions, &names);
        assert_eq!(
            report,
            "CPU 0: task idle, at 0xffffffff80001004 (executor::run+0x4)\nCPU 1: task unknown, at 0x401000 (not in the kernel)\n"
        );
    }

    #[test]
    fn arm_registers_are_read() {
        let registers =
            "CPU#0\n PC=ffff000040001000 X00=0000000000000000\nX29=0000000000000001 X30=ffff000040002000  SP=0\n";
        assert_eq!(
            program_counters(registers),
            [(0xffff_0000_4000_1000, Some(0xffff_0000_4000_2000))]
        );
    }

    #[test]
    fn a_silent_monitor_is_reported() {
        let report = diagnose(&crate::session::tests::boot(), Path::new("/nonexistent"));
        assert!(report.starts_with("no diagnosis"), "{report}");
    }
}
