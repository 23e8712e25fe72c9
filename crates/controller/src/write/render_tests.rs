use super::*;
use crate::testing::{answer, dry_run, image, report, time};

const GOOD: (Verdict, Reason) = (Verdict::Compliant, Reason::AllVerified);
const BAD: (Verdict, Reason) = (Verdict::Violating, Reason::SignatureMissing);
const REVOKED: (Verdict, Reason) = (Verdict::Violating, Reason::KeyRevoked);
const DOWN: (Verdict, Reason) = (Verdict::Unknown, Reason::RegistryUnavailable);

fn by((verdict, reason): (Verdict, Reason)) -> PolicyAnswer {
    answer("prod", verdict, reason)
}

fn dry((verdict, reason): (Verdict, Reason)) -> PolicyAnswer {
    dry_run(answer("trial", verdict, reason))
}

/// The images r/0, r/1 … with these answers.
fn rendered(answers: Vec<Vec<PolicyAnswer>>) -> ImageComplianceStatus {
    let images = answers.into_iter().enumerate();
    let images = images.map(|(at, answers)| image(&format!("r/{at}"), &format!("sha256:{at}"), answers));
    covered(&report(images.collect()), &Said::default(), time(0)).status
}

/// Status and reason of a condition as `False/KeyRevoked`.
fn shown(status: &ImageComplianceStatus, type_: &str) -> Option<String> {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    Some(format!("{}/{}", found.status, found.reason))
}

fn compliant(answers: Vec<Vec<PolicyAnswer>>) -> (String, Option<String>, Verdict) {
    let status = rendered(answers);
    (
        shown(&status, COMPLIANT).unwrap(),
        shown(&status, DRY_RUN_COMPLIANT),
        status.verdict.unwrap(),
    )
}

#[test]
fn the_table_of_the_condition_compliant() {
    let rows: Vec<(Vec<Vec<PolicyAnswer>>, &str, Verdict)> = vec![
        (
            vec![vec![by(GOOD)], vec![by(BAD)], vec![by(DOWN)]],
            "False/SignatureMissing",
            Verdict::Violating,
        ),
        (
            vec![vec![by(BAD)], vec![by(REVOKED)]],
            "False/KeyRevoked",
            Verdict::Violating,
        ),
        (
            vec![vec![by(GOOD)], vec![by(DOWN)]],
            "Unknown/RegistryUnavailable",
            Verdict::Unknown,
        ),
        (
            vec![vec![by(GOOD)], vec![by(GOOD)]],
            "True/AllVerified",
            Verdict::Compliant,
        ),
        (
            vec![vec![by(GOOD)], vec![]],
            "True/PartlyCovered",
            Verdict::Compliant,
        ),
        (
            vec![vec![by(GOOD)], vec![dry(BAD)]],
            "True/PartlyCovered",
            Verdict::Compliant,
        ),
        (
            vec![vec![dry(GOOD)], vec![dry(BAD)]],
            "Unknown/DryRunOnly",
            Verdict::NotCovered,
        ),
        (
            vec![vec![dry(BAD)], vec![]],
            "Unknown/DryRunOnly",
            Verdict::NotCovered,
        ),
        (
            vec![vec![by(GOOD), dry(BAD)]],
            "True/AllVerified",
            Verdict::Compliant,
        ),
    ];
    for (answers, condition, verdict) in rows {
        let (found, _, flat) = compliant(answers.clone());
        assert_eq!((found.as_str(), flat), (condition, verdict), "{answers:?}");
    }
}

/// C5.07.
#[test]
fn policies_in_dry_run_have_a_condition_of_their_own_and_count_into_nothing_else() {
    assert_eq!(compliant(vec![vec![by(GOOD)]]).1, None);
    assert_eq!(
        compliant(vec![vec![by(GOOD), dry(BAD)]]).1.as_deref(),
        Some("False/SignatureMissing")
    );
    assert_eq!(
        compliant(vec![vec![by(BAD), dry(GOOD)]]).1.as_deref(),
        Some("True/AllVerified")
    );
    assert_eq!(
        compliant(vec![vec![by(BAD)], vec![dry(GOOD)]]).1.as_deref(),
        Some("True/PartlyCovered")
    );
    assert_eq!(
        compliant(vec![vec![dry(DOWN)]]).1.as_deref(),
        Some("Unknown/RegistryUnavailable")
    );
}

#[test]
fn verdicts_and_modes_of_a_newer_version_count_as_unknown_and_strict() {
    let newer = PolicyAnswer {
        mode: Mode::Other,
        verdict: Verdict::Other,
        ..by(DOWN)
    };
    let status = rendered(vec![vec![newer]]);
    assert_eq!(status.verdict, Some(Verdict::Unknown));
    let result = &status.images[0].policies[0];
    assert_eq!((result.mode, result.verdict), (Mode::Enforce, Verdict::Unknown));
}

#[test]
fn the_condition_names_the_worst_image_and_its_message_in_one_line() {
    let mut worst = by(REVOKED);
    worst.message = "a key\nwas revoked".into();
    let status = rendered(vec![vec![by(GOOD)], vec![by(BAD)], vec![worst]]);
    assert_eq!(status.conditions[0].message, "r/2: a key was revoked");
}

#[test]
fn images_come_worst_first_by_what_counts() {
    let status = rendered(vec![
        vec![by(GOOD)],
        vec![by(DOWN)],
        vec![dry(REVOKED)],
        vec![by(BAD)],
        vec![by(REVOKED)],
    ]);
    let order: Vec<_> = status.images.iter().map(|image| image.image.as_str()).collect();
    assert_eq!(order, ["r/4", "r/3", "r/1", "r/0", "r/2"]);
    assert_eq!(status.image_count, Some(5));
    assert_eq!(status.omitted, None);
}

#[test]
fn a_message_is_cut_and_given_only_where_something_is_wrong() {
    let mut long = by(BAD);
    long.message = "ä".repeat(600).into();
    let mut chatty = by(GOOD);
    chatty.message = "all is well".into();
    let status = rendered(vec![vec![long], vec![chatty]]);
    assert_eq!(
        status.images[0].policies[0]
            .message
            .as_ref()
            .unwrap()
            .chars()
            .count(),
        512
    );
    assert_eq!(status.images[1].policies[0].message, None);
}

#[test]
fn since_is_kept_while_image_digest_policy_verdict_and_reason_are_the_same() {
    let of = |name: &str, digest: &str, answer| report(vec![image(name, digest, vec![answer])]);
    let first = covered(&of("r/a", "sha256:0a", by(BAD)), &Said::default(), time(0)).said;
    let since = |report: WorkloadReport| {
        covered(&report, &first, time(9)).status.images[0].policies[0]
            .since
            .0
    };
    assert_eq!(since(of("r/a", "sha256:0a", by(BAD))), time(0));
    assert_eq!(since(of("r/a", "sha256:0a", by(REVOKED))), time(9));
    assert_eq!(since(of("r/a", "sha256:0b", by(BAD))), time(9));
    assert_eq!(since(of("r/b", "sha256:0a", by(BAD))), time(9));
    assert_eq!(
        since(of("r/a", "sha256:0a", answer("other", BAD.0, BAD.1))),
        time(9)
    );
}

#[test]
fn an_unchanged_report_renders_the_same_status_at_any_time() {
    let report = report(vec![image("r/a", "sha256:0a", vec![by(BAD), dry(GOOD)])]);
    let first = covered(&report, &Said::default(), time(0));
    let again = covered(&report, &first.said, time(1000));
    assert_eq!(first.status, again.status);
    let read_back: ImageComplianceStatus =
        serde_json::from_value(serde_json::to_value(&first.status).unwrap()).unwrap();
    assert_eq!(
        covered(&report, &Said::of(&read_back), time(2000)).status,
        first.status
    );
}

#[test]
fn an_object_stays_under_its_size_and_keeps_the_worst() {
    let bulky = |at: usize, judgement| {
        let mut answer = by(judgement);
        answer.message = "m".repeat(512).into();
        image(&format!("r/{at:04}"), &format!("sha256:{at:064}"), vec![answer])
    };
    let mut images: Vec<_> = (0..1000).map(|at| bulky(at, DOWN)).collect();
    images.push(bulky(5000, REVOKED));
    let status = covered(&report(images), &Said::default(), time(0)).status;
    assert!(serde_json::to_vec(&status).unwrap().len() < 250 * 1024);
    assert_eq!(status.images[0].image, "r/5000");
    assert_eq!(status.image_count, Some(1001));
    assert_eq!(
        status.omitted,
        Some(i64::try_from(1001 - status.images.len()).unwrap())
    );
}

#[test]
fn of_one_image_that_is_too_large_alone_the_worst_results_are_kept() {
    let answers = (0..600).map(|at| {
        let (verdict, reason) = if at == 300 { REVOKED } else { DOWN };
        let mut answer = answer(&format!("policy-{at:03}"), verdict, reason);
        answer.message = "m".repeat(512).into();
        answer
    });
    let status = covered(
        &report(vec![image("r/a", "sha256:0a", answers.collect())]),
        &Said::default(),
        time(0),
    )
    .status;
    let kept = &status.images[0].policies;
    assert!(kept.iter().any(|result| result.name == "policy-300"));
    assert!(kept.len() < 600);
    assert_eq!(status.omitted, Some(i64::try_from(600 - kept.len()).unwrap()));
    assert!(kept.is_sorted_by_key(|result| &result.name));
}

#[test]
fn an_image_name_that_alone_is_too_long_is_left_out_and_counted() {
    let huge = "r".repeat(IMAGES_BYTES);
    let images = vec![
        image(&huge, "", vec![by(REVOKED)]),
        image("r/a", "sha256:0a", vec![by(GOOD)]),
    ];
    let status = covered(&report(images), &Said::default(), time(0)).status;
    assert_eq!(
        status.omitted,
        Some(2),
        "what follows what does not fit is left out too"
    );
    assert_eq!(status.verdict, Some(Verdict::Violating));
    assert!(serde_json::to_vec(&status).unwrap().len() < 250 * 1024);
}

#[test]
fn the_workload_owns_the_object_without_controlling_it() {
    let owners = covered(&report(vec![]), &Said::default(), time(0)).owners;
    assert_eq!(owners.len(), 1);
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].uid.as_str()),
        ("Deployment", "d")
    );
    assert_eq!(
        (owners[0].controller, owners[0].block_owner_deletion),
        (Some(false), Some(false))
    );
}

#[test]
fn a_workload_of_which_nothing_runs_is_unknown_and_its_results_are_remembered() {
    let before = covered(
        &report(vec![image("r/a", "sha256:0a", vec![by(BAD), dry(GOOD)])]),
        &Said::default(),
        time(0),
    );
    let rendered = nothing_running(&before.said, time(5));
    assert_eq!(rendered.status.verdict, Some(Verdict::Unknown));
    assert_eq!(
        shown(&rendered.status, COMPLIANT).as_deref(),
        Some("Unknown/NothingRunning")
    );
    assert_eq!(
        shown(&rendered.status, DRY_RUN_COMPLIANT).as_deref(),
        Some("Unknown/NothingRunning")
    );
    assert_eq!(
        (rendered.status.images.len(), rendered.status.image_count),
        (0, Some(0))
    );
    assert_eq!(rendered.said.results, before.said.results);
    assert_eq!(rendered.owners, before.owners);
}

#[test]
fn a_violation_in_any_mode_is_a_violation() {
    let of = |answer| report(vec![image("r/a", "sha256:0a", vec![answer])]);
    assert!(has_violation(&of(by(BAD))));
    assert!(has_violation(&of(dry(BAD))));
    assert!(!has_violation(&of(by(DOWN))));
}
