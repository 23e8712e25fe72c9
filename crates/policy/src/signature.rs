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
use image::{Digest, Repository};
use jiff::Timestamp;
use verify::Fingerprint;

use crate::compile::Accept;
use crate::facts::{DigestFacts, KeyRings, Knowledge, Nature};
use crate::tally::{Answer, Doubt, Findings, Question};

/// The requirement, checked: `1 <= minimum <= rings`, no ring twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignatureRule {
    name: Arc<str>,
    rings: Vec<Arc<str>>,
    minimum: usize,
}

/// What the requirement is asked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) accept: Accept,
    /// Where signatures must name the repository: the repository.
    pub(crate) bound_to: Option<&'a Repository>,
    pub(crate) keys: &'a KeyRings,
    pub(crate) now: Timestamp,
}

/// Whether the requirement holds for the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It holds, thanks to these keys.
    Holds(BTreeSet<Fingerprint>),
    /// It cannot be told.
    CannotTell(Doubt),
    /// It does not hold.
    Fails(Failure),
}

/// What to say where the requirement does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) subject: Subject,
    pub(crate) findings: Findings,
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The manifest that runs.
    Image,
    /// The manifest that runs, and the indexes that list it.
    ImageOrIndex,
    /// The index that runs.
    Index,
    /// One platform manifest of the index that runs.
    Platform(Digest),
}

impl SignatureRule {
    pub(crate) fn new(name: Arc<str>, rings: Vec<Arc<str>>, minimum: usize) -> Self {
        Self { name, rings, minimum }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
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
            rings: &self.rings,
            minimum: self.minimum,
            bound_to: circumstances.bound_to,
            keys: circumstances.keys,
            now: circumstances.now,
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
        None => Ruling::Fails(failure(subject_with_indexes(digest), findings)),
    }
}

fn on_every_platform(question: &Question<'_>, digest: &DigestFacts<'_>) -> Ruling {
    if digest.children.is_empty() {
        return Ruling::CannotTell(not_read(digest.own));
    }
    let mut keys = BTreeSet::new();
    let mut doubts = Vec::new();
    for child in &digest.children {
        match on_one(question, child, Subject::Platform(child.digest)) {
            Ruling::Holds(counted) => keys.extend(counted),
            Ruling::CannotTell(doubt) => doubts.push(doubt),
            fails @ Ruling::Fails(_) => return fails,
        }
    }
    match doubts.into_iter().min_by_key(|doubt| doubt.kind) {
        Some(doubt) => Ruling::CannotTell(doubt),
        None => Ruling::Holds(keys),
    }
}

/// What runs, or what it lists, is not known yet.
fn not_read(own: &Knowledge) -> Doubt {
    Doubt::of(&own.completeness).unwrap_or_else(Doubt::never_asked)
}

fn subject_with_indexes(digest: &DigestFacts<'_>) -> Subject {
    match digest.own.nature {
        Nature::Index => Subject::Index,
        _ if digest.indexes.is_empty() => Subject::Image,
        _ => Subject::ImageOrIndex,
    }
}

fn failure(subject: Subject, findings: Findings) -> Failure {
    let nothing_found = match subject {
        Subject::Index => Reason::IndexNotSigned,
        _ => Reason::SignatureMissing,
    };
    Failure {
        reason: findings.reason().unwrap_or(nothing_found),
        subject,
        findings,
    }
}
