//! Policies that came before their keys. Whoever applies both at once does not choose which of them arrives first: a new
//! version whose keys are not there waits for them a moment, so that nobody is told that they are missing. Until then the
//! version before it decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use policy::CompiledPolicy;

use crate::core::Engine;
use crate::fact::{Fact, PolicyFacts};
use crate::schedule::after;

/// How long a version of a policy waits for its keys.
const KEYS_WITHIN: Duration = Duration::from_secs(5);

/// The policies that wait.
#[derive(Debug, Default)]
pub(crate) struct LateKeys {
    waiting: BTreeMap<Arc<str>, Waiting>,
    /// When policies went of late: one that is made anew at once leaves nothing uncovered in between.
    went: BTreeMap<Arc<str>, Timestamp>,
}

#[derive(Debug)]
struct Waiting {
    facts: Box<PolicyFacts>,
    rings: Vec<Arc<str>>,
    until: Timestamp,
}

impl LateKeys {
    /// The fact, where it is to be taken in now.
    pub(crate) fn admit(&mut self, fact: Fact, engine: &Engine, now: Timestamp) -> Option<Fact> {
        match fact {
            Fact::Policy(facts) => {
                let until = self.waiting.remove(&facts.name).map(|waiting| waiting.until);
                let rings = engine.rings_of_new_version(&facts);
                if self.went.contains_key(&facts.name) || !engine.lacks_key(&rings) {
                    return Some(Fact::Policy(facts));
                }
                let until = until.unwrap_or_else(|| after(now, KEYS_WITHIN));
                let waiting = Waiting { facts, rings, until };
                self.waiting.insert(waiting.facts.name.clone(), waiting);
                None
            }
            Fact::PolicyGone(name) => {
                self.waiting.remove(&name);
                self.went.insert(name.clone(), now);
                Some(Fact::PolicyGone(name))
            }
            other => Some(other),
        }
    }

    /// The policies whose keys have come, and those that waited long enough.
    pub(crate) fn admitted(&mut self, engine: &Engine, now: Timestamp) -> Vec<Fact> {
        self.went.retain(|_, went| now < after(*went, KEYS_WITHIN));
        let is_admitted = |waiting: &Waiting| waiting.until <= now || !engine.lacks_key(&waiting.rings);
        let admitted = self.waiting.extract_if(.., |_, waiting| is_admitted(waiting));
        admitted.map(|(_, waiting)| Fact::Policy(waiting.facts)).collect()
    }

    /// When the next one has waited long enough.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }
}

impl Engine {
    /// The key rings that a new version of a policy names; none where it is known. While what exists is told for the first
    /// time, that a key is not there says nothing.
    fn rings_of_new_version(&self, facts: &PolicyFacts) -> Vec<Arc<str>> {
        let known = self.policies.get(&facts.name);
        if !self.synced || known.is_some_and(|known| known.generation == facts.generation) {
            return Vec::new();
        }
        let spec = facts.spec.as_ref().ok();
        let compiled = spec.and_then(|spec| CompiledPolicy::compile(&facts.name, spec).ok());
        compiled.map_or_else(Vec::new, |compiled| compiled.rings().cloned().collect())
    }

    fn lacks_key(&self, rings: &[Arc<str>]) -> bool {
        rings.iter().any(|ring| !self.keys.ring_is_usable(ring))
    }
}
