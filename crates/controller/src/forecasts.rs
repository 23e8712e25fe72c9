//! What is told ahead of time: which answers have come so close to getting worse that this is news.
//!
//! Pure, and derived from what the status says: neither a restart nor another leader tells it again.

use std::sync::Arc;

use api::{Mode, Verdict};
use engine::{PolicyAnswer, WorkloadReport};
use jiff::Timestamp;
use policy::Becomes;

use crate::said::{Said, SaidResult};

/// One answer that gets worse by itself before long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forecast {
    pub(crate) image: String,
    pub(crate) digest: String,
    pub(crate) policy: String,
    pub(crate) generation: i64,
    pub(crate) mode: Mode,
    pub(crate) verdict: Verdict,
    /// When it changes.
    pub(crate) at: Timestamp,
    /// What it is then.
    pub(crate) becomes: Arc<Becomes>,
}

/// What is said for the first time to fall before long. A deadline that moves away while it stays close was told; one
/// that comes closer was not.
pub(crate) fn of_report(before: &Said, report: &WorkloadReport) -> Vec<Forecast> {
    let old = before.index();
    let images = report.images.iter();
    let answers = images.flat_map(|image| image.policies.iter().map(move |answer| (image, answer)));
    answers
        .filter_map(|(image, answer)| {
            let key = (&*image.image, image.digest.as_str(), &*answer.policy);
            let said = old.get(&key).copied();
            if said.is_none() && before.forgot_some {
                return None;
            }
            let (at, becomes) = news(answer, said)?;
            Some(Forecast {
                image: image.image.to_string(),
                digest: image.digest.clone(),
                policy: answer.policy.to_string(),
                generation: answer.generation,
                mode: answer.mode,
                verdict: answer.verdict,
                at,
                becomes,
            })
        })
        .collect()
}

fn news(answer: &PolicyAnswer, said: Option<&SaidResult>) -> Option<(Timestamp, Arc<Becomes>)> {
    let at = answer.valid_until.filter(|_| answer.warned)?;
    // Statuses may carry whole seconds: the same time is not an earlier one.
    let is_new = said
        .and_then(|said| said.warned)
        .is_none_or(|told| at.as_second() < told.as_second());
    let becomes = answer.becomes.clone().filter(|_| is_new)?;
    Some((at, becomes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, image, report, time};
    use crate::write::render;
    use api::Reason;

    const SOON: i64 = 3600;

    fn falling(at: i64, warned: bool) -> PolicyAnswer {
        PolicyAnswer {
            valid_until: Some(time(at)),
            becomes: Some(Arc::new(Becomes {
                verdict: Verdict::Violating,
                reason: Reason::KeyExpired,
                requirement: Some("signed".into()),
                message: "SigningKey release-2026 is outside its validity. Sign again.".into(),
            })),
            warned,
            ..answer("prod", Verdict::Compliant, Reason::AllVerified)
        }
    }

    fn web(answer: PolicyAnswer) -> WorkloadReport {
        report(vec![image("r/web:1", "sha256:01", vec![answer])])
    }

    /// Whether each of a sequence of answers is news; with `restart` every process reads what the last one wrote.
    fn news_of(answers: Vec<PolicyAnswer>, restart: bool) -> Vec<bool> {
        let mut said = Said::default();
        let mut found = Vec::new();
        for answer in answers {
            let report = web(answer);
            found.push(!of_report(&said, &report).is_empty());
            let rendered = render::covered(&report, &said, time(0));
            let written = serde_json::to_value(&rendered.status).unwrap();
            said = match restart {
                true => Said::of(&serde_json::from_value(written).unwrap()),
                false => rendered.said,
            };
        }
        found
    }

    /// Item 2: once, also over a restart or another leader, who knows what the status says and nothing else.
    #[test]
    fn coming_close_is_told_once_whoever_leads() {
        for restart in [false, true] {
            let answers = vec![falling(SOON, false), falling(SOON, true), falling(SOON, true)];
            assert_eq!(
                news_of(answers, restart),
                [false, true, false],
                "restart: {restart}"
            );
        }
    }

    #[test]
    fn a_later_deadline_that_is_still_close_was_told_and_an_earlier_one_was_not() {
        let answers = vec![
            falling(SOON, true),
            falling(SOON + 60, true),
            falling(SOON - 60, true),
        ];
        assert_eq!(news_of(answers, true), [true, false, true]);
    }

    #[test]
    fn what_went_away_and_comes_close_again_is_told_again() {
        let answers = vec![
            falling(SOON, true),
            falling(9 * SOON, false),
            falling(9 * SOON, true),
        ];
        assert_eq!(news_of(answers, true), [true, false, true]);
    }

    #[test]
    fn a_fraction_of_a_second_that_a_status_does_not_carry_is_no_other_deadline() {
        let mut exact = falling(SOON, true);
        exact.valid_until = Some(time(SOON) + jiff::SignedDuration::from_millis(700));
        let mut earlier = exact.clone();
        earlier.valid_until = Some(time(SOON) + jiff::SignedDuration::from_millis(100));
        assert_eq!(news_of(vec![exact, earlier], true), [true, false]);
    }

    #[test]
    fn what_may_have_been_told_and_left_out_is_not_told_as_new() {
        let before = Said {
            forgot_some: true,
            ..Said::default()
        };
        assert!(of_report(&before, &web(falling(SOON, true))).is_empty());
        assert_eq!(of_report(&Said::default(), &web(falling(SOON, true))).len(), 1);
    }
}
