//! From `spec.require` to rules that can be evaluated. A kind that this version does not know, or a part of one that it
//! cannot evaluate, is an error that names the field, never skipped.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{
    AttestationRequirement, ImagePolicySpec, MaxSeverity, ProvenanceRequirement, Requirement,
    SignatureRequirement, TrustedRequirement, Validation as Written, VulnerabilitiesRequirement,
};

use crate::attestation::{AttestationRule, MaxAge, Validation};
use crate::compile::{Flaw, unexpected};
use crate::expression::Expression;
use crate::memo::Memo;
use crate::own_time::OwnTimes;
use crate::provenance::ProvenanceRule;
use crate::rule::{Kind, Rule};
use crate::scan;
use crate::signature::SignatureRule;
use crate::slsa;
use crate::trusted::TrustedRule;
use crate::vulnerabilities::{Allowed, VulnerabilitiesRule};

const KINDS: &str = "exactly one kind: signature, attestation, provenance, vulnerabilities or trusted";
/// The predicate type of signatures in bundles.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Reads every requirement.
pub(crate) fn rules(spec: &ImagePolicySpec) -> Result<Vec<Rule>, Flaw> {
    if spec.require.is_empty() {
        return Err(unexpected("spec.require", "no requirement", "at least one"));
    }
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    for (at, requirement) in spec.require.iter().enumerate() {
        let field = format!("spec.require[{at}]");
        if requirement.name.is_empty() {
            return Err(unexpected(format!("{field}.name"), "an empty name", "a name"));
        }
        if !names.insert(&requirement.name) {
            let found = format!("{:?} a second time", requirement.name);
            return Err(unexpected(
                format!("{field}.name"),
                found,
                "a name of its own for each requirement",
            ));
        }
        rules.push(Rule {
            name: requirement.name.as_str().into(),
            kind: kind(&field, requirement)?,
        });
    }
    Ok(rules)
}

fn kind(field: &str, requirement: &Requirement) -> Result<Kind, Flaw> {
    let Requirement {
        name: _,
        signature,
        attestation,
        provenance,
        vulnerabilities,
        trusted,
    } = requirement;
    match (signature, attestation, provenance, vulnerabilities, trusted) {
        (Some(signature), None, None, None, None) => {
            self::signature(&format!("{field}.signature"), signature)
        }
        (None, Some(attestation), None, None, None) => {
            self::attestation(&format!("{field}.attestation"), attestation)
        }
        (None, None, Some(provenance), None, None) => {
            self::provenance(&format!("{field}.provenance"), provenance)
        }
        (None, None, None, Some(vulnerabilities), None) => {
            self::vulnerabilities(&format!("{field}.vulnerabilities"), vulnerabilities)
        }
        (None, None, None, None, Some(trusted)) => self::trusted(&format!("{field}.trusted"), trusted),
        (None, None, None, None, None) => {
            let found = "no kind, or one that this version does not know";
            Err(unexpected(field, found, KINDS))
        }
        _ => Err(unexpected(field, "several kinds", KINDS)),
    }
}

fn signature(field: &str, requirement: &SignatureRequirement) -> Result<Kind, Flaw> {
    let rings = rings(&format!("{field}.signedBy"), &requirement.signed_by)?;
    let minimum = minimum(&format!("{field}.minimum"), requirement.minimum, rings.len())?;
    Ok(Kind::Signature(SignatureRule::new(rings, minimum)))
}

fn attestation(field: &str, requirement: &AttestationRequirement) -> Result<Kind, Flaw> {
    let predicate_type = text(&format!("{field}.predicateType"), &requirement.predicate_type)?;
    if &*predicate_type == SIGNATURE {
        return Err(unexpected(
            format!("{field}.predicateType"),
            "the type of signatures",
            "a requirement of kind signature for that",
        ));
    }
    let validation =
        |(at, written): (usize, &Written)| validation(&format!("{field}.validations[{at}]"), written);
    let validations: Result<Vec<Validation>, Flaw> = requirement
        .validations
        .iter()
        .enumerate()
        .map(validation)
        .collect();
    Ok(Kind::Attestation(AttestationRule::new(
        predicate_type,
        rings(&format!("{field}.signedBy"), &requirement.signed_by)?,
        max_age(&format!("{field}.maxAge"), requirement.max_age.as_deref())?,
        validations?,
    )))
}

fn validation(field: &str, written: &Written) -> Result<Validation, Flaw> {
    let refuse = |why: String| {
        unexpected(
            format!("{field}.expression"),
            why,
            "a CEL expression over statement, predicate, signer and image",
        )
    };
    Ok(Validation {
        expression: Expression::compile(&written.expression).map_err(refuse)?,
        message: written.message.as_deref().map(Arc::from),
    })
}

fn provenance(field: &str, requirement: &ProvenanceRequirement) -> Result<Kind, Flaw> {
    let optional = |name: &str, value: &Option<String>| {
        let read = |value: &String| text(&format!("{field}.{name}"), value);
        value.as_ref().map(read).transpose()
    };
    if requirement.builder_id.is_none() && requirement.source_repository.is_none() {
        return Err(unexpected(
            field,
            "neither builderId nor sourceRepository",
            "one of the two, or both",
        ));
    }
    if requirement.source_ref.is_some() && requirement.source_repository.is_none() {
        return Err(unexpected(
            format!("{field}.sourceRef"),
            "a reference without a repository",
            "sourceRepository beside it",
        ));
    }
    let repository = optional("sourceRepository", &requirement.source_repository)?;
    Ok(Kind::Provenance(ProvenanceRule {
        rings: rings(&format!("{field}.signedBy"), &requirement.signed_by)?,
        builder: optional("builderId", &requirement.builder_id)?,
        repository: repository.map(|repository| slsa::repository(&repository).into()),
        reference: optional("sourceRef", &requirement.source_ref)?,
        max_age: max_age(&format!("{field}.maxAge"), requirement.max_age.as_deref())?,
        times: OwnTimes::under(slsa::TIMES),
        memo: Memo::default(),
    }))
}

fn vulnerabilities(field: &str, requirement: &VulnerabilitiesRequirement) -> Result<Kind, Flaw> {
    let block: Result<Vec<Arc<str>>, Flaw> = requirement
        .block
        .iter()
        .enumerate()
        .map(|(at, id)| text(&format!("{field}.block[{at}]"), id))
        .collect();
    let block = block?;
    let mut allow = Vec::new();
    for (at, allowed) in requirement.allow.iter().enumerate() {
        let id = text(&format!("{field}.allow[{at}].id"), &allowed.id)?;
        if block.iter().any(|blocked| blocked.eq_ignore_ascii_case(&id)) {
            let found = format!("{id}, which block names as well");
            return Err(unexpected(
                format!("{field}.allow[{at}].id"),
                found,
                "it in one of the two",
            ));
        }
        text(&format!("{field}.allow[{at}].reason"), &allowed.reason)?;
        let expires = allowed.expires.0;
        allow.push(Allowed { id, expires });
    }
    let vex = match requirement.vex.as_slice() {
        [] => Vec::new(),
        named => rings(&format!("{field}.vex"), named)?,
    };
    Ok(Kind::Vulnerabilities(VulnerabilitiesRule {
        rings: rings(&format!("{field}.signedBy"), &requirement.signed_by)?,
        max_age: age(&format!("{field}.maxAge"), &requirement.max_age)?,
        max_fixable: severity(&format!("{field}.maxFixable"), requirement.max_fixable)?,
        max_unfixable: severity(&format!("{field}.maxUnfixable"), requirement.max_unfixable)?,
        allow,
        block,
        vex,
        times: OwnTimes::under(scan::TIMES),
        findings: Memo::default(),
        documents: Memo::default(),
    }))
}

fn trusted(field: &str, requirement: &TrustedRequirement) -> Result<Kind, Flaw> {
    let reason = text(&format!("{field}.reason"), &requirement.reason)?;
    Ok(Kind::Trusted(TrustedRule::new(reason)))
}

/// Nothing is accepted that the policy does not say it accepts.
fn severity(field: &str, limit: Option<MaxSeverity>) -> Result<MaxSeverity, Flaw> {
    match limit {
        Some(MaxSeverity::Other) => Err(unexpected(
            field,
            "a severity that this version does not know",
            "None, Low, Medium, High or Critical",
        )),
        limit => Ok(limit.unwrap_or(MaxSeverity::None)),
    }
}

fn max_age(field: &str, text: Option<&str>) -> Result<Option<MaxAge>, Flaw> {
    text.map(|text| age(field, text)).transpose()
}

fn age(field: &str, text: &str) -> Result<MaxAge, Flaw> {
    let length = api::parse_duration(text).map_err(|_| {
        unexpected(
            field,
            format!("{text:?}"),
            "a duration above zero, such as \"168h\" or \"1h30m\"",
        )
    })?;
    Ok(MaxAge {
        length,
        text: text.into(),
    })
}

fn text(field: &str, value: &str) -> Result<Arc<str>, Flaw> {
    match value.trim() {
        "" => Err(unexpected(field, "an empty text", "something to compare with")),
        _ => Ok(value.into()),
    }
}

fn rings(field: &str, signed_by: &[String]) -> Result<Vec<Arc<str>>, Flaw> {
    if signed_by.is_empty() {
        return Err(unexpected(field, "no key ring", "the name of at least one"));
    }
    let mut seen = BTreeSet::new();
    for (at, ring) in signed_by.iter().enumerate() {
        if ring.is_empty() {
            return Err(unexpected(
                format!("{field}[{at}]"),
                "an empty name",
                "the name of a key ring",
            ));
        }
        if !seen.insert(ring) {
            let found = format!("{ring:?} a second time");
            return Err(unexpected(format!("{field}[{at}]"), found, "each key ring once"));
        }
    }
    Ok(signed_by.iter().map(|ring| ring.as_str().into()).collect())
}

fn minimum(field: &str, minimum: Option<i32>, rings: usize) -> Result<usize, Flaw> {
    let found = minimum.unwrap_or(1);
    usize::try_from(found)
        .ok()
        .filter(|count| (1..=rings).contains(count))
        .ok_or_else(|| {
            unexpected(
                field,
                found.to_string(),
                format!("1 to {rings}, the number of key rings in signedBy"),
            )
        })
}
