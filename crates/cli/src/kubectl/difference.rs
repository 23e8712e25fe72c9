//! What changes would do, as it is shown: for people and as JSON.

use std::collections::BTreeMap;

use api::PreviewResult;
use serde_json::{Value, json};

use super::headed;
use super::preview::Foreseen;
use crate::table::{Cell, Column, Style, Table, Tone, counted, paragraph};

/// So many results of a kind are shown to people.
const SHOWN: usize = 60;

/// The shape of docs/kubectl-assay.md.
pub(super) fn as_json(foreseen: &Foreseen, source: &str, changes: &Value) -> Value {
    headed(
        "Difference",
        json!({
            "source": source,
            "changes": changes,
            "newlyFailing": foreseen.failing.iter().map(result).collect::<Vec<_>>(),
            "newlyPassing": foreseen.passing.iter().map(result).collect::<Vec<_>>(),
            "newlyUnknown": foreseen.newly_unknown.iter().map(result).collect::<Vec<_>>(),
            "unchanged": foreseen.unchanged,
            "unknown": foreseen.unknown,
            "startOnly": starts_as_json(foreseen),
            "resultsDigest": foreseen.digest,
        }),
    )
}

/// What only a next start would meet.
pub(super) fn starts_as_json(foreseen: &Foreseen) -> Value {
    let starts = &foreseen.starts;
    json!({
        "newlyFailingTotal": starts.newly_failing_total,
        "newlyUnknownTotal": starts.newly_unknown_total,
        "newlyFailing": starts.newly_failing.iter().map(result).collect::<Vec<_>>(),
        "newlyUnknown": starts.newly_unknown.iter().map(result).collect::<Vec<_>>(),
    })
}

/// All six fields, also where the digest cannot be told.
fn result(result: &PreviewResult) -> Value {
    json!({
        "namespace": result.namespace,
        "workload": result.workload,
        "image": result.image,
        "digest": result.digest,
        "policy": result.policy,
        "reason": result.reason,
    })
}

/// The lists and the totals.
pub(super) fn text(foreseen: &Foreseen, style: Style) -> String {
    let running = [
        ("Newly failing", &foreseen.failing, Tone::Bad),
        ("Newly unknown", &foreseen.newly_unknown, Tone::Doubtful),
        ("Newly passing", &foreseen.passing, Tone::Good),
    ];
    lists(&running, style) + &starts(foreseen, style) + &by_namespace(foreseen, style) + &totals(foreseen)
}

/// The lists of what only a next start would meet.
pub(super) fn starts(foreseen: &Foreseen, style: Style) -> String {
    let starting = [
        (
            "Newly failing with the next start",
            &foreseen.starts.newly_failing,
            Tone::Bad,
        ),
        (
            "Newly unknown with the next start",
            &foreseen.starts.newly_unknown,
            Tone::Doubtful,
        ),
    ];
    lists(&starting, style)
}

fn lists(lists: &[(&str, &Vec<PreviewResult>, Tone)], style: Style) -> String {
    let filled = lists.iter().filter(|(_, results, _)| !results.is_empty());
    let shown = filled.map(|(head, results, tone)| {
        format!("{}\n{}\n", style.paint(*tone, head), table(results, *tone, style))
    });
    shown.collect()
}

fn table(results: &[PreviewResult], tone: Tone, style: Style) -> String {
    let mut columns = vec![
        Column::Name("NAMESPACE"),
        Column::Name("WORKLOAD"),
        Column::Name("IMAGE"),
        Column::Name("POLICY"),
        Column::Whole("REASON"),
    ];
    if !style.narrow {
        columns.push(Column::Name("DIGEST"));
    }
    let mut table = Table::new(columns);
    for result in results.iter().take(SHOWN) {
        let mut row: Vec<Cell> = vec![
            result.namespace.as_str().into(),
            result.workload.as_str().into(),
            result.image.as_str().into(),
            result.policy.as_str().into(),
            Cell::toned(result.reason.as_str(), tone),
        ];
        if !style.narrow {
            row.push(result.digest.as_str().into());
        }
        table.row(row);
    }
    let more = match results.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("… and {more} more; -o json lists them all\n"),
    };
    table.text(style) + &more
}

/// How many workloads of each namespace are concerned, where there are several.
fn by_namespace(foreseen: &Foreseen, style: Style) -> String {
    let mut counts: BTreeMap<&str, [std::collections::BTreeSet<&str>; 3]> = BTreeMap::new();
    for (at, results) in [&foreseen.failing, &foreseen.newly_unknown, &foreseen.passing]
        .into_iter()
        .enumerate()
    {
        for result in results {
            counts.entry(&result.namespace).or_default()[at].insert(&result.workload);
        }
    }
    if counts.len() < 2 {
        return String::new();
    }
    let mut table = Table::new([
        Column::Name("NAMESPACE"),
        Column::Whole("NEWLY-FAILING"),
        Column::Whole("NEWLY-UNKNOWN"),
        Column::Whole("NEWLY-PASSING"),
    ]);
    for (namespace, counts) in counts {
        let [failing, unknown, passing] = counts.map(|workloads| workloads.len().to_string());
        table.row([namespace.into(), failing.into(), unknown.into(), passing.into()]);
    }
    format!("Workloads by namespace\n{}\n", table.text(style))
}

fn totals(foreseen: &Foreseen) -> String {
    let newly_unknown = i64::try_from(foreseen.newly_unknown.len()).unwrap_or(i64::MAX);
    let still_unknown = foreseen.still_unknown();
    let mut sentence = format!(
        "{} newly failing, {} newly unknown, {} newly passing; of {} nothing gets worse or better.",
        foreseen.failing.len(),
        newly_unknown,
        foreseen.passing.len(),
        counted(
            usize::try_from(foreseen.unchanged).unwrap_or(usize::MAX),
            "other result"
        )
    );
    let (failing, unknown) = (
        foreseen.starts.newly_failing_total,
        foreseen.starts.newly_unknown_total,
    );
    if failing + unknown > 0 {
        sentence += &format!(" With a next start only: {failing} newly failing, {unknown} newly unknown.");
    }
    if still_unknown > 0 {
        sentence += &format!(
            " {} cannot be told, now as then, and may fail; no list here names them.",
            counted(still_unknown, "result")
        );
    }
    paragraph("", &sentence)
}
