//! Attestations by a key that is trusted or known that are not found any more: no longer as proof, but a newer bad one
//! keeps counting although it was deleted (B47). Nobody without such a key can push one out.
//!
//! Of each type and signer the newest are kept, and of those that are forgotten for want of room the time: what is no newer
//! than that is not known to be the newest. Whoever holds an old attestation can write it anew in as many ways as he likes, but
//! not one that is newer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image::Digest;
use jiff::Timestamp;
use policy::{Forgotten, ItemFacts, Knowledge};
use verify::{ItemKind, Outcome};

/// So many of one type and signer are kept for one digest.
const KEPT: usize = 8;
/// So many where each may be about something else, as exploitability documents are.
const KEPT_DOCUMENTS: usize = 64;

/// What is remembered of one digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    items: Vec<ItemFacts>,
    forgotten: Forgotten,
    /// The times of those that were compared.
    times: BTreeMap<Digest, Timestamp>,
}

/// An attestation by a key that is trusted or known.
pub(crate) fn counts_when_gone(facts: &ItemFacts) -> bool {
    let verified = |(_, outcome): &(_, Outcome)| matches!(outcome, Outcome::Verified(_));
    type_of(facts).is_some() && facts.outcomes.iter().any(verified)
}

fn type_of(facts: &ItemFacts) -> Option<Arc<str>> {
    match facts.item.kind() {
        ItemKind::Attestation { predicate_type } => Some(predicate_type.into()),
        _ => None,
    }
}

/// The type, and who signed it.
type Group = (Arc<str>, BTreeSet<Arc<str>>);

fn group_of(facts: &ItemFacts) -> Option<Group> {
    let signer = |(_, outcome): &(_, Outcome)| match outcome {
        Outcome::Verified(claim) => Some(claim.signer.to_string().into()),
        _ => None,
    };
    Some((
        type_of(facts)?,
        facts.outcomes.iter().filter_map(signer).collect(),
    ))
}

impl Past {
    /// As it was kept on disk; what was forgotten then stays forgotten.
    pub(crate) fn restored(items: Vec<ItemFacts>, forgotten: Forgotten) -> Past {
        let mut past = Past {
            forgotten,
            ..Past::default()
        };
        past.items.extend(items.into_iter().map(gone));
        past
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.forgotten.is_empty()
    }

    pub(crate) fn items(&self) -> &[ItemFacts] {
        &self.items
    }

    pub(crate) fn items_mut(&mut self) -> &mut [ItemFacts] {
        &mut self.items
    }

    pub(crate) fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// Takes over what was forgotten elsewhere; whether any of it is news.
    pub(crate) fn forget_until(&mut self, elsewhere: &Forgotten) -> bool {
        let mut learns = false;
        let elsewhere = elsewhere
            .iter()
            .flat_map(|(kind, signers)| signers.iter().map(move |(signer, time)| (kind, signer, time)));
        for (kind, signer, time) in elsewhere {
            let signers = self.forgotten.entry(kind.clone()).or_default();
            let until = signers.entry(signer.clone()).or_insert(Timestamp::MIN);
            learns |= *until < *time;
            *until = (*until).max(*time);
        }
        learns
    }

    /// One that is found again.
    pub(crate) fn take(&mut self, id: &Digest) -> Option<ItemFacts> {
        let at = self.items.iter().position(|facts| facts.item.id() == id)?;
        self.times.remove(id);
        Some(ItemFacts {
            is_gone: false,
            ..self.items.remove(at)
        })
    }

    /// Takes in what is not found any more; the ids of those that are forgotten.
    pub(crate) fn remember(&mut self, items: impl IntoIterator<Item = ItemFacts>) -> Vec<Digest> {
        self.items.extend(items.into_iter().map(gone));
        let mut groups: BTreeMap<Group, usize> = BTreeMap::new();
        for group in self.items.iter().filter_map(group_of) {
            *groups.entry(group).or_default() += 1;
        }
        let full = groups
            .into_iter()
            .filter(|((kind, _), count)| *count > kept(kind));
        full.flat_map(|(group, _)| self.forget_oldest(&group)).collect()
    }

    /// What nobody can date counts as the newest.
    fn forget_oldest(&mut self, group: &Group) -> Vec<Digest> {
        let (kind, signers) = group;
        let (mut dated, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.items)
            .into_iter()
            .partition(|facts| group_of(facts).as_ref() == Some(group));
        self.items = others;
        for facts in &dated {
            self.times
                .entry(facts.item.id().clone())
                .or_insert_with(|| policy::latest_date(facts).unwrap_or(Timestamp::MIN));
        }
        let time = |facts: &ItemFacts| self.times.get(facts.item.id()).copied();
        dated.sort_by_key(|facts| (std::cmp::Reverse(time(facts)), facts.item.id().clone()));
        let forgotten = dated.split_off(kept(kind).min(dated.len()));
        self.items.extend(dated);
        for facts in &forgotten {
            // One without any time has no place among the others: nothing holds for want of it.
            let time = self.times.remove(facts.item.id());
            if let Some(time) = time.filter(|time| *time > Timestamp::MIN) {
                let unknown = signers.is_empty().then(|| Arc::from(""));
                let signers = signers.iter().cloned().chain(unknown);
                let forgotten = signers.map(|signer| (signer, time)).collect();
                self.forget_until(&Forgotten::from([(kind.clone(), forgotten)]));
            }
        }
        forgotten.iter().map(|facts| facts.item.id().clone()).collect()
    }

    /// What is known, with what is not found any more as if it were.
    pub(crate) fn added_to(&self, known: &mut Knowledge) {
        known.items.extend(self.items.iter().cloned());
        known
            .items
            .sort_by(|one, other| one.item.id().cmp(other.item.id()));
        known.forgotten = self.forgotten.clone();
    }
}

fn gone(facts: ItemFacts) -> ItemFacts {
    ItemFacts {
        is_gone: true,
        ..facts
    }
}

fn kept(kind: &str) -> usize {
    if policy::holds_exploitability_statements(kind) {
        KEPT_DOCUMENTS
    } else {
        KEPT
    }
}
