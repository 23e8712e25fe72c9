//! What trust and evidence come from, through the operator under its own rights: TrustRoots, keyless signers,
//! RegistryConfigs with mirrors and Secrets.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Format, Password, PrivateAccess, PrivateRegistry, REGISTRY_USER, eventually, node::annotation, run_folder,
};

use crate::manifests::with;
use crate::scene::{Scene, condition, condition_in, deployment};
use crate::servers::servers;

/// Objects of the operator's namespace are read again every minute.
const READ_AGAIN: Duration = Duration::from_secs(120);

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "assay.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Waits until the condition Ready of a cluster-scoped object has a status and a reason; gives the whole status.
async fn ready(scene: &Scene, kind: &str, name: &str, expected: &str) -> Value {
    let look = async || {
        let printed = scene.kubectl(&["get", kind, name, "-o", "json"]).await;
        let object: Value = serde_json::from_str(&printed).unwrap();
        match condition_in(&object["status"], "Ready") == expected {
            true => Ok(object["status"].clone()),
            false => Err(object["status"].to_string()),
        }
    };
    eventually(&format!("{kind}/{name} {expected}"), READ_AGAIN, look)
        .await
        .unwrap()
}

/// A Deployment whose runtime says that it runs an image of a registry that no node and no operator can reach.
fn running(name: &str, image: &str) -> Value {
    let image_id = format!("{}.main", annotation::IMAGE_ID);
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    deployment(name, spec, json!({(image_id.as_str()): image}))
}

#[tokio::test]
async fn trust_roots_tell_what_they_hold_and_follow_their_config_map() {
    let (scene, operator) = Scene::shared("roots").await;
    let (built_in, from_map) = (scene.unique("staging"), scene.unique("own"));
    let reference = json!({"configMapRef": {"name": from_map}});
    scene
        .create(&[
            object("TrustRoot", &built_in, json!({"builtIn": "Staging"})),
            object("TrustRoot", &from_map, reference),
            object("SigningKey", &scene.unique("workflow"), keyless(Some(&from_map))),
            object("SigningKey", &scene.unique("public"), keyless(None)),
        ])
        .await;
    let status = ready(&scene, "trustroot", &built_in, "True/Usable").await;
    assert!(
        status["digest"].is_string() && status["refreshed"].is_string(),
        "{status}"
    );
    ready(&scene, "trustroot", &from_map, "False/ConfigMapMissing").await;
    let missing = scene
        .key_status("workflow", |status| {
            condition_in(status, "Ready") == "False/KeyInvalid"
        })
        .await;
    assert!(missing.to_string().contains(&from_map), "{missing}");

    let public = scene
        .key_status("public", |status| {
            condition_in(status, "Ready") == "True/KeyUsable"
        })
        .await;
    assert_eq!(public["effectiveTransparencyLog"], "Required", "{public}");
    assert!(public["fingerprint"].is_string(), "{public}");

    let metric = format!("assay_trust_root_ready{{trust_root=\"{from_map}\"}}");
    operator.operator.until_metric(&metric, 0.0).await;
    let content = format!("--from-literal=trusted_root.json={LOG_ALONE}");
    let create = ["-n", "assay-system", "create", "configmap", &from_map, &content];
    scene.cluster.kubectl(&create).await.unwrap();
    ready(&scene, "trustroot", &from_map, "True/Usable").await;
    scene
        .key_status("workflow", |status| {
            condition_in(status, "Ready") == "True/KeyUsable"
        })
        .await;
    operator.operator.until_metric(&metric, 1.0).await;
}

fn keyless(trust_root: Option<&str>) -> Value {
    let spec = json!({
        "keyRing": "nobody", "stage": "Staged",
        "keyless": {"issuer": "https://issuer.example.com", "subject": "me@example.com"},
    });
    match trust_root {
        Some(name) => with(spec, json!({"trustRoot": name})),
        None => spec,
    }
}

/// A log whose key verifies nothing.
const LOG_ALONE: &str = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [{"baseUrl": "https://log.example.com", "hashAlgorithm": "SHA2_256", "publicKey": {"rawBytes": "MCowBQYDK2VwAyEAt8rlp1knGwjfbcXAYPYAkn0XiLz1x8O4t0YkEhie244=", "keyDetails": "PKIX_ED25519", "validFor": {"start": "2025-01-01T00:00:00Z"}}, "logId": {"keyId": "AAAA"}}]}"#;

/// B33, B42: what runs from a registry that cannot be reached verifies at its mirror; what the mirror lacks is "not
/// mirrored" and never "not signed", unless the mirror is said to have everything.
/// Weakened once: with every source authoritative in `Routes::source`, the unsigned image is Violating at once.
#[tokio::test]
async fn b33_b42_a_digest_that_only_a_mirror_serves_verifies_there_and_not_mirrored_is_not_unsigned() {
    let (scene, _) = Scene::shared("mirror").await;
    let registry = &servers().await.referrers;
    let origin = format!("origin-{}.invalid", scene.name());
    let pair = scene.signer("release", "release", "Active").await;
    let at_mirror = format!("{}/shop", scene.name());
    let signed = scene
        .signed_image(registry, &format!("{at_mirror}/signed"), &pair)
        .await;
    let unsigned = scene.image(registry, &format!("{at_mirror}/unsigned")).await;
    let as_origin = |name: &str, image: &testkit::Pushed| format!("{origin}/shop/{name}@{}", image.digest);
    scene
        .create(&[scene.policy("signed", "release", json!({}))])
        .await;
    scene
        .create(&[
            running("signed", &as_origin("signed", &signed)),
            running("unsigned", &as_origin("unsigned", &unsigned)),
        ])
        .await;
    scene
        .says("deployment-signed", "Unknown/RegistryUnavailable")
        .await;

    let config = scene.unique("mirror");
    let mirror = |authoritative: bool| {
        let prefix = format!("{}/{}", registry.host(), scene.name());
        json!({"mirrors": [{"prefix": prefix, "authoritative": authoritative}]})
    };
    let spec = with(json!({"prefix": origin}), mirror(false));
    scene.create(&[object("RegistryConfig", &config, spec)]).await;
    ready(&scene, "registryconfig", &config, "True/InUse").await;
    scene.says("deployment-signed", "True/AllVerified").await;
    scene
        .says("deployment-unsigned", "Unknown/RegistryUnavailable")
        .await;

    scene
        .patch("registryconfig", &config, &json!({"spec": mirror(true)}))
        .await;
    scene.says("deployment-unsigned", "False/SignatureMissing").await;
    scene.says("deployment-signed", "True/AllVerified").await;
}

/// A Secret that is missing is named, is taken when it comes, and a younger RegistryConfig takes nothing over.
#[tokio::test]
async fn a_registry_config_says_whether_it_is_in_use() {
    let (scene, operator) = Scene::shared("regcfg").await;
    let prefix = format!("{}.invalid", scene.name());
    let (first, second) = (scene.unique("first"), scene.unique("second"));
    let secret = scene.unique("hub");
    let spec = json!({"prefix": prefix, "credentials": {"secretName": secret}});
    scene.create(&[object("RegistryConfig", &first, spec)]).await;
    let status = ready(&scene, "registryconfig", &first, "False/SecretMissing").await;
    assert!(
        status.to_string().contains(&format!("assay-system/{secret}")),
        "{status}"
    );
    scene
        .create(&[object("RegistryConfig", &second, json!({"prefix": prefix}))])
        .await;
    ready(&scene, "registryconfig", &second, "False/Conflict").await;
    let metric = format!("assay_registry_config_ready{{config=\"{second}\"}}");
    operator.operator.until_metric(&metric, 0.0).await;

    let server = format!("--docker-server={prefix}");
    let create = [
        "-n",
        "assay-system",
        "create",
        "secret",
        "docker-registry",
        &secret,
        &server,
    ];
    let password = scene.unique("password");
    let credentials = [
        "--docker-username=assay",
        &format!("--docker-password={password}"),
    ];
    scene
        .cluster
        .kubectl(&[&create[..], &credentials].concat())
        .await
        .unwrap();
    ready(&scene, "registryconfig", &first, "True/InUse").await;
    scene.kubectl(&["delete", "registryconfig", &first]).await;
    ready(&scene, "registryconfig", &second, "True/InUse").await;
    assert!(!operator.operator.log().contains(&password));
}

/// A Secret of the operator's namespace, or its content anew.
async fn put_password(scene: &Scene, name: &str, password: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/basic-auth",
        "stringData": {"username": REGISTRY_USER, "password": password},
    });
    let arguments = ["-n", "assay-system", "apply", "-f", "-"];
    let output = scene
        .cluster
        .kubectl_output(&arguments, &secret.to_string())
        .await;
    output.unwrap().into_stdout().unwrap();
}

/// C3.12. Fails on a build that leaves out the credentials of a RegistryConfig.
#[tokio::test]
async fn c3_12_a_secret_of_the_operator_that_the_registry_refuses_is_named_and_the_right_one_opens_it() {
    let (scene, _) = Scene::shared("own-secret").await;
    let folder = run_folder().unwrap().join("private-operators");
    let registry = PrivateRegistry::start(folder, PrivateAccess::Basic)
        .await
        .unwrap();
    let pair = scene.signer("release", "release", "Active").await;
    let repository = format!("{}/web", scene.name());
    let pushed = registry
        .writer()
        .push_image(&repository, "1", scene.name())
        .await
        .unwrap();
    scene
        .cosign
        .sign(&pushed.by_digest(), &pair, Format::Tag)
        .await
        .unwrap();
    let name = scene.unique("registry");
    put_password(&scene, &name, "wrong").await;
    let spec = json!({"prefix": registry.host(), "plainHTTP": true, "credentials": {"secretName": name}});
    scene.create(&[object("RegistryConfig", &name, spec)]).await;
    ready(&scene, "registryconfig", &name, "True/InUse").await;
    let image = format!("{}/{repository}@{}", registry.host(), pushed.digest);
    let often = json!({"spec": {"recheck": {"interval": "5s"}}});
    scene
        .create(&[scene.policy("signed", "release", often), running("web", &image)])
        .await;
    let compliance = scene.says("deployment-web", "Unknown/RegistryDenied").await;
    let message = compliance.status.images[0].policies[0]
        .message
        .clone()
        .unwrap_or_default();
    assert!(
        message.contains(&format!("Secret assay-system/{name}")),
        "{message}"
    );
    put_password(&scene, &name, Password::First.text()).await;
    let opened = |compliance: &api::ImageCompliance| condition(compliance) == "True/AllVerified";
    scene
        .until("deployment-web", "True/AllVerified", READ_AGAIN, opened)
        .await;
}
