//! What is known of a subject: taken in from passes, kept on disk and restored from there. Nothing is asked or judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use image::Digest;
use policy::{Completeness, Gap, ItemFacts, Judgement, Knowledge, Nature};
use verify::{Item, Outcome};

use crate::lookup::{DigestPass, Pass, Seen, Shape, Shortfall, WaysSeen, stored};
use crate::past::{Past, counts_when_gone};
use crate::store::{Read, Store, SubjectRecord};
use crate::subject::{Judged, JudgementKey, Subject, unknown};

impl Subject {
    /// The pass saw every item again that is held, wherever it was found: trust in what holds is
    /// renewed although the pass may not have been complete.
    pub(crate) fn is_refreshed_by(&self, pass: &Pass) -> bool {
        let parts = || std::iter::once(&pass.own).chain(&pass.relatives);
        let seen = |digest: &Digest| parts().any(|part| part.digest == *digest && part.refreshed);
        let mut holding = self.knowledge().filter(|known| !known.items.is_empty());
        parts().any(|part| part.refreshed) && holding.all(|known| seen(&known.digest))
    }

    /// Takes a pass in; answers whether it was complete. An incomplete one never takes away what a
    /// complete one found: the last complete knowledge stays and is marked overdue.
    pub(crate) fn absorb(&mut self, pass: Pass) -> bool {
        let parts = || std::iter::once(&pass.own).chain(&pass.relatives);
        let complete = pass.index_gap.is_none() && parts().all(DigestPass::is_whole);
        let was_complete = self.is_complete();
        self.attempted = true;
        self.asked.indexes |= pass.asked_indexes;
        self.asked.children |= pass.asked_children;
        self.asked.attestations = pass.asked_attestations;
        for part in parts() {
            for (repository, lists) in &part.listed {
                let place = (part.digest.clone(), repository.clone());
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
            self.first_resolved.get_or_insert_with(tag, || digest);
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
        self.seen.insert(part.digest.clone(), part.seen);
        let knowledge = if part.digest == self.key.digest {
            &mut self.own
        } else {
            self.relatives
                .entry(part.digest.clone())
                .or_insert_with(|| unknown(part.digest.clone()))
        };
        if let Some(shape) = part.shape {
            knowledge.nature = shape.nature();
            self.shapes.insert(part.digest.clone(), shape);
        }
        let past = self.past.entry(part.digest.clone()).or_default();
        let mut before = by_id(std::mem::take(&mut knowledge.items));
        for found in part.items {
            let id = found.item.id().clone();
            self.found_in.insert(id.clone(), found.manifest);
            let again = past.take(&id);
            let facts = before.remove(&id).or(again);
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
        let forgotten = forgotten.iter().map(|facts| facts.item.id().clone());
        for id in past.remember(gone).into_iter().chain(forgotten) {
            self.found_in.remove(&id);
        }
        if past.is_empty() {
            self.past.remove(&part.digest);
        }
    }

    pub(crate) fn restore(&mut self, record: &SubjectRecord, read: Read<'_>, store: &Arc<Store>) {
        self.from_disk = record.checked.is_some();
        self.checked = record.checked;
        self.indexes = record.proven.iter().cloned().collect();
        self.first_resolved = record.first_resolved.clone().into_iter().collect();
        self.likely_signers = record.signed_by.clone().into_iter().collect();
        let listed = |seen: &WaysSeen| seen.referrers.as_ref().is_some_and(|listed| !listed.is_empty());
        let places = |(digest, seen): (&Digest, &Seen)| {
            let digest = digest.clone();
            let listing = seen.iter().filter(|(_, seen)| listed(seen));
            let places = listing.map(|(repository, _)| (digest.clone(), repository.clone()));
            places.collect::<Vec<_>>()
        };
        let had_referrers = record.seen.iter().flat_map(places);
        self.listed = had_referrers.collect();
        let own_shape = stored::shape(read, &self.key.digest);
        if let Some(Shape::Index { runnable }) = &own_shape
            && !record.children.is_empty()
        {
            // Which they are, the index says: each of them must vouch, and on disk one may have been left out.
            self.children = runnable.clone();
        }
        let digests = std::iter::once(self.key.digest.clone()).chain(record.proven.iter().cloned());
        let digests: Vec<Digest> = digests.chain(self.children.iter().cloned()).collect();
        for digest in digests {
            let shape = match digest == self.key.digest {
                true => own_shape.clone(),
                false => stored::shape(read, &digest),
            };
            let (kept, gap) = match record.seen.get(&digest) {
                Some(seen) => stored::items(read, store, seen),
                None => (Vec::new(), None),
            };
            let past = record.past.get(&digest).into_iter().flatten().cloned();
            let mut past = stored::past_items(read, store, past);
            // What lay beside them in their manifests is not remembered.
            past.retain(|found| record.is_past(found.item.id()));
            for found in kept.iter().chain(&past) {
                self.found_in
                    .insert(found.item.id().clone(), found.manifest.clone());
            }
            let present: BTreeSet<Digest> = kept.iter().map(|found| found.item.id().clone()).collect();
            let past = past
                .into_iter()
                .filter(|found| !present.contains(found.item.id()));
            let past = past.map(|found| not_asked(found.item)).collect();
            let forgotten = record.forgotten.get(&digest).cloned().unwrap_or_default();
            let past = Past::restored(past, forgotten);
            if !past.is_empty() {
                self.past.insert(digest.clone(), past);
            }
            let knowledge = Knowledge {
                nature: shape.as_ref().map_or(Nature::NotRead, Shape::nature),
                items: kept.into_iter().map(|found| not_asked(found.item)).collect(),
                completeness: Completeness::Incomplete(from_disk()),
                attestations: Completeness::Incomplete(gap.unwrap_or_else(from_disk)),
                ..unknown(digest.clone())
            };
            self.shapes.extend(shape.map(|shape| (digest.clone(), shape)));
            if digest == self.key.digest {
                self.own = knowledge;
            } else {
                self.relatives.insert(digest, knowledge);
            }
        }
    }

    /// What was Violating when it last ran in this process, until the first look-up says otherwise.
    pub(crate) fn recall_violations(&mut self, violations: Vec<(JudgementKey, Judgement)>) {
        for (key, judgement) in violations {
            let judged = Judged {
                judgement,
                stale_since: None,
                warned: false,
                sole_trust: Vec::new(),
                by_retiring: false,
            };
            self.judgements.insert(key, judged);
        }
    }

    pub(crate) fn record(&self) -> SubjectRecord {
        SubjectRecord {
            refused: self.refused,
            checked: self.checked,
            seen: self.seen.iter().map(owned).collect(),
            shapes: self.shapes.iter().map(owned).collect(),
            proven: self.indexes.iter().cloned().collect(),
            children: self.children.clone(),
            first_resolved: self.first_resolved.iter().map(owned).collect(),
            signed_by: self.items().filter_map(signed_by).collect(),
            past: self
                .past
                .iter()
                .map(|(digest, past)| (digest.clone(), self.manifests_of(past.items())))
                .collect(),
            past_items: self
                .past
                .values()
                .flat_map(|past| past.items().iter().map(|facts| facts.item.id().clone()))
                .collect(),
            forgotten: self
                .past
                .iter()
                .map(|(digest, past)| (digest.clone(), past.forgotten().clone()))
                .collect(),
        }
    }

    fn manifests_of(&self, items: &[ItemFacts]) -> BTreeSet<Digest> {
        let manifest = |item: &ItemFacts| self.found_in.get(item.item.id()).cloned();
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
        is_gone: false,
    }
}

/// What is known now: an incomplete look-up takes nothing away from what a complete one found.
fn completeness(shortfall: Option<Shortfall>, before: &Completeness) -> Completeness {
    match (shortfall, before) {
        (None, _) | (Some(_), Completeness::Complete) => Completeness::Complete,
        (Some(shortfall), _) => Completeness::Incomplete(shortfall.gap),
    }
}

/// As [`completeness`]; but past a cap nobody knows the newest attestation any more, whatever was complete before, until
/// all of them are read again.
fn completeness_of_attestations(shortfall: Option<Shortfall>, before: &Completeness) -> Completeness {
    let is_excess = |gap: &Gap| gap.reason == api::Reason::EvidenceTooLarge;
    match (shortfall, before) {
        (Some(shortfall), _) if is_excess(&shortfall.gap) => Completeness::Incomplete(shortfall.gap),
        (Some(_), Completeness::Incomplete(excess)) if is_excess(excess) => before.clone(),
        (other, _) => completeness(other, before),
    }
}

fn signed_by(item: &ItemFacts) -> Option<(Digest, String)> {
    let mut outcomes = item.outcomes.iter();
    let signer = outcomes.find_map(|(_, outcome)| match outcome {
        Outcome::Verified(claim) => Some(claim.signer.to_string()),
        Outcome::Refused(_) | Outcome::CannotTell(_) => None,
    });
    Some((item.item.id().clone(), signer?))
}

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

fn by_id(items: Vec<ItemFacts>) -> BTreeMap<Digest, ItemFacts> {
    items
        .into_iter()
        .map(|facts| (facts.item.id().clone(), facts))
        .collect()
}

fn from_disk() -> Gap {
    /// Said of everything after a start, and kept once.
    static DETAIL: LazyLock<Arc<str>> =
        LazyLock::new(|| "the operator was restarted and has not asked the registry again yet".into());
    Gap {
        reason: api::Reason::Pending,
        detail: DETAIL.clone(),
    }
}
