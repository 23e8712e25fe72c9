//! The SigningKeys as the engine holds them: read once, grouped into rings, each with the stage
//! that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Demand, SigningKeySpec, Stage};
use policy::{Key, KeyRings};
use verify::{Fingerprint, PublicKey, TrustRoot};

use crate::fact::KeyFacts;

/// One SigningKey object.
#[derive(Debug)]
pub(crate) struct KeyObject {
    pub(crate) facts: KeyFacts,
    /// The key, or what is wrong with the object.
    pub(crate) public: Result<Arc<PublicKey>, String>,
}

/// What TrustRoots hold, by name, or why one cannot be used.
type TrustRoots = BTreeMap<Arc<str>, Result<Arc<TrustRoot>, String>>;

/// Every SigningKey object, and the trust roots that they name.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    objects: BTreeMap<Arc<str>, KeyObject>,
    rings: KeyRings,
    trust_roots: TrustRoots,
}

impl KeySet {
    /// Takes a new version of an object in; answers the rings whose keys differ now.
    pub(crate) fn insert(&mut self, facts: KeyFacts) -> BTreeSet<Arc<str>> {
        let public = read_facts(&facts, &self.trust_roots);
        self.objects
            .insert(facts.name.clone(), KeyObject { facts, public });
        self.regroup()
    }

    /// Takes in what a TrustRoot holds, None where it is gone, and reads the keys anew that name it; answers the rings
    /// whose keys differ now.
    pub(crate) fn set_trust_root(
        &mut self,
        name: Arc<str>,
        root: Option<Result<Arc<TrustRoot>, String>>,
    ) -> BTreeSet<Arc<str>> {
        match root {
            Some(root) => self.trust_roots.insert(name.clone(), root),
            None => self.trust_roots.remove(&name),
        };
        for object in self.objects.values_mut() {
            let spec = object.facts.spec.as_ref().ok();
            if spec.and_then(|spec| spec.effective_trust_root()) == Some(&*name) {
                object.public = read_facts(&object.facts, &self.trust_roots);
            }
        }
        self.regroup()
    }

    /// Forgets an object; answers the rings whose keys differ now.
    pub(crate) fn remove(&mut self, name: &str) -> BTreeSet<Arc<str>> {
        self.objects.remove(name);
        self.regroup()
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

    /// The first readable keys, by name.
    pub(crate) fn first_public_keys(&self, limit: usize) -> Vec<Arc<PublicKey>> {
        self.objects
            .values()
            .filter_map(|object| object.public.as_ref().ok().cloned())
            .take(limit)
            .collect()
    }

    /// The readable keys of one ring.
    pub(crate) fn public_keys(&self, ring: &str) -> impl Iterator<Item = &Arc<PublicKey>> {
        self.objects
            .values()
            .filter(move |object| object.ring() == Some(ring))
            .filter_map(|object| object.public.as_ref().ok())
    }

    /// The stage that counts for an object: the most restrictive of all with its fingerprint.
    pub(crate) fn effective_stage(&self, name: &str) -> Option<Stage> {
        let object = self.objects.get(name)?;
        let own = object.facts.spec.as_ref().ok()?.stage;
        let Ok(public) = &object.public else {
            return Some(own);
        };
        let fingerprint = public.fingerprint();
        self.objects
            .values()
            .filter(|other| other.fingerprint() == Some(fingerprint))
            .filter_map(|other| other.facts.spec.as_ref().ok().map(|spec| spec.stage))
            .max_by_key(|stage| restriction(*stage))
    }

    /// A ring without any key that can be read and could count.
    pub(crate) fn ring_is_usable(&self, ring: &str) -> bool {
        self.rings
            .rings
            .get(ring)
            .is_some_and(|keys| keys.iter().any(|key| key.fingerprint.is_some()))
    }

    fn regroup(&mut self) -> BTreeSet<Arc<str>> {
        let mut rings: BTreeMap<Arc<str>, Vec<Key>> = BTreeMap::new();
        for (name, object) in &self.objects {
            if let Some(ring) = object.ring() {
                rings
                    .entry(ring.into())
                    .or_default()
                    .push(self.evaluated(name, object));
            }
        }
        let old = std::mem::replace(&mut self.rings, KeyRings { rings });
        let names = old.rings.keys().chain(self.rings.rings.keys());
        names
            .filter(|ring| old.rings.get(*ring) != self.rings.rings.get(*ring))
            .cloned()
            .collect()
    }

    fn evaluated(&self, name: &Arc<str>, object: &KeyObject) -> Key {
        let spec = object.facts.spec.as_ref().ok();
        Key {
            name: name.clone(),
            fingerprint: object.fingerprint(),
            stage: self.effective_stage(name).unwrap_or(Stage::Other),
            not_before: spec.and_then(|spec| spec.not_before.as_ref()).map(|time| time.0),
            not_after: spec.and_then(|spec| spec.not_after.as_ref()).map(|time| time.0),
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

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.public.as_ref().ok().map(|public| public.fingerprint())
    }
}

fn read_facts(facts: &KeyFacts, trust_roots: &TrustRoots) -> Result<Arc<PublicKey>, String> {
    match &facts.spec {
        Ok(spec) => read(spec, trust_roots).map(Arc::new),
        Err(unreadable) => Err(unreadable.problem.clone()),
    }
}

/// The trust root that a key names; a key that names none needs none.
fn trust_root(spec: &SigningKeySpec, trust_roots: &TrustRoots) -> Result<Option<Arc<TrustRoot>>, String> {
    let Some(name) = spec.trust_root.as_deref() else {
        return Ok(None);
    };
    match trust_roots.get(name) {
        Some(Ok(root)) => Ok(Some(root.clone())),
        Some(Err(why)) => Err(format!("spec.trustRoot: TrustRoot {name} cannot be used: {why}")),
        None => Err(format!(
            "spec.trustRoot: there is no TrustRoot {name}; create it, or name another one"
        )),
    }
}

fn read(spec: &SigningKeySpec, trust_roots: &TrustRoots) -> Result<PublicKey, String> {
    trust_root(spec, trust_roots)?;
    let source = spec
        .public_key
        .as_ref()
        .ok_or("spec.publicKey is missing: this version knows no other source of trust")?;
    if [spec.effective_transparency_log(), spec.effective_timestamp()] != [Demand::Ignore; 2] {
        return Err(
            "spec.transparencyLog and spec.timestamp cannot be checked by this version: set both to Ignore"
                .to_owned(),
        );
    }
    PublicKey::from_pem(&source.pem).map_err(|problem| format!("spec.publicKey.pem: {problem}"))
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
