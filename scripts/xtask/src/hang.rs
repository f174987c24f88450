//! What a hung guest was doing: asked of QEMU over its monitor, with names from the kernel's ELF file.
//!
//! The kernel keeps the name of what each CPU runs in the static `BREENIX_CPU_STATUS`: 64 entries of 64 bytes, text that
//! ends with NUL. It is read from the guest's memory, so it needs no help from a kernel that no longer answers.

use crate::machine::Boot;
use crate::symbols;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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

/// A connection that speaks QMP (docs/interop/qmp-spec.txt in QEMU's sources): a JSON object a line.
struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    fn connect(path: &Path) -> Result<Self> {
        let writer = UnixStream::connect(path).context("QEMU's monitor does not answer")?;
        writer.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut monitor = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        monitor.execute(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Runs a command of the human monitor and returns what it prints.
    fn command(&mut self, line: &str) -> Result<String> {
        let request = json!({"execute": "human-monitor-command", "arguments": {"command-line": line}});
        Ok(self.execute(&request)?.as_str().unwrap_or_default().to_owned())
    }

    /// Guest memory at a kernel virtual address, through the first CPU's page tables.
    fn memory(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let dump = self.command(&format!("x /{}xb {address:#x}", length))?;
        Ok(bytes(&dump))
    }

    fn execute(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.writer, "{request}")?;
        loop {
            let mut line = String::new();
            anyhow::ensure!(self.reader.read_line(&mut line)? > 0, "QEMU closed its monitor");
            let mut reply: Value = serde_json::from_str(&line)?;
            if let Some(result) = reply.get_mut("return") {
                return Ok(result.take());
            }
            // Greeting and events come in between.
            anyhow::ensure!(reply.get("error").is_none(), "QEMU refuses: {line}");
        }
    }
}

/// The bytes of an `x /…xb` dump: lines of `address: 0x12 0x34 …`.
fn bytes(dump: &str) -> Vec<u8> {
    let values = dump
        .lines()
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(_, values)| values.split_whitespace());
    values
        .filter_map(|value| u8::from_str_radix(value.strip_prefix("0x")?, 16).ok())
        .collect()
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
    fn dumps_are_read() {
        assert_eq!(bytes("ffff0000: 0x69 0x64\r\nffff0008: 0x6c 0x65\r\n"), b"idle");
    }

    #[test]
    fn a_silent_monitor_is_reported() {
        let report = diagnose(&crate::session::tests::boot(), Path::new("/nonexistent"));
        assert!(report.starts_with("no diagnosis"), "{report}");
    }
}
