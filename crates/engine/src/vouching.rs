//! What one subject adds to the totals of keys: whose signatures it carries, and for which rings nothing can be told.
//! What of it rests on a signer alone is counted by workload, in [`crate::share`].

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Verdict;
use policy::ItemFacts;
use verify::{Outcome, VerifierId};

use crate::core::Engine;
use crate::subject::{Judged, Subject, SubjectKey};

/// What one subject adds to the totals of keys.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Vouching {
    /// The rings that a covering policy trusts, each with the verifiers of it that vouch for a running image.
    pub(crate) vouched: Vec<(Arc<str>, VerifierId)>,
    /// Such rings, where it cannot be told whether an image that runs or would start rests on a key of them.
    pub(crate) undecided: Vec<Arc<str>>,
}

impl Vouching {
    pub(crate) fn is_nothing(&self) -> bool {
        self.vouched.is_empty() && self.undecided.is_empty()
    }
}

impl Engine {
    /// What the subject adds to the totals of keys.
    pub(crate) fn vouching_of(&self, key: &SubjectKey) -> Vouching {
        let Some(subject) = self.subjects.get(key).filter(|held| !held.covering.is_empty()) else {
            return Vouching::default();
        };
        let runs = self.decides_for_somebody(subject);
        let is_open = subject.is_undecided() || subject.judgements.values().any(is_unsettled);
        let is_asked_about = runs || is_open && self.decides_some_start(subject);
        if !is_asked_about {
            return Vouching::default();
        }
        let mut vouching = Vouching::default();
        for ring in self.trusted_rings(subject) {
            if is_open {
                vouching.undecided.push(ring.clone());
            }
            let verifiers: BTreeSet<VerifierId> =
                self.keys.verifiers(ring).map(verify::Verifier::id).collect();
            let vouching_ones = verifiers.into_iter().filter(|id| runs && vouches(subject, id));
            vouching
                .vouched
                .extend(vouching_ones.map(|id| (ring.clone(), id)));
        }
        vouching.vouched.shrink_to_fit();
        vouching.undecided.shrink_to_fit();
        vouching
    }

    /// The rings that a covering policy trusts.
    pub(crate) fn trusted_rings<'a>(&'a self, subject: &'a Subject) -> BTreeSet<&'a Arc<str>> {
        let covering = subject.covering.iter();
        let versions = covering.filter_map(|name| self.policies.get(name)?.in_force.as_ref());
        versions.flat_map(|version| version.compiled.rings()).collect()
    }
}

fn is_unsettled(judged: &Judged) -> bool {
    judged.judgement.verdict == Verdict::Unknown || judged.stale_since.is_some()
}

fn vouches(subject: &Subject, verifier: &VerifierId) -> bool {
    let verified = |item: &ItemFacts| matches!(item.outcome(verifier), Some(Outcome::Verified(_)));
    subject.knowledge().flat_map(|known| &known.items).any(verified)
}
