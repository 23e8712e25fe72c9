//! Which attestation decides, and how old it is: what the requirements `attestation`, `provenance` and
//! `vulnerabilities` share. Who counts is in `signers`; what an attestation must say is each requirement's own.
//!
//! **Age** is counted from a time that the attestation cannot be older than the claim says, and that nobody without the
//! signer's key can move:
//!
//! | signed by | counted from |
//! |---|---|
//! | a Fulcio identity | the certificate's notBefore |
//! | a key | the predicate's own time, or the first time that a log or a timestamp authority vouches for if that is earlier |
//! | a key, and the predicate names no time, or one in the future | none: the attestation is undated |
//!
//! A timestamp alone dates nothing: whoever holds an old attestation can have it timestamped again.
//!
//! **The newest decides**, in whatever order they are found. Of several with one time all must hold. Only where none is
//! dated and no age is asked for is one that holds enough: undated ones have no order. Where there are more than are
//! read, nobody knows the newest: whoever may push could hide a bad one behind junk. Nor where a signer that counts
//! signed one that is larger than what is read, or where one that was deleted and forgotten may be as new.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::Reason;
use image::Digest;
use jiff::Timestamp;
use verify::{Claim, ClaimKind, Fingerprint, Format, Item, ItemKind, Statement};

use crate::facts::{ItemFacts, Key, Knowledge};
use crate::own_time::{self, OwnTimes};
use crate::signers::{Doubt, Findings, Signers, Standing};
use crate::vex;

/// What is looked for.
#[derive(Clone)]
pub(crate) struct Search<'a> {
    pub(crate) signers: Signers<'a>,
    /// Whether a predicate type is looked for.
    pub(crate) wanted: &'a dyn Fn(&str) -> bool,
    /// The times that they give themselves; None where these do not count.
    pub(crate) times: Option<&'a OwnTimes>,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Found<'a> {
    /// Attestations of the type by signers that count, once for each such signer.
    pub(crate) attestations: Vec<Attested<'a>>,
    /// What may make up for what is missing.
    pub(crate) doubts: BTreeSet<Doubt>,
    /// There are more than could be read: a newer one may be among those that could not.
    pub(crate) excess: Option<Doubt>,
    /// Those that were deleted and forgotten since are no newer than this.
    pub(crate) forgotten: Option<Timestamp>,
    pub(crate) findings: Findings,
}

/// An attestation by a signer that counts.
#[derive(Clone)]
pub(crate) struct Attested<'a> {
    pub(crate) reading: Reading<'a>,
    /// It is only remembered.
    pub(crate) is_gone: bool,
    pub(crate) subject: &'a Digest,
    pub(crate) ring: &'a Arc<str>,
    pub(crate) key: &'a Key,
    pub(crate) claim: &'a Claim,
    /// None where it is undated.
    pub(crate) created: Option<Timestamp>,
}

/// What an attestation says, read when it is asked for and held no longer than that: it may be large.
#[derive(Clone)]
pub(crate) struct Reading<'a> {
    item: &'a Item,
    statement: OnceCell<Arc<Statement>>,
}

impl<'a> Reading<'a> {
    fn of(item: &'a Item) -> Self {
        Self {
            item,
            statement: OnceCell::new(),
        }
    }

    /// The item that is read.
    pub(crate) fn item(&self) -> &'a Digest {
        self.item.id()
    }

    /// The statement; a doubt where it cannot be read.
    pub(crate) fn statement(&self) -> Result<Arc<Statement>, Doubt> {
        if let Some(statement) = self.statement.get() {
            return Ok(statement.clone());
        }
        let statement = self.item.statement().map_err(|cause| Doubt::of_item(&cause))?;
        let statement = Arc::new(statement.ok_or_else(Doubt::of_unknown_kind)?);
        Ok(self.statement.get_or_init(|| statement).clone())
    }
}

/// What an attestation says on a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// What is asked for; thanks to these keys beside the signer's.
    Passes(BTreeSet<Fingerprint>),
    /// Something else.
    Fails(Reason, String),
    /// It cannot be read.
    CannotTell(Doubt),
}

/// What all attestations together say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Holds(BTreeSet<Fingerprint>),
    CannotTell(Doubt),
    Fails {
        reason: Reason,
        /// What was found, as a clause; None where `findings` says it.
        found: Option<String>,
        findings: Findings,
    },
    /// There is none, and no trace of one.
    Missing(Findings),
}

impl<'a> Search<'a> {
    /// Looks through everything known of these digests.
    pub(crate) fn over(&self, places: &[&'a Knowledge]) -> Found<'a> {
        let mut found = Found::default();
        let mut unexplained = false;
        for knowledge in places {
            let doubt = Doubt::of(&knowledge.attestations);
            found.excess = found.excess.or(doubt.clone().filter(Doubt::is_of_excess));
            found.doubts.extend(doubt);
            let forgotten = knowledge.forgotten.iter();
            let forgotten = forgotten.filter(|(kind, _)| (self.wanted)(kind));
            let by_these = forgotten
                .flat_map(|(_, signers)| signers)
                .filter(|(signer, _)| !self.signers.are_without(signer));
            found.forgotten = by_these
                .map(|(_, time)| Some(*time))
                .fold(found.forgotten, Option::max);
            for item in &knowledge.items {
                unexplained |= self.take_in(item, &knowledge.digest, &mut found);
            }
        }
        if unexplained {
            let unknown = self.signers.rings.iter();
            found
                .doubts
                .extend(unknown.filter_map(|ring| self.signers.unknown_key(ring)));
        }
        found
    }

    /// Whether the item may be one that a key signed that nobody can read.
    fn take_in(&self, item: &'a ItemFacts, subject: &'a Digest, found: &mut Found<'a>) -> bool {
        if item.item.format() == Format::SimpleSigning {
            return false;
        }
        match item.item.kind() {
            ItemKind::Attestation { predicate_type } if (self.wanted)(&predicate_type) => {
                let signed = self.ask_keys(item, subject, found);
                if !signed {
                    self.signers.note_signer_outside(item, &mut found.findings);
                }
                !signed
            }
            ItemKind::Attestation { predicate_type } => {
                found.findings.others.insert(predicate_type);
                false
            }
            ItemKind::UnreadablePayload { .. } => {
                let signed = self.ask_keys(item, subject, found);
                found.findings.malformed |= !signed;
                !signed
            }
            ItemKind::Malformed { .. } => {
                found.findings.malformed = true;
                false
            }
            ItemKind::NotRead { cause } => {
                found.doubts.insert(Doubt::of_item(&cause));
                true
            }
            ItemKind::ImageSignature | ItemKind::SignedBlob | ItemKind::Other { .. } => false,
            _ => {
                found.doubts.insert(Doubt::of_unknown_kind());
                true
            }
        }
    }

    /// Asks every readable key of the trusted rings. Whether one of them signed the item.
    fn ask_keys(&self, item: &'a ItemFacts, subject: &'a Digest, found: &mut Found<'a>) -> bool {
        let mut signed = false;
        for ring in self.signers.rings {
            for key in self.signers.keys_of(ring) {
                let Some(verifier) = key.verifier else { continue };
                let refuses = |claim: &Claim| self.refuses(claim);
                let standing = self.signers.standing(key, &verifier, item, subject, &refuses);
                signed |= !matches!(standing, Standing::NotSigned | Standing::MayCount(_));
                found.findings.note(&standing, ring, key);
                match standing {
                    Standing::Counts(claim) => match self.attested(item, subject, ring, key, claim) {
                        Ok(attested) => found.attestations.push(attested),
                        Err(doubt) => found.doubt(doubt),
                    },
                    Standing::MayCount(doubt) => found.doubt(doubt),
                    Standing::Discounted(..) | Standing::Invalid(_) | Standing::NotSigned => {}
                }
            }
        }
        signed
    }

    /// The claim says what was signed; the item only says what it is.
    fn refuses(&self, claim: &Claim) -> Option<String> {
        match &claim.kind {
            ClaimKind::Attestation { predicate_type } if (self.wanted)(predicate_type) => None,
            _ => Some("it is not an attestation of this type".into()),
        }
    }

    fn attested(
        &self,
        item: &'a ItemFacts,
        subject: &'a Digest,
        ring: &'a Arc<str>,
        key: &'a Key,
        claim: &'a Claim,
    ) -> Result<Attested<'a>, Doubt> {
        let reading = Reading::of(&item.item);
        let own = self.own_time(&reading)?;
        Ok(Attested {
            created: created(claim, own, self.signers.now),
            reading,
            is_gone: item.is_gone,
            subject,
            ring,
            key,
            claim,
        })
    }

    /// Every time at which what these attestations say of their age may change.
    pub(crate) fn boundaries(
        &self,
        places: &[&'a Knowledge],
        max_age: Option<Duration>,
    ) -> BTreeSet<Timestamp> {
        let mut times = BTreeSet::new();
        for (reading, claims) in self.claimed(places) {
            // What cannot be read has no time; that nobody can tell what it says is for `over` to find.
            let Ok(own) = self.own_time(&reading) else {
                continue;
            };
            for claim in claims {
                times.extend(own);
                if let Some(created) = created(claim, own, Timestamp::MAX) {
                    times.insert(created);
                    times.extend(max_age.and_then(|age| created.checked_add(age).ok()));
                }
            }
        }
        times
    }

    fn own_time(&self, reading: &Reading<'_>) -> Result<Option<Timestamp>, Doubt> {
        self.times.map_or(Ok(None), |times| times.of(reading))
    }

    /// The attestations of the type that somebody signed who may count. Others are not read: anybody may attach them.
    pub(crate) fn claimed(&self, places: &[&'a Knowledge]) -> Vec<(Reading<'a>, Vec<&'a Claim>)> {
        let is_wanted = |item: &&ItemFacts| match item.item.kind() {
            ItemKind::Attestation { predicate_type } => (self.wanted)(&predicate_type),
            _ => false,
        };
        let items = places.iter().flat_map(|knowledge| &knowledge.items);
        items
            .filter(is_wanted)
            .filter_map(|item| {
                let claims: Vec<_> = self.claims(item).collect();
                (!claims.is_empty()).then(|| (Reading::of(&item.item), claims))
            })
            .collect()
    }

    fn claims(&self, item: &'a ItemFacts) -> impl Iterator<Item = &'a Claim> {
        let keys = self
            .signers
            .rings
            .iter()
            .flat_map(|ring| self.signers.keys_of(ring));
        let verifiers: BTreeSet<_> = keys.filter_map(|key| key.verifier).collect();
        item.outcomes
            .iter()
            .filter_map(move |(verifier, outcome)| match outcome {
                verify::Outcome::Verified(claim) if verifiers.contains(verifier) => Some(&**claim),
                _ => None,
            })
    }
}

/// From when on the age of what is claimed is counted; None where nothing tells.
pub(crate) fn created(claim: &Claim, own: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let time = match claim.created_after {
        Some(certified) => certified,
        None => {
            let own = own.filter(|own| *own <= now)?;
            claim.times.earliest().map_or(own, |vouched| vouched.min(own))
        }
    };
    (time <= now).then_some(time)
}

/// A time after which no requirement dates the attestation; None where every one takes it for undated. One that nobody
/// can date may be the newest.
pub fn latest_date(item: &ItemFacts) -> Option<Timestamp> {
    let ItemKind::Attestation { predicate_type } = item.item.kind() else {
        return None;
    };
    let reading = Reading::of(&item.item);
    let own = OnceCell::new();
    let own = || *own.get_or_init(|| latest_own_time(&reading, &predicate_type));
    let date = |claim: &Claim| match claim.created_after {
        Some(certified) => Some(certified),
        None => created(claim, own(), Timestamp::MAX),
    };
    let verified = |(_, outcome): &(_, verify::Outcome)| match outcome {
        verify::Outcome::Verified(claim) => Some(date(claim)),
        _ => None,
    };
    let dates = item.outcomes.iter().filter_map(verified);
    dates.max().unwrap_or(Some(Timestamp::MAX))
}

fn latest_own_time(reading: &Reading<'_>, predicate_type: &str) -> Option<Timestamp> {
    let Ok(statement) = reading.statement() else {
        return Some(Timestamp::MAX);
    };
    match vex::is_predicate_type(predicate_type) {
        true => vex::latest(statement.predicate()),
        false => own_time::latest(statement.predicate(), own_time::ANY_PREDICATE),
    }
}

impl Found<'_> {
    /// What may make up for what is missing, or may hide a newer one.
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        if self.excess.is_none() && doubt.may_hide_a_newer_one() {
            self.excess = Some(doubt.clone());
        }
        self.doubts.insert(doubt);
    }

    /// When the newest one was made.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        let created = self.attestations.iter().filter_map(|attested| attested.created);
        created.max()
    }

    /// What the newest says. `check` says whether an attestation says what is asked for.
    pub(crate) fn decide(
        &self,
        max_age: Option<Duration>,
        now: Timestamp,
        check: impl Fn(&Attested<'_>) -> Check,
    ) -> Answer {
        let answer = match self.newest() {
            Some(time) => self.dated(time, max_age, now, check),
            None if self.attestations.is_empty() => match self.findings.reason(Reason::AttestationInvalid) {
                Some(reason) => self.fails(reason, None),
                None => Answer::Missing(self.findings.clone()),
            },
            None if max_age.is_some() => self.fails(
                Reason::AttestationUndated,
                Some(format!(
                    "found only what names no time that can be trusted, by {}",
                    signed_by(self.attestations.iter())
                )),
            ),
            None => self.undated(check),
        };
        if let (Answer::Holds(_), Some(forgotten)) = (&answer, self.forgotten)
            && self.newest().is_none_or(|newest| newest <= forgotten)
        {
            return Answer::CannotTell(Doubt::of_forgotten());
        }
        match (answer, &self.excess, self.doubts.first()) {
            (Answer::Holds(_), Some(doubt), _)
            | (Answer::Fails { .. } | Answer::Missing(_), _, Some(doubt)) => {
                Answer::CannotTell(doubt.clone())
            }
            (answer, ..) => answer,
        }
    }

    fn dated(
        &self,
        time: Timestamp,
        max_age: Option<Duration>,
        now: Timestamp,
        check: impl Fn(&Attested<'_>) -> Check,
    ) -> Answer {
        let newest = || {
            self.attestations
                .iter()
                .filter(|attested| attested.created == Some(time))
        };
        let expired = max_age.is_some_and(|age| time.checked_add(age).is_ok_and(|end| end <= now));
        if expired {
            let found = format!(
                "the newest is too old: it was made at {time}, by {}",
                signed_by(newest())
            );
            return self.fails(Reason::AttestationExpired, Some(found));
        }
        let mut keys = BTreeSet::new();
        for one in by_item(newest()).values() {
            match first_that_passes(one, &check) {
                Check::Passes(relied_on) => keys.extend(relied_on),
                Check::Fails(reason, found) => return self.fails(reason, Some(found)),
                Check::CannotTell(doubt) => return Answer::CannotTell(doubt),
            }
        }
        Answer::Holds(keys)
    }

    fn undated(&self, check: impl Fn(&Attested<'_>) -> Check) -> Answer {
        let mut failure = None;
        let mut doubt = None;
        for one in by_item(self.attestations.iter()).values() {
            match first_that_passes(one, &check) {
                Check::Passes(keys) => return Answer::Holds(keys),
                Check::Fails(reason, found) => {
                    failure.get_or_insert((reason, found));
                }
                Check::CannotTell(unread) => {
                    doubt.get_or_insert(unread);
                }
            }
        }
        if let Some(doubt) = doubt {
            return Answer::CannotTell(doubt);
        }
        match failure {
            Some((reason, found)) => self.fails(reason, Some(found)),
            None => Answer::Missing(self.findings.clone()),
        }
    }

    fn fails(&self, reason: Reason, found: Option<String>) -> Answer {
        Answer::Fails {
            reason,
            found,
            findings: self.findings.clone(),
        }
    }
}

fn by_item<'a, 'f: 'a>(
    attestations: impl Iterator<Item = &'a Attested<'f>>,
) -> BTreeMap<&'f Digest, Vec<&'a Attested<'f>>> {
    let mut items: BTreeMap<&Digest, Vec<&Attested<'_>>> = BTreeMap::new();
    for attested in attestations {
        items.entry(&attested.claim.evidence).or_default().push(attested);
    }
    items
}

/// One item may have several signers that count, when a key is in several rings: one of them is enough.
fn first_that_passes(signers: &[&Attested<'_>], check: &impl Fn(&Attested<'_>) -> Check) -> Check {
    let mut other = None;
    let mut keys = BTreeSet::new();
    let mut passed = false;
    for attested in signers {
        match check(attested) {
            Check::Passes(others) => {
                passed = true;
                keys.extend(attested.key.fingerprint);
                keys.extend(others);
            }
            fails_or_unread => {
                other.get_or_insert(fails_or_unread);
            }
        }
    }
    match other {
        Some(other) if !passed => other,
        _ => Check::Passes(keys),
    }
}

fn signed_by<'a, 'f: 'a>(attestations: impl Iterator<Item = &'a Attested<'f>>) -> String {
    let names: BTreeSet<&str> = attestations.map(|attested| &*attested.key.name).collect();
    let names: Vec<&str> = names.into_iter().take(3).collect();
    format!("SigningKey {}", names.join(", "))
}
