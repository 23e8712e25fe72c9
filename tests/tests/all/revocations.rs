//! KeyRevocations and what guards them: on the real API server, by people with different rights, under the eyes of the
//! operator.

use serde_json::{Value, json};
use testkit::{Cluster, CommandOutput, eventually};

use crate::crds::{accepted, refusal, update_refusal};
use crate::manifests::with;
use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{PATIENCE, Scene, simple};
use crate::servers::servers;

/// A fingerprint that no key has.
fn nobody(digit: &str) -> String {
    digit.repeat(64)
}

fn revocation(fingerprint: &str, reason: &str) -> Value {
    json!({
        "apiVersion": "assay.dev/v1alpha1",
        "kind": "KeyRevocation",
        "metadata": {"name": fingerprint},
        "spec": {"fingerprint": fingerprint, "reason": reason},
    })
}

fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

/// C5.21.
#[tokio::test]
async fn a_revocation_that_says_less_than_it_should_is_refused() {
    let good = revocation(&nobody("a"), "KeyCompromise");
    let servers = servers().await;
    let many: Vec<String> = (0..900).map(digest).collect();
    let full = json!({"spec": {"effectiveFrom": "2026-01-01T00:00:00Z", "earlierSignatures": "AcceptIfTimestamped",
        "honourDigests": many, "note": "laptop lost"}});
    accepted(servers, &with(good.clone(), full)).await;
    let too_many: Vec<String> = (0..901).map(digest).collect();
    let cases: [(&str, Value, &str); 7] = [
        (
            "another name",
            json!({"metadata": {"name": nobody("b")}}),
            "metadata.name must be spec.fingerprint",
        ),
        (
            "no fingerprint",
            json!({"metadata": {"name": "release"}, "spec": {"fingerprint": "release"}}),
            "64 hex digits",
        ),
        ("no reason", json!({"spec": {"reason": null}}), "spec.reason"),
        (
            "an unknown reason",
            json!({"spec": {"reason": "Lost"}}),
            "Unsupported value",
        ),
        (
            "earlier than what",
            json!({"spec": {"earlierSignatures": "AcceptIfTimestamped"}}),
            "spec.effectiveFrom is needed",
        ),
        (
            "no digest",
            json!({"spec": {"honourDigests": ["v1.2"]}}),
            "must be the digest of an image",
        ),
        (
            "too many",
            json!({"spec": {"honourDigests": too_many}}),
            "must have at most 900 items",
        ),
    ];
    for (what, patch, says) in cases {
        let refusal = refusal(servers, &with(good.clone(), patch)).await;
        assert!(refusal.contains(says), "{what}: {refusal}");
    }
}

/// B54: a later effectiveFrom, and AcceptIfTimestamped added afterwards.
#[tokio::test]
async fn b54_what_a_revocation_covers_may_only_grow() {
    let servers = servers().await;
    let many: Vec<String> = (0..900).map(digest).collect();
    let spec = json!({"spec": {"effectiveFrom": "2026-01-02T00:00:00Z", "earlierSignatures": "AcceptIfTimestamped",
        "honourDigests": many}});
    let lenient = with(revocation(&nobody("c"), "KeyCompromise"), spec);
    let strict = revocation(&nobody("d"), "Hold");
    for object in [&lenient, &strict] {
        servers.cluster.apply(&object.to_string()).await.unwrap();
    }
    let mut other: Vec<String> = many.clone();
    other[899] = digest(5000);
    let cases = [
        (
            &lenient,
            json!({"spec": {"fingerprint": nobody("e")}}),
            "spec.fingerprint is immutable",
        ),
        (
            &lenient,
            json!({"spec": {"reason": "Hold"}}),
            "may not go back to Hold",
        ),
        (
            &lenient,
            json!({"spec": {"effectiveFrom": "2026-01-03T00:00:00Z"}}),
            "may only move earlier",
        ),
        (
            &lenient,
            json!({"spec": {"honourDigests": other}}),
            "spec.honourDigests may only shrink",
        ),
        (
            &strict,
            json!({"spec": {"honourDigests": [digest(1)]}}),
            "spec.honourDigests may only shrink",
        ),
        (
            &strict,
            json!({"spec": {"effectiveFrom": "2026-01-01T00:00:00Z", "earlierSignatures": "AcceptIfTimestamped"}}),
            "may not turn into AcceptIfTimestamped",
        ),
    ];
    for (object, patch, says) in cases {
        let refusal = update_refusal(servers, object, &patch).await;
        let for_that = refusal.contains(says) && !refusal.contains("cost");
        assert!(for_that, "{patch}: {refusal}");
    }
    let stricter = [
        (
            &lenient,
            json!({"spec": {"effectiveFrom": "2026-01-01T00:00:00Z"}}),
        ),
        (
            &lenient,
            json!({"spec": {"earlierSignatures": "Reject", "honourDigests": many[1..]}}),
        ),
        (&lenient, json!({"spec": {"honourDigests": null}})),
        (&strict, json!({"spec": {"reason": "KeyCompromise"}})),
    ];
    for (object, patch) in stricter {
        let name = object["metadata"]["name"].as_str().unwrap();
        let arguments = [
            "patch",
            "keyrevocation",
            name,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ];
        servers.cluster.kubectl(&arguments).await.unwrap();
    }
}

/// `kubectl` as a user without a group.
async fn kubectl_as(cluster: &Cluster, user: &str, arguments: &[&str]) -> CommandOutput {
    let all = [&["--as", user], arguments].concat();
    cluster.kubectl_output(&all, "").await.unwrap()
}

async fn refused_to(cluster: &Cluster, user: &str, arguments: &[&str]) -> String {
    let output = kubectl_as(cluster, user, arguments).await;
    assert!(!output.succeeded(), "{arguments:?} is not refused to {user}");
    output.stderr
}

async fn allowed_to(cluster: &Cluster, user: &str, arguments: &[&str]) {
    kubectl_as(cluster, user, arguments).await.into_stdout().unwrap();
}

/// Waits until the API server carries a guard out: it takes some time to read it.
async fn until_refused(cluster: &Cluster, arguments: &[&str], says: &str) {
    let arguments = [arguments, &["--dry-run=server"]].concat();
    let look = async || {
        let output = cluster.kubectl_output(&arguments, "").await.unwrap();
        match output.stderr.contains(says) {
            true => Ok(()),
            false => Err(format!("{} {}", output.stdout, output.stderr)),
        }
    };
    eventually(&format!("{arguments:?} to be refused"), PATIENCE, look)
        .await
        .unwrap();
}

/// Who may do what: ann keeps the keys, otto may also forget.
async fn give_rights(cluster: &Cluster) {
    let rights = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: forget-revocations}
rules:
  - {apiGroups: [assay.dev], resources: [keyrevocations], verbs: [forget]}
"#;
    cluster.apply(rights).await.unwrap();
    for (name, role, user) in [
        ("ann", "assay-key-admin-signingkeys", "ann"),
        ("otto", "assay-key-admin-signingkeys", "otto"),
        ("otto-forgets", "forget-revocations", "otto"),
    ] {
        let role = format!("--clusterrole={role}");
        let user = format!("--user={user}");
        cluster
            .kubectl(&["create", "clusterrolebinding", name, &role, &user])
            .await
            .unwrap();
    }
}

/// B44: a revocation outlasts its SigningKey, whoever deletes it, and only who may forget lifts it. A key that is needed
/// is not deleted by mistake, in stage Revoked either where a KeyRevocation honours what rests on it.
/// Fails on a build whose guard lets every key in stage Revoked go.
#[tokio::test]
async fn b44_a_revocation_outlasts_the_key_and_a_key_that_is_needed_is_not_deleted_by_mistake() {
    let cluster = own_cluster("revocations").await;
    install(cluster).await;
    cluster.kubectl(&["apply", "-k", "config/guards"]).await.unwrap();
    give_rights(cluster).await;
    let registry = &servers().await.distribution;
    let _operator = Operator::start(cluster, "operator", &insecure(&[registry.host()])).await;
    let scene = Scene::on(cluster, "revocations").await;
    let pair = scene.signer("release", "release", "Active").await;
    let image = scene.signed_image(registry, "revocations/web", &pair).await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            simple("web", &image.by_tag()),
        ])
        .await;
    let web = "deployment-web";
    scene.says(web, "True/AllVerified").await;
    let status = scene
        .key_status("release", |status| status["soleTrust"]["workloads"] == 1)
        .await;
    let fingerprint = status["fingerprint"].as_str().unwrap();
    let key = scene.unique("release");

    // A key that something rests on.
    let delete_key = ["delete", "signingkey", &key];
    until_refused(cluster, &delete_key, "1 workloads rest on SigningKey").await;
    let confirm = |number: &str| format!("assay.dev/confirm-dependents={number}");
    let annotate = async |number: &str| {
        cluster
            .kubectl(&["annotate", "--overwrite", "signingkey", &key, &confirm(number)])
            .await
            .unwrap();
    };
    for too_few in ["0", "many"] {
        annotate(too_few).await;
        let said = refused_to(cluster, "ann", &delete_key).await;
        assert!(said.contains(&confirm("1")), "{said}");
    }
    annotate("1").await;
    allowed_to(
        cluster,
        "ann",
        &["delete", "signingkey", &key, "--dry-run=server"],
    )
    .await;

    // Revoked, deleted, and back in use by a sync from Git: it stays revoked.
    let stage = async |stage: &str| {
        scene
            .patch("signingkey", &key, &json!({"spec": {"stage": stage}}))
            .await;
    };
    stage("Revoked").await;
    scene.says(web, "False/KeyRevoked").await;
    let look = async || {
        let columns = ["get", "keyrevocation", fingerprint, "--no-headers", "-o", "wide"];
        let row = cluster.kubectl_output(&columns, "").await.unwrap();
        let cells: Vec<&str> = row.stdout.split_whitespace().collect();
        match cells.get(1..5) == Some(&["Unspecified", &key, "Reject", "0"]) {
            true => Ok(()),
            false => Err(format!("{row:?}")),
        }
    };
    eventually("the KeyRevocation and its status", PATIENCE, look)
        .await
        .unwrap();
    allowed_to(cluster, "ann", &delete_key).await;
    scene
        .create(&[scene.signing_key("release", "release", "Active", &pair)])
        .await;
    scene
        .key_status("release", |status| status["effectiveStage"] == "Revoked")
        .await;
    scene.says(web, "False/KeyRevoked").await;

    // Forgetting is a right of its own.
    let forget = ["delete", "keyrevocation", fingerprint];
    let said = refused_to(cluster, "ann", &forget).await;
    assert!(
        said.contains("the verb forget on keyrevocations.assay.dev"),
        "{said}"
    );
    allowed_to(cluster, "otto", &forget).await;
    scene.says(web, "True/AllVerified").await;

    // A hold is anybody's who keeps the keys.
    let hold = with(
        revocation(fingerprint, "Hold"),
        json!({"spec": {"honourDigests": [digest(1)]}}),
    );
    cluster.apply(&hold.to_string()).await.unwrap();
    scene.says(web, "False/KeyDisabled").await;
    allowed_to(cluster, "ann", &forget).await;
    scene.says(web, "True/AllVerified").await;

    // With the key Revoked it is terminal, and keeps what it honours.
    cluster.apply(&hold.to_string()).await.unwrap();
    scene.says(web, "False/KeyDisabled").await;
    stage("Revoked").await;
    let look = async || {
        let columns = [
            "get",
            "keyrevocation",
            fingerprint,
            "-o",
            "jsonpath={.spec.reason} {.spec.honourDigests}",
        ];
        let found = cluster.kubectl(&columns).await.unwrap();
        match found == format!("Unspecified [\"{}\"]", digest(1)) {
            true => Ok(()),
            false => Err(found),
        }
    };
    eventually("the Hold to become terminal", PATIENCE, look)
        .await
        .unwrap();
    let said = refused_to(cluster, "ann", &forget).await;
    assert!(said.contains("the verb forget"), "{said}");
    scene
        .key_status("release", |status| status["soleTrust"]["workloads"] == 0)
        .await;
    allowed_to(cluster, "ann", &delete_key).await;
    scene
        .create(&[scene.signing_key("release", "release", "Active", &pair)])
        .await;
    scene
        .key_status("release", |status| status["effectiveStage"] == "Revoked")
        .await;
    allowed_to(cluster, "otto", &forget).await;
    scene.says(web, "True/AllVerified").await;

    // What is known to be good goes on counting, until it is taken off the list.
    let from = |time: &str| {
        with(
            revocation(fingerprint, "KeyCompromise"),
            json!({"spec": {"honourDigests": [image.digest], "effectiveFrom": time}}),
        )
    };
    let said = cluster
        .kubectl_output(&["create", "-f", "-"], &from("2126-01-01T00:00:00Z").to_string())
        .await
        .unwrap();
    assert!(said.stderr.contains("may not lie in the future"), "{said:?}");
    cluster
        .apply(&from("2026-01-01T00:00:00Z").to_string())
        .await
        .unwrap();
    scene
        .key_status("release", |status| status["effectiveStage"] == "Revoked")
        .await;
    scene.says(web, "True/AllVerified").await;

    // In stage Revoked as well what is honoured rests on the object.
    stage("Revoked").await;
    scene
        .key_status("release", |status| {
            status["observedGeneration"] == 2 && status["soleTrust"]["workloads"] == 1
        })
        .await;
    until_refused(cluster, &delete_key, "1 workloads rest on SigningKey").await;
    annotate("1").await;
    allowed_to(
        cluster,
        "ann",
        &["delete", "signingkey", &key, "--dry-run=server"],
    )
    .await;
    scene.says(web, "True/AllVerified").await;

    let unlisted = scene.signed_image(registry, "revocations/other", &pair).await;
    scene.create(&[simple("other", &unlisted.by_tag())]).await;
    scene.says("deployment-other", "False/KeyRevoked").await;
    let nothing = json!({"spec": {"honourDigests": []}});
    scene.patch("keyrevocation", fingerprint, &nothing).await;
    scene.says(web, "False/KeyRevoked").await;
    annotate("0").await;
    scene
        .key_status("release", |status| status["soleTrust"]["workloads"] == 0)
        .await;
    allowed_to(cluster, "ann", &delete_key).await;

    // Who removes Assay is not held up by its guards.
    let kinds = [
        "delete",
        "crd",
        "keyrevocations.assay.dev",
        "signingkeys.assay.dev",
        "--timeout=60s",
    ];
    cluster.kubectl(&kinds).await.unwrap();
}
