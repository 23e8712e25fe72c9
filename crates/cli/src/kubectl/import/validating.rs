//! ImageValidatingPolicy of Kyverno: named attestors and attestations, and CEL expressions that say which of them must
//! hold. Two forms of expression are understood, in full or not at all.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::globs::of_kyverno;
use super::made::{Covered, Made, attestation, identity, key, pem_blocks, predicate_type, signatures};
use super::source::{Effect, Source, object, take, take_list, take_text};

/// Every container's image has a signature by one of these attestors.
static SIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^images\.(\w+)\.map\((\w+),verifyImageSignatures\((\w+),\[([\w.,]+)\]\)\)\.all\((\w+),(\w+)>0\)$",
    )
    .ok()
});
/// Every container's image has this attestation by one of these attestors.
static ATTESTED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^images\.(\w+)\.map\((\w+),verifyAttestationSignatures\((\w+),attestations\.(\w+),\[([\w.,]+)\]\)\)\.all\((\w+),(\w+)>0\)$").ok()
});

pub(super) fn read(source: &mut Source, made: &mut Made) {
    let mut spec = std::mem::take(&mut source.spec);
    let covered = covered(source, &mut spec);
    let why = "how the other tool runs does not matter here; what is imported is DryRun";
    let settings = [
        "validationActions",
        "failurePolicy",
        "webhookConfiguration",
        "evaluation",
        "mutateDigest",
        "verifyDigest",
        "validationConfigurations",
        "autogen",
        "auditAnnotations",
    ];
    source.leave_out("spec", &mut spec, &settings, why);
    if take(&mut spec, "required") == json!(false) {
        source.leave("spec.required", Effect::Stricter, "it is required here");
    }
    for field in ["matchConditions", "variables", "images", "credentials"] {
        if !take(&mut spec, field).is_null() {
            source.leave(&format!("spec.{field}"), Effect::Stricter, "it is not evaluated");
        }
    }
    let mut rings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in take_list(&mut spec, "attestors") {
        let mut entry = object(entry);
        let name = take_text(&mut entry, "name").unwrap_or_default();
        let found = attestor(source, made, &name, &mut entry);
        source.leave_rest(&format!("spec.attestors[{name}]"), entry);
        rings.insert(name, found);
    }
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    for entry in take_list(&mut spec, "attestations") {
        let mut entry = object(entry);
        let name = take_text(&mut entry, "name").unwrap_or_default();
        let mut intoto = object(take(&mut entry, "intoto"));
        match take_text(&mut intoto, "type") {
            Some(type_) => drop(types.insert(name.clone(), predicate_type(&type_))),
            None => source.leave(
                &format!("spec.attestations[{name}]"),
                Effect::Weaker,
                "only in-toto attestations are read",
            ),
        }
        entry.remove("referrer");
        source.leave_rest(&format!("spec.attestations[{name}]"), intoto);
        source.leave_rest(&format!("spec.attestations[{name}]"), entry);
    }
    let mut require: Vec<Value> = Vec::new();
    for (number, validation) in take_list(&mut spec, "validations").into_iter().enumerate() {
        let mut validation = object(validation);
        let expression = take_text(&mut validation, "expression").unwrap_or_default();
        match requirement(&expression, number, &rings, &types) {
            Ok(entry) if require.iter().any(|known| is_same(known, &entry)) => {}
            Ok(entry) => require.push(entry),
            Err(why) => source.leave(&format!("spec.validations[{number}]"), Effect::Weaker, why),
        }
        source.leave_out(
            "spec.validations",
            &mut validation,
            &["message", "messageExpression", "reason"],
            "messages are made here",
        );
        source.leave_rest("spec.validations", validation);
    }
    source.leave_rest("spec", spec);
    let (name, origin) = (source.own_name.clone(), source.name.clone());
    if !made.policy(&name, &origin, &covered, require) {
        source.leave_without_policy("spec");
    }
}

/// The same is asked, under another name: of init containers, for one.
fn is_same(one: &Value, other: &Value) -> bool {
    let without_name = |value: &Value| {
        let mut value = value.clone();
        value["name"] = Value::Null;
        value
    };
    without_name(one) == without_name(other)
}

fn covered(source: &mut Source, spec: &mut Map<String, Value>) -> Covered {
    let mut covered = Covered {
        namespaces: source.namespace.clone().into_iter().collect(),
        ..Covered::default()
    };
    let mut constraints = object(take(spec, "matchConstraints"));
    constraints.remove("resourceRules");
    constraints.remove("matchPolicy");
    let selector = take(&mut constraints, "namespaceSelector");
    if !selector.is_null() {
        covered.namespace_selector = Some(selector);
    }
    for field in ["objectSelector", "excludeResourceRules"] {
        if !take(&mut constraints, field).is_null() {
            source.leave(
                &format!("spec.matchConstraints.{field}"),
                Effect::Stricter,
                "namespaces and images choose, nothing else",
            );
        }
    }
    source.leave_rest("spec.matchConstraints", constraints);
    let references = take_list(spec, "matchImageReferences");
    if references.is_empty() {
        covered.images.push("**".to_owned());
    }
    for entry in references {
        let mut entry = object(entry);
        if let Some(written) = take_text(&mut entry, "glob") {
            let glob = of_kyverno(&written);
            if glob.lost_tag {
                source.leave(
                    "spec.matchImageReferences",
                    Effect::Stricter,
                    format!("{written}: a tag or digest never matters here"),
                );
            }
            match glob.pattern {
                Some(pattern) => covered.images.push(pattern),
                None => source.leave(
                    "spec.matchImageReferences",
                    Effect::Weaker,
                    format!("{written:?} is no pattern of repositories here"),
                ),
            }
        }
        if let Some(expression) = take_text(&mut entry, "expression") {
            source.leave(
                "spec.matchImageReferences",
                Effect::Weaker,
                format!("{expression:?} is not evaluated: what it chooses is not covered"),
            );
        }
        source.leave_rest("spec.matchImageReferences", entry);
    }
    covered
}

fn attestor(source: &mut Source, made: &mut Made, name: &str, entry: &mut Map<String, Value>) -> Vec<String> {
    let path = format!("spec.attestors[{name}]");
    if !take(entry, "notary").is_null() {
        source.leave(
            &format!("{path}.notary"),
            Effect::Stricter,
            "signatures of the Notary Project are not read: it satisfies nothing",
        );
    }
    let mut cosign = object(take(entry, "cosign"));
    let mut log = object(take(&mut cosign, "ctlog"));
    let ignores = take(&mut log, "insecureIgnoreTlog") == json!(true);
    if take(&mut log, "insecureIgnoreSCT") == json!(true) {
        source.leave(
            &format!("{path}.cosign.ctlog.insecureIgnoreSCT"),
            Effect::Stricter,
            "an SCT is asked for where the trust root has logs for it",
        );
    }
    let private = take_text(&mut log, "url")
        .is_some_and(|url| url.trim_end_matches('/') != "https://rekor.sigstore.dev");
    let keys =
        ["rekorPubKey", "ctLogPubKey", "tsaCertChain"].map(|field| take_text(&mut log, field).is_some());
    if private || keys.contains(&true) || !take(&mut cosign, "tuf").is_null() {
        source.leave(
            &format!("{path}.cosign"),
            Effect::Stricter,
            "logs or roots of your own: write a TrustRoot for them, and name it in spec.trustRoot",
        );
    }
    source.leave_rest(&format!("{path}.cosign.ctlog"), log);
    if !take(&mut cosign, "source").is_null() {
        source.leave(
            &format!("{path}.cosign.source"),
            Effect::Stricter,
            "signatures in another repository: write a RegistryConfig with evidenceRepository",
        );
    }
    if !take(&mut cosign, "annotations").is_null() {
        source.leave(
            &format!("{path}.cosign.annotations"),
            Effect::Weaker,
            "annotations of signatures are not looked at",
        );
    }
    if !take(&mut cosign, "certificate").is_null() {
        source.leave(
            &format!("{path}.cosign.certificate"),
            Effect::Stricter,
            "it is not expressed: this signer satisfies nothing",
        );
    }
    let mut specs = Vec::new();
    let mut by_key = object(take(&mut cosign, "key"));
    let pems = pem_blocks(&take_text(&mut by_key, "data").unwrap_or_default());
    for pem in pems {
        let mut spec = key(&pem);
        if !ignores {
            spec.insert("transparencyLog".into(), "Required".into());
            spec.insert("trustRoot".into(), api::PUBLIC_GOOD.into());
        }
        specs.push(spec);
    }
    for field in ["kms", "expression", "secretRef"] {
        if !take(&mut by_key, field).is_null() {
            source.leave(
                &format!("{path}.cosign.key.{field}"),
                Effect::Stricter,
                "the key is not in the file: print it with `cosign public-key` and write a SigningKey",
            );
        }
    }
    source.leave_out(
        &format!("{path}.cosign.key"),
        &mut by_key,
        &["hashAlgorithm"],
        "the hash follows from the key",
    );
    source.leave_rest(&format!("{path}.cosign.key"), by_key);
    let mut keyless = object(take(&mut cosign, "keyless"));
    if take_text(&mut keyless, "roots").is_some() {
        source.leave(
            &format!("{path}.cosign.keyless.roots"),
            Effect::Stricter,
            "write a TrustRoot with the certificates, and name it in spec.trustRoot",
        );
    }
    for one in take_list(&mut keyless, "identities") {
        let mut one = object(one);
        let mut text = |field: &str| take_text(&mut one, field);
        match identity(text("issuer"), text("issuerRegExp"), text("subject"), text("subjectRegExp")) {
            Some(spec) => specs.push(spec),
            None => source.leave(&format!("{path}.cosign.keyless"), Effect::Stricter, "issuer and subject are both needed: an issuer alone would be everybody who has an account there"),
        }
        source.leave_rest(&format!("{path}.cosign.keyless"), one);
    }
    source.leave_rest(&format!("{path}.cosign.keyless"), keyless);
    source.leave_rest(&format!("{path}.cosign"), cosign);
    let base = format!("{}-{name}", source.own_name);
    specs.into_iter().map(|spec| made.ring(&base, spec)).collect()
}

/// The requirement that an expression makes, or why there is none.
fn requirement(
    expression: &str,
    number: usize,
    rings: &BTreeMap<String, Vec<String>>,
    types: &BTreeMap<String, String>,
) -> Result<Value, String> {
    let text: String = expression.split_whitespace().collect();
    let by = |named: &str| -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        for attestor in named.split(',') {
            let name = attestor.strip_prefix("attestors.").unwrap_or(attestor);
            match rings.get(name) {
                Some(rings) if !rings.is_empty() => found.extend(rings.clone()),
                _ => {
                    return Err(format!(
                        "the attestor {name} could not be read: not asked for at all"
                    ));
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    };
    let name = format!("validation-{}", number + 1);
    if let Some(found) = SIGNED.as_ref().and_then(|form| form.captures(&text))
        && found[2] == found[3]
        && found[5] == found[6]
    {
        return Ok(signatures(&name, &by(&found[4])?, 1));
    }
    if let Some(found) = ATTESTED.as_ref().and_then(|form| form.captures(&text))
        && found[2] == found[3]
        && found[6] == found[7]
    {
        let type_ = types.get(&found[4]).ok_or_else(|| {
            format!(
                "the attestation {} could not be read: not asked for at all",
                &found[4]
            )
        })?;
        return Ok(attestation(&name, type_, &by(&found[5])?));
    }
    Err("this expression is not understood: write it as a requirement, or as validations (CEL) of an attestation".to_owned())
}
