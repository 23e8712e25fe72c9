//! What is asked of registries, when, and what the answers change.

use std::collections::BTreeSet;
use std::time::Duration;

use image::Repository;
use jiff::Timestamp;
use policy::{Gap, ItemFacts, Nature, RecheckPlan, newest_attestation};

use crate::core::Engine;
use crate::fact::RememberedViolation;
use crate::judge::{Cause, image_of};
use crate::lookup::{Ask, Evidence, Known, Pass, stored};
use crate::queue::Urgency;
use crate::schedule::{after, spread};
use crate::subject::{Origin, Subject, SubjectKey, is_violation};
use crate::turns::{Asked, Haste};

/// The longest pause of a failing look-up with a workload's credentials: it may have failed for lack of a right alone.
pub(crate) const TENANT_PAUSE: Duration = Duration::from_secs(300);

impl Engine {
    /// The look-ups whose turn it is, at most so many.
    #[cfg(test)]
    pub(crate) fn due_lookups(&mut self, now: Timestamp, room: usize) -> Vec<Ask> {
        std::iter::from_fn(|| self.next_lookup(now, &|_| true))
            .take(room)
            .collect()
    }

    /// The next look-up whose turn it is. `has_room` tells where there is room for what can wait.
    pub(crate) fn next_lookup(
        &mut self,
        now: Timestamp,
        has_room: &dyn Fn(&Repository) -> bool,
    ) -> Option<Ask> {
        let subjects = &self.subjects;
        let haste = |key: &SubjectKey| subjects.get(key).map_or(Haste::Regular, Subject::haste);
        self.turns.line_up(now, haste);
        loop {
            let key = self.turns.next_turn(&mut self.places, has_room)?;
            let (wants, was_heard) = (self.wants(&key), self.heard.awaits_a_look(&key));
            match self.subjects.get_mut(&key) {
                Some(subject) => {
                    subject.plan.due = None;
                    subject.plan.in_flight = true;
                    let ask = subject.ask(wants);
                    // Where an absence was heard, it must be possible to conclude one.
                    let holds = ask.holds && !was_heard;
                    return Some(Ask { holds, ..ask });
                }
                None => self.places.give_back(key.repository.registry()),
            }
        }
    }

    /// Takes the answer of a look-up in.
    pub(crate) fn absorb_pass(&mut self, pass: Pass, now: Timestamp) {
        let key = pass.subject.clone();
        self.places.give_back(key.repository.registry());
        let limit = self.shortest_interval(&key);
        let Some(subject) = self.subjects.get_mut(&key) else {
            return;
        };
        subject.plan.in_flight = false;
        let before = subject.progress();
        let (retry_after, took) = (pass.retry_after, pass.took);
        if subject.is_refreshed_by(&pass) {
            subject.evidence_seen = Some(now);
        }
        let resolved = pass.resolved.clone();
        let complete = subject.absorb(pass);
        let refused = subject.is_refused_after(complete);
        self.places.took(key.repository.registry(), took, complete);
        if complete {
            subject.checked = Some(now);
            self.counters.complete_lookups += 1;
        } else {
            self.counters.incomplete_lookups += 1;
        }
        let users: BTreeSet<_> = if subject.progress() != before {
            subject.workloads().cloned().collect()
        } else {
            BTreeSet::new()
        };
        self.note_unasked(&key);
        self.judge(&key, now, Cause::Evidence);
        // What an incomplete pass saw is less than what is kept.
        if let Some(subject) = self.subjects.get(&key).filter(|_| complete) {
            self.store.keep_subject(key.text(), &subject.record());
        }
        self.share_attestations(&key, now);
        self.note_refusal(&key, refused, now);
        if complete {
            self.forget_remembered(&key, now);
        }
        for user in users {
            self.workload_changed(user, Urgency::Changed, now);
        }
        for (tag, digest) in resolved {
            self.note_named(&key, tag, digest, now);
        }
        self.plan_next(&key, complete, limit, retry_after, now);
        self.settle_doubt(&key, now);
        self.tell_departed(&key, now);
    }

    /// A complete look-up says more than what an earlier process wrote, with one exception: an attestation that was
    /// seen then and is nowhere now, not even on disk, is only outdone by a newer one (B47).
    fn forget_remembered(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        let users: BTreeSet<_> = subject.workloads().cloned().collect();
        for user in users {
            let Some(mut violations) = self.remembered.remove(&user) else {
                continue;
            };
            let before = violations.len();
            violations
                .retain(|violation| !violation.is_about(key) || self.is_not_outdone(violation, key, now));
            let is_less = violations.len() < before;
            if !violations.is_empty() {
                self.remembered.insert(user.clone(), violations);
            }
            if is_less {
                self.workload_changed(user, Urgency::Changed, now);
            }
        }
    }

    fn is_not_outdone(&self, violation: &RememberedViolation, key: &SubjectKey, now: Timestamp) -> bool {
        let Some(requirement) = violation
            .requirement
            .as_deref()
            .filter(|_| violation.is_of_an_attestation())
        else {
            return false;
        };
        let policy = self.policies.get(&violation.policy);
        let version = policy.and_then(|policy| policy.in_force.as_ref());
        let (Some(version), Some(subject)) = (version, self.subjects.get(key)) else {
            return false;
        };
        let facts = image_of(subject, (true, &[]), subject.facts());
        let newest = newest_attestation(&version.compiled, &facts, self.keys.rings(), now, requirement);
        let violates = subject.judgements.iter().any(|(judgement, judged)| {
            judgement.policy == violation.policy
                && is_violation(judged.judgement.verdict)
                && judged.judgement.requirement == violation.requirement
        });
        !violates && newest.is_none_or(|made| made <= violation.since)
    }

    /// A name that may lead to an index and was not followed yet may be what makes the subject hold.
    pub(crate) fn note_unasked(&mut self, key: &SubjectKey) {
        let wants = self.wants(key);
        if let Some(subject) = self.subjects.get_mut(key) {
            let followed = subject.asked.indexes
                && subject
                    .names_of_what_ran()
                    .all(|origin| subject.asked_origins.contains(origin));
            let concerned = wants.indexes && subject.attempted && subject.own.nature != Nature::Index;
            subject.unasked = (concerned && !followed).then(|| Gap {
                reason: api::Reason::Pending,
                detail: "whether an index that the workload names lists the image is being looked up".into(),
            });
        }
    }

    /// Puts a subject on the schedule that is covered and not on it, and takes one off that is not
    /// covered any more.
    pub(crate) fn plan(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        if subject.covering.is_empty() {
            self.set_due(key, None);
            return;
        }
        let wants = self.wants(key);
        let unasked = !subject.attempted
            || subject.unasked.is_some() && !subject.all_hold()
            || (wants.indexes && !subject.asked.indexes)
            || (wants.children && !subject.asked.children)
            || (wants.attestations && !subject.asked.attestations);
        if subject.plan.in_flight {
            return;
        }
        // What is overdue keeps its time: who has waited longest is looked up first.
        let regular = self.regular_due(key);
        let due = match (subject.plan.due, regular) {
            (_, Some(regular)) if subject.from_disk && !subject.attempted && !subject.fails() => {
                spread(key, now, regular)
            }
            (_, _) if unasked => now,
            (Some(due), Some(regular)) => due.min(regular),
            (Some(due), None) => due,
            (None, regular) => regular.map_or(now, |regular| spread(key, now, regular)),
        };
        self.set_due(key, Some(due));
    }

    pub(crate) fn set_due(&mut self, key: &SubjectKey, due: Option<Timestamp>) {
        if let Some(subject) = self.subjects.get_mut(key) {
            self.turns.set(key, subject.plan.due, due);
            subject.plan.due = due;
        }
    }

    /// Recalls what an earlier process saw. Signatures are verified again, membership in an index is
    /// proven again from hashed bytes; absences do not count.
    pub(crate) fn recall(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        if subject.attempted || subject.from_disk {
            return;
        }
        subject.recall_violations(self.gone.take(key));
        let mut refused = subject.refused;
        let kept = self.store.snapshot();
        if let Some(mut record) = kept.subject(&key.text()) {
            record.checked = record.checked.map(|checked| checked.min(now));
            record
                .proven
                .retain(|index| stored::proves(&kept.reader(), index, &key.digest));
            subject.restore(&record, &kept.reader(), &self.store);
            if subject.from_disk {
                self.places.was_known_before(key.repository.registry());
            }
            refused |= record.refused;
        }
        drop(kept);
        let (violations, attestations) = (self.violations_beside(key), self.attestations_beside(key));
        if let Some(subject) = self.subjects.get_mut(key) {
            subject.recall_violations(violations);
            subject.recall_attestations(&attestations);
        }
        self.note_refusal(key, refused, now);
    }

    fn plan_next(
        &mut self,
        key: &SubjectKey,
        complete: bool,
        limit: Duration,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) {
        let regular = self.regular_after(key, now);
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        if subject.covering.is_empty() {
            self.set_due(key, None);
            return;
        }
        // Whoever lets the operator read a pull secret does not wait for a pause that grew to hours.
        let limit = match key.keychain {
            Some(_) if !complete => limit.min(TENANT_PAUSE),
            _ => limit,
        };
        let due = if complete && subject.all_hold() {
            subject.plan.pause = None;
            regular.map_or_else(|| after(now, limit), |regular| spread(key, now, regular))
        } else {
            let pause = subject.plan.next_pause(limit, retry_after);
            // A look between its times is no further failure.
            if !self.heard.awaits_a_look(key) {
                subject.plan.pause = Some(pause);
            }
            after(now, pause)
        };
        self.set_due(key, Some(due));
    }

    pub(crate) fn wants(&self, key: &SubjectKey) -> Wants {
        let covering = self
            .subjects
            .get(key)
            .into_iter()
            .flat_map(|subject| &subject.covering);
        let in_force = covering.filter_map(|name| self.policies.get(name)?.in_force.as_ref());
        in_force.fold(Wants::default(), |wants, version| Wants {
            indexes: wants.indexes || version.compiled.accepts_index(),
            children: wants.children || !version.compiled.accepts_index(),
            attestations: wants.attestations || version.compiled.wants_attestations(),
        })
    }

    /// When the next regular check is due after the last one that saw the evidence.
    pub(crate) fn regular_due(&self, key: &SubjectKey) -> Option<Timestamp> {
        self.regular_after(key, self.subjects.get(key)?.last_seen()?)
    }

    fn regular_after(&self, key: &SubjectKey, last: Timestamp) -> Option<Timestamp> {
        self.rechecks(key).map(|plan| plan.next_after(last)).min()
    }

    fn shortest_interval(&self, key: &SubjectKey) -> Duration {
        self.rechecks(key)
            .map(RecheckPlan::interval_hint)
            .min()
            .unwrap_or(policy::DEFAULT_INTERVAL)
    }

    fn rechecks<'a>(&'a self, key: &SubjectKey) -> impl Iterator<Item = &'a RecheckPlan> {
        let covering = self
            .subjects
            .get(key)
            .into_iter()
            .flat_map(|subject| &subject.covering);
        covering.filter_map(|name| Some(self.policies.get(name)?.in_force.as_ref()?.compiled.recheck()))
    }
}

/// What the covering policies want to know besides the signatures of the digest itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) indexes: bool,
    pub(crate) children: bool,
    pub(crate) attestations: bool,
}

impl Asked for SubjectKey {
    fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl Subject {
    /// How urgently it is looked up.
    fn haste(&self) -> Haste {
        match (self.attempted || self.from_disk, self.all_hold()) {
            (false, _) => Haste::New,
            (true, false) => Haste::Open,
            (true, true) => Haste::Regular,
        }
    }

    fn ask(&self, wants: Wants) -> Ask {
        let origins = || self.names_of_what_ran();
        let tags = origins().filter_map(|origin| match origin {
            Origin::Tag(tag) => Some((tag.clone(), self.first_resolved.get(tag).cloned())),
            Origin::Pinned(_) => None,
        });
        let pinned = origins().filter_map(|origin| match origin {
            Origin::Pinned(digest) => Some((**digest).clone()),
            Origin::Tag(_) => None,
        });
        let known = self.knowledge().map(|knowledge| {
            let evidence = |item: &ItemFacts| {
                let manifest = self.found_in.get(item.item.id())?.clone();
                Some(Evidence {
                    item: item.item.clone(),
                    manifest,
                })
            };
            let items = knowledge.items.iter().filter_map(evidence).collect();
            let listed = self
                .listed
                .iter()
                .filter(|(digest, _)| *digest == knowledge.digest);
            let listed = listed.map(|(_, repository)| repository.clone()).collect();
            let seen = self.seen.get(&knowledge.digest).cloned().unwrap_or_default();
            (
                knowledge.digest.clone(),
                Known {
                    shape: self.shapes.get(&knowledge.digest).cloned(),
                    listed,
                    seen,
                    items,
                },
            )
        });
        Ask {
            subject: self.key.clone(),
            tags: tags.collect(),
            pinned: pinned.collect(),
            wants_indexes: wants.indexes,
            wants_children: wants.children,
            wants_attestations: wants.attestations,
            holds: self.is_complete() && self.all_hold(),
            proven: self.indexes.iter().cloned().collect(),
            known: known.collect(),
        }
    }
}
