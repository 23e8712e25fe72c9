//! What the evidence about one digest says on one requirement for signatures: it holds, it fails, or it cannot be
//! told. Which digests are asked about is in `signature`, the words for people are in `message`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Reason, Stage};
use image::{Digest, Reference, Repository};
use jiff::Timestamp;
use verify::{Cause, Claim, ClaimKind, Fingerprint, Format, ItemKind, Outcome, VerifierId};

use crate::facts::{Completeness, Gap, ItemFacts, Key, KeyRings, Knowledge};
use crate::matching::{Offers, Signer};

/// What is asked of the evidence about a digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The trusted key rings.
    pub(crate) rings: &'a [Arc<str>],
    /// How many of them must have signed.
    pub(crate) minimum: usize,
    /// Where a signature must name the repository: the repository.
    pub(crate) bound_to: Option<&'a Repository>,
    /// The keys.
    pub(crate) keys: &'a KeyRings,
    /// The time at which keys must be valid.
    pub(crate) now: Timestamp,
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

/// Something that is not known and may make the requirement hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Doubt {
    pub(crate) kind: DoubtKind,
    pub(crate) reason: Reason,
    /// A clause for people.
    pub(crate) text: String,
}

/// Where a doubt comes from; of several, the first kind is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DoubtKind {
    /// The evidence is not all there.
    Evidence,
    /// A key is missing or cannot be read.
    Key,
    /// One item cannot be read or was not checked.
    Item,
}

impl Doubt {
    pub(crate) fn gap(gap: &Gap) -> Self {
        Self {
            kind: DoubtKind::Evidence,
            reason: gap.reason,
            text: gap.detail.to_string(),
        }
    }

    pub(crate) fn never_asked() -> Self {
        let text = "the registry has not been asked yet".to_owned();
        Self {
            kind: DoubtKind::Evidence,
            reason: Reason::Pending,
            text,
        }
    }

    /// What keeps an absence in this evidence from being proven.
    pub(crate) fn of(completeness: &Completeness) -> Option<Self> {
        match completeness {
            Completeness::Complete => None,
            Completeness::NeverAsked => Some(Self::never_asked()),
            Completeness::Incomplete(gap) => Some(Self::gap(gap)),
        }
    }

    fn of_key(text: String) -> Self {
        Self {
            kind: DoubtKind::Key,
            reason: Reason::KeyMissing,
            text,
        }
    }

    fn of_item(cause: &Cause) -> Self {
        let (reason, text) = match cause {
            Cause::TooLarge(cap) => (
                Reason::EvidenceTooLarge,
                format!("an item of evidence was not read: {cap}"),
            ),
            Cause::UnknownVersion { .. } => (
                Reason::Pending,
                format!("an item of evidence was not read: {cause}"),
            ),
        };
        Self {
            kind: DoubtKind::Item,
            reason,
            text,
        }
    }

    fn not_checked(key: &Key) -> Self {
        let text = format!("SigningKey {} has not been asked about a signature yet", key.name);
        Self {
            kind: DoubtKind::Item,
            reason: Reason::Pending,
            text,
        }
    }
}

/// What was found where the requirement fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The rings that signed and count, each with the names of its keys.
    pub(crate) counted: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The keys of trusted rings that signed and do not count.
    pub(crate) discounted: BTreeMap<Discount, BTreeSet<Arc<str>>>,
    /// The keys of trusted rings that signed something that is not a signature of this image, and why.
    pub(crate) invalid: BTreeSet<(Arc<str>, String)>,
    /// Keys that Assay knows and the requirement does not trust, as (ring, key).
    pub(crate) untrusted: BTreeSet<(Arc<str>, Arc<str>)>,
    /// A key that Assay does not know signed.
    pub(crate) strangers: bool,
    /// Something that cannot be read.
    pub(crate) malformed: bool,
    /// Attestations, signed blobs: not signatures of an image.
    pub(crate) not_signatures: bool,
}

/// Why a key that signed does not count; of several, the first is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Discount {
    Revoked,
    Disabled,
    OutsideValidity,
    Staged,
}

impl Discount {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Revoked => Reason::KeyRevoked,
            Self::Disabled => Reason::KeyDisabled,
            Self::OutsideValidity => Reason::KeyExpired,
            Self::Staged => Reason::KeyStaged,
        }
    }
}

impl Findings {
    /// The reason that the findings give; None where there is no trace of a signature.
    pub(crate) fn reason(&self) -> Option<Reason> {
        if !self.counted.is_empty() {
            return Some(Reason::TooFewSigners);
        }
        if let Some(discount) = self.discounted.keys().next() {
            return Some(discount.reason());
        }
        if !self.invalid.is_empty() {
            return Some(Reason::SignatureInvalid);
        }
        if self.strangers || !self.untrusted.is_empty() {
            return Some(Reason::SignerNotTrusted);
        }
        self.malformed.then_some(Reason::SignatureInvalid)
    }

    /// Takes in what was found at another digest.
    pub(crate) fn merge(&mut self, other: Self) {
        for (ring, keys) in other.counted {
            self.counted.entry(ring).or_default().extend(keys);
        }
        for (discount, keys) in other.discounted {
            self.discounted.entry(discount).or_default().extend(keys);
        }
        self.invalid.extend(other.invalid);
        self.untrusted.extend(other.untrusted);
        self.strangers |= other.strangers;
        self.malformed |= other.malformed;
        self.not_signatures |= other.not_signatures;
    }
}

/// What one key of a trusted ring makes of one item.
enum Standing {
    Counts,
    MayCount(Doubt),
    Discounted(Discount),
    Invalid(String),
    NotSigned,
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

    fn keys_of(&self, ring: &str) -> &[Key] {
        self.keys.rings.get(ring).map_or(&[], Vec::as_slice)
    }

    fn is_within_validity(&self, key: &Key) -> bool {
        key.not_before.is_none_or(|from| from <= self.now) && key.not_after.is_none_or(|end| self.now < end)
    }

    /// Why nothing that the key signed can count.
    fn discount(&self, key: &Key) -> Option<Discount> {
        match key.stage {
            Stage::Revoked => Some(Discount::Revoked),
            Stage::Disabled => Some(Discount::Disabled),
            _ if !self.is_within_validity(key) => Some(Discount::OutsideValidity),
            Stage::Staged => Some(Discount::Staged),
            Stage::Active | Stage::Retiring | Stage::Other => None,
        }
    }

    /// What cannot be told of a ring: it has no key, or one whose text cannot be read and that would count.
    fn unknown_key(&self, ring: &str) -> Option<Doubt> {
        let keys = self.keys_of(ring);
        if keys.is_empty() {
            return Some(Doubt::of_key(format!("no SigningKey has key ring {ring}")));
        }
        let unreadable = |key: &&Key| key.verifier.is_none() && self.discount(key).is_none();
        let key = keys.iter().find(unreadable)?;
        Some(Doubt::of_key(format!(
            "SigningKey {} of key ring {ring} cannot be read",
            key.name
        )))
    }

    fn standing(&self, key: &Key, verifier: &VerifierId, item: &ItemFacts, subject: &Digest) -> Standing {
        let open = |doubt: Doubt| match self.discount(key) {
            None => Standing::MayCount(doubt),
            Some(_) => Standing::NotSigned,
        };
        match item.outcome(verifier) {
            None => open(Doubt::not_checked(key)),
            Some(Outcome::CannotTell(cause)) => open(Doubt::of_item(cause)),
            Some(Outcome::Verified(claim)) => self.standing_of_claim(key, verifier, claim, item, subject),
            Some(Outcome::Refused(refusal)) if refusal.is_of_the_signer() => {
                Standing::Invalid(refusal.to_string())
            }
            Some(Outcome::Refused(_)) => Standing::NotSigned,
        }
    }

    fn standing_of_claim(
        &self,
        key: &Key,
        verifier: &VerifierId,
        claim: &Claim,
        item: &ItemFacts,
        subject: &Digest,
    ) -> Standing {
        let is_of_this =
            claim.verifier == *verifier && claim.subject == *subject && claim.evidence == *item.item.id();
        if !is_of_this || claim.kind != ClaimKind::ImageSignature {
            return Standing::Invalid("it is not a signature of this image".into());
        }
        if let Some(discount) = self.discount(key) {
            return Standing::Discounted(discount);
        }
        if let Some(why) = self
            .bound_to
            .and_then(|repository| breaks_binding(claim, repository))
        {
            return Standing::Invalid(why);
        }
        match key.stage {
            Stage::Active | Stage::Retiring => Standing::Counts,
            _ => Standing::MayCount(Doubt::of_key(format!(
                "SigningKey {} is in a stage that this version of Assay does not know",
                key.name
            ))),
        }
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
            tally.take_in(question, place, item, &knowledge.digest);
        }
        tally.allow_for_unknown_keys(question);
        tally
    }

    fn take_in(&mut self, question: &Question<'_>, place: usize, item: &ItemFacts, subject: &Digest) {
        match item.item.kind() {
            ItemKind::ImageSignature => {
                if !self.ask_keys(question, place, item, subject) {
                    self.note_signer_outside_the_rings(question, item);
                }
            }
            ItemKind::UnreadablePayload { .. } => {
                if !self.ask_keys(question, place, item, subject) {
                    self.findings.malformed = true;
                }
            }
            ItemKind::Malformed { .. } => self.findings.malformed = true,
            ItemKind::Attestation { .. } | ItemKind::SignedBlob | ItemKind::Other { .. } => {
                self.findings.not_signatures = true;
            }
            ItemKind::NotRead { cause } => self.leave_unread(place, Doubt::of_item(&cause)),
            _ => self.leave_unread(place, unknown_kind()),
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
        for (at, ring) in question.rings.iter().enumerate() {
            for key in question.keys_of(ring) {
                let (Some(fingerprint), Some(verifier)) = (key.fingerprint, key.verifier) else {
                    continue;
                };
                let standing = question.standing(key, &verifier, item, subject);
                signed |= !matches!(standing, Standing::NotSigned | Standing::MayCount(_));
                self.enter(standing, at, ring, key, fingerprint);
            }
        }
        if !signed {
            self.unexplained.insert(place);
        }
        signed
    }

    fn enter(&mut self, standing: Standing, at: usize, ring: &Arc<str>, key: &Key, fingerprint: Fingerprint) {
        match standing {
            Standing::Counts => {
                self.sure.add(at, Signer::Key(fingerprint));
                self.findings
                    .counted
                    .entry(ring.clone())
                    .or_default()
                    .insert(key.name.clone());
            }
            Standing::MayCount(doubt) => {
                self.possible.add(at, Signer::Key(fingerprint));
                self.doubts.insert(doubt);
            }
            Standing::Discounted(discount) => {
                self.findings
                    .discounted
                    .entry(discount)
                    .or_default()
                    .insert(key.name.clone());
            }
            Standing::Invalid(why) => {
                self.findings.invalid.insert((key.name.clone(), why));
            }
            Standing::NotSigned => {}
        }
    }

    fn note_signer_outside_the_rings(&mut self, question: &Question<'_>, item: &ItemFacts) {
        let signed = |key: &&Key| {
            let outcome = key.verifier.as_ref().and_then(|verifier| item.outcome(verifier));
            matches!(outcome, Some(Outcome::Verified(_)))
        };
        let outside = question
            .keys
            .rings
            .iter()
            .filter(|(ring, _)| !question.rings.contains(ring));
        let known: Vec<_> = outside
            .flat_map(|(ring, keys)| {
                keys.iter()
                    .filter(signed)
                    .map(|key| (ring.clone(), key.name.clone()))
            })
            .collect();
        self.findings.strangers |= known.is_empty();
        self.findings.untrusted.extend(known);
    }

    /// A key that nobody can read may have signed whatever no readable key signed; without such an item its
    /// absence makes no difference.
    fn allow_for_unknown_keys(&mut self, question: &Question<'_>) {
        for (at, ring) in question.rings.iter().enumerate() {
            let Some(doubt) = question.unknown_key(ring) else {
                continue;
            };
            for place in &self.unexplained {
                self.possible.add(at, Signer::OfItem(*place));
                self.doubts.insert(doubt.clone());
            }
        }
    }
}

fn unknown_kind() -> Doubt {
    let text = "an item of evidence is of a kind that this version of Assay does not know".to_owned();
    Doubt {
        kind: DoubtKind::Item,
        reason: Reason::Pending,
        text,
    }
}
