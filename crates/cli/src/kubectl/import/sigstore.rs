//! ClusterImagePolicy of sigstore's policy-controller: an image passes where one authority is satisfied.

use serde_json::{Map, Value, json};

use super::globs::of_policy_controller;
use super::made::{
    Covered, MOST_RINGS, Made, attestation, identity, key, pem_blocks, predicate_type, signatures,
};
use super::source::{Effect, Source, object, take, take_list, take_text};

/// What a keyless authority means where it names nothing else.
const PUBLIC_FULCIO: &str = "https://fulcio.sigstore.dev";
const PUBLIC_REKOR: &str = "https://rekor.sigstore.dev";

/// One authority, read.
enum Authority {
    /// A signature by one of these rings.
    Signed(Vec<String>),
    /// Attestations of all these types by one of these rings.
    Attested(Vec<(String, String)>, Vec<String>),
    /// Anything passes.
    Pass(String),
}

pub(super) fn read(source: &mut Source, made: &mut Made) {
    let mut spec = std::mem::take(&mut source.spec);
    let covered = Covered {
        images: images(source, &mut spec),
        ..Covered::default()
    };
    if let Some(mode) = take_text(&mut spec, "mode") {
        source.leave(
            "spec.mode",
            Effect::None,
            format!("it was {mode}; what is imported is DryRun"),
        );
    }
    if !take_list(&mut spec, "match").is_empty() {
        source.leave(
            "spec.match",
            Effect::Stricter,
            "kinds and labels of workloads are not chosen by: all are covered",
        );
    }
    if !take(&mut spec, "policy").is_null() {
        source.leave(
            "spec.policy",
            Effect::Weaker,
            "the CUE or Rego policy over all authorities is not evaluated",
        );
    }
    let mut authorities = Vec::new();
    for (number, entry) in take_list(&mut spec, "authorities").into_iter().enumerate() {
        let mut entry = object(entry);
        let name = take_text(&mut entry, "name").unwrap_or_else(|| format!("authority-{number}"));
        let path = format!("spec.authorities[{name}]");
        authorities.extend(authority(source, made, &path, &name, &mut entry));
        source.leave_rest(&path, entry);
    }
    source.leave_rest("spec", spec);
    let require = require(source, authorities);
    let (name, origin) = (source.own_name.clone(), source.name.clone());
    if !made.policy(&name, &origin, &covered, require) {
        source.leave_without_policy("spec");
    }
}

fn images(source: &mut Source, spec: &mut Map<String, Value>) -> Vec<String> {
    let mut patterns = Vec::new();
    for entry in take_list(spec, "images") {
        let mut entry = object(entry);
        let written = take_text(&mut entry, "glob").unwrap_or_default();
        let glob = of_policy_controller(&written);
        if glob.lost_tag {
            source.leave(
                "spec.images",
                Effect::Stricter,
                format!("{written}: a tag or digest never matters, so all are covered"),
            );
        }
        match glob.pattern {
            Some(pattern) => patterns.push(pattern),
            None => source.leave(
                "spec.images",
                Effect::Weaker,
                format!("{written:?} is no pattern of repositories here"),
            ),
        }
        source.leave_rest("spec.images", entry);
    }
    patterns
}

fn authority(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    name: &str,
    entry: &mut Map<String, Value>,
) -> Option<Authority> {
    if let Value::Object(mut fixed) = take(entry, "static") {
        let reason =
            take_text(&mut fixed, "message").unwrap_or_else(|| format!("imported from {}", source.name));
        return match take_text(&mut fixed, "action").as_deref() {
            Some("pass") => Some(Authority::Pass(reason)),
            _ => {
                source.leave(
                    &format!("{path}.static"),
                    Effect::Weaker,
                    "an authority that always fails is not expressed",
                );
                None
            }
        };
    }
    let log = object(take(entry, "ctlog"));
    let timestamp = object(take(entry, "rfc3161timestamp"));
    let rings = match (take(entry, "key"), take(entry, "keyless")) {
        (Value::Object(fields), _) => by_key(source, made, path, name, fields, log, timestamp),
        (_, Value::Object(fields)) => by_identity(source, made, path, name, fields, log, timestamp),
        _ => Vec::new(),
    };
    if !take_list(entry, "source").is_empty() {
        source.leave(
            &format!("{path}.source"),
            Effect::Stricter,
            "signatures in another repository: write a RegistryConfig with evidenceRepository",
        );
    }
    source.leave_out(path, entry, &["signatureFormat"], "both formats are read");
    let attested = take_list(entry, "attestations");
    if rings.is_empty() {
        source.leave(
            path,
            Effect::Stricter,
            "no signer of this authority could be read, so it satisfies nobody",
        );
        return None;
    }
    if attested.is_empty() {
        return Some(Authority::Signed(rings));
    }
    let mut types = Vec::new();
    for attested in attested {
        let mut fields = object(attested);
        let own = take_text(&mut fields, "name").unwrap_or_else(|| "attestation".to_owned());
        let type_ = predicate_type(&take_text(&mut fields, "predicateType").unwrap_or_default());
        if !take(&mut fields, "policy").is_null() {
            source.leave(
                &format!("{path}.attestations[{own}].policy"),
                Effect::Weaker,
                "write it as validations (CEL): that the attestation exists is all that is asked",
            );
        }
        source.leave_rest(&format!("{path}.attestations[{own}]"), fields);
        types.push((own, type_));
    }
    Some(Authority::Attested(types, rings))
}

fn by_key(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    name: &str,
    mut fields: Map<String, Value>,
    mut log: Map<String, Value>,
    timestamp: Map<String, Value>,
) -> Vec<String> {
    let mut extra = Map::new();
    if !log.is_empty() {
        extra.insert("transparencyLog".into(), "Required".into());
        extra.insert(
            "trustRoot".into(),
            trust_root(source, path, "ctlog", &mut log).into(),
        );
        source.leave_rest(&format!("{path}.ctlog"), log);
    }
    timestamped(source, path, timestamp, &mut extra);
    let pems = pem_blocks(&take_text(&mut fields, "data").unwrap_or_default());
    for field in ["secretRef", "kms"] {
        if !take(&mut fields, field).is_null() {
            source.leave(
                &format!("{path}.key.{field}"),
                Effect::Stricter,
                "the key is not in the file: print it with `cosign public-key` and write a SigningKey",
            );
        }
    }
    source.leave_out(
        &format!("{path}.key"),
        &mut fields,
        &["hashAlgorithm"],
        "the hash follows from the key",
    );
    source.leave_rest(&format!("{path}.key"), fields);
    let base = format!("{}-{name}", source.own_name);
    let ring = |pem: &String| {
        let mut spec = key(pem);
        spec.extend(extra.clone());
        made.ring(&base, spec)
    };
    pems.iter().map(ring).collect()
}

fn by_identity(
    source: &mut Source,
    made: &mut Made,
    path: &str,
    name: &str,
    mut fields: Map<String, Value>,
    mut log: Map<String, Value>,
    timestamp: Map<String, Value>,
) -> Vec<String> {
    let mut extra = Map::new();
    let private = take_text(&mut fields, "url").filter(|url| url.trim_end_matches('/') != PUBLIC_FULCIO);
    if let Some(root) = take_text(&mut fields, "trustRootRef") {
        source.leave(
            &format!("{path}.keyless.trustRootRef"),
            Effect::Stricter,
            format!("write the TrustRoot {root}: nothing verifies without it"),
        );
        extra.insert("trustRoot".into(), super::made::name(&root).into());
    } else if let Some(url) = private {
        source.leave(
            &format!("{path}.keyless.url"),
            Effect::Stricter,
            format!(
                "{url} is no public-good Fulcio: write a TrustRoot {} for it",
                super::made::name(&url)
            ),
        );
        extra.insert("trustRoot".into(), super::made::name(&url).into());
    }
    if !take(&mut fields, "ca-cert").is_null() {
        source.leave(
            &format!("{path}.keyless.ca-cert"),
            Effect::Stricter,
            "write a TrustRoot with the certificates",
        );
    }
    if take(&mut fields, "insecureIgnoreSCT") == json!(true) {
        source.leave(
            &format!("{path}.keyless.insecureIgnoreSCT"),
            Effect::Stricter,
            "an SCT is asked for where the trust root has logs for it",
        );
    }
    if !log.is_empty() {
        let root = trust_root(source, path, "ctlog", &mut log);
        if root != api::PUBLIC_GOOD && !extra.contains_key("trustRoot") {
            extra.insert("trustRoot".into(), root.into());
        }
        source.leave_rest(&format!("{path}.ctlog"), log);
    }
    timestamped(source, path, timestamp, &mut extra);
    let mut rings = Vec::new();
    for (number, entry) in take_list(&mut fields, "identities").into_iter().enumerate() {
        let mut entry = object(entry);
        let mut text = |field: &str| take_text(&mut entry, field);
        let read = identity(
            text("issuer"),
            text("issuerRegExp"),
            text("subject"),
            text("subjectRegExp"),
        );
        match read {
            Some(mut spec) => {
                spec.extend(extra.clone());
                rings.push(made.ring(&format!("{}-{name}", source.own_name), spec));
            }
            None => source.leave(
                &format!("{path}.keyless.identities[{number}]"),
                Effect::Stricter,
                "issuer and subject are both needed: an issuer alone would be everybody who has an account there",
            ),
        }
        source.leave_rest(&format!("{path}.keyless.identities[{number}]"), entry);
    }
    source.leave_rest(&format!("{path}.keyless"), fields);
    rings
}

/// The trust root that a log is checked by.
fn trust_root(source: &mut Source, path: &str, field: &str, log: &mut Map<String, Value>) -> String {
    let url = take_text(log, "url");
    match (take_text(log, "trustRootRef"), url) {
        (Some(root), _) => {
            source.leave(
                &format!("{path}.{field}.trustRootRef"),
                Effect::Stricter,
                format!("write the TrustRoot {root}: nothing verifies without it"),
            );
            super::made::name(&root)
        }
        (None, Some(url)) if url.trim_end_matches('/') != PUBLIC_REKOR => {
            let root = super::made::name(&url);
            source.leave(
                &format!("{path}.{field}.url"),
                Effect::Stricter,
                format!("{url} is no public-good Rekor: write a TrustRoot {root} for it"),
            );
            root
        }
        _ => api::PUBLIC_GOOD.to_owned(),
    }
}

fn timestamped(
    source: &mut Source,
    path: &str,
    mut timestamp: Map<String, Value>,
    extra: &mut Map<String, Value>,
) {
    if timestamp.is_empty() {
        return;
    }
    extra.insert("timestamp".into(), "Required".into());
    if let Some(root) = take_text(&mut timestamp, "trustRootRef") {
        source.leave(
            &format!("{path}.rfc3161timestamp.trustRootRef"),
            Effect::Stricter,
            format!("write the TrustRoot {root}: nothing verifies without it"),
        );
        extra
            .entry("trustRoot")
            .or_insert(super::made::name(&root).into());
    } else {
        extra.entry("trustRoot").or_insert(api::PUBLIC_GOOD.into());
    }
    source.leave_rest(&format!("{path}.rfc3161timestamp"), timestamp);
}

/// One authority suffices: signers are one requirement with all of them. Attestations of one authority are asked for all
/// together, which cannot stand beside another authority.
fn require(source: &mut Source, authorities: Vec<Authority>) -> Vec<Value> {
    let mut rings: Vec<String> = Vec::new();
    let mut attested = Vec::new();
    for authority in authorities {
        match authority {
            Authority::Signed(more) => rings.extend(more),
            Authority::Attested(types, by) => attested.push((types, by)),
            // One authority that passes everything makes the others idle.
            Authority::Pass(reason) => {
                let reason: String = reason.chars().take(256).collect();
                return vec![json!({"name": "trusted", "trusted": {"reason": reason}})];
            }
        }
    }
    rings.sort();
    rings.dedup();
    if rings.len() > MOST_RINGS {
        source.leave(
            "spec.authorities",
            Effect::Stricter,
            format!("{} signers, of which {MOST_RINGS} are kept", rings.len()),
        );
        rings.truncate(MOST_RINGS);
    }
    match (rings.is_empty(), attested.len()) {
        (false, others) => {
            if others > 0 {
                source.leave("spec.authorities", Effect::Stricter, "attestations that suffice in the place of a signature are not expressed: only the signatures are asked for");
            }
            vec![signatures("signature", &rings, 1)]
        }
        (true, 0) => Vec::new(),
        (true, others) => {
            if others > 1 {
                source.leave(
                    "spec.authorities",
                    Effect::Stricter,
                    "of several authorities with attestations only the first is asked for",
                );
            }
            let (types, by) = attested.remove(0);
            types
                .iter()
                .map(|(name, type_)| attestation(name, type_, &by))
                .collect()
        }
    }
}
