//! Predicates are written by others: whatever they hold, reading them ends, and an expression over them too.

use proptest::prelude::*;

use super::*;
use crate::expression::{Expression, Inputs};
use crate::scan::{Finding, Severity};
use crate::{own_time, scan, slsa, vex};

/// The names that the readers look for, and some that they do not.
const NAMES: [&str; 40] = [
    "scanner",
    "result",
    "SchemaVersion",
    "Results",
    "Class",
    "Vulnerabilities",
    "VulnerabilityID",
    "Severity",
    "FixedVersion",
    "PkgName",
    "PkgIdentifier",
    "PURL",
    "matches",
    "descriptor",
    "name",
    "vulnerability",
    "id",
    "fix",
    "state",
    "relatedVulnerabilities",
    "artifact",
    "metadata",
    "scanFinishedOn",
    "timestamp",
    "statements",
    "status",
    "justification",
    "products",
    "@id",
    "subcomponents",
    "hashes",
    "sha-256",
    "builder",
    "invocation",
    "configSource",
    "uri",
    "runDetails",
    "buildDefinition",
    "externalParameters",
    "x",
];
const TEXTS: [&str; 14] = [
    "grype",
    "os-pkgs",
    "CVE-1",
    "HIGH",
    "fixed",
    "not_affected",
    "2026-11-22T11:00:00Z",
    "0001-01-01T00:00:00Z",
    "git+https://github.com/acme/shop@refs/heads/main",
    "https://h/#",
    "pkg:deb/debian/openssl@3.0.1?arch=%zz",
    "pkg:oci/@?repository_url=%",
    "%e4%",
    "",
];

fn any_predicate() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(2)),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let fields = proptest::collection::vec((proptest::sample::select(&NAMES[..]), inner.clone()), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
            fields.prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

/// Expressions that touch everything that a value can be.
static EXPRESSIONS: LazyLock<Vec<Expression>> = LazyLock::new(|| {
    let sources = [
        "predicate.matches.all(m, m.vulnerability.id != 'CVE-1')",
        "predicate.map(k, predicate[k]).exists(v, v == predicate)",
        "size(predicate) > 0 && predicate.x < predicate.id || predicate.name + predicate.uri != 'x'",
        "timestamp(predicate.timestamp) - duration('1h') < timestamp(string(predicate.x))",
        "predicate.filter(k, predicate[k] in predicate.Results).size() - int(predicate.id) * -9223372036854775807 > 0",
        "predicate.Results[0] == predicate.Results[1] || double(predicate.x) / 0.0 > 1.0 || predicate.id % predicate.x == 0",
    ];
    sources.map(|source| Expression::compile(source).unwrap()).into()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn f22_reading_any_predicate_ends_without_a_panic(predicate in any_predicate()) {
        let finding = Finding {
            severity: Severity::High,
            fixable: true,
            id: "CVE-1".into(),
            aliases: vec![],
            package: "openssl".into(),
            purl: Some("pkg:deb/debian/openssl@3.0.1".into()),
        };
        let repository = REPOSITORY.parse().unwrap();
        let target = vex::Target { repository: &repository, digest: &digest("own") };
        for statement in vex::read(&predicate) {
            prop_assert!(!statement.is_about(&finding, target) || predicate.to_string().contains("CVE-1"));
        }
        // A scan that names no tool is never read as a clean one.
        if scan::read(&json!({"scanner": {"result": predicate}})).is_ok() {
            prop_assert!(predicate.get("SchemaVersion").or(predicate.get("descriptor")).is_some());
        }
        for predicate_type in slsa::PREDICATE_TYPES {
            if let Ok(provenance) = slsa::read(predicate_type, &predicate) {
                prop_assert!(!provenance.builder.is_empty());
            }
        }
        let time = own_time::earliest(&predicate, own_time::ANY_PREDICATE);
        prop_assert!(time.is_none() || predicate.to_string().contains('T'));
        let inputs = Inputs { statement: &predicate, predicate: &predicate, signer: &predicate, image: &predicate };
        for expression in EXPRESSIONS.iter() {
            let once = expression.evaluate(&inputs);
            prop_assert_eq!(expression.evaluate(&inputs), once);
        }
    }

    #[test]
    fn f22_reading_any_text_as_an_expression_ends_without_a_panic(source in "[a-z0-9 .,()\\[\\]{}'\"?:&|!<>=+*/%-]{0,60}") {
        if let Ok(expression) = Expression::compile(&source) {
            let nothing = json!({});
            expression.evaluate(&Inputs { statement: &nothing, predicate: &nothing, signer: &nothing, image: &nothing });
        }
    }
}
