//! PolicyPreviews: each is computed once by the engine, answered in its status, and removed after its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{COMPLETE, Conditions, Status, reasons};
use api::{
    DEFAULT_PREVIEW_TTL, ImageException, ImagePolicy, KeyRevocation, PolicyPreview, PolicyPreviewSpec,
    PolicyPreviewStatus, PreviewChange, PreviewResult, PreviewedName, PreviewedStarts, SigningKey,
    parse_duration,
};
use engine::{Fact, Handle, PreviewReport, StartsOnly, Stopped};
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::{Held, Kept, Stock};
use crate::exceptions::Exceptions;
use crate::keys::Keys;
use crate::names::cut;
use crate::object_sink::Told;
use crate::policies::Policies;
use crate::revocations::Revocations;
use crate::write::CONDITION_CHARACTERS;
use crate::write::request::{Refused, Requests};

/// How many results of a kind a status holds.
const RESULTS: usize = 500;
/// How many of those a status holds that only a next start would meet.
const STARTS: usize = 100;
/// What the results that get worse may take of an object, in bytes; the other lists take half of it each, those of next starts a quarter.
const ROOM: usize = 96 * 1024;
/// The kinds of which changes can be previewed.
const KINDS: &str = "SigningKey, ImagePolicy, KeyRevocation or ImageException";
/// How soon a preview is tried again that came before everything was told.
const AGAIN: Duration = Duration::from_secs(1);

type Preview = Held<PolicyPreviewSpec, PolicyPreviewStatus>;

/// Answers PolicyPreviews.
pub(crate) struct Previews {
    engine: Handle,
    requests: Requests,
    due: Option<Instant>,
}

impl Previews {
    pub(crate) fn new(engine: Handle, requests: Requests) -> Self {
        Previews {
            engine,
            requests,
            due: None,
        }
    }

    /// What is said of a preview; None where it cannot be said yet.
    async fn answer(
        &self,
        preview: &Preview,
        now: Timestamp,
    ) -> Result<Option<PolicyPreviewStatus>, Stopped> {
        let conditions = Conditions {
            before: &preview.status.conditions,
            generation: Some(preview.generation),
            now,
        };
        let changes = match &preview.spec {
            Ok(spec) => facts(spec, now),
            Err(problem) => Err(vec![problem.clone()]),
        };
        let changes = match changes {
            Ok(changes) => changes,
            Err(problems) => return Ok(Some(refused(&problems, conditions))),
        };
        let report = self.engine.preview(changes).await?;
        let offset = preview.spec.as_ref().ok().and_then(|spec| spec.offset);
        Ok(report.map(|report| match report.problems.as_slice() {
            [] => complete(report, offset.unwrap_or_default(), conditions),
            problems => refused(problems, conditions),
        }))
    }

    /// Removes the preview; what is refused is tried again with the next turn.
    async fn remove(&self, name: &str, preview: &Preview) {
        match self
            .requests
            .delete_object::<PolicyPreview>(Self::KIND, name, &preview.uid)
            .await
        {
            Ok(()) | Err(Refused::NotAsItWas(_) | Refused::NotLeading) => {}
            Err(refused) => tracing::warn!(name, %refused, "a preview that is over was not removed"),
        }
    }
}

impl Kept for Previews {
    const KIND: &'static str = "PolicyPreview";
    const LOOP: &'static str = "previews";
    type Resource = PolicyPreview;
    type Spec = PolicyPreviewSpec;
    type Status = PolicyPreviewStatus;

    async fn bring_up_to_date(
        &mut self,
        objects: &Stock<Self>,
        now: Timestamp,
    ) -> Result<BTreeMap<Arc<str>, PolicyPreviewStatus>, Stopped> {
        self.due = None;
        let mut statuses = BTreeMap::new();
        if !self.requests.leadership.leads() {
            return Ok(statuses);
        }
        let mut soonest: Option<Duration> = None;
        for (name, preview) in objects {
            let left = time_left(preview, now);
            if left.is_zero() {
                self.remove(name, preview).await;
                continue;
            }
            soonest = Some(soonest.map_or(left, |soonest| soonest.min(left)));
            if preview.status.observed_generation == Some(preview.generation) {
                continue;
            }
            match self.answer(preview, now).await? {
                Some(status) => drop(statuses.insert(name.clone(), status)),
                None => soonest = Some(AGAIN),
            }
        }
        self.due = soonest.map(|pause| Instant::now() + pause);
        Ok(statuses)
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// How long a preview is kept from now on. One whose time cannot be read is kept as long as one that says nothing.
fn time_left(preview: &Preview, now: Timestamp) -> Duration {
    let written = preview.spec.as_ref().ok().and_then(|spec| spec.ttl.as_deref());
    let kept = written.and_then(|ttl| parse_duration(ttl).ok());
    let kept = kept
        .or_else(|| parse_duration(DEFAULT_PREVIEW_TTL).ok())
        .unwrap_or_default();
    let age = now.duration_since(preview.created.unwrap_or(now));
    kept.saturating_sub(Duration::try_from(age).unwrap_or_default())
}

/// The changes as the engine is told of what is, or everything that is wrong with them.
fn facts(spec: &PolicyPreviewSpec, now: Timestamp) -> Result<Vec<Fact>, Vec<String>> {
    let mut facts = Vec::new();
    let mut problems = Vec::new();
    for (number, change) in spec.changes.iter().enumerate() {
        match fact(change, now) {
            Ok(fact) => facts.push(fact),
            Err(problem) => problems.push(format!("spec.changes[{number}]{problem}")),
        }
    }
    match problems.is_empty() {
        true => Ok(facts),
        false => Err(problems),
    }
}

fn fact(change: &PreviewChange, now: Timestamp) -> Result<Fact, String> {
    match (&change.apply, &change.delete) {
        (Some(object), None) => applied(object, now).map_err(|problem| format!(".apply: {problem}")),
        (None, Some(name)) => deleted(name).map_err(|problem| format!(".delete: {problem}")),
        _ => Err(": expected exactly one of apply and delete".to_owned()),
    }
}

fn deleted(PreviewedName { kind, name }: &PreviewedName) -> Result<Fact, String> {
    Fact::gone(*kind, name.as_str().into()).ok_or_else(|| format!("kind: expected {KINDS}"))
}

fn applied(object: &Value, now: Timestamp) -> Result<Fact, String> {
    let mut read: DynamicObject =
        serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let name: Arc<str> = match read.metadata.name.as_deref() {
        Some(name) if !name.is_empty() => name.into(),
        _ => return Err("metadata.name: found none, expected the name of the object".to_owned()),
    };
    // What the cluster says of the object that is there does not count for the one that would be.
    if let Some(fields) = read.data.as_object_mut() {
        fields.remove("status");
    }
    // What is not there yet would be made now.
    let made_now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let kind = read.types.as_ref().map_or("", |types| types.kind.as_str());
    let (fact, problem) = match kind {
        "SigningKey" => {
            strict::<SigningKey>(object)?;
            Keys::fact(name.clone(), &read)
        }
        "ImagePolicy" => {
            strict::<ImagePolicy>(object)?;
            Policies::fact(name.clone(), &read)
        }
        "KeyRevocation" => {
            strict::<KeyRevocation>(object)?;
            read.metadata.creation_timestamp.get_or_insert(made_now);
            Revocations::fact(name.clone(), &read)
        }
        "ImageException" => {
            strict::<ImageException>(object)?;
            read.metadata.creation_timestamp.get_or_insert(made_now);
            Exceptions::fact(name.clone(), &read)
        }
        other => {
            return Err(format!("kind: found {other:?}, expected {KINDS}"));
        }
    };
    match problem {
        None => Ok(fact),
        Some(problem) => Err(format!("{kind} {name}: {problem}")),
    }
}

/// A field that the type does not have is misspelt: the API server would refuse it.
fn strict<T: DeserializeOwned>(object: &Value) -> Result<(), String> {
    let mut unknown = None;
    let read: Result<T, _> = serde_ignored::deserialize(object, |path| {
        let path = path.to_string();
        if path.starts_with("spec.") {
            unknown.get_or_insert(path);
        }
    });
    match (read, unknown) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(_), Some(path)) => Err(format!("unknown field {path}")),
        (Ok(_), None) => Ok(()),
    }
}

fn complete(report: PreviewReport, offset: i64, conditions: Conditions<'_>) -> PolicyPreviewStatus {
    let count = |results: &[PreviewResult]| i64::try_from(results.len()).unwrap_or(i64::MAX);
    let message = match report.unknown {
        0 => "every result is known".to_owned(),
        unknown => format!(
            "{unknown} results could not be told: an image was never looked up, its registry does not answer, or a key \
             ring has no usable key"
        ),
    };
    PolicyPreviewStatus {
        observed_generation: conditions.generation,
        newly_failing_total: Some(count(&report.newly_failing)),
        newly_passing_total: Some(count(&report.newly_passing)),
        newly_unknown_total: Some(count(&report.newly_unknown)),
        unchanged: Some(report.unchanged),
        unknown: Some(report.unknown),
        results_digest: Some(digest_of(&report)),
        start_only: Some(starts(report.start_only)),
        newly_failing: page(report.newly_failing, offset, ROOM),
        newly_passing: page(report.newly_passing, offset, ROOM / 2),
        newly_unknown: page(report.newly_unknown, offset, ROOM / 2),
        conditions: vec![conditions.set(COMPLETE, Status::True, reasons::PREVIEW_COMPUTED, &message)],
    }
}

fn starts(starts: StartsOnly) -> PreviewedStarts {
    let count = |results: &[PreviewResult]| i64::try_from(results.len()).unwrap_or(i64::MAX);
    let first = |results| page(results, 0, ROOM / 4).into_iter().take(STARTS).collect();
    PreviewedStarts {
        newly_failing_total: count(&starts.newly_failing),
        newly_unknown_total: count(&starts.newly_unknown),
        newly_failing: first(starts.newly_failing),
        newly_unknown: first(starts.newly_unknown),
    }
}

/// Names everything that changes.
fn digest_of(report: &PreviewReport) -> String {
    let mut text = String::new();
    for (list, results) in [
        ("failing", &report.newly_failing),
        ("passing", &report.newly_passing),
        ("unknown", &report.newly_unknown),
        ("starts failing", &report.start_only.newly_failing),
        ("starts unknown", &report.start_only.newly_unknown),
    ] {
        for result in results {
            // None of the parts holds a line break: names, references, digests.
            let PreviewResult {
                namespace,
                workload,
                image,
                digest,
                policy,
                reason,
            } = result;
            text += &format!("{list}\n{namespace}\n{workload}\n{image}\n{digest}\n{policy}\n{reason}\n");
        }
    }
    image::Digest::sha256(text.as_bytes()).to_string()
}

/// What comes after the offset, as much as there is room for.
fn page(results: Vec<PreviewResult>, offset: i64, room: usize) -> Vec<PreviewResult> {
    let mut left = room;
    let passed_over = usize::try_from(offset).unwrap_or_default();
    let rest = results.into_iter().skip(passed_over).take(RESULTS);
    let fits = |result: &PreviewResult| {
        let size = serde_json::to_vec(result).map_or(room, |text| text.len());
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    rest.take_while(fits).collect()
}

/// Nothing is said of changes that would not come about.
fn refused(problems: &[String], conditions: Conditions<'_>) -> PolicyPreviewStatus {
    let message = cut(&problems.join("; "), CONDITION_CHARACTERS);
    PolicyPreviewStatus {
        observed_generation: conditions.generation,
        conditions: vec![conditions.set(COMPLETE, Status::False, reasons::PREVIEW_INVALID, &message)],
        ..PolicyPreviewStatus::default()
    }
}

#[cfg(test)]
#[path = "previews_tests.rs"]
mod tests;
