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
}

#[derive(Debug)]
struct Waiting {
    facts: Box<PolicyFacts>,
    until: Timestamp,
}

impl LateKeys {
    /// The fact, where it is to be taken in now.
    pub(crate) fn admit(&mut self, fact: Fact, engine: &Engine, now: Timestamp) -> Option<Fact> {
        match fact {
            Fact::Policy(facts) => {
                let until = self.waiting.remove(&facts.name).map(|waiting| waiting.until);
                if !engine.lacks_keys_of(&facts) {
                    return Some(Fact::Policy(facts));
                }
                let until = until.unwrap_or_else(|| after(now, KEYS_WITHIN));
                self.waiting.insert(facts.name.clone(), Waiting { facts, until });
                None
            }
            Fact::PolicyGone(name) => {
                self.waiting.remove(&name);
                Some(Fact::PolicyGone(name))
            }
            other => Some(other),
        }
    }

    /// The policies whose keys have come, and those that waited long enough.
    pub(crate) fn admitted(&mut self, engine: &Engine, now: Timestamp) -> Vec<Fact> {
        let is_admitted = |waiting: &Waiting| waiting.until <= now || !engine.lacks_keys_of(&waiting.facts);
        let admitted = self.waiting.extract_if(.., |_, waiting| is_admitted(waiting));
        admitted.map(|(_, waiting)| Fact::Policy(waiting.facts)).collect()
    }

    /// When the next one has waited long enough.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }
}

impl Engine {
    /// Whether this is a new version of a policy that names key rings in which there is no usable key. While what exists
    /// is told for the first time that says nothing.
    fn lacks_keys_of(&self, facts: &PolicyFacts) -> bool {
        let is_known = self
            .policies
            .get(&facts.name)
            .is_some_and(|known| known.generation == facts.generation);
        if !self.synced || is_known {
            return false;
        }
        let compiled = facts
            .spec
            .as_ref()
            .ok()
            .map(|spec| CompiledPolicy::compile(&facts.name, spec));
        compiled.is_some_and(|compiled| {
            compiled.is_ok_and(|compiled| compiled.rings().any(|ring| !self.keys.ring_is_usable(ring)))
        })
    }
}
