//! The requirement `provenance {signedBy, builderId, sourceRepository, sourceRef, maxAge}` over SLSA provenance. Which
//! attestation decides is in `attested`, how provenance is read in `slsa`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::Reason;
use image::Digest;
use jiff::Timestamp;

use crate::attestation::MaxAge;
use crate::attested::{Attested, Check, Search};
use crate::facts::DigestFacts;
use crate::memo::Memo;
use crate::own_time::OwnTimes;
use crate::rule::{self, Circumstances, Ruling};
use crate::slsa;

/// The requirement, checked: a builder or a repository is asked for, and a reference only of a repository.
#[derive(Clone, Debug)]
pub(crate) struct ProvenanceRule {
    pub(crate) rings: Vec<Arc<str>>,
    pub(crate) builder: Option<Arc<str>>,
    /// In the form of [`slsa::repository`].
    pub(crate) repository: Option<Arc<str>>,
    pub(crate) reference: Option<Arc<str>>,
    pub(crate) max_age: Option<MaxAge>,
    pub(crate) times: OwnTimes,
    /// By item: what its provenance says, or why it cannot be understood.
    pub(crate) memo: Memo<Digest, Result<Arc<slsa::Provenance>, Arc<str>>>,
}

fn is_provenance(predicate_type: &str) -> bool {
    slsa::PREDICATE_TYPES.contains(&predicate_type)
}

impl ProvenanceRule {
    pub(crate) fn rings(&self) -> &[Arc<str>] {
        &self.rings
    }

    pub(crate) fn judge(&self, digest: &DigestFacts<'_>, circumstances: &Circumstances<'_>) -> Ruling {
        let search = self.search(circumstances);
        rule::judge_attested(digest, circumstances, Reason::AttestationMissing, |group| {
            rule::newest(&search, group, self.length(), |attested| self.check(attested))
        })
    }

    pub(crate) fn newest(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> Option<Timestamp> {
        self.search(circumstances)
            .over(&rule::all_places(digest))
            .newest()
    }

    pub(crate) fn boundaries(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> BTreeSet<Timestamp> {
        self.search(circumstances)
            .boundaries(&rule::all_places(digest), self.length())
    }

    fn length(&self) -> Option<Duration> {
        self.max_age.as_ref().map(|age| age.length)
    }

    fn search<'a>(&'a self, circumstances: &Circumstances<'a>) -> Search<'a> {
        Search {
            signers: circumstances.signers(&self.rings),
            wanted: &is_provenance,
            times: Some(&self.times),
        }
    }

    fn check(&self, attested: &Attested<'_>) -> Check {
        let read = self.memo.get(attested.claim.evidence.clone(), || {
            let statement = attested.reading.statement()?;
            let read = slsa::read(&statement.predicate_type, statement.predicate());
            Ok(read.map(Arc::new).map_err(Arc::from))
        });
        let by = format!("the one by SigningKey {}", attested.key.name);
        match read {
            Err(doubt) => Check::CannotTell(doubt),
            Ok(Err(why)) => Check::Fails(
                Reason::AttestationInvalid,
                format!("{by} cannot be understood: {why}"),
            ),
            Ok(Ok(provenance)) => match self.mismatch(&provenance) {
                Some(found) => Check::Fails(Reason::AttestationRejected, format!("{by} names {found}")),
                None => Check::Passes(BTreeSet::new()),
            },
        }
    }

    /// What the provenance names instead of what is asked for. Every source must be the one that is asked for: with two,
    /// nobody knows which one made the image.
    fn mismatch(&self, provenance: &slsa::Provenance) -> Option<String> {
        if self
            .builder
            .as_deref()
            .is_some_and(|builder| builder != provenance.builder)
        {
            return Some(format!("the builder {}", provenance.builder));
        }
        let wanted = self.repository.as_deref()?;
        if provenance.sources.is_empty() {
            return Some("no source".into());
        }
        if let Some(other) = provenance
            .sources
            .iter()
            .find(|source| source.repository != wanted)
        {
            return Some(format!("the source {}", other.repository));
        }
        let reference = self.reference.as_deref()?;
        let mut named = provenance
            .sources
            .iter()
            .filter_map(|source| source.reference.as_deref());
        match (named.clone().find(|name| *name != reference), named.next()) {
            (Some(other), _) => Some(format!("the source reference {other}")),
            (None, None) => Some("no source reference".into()),
            (None, Some(_)) => None,
        }
    }
}
