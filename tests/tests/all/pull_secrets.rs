//! Private images and the pull secrets of those who run them: real registries that want a password or a token, a real
//! API server with RBAC, and the operator with the rights that `config/rbac` gives it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Cluster, Server, ServerSpec, Tools, free_port, node::annotation, run_folder};
use tokio::sync::OnceCell;

use crate::manifests::with;
use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{Scene, condition, deployment};

/// What the password `first` of alice is to distribution, and what `second` is (bcrypt).
const FIRST: &str = "alice:$2b$05$abcdefghijklmnopqrstuu3rQZA.e/048YzLTJ55aycWHfqo0a49W\n";
const SECOND: &str = "alice:$2b$05$abcdefghijklmnopqrstuuKbPhTOR7Pvo59BRa0eQ090CMHpax.C6\n";

/// After a refusal it is asked again after 30 s, then 60 s.
const ASKED_AGAIN: Duration = Duration::from_secs(180);

/// Two processes of distribution over the same files: one takes what tests push, the other serves alice alone.
struct Private {
    open: String,
    host: String,
    users: PathBuf,
    _servers: [Server; 2],
}

impl Private {
    async fn start(name: &str) -> Self {
        let folder = run_folder().unwrap().join(format!("private-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        let users = folder.join("users");
        std::fs::write(&users, FIRST).unwrap();
        let auth = json!({"auth": {"htpasswd": {"realm": "test", "path": users}}});
        let (open, first) = distribution(&folder, "open", json!({})).await;
        let (host, second) = distribution(&folder, "private", auth).await;
        Self {
            open,
            host,
            users,
            _servers: [first, second],
        }
    }
}

async fn distribution(folder: &std::path::Path, name: &str, more: Value) -> (String, Server) {
    let host = format!("127.0.0.1:{}", free_port().unwrap());
    let config = json!({
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": folder.join("files")}},
        "http": {"addr": host},
    });
    let file = folder.join(format!("{name}.yml"));
    std::fs::write(&file, with(config, more).to_string()).unwrap();
    let program = Tools::locate().unwrap().path("distribution").unwrap();
    let spec = ServerSpec::new(format!("distribution-{name}"), program, folder)
        .arg("serve")
        .arg(file);
    let server = Server::start(spec).unwrap();
    let address = host.clone();
    let ready = || {
        let address = address.clone();
        async move {
            let connected = tokio::net::TcpStream::connect(address).await;
            connected.map(|_| true).map_err(|error| error.to_string())
        }
    };
    server
        .wait_until_ready(Duration::from_secs(30), ready)
        .await
        .unwrap();
    (host, server)
}

/// A cluster whose operator uses workloads' credentials, and the registry that refuses it.
struct Stage {
    cluster: &'static Cluster,
    operator: Operator,
    private: Private,
    /// Of one test alone, which changes the password.
    turning: Private,
}

async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let start = || async {
        let cluster = own_cluster("pull-secrets").await;
        install(cluster).await;
        let private = Private::start("basic").await;
        let turning = Private::start("turning").await;
        let mut arguments = insecure(&[private.host.clone(), turning.host.clone()]);
        arguments.extend(["--leader-elect=false", "--registry-credentials=workload"].map(str::to_owned));
        let operator = Operator::start(cluster, "operator", &arguments).await;
        Stage {
            cluster,
            operator,
            private,
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
    let config = json!({"auths": {host: {"username": "alice", "password": password}}}).to_string();
    let data = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config},
    });
    let arguments = ["-n", scene.name(), "apply", "-f", "-"];
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

async fn becomes(scene: &Scene, name: &str, expected: &str) {
    scene
        .until(name, expected, ASKED_AGAIN, |compliance| {
            condition(compliance) == expected
        })
        .await;
}

/// Signs an image where everybody may write, and names it where alice alone may read.
async fn private_image(scene: &Scene, private: &Private, key: Option<&testkit::KeyPair>) -> String {
    let repository = format!("{}/web", scene.name());
    let writer = testkit::RegistryWriter::new(private.open.clone());
    let image = writer.push_image(&repository, "1", scene.name()).await.unwrap();
    if let Some(key) = key {
        scene
            .cosign
            .sign(&image.by_digest(), key, testkit::Format::Tag)
            .await
            .unwrap();
    }
    format!("{}/{repository}@{}", private.host, image.digest)
}

/// C3.12: the whole way of a namespace that opts in.
#[tokio::test]
async fn c3_12_a_private_image_verifies_once_its_namespace_lets_the_operator_read_its_pull_secret() {
    let stage = stage().await;
    let scene = Scene::on(stage.cluster, "pull").await;
    let pair = scene.signer("release", "release", "Active").await;
    let image = private_image(&scene, &stage.turning, Some(&pair)).await;
    put_secret(&scene, "pull", &stage.turning.host, "first").await;
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
    std::fs::write(&stage.turning.users, SECOND).unwrap();
    scene
        .until("deployment-web", "stale", ASKED_AGAIN, |compliance| {
            compliance.status.images[0].policies[0].stale_since.is_some()
        })
        .await;
    put_secret(&scene, "pull", &stage.turning.host, "second").await;
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

/// Invariant 7, B42: a namespace without a secret learns nothing from one that has one.
#[tokio::test]
async fn b42_a_namespace_without_the_secret_stays_denied_beside_one_that_has_it_and_after_a_restart() {
    let stage = stage().await;
    let (mine, other) = (
        Scene::on(stage.cluster, "mine").await,
        Scene::on(stage.cluster, "other").await,
    );
    let pair = mine.signer("release", "release", "Active").await;
    let image = private_image(&mine, &stage.private, Some(&pair)).await;
    let policy = with(
        mine.policy("signed", "release", json!({})),
        json!({"spec": {"match": {"namespaces": [mine.name(), other.name()]}}}),
    );
    mine.create(&[policy]).await;
    put_secret(&mine, "pull", &stage.private.host, "first").await;
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
    let image = private_image(&scene, &stage.private, None).await;
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
    put_secret(&scene, "pull", &stage.private.host, "first").await;
    let secrets = json!({"imagePullSecrets": [{"name": "pull"}]});
    scene.patch("serviceaccount", "default", &secrets).await;
    run_command_in(&scene, &refused).await;
    becomes(&scene, "deployment-web", "False/SignatureMissing").await;
}
