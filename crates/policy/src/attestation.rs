//! The requirement `attestation {predicateType, signedBy, maxAge, validations}`: an attestation of one type of which
//! every expression is true. Which attestation decides is in `attested`, what expressions mean in `expression`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::Reason;
use image::{Digest, Repository};
use jiff::Timestamp;
use serde_json::{Value, json};
use verify::{Statement, VerifierId};

use crate::attested::{Attested, Check, Search};
use crate::expression::{Evaluation, Expression, Inputs};
use crate::facts::DigestFacts;
use crate::memo::Memo;
use crate::own_time::{self, OwnTimes};
use crate::rule::{self, Circumstances, Ruling};

/// The requirement, checked.
#[derive(Clone, Debug)]
pub(crate) struct AttestationRule {
    predicate_type: Arc<str>,
    rings: Vec<Arc<str>>,
    max_age: Option<MaxAge>,
    validations: Arc<[Validation]>,
    times: OwnTimes,
    memo: Memo<Evidence, Check>,
}

/// How old an attestation may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaxAge {
    pub(crate) length: Duration,
    /// As the policy writes it.
    pub(crate) text: Arc<str>,
}

/// One expression that must be true.
#[derive(Debug)]
pub(crate) struct Validation {
    pub(crate) expression: Expression,
    /// What to say where it is not.
    pub(crate) message: Option<Arc<str>>,
}

/// Everything that the expressions are evaluated over, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Evidence {
    item: Digest,
    subject: Digest,
    repository: Repository,
    verifier: VerifierId,
    ring: Arc<str>,
    key: Arc<str>,
}

impl AttestationRule {
    pub(crate) fn new(
        predicate_type: Arc<str>,
        rings: Vec<Arc<str>>,
        max_age: Option<MaxAge>,
        validations: Vec<Validation>,
    ) -> Self {
        Self {
            predicate_type,
            rings,
            max_age,
            validations: validations.into(),
            times: OwnTimes::under(own_time::ANY_PREDICATE),
            memo: Memo::default(),
        }
    }

    pub(crate) fn rings(&self) -> &[Arc<str>] {
        &self.rings
    }

    pub(crate) fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    pub(crate) fn max_age(&self) -> Option<&MaxAge> {
        self.max_age.as_ref()
    }

    pub(crate) fn judge(&self, digest: &DigestFacts<'_>, circumstances: &Circumstances<'_>) -> Ruling {
        let wanted = |predicate_type: &str| predicate_type == &*self.predicate_type;
        let search = self.search(circumstances, &wanted);
        let check = |attested: &Attested<'_>| self.check(attested, circumstances.repository);
        rule::judge_attested(digest, circumstances, Reason::AttestationMissing, |group| {
            rule::newest(&search, group, self.length(), check)
        })
    }

    pub(crate) fn newest(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> Option<Timestamp> {
        let wanted = |predicate_type: &str| predicate_type == &*self.predicate_type;
        self.search(circumstances, &wanted)
            .over(&rule::all_places(digest))
            .newest()
    }

    pub(crate) fn boundaries(
        &self,
        digest: &DigestFacts<'_>,
        circumstances: &Circumstances<'_>,
    ) -> BTreeSet<Timestamp> {
        let wanted = |predicate_type: &str| predicate_type == &*self.predicate_type;
        self.search(circumstances, &wanted)
            .boundaries(&rule::all_places(digest), self.length())
    }

    fn length(&self) -> Option<Duration> {
        self.max_age.as_ref().map(|age| age.length)
    }

    fn search<'a>(
        &'a self,
        circumstances: &Circumstances<'a>,
        wanted: &'a dyn Fn(&str) -> bool,
    ) -> Search<'a> {
        Search {
            signers: circumstances.signers(&self.rings),
            wanted,
            times: Some(&self.times),
        }
    }

    fn check(&self, attested: &Attested<'_>, repository: &Repository) -> Check {
        let evidence = Evidence {
            item: attested.claim.evidence.clone(),
            subject: attested.subject.clone(),
            repository: repository.clone(),
            verifier: attested.claim.verifier,
            ring: attested.ring.clone(),
            key: attested.key.name.clone(),
        };
        let checked = self.memo.get(evidence, || {
            let statement = attested.reading.statement()?;
            Ok(self.evaluate(attested, &statement, repository))
        });
        checked.unwrap_or_else(Check::CannotTell)
    }

    fn evaluate(&self, attested: &Attested<'_>, statement: &Statement, repository: &Repository) -> Check {
        let signer = signer(attested);
        let image = json!({
            "registry": repository.registry(),
            "repository": repository.as_str(),
            "digest": attested.subject.to_string(),
        });
        let inputs = Inputs {
            statement: &statement.value,
            predicate: statement.predicate(),
            signer: &signer,
            image: &image,
        };
        for (at, validation) in self.validations.iter().enumerate() {
            let failed = match validation.expression.evaluate(&inputs) {
                Evaluation::True => continue,
                Evaluation::False => None,
                Evaluation::Failed(why) => Some(why),
            };
            return Check::Fails(
                Reason::AttestationRejected,
                told(at, validation, failed, attested),
            );
        }
        Check::Passes(BTreeSet::new())
    }
}

fn told(at: usize, validation: &Validation, failed: Option<String>, attested: &Attested<'_>) -> String {
    let which = match &validation.message {
        Some(message) => format!("{message} (validations[{at}])"),
        None => format!("validations[{at}] is not true"),
    };
    let why = failed
        .map(|why| format!(", since it has no value: {why}"))
        .unwrap_or_default();
    format!(
        "the one by SigningKey {} is not accepted: {which}{why}",
        attested.key.name
    )
}

/// Who signed, as expressions see it.
fn signer(attested: &Attested<'_>) -> Value {
    let mut signer = json!({
        "keyRing": &**attested.ring,
        "key": &*attested.key.name,
        "fingerprint": attested.claim.signer.to_string(),
    });
    if let (Some(identity), Some(fields)) = (&attested.claim.identity, signer.as_object_mut()) {
        fields.insert("issuer".into(), identity.issuer.as_str().into());
        fields.insert("subject".into(), identity.subject.as_str().into());
        let extensions = identity.extensions.iter();
        let extensions = extensions.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        fields.insert("extensions".into(), Value::Object(extensions.collect()));
    }
    signer
}
