//! From ImageCompliances as they change to what changed about verdicts: pure.

use std::collections::{BTreeMap, BTreeSet};

use api::{ImageCompliance, Mode, Reason, Verdict, WorkloadRef};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubectl::workloads::{self, named};
use crate::kubectl::{headed, tone};
use crate::table::{Style, cut};

/// The widths of the columns: what comes later is not known yet.
const WIDTHS: [usize; 4] = [20, 12, 19, 12];

/// An image under a policy.
type Place = (String, String, String);

/// The results of a workload, by place.
#[derive(Clone, Debug, Default)]
struct Held {
    workload: WorkloadRef,
    results: BTreeMap<Place, Standing>,
}

/// What a policy says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    mode: Mode,
    verdict: Verdict,
    reason: Reason,
    message: String,
}

/// What was seen last of every workload.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    held: BTreeMap<(String, String), Held>,
    /// What a list that is under way named; None where none is.
    listed: Option<BTreeSet<(String, String)>>,
    /// The first list was read: from then on what differs is a change.
    begun: bool,
}

/// One change of a verdict.
#[derive(Clone, Debug)]
pub(super) struct Transition {
    at: Timestamp,
    namespace: String,
    workload: WorkloadRef,
    place: Place,
    /// None where nothing was said before.
    before: Option<Standing>,
    /// None where nothing is said any more.
    after: Option<Standing>,
}

impl Ledger {
    pub(super) fn list_begins(&mut self) -> Vec<Transition> {
        self.listed = Some(BTreeSet::new());
        Vec::new()
    }

    /// What the list did not name is gone.
    pub(super) fn list_ended(&mut self, now: Timestamp) -> Vec<Transition> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<_> = self
            .held
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        let changes = gone.into_iter().flat_map(|key| self.forget(&key, now)).collect();
        self.begun = true;
        changes
    }

    pub(super) fn seen(&mut self, object: &ImageCompliance, now: Timestamp) -> Vec<Transition> {
        let key = key(object);
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        let now_held = held(object);
        let before = self
            .held
            .insert(key.clone(), now_held.clone())
            .unwrap_or_default();
        match self.begun {
            true => changes(&key.0, &before, &now_held, now),
            false => Vec::new(),
        }
    }

    pub(super) fn gone(&mut self, object: &ImageCompliance, now: Timestamp) -> Vec<Transition> {
        self.forget(&key(object), now)
    }

    fn forget(&mut self, key: &(String, String), now: Timestamp) -> Vec<Transition> {
        let before = self.held.remove(key).unwrap_or_default();
        let after = Held {
            workload: before.workload.clone(),
            results: BTreeMap::new(),
        };
        changes(&key.0, &before, &after, now)
    }
}

fn key(object: &ImageCompliance) -> (String, String) {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (part(&object.metadata.namespace), part(&object.metadata.name))
}

fn held(object: &ImageCompliance) -> Held {
    let mut results = BTreeMap::new();
    for image in &object.status.images {
        for result in &image.policies {
            let place = (image.image.clone(), image.digest.clone(), result.name.clone());
            let standing = Standing {
                mode: result.mode,
                verdict: result.verdict,
                reason: result.reason,
                message: result.message.clone().unwrap_or_default(),
            };
            results.insert(place, standing);
        }
    }
    Held {
        workload: workloads::of(object).1,
        results,
    }
}

/// What differs in verdict or reason; a first verdict that is good is no news, nor is the end of a good one.
fn changes(namespace: &str, before: &Held, after: &Held, at: Timestamp) -> Vec<Transition> {
    let places: BTreeSet<&Place> = before.results.keys().chain(after.results.keys()).collect();
    let mut found = Vec::new();
    for place in places {
        let (was, is) = (before.results.get(place), after.results.get(place));
        let said = |standing: Option<&Standing>| standing.map(|standing| (standing.verdict, standing.reason));
        let is_good = |standing: Option<&Standing>| {
            standing.is_none_or(|standing| standing.verdict == Verdict::Compliant)
        };
        let is_news = (was.is_some() && is.is_some()) || !is_good(was) || !is_good(is);
        if said(was) == said(is) || !is_news {
            continue;
        }
        found.push(Transition {
            at,
            namespace: namespace.to_owned(),
            workload: after.workload.clone(),
            place: place.clone(),
            before: was.cloned(),
            after: is.cloned(),
        });
    }
    found
}

impl Transition {
    /// It counts, and is worse than before.
    pub(super) fn is_worse(&self) -> bool {
        let badness = |standing: &Option<Standing>| {
            let verdict = standing
                .as_ref()
                .map_or(Verdict::Compliant, |standing| standing.verdict);
            policy::badness(verdict)
        };
        let counts = self
            .after
            .as_ref()
            .is_some_and(|standing| standing.mode != Mode::DryRun);
        counts && badness(&self.after) > badness(&self.before)
    }

    pub(super) fn line(&self, style: Style) -> String {
        let (words, tone) = match &self.after {
            Some(after) => (format!("{} {}", after.verdict, after.reason), tone(after.verdict)),
            None => ("gone".to_owned(), crate::table::Tone::Plain),
        };
        let at = Timestamp::from_second(self.at.as_second()).unwrap_or(self.at);
        let cells = [
            at.to_string(),
            self.namespace.clone(),
            named(&self.workload),
            self.place.2.clone(),
        ];
        format!("{}{}\n", columns(&cells, style), style.paint(tone, &words))
    }

    /// The shape of docs/kubectl-assay.md.
    pub(super) fn as_json(&self) -> Value {
        let standing = |standing: &Option<Standing>| {
            standing.as_ref().map(|standing| {
                json!({
                    "verdict": standing.verdict,
                    "reason": standing.reason,
                    "message": standing.message,
                })
            })
        };
        let mode = self
            .after
            .as_ref()
            .or(self.before.as_ref())
            .map(|standing| standing.mode);
        headed(
            "Transition",
            json!({
                "at": self.at.to_string(),
                "namespace": self.namespace,
                "workload": workloads::as_json(&self.workload),
                "image": self.place.0,
                "digest": self.place.1,
                "policy": self.place.2,
                "mode": mode,
                "before": standing(&self.before),
                "after": standing(&self.after),
            }),
        )
    }
}

/// The heads of the columns.
pub(super) fn heads(style: Style) -> String {
    let cells = ["WHEN", "NAMESPACE", "WORKLOAD", "POLICY"].map(str::to_owned);
    format!("{}BECOMES\n", columns(&cells, style))
}

fn columns(cells: &[String; 4], style: Style) -> String {
    let cell = |(cell, width): (&String, usize)| {
        let cell = match style.narrow {
            true => cut(cell, width),
            false => cell.clone(),
        };
        format!("{cell:<width$}  ")
    };
    cells.iter().zip(WIDTHS).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, verdict: &str, reason: &str) -> ImageCompliance {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": format!("deployment-{name}")},
            "status": {
                "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "u"},
                "images": [{"image": "r/web:1", "digest": "sha256:01", "containers": [], "policies": [{
                    "name": "p", "mode": "Enforce", "verdict": verdict, "reason": reason,
                    "since": "2026-11-22T12:00:00Z",
                }]}],
            },
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-22T12:00:00.5Z".parse().unwrap()
    }

    fn lines(transitions: &[Transition]) -> Vec<String> {
        let style = Style {
            narrow: true,
            colour: false,
        };
        transitions
            .iter()
            .map(|transition| transition.line(style))
            .collect()
    }

    fn begun(objects: &[ImageCompliance]) -> Ledger {
        let mut ledger = Ledger::default();
        assert!(ledger.list_begins().is_empty());
        for object in objects {
            assert!(
                ledger.seen(object, now()).is_empty(),
                "what was there before is no news"
            );
        }
        assert!(ledger.list_ended(now()).is_empty());
        ledger
    }

    #[test]
    fn a_change_is_told_once_and_what_was_there_is_no_news() {
        let mut ledger = begun(&[object("web", "Compliant", "AllVerified")]);
        let fallen = object("web", "Violating", "KeyRevoked");
        let told = ledger.seen(&fallen, now());
        assert_eq!(
            lines(&told),
            ["2026-11-22T12:00:00Z  shop          Deployment/web       p             Violating KeyRevoked\n"]
        );
        assert!(told[0].is_worse());
        assert!(ledger.seen(&fallen, now()).is_empty());
        let healed = ledger.seen(&object("web", "Compliant", "AllVerified"), now());
        assert!(healed.len() == 1 && !healed[0].is_worse());
    }

    #[test]
    fn a_new_workload_that_is_good_is_no_news_and_a_bad_one_is() {
        let mut ledger = begun(&[]);
        assert!(
            ledger
                .seen(&object("web", "Compliant", "AllVerified"), now())
                .is_empty()
        );
        let bad = ledger.seen(&object("cart", "Violating", "SignatureMissing"), now());
        assert!(bad[0].is_worse() && bad[0].before.is_none());
        let gone = ledger.gone(&object("cart", "Violating", "SignatureMissing"), now());
        assert!(lines(&gone)[0].ends_with("gone\n") && !gone[0].is_worse());
        assert_eq!(gone[0].as_json()["after"], Value::Null);
    }

    /// A watch that was cut off lists anew: what is missing then was deleted meanwhile.
    #[test]
    fn what_a_later_list_does_not_name_is_gone() {
        let web = object("web", "Violating", "KeyRevoked");
        let mut ledger = begun(&[web.clone(), object("cart", "Violating", "KeyRevoked")]);
        ledger.list_begins();
        assert!(ledger.seen(&web, now()).is_empty());
        let gone = ledger.list_ended(now());
        assert_eq!(gone.len(), 1);
        assert!(lines(&gone)[0].contains("Deployment/cart"));
    }

    #[test]
    fn what_a_dry_run_finds_is_told_and_is_nothing_worse() {
        let mut dry_run = object("web", "Violating", "KeyRevoked");
        dry_run.status.images[0].policies[0].mode = Mode::DryRun;
        let mut ledger = begun(&[]);
        assert!(!ledger.seen(&dry_run, now())[0].is_worse());
    }

    #[test]
    fn the_shape_of_the_json_is_that_of_the_documents() {
        let mut ledger = begun(&[object("web", "Compliant", "AllVerified")]);
        let told = ledger.seen(&object("web", "Unknown", "Stale"), now());
        let expected = json!({
            "apiVersion": "assay.dev/v1alpha1",
            "kind": "Transition",
            "at": "2026-11-22T12:00:00.5Z",
            "namespace": "shop",
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "image": "r/web:1",
            "digest": "sha256:01",
            "policy": "p",
            "mode": "Enforce",
            "before": {"verdict": "Compliant", "reason": "AllVerified", "message": ""},
            "after": {"verdict": "Unknown", "reason": "Stale", "message": ""},
        });
        assert_eq!(told[0].as_json(), expected);
    }
}
