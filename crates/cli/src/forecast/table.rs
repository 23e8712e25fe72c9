//! The forecast for people: one line for each workload that falls, and each explanation once below.

use std::fmt::Write as _;

use api::Mode;

use super::findings::{Finding, Forecast, seconds};
use crate::output::wrapped;

/// No line is longer, in characters.
const WIDTH: usize = 100;
const GAP: &str = "  ";
const HEADS: [&str; 5] = ["WHEN", "NAMESPACE", "WORKLOAD", "POLICY", "BECOMES"];
/// The columns whose words are cut where a line would be too long.
const NAMES: std::ops::Range<usize> = 1..4;

/// The whole answer.
pub(super) fn of(forecast: &Forecast) -> String {
    let place = match &forecast.namespace {
        Some(name) => format!("in the namespace {name}"),
        None => "in any namespace".to_owned(),
    };
    let within = &forecast.within;
    if forecast.findings.is_empty() {
        return format!("Nothing that runs {place} gets a worse verdict by itself within {within}.\n");
    }
    let (rows, notes) = rows(&forecast.findings);
    let mut text = table(&rows);
    for (number, note) in notes.iter().enumerate() {
        text.push('\n');
        let head = format!("[{}] ", number + 1);
        for (at, line) in wrapped(note, WIDTH - head.len()).into_iter().enumerate() {
            let head = if at == 0 {
                head.clone()
            } else {
                " ".repeat(head.len())
            };
            // Writing to a String never fails.
            writeln!(text, "{head}{line}").unwrap_or_default();
        }
    }
    let workloads = match forecast.workloads() {
        1 => "1 workload gets".to_owned(),
        many => format!("{many} workloads get"),
    };
    text + &format!("\n{workloads} a worse verdict by itself within {within}, unless something changes.\n")
}

type Row = [String; 5];

/// The lines, and the explanations that they refer to. Several images of a workload that fall alike are one line.
fn rows(findings: &[Finding]) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut notes): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    for finding in findings {
        let note = note(finding);
        let number = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        let row = [
            seconds(finding.at),
            finding.namespace.clone(),
            format!("{}/{}", finding.workload.kind, finding.workload.name),
            finding.policy.clone(),
            format!("{} [{}]", finding.becomes.reason, number + 1),
        ];
        if rows.last() != Some(&row) {
            rows.push(row);
        }
    }
    (rows, notes)
}

fn note(finding: &Finding) -> String {
    let dry_run = match finding.mode {
        Mode::DryRun => " in a dry run",
        Mode::Warn | Mode::Enforce | Mode::Other => "",
    };
    let message = finding.becomes.message.as_deref().unwrap_or_default();
    format!("{}{dry_run}. {message}", finding.becomes.verdict)
}

fn table(rows: &[Row]) -> String {
    let widths = widths(rows);
    let heads = HEADS.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| {
            let cell = cut(cell, width);
            let pad = width - cell.chars().count();
            cell + &" ".repeat(pad)
        });
        let line = cells.collect::<Vec<_>>().join(GAP);
        writeln!(text, "{}", line.trim_end()).unwrap_or_default();
    }
    text
}

/// As wide as the longest word, but the widest of the names give way until a line fits.
fn widths(rows: &[Row]) -> [usize; 5] {
    let longest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADS[column].len()]).max().unwrap_or(0)
    };
    let mut widths = [0, 1, 2, 3, 4].map(longest);
    while widths.iter().sum::<usize>() + (HEADS.len() - 1) * GAP.len() > WIDTH {
        let Some(widest) = widths[NAMES].iter_mut().max() else {
            break;
        };
        *widest -= 1;
    }
    widths
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
