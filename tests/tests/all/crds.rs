//! The kinds as the real API server has them: what is shown, what is defaulted, what is strict.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use testkit::{Shared, TestNamespace};

use crate::binary::assay;
use crate::config::installed;
use crate::manifests::{PEM, key, policy, with};
use crate::servers::servers;

/// The objects of a cluster-scoped kind of Assay.
async fn objects(servers: &Shared, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("assay.dev", "v1alpha1", kind));
    let plural = match kind {
        "ImagePolicy" => "imagepolicies",
        "TrustRoot" => "trustroots",
        "RegistryConfig" => "registryconfigs",
        "KeyRevocation" => "keyrevocations",
        "ImageException" => "imageexceptions",
        _ => "signingkeys",
    };
    let resource = ApiResource {
        plural: plural.to_owned(),
        ..resource
    };
    Api::all_with(servers.cluster.admin_client().await.unwrap(), &resource)
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// What the API server says when it refuses to create the object.
pub(crate) async fn refusal(servers: &Shared, object: &Value) -> String {
    let api = objects(servers, object["kind"].as_str().unwrap()).await;
    let read = serde_json::from_value(object.clone()).unwrap();
    match api.create(&dry_run(), &read).await {
        Err(kube::Error::Api(status)) => status.message,
        other => panic!("not refused: {object:#}: {other:?}"),
    }
}

/// The object as the API server would create it.
pub(crate) async fn accepted(servers: &Shared, object: &Value) -> Value {
    let api = objects(servers, object["kind"].as_str().unwrap()).await;
    let read = serde_json::from_value(object.clone()).unwrap();
    let created = api.create(&dry_run(), &read).await;
    serde_json::to_value(created.unwrap_or_else(|error| panic!("{object:#}: {error}"))).unwrap()
}

/// What the API server says when it refuses a merge patch of an object that is there.
pub(crate) async fn update_refusal(servers: &Shared, object: &Value, patch: &Value) -> String {
    let api = objects(servers, object["kind"].as_str().unwrap()).await;
    let name = object["metadata"]["name"].as_str().unwrap();
    let parameters = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    match api.patch(name, &parameters, &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) => status.message,
        other => panic!("not refused: {patch}: {other:?}"),
    }
}

/// The columns of a table that kubectl printed.
fn columns(table: &str) -> Vec<&str> {
    table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect()
}

fn compliance(name: &str, verdict: &str, status: &str, reason: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "ImageCompliance",
        "metadata": {"name": name},
        "status": {
            "verdict": verdict,
            "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "u"},
            "imageCount": 1,
            "conditions": [{
                "type": "Compliant", "status": status, "reason": reason, "message": "words",
                "lastTransitionTime": "2026-11-22T00:00:00Z",
            }],
            "images": [{
                "image": "r.example/web:1",
                "digest": format!("sha256:{}", "0".repeat(64)),
                "containers": [{"name": "web", "type": "Container"}],
                "policies": [{
                    "name": "p", "mode": "Enforce", "verdict": verdict, "reason": reason,
                    "since": "2026-11-22T00:00:00Z",
                }],
            }],
        },
    })
}

#[tokio::test]
async fn a_policy_without_a_mode_is_a_dry_run_and_nothing_else_is_filled_in() {
    let servers = servers().await;
    let written = with(
        policy("good", "r.example/**", "release"),
        json!({"spec": {"mode": null}}),
    );
    let created = accepted(servers, &written).await;
    assert_eq!(
        created["spec"],
        with(written, json!({"spec": {"mode": "DryRun"}}))["spec"]
    );
    let written = key("good", "release", PEM);
    assert_eq!(accepted(servers, &written).await["spec"], written["spec"]);
}

#[tokio::test]
async fn c5_21_kubectl_and_server_side_apply_refuse_a_field_that_there_is_not() {
    let servers = servers().await;
    let cases = [
        (
            with(key("strict", "release", PEM), json!({"spec": {"x509": {}}})),
            "spec.x509",
        ),
        (
            with(
                policy("strict", "**", "release"),
                json!({"spec": {"warnedBefore": "72h"}}),
            ),
            "spec.warnedBefore",
        ),
        (
            with(
                policy("strict", "**", "release"),
                json!({"spec": {"match": {"podSelector": {}}}}),
            ),
            "spec.match.podSelector",
        ),
        (
            with(
                policy("strict", "**", "release"),
                json!({"spec": {"require": [{"name": "a", "approval": {"signedBy": ["b"]}}]}}),
            ),
            "approval",
        ),
        (
            with(
                policy("strict", "**", "release"),
                json!({"spec": {"require": [{"name": "a", "signature": {"signedBy": ["b"], "treshold": 2}}]}}),
            ),
            "treshold",
        ),
    ];
    for (object, field) in cases {
        for arguments in [
            ["create", "--dry-run=server", "-f", "-"].as_slice(),
            &["apply", "--dry-run=server", "-f", "-"],
            &["apply", "--server-side", "--dry-run=server", "-f", "-"],
        ] {
            let output = servers
                .cluster
                .kubectl_output(arguments, &object.to_string())
                .await
                .unwrap();
            assert!(!output.succeeded(), "{arguments:?} {field}: {output:?}");
            assert!(output.stderr.contains(field), "{arguments:?} {field}: {output:?}");
        }
    }
}

#[tokio::test]
async fn c5_21_null_is_an_absent_field_and_so_refused_where_the_field_is_mandatory() {
    let servers = servers().await;
    let mut nulls = policy("nulls", "r.example/**", "release");
    for field in ["recheck", "requireDigest", "description", "multiArch", "mode"] {
        nulls["spec"][field] = Value::Null;
    }
    let created = accepted(servers, &nulls).await;
    assert_eq!(
        created["spec"],
        with(
            policy("nulls", "r.example/**", "release"),
            json!({"spec": {"mode": "DryRun"}})
        )["spec"]
    );
    for field in ["match", "require"] {
        let mut missing = policy("nulls", "r.example/**", "release");
        missing["spec"][field] = Value::Null;
        let refusal = refusal(servers, &missing).await;
        assert!(refusal.contains(&format!("spec.{field}")), "{refusal}");
    }
    for (field, says) in [
        ("keyRing", "spec.keyRing"),
        ("stage", "spec.stage"),
        (
            "publicKey",
            "exactly one source of trust is needed: set spec.publicKey.pem or spec.keyless",
        ),
    ] {
        let mut missing = key("nulls", "release", PEM);
        missing["spec"][field] = Value::Null;
        let refusal = refusal(servers, &missing).await;
        assert!(refusal.contains(says), "{refusal}");
    }
    let mut in_list = policy("nulls", "r.example/**", "release");
    in_list["spec"]["match"]["images"] = json!([null]);
    assert!(refusal(servers, &in_list).await.contains("spec.match.images[0]"));
}

#[tokio::test]
async fn every_kind_is_found_by_category_and_short_name_with_its_columns() {
    let cluster = installed();
    let namespace = TestNamespace::create(cluster, "columns").await.unwrap();
    let kubectl = async |arguments: &[&str]| cluster.kubectl(arguments).await.unwrap();
    let key_name = namespace.unique("columns-key");
    let policy_name = namespace.unique("columns-policy");
    // No namespace in the cluster matches: the policy covers nothing.
    let nowhere = json!({"spec": {"match": {"namespaces": ["nowhere"]}}});
    let mut manifest = key(&key_name, "columns", PEM).to_string();
    manifest += &format!("\n---\n{}", with(policy(&policy_name, "**", "columns"), nowhere));
    cluster.apply(&manifest).await.unwrap();
    let object = compliance("deployment-web", "Violating", "False", "KeyRevoked").to_string();
    let in_namespace = ["-n", namespace.name(), "apply", "-f", "-"];
    cluster
        .kubectl_output(&in_namespace, &object)
        .await
        .unwrap()
        .into_stdout()
        .unwrap();

    let all = kubectl(&["-n", namespace.name(), "get", "assay", "-o", "name"]).await;
    for name in [
        format!("signingkey.assay.dev/{key_name}"),
        format!("imagepolicy.assay.dev/{policy_name}"),
        "imagecompliance.assay.dev/deployment-web".to_owned(),
    ] {
        assert!(all.lines().any(|line| line == name), "{name} is not in {all}");
    }
    let keys = kubectl(&["get", "skey", &key_name]).await;
    let expected = [
        "NAME",
        "KEYRING",
        "STAGE",
        "ALGORITHM",
        "IMAGES",
        "SOLE-TRUST",
        "EXPIRES",
        "AGE",
    ];
    assert_eq!(columns(&keys), expected);
    let policies = kubectl(&["get", "ipol", &policy_name]).await;
    let expected = [
        "NAME",
        "MODE",
        "ENFORCED",
        "READY",
        "WORKLOADS",
        "COMPLIANT",
        "VIOLATING",
        "UNKNOWN",
        "AGE",
    ];
    assert_eq!(columns(&policies), expected);
    let compliances = kubectl(&["get", "imgc", "-n", namespace.name(), "deployment-web"]).await;
    assert_eq!(
        columns(&compliances),
        [
            "NAME",
            "COMPLIANT",
            "DRY-RUN",
            "REASON",
            "IMAGES",
            "NEXT-START",
            "AGE"
        ]
    );
    let row: Vec<&str> = compliances.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(&row[..4], ["deployment-web", "False", "KeyRevoked", "1"]);
}

#[tokio::test]
async fn one_write_creates_a_compliance_with_its_status_which_is_selected_and_waited_for() {
    // Where an operator runs it would remove what it did not write.
    let cluster = installed();
    let namespace = TestNamespace::create(cluster, "compliance").await.unwrap();
    let kubectl = async |arguments: &[&str]| {
        cluster
            .kubectl(&[&["-n", namespace.name()], arguments].concat())
            .await
            .unwrap()
    };
    let bad = compliance("deployment-bad", "Violating", "False", "SignatureMissing");
    let good = compliance("deployment-good", "Compliant", "True", "AllVerified");
    for object in [&bad, &good] {
        let arguments = ["-n", namespace.name(), "create", "-f", "-"];
        let output = cluster
            .kubectl_output(&arguments, &object.to_string())
            .await
            .unwrap();
        output.into_stdout().unwrap();
    }
    let read = kubectl(&["get", "imgc", "deployment-bad", "-o", "json"]).await;
    let read: Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["status"], bad["status"]);
    let violating = kubectl(&[
        "get",
        "imgc",
        "--field-selector",
        "status.verdict=Violating",
        "-o",
        "name",
    ])
    .await;
    assert_eq!(violating.trim(), "imagecompliance.assay.dev/deployment-bad");
    kubectl(&[
        "wait",
        "--for=condition=Compliant",
        "--timeout=60s",
        "imgc/deployment-good",
    ])
    .await;
    let arguments = [
        "-n",
        namespace.name(),
        "wait",
        "--for=condition=Compliant",
        "--timeout=1s",
        "imgc/deployment-bad",
    ];
    assert!(!cluster.kubectl_output(&arguments, "").await.unwrap().succeeded());
}

#[tokio::test]
async fn kubectl_explain_has_a_text_for_every_field() {
    let servers = servers().await;
    for (field, text) in [
        ("signingkey.spec.stage", "Retiring (for what runs)"),
        (
            "imagepolicy.spec.match.images",
            "Globs on the normalised repository",
        ),
        (
            "imagecompliance.status.verdict",
            "The worst verdict of Warn and Enforce policies",
        ),
    ] {
        // The API server publishes a new kind's fields a moment after the kind itself.
        let limit = std::time::Duration::from_secs(30);
        let explain = async || match servers.cluster.kubectl(&["explain", field]).await {
            Ok(explained) if words(&explained).contains(text) => Ok(()),
            Ok(explained) => Err(explained),
            Err(error) => Err(error.to_string()),
        };
        testkit::eventually(&format!("the text of {field}"), limit, explain)
            .await
            .unwrap();
    }
    let installed = ["get", "-o", "json", "-f", "crds/"];
    let installed: Value = serde_json::from_str(&servers.cluster.kubectl(&installed).await.unwrap()).unwrap();
    let mut fields = 0;
    for definition in installed["items"].as_array().unwrap() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        assert!(schema["description"].is_string(), "{kind} has no text");
        for part in ["spec", "status"] {
            fields += each_field_is_described(&format!("{kind}.{part}"), &schema["properties"][part]);
        }
    }
    assert!(fields > 60, "only {fields} fields were looked at");
}

/// A text without its line breaks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Fails on the first field below a schema that has no description; gives how many there are.
fn each_field_is_described(path: &str, schema: &Value) -> usize {
    let below = [&schema["items"], &schema["additionalProperties"]];
    let below = below.into_iter().filter(|below| below.is_object());
    let mut fields: usize = below
        .map(|below| each_field_is_described(&format!("{path}[]"), below))
        .sum();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(field["description"].is_string(), "{path} has no text");
        fields += 1 + each_field_is_described(&path, field);
    }
    fields
}

#[tokio::test]
async fn assay_crds_prints_what_is_installed() {
    let servers = servers().await;
    let printed = std::process::Command::new(assay()).arg("crds").output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    let compared = servers
        .cluster
        .kubectl_output(&["diff", "-f", "-"], &printed)
        .await
        .unwrap();
    assert!(compared.succeeded() && compared.stdout.is_empty(), "{compared:?}");
}
