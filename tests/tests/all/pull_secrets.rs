//! Private images and the pull secrets of those who run them: real registries that want a password or a token, a real
//! API server with RBAC, and the operator with the rights that `config/rbac` gives it.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Cluster, Password, PrivateAccess, PrivateRegistry, REGISTRY_USER, node::annotation, run_folder,
};
use tokio::sync::OnceCell;

use crate::manifests::with;
use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{Scene, condition, deployment};

/// After a refusal it is asked again after 30 s, then 60 s.
const ASKED_AGAIN: Duration = Duration::from_secs(180);

async fn private_registry(name: &str, access: PrivateAccess) -> PrivateRegistry {
    let folder = run_folder().unwrap().join(format!("private-{name}"));
    PrivateRegistry::start(folder, access).await.unwrap()
}

/// A cluster whose operator uses workloads' credentials, and registries that refuse it.
struct Stage {
    cluster: &'static Cluster,
    operator: Operator,
    basic: PrivateRegistry,
    tokens: PrivateRegistry,
    /// Of one test alone, which changes the password.
    turning: PrivateRegistry,
}

async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let start = || async {
        let cluster = own_cluster("pull-secrets").await;
        install(cluster).await;
        let basic = private_registry("basic", PrivateAccess::Basic).await;
        let tokens = private_registry("tokens", PrivateAccess::Token).await;
        let turning = private_registry("turning", PrivateAccess::Basic).await;
        let hosts = [&basic, &tokens, &turning].map(|registry| registry.host().to_owned());
        let mut arguments = insecure(&hosts);
        arguments.extend(["--leader-elect=false", "--registry-credentials=workload"].map(str::to_owned));
        let token_server = tokens.token_server().unwrap();
        arguments.push(format!("--token-server={}={token_server}", tokens.host()));
        let operator = Operator::start(cluster, "operator", &arguments).await;
        Stage {
            cluster,
            operator,
            basic,
            tokens,
            turning,
        }
    };
    STAGE.get_or_init(start).await
}

/// A Deployment of which the runtime says that it runs this image, whoever can pull it.
fn running(name: &str, image: &str, spec: Value) -> Value {
    let image_id = format!("{}.main", annotation::IMAGE_ID);
    let containers = json!({"containers": [{"name": "main", "image": image}]});
    deployment(name, with(containers, spec), json!({(image_id.as_str()): image}))
}

fn pull_secret(name: &str) -> Value {
    json!({"imagePullSecrets": [{"name": name}]})
}

/// `kubectl create secret docker-registry`, or its content anew.
async fn put_secret(scene: &Scene, name: &str, host: &str, password: &str) {
    put_secret_in(scene, scene.name(), name, host, password).await;
}

async fn put_secret_in(scene: &Scene, namespace: &str, name: &str, host: &str, password: &str) {
    let config = json!({"auths": {host: {"username": REGISTRY_USER, "password": password}}}).to_string();
    let data = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config},
    });
    let arguments = ["-n", namespace, "apply", "-f", "-"];
    let output = scene.cluster.kubectl_output(&arguments, &data.to_string()).await;
    output.unwrap().into_stdout().unwrap();
}

/// The message about the only image.
async fn message(scene: &Scene, name: &str, expected: &str) -> String {
    let compliance = scene.says(name, expected).await;
    compliance.status.images[0].policies[0]
        .message
        .clone()
        .unwrap_or_default()
}

/// Runs the command that a message names, word by word.
async fn run_command_in(scene: &Scene, message: &str) {
    let command = message.split("kubectl ").nth(1).unwrap();
    let words: Vec<&str> = command
        .split_whitespace()
        .take_while(|word| word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-'))
        .map(|word| word.trim_end_matches(['.', ';', ',', ')']))
        .collect();
    let end = words
        .iter()
        .position(|word| word.starts_with("--serviceaccount="))
        .unwrap();
    scene.cluster.kubectl(&words[..=end]).await.unwrap();
}

async fn until_message(scene: &Scene, name: &str, part: &str) {
    let says = |compliance: &api::ImageCompliance| {
        let message = compliance.status.images[0].policies[0].message.as_deref();
        message.is_some_and(|message| message.contains(part))
    };
    scene.until(name, part, ASKED_AGAIN, says).await;
}

async fn becomes(scene: &Scene, name: &str, expected: &str) {
    scene
        .until(name, expected, ASKED_AGAIN, |compliance| {
            condition(compliance) == expected
        })
        .await;
}

/// Signs an image where everybody may write, and names it where alice alone may read.
async fn private_image(scene: &Scene, private: &PrivateRegistry, key: Option<&testkit::KeyPair>) -> String {
    let repository = format!("{}/web", scene.name());
    let image = private
        .writer()
        .push_image(&repository, "1", scene.name())
        .await
        .unwrap();
    if let Some(key) = key {
        scene
            .cosign
            .sign(&image.by_digest(), key, testkit::Format::Tag)
            .await
            .unwrap();
    }
    format!("{}/{repository}@{}", private.host(), image.digest)
}

/// C3.12: the whole way of a namespace that opts in.
#[tokio::test]
async fn c3_12_a_private_image_verifies_once_its_namespace_lets_the_operator_read_its_pull_secret() {
    let stage = stage().await;
    let scene = Scene::on(stage.cluster, "pull").await;
    let pair = scene.signer("release", "release", "Active").await;
    let image = private_image(&scene, &stage.turning, Some(&pair)).await;
    put_secret(&scene, "pull", stage.turning.host(), Password::First.text()).await;
    scene
        .create(&[
            scene.policy(
                "signed",
                "release",
                json!({"spec": {"recheck": {"interval": "5s"}}}),
            ),
            running("web", &image, pull_secret("pull")),
        ])
        .await;
    let refused = message(&scene, "deployment-web", "Unknown/RegistryDenied").await;
    assert!(
        refused.contains(&format!("Secret {}/pull", scene.name())),
        "{refused}"
    );
    run_command_in(&scene, &refused).await;
    becomes(&scene, "deployment-web", "True/AllVerified").await;

    // The password is another one at the registry and not yet in the Secret: what was verified stays, and is stale.
    stage.turning.set_password(Password::Second).unwrap();
    scene
        .until("deployment-web", "stale", ASKED_AGAIN, |compliance| {
            compliance.status.images[0].policies[0].stale_since.is_some()
        })
        .await;
    put_secret(&scene, "pull", stage.turning.host(), Password::Second.text()).await;
    scene
        .until("deployment-web", "fresh", ASKED_AGAIN, |compliance| {
            compliance.status.images[0].policies[0].stale_since.is_none()
        })
        .await;
    let log = stage.operator.log();
    assert!(
        !log.contains("\"first\"") && !log.contains("YWxpY2U6"),
        "the log holds a secret"
    );
}

/// C3.12: through a token server that signs real tokens. Fails on a build that asks for tokens without a password.
#[tokio::test]
async fn c3_12_a_pull_secret_is_shown_to_the_token_server_that_the_operator_is_told_of() {
    let stage = stage().await;
    let scene = Scene::on(stage.cluster, "tokens").await;
    let pair = scene.signer("release", "release", "Active").await;
    let image = private_image(&scene, &stage.tokens, Some(&pair)).await;
    put_secret(&scene, "pull", stage.tokens.host(), "wrong").await;
    let often = json!({"spec": {"recheck": {"interval": "5s"}}});
    scene
        .create(&[
            scene.policy("signed", "release", often),
            running("web", &image, pull_secret("pull")),
        ])
        .await;
    let refused = message(&scene, "deployment-web", "Unknown/RegistryDenied").await;
    run_command_in(&scene, &refused).await;
    let secret = format!("Secret {}/pull", scene.name());
    let token_server = stage.tokens.token_server().unwrap();
    let wrong =
        format!("the token server {token_server} refuses: the credentials of {secret} do not allow it");
    until_message(&scene, "deployment-web", &wrong).await;
    put_secret(&scene, "pull", stage.tokens.host(), Password::First.text()).await;
    becomes(&scene, "deployment-web", "True/AllVerified").await;
}

/// C3.12: the operator's own credentials, which no namespace has to allow, with a password and with tokens. Fails on a
/// build that leaves out the credentials of a RegistryConfig.
#[tokio::test]
async fn c3_12_the_operators_own_secret_opens_a_registry_for_every_namespace() {
    let stage = stage().await;
    for (name, registry) in [("own-basic", &stage.basic), ("own-tokens", &stage.tokens)] {
        let scene = Scene::on(stage.cluster, name).await;
        let pair = scene.signer("release", "release", "Active").await;
        let image = private_image(&scene, registry, Some(&pair)).await;
        let often = json!({"spec": {"recheck": {"interval": "5s"}}});
        scene
            .create(&[
                scene.policy("signed", "release", often),
                running("web", &image, json!({})),
            ])
            .await;
        message(&scene, "deployment-web", "Unknown/RegistryDenied").await;
        let secret = scene.unique("registry");
        put_secret_in(
            &scene,
            "assay-system",
            &secret,
            registry.host(),
            Password::First.text(),
        )
        .await;
        let config = json!({
            "apiVersion": "assay.dev/v1alpha1", "kind": "RegistryConfig", "metadata": {"name": secret},
            "spec": {"prefix": format!("{}/{}", registry.host(), scene.name()), "plainHTTP": true,
                "credentials": {"secretName": secret}},
        });
        scene.create(&[config]).await;
        becomes(&scene, "deployment-web", "True/AllVerified").await;
    }
}

/// Invariant 7, B42: a namespace without a secret learns nothing from one that has one.
#[tokio::test]
async fn b42_a_namespace_without_the_secret_stays_denied_beside_one_that_has_it_and_after_a_restart() {
    let stage = stage().await;
    let (mine, other) = (
        Scene::on(stage.cluster, "mine").await,
        Scene::on(stage.cluster, "other").await,
    );
    let pair = mine.signer("release", "release", "Active").await;
    let image = private_image(&mine, &stage.basic, Some(&pair)).await;
    let policy = with(
        mine.policy("signed", "release", json!({})),
        json!({"spec": {"match": {"namespaces": [mine.name(), other.name()]}}}),
    );
    mine.create(&[policy]).await;
    put_secret(&mine, "pull", stage.basic.host(), Password::First.text()).await;
    for scene in [&mine, &other] {
        let grant = [
            "create",
            "rolebinding",
            "assay",
            "--clusterrole=assay-pull-secret-reader",
        ];
        let account = ["--serviceaccount=assay-system:assay"];
        scene.kubectl(&[&grant[..], &account].concat()).await;
        scene.create(&[running("web", &image, pull_secret("pull"))]).await;
    }
    becomes(&mine, "deployment-web", "True/AllVerified").await;
    message(&other, "deployment-web", "Unknown/RegistryDenied").await;
    stage.operator.server.kill().unwrap();
    stage.operator.server.start_again().unwrap();
    stage.operator.until_ready().await;
    becomes(&mine, "deployment-web", "True/AllVerified").await;
    let refused = message(&other, "deployment-web", "Unknown/RegistryDenied").await;
    assert!(
        refused.contains(&format!("Secret {}/pull does not exist", other.name())),
        "{refused}"
    );
    assert!(!refused.contains(mine.name()), "{refused}");
}

/// The ServiceAccount's secrets, for a pod that was made before they were named there.
#[tokio::test]
async fn c3_12_the_secrets_of_the_service_account_count_where_the_pod_names_none() {
    let stage = stage().await;
    let scene = Scene::on(stage.cluster, "account").await;
    let image = private_image(&scene, &stage.basic, None).await;
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            running("web", &image, json!({})),
        ])
        .await;
    let refused = message(&scene, "deployment-web", "Unknown/RegistryDenied").await;
    assert!(
        refused.contains(&format!("ServiceAccount {}/default", scene.name())),
        "{refused}"
    );
    put_secret(&scene, "pull", stage.basic.host(), Password::First.text()).await;
    let secrets = json!({"imagePullSecrets": [{"name": "pull"}]});
    scene.patch("serviceaccount", "default", &secrets).await;
    run_command_in(&scene, &refused).await;
    becomes(&scene, "deployment-web", "False/SignatureMissing").await;
}
