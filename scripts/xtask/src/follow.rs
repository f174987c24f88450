//! Progress of a guest that says what it has come to: `<WORD> <what> <how many>`, then of each `<WORD> begin <name>` and
//! `<WORD> end <name> …`.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar, and what to feed with the console's bytes. Where nobody looks at the bar, every `step`th end goes into the output, which so
/// shows that it goes on.
pub fn bar(
    prefix: &str,
    word: &'static str,
    what: &'static str,
    step: u64,
) -> (ProgressBar, impl FnMut(&[u8]) + Send + use<>) {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(prefix.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    let listener = listen(bar.clone(), prefix.to_owned(), word, what, step);
    (bar, listener)
}

fn listen(
    bar: ProgressBar,
    prefix: String,
    word: &'static str,
    what: &'static str,
    step: u64,
) -> impl FnMut(&[u8]) + Send {
    let mut line = Vec::new();
    move |bytes| {
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            if let Some((first, rest)) = text
                .trim()
                .strip_prefix(word)
                .and_then(|rest| rest.trim_start().split_once(' '))
            {
                heard(&bar, &prefix, (what, step), first, rest);
            }
            line.clear();
        }
    }
}

fn heard(bar: &ProgressBar, prefix: &str, (what, step): (&str, u64), first: &str, rest: &str) {
    if first == what {
        bar.set_length(rest.parse().unwrap_or_default());
    } else if first == "begin" {
        bar.set_message(rest.to_owned());
    } else if first == "end" {
        bar.inc(1);
        if bar.is_hidden() && bar.position().is_multiple_of(step) {
            let (at, all) = (bar.position(), bar.length().unwrap_or_default());
            println!("{prefix}: {at} of {all}, {} s", bar.elapsed().as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_what_has_ended() {
        let bar = ProgressBar::hidden();
        let mut listen = listen(bar.clone(), "ours".to_owned(), "CONFORM", "programs", 20);
        listen(b"x\r\nCONFORM programs 7\r\nCONFORM begin a/b\r\n| ok\r\nCONFORM end a/b 0");
        assert_eq!(
            (bar.position(), bar.length(), bar.message()),
            (0, Some(7), "a/b".to_owned())
        );
        listen(b" 1\r\n");
        assert_eq!(bar.position(), 1);
    }
}
