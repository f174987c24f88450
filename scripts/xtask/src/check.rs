//! Rules of the source's structure that no compiler checks: invariants I10 and I11 of docs/ARCHITECTURE.md, and a report of
//! long files.
//!
//! - I10: `target_arch` and `asm!` stand in `hal/` alone. Programs of `user/` and host tools are no part of the kernel.
//! - I11: `unsafe` stands in `hal/` and in the modules that `scripts/unsafe-modules` lists, each with its reason there; a
//!   listed module without `unsafe` is reported too, so that the list stays true.

use crate::project;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines above which a file is reported.
const LONG: usize = 500;
const LIST: &str = "scripts/unsafe-modules";

/// What one check found.
pub struct Finding {
    /// The check's name.
    pub name: &'static str,
    /// What breaks it; empty if nothing does.
    pub problems: Vec<String>,
}

/// Runs the checks over the workspace.
///
/// # Errors
/// A source or the list cannot be read.
pub fn run() -> Result<Vec<Finding>> {
    let sources = sources()?;
    let list = fs::read_to_string(project::root().join(LIST)).with_context(|| format!("no {LIST}"))?;
    Ok(vec![
        Finding {
            name: "I10: architecture and assembly in hal/ alone",
            problems: architecture(&sources),
        },
        Finding {
            name: "I11: unsafe in named modules alone",
            problems: unsafe_code(&sources, &list),
        },
    ])
}

/// The files of more than 500 lines, longest first.
///
/// # Errors
/// A source cannot be read.
pub fn long_files() -> Result<Vec<String>> {
    let mut long: Vec<_> = sources()?
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .collect();
    long.retain(|(lines, _)| *lines > LONG);
    long.sort_by(|a, b| b.cmp(a));
    Ok(long
        .into_iter()
        .map(|(lines, path)| format!("{lines} {path}"))
        .collect())
}

/// Path, relative to the root, and text of every Rust source.
type Source = (String, String);

fn sources() -> Result<Vec<Source>> {
    let root = project::root();
    let mut files = Vec::new();
    for room in ["executor", "hal", "kernel", "scripts", "user"] {
        collect(&root.join(room), &mut files)?;
    }
    files.sort();
    let named = |path: PathBuf| -> Result<Source> {
        let text = fs::read_to_string(&path)?;
        Ok((path.strip_prefix(&root)?.to_string_lossy().into_owned(), text))
    };
    files.into_iter().map(named).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("no {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn architecture(sources: &[Source]) -> Vec<String> {
    let of_the_kernel = |path: &str| !["hal/", "user/", "scripts/"].iter().any(|room| path.starts_with(room));
    let mut problems = Vec::new();
    for (path, text) in sources
        .iter()
        .filter(|(path, _)| of_the_kernel(path) && !path.ends_with("build.rs"))
    {
        for (number, line) in code(text).lines().enumerate() {
            let assembly = ["asm", "global_asm", "naked_asm"]
                .iter()
                .any(|name| has_macro(line, name));
            if has_word(line, "target_arch") || assembly {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    problems
}

fn unsafe_code(sources: &[Source], list: &str) -> Vec<String> {
    let entries = list
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let mut allowed = BTreeSet::new();
    let mut problems = Vec::new();
    for entry in entries {
        match entry.split_once(char::is_whitespace) {
            Some((path, reason)) if !reason.trim().is_empty() => _ = allowed.insert(path),
            _ => problems.push(format!("{LIST}: `{entry}` has no reason")),
        }
    }
    for (path, text) in sources
        .iter()
        .filter(|(path, _)| !path.starts_with("hal/") && !path.starts_with("user/"))
    {
        let first = code(text).lines().position(|line| has_word(line, "unsafe"));
        match (first, allowed.remove(path.as_str())) {
            (Some(line), false) => problems.push(format!(
                "{path}:{}: unsafe in a module that {LIST} does not name",
                line + 1
            )),
            (None, true) => problems.push(format!("{LIST}: {path} has no unsafe left")),
            _ => {}
        }
    }
    problems.extend(allowed.into_iter().map(|path| format!("{LIST}: {path} does not exist")));
    problems
}

fn has_word(line: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| boundary(line[..at].chars().next_back()) && boundary(line[at + word.len()..].chars().next()))
}

fn has_macro(line: &str, name: &str) -> bool {
    line.match_indices('!').any(|(at, _)| {
        let before = &line[..at];
        before.ends_with(name) && !before[..at - name.len()].ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// The source with comments and the content of string literals blanked; lines stay where they are.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest, out.chars().next_back());
        if length == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// The length of the comment or string literal that `text` starts with, or 0.
fn literal_or_comment(text: &str, before: Option<char>) -> usize {
    let to = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return to("*/", 2);
    }
    if text.starts_with("'\"'") {
        return 3;
    }
    if text.starts_with("r#\"") {
        return to("\"#", 3);
    }
    if text.starts_with("r\"") && !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return to("\"", 2);
    }
    if !text.starts_with('"') {
        return 0;
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn assembly_outside_hal_is_found() {
        let sources = [
            source("hal/src/a.rs", "asm!(\"nop\")"),
            source(
                "kernel/src/a.rs",
                "// asm!(\nlet x = \"target_arch\";\nfn f() { core::arch::asm!(\"nop\") }\n",
            ),
            source("kernel/src/b.rs", "#[cfg(target_arch = \"x86_64\")]\n"),
            source("kernel/src/c.rs", "my_asm!(x); let target_architecture = 1;"),
            source("kernel/build.rs", "CARGO_CFG target_arch"),
        ];
        let problems = architecture(&sources);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("kernel/src/a.rs:3:"));
        assert!(problems[1].starts_with("kernel/src/b.rs:1:"));
    }

    #[test]
    fn unsafe_needs_an_entry_and_an_entry_needs_unsafe() {
        let sources = [
            source("executor/src/core.rs", "unsafe { x() }"),
            source(
                "kernel/src/a.rs",
                "#![expect(unsafe_code, reason = \"unsafe\")]\n/* unsafe */ let s = \"a \\\" unsafe\";",
            ),
            source("kernel/src/b.rs", "\n#[unsafe(no_mangle)]"),
            source("kernel/src/old.rs", "fn safe() {}"),
        ];
        let list = "# comment\nexecutor/src/core.rs  the task core\nkernel/src/old.rs was\nkernel/src/gone.rs was\nkernel/src/none.rs\n";
        let problems = unsafe_code(&sources, list).join("\n");
        assert_eq!(problems.lines().count(), 4, "{problems}");
        for expected in [
            "b.rs:2:",
            "old.rs has no unsafe left",
            "gone.rs does not exist",
            "none.rs` has no reason",
        ] {
            assert!(problems.contains(expected), "{problems}");
        }
    }

    #[test]
    fn literals_and_comments_are_blanked_line_by_line() {
        assert_eq!(code("a /* x\ny */ b"), "a     \n     b");
        assert_eq!(code("f('\"', \"s\") // c\n'x'"), "f(   ,    )     \n'x'");
        assert_eq!(
            code("r#\"a\"b\"# r\"\\\" c"),
            "              c".trim_start_matches("").to_owned()
        );
    }
}
