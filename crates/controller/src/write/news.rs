//! Tells transitions: one structured log line each, and Events where they are news.

use api::{Mode, Verdict, WorkloadRef};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::events::{EventQueue, Note};
use crate::forecasts::Forecast;
use crate::transitions::Transition;

/// The target of the transition record, by which logs are filtered.
const RECORD: &str = "assay::transition";
/// The target of what is told ahead of time.
const FORECAST: &str = "assay::forecast";
/// What the operator did when it found news.
const VERIFY: &str = "Verify";

/// The workload that transitions are about.
pub(crate) struct About<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) workload: &'a WorkloadRef,
}

/// Records the transition in the log.
pub(crate) fn record(about: &About<'_>, transition: &Transition) {
    write_down(about, transition, None);
}

/// Records what is known of an image that runs no more.
pub(crate) fn record_ended(about: &About<'_>, transition: &Transition) {
    write_down(about, transition, Some(true));
}

fn write_down(about: &About<'_>, transition: &Transition, ended: Option<bool>) {
    let (previous_verdict, previous_reason) = match transition.previous {
        Some((verdict, reason)) => (verdict.to_string(), reason.as_str()),
        None => (String::new(), ""),
    };
    tracing::info!(
        target: RECORD,
        time = %transition.since,
        workload_uid = about.workload.uid,
        workload_kind = about.workload.kind,
        workload_name = about.workload.name,
        namespace = about.namespace,
        image = transition.image,
        digest = transition.digest,
        policy = transition.policy,
        policy_generation = transition.generation,
        evidence = transition.evidence.join(","),
        signers = transition.signers.join(","),
        verdict = %transition.verdict,
        reason = transition.reason.as_str(),
        previous_verdict,
        previous_reason,
        ended,
    );
}

/// Sends the transition as Events on the workload and on the policy, where it is news.
pub(crate) fn tell(
    events: &EventQueue,
    about: &About<'_>,
    policy_uid: Option<String>,
    transition: &Transition,
) {
    for note in notes(about, policy_uid, transition) {
        events.tell(note);
    }
}

fn notes(about: &About<'_>, policy_uid: Option<String>, transition: &Transition) -> Vec<Note> {
    let Some(news) = transition.news else {
        return Vec::new();
    };
    let workload = workload_reference(about);
    let policy = policy_uid.map(|uid| cluster_reference("ImagePolicy", &transition.policy, uid));
    let note = |regarding: &ObjectReference, related: Option<&ObjectReference>, text: String| Note {
        reason: news.as_str(),
        warning: news.is_warning(),
        action: VERIFY,
        regarding: regarding.clone(),
        related: related.cloned(),
        text,
        identity: vec![
            about.workload.uid.clone(),
            transition.policy.clone(),
            transition.image.clone(),
            transition.digest.clone(),
            transition.verdict.to_string(),
            transition.reason.as_str().to_owned(),
            transition.since.as_second().to_string(),
        ],
    };
    let mut notes = vec![note(&workload, policy.as_ref(), text_for_workload(transition))];
    if let Some(policy) = &policy {
        notes.push(note(policy, Some(&workload), text_for_policy(about, transition)));
    }
    notes
}

/// Records in the log that an answer gets worse before long, and sends Events on the workload and on the policy.
pub(crate) fn foretell(
    events: &EventQueue,
    about: &About<'_>,
    policy_uid: Option<String>,
    forecast: &Forecast,
) {
    tracing::info!(
        target: FORECAST,
        workload_uid = about.workload.uid,
        workload_kind = about.workload.kind,
        workload_name = about.workload.name,
        namespace = about.namespace,
        image = forecast.image,
        digest = forecast.digest,
        policy = forecast.policy,
        policy_generation = forecast.generation,
        verdict = %forecast.verdict,
        at = %forecast.at,
        becomes_verdict = %forecast.becomes.verdict,
        becomes_reason = forecast.becomes.reason.as_str(),
    );
    for note in foretelling(about, policy_uid, forecast) {
        events.tell(note);
    }
}

fn foretelling(about: &About<'_>, policy_uid: Option<String>, forecast: &Forecast) -> Vec<Note> {
    let workload = workload_reference(about);
    let policy = policy_uid.map(|uid| cluster_reference("ImagePolicy", &forecast.policy, uid));
    let note = |regarding: &ObjectReference, related: Option<&ObjectReference>, text: String| Note {
        reason: "WillBecomeNonCompliant",
        warning: true,
        action: "Forecast",
        regarding: regarding.clone(),
        related: related.cloned(),
        text,
        identity: vec![
            about.workload.uid.clone(),
            forecast.policy.clone(),
            forecast.image.clone(),
            forecast.digest.clone(),
            forecast.at.as_second().to_string(),
        ],
    };
    let dry_run = dry_run(forecast.mode);
    let finding = will_be(forecast);
    let of_workload = format!("{dry_run}policy {}: {finding}", forecast.policy);
    let mut notes = vec![note(&workload, policy.as_ref(), of_workload)];
    if let Some(policy) = &policy {
        let WorkloadRef { kind, name, .. } = about.workload;
        let text = format!(
            "{dry_run}{kind}/{name} in namespace {}: {finding}",
            about.namespace
        );
        notes.push(note(policy, Some(&workload), text));
    }
    notes
}

/// When what falls, to what, why, and what to do.
fn will_be(forecast: &Forecast) -> String {
    let Forecast {
        image,
        digest,
        verdict,
        becomes,
        ..
    } = forecast;
    let at = super::statuses::whole_seconds(forecast.at);
    let on = match digest.is_empty() {
        true => String::new(),
        false => format!(" ({digest})"),
    };
    format!(
        "{image}{on} is {verdict} until {at}, then {}, {}, unless something changes. What will be said then: {}",
        becomes.verdict, becomes.reason, becomes.message
    )
}

fn text_for_workload(transition: &Transition) -> String {
    format!(
        "{}policy {}: {}",
        dry_run(transition.mode),
        transition.policy,
        finding(transition)
    )
}

fn text_for_policy(about: &About<'_>, transition: &Transition) -> String {
    let WorkloadRef { kind, name, .. } = about.workload;
    format!(
        "{}{kind}/{name} in namespace {}: {}",
        dry_run(transition.mode),
        about.namespace,
        finding(transition)
    )
}

fn finding(transition: &Transition) -> String {
    let Transition {
        image,
        digest,
        verdict,
        reason,
        message,
        ..
    } = transition;
    let at = if digest.is_empty() {
        String::new()
    } else {
        format!(" ({digest})")
    };
    if let (Verdict::NotCovered, Some((before, _))) = (verdict, transition.previous) {
        return format!("{image}{at} is not covered any more; before it was {before}");
    }
    let why = if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    format!("{image}{at} is {verdict}, {reason}{why}")
}

fn dry_run(mode: Mode) -> &'static str {
    if mode == Mode::DryRun { "dry run: " } else { "" }
}

/// That a key counts otherwise than before.
pub(crate) fn key_stage_changed(name: &str, uid: String, before: &str, now: &str, generation: i64) -> Note {
    Note {
        reason: "KeyStageChanged",
        warning: matches!(now, "Disabled" | "Revoked"),
        action: "ReadKey",
        regarding: cluster_reference("SigningKey", name, uid),
        related: None,
        text: format!("the stage that counts was {before} and is {now}"),
        identity: vec![before.to_owned(), now.to_owned(), generation.to_string()],
    }
}

/// That another version of a policy decides.
pub(crate) fn policy_changed(name: &str, uid: String, before: i64, now: i64) -> Note {
    Note {
        reason: "PolicyChanged",
        warning: false,
        action: "CompilePolicy",
        regarding: cluster_reference("ImagePolicy", name, uid),
        related: None,
        text: format!("generation {now} is in force, before it was generation {before}"),
        identity: vec![before.to_string(), now.to_string()],
    }
}

fn workload_reference(about: &About<'_>) -> ObjectReference {
    ObjectReference {
        api_version: Some(about.workload.api_version.clone()),
        kind: Some(about.workload.kind.clone()),
        namespace: Some(about.namespace.to_owned()),
        name: Some(about.workload.name.clone()),
        uid: Some(about.workload.uid.clone()),
        ..ObjectReference::default()
    }
}

fn cluster_reference(kind: &str, name: &str, uid: String) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", api::GROUP, api::VERSION)),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{time, workload};
    use crate::transitions::News;
    use api::Reason;

    fn transition() -> Transition {
        Transition {
            image: "r/web:1".into(),
            digest: "sha256:01".into(),
            policy: "prod".into(),
            generation: Some(3),
            mode: Mode::Enforce,
            verdict: Verdict::Violating,
            reason: Reason::KeyRevoked,
            message: "only a revoked key signed".into(),
            since: time(0),
            evidence: vec!["sha256:e1".into()],
            signers: vec![],
            previous: Some((Verdict::Compliant, Reason::AllVerified)),
            news: Some(News::BecameNonCompliant),
        }
    }

    fn notes_of(transition: &Transition, policy_uid: Option<&str>) -> Vec<Note> {
        let workload = workload("Deployment");
        let about = About {
            namespace: "shop",
            workload: &workload.reference,
        };
        notes(&about, policy_uid.map(str::to_owned), transition)
    }

    #[test]
    fn news_are_told_on_the_workload_and_on_the_policy() {
        let notes = notes_of(&transition(), Some("p"));
        let kinds: Vec<_> = notes
            .iter()
            .map(|note| note.regarding.kind.as_deref().unwrap())
            .collect();
        assert_eq!(kinds, ["Deployment", "ImagePolicy"]);
        assert_eq!(notes[0].related, Some(notes[1].regarding.clone()));
        assert!(
            notes[1].text.contains("Deployment/web in namespace shop"),
            "{}",
            notes[1].text
        );
        assert!(
            notes[0].text.contains("KeyRevoked: only a revoked key signed"),
            "{}",
            notes[0].text
        );
    }

    #[test]
    fn of_a_policy_that_is_gone_only_the_workload_is_told() {
        assert_eq!(notes_of(&transition(), None).len(), 1);
    }

    #[test]
    fn what_is_no_news_is_not_told() {
        assert!(
            notes_of(
                &Transition {
                    news: None,
                    ..transition()
                },
                Some("p")
            )
            .is_empty()
        );
    }

    #[test]
    fn leaving_coverage_tells_what_the_verdict_was() {
        let left = Transition {
            verdict: Verdict::NotCovered,
            reason: Reason::NotCovered,
            message: String::new(),
            previous: Some((Verdict::Violating, Reason::KeyRevoked)),
            news: Some(News::LeftCoverage),
            ..transition()
        };
        let text = &notes_of(&left, None)[0].text;
        assert!(
            text.ends_with("is not covered any more; before it was Violating"),
            "{text}"
        );
    }

    /// C5.07.
    #[test]
    fn a_dry_run_is_told_as_one() {
        let notes = notes_of(
            &Transition {
                mode: Mode::DryRun,
                ..transition()
            },
            Some("p"),
        );
        assert!(notes.iter().all(|note| note.text.starts_with("dry run: ")));
    }

    /// Item 2: what will fall, when and why, and what to do.
    #[test]
    fn what_falls_before_long_is_told_with_when_why_and_what_to_do() {
        let workload = workload("Deployment");
        let about = About {
            namespace: "shop",
            workload: &workload.reference,
        };
        let forecast = Forecast {
            image: "r/web:1".into(),
            digest: "sha256:01".into(),
            policy: "prod".into(),
            generation: 3,
            mode: Mode::DryRun,
            verdict: Verdict::Compliant,
            at: time(3600) + jiff::SignedDuration::from_millis(5),
            becomes: std::sync::Arc::new(policy::Becomes {
                verdict: Verdict::Violating,
                reason: Reason::KeyExpired,
                requirement: None,
                message: "SigningKey release-2026 is outside its validity. Sign again.".into(),
            }),
        };
        let notes = foretelling(&about, Some("p".into()), &forecast);
        assert_eq!(notes.len(), 2);
        assert_eq!(
            notes[0].text,
            "dry run: policy prod: r/web:1 (sha256:01) is Compliant until 2026-01-01T01:00:00Z, then Violating, \
             KeyExpired, unless something changes. What will be said then: SigningKey release-2026 is outside its \
             validity. Sign again."
        );
        assert!(
            notes[1]
                .text
                .starts_with("dry run: Deployment/web in namespace shop: r/web:1")
        );
        assert!(
            notes
                .iter()
                .all(|note| note.reason == "WillBecomeNonCompliant" && note.warning)
        );
    }

    #[test]
    fn the_same_verdict_found_later_again_is_other_news() {
        let (first, later) = (
            transition(),
            Transition {
                since: time(60),
                ..transition()
            },
        );
        assert_ne!(
            notes_of(&first, None)[0].identity,
            notes_of(&later, None)[0].identity
        );
        assert_eq!(notes_of(&first, None), notes_of(&first, None));
    }
}
