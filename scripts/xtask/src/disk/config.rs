//! `breenix/breenix.cfg`: what the loader reads first. Lines `key = value`; what follows a `#` at a line's start is for people.

use anyhow::{Result, ensure};

/// Its path on the EFI System Partition.
pub const PATH: &str = "breenix/breenix.cfg";
/// The kernel's path there.
pub const KERNEL: &str = "breenix/kernel";
/// The initramfs's path there.
pub const INITRAMFS: &str = "breenix/initramfs";

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The kernel's build id in lower-case hexadecimal: what the kernel will print.
    pub build: String,
    /// The kernel's command line.
    pub cmdline: String,
}

impl Config {
    /// The file's text.
    ///
    /// # Errors
    /// The command line does not fit on a line.
    pub fn text(&self) -> Result<String> {
        ensure!(
            !self.cmdline.contains(['\n', '\r', '\0']),
            "the kernel's command line must be one line: {:?}",
            self.cmdline
        );
        let entries = [
            ("kernel", KERNEL),
            ("initramfs", INITRAMFS),
            ("build", &self.build),
            ("cmdline", &self.cmdline),
        ];
        let lines = entries.map(|(key, value)| format!("{key} = {value}").trim_end().to_owned() + "\n");
        Ok(format!(
            "# What the loader starts. Paths are from this partition's root on.\n{}",
            lines.concat()
        ))
    }
}

/// The value of `key` in a configuration's text.
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut entries = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='));
    entries.find_map(|(name, value)| (name.trim() == key).then_some(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let config = Config {
            build: "00ff".into(),
            cmdline: r#"run="a = b" # quiet"#.into(),
        };
        let text = config.text().unwrap();
        assert_eq!(value(&text, "build"), Some("00ff"));
        assert_eq!(value(&text, "cmdline"), Some(r#"run="a = b" # quiet"#));
        assert_eq!(value(&text, "kernel"), Some("breenix/kernel"));
        assert_eq!(value(&text, "initramfs"), Some("breenix/initramfs"));
        assert_eq!(value(&text, "nothing"), None);
        assert_eq!(value("# build = 1\nbuild=2\n", "build"), Some("2"));
    }

    #[test]
    fn an_empty_command_line_is_a_value() {
        let config = Config {
            build: "1".into(),
            cmdline: String::new(),
        };
        assert!(config.text().unwrap().ends_with("cmdline =\n"));
        assert_eq!(value(&config.text().unwrap(), "cmdline"), Some(""));
    }

    #[test]
    fn a_second_line_is_refused() {
        let config = Config {
            build: "1".into(),
            cmdline: "quiet\nkernel = other".into(),
        };
        assert!(config.text().unwrap_err().to_string().contains("one line"));
    }
}
