//! What programs said of their test cases: the Test Anything Protocol as kselftest writes it, nolibc-test's lines, and those of Rust's
//! libtest.

use std::collections::HashMap;

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It did not.
    Failed,
    /// It was not tried.
    Skipped,
}

/// A test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, without numbers that differ from run to run; the second of a name has ` (2)` behind it.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// A program that was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Kselftest's directory and the program's name.
    pub path: String,
    /// What it ended with, as a shell says it; none if the guest never said.
    pub status: Option<i32>,
    /// How long it took.
    pub seconds: u64,
    /// Its cases.
    pub cases: Vec<Case>,
    /// What it wrote.
    pub output: String,
}

/// The case that stands for the program's own end.
pub const END: &str = "ends well";

/// What kselftest's programs end with where they cannot be run.
const SKIP: i32 = 4;

impl Ran {
    /// The cases, and the program's end as one of them.
    pub fn with_end(&self) -> impl Iterator<Item = Case> {
        let end = Case {
            name: END.to_owned(),
            verdict: match self.status {
                Some(0) => Verdict::Passed,
                Some(SKIP) => Verdict::Skipped,
                _ => Verdict::Failed,
            },
        };
        self.cases.iter().cloned().chain([end])
    }
}

/// Takes apart the console of a guest that ran `runner.sh`, and whether that came to its end.
pub fn programs(log: &str) -> (Vec<Ran>, bool) {
    let mut all = Vec::new();
    let mut current: Option<Ran> = None;
    let mut over = false;
    for line in log.lines() {
        if let Some(path) = line.strip_prefix("CONFORM begin ") {
            all.extend(current.take().map(finished));
            current = Some(Ran {
                path: path.to_owned(),
                ..Ran::default()
            });
        } else if let Some(rest) = line.strip_prefix("CONFORM end ")
            && let Some(mut ran) = current.take()
        {
            let mut words = rest.split(' ').skip(1);
            ran.status = words.next().and_then(|word| word.parse().ok());
            ran.seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
            all.push(finished(ran));
        } else if let Some(said) = line.strip_prefix("| ")
            && let Some(ran) = &mut current
        {
            ran.output += said;
            ran.output.push('\n');
        } else if line == "CONFORM over" {
            over = true;
        }
    }
    all.extend(current.take().map(finished));
    (all, over)
}

fn finished(mut ran: Ran) -> Ran {
    ran.cases = cases(&ran.output);
    ran
}

/// The cases in what a program wrote.
pub fn cases(output: &str) -> Vec<Case> {
    let mut seen = HashMap::<String, u32>::new();
    let found = output
        .lines()
        .filter_map(|line| tap(line).or_else(|| nolibc(line)).or_else(|| libtest(line)));
    found
        .map(|(name, verdict)| {
            let name = steady(&name);
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            let name = if *count > 1 { format!("{name} ({count})") } else { name };
            Case { name, verdict }
        })
        .collect()
}

/// `ok 3 name`, `not ok 4 - name # why`, `ok 5 # SKIP why`.
fn tap(line: &str) -> Option<(String, Verdict)> {
    let line = line.trim_start_matches(['#', ' ', '\t']);
    let (rest, passed) = match line.strip_prefix("not ok ") {
        Some(rest) => (rest, false),
        None => (line.strip_prefix("ok ")?, true),
    };
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<u32>().ok()?;
    let (name, comment) = rest.split_once('#').unwrap_or((rest, ""));
    let verdict = match comment.trim_start().get(..4).map(str::to_ascii_lowercase).as_deref() {
        Some("skip") => Verdict::Skipped,
        _ if passed => Verdict::Passed,
        _ => Verdict::Failed,
    };
    // Of some only the comment says what was not tried.
    let name = name.trim().trim_start_matches("- ");
    Some((if name.is_empty() { comment.trim() } else { name }.to_owned(), verdict))
}

/// `12 name = 0   [OK]`.
fn nolibc(line: &str) -> Option<(String, Verdict)> {
    let (rest, verdict) = [
        ("[OK]", Verdict::Passed),
        ("[FAIL]", Verdict::Failed),
        ("[SKIPPED]", Verdict::Skipped),
    ]
    .into_iter()
    .find_map(|(mark, verdict)| Some((line.trim_end().strip_suffix(mark)?, verdict)))?;
    let (number, name) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    // What came out is no part of the name.
    let name = name.split([' ', '=', '<']).find(|word| !word.is_empty())?;
    Some((name.to_owned(), verdict))
}

/// `test module::name ... ok`.
fn libtest(line: &str) -> Option<(String, Verdict)> {
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // Why a test is ignored may follow.
    let verdict = match end.split([',', ' ']).next()? {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed,
        "ignored" => Verdict::Skipped,
        _ => return None,
    };
    Some((name.trim_end_matches(" - should panic").to_owned(), verdict))
}

/// A name without process identifiers, addresses and times in it: words that begin with a digit and have three letters or more, or
/// stand in brackets.
fn steady(name: &str) -> String {
    let mut out = String::new();
    for word in name.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
        let bare = word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
        if (bare.len() > 2 || out.ends_with('[')) && bare.starts_with(|letter: char| letter.is_ascii_digit()) {
            out.push('N');
            out += &word[bare.len()..];
        } else {
            out += word;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Failed, Passed, Skipped};

    fn of(output: &str) -> Vec<(String, Verdict)> {
        let cases = cases(output).into_iter();
        cases.map(|case| (case.name, case.verdict)).collect()
    }

    #[test]
    fn lines_of_the_protocol_are_cases() {
        let said = "TAP version 13\n1..4\nok 1 global.first\n# not a case\nnot ok 2 - second # why\n# ok 3 inner\nok 4 # SKIP no such call\nok then\n";
        let expected = [
            ("global.first", Passed),
            ("second", Failed),
            ("inner", Passed),
            ("SKIP no such call", Skipped),
        ];
        assert_eq!(of(said), expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }

    #[test]
    fn lines_of_nolibc_test_are_cases() {
        let said = "0 getpid = 7             [OK]\n1 chmod_net = -1 EPERM      [FAIL]\n2 chroot_root = 0 [SKIPPED]\nErrors: 1 [OK\n";
        let expected = [("getpid", Passed), ("chmod_net", Failed), ("chroot_root", Skipped)];
        assert_eq!(of(said), expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }

    #[test]
    fn lines_of_libtest_are_cases() {
        let said = "running 3 tests\ntest a::b ... ok\ntest c - should panic ... FAILED\ntest d ... ignored, not here\ntest result: ok. 1 passed\n";
        let expected = [("a::b", Passed), ("c", Failed), ("d", Skipped)];
        assert_eq!(of(said), expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }

    #[test]
    fn names_are_the_same_in_every_run() {
        let names =
            of("ok 1 [4711] waits 12345 ns at 0xffff\nok 2 [815] waits 9999 ns at 0x1234\nok 3 [42] fd 15 of x86_64\n");
        let names = names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(
            names,
            ["[N] waits N ns at N", "[N] waits N ns at N (2)", "[N] fd 15 of x86_64"]
        );
    }

    #[test]
    fn programs_are_told_apart() {
        let log = "noise\nCONFORM begin a/b\n| ok 1 x\nnoise\n| ok 2 x\n\nCONFORM end a/b 0 3\nCONFORM begin c/d\n| not ok 1 y\n";
        let (ran, over) = programs(log);
        assert!(!over && ran.len() == 2);
        assert_eq!(
            (ran[0].path.as_str(), ran[0].status, ran[0].seconds),
            ("a/b", Some(0), 3)
        );
        let names: Vec<_> = ran[0].with_end().map(|case| case.name).collect();
        assert_eq!(names, ["x", "x (2)", END]);
        assert_eq!(ran[1].status, None);
        assert!(ran[1].with_end().all(|case| case.verdict == Failed));
        assert!(programs("CONFORM over\n").1);
    }
}
