//! verifyImages rules of Kyverno's ClusterPolicy and Policy: every attestor must be satisfied, each by `count` of its
//! entries, by all if nothing is said.

use serde_json::{Map, Value, json};

use super::globs::of_kyverno;
use super::made::{
    Covered, MOST_RINGS, Made, attestation, identity, key, pem_blocks, predicate_type, signatures,
};
use super::source::{Effect, Source, object, take, take_list, take_text, take_texts};

/// A requirement of several signers: which, and how many of them.
struct Signers {
    rings: Vec<String>,
    minimum: usize,
}

/// Reads a policy; None where no rule of it verifies images.
pub(super) fn read(source: &mut Source, made: &mut Made) -> Option<()> {
    let mut spec = std::mem::take(&mut source.spec);
    let rules = take_list(&mut spec, "rules");
    if !rules.iter().any(|rule| rule["verifyImages"].is_array()) {
        return None;
    }
    let why = "how the other tool runs does not matter here; what is imported is DryRun";
    let settings = [
        "validationFailureAction",
        "validationFailureActionOverrides",
        "failurePolicy",
        "background",
        "webhookConfiguration",
        "webhookTimeoutSeconds",
        "admission",
        "emitWarning",
        "applyRules",
        "schemaValidation",
        "useServerSideApply",
        "generateExisting",
        "mutateExistingOnPolicyUpdate",
    ];
    source.leave_out("spec", &mut spec, &settings, why);
    source.leave_rest("spec", spec);
    for (number, rule) in rules.into_iter().enumerate() {
        let mut rule = object(rule);
        let name = take_text(&mut rule, "name").unwrap_or_else(|| format!("rule-{number}"));
        let path = format!("spec.rules[{name}]");
        let images = take_list(&mut rule, "verifyImages");
        if images.is_empty() {
            source.leave(&path, Effect::None, "the rule verifies no images");
            continue;
        }
        let place = place(source, &path, &mut rule);
        for field in ["preconditions", "celPreconditions", "context"] {
            if !take(&mut rule, field).is_null() {
                source.leave(
                    &format!("{path}.{field}"),
                    Effect::Stricter,
                    "it is not evaluated: the policy holds for everything that is covered",
                );
            }
        }
        source.leave_out(&path, &mut rule, &["skipBackgroundRequests"], why);
        source.leave_rest(&path, rule);
        for entry in images {
            verified(source, made, &path, &name, &place, object(entry));
        }
    }
    Some(())
}

/// Namespaces that a rule is about.
fn place(source: &mut Source, path: &str, rule: &mut Map<String, Value>) -> Covered {
    let mut covered = Covered {
        namespaces: source.namespace.clone().into_iter().collect(),
        ..Covered::default()
    };
    let is_namespaced = !covered.namespaces.is_empty();
    let (chosen, complete) = resources(source, &format!("{path}.match"), object(take(rule, "match")));
    if complete && !is_namespaced {
        covered.namespaces = chosen.namespaces;
        covered.namespace_selector = chosen.namespace_selector;
    }
    let (left_out, _) = resources(source, &format!("{path}.exclude"), object(take(rule, "exclude")));
    covered.exclude_namespaces = left_out.namespaces;
    covered
}

/// The namespaces of a match or exclude block, and whether the block says nothing of other namespaces.
fn resources(source: &mut Source, path: &str, mut block: Map<String, Value>) -> (Covered, bool) {
    let is_match = path.ends_with(".match");
    let mut entries: Vec<Value> = take_list(&mut block, "any");
    let all = take_list(&mut block, "all");
    if all.len() > 1 {
        source.leave(
            &format!("{path}.all"),
            Effect::Stricter,
            "several filters that must all match are not combined",
        );
    } else {
        entries.extend(all);
    }
    if !block.get("resources").is_none_or(Value::is_null) {
        entries.push(json!({"resources": take(&mut block, "resources")}));
    }
    source.leave_rest(path, block);
    let (mut found, mut everywhere) = (Covered::default(), false);
    for entry in entries {
        let mut entry = object(entry);
        let mut resources = object(take(&mut entry, "resources"));
        let kinds = take_texts(&mut resources, "kinds");
        let is_pod = |kind: &String| matches!(kind.rsplit('/').next(), Some("Pod" | "*"));
        let mut narrowed = !kinds.is_empty() && !kinds.iter().any(is_pod);
        if !kinds.iter().all(is_pod) {
            source.leave(
                &format!("{path}.kinds"),
                Effect::None,
                "what runs is judged, whatever made it",
            );
        }
        for (from, field) in ["selector", "names", "name", "annotations", "operations"]
            .map(|field| (true, field))
            .into_iter()
            .chain(["subjects", "roles", "clusterRoles"].map(|field| (false, field)))
        {
            let holder = if from { &mut resources } else { &mut entry };
            if !take(holder, field).is_null() {
                narrowed = true;
                source.leave(
                    &format!("{path}.{field}"),
                    Effect::Stricter,
                    "namespaces and images choose, nothing else",
                );
            }
        }
        let namespaces = take_texts(&mut resources, "namespaces");
        let selector = take(&mut resources, "namespaceSelector");
        source.leave_rest(path, resources);
        source.leave_rest(path, entry);
        // What is left out only in part must not be left out whole.
        if !is_match && (narrowed || !selector.is_null()) {
            source.leave(
                path,
                Effect::Stricter,
                "an exclusion by more than namespaces is not carried over",
            );
            continue;
        }
        if namespaces.iter().any(|name| name.contains('?')) {
            source.leave(
                &format!("{path}.namespaces"),
                Effect::Stricter,
                "? is no pattern here",
            );
            everywhere = true;
        }
        everywhere |= namespaces.is_empty() && selector.is_null();
        found
            .namespaces
            .extend(namespaces.into_iter().filter(|name| !name.contains('?')));
        if !selector.is_null() && found.namespace_selector.replace(selector).is_some() {
            source.leave(
                &format!("{path}.namespaceSelector"),
                Effect::Stricter,
                "several selectors are not combined",
            );
            everywhere = true;
        }
    }
    // Both would have to match here, and one of them suffices there.
    if found.namespace_selector.is_some() && !found.namespaces.is_empty() {
        source.leave(
            &format!("{path}.namespaceSelector"),
            Effect::Stricter,
            "it is not combined with names",
        );
        everywhere = true;
    }
    found.namespaces.sort();
    found.namespaces.dedup();
    (found, !everywhere)
}

/// One entry of verifyImages is one policy.
fn verified(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    rule: &str,
    place: &Covered,
    mut entry: Map<String, Value>,
) {
    let path = format!("{path}.verifyImages");
    if let Some(type_) =
        take_text(&mut entry, "type").filter(|type_| !matches!(type_.as_str(), "Cosign" | "SigstoreBundle"))
    {
        source.leave(
            &format!("{path}.type"),
            Effect::Weaker,
            format!("signatures of {type_} are not read: no policy was made"),
        );
        return;
    }
    let mut covered = place.clone();
    let mut references = take_texts(&mut entry, "imageReferences");
    references.extend(take_text(&mut entry, "image"));
    covered.images = patterns(
        source,
        &format!("{path}.imageReferences"),
        &references,
        Effect::Weaker,
    );
    let skipped = take_texts(&mut entry, "skipImageReferences");
    covered.exclude_images = patterns(
        source,
        &format!("{path}.skipImageReferences"),
        &skipped,
        Effect::Stricter,
    );
    let why = "tags are not rewritten; what runs is judged by its digest";
    let settings = [
        "mutateDigest",
        "verifyDigest",
        "useCache",
        "failureAction",
        "cosignOCI11",
        "validate",
    ];
    source.leave_out(&path, &mut entry, &settings, why);
    if take(&mut entry, "required") == json!(false) {
        source.leave(
            &format!("{path}.required"),
            Effect::Stricter,
            "it is required here",
        );
    }
    if !take(&mut entry, "imageRegistryCredentials").is_null() {
        source.leave(
            &format!("{path}.imageRegistryCredentials"),
            Effect::Stricter,
            "give credentials by a RegistryConfig",
        );
    }
    if take_text(&mut entry, "repository").is_some() {
        source.leave(
            &format!("{path}.repository"),
            Effect::Stricter,
            "signatures in another repository: write a RegistryConfig with evidenceRepository",
        );
    }
    if !take(&mut entry, "annotations").is_null() {
        source.leave(
            &format!("{path}.annotations"),
            Effect::Weaker,
            "annotations of signatures are not looked at",
        );
    }
    deprecated(&mut entry);
    let base = format!("{}-{rule}", source.own_name);
    let mut require = Vec::new();
    for (number, attestor) in take_list(&mut entry, "attestors").into_iter().enumerate() {
        let at = format!("{path}.attestors[{number}]");
        if let Some(signers) = signers(source, made, &at, &base, object(attestor)) {
            require.push(signatures(
                &format!("signature-{}", number + 1),
                &signers.rings,
                signers.minimum,
            ));
        }
    }
    for (number, attested) in take_list(&mut entry, "attestations").into_iter().enumerate() {
        let at = format!("{path}.attestations[{number}]");
        require.extend(attestations(source, made, &at, &base, number, object(attested)));
    }
    source.leave_rest(&path, entry);
    let origin = format!("{}, rule {rule}", source.name);
    if !made.policy(&base, &origin, &covered, require) {
        source.leave_without_policy(&path);
    }
}

/// The fields of the first versions, as one attestor.
fn deprecated(entry: &mut Map<String, Value>) {
    let mut attestors = take_list(entry, "attestors");
    if let Some(key) = take_text(entry, "key") {
        attestors.push(json!({"entries": [{"keys": {"publicKeys": key}}]}));
    }
    let (issuer, subject) = (take_text(entry, "issuer"), take_text(entry, "subject"));
    if issuer.is_some() || subject.is_some() {
        let roots = take(entry, "roots");
        attestors
            .push(json!({"entries": [{"keyless": {"issuer": issuer, "subject": subject, "roots": roots}}]}));
    }
    entry.insert("attestors".to_owned(), Value::Array(attestors));
}

fn patterns(source: &mut Source, path: &str, written: &[String], without: Effect) -> Vec<String> {
    let mut found = Vec::new();
    for written in written {
        let glob = of_kyverno(written);
        if glob.lost_tag {
            // What is left out for one tag must not be left out for all.
            let is_exclusion = without == Effect::Stricter;
            source.leave(
                path,
                Effect::Stricter,
                format!("{written}: a tag or digest never matters here"),
            );
            if is_exclusion {
                continue;
            }
        }
        match glob.pattern {
            Some(pattern) => found.push(pattern),
            None => source.leave(
                path,
                without,
                format!("{written:?} is no pattern of repositories here"),
            ),
        }
    }
    found.sort();
    found.dedup();
    found
}

fn signers(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    base: &str,
    mut attestor: Map<String, Value>,
) -> Option<Signers> {
    let count = take(&mut attestor, "count")
        .as_u64()
        .and_then(|count| usize::try_from(count).ok());
    let entries = take_list(&mut attestor, "entries");
    source.leave_rest(path, attestor);
    let (mut rings, mut missing): (Vec<String>, usize) = (Vec::new(), 0);
    for (number, entry) in entries.into_iter().enumerate() {
        let at = format!("{path}.entries[{number}]");
        let found = one_signer(source, made, &at, base, object(entry));
        missing += usize::from(found.is_empty());
        rings.extend(found);
    }
    let minimum = count.unwrap_or(rings.len() + missing);
    rings.sort();
    rings.dedup();
    if minimum == 0 || minimum > rings.len() || rings.len() > MOST_RINGS {
        source.leave(
            path,
            Effect::Weaker,
            format!(
                "{minimum} of {} signers are asked for, and {} could be read: not asked for at all",
                rings.len() + missing,
                rings.len()
            ),
        );
        return None;
    }
    if missing > 0 {
        source.leave(
            path,
            Effect::Stricter,
            format!("{missing} signers could not be read: {minimum} of the others are asked for"),
        );
    }
    Some(Signers { rings, minimum })
}

/// The key rings of one entry; several keys in one text are several.
fn one_signer(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    base: &str,
    mut entry: Map<String, Value>,
) -> Vec<String> {
    for field in ["annotations", "repository"] {
        if !take(&mut entry, field).is_null() {
            let effect = if field == "annotations" {
                Effect::Weaker
            } else {
                Effect::Stricter
            };
            source.leave(&format!("{path}.{field}"), effect, "it is not looked at");
        }
    }
    let specs: Vec<Map<String, Value>> = match (take(&mut entry, "keys"), take(&mut entry, "keyless")) {
        (Value::Object(fields), _) => by_keys(source, &format!("{path}.keys"), fields),
        (_, Value::Object(fields)) => by_identity(source, &format!("{path}.keyless"), fields)
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    for field in ["certificates", "attestor"] {
        if !take(&mut entry, field).is_null() {
            source.leave(
                &format!("{path}.{field}"),
                Effect::Stricter,
                "it is not expressed: this signer satisfies nothing",
            );
        }
    }
    source.leave_rest(path, entry);
    specs.into_iter().map(|spec| made.ring(base, spec)).collect()
}

fn by_keys(source: &mut Source, path: &str, mut fields: Map<String, Value>) -> Vec<Map<String, Value>> {
    let extra = logged(source, path, &mut fields);
    let written = take_text(&mut fields, "publicKeys").unwrap_or_default();
    let pems = pem_blocks(&written);
    for field in ["secret", "kms"] {
        if !take(&mut fields, field).is_null() {
            source.leave(
                &format!("{path}.{field}"),
                Effect::Stricter,
                "the key is not in the file: print it with `cosign public-key` and write a SigningKey",
            );
        }
    }
    if pems.is_empty() && !written.is_empty() {
        source.leave(
            &format!("{path}.publicKeys"),
            Effect::Stricter,
            "found no PEM of type PUBLIC KEY: the key is elsewhere",
        );
    }
    source.leave_out(
        path,
        &mut fields,
        &["signatureAlgorithm"],
        "the hash follows from the key",
    );
    source.leave_rest(path, fields);
    let with_log = |pem: &String| {
        let mut spec = key(pem);
        spec.extend(extra.clone());
        spec
    };
    pems.iter().map(with_log).collect()
}

/// What is asked of the log: Kyverno asks for it unless told otherwise.
fn logged(source: &mut Source, path: &str, fields: &mut Map<String, Value>) -> Map<String, Value> {
    let mut rekor = object(take(fields, "rekor"));
    let ignores = take(&mut rekor, "ignoreTlog") == json!(true);
    let private = take_text(&mut rekor, "pubkey").is_some()
        | take_text(&mut rekor, "url")
            .is_some_and(|url| url.trim_end_matches('/') != "https://rekor.sigstore.dev");
    if private && !ignores {
        source.leave(
            &format!("{path}.rekor"),
            Effect::Stricter,
            "a log of your own: write a TrustRoot for it, and name it in spec.trustRoot",
        );
    }
    source.leave_rest(&format!("{path}.rekor"), rekor);
    let mut sct = object(take(fields, "ctlog"));
    if take(&mut sct, "ignoreSCT") == json!(true) {
        source.leave(
            &format!("{path}.ctlog.ignoreSCT"),
            Effect::Stricter,
            "an SCT is asked for where the trust root has logs for it",
        );
    }
    if take_text(&mut sct, "pubkey").is_some() | take_text(&mut sct, "tsaCertChain").is_some() {
        source.leave(
            &format!("{path}.ctlog"),
            Effect::Stricter,
            "write a TrustRoot with it, and name it in spec.trustRoot",
        );
    }
    source.leave_rest(&format!("{path}.ctlog"), sct);
    let mut extra = Map::new();
    if !ignores {
        extra.insert("transparencyLog".into(), "Required".into());
        extra.insert("trustRoot".into(), api::PUBLIC_GOOD.into());
    }
    extra
}

fn by_identity(
    source: &mut Source,
    path: &str,
    mut fields: Map<String, Value>,
) -> Option<Map<String, Value>> {
    let extra = logged(source, path, &mut fields);
    if extra.is_empty() {
        source.leave(
            &format!("{path}.rekor.ignoreTlog"),
            Effect::Stricter,
            "a keyless signature needs a time: the log is asked for",
        );
    }
    if take_text(&mut fields, "roots").is_some() {
        source.leave(
            &format!("{path}.roots"),
            Effect::Stricter,
            "write a TrustRoot with the certificates, and name it in spec.trustRoot",
        );
    }
    if !take(&mut fields, "additionalExtensions").is_null() {
        source.leave(
            &format!("{path}.additionalExtensions"),
            Effect::Weaker,
            "extensions of certificates are not looked at",
        );
    }
    // A subject with a star is a pattern.
    let subject = take_text(&mut fields, "subject");
    let starred = subject
        .as_ref()
        .filter(|subject| subject.contains('*'))
        .map(|subject| {
            let parts: Vec<String> = subject.split('*').map(escaped).collect();
            format!("^{}$", parts.join(".*"))
        });
    let subject = subject.filter(|_| starred.is_none());
    let (issuer, issuer_regex) = (
        take_text(&mut fields, "issuer"),
        take_text(&mut fields, "issuerRegExp"),
    );
    let subject_regex = take_text(&mut fields, "subjectRegExp").or(starred);
    source.leave_rest(path, fields);
    let read = identity(issuer, issuer_regex, subject, subject_regex);
    if read.is_none() {
        source.leave(
            path,
            Effect::Stricter,
            "issuer and subject are both needed: an issuer alone would be everybody who has an account there",
        );
    }
    read
}

/// A text as a regular expression that matches just it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if !letter.is_alphanumeric() && !matches!(letter, '/' | ':' | '@' | '-' | '_') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

fn attestations(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    base: &str,
    number: usize,
    mut attested: Map<String, Value>,
) -> Vec<Value> {
    let type_ = take_text(&mut attested, "type").or_else(|| take_text(&mut attested, "predicateType"));
    let name = take_text(&mut attested, "name").unwrap_or_else(|| format!("attestation-{}", number + 1));
    if !take_list(&mut attested, "conditions").is_empty() {
        source.leave(
            &format!("{path}.conditions"),
            Effect::Weaker,
            "write them as validations (CEL): that the attestation exists is all that is asked",
        );
    }
    let attestors = take_list(&mut attested, "attestors");
    source.leave_rest(path, attested);
    let Some(type_) = type_.map(|type_| predicate_type(&type_)) else {
        source.leave(path, Effect::Weaker, "it names no type: not asked for at all");
        return Vec::new();
    };
    if attestors.is_empty() {
        source.leave(
            path,
            Effect::Weaker,
            "nobody is named who must have signed it: not asked for at all",
        );
    }
    let mut require = Vec::new();
    for (at, attestor) in attestors.into_iter().enumerate() {
        let path = format!("{path}.attestors[{at}]");
        let Some(signers) = signers(source, made, &path, base, object(attestor)) else {
            continue;
        };
        let named = |part: usize| format!("{name}-{}-{part}", at + 1);
        if signers.minimum == 1 {
            require.push(attestation(&named(1), &type_, &signers.rings));
        } else if signers.minimum == signers.rings.len() {
            let one_by_one = signers.rings.iter().enumerate();
            require.extend(
                one_by_one
                    .map(|(part, ring)| attestation(&named(part + 1), &type_, std::slice::from_ref(ring))),
            );
        } else {
            source.leave(
                &path,
                Effect::Weaker,
                format!(
                    "{} of {} signers of an attestation: one is asked for",
                    signers.minimum,
                    signers.rings.len()
                ),
            );
            require.push(attestation(&named(1), &type_, &signers.rings));
        }
    }
    require
}
