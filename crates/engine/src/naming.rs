//! Whom a message names as the untrusted signer. Nothing is decided by it, and each guess costs a verification.

use std::collections::BTreeSet;

use verify::Verifier;

use crate::core::Engine;
use crate::subject::SubjectKey;

/// So many guesses are made for all signatures of one subject together, or one for each.
const GUESSES: usize = 64;

impl Engine {
    /// The keys that may have signed what no trusted key did: those that bundles name, then the first by name. Who they are
    /// depends on what is, never on what was asked before.
    pub(crate) fn verifiers_to_name(&self, key: &SubjectKey) -> Vec<Verifier> {
        let Some(subject) = self.subjects.get(key) else {
            return Vec::new();
        };
        let each = GUESSES / subject.items().count().max(1);
        let hints: BTreeSet<_> = subject.items().filter_map(|item| item.item.key_hint()).collect();
        let mut verifiers = self.keys.verifiers_of(&hints);
        verifiers.truncate(each.max(1));
        verifiers.extend(
            self.keys
                .first_verifiers(each.saturating_sub(verifiers.len()))
                .cloned(),
        );
        verifiers
    }
}
