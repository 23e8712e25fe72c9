//! What an evaluation is given: everything known of one running image, and the keys.
//!
//! The types carry no clock and no network state; whoever fills them (the engine, the `check`
//! command) says honestly what it knows and what it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Reason, Stage};
use image::{Digest, Repository};
use jiff::Timestamp;
use verify::{Fingerprint, IdentityMatcher, Outcome, VerifierId};

use crate::exception::CompiledException;

/// Everything known of one image that runs.
#[derive(Clone, Debug)]
pub struct ImageFacts<'a> {
    /// The repository of the pod's spec; None where the spec's image does not parse.
    pub repository: Option<&'a Repository>,
    /// The pod's spec names a digest.
    pub pinned: bool,
    /// What runs.
    pub running: Running<'a>,
    /// The exceptions that are about violations of the policy by this image in its workload, those that are over included.
    pub exceptions: &'a [Arc<CompiledException>],
}

/// What is known of the digest that runs.
#[derive(Clone, Debug)]
pub enum Running<'a> {
    /// No digest yet: the container has not started.
    NotStarted,
    /// The digest cannot be told; the text says why and what would help.
    Unresolved(&'a str),
    /// This digest runs.
    Digest(DigestFacts<'a>),
}

/// What is known of one digest at one repository and of its relatives.
#[derive(Clone, Debug)]
pub struct DigestFacts<'a> {
    /// The digest that runs.
    pub own: &'a Knowledge,
    /// The indexes that are proven to list it, each with what is known of it.
    pub indexes: Vec<&'a Knowledge>,
    /// An index that may list it could not be read: a failure of the requirement cannot be told yet.
    pub index_gap: Option<&'a Gap>,
    /// Where what runs is itself an index: its runnable platform manifests (only filled where a
    /// covering policy accepts `Platform` alone).
    pub children: Vec<&'a Knowledge>,
}

/// What is known of the evidence about one digest at one repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Knowledge {
    /// The digest.
    pub digest: Digest,
    /// What the digest names.
    pub nature: Nature,
    /// Every item of evidence found, in any way of discovery, in order of id.
    pub items: Vec<ItemFacts>,
    /// Whether `items` holds every signature there is.
    pub completeness: Completeness,
    /// Whether `items` holds every attestation there is: they are looked for in one more way, where a policy asks
    /// for them.
    pub attestations: Completeness,
    /// What was deleted and forgotten since.
    pub forgotten: Forgotten,
}

/// By predicate type and fingerprint of the signer: attestations that were deleted and forgotten since are no newer than
/// this. What is not newer either is not known to be the newest.
pub type Forgotten = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Timestamp>>;

/// What a digest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Not read yet.
    NotRead,
    /// A manifest of one platform.
    Manifest,
    /// An index.
    Index,
}

/// Whether everything that exists was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// In one pass and with one credential the repository served the digest (hash-checked), and
    /// every way of discovery answered. Only this makes absence count.
    Complete,
    /// No pass is finished.
    NeverAsked,
    /// The last word is a gap: what is missing may exist.
    Incomplete(Gap),
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// RegistryUnavailable, RegistryDenied, RateLimited, EvidenceTooLarge, ImageNotFound or Pending.
    pub reason: Reason,
    /// What was asked and what came back, without times or counts that change by themselves.
    pub detail: Arc<str>,
}

/// One item of evidence with what each key makes of it.
#[derive(Clone, Debug)]
pub struct ItemFacts {
    /// The item (content-addressed).
    pub item: Arc<verify::Item>,
    /// What each verifier that was asked makes of it. One that is not here was not asked.
    pub outcomes: Vec<(VerifierId, Outcome)>,
    /// It is not found any more, and only remembered: it may worsen a verdict, and excuses nothing.
    pub is_gone: bool,
}

impl ItemFacts {
    /// What this verifier makes of the item; None where it was not asked.
    pub fn outcome(&self, verifier: &VerifierId) -> Option<&Outcome> {
        self.outcomes
            .iter()
            .find(|(asked, _)| asked == verifier)
            .map(|(_, outcome)| outcome)
    }
}

/// Items are equal where their content is: the id names it.
impl PartialEq for ItemFacts {
    fn eq(&self, other: &Self) -> bool {
        self.item.id() == other.item.id() && self.outcomes == other.outcomes
    }
}

/// What a revocation leaves of a signer's signatures; everything else that it signed does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spared {
    /// Images for which it goes on counting: running digests, or the digests that were signed.
    pub honoured: BTreeSet<Digest>,
    /// What others date before this goes on counting.
    pub dated_before: Option<Timestamp>,
}

/// One SigningKey as evaluation sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The name of the SigningKey.
    pub name: Arc<str>,
    /// None where the key's text cannot be read: what it signed cannot be told.
    pub fingerprint: Option<Fingerprint>,
    /// Who answers for it, with everything that the answer rests on; None where the key cannot be read.
    pub verifier: Option<VerifierId>,
    /// The stage that counts (the most restrictive of all objects with this fingerprint).
    pub stage: Stage,
    /// What goes on counting although the stage is Disabled or Revoked.
    pub spared: Option<Arc<Spared>>,
    /// Before this the key does not count.
    pub not_before: Option<Timestamp>,
    /// From this on the key does not count.
    pub not_after: Option<Timestamp>,
}

/// Key rings by name, each with its keys in order of name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyRings {
    /// The rings.
    pub rings: BTreeMap<Arc<str>, Vec<Key>>,
    /// The keyless SigningKeys of any ring that are Revoked, in order of name.
    pub vetoes: Vec<Veto>,
}

/// A Revoked keyless SigningKey: what an identity signed that it matches counts for nobody, whichever other SigningKey
/// matches it as well, and under whichever trust root.
#[derive(Clone, Debug, PartialEq)]
pub struct Veto {
    /// The name of the SigningKey.
    pub name: Arc<str>,
    /// The identities; None where they cannot be read, so that any may be meant.
    pub matcher: Option<IdentityMatcher>,
    /// What goes on counting although it is Revoked.
    pub spared: Option<Arc<Spared>>,
}
