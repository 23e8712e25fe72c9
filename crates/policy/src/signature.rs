//! The requirement `signature {signedBy, minimum}` over one running image: which digests may carry the signatures.
//! What the evidence about each of them says is in `tally`.
//!
//! | what runs | accept | holds if |
//! |---|---|---|
//! | a manifest | IndexOrPlatform | it holds on the manifest, or on one index that is proven to list it |
//! | an index | IndexOrPlatform | it holds on the index (or on an outer one, as above) |
//! | a manifest | Platform | it holds on the manifest |
//! | an index | Platform | it holds on every one of its runnable platform manifests |
//!
//! Each digest is asked alone: a ring's signature of the index and another ring's of the manifest do not add up to a
//! `minimum` of 2, because nobody vouched for the two together.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Reason;

use crate::compile::Accept;
use crate::facts::{DigestFacts, Knowledge, Nature};
use crate::message;
use crate::place::{self, Subject, not_read};
use crate::rule::{Circumstances, Failure, Ruling, of_all_places};
use crate::signers::{Discount, Doubt, Findings};
use crate::tally::{Answer, Question};

/// The requirement, checked: `1 <= minimum <= rings`, no ring twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignatureRule {
    rings: Vec<Arc<str>>,
    minimum: usize,
}

impl SignatureRule {
    pub(crate) fn new(rings: Vec<Arc<str>>, minimum: usize) -> Self {
        Self { rings, minimum }
    }

    pub(crate) fn rings(&self) -> &[Arc<str>] {
        &self.rings
    }

    pub(crate) fn minimum(&self) -> usize {
        self.minimum
    }

    /// Whether the requirement holds for what runs.
    pub(crate) fn judge(&self, digest: &DigestFacts<'_>, circumstances: &Circumstances<'_>) -> Ruling {
        let question = Question {
            signers: circumstances.signers(&self.rings),
            minimum: self.minimum,
            bound_to: circumstances.bind_repository.then_some(circumstances.repository),
        };
        match (circumstances.accept, digest.own.nature) {
            (Accept::IndexOrPlatform, _) => on_image_or_index(&question, digest),
            (Accept::Platform, Nature::Manifest) => on_one(&question, digest.own, Subject::Image),
            (Accept::Platform, Nature::Index) => on_every_platform(&question, digest),
            (Accept::Platform, Nature::NotRead) => Ruling::CannotTell(not_read(digest.own)),
        }
    }
}

fn on_one(question: &Question<'_>, knowledge: &Knowledge, subject: Subject) -> Ruling {
    match question.ask(knowledge) {
        Answer::Holds(keys) => Ruling::Holds(keys),
        Answer::CannotTell(doubt) => Ruling::CannotTell(doubt),
        Answer::Fails(findings) => Ruling::Fails(failure(subject, findings)),
    }
}

fn on_image_or_index(question: &Question<'_>, digest: &DigestFacts<'_>) -> Ruling {
    let mut keys = BTreeSet::new();
    let mut doubts = Vec::new();
    let mut findings = Findings::default();
    for knowledge in std::iter::once(digest.own).chain(digest.indexes.iter().copied()) {
        match question.ask(knowledge) {
            Answer::Holds(counted) => keys.extend(counted),
            Answer::CannotTell(doubt) => doubts.push(doubt),
            Answer::Fails(found) => findings.merge(found),
        }
    }
    if !keys.is_empty() {
        return Ruling::Holds(keys);
    }
    doubts.extend(digest.index_gap.map(Doubt::gap));
    match doubts.into_iter().min_by_key(|doubt| doubt.kind) {
        Some(doubt) => Ruling::CannotTell(doubt),
        None => Ruling::Fails(failure(place::subject(digest), findings)),
    }
}

fn on_every_platform(question: &Question<'_>, digest: &DigestFacts<'_>) -> Ruling {
    if digest.children.is_empty() {
        return Ruling::CannotTell(not_read(digest.own));
    }
    let mut keys = BTreeSet::new();
    let mut doubts = Vec::new();
    let mut failed = None;
    for child in &digest.children {
        match question.ask(child) {
            Answer::Holds(counted) => keys.extend(counted),
            Answer::CannotTell(doubt) => doubts.push(doubt),
            Answer::Fails(findings) => {
                let failure = failure(Subject::Platform(child.digest.clone()), findings);
                Failure::join(&mut failed, failure);
            }
        }
    }
    of_all_places(keys, doubts, failed)
}

fn failure(subject: Subject, findings: Findings) -> Failure {
    let nothing_found = match subject {
        Subject::Index => Reason::IndexNotSigned,
        _ => Reason::SignatureMissing,
    };
    let reason = match findings.counted.is_empty() {
        true => findings.reason(Reason::SignatureInvalid).unwrap_or(nothing_found),
        false => Reason::TooFewSigners,
    };
    // Whoever passes over too few signers passes over a revoked one among them only where that is said.
    let revoked = findings.discounted.contains_key(&Discount::Revoked);
    Failure {
        reason,
        also: revoked.then_some(Reason::KeyRevoked).into_iter().collect(),
        subject,
        found: message::found(reason, &findings),
    }
}
