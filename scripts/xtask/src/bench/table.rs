//! Samples as text.

use super::report::{Bar, Cell, Figures, OURS, Row, Suite, Verdict};
use comfy_table::{CellAlignment, Table, presets};

fn table(header: &[&str], left: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        let alignment = if left.contains(&index) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        };
        column.set_cell_alignment(alignment);
    }
    table
}

/// A figure with as many digits as say something.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 || middle == 0.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn figures(figures: Figures) -> String {
    format!("{} ({})", figure(figures.median), figure(figures.minimum))
}

/// A spread, or two, as percentages.
fn spread<'a>(figures: impl Iterator<Item = &'a Figures>) -> String {
    let percent = |figures: &Figures| {
        let percent = figures.spread().map(|spread| figure(100.0 * spread));
        percent.unwrap_or_else(|| "-".to_owned())
    };
    figures.map(percent).collect::<Vec<_>>().join(" / ")
}

/// A row a line: ours, the best peer, their ratio and spreads, the bar and whether it is kept, or what went wrong.
pub fn verdicts(suite: &Suite) -> String {
    let header = [
        "operation",
        "unit",
        "ours",
        "best peer",
        "",
        "ratio",
        "spread %",
        "bar",
        "",
    ];
    let mut table = table(&header, &[0, 1, 3, 8]);
    for row in &suite.rows {
        table.add_row(verdict(row));
    }
    let mode = if suite.mode.is_empty() {
        String::new()
    } else {
        format!(", {}", suite.mode)
    };
    format!(
        "{}{mode}: medians of {} rounds, minima in brackets; ratio: ours to the best peer (*: wall clock, minima count); spread: from \
         least to most, as a share of the median, ours and the peer's\n{table}",
        suite.suite, suite.rounds
    )
}

fn verdict(row: &Row) -> [String; 9] {
    let bar = match row.bar {
        Some(Bar::Ratio(most)) => format!("{most}"),
        Some(Bar::Most(most)) => format!("at most {most}"),
        None => String::new(),
    };
    let unit = if row.wall {
        format!("{}*", row.unit)
    } else {
        row.unit.clone()
    };
    let dash = || "-".to_owned();
    let verdict = row.verdict();
    let ours = verdict.as_ref().map(|verdict| verdict.ours);
    let (peer, best) = row.best().unzip();
    let ratios = verdict.as_ref().and_then(Verdict::ratios);
    let ratio = ratios.map_or_else(dash, |(median, minimum)| format!("{median:.2} ({minimum:.2})"));
    let mut remarks = complaints(row);
    match verdict.as_ref().map(|verdict| verdict.kept) {
        Some(Some(true)) => remarks.push("kept".to_owned()),
        Some(Some(false)) => remarks.push("ABOVE".to_owned()),
        Some(None) => {}
        None if remarks.is_empty() => remarks.push("not measured".to_owned()),
        None => {}
    }
    [
        row.name.clone(),
        unit,
        ours.map_or_else(dash, figures),
        peer.unwrap_or_else(|| if ours.is_some() { "none".to_owned() } else { dash() }),
        best.map_or_else(dash, figures),
        ratio,
        spread(ours.iter().chain(&best)),
        bar,
        remarks.join("; "),
    ]
}

/// What went wrong: on our side, and on that of a peer beside which there is no other.
fn complaints(row: &Row) -> Vec<String> {
    let alone = row.cells.iter().filter(|cell| cell.peer != OURS).count() == 1;
    let cells = row.cells.iter().filter(|cell| alone || cell.peer == OURS);
    let failures = cells.filter_map(|cell| Some((cell, cell.failed.as_ref()?)));
    failures
        .map(|(cell, why)| format!("{} FAILED: {why}", cell.peer))
        .collect()
}

/// Every cell: medians and minima, or why there are none.
pub fn details(suite: &Suite) -> String {
    let mut table = table(
        &["operation", "who", "median", "minimum", "allocations", ""],
        &[0, 1, 5],
    );
    for row in &suite.rows {
        for (index, cell) in row.cells.iter().enumerate() {
            let name = if index == 0 { row.name.as_str() } else { "" };
            table.add_row(detail(name, cell));
        }
    }
    table.to_string()
}

fn detail(name: &str, cell: &Cell) -> [String; 6] {
    let (median, minimum) = cell
        .figures()
        .map_or_else(Default::default, |it| (figure(it.median), figure(it.minimum)));
    let remark = match (&cell.absent, &cell.failed) {
        (Some(why), _) => why.clone(),
        (None, Some(error)) => format!("FAILED: {error}"),
        (None, None) => String::new(),
    };
    let allocations = cell.allocations.map(figure).unwrap_or_default();
    [name.into(), cell.peer.clone(), median, minimum, allocations, remark]
}

#[cfg(test)]
mod tests {
    use super::super::report::{tests::cell, tests::row};
    use super::*;

    fn suite(rows: Vec<Row>) -> Suite {
        Suite {
            suite: "executor".into(),
            mode: String::new(),
            cpus: 2,
            rounds: 3,
            rows,
        }
    }

    fn fields(line: &str) -> Vec<&str> {
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn a_verdict_names_the_best_peer_and_whether_the_bar_is_kept() {
        let measured = |ours| {
            row(
                Some(Bar::Ratio(0.5)),
                vec![cell(OURS, &[ours]), cell("b", &[123.4]), cell("a", &[20.0])],
            )
        };
        let text = verdicts(&suite(vec![measured(5.0), measured(15.0)]));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            fields(lines[3]),
            [
                "some operation",
                "ns",
                "5.00 (5.00)",
                "a",
                "20.0 (20.0)",
                "0.25 (0.25)",
                "0.0 / 0.0",
                "0.5",
                "kept"
            ]
        );
        assert_eq!(fields(lines[4])[8], "ABOVE");
    }

    #[test]
    fn what_was_not_measured_is_said_not_left_out() {
        let mut absent = cell("a", &[]);
        absent.absent = Some("cannot".into());
        let mut failed = cell("b", &[]);
        failed.failed = Some("broke".into());
        let suite = suite(vec![row(Some(Bar::Most(0.0)), vec![absent, failed])]);
        assert_eq!(
            fields(verdicts(&suite).lines().nth(3).unwrap_or_default())[7..],
            ["at most 0", "not measured"]
        );
        let text = details(&suite);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(fields(lines[2]), ["some operation", "a", "", "", "", "cannot"]);
        assert_eq!(fields(lines[3]), ["", "b", "", "", "", "FAILED: broke"]);
    }

    #[test]
    fn a_row_that_failed_says_so_beside_the_other_s_figure() {
        let mut failed = cell(OURS, &[]);
        failed.failed = Some("not implemented".into());
        let mut suite = suite(vec![row(None, vec![failed, cell("linux", &[10.0, 11.0, 12.0])])]);
        suite.mode = "icount".into();
        let text = verdicts(&suite);
        assert!(text.starts_with("executor, icount: "), "{text}");
        assert_eq!(
            fields(text.lines().nth(3).unwrap_or_default())[2..],
            [
                "-",
                "linux",
                "11.0 (10.0)",
                "-",
                "18.2",
                "",
                "ours FAILED: not implemented"
            ]
        );
    }

    #[test]
    fn figures_have_the_digits_that_say_something() {
        assert_eq!(
            [0.0, 0.034, 7.0, 23.45, 1234.5].map(figure),
            ["0.0", "0.03", "7.00", "23.4", "1234"]
        );
    }
}
