//! What is asked of registries, when, and what the answers change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::Verdict;
use image::Digest;
use jiff::Timestamp;
use policy::{Completeness, Gap, ItemFacts, Judgement, Knowledge, Nature, RecheckPlan, newest_attestation};
use verify::{Item, ItemKind, Outcome};

use crate::core::Engine;
use crate::fact::RememberedViolation;
use crate::judge::{Cause, image_of};
use crate::lookup::{Ask, DigestPass, Evidence, Known, Pass, Seen, Shape, Shortfall, WaysSeen, stored};
use crate::queue::Urgency;
use crate::schedule::{after, spread};
use crate::store::{Read, SubjectRecord};
use crate::subject::{Judged, JudgementKey, Origin, Subject, SubjectKey, unknown};

/// Look-ups at one registry at the same time.
const PER_REGISTRY: usize = 16;
/// Due subjects of crowded registries that are passed over in one go.
const LOOKED_THROUGH: usize = 512;
/// So many attestations of one digest that are not found any more are remembered, the last ones.
const REMEMBERED: usize = 64;
/// The longest pause of a failing look-up with a workload's credentials: it may have failed for lack of a right alone.
const TENANT_PAUSE: Duration = Duration::from_secs(300);
/// When a subject comes again whose registry was crowded.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);

impl Engine {
    /// The look-ups whose time has come, at most so many in all and so many for one registry: a slow
    /// one leaves room for the others.
    pub(crate) fn due_lookups(&mut self, now: Timestamp, room: usize) -> Vec<Ask> {
        let mut asks = Vec::new();
        let mut crowded = Vec::new();
        while asks.len() < room
            && crowded.len() < LOOKED_THROUGH
            && let Some(key) = self.due.pop_due(now)
        {
            let wants = self.wants(&key);
            let Some(subject) = self.subjects.get_mut(&key) else {
                continue;
            };
            subject.plan.due = None;
            let under_way = self
                .under_way
                .entry(key.repository.registry().to_owned())
                .or_default();
            if *under_way >= PER_REGISTRY {
                crowded.push(key);
            } else {
                *under_way += 1;
                subject.plan.in_flight = true;
                asks.push(subject.ask(wants));
            }
        }
        for key in crowded {
            self.set_due(&key, Some(after(now, CROWDED_PAUSE)));
        }
        asks
    }

    fn lookup_ended(&mut self, key: &SubjectKey) {
        let registry = key.repository.registry();
        if let Some(under_way) = self.under_way.get_mut(registry) {
            *under_way = under_way.saturating_sub(1);
            if *under_way == 0 {
                self.under_way.remove(registry);
            }
        }
    }

    /// Takes the answer of a look-up in.
    pub(crate) fn absorb_pass(&mut self, pass: Pass, now: Timestamp) {
        let key = pass.subject.clone();
        self.lookup_ended(&key);
        let limit = self.shortest_interval(&key);
        let Some(subject) = self.subjects.get_mut(&key) else {
            return;
        };
        subject.plan.in_flight = false;
        let first = !subject.attempted;
        let before = subject.what_keys_count();
        let retry_after = pass.retry_after;
        if subject.is_refreshed_by(&pass) {
            subject.evidence_seen = Some(now);
        }
        let complete = subject.absorb(pass);
        let refused = subject.is_refused_after(complete);
        if complete {
            subject.checked = Some(now);
            self.counters.complete_lookups += 1;
            // What an incomplete pass saw is less than what is kept.
            self.store.keep_subject(key.text(), &subject.record());
        } else {
            self.counters.incomplete_lookups += 1;
        }
        let users: Vec<_> = if first {
            subject.users.keys().cloned().collect()
        } else {
            Vec::new()
        };
        self.note_unasked(&key);
        self.judge(&key, now, Cause::Evidence);
        // What keys are said to be worth may differ although no answer does.
        let after = self.subjects.get(&key).map(Subject::what_keys_count);
        if after.is_some_and(|after| after != before) {
            self.all_keys_changed(now);
        }
        self.note_refusal(&key, refused, now);
        if complete {
            self.forget_remembered(&key, now);
        }
        for user in users {
            self.workload_changed(user, Urgency::Changed, now);
        }
        self.plan_next(&key, complete, limit, retry_after, now);
    }

    /// A complete look-up says more than what an earlier process wrote, with one exception: an attestation that was
    /// seen then and is nowhere now, not even on disk, is only outdone by a newer one (B47).
    fn forget_remembered(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key) else {
            return;
        };
        let users: Vec<_> = subject.users.keys().cloned().collect();
        for user in users {
            let Some(mut violations) = self.remembered.remove(&user) else {
                continue;
            };
            violations
                .retain(|violation| !violation.is_about(key) || self.is_not_outdone(violation, key, now));
            if !violations.is_empty() {
                self.remembered.insert(user, violations);
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
        let facts = image_of(subject, true, subject.facts());
        let newest = newest_attestation(&version.compiled, &facts, self.keys.rings(), now, requirement);
        let violates = subject.judgements.iter().any(|(judgement, judged)| {
            judgement.policy == violation.policy
                && judged.judgement.verdict == Verdict::Violating
                && judged.judgement.requirement == violation.requirement
        });
        !violates && newest.is_none_or(|made| made <= violation.since)
    }

    /// A name that may lead to an index and was not followed yet may be what makes the subject hold.
    pub(crate) fn note_unasked(&mut self, key: &SubjectKey) {
        let wants = self.wants(key);
        if let Some(subject) = self.subjects.get_mut(key) {
            let origins = subject.users.values().flat_map(BTreeMap::keys);
            let followed = subject.asked.indexes
                && origins
                    .into_iter()
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
        let regular = self.regular_due(key);
        let due = match (subject.plan.due, regular) {
            (_, Some(regular)) if subject.from_disk && !subject.attempted && !subject.fails() => {
                spread(key, now, regular.max(now))
            }
            (_, _) if unasked => now,
            (Some(due), Some(regular)) => due.min(regular.max(now)),
            (Some(due), None) => due,
            (None, regular) => regular.map_or(now, |regular| spread(key, now, regular.max(now))),
        };
        self.set_due(key, Some(due));
    }

    pub(crate) fn set_due(&mut self, key: &SubjectKey, due: Option<Timestamp>) {
        if let Some(subject) = self.subjects.get_mut(key) {
            self.due.set(key, subject.plan.due, due);
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
        if let Some(mut record) = self.store.subject(&key.text()) {
            record.checked = record.checked.map(|checked| checked.min(now));
            record
                .proven
                .retain(|index| stored::proves(&self.store.reader(), index, &key.digest));
            subject.restore(&record, &self.store.reader());
            refused |= record.refused;
        }
        let (violations, attestations) = (self.violations_beside(key), self.attestations_beside(key));
        if let Some(subject) = self.subjects.get_mut(key) {
            subject.recall_violations(violations);
            subject.recall_attestations(attestations);
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
            subject.plan.pause = Some(pause);
            after(now, pause)
        };
        self.set_due(key, Some(due));
    }

    fn wants(&self, key: &SubjectKey) -> Wants {
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

impl Subject {
    fn ask(&self, wants: Wants) -> Ask {
        let origins = || self.users.values().flat_map(BTreeMap::keys);
        let tags = origins().filter_map(|origin| match origin {
            Origin::Tag(tag) => Some((tag.clone(), self.first_resolved.get(tag).copied())),
            Origin::Pinned(_) => None,
        });
        let pinned = origins().filter_map(|origin| match origin {
            Origin::Pinned(digest) => Some(*digest),
            Origin::Tag(_) => None,
        });
        let known = self.knowledge().map(|knowledge| {
            let evidence = |item: &ItemFacts| {
                let manifest = *self.found_in.get(item.item.id())?;
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
                knowledge.digest,
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
            proven: self.indexes.clone(),
            known: known.collect(),
        }
    }

    /// The pass saw every item again that is held, wherever it was found: trust in what holds is
    /// renewed although the pass may not have been complete.
    fn is_refreshed_by(&self, pass: &Pass) -> bool {
        let parts = || std::iter::once(&pass.own).chain(&pass.relatives);
        let seen = |digest: &Digest| parts().any(|part| part.digest == *digest && part.refreshed);
        let mut holding = self.knowledge().filter(|known| !known.items.is_empty());
        parts().any(|part| part.refreshed) && holding.all(|known| seen(&known.digest))
    }

    /// Takes a pass in; answers whether it was complete. An incomplete one never takes away what a
    /// complete one found: the last complete knowledge stays and is marked overdue.
    fn absorb(&mut self, pass: Pass) -> bool {
        let parts = || std::iter::once(&pass.own).chain(&pass.relatives);
        let complete = pass.index_gap.is_none() && parts().all(DigestPass::is_whole);
        let was_complete = self.is_complete();
        self.attempted = true;
        self.asked.indexes |= pass.asked_indexes;
        self.asked.children |= pass.asked_children;
        self.asked.attestations = pass.asked_attestations;
        for part in parts() {
            for (repository, lists) in &part.listed {
                let place = (part.digest, repository.clone());
                match lists {
                    true => self.listed.insert(place),
                    false => self.listed.remove(&place),
                };
            }
        }
        self.last_gap = pass
            .own
            .shortfall
            .as_ref()
            .or(pass.own.attestations.as_ref())
            .map(|shortfall| shortfall.gap.clone())
            .or_else(|| pass.index_gap.clone());
        for (tag, digest) in pass.resolved {
            self.first_resolved.entry(tag).or_insert(digest);
        }
        self.indexes.extend(pass.proven);
        if !pass.children.is_empty() {
            self.children = pass.children;
        }
        if pass.asked_indexes && (pass.index_gap.is_none() || !was_complete) {
            self.index_gap = pass.index_gap;
        }
        self.asked_origins.extend(pass.asked_origins);
        for part in std::iter::once(pass.own).chain(pass.relatives) {
            self.absorb_part(part);
        }
        if complete {
            self.from_disk = false;
        }
        complete
    }

    fn absorb_part(&mut self, part: DigestPass) {
        let whole = part.is_whole();
        let asked_attestations = self.asked.attestations;
        self.seen.insert(part.digest, part.seen);
        let knowledge = if part.digest == self.key.digest {
            &mut self.own
        } else {
            self.relatives
                .entry(part.digest)
                .or_insert_with(|| unknown(part.digest))
        };
        if let Some(shape) = part.shape {
            knowledge.nature = shape.nature();
            self.shapes.insert(part.digest, shape);
        }
        let past = self.past.remove(&part.digest).unwrap_or_default();
        let mut past: BTreeMap<Digest, ItemFacts> = by_id(past);
        let mut before = by_id(std::mem::take(&mut knowledge.items));
        for found in part.items {
            let id = *found.item.id();
            self.found_in.insert(id, found.manifest);
            let facts = before.remove(&id).or(past.remove(&id));
            past.remove(&id);
            knowledge
                .items
                .push(facts.unwrap_or_else(|| not_asked(found.item)));
        }
        knowledge.completeness = completeness(part.shortfall, &knowledge.completeness);
        knowledge.attestations = match asked_attestations {
            true => completeness_of_attestations(part.attestations, &knowledge.attestations),
            false => Completeness::NeverAsked,
        };
        let (gone, forgotten): (Vec<_>, Vec<_>) = before
            .into_values()
            .partition(|facts| whole && counts_when_gone(facts));
        for facts in forgotten {
            self.found_in.remove(facts.item.id());
        }
        self.remember(part.digest, past.into_values().chain(gone).collect());
    }

    /// Keeps attestations that are not found any more.
    fn remember(&mut self, digest: Digest, mut past: Vec<ItemFacts>) {
        for facts in past.drain(..past.len().saturating_sub(REMEMBERED)) {
            self.found_in.remove(facts.item.id());
        }
        if !past.is_empty() {
            self.past.insert(digest, past);
        }
    }

    fn restore(&mut self, record: &SubjectRecord, read: Read<'_>) {
        self.from_disk = record.checked.is_some();
        self.checked = record.checked;
        self.indexes = record.proven.clone();
        self.first_resolved = record.first_resolved.clone();
        let listed = |seen: &WaysSeen| seen.referrers.as_ref().is_some_and(|listed| !listed.is_empty());
        let places = |(digest, seen): (&Digest, &Seen)| {
            let digest = *digest;
            let listing = seen.iter().filter(|(_, seen)| listed(seen));
            let places = listing.map(|(repository, _)| (digest, repository.clone()));
            places.collect::<Vec<_>>()
        };
        let had_referrers = record.seen.iter().flat_map(places);
        self.listed = had_referrers.collect();
        if let Some(Shape::Index { runnable }) = stored::shape(read, &self.key.digest) {
            self.children = record
                .children
                .iter()
                .filter(|child| runnable.contains(child))
                .copied()
                .collect();
        }
        let digests = std::iter::once(self.key.digest).chain(record.proven.iter().copied());
        let digests: Vec<Digest> = digests.chain(self.children.iter().copied()).collect();
        for digest in digests {
            let shape = stored::shape(read, &digest);
            let kept = record
                .seen
                .get(&digest)
                .map(|seen| stored::items(read, seen))
                .unwrap_or_default();
            let past = record.past.get(&digest).into_iter().flatten().copied();
            let past = stored::items_of(read, past);
            for found in kept.iter().chain(&past) {
                self.found_in.insert(*found.item.id(), found.manifest);
            }
            let present: BTreeSet<Digest> = kept.iter().map(|found| *found.item.id()).collect();
            let past = past
                .into_iter()
                .filter(|found| !present.contains(found.item.id()));
            let past: Vec<ItemFacts> = past.map(|found| not_asked(found.item)).collect();
            if !past.is_empty() {
                self.past.insert(digest, past);
            }
            let knowledge = Knowledge {
                nature: shape.as_ref().map_or(Nature::NotRead, Shape::nature),
                items: kept.into_iter().map(|found| not_asked(found.item)).collect(),
                completeness: Completeness::Incomplete(from_disk()),
                attestations: Completeness::Incomplete(from_disk()),
                ..unknown(digest)
            };
            self.shapes.extend(shape.map(|shape| (digest, shape)));
            if digest == self.key.digest {
                self.own = knowledge;
            } else {
                self.relatives.insert(digest, knowledge);
            }
        }
    }

    /// What was Violating when it last ran in this process, until the first look-up says otherwise.
    fn recall_violations(&mut self, violations: Vec<(JudgementKey, Judgement)>) {
        for (key, judgement) in violations {
            let judged = Judged {
                judgement,
                stale_since: None,
                warned: false,
                sole_trust: Vec::new(),
            };
            self.judgements.insert(key, judged);
        }
    }

    pub(crate) fn record(&self) -> SubjectRecord {
        SubjectRecord {
            refused: self.refused,
            checked: self.checked,
            seen: self.seen.clone(),
            shapes: self.shapes.clone(),
            proven: self.indexes.clone(),
            children: self.children.clone(),
            first_resolved: self.first_resolved.clone(),
            past: self
                .past
                .iter()
                .map(|(digest, items)| (*digest, self.manifests_of(items)))
                .collect(),
        }
    }

    fn manifests_of(&self, items: &[ItemFacts]) -> BTreeSet<Digest> {
        let manifest = |item: &ItemFacts| self.found_in.get(item.item.id()).copied();
        items.iter().filter_map(manifest).collect()
    }

    /// Why the last attempt was not complete.
    pub(crate) fn own_gap(&self) -> Option<&Gap> {
        self.last_gap.as_ref()
    }
}

fn not_asked(item: Arc<Item>) -> ItemFacts {
    ItemFacts {
        item,
        outcomes: Vec::new(),
    }
}

/// What is known now: an incomplete look-up takes nothing away from what a complete one found.
fn completeness(shortfall: Option<Shortfall>, before: &Completeness) -> Completeness {
    match (shortfall, before) {
        (None, _) | (Some(_), Completeness::Complete) => Completeness::Complete,
        (Some(shortfall), _) => Completeness::Incomplete(shortfall.gap),
    }
}

/// As [`completeness`]; but past a cap nobody knows the newest attestation any more, whatever was complete before.
fn completeness_of_attestations(shortfall: Option<Shortfall>, before: &Completeness) -> Completeness {
    match shortfall {
        Some(shortfall) if shortfall.gap.reason == api::Reason::EvidenceTooLarge => {
            Completeness::Incomplete(shortfall.gap)
        }
        other => completeness(other, before),
    }
}

fn by_id(items: Vec<ItemFacts>) -> BTreeMap<Digest, ItemFacts> {
    items.into_iter().map(|facts| (*facts.item.id(), facts)).collect()
}

/// An attestation by a key that is trusted or known is remembered when it is not found any more: no longer as proof,
/// but a newer bad one keeps counting although it was deleted (B47). Nobody without such a key can push one out.
pub(crate) fn counts_when_gone(facts: &ItemFacts) -> bool {
    let verified = |(_, outcome): &(_, Outcome)| matches!(outcome, Outcome::Verified(_));
    matches!(facts.item.kind(), ItemKind::Attestation { .. }) && facts.outcomes.iter().any(verified)
}

fn from_disk() -> Gap {
    Gap {
        reason: api::Reason::Pending,
        detail: "the operator was restarted and has not asked the registry again yet".into(),
    }
}
