//! Which rings wait for a tag that nobody could find out: as long as one does, nobody can tell what rests on its keys.
//! Counted as tags, coverage and policies change, and not at each report of a key.

use std::collections::BTreeSet;
#[cfg(test)]
use std::collections::HashMap;
use std::sync::Arc;

use api::Reason;

use super::{TagKey, TagRow, Tags};
use crate::core::Engine;
use crate::policies::PolicyObject;

impl Tags {
    /// These rings wait for the tag, and no others.
    pub(super) fn set_awaited(&mut self, key: &TagKey, by: BTreeSet<Arc<str>>) {
        let Some(row) = self.rows.get_mut(key).filter(|row| row.awaited_by != by) else {
            return;
        };
        let before = std::mem::replace(&mut row.awaited_by, by.clone());
        for ring in by.difference(&before) {
            *self.awaited.entry(ring.clone()).or_default() += 1;
        }
        for ring in before.difference(&by) {
            if let Some(count) = self.awaited.get_mut(ring) {
                *count = count.saturating_sub(1);
            }
        }
        self.awaited.retain(|_, count| *count > 0);
    }
}

impl Engine {
    /// Counts the tag for the rings that wait for it, and for no others.
    pub(super) fn await_tag(&mut self, key: &TagKey) {
        let Some(row) = self.tags.rows.get(key) else {
            return;
        };
        let by = match row.is_open() && row.tenants.is_empty() {
            true => self
                .covering_tag(key)
                .flat_map(PolicyObject::rings)
                .cloned()
                .collect(),
            false => BTreeSet::new(),
        };
        self.tags.set_awaited(key, by);
    }

    /// How many tags nobody could find out that policies cover which trust this ring.
    pub(crate) fn unanswered_tags(&self, ring: &str) -> usize {
        self.tags.awaited.get(ring).copied().unwrap_or(0)
    }

    /// The same for every ring, counted from scratch.
    #[cfg(test)]
    pub(crate) fn assert_tags_are_counted(&self) {
        let mut counted: HashMap<Arc<str>, usize> = HashMap::new();
        let open = self
            .tags
            .rows
            .iter()
            .filter(|(_, row)| row.is_open() && row.tenants.is_empty());
        for (key, row) in open {
            let namespaces = row.users.iter().map(|user| &user.namespace);
            let namespaces: Vec<_> = namespaces.collect();
            let covers = |policy: &&PolicyObject| {
                let mut namespaces = namespaces.iter();
                policy.covers_image(&key.repository)
                    && namespaces.any(|name| policy.covers_namespace(name, self.index.labels(name)))
            };
            let covering = self.policies.values().filter(covers);
            let rings: BTreeSet<&Arc<str>> = covering.flat_map(PolicyObject::rings).collect();
            for ring in rings {
                *counted.entry(ring.clone()).or_default() += 1;
            }
        }
        assert_eq!(self.tags.awaited, counted);
    }
}

impl TagRow {
    /// Nobody knows what it names, nor that it names nothing.
    pub(super) fn is_open(&self) -> bool {
        match (&self.named, &self.gap) {
            (Some(_), _) => false,
            (None, None) => true,
            (None, Some(gap)) => gap.reason != Reason::DigestUnresolved,
        }
    }
}
