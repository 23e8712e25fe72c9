use super::*;
use serde_json::json;

fn spec(changes: Value) -> PolicyPreviewSpec {
    serde_json::from_value(json!({"changes": changes})).unwrap()
}

fn now() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

fn problems(changes: Value) -> Vec<String> {
    facts(&spec(changes), now()).unwrap_err()
}

fn key(spec: Value) -> Value {
    json!({"apply": {"apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "metadata": {"name": "k"}, "spec": spec}})
}

#[test]
fn changes_are_told_as_what_is_would_be() {
    let revocation = json!({"apiVersion": "assay.dev/v1alpha1", "kind": "KeyRevocation", "metadata": {"name": "ab"},
        "spec": {"fingerprint": "ab", "reason": "Hold"}});
    let told = facts(
        &spec(json!([
            key(json!({"keyRing": "release", "stage": "Disabled", "publicKey": {"pem": "x"}})),
            {"apply": revocation},
            {"delete": {"kind": "ImagePolicy", "name": "prod"}},
        ])),
        now(),
    )
    .unwrap();
    assert!(
        matches!(&told[0], Fact::Key(facts) if facts.spec.as_ref().unwrap().stage == api::Stage::Disabled)
    );
    assert!(matches!(&told[1], Fact::Revocation(facts) if facts.created == Some(now())));
    assert!(matches!(&told[2], Fact::PolicyGone(name) if &**name == "prod"));
}

#[test]
fn each_fault_is_named_by_its_place() {
    let good = json!({"keyRing": "release", "stage": "Active"});
    let misspelt = json!({"keyRing": "release", "stage": "Active", "notafter": "2026-01-01T00:00:00Z"});
    let unnamed = json!({"apply": {"apiVersion": "assay.dev/v1alpha1", "kind": "SigningKey", "spec": good}});
    let other = json!({"apply": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}});
    let found = problems(json!([
        key(misspelt),
        unnamed,
        other,
        key(json!({"stage": "Active"})),
        {"delete": {"kind": "Pod", "name": "p"}},
    ]));
    let expected = [
        "spec.changes[0].apply: unknown field spec.notafter",
        "spec.changes[1].apply: metadata.name: found none",
        "spec.changes[2].apply: kind: found \"Pod\"",
        "spec.changes[3].apply: missing field `keyRing`",
        "spec.changes[4].delete: kind: expected SigningKey",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn a_preview_is_over_after_its_time() {
    let preview = |ttl: Value, created: &str| {
        let object = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "PolicyPreview",
            "metadata": {"name": "p", "generation": 1, "creationTimestamp": created},
            "spec": {"changes": [], "ttl": ttl},
        });
        Preview::of(&serde_json::from_value(object).unwrap())
    };
    let left = |ttl, created| time_left(&preview(ttl, created), now());
    assert_eq!(
        left(json!("10m"), "2026-02-28T23:55:00Z"),
        Duration::from_secs(300)
    );
    assert_eq!(left(json!("10m"), "2026-02-28T23:50:00Z"), Duration::ZERO);
    assert_eq!(
        left(json!(null), "2026-02-28T23:50:00Z"),
        Duration::from_secs(3000)
    );
    assert_eq!(
        left(json!("soon"), "2026-02-28T23:50:00Z"),
        Duration::from_secs(3000)
    );
}

#[test]
fn totals_are_exact_where_the_lists_are_cut() {
    let result = |number: usize| PreviewResult {
        namespace: "shop".into(),
        workload: format!("Deployment/web-{number}"),
        image: "r.example/web:1".into(),
        digest: String::new(),
        policy: "prod".into(),
        reason: api::Reason::KeyRevoked,
    };
    let report = PreviewReport {
        newly_failing: (0..501).map(result).collect(),
        unknown: 2,
        ..PreviewReport::default()
    };
    let conditions = Conditions {
        before: &[],
        generation: Some(3),
        now: now(),
    };
    let said = complete(report.clone(), 0, conditions);
    assert_eq!(
        (said.newly_failing_total, said.newly_failing.len()),
        (Some(501), 500)
    );
    let rest = complete(report, 500, conditions);
    assert_eq!(rest.newly_failing, [result(500)]);
    assert_eq!(rest.newly_failing_total, Some(501));
    assert_eq!(rest.results_digest, said.results_digest);
    assert_eq!(said.observed_generation, Some(3));
    assert!(
        said.conditions[0]
            .message
            .starts_with("2 results could not be told")
    );
}

/// An object stays far below what the API server takes, however long the names are.
#[test]
fn long_results_are_fewer_and_an_offset_shows_the_rest() {
    let result = |number: usize| PreviewResult {
        namespace: "n".repeat(63),
        workload: format!("Deployment/{number}-{}", "w".repeat(240)),
        image: "i".repeat(1000),
        digest: format!("sha256:{}", "a".repeat(64)),
        policy: "p".repeat(253),
        reason: api::Reason::KeyRevoked,
    };
    let all: Vec<PreviewResult> = (0..300).map(result).collect();
    let report = PreviewReport {
        newly_failing: all.clone(),
        newly_passing: all.clone(),
        newly_unknown: all.clone(),
        ..PreviewReport::default()
    };
    let conditions = Conditions {
        before: &[],
        generation: Some(1),
        now: now(),
    };
    let mut found = Vec::new();
    while found.len() < all.len() {
        let offset = i64::try_from(found.len()).unwrap();
        let said = complete(report.clone(), offset, conditions);
        assert!(serde_json::to_vec(&said).unwrap().len() < 256 * 1024);
        assert!(!said.newly_failing.is_empty());
        found.extend(said.newly_failing);
    }
    assert_eq!(found, all);
}

#[test]
fn the_digest_of_the_results_tells_every_difference() {
    let result = |workload: &str| PreviewResult {
        namespace: "shop".into(),
        workload: workload.into(),
        image: "r.example/web:1".into(),
        digest: String::new(),
        policy: "prod".into(),
        reason: api::Reason::KeyRevoked,
    };
    let failing = |workload: &str| PreviewReport {
        newly_failing: vec![result(workload)],
        ..PreviewReport::default()
    };
    let passing = PreviewReport {
        newly_passing: vec![result("Deployment/web")],
        ..PreviewReport::default()
    };
    let web = digest_of(&failing("Deployment/web"));
    assert_eq!(web, digest_of(&failing("Deployment/web")));
    assert_ne!(web, digest_of(&failing("Deployment/cart")));
    assert_ne!(web, digest_of(&passing));
}
