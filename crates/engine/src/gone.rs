//! Violations of what stopped running. An image whose last pod goes and comes back while its registry
//! says nothing is still Violating: nobody washes it by a restart of its pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use image::{Digest, Repository};
use policy::Judgement;

use crate::subject::{JudgementKey, SubjectKey};

/// So many subjects are remembered; beyond it the one that went first is forgotten.
const LIMIT: usize = 10_000;

/// The violations of a subject.
type Violations = Vec<(JudgementKey, Judgement)>;

/// What ran, and in which namespace where it was looked up for pods of one: pods that come back with other pull secrets
/// are still those of that namespace.
type Place = (Repository, Digest, Option<Arc<str>>);

/// Violations by what ran, bounded.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    violations: HashMap<Place, (u64, Violations)>,
    in_order: BTreeMap<u64, Place>,
    last: u64,
}

fn place(subject: &SubjectKey) -> Place {
    let namespace = subject
        .keychain
        .as_ref()
        .map(|keychain| keychain.namespace.clone());
    (subject.repository.clone(), subject.digest.clone(), namespace)
}

impl Gone {
    /// The subject does not run any more and was Violating by these.
    pub(crate) fn keep(&mut self, subject: &SubjectKey, violations: Violations) {
        if violations.is_empty() {
            // What was Violating by other pull secrets of the namespace stays known.
            return;
        }
        let mut violations = violations;
        let known = self.take(subject);
        let is_newer = |name: &JudgementKey| violations.iter().any(|(newer, _)| newer == name);
        let older: Violations = known.into_iter().filter(|(name, _)| !is_newer(name)).collect();
        violations.extend(older);
        self.last += 1;
        self.in_order.insert(self.last, place(subject));
        self.violations.insert(place(subject), (self.last, violations));
        if self.in_order.len() > LIMIT
            && let Some((_, first)) = self.in_order.pop_first()
        {
            self.violations.remove(&first);
        }
    }

    /// The subject runs again.
    pub(crate) fn take(&mut self, subject: &SubjectKey) -> Violations {
        match self.violations.remove(&place(subject)) {
            Some((place, violations)) => {
                self.in_order.remove(&place);
                violations
            }
            None => Violations::new(),
        }
    }

    /// The policy, or what it trusts, is another one: what it said does not hold any more.
    pub(crate) fn forget_policy(&mut self, policy: &str) {
        for (_, violations) in self.violations.values_mut() {
            violations.retain(|(judgement, _)| *judgement.policy != *policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: usize) -> SubjectKey {
        SubjectKey::of_the_operator(
            "r.example/app".parse::<image::Reference>().unwrap().repository,
            image::Digest::sha256(&number.to_be_bytes()),
        )
    }

    fn violation(policy: &str) -> (JudgementKey, Judgement) {
        let key = JudgementKey {
            policy: policy.into(),
            pinned: false,
            exceptions: Vec::new(),
        };
        let judgement = Judgement {
            verdict: api::Verdict::Violating,
            reason: api::Reason::SignatureMissing,
            requirement: None,
            message: String::new(),
            valid_until: None,
            becomes: None,
            relied_on: Vec::new(),
            excepted: None,
        };
        (key, judgement)
    }

    /// B43. Weakened once: with only the newest kept, what was Violating before is not known any more.
    #[test]
    fn what_was_violating_by_one_keychain_stays_known_when_another_one_goes() {
        let with = |secret: &str| {
            subject(1).with(Arc::new(crate::Keychain {
                namespace: "shop".into(),
                holder: crate::KeychainHolder::Secrets(vec![secret.into()]),
            }))
        };
        let mut gone = Gone::default();
        gone.keep(&with("pull"), vec![violation("one")]);
        gone.keep(&with("broken"), Vec::new());
        gone.keep(&with("other"), vec![violation("two")]);
        let known = gone.take(&with("new"));
        let mut policies: Vec<&str> = known.iter().map(|(judgement, _)| &*judgement.policy).collect();
        policies.sort_unstable();
        assert_eq!(policies, ["one", "two"]);
    }

    #[test]
    fn beyond_the_limit_the_first_that_went_is_forgotten() {
        let mut gone = Gone::default();
        for number in 0..=LIMIT {
            gone.keep(&subject(number), vec![violation("prod")]);
        }
        assert_eq!(gone.violations.len(), LIMIT);
        assert!(gone.take(&subject(0)).is_empty());
        assert_eq!(gone.take(&subject(1)).len(), 1);
        assert!(gone.take(&subject(1)).is_empty(), "it is handed over once");
    }

    #[test]
    fn what_an_edited_policy_said_is_forgotten_and_nothing_else() {
        let mut gone = Gone::default();
        gone.keep(&subject(1), vec![violation("prod"), violation("other")]);
        gone.forget_policy("prod");
        let left = gone.take(&subject(1));
        assert_eq!(left.len(), 1);
        assert_eq!(&*left[0].0.policy, "other");
    }
}
