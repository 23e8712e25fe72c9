//! Tells transitions: one structured log line each, and Events where they are news.

use api::{Mode, Verdict, WorkloadRef};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::events::{EventQueue, Note};
use crate::transitions::Transition;

/// The target of the transition record, by which logs are filtered.
const RECORD: &str = "assay::transition";
/// What the operator did when it found news.
const VERIFY: &str = "Verify";

/// The workload that transitions are about.
pub(crate) struct About<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) workload: &'a WorkloadRef,
}

/// Records the transition in the log.
pub(crate) fn record(about: &About<'_>, transition: &Transition) {
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

fn text_for_workload(transition: &Transition) -> String {
    format!(
        "{}policy {}: {}",
        dry_run(transition),
        transition.policy,
        finding(transition)
    )
}

fn text_for_policy(about: &About<'_>, transition: &Transition) -> String {
    let WorkloadRef { kind, name, .. } = about.workload;
    format!(
        "{}{kind}/{name} in namespace {}: {}",
        dry_run(transition),
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

fn dry_run(transition: &Transition) -> &'static str {
    if transition.mode == Mode::DryRun {
        "dry run: "
    } else {
        ""
    }
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
