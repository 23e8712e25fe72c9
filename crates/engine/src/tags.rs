//! What the tags in templates name now: asked once for each (repository, tag, credentials) whatever number of templates
//! writes it, on the schedule of the policies that cover it, and not at all where none does.
//!
//! As with images, a registry is asked with the operator's credentials first. Where it refuses those, it is asked for
//! each keychain of those who write the tag, and what one keychain brought is told to templates with that keychain alone.

mod awaited;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::Reason;
use image::{Digest, Repository};
use jiff::Timestamp;
use policy::{CompiledPolicy, Gap};

use crate::core::Engine;
use crate::fact::WorkloadKey;
use crate::index::Use;
use crate::judge::matching;
use crate::keychain::Keychain;
use crate::lookup::{Resolved, TagAnswer, TagAsk};
use crate::passes::TENANT_PAUSE;
use crate::policies::PolicyObject;
use crate::schedule::{Plan, after, spread};
use crate::store::SubjectRecord;
use crate::subject::{Origin, SubjectKey};
use crate::templates::TemplateRow;
use crate::turns::{Asked, Haste, Turns};

/// A look-up of an image that runs is about to find out what its tag names: so long it is waited for.
const LOOKED_UP_SOON: Duration = Duration::from_secs(1);

/// Names what is asked for: a tag of a repository, with somebody's credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TagKey {
    pub(crate) repository: Repository,
    pub(crate) tag: Arc<str>,
    /// Whose credentials are used besides the operator's; None for the operator's alone.
    pub(crate) keychain: Option<Arc<Keychain>>,
}

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named<T> {
    /// Nobody asked yet.
    NotYet,
    /// This.
    As(T),
    /// It could not be found out.
    Unresolved(Gap),
}

/// One tag.
#[derive(Debug, Default)]
struct TagRow {
    /// The workloads of which the template writes it.
    users: HashSet<WorkloadKey>,
    /// What it named when that was last found out.
    named: Option<Digest>,
    /// When that was.
    heard: Option<Timestamp>,
    /// Why the last attempt told nothing.
    gap: Option<Gap>,
    /// The registry does not serve it to the operator: the credentials of those who write it are tried.
    refused: bool,
    /// Those for whom it is asked for apart from the operator, while it is refused.
    tenants: HashSet<Arc<Keychain>>,
    /// The rings of which the keys wait for it: trusted by policies that cover it, while nobody knows what it names.
    awaited_by: BTreeSet<Arc<str>>,
    plan: Plan,
}

impl Asked for TagKey {
    fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl TagRow {
    /// How urgently it is asked for.
    fn haste(&self) -> Haste {
        match (&self.gap, &self.heard) {
            (Some(_), _) => Haste::Open,
            (None, None) => Haste::New,
            (None, Some(_)) => Haste::Regular,
        }
    }

    fn state(&self) -> Named<Digest> {
        match (&self.named, &self.gap) {
            (Some(digest), _) => Named::As(digest.clone()),
            (None, Some(gap)) => Named::Unresolved(gap.clone()),
            (None, None) => Named::NotYet,
        }
    }
}

/// Every tag that a template writes.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// Boxed, for a table is up to twice as large as what it holds.
    rows: HashMap<TagKey, Box<TagRow>>,
    /// How many tags a ring waits for.
    awaited: HashMap<Arc<str>, usize>,
    turns: Turns<TagKey>,
}

impl Tags {
    /// What a tag stands for, to somebody with this keychain.
    pub(crate) fn named(
        &self,
        repository: &Repository,
        tag: &Arc<str>,
        keychain: Option<&Arc<Keychain>>,
    ) -> Named<Digest> {
        let mut key = TagKey {
            repository: repository.clone(),
            tag: tag.clone(),
            keychain: None,
        };
        let Some(row) = self.rows.get(&key) else {
            return Named::NotYet;
        };
        match keychain.filter(|_| row.refused) {
            None => row.state(),
            Some(keychain) => {
                key.keychain = Some(keychain.clone());
                self.rows.get(&key).map_or(Named::NotYet, |row| row.state())
            }
        }
    }

    /// The next time at which a tag is to be asked for.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.turns.next()
    }

    fn set_due(&mut self, key: &TagKey, due: Option<Timestamp>) {
        if let Some(row) = self.rows.get_mut(key) {
            self.turns.set(key, row.plan.due, due);
            row.plan.due = due;
        }
    }

    fn remove(&mut self, key: &TagKey) {
        self.set_due(key, None);
        self.set_awaited(key, BTreeSet::new());
        self.rows.remove(key);
        if let Some(keychain) = &key.keychain {
            let operators = TagKey {
                keychain: None,
                ..key.clone()
            };
            if let Some(row) = self.rows.get_mut(&operators) {
                row.tenants.remove(keychain);
            }
        }
    }

    fn leave(&mut self, key: &TagKey, workload: &WorkloadKey) {
        if let Some(row) = self.rows.get_mut(key) {
            row.users.remove(workload);
            if row.users.is_empty() {
                self.remove(key);
            }
        }
    }
}

impl TagKey {
    /// As it is stored: `repository:tag`, and for whom. No subject is stored under such a name.
    fn text(&self) -> String {
        match &self.keychain {
            None => format!("{}:{}", self.repository, self.tag),
            Some(keychain) => format!("{}:{} {keychain}", self.repository, self.tag),
        }
    }

    fn with(&self, keychain: Arc<Keychain>) -> TagKey {
        TagKey {
            keychain: Some(keychain),
            ..self.clone()
        }
    }

    /// The tags that a template writes, as the operator asks for them.
    fn all_of(row: &TemplateRow) -> impl Iterator<Item = TagKey> {
        row.images
            .iter()
            .filter_map(|image| match (&image.repository, &image.origin) {
                (Some(repository), Some(Origin::Tag(tag))) => Some(TagKey {
                    repository: repository.clone(),
                    tag: tag.clone(),
                    keychain: None,
                }),
                _ => None,
            })
    }
}

impl TagKey {
    /// The same, and as they are asked for with the template's keychain.
    fn any_of(row: &TemplateRow) -> BTreeSet<TagKey> {
        let operators: BTreeSet<TagKey> = TagKey::all_of(row).collect();
        let keychain = row.keychain.as_ref();
        let tenants = operators
            .iter()
            .filter_map(|key| Some(key.with(keychain?.clone())));
        let tenants: Vec<TagKey> = tenants.collect();
        operators.into_iter().chain(tenants).collect()
    }
}

impl Engine {
    /// The template of a workload is here: its tags are asked for.
    pub(crate) fn enter_tags(&mut self, workload: &WorkloadKey, now: Timestamp) {
        let Some(row) = self.templates.get(workload) else {
            return;
        };
        let (keys, keychain) = (TagKey::all_of(row).collect::<BTreeSet<_>>(), row.keychain.clone());
        for key in keys {
            let operators = self.row_of(&key, now);
            operators.users.insert(workload.clone());
            let tenant = keychain.clone().filter(|_| operators.refused);
            self.plan_tag(&key, now);
            if let Some(keychain) = tenant {
                self.enter_as_tenant(&key, workload, keychain, now);
            }
        }
    }

    fn enter_as_tenant(
        &mut self,
        key: &TagKey,
        workload: &WorkloadKey,
        keychain: Arc<Keychain>,
        now: Timestamp,
    ) {
        if let Some(operators) = self.tags.rows.get_mut(key) {
            operators.tenants.insert(keychain.clone());
        }
        let key = key.with(keychain);
        self.row_of(&key, now).users.insert(workload.clone());
        self.plan_tag(&key, now);
    }

    /// The row of a tag; a new one knows what an earlier process found out.
    fn row_of(&mut self, key: &TagKey, now: Timestamp) -> &mut TagRow {
        let store = &self.store;
        self.tags.rows.entry(key.clone()).or_insert_with(|| {
            let record = store.subject(&key.text()).unwrap_or_default();
            let named = record.first_resolved.get(&key.tag).cloned();
            Box::new(TagRow {
                heard: record
                    .checked
                    .filter(|_| named.is_some())
                    .map(|heard| heard.min(now)),
                named,
                refused: record.refused && key.keychain.is_none(),
                ..TagRow::default()
            })
        })
    }

    /// Keeps what a tag names for a later process, as it keeps what is known of images.
    fn keep_tag(&self, key: &TagKey) {
        let Some(row) = self.tags.rows.get(key) else {
            return;
        };
        let named = row.named.clone().map(|named| (key.tag.clone(), named));
        let record = SubjectRecord {
            refused: row.refused,
            checked: row.heard,
            first_resolved: named.into_iter().collect(),
            ..SubjectRecord::default()
        };
        self.store.keep_subject(key.text(), &record);
    }

    /// The tags in use, as they are kept.
    pub(crate) fn kept_tags(&self) -> impl Iterator<Item = String> {
        self.tags.rows.keys().map(TagKey::text)
    }

    /// The template of a workload went, or is another one now: tags that it does not write any more are left.
    pub(crate) fn leave_tags(&mut self, workload: &WorkloadKey, old: &TemplateRow) {
        let kept = self
            .templates
            .get(workload)
            .map(TagKey::any_of)
            .unwrap_or_default();
        for key in TagKey::any_of(old).difference(&kept) {
            self.tags.leave(key, workload);
        }
        for key in TagKey::all_of(old) {
            self.await_tag(&key);
        }
    }

    /// The tags whose turn it is, at most so many.
    #[cfg(test)]
    pub(crate) fn due_tags(&mut self, now: Timestamp, room: usize) -> Vec<TagAsk> {
        std::iter::from_fn(|| self.next_tag(now, &|_| true))
            .take(room)
            .collect()
    }

    /// The next tag whose turn it is. `has_room` tells where there is room for what can wait.
    pub(crate) fn next_tag(
        &mut self,
        now: Timestamp,
        has_room: &dyn Fn(&Repository) -> bool,
    ) -> Option<TagAsk> {
        let rows = &self.tags.rows;
        let haste = |key: &TagKey| rows.get(key).map_or(Haste::Regular, |row| row.haste());
        self.tags.turns.line_up(now, haste);
        loop {
            let key = self.tags.turns.next_turn(&mut self.places, has_room)?;
            let soon = self.is_looked_up_soon(&key);
            let Some(row) = self.tags.rows.get_mut(&key) else {
                self.places.give_back(key.repository.registry());
                continue;
            };
            row.plan.due = None;
            if soon {
                self.places.give_back(key.repository.registry());
                self.tags.set_due(&key, Some(after(now, LOOKED_UP_SOON)));
                continue;
            }
            row.plan.in_flight = true;
            let named = row.named.clone();
            return Some(TagAsk { named, tag: key });
        }
    }

    /// A tag that was never asked for is what the first look-up of an image that runs asks for as well.
    fn is_looked_up_soon(&self, key: &TagKey) -> bool {
        let Some(row) = self
            .tags
            .rows
            .get(key)
            .filter(|row| row.heard.is_none() && row.gap.is_none())
        else {
            return false;
        };
        let is_named = |image: &crate::index::ImageUse| {
            image.repository.as_ref() == Some(&key.repository)
                && image.origin == Some(Origin::Tag(key.tag.clone()))
        };
        let waits = |subject: &SubjectKey| {
            let subject = self.subjects.get(subject);
            subject.is_some_and(|subject| {
                let has_all = subject.from_disk && subject.all_hold();
                !subject.attempted && !has_all && self.wants(&subject.key).indexes
            })
        };
        row.users.iter().any(|workload| {
            let images = self.index.images(workload, Timestamp::MAX);
            images
                .keys()
                .any(|of| is_named(&of.image) && of.image.subject().is_some_and(|subject| waits(&subject)))
        })
    }

    /// Takes an answer in.
    pub(crate) fn absorb_tag(&mut self, resolved: Resolved, now: Timestamp) {
        let Resolved {
            tag: key,
            answer,
            took,
        } = resolved;
        self.places.give_back(key.repository.registry());
        let answered = !matches!(answer, TagAnswer::Failed(_));
        self.places.took(key.repository.registry(), took, answered);
        if let Some(row) = self.tags.rows.get_mut(&key) {
            row.plan.in_flight = false;
        }
        match &answer {
            TagAnswer::Names(_) => self.counters.tags_named += 1,
            TagAnswer::Absent(_) => self.counters.tags_absent += 1,
            TagAnswer::Failed(_) => self.counters.tags_unanswered += 1,
        }
        self.take_answer(&key, answer, now);
    }

    /// The look-up of an image found out what a tag names.
    pub(crate) fn note_named(&mut self, subject: &SubjectKey, tag: Arc<str>, digest: Digest, now: Timestamp) {
        let key = TagKey {
            repository: subject.repository.clone(),
            keychain: subject.keychain.clone(),
            tag,
        };
        let is_asked = self.tags.rows.get(&key).is_some_and(|row| row.plan.in_flight);
        if !is_asked {
            self.take_answer(&key, TagAnswer::Names(digest), now);
        }
    }

    fn take_answer(&mut self, key: &TagKey, answer: TagAnswer, now: Timestamp) {
        let limit = self.tag_limit(key);
        let staleness = self.tag_staleness(key);
        let Some(row) = self.tags.rows.get_mut(key) else {
            return;
        };
        let users: Vec<WorkloadKey> = row.users.iter().cloned().collect();
        let before = (row.state(), row.refused);
        let retry_after = match &answer {
            TagAnswer::Failed(shortfall) => shortfall.retry_after,
            TagAnswer::Names(_) | TagAnswer::Absent(_) => None,
        };
        let uses: Vec<BTreeSet<Use>> = users.iter().map(|user| self.template_uses(user)).collect();
        let Some(row) = self.tags.rows.get_mut(key) else {
            return;
        };
        row.take(answer, staleness, now);
        if key.keychain.is_some() {
            row.refused = false;
        }
        let (changed, refused) = ((row.state(), row.refused) != before, row.refused);
        if row.heard == Some(now) {
            self.keep_tag(key);
        }
        if refused != before.1 {
            self.note_tag_refusal(key, refused, &users, now);
        }
        if changed {
            for (user, before) in users.iter().zip(&uses) {
                self.template_changed(user, before, now);
            }
        }
        self.await_tag(key);
        self.plan_next_tag(key, limit, retry_after, now);
    }

    /// Where the registry refuses the operator, those who write the tag are asked for apart; where it does not any
    /// more, nothing is held for them.
    fn note_tag_refusal(&mut self, key: &TagKey, refused: bool, users: &[WorkloadKey], now: Timestamp) {
        if !refused {
            let tenants = self.tags.rows.get(key).map(|row| row.tenants.clone());
            for keychain in tenants.unwrap_or_default() {
                self.tags.remove(&key.with(keychain));
            }
            return;
        }
        for user in users {
            let keychain = self.templates.get(user).and_then(|row| row.keychain.clone());
            if let Some(keychain) = keychain {
                self.enter_as_tenant(key, user, keychain, now);
            }
        }
    }

    fn plan_next_tag(
        &mut self,
        key: &TagKey,
        limit: Duration,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) {
        let regular = self.tag_due_after(key, now);
        let Some(row) = self.tags.rows.get_mut(key) else {
            return;
        };
        let due = match (regular, &row.gap) {
            (None, _) => None,
            (Some(regular), None) => {
                row.plan.pause = None;
                Some(spread(key, now, regular))
            }
            (Some(_), Some(_)) => {
                let limit = if key.keychain.is_some() {
                    limit.min(TENANT_PAUSE)
                } else {
                    limit
                };
                let pause = row.plan.next_pause(limit, retry_after);
                row.plan.pause = Some(pause);
                Some(after(now, pause))
            }
        };
        self.tags.set_due(key, due);
    }

    /// Puts a tag on the schedule that is covered and not on it, and takes one off that is not covered any more.
    fn plan_tag(&mut self, key: &TagKey, now: Timestamp) {
        if !self.synced {
            return;
        }
        self.matching
            .entry(key.repository.clone())
            .or_insert_with(|| matching(&self.policies, &key.repository));
        self.await_tag(key);
        let Some(row) = self.tags.rows.get(key).filter(|row| !row.plan.in_flight) else {
            return;
        };
        let (due, heard) = (row.plan.due, row.heard);
        let due = match self.tag_due_after(key, heard.unwrap_or(now)) {
            None => None,
            Some(_) if heard.is_none() => Some(due.unwrap_or(now)),
            Some(regular) => Some(due.map_or(regular, |due| due.min(regular)).max(now)),
        };
        self.tags.set_due(key, due);
    }

    /// Coverage, or how often is looked, may be another one for every tag.
    pub(crate) fn plan_all_tags(&mut self, now: Timestamp) {
        let keys: Vec<TagKey> = self.tags.rows.keys().cloned().collect();
        for key in keys {
            self.plan_tag(&key, now);
        }
    }

    /// The same for the tags of these repositories.
    pub(crate) fn plan_tags_of_repositories(&mut self, repositories: &HashSet<Repository>, now: Timestamp) {
        let rows = self.tags.rows.keys();
        let keys: Vec<TagKey> = rows
            .filter(|key| repositories.contains(&key.repository))
            .cloned()
            .collect();
        for key in keys {
            self.plan_tag(&key, now);
        }
    }

    /// The same for the tags that templates in a namespace write.
    pub(crate) fn plan_tags_in_namespace(&mut self, namespace: &str, now: Timestamp) {
        let workloads = self.templates.in_namespace(namespace);
        let rows = workloads.filter_map(|workload| self.templates.get(workload));
        let keys: BTreeSet<TagKey> = rows.flat_map(TagKey::any_of).collect();
        for key in keys {
            self.plan_tag(&key, now);
        }
    }

    /// The repositories that templates name with a tag.
    pub(crate) fn repositories_of_tags(&self) -> impl Iterator<Item = &Repository> {
        self.tags.rows.keys().map(|key| &key.repository)
    }

    /// Registries are asked in another way: what told nothing is asked again at once.
    pub(crate) fn ask_unanswered_tags_again(&mut self, now: Timestamp) {
        let unanswered = |row: &TagRow| row.gap.is_some() && row.plan.due.is_some();
        let keys: Vec<TagKey> = self
            .tags
            .rows
            .iter()
            .filter(|(_, row)| unanswered(row))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            if let Some(row) = self.tags.rows.get_mut(&key) {
                row.plan.pause = None;
            }
            self.tags.set_due(&key, Some(now));
        }
    }

    /// When a tag is asked for regularly after this time; None where no policy covers it.
    fn tag_due_after(&self, key: &TagKey, last: Timestamp) -> Option<Timestamp> {
        self.covering_tag(key)
            .map(|policy| match policy.in_force.as_ref() {
                Some(version) => version.compiled.recheck().next_after(last),
                None => after(last, policy::DEFAULT_INTERVAL),
            })
            .min()
    }

    fn tag_limit(&self, key: &TagKey) -> Duration {
        self.compiled_for_tag(key)
            .map(|compiled| compiled.recheck().interval_hint())
            .min()
            .unwrap_or(policy::DEFAULT_INTERVAL)
    }

    fn tag_staleness(&self, key: &TagKey) -> Duration {
        self.compiled_for_tag(key)
            .map(CompiledPolicy::max_staleness)
            .min()
            .unwrap_or(policy::DEFAULT_MAX_STALENESS)
    }

    fn compiled_for_tag<'a>(&'a self, key: &'a TagKey) -> impl Iterator<Item = &'a CompiledPolicy> {
        self.covering_tag(key)
            .filter_map(|policy| Some(&*policy.in_force.as_ref()?.compiled))
    }

    /// The policies that cover the tag for any of the workloads that write it.
    fn covering_tag<'a>(&'a self, key: &'a TagKey) -> impl Iterator<Item = &'a PolicyObject> {
        let users = self.tags.rows.get(key).into_iter().flat_map(|row| &row.users);
        let namespaces: BTreeSet<&Arc<str>> = users.map(|user| &user.namespace).collect();
        let matching = self.matching.get(&key.repository).into_iter().flatten();
        matching.filter_map(move |policy| {
            let policy = self.policies.get(policy)?;
            let covers = |name: &&Arc<str>| policy.covers_namespace(name, self.index.labels(name));
            namespaces.iter().any(covers).then_some(policy)
        })
    }
}

impl TagRow {
    /// Takes an answer in. What could not be found out again stays known for a while.
    fn take(&mut self, answer: TagAnswer, staleness: Duration, now: Timestamp) {
        match answer {
            TagAnswer::Names(digest) => {
                (self.named, self.heard, self.gap) = (Some(digest), Some(now), None);
                self.refused = false;
            }
            TagAnswer::Absent(gap) => {
                (self.named, self.heard, self.gap) = (None, Some(now), Some(gap));
                self.refused = true;
            }
            TagAnswer::Failed(shortfall) => {
                let denied = shortfall.gap.reason == Reason::RegistryDenied;
                self.refused |= denied;
                self.gap = Some(shortfall.gap);
                let is_stale = self.heard.is_none_or(|heard| after(heard, staleness) <= now);
                if is_stale {
                    self.named = None;
                }
            }
        }
    }
}
