//! `kubectl assay key images`: the digests that rest on a key, and since when.

use std::collections::{BTreeMap, BTreeSet};

use api::{ImageCompliance, PreviewResult, SigningKey, Stage};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::staged;
use crate::cluster::{ClusterError, Session};
use crate::kubectl::held::{dependents, stage};
use crate::kubectl::preview::{Foreseen, PreviewArguments, foresee};
use crate::kubectl::{difference, headed, workloads};
use crate::output::{self, Answer, Found, OutputArguments, Problem};
use crate::table::{Column, Style, Table, counted, paragraph};

/// List the images that rest on a key: those that would fail, or could not be told, if it were Disabled.
///
/// Since when is the time at which the verdict became what it is, of the first workload that runs the image; it is
/// read from the ImageCompliances of all namespaces.
///
/// What only a next start would concern, such as a CronJob between its runs, is listed apart.
///
/// Exit codes: 0 nothing rests on it, 1 something does, 2 an error, or nothing does of what can be told now, and not
/// everything can.
#[derive(Args, Debug)]
pub(crate) struct ImagesArguments {
    /// The SigningKey
    name: String,
    /// Only images that were first judged so after this time (RFC 3339), and those of which it is not known
    #[arg(long, value_name = "TIME", value_parser = time)]
    first_seen_after: Option<Timestamp>,
    #[command(flatten)]
    preview: PreviewArguments,
    #[command(flatten)]
    format: OutputArguments,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let read = text.parse();
    read.map_err(|_| format!("{text:?} is no time in RFC 3339; write for example 2026-11-01T00:00:00Z"))
}

/// A digest that rests on the key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resting {
    digest: String,
    images: BTreeSet<String>,
    workloads: BTreeSet<String>,
    policies: BTreeSet<String>,
    reasons: BTreeSet<String>,
    /// None where it is not known.
    since: Option<Timestamp>,
}

/// Prints them.
pub(super) async fn answer(session: &Session, arguments: &ImagesArguments) -> Result<Answer, Problem> {
    let key: SigningKey = session.one(&arguments.name).await?;
    if let Some(about) = about_its_stage(&key) {
        output::note(&about);
    }
    let foreseen = foresee(session, &[staged(&key, Stage::Disabled)], &arguments.preview).await?;
    let compliances = everywhere(session).await?;
    let all = resting(&foreseen, &compliances);
    let total = all.len();
    let shown: Vec<Resting> = all
        .into_iter()
        .filter(|one| is_after(one, arguments.first_seen_after))
        .collect();
    let text = arguments.format.output.answer(
        |style| text(&arguments.name, &shown, total, &foreseen, style),
        || as_json(&arguments.name, &shown, &foreseen),
    );
    Ok(Answer {
        text,
        found: found(&shown, &foreseen),
    })
}

/// What rests on it by next starts is not hidden by a time at which nothing was seen.
fn found(shown: &[Resting], foreseen: &Foreseen) -> Found {
    let starts = &foreseen.starts;
    let is_something = !shown.is_empty() || starts.newly_failing_total + starts.newly_unknown_total > 0;
    match (is_something, foreseen.still_unknown()) {
        (true, _) => Found::Something,
        (false, 0) => Found::Nothing,
        (false, _) => Found::NotTold,
    }
}

/// Disabling what does not count changes nothing, but for what a KeyRevocation honours.
fn about_its_stage(key: &SigningKey) -> Option<String> {
    let stage = stage(key);
    if matches!(stage, Stage::Active | Stage::Retiring) {
        return None;
    }
    let counts = format!("the key counts as {}", stage.as_str());
    Some(match dependents(key) {
        Some(0) => format!("{counts}, so nothing rests on it now, whatever it signed"),
        Some(_) => format!("{counts}; what rests on it is what its KeyRevocation leaves of what it signed"),
        None => format!("{counts}, and the operator has not said whether anything rests on it"),
    })
}

/// The ImageCompliances of all namespaces; none where they may not be read, which is told.
async fn everywhere(session: &Session) -> Result<Vec<ImageCompliance>, ClusterError> {
    let everywhere = Session {
        namespace: None,
        ..session.clone()
    };
    match everywhere.compliances().await {
        Err(error) if error.is_forbidden() => {
            output::note(
                "you may not read the ImageCompliances of all namespaces, so since when is not told",
            );
            Ok(Vec::new())
        }
        answer => answer,
    }
}

fn is_after(one: &Resting, time: Option<Timestamp>) -> bool {
    time.is_none_or(|time| one.since.is_none_or(|since| since > time))
}

/// The results by digest, each with the earliest time at which one of its verdicts became what it is.
pub(super) fn resting(foreseen: &Foreseen, compliances: &[ImageCompliance]) -> Vec<Resting> {
    let since = since(compliances);
    let mut found: BTreeMap<&str, Resting> = BTreeMap::new();
    for result in foreseen.failing.iter().chain(&foreseen.newly_unknown) {
        let one = found.entry(&result.digest).or_default();
        one.digest.clone_from(&result.digest);
        one.images.insert(result.image.clone());
        one.workloads
            .insert(format!("{}/{}", result.namespace, result.workload));
        one.policies.insert(result.policy.clone());
        one.reasons.insert(result.reason.to_string());
        let this = since.get(&place(result)).copied();
        one.since = [one.since, this].into_iter().flatten().min();
    }
    found.into_values().collect()
}

type Place = (String, String, String, String);

fn place(result: &PreviewResult) -> Place {
    (
        result.namespace.clone(),
        result.workload.clone(),
        result.digest.clone(),
        result.policy.clone(),
    )
}

fn since(compliances: &[ImageCompliance]) -> BTreeMap<Place, Timestamp> {
    let mut found: BTreeMap<Place, Timestamp> = BTreeMap::new();
    for compliance in compliances {
        let (namespace, workload) = workloads::of(compliance);
        for image in &compliance.status.images {
            for result in &image.policies {
                let place = (
                    namespace.clone(),
                    workloads::named(&workload),
                    image.digest.clone(),
                    result.name.clone(),
                );
                let time = found.entry(place).or_insert(result.since.0);
                *time = result.since.0.min(*time);
            }
        }
    }
    found
}

fn as_json(name: &str, shown: &[Resting], foreseen: &Foreseen) -> Value {
    let items: Vec<Value> = shown
        .iter()
        .map(|one| {
            json!({
                "digest": one.digest,
                "images": one.images,
                "workloads": one.workloads,
                "policies": one.policies,
                "wouldBe": one.reasons,
                "since": one.since.map(|since| since.to_string()),
            })
        })
        .collect();
    headed(
        "KeyImages",
        json!({
            "signingKey": name,
            "items": items,
            "startOnly": difference::starts_as_json(foreseen),
            "unknown": foreseen.unknown,
            "resultsDigest": foreseen.digest,
        }),
    )
}

fn text(name: &str, shown: &[Resting], total: usize, foreseen: &Foreseen, style: Style) -> String {
    let mut table = Table::new([
        Column::Name("DIGEST"),
        Column::Name("IMAGE"),
        Column::Whole("WORKLOADS"),
        Column::Name("POLICIES"),
        Column::Whole("SINCE"),
    ]);
    for one in shown {
        let digest = match (one.digest.as_str(), style.narrow) {
            ("", _) => "(not told)".to_owned(),
            // The first letters tell digests apart for people; -o wide and json have all of them.
            (digest, true) => digest.chars().take(7 + 12).collect(),
            (digest, false) => digest.to_owned(),
        };
        let policies: Vec<&str> = one.policies.iter().map(String::as_str).collect();
        table.row([
            digest.into(),
            one.images.first().cloned().unwrap_or_default().into(),
            one.workloads.len().to_string().into(),
            policies.join(",").into(),
            one.since.map_or("?".to_owned(), |since| since.to_string()).into(),
        ]);
    }
    let list = match shown.is_empty() {
        true => String::new(),
        false => table.text(style) + "\n",
    };
    let rest = if total == 1 { "rests" } else { "rest" };
    let mut sentence = format!("{} {rest} on SigningKey/{name}.", counted(total, "image"));
    if shown.len() != total {
        sentence += &format!(" {} of them are shown.", shown.len());
    }
    let starts = &foreseen.starts;
    let starting = starts.newly_failing_total + starts.newly_unknown_total;
    if starting > 0 {
        sentence += &format!(
            " {} of what only a next start would concern {rest} on it as well.",
            counted(usize::try_from(starting).unwrap_or(usize::MAX), "result"),
            rest = if starting == 1 { "rests" } else { "rest" }
        );
    }
    let hidden = foreseen.still_unknown();
    if hidden > 0 {
        sentence += &format!(" {hidden} results cannot be told now, and may rest on it too.");
    }
    list + &difference::starts(foreseen, style) + &paragraph("", &sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(workload: &str, digest: &str, reason: &str) -> PreviewResult {
        serde_json::from_value(json!({
            "namespace": "shop", "workload": format!("Deployment/{workload}"), "image": "r/web:1", "digest": digest,
            "policy": "p", "reason": reason,
        }))
        .unwrap()
    }

    fn compliance(workload: &str, digest: &str, since: &str) -> ImageCompliance {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": workload},
            "status": {
                "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload, "uid": "u"},
                "images": [{"image": "r/web:1", "digest": digest, "policies": [{
                    "name": "p", "mode": "Enforce", "verdict": "Compliant", "reason": "AllVerified", "since": since,
                }]}],
            },
        }))
        .unwrap()
    }

    fn key(counts: &str, workloads: i64) -> SigningKey {
        serde_json::from_value(json!({
            "metadata": {"name": "old"},
            "spec": {"keyRing": "release", "stage": "Active", "publicKey": {"pem": "p"}},
            "status": {"effectiveStage": counts, "soleTrust": {"images": 0, "workloads": workloads, "pods": 0}},
        }))
        .unwrap()
    }

    #[test]
    fn under_a_hold_that_honours_images_it_is_not_said_that_nothing_rests_on_the_key() {
        assert_eq!(about_its_stage(&key("Active", 0)), None);
        assert!(
            about_its_stage(&key("Disabled", 0))
                .unwrap()
                .contains("nothing rests")
        );
        let honoured = about_its_stage(&key("Disabled", 2)).unwrap();
        assert!(
            honoured.contains("KeyRevocation") && !honoured.contains("nothing rests"),
            "{honoured}"
        );
    }

    #[test]
    fn what_only_a_next_start_would_concern_rests_on_the_key_and_what_is_not_told_may() {
        let mut foreseen = Foreseen::default();
        assert_eq!(found(&[], &foreseen), Found::Nothing);
        foreseen.unknown = 1;
        assert_eq!(found(&[], &foreseen), Found::NotTold);
        foreseen.starts.newly_failing_total = 1;
        assert_eq!(found(&[], &foreseen), Found::Something);
        let said = text(
            "old",
            &[],
            0,
            &foreseen,
            Style {
                narrow: true,
                colour: false,
            },
        );
        assert!(
            said.contains("1 result of what only a next start would concern rests"),
            "{said}"
        );
    }

    #[test]
    fn each_digest_is_listed_once_with_its_earliest_time_and_what_has_none_is_not_left_out() {
        let foreseen = Foreseen {
            failing: vec![
                result("a", "sha256:01", "KeyDisabled"),
                result("b", "sha256:01", "KeyDisabled"),
            ],
            newly_unknown: vec![result("c", "sha256:02", "Stale")],
            ..Foreseen::default()
        };
        let compliances = [
            compliance("a", "sha256:01", "2026-11-22T12:00:00Z"),
            compliance("b", "sha256:01", "2026-11-20T12:00:00Z"),
        ];
        let found = resting(&foreseen, &compliances);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].workloads.len(), 2);
        assert_eq!(found[0].since.unwrap().to_string(), "2026-11-20T12:00:00Z");
        let later = "2026-11-21T00:00:00Z".parse().ok();
        assert!(!is_after(&found[0], later));
        assert!(is_after(&found[1], later), "what is not known is not hidden");
    }
}
