//! Who signed an item of evidence, and do they count: the question that signatures and attestations share. What a
//! requirement makes of the answers is in `tally` (signatures) and `attested` (attestations).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Reason, Stage};
use image::Digest;
use jiff::Timestamp;
use verify::{Cause, Claim, Outcome, VerifierId};

use crate::facts::{Completeness, Gap, ItemFacts, Key, KeyRings, Spared, Veto};

/// The key rings that a requirement trusts, and when.
#[derive(Clone, Debug)]
pub(crate) struct Signers<'a> {
    /// The trusted key rings.
    pub(crate) rings: &'a [Arc<str>],
    /// The keys.
    pub(crate) keys: &'a KeyRings,
    /// The digest that runs.
    pub(crate) running: Digest,
    /// The time of judging.
    pub(crate) now: Timestamp,
}

/// What one key of a trusted ring makes of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing<'a> {
    /// It signed, and counts.
    Counts(&'a Claim),
    /// It may have signed, or may count.
    MayCount(Doubt),
    /// It signed, and does not count, because of the SigningKey named: itself, or one that is Revoked and matches the
    /// signer as well.
    Discounted(Discount, &'a Arc<str>),
    /// It signed something that is not what the item should be.
    Invalid(String),
    /// It did not sign.
    NotSigned,
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
    /// The bytes of an item are not at hand, or its time has not come: what it says, or who signed it, is not known yet.
    NotAtHand,
    /// One item cannot be read.
    Item,
    /// There is no evidence, and that is not taken for a violation.
    Absence,
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

    pub(crate) fn of_forgotten() -> Self {
        let text = "attestations of this type were deleted, more than are remembered, and one of them may be newer; \
                    attest the image anew"
            .to_owned();
        Self {
            kind: DoubtKind::Evidence,
            reason: Reason::EvidenceTooLarge,
            text,
        }
    }

    /// A cap was passed: whoever may push can bring that about.
    pub(crate) fn is_of_excess(&self) -> bool {
        self.kind == DoubtKind::Evidence && self.reason == Reason::EvidenceTooLarge
    }

    /// What a key may have said passes a cap, or is not at hand: it may be newer than everything that is known.
    pub(crate) fn may_hide_a_newer_one(&self) -> bool {
        match self.kind {
            DoubtKind::NotAtHand => true,
            DoubtKind::Item => self.reason == Reason::EvidenceTooLarge,
            DoubtKind::Evidence | DoubtKind::Key | DoubtKind::Absence => false,
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

    pub(crate) fn of_item(cause: &Cause) -> Self {
        let (kind, reason) = match cause {
            Cause::TooLarge(_) => (DoubtKind::Item, Reason::EvidenceTooLarge),
            Cause::UnknownVersion { .. } => (DoubtKind::Item, Reason::Pending),
            Cause::NotKept | Cause::NotYet { .. } => (DoubtKind::NotAtHand, Reason::Pending),
        };
        Self {
            kind,
            reason,
            text: format!("an item of evidence was not read: {cause}"),
        }
    }

    pub(crate) fn of_unknown_kind() -> Self {
        let text = "an item of evidence is of a kind that this version of Assay does not know".to_owned();
        Self {
            kind: DoubtKind::Item,
            reason: Reason::Pending,
            text,
        }
    }

    fn of_key(text: String) -> Self {
        Self {
            kind: DoubtKind::Key,
            reason: Reason::KeyMissing,
            text,
        }
    }

    fn not_checked(key: &Key) -> Self {
        let text = format!("SigningKey {} has not been asked about a signature yet", key.name);
        Self {
            kind: DoubtKind::NotAtHand,
            reason: Reason::Pending,
            text,
        }
    }
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

/// What was found where a requirement does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The rings that signed and count, each with the names of its keys.
    pub(crate) counted: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The keys of trusted rings that signed and do not count.
    pub(crate) discounted: BTreeMap<Discount, BTreeSet<Arc<str>>>,
    /// The keys of trusted rings that signed something that does not say what it should, and why.
    pub(crate) invalid: BTreeSet<(Arc<str>, String)>,
    /// Keys that Assay knows and the requirement does not trust, as (ring, key).
    pub(crate) untrusted: BTreeSet<(Arc<str>, Arc<str>)>,
    /// A key signed that no SigningKey that was asked is.
    pub(crate) strangers: bool,
    /// Not every SigningKey was asked about what the strangers signed.
    pub(crate) unasked: bool,
    /// Something that cannot be read.
    pub(crate) malformed: bool,
    /// What else there is: evidence of other kinds, attestations of other types.
    pub(crate) others: BTreeSet<String>,
}

impl Findings {
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
        self.unasked |= other.unasked;
        self.malformed |= other.malformed;
        self.others.extend(other.others);
    }

    /// Notes a standing that is no reason to count.
    pub(crate) fn note(&mut self, standing: &Standing<'_>, ring: &Arc<str>, key: &Key) {
        match standing {
            Standing::Counts(_) => {
                let keys = self.counted.entry(ring.clone()).or_default();
                keys.insert(key.name.clone());
            }
            Standing::Discounted(discount, by) => {
                let keys = self.discounted.entry(*discount).or_default();
                keys.insert(Arc::clone(by));
            }
            Standing::Invalid(why) => {
                self.invalid.insert((key.name.clone(), why.clone()));
            }
            Standing::MayCount(_) | Standing::NotSigned => {}
        }
    }

    /// The reason that the signers give; None where there is no trace of one. `invalid`: the reason for what a trusted
    /// key signed amiss, and for what cannot be read.
    pub(crate) fn reason(&self, invalid: Reason) -> Option<Reason> {
        if let Some(discount) = self.discounted.keys().next() {
            return Some(discount.reason());
        }
        if !self.invalid.is_empty() {
            return Some(invalid);
        }
        if self.strangers || !self.untrusted.is_empty() {
            return Some(Reason::SignerNotTrusted);
        }
        self.malformed.then_some(invalid)
    }
}

/// Something that a key signed.
enum Signed<'a> {
    /// What it says is known.
    Claimed(&'a Claim),
    /// It is not, or not whether there is anything; the digest that it would be about, where that is known.
    Unknown(Option<&'a Digest>),
}

/// Whether somebody else vouches that it existed before the signer ceased to count.
fn is_dated_before(claim: &Claim, spared: &Spared) -> bool {
    let earliest = claim.times.earliest();
    spared
        .dated_before
        .is_some_and(|end| earliest.is_some_and(|earliest| earliest < end))
}

impl<'a> Signers<'a> {
    pub(crate) fn keys_of(&self, ring: &str) -> &'a [Key] {
        self.keys.rings.get(ring).map_or(&[], Vec::as_slice)
    }

    /// Whether this is the fingerprint of keys of other rings alone. Of one that no key has nobody knows whose it was.
    pub(crate) fn are_without(&self, fingerprint: &str) -> bool {
        let is_it = |key: &Key| key.fingerprint.is_some_and(|own| own.to_string() == fingerprint);
        let mut own = self.rings.iter().flat_map(|ring| self.keys_of(ring));
        !own.any(is_it) && self.keys.rings.values().flatten().any(is_it)
    }

    /// What the key makes of the item. `refuses` says why a claim is not what is looked for.
    pub(crate) fn standing(
        &self,
        key: &'a Key,
        verifier: &VerifierId,
        item: &'a ItemFacts,
        subject: &Digest,
        refuses: &dyn Fn(&Claim) -> Option<String>,
    ) -> Standing<'a> {
        let open = |doubt: Doubt| match self.discount(key, &Signed::Unknown(Some(subject))) {
            None => Standing::MayCount(doubt),
            Some(_) => Standing::NotSigned,
        };
        match item.outcome(verifier) {
            None => open(Doubt::not_checked(key)),
            Some(Outcome::CannotTell(cause)) => open(Doubt::of_item(cause)),
            Some(Outcome::Verified(claim)) => {
                self.standing_of_claim(key, verifier, claim, item, subject, refuses)
            }
            Some(Outcome::Refused(refusal)) if refusal.is_of_the_signer() => {
                Standing::Invalid(refusal.to_string())
            }
            Some(Outcome::Refused(_)) => Standing::NotSigned,
        }
    }

    fn standing_of_claim(
        &self,
        key: &'a Key,
        verifier: &VerifierId,
        claim: &'a Claim,
        item: &ItemFacts,
        subject: &Digest,
        refuses: &dyn Fn(&Claim) -> Option<String>,
    ) -> Standing<'a> {
        let is_of_this =
            claim.verifier == *verifier && claim.subject == *subject && claim.evidence == *item.item.id();
        if !is_of_this {
            return Standing::Invalid("it is not about this image".into());
        }
        if let Some(discount) = self.discount(key, &Signed::Claimed(claim)) {
            return Standing::Discounted(discount, &key.name);
        }
        match self.veto(claim) {
            Some(Veto {
                name, matcher: None, ..
            }) => {
                return Standing::MayCount(Doubt::of_key(format!(
                    "SigningKey {name} is Revoked, and whom it means cannot be read"
                )));
            }
            Some(veto) => return Standing::Discounted(Discount::Revoked, &veto.name),
            None => {}
        }
        if claim.times.latest().max(claim.created_after) > Some(self.now) {
            return Standing::Invalid("a time that is vouched for lies in the future".into());
        }
        if let Some(why) = refuses(claim) {
            return Standing::Invalid(why);
        }
        match key.stage {
            Stage::Active | Stage::Retiring | Stage::Disabled | Stage::Revoked => Standing::Counts(claim),
            Stage::Staged | Stage::Other => Standing::MayCount(Doubt::of_key(format!(
                "SigningKey {} is in a stage that this version of Assay does not know",
                key.name
            ))),
        }
    }

    /// Why what the key signed does not count; of what is not known: why it cannot count, whatever it is.
    fn discount(&self, key: &Key, signed: &Signed<'_>) -> Option<Discount> {
        match key.stage {
            Stage::Revoked if !self.is_spared(key.spared.as_deref(), signed) => Some(Discount::Revoked),
            Stage::Disabled if !self.is_spared(key.spared.as_deref(), signed) => Some(Discount::Disabled),
            _ if !self.is_within_validity(key, signed) => Some(Discount::OutsideValidity),
            Stage::Staged => Some(Discount::Staged),
            _ => None,
        }
    }

    /// Whether a revocation leaves this, or may.
    fn is_spared(&self, spared: Option<&Spared>, signed: &Signed<'_>) -> bool {
        let Some(spared) = spared else {
            return false;
        };
        let is_honoured = |digest: &Digest| spared.honoured.contains(digest);
        is_honoured(&self.running)
            || match signed {
                Signed::Claimed(claim) => is_honoured(&claim.subject) || is_dated_before(claim, spared),
                Signed::Unknown(subject) => subject.is_none_or(is_honoured) || spared.dated_before.is_some(),
            }
    }

    /// The Revoked SigningKey that means the identity which signed, one that can be read before one that cannot.
    fn veto(&self, claim: &Claim) -> Option<&'a Veto> {
        let identity = claim.identity.as_deref()?;
        let means_it = |veto: &&Veto| {
            let matcher = veto.matcher.as_ref();
            matcher.is_some_and(|matcher| matcher.matches(identity))
                && !self.is_spared(veto.spared.as_deref(), &Signed::Claimed(claim))
        };
        let unreadable = |veto: &&Veto| veto.matcher.is_none();
        let vetoes = &self.keys.vetoes;
        vetoes
            .iter()
            .find(means_it)
            .or_else(|| vetoes.iter().find(unreadable))
    }

    /// By the first time that others vouch for, else by the clock: what is not timestamped may have been signed today.
    fn is_within_validity(&self, key: &Key, signed: &Signed<'_>) -> bool {
        let dated = match signed {
            Signed::Claimed(claim) => claim.times.earliest(),
            Signed::Unknown(_) => None,
        };
        let moment = dated.unwrap_or(self.now);
        key.not_before.is_none_or(|from| from <= moment) && key.not_after.is_none_or(|end| moment < end)
    }

    /// What cannot be told of a ring: it has no key, or one that cannot be read and that would count.
    pub(crate) fn unknown_key(&self, ring: &str) -> Option<Doubt> {
        let keys = self.keys_of(ring);
        if keys.is_empty() {
            return Some(Doubt::of_key(format!("no SigningKey has key ring {ring}")));
        }
        let unreadable = |key: &&Key| {
            (key.fingerprint.is_none() || key.verifier.is_none())
                && self.discount(key, &Signed::Unknown(None)).is_none()
        };
        let key = keys.iter().find(unreadable)?;
        Some(Doubt::of_key(format!(
            "SigningKey {} of key ring {ring} cannot be read",
            key.name
        )))
    }

    /// Notes who signed an item that no key of the trusted rings signed.
    pub(crate) fn note_signer_outside(&self, item: &ItemFacts, findings: &mut Findings) {
        let rings = self.keys.rings.iter();
        let outside = rings.filter(|(ring, _)| !self.rings.contains(ring));
        let mut is_known = false;
        let mut unasked = false;
        for (ring, key) in outside.flat_map(|(ring, keys)| keys.iter().map(move |key| (ring, key))) {
            match key.verifier.as_ref().map(|verifier| item.outcome(verifier)) {
                Some(Some(Outcome::Verified(_))) => {
                    is_known = true;
                    findings.untrusted.insert((ring.clone(), key.name.clone()));
                }
                Some(None) => unasked = true,
                Some(Some(_)) | None => {}
            }
        }
        findings.strangers |= !is_known;
        findings.unasked |= !is_known && unasked;
    }
}
