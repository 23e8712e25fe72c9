//! Images that the registry does not serve to the operator. They are looked up once more for each keychain of those who
//! run them, each apart from the others: what one keychain brought is held under its own key, in memory and on disk,
//! and is shown to pods with that keychain alone. Where the operator is served, nobody's credentials are used.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Reason, Verdict};
use image::Digest;
use jiff::Timestamp;
use policy::{Forgotten, ItemFacts, Judgement};

use crate::core::Engine;
use crate::fact::{RememberedViolation, WorkloadKey};
use crate::index::{ImageOf, Use};
use crate::judge::{Cause, is_gap};
use crate::keychain::Keychain;
use crate::past::counts_when_gone;
use crate::queue::Urgency;
use crate::store::SubjectRecord;
use crate::subject::{Change, Judged, JudgementKey, Subject, SubjectKey, is_violation};

impl Engine {
    /// The subject that a use is counted for besides the operator's.
    pub(crate) fn tenant_of(&mut self, used: &Use) -> Option<SubjectKey> {
        let operators = self.subjects.get_mut(&used.subject)?;
        let keychain = used.keychain.clone().filter(|_| operators.refused)?;
        operators.tenants.insert(keychain);
        used.as_tenant()
    }

    /// Takes in whether the registry serves a subject to the operator. Where it does not any more, those who run it are
    /// looked up for apart; where it does again, nothing is held for them.
    pub(crate) fn note_refusal(&mut self, key: &SubjectKey, refused: bool, now: Timestamp) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        if key.keychain.is_some() || subject.refused == refused {
            return;
        }
        subject.refused = refused;
        if !refused {
            self.forget_tenants(key, now);
            return;
        }
        let users: Vec<_> = subject.users.keys().cloned().collect();
        let starters: BTreeSet<_> = subject.starters.iter().map(|(user, _)| user.clone()).collect();
        let mut uses: Vec<Use> = users.iter().flat_map(|user| self.index.uses(user, key)).collect();
        let starts = starters.iter().flat_map(|user| self.template_uses(user));
        uses.extend(starts.filter(|used| used.is_of(key)));
        let mut tenants = BTreeSet::new();
        for used in &uses {
            if let Some(tenant) = self.tenant_of(used) {
                self.count_use(&tenant, used, Change::More);
                tenants.insert(tenant);
            }
        }
        tenants.extend(self.departed_to_tenants(key));
        if !tenants.is_empty() {
            self.keep_refusal(key, true);
        }
        self.reconsider(tenants, now, Cause::Evidence);
    }

    /// Pods that ended before the operator was refused wait for what their own credentials bring.
    fn departed_to_tenants(&mut self, key: &SubjectKey) -> BTreeSet<SubjectKey> {
        let mut tenants = BTreeSet::new();
        let Some(operators) = self.subjects.get_mut(key) else {
            return tenants;
        };
        let (others, own): (Vec<_>, Vec<_>) = std::mem::take(&mut operators.departed)
            .into_iter()
            .partition(|departed| departed.keychain().is_some());
        operators.departed = own;
        for departed in others {
            let Some(keychain) = departed.keychain().cloned() else {
                continue;
            };
            if let Some(operators) = self.subjects.get_mut(key) {
                operators.tenants.insert(keychain.clone());
            }
            let tenant = key.with(keychain);
            let subject = self.subjects.get_or_insert(&tenant);
            subject.departed.push(departed);
            tenants.insert(tenant);
        }
        tenants
    }

    /// The operator is served: its answer is everybody's, also where it is the one that it gave before.
    fn forget_tenants(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        let tenants = std::mem::take(&mut subject.tenants);
        if !tenants.is_empty() {
            self.keep_refusal(key, false);
        }
        for keychain in tenants {
            let tenant = key.with(keychain);
            let users: BTreeSet<WorkloadKey> = self
                .subjects
                .get(&tenant)
                .into_iter()
                .flat_map(|subject| subject.workloads().cloned())
                .collect();
            for user in &users {
                self.remember_attested(&tenant, user, now);
            }
            self.forget_subject(&tenant, now);
            for user in users {
                self.workload_changed(user, Urgency::Changed, now);
            }
        }
    }

    /// What a secret let be seen of an attestation goes on counting for the workload that brought it: the operator, who is
    /// served now, may come too late to see it (B47).
    fn remember_attested(&mut self, tenant: &SubjectKey, user: &WorkloadKey, now: Timestamp) {
        let images = self.index.images(user, now).into_keys();
        let written: BTreeSet<Arc<str>> = images
            .filter(|of| {
                of.image.subject() == Some(tenant.as_the_operator()) && of.keychain == tenant.keychain
            })
            .map(|of| of.image.written.clone())
            .collect();
        let violations = self
            .subjects
            .get(tenant)
            .map(Subject::violations)
            .unwrap_or_default();
        let remembered = violations.iter().flat_map(|(name, judgement)| {
            let about = |written: &Arc<str>| RememberedViolation {
                workload: user.clone(),
                written: written.clone(),
                digest: tenant.digest.to_string().into(),
                policy: name.policy.clone(),
                requirement: judgement.requirement.as_deref().map(Into::into),
                reason: judgement
                    .excepted
                    .as_ref()
                    .map_or(judgement.reason, |excepted| excepted.reason),
                message: judgement.message.clone(),
                since: now,
                stale_since: None,
            };
            written.iter().map(about)
        });
        let remembered: Vec<_> = remembered
            .filter(RememberedViolation::is_of_an_attestation)
            .collect();
        if !remembered.is_empty() {
            self.remembered
                .entry(user.clone())
                .or_default()
                .extend(remembered);
        }
    }

    /// A later process finds at once what was held for those who run it, although the registry may be down then. Of
    /// what is kept of the subject nothing else changes: the look that was refused saw less.
    fn keep_refusal(&self, key: &SubjectKey, refused: bool) {
        let kept = self.store.subject(&key.text()).unwrap_or_default();
        self.store
            .keep_subject(key.text(), &SubjectRecord { refused, ..kept });
    }

    /// A subject is forgotten that was looked up for a keychain.
    pub(crate) fn tenant_gone(&mut self, key: &SubjectKey) {
        if let Some(keychain) = &key.keychain
            && let Some(operators) = self.subjects.get_mut(&key.as_the_operator())
        {
            operators.tenants.remove(keychain);
        }
    }

    /// The subject by which an image is judged for the pods with this keychain.
    pub(crate) fn deciding(&self, of: &ImageOf) -> Option<&Subject> {
        let operators = self.subjects.get(&of.image.subject()?)?;
        let tenant = of
            .keychain
            .as_ref()
            .and_then(|keychain| self.subjects.get(&operators.key.with(keychain.clone())));
        match tenant {
            Some(tenant) if decides(operators, tenant) => Some(tenant),
            _ => Some(operators),
        }
    }

    /// Some pod's image is judged by this subject, rather than all by others.
    pub(crate) fn decides_for_somebody(&self, subject: &Subject) -> bool {
        if subject.users.is_empty() {
            return false;
        }
        if subject.key.keychain.is_some() {
            let operators = self.subjects.get(&subject.key.as_the_operator());
            return operators.is_none_or(|operators| decides(operators, subject));
        }
        let tenants: Vec<&Subject> = subject
            .tenants
            .iter()
            .filter_map(|keychain| self.subjects.get(&subject.key.with(keychain.clone())))
            .filter(|tenant| decides(subject, tenant))
            .collect();
        let has_another = |user| tenants.iter().any(|tenant| tenant.users.contains_key(user));
        tenants.len() < subject.tenants.len() || !subject.users.keys().all(has_another)
    }

    /// What is Violating by another keychain of the same namespace: nobody takes a violation back by naming other
    /// pull secrets, or none that work (B43).
    pub(crate) fn violations_beside(&self, key: &SubjectKey) -> Vec<(JudgementKey, Judgement)> {
        self.beside(key).flat_map(Subject::violations).collect()
    }

    /// The violation that a subject that cannot tell goes on with: its own from before, unless a complete look with
    /// another keychain of the namespace says otherwise, or one that such a look found. The operator has only its own,
    /// by the same name of the image: another name may lead to an index that was not looked at.
    pub(crate) fn violation_to_keep<'a>(
        &'a self,
        subject: &'a Subject,
        name: &JudgementKey,
    ) -> Option<&'a Judged> {
        if subject.key.keychain.is_none() {
            return subject.judgements.get(name).filter(violates);
        }
        let looked = || self.beside(&subject.key).filter(|beside| beside.is_complete());
        let otherwise = |beside: &Subject| {
            let judged = beside.judgements.get(name).map(|judged| &judged.judgement);
            judged.is_some_and(|judged| !is_violation(judged.verdict) && !is_gap(judged.reason))
        };
        let own = subject.violation(name).filter(|_| !looked().any(otherwise));
        own.or_else(|| looked().find_map(|beside| beside.violation(name)))
    }

    /// What a complete look with one keychain found holds for pods of the namespace whose own keychains do not let
    /// them look.
    pub(crate) fn tell_beside(&mut self, key: &SubjectKey, now: Timestamp) {
        if self
            .subjects
            .get(key)
            .is_none_or(|subject| !subject.is_complete())
        {
            return;
        }
        let waiting: Vec<SubjectKey> = self
            .beside(key)
            .filter(|beside| !beside.is_complete())
            .map(|beside| beside.key.clone())
            .collect();
        for beside in waiting {
            self.judge(&beside, now, Cause::Evidence);
        }
    }

    /// After an edit all are judged by what they saw themselves; then those that cannot tell learn from the others.
    pub(crate) fn settle_tenants(&mut self, tenants: impl IntoIterator<Item = SubjectKey>, now: Timestamp) {
        for tenant in tenants {
            self.judge(&tenant, now, Cause::Evidence);
        }
    }

    /// Attestations that one keychain let be seen are known to the others of its namespace from then on, so that
    /// they go on counting wherever the pods turn when they are deleted (B47).
    pub(crate) fn share_attestations(&mut self, key: &SubjectKey, now: Timestamp) {
        let Some(subject) = self.subjects.get(key).filter(|_| key.keychain.is_some()) else {
            return;
        };
        let attested = vec![subject.attestations()];
        let beside: Vec<SubjectKey> = self.beside(key).map(|beside| beside.key.clone()).collect();
        for other in beside {
            let learns = self
                .subjects
                .get_mut(&other)
                .is_some_and(|other| other.recall_attestations(&attested));
            if learns {
                self.judge(&other, now, Cause::Evidence);
            }
        }
    }

    /// The attestations that were seen with another keychain of the same namespace, or by the operator: those that are
    /// not there any more go on counting whatever pull secrets are named (B47).
    pub(crate) fn attestations_beside(&self, key: &SubjectKey) -> Vec<Attestations> {
        let operators = key.keychain.as_ref();
        let operators = operators.and_then(|_| self.subjects.get(&key.as_the_operator()));
        let sources = operators.into_iter().chain(self.beside(key));
        sources.map(Subject::attestations).collect()
    }

    /// The same image as it is looked up for other keychains of the same namespace.
    fn beside<'a>(&'a self, key: &'a SubjectKey) -> impl Iterator<Item = &'a Subject> {
        let of_this_namespace = |other: &&Arc<Keychain>| {
            let own = key.keychain.as_ref();
            own.is_some_and(|own| *other != own && other.namespace == own.namespace)
        };
        let operators = self.subjects.get(&key.as_the_operator());
        let others = operators.into_iter().flat_map(|operators| &operators.tenants);
        others
            .filter(move |other| of_this_namespace(other))
            .filter_map(|other| self.subjects.get(&key.with(other.clone())))
    }
}

/// What was seen of a subject elsewhere.
pub(crate) struct Attestations {
    attested: Vec<Attested>,
    /// What was forgotten there.
    forgotten: Vec<(Digest, Forgotten)>,
}

/// An attestation, the digest that it is about, and the manifest that it was found in.
struct Attested {
    digest: Digest,
    item: ItemFacts,
    manifest: Option<Digest>,
}

impl Subject {
    /// Every attestation that may go on counting when it is gone.
    fn attestations(&self) -> Attestations {
        let found = self
            .knowledge()
            .flat_map(|known| known.items.iter().map(|item| (known.digest.clone(), item)));
        let past = self
            .past
            .iter()
            .flat_map(|(digest, past)| past.items().iter().map(|item| (digest.clone(), item)));
        let counting = found.chain(past).filter(|(_, item)| counts_when_gone(item));
        let attested = counting.map(|(digest, item)| Attested {
            digest,
            manifest: self.found_in.get(item.item.id()).cloned(),
            item: item.clone(),
        });
        let past = self.past.iter();
        Attestations {
            attested: attested.collect(),
            forgotten: past
                .map(|(digest, past)| (digest.clone(), past.forgotten().clone()))
                .collect(),
        }
    }

    /// Takes in what was seen of it elsewhere; what the next look finds itself is taken for found. Answers whether any
    /// of it was not known.
    pub(crate) fn recall_attestations(&mut self, elsewhere: &[Attestations]) -> bool {
        let mut learns = false;
        for (digest, forgotten) in elsewhere.iter().flat_map(|seen| &seen.forgotten) {
            if !forgotten.is_empty() {
                learns |= self
                    .past
                    .entry(digest.clone())
                    .or_default()
                    .forget_until(forgotten);
            }
        }
        let known: BTreeSet<Digest> = self
            .attestations()
            .attested
            .iter()
            .map(|own| own.item.item.id().clone())
            .collect();
        for Attested {
            digest,
            item,
            manifest,
        } in elsewhere.iter().flat_map(|seen| &seen.attested)
        {
            let id = item.item.id().clone();
            let past = self.past.entry(digest.clone()).or_default();
            if known.contains(&id) || past.items().iter().any(|held| *held.item.id() == id) {
                continue;
            }
            self.found_in
                .extend(manifest.clone().map(|manifest| (id.clone(), manifest)));
            let forgotten = past.remember([item.clone()]);
            learns |= !forgotten.contains(&id);
            for id in forgotten {
                self.found_in.remove(&id);
            }
        }
        learns
    }
}

fn is_for_want_of_a_digest(judgement: &Judgement) -> bool {
    let passed_over = judgement.excepted.as_ref().map(|excepted| excepted.reason);
    passed_over.unwrap_or(judgement.reason) == Reason::TagNotPinned
}

fn violates(judged: &&Judged) -> bool {
    is_violation(judged.judgement.verdict)
}

/// Where the registry refuses the operator, the one who brings credentials decides; but what the operator learned
/// before stays until that one was served, or a violation is known of another one of the namespace.
fn decides(operators: &Subject, tenant: &Subject) -> bool {
    let knows_more = || tenant.is_complete() || !tenant.violations().is_empty();
    operators.refused && (knows_more() || !operators.is_known())
}

impl Subject {
    /// Whether the registry refuses it now: another failure says nothing of that.
    pub(crate) fn is_refused_after(&self, complete: bool) -> bool {
        match self.own_gap().map(|gap| gap.reason) {
            _ if complete => false,
            Some(Reason::RegistryDenied | Reason::ImageNotFound) => true,
            _ => self.refused,
        }
    }

    /// The violation by this judgement. One by the same policy that is not for want of a pinned digest holds however
    /// the digest is named.
    fn violation(&self, name: &JudgementKey) -> Option<&Judged> {
        let however_named = JudgementKey {
            pinned: !name.pinned,
            ..name.clone()
        };
        let same = self.judgements.get(name).filter(violates);
        same.or_else(|| {
            let other = self.judgements.get(&however_named).filter(violates);
            other.filter(|judged| !is_for_want_of_a_digest(&judged.judgement))
        })
    }

    /// Some answer says more than that nothing could be asked.
    fn is_known(&self) -> bool {
        let says = |judged: &Judged| {
            judged.judgement.verdict != Verdict::Unknown || !is_gap(judged.judgement.reason)
        };
        self.judgements.values().any(says)
    }
}
