//! What would not simply be admitted with its next start, and of which nothing that runs says so already: pure.

use api::{ImageCompliance, NextStart, StartDecision, Verdict, WorkloadRef};
use serde_json::{Value, json};

use super::report::results;
use crate::kubectl::tone;
use crate::kubectl::workloads::{self, named};
use crate::table::{Cell, Column, Style, Table};

/// So many are shown to people.
const SHOWN: usize = 20;

/// A workload and what would be said of its template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Start {
    pub(super) namespace: String,
    pub(super) workload: WorkloadRef,
    next: NextStart,
}

/// What would be denied first.
pub(super) fn in_compliances(compliances: &[ImageCompliance]) -> Vec<Start> {
    let mut starts: Vec<Start> = compliances.iter().filter_map(start).collect();
    starts.sort_by(|one, other| one.place().cmp(&other.place()));
    starts
}

fn start(compliance: &ImageCompliance) -> Option<Start> {
    let next = compliance.status.next_start.clone()?;
    let holds = next.decision == StartDecision::Admit || next.verdict == Verdict::Compliant;
    let is_told = results(compliance).any(|(_, result)| {
        (&result.name, result.verdict, result.reason) == (&next.policy, next.verdict, next.reason)
    });
    let (namespace, workload) = workloads::of(compliance);
    (!holds && !is_told).then_some(Start {
        namespace,
        workload,
        next,
    })
}

impl Start {
    fn place(&self) -> impl Ord + '_ {
        (
            self.next.decision != StartDecision::Deny,
            &self.namespace,
            &self.workload.kind,
            &self.workload.name,
        )
    }

    pub(super) fn as_json(&self) -> Value {
        let mut object = json!(self.next);
        object["namespace"] = self.namespace.as_str().into();
        object["workload"] = workloads::as_json(&self.workload);
        object
    }
}

pub(super) fn table(starts: &[Start], style: Style) -> String {
    let mut columns = vec![
        Column::Whole("NEXT-START"),
        Column::Name("NAMESPACE"),
        Column::Name("WORKLOAD"),
        Column::Name("POLICY"),
        Column::Whole("REASON"),
        Column::Name("IMAGE"),
    ];
    if !style.narrow {
        columns.push(Column::Name("DIGEST"));
    }
    let mut table = Table::new(columns);
    for start in starts.iter().take(SHOWN) {
        let next = &start.next;
        let mut row: Vec<Cell> = vec![
            Cell::toned(format!("{:?}", next.decision), tone(next.verdict)),
            start.namespace.as_str().into(),
            named(&start.workload).into(),
            next.policy.as_str().into(),
            next.reason.as_str().into(),
            next.image.as_str().into(),
        ];
        if !style.narrow {
            row.push(next.digest.as_str().into());
        }
        table.row(row);
    }
    let more = match starts.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("… and {more} more; -o json lists them all\n"),
    };
    table.text(style) + &more
}
