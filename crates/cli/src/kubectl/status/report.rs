//! From ImageCompliances to how everything stands: pure.

use std::collections::BTreeMap;

use api::{ImageCompliance, Mode, PolicyResult, Reason, Verdict, WorkloadRef};
use serde_json::{Value, json};

use super::super::workloads::{self, named};
use super::super::{headed, tone};
use super::starts::{self, Start};
use super::troubles::Troubles;
use crate::table::{Cell, Column, Style, Table, counted, paragraph};

/// So many findings are shown to people.
const SHOWN: usize = 40;

/// How everything stands.
pub(super) struct Report {
    /// None for all.
    namespace: Option<String>,
    /// The worst first.
    lines: Vec<Line>,
    /// The worst first.
    findings: Vec<Finding>,
    starts: Vec<Start>,
    workloads: usize,
    troubles: Troubles,
    omitted: i64,
}

/// One policy in one namespace: how many workloads stand how.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    namespace: String,
    policy: String,
    mode: Mode,
    compliant: usize,
    violating: usize,
    unknown: usize,
    worst: Option<Reason>,
}

/// A result that is not Compliant.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    namespace: String,
    workload: WorkloadRef,
    image: String,
    digest: String,
    result: PolicyResult,
}

impl Report {
    pub(super) fn of(compliances: &[ImageCompliance], namespace: Option<String>, troubles: Troubles) -> Self {
        let mut findings: Vec<Finding> = compliances.iter().flat_map(findings_in).collect();
        findings.sort_by(|one, other| one.place().cmp(&other.place()));
        Report {
            namespace,
            lines: lines(compliances),
            findings,
            starts: starts::in_compliances(compliances),
            workloads: compliances.len(),
            troubles,
            omitted: compliances
                .iter()
                .filter_map(|compliance| compliance.status.omitted)
                .sum(),
        }
    }

    /// Something that counts is not as it should be.
    pub(super) fn is_something_wrong(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.result.mode != Mode::DryRun)
            || !self.starts.is_empty()
            || !self.troubles.found.is_empty()
    }

    /// The shape of docs/kubectl-assay.md.
    pub(super) fn as_json(&self) -> Value {
        headed(
            "ComplianceReport",
            json!({
                "namespace": self.namespace,
                "workloads": self.workloads,
                "omitted": self.omitted,
                "policies": self.lines.iter().map(Line::as_json).collect::<Vec<_>>(),
                "findings": self.findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
                "starts": self.starts.iter().map(Start::as_json).collect::<Vec<_>>(),
                "troubles": self.troubles.found,
                "notReadable": self.troubles.not_readable,
            }),
        )
    }

    pub(super) fn text(&self, style: Style) -> String {
        let place = match &self.namespace {
            Some(name) => format!("in the namespace {name}"),
            None => "in any namespace".to_owned(),
        };
        let mut text = match self.lines.is_empty() {
            true => format!("No policy covers a workload {place}.\n"),
            false => self.summary(style),
        };
        if !self.findings.is_empty() {
            text += &format!("\n{}", self.findings_table(style));
        }
        if !self.starts.is_empty() {
            text += &format!("\n{}", starts::table(&self.starts, style));
        }
        if !self.troubles.found.is_empty() {
            text += &format!("\n{}", self.troubles.table(style));
        }
        text + &self.last_words()
    }

    fn summary(&self, style: Style) -> String {
        let mut table = Table::new([
            Column::Name("NAMESPACE"),
            Column::Name("POLICY"),
            Column::Whole("MODE"),
            Column::Whole("WORKLOADS"),
            Column::Whole("COMPLIANT"),
            Column::Whole("VIOLATING"),
            Column::Whole("UNKNOWN"),
            Column::Whole("WORST"),
        ]);
        for line in &self.lines {
            let count = |number: usize, verdict: Verdict| match number {
                0 => Cell::from("0"),
                number => Cell::toned(number.to_string(), tone(verdict)),
            };
            table.row([
                line.namespace.as_str().into(),
                line.policy.as_str().into(),
                line.mode.as_str().into(),
                line.workloads().to_string().into(),
                count(line.compliant, Verdict::Compliant),
                count(line.violating, Verdict::Violating),
                count(line.unknown, Verdict::Unknown),
                line.worst.map_or("", Reason::as_str).into(),
            ]);
        }
        table.text(style)
    }

    fn findings_table(&self, style: Style) -> String {
        let mut columns = vec![
            Column::Whole("VERDICT"),
            Column::Name("NAMESPACE"),
            Column::Name("WORKLOAD"),
            Column::Name("POLICY"),
            Column::Whole("REASON"),
            Column::Whole("SINCE"),
        ];
        if !style.narrow {
            columns.extend([Column::Name("IMAGE"), Column::Name("DIGEST")]);
        }
        let mut table = Table::new(columns);
        for finding in self.findings.iter().take(SHOWN) {
            let result = &finding.result;
            let mut row: Vec<Cell> = vec![
                Cell::toned(result.verdict.to_string(), tone(result.verdict)),
                finding.namespace.as_str().into(),
                named(&finding.workload).into(),
                result.name.as_str().into(),
                result.reason.as_str().into(),
                result.since.0.to_string().into(),
            ];
            if !style.narrow {
                row.extend([finding.image.as_str().into(), finding.digest.as_str().into()]);
            }
            if !table.is_last(&row) {
                table.row(row);
            }
        }
        let more = self.findings.len().saturating_sub(SHOWN);
        let more = match more {
            0 => String::new(),
            more => format!("… and {more} more; -o json lists them all\n"),
        };
        table.text(style) + &more
    }

    fn last_words(&self) -> String {
        let mut words = Vec::new();
        let finding = self.findings.first();
        let finding = finding.map(|first| (&first.workload, &first.namespace));
        let start = self.starts.first();
        if let Some((workload, namespace)) =
            finding.or_else(|| start.map(|first| (&first.workload, &first.namespace)))
        {
            let workload = named(workload).to_lowercase();
            words.push(format!(
                "Why, and what to do: kubectl assay explain {workload} -n {namespace}"
            ));
        }
        if self.omitted > 0 {
            words.push(format!(
                "{} were left out of objects that would be too large; the worst are shown.",
                counted(usize::try_from(self.omitted).unwrap_or(usize::MAX), "result")
            ));
        }
        if !self.troubles.not_readable.is_empty() {
            words.push(format!(
                "You may not read {}, so what is wrong with them is not shown.",
                self.troubles.not_readable.join(", ")
            ));
        }
        match words.is_empty() {
            true => String::new(),
            false => "\n".to_owned() + &words.iter().map(|word| paragraph("", word)).collect::<String>(),
        }
    }
}

impl Line {
    fn workloads(&self) -> usize {
        self.compliant + self.violating + self.unknown
    }

    fn counts(&self) -> bool {
        self.mode != Mode::DryRun
    }

    /// Orders the worst first: what counts before what is only shown.
    fn badness(&self) -> impl Ord + use<> {
        std::cmp::Reverse((
            self.counts() && self.violating > 0,
            self.counts() && self.unknown > 0,
            self.violating > 0,
            self.unknown > 0,
            self.violating,
            self.unknown,
        ))
    }

    fn as_json(&self) -> Value {
        json!({
            "namespace": self.namespace,
            "policy": self.policy,
            "mode": self.mode,
            "workloads": self.workloads(),
            "compliant": self.compliant,
            "violating": self.violating,
            "unknown": self.unknown,
            "worst": self.worst,
        })
    }
}

impl Finding {
    fn place(&self) -> impl Ord + '_ {
        let result = &self.result;
        (
            result.mode == Mode::DryRun,
            std::cmp::Reverse(policy::badness(result.verdict)),
            &self.namespace,
            &self.workload.kind,
            &self.workload.name,
            &result.name,
            &self.image,
            &self.digest,
        )
    }

    fn as_json(&self) -> Value {
        json!({
            "namespace": self.namespace,
            "workload": workloads::as_json(&self.workload),
            "image": self.image,
            "digest": self.digest,
            "policy": self.result.name,
            "mode": self.result.mode,
            "verdict": self.result.verdict,
            "reason": self.result.reason,
            "requirement": self.result.requirement,
            "message": self.result.message.as_deref().unwrap_or_default(),
            "since": self.result.since.0.to_string(),
        })
    }
}

pub(super) fn results(
    compliance: &ImageCompliance,
) -> impl Iterator<Item = (&api::ImageResult, &PolicyResult)> {
    let images = compliance.status.images.iter();
    images.flat_map(|image| image.policies.iter().map(move |result| (image, result)))
}

fn findings_in(compliance: &ImageCompliance) -> Vec<Finding> {
    let (namespace, workload) = workloads::of(compliance);
    let failing = results(compliance).filter(|(_, result)| result.verdict != Verdict::Compliant);
    let findings = failing.map(|(image, result)| Finding {
        namespace: namespace.clone(),
        workload: workload.clone(),
        image: image.image.clone(),
        digest: image.digest.clone(),
        result: result.clone(),
    });
    findings.collect()
}

/// Each workload counts once for a policy, by the worst of its images.
fn lines(compliances: &[ImageCompliance]) -> Vec<Line> {
    let mut worst: BTreeMap<(String, String, &str), &PolicyResult> = BTreeMap::new();
    for compliance in compliances {
        let namespace = compliance.metadata.namespace.clone().unwrap_or_default();
        let name = compliance.metadata.name.as_deref().unwrap_or_default();
        for (_, result) in results(compliance) {
            let place = (namespace.clone(), result.name.clone(), name);
            let is_worse =
                |other: &&PolicyResult| policy::badness(result.verdict) > policy::badness(other.verdict);
            if worst.get(&place).is_none_or(is_worse) {
                worst.insert(place, result);
            }
        }
    }
    let mut grouped: BTreeMap<(String, String), Vec<&PolicyResult>> = BTreeMap::new();
    for ((namespace, policy, _), result) in worst {
        grouped.entry((namespace, policy)).or_default().push(result);
    }
    let mut lines: Vec<Line> = grouped
        .into_iter()
        .map(|((namespace, policy), results)| line(namespace, policy, &results))
        .collect();
    lines.sort_by_key(|line| (line.badness(), line.namespace.clone(), line.policy.clone()));
    lines
}

fn line(namespace: String, policy: String, results: &[&PolicyResult]) -> Line {
    let count = |wanted: fn(Verdict) -> bool| results.iter().filter(|result| wanted(result.verdict)).count();
    let worst = results
        .iter()
        .max_by_key(|result| policy::badness(result.verdict));
    let compliant = count(|verdict| verdict == Verdict::Compliant);
    let violating = count(|verdict| verdict == Verdict::Violating);
    Line {
        namespace,
        policy,
        mode: worst.map_or(Mode::Other, |result| result.mode),
        compliant,
        violating,
        // What this version does not know is no pass.
        unknown: results.len() - compliant - violating,
        worst: worst
            .filter(|result| result.verdict != Verdict::Compliant)
            .map(|result| result.reason),
    }
}
