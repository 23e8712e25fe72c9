//! Images that the registry does not serve to the operator. They are looked up once more for each keychain of those who
//! run them, each apart from the others: what one keychain brought is held under its own key, in memory and on disk,
//! and is shown to pods with that keychain alone. Where the operator is served, nobody's credentials are used.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Reason, Verdict};
use image::Digest;
use jiff::Timestamp;
use policy::{ItemFacts, Judgement};

use crate::core::{Change, Engine};
use crate::index::{ImageOf, Use};
use crate::judge::{Cause, is_gap};
use crate::keychain::Keychain;
use crate::passes::counts_when_gone;
use crate::subject::{Judged, JudgementKey, Subject, SubjectKey};

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
            let tenants = std::mem::take(&mut subject.tenants);
            self.keep_refusal(key, !tenants.is_empty());
            for keychain in tenants {
                self.forget_subject(&key.with(keychain), now);
            }
            return;
        }
        let users: Vec<_> = subject.users.keys().cloned().collect();
        let uses: Vec<Use> = users.iter().flat_map(|user| self.index.uses(user, key)).collect();
        let mut tenants = BTreeSet::new();
        for used in &uses {
            if let Some(tenant) = self.tenant_of(used) {
                self.count_use(&tenant, used, Change::More);
                tenants.insert(tenant);
            }
        }
        self.keep_refusal(key, !tenants.is_empty());
        self.reconsider(tenants, now, Cause::Evidence);
    }

    /// A later process finds at once what was held for those who run it, although the registry may be down then.
    fn keep_refusal(&self, key: &SubjectKey, has_tenants: bool) {
        if let Some(subject) = self.subjects.get(key).filter(|_| has_tenants) {
            self.store.keep_subject(key.text(), &subject.record());
        }
    }

    /// A subject is forgotten that was looked up for a keychain.
    pub(crate) fn tenant_gone(&mut self, key: &SubjectKey) {
        if let Some(keychain) = &key.keychain
            && let Some(operators) = self.subjects.get_mut(&key.of_the_operator())
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
        if subject.key.keychain.is_some() {
            let operators = self.subjects.get(&subject.key.of_the_operator());
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

    /// The attestations that were seen with another keychain of the same namespace, or by the operator: those that are
    /// not there any more go on counting whatever pull secrets are named (B47).
    pub(crate) fn attestations_beside(&self, key: &SubjectKey) -> Vec<Attested> {
        let operators = key.keychain.as_ref();
        let operators = operators.and_then(|_| self.subjects.get(&key.of_the_operator()));
        let sources = operators.into_iter().chain(self.beside(key));
        sources.flat_map(Subject::attestations).collect()
    }

    /// The same image as it is looked up for other keychains of the same namespace.
    fn beside<'a>(&'a self, key: &'a SubjectKey) -> impl Iterator<Item = &'a Subject> {
        let of_this_namespace = |other: &&Arc<Keychain>| {
            let own = key.keychain.as_ref();
            own.is_some_and(|own| *other != own && other.namespace == own.namespace)
        };
        let operators = self.subjects.get(&key.of_the_operator());
        let others = operators.into_iter().flat_map(|operators| &operators.tenants);
        others
            .filter(move |other| of_this_namespace(other))
            .filter_map(|other| self.subjects.get(&key.with(other.clone())))
    }
}

/// An attestation, the digest that it is about, and the manifest that it was found in.
pub(crate) struct Attested {
    digest: Digest,
    item: ItemFacts,
    manifest: Option<Digest>,
}

impl Subject {
    /// Every attestation that may go on counting when it is gone.
    pub(crate) fn attestations(&self) -> Vec<Attested> {
        let found = self
            .knowledge()
            .flat_map(|known| known.items.iter().map(|item| (known.digest, item)));
        let past = self
            .past
            .iter()
            .flat_map(|(digest, items)| items.iter().map(|item| (*digest, item)));
        let counting = found.chain(past).filter(|(_, item)| counts_when_gone(item));
        counting
            .map(|(digest, item)| Attested {
                digest,
                manifest: self.found_in.get(item.item.id()).copied(),
                item: item.clone(),
            })
            .collect()
    }

    /// Takes in what was seen of it elsewhere; what the next look finds itself is taken for found.
    pub(crate) fn recall_attestations(&mut self, attested: Vec<Attested>) {
        let known: BTreeSet<Digest> = self
            .attestations()
            .iter()
            .map(|own| *own.item.item.id())
            .collect();
        for Attested {
            digest,
            item,
            manifest,
        } in attested
        {
            let id = *item.item.id();
            let past = self.past.entry(digest).or_default();
            if known.contains(&id) || past.iter().any(|held| *held.item.id() == id) {
                continue;
            }
            self.found_in.extend(manifest.map(|manifest| (id, manifest)));
            past.push(item);
        }
    }
}

/// Where the registry refuses the operator, the one who brings credentials decides; but what the operator learned
/// before stays until that one was served.
fn decides(operators: &Subject, tenant: &Subject) -> bool {
    operators.refused && (tenant.is_complete() || !operators.is_known())
}

impl SubjectKey {
    fn of_the_operator(&self) -> SubjectKey {
        SubjectKey {
            keychain: None,
            ..self.clone()
        }
    }

    fn with(&self, keychain: Arc<Keychain>) -> SubjectKey {
        SubjectKey {
            keychain: Some(keychain),
            ..self.clone()
        }
    }
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

    /// Some answer says more than that nothing could be asked.
    fn is_known(&self) -> bool {
        let says = |judged: &Judged| {
            judged.judgement.verdict != Verdict::Unknown || !is_gap(judged.judgement.reason)
        };
        self.judgements.values().any(says)
    }
}
