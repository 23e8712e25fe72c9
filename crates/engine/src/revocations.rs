//! The KeyRevocations as the engine holds them: the stage that each puts a signer in, and what it leaves of the
//! signer's signatures. What the SigningKeys themselves say is in `keys`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EarlierSignatures, KeyRevocationSpec, Stage};
use image::Digest;
use policy::Spared;

use crate::fact::RevocationFacts;
use crate::report::RevocationReport;

/// Every KeyRevocation object, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    objects: BTreeMap<Arc<str>, RevocationFacts>,
}

impl Revocations {
    pub(crate) fn insert(&mut self, facts: RevocationFacts) {
        self.objects.insert(facts.name.clone(), facts);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.objects.remove(name);
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.objects.keys()
    }

    /// The stage that revocations put a signer in; None where there is none.
    pub(crate) fn stage(&self, fingerprint: &str) -> Option<Stage> {
        let stages = self.of(fingerprint).map(stage);
        stages.max_by_key(|stage| *stage == Stage::Revoked)
    }

    /// What is left of a signer's signatures; None where nothing is.
    pub(crate) fn spared(&self, fingerprint: &str) -> Option<Arc<Spared>> {
        let mut of_this = self.of(fingerprint);
        // There is one of a name; a second one, under a wrong name, is no reason to leave anything.
        let (Some(facts), None) = (of_this.next(), of_this.next()) else {
            return None;
        };
        let spared = spared(facts)?;
        (spared != Spared::default()).then(|| Arc::new(spared))
    }

    /// What is said of a revocation; None where it is gone. `keys`: the SigningKeys with its fingerprint.
    pub(crate) fn report(&self, name: &str, keys: Vec<Arc<str>>) -> Option<RevocationReport> {
        let facts = self.objects.get(name)?;
        let spared = spared(facts).unwrap_or_default();
        let problem = match &facts.spec {
            Err(problem) => Some(format!(
                "{problem}; the signer of this name is revoked, and nothing of it is accepted"
            )),
            Ok(spec) => misdated(spec, &spared),
        };
        Some(RevocationReport {
            name: facts.name.clone(),
            generation: facts.generation,
            problem,
            keys,
            honoured: i64::try_from(spared.honoured.len()).unwrap_or(i64::MAX),
            dated_before: spared.dated_before,
        })
    }

    /// The fingerprint that an object is about, which is its name.
    fn of<'a>(&'a self, fingerprint: &'a str) -> impl Iterator<Item = &'a RevocationFacts> {
        self.objects.values().filter(move |facts| {
            let written = facts.spec.as_ref().ok().map(|spec| spec.fingerprint.as_str());
            *facts.name == *fingerprint || written == Some(fingerprint)
        })
    }
}

/// What cannot be read revokes: somebody wanted the signer not to count.
fn stage(facts: &RevocationFacts) -> Stage {
    let spec = facts.spec.as_ref().ok();
    spec.map_or(Stage::Revoked, |spec| spec.reason.stage())
}

fn spared(facts: &RevocationFacts) -> Option<Spared> {
    let spec = facts.spec.as_ref().ok()?;
    let honoured: Result<BTreeSet<Digest>, _> = spec.honour_digests.iter().map(|text| text.parse()).collect();
    Some(Spared {
        // A list that cannot be read as a whole is read as none.
        honoured: honoured.unwrap_or_default(),
        dated_before: spec.accepted_before(facts.created),
    })
}

/// What is wrong with a time by which earlier signatures would be accepted.
fn misdated(spec: &KeyRevocationSpec, spared: &Spared) -> Option<String> {
    let wanted = spec.earlier_signatures == Some(EarlierSignatures::AcceptIfTimestamped);
    let written = spec
        .effective_from
        .as_ref()
        .map_or("nothing".to_owned(), |time| time.0.to_string());
    (wanted && spared.dated_before.is_none()).then(|| {
        format!(
            "spec.effectiveFrom: found {written}, expected a time that is not later than the creation of this object; \
             no earlier signature is accepted"
        )
    })
}
