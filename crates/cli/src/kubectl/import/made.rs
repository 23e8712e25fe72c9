//! The SigningKeys and ImagePolicies that come out. One key or identity is one SigningKey, however many policies named
//! it: a key ring of its own, so that a minimum of several signers counts what it counted.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A ring holds no more names, and a policy asks no more.
pub(super) const MOST_RINGS: usize = 16;
const MOST_PATTERNS: usize = 64;
const NAME: usize = 63;

/// Everything that was made.
#[derive(Default)]
pub(super) struct Made {
    /// Key rings by what their signer is.
    rings: BTreeMap<String, String>,
    keys: Vec<Value>,
    policies: Vec<Value>,
}

/// What a policy covers.
#[derive(Clone, Debug, Default)]
pub(super) struct Covered {
    pub(super) images: Vec<String>,
    pub(super) exclude_images: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) exclude_namespaces: Vec<String>,
    pub(super) namespace_selector: Option<Value>,
}

impl Made {
    /// The key ring of a signer: `spec` is that of a SigningKey without ring and stage.
    pub(super) fn ring(&mut self, wanted: &str, spec: Map<String, Value>) -> String {
        let identity = Value::Object(spec.clone()).to_string();
        if let Some(ring) = self.rings.get(&identity) {
            return ring.clone();
        }
        let ring = self.free(wanted);
        self.rings.insert(identity, ring.clone());
        let mut object = json!({
            "apiVersion": "assay.dev/v1alpha1",
            "kind": "SigningKey",
            "metadata": {"name": ring},
            "spec": {"keyRing": ring, "stage": "Active"},
        });
        if let Some(fields) = object["spec"].as_object_mut() {
            fields.extend(spec);
        }
        self.keys.push(object);
        ring
    }

    fn free(&self, wanted: &str) -> String {
        let wanted = name(wanted);
        let is_taken = |name: &String| self.rings.values().any(|ring| ring == name);
        let numbered =
            (2..).map(|number| name(&format!("{}-{number}", &wanted[..wanted.len().min(NAME - 5)])));
        let mut names = std::iter::once(wanted.clone()).chain(numbered);
        names.find(|name| !is_taken(name)).unwrap_or(wanted)
    }

    /// A policy in mode DryRun. False where it would cover or ask nothing, or more than one policy can.
    pub(super) fn policy(
        &mut self,
        wanted: &str,
        origin: &str,
        covered: &Covered,
        require: Vec<Value>,
    ) -> bool {
        if covered.images.is_empty() || require.is_empty() || covered.images.len() > MOST_PATTERNS {
            return false;
        }
        let mut matched = json!({"images": covered.images});
        for (field, values) in [
            ("excludeImages", &covered.exclude_images),
            ("namespaces", &covered.namespaces),
            ("excludeNamespaces", &covered.exclude_namespaces),
        ] {
            if !values.is_empty() {
                matched[field] = json!(values);
            }
        }
        if let Some(selector) = &covered.namespace_selector {
            matched["namespaceSelector"] = selector.clone();
        }
        let taken = |name: &str| {
            self.policies
                .iter()
                .any(|policy| policy["metadata"]["name"] == name)
        };
        let wanted = name(wanted);
        let numbered =
            (2..).map(|number| name(&format!("{}-{number}", &wanted[..wanted.len().min(NAME - 5)])));
        let mut names = std::iter::once(wanted.clone()).chain(numbered);
        let name = names.find(|name| !taken(name)).unwrap_or(wanted);
        self.policies.push(json!({
            "apiVersion": "assay.dev/v1alpha1",
            "kind": "ImagePolicy",
            "metadata": {"name": name},
            "spec": {
                "description": format!("Imported from {origin}"),
                "mode": "DryRun",
                "match": matched,
                "require": require,
            },
        }));
        true
    }

    /// The keys first.
    pub(super) fn objects(self) -> Vec<Value> {
        self.keys.into_iter().chain(self.policies).collect()
    }
}

/// A name that the API server takes: lower-case letters, digits and dashes.
pub(super) fn name(wanted: &str) -> String {
    let lower = wanted.to_lowercase();
    let letters = lower.chars().map(|letter| match letter {
        'a'..='z' | '0'..='9' => letter,
        _ => '-',
    });
    let name: String = letters.take(NAME).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        "imported".to_owned()
    } else {
        name
    }
}

/// A requirement of signatures by at least so many of the rings.
pub(super) fn signatures(name: &str, rings: &[String], minimum: usize) -> Value {
    let mut signature = json!({"signedBy": rings});
    if minimum > 1 {
        signature["minimum"] = minimum.into();
    }
    json!({"name": self::name(name), "signature": signature})
}

/// A requirement of an attestation by one of the rings.
pub(super) fn attestation(name: &str, predicate_type: &str, rings: &[String]) -> Value {
    json!({
        "name": self::name(name),
        "attestation": {"predicateType": predicate_type, "signedBy": rings},
    })
}

/// The full type behind the short names that cosign gives predicates.
pub(super) fn predicate_type(written: &str) -> String {
    match written {
        "vuln" => "https://cosign.sigstore.dev/attestation/vuln/v1",
        "custom" => "https://cosign.sigstore.dev/attestation/v1",
        "slsaprovenance" | "slsaprovenance02" => "https://slsa.dev/provenance/v0.2",
        "slsaprovenance1" => "https://slsa.dev/provenance/v1",
        "spdx" | "spdxjson" => "https://spdx.dev/Document",
        "cyclonedx" => "https://cyclonedx.org/bom",
        "link" => "https://in-toto.io/Link/v1",
        "openvex" => "https://openvex.dev/ns",
        other => other,
    }
    .to_owned()
}

/// The PEM blocks of a text, one a key.
pub(super) fn pem_blocks(text: &str) -> Vec<String> {
    const END: &str = "-----END PUBLIC KEY-----";
    let mut blocks = Vec::new();
    let mut rest = text;
    while let (Some(start), Some(end)) = (rest.find("-----BEGIN PUBLIC KEY-----"), rest.find(END)) {
        if end < start {
            break;
        }
        let block = &rest[start..end + END.len()];
        let lines: Vec<&str> = block.lines().map(str::trim).collect();
        blocks.push(lines.join("\n") + "\n");
        rest = &rest[end + END.len()..];
    }
    blocks
}

/// A long-lived key, as a SigningKey has it.
pub(super) fn key(pem: &str) -> Map<String, Value> {
    let mut spec = Map::new();
    spec.insert("publicKey".into(), json!({"pem": pem}));
    spec
}

/// An identity, as a SigningKey has it; None where issuer or subject is missing.
pub(super) fn identity(
    issuer: Option<String>,
    issuer_regex: Option<String>,
    subject: Option<String>,
    subject_regex: Option<String>,
) -> Option<Map<String, Value>> {
    let mut keyless = Map::new();
    match (issuer, issuer_regex) {
        (Some(exact), _) => keyless.insert("issuer".into(), exact.into()),
        (None, Some(regex)) => keyless.insert("issuerRegex".into(), whole(&regex).into()),
        (None, None) => return None,
    };
    match (subject, subject_regex) {
        (Some(exact), _) => keyless.insert("subject".into(), exact.into()),
        (None, Some(regex)) => keyless.insert("subjectRegex".into(), whole(&regex).into()),
        (None, None) => return None,
    };
    let mut spec = Map::new();
    spec.insert("keyless".into(), Value::Object(keyless));
    Some(spec)
}

/// A regular expression that is found anywhere, as one that must match the whole text.
fn whole(regex: &str) -> String {
    let begins = regex.starts_with('^');
    let ends = regex.ends_with('$') && !regex.ends_with("\\$");
    match (begins, ends, regex.contains('|')) {
        (true, true, false) => regex[1..regex.len() - 1].to_owned(),
        (true, false, false) => format!("{}.*", &regex[1..]),
        // Anchors within mean the same there.
        _ => format!(".*(?:{regex}).*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_one_signing_key_and_other_keys_have_other_names() {
        let mut made = Made::default();
        assert_eq!(made.ring("Shop_Release", key("a")), "shop-release");
        assert_eq!(made.ring("other", key("a")), "shop-release");
        assert_eq!(made.ring("shop-release", key("b")), "shop-release-2");
        assert_eq!(made.objects().len(), 2);
    }

    #[test]
    fn an_expression_means_what_it_meant() {
        for (regex, text, expected) in [
            ("^https://github.com/acme/.*$", "https://github.com/acme/x", true),
            ("acme", "https://github.com/acme/x", true),
            ("^acme", "https://github.com/acme/x", false),
            ("a|b", "xbx", true),
            ("^a$|^b$", "b", true),
            ("^a$|^b$", "xb", false),
            ("^a|b", "xb", true),
        ] {
            let pattern = verify::Pattern::regex(&whole(regex)).unwrap();
            assert_eq!(pattern.matches(text), expected, "{regex}");
        }
    }

    #[test]
    fn several_keys_in_one_text_are_several() {
        let one = "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----";
        assert_eq!(pem_blocks(&format!("  {one}\n {one}\n")).len(), 2);
        assert_eq!(pem_blocks("k8s://shop/key").len(), 0);
    }
}
