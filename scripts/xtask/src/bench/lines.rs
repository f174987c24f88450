//! What `user/bench` says: a line for each figure of each round, and a last one.

use super::report::{Cell, Row};
use anyhow::{Context, Result, ensure};

/// Each line begins so, somewhere.
pub const MARK: &str = "BENCH ";
/// The last of them.
const END: &str = "BENCH end";

/// Adds what one guest said to the rows, whose cells are `peers`'; whether it came to the end.
///
/// # Errors
/// A line that makes no sense, or that has another unit than those of its row before.
pub fn add(rows: &mut Vec<Row>, peers: &[&str], peer: &str, text: &str) -> Result<bool> {
    for line in text.lines() {
        let Some((name, figures)) = split(line) else {
            continue;
        };
        if let Some(why) = figures.strip_prefix("failed ") {
            cell(row(rows, peers, name), peer).failed = Some(why.to_owned());
            continue;
        }
        let (value, unit) = figure(figures).with_context(|| format!("what is {line:?}?"))?;
        let row = row(rows, peers, name);
        if row.unit.is_empty() {
            unit.clone_into(&mut row.unit);
        }
        ensure!(row.unit == unit, "{name} is in {unit} and in {}", row.unit);
        cell(row, peer).samples.push(value);
    }
    Ok(text.lines().any(|line| line.trim_end().ends_with(END)))
}

/// The name of the row that a line is about, and what it says of it.
pub fn split(line: &str) -> Option<(&str, &str)> {
    line.split_once(MARK)?.1.trim_end().split_once(' ')
}

/// So much for one, and of what, of `<how many> <how much> <of what>`.
fn figure(figures: &str) -> Option<(f64, &str)> {
    let mut words = figures.split(' ');
    let operations: f64 = words.next()?.parse().ok().filter(|count| *count > 0.0)?;
    let amount: f64 = words.next()?.parse().ok()?;
    let unit = words.next().filter(|unit| !unit.is_empty())?;
    words.next().is_none().then_some((amount / operations, unit))
}

/// The row of that name, made if it is not there.
fn row<'a>(rows: &'a mut Vec<Row>, peers: &[&str], name: &str) -> &'a mut Row {
    let index = rows.iter().position(|row| row.id == name).unwrap_or_else(|| {
        let cell = |peer: &&str| Cell {
            peer: (*peer).to_owned(),
            ..Cell::default()
        };
        rows.push(Row {
            id: name.to_owned(),
            name: name.to_owned(),
            unit: String::new(),
            wall: false,
            bar: None,
            cells: peers.iter().map(cell).collect(),
        });
        rows.len() - 1
    });
    &mut rows[index]
}

fn cell<'a>(row: &'a mut Row, peer: &str) -> &'a mut Cell {
    let index = row.cells.iter().position(|cell| cell.peer == peer).unwrap_or(0);
    &mut row.cells[index]
}

/// Says of every cell of which nothing was heard that its guest did not come so far.
pub fn complete(rows: &mut [Row]) {
    for cell in rows.iter_mut().flat_map(|row| &mut row.cells) {
        if cell.samples.is_empty() && cell.failed.is_none() {
            cell.failed = Some("the guest did not come so far".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::OURS;
    use super::*;

    const PEERS: [&str; 2] = [OURS, "linux"];

    #[test]
    fn what_both_kernels_say_stands_side_by_side() {
        let mut rows = Vec::new();
        let said = "[1.0] noise\nBENCH pipe 10 200 ns\nBENCH pipe 10 300 ns\nBENCH epoll failed Function not implemented\nBENCH end\n";
        assert!(add(&mut rows, &PEERS, OURS, said).unwrap());
        let said = "BENCH pipe 4 100 ns\nBENCH epoll 1 7 bytes\nBENCH end\n";
        assert!(add(&mut rows, &PEERS, "linux", said).unwrap());
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].cells[0].samples, [20.0, 30.0]);
        assert_eq!(rows[0].cells[1].samples, [25.0]);
        assert_eq!(rows[1].cells[0].failed.as_deref(), Some("Function not implemented"));
        assert_eq!(rows[1].cells[1].samples, [7.0]);
        assert_eq!([&rows[0].unit, &rows[1].unit], ["ns", "bytes"]);
    }

    #[test]
    fn nonsense_is_an_error() {
        let bad = |line: &str| {
            add(
                &mut Vec::new(),
                &PEERS,
                OURS,
                &format!("BENCH pipe 1 2 ns\n{line}\nBENCH end\n"),
            )
        };
        assert!(bad("").is_ok());
        for line in [
            "BENCH pipe 0 200 ns",
            "BENCH pipe ten 200 ns",
            "BENCH pipe 10 200",
            "BENCH pipe 10 200 ns more",
            "BENCH pipe 10 200 bytes",
        ] {
            assert!(bad(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_guest_that_stops_half_way_is_seen() {
        let mut rows = Vec::new();
        assert!(
            add(
                &mut rows,
                &PEERS,
                "linux",
                "BENCH a 1 1 ns\nBENCH b 1 2 ns\nBENCH end\n"
            )
            .unwrap()
        );
        assert!(!add(&mut rows, &PEERS, OURS, "BENCH a 1 1 ns\n").unwrap());
        complete(&mut rows);
        assert_eq!(rows[0].cells[0].failed, None);
        assert_eq!(
            rows[1].cells[0].failed.as_deref(),
            Some("the guest did not come so far")
        );
    }
}
