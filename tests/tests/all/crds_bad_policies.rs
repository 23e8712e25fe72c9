//! ImagePolicies that the real API server refuses, and what it says.

use serde_json::{Value, json};

use crate::crds::{accepted, refusal};
use crate::manifests::{policy, with};
use crate::servers::servers;

/// What is wrong, the patch of the spec, and what the refusal must say.
type Bad<'a> = (&'static str, Value, &'a [&'a str]);

async fn each_is_refused(cases: Vec<Bad<'_>>) {
    let servers = servers().await;
    for (what, patch, says) in cases {
        let bad = with(policy("bad", "r.example/**", "release"), json!({"spec": patch}));
        let refusal = refusal(servers, &bad).await;
        let unsaid = says.iter().find(|words| !refusal.contains(**words));
        assert_eq!(unsaid, None, "{what}: {refusal}");
    }
}

#[tokio::test]
async fn c5_21_bad_requirements_are_refused_with_the_field_and_what_is_right() {
    let signature = |signature: Value| json!({"require": [{"name": "signed", "signature": signature}]});
    let named = |name: &str| json!({"require": [{"name": name, "signature": {"signedBy": ["release"]}}]});
    let one_kind = &[
        "spec.require[0]",
        "each entry of spec.require needs exactly one kind: set signature, attestation, provenance, vulnerabilities or trusted",
    ];
    let twice = json!({"require": [
        {"name": "signed", "signature": {"signedBy": ["release"]}},
        {"name": "signed", "signature": {"signedBy": ["review"]}},
    ]});
    let cannot_exceed = &[
        "spec.require[0].signature",
        "cannot exceed the number that signedBy names",
    ];
    let name_is_wrong = &[
        "spec.require[0].name",
        "must be lower-case letters, digits and dashes",
    ];
    each_is_refused(vec![
        ("no requirements", json!({"require": null}), &["spec.require: Required value"]),
        ("an empty list", json!({"require": []}), &["spec.require", "should have at least 1 items"]),
        (
            "33 requirements",
            json!({"require": (0..33).map(|number| named(&format!("r{number}"))["require"][0].clone()).collect::<Vec<_>>()}),
            &["spec.require: Too many: 33: must have at most 32 items"],
        ),
        ("no kind", json!({"require": [{"name": "signed"}]}), one_kind),
        ("a kind that is null", signature(Value::Null), one_kind),
        (
            "two kinds",
            json!({"require": [{"name": "signed", "signature": {"signedBy": ["release"]}, "trusted": {"reason": "x"}}]}),
            one_kind,
        ),
        (
            "one name twice",
            twice,
            &["spec.require[1]: Duplicate value: {\"name\":\"signed\"}"],
        ),
        (
            "no name",
            json!({"require": [{"signature": {"signedBy": ["release"]}}]}),
            &["spec.require[0].name: Required value"],
        ),
        ("a name in upper case", named("Signed"), name_is_wrong),
        (
            "no key rings",
            signature(json!({})),
            &["spec.require[0].signature.signedBy: Required value"],
        ),
        (
            "an empty list of key rings",
            signature(json!({"signedBy": []})),
            &["spec.require[0].signature.signedBy", "should have at least 1 items"],
        ),
        (
            "17 key rings",
            signature(json!({"signedBy": (0..17).map(|number| format!("r{number}")).collect::<Vec<_>>()})),
            &["spec.require[0].signature.signedBy: Too many: 17: must have at most 16 items"],
        ),
        (
            "a key ring twice",
            signature(json!({"signedBy": ["release", "release"]})),
            &["spec.require[0].signature.signedBy[1]: Duplicate value: \"release\""],
        ),
        (
            "a key ring in upper case",
            signature(json!({"signedBy": ["Release"]})),
            &["spec.require[0].signature.signedBy[0]", "must be lower-case letters, digits and dashes"],
        ),
        (
            "a minimum above the key rings",
            signature(json!({"signedBy": ["release"], "minimum": 2})),
            cannot_exceed,
        ),
        (
            "a minimum of 0",
            signature(json!({"signedBy": ["release"], "minimum": 0})),
            &["spec.require[0].signature.minimum", "should be greater than or equal to 1"],
        ),
    ])
    .await;
}

/// The spec that requires one thing of this kind.
fn requiring(kind: &str, required: Value) -> Value {
    json!({"require": [{"name": "r", kind: required}]})
}

#[tokio::test]
async fn c5_21_bad_attestations_and_provenance_are_refused_with_the_field_and_what_is_right() {
    let attestation = |patch: Value| {
        let good = json!({"predicateType": "https://example.com/review/v1", "signedBy": ["review"]});
        requiring("attestation", with(good, patch))
    };
    let provenance = |patch: Value| {
        let good = json!({"signedBy": ["builders"], "builderId": "https://example.com/builder"});
        requiring("provenance", with(good, patch))
    };
    let duration = "must be one to four numbers, each with h, m, s or ms, together longer than zero";
    each_is_refused(vec![
        (
            "no predicate type",
            attestation(json!({"predicateType": null})),
            &["attestation.predicateType: Required value"],
        ),
        (
            "the short name of a predicate type",
            attestation(json!({"predicateType": "vuln"})),
            &[
                "attestation.predicateType",
                "must be the full type of the predicate",
            ],
        ),
        (
            "nobody to attest",
            attestation(json!({"signedBy": null})),
            &["attestation.signedBy: Required value"],
        ),
        (
            "an age in days",
            attestation(json!({"maxAge": "7d"})),
            &["attestation.maxAge", duration],
        ),
        (
            "17 validations",
            attestation(json!({"validations": vec![json!({"expression": "true"}); 17]})),
            &["attestation.validations: Too many: 17: must have at most 16 items"],
        ),
        (
            "a validation without an expression",
            attestation(json!({"validations": [{"message": "x"}]})),
            &["attestation.validations[0].expression: Required value"],
        ),
        (
            "an expression of 4097 characters",
            attestation(json!({"validations": [{"expression": "x".repeat(4097)}]})),
            &["attestation.validations[0].expression: Too long: may not be more than 4096"],
        ),
        (
            "provenance of which nothing is asked",
            provenance(json!({"builderId": null})),
            &[
                "require[0].provenance",
                "set builderId, sourceRepository, or both",
            ],
        ),
        (
            "a reference without a repository",
            provenance(json!({"sourceRef": "refs/heads/main"})),
            &["require[0].provenance", "sourceRef belongs to a repository"],
        ),
        (
            "nobody to vouch for the build",
            provenance(json!({"signedBy": []})),
            &["provenance.signedBy", "should have at least 1 items"],
        ),
        (
            "trust without a reason",
            requiring("trusted", json!({})),
            &["trusted.reason: Required value"],
        ),
        (
            "trust with an empty reason",
            requiring("trusted", json!({"reason": ""})),
            &["trusted.reason", "should be at least 1 chars long"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn c5_21_bad_vulnerabilities_are_refused_with_the_field_and_what_is_right() {
    let scan = |patch: Value| {
        let good = json!({"signedBy": ["scanners"], "maxAge": "168h"});
        requiring("vulnerabilities", with(good, patch))
    };
    let allowed = |patch: Value| {
        let good = json!({"id": "CVE-2026-1", "reason": "not called", "expires": "2027-01-01T00:00:00Z"});
        scan(json!({"allow": [with(good, patch)]}))
    };
    let id = "must be the id of one vulnerability, such as CVE-2024-1234";
    each_is_refused(vec![
        (
            "no age",
            scan(json!({"maxAge": null})),
            &["vulnerabilities.maxAge: Required value"],
        ),
        (
            "nobody to scan",
            scan(json!({"signedBy": null})),
            &["vulnerabilities.signedBy: Required value"],
        ),
        (
            "a severity that there is not",
            scan(json!({"maxFixable": "Severe"})),
            &[
                "vulnerabilities.maxFixable: Unsupported value: \"Severe\"",
                "\"None\", \"Low\", \"Medium\", \"High\", \"Critical\"",
            ],
        ),
        (
            "a severity in capitals",
            scan(json!({"maxUnfixable": "HIGH"})),
            &["vulnerabilities.maxUnfixable: Unsupported value: \"HIGH\""],
        ),
        (
            "an allowed vulnerability without an end",
            allowed(json!({"expires": null})),
            &["vulnerabilities.allow[0].expires: Required value"],
        ),
        (
            "an allowed vulnerability without a reason",
            allowed(json!({"reason": null})),
            &["vulnerabilities.allow[0].reason: Required value"],
        ),
        (
            "an end that is no time",
            allowed(json!({"expires": "next year"})),
            &["vulnerabilities.allow[0].expires"],
        ),
        (
            "a pattern of ids",
            allowed(json!({"id": "CVE-*"})),
            &["vulnerabilities.allow[0].id", id],
        ),
        (
            "one vulnerability allowed twice",
            scan(json!({"allow": [
                {"id": "CVE-1", "reason": "a", "expires": "2027-01-01T00:00:00Z"},
                {"id": "CVE-1", "reason": "b", "expires": "2027-01-01T00:00:00Z"},
            ]})),
            &["vulnerabilities.allow[1]: Duplicate value"],
        ),
        (
            "a blocked vulnerability with a space",
            scan(json!({"block": ["CVE 1"]})),
            &["vulnerabilities.block[0]", id],
        ),
        (
            "129 blocked vulnerabilities",
            scan(json!({"block": (0..129).map(|number| format!("CVE-{number}")).collect::<Vec<_>>()})),
            &["vulnerabilities.block: Too many: 129: must have at most 128 items"],
        ),
        (
            "an author of VEX in upper case",
            scan(json!({"vex": ["Security"]})),
            &[
                "vulnerabilities.vex[0]",
                "must be lower-case letters, digits and dashes",
            ],
        ),
    ])
    .await;
}

#[tokio::test]
async fn c3_15_c5_21_patterns_that_can_match_no_repository_are_refused() {
    let pattern = &[
        "must be a pattern of repositories in lower case, without tag and digest",
        "registry.example.com/shop/**",
    ];
    let digest = format!("r.example/a@sha256:{}", "0".repeat(64));
    let servers = servers().await;
    for bad in [
        "r.example/a:1.0",
        "r.example:5000/a:1.0",
        "nginx:1.27",
        "*:latest",
        digest.as_str(),
        "r.example/App",
        "R.example/app",
        "https://r.example/app",
        "r.example//app",
        "r.example/app/",
        "/app",
        "r.example/***",
        "r.example/a b",
        "r.example/a,r.example/b",
        "r.example/[ab]",
        "",
    ] {
        for field in ["images", "excludeImages"] {
            let mut object = policy("bad", "r.example/**", "release");
            object["spec"]["match"][field] = json!([bad]);
            let refusal = refusal(servers, &object).await;
            assert!(
                refusal.contains(&format!("spec.match.{field}[0]")),
                "{bad}: {refusal}"
            );
            let unsaid = pattern.iter().find(|words| !refusal.contains(**words));
            assert_eq!(unsaid, None, "{bad}: {refusal}");
        }
    }
    for good in [
        "**",
        "nginx",
        "*.example.com/org/*",
        "localhost:5000/**",
        "r.example:*/a",
        "**/web",
        "r.example/a__b/c-d.e",
    ] {
        accepted(servers, &policy("good", good, "release")).await;
    }
}

#[tokio::test]
async fn c5_21_a_bad_match_is_refused_with_the_field_and_what_is_right() {
    let selected =
        |expression: Value| json!({"match": {"namespaceSelector": {"matchExpressions": [expression]}}});
    let namespace = "must be the name of a namespace, or a pattern of names such as team-*";
    let values = "In and NotIn need values; Exists and DoesNotExist take none";
    let repositories: Vec<String> = (0..65).map(|number| format!("r.example/{number}")).collect();
    each_is_refused(vec![
        (
            "no match",
            json!({"match": null}),
            &["spec.match: Required value"],
        ),
        (
            "no images",
            json!({"match": {"images": null}}),
            &["spec.match.images: Required value"],
        ),
        (
            "an empty list of images",
            json!({"match": {"images": []}}),
            &["spec.match.images", "should have at least 1 items"],
        ),
        (
            "65 images",
            json!({"match": {"images": repositories}}),
            &["spec.match.images: Too many: 65: must have at most 64 items"],
        ),
        (
            "a namespace in upper case",
            json!({"match": {"namespaces": ["Shop"]}}),
            &["spec.match.namespaces[0]", namespace],
        ),
        (
            "a namespace with a slash",
            json!({"match": {"excludeNamespaces": ["a/b"]}}),
            &["spec.match.excludeNamespaces[0]", namespace],
        ),
        (
            "NotIn without values",
            selected(json!({"key": "env", "operator": "NotIn"})),
            &["spec.match.namespaceSelector.matchExpressions[0]", values],
        ),
        (
            "In with no value",
            selected(json!({"key": "env", "operator": "In", "values": []})),
            &["spec.match.namespaceSelector.matchExpressions[0]", values],
        ),
        (
            "Exists with a value",
            selected(json!({"key": "env", "operator": "Exists", "values": ["prod"]})),
            &["spec.match.namespaceSelector.matchExpressions[0]", values],
        ),
        (
            "an operator that there is not",
            selected(json!({"key": "env", "operator": "Like", "values": ["prod"]})),
            &[
                "matchExpressions[0].operator: Unsupported value: \"Like\"",
                "\"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
            ],
        ),
    ])
    .await;
}

#[tokio::test]
async fn c5_21_bad_options_are_refused_with_the_field_and_what_is_right() {
    let duration = "must be one to four numbers, each with h, m, s or ms, together longer than zero, such as 6h or 1h30m";
    let mut cases: Vec<Bad<'_>> = vec![
        (
            "a mode that there is not",
            json!({"mode": "Audit"}),
            &[
                "spec.mode: Unsupported value: \"Audit\"",
                "\"DryRun\", \"Warn\", \"Enforce\"",
            ],
        ),
        (
            "a multi-arch choice that there is not",
            json!({"multiArch": {"accept": "Index"}}),
            &[
                "spec.multiArch.accept: Unsupported value: \"Index\"",
                "\"IndexOrPlatform\", \"Platform\"",
            ],
        ),
        (
            "a remediation of 257 characters",
            json!({"remediation": "x".repeat(257)}),
            &["spec.remediation: Too long: may not be more than 256"],
        ),
        (
            "both an interval and a schedule",
            json!({"recheck": {"interval": "6h", "schedule": "0 3 * * *"}}),
            &["spec.recheck takes interval or schedule, not both"],
        ),
        (
            "a time zone without a schedule",
            json!({"recheck": {"timeZone": "Europe/Berlin"}}),
            &["spec.recheck.timeZone belongs to schedule: set spec.recheck.schedule or leave timeZone out"],
        ),
        (
            "a time zone that cannot be one",
            json!({"recheck": {"schedule": "0 3 * * *", "timeZone": "Europe/../Berlin"}}),
            &[
                "spec.recheck.timeZone",
                "must be the name of an IANA time zone, such as Europe/Berlin",
            ],
        ),
    ];
    for bad in [
        "0s",
        "0h0m",
        "soon",
        "6",
        "-5m",
        "1d",
        "1.5h",
        "1 h",
        "123456s",
        "1h1h1h1h1h",
        "",
    ] {
        cases.push((
            "a bad interval",
            json!({"recheck": {"interval": bad}}),
            &["spec.recheck.interval"],
        ));
        cases.push((
            "a bad staleness",
            json!({"recheck": {"maxStaleness": bad}}),
            &["spec.recheck.maxStaleness"],
        ));
    }
    for bad in ["0 3 * *", "0 0 3 * * *", "@daily", "0 3 * * $", ""] {
        cases.push((
            "a bad schedule",
            json!({"recheck": {"schedule": bad}}),
            &[
                "spec.recheck.schedule",
                "must be a cron expression of five fields",
                "'0 3 * * *'",
            ],
        ));
    }
    each_is_refused(cases).await;
    let servers = servers().await;
    let bad = with(
        policy("bad", "**", "release"),
        json!({"spec": {"recheck": {"interval": "soon"}}}),
    );
    let refusal = refusal(servers, &bad).await;
    assert!(refusal.contains(duration), "{refusal}");
    assert_eq!(
        refusal.matches("spec.recheck.interval").count(),
        1,
        "one message for one fault: {refusal}"
    );
}

#[tokio::test]
async fn good_policies_are_accepted() {
    let patches = [
        json!({}),
        json!({"mode": "Warn", "description": "what runs is signed", "remediation": "Ask the release team."}),
        json!({"mode": "DryRun", "requireDigest": true, "bindRepository": true, "multiArch": {"accept": "Platform"}}),
        json!({"recheck": {"interval": "1h30m", "maxStaleness": "500ms"}}),
        json!({"recheck": {"schedule": "*/5 0-6,22 1 JAN-DEC MON#1", "timeZone": "America/Argentina/Buenos_Aires"}}),
        json!({"recheck": {"schedule": " 0  3 * * * ", "timeZone": "Etc/GMT+3"}}),
        json!({"match": {"excludeImages": ["r.example/a/*"], "namespaces": ["team-*", "shop"], "excludeNamespaces": ["*-dev"]}}),
        json!({"match": {"namespaceSelector": {"matchLabels": {"env": "prod"}, "matchExpressions": [
            {"key": "team", "operator": "NotIn", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}]}}}),
        json!({"require": [{"name": "both", "signature": {"signedBy": ["release", "review"], "minimum": 2}}]}),
        json!({"multiArch": {"acceptIndexAttestations": true}, "require": [
            {"name": "reviewed", "attestation": {"predicateType": "https://example.com/review/v1", "signedBy": ["review"],
                "maxAge": "720h", "validations": [{"expression": "predicate.approvals.size() >= 2", "message": "two"}]}},
            {"name": "built", "provenance": {"signedBy": ["builders"], "sourceRepository": "https://github.com/acme/shop",
                "sourceRef": "refs/heads/main"}},
            {"name": "scan", "vulnerabilities": {"signedBy": ["scanners"], "maxAge": "168h", "maxFixable": "High",
                "maxUnfixable": "None", "block": ["CVE-2021-44228"], "vex": ["security"],
                "allow": [{"id": "GHSA-aaaa-bbbb-cccc", "reason": "x", "expires": "2027-01-01T00:00:00Z"}]}},
            {"name": "vendor", "trusted": {"reason": "delivered by the vendor"}},
        ]}),
    ];
    let servers = servers().await;
    for patch in patches {
        let good = with(policy("good", "r.example/**", "release"), json!({"spec": patch}));
        accepted(servers, &good).await;
    }
}
