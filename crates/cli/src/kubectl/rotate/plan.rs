//! From the versions of a signer to the next step of its rotation: pure.
//!
//! | versions | next |
//! |---|---|
//! | nothing Staged, one Active | publish the next one as Staged |
//! | one Staged | put it to Active, once it can be used |
//! | two Active | put the older one to Retiring |
//! | one Retiring | put it to Disabled, once nothing rests on it alone |
//! | one Disabled | put it to Revoked, once nothing is missing it: no workload fails by it, and no Hold honours one |

use api::conditions::{READY, SAFE_TO_DISABLE};
use api::{SigningKey, Stage};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::missing::Missing;
use crate::kubectl::gitops;
use crate::kubectl::held::{self, Held, stage};
use crate::table::counted;

/// So many workloads are named.
const NAMED: usize = 20;

/// What is known besides the keys.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) now: Timestamp,
    /// What fails by keys of the ring that are Disabled.
    pub(super) missing: Missing,
    /// The keys that count as another stage than their objects say, by name.
    pub(super) held: Vec<(String, Held)>,
}

/// Where a rotation stands.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) ring: String,
    /// The oldest first.
    pub(super) keys: Vec<SigningKey>,
    /// Where it stands, in a sentence.
    pub(super) stands: String,
    pub(super) next: Step,
    /// The next step, in a sentence.
    pub(super) says: String,
    /// What keeps the next step from being safe.
    pub(super) blocked: Vec<String>,
    /// Workloads that rest on the old key alone, or fail without it.
    pub(super) dependents: Vec<String>,
    /// The GitOps controller that manages what the next step changes.
    pub(super) managed_by: Option<String>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A new version is published as Staged.
    Publish,
    /// A version goes to another stage.
    Move { name: String, to: Stage },
    /// There is no step.
    Done,
}

impl Plan {
    pub(super) fn of(ring: &str, keys: &[SigningKey], seen: &Seen) -> Self {
        let mut keys = keys.to_vec();
        keys.sort_by_key(|key| {
            let created = key.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created, key.metadata.name.clone())
        });
        let mut plan = Plan {
            ring: ring.to_owned(),
            keys,
            stands: String::new(),
            next: Step::Done,
            says: String::new(),
            blocked: Vec::new(),
            dependents: Vec::new(),
            managed_by: None,
        };
        plan.decide(seen);
        if let Step::Move { name, .. } = &plan.next {
            let key = plan
                .keys
                .iter()
                .find(|key| key.metadata.name.as_ref() == Some(name));
            let manager = key.and_then(|key| gitops::manager(&key.metadata, "stage"));
            plan.managed_by = manager.map(|manager| manager.to_string());
        }
        plan
    }

    fn decide(&mut self, seen: &Seen) {
        let of = |wanted: Stage| -> Vec<SigningKey> {
            self.keys
                .iter()
                .filter(|key| stage(key) == wanted)
                .cloned()
                .collect()
        };
        let (staged, active) = (of(Stage::Staged), of(Stage::Active));
        let (retiring, disabled) = (of(Stage::Retiring), of(Stage::Disabled));
        // What is nearest to its end goes on first: one rotation is finished before the next one begins.
        if let Some(old) = disabled.first() {
            self.revoke(old, &active, seen);
        } else if let Some(old) = retiring.first() {
            self.disable(old, &active, seen);
        } else if let Some(next) = staged.first() {
            self.activate(next, &active, seen);
        } else if let [old, newer @ ..] = active.as_slice()
            && !newer.is_empty()
        {
            self.retire(old, newer, seen);
        } else {
            self.publish(active.first(), seen);
        }
    }

    fn publish(&mut self, active: Option<&SigningKey>, seen: &Seen) {
        self.next = Step::Publish;
        self.stands = match active {
            Some(active) => format!("{} signs, and no rotation is under way.", name(active)),
            None => format!("No version of {} is in use.", self.ring),
        };
        self.says = "to begin a rotation, publish the next version as Staged: its signatures are looked at, and do not \
                     count yet"
            .to_owned();
        match active {
            Some(active) => self.blocked.extend(not_usable(active, seen.now)),
            None => self
                .blocked
                .push("no version signs with trust now: what was signed by this ring fails".to_owned()),
        }
    }

    fn activate(&mut self, next: &SigningKey, active: &[SigningKey], seen: &Seen) {
        let before = active.last().map_or("none".to_owned(), name);
        self.stands = format!(
            "{} is published and not trusted yet; {} carry its signature. In use: {before}.",
            name(next),
            images(next)
        );
        self.next = to(next, Stage::Active);
        self.says = format!(
            "let {} count, beside what is in use; then sign with it",
            name(next)
        );
        self.blocked.extend(not_usable(next, seen.now));
    }

    fn retire(&mut self, old: &SigningKey, newer: &[SigningKey], seen: &Seen) {
        self.stands = format!("Two versions count: {}.", list(&self.keys, Stage::Active));
        // The old one may go whatever is wrong with it; who reads this should know that it does not count.
        if let Some(why) = not_usable(old, seen.now) {
            self.stands += &format!(" But {why}.");
        }
        self.next = to(old, Stage::Retiring);
        self.says = format!(
            "mark the older one, {}, as Retiring: it goes on counting for what runs; from now on sign with the newer one",
            name(old)
        );
        self.blocked
            .extend(newer.iter().filter_map(|key| not_usable(key, seen.now)));
    }

    fn disable(&mut self, old: &SigningKey, active: &[SigningKey], seen: &Seen) {
        self.stands = format!(
            "{} is retiring; in use is {}.",
            name(old),
            active.last().map_or("none".to_owned(), name)
        );
        self.next = to(old, Stage::Disabled);
        self.says = format!(
            "rehearse the revocation: put {} to Disabled, which can be undone",
            name(old)
        );
        self.blocked.extend(nothing_takes_over(active, seen.now));
        self.dependents = dependents(old);
        self.blocked.extend(not_safe(old));
    }

    fn revoke(&mut self, old: &SigningKey, active: &[SigningKey], seen: &Seen) {
        let held = seen.held.iter().find(|(held, _)| *held == name(old));
        self.stands = match held {
            Some((_, held)) => format!("{}.", held.sentence()),
            None => format!(
                "{} is disabled, which can be undone: kubectl assay key stage {} Retiring.",
                name(old),
                name(old)
            ),
        };
        self.next = to(old, Stage::Revoked);
        self.says = format!(
            "when nothing has turned for as long as you want to be sure, revoke {} for ever",
            name(old)
        );
        self.blocked.extend(nothing_takes_over(active, seen.now));
        // What a Hold honours rests on the key although it counts as Disabled.
        if held::dependents(old).unwrap_or_default() > 0 {
            self.dependents = dependents(old);
            self.blocked.extend(not_safe(old));
        }
        match &seen.missing {
            Missing::NotTold => self.blocked.push(format!(
                "what fails by {} being Disabled is not told: you may not read the ImageCompliances of all namespaces; ask \
                 for the role assay-auditor",
                name(old)
            )),
            Missing::These(places) if places.is_empty() => {}
            Missing::These(places) => {
                self.blocked.push(format!(
                    "{} {} by {} being Disabled: have their images signed by the key in use, or put it back to Retiring",
                    counted(places.len(), "workload"),
                    if places.len() == 1 { "fails" } else { "fail" },
                    name(old)
                ));
                self.dependents.extend(places.iter().take(NAMED).cloned());
                if let more @ 1.. = places.len().saturating_sub(NAMED) {
                    self.dependents
                        .push(format!("and {more} more: kubectl assay status -A lists them all"));
                }
            }
        }
    }
}

fn to(key: &SigningKey, to: Stage) -> Step {
    Step::Move { name: name(key), to }
}

fn name(key: &SigningKey) -> String {
    key.metadata.name.clone().unwrap_or_default()
}

fn list(keys: &[SigningKey], wanted: Stage) -> String {
    let names: Vec<String> = keys.iter().filter(|key| stage(key) == wanted).map(name).collect();
    names.join(", ")
}

fn images(key: &SigningKey) -> String {
    let images = key.status.as_ref().and_then(|status| status.images);
    images.map_or("an unknown number of running images".to_owned(), |images| {
        counted(usize::try_from(images).unwrap_or_default(), "running image")
    })
}

fn condition<'a>(key: &'a SigningKey, type_: &str) -> Option<&'a Condition> {
    let conditions = &key.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Why the key cannot be used; what is not told is no yes.
fn not_ready(key: &SigningKey) -> Option<String> {
    match condition(key, READY) {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("{} cannot be used: {}", name(key), ready.message)),
        None => Some(format!("the operator has not read {} yet", name(key))),
    }
}

/// Why what the key signs now would not count: it cannot be used, or its time is not now.
fn not_usable(key: &SigningKey, now: Timestamp) -> Option<String> {
    let ended = key.spec.not_after.as_ref().filter(|end| end.0 <= now);
    let early = key.spec.not_before.as_ref().filter(|begin| begin.0 > now);
    not_ready(key)
        .or_else(|| {
            ended.map(|end| {
                format!(
                    "{} has ended (spec.notAfter {}): what it signs now does not count",
                    name(key),
                    end.0
                )
            })
        })
        .or_else(|| {
            early.map(|begin| {
                format!(
                    "{} has not begun (spec.notBefore {}): what it signs now does not count",
                    name(key),
                    begin.0
                )
            })
        })
}

/// Why no other version takes the place of one that goes.
fn nothing_takes_over(active: &[SigningKey], now: Timestamp) -> Vec<String> {
    let reasons: Vec<String> = active.iter().filter_map(|key| not_usable(key, now)).collect();
    match active.len() {
        0 => vec!["no other version of the ring is Active".to_owned()],
        all if reasons.len() == all => reasons,
        _ => Vec::new(),
    }
}

/// Why the key cannot be disabled without harm; what is not told is no yes.
fn not_safe(key: &SigningKey) -> Option<String> {
    match condition(key, SAFE_TO_DISABLE) {
        Some(safe) if safe.status == "True" && safe.observed_generation == key.metadata.generation => None,
        Some(safe) if safe.status == "False" => Some(format!(
            "{} would fail without {}: have their images signed by the new key ({})",
            resting(key),
            name(key),
            safe.message
        )),
        Some(safe) => Some(format!(
            "it is not known yet what rests on {}: {}",
            name(key),
            safe.message
        )),
        None => Some(format!("the operator has not said what rests on {}", name(key))),
    }
}

/// How many workloads rest on the key, those that only a next start would concern named apart.
fn resting(key: &SigningKey) -> String {
    let starts = held::dependents(key)
        .unwrap_or_default()
        .saturating_sub(workloads(key));
    match (workloads(key), starts) {
        (running, 0) => counted(running, "workload"),
        (0, starts) => format!("with its next start {}", counted(starts, "workload")),
        (running, starts) => format!(
            "{}, and {starts} more with their next start,",
            counted(running, "workload")
        ),
    }
}

fn workloads(key: &SigningKey) -> usize {
    let sole = key.status.as_ref().and_then(|status| status.sole_trust.as_ref());
    sole.and_then(|sole| usize::try_from(sole.workloads).ok())
        .unwrap_or_default()
}

fn dependents(key: &SigningKey) -> Vec<String> {
    let Some(sole) = key.status.as_ref().and_then(|status| status.sole_trust.as_ref()) else {
        return Vec::new();
    };
    let mut lines: Vec<String> = sole
        .sample
        .iter()
        .map(|sample| format!("{}/{} {}", sample.namespace, sample.workload, sample.digest))
        .collect();
    let more = held::dependents(key)
        .unwrap_or_default()
        .saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!(
            "and {more} more: kubectl assay key images {} lists them all",
            name(key)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str, stage: &str, age: u8, status: Value) -> SigningKey {
        serde_json::from_value(json!({
            "metadata": {"name": name, "generation": 1, "creationTimestamp": format!("2026-01-{:02}T00:00:00Z", 30 - age)},
            "spec": {"keyRing": "release", "stage": stage, "publicKey": {"pem": "p"}},
            "status": status,
        }))
        .unwrap()
    }

    fn condition(type_: &str, status: &str) -> Value {
        json!({"effectiveStage": null, "conditions": [{
            "type": type_, "status": status, "reason": "R", "message": "why", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }], "soleTrust": {"images": 1, "workloads": 3, "pods": 3, "sample": [
            {"namespace": "shop", "workload": "Deployment/web", "digest": "sha256:01"},
        ]}})
    }

    fn seen(missing: Missing) -> Seen {
        Seen {
            now: "2026-02-01T00:00:00Z".parse().unwrap(),
            missing,
            held: Vec::new(),
        }
    }

    fn nothing_missing() -> Seen {
        seen(Missing::These(Vec::new()))
    }

    fn step(keys: &[SigningKey]) -> (Step, bool) {
        let plan = Plan::of("release", keys, &nothing_missing());
        (plan.next, plan.blocked.is_empty())
    }

    fn moved(name: &str, to: Stage) -> Step {
        Step::Move {
            name: name.to_owned(),
            to,
        }
    }

    #[test]
    fn each_state_of_a_ring_has_its_next_step() {
        let ready = || condition(READY, "True");
        let free = || json!({"conditions": ready()["conditions"]});
        let old = |stage| key("old", stage, 20, free());
        let new = |stage, status| key("new", stage, 1, status);
        assert_eq!(step(&[old("Active")]), (Step::Publish, true));
        assert_eq!(step(&[old("Revoked")]), (Step::Publish, false));
        assert_eq!(
            step(&[old("Active"), new("Staged", ready())]),
            (moved("new", Stage::Active), true)
        );
        assert_eq!(
            step(&[new("Active", ready()), old("Active")]),
            (moved("old", Stage::Retiring), true),
            "the older one goes"
        );
        assert_eq!(
            step(&[old("Disabled"), new("Active", ready())]),
            (moved("old", Stage::Revoked), true)
        );
        assert_eq!(
            step(&[old("Revoked"), new("Active", ready())]),
            (Step::Publish, true)
        );
    }

    /// Nothing fails open: what is not told blocks.
    #[test]
    fn only_a_clear_yes_unblocks_a_step() {
        let new = || key("new", "Active", 1, condition(READY, "True"));
        let retiring = |status| step(&[key("old", "Retiring", 20, status), new()]);
        assert_eq!(
            retiring(condition(SAFE_TO_DISABLE, "True")),
            (moved("old", Stage::Disabled), true)
        );
        for status in [
            condition(SAFE_TO_DISABLE, "False"),
            condition(SAFE_TO_DISABLE, "Unknown"),
            json!({}),
            Value::Null,
        ] {
            assert_eq!(retiring(status), (moved("old", Stage::Disabled), false));
        }
        let staged = |status| {
            step(&[
                key("old", "Active", 20, json!({})),
                key("new", "Staged", 1, status),
            ])
        };
        for status in [condition(READY, "False"), json!({})] {
            assert_eq!(staged(status), (moved("new", Stage::Active), false));
        }
    }

    #[test]
    fn who_still_depends_is_named_and_counted() {
        let old = key("old", "Retiring", 20, condition(SAFE_TO_DISABLE, "False"));
        let new = || key("new", "Active", 1, condition(READY, "True"));
        let plan = Plan::of("release", &[old, new()], &nothing_missing());
        assert_eq!(plan.dependents[0], "shop/Deployment/web sha256:01");
        assert!(
            plan.dependents[1].starts_with("and 2 more"),
            "{:?}",
            plan.dependents
        );
        assert!(plan.blocked[0].starts_with("3 workloads"), "{:?}", plan.blocked);

        let mut status = condition(SAFE_TO_DISABLE, "False");
        status["soleTrust"] = json!({"images": 0, "workloads": 0, "pods": 0, "startOnly": 2});
        let plan = Plan::of(
            "release",
            &[key("old", "Retiring", 20, status), new()],
            &nothing_missing(),
        );
        assert!(
            plan.blocked[0].starts_with("with its next start 2 workloads"),
            "{:?}",
            plan.blocked
        );
        assert!(
            plan.dependents[0].starts_with("and 2 more"),
            "{:?}",
            plan.dependents
        );
    }

    /// The step without a way back is not free because nobody looked.
    #[test]
    fn what_fails_by_a_disabled_key_blocks_its_revocation() {
        let ready = || condition(READY, "True");
        let mut status = ready();
        status["soleTrust"]["workloads"] = 0.into();
        let keys = [
            key("old", "Disabled", 20, status),
            key("new", "Active", 1, ready()),
        ];
        let of = |missing| Plan::of("release", &keys, &seen(missing));
        assert_eq!(of(Missing::These(Vec::new())).blocked, Vec::<String>::new());
        let failing = of(Missing::These(vec!["shop/Deployment/web".to_owned()]));
        assert_eq!(failing.dependents, ["shop/Deployment/web"]);
        assert!(
            failing.blocked[0].starts_with("1 workload fails by old"),
            "{:?}",
            failing.blocked
        );
        assert!(of(Missing::NotTold).blocked[0].contains("is not told"));
        // What a Hold honours rests on it.
        let mut honoured = ready();
        honoured["conditions"][0]["type"] = SAFE_TO_DISABLE.into();
        honoured["conditions"][0]["status"] = "False".into();
        let keys = [
            key("old", "Disabled", 20, honoured),
            key("new", "Active", 1, ready()),
        ];
        let plan = Plan::of("release", &keys, &nothing_missing());
        assert!(plan.blocked[0].starts_with("3 workloads"), "{:?}", plan.blocked);
    }

    #[test]
    fn an_active_key_that_has_ended_or_cannot_be_used_is_told_where_it_is_named() {
        let ready = || condition(READY, "True");
        let with_end = |name: &str, age, end: &str| {
            let mut key = key(name, "Active", age, ready());
            key.spec.not_after = serde_json::from_value(end.into()).unwrap();
            key
        };
        let (past, future) = ("2026-01-31T00:00:00Z", "2026-03-01T00:00:00Z");
        let blocked = |keys: &[SigningKey]| Plan::of("release", keys, &nothing_missing()).blocked;
        assert!(blocked(&[with_end("one", 20, past)])[0].contains("one has ended"));
        assert_eq!(blocked(&[with_end("one", 20, future)]), Vec::<String>::new());
        let retire = |old: SigningKey, new: SigningKey| Plan::of("release", &[old, new], &nothing_missing());
        let newer_ended = retire(with_end("old", 20, future), with_end("new", 1, past));
        assert!(newer_ended.blocked[0].contains("new has ended"));
        let older_ended = retire(with_end("old", 20, past), with_end("new", 1, future));
        assert_eq!(
            older_ended.blocked,
            Vec::<String>::new(),
            "it is the one that goes"
        );
        assert!(
            older_ended.stands.contains("old has ended"),
            "{}",
            older_ended.stands
        );
        let unread = [
            key("old", "Active", 20, ready()),
            key("new", "Active", 1, json!({})),
        ];
        assert!(blocked(&unread)[0].contains("has not read new"));
        let retiring = [
            key("old", "Retiring", 20, condition(SAFE_TO_DISABLE, "True")),
            with_end("new", 1, past),
        ];
        assert!(blocked(&retiring)[0].contains("new has ended"));
    }

    #[test]
    fn an_older_rotation_is_finished_before_a_newer_one_begins() {
        let keys = [
            key("first", "Disabled", 25, json!({})),
            key("second", "Active", 20, json!({})),
            key("third", "Staged", 1, json!({})),
        ];
        assert_eq!(step(&keys).0, moved("first", Stage::Revoked));
    }
}
