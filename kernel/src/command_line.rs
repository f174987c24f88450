//! The kernel command line.

use spin::Once;

static COMMAND_LINE: Once<&'static str> = Once::new();

/// Keeps the command line. Called once, at boot.
pub fn init(line: &'static str) {
    COMMAND_LINE.call_once(|| line);
}

/// The whole line, as `/proc/cmdline` shows it.
pub fn whole() -> &'static str {
    COMMAND_LINE.get().copied().unwrap_or("")
}

/// The words, separated by white space.
pub fn words() -> impl Iterator<Item = &'static str> {
    whole().split_ascii_whitespace()
}

/// Whether the word stands on the line.
pub fn has(word: &str) -> bool {
    words().any(|candidate| candidate == word)
}

/// The value of the last `key=value` on the line.
pub fn value(key: &str) -> Option<&'static str> {
    words()
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .last()
}
