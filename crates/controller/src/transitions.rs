//! From what was said to what is said now: which answers changed, and which of these changes are news.
//!
//! Pure. A first look that is still under way is no verdict: it neither is news itself nor makes the
//! verdict after it a first one, unless there was none before.

use api::{Mode, Reason, Verdict};
use engine::{ImageReport, PolicyAnswer, WorkloadReport};
use jiff::Timestamp;

use crate::said::{Said, SaidResult, is_waiting};

/// What an Event about a transition is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum News {
    BecameNonCompliant,
    BecameCompliant,
    VerdictUnknown,
    VerdictExcepted,
    LeftCoverage,
}

impl News {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            News::BecameNonCompliant => "BecameNonCompliant",
            News::BecameCompliant => "BecameCompliant",
            News::VerdictUnknown => "VerdictUnknown",
            News::VerdictExcepted => "VerdictExcepted",
            News::LeftCoverage => "LeftCoverage",
        }
    }

    pub(crate) fn is_warning(self) -> bool {
        self != News::BecameCompliant
    }
}

/// One answer that changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transition {
    pub(crate) image: String,
    pub(crate) digest: String,
    pub(crate) policy: String,
    /// The generation of the policy that decided; None where it does not cover the image any more.
    pub(crate) generation: Option<i64>,
    pub(crate) mode: Mode,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) since: Timestamp,
    pub(crate) evidence: Vec<String>,
    pub(crate) signers: Vec<String>,
    pub(crate) previous: Option<(Verdict, Reason)>,
    /// None where the change is recorded but no news.
    pub(crate) news: Option<News>,
}

/// What changed from `before` to `after`, which was rendered from the report.
pub(crate) fn of_report(
    before: &Said,
    after: &Said,
    report: &WorkloadReport,
    now: Timestamp,
) -> Vec<Transition> {
    let (old, new) = (before.index(), after.index());
    let mut found = Vec::new();
    for image in &report.images {
        for answer in &image.policies {
            let key = (&*image.image, image.digest.as_str(), &*answer.policy);
            let since = new.get(&key).map_or(now, |said| said.since);
            found.extend(changed(
                &image.image,
                &image.digest,
                answer,
                old.get(&key).copied(),
                before,
                since,
            ));
        }
        let runs_on = |said: &&SaidResult| said.image == *image.image && said.digest == image.digest;
        let still_covers =
            |said: &SaidResult| image.policies.iter().any(|answer| *answer.policy == *said.policy);
        let left = before
            .results
            .iter()
            .filter(runs_on)
            .filter(|said| !still_covers(said));
        found.extend(left.map(|said| left_coverage(said, now)));
    }
    found
}

/// No policy covers the workload any more.
pub(crate) fn of_leaving(before: &Said, now: Timestamp) -> Vec<Transition> {
    before
        .results
        .iter()
        .map(|said| left_coverage(said, now))
        .collect()
}

/// What is known of an image whose last pod ended, and was never said while it ran. It is recorded, and is no news.
pub(crate) fn of_ended(before: &Said, ended: &ImageReport, now: Timestamp) -> Vec<Transition> {
    let old = before.index();
    let recorded = ended.policies.iter().filter_map(|answer| {
        let known = old.get(&(&*ended.image, ended.digest.as_str(), &*answer.policy));
        let transition = changed(&ended.image, &ended.digest, answer, known.copied(), before, now)?;
        Some(Transition {
            news: None,
            ..transition
        })
    });
    recorded.collect()
}

fn changed(
    image: &str,
    digest: &str,
    answer: &PolicyAnswer,
    old: Option<&SaidResult>,
    before: &Said,
    since: Timestamp,
) -> Option<Transition> {
    if old.is_some_and(|old| (old.verdict, old.reason) == (answer.verdict, answer.reason)) {
        return None;
    }
    let waits = is_waiting(answer.verdict, answer.reason);
    let said_but_forgotten = old.is_none() && before.forgot_some;
    if said_but_forgotten || (old.is_none() && waits) {
        return None;
    }
    let settled = old.and_then(|old| old.settled);
    Some(Transition {
        image: image.to_owned(),
        digest: digest.to_owned(),
        policy: answer.policy.to_string(),
        generation: Some(answer.generation),
        mode: answer.mode,
        verdict: answer.verdict,
        reason: answer.reason,
        message: answer.message.to_string(),
        since,
        evidence: answer.evidence.clone(),
        signers: answer.signers.clone(),
        previous: old.map(|old| (old.verdict, old.reason)),
        news: if waits {
            None
        } else {
            news(settled, answer.verdict)
        },
    })
}

/// Whether a verdict is news after the last settled one.
fn news(settled: Option<Verdict>, verdict: Verdict) -> Option<News> {
    if settled == Some(verdict) {
        return None;
    }
    match verdict {
        Verdict::Violating => Some(News::BecameNonCompliant),
        Verdict::Compliant => settled.map(|_| News::BecameCompliant),
        Verdict::Unknown | Verdict::Other => Some(News::VerdictUnknown),
        Verdict::Excepted => Some(News::VerdictExcepted),
        Verdict::NotCovered => Some(News::LeftCoverage),
    }
}

fn left_coverage(said: &SaidResult, now: Timestamp) -> Transition {
    Transition {
        image: said.image.clone(),
        digest: said.digest.clone(),
        policy: said.policy.clone(),
        generation: None,
        mode: said.mode,
        verdict: Verdict::NotCovered,
        reason: Reason::NotCovered,
        message: String::new(),
        since: now,
        evidence: Vec::new(),
        signers: Vec::new(),
        previous: Some((said.verdict, said.reason)),
        news: Some(News::LeftCoverage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, image, report, time};
    use crate::write::render;

    /// What is said after the images, from what was said before.
    fn say(before: &Said, images: Vec<engine::ImageReport>) -> (Said, Vec<Transition>) {
        let report = report(images);
        let after = render::covered(&report, before, time(10)).said;
        let transitions = of_report(before, &after, &report, time(10));
        (after, transitions)
    }

    /// The news of a sequence of answers about one image by one policy.
    fn news_of(answers: &[(Verdict, Reason)]) -> Vec<Option<News>> {
        let mut said = Said::default();
        let mut found = Vec::new();
        for (verdict, reason) in answers {
            let (after, transitions) = say(
                &said,
                vec![image(
                    "r/web:1",
                    "sha256:01",
                    vec![answer("prod", *verdict, *reason)],
                )],
            );
            found.push(transitions.first().and_then(|transition| transition.news));
            said = after;
        }
        found
    }

    const GOOD: (Verdict, Reason) = (Verdict::Compliant, Reason::AllVerified);
    const BAD: (Verdict, Reason) = (Verdict::Violating, Reason::SignatureMissing);
    const REVOKED: (Verdict, Reason) = (Verdict::Violating, Reason::KeyRevoked);
    const DOWN: (Verdict, Reason) = (Verdict::Unknown, Reason::RegistryUnavailable);
    const LIMITED: (Verdict, Reason) = (Verdict::Unknown, Reason::RateLimited);
    const EXCEPTED: (Verdict, Reason) = (Verdict::Excepted, Reason::Excepted);
    const PENDING: (Verdict, Reason) = (Verdict::Unknown, Reason::Pending);

    #[test]
    fn a_first_verdict_is_news_only_where_it_is_bad() {
        assert_eq!(news_of(&[GOOD]), [None]);
        assert_eq!(news_of(&[PENDING]), [None]);
        assert_eq!(news_of(&[BAD]), [Some(News::BecameNonCompliant)]);
        assert_eq!(news_of(&[DOWN]), [Some(News::VerdictUnknown)]);
    }

    /// C5.05, C5.15.
    #[test]
    fn a_change_of_the_verdict_is_news_in_every_direction() {
        assert_eq!(
            news_of(&[GOOD, BAD, GOOD, DOWN, GOOD]),
            [
                None,
                Some(News::BecameNonCompliant),
                Some(News::BecameCompliant),
                Some(News::VerdictUnknown),
                Some(News::BecameCompliant),
            ]
        );
    }

    /// C5.12.
    #[test]
    fn an_unchanged_verdict_is_no_news() {
        assert_eq!(
            news_of(&[BAD, BAD, BAD]),
            [Some(News::BecameNonCompliant), None, None]
        );
        assert_eq!(news_of(&[BAD, REVOKED]), [Some(News::BecameNonCompliant), None]);
        assert_eq!(news_of(&[DOWN, LIMITED]), [Some(News::VerdictUnknown), None]);
    }

    /// C5.20: a violation that is passed over is told as such, first seen or not, and so is its coming back.
    #[test]
    fn c5_20_an_exception_is_always_news_and_so_is_its_end() {
        assert_eq!(news_of(&[EXCEPTED]), [Some(News::VerdictExcepted)]);
        assert_eq!(
            news_of(&[BAD, EXCEPTED, EXCEPTED, BAD]),
            [
                Some(News::BecameNonCompliant),
                Some(News::VerdictExcepted),
                None,
                Some(News::BecameNonCompliant),
            ]
        );
    }

    #[test]
    fn a_look_under_way_neither_is_news_nor_hides_news() {
        assert_eq!(news_of(&[PENDING, GOOD]), [None, None]);
        assert_eq!(news_of(&[PENDING, BAD]), [None, Some(News::BecameNonCompliant)]);
        let healed = news_of(&[BAD, PENDING, GOOD]);
        assert_eq!(
            healed,
            [Some(News::BecameNonCompliant), None, Some(News::BecameCompliant)]
        );
        assert_eq!(
            news_of(&[BAD, PENDING, BAD]),
            [Some(News::BecameNonCompliant), None, None]
        );
    }

    #[test]
    fn a_change_of_the_reason_alone_is_recorded_with_the_previous_one() {
        let web = |(verdict, reason)| {
            vec![image(
                "r/web:1",
                "sha256:01",
                vec![answer("prod", verdict, reason)],
            )]
        };
        let (said, _) = say(&Said::default(), web(BAD));
        let (_, transitions) = say(&said, web(REVOKED));
        assert_eq!(transitions.len(), 1);
        assert_eq!(transitions[0].previous, Some(BAD));
        assert_eq!((transitions[0].verdict, transitions[0].reason), REVOKED);
        assert_eq!(transitions[0].news, None);
    }

    /// C5.18.
    #[test]
    fn two_bad_images_of_one_workload_are_both_reported() {
        let bad = |name: &str, digest: &str| image(name, digest, vec![answer("prod", BAD.0, BAD.1)]);
        let (_, transitions) = say(
            &Said::default(),
            vec![bad("r/a", "sha256:0a"), bad("r/b", "sha256:0b")],
        );
        let found: Vec<_> = transitions
            .iter()
            .map(|found| (found.digest.as_str(), found.news))
            .collect();
        let news = Some(News::BecameNonCompliant);
        assert_eq!(found, [("sha256:0a", news), ("sha256:0b", news)]);
    }

    /// B49.
    #[test]
    fn a_policy_that_covers_a_running_image_no_more_is_news() {
        let both = vec![answer("one", BAD.0, BAD.1), answer("two", GOOD.0, GOOD.1)];
        let (said, _) = say(&Said::default(), vec![image("r/a", "sha256:0a", both)]);
        let (_, transitions) = say(
            &said,
            vec![image("r/a", "sha256:0a", vec![answer("two", GOOD.0, GOOD.1)])],
        );
        assert_eq!(transitions.len(), 1);
        assert_eq!(
            (transitions[0].policy.as_str(), transitions[0].news),
            ("one", Some(News::LeftCoverage))
        );
        assert_eq!(transitions[0].verdict, Verdict::NotCovered);
        assert_eq!(of_leaving(&said, time(20)).len(), 2);
    }

    #[test]
    fn an_image_that_runs_no_more_leaves_no_coverage() {
        let (said, _) = say(
            &Said::default(),
            vec![image("r/a", "sha256:0a", vec![answer("one", BAD.0, BAD.1)])],
        );
        let (_, transitions) = say(
            &said,
            vec![image("r/a", "sha256:0b", vec![answer("one", GOOD.0, GOOD.1)])],
        );
        assert!(transitions.iter().all(|transition| transition.news.is_none()));
    }

    /// C5.19.
    #[test]
    fn c5_19_what_ended_is_recorded_only_where_it_was_not_said_while_it_ran() {
        let ended = |(verdict, reason)| image("r/job:1", "sha256:01", vec![answer("prod", verdict, reason)]);
        let recorded = |said: &Said, of| of_ended(said, &ended(of), time(10));
        for of in [GOOD, BAD, DOWN] {
            let [only] = recorded(&Said::default(), of).try_into().unwrap();
            let Transition {
                verdict,
                reason,
                news,
                ..
            } = only;
            assert_eq!(((verdict, reason), news), (of, None));
        }
        assert!(
            recorded(&Said::default(), PENDING).is_empty(),
            "that is no verdict"
        );
        let (said, _) = say(&Said::default(), vec![ended(GOOD)]);
        assert!(recorded(&said, GOOD).is_empty());
        assert_eq!(recorded(&said, BAD)[0].previous, Some(GOOD));
    }

    #[test]
    fn what_may_have_been_said_and_left_out_is_not_told_as_new() {
        let before = Said {
            forgot_some: true,
            ..Said::default()
        };
        let (_, transitions) = say(
            &before,
            vec![image("r/a", "sha256:0a", vec![answer("one", BAD.0, BAD.1)])],
        );
        assert!(transitions.is_empty());
    }
}
