//! What the evidence about one digest says on one requirement for signatures: it holds, it fails, or it cannot be
//! told. Which digests are asked about is in `signature`, who counts is in `signers`, the words for people are in
//! `message`.

use std::collections::BTreeSet;
use std::sync::Arc;

use image::{Digest, Reference, Repository};
use verify::{Claim, ClaimKind, Fingerprint, Format, ItemKind};

use crate::facts::{ItemFacts, Key, Knowledge};
use crate::matching::{Offers, Signer};
use crate::signers::{Doubt, Findings, Signers, Standing};

/// What is asked of the evidence about a digest.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    /// Who counts.
    pub(crate) signers: Signers<'a>,
    /// How many of the rings must have signed.
    pub(crate) minimum: usize,
    /// Where a signature must name the repository: the repository.
    pub(crate) bound_to: Option<&'a Repository>,
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Enough key rings signed; these are the keys that count.
    Holds(BTreeSet<Fingerprint>),
    /// Something that is not known may make it hold.
    CannotTell(Doubt),
    /// Nothing that may still be learnt about the evidence makes it hold.
    Fails(Findings),
}

impl Question<'_> {
    /// The answer for one digest. Signatures of other digests do not count towards it.
    pub(crate) fn ask(&self, knowledge: &Knowledge) -> Answer {
        let tally = Tally::of(self, knowledge);
        if tally.sure.distinct_rings() >= self.minimum {
            return Answer::Holds(tally.sure.keys());
        }
        if let Some(doubt) = Doubt::of(&knowledge.completeness) {
            return Answer::CannotTell(doubt);
        }
        let could_hold = tally.sure.and(&tally.possible).distinct_rings() >= self.minimum;
        let doubt = if could_hold {
            tally.doubts.first()
        } else {
            tally.unread.first()
        };
        match doubt {
            Some(doubt) => Answer::CannotTell(doubt.clone()),
            None => Answer::Fails(tally.findings),
        }
    }

    /// Why the claim is no signature that counts here.
    fn refuses(&self, claim: &Claim) -> Option<String> {
        if claim.kind != ClaimKind::ImageSignature {
            return Some("it is not a signature of this image".into());
        }
        self.bound_to
            .and_then(|repository| breaks_binding(claim, repository))
    }
}

/// Why the signature does not name this repository; None where it does.
fn breaks_binding(claim: &Claim, repository: &Repository) -> Option<String> {
    let named = match (claim.format, &claim.docker_reference) {
        (Format::SimpleSigning, Some(named)) => named,
        _ => return Some("it names no repository, and the policy asks for signatures that do".into()),
    };
    match named.parse::<Reference>() {
        Ok(reference) if reference.repository == *repository => None,
        Ok(reference) => Some(format!("it was made for the repository {}", reference.repository)),
        Err(_) => Some("the repository that it names cannot be read".into()),
    }
}

/// Everything that the items of one digest say on one question.
#[derive(Default)]
struct Tally {
    /// Rings and the keys that signed for them and count.
    sure: Offers,
    /// Rings and the signers that may count.
    possible: Offers,
    /// What the possible offers rest on.
    doubts: BTreeSet<Doubt>,
    /// Items that were not read: whatever the keys, they may be signatures.
    unread: BTreeSet<Doubt>,
    /// Items that may be signatures and that no readable key of the trusted rings signed.
    unexplained: BTreeSet<usize>,
    findings: Findings,
}

impl Tally {
    fn of(question: &Question<'_>, knowledge: &Knowledge) -> Self {
        let mut tally = Self::default();
        for (place, item) in knowledge.items.iter().enumerate() {
            // A DSSE envelope in a layer of its own is how attestations are stored, and nothing else.
            if item.item.format() != Format::DsseLayer {
                tally.take_in(question, place, item, &knowledge.digest);
            }
        }
        tally.allow_for_unknown_keys(question);
        tally
    }

    fn take_in(&mut self, question: &Question<'_>, place: usize, item: &ItemFacts, subject: &Digest) {
        match item.item.kind() {
            ItemKind::ImageSignature => {
                if !self.ask_keys(question, place, item, subject) {
                    question.signers.note_signer_outside(item, &mut self.findings);
                }
            }
            ItemKind::UnreadablePayload { .. } => {
                if !self.ask_keys(question, place, item, subject) {
                    self.findings.malformed = true;
                }
            }
            ItemKind::Malformed { .. } => self.findings.malformed = true,
            ItemKind::Attestation { predicate_type } => {
                self.findings.others.insert(predicate_type);
            }
            ItemKind::SignedBlob => {
                self.findings.others.insert("a signed blob".into());
            }
            ItemKind::Other { payload_type } => {
                self.findings.others.insert(payload_type);
            }
            ItemKind::NotRead { cause } => self.leave_unread(place, Doubt::of_item(&cause)),
            _ => self.leave_unread(place, Doubt::of_unknown_kind()),
        }
    }

    fn leave_unread(&mut self, place: usize, doubt: Doubt) {
        self.doubts.insert(doubt.clone());
        self.unread.insert(doubt);
        self.unexplained.insert(place);
    }

    /// Asks every readable key of the trusted rings. Whether one of them signed the item.
    fn ask_keys(
        &mut self,
        question: &Question<'_>,
        place: usize,
        item: &ItemFacts,
        subject: &Digest,
    ) -> bool {
        let mut signed = false;
        for (at, ring) in question.signers.rings.iter().enumerate() {
            for key in question.signers.keys_of(ring) {
                let (Some(fingerprint), Some(verifier)) = (key.fingerprint, key.verifier) else {
                    continue;
                };
                let refuses = |claim: &Claim| question.refuses(claim);
                let standing = question.signers.standing(key, &verifier, item, subject, &refuses);
                signed |= !matches!(standing, Standing::NotSigned | Standing::MayCount(_));
                self.enter(standing, at, ring, key, fingerprint);
            }
        }
        if !signed {
            self.unexplained.insert(place);
        }
        signed
    }

    fn enter(
        &mut self,
        standing: Standing<'_>,
        at: usize,
        ring: &Arc<str>,
        key: &Key,
        fingerprint: Fingerprint,
    ) {
        self.findings.note(&standing, ring, key);
        match standing {
            Standing::Counts(_) => self.sure.add(at, Signer::Key(fingerprint)),
            Standing::MayCount(doubt) => {
                self.possible.add(at, Signer::Key(fingerprint));
                self.doubts.insert(doubt);
            }
            Standing::Discounted(..) | Standing::Invalid(_) | Standing::NotSigned => {}
        }
    }

    /// A key that nobody can read may have signed whatever no readable key signed; without such an item its
    /// absence makes no difference.
    fn allow_for_unknown_keys(&mut self, question: &Question<'_>) {
        for (at, ring) in question.signers.rings.iter().enumerate() {
            let Some(doubt) = question.signers.unknown_key(ring) else {
                continue;
            };
            for place in &self.unexplained {
                self.possible.add(at, Signer::OfItem(*place));
                self.doubts.insert(doubt.clone());
            }
        }
    }
}
