//! The distribution's own programs, linked dynamically, as they come out of its packages: `scripts/tests/distribution` is run by bash
//! in one guest whose root file system is a tree of them.

use super::{Tally, guest};
use crate::arch::Arch;
use crate::initramfs;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::{self, Input, READY};
use crate::verdict;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Where the scripts are in the guest, without the leading slash.
const PLACE: &str = "distribution";
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the scripts and compares what each has said.
///
/// # Errors
/// A build failed, or QEMU cannot be started.
pub fn all(arch: Arch) -> Result<Tally> {
    let Some(tree) = tree(arch)? else {
        return Ok(Tally::skip(
            "no packages for this architecture (scripts/setup --distribution)",
        ));
    };
    let expected = expected()?;
    let mut boot = Boot::build(arch, Profile::Debug)?;
    boot.initramfs = initramfs::build_of_both(arch, &boot.elf, &tree, (PLACE, &scripts()))?;
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let run = format!("run=\"/usr/bin/bash /distribution/run {}\"", names.join(" "));
    let words = ["script".to_owned(), "quiet".to_owned(), run];
    let machine = Machine {
        words: words.into(),
        ..Machine::default()
    };
    let outcome = session::run(&machine, &boot, Input::None, LIMIT, |_| {})?;
    let text = outcome.text();
    let said = said(text.split_once(READY).map_or("", |(_, said)| said));
    let mut tally = Tally::default();
    let mut result = verdict::check_success(&outcome, &boot.build_id);
    for (name, expected) in &expected {
        let compared = compare(said.get(name.as_str()), expected).with_context(|| name.clone());
        tally.add(&Tally::of(compared.is_ok()));
        result = result.and(compared);
    }
    if let Err(error) = &result {
        guest::report(&format!("{}-distribution", arch.name()), &outcome, error)?;
        tally.failed = tally.failed.max(1);
    }
    Ok(tally)
}

/// The tree that `scripts/setup` makes of the packages, which are fetched if they are not there; `None` if they cannot be had.
fn tree(arch: Arch) -> Result<Option<PathBuf>> {
    let path = project::cache_dir().join("distribution").join(arch.name());
    if !path.exists() {
        let mut setup = Command::new(project::root().join("scripts/setup"));
        setup
            .arg("--distribution")
            .status()
            .context("cannot start scripts/setup")?;
    }
    Ok(path.exists().then_some(path))
}

fn scripts() -> PathBuf {
    project::root().join("scripts/tests/distribution")
}

/// What each script is to say.
fn expected() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(scripts()).context("no scripts/tests/distribution")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let expected = path.with_extension("expected");
            let text = fs::read_to_string(&expected).with_context(|| format!("no {}", expected.display()))?;
            found.insert(name, text);
        }
    }
    ensure!(!found.is_empty(), "there are no scripts");
    Ok(found)
}

/// What a script said, and its status.
type Said<'a> = (Vec<&'a str>, &'a str);

/// Takes the console's text apart: `== name`, what the script said, `-- status`.
fn said(text: &str) -> BTreeMap<&str, Said<'_>> {
    let mut found = BTreeMap::new();
    let mut current: Option<(&str, Vec<&str>)> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            current = Some((name, Vec::new()));
        } else if let Some(status) = line.strip_prefix("-- ") {
            if let Some((name, lines)) = current.take() {
                found.insert(name, (lines, status));
            }
        } else if let Some((_, lines)) = &mut current {
            lines.push(line);
        }
    }
    found
}

fn compare(said: Option<&Said<'_>>, expected: &str) -> Result<()> {
    let (lines, status) = said.context("it never came to its end")?;
    let mut lines = lines.iter();
    for (number, wanted) in expected.lines().enumerate() {
        let got = lines.next().copied().unwrap_or("(end)");
        ensure!(got == wanted, "line {}: expected `{wanted}`, got `{got}`", number + 1);
    }
    if let Some(more) = lines.next() {
        anyhow::bail!("unexpected: `{more}`");
    }
    ensure!(*status == "0", "status {status}");
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn each_script_is_judged_by_what_it_said() {
        let text = "\n== a\none\ntwo\n-- 0\n== b\n-- 3\n== c\nnever ends\n";
        let said = said(text);
        assert!(compare(said.get("a"), "one\ntwo\n").is_ok());
        let error = |name, expected| compare(said.get(name), expected).unwrap_err().to_string();
        assert!(error("a", "one\n").contains("unexpected: `two`"));
        assert!(error("a", "one\ntwo\nthree\n").contains("line 3"));
        assert!(error("b", "").contains("status 3"));
        assert!(error("c", "never ends\n").contains("never came"));
    }

    #[test]
    fn every_script_says_what_it_expects() {
        assert!(expected().unwrap().values().all(|text| !text.is_empty()));
    }
}
