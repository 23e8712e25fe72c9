//! OpenVEX documents (<https://github.com/openvex/spec>, v0.2.0 and before) inside attestations: which vulnerabilities
//! of an image their author says are fixed or do not affect it. Whom a policy believes is in `vulnerabilities`.
//!
//! A statement speaks about the image if it names no product (the attestation's subject is the product then), or one
//! that is this image: by its digest, or by a package URL of type `oci` without a digest whose `repository_url` is the
//! repository; or one that is the package of the finding. With subcomponents it speaks about these packages alone.

use image::{Digest, Repository};
use jiff::Timestamp;
use serde_json::Value;

use crate::own_time;
use crate::scan::Finding;

/// With or without a version behind it.
const PREDICATE_TYPE: &str = "https://openvex.dev/ns";

/// Whether attestations of this type hold OpenVEX documents.
pub fn is_predicate_type(predicate_type: &str) -> bool {
    predicate_type == PREDICATE_TYPE
        || predicate_type
            .strip_prefix(PREDICATE_TYPE)
            .is_some_and(|rest| rest.starts_with("/v"))
}

/// One statement of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The vulnerability's name and its other names.
    names: Vec<String>,
    products: Vec<Product>,
    /// It does not affect the product, or is fixed in it.
    pub(crate) suppresses: bool,
    /// The statement's time, else the document's.
    pub(crate) time: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Product {
    /// An id, a package URL; whatever names it.
    names: Vec<String>,
    subcomponents: Vec<String>,
}

/// The image that statements are held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) digest: &'a Digest,
}

/// Reads a document. Statements that cannot be understood are left out: they suppress nothing.
pub(crate) fn read(document: &Value) -> Vec<Statement> {
    let time = time_of(document);
    let statements = document.get("statements").and_then(Value::as_array);
    statements
        .into_iter()
        .flatten()
        .filter_map(|found| statement(found, time))
        .collect()
}

/// The latest time at which a statement of the document counts; one that says that the image is affected and names no
/// time counts at all times.
pub(crate) fn latest(document: &Value) -> Option<Timestamp> {
    let statements = read(document);
    let times = statements.iter().filter_map(|statement| {
        let always = (!statement.suppresses).then_some(Timestamp::MAX);
        statement.time.or(always)
    });
    times.max()
}

fn statement(found: &Value, document_time: Option<Timestamp>) -> Option<Statement> {
    let text = |name: &str| {
        found
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let suppresses = match text("status")? {
        // A reason is mandatory: without one the statement is not valid.
        "not_affected" => text("justification").or(text("impact_statement")).is_some(),
        "fixed" => true,
        "affected" | "under_investigation" => false,
        _ => return None,
    };
    let own_time = found.get("timestamp").is_some() || found.get("last_updated").is_some();
    Some(Statement {
        names: vulnerability(found.get("vulnerability")?)?,
        products: products(found.get("products"))?,
        suppresses,
        time: if own_time { time_of(found) } else { document_time },
    })
}

/// The later of the time of issue and that of the last update.
fn time_of(value: &Value) -> Option<Timestamp> {
    ["timestamp", "last_updated"]
        .into_iter()
        .filter_map(|name| own_time::read(value.get(name)?.as_str()?))
        .max()
}

/// A name, as documents before v0.2.0 have it, or an object.
fn vulnerability(value: &Value) -> Option<Vec<String>> {
    if let Some(name) = value.as_str() {
        return Some(vec![name.to_owned()]);
    }
    let name = value.get("name").and_then(Value::as_str)?;
    let aliases = value.get("aliases").and_then(Value::as_array);
    let aliases = aliases.into_iter().flatten().filter_map(Value::as_str);
    Some(std::iter::once(name).chain(aliases).map(str::to_owned).collect())
}

fn products(value: Option<&Value>) -> Option<Vec<Product>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(products)) => products.iter().map(product).collect(),
        Some(_) => None,
    }
}

fn product(value: &Value) -> Option<Product> {
    let subcomponents = match value.get("subcomponents") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(parts)) => {
            let names: Option<Vec<Vec<String>>> = parts.iter().map(component).collect();
            names?.concat()
        }
        Some(_) => return None,
    };
    Some(Product {
        names: component(value)?,
        subcomponents,
    })
}

/// Everything that names a component: the text itself, its `@id`, its identifiers, its hash.
fn component(value: &Value) -> Option<Vec<String>> {
    if let Some(name) = value.as_str() {
        return Some(vec![name.to_owned()]);
    }
    let identifiers = ["/@id", "/identifiers/purl"];
    let mut names: Vec<String> = identifiers
        .into_iter()
        .filter_map(|path| value.pointer(path)?.as_str())
        .map(str::to_owned)
        .collect();
    if let Some(hash) = value.pointer("/hashes/sha-256").and_then(Value::as_str) {
        names.push(format!("sha256:{hash}"));
    }
    (!names.is_empty()).then_some(names)
}

impl Statement {
    /// Whether it speaks about this finding in this image.
    pub(crate) fn is_about(&self, finding: &Finding, target: Target<'_>) -> bool {
        let named = self.names.iter().any(|name| finding.is_named(name));
        named
            && (self.products.is_empty()
                || self
                    .products
                    .iter()
                    .any(|product| product.is_about(finding, target)))
    }
}

impl Product {
    fn is_about(&self, finding: &Finding, target: Target<'_>) -> bool {
        let is_package = |name: &String| finding.purl.as_deref().is_some_and(|purl| covers(name, purl));
        if self.names.iter().any(|name| names_image(name, target)) {
            return self.subcomponents.is_empty() || self.subcomponents.iter().any(is_package);
        }
        self.subcomponents.is_empty() && self.names.iter().any(is_package)
    }
}

fn names_image(name: &str, target: Target<'_>) -> bool {
    let name = decoded(name);
    let digest = target.digest.to_string();
    let ends_with_it = name.split(['@', '?', '#', '&']).any(|part| part == digest);
    ends_with_it || names_repository(&name, target.repository)
}

/// `pkg:oci/web?repository_url=registry.example.com/shop/web`, where no digest says which image.
fn names_repository(purl: &str, repository: &Repository) -> bool {
    let Some(rest) = purl.strip_prefix("pkg:oci/") else {
        return false;
    };
    let Some((name, qualifiers)) = rest.split_once('?') else {
        return false;
    };
    let url = qualifiers
        .split(['&', '#'])
        .find_map(|qualifier| qualifier.strip_prefix("repository_url="));
    !name.contains('@')
        && url.is_some_and(|url| url.parse::<Repository>().is_ok_and(|named| named == *repository))
}

/// Whether a package URL of a statement covers that of a finding: the same type and name, and the same version where
/// the statement names one. Qualifiers (architecture, distribution) do not tell packages apart.
fn covers(stated: &str, found: &str) -> bool {
    let Some((stated, stated_version)) = package(stated) else {
        return false;
    };
    let Some((found, found_version)) = package(found) else {
        return false;
    };
    stated == found && (stated_version.is_none() || stated_version == found_version)
}

/// The name and the version of a package URL.
fn package(purl: &str) -> Option<(String, Option<String>)> {
    let rest = purl.strip_prefix("pkg:")?;
    let rest = rest.split(['?', '#']).next()?;
    let (name, version) = match rest.rsplit_once('@') {
        Some((name, version)) if !name.is_empty() => (name, Some(decoded(version))),
        _ => (rest, None),
    };
    Some((decoded(name), version))
}

/// Without percent encoding; what is not encoded properly stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match hex
            .filter(|_| *byte == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(decoded) => {
                plain.push(decoded);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scan::Severity;

    const REPOSITORY: &str = "registry.example.com/shop/web";

    fn finding(purl: Option<&str>) -> Finding {
        Finding {
            severity: Severity::High,
            fixable: true,
            id: "GHSA-aaaa".into(),
            aliases: vec!["CVE-2024-1".into()],
            package: "lib 1.1".into(),
            purl: purl.map(str::to_owned),
        }
    }

    fn digest() -> Digest {
        Digest::sha256(b"web")
    }

    /// Whether the first statement of a document is about the finding, and suppresses it.
    fn suppressed(statement: Value, purl: Option<&str>) -> bool {
        let repository = REPOSITORY.parse().unwrap();
        let target = Target {
            repository: &repository,
            digest: &digest(),
        };
        let document = json!({"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-11-20T10:00:00Z",
            "statements": [statement]});
        read(&document)
            .first()
            .is_some_and(|statement| statement.suppresses && statement.is_about(&finding(purl), target))
    }

    fn fixed(products: Value) -> Value {
        json!({"vulnerability": {"name": "CVE-2024-1"}, "status": "fixed", "products": products})
    }

    #[test]
    fn predicate_types_of_openvex_are_known_by_their_prefix() {
        for known in ["https://openvex.dev/ns", "https://openvex.dev/ns/v0.2.0"] {
            assert!(is_predicate_type(known), "{known}");
        }
        for other in [
            "https://openvex.dev/nsx",
            "https://openvex.dev/ns.evil",
            "https://openvex.dev",
        ] {
            assert!(!is_predicate_type(other), "{other}");
        }
    }

    #[test]
    fn c4_12_fixed_and_not_affected_suppress_and_nothing_else_does() {
        let with = |status: &str, justification: Option<&str>| json!({"vulnerability": "CVE-2024-1", "status": status, "justification": justification});
        assert!(suppressed(with("fixed", None), None));
        assert!(suppressed(
            with("not_affected", Some("component_not_present")),
            None
        ));
        for status in ["affected", "under_investigation", "unaffected", "", "FIXED"] {
            assert!(
                !suppressed(with(status, Some("component_not_present")), None),
                "{status}"
            );
        }
        assert!(
            !suppressed(with("not_affected", None), None),
            "a reason is mandatory"
        );
        assert!(!suppressed(with("not_affected", Some("")), None));
    }

    #[test]
    fn c4_12_a_statement_is_about_the_vulnerability_that_it_names() {
        let named = |vulnerability: Value| json!({"vulnerability": vulnerability, "status": "fixed"});
        for same in [
            json!("GHSA-aaaa"),
            json!({"name": "cve-2024-1"}),
            json!({"name": "CVE-9", "aliases": ["CVE-2024-1"]}),
        ] {
            assert!(suppressed(named(same.clone()), None), "{same}");
        }
        for other in [
            json!("CVE-2024-11"),
            json!({"name": "CVE-2024"}),
            json!({}),
            json!(null),
            json!(["CVE-2024-1"]),
        ] {
            assert!(!suppressed(named(other.clone()), None), "{other}");
        }
    }

    #[test]
    fn c4_12_a_statement_is_about_the_image_or_the_package_that_it_names() {
        let hex = digest().hex();
        let purl = Some("pkg:npm/%40acme/lib@1.1?arch=amd64");
        for product in [
            json!({"@id": format!("pkg:oci/web@sha256:{hex}")}),
            json!({"@id": format!("pkg:oci/web@sha256%3A{hex}?repository_url=other.example/x")}),
            json!({"@id": format!("{REPOSITORY}@sha256:{hex}")}),
            json!({"@id": "web", "hashes": {"sha-256": hex}}),
            json!({"@id": "web", "identifiers": {"purl": format!("pkg:oci/web@sha256:{hex}")}}),
            json!(format!("sha256:{hex}")),
            json!({"@id": format!("pkg:oci/web?repository_url={REPOSITORY}")}),
            json!({"@id": "pkg:npm/@acme/lib@1.1"}),
            json!({"@id": "pkg:npm/%40acme/lib"}),
            json!({"@id": format!("sha256:{hex}"), "subcomponents": [{"@id": "pkg:npm/other"}, {"@id": "pkg:npm/%40acme/lib@1.1"}]}),
        ] {
            assert!(suppressed(fixed(json!([product])), purl), "{product}");
        }
        for product in [
            json!({"@id": "pkg:oci/web"}),
            json!({"@id": "pkg:oci/web?repository_url=registry.example.com/shop/cart"}),
            json!({"@id": format!("pkg:oci/web@sha256:{}?repository_url={REPOSITORY}", "0".repeat(64))}),
            json!({"@id": format!("pkg:oci/web@sha256:{hex}0")}),
            json!({"@id": "pkg:npm/%40acme/lib@1.2"}),
            json!({"@id": "pkg:npm/lib@1.1"}),
            json!({"@id": format!("sha256:{hex}"), "subcomponents": [{"@id": "pkg:npm/%40acme/lib@1.2"}]}),
            json!({"@id": "pkg:oci/other", "subcomponents": [{"@id": "pkg:npm/%40acme/lib@1.1"}]}),
            json!({}),
            json!(7),
        ] {
            assert!(!suppressed(fixed(json!([product])), purl), "{product}");
        }
        assert!(!suppressed(
            fixed(
                json!([{"@id": format!("sha256:{hex}"), "subcomponents": [{"@id": "pkg:npm/%40acme/lib"}]}])
            ),
            None
        ));
        assert!(
            !suppressed(fixed(json!({"@id": format!("sha256:{hex}")})), purl),
            "not a list"
        );
    }

    #[test]
    fn a_statement_takes_its_time_from_itself_or_from_the_document() {
        let read = |statement: Value| {
            let document = json!({"timestamp": "2026-11-20T10:00:00Z", "last_updated": "2026-11-21T10:00:00Z",
                "statements": [statement]});
            super::read(&document)[0].time.map(|time| time.to_string())
        };
        let base = json!({"vulnerability": "CVE-2024-1", "status": "fixed"});
        assert_eq!(read(base.clone()).as_deref(), Some("2026-11-21T10:00:00Z"));
        let mut own = base.clone();
        own["timestamp"] = json!("2026-11-01T10:00:00Z");
        assert_eq!(read(own).as_deref(), Some("2026-11-01T10:00:00Z"));
        let mut odd = base;
        odd["timestamp"] = json!("yesterday");
        assert_eq!(
            read(odd),
            None,
            "a time of its own that cannot be read is not replaced"
        );
    }

    #[test]
    fn what_is_no_document_says_nothing() {
        for document in [
            json!(null),
            json!([]),
            json!({}),
            json!({"statements": {}}),
            json!({"statements": [null, 7, {}]}),
        ] {
            assert_eq!(read(&document), [], "{document}");
        }
    }
}
