//! The SigningKeys as the engine holds them: each read once with its trust root, grouped into rings, each with
//! the stage that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use api::{Demand, Keyless, SigningKeySpec, Stage};
use policy::{Key, KeyRings, Spared, Veto};
use verify::{Fingerprint, IdentityMatcher, Pattern, PatternError, PublicKey, TrustRoot, Verifier};

use crate::fact::{KeyFacts, RevocationFacts};
use crate::report::RevocationReport;
use crate::revocations::Revocations;

/// One SigningKey object.
#[derive(Clone, Debug)]
pub(crate) struct KeyObject {
    pub(crate) facts: KeyFacts,
    /// Who answers for it, or what is wrong with the object.
    pub(crate) verifier: Result<Verifier, String>,
}

/// A TrustRoot object: the root, or what is wrong with it.
type Root = Result<Arc<TrustRoot>, String>;

/// Every SigningKey object, the trust roots that they name, and the revocations of their signers.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet {
    objects: BTreeMap<Arc<str>, KeyObject>,
    roots: BTreeMap<Arc<str>, Root>,
    revocations: Revocations,
    rings: KeyRings,
    /// Who answers for the readable keys of each ring, in order of name.
    verifiers: BTreeMap<Arc<str>, Vec<Verifier>>,
}

impl KeySet {
    /// Takes a new version of an object in; answers the rings whose keys differ now.
    pub(crate) fn insert(&mut self, facts: KeyFacts) -> BTreeSet<Arc<str>> {
        let verifier = self.read(&facts);
        let name = facts.name.clone();
        self.objects.insert(name, KeyObject { facts, verifier });
        self.regroup()
    }

    /// Forgets an object; answers the rings whose keys differ now.
    pub(crate) fn remove(&mut self, name: &str) -> BTreeSet<Arc<str>> {
        self.objects.remove(name);
        self.regroup()
    }

    /// Takes a new version of a revocation in; answers the rings whose keys differ now.
    pub(crate) fn revoke(&mut self, facts: RevocationFacts) -> BTreeSet<Arc<str>> {
        self.revocations.insert(facts);
        self.regroup()
    }

    /// Forgets a revocation; answers the rings whose keys differ now.
    pub(crate) fn forget_revocation(&mut self, name: &str) -> BTreeSet<Arc<str>> {
        self.revocations.remove(name);
        self.regroup()
    }

    /// The revocations, by name.
    pub(crate) fn revocations(&self) -> impl Iterator<Item = &Arc<str>> {
        self.revocations.names()
    }

    /// What is said of a revocation; None where it is gone.
    pub(crate) fn revocation_report(&self, name: &str) -> Option<RevocationReport> {
        self.revocations.report(name, self.names_of(&[name.to_owned()]))
    }

    /// The fingerprint of a key that is Revoked, where no KeyRevocation is there that would outlast it: a Hold, which
    /// anybody who keeps the keys may delete, would not.
    pub(crate) fn lacks_revocation(&self, name: &str) -> Option<String> {
        let object = self.objects.get(name)?;
        let fingerprint = object.fingerprint()?.to_string();
        let lasts = self.revocations.stage(&fingerprint) == Some(Stage::Revoked);
        (object.stage() == Some(Stage::Revoked) && !lasts).then_some(fingerprint)
    }

    /// Takes in what a TrustRoot holds, None where it is gone, and reads the keys anew that name it; answers the rings
    /// whose keys differ now.
    pub(crate) fn set_trust_root(&mut self, name: Arc<str>, root: Option<Root>) -> BTreeSet<Arc<str>> {
        match root {
            Some(root) => {
                let root = root.map(|root| Arc::new(TrustRoot::clone(&root).named(&name)));
                self.roots.insert(name.clone(), root)
            }
            None => self.roots.remove(&name),
        };
        for key in self.naming(&name) {
            let verifier = self.objects.get(&key).map(|object| self.read(&object.facts));
            if let (Some(object), Some(verifier)) = (self.objects.get_mut(&key), verifier) {
                object.verifier = verifier;
            }
        }
        self.regroup()
    }

    /// The keys that name a trust root, or are read by it for want of a name.
    pub(crate) fn naming(&self, root: &str) -> Vec<Arc<str>> {
        let naming = self
            .objects
            .values()
            .filter(|object| object.trust_root() == Some(root));
        naming.map(|object| object.facts.name.clone()).collect()
    }

    pub(crate) fn rings(&self) -> &KeyRings {
        &self.rings
    }

    pub(crate) fn object(&self, name: &str) -> Option<&KeyObject> {
        self.objects.get(name)
    }

    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.objects.keys()
    }

    /// The SigningKeys with these fingerprints, by name.
    pub(crate) fn names_of(&self, fingerprints: &[String]) -> Vec<Arc<str>> {
        let is_one = |object: &KeyObject| {
            object
                .fingerprint()
                .is_some_and(|own| fingerprints.contains(&own.to_string()))
        };
        self.objects
            .iter()
            .filter(|(_, object)| is_one(object))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Who answers for the first readable keys, by name.
    pub(crate) fn first_verifiers(&self, limit: usize) -> impl Iterator<Item = &Verifier> {
        let readable = self
            .objects
            .values()
            .filter_map(|object| object.verifier.as_ref().ok());
        readable.take(limit)
    }

    /// Who answers for the readable keys with these fingerprints.
    pub(crate) fn verifiers_of(&self, fingerprints: &BTreeSet<Fingerprint>) -> Vec<Verifier> {
        let readable = self
            .objects
            .values()
            .filter_map(|object| object.verifier.as_ref().ok());
        readable
            .filter(|verifier| fingerprints.contains(&verifier.fingerprint()))
            .cloned()
            .collect()
    }

    /// Who answers for the readable keys of one ring.
    pub(crate) fn verifiers(&self, ring: &str) -> impl Iterator<Item = &Verifier> {
        self.verifiers.get(ring).into_iter().flatten()
    }

    /// The stage that counts for an object: the most restrictive of all with its fingerprint.
    pub(crate) fn effective_stage(&self, name: &str) -> Option<Stage> {
        let object = self.objects.get(name)?;
        let own = object.stage()?;
        let Some(fingerprint) = object.fingerprint() else {
            return Some(own);
        };
        let revoked = self.revocations.stage(&fingerprint.to_string());
        self.stages(fingerprint)
            .chain(revoked)
            .max_by_key(|stage| restriction(*stage))
    }

    /// What the objects with this fingerprint say.
    fn stages(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Stage> {
        self.objects
            .values()
            .filter(move |object| object.fingerprint() == Some(fingerprint))
            .filter_map(KeyObject::stage)
    }

    /// What a revocation leaves of what the signer signed: nothing where an object says for itself that it does not
    /// count yet, or not now.
    fn spared(&self, fingerprint: Fingerprint) -> Option<Arc<Spared>> {
        let counts_or_revoked = |stage| matches!(stage, Stage::Active | Stage::Retiring | Stage::Revoked);
        let may_be = self.stages(fingerprint).all(counts_or_revoked);
        may_be.then(|| self.revocations.spared(&fingerprint.to_string()))?
    }

    /// A ring without any key that can be read and could count.
    pub(crate) fn ring_is_usable(&self, ring: &str) -> bool {
        self.rings
            .rings
            .get(ring)
            .is_some_and(|keys| keys.iter().any(|key| key.verifier.is_some()))
    }

    /// Groups the keys anew; answers the rings whose keys differ. What is vetoed concerns all rings.
    fn regroup(&mut self) -> BTreeSet<Arc<str>> {
        let mut rings: BTreeMap<Arc<str>, Vec<Key>> = BTreeMap::new();
        self.verifiers.clear();
        for (name, object) in &self.objects {
            if let Some(ring) = object.ring() {
                rings
                    .entry(ring.into())
                    .or_default()
                    .push(self.evaluated(name, object));
                if let Ok(verifier) = &object.verifier {
                    let verifiers = self.verifiers.entry(ring.into()).or_default();
                    verifiers.push(verifier.clone());
                }
            }
        }
        let vetoes = self.objects.iter();
        let vetoes = vetoes
            .filter_map(|(name, object)| self.veto(name, object))
            .collect();
        let old = std::mem::replace(&mut self.rings, KeyRings { rings, vetoes });
        let is_vetoed_anew = old.vetoes != self.rings.vetoes;
        let names = old.rings.keys().chain(self.rings.rings.keys());
        names
            .filter(|ring| is_vetoed_anew || old.rings.get(*ring) != self.rings.rings.get(*ring))
            .cloned()
            .collect()
    }

    /// What a Revoked keyless SigningKey vetoes. Its trust root is not asked for: one that is missing lifts no veto.
    fn veto(&self, name: &Arc<str>, object: &KeyObject) -> Option<Veto> {
        let keyless = object.facts.spec.as_ref().ok()?.keyless.as_ref()?;
        let is_revoked = self.effective_stage(name) == Some(Stage::Revoked);
        is_revoked.then(|| Veto {
            name: name.clone(),
            matcher: identity(keyless).ok(),
            spared: object
                .fingerprint()
                .and_then(|fingerprint| self.spared(fingerprint)),
        })
    }

    fn evaluated(&self, name: &Arc<str>, object: &KeyObject) -> Key {
        let spec = object.facts.spec.as_ref().ok();
        Key {
            name: name.clone(),
            fingerprint: object.fingerprint(),
            verifier: object.verifier.as_ref().ok().map(Verifier::id),
            stage: self.effective_stage(name).unwrap_or(Stage::Other),
            spared: object
                .fingerprint()
                .and_then(|fingerprint| self.spared(fingerprint)),
            not_before: spec.and_then(|spec| spec.not_before.as_ref()).map(|time| time.0),
            not_after: spec.and_then(|spec| spec.not_after.as_ref()).map(|time| time.0),
        }
    }

    fn read(&self, facts: &KeyFacts) -> Result<Verifier, String> {
        let spec = facts
            .spec
            .as_ref()
            .map_err(|unreadable| unreadable.problem.clone())?;
        let log = demand("transparencyLog", spec.effective_transparency_log())?;
        let timestamp = demand("timestamp", spec.effective_timestamp())?;
        let root = spec
            .effective_trust_root()
            .map(|name| self.root(name))
            .transpose()?;
        let made = match (&spec.public_key, &spec.keyless) {
            (Some(key), None) => {
                let key = PublicKey::from_pem(&key.pem)
                    .map_err(|problem| format!("spec.publicKey.pem: {problem}"))?;
                Verifier::by_key_with(key, log, timestamp, root)
            }
            (None, Some(keyless)) => {
                let root = root.ok_or("spec.trustRoot: a keyless signer needs one")?;
                Verifier::keyless(identity(keyless)?, log, timestamp, root)
            }
            _ => return Err("spec must have one of publicKey and keyless".to_owned()),
        };
        made.map_err(|problem| format!("spec: {problem}"))
    }

    fn root(&self, name: &str) -> Root {
        match self.roots.get(name) {
            Some(Ok(root)) => Ok(root.clone()),
            Some(Err(problem)) => Err(format!(
                "spec.trustRoot: TrustRoot {name} cannot be used: {problem}"
            )),
            None if name == api::PUBLIC_GOOD => built_in().clone(),
            None => Err(format!(
                "spec.trustRoot: there is no TrustRoot {name}: create it, or name another one"
            )),
        }
    }
}

impl KeyObject {
    fn ring(&self) -> Option<&str> {
        match &self.facts.spec {
            Ok(spec) => Some(&spec.key_ring),
            Err(unreadable) => unreadable.key_ring.as_deref(),
        }
    }

    fn trust_root(&self) -> Option<&str> {
        self.facts
            .spec
            .as_ref()
            .ok()
            .and_then(SigningKeySpec::effective_trust_root)
    }

    /// The stage that the object itself says.
    fn stage(&self) -> Option<Stage> {
        self.facts.spec.as_ref().ok().map(|spec| spec.stage)
    }

    /// It is known although the trust root is missing: what is Revoked stays so.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        let spec = match (&self.verifier, &self.facts.spec) {
            (Ok(verifier), _) => return Some(verifier.fingerprint()),
            (Err(_), Ok(spec)) => spec,
            (Err(_), Err(_)) => return None,
        };
        match (&spec.public_key, &spec.keyless) {
            (Some(key), None) => Some(PublicKey::from_pem(&key.pem).ok()?.fingerprint()),
            (None, Some(keyless)) => {
                let root = spec.effective_trust_root()?;
                Some(verify::keyless_fingerprint(&identity(keyless).ok()?, root))
            }
            _ => None,
        }
    }
}

fn identity(keyless: &Keyless) -> Result<IdentityMatcher, String> {
    let issuer = pattern(
        "issuer",
        keyless.issuer.as_deref(),
        keyless.issuer_regex.as_deref(),
    )?;
    let subject = pattern(
        "subject",
        keyless.subject.as_deref(),
        keyless.subject_regex.as_deref(),
    )?;
    Ok(IdentityMatcher::new(issuer, subject))
}

fn pattern(field: &str, exact: Option<&str>, regex: Option<&str>) -> Result<Pattern, String> {
    let named = |field: String| move |problem: PatternError| format!("spec.keyless.{field}: {problem}");
    match (exact, regex) {
        (Some(text), None) => Pattern::exact(text).map_err(named(field.to_owned())),
        (None, Some(written)) => Pattern::regex(written).map_err(named(format!("{field}Regex"))),
        _ => Err(format!("spec.keyless must have one of {field} and {field}Regex")),
    }
}

fn demand(field: &str, demand: Demand) -> Result<verify::Demand, String> {
    match demand {
        Demand::Required => Ok(verify::Demand::Required),
        Demand::Optional => Ok(verify::Demand::Optional),
        Demand::Ignore => Ok(verify::Demand::Ignore),
        Demand::Other => Err(format!(
            "spec.{field} has a value that this version does not know; expected Required, Optional or Ignore"
        )),
    }
}

/// The root of the public-good instance of Sigstore, as it was when this version was built.
fn built_in() -> &'static Root {
    static ROOT: LazyLock<Root> = LazyLock::new(|| {
        let root = TrustRoot::public_good();
        root.map(Arc::new)
            .map_err(|problem| format!("the built-in root {} cannot be read: {problem}", api::PUBLIC_GOOD))
    });
    &ROOT
}

/// Of several objects with one key the most restrictive stage counts for all.
fn restriction(stage: Stage) -> u8 {
    match stage {
        Stage::Active => 0,
        Stage::Retiring => 1,
        Stage::Staged => 2,
        Stage::Other => 3,
        Stage::Disabled => 4,
        Stage::Revoked => 5,
    }
}
