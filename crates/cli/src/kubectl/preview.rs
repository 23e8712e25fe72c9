//! Asks the operator what changes would do: creates a PolicyPreview, waits for its answer, reads all of it, and removes
//! it.

use std::time::Duration;

use api::conditions::COMPLETE;
use api::{
    PolicyPreview, PolicyPreviewSpec, PolicyPreviewStatus, PreviewChange, PreviewResult, PreviewedStarts,
};
use clap::Args;
use kube::api::{Api, DeleteParams, PostParams};

use crate::cluster::{ClusterError, Session};
use crate::output::{self, Found};
use crate::span::Span;

/// Who created the previews, for whoever looks at managed fields.
pub(super) const FIELD_MANAGER: &str = "kubectl-assay";
/// What a preview may hold.
const CHANGES: usize = 64;
/// A preview that was not removed goes by itself after this.
const TTL: &str = "10m";
/// The answers of several pages must be the same one; so often it is tried anew.
const ATTEMPTS: u32 = 3;
/// More results than these are no answer that anybody reads.
const RESULTS: usize = 50_000;
/// Between two looks at a preview.
const PAUSE: Duration = Duration::from_millis(250);

// No doc comment: it would take the place of the text of the command that holds these.
#[derive(Args, Clone, Debug)]
pub(super) struct PreviewArguments {
    /// How long the operator may take for its answer
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(super) timeout: Span,
}

/// What changes would do: every result, none left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Foreseen {
    pub(super) failing: Vec<PreviewResult>,
    /// Better than now, and known to be.
    pub(super) passing: Vec<PreviewResult>,
    /// Not to be told then, other than now.
    pub(super) newly_unknown: Vec<PreviewResult>,
    pub(super) unchanged: i64,
    /// Of all results, those that cannot be told then.
    pub(super) unknown: i64,
    /// What only a next start would meet; the totals are exact, the lists the first of them.
    pub(super) starts: PreviewedStarts,
    /// Names the lists: two answers with the same one are the same.
    pub(super) digest: String,
}

/// Why nothing is said of the changes.
#[derive(Debug, thiserror::Error)]
pub(super) enum PreviewError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("found {0} changes, expected 1 to {CHANGES}: a PolicyPreview holds no more; split the files")]
    Changes(usize),
    #[error(
        "no operator answered within {0}: see whether it runs (kubectl get pods -n assay-system), raise --timeout, or \
         where the command has it, give --offline"
    )]
    NoAnswer(Span),
    #[error("the changes would not come about as they are written: {0}")]
    Refused(String),
    #[error(
        "what would change is another thing with every look ({ATTEMPTS} times), so that no list of it is complete: \
         try again when less is being rolled out"
    )]
    Unsteady,
    #[error(
        "{0} results would change, more than {RESULTS}, which are not listed: preview a part of the changes"
    )]
    TooMany(i64),
}

/// What the changes would do, by the operator's answer.
pub(super) async fn foresee(
    session: &Session,
    changes: &[PreviewChange],
    arguments: &PreviewArguments,
) -> Result<Foreseen, PreviewError> {
    if changes.is_empty() || changes.len() > CHANGES {
        return Err(PreviewError::Changes(changes.len()));
    }
    for _ in 0..ATTEMPTS {
        if let Some(foreseen) = all_pages(session, changes, arguments).await? {
            return Ok(foreseen);
        }
    }
    Err(PreviewError::Unsteady)
}

/// Every page of one answer; None where two pages were not of the same one.
async fn all_pages(
    session: &Session,
    changes: &[PreviewChange],
    arguments: &PreviewArguments,
) -> Result<Option<Foreseen>, PreviewError> {
    let mut gathered = Gathered::default();
    loop {
        let offset = gathered.offset();
        if offset > 0 {
            output::progress(&format!("{offset} results are read"));
        }
        let status = one_page(session, changes, offset, arguments).await?;
        match gathered.take(offset, status)? {
            Page::OfAnother => return Ok(None),
            Page::More => {}
            Page::Last(foreseen) => return Ok(Some(*foreseen)),
        }
    }
}

/// Asks once; the preview is removed whatever the answer is.
async fn one_page(
    session: &Session,
    changes: &[PreviewChange],
    offset: usize,
    arguments: &PreviewArguments,
) -> Result<PolicyPreviewStatus, PreviewError> {
    let mut preview = PolicyPreview::new(
        "",
        PolicyPreviewSpec {
            changes: changes.to_vec(),
            ttl: Some(TTL.to_owned()),
            offset: i64::try_from(offset).ok().filter(|offset| *offset > 0),
        },
    );
    preview.metadata.name = None;
    preview.metadata.generate_name = Some("kubectl-assay-".to_owned());
    let api: Api<PolicyPreview> = Api::all(session.client.clone());
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = api.create(&parameters, &preview).await;
    let created = created.map_err(|error| session.explained_here::<PolicyPreview>("create", None, error))?;
    let name = created.metadata.name.unwrap_or_default();
    let limit = Duration::from_secs(arguments.timeout.seconds());
    let answer = tokio::time::timeout(limit, answered(session, &api, &name)).await;
    // What cannot be removed goes after its time.
    drop(api.delete(&name, &DeleteParams::default()).await);
    match answer {
        Ok(status) => Ok(status?),
        Err(_) => Err(PreviewError::NoAnswer(arguments.timeout.clone())),
    }
}

/// Waits for the answer.
async fn answered(
    session: &Session,
    api: &Api<PolicyPreview>,
    name: &str,
) -> Result<PolicyPreviewStatus, PreviewError> {
    let mut looks = 0_u32;
    loop {
        let preview = api.get(name).await;
        let preview =
            preview.map_err(|error| session.explained_here::<PolicyPreview>("get", Some(name), error))?;
        let generation = preview.metadata.generation;
        let status = preview.status.unwrap_or_default();
        let complete = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == COMPLETE);
        match complete.filter(|_| status.observed_generation == generation) {
            Some(condition) if condition.status == "True" => return Ok(status),
            Some(condition) => return Err(PreviewError::Refused(condition.message.clone())),
            None => {}
        }
        looks += 1;
        if looks == 8 {
            output::progress("waiting for the operator");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The pages of one answer so far.
#[derive(Debug, Default)]
struct Gathered {
    foreseen: Foreseen,
    /// The totals of the three lists.
    totals: [i64; 3],
}

/// What a page completes.
enum Page {
    /// It belongs to another answer than the pages before.
    OfAnother,
    More,
    Last(Box<Foreseen>),
}

impl Gathered {
    /// Where the next page begins: at the end of the shortest list that is not complete.
    fn offset(&self) -> usize {
        let lists = self.lists().map(Vec::len).into_iter().zip(self.totals);
        let open = lists.filter(|(length, total)| i64::try_from(*length).unwrap_or(i64::MAX) < *total);
        open.map(|(length, _)| length).min().unwrap_or(0)
    }

    fn lists(&self) -> [&Vec<PreviewResult>; 3] {
        let Foreseen {
            failing,
            passing,
            newly_unknown,
            ..
        } = &self.foreseen;
        [failing, passing, newly_unknown]
    }

    fn take(&mut self, offset: usize, status: PolicyPreviewStatus) -> Result<Page, PreviewError> {
        let totals = [
            status.newly_failing_total,
            status.newly_passing_total,
            status.newly_unknown_total,
        ]
        .map(Option::unwrap_or_default);
        // An operator of an earlier version names no digest; the totals and one page are all there is to compare.
        let digest = status.results_digest.unwrap_or_default();
        if offset == 0 {
            self.totals = totals;
            self.foreseen.digest = digest;
            self.foreseen.unchanged = status.unchanged.unwrap_or_default();
            self.foreseen.unknown = status.unknown.unwrap_or_default();
            self.foreseen.starts = status.start_only.unwrap_or_default();
        } else if digest.is_empty() || self.foreseen.digest != digest {
            return Ok(Page::OfAnother);
        }
        let most = totals.into_iter().max().unwrap_or_default();
        if usize::try_from(most).is_ok_and(|most| most > RESULTS) {
            return Err(PreviewError::TooMany(most));
        }
        let before = self.lists().map(Vec::len).iter().sum::<usize>();
        let pages = [status.newly_failing, status.newly_passing, status.newly_unknown];
        let Foreseen {
            failing,
            passing,
            newly_unknown,
            ..
        } = &mut self.foreseen;
        for (list, page) in [failing, passing, newly_unknown].into_iter().zip(pages) {
            let known = list.len().saturating_sub(offset);
            list.extend(page.into_iter().skip(known));
        }
        let lengths = self.lists().map(Vec::len);
        let is_whole = lengths
            .iter()
            .zip(totals)
            .all(|(length, total)| i64::try_from(*length).is_ok_and(|length| length >= total));
        Ok(if is_whole {
            Page::Last(Box::new(std::mem::take(&mut self.foreseen)))
        } else if lengths.iter().sum::<usize>() == before {
            // A page without anything new would be asked for for ever.
            Page::OfAnother
        } else {
            Page::More
        })
    }
}

impl Foreseen {
    /// What the engine itself says; it names no digest, for nobody asks twice.
    pub(super) fn of_report(report: engine::PreviewReport) -> Self {
        Foreseen {
            failing: report.newly_failing,
            passing: report.newly_passing,
            newly_unknown: report.newly_unknown,
            unchanged: report.unchanged,
            unknown: report.unknown,
            // Templates are not read offline.
            starts: PreviewedStarts::default(),
            digest: String::new(),
        }
    }

    /// Something gets worse.
    pub(super) fn breaks(&self) -> bool {
        self.worse() > 0 || self.untold() > 0
    }

    /// What a command that only looks found. What cannot be told now and then may fail, so it is not clean.
    pub(super) fn found(&self) -> Found {
        match (self.breaks(), self.still_unknown()) {
            (true, _) => Found::Something,
            (false, 0) => Found::Nothing,
            (false, _) => Found::NotTold,
        }
    }

    /// Results that the changes touch and that cannot be told, now as then: no list names them.
    pub(super) fn still_unknown(&self) -> usize {
        let unknown = usize::try_from(self.unknown).unwrap_or_default();
        unknown.saturating_sub(self.newly_unknown.len())
    }

    /// Results that would newly fail, those of next starts included.
    pub(super) fn worse(&self) -> usize {
        self.failing.len() + usize::try_from(self.starts.newly_failing_total).unwrap_or(usize::MAX / 2)
    }

    /// Results that would newly be unknown, those of next starts included.
    pub(super) fn untold(&self) -> usize {
        self.newly_unknown.len() + usize::try_from(self.starts.newly_unknown_total).unwrap_or(usize::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(number: usize) -> PreviewResult {
        serde_json::from_value(json!({
            "namespace": "shop", "workload": format!("Deployment/w{number}"), "image": "r/web:1",
            "digest": "sha256:01", "policy": "p", "reason": "KeyDisabled",
        }))
        .unwrap()
    }

    /// A status of an operator that shows at most `room` results of a list.
    fn status(offset: usize, room: usize, totals: [usize; 3], digest: &str) -> PolicyPreviewStatus {
        let list = |total: usize| (offset..total).take(room).map(result).collect::<Vec<_>>();
        let total = |number: usize| i64::try_from(number).ok();
        PolicyPreviewStatus {
            newly_failing_total: total(totals[0]),
            newly_passing_total: total(totals[1]),
            newly_unknown_total: total(totals[2]),
            newly_failing: list(totals[0]),
            newly_passing: list(totals[1]),
            newly_unknown: list(totals[2]),
            results_digest: Some(digest.to_owned()),
            ..PolicyPreviewStatus::default()
        }
    }

    #[test]
    fn pages_of_one_answer_give_every_result_once() {
        let totals = [7, 0, 2];
        let mut gathered = Gathered::default();
        let mut asked = Vec::new();
        loop {
            let offset = gathered.offset();
            asked.push(offset);
            match gathered
                .take(offset, status(offset, 3, totals, "sha256:aa"))
                .unwrap()
            {
                Page::Last(all) => {
                    assert_eq!(all.failing, (0..7).map(result).collect::<Vec<_>>());
                    assert_eq!(all.newly_unknown, (0..2).map(result).collect::<Vec<_>>());
                    break;
                }
                Page::More => {}
                Page::OfAnother => panic!("all pages are of one answer"),
            }
        }
        assert_eq!(asked, [0, 3, 6]);
    }

    /// A list from two answers would be none: something could be missing from it.
    #[test]
    fn pages_of_two_answers_are_none() {
        let mut gathered = Gathered::default();
        assert!(matches!(
            gathered.take(0, status(0, 3, [7, 0, 0], "sha256:aa")),
            Ok(Page::More)
        ));
        let other = gathered.take(3, status(3, 3, [7, 0, 0], "sha256:bb"));
        assert!(matches!(other, Ok(Page::OfAnother)));
        let mut gathered = Gathered::default();
        assert!(matches!(
            gathered.take(0, status(0, 3, [7, 0, 0], "sha256:aa")),
            Ok(Page::More)
        ));
        let mut empty = status(3, 3, [7, 0, 0], "sha256:aa");
        empty.newly_failing.clear();
        assert!(
            matches!(gathered.take(3, empty), Ok(Page::OfAnother)),
            "it makes no progress"
        );
    }
}
