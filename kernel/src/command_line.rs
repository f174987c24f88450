//! The kernel command line: words between white space, as Linux reads them (`next_arg` in `lib/cmdline.c`). Within double
//! quotes white space belongs to the word; quotes around a word or around the value behind its `=` are left out.

use spin::Once;

static COMMAND_LINE: Once<&'static str> = Once::new();

/// One word: `name` or `name=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// What stands before the first `=`, or the whole word.
    pub name: &'a str,
    /// What stands behind it.
    pub value: Option<&'a str>,
}

/// Keeps the command line. Called once, at boot.
pub fn init(line: &'static str) {
    COMMAND_LINE.call_once(|| line);
}

/// The whole line, as `/proc/cmdline` shows it.
pub fn whole() -> &'static str {
    COMMAND_LINE.get().copied().unwrap_or("")
}

/// The words of the machine's command line.
pub fn words() -> impl Iterator<Item = Word<'static>> {
    parse(whole())
}

/// Whether the word stands on the line, without a value.
pub fn has(name: &str) -> bool {
    words().any(|word| word == Word { name, value: None })
}

/// The value of the last `name=value` on the line.
pub fn value(name: &str) -> Option<&'static str> {
    words()
        .filter(|word| word.name == name)
        .filter_map(|word| word.value)
        .last()
}

/// The words of `line`.
pub fn parse(line: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = line.trim_ascii_start();
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.trim_ascii_start();
        let whole = unquote(word);
        Some(match whole.split_once('=') {
            // Linux takes a `=` at the very start for part of the name.
            Some((name, value)) if !name.is_empty() => Word {
                name,
                value: Some(unquote(value)),
            },
            _ => Word {
                name: whole,
                value: None,
            },
        })
    })
}

/// Without the quote in front, and the one behind that belongs to it. A quote that nothing closes is left out as well.
fn unquote(text: &str) -> &str {
    match text.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<(&str, Option<&str>)> {
        parse(line).map(|word| (word.name, word.value)).collect()
    }

    #[test]
    fn words_stand_between_white_space() {
        assert_eq!(
            read(" quiet  exit=psci\tinit=/a=b "),
            [("quiet", None), ("exit", Some("psci")), ("init", Some("/a=b"))]
        );
        assert_eq!(read(""), []);
        assert_eq!(read("  "), []);
    }

    #[test]
    fn white_space_in_quotes_belongs_to_the_word() {
        let run = ("run", Some("/bin/tests run x"));
        assert_eq!(read(r#"run="/bin/tests run x" quiet"#), [run, ("quiet", None)]);
        assert_eq!(read(r#"quiet "run=/bin/tests run x""#), [("quiet", None), run]);
        assert_eq!(
            read(r#""two words" a="" b="#),
            [("two words", None), ("a", Some("")), ("b", Some(""))]
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_takes_the_rest() {
        assert_eq!(read(r#"a="b c"#), [("a", Some("b c"))]);
        assert_eq!(read("\" x"), [(" x", None)]);
        assert_eq!(read("\""), [("", None)]);
        assert_eq!(read("=x"), [("=x", None)]);
    }

    /// As in Linux, a quote in the middle keeps a word together and stays.
    #[test]
    fn quotes_in_the_middle_stay() {
        assert_eq!(read(r#"a=b"c d"e"#), [("a", Some(r#"b"c d"e"#))]);
    }
}
