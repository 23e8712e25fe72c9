//! One (repository, digest) that runs: what is known of it, who uses it, and what each policy says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use image::{Digest, Repository};
use jiff::{SignedDuration, Timestamp};
use policy::{Completeness, DigestFacts, Gap, ItemFacts, Judgement, Knowledge, Nature};
use verify::Fingerprint;

use crate::fact::WorkloadKey;
use crate::keychain::Keychain;
use crate::lookup::Seen;
use crate::schedule::{Plan, after};

/// An image whose first look-up takes longer is shown as Pending.
pub(crate) const FIRST_LOOK_UP: SignedDuration = SignedDuration::from_secs(60);

/// A check that is due and did not end within this time is missing.
const CHECK_TAKES: Duration = Duration::from_secs(15);

/// Names what is looked up: a digest under the repository of the pod's spec, with somebody's credentials. What was
/// found, missed or refused with one credential is never shown to those who have another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubjectKey {
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    /// Whose credentials are used besides the operator's; None for the operator's alone.
    pub(crate) keychain: Option<Arc<Keychain>>,
}

impl SubjectKey {
    /// As it is stored and logged: `repository@digest`, and for whom.
    pub(crate) fn text(&self) -> String {
        match &self.keychain {
            None => format!("{}@{}", self.repository, self.digest),
            Some(keychain) => format!("{}@{} {keychain}", self.repository, self.digest),
        }
    }
}

/// How a user of the subject names the image; what may lead to an index that lists the digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// By tag.
    Tag(Arc<str>),
    /// By this digest.
    Pinned(Digest),
}

/// A judgement is the same for all users that name the image alike in this respect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JudgementKey {
    pub(crate) policy: Arc<str>,
    pub(crate) pinned: bool,
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
    pub(crate) users: HashMap<WorkloadKey, BTreeMap<Origin, u32>>,
    /// What is known of the digest itself.
    pub(crate) own: Knowledge,
    /// What is known of indexes that list it, and of platform manifests it lists.
    pub(crate) relatives: BTreeMap<Digest, Knowledge>,
    /// Indexes that are proven to list it. Membership once proven is permanent.
    pub(crate) indexes: BTreeSet<Digest>,
    /// Platform manifests that it lists and that a policy needs.
    pub(crate) children: Vec<Digest>,
    /// A candidate for an index could not be read.
    pub(crate) index_gap: Option<Gap>,
    /// What tags resolved to when they were first seen here.
    pub(crate) first_resolved: BTreeMap<Arc<str>, Digest>,
    /// What each way of discovery said where everything behind it was read, by digest.
    pub(crate) seen: BTreeMap<Digest, Seen>,
    /// Digests for which a repository's referrers API listed something when it was last heard.
    pub(crate) listed: BTreeSet<(Digest, Repository)>,
    /// The manifest that each item was found in.
    pub(crate) found_in: BTreeMap<Digest, Digest>,
    /// Attestations that verified and are not found any more, by digest: they can only worsen a verdict.
    pub(crate) past: BTreeMap<Digest, Vec<ItemFacts>>,
    /// What each digest names, as read.
    pub(crate) shapes: BTreeMap<Digest, crate::lookup::Shape>,
    /// Why the last attempt was not complete.
    pub(crate) last_gap: Option<Gap>,
    /// When a pass last saw every item that is held; it may not have been complete.
    pub(crate) evidence_seen: Option<Timestamp>,
    /// Names that may lead to an index and were followed.
    pub(crate) asked_origins: BTreeSet<Origin>,
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
    pub(crate) covering: BTreeSet<Arc<str>>,
    /// The current answers.
    pub(crate) judgements: HashMap<JudgementKey, Judged>,
    /// When it is looked up again.
    pub(crate) plan: Plan,
    /// When it is judged again although nothing changed.
    pub(crate) wake: Option<Timestamp>,
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
}

/// What is known, with what is not found any more as if it were.
pub(crate) struct Remembering {
    own: Knowledge,
    relatives: BTreeMap<Digest, Knowledge>,
}

impl Subject {
    pub(crate) fn new(key: SubjectKey) -> Self {
        Subject {
            own: unknown(key.digest),
            key,
            refused: false,
            tenants: BTreeSet::new(),
            users: HashMap::new(),
            relatives: BTreeMap::new(),
            indexes: BTreeSet::new(),
            children: Vec::new(),
            index_gap: None,
            first_resolved: BTreeMap::new(),
            seen: BTreeMap::new(),
            listed: BTreeSet::new(),
            found_in: BTreeMap::new(),
            past: BTreeMap::new(),
            shapes: BTreeMap::new(),
            last_gap: None,
            evidence_seen: None,
            asked_origins: BTreeSet::new(),
            unasked: None,
            asked: crate::passes::Wants::default(),
            checked: None,
            check_due: None,
            overdue_since: None,
            attempted: false,
            from_disk: false,
            covered_since: None,
            covering: BTreeSet::new(),
            judgements: HashMap::new(),
            plan: Plan::default(),
            wake: None,
        }
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

    /// Every item held, those that are not found any more among them, with the digest that it is about.
    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = (Digest, &mut ItemFacts)> {
        let known = std::iter::once(&mut self.own).chain(self.relatives.values_mut());
        let found = known.flat_map(|known| known.items.iter_mut().map(|item| (known.digest, item)));
        let past = self.past.iter_mut();
        found.chain(past.flat_map(|(digest, items)| items.iter_mut().map(|item| (*digest, item))))
    }

    /// The same as [`Subject::facts`] reads, with what is not found any more as if it were.
    pub(crate) fn with_the_past(&self) -> Option<Remembering> {
        if self.past.values().all(Vec::is_empty) {
            return None;
        }
        let remembering = |known: &Knowledge| {
            let mut known = known.clone();
            known
                .items
                .extend(self.past.get(&known.digest).into_iter().flatten().cloned());
            known.items.sort_by_key(|item| *item.item.id());
            known
        };
        Some(Remembering {
            own: remembering(&self.own),
            relatives: self
                .relatives
                .iter()
                .map(|(digest, known)| (*digest, remembering(known)))
                .collect(),
        })
    }

    /// Every knowledge held, the own first.
    pub(crate) fn knowledge(&self) -> impl Iterator<Item = &Knowledge> {
        std::iter::once(&self.own).chain(self.relatives.values())
    }

    /// What the totals of keys are counted from, besides the answers: whether anything can be told, and the evidence.
    pub(crate) fn what_keys_count(&self) -> (bool, BTreeSet<Digest>) {
        let items = self.knowledge().flat_map(|known| &known.items);
        (self.is_undecided(), items.map(|item| *item.item.id()).collect())
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

    /// When it is noticed that a check is missing: a little after it is due, because a look-up takes
    /// its time; the first look-up of a process has more of it.
    pub(crate) fn overdue_at(&self) -> Option<Timestamp> {
        let due = self.check_due?;
        if self.attempted {
            return Some(after(due, CHECK_TAKES));
        }
        let first = self
            .covered_since
            .and_then(|since| since.checked_add(FIRST_LOOK_UP).ok());
        Some(after(due, CHECK_TAKES).max(first.unwrap_or(due)))
    }

    /// The answers that are Violating.
    pub(crate) fn violations(&self) -> Vec<(JudgementKey, Judgement)> {
        self.judgements
            .iter()
            .filter(|(_, judged)| judged.judgement.verdict == api::Verdict::Violating)
            .map(|(key, judged)| (key.clone(), judged.judgement.clone()))
            .collect()
    }

    /// When what it rests on was last seen at the registry.
    pub(crate) fn last_seen(&self) -> Option<Timestamp> {
        self.checked.max(self.evidence_seen)
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

/// A digest of which nothing is known yet.
pub(crate) fn unknown(digest: Digest) -> Knowledge {
    Knowledge {
        digest,
        nature: Nature::NotRead,
        items: Vec::new(),
        completeness: Completeness::NeverAsked,
        attestations: Completeness::NeverAsked,
    }
}
