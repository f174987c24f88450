//! Asking a running QEMU.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long a key is held.
const HOLD_MS: u64 = 20;

/// A connection that speaks QMP (docs/interop/qmp-spec.txt in QEMU's sources): a JSON object a line.
pub struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Connects to a guest's monitor.
    ///
    /// # Errors
    /// Nobody listens, or does not speak QMP.
    pub fn connect(path: &Path) -> Result<Self> {
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
    ///
    /// # Errors
    /// QEMU has ended, or says no.
    pub fn command(&mut self, line: &str) -> Result<String> {
        let request = json!({"execute": "human-monitor-command", "arguments": {"command-line": line}});
        Ok(self.execute(&request)?.as_str().unwrap_or_default().to_owned())
    }

    /// Guest memory at a kernel virtual address, through the first CPU's page tables.
    ///
    /// # Errors
    /// As [`Monitor::command`].
    pub fn memory(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let dump = self.command(&format!("x /{}xb {address:#x}", length))?;
        Ok(bytes(&dump))
    }

    /// Presses and releases keys of the guest's keyboard together, by QEMU's names for them.
    ///
    /// # Errors
    /// As [`Monitor::command`].
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| json!({"type": "qcode", "data": key})).collect();
        let arguments = json!({"keys": keys, "hold-time": HOLD_MS});
        self.execute(&json!({"execute": "send-key", "arguments": arguments}))?;
        // The next one comes after.
        thread::sleep(Duration::from_millis(2 * HOLD_MS));
        Ok(())
    }

    /// Presses a key, or releases it.
    ///
    /// # Errors
    /// As [`Monitor::command`].
    pub fn hold(&mut self, key: &str, down: bool) -> Result<()> {
        let key = json!({"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": key}}});
        self.execute(&json!({"execute": "input-send-event", "arguments": {"events": [key]}}))?;
        Ok(())
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
    fn dumps_are_read() {
        assert_eq!(bytes("ffff0000: 0x69 0x64\r\nffff0008: 0x6c 0x65\r\n"), b"idle");
    }
}
