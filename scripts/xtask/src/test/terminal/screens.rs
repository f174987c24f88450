//! Programs that draw the whole screen, and its size.

use super::{Shell, Test};
use crate::console::View;
use anyhow::{Context, Result, ensure};

pub const TESTS: &[Test] = &[
    ("vi_edits_a_file", vi_edits_a_file),
    ("vi_redraws_after_a_stop", vi_redraws_after_a_stop),
    ("less_shows_pages", less_shows_pages),
    ("top_lists_once", top_lists_once),
    ("top_draws_its_screen", top_draws_its_screen),
    ("the_window_has_a_size", the_window_has_a_size),
];

/// The screen's last row.
const LAST: u16 = 23;

/// Rows that are empty in the file: vi marks them.
fn tildes(screen: &View<'_>, from: u16) -> bool {
    (from..LAST).all(|row| screen.row(row) == "~")
}

fn vi_edits_a_file(shell: &mut Shell) -> Result<()> {
    shell.output("rm -f /tmp/note")?;
    shell.keys("vi /tmp/note\n")?;
    shell.screen("an empty file", |screen| {
        screen.cursor() == (0, 0)
            && screen.row(0).is_empty()
            && tildes(screen, 1)
            && screen.row(LAST).contains("/tmp/note")
    })?;
    shell.keys("ifirst line\nsecnd line\x1b")?;
    shell.screen("two lines", |screen| {
        screen.rows_are(0, &["first line", "secnd line"]) && tildes(screen, 2) && screen.cursor() == (1, 9)
    })?;
    // To the `n` of the second line; an `o` before it; a line above, and then the first line away. What follows Esc at once
    // would be the rest of a function key to vi, as it would from any terminal.
    shell.keys("03lio\x1b")?;
    shell.screen("the word mended", |screen| {
        screen.rows_are(0, &["first line", "second line"]) && screen.cursor() == (1, 3)
    })?;
    shell.keys("Omiddle\x1b")?;
    shell.screen("three lines", |screen| {
        screen.rows_are(0, &["first line", "middle", "second line"]) && tildes(screen, 3) && screen.cursor() == (1, 5)
    })?;
    shell.keys("1Gdd")?;
    shell.screen("the first line gone", |screen| {
        screen.rows_are(0, &["middle", "second line", "~"]) && screen.cursor() == (0, 0)
    })?;
    shell.keys(":wq\n")?;
    shell.prompt()?;
    ensure!(shell.output("cat /tmp/note")? == "middle\nsecond line\n");
    Ok(())
}

fn vi_redraws_after_a_stop(shell: &mut Shell) -> Result<()> {
    shell.output("seq 1 5 > /tmp/five")?;
    let drawn = |screen: &View<'_>| {
        screen.rows_are(0, &["1", "2", "3", "4", "5"]) && tildes(screen, 5) && screen.row(LAST).contains("/tmp/five")
    };
    shell.keys("vi /tmp/five\n")?;
    shell.screen("the file", drawn)?;
    shell.keys("\x1a")?;
    shell.console.expect("Stopped")?;
    shell.prompt()?;
    // The shell has its line mode back, and room on the screen.
    ensure!(shell.output("clear; stty | grep -c -- -icanon; true")?.ends_with("0\n"));
    shell.keys("fg\n")?;
    shell.screen("the file again", drawn)?;
    shell.keys("Gosix\x1b")?;
    shell.screen("a sixth line", |screen| {
        screen.row(5) == "six" && tildes(screen, 6) && screen.cursor() == (5, 2)
    })?;
    shell.keys(":wq\n")?;
    shell.prompt()?;
    ensure!(shell.output("tail -n 2 /tmp/five")? == "5\nsix\n");
    Ok(())
}

fn less_shows_pages(shell: &mut Shell) -> Result<()> {
    let page = |first: u32| {
        move |screen: &View<'_>| (0..LAST).all(|row| screen.row(row) == (first + u32::from(row)).to_string())
    };
    shell.output("seq 1 100 > /tmp/hundred")?;
    shell.keys("less /tmp/hundred\n")?;
    shell.screen("the first page", |screen| {
        page(1)(screen) && !screen.row(LAST).is_empty()
    })?;
    shell.keys(" ")?;
    shell.screen("the second page", page(24))?;
    shell.keys("b")?;
    shell.screen("the first page again", page(1))?;
    // With one line behind the last and the mark of no more, as this less shows it on Linux.
    shell.keys("G")?;
    shell.screen("the end", |screen| {
        let lines: Vec<String> = (80..=100).map(|line| line.to_string()).collect();
        (0..).zip(&lines).all(|(row, line)| screen.row(row) == *line)
            && screen.rows_are(21, &["", "~"])
            && screen.row(LAST) == "(END)"
    })?;
    shell.keys("q")?;
    shell.prompt()
}

fn top_lists_once(shell: &mut Shell) -> Result<()> {
    let text = shell.output("yes > /dev/null & p=$!; top -b -n 1; kill $p; wait $p; true")?;
    for wanted in [
        "Mem: ",
        "CPU: ",
        "Load average: ",
        "PID",
        "/init",
        "-sh",
        "top -b -n 1",
        "yes",
    ] {
        ensure!(text.contains(wanted), "no `{wanted}`:\n{text}");
    }
    Ok(())
}

fn top_draws_its_screen(shell: &mut Shell) -> Result<()> {
    shell.keys("clear; top -d 1\n")?;
    let head = |screen: &View<'_>| {
        screen.row(0).starts_with("Mem: ")
            && screen.row(1).starts_with("CPU: ")
            && screen.row(2).starts_with("Load average: ")
            && screen.row(3).contains("PID")
            && screen.row(3).contains("COMMAND")
    };
    shell.screen("the head and a process", |screen| {
        head(screen) && screen.contains("top -d 1")
    })?;
    // It draws again by itself; one key ends it.
    shell.console.expect("Load average: ").context("the second round")?;
    shell.console.expect("Load average: ").context("the third round")?;
    shell.keys("q")?;
    shell.prompt()
}

fn the_window_has_a_size(shell: &mut Shell) -> Result<()> {
    ensure!(shell.output("stty size")? == "24 80\n");
    let lines =
        shell.output("sh -c 'trap \"echo now; stty size\" WINCH; stty cols 132; stty rows 43; stty cols 132; true'")?;
    ensure!(lines == "now\n24 132\nnow\n43 132\n", "{lines}");
    // Only the group in front is told.
    let lines = shell.output("sh -c 'trap \"echo told\" WINCH; echo $$ > /tmp/pid; until test -e /tmp/sized; do sleep 0.05; done; echo untold' & until test -s /tmp/pid; do :; done; stty cols 80 rows 24; touch /tmp/sized; wait")?;
    ensure!(lines.contains("untold\n") && !lines.contains("\ntold\n"), "{lines}");
    ensure!(shell.output("stty size")? == "24 80\n");
    Ok(())
}
