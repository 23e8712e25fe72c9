//! Templates: what workloads would start next, as rows, and how these use subjects. What a tag in one of them stands for
//! is asked for in [`crate::tags`]; what is said of it all is in [`crate::start`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::core::{Engine, START_GRACE};
use crate::fact::{TemplateFacts, Workload, WorkloadKey};
use crate::index::{ImageOf, ImageUse, Role, RunningDigest, Use};
use crate::judge::Cause;
use crate::keychain::Keychain;
use crate::queue::Urgency;
use crate::report::Target;
use crate::subject::{Change, Origin};
use crate::tags::Named;

/// One template.
#[derive(Debug)]
pub(crate) struct TemplateRow {
    pub(crate) facts: Arc<Workload>,
    /// Each distinct image; without a digest where a tag is written.
    pub(crate) images: Vec<Arc<ImageUse>>,
    pub(crate) keychain: Option<Arc<Keychain>>,
    pub(crate) first_seen: Timestamp,
}

/// Every template.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    rows: HashMap<WorkloadKey, TemplateRow>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<WorkloadKey>>,
}

impl Templates {
    pub(crate) fn get(&self, workload: &WorkloadKey) -> Option<&TemplateRow> {
        self.rows.get(workload)
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &WorkloadKey> {
        self.rows.keys()
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &WorkloadKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    fn insert(&mut self, workload: WorkloadKey, row: TemplateRow) -> Option<TemplateRow> {
        let namespace = self.by_namespace.entry(workload.namespace.clone()).or_default();
        namespace.insert(workload.clone());
        self.rows.insert(workload, row)
    }

    fn remove(&mut self, workload: &WorkloadKey) -> Option<TemplateRow> {
        let row = self.rows.remove(workload)?;
        if let Some(namespace) = self.by_namespace.get_mut(&workload.namespace) {
            namespace.remove(workload);
            if namespace.is_empty() {
                self.by_namespace.remove(&workload.namespace);
            }
        }
        Some(row)
    }
}

impl TemplateRow {
    fn read(facts: &TemplateFacts, first_seen: Timestamp) -> TemplateRow {
        let written: BTreeSet<&Arc<str>> = facts.images.iter().collect();
        TemplateRow {
            facts: facts.workload.clone(),
            images: written
                .into_iter()
                .map(|written| Arc::new(ImageUse::of_template(written)))
                .collect(),
            keychain: facts.keychain.clone(),
            first_seen,
        }
    }
}

impl Engine {
    pub(crate) fn apply_template(&mut self, facts: TemplateFacts, now: Timestamp) {
        let workload = facts.workload.key.clone();
        let before = self.templates.get(&workload);
        let row = TemplateRow::read(&facts, before.map_or(now, |before| before.first_seen));
        let starts_the_same =
            before.is_some_and(|before| before.images == row.images && before.keychain == row.keychain);
        if starts_the_same {
            self.same_template_of(&workload, row.facts, now);
            return;
        }
        if before.is_none() && self.index.workload(&workload).is_none() {
            // Its first pods are on their way, perhaps: until then nothing is said.
            let later = now.checked_add(START_GRACE).unwrap_or(now);
            self.queue.push_later(Target::Workload(workload.clone()), later);
        }
        let uses = self.template_uses(&workload);
        let old = self.templates.insert(workload.clone(), row);
        self.enter_tags(&workload, now);
        if let Some(old) = old {
            self.leave_tags(&workload, &old);
        }
        self.template_changed(&workload, &uses, now);
    }

    /// A new generation alone is no news.
    fn same_template_of(&mut self, workload: &WorkloadKey, facts: Arc<Workload>, now: Timestamp) {
        let Some(row) = self.templates.rows.get_mut(workload) else {
            return;
        };
        let mut before = (*row.facts).clone();
        before.reference.observed_generation = facts.reference.observed_generation;
        let is_news = before != *facts;
        row.facts = facts;
        if is_news && self.synced {
            self.workload_changed(workload.clone(), Urgency::Changed, now);
        }
    }

    pub(crate) fn forget_template(&mut self, workload: &WorkloadKey, now: Timestamp) {
        let uses = self.template_uses(workload);
        if let Some(old) = self.templates.remove(workload) {
            self.leave_tags(workload, &old);
            self.template_changed(workload, &uses, now);
        }
    }

    /// What a template would start now may be something else than these.
    pub(crate) fn template_changed(
        &mut self,
        workload: &WorkloadKey,
        before: &BTreeSet<Use>,
        now: Timestamp,
    ) {
        let after = self.template_uses(workload);
        let mut subjects = BTreeSet::new();
        for used in after.difference(before) {
            subjects.extend(self.count(used, Change::More));
        }
        for used in before.difference(&after) {
            subjects.extend(self.count(used, Change::Fewer));
        }
        if !self.synced {
            return;
        }
        self.reconsider(subjects, now, Cause::Evidence);
        self.workload_changed(workload.clone(), Urgency::Changed, now);
        self.all_keys_changed(now);
    }

    /// The subjects that a workload's template would start, as far as they are known.
    pub(crate) fn template_uses(&self, workload: &WorkloadKey) -> BTreeSet<Use> {
        let used = |of: ImageOf| {
            Some(Use {
                role: Role::Starts,
                subject: of.image.subject()?,
                keychain: of.keychain,
                workload: workload.clone(),
                origin: of.image.origin.clone()?,
            })
        };
        self.images_to_start(workload)
            .into_iter()
            .filter_map(used)
            .collect()
    }

    /// An image of a template with the digest that would run.
    pub(crate) fn as_it_would_run(&self, row: &TemplateRow, image: &Arc<ImageUse>) -> Named<ImageOf> {
        let of = |image| ImageOf {
            image,
            keychain: row.keychain.clone(),
        };
        let (Some(repository), Some(Origin::Tag(tag)), RunningDigest::NotStarted) =
            (&image.repository, &image.origin, &image.running)
        else {
            return Named::As(of(image.clone()));
        };
        match self.tags.named(repository, tag, row.keychain.as_ref()) {
            Named::As(digest) => Named::As(of(Arc::new(ImageUse {
                running: RunningDigest::of(repository, digest),
                ..(**image).clone()
            }))),
            Named::NotYet => Named::NotYet,
            Named::Unresolved(gap) => Named::Unresolved(gap),
        }
    }

    /// A policy is another one. Images without a digest are judged when their workload is rendered.
    pub(crate) fn policy_changed_for_templates(&mut self, policy: &str, now: Timestamp) {
        let is_covered = |repository: &image::Repository| {
            let policy = self.policies.get(policy);
            policy.is_none_or(|policy| policy.covers_image(repository))
        };
        let unresolved = |row: &TemplateRow| {
            row.images.iter().any(|image| {
                let is_open = !matches!(image.running, RunningDigest::Of(_));
                is_open && image.repository.as_ref().is_none_or(is_covered)
            })
        };
        let concerned: Vec<WorkloadKey> = self
            .templates
            .rows
            .iter()
            .filter(|(_, row)| unresolved(row))
            .map(|(workload, _)| workload.clone())
            .collect();
        for workload in concerned {
            self.workload_changed(workload, Urgency::Changed, now);
        }
    }
}
