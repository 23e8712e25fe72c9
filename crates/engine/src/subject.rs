//! One (repository, digest) that runs: what is known of it, who uses it, and what each policy says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use image::{Digest, Repository};
use jiff::{SignedDuration, Timestamp};
use policy::{Completeness, DigestFacts, Gap, ItemFacts, Judgement, Knowledge, Nature};
use verify::Fingerprint;

use crate::ended::Departed;
use crate::fact::WorkloadKey;
use crate::index::Use;
use crate::keychain::Keychain;
use crate::lookup::Seen;
use crate::past::Past;
use crate::schedule::{Plan, after};
use crate::small::{SmallMap, SmallSet};

/// An image whose first look-up takes longer is shown as Pending.
pub(crate) const FIRST_LOOK_UP: SignedDuration = SignedDuration::from_secs(60);

/// A check that is due and did not end within this time is missing.
const CHECK_TAKES: Duration = Duration::from_secs(15);

/// Names what is looked up: a digest under the repository of the pod's spec, with somebody's credentials. What was
/// found, missed or refused with one credential is never shown to those who have another one.
///
/// A clone shares the names: tables hold many of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubjectKey(Arc<SubjectNames>);

/// What names a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubjectNames {
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    /// Whose credentials are used besides the operator's; None for the operator's alone.
    pub(crate) keychain: Option<Arc<Keychain>>,
}

impl Deref for SubjectKey {
    type Target = SubjectNames;

    fn deref(&self) -> &SubjectNames {
        &self.0
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl SubjectKey {
    /// What is looked up with the operator's credentials.
    pub(crate) fn of_the_operator(repository: Repository, digest: Digest) -> SubjectKey {
        SubjectKey(Arc::new(SubjectNames {
            repository,
            digest,
            keychain: None,
        }))
    }

    /// The same with the operator's credentials.
    pub(crate) fn as_the_operator(&self) -> SubjectKey {
        match self.keychain {
            None => self.clone(),
            Some(_) => SubjectKey::of_the_operator(self.repository.clone(), self.digest.clone()),
        }
    }

    /// The same with somebody's credentials.
    pub(crate) fn with(&self, keychain: Arc<Keychain>) -> SubjectKey {
        SubjectKey(Arc::new(SubjectNames {
            keychain: Some(keychain),
            ..SubjectNames::clone(self)
        }))
    }

    /// Another digest of the repository, with the same credentials.
    pub(crate) fn at(&self, digest: Digest) -> SubjectKey {
        SubjectKey(Arc::new(SubjectNames {
            digest,
            ..SubjectNames::clone(self)
        }))
    }

    /// As it is stored and logged: `repository@digest`, and for whom.
    pub(crate) fn text(&self) -> String {
        match &self.keychain {
            None => format!("{}@{}", self.repository, self.digest),
            Some(keychain) => format!("{}@{} {keychain}", self.repository, self.digest),
        }
    }
}

/// How a use changes a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    More,
    Fewer,
}

/// How a user of the subject names the image; what may lead to an index that lists the digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// By tag.
    Tag(Arc<str>),
    /// By this digest.
    Pinned(Arc<Digest>),
}

impl Origin {
    /// The image is named by digest.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self, Origin::Pinned(_))
    }
}

/// A judgement is the same for all users that name the image alike in this respect and that the same exceptions mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JudgementKey {
    pub(crate) policy: Arc<str>,
    pub(crate) pinned: bool,
    /// The exceptions that are about it, by name, in order.
    pub(crate) exceptions: Vec<Arc<str>>,
}

/// Everything held about one subject.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) key: SubjectKey,
    /// The registry does not serve it to the operator: the credentials of those who run it are tried.
    pub(crate) refused: bool,
    /// Those for whom it is looked up apart from the operator, while it is refused.
    pub(crate) tenants: BTreeSet<Arc<Keychain>>,
    /// The workloads that run it, with how many pods use it under which origin.
    pub(crate) users: HashMap<WorkloadKey, SmallMap<Origin, u32>>,
    /// The workloads of which the template would start it, each with how the template names it.
    pub(crate) starters: HashSet<(WorkloadKey, Origin)>,
    /// Of workloads whose last pod with it ended before its first look-up did.
    pub(crate) departed: Vec<Departed>,
    /// What is known of the digest itself.
    pub(crate) own: Knowledge,
    /// What is known of indexes that list it, and of platform manifests it lists.
    pub(crate) relatives: BTreeMap<Digest, Knowledge>,
    /// Indexes that are proven to list it. Membership once proven is permanent.
    pub(crate) indexes: SmallSet<Digest>,
    /// Platform manifests that it lists and that a policy needs.
    pub(crate) children: Vec<Digest>,
    /// A candidate for an index could not be read.
    pub(crate) index_gap: Option<Gap>,
    /// What tags resolved to when they were first seen here.
    pub(crate) first_resolved: SmallMap<Arc<str>, Digest>,
    /// What each way of discovery said where everything behind it was read, by digest.
    pub(crate) seen: SmallMap<Digest, Seen>,
    /// Digests for which a repository's referrers API listed something when it was last heard.
    pub(crate) listed: SmallSet<(Digest, Repository)>,
    /// Whose each item was when an earlier process looked at it: who is asked first.
    pub(crate) likely_signers: SmallMap<Digest, String>,
    /// The manifest that each item was found in.
    pub(crate) found_in: SmallMap<Digest, Digest>,
    /// Attestations that verified and are not found any more, by digest: they can only worsen a verdict.
    pub(crate) past: BTreeMap<Digest, Past>,
    /// What each digest names, as read.
    pub(crate) shapes: SmallMap<Digest, crate::lookup::Shape>,
    /// Why the last attempt was not complete.
    pub(crate) last_gap: Option<Gap>,
    /// When a pass last saw every item that is held; it may not have been complete.
    pub(crate) evidence_seen: Option<Timestamp>,
    /// Names that may lead to an index and were followed.
    pub(crate) asked_origins: SmallSet<Origin>,
    /// Such a name was not followed yet.
    pub(crate) unasked: Option<Gap>,
    /// Which relatives were asked about.
    pub(crate) asked: crate::passes::Wants,
    /// When the last complete pass ended.
    pub(crate) checked: Option<Timestamp>,
    /// When the next regular check is due, after the last time that the evidence was seen.
    pub(crate) check_due: Option<Timestamp>,
    /// Since when a due check is missing; None where none is, or not for long enough to tell.
    pub(crate) overdue_since: Option<Timestamp>,
    /// A look-up ended in this process, whatever came of it.
    pub(crate) attempted: bool,
    /// The knowledge is from disk: its absences are not authoritative.
    pub(crate) from_disk: bool,
    /// Since when a policy covers it.
    pub(crate) covered_since: Option<Timestamp>,
    /// Policies that cover it for at least one user.
    pub(crate) covering: SmallSet<Arc<str>>,
    /// The current answers.
    pub(crate) judgements: SmallMap<JudgementKey, Judged>,
    /// When it is looked up again.
    pub(crate) plan: Plan,
    /// When it is judged again although nothing changed.
    pub(crate) wake: Option<Timestamp>,
}

/// Every subject, each in a place of its own: a table has room for more than it holds.
#[derive(Debug, Default)]
pub(crate) struct Subjects(HashMap<SubjectKey, Box<Subject>>);

impl Subjects {
    pub(crate) fn get(&self, key: &SubjectKey) -> Option<&Subject> {
        self.0.get(key).map(|subject| &**subject)
    }

    pub(crate) fn get_mut(&mut self, key: &SubjectKey) -> Option<&mut Subject> {
        self.0.get_mut(key).map(|subject| &mut **subject)
    }

    /// A new one where there is none.
    pub(crate) fn get_or_insert(&mut self, key: &SubjectKey) -> &mut Subject {
        self.0
            .entry(key.clone())
            .or_insert_with(|| Box::new(Subject::new(key.clone())))
    }

    pub(crate) fn remove(&mut self, key: &SubjectKey) -> Option<Box<Subject>> {
        self.0.remove(key)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &SubjectKey> {
        self.0.keys()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Subject> {
        self.0.values().map(|subject| &**subject)
    }
}

/// One answer with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) judgement: Judgement,
    pub(crate) stale_since: Option<Timestamp>,
    /// It gets worse by itself so soon that this is told.
    pub(crate) warned: bool,
    /// Keys without any one of which the answer would be worse.
    pub(crate) sole_trust: Vec<Fingerprint>,
    /// It holds by keys that are Retiring alone; told only where a template would start the image.
    pub(crate) by_retiring: bool,
}

/// What is known, with what is not found any more as if it were.
pub(crate) struct Remembering {
    own: Knowledge,
    relatives: BTreeMap<Digest, Knowledge>,
}

impl Subject {
    /// A template begins to start it under a name, or ends; whether that is another use than before.
    pub(crate) fn count_start(&mut self, used: &Use, change: Change) -> bool {
        let starter = (used.workload.clone(), used.origin.clone());
        match change {
            Change::More => {
                // The name leads to the subject itself: for whoever runs it under that name it was followed.
                self.asked_origins.insert(used.origin.clone());
                self.starters.insert(starter)
            }
            Change::Fewer => self.starters.remove(&starter),
        }
    }

    /// A pod begins to run it under a name, or ends; whether its workload begins or ends to use it.
    pub(crate) fn count_run(&mut self, used: &Use, change: Change) -> bool {
        let origins = self.users.entry(used.workload.clone()).or_default();
        let count = origins.get_or_insert_with(used.origin.clone(), || 0);
        let before = *count;
        *count = match change {
            Change::More => count.saturating_add(1),
            Change::Fewer => count.saturating_sub(1),
        };
        let after = *count;
        if after == 0 {
            origins.remove(&used.origin);
        }
        if origins.is_empty() {
            self.users.remove(&used.workload);
        }
        (before == 0) != (after == 0)
    }

    pub(crate) fn new(key: SubjectKey) -> Self {
        Subject {
            own: unknown(key.digest.clone()),
            key,
            refused: false,
            tenants: BTreeSet::new(),
            users: HashMap::new(),
            starters: HashSet::new(),
            departed: Vec::new(),
            relatives: BTreeMap::new(),
            indexes: SmallSet::new(),
            children: Vec::new(),
            index_gap: None,
            first_resolved: SmallMap::new(),
            seen: SmallMap::new(),
            listed: SmallSet::new(),
            likely_signers: SmallMap::new(),
            found_in: SmallMap::new(),
            past: BTreeMap::new(),
            shapes: SmallMap::new(),
            last_gap: None,
            evidence_seen: None,
            asked_origins: SmallSet::new(),
            unasked: None,
            asked: crate::passes::Wants::default(),
            checked: None,
            check_due: None,
            overdue_since: None,
            attempted: false,
            from_disk: false,
            covered_since: None,
            covering: SmallSet::new(),
            judgements: SmallMap::new(),
            plan: Plan::default(),
            wake: None,
        }
    }

    /// No pod runs it, no template would start it, and nobody waits for its first look-up.
    pub(crate) fn is_unused(&self) -> bool {
        self.users.is_empty() && self.starters.is_empty() && self.departed.is_empty()
    }

    /// The workloads that run it, would start it, or ran it and wait for its first look-up; one may come several times.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &WorkloadKey> {
        let starters = self.starters.iter().map(|(workload, _)| workload);
        let departed = self.departed.iter().map(|departed| &departed.workload);
        self.users.keys().chain(starters).chain(departed)
    }

    /// The same with how each names it.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (&WorkloadKey, &Origin)> {
        let users = self
            .users
            .iter()
            .flat_map(|(user, origins)| origins.keys().map(move |origin| (user, origin)));
        let starters = self.starters.iter().map(|(workload, origin)| (workload, origin));
        let departed = self.departed.iter();
        let departed = departed.map(|departed| (&departed.workload, &departed.origin));
        users.chain(starters).chain(departed)
    }

    /// How those name it that run or ran it: what they name may be an index that lists it. What a template names is it.
    pub(crate) fn names_of_what_ran(&self) -> impl Iterator<Item = &Origin> {
        let departed = self.departed.iter().map(|departed| &departed.origin);
        self.users.values().flat_map(SmallMap::keys).chain(departed)
    }

    /// What evaluation is given.
    pub(crate) fn facts(&self) -> DigestFacts<'_> {
        self.facts_of(&self.own, &self.relatives)
    }

    /// What evaluation is given where the past is remembered.
    pub(crate) fn facts_with<'a>(&'a self, remembering: &'a Remembering) -> DigestFacts<'a> {
        self.facts_of(&remembering.own, &remembering.relatives)
    }

    fn facts_of<'a>(
        &'a self,
        own: &'a Knowledge,
        relatives: &'a BTreeMap<Digest, Knowledge>,
    ) -> DigestFacts<'a> {
        let known = |digest: &Digest| relatives.get(digest);
        DigestFacts {
            own,
            indexes: self.indexes.iter().filter_map(known).collect(),
            index_gap: self.index_gap.as_ref().or(self.unasked.as_ref()),
            children: self.children.iter().filter_map(known).collect(),
        }
    }

    /// Every item held, those that are not found any more among them.
    pub(crate) fn items(&self) -> impl Iterator<Item = &ItemFacts> {
        let known = std::iter::once(&self.own).chain(self.relatives.values());
        let found = known.flat_map(|known| known.items.iter());
        found.chain(self.past.values().flat_map(Past::items))
    }

    /// The same, each with the digest that it is about.
    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = (Digest, &mut ItemFacts)> {
        let known = std::iter::once(&mut self.own).chain(self.relatives.values_mut());
        let found = known.flat_map(|known| known.items.iter_mut().map(|item| (known.digest.clone(), item)));
        let past = self.past.iter_mut();
        found.chain(
            past.flat_map(|(digest, past)| past.items_mut().iter_mut().map(|item| (digest.clone(), item))),
        )
    }

    /// The same as [`Subject::facts`] reads, with what is not found any more as if it were.
    pub(crate) fn with_the_past(&self) -> Option<Remembering> {
        if self.past.values().all(Past::is_empty) {
            return None;
        }
        let remembering = |known: &Knowledge| {
            let mut known = known.clone();
            if let Some(past) = self.past.get(&known.digest) {
                past.added_to(&mut known);
            }
            known
        };
        Some(Remembering {
            own: remembering(&self.own),
            relatives: self
                .relatives
                .iter()
                .map(|(digest, known)| (digest.clone(), remembering(known)))
                .collect(),
        })
    }

    /// Every knowledge held, the own first.
    pub(crate) fn knowledge(&self) -> impl Iterator<Item = &Knowledge> {
        std::iter::once(&self.own).chain(self.relatives.values())
    }

    /// No look-up of it ended in this process, and what an earlier one kept does not suffice.
    pub(crate) fn is_undecided(&self) -> bool {
        !self.attempted && !self.all_hold()
    }

    /// Its first look-up is under way for no longer than one may take, and what an earlier process
    /// kept does not suffice or is due to be checked: what that process wrote stays until then.
    pub(crate) fn is_new(&self, now: Timestamp) -> bool {
        let is_due = self.check_due.is_some_and(|due| due <= now);
        !self.attempted
            && (is_due || !self.all_hold())
            && self
                .covered_since
                .is_none_or(|since| now.duration_since(since) < FIRST_LOOK_UP)
    }

    /// Its first look-up should have ended by then.
    pub(crate) fn first_look_up_ends(&self) -> Option<Timestamp> {
        self.covered_since?.checked_add(FIRST_LOOK_UP).ok()
    }

    /// When it is noticed that a check is missing: a little after it is due, because a look-up takes
    /// its time; the first look-up of a process has more of it.
    pub(crate) fn overdue_at(&self) -> Option<Timestamp> {
        let due = self.check_due?;
        if self.attempted {
            return Some(after(due, CHECK_TAKES));
        }
        let first = self.first_look_up_ends();
        Some(after(due, CHECK_TAKES).max(first.unwrap_or(due)))
    }

    /// The answers that are Violating, those that an exception passes over among them.
    pub(crate) fn violations(&self) -> Vec<(JudgementKey, Judgement)> {
        self.judgements
            .iter()
            .filter(|(_, judged)| is_violation(judged.judgement.verdict))
            .map(|(key, judged)| (key.clone(), judged.judgement.clone()))
            .collect()
    }

    /// When what it rests on was last seen at the registry.
    pub(crate) fn last_seen(&self) -> Option<Timestamp> {
        self.checked.max(self.evidence_seen)
    }

    /// How far look-ups have come: what is said of it may depend on that although no judgement does.
    pub(crate) fn progress(&self) -> (bool, bool, bool) {
        (self.attempted, self.is_complete(), self.is_settled())
    }

    /// Everything that is known of it and of its relatives stems from complete passes of this process.
    pub(crate) fn is_settled(&self) -> bool {
        self.index_gap.is_none()
            && self.unasked.is_none()
            && self
                .knowledge()
                .all(|known| known.completeness == Completeness::Complete)
    }

    /// The knowledge stems from a complete pass of this process.
    pub(crate) fn is_complete(&self) -> bool {
        self.own.completeness == Completeness::Complete
    }

    /// An answer is known, and it is not that every policy holds.
    pub(crate) fn fails(&self) -> bool {
        !self.judgements.is_empty() && !self.all_hold()
    }

    /// Every covering policy holds for every user.
    pub(crate) fn all_hold(&self) -> bool {
        !self.judgements.is_empty()
            && self
                .judgements
                .values()
                .all(|judged| judged.judgement.verdict == api::Verdict::Compliant)
    }
}

/// A requirement is known not to hold, whether or not an exception passes over it.
pub(crate) fn is_violation(verdict: api::Verdict) -> bool {
    matches!(verdict, api::Verdict::Violating | api::Verdict::Excepted)
}

/// A digest of which nothing is known yet.
pub(crate) fn unknown(digest: Digest) -> Knowledge {
    Knowledge {
        digest,
        nature: Nature::NotRead,
        items: Vec::new(),
        completeness: Completeness::NeverAsked,
        attestations: Completeness::NeverAsked,
        forgotten: BTreeMap::new(),
    }
}
