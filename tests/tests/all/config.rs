//! What `config/` installs: a real API server accepts all of it, and everybody has exactly the rights they need;
//! and the image that it names.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use testkit::{
    Cluster, ClusterOptions, Registry, TestNamespace, Tools, client_for, eventually, run_folder,
    workspace_binary, workspace_root,
};

const NAMESPACE: &str = "assay-system";
const ACCOUNT: &str = "assay";
/// The group of the custom kind that one test lets the operator read.
const CUSTOM_GROUP: &str = "rollouts.example.com";

/// A cluster of these tests alone, with `kubectl apply -k config` carried out: what is installed here counts for the
/// whole cluster, so it does not share one with other tests.
pub(crate) fn installed() -> &'static Cluster {
    static INSTALLED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // On a runtime of its own that outlives the test that comes first.
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        std::thread::spawn(move || {
            let cluster = runtime.block_on(install());
            std::mem::forget(runtime);
            cluster.map_err(|error| error.to_string())
        })
        .join()
        .map_err(|_| "the thread that installs config/ panicked".to_owned())?
    });
    installed.as_ref().unwrap()
}

async fn install() -> testkit::Result<Cluster> {
    let cluster = Cluster::start(run_folder()?.join("config"), ClusterOptions::default()).await?;
    cluster.kubectl(&["apply", "-k", "config"]).await?;
    Ok(cluster)
}

/// What the user of a client may do to objects in a namespace, one line for each verb and resource, such as
/// `list apps/deployments`; without what everybody may ask about themselves.
async fn rights(client: kube::Client, namespace: &str) -> BTreeSet<String> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let answered = Api::all(client)
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    let status = answered.status.unwrap();
    assert!(!status.incomplete, "{:?}", status.evaluation_error);
    let mut rights = BTreeSet::new();
    for rule in status.resource_rules {
        let names = rule.resource_names.unwrap_or_default();
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.iter().flatten() {
                let what = match group.as_str() {
                    "" => resource.clone(),
                    group => format!("{group}/{resource}"),
                };
                for verb in &rule.verbs {
                    rights.insert(format!("{verb} {what} {}", names.join(",")).trim().to_owned());
                }
            }
        }
    }
    rights.retain(|right| !right.contains("/selfsubject"));
    rights
}

/// Each verb with each resource.
fn each(verbs: &[&str], resources: &[&str]) -> BTreeSet<String> {
    let of = |resource: &&str| {
        verbs
            .iter()
            .map(|verb| format!("{verb} {resource}"))
            .collect::<Vec<_>>()
    };
    resources.iter().flat_map(of).collect()
}

fn about_assay(mut rights: BTreeSet<String>) -> BTreeSet<String> {
    rights.retain(|right| right.contains("assay.dev"));
    rights
}

async fn user(cluster: &Cluster, name: &str) -> kube::Client {
    client_for(&cluster.kubeconfig_for_user(name, None).unwrap())
        .await
        .unwrap()
}

async fn operator(cluster: &Cluster) -> kube::Client {
    let kubeconfig = cluster
        .kubeconfig_for_service_account(NAMESPACE, ACCOUNT)
        .await
        .unwrap();
    client_for(&kubeconfig).await.unwrap()
}

#[tokio::test]
async fn applying_config_again_changes_nothing_and_warns_of_nothing() {
    let cluster = installed();
    let again = cluster
        .kubectl_output(&["apply", "-k", "config"], "")
        .await
        .unwrap();
    assert!(again.succeeded(), "{again:?}");
    assert_eq!(again.stderr, "");
    let mut changed: Vec<_> = again
        .stdout
        .lines()
        .filter(|line| !line.ends_with(" unchanged"))
        .collect();
    // The selector of a PodDisruptionBudget is patched by replacement, with the same: kubectl always says so.
    changed.retain(|line| *line != "poddisruptionbudget.policy/assay configured");
    assert!(changed.is_empty(), "{changed:?}");
}

#[tokio::test]
async fn config_is_accepted_by_server_side_apply_with_every_field_known() {
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--validate=strict",
        "--dry-run=server",
        "-k",
        "config",
    ];
    let applied = installed().kubectl_output(&arguments, "").await.unwrap();
    assert!(applied.succeeded(), "{applied:?}");
    let warnings: Vec<_> = applied
        .stderr
        .lines()
        .filter(|line| !line.contains("failed to migrate kubectl.kubernetes.io/last-applied-configuration"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    for kind in [
        "customresourcedefinition",
        "clusterrole",
        "deployment",
        "networkpolicy",
    ] {
        assert!(applied.stdout.contains(kind), "{kind}: {}", applied.stdout);
    }
}

#[tokio::test]
async fn the_namespace_takes_only_restricted_pods_and_both_replicas_are_such() {
    let cluster = installed();
    let pods: Api<Pod> = Api::namespaced(cluster.admin_client().await.unwrap(), NAMESPACE);
    eventually("two pods of the operator", Duration::from_secs(60), async || {
        let found = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        match found.items.len() {
            2 => Ok(()),
            other => Err(format!("there are {other}")),
        }
    })
    .await
    .unwrap();
    let arguments = [
        "-n",
        NAMESPACE,
        "run",
        "unrestricted",
        "--image=registry.example.com/x",
        "--dry-run=server",
    ];
    let refused = cluster.kubectl_output(&arguments, "").await.unwrap();
    assert!(
        refused
            .stderr
            .contains("violates PodSecurity \"restricted:latest\""),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_operators_image_is_named_by_digest() {
    let rendered = installed().kubectl(&["kustomize", "config"]).await.unwrap();
    let images: Vec<_> = rendered
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "))
        .collect();
    assert_eq!(images.len(), 1, "{images:?}");
    assert!(images[0].contains("@sha256:"), "{images:?}");
}

#[test]
fn the_operator_knows_every_argument_that_the_deployment_gives_it() {
    let binary = workspace_binary("assay-cli", "assay").unwrap();
    let help = run(Command::new(binary).args(["controller", "--help"]));
    let deployment = workspace_root().join("config/manager/deployment.yaml");
    let deployment = std::fs::read_to_string(deployment).unwrap();
    let arguments: Vec<_> = deployment
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- --"))
        .collect();
    assert!(arguments.len() >= 2, "{arguments:?}");
    for argument in arguments {
        let flag = argument.split('=').next().unwrap_or_default();
        assert!(help.contains(&format!(" --{flag} ")), "--{flag} is not in {help}");
    }
}

#[tokio::test]
async fn the_samples_are_accepted_without_a_warning() {
    let arguments = [
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-k",
        "config/samples",
    ];
    let applied = installed().kubectl_output(&arguments, "").await.unwrap();
    assert!(applied.succeeded(), "{applied:?}");
    assert_eq!(applied.stderr, "");
    assert_eq!(applied.stdout.lines().count(), 8, "{}", applied.stdout);
}

#[tokio::test]
async fn the_monitoring_base_renders_and_every_alert_says_what_to_do() {
    let rendered = installed()
        .kubectl(&["kustomize", "config/prometheus"])
        .await
        .unwrap();
    for kind in ["kind: ServiceMonitor", "kind: PrometheusRule"] {
        assert!(rendered.contains(kind), "{rendered}");
    }
    let alerts = rendered.matches("- alert: ").count();
    assert!(alerts >= 7, "{rendered}");
    for annotation in [" summary: ", " description: ", " runbook_url: docs/alerts.md#"] {
        assert_eq!(
            rendered.matches(annotation).count(),
            alerts,
            "{annotation}: {rendered}"
        );
    }
}

#[tokio::test]
async fn the_operator_may_do_exactly_what_it_does_and_nothing_to_workloads_policies_keys_or_secrets_of_others()
 {
    let cluster = installed();
    let client = operator(cluster).await;
    let reading = ["get", "list", "watch"];
    let mut expected = each(
        &reading,
        &[
            "pods",
            "replicationcontrollers",
            "apps/daemonsets",
            "apps/deployments",
            "apps/replicasets",
            "apps/statefulsets",
            "batch/cronjobs",
            "batch/jobs",
            "assay.dev/imageexceptions",
            "assay.dev/imagepolicies",
            "assay.dev/keyrevocations",
            "assay.dev/policypreviews",
            "assay.dev/registryconfigs",
            "assay.dev/signingkeys",
            "assay.dev/trustroots",
            "assay.dev/imagecompliances",
        ],
    );
    expected.extend(each(&["list", "watch"], &["namespaces"]));
    expected.extend(each(
        &["update"],
        &[
            "assay.dev/imageexceptions/status",
            "assay.dev/imagepolicies/status",
            "assay.dev/keyrevocations/status",
            "assay.dev/policypreviews/status",
            "assay.dev/registryconfigs/status",
            "assay.dev/signingkeys/status",
            "assay.dev/trustroots/status",
        ],
    ));
    expected.extend(each(
        &["create", "delete", "update"],
        &["assay.dev/imagecompliances"],
    ));
    expected.extend(each(&["delete"], &["assay.dev/policypreviews"]));
    expected.extend(each(
        &["create"],
        &["assay.dev/keyrevocations", "events.k8s.io/events"],
    ));
    expected.extend(each(&["patch"], &["assay.dev/keyrevocations"]));
    let besides_custom_owners = async |namespace| {
        let mut found = rights(client.clone(), namespace).await;
        found.retain(|right| !right.contains(CUSTOM_GROUP));
        found
    };
    assert_eq!(besides_custom_owners("default").await, expected);

    // By name, of its own namespace alone.
    expected.extend(each(&["get"], &["configmaps", "secrets"]));
    expected.extend([
        "create coordination.k8s.io/leases".to_owned(),
        "get coordination.k8s.io/leases assay-controller".to_owned(),
        "update coordination.k8s.io/leases assay-controller".to_owned(),
    ]);
    assert_eq!(besides_custom_owners(NAMESPACE).await, expected);
}

#[tokio::test]
async fn the_operator_reads_custom_owners_once_a_labelled_role_lets_it() {
    let cluster = installed();
    let client = operator(cluster).await;
    let right = &format!("get {CUSTOM_GROUP}/rollouts");
    assert!(!rights(client.clone(), "default").await.contains(right));
    let role = format!(
        r#"{{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {{"name": "assay-reads-rollouts",
                          "labels": {{"assay.dev/aggregate-to-owner-reader": "true"}}}},
            "rules": [{{"apiGroups": ["{CUSTOM_GROUP}"], "resources": ["rollouts"], "verbs": ["get"]}}]}}"#
    );
    cluster.apply(&role).await.unwrap();
    eventually(
        "the right to read rollouts",
        Duration::from_secs(30),
        async || match rights(client.clone(), "kube-system").await {
            found if found.contains(right) => Ok(()),
            found => Err(format!("{found:?}")),
        },
    )
    .await
    .unwrap();
    cluster.kubectl(&["apply", "-k", "config"]).await.unwrap();
    assert!(
        rights(client, "default").await.contains(right),
        "applying again took it away"
    );
}

#[tokio::test]
async fn whoever_holds_view_edit_or_admin_in_a_namespace_reads_the_compliance_there_and_writes_none() {
    let cluster = installed();
    let own = TestNamespace::create(cluster, "tenant").await.unwrap();
    for role in ["view", "edit", "admin"] {
        let name = format!("tenant-{role}");
        let binding = [
            "-n",
            own.name(),
            "create",
            "rolebinding",
            &name,
            &format!("--clusterrole={role}"),
            &format!("--user={name}"),
        ];
        cluster.kubectl(&binding).await.unwrap();
        let client = user(cluster, &name).await;
        let expected = each(&["get", "list", "watch"], &["assay.dev/imagecompliances"]);
        eventually(
            "the cluster to aggregate the role",
            Duration::from_secs(30),
            async || match about_assay(rights(client.clone(), own.name()).await) {
                found if found == expected => Ok(()),
                found => Err(format!("{role} may: {found:?}")),
            },
        )
        .await
        .unwrap();
        let elsewhere = about_assay(rights(client, "default").await);
        assert!(elsewhere.is_empty(), "{elsewhere:?}");

        let kubeconfig = cluster.kubeconfig_for_user(&name, None).unwrap();
        let read = ["-n", own.name(), "get", "imgc"];
        let read = cluster.kubectl_with(&kubeconfig, &read, "").await.unwrap();
        assert!(read.succeeded(), "{read:?}");
        let forged = format!(
            r#"{{"apiVersion": "assay.dev/v1alpha1", "kind": "ImageCompliance",
                "metadata": {{"name": "deployment-web", "namespace": "{}"}}}}"#,
            own.name()
        );
        let written = cluster
            .kubectl_with(&kubeconfig, &["create", "-f", "-"], &forged)
            .await
            .unwrap();
        assert!(
            !written.succeeded() && written.stderr.contains("forbidden"),
            "{written:?}"
        );
    }
}

#[tokio::test]
async fn the_admins_of_keys_policies_and_registries_are_apart_and_none_reads_secrets_or_writes_statuses() {
    let cluster = installed();
    let admins: [(&str, &[&str]); 4] = [
        (
            "key",
            &[
                "assay.dev/keyrevocations",
                "assay.dev/policypreviews",
                "assay.dev/signingkeys",
                "assay.dev/trustroots",
            ],
        ),
        (
            "policy",
            &[
                "assay.dev/imageexceptions",
                "assay.dev/imagepolicies",
                "assay.dev/policypreviews",
            ],
        ),
        ("exception", &["assay.dev/imageexceptions"]),
        ("registry", &["assay.dev/registryconfigs"]),
    ];
    for (role, resources) in admins {
        let name = format!("the-{role}-admin");
        let binding = [
            "create",
            "clusterrolebinding",
            &name,
            &format!("--clusterrole=assay-{role}-admin"),
            &format!("--user={name}"),
        ];
        cluster.kubectl(&binding).await.unwrap();
        let client = user(cluster, &name).await;
        let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
        let expected = each(&verbs, resources);
        eventually(
            "the cluster to aggregate the role",
            Duration::from_secs(30),
            async || match rights(client.clone(), "default").await {
                found if found == expected => Ok(()),
                found => Err(format!("{name} may: {found:?}")),
            },
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn the_definitions_are_accepted_by_kubectl_apply_of_their_folder() {
    let arguments = ["apply", "--dry-run=server", "-f", "crds"];
    let applied = installed().kubectl_output(&arguments, "").await.unwrap();
    assert!(applied.succeeded(), "{applied:?}");
}

/// Runs a program in the workspace's root to its end and gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command.current_dir(workspace_root()).output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout.trim().to_owned()
}

#[tokio::test]
async fn the_image_is_reproducible_has_no_root_user_and_is_installed_by_its_digest() {
    let folder = run_folder().unwrap().join("image");
    std::fs::create_dir_all(&folder).unwrap();
    let registry = Registry::distribution(folder.join("registry")).await.unwrap();
    let reference = format!("{}/assay/operator:test", registry.host());
    // In place of the release binary: as static as it, and built at once.
    let (source, binary) = (folder.join("program.c"), folder.join("program"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    run(Command::new("gcc")
        .arg("-static")
        .arg(&source)
        .arg("-o")
        .arg(&binary));
    let push = || {
        let printed = run(Command::new("make")
            .args(["-s", "image", "INSECURE=1"])
            .arg(format!("REF={reference}"))
            .env("CARGO_TARGET_DIR", &folder)
            .env("ASSAY_BINARY", &binary));
        printed.lines().last().unwrap_or_default().to_owned()
    };
    let digest = push();
    assert_eq!(push(), digest);

    let crane = Tools::locate().unwrap().path("crane").unwrap();
    let crane = |command: &str| run(Command::new(&crane).args(["--insecure", command]).arg(&reference));
    assert_eq!(crane("digest"), digest);
    let config: serde_json::Value = serde_json::from_str(&crane("config")).unwrap();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/assay"]));

    let manifests = run(Command::new("make")
        .args(["-s", "deploy-manifests"])
        .env("CARGO_TARGET_DIR", &folder));
    let image = format!("image: {}/assay/operator@{digest}", registry.host());
    assert!(manifests.contains(&image), "{image} is not in {manifests}");
    let arguments = ["apply", "--dry-run=server", "-f", "-"];
    let applied = installed().kubectl_output(&arguments, &manifests).await.unwrap();
    assert!(applied.succeeded(), "{applied:?}");
}

#[test]
fn no_manifest_is_left_out_of_the_kustomization_of_its_folder() {
    for (folder, kustomization) in [
        ("crds", "Kustomization"),
        ("config/rbac", "kustomization.yaml"),
        ("config/manager", "kustomization.yaml"),
        ("config/samples", "kustomization.yaml"),
        ("config/prometheus", "kustomization.yaml"),
    ] {
        let folder = workspace_root().join(folder);
        let text = std::fs::read_to_string(folder.join(kustomization)).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let is_manifest = file.ends_with(".yaml") && file != kustomization;
            let named = text.contains(&format!("- {file}\n"));
            assert!(!is_manifest || named, "{}: {file}", folder.display());
        }
    }
}
