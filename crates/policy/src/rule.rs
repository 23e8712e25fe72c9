//! A requirement of a policy: one kind each, with one module each. What they are asked with, and what they answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Reason;
use image::{Digest, Repository};
use jiff::Timestamp;
use verify::Fingerprint;

use crate::attestation::AttestationRule;
use crate::attested::{Answer, Attested, Check, Found, Search};
use crate::compile::Accept;
use crate::facts::{DigestFacts, KeyRings, Knowledge};
use crate::message;
use crate::place::{Places, Subject};
use crate::provenance::ProvenanceRule;
use crate::signature::SignatureRule;
use crate::signers::{Doubt, DoubtKind, Signers};
use crate::trusted::TrustedRule;
use crate::vulnerabilities::VulnerabilitiesRule;

/// A requirement, checked.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
}

/// What is required.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Signature(SignatureRule),
    Attestation(AttestationRule),
    Provenance(ProvenanceRule),
    Vulnerabilities(VulnerabilitiesRule),
    Trusted(TrustedRule),
}

/// What a requirement is asked with.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) accept: Accept,
    pub(crate) accept_index_attestations: bool,
    /// The repository of the image.
    pub(crate) repository: &'a Repository,
    /// Signatures must name it.
    pub(crate) bind_repository: bool,
    pub(crate) keys: &'a KeyRings,
    /// The digest that runs.
    pub(crate) running: Digest,
    pub(crate) now: Timestamp,
}

/// Whether a requirement holds for the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It holds, thanks to these keys.
    Holds(BTreeSet<Fingerprint>),
    /// It holds without evidence.
    Trusted,
    /// It cannot be told.
    CannotTell(Doubt),
    /// It does not hold.
    Fails(Failure),
}

/// What to say where a requirement does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// What else is wrong, or cannot be told: an exception must pass over that as well.
    pub(crate) also: BTreeSet<Reason>,
    pub(crate) subject: Subject,
    /// What was found, as a clause.
    pub(crate) found: String,
}

impl Failure {
    /// Everything that an exception must pass over.
    pub(crate) fn reasons(&self) -> BTreeSet<Reason> {
        self.also.iter().copied().chain([self.reason]).collect()
    }

    /// Keeps the first of two failures as the one that is told.
    pub(crate) fn join(first: &mut Option<Failure>, next: Failure) {
        match first {
            Some(first) => first.also.extend(next.reasons()),
            None => *first = Some(next),
        }
    }
}

impl Rule {
    /// The key rings that it trusts, for whatever.
    pub(crate) fn rings(&self) -> Vec<&Arc<str>> {
        match &self.kind {
            Kind::Signature(rule) => rule.rings().iter().collect(),
            Kind::Attestation(rule) => rule.rings().iter().collect(),
            Kind::Provenance(rule) => rule.rings().iter().collect(),
            Kind::Vulnerabilities(rule) => rule.rings().collect(),
            Kind::Trusted(_) => Vec::new(),
        }
    }

    /// Whether attestations must be looked for.
    pub(crate) fn wants_attestations(&self) -> bool {
        matches!(
            self.kind,
            Kind::Attestation(_) | Kind::Provenance(_) | Kind::Vulnerabilities(_)
        )
    }

    /// Whether it holds for what runs.
    pub(crate) fn judge(&self, digest: &DigestFacts<'_>, circumstances: &Circumstances<'_>) -> Ruling {
        match &self.kind {
            Kind::Signature(rule) => rule.judge(digest, circumstances),
            Kind::Attestation(rule) => rule.judge(digest, circumstances),
            Kind::Provenance(rule) => rule.judge(digest, circumstances),
            Kind::Vulnerabilities(rule) => rule.judge(digest, circumstances),
            Kind::Trusted(_) => Ruling::Trusted,
        }
    }

    /// When the newest attestation that counts for it was made; None where there is none or none is dated.
    pub(crate) fn newest(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> Option<Timestamp> {
        match &self.kind {
            Kind::Signature(_) | Kind::Trusted(_) => None,
            Kind::Attestation(rule) => rule.newest(digest, circumstances),
            Kind::Provenance(rule) => rule.newest(digest, circumstances),
            Kind::Vulnerabilities(rule) => rule.newest(digest, circumstances),
        }
    }

    /// The times at which it may answer otherwise because of the evidence's age. The keys' are not among them.
    pub(crate) fn boundaries(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> BTreeSet<Timestamp> {
        match &self.kind {
            Kind::Signature(_) | Kind::Trusted(_) => BTreeSet::new(),
            Kind::Attestation(rule) => rule.boundaries(digest, circumstances),
            Kind::Provenance(rule) => rule.boundaries(digest, circumstances),
            Kind::Vulnerabilities(rule) => rule.boundaries(digest, circumstances),
        }
    }
}

impl<'a> Circumstances<'a> {
    pub(crate) fn signers(&self, rings: &'a [Arc<str>]) -> Signers<'a> {
        Signers {
            rings,
            keys: self.keys,
            running: self.running.clone(),
            now: self.now,
        }
    }
}

/// Asks the attestations in every place where they must be. `missing`: the reason where there is none;
/// `AttestationMissing` violates, another one leaves it open.
///
/// Several places are the platforms of an index: one that fails fails, whatever is not known of the others. What may be
/// missing from a single place (an index that could not be read) keeps its failure open.
pub(crate) fn judge_attested<'a>(
    digest: &DigestFacts<'a>,
    circumstances: &Circumstances<'a>,
    missing: Reason,
    decide: impl Fn(&[&'a Knowledge]) -> Answer,
) -> Ruling {
    let places = Places::of(
        digest,
        circumstances.accept,
        circumstances.accept_index_attestations,
    );
    if places.groups.is_empty() {
        return Ruling::CannotTell(places.doubt.unwrap_or_else(Doubt::never_asked));
    }
    let mut keys = BTreeSet::new();
    let mut doubts = Vec::new();
    let mut failed = None;
    for (subject, group) in places.groups {
        match (ruling(decide(&group), subject, missing), &places.doubt) {
            (Ruling::Holds(counted), _) => keys.extend(counted),
            (Ruling::Trusted, _) => {}
            (Ruling::CannotTell(doubt), _) => doubts.push(doubt),
            (Ruling::Fails(_), Some(doubt)) => doubts.push(doubt.clone()),
            (Ruling::Fails(failure), None) => Failure::join(&mut failed, failure),
        }
    }
    of_all_places(keys, doubts, failed)
}

/// One place that fails fails, whatever is not known of the others.
pub(crate) fn of_all_places(
    keys: BTreeSet<Fingerprint>,
    doubts: Vec<Doubt>,
    failed: Option<Failure>,
) -> Ruling {
    if let Some(mut failure) = failed {
        failure.also.extend(doubts.iter().map(|doubt| doubt.reason));
        return Ruling::Fails(failure);
    }
    match doubts.into_iter().min_by_key(|doubt| doubt.kind) {
        Some(doubt) => Ruling::CannotTell(doubt),
        None => Ruling::Holds(keys),
    }
}

fn ruling(answer: Answer, subject: Subject, missing: Reason) -> Ruling {
    let fails = |reason, found| {
        Ruling::Fails(Failure {
            reason,
            also: BTreeSet::new(),
            subject,
            found,
        })
    };
    match answer {
        Answer::Holds(keys) => Ruling::Holds(keys),
        Answer::CannotTell(doubt) => Ruling::CannotTell(doubt),
        Answer::Fails {
            reason,
            found,
            findings,
        } => fails(reason, found.unwrap_or_else(|| message::found(reason, &findings))),
        Answer::Missing(findings) if missing == Reason::AttestationMissing => {
            fails(missing, message::found(missing, &findings))
        }
        Answer::Missing(findings) => Ruling::CannotTell(Doubt {
            kind: DoubtKind::Absence,
            reason: missing,
            text: message::found(missing, &findings),
        }),
    }
}

/// Looks for attestations and lets the newest decide.
pub(crate) fn newest<'a>(
    search: &Search<'a>,
    group: &[&'a Knowledge],
    max_age: Option<std::time::Duration>,
    check: impl Fn(&Attested<'_>) -> Check,
) -> Answer {
    let found: Found<'a> = search.over(group);
    found.decide(max_age, search.signers.now, check)
}

/// Every digest of which something is known.
pub(crate) fn all_places<'a>(digest: &DigestFacts<'a>) -> Vec<&'a Knowledge> {
    let mut all = vec![digest.own];
    all.extend(&digest.indexes);
    all.extend(&digest.children);
    all
}
