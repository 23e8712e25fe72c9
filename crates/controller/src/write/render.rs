//! From the engine's report to the status of an ImageCompliance: pure.
//!
//! The tables of the conditions come from `policy::workload_condition`; here they are filled, and the
//! object is kept below its size.

use api::conditions::{COMPLIANT, Conditions, DRY_RUN_COMPLIANT, Status};
use api::{
    ImageComplianceStatus, ImageResult, Mode, NextStart, PassedOver, PolicyResult, Reason, Verdict,
    WillBecome, WorkloadRef,
};
use engine::{ImageReport, PolicyAnswer, StartAnswer, WorkloadReport};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use policy::{Becomes, ImageSummary, rank, workload_condition, worst};

use super::CONDITION_CHARACTERS;
use crate::names::cut;
use crate::said::{Index, Said, SaidResult, slim};

/// An object stays under 256 KiB; what is not an image result has the rest.
const IMAGES_BYTES: usize = 240 * 1024;
/// The longest message of a result, in characters.
const MESSAGE_CHARACTERS: usize = 512;

/// A status, what is remembered of it, and who owns the object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) status: ImageComplianceStatus,
    pub(crate) said: Said,
    pub(crate) owners: Vec<OwnerReference>,
}

/// The answer about a workload that a policy covers.
pub(crate) fn covered(report: &WorkloadReport, before: &Said, now: Timestamp) -> Rendered {
    if report.images.is_empty() {
        return at_rest(report, before, now);
    }
    let old = before.index();
    let images = worst_first(&report.images);
    let results: Vec<ImageResult> = images.iter().map(|image| result(image, &old, now)).collect();
    let said = said_results(&results, &old);
    let told = Conditions {
        before: &before.conditions,
        generation: None,
        now,
    };
    let mut conditions = vec![counting_condition(&images, told)];
    conditions.extend(dry_run_condition(&images, told));
    let image_count = count(results.len());
    let (kept, omitted) = within_size(results);
    let status = ImageComplianceStatus {
        verdict: Some(flat_verdict(&images)),
        workload: Some(report.workload.reference.clone()),
        conditions,
        images: kept,
        next_start: next_start(&report.next_start, before),
        image_count: Some(image_count),
        omitted: (omitted > 0).then(|| count(omitted)),
    };
    remembering(status, said)
}

/// The answer about a covered workload of which no container runs. What was said of its images is
/// remembered, so that the same images starting again are no news.
pub(crate) fn nothing_running(before: &Said, now: Timestamp) -> Rendered {
    resting(before.workload.clone(), None, was_in_dry_run(before), before, now)
}

/// The same about one that has a template, which a policy covers.
fn at_rest(report: &WorkloadReport, before: &Said, now: Timestamp) -> Rendered {
    let in_dry_run = match &report.next_start {
        StartAnswer::Decided { in_dry_run, .. } => *in_dry_run,
        StartAnswer::NotCovered | StartAnswer::Pending => was_in_dry_run(before),
    };
    let next = next_start(&report.next_start, before);
    resting(
        Some(report.workload.reference.clone()),
        next,
        in_dry_run,
        before,
        now,
    )
}

fn resting(
    workload: Option<WorkloadRef>,
    next_start: Option<NextStart>,
    in_dry_run: bool,
    before: &Said,
    now: Timestamp,
) -> Rendered {
    let nothing = "no container of the workload runs";
    let told = Conditions {
        before: &before.conditions,
        generation: None,
        now,
    };
    let of = |type_: &str| told.set(type_, Status::Unknown, Reason::NothingRunning.as_str(), nothing);
    let mut conditions = vec![of(COMPLIANT)];
    conditions.extend(in_dry_run.then(|| of(DRY_RUN_COMPLIANT)));
    let status = ImageComplianceStatus {
        verdict: Some(Verdict::Unknown),
        workload,
        conditions,
        next_start,
        image_count: Some(0),
        ..ImageComplianceStatus::default()
    };
    remembering(status, before.results.clone())
}

fn was_in_dry_run(before: &Said) -> bool {
    let is_dry = |condition: &Condition| condition.type_ == DRY_RUN_COMPLIANT;
    before.conditions.iter().any(is_dry)
}

/// What would start; while that is looked up for the first time, what was said of it before.
fn next_start(answer: &StartAnswer, before: &Said) -> Option<NextStart> {
    match answer {
        StartAnswer::NotCovered => None,
        StartAnswer::Pending => before.next_start.as_deref().cloned(),
        StartAnswer::Decided { next, .. } => Some((**next).clone()),
    }
}

/// Whether any policy of any mode finds a violation.
pub(crate) fn has_violation(report: &WorkloadReport) -> bool {
    let mut answers = report.images.iter().flat_map(|image| &image.policies);
    answers.any(|answer| answer.verdict == Verdict::Violating)
}

fn remembering(status: ImageComplianceStatus, results: Vec<SaidResult>) -> Rendered {
    let owner = status.workload.as_ref().map(|workload| OwnerReference {
        api_version: workload.api_version.clone(),
        kind: workload.kind.clone(),
        name: workload.name.clone(),
        uid: workload.uid.clone(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    });
    let said = Said {
        workload: status.workload.clone(),
        verdict: status.verdict,
        conditions: slim(&status.conditions),
        results,
        next_start: status.next_start.clone().map(Box::new),
        forgot_some: false,
    };
    Rendered {
        status,
        said,
        owners: owner.into_iter().collect(),
    }
}

/// A mode of a newer version counts as the strictest.
fn strictest_if_unknown(mode: Mode) -> Mode {
    match mode {
        Mode::Other => Mode::Enforce,
        Mode::DryRun | Mode::Warn | Mode::Enforce => mode,
    }
}

/// Policies in DryRun count apart.
fn counts(answer: &PolicyAnswer) -> bool {
    answer.mode != Mode::DryRun
}

fn judgement(answer: &PolicyAnswer) -> (Verdict, Reason) {
    (known(answer.verdict), answer.reason)
}

/// A verdict of a newer version counts as Unknown.
fn known(verdict: Verdict) -> Verdict {
    if verdict == Verdict::Other {
        Verdict::Unknown
    } else {
        verdict
    }
}

fn worst_where(image: &ImageReport, which: impl Fn(&PolicyAnswer) -> bool) -> Option<(Verdict, Reason)> {
    worst(
        image
            .policies
            .iter()
            .filter(|answer| which(answer))
            .map(judgement),
    )
}

/// How bad an answer is; nothing is better than everything.
fn badness(answer: Option<(Verdict, Reason)>) -> Option<(u8, u8)> {
    answer.map(|(verdict, reason)| rank(verdict, reason))
}

/// Worst first by what counts, then by dry runs, then by name.
fn worst_first(images: &[ImageReport]) -> Vec<&ImageReport> {
    let mut sorted: Vec<&ImageReport> = images.iter().collect();
    sorted.sort_by_cached_key(|image| {
        let (counting, dry) = (
            worst_where(image, counts),
            worst_where(image, |answer| !counts(answer)),
        );
        (
            std::cmp::Reverse((badness(counting), badness(dry))),
            image.image.clone(),
            image.digest.clone(),
        )
    });
    sorted
}

fn flat_verdict(images: &[&ImageReport]) -> Verdict {
    let judged = images.iter().filter_map(|image| worst_where(image, counts));
    worst(judged).map_or(Verdict::NotCovered, |(verdict, _)| verdict)
}

fn counting_condition(images: &[&ImageReport], conditions: Conditions<'_>) -> Condition {
    let summary = |image: &&ImageReport| match worst_where(image, counts) {
        Some((verdict, reason)) => ImageSummary::Judged(verdict, reason),
        None if image.policies.is_empty() => ImageSummary::NotCovered,
        None => ImageSummary::DryRunOnly,
    };
    let outcome = workload_condition(images.iter().map(summary));
    table_condition(COMPLIANT, outcome, images, counts, conditions)
}

/// The same table over the policies in DryRun; none where none covers.
fn dry_run_condition(images: &[&ImageReport], conditions: Conditions<'_>) -> Option<Condition> {
    let is_dry = |answer: &PolicyAnswer| !counts(answer);
    if !images.iter().any(|image| image.policies.iter().any(is_dry)) {
        return None;
    }
    let summary = |image: &&ImageReport| match worst_where(image, is_dry) {
        Some((verdict, reason)) => ImageSummary::Judged(verdict, reason),
        None => ImageSummary::NotCovered,
    };
    let outcome = workload_condition(images.iter().map(summary));
    Some(table_condition(
        DRY_RUN_COMPLIANT,
        outcome,
        images,
        is_dry,
        conditions,
    ))
}

fn table_condition(
    type_: &str,
    (status, reason): (Status, Reason),
    images: &[&ImageReport],
    which: impl Fn(&PolicyAnswer) -> bool,
    conditions: Conditions<'_>,
) -> Condition {
    let message = match (status, reason) {
        (Status::True, Reason::PartlyCovered) => {
            "every covered image holds; others no policy of this kind covers".to_owned()
        }
        (Status::True, _) => "every running image holds".to_owned(),
        (_, Reason::DryRunOnly) => "only policies in dry run cover the workload".to_owned(),
        (_, Reason::NotCovered) => "no policy covers a running image".to_owned(),
        (_, Reason::NothingRunning) => "no container of the workload runs".to_owned(),
        _ => names_the_worst(images, which, reason),
    };
    conditions.set(type_, status, reason.as_str(), &message)
}

/// One line that names the worst image and its message.
fn names_the_worst(images: &[&ImageReport], which: impl Fn(&PolicyAnswer) -> bool, reason: Reason) -> String {
    let answers = images
        .iter()
        .flat_map(|image| image.policies.iter().map(move |answer| (image, answer)));
    let fitting = answers.filter(|(_, answer)| which(answer) && answer.reason == reason);
    let bad = fitting.filter(|(_, answer)| answer.verdict != Verdict::Compliant);
    let worst = bad.max_by_key(|(_, answer)| policy::badness(answer.verdict));
    let line = worst.map_or_else(String::new, |(image, answer)| {
        format!("{}: {}", image.image, answer.message)
    });
    cut(&line.replace(['\n', '\r'], " "), CONDITION_CHARACTERS)
}

fn result(image: &ImageReport, old: &Index<'_>, now: Timestamp) -> ImageResult {
    let policies = image.policies.iter().map(|answer| {
        let known_before = old.get(&(&*image.image, image.digest.as_str(), &*answer.policy));
        let same = known_before.filter(|said| (said.verdict, said.reason) == judgement(answer));
        PolicyResult {
            name: answer.policy.to_string(),
            mode: strictest_if_unknown(answer.mode),
            verdict: known(answer.verdict),
            requirement: answer.requirement.as_deref().map(str::to_owned),
            reason: answer.reason,
            message: message(answer),
            since: Time(same.map_or(now, |said| said.since)),
            exception: answer.excepted.as_ref().map(|excepted| PassedOver {
                name: excepted.exception.to_string(),
                reason: excepted.reason,
            }),
            valid_until: answer.valid_until.map(Time),
            will_become: answer
                .becomes
                .as_deref()
                .map(|becomes| will_become(becomes, answer.warned)),
            stale_since: answer.stale_since.map(Time),
        }
    });
    ImageResult {
        image: image.image.to_string(),
        digest: image.digest.clone(),
        containers: image.containers.clone(),
        policies: policies.collect(),
    }
}

fn will_become(becomes: &Becomes, warned: bool) -> WillBecome {
    let has_message = becomes.verdict != Verdict::Compliant && !becomes.message.is_empty();
    WillBecome {
        verdict: known(becomes.verdict),
        reason: becomes.reason,
        requirement: becomes.requirement.as_deref().map(str::to_owned),
        message: has_message.then(|| cut(&becomes.message, MESSAGE_CHARACTERS)),
        warned,
    }
}

fn message(answer: &PolicyAnswer) -> Option<String> {
    let has_one = answer.verdict != Verdict::Compliant && !answer.message.is_empty();
    has_one.then(|| cut(&answer.message, MESSAGE_CHARACTERS))
}

fn said_results(images: &[ImageResult], old: &Index<'_>) -> Vec<SaidResult> {
    let of_image = |image: &ImageResult| {
        let said = image.policies.iter().map(|result| {
            let key = (image.image.as_str(), image.digest.as_str(), result.name.as_str());
            SaidResult::of(image, result, old.get(&key).copied())
        });
        said.collect::<Vec<_>>()
    };
    images.iter().flat_map(of_image).collect()
}

/// The results that fit, and how many do not. Results come worst first, so the worst are kept; of an
/// image that alone is too large the worst results are kept.
fn within_size(images: Vec<ImageResult>) -> (Vec<ImageResult>, usize) {
    let (mut kept, mut omitted) = (Vec::new(), 0);
    let mut left = IMAGES_BYTES;
    for mut image in images {
        let all = image.policies.len().max(1);
        if size(&image) > left && kept.is_empty() {
            shrink(&mut image, left);
        }
        let size = size(&image);
        if size > left {
            omitted += all;
            left = 0;
            continue;
        }
        left -= size;
        omitted += all - image.policies.len().max(1);
        kept.push(image);
    }
    (kept, omitted)
}

/// Takes the mildest results away until the rest fits.
fn shrink(image: &mut ImageResult, limit: usize) {
    let mut mildest_first: Vec<usize> = (0..image.policies.len()).collect();
    mildest_first.sort_by_key(|at| {
        let result = &image.policies[*at];
        rank(result.verdict, result.reason)
    });
    let sizes: Vec<usize> = image.policies.iter().map(size).collect();
    let mut excess = size(image).saturating_sub(limit);
    let mut dropped = vec![false; image.policies.len()];
    for at in mildest_first {
        if excess == 0 {
            break;
        }
        dropped[at] = true;
        excess = excess.saturating_sub(sizes[at]);
    }
    let mut at = 0;
    image.policies.retain(|_| {
        at += 1;
        !dropped[at - 1]
    });
}

/// Its length as JSON; what cannot be written does not fit.
fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len() + 1)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
