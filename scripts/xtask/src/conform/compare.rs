//! Two runs beside each other. What passes on Linux has to pass on ours; what does not is of no account.

use super::read::{Ran, Verdict};
use crate::arch::Arch;
use crate::project;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, HashMap};
use std::fs;

/// The list of what is known to fail, with reasons.
const KNOWN: &str = "scripts/conform.known";

/// A case that passes on Linux, and what becomes of it on ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The program.
    pub path: String,
    /// The case.
    pub case: String,
    /// Of ours; none if it never came to it.
    pub ours: Option<Verdict>,
    /// Why it is known to fail, if it is.
    pub known: Option<String>,
}

impl Row {
    /// Whether it passes on ours too.
    pub fn passes(&self) -> bool {
        self.ours == Some(Verdict::Passed)
    }
}

/// The cases that pass on Linux, in its order.
pub fn rows(linux: &[Ran], ours: &[Ran], known: &[Known], arch: Arch) -> Vec<Row> {
    let mut found = HashMap::new();
    for ran in ours {
        for case in ran.with_end() {
            found.insert((ran.path.clone(), case.name), case.verdict);
        }
    }
    let mut rows = Vec::new();
    for ran in linux {
        for case in ran.with_end().filter(|case| case.verdict == Verdict::Passed) {
            let key = (ran.path.clone(), case.name);
            let ours = found.get(&key).copied();
            let (path, case) = key;
            let known = known.iter().find(|known| known.covers(arch, &path, &case));
            rows.push(Row {
                known: known.map(|known| known.reason.clone()),
                path,
                case,
                ours,
            });
        }
    }
    rows
}

/// A line of the list: `[aarch64: | x86_64: ]<program> | <part of a case's name, or *> | <reason>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    arch: Option<String>,
    path: String,
    case: String,
    reason: String,
}

impl Known {
    fn covers(&self, arch: Arch, path: &str, case: &str) -> bool {
        self.arch.as_deref().is_none_or(|name| name == arch.name())
            && self.path == path
            && (self.case == "*" || case.contains(&self.case))
    }
}

/// Reads the list.
///
/// # Errors
/// It is not there, or a line is none.
pub fn known() -> Result<Vec<Known>> {
    let text = fs::read_to_string(project::root().join(KNOWN)).with_context(|| format!("no {KNOWN}"))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(line).collect()
}

fn line(line: &str) -> Result<Known> {
    let parts: Vec<&str> = line.splitn(3, '|').map(str::trim).collect();
    let &[program, case, reason] = parts.as_slice() else {
        anyhow::bail!("{KNOWN}: no program, case and reason: {line}");
    };
    ensure!(
        !case.is_empty() && !reason.is_empty(),
        "{KNOWN}: something is empty: {line}"
    );
    let (arch, path) = match program.split_once(": ") {
        Some((arch, path)) => (Some(arch.to_owned()), path),
        None => (None, program),
    };
    Ok(Known {
        arch,
        path: path.to_owned(),
        case: case.to_owned(),
        reason: reason.to_owned(),
    })
}

/// The entries of the list, by program and reason, of which all that they cover passes.
pub fn needless(rows: &[Row]) -> Vec<(&str, &str)> {
    let mut entries = BTreeMap::<(&str, &str), bool>::new();
    for row in rows {
        if let Some(reason) = &row.known {
            *entries.entry((&row.path, reason)).or_insert(true) &= row.passes();
        }
    }
    let passing = entries.into_iter().filter(|(_, passes)| *passes);
    passing.map(|(entry, _)| entry).collect()
}

/// Each program with its cases on both, of those that any pass on Linux.
pub fn table(rows: &[Row]) -> String {
    let mut programs = BTreeMap::<&str, (usize, usize)>::new();
    for row in rows {
        let (ours, linux) = programs.entry(&row.path).or_default();
        *linux += 1;
        *ours += usize::from(row.passes());
    }
    let width = programs.keys().map(|path| path.len()).max().unwrap_or_default();
    let mut table = format!("{:<width$}  ours  Linux\n", "program");
    for (path, (ours, linux)) in programs {
        let mark = if ours < linux { "  <" } else { "" };
        table += &format!("{path:<width$} {ours:>5} {linux:>6}{mark}\n");
    }
    table
}

/// One line for each case, for the file that is kept.
pub fn cases(rows: &[Row]) -> String {
    let said = |row: &Row| match row.ours {
        Some(Verdict::Passed) => "ok",
        Some(Verdict::Failed) => "FAILED",
        Some(Verdict::Skipped) => "skipped",
        None => "missing",
    };
    rows.iter()
        .map(|row| {
            let known = row
                .known
                .as_ref()
                .map(|why| format!("  (known: {why})"))
                .unwrap_or_default();
            format!("{:<8} {} | {}{known}\n", said(row), row.path, row.case)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::read::{self, END};

    fn run(log: &str) -> Vec<Ran> {
        read::programs(log).0
    }

    #[test]
    fn what_passes_on_linux_is_asked_of_ours() {
        let linux = run("CONFORM begin a/b\n| ok 1 x\n| ok 2 y\n| not ok 3 z\n| ok 4 other\nCONFORM end a/b 0 1\n");
        let ours = run("CONFORM begin a/b\n| ok 1 x\n| not ok 2 y\n| ok 3 z\nCONFORM end a/b 1 1\n");
        let known = vec![
            line("x86_64: a/b | other | why").unwrap(),
            line("aarch64: a/b | * | no").unwrap(),
        ];
        let rows = rows(&linux, &ours, &known, Arch::X86_64);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.case.as_str(), row.ours, row.known.is_some()))
            .collect();
        let expected = [
            ("x", Some(Verdict::Passed), false),
            ("y", Some(Verdict::Failed), false),
            ("other", None, true),
            (END, Some(Verdict::Failed), false),
        ];
        assert_eq!(seen, expected);
        assert!(needless(&rows).is_empty());
        let passes = vec![line("a/b | x | fine").unwrap(), line("a/b | other | why").unwrap()];
        let rows = super::rows(&linux, &ours, &passes, Arch::X86_64);
        assert_eq!(needless(&rows), [("a/b", "fine")]);
        assert!(table(&rows).contains("a/b     1      4  <"));
        assert!(cases(&rows).contains("missing  a/b | other  (known: why)"));
    }

    #[test]
    fn the_list_can_be_read_and_names_reasons() {
        known().unwrap();
        assert!(line("a/b | x").is_err() && line("a/b | x | ").is_err());
    }
}
