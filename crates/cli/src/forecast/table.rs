//! The forecast for people: one line for each workload that falls, and each explanation once below.

use api::Mode;

use super::findings::{Finding, Forecast, seconds};
use crate::table::{Cell, Column, Notes, Style, Table, counted};

/// The whole answer.
pub(super) fn of(forecast: &Forecast, style: Style) -> String {
    let place = match &forecast.namespace {
        Some(name) => format!("in the namespace {name}"),
        None => "in any namespace".to_owned(),
    };
    let within = &forecast.within;
    if forecast.findings.is_empty() {
        return format!("Nothing that runs {place} gets a worse verdict by itself within {within}.\n");
    }
    let (table, notes) = rows(&forecast.findings);
    let workloads = forecast.workloads();
    let get = if workloads == 1 { "gets" } else { "get" };
    table.text(style)
        + &notes.text()
        + &format!(
            "\n{} {get} a worse verdict by itself within {within}, unless something changes.\n",
            counted(workloads, "workload")
        )
}

/// The lines, and the explanations that they refer to. Several images of a workload that fall alike are one line.
fn rows(findings: &[Finding]) -> (Table, Notes) {
    let mut table = Table::new([
        Column::Whole("WHEN"),
        Column::Name("NAMESPACE"),
        Column::Name("WORKLOAD"),
        Column::Name("POLICY"),
        Column::Whole("BECOMES"),
    ]);
    let mut notes = Notes::default();
    for finding in findings {
        let number = notes.number(note(finding));
        let row: [Cell; 5] = [
            seconds(finding.at).into(),
            finding.namespace.as_str().into(),
            format!("{}/{}", finding.workload.kind, finding.workload.name).into(),
            finding.policy.as_str().into(),
            format!("{} [{number}]", finding.becomes.reason).into(),
        ];
        if !table.is_last(&row) {
            table.row(row);
        }
    }
    (table, notes)
}

fn note(finding: &Finding) -> String {
    let dry_run = match finding.mode {
        Mode::DryRun => " in a dry run",
        Mode::Warn | Mode::Enforce | Mode::Other => "",
    };
    let message = finding.becomes.message.as_deref().unwrap_or_default();
    format!("{}{dry_run}. {message}", finding.becomes.verdict)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
