//! The node simulator: what a kubelet would do with pods, seen through the API.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::time::Duration;

use assay_testkit::{
    Audit, Cluster, ClusterOptions, NodeOptions, NodeSimulator, Registry, Runtime, Shared, TestNamespace,
    eventually, node::annotation, shared,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

async fn start(test: &str) -> (&'static Shared, TestNamespace) {
    let shared = shared().unwrap();
    (shared, shared.namespace(test).await.unwrap())
}

async fn create_pod(namespace: &TestNamespace, name: &str, annotations: Value, spec: Value) {
    let pod = json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    namespace
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
}

async fn pod_that(namespace: &TestNamespace, name: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
    let pods = namespace.api::<Pod>();
    let look = async || {
        let pod = pods.get(name).await.map_err(|error| error.to_string())?;
        if holds(&pod) {
            Ok(pod)
        } else {
            Err(serde_json::to_string(&pod.status).unwrap())
        }
    };
    eventually(&format!("pod {name}"), LIMIT, look).await.unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn container<'a>(pod: &'a Pod, name: &str) -> &'a ContainerStatus {
    let status = pod.status.as_ref().unwrap();
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flat_map(|list| list.iter().flatten())
        .find(|status| status.name == name)
        .unwrap()
}

fn waiting_reason(pod: &Pod, name: &str) -> String {
    let state = container(pod, name).state.clone().unwrap_or_default();
    state
        .waiting
        .and_then(|waiting| waiting.reason)
        .unwrap_or_default()
}

fn is_running(pod: &Pod) -> bool {
    phase(pod) == "Running"
}

#[tokio::test]
async fn a_deployment_runs_with_the_digest_of_what_its_tag_led_to() {
    let (shared, namespace) = start("deployment").await;
    let image = shared
        .distribution
        .writer()
        .push_image("nodes/deployment", "1", "deployment")
        .await
        .unwrap();
    let name = namespace.name();
    let reference = image.by_tag();
    let create = [
        "-n",
        name,
        "create",
        "deployment",
        "web",
        "--replicas=3",
        "--image",
        &reference,
    ];
    shared.cluster.kubectl(&create).await.unwrap();
    let wait = [
        "-n",
        name,
        "wait",
        "deployment/web",
        "--for=condition=Available",
        "--timeout=60s",
    ];
    shared.cluster.kubectl(&wait).await.unwrap();
    let pods = namespace
        .api::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        assert_eq!(container(pod, "deployment").image_id, image.by_digest());
        assert!(
            pod.spec
                .as_ref()
                .unwrap()
                .node_name
                .as_deref()
                .unwrap()
                .starts_with("node-")
        );
    }
}

#[tokio::test]
async fn each_runtime_writes_its_own_shape_of_image_id_for_an_index() {
    let (shared, namespace) = start("runtimes").await;
    let pushed = shared
        .referrers
        .writer()
        .push_index("nodes/runtimes", "1", "runtimes", true)
        .await
        .unwrap();
    let manifest = shared
        .referrers
        .writer()
        .manifest("nodes/runtimes", &pushed.amd64.digest)
        .await
        .unwrap()
        .unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let repository = &pushed.index.repository;
    let expected = [
        (Runtime::Containerd, pushed.index.by_digest()),
        (Runtime::CrioPlatform, pushed.amd64.by_digest()),
        (Runtime::CrioIndex, pushed.index.by_digest()),
        (
            Runtime::CrioBareId,
            config.trim_start_matches("sha256:").to_owned(),
        ),
        (
            Runtime::CriDockerd,
            format!("docker-pullable://{repository}@{}", pushed.index.digest),
        ),
        (Runtime::CriDockerdConfig, format!("docker://{config}")),
        (Runtime::LoadedWithoutRegistry, config.to_owned()),
    ];
    for (runtime, image_id) in expected {
        let spec = json!({"containers": [{"name": "c", "image": pushed.index.by_tag()}]});
        create_pod(
            &namespace,
            runtime.name(),
            json!({annotation::RUNTIME: runtime.name()}),
            spec,
        )
        .await;
        let pod = pod_that(&namespace, runtime.name(), is_running).await;
        assert_eq!(container(&pod, "c").image_id, image_id, "{runtime:?}");
    }
}

#[tokio::test]
async fn an_image_pulled_under_another_repository_first_is_reported_under_that_one() {
    let (shared, namespace) = start("pulled-as").await;
    let image = shared
        .distribution
        .writer()
        .push_image("nodes/second", "1", "pulled-as")
        .await
        .unwrap();
    let spec = json!({"containers": [{"name": "c", "image": image.by_tag()}]});
    create_pod(
        &namespace,
        "p",
        json!({annotation::PULLED_AS: "mirror.example/first"}),
        spec,
    )
    .await;
    let pod = pod_that(&namespace, "p", is_running).await;
    assert_eq!(
        container(&pod, "c").image_id,
        format!("mirror.example/first@{}", image.digest)
    );
    assert_eq!(container(&pod, "c").image.as_str(), "mirror.example/first:1");
}

#[tokio::test]
async fn a_container_that_is_not_started_has_no_image_id_until_it_starts() {
    let (shared, namespace) = start("not-started").await;
    let image = shared
        .distribution
        .writer()
        .push_image("nodes/late", "1", "late")
        .await
        .unwrap();
    let spec = json!({"containers": [{"name": "c", "image": image.by_tag()}]});
    create_pod(&namespace, "p", json!({annotation::RUNTIME: "not-started"}), spec).await;
    let is_created = |pod: &Pod| {
        pod.status
            .as_ref()
            .is_some_and(|status| status.container_statuses.is_some())
    };
    let pod = pod_that(&namespace, "p", is_created).await;
    assert_eq!(
        (phase(&pod), container(&pod, "c").image_id.as_str()),
        ("Pending", "")
    );
    assert_eq!(waiting_reason(&pod, "c"), "ContainerCreating");
    let patch = json!({"metadata": {"annotations": {annotation::RUNTIME: "containerd"}}});
    namespace
        .api::<Pod>()
        .patch("p", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let pod = pod_that(&namespace, "p", is_running).await;
    assert_eq!(container(&pod, "c").image_id, image.by_digest());
}

#[tokio::test]
async fn init_sidecar_and_ephemeral_containers_have_their_own_lists() {
    let (shared, namespace) = start("lists").await;
    let writer = shared.distribution.writer();
    let mut images = Vec::new();
    for kind in ["init", "sidecar", "plain", "ephemeral"] {
        images.push(writer.push_image("nodes/lists", kind, kind).await.unwrap());
    }
    let spec = json!({
        "initContainers": [
            {"name": "init", "image": images[0].by_tag()},
            {"name": "sidecar", "image": images[1].by_tag(), "restartPolicy": "Always"},
        ],
        "containers": [{"name": "plain", "image": images[2].by_digest()}],
    });
    create_pod(&namespace, "p", json!({}), spec).await;
    let before = pod_that(&namespace, "p", is_running).await;
    let mut pod = before.clone();
    let ephemeral = json!([{"name": "ephemeral", "image": images[3].by_tag()}]);
    pod.spec.as_mut().unwrap().ephemeral_containers = Some(serde_json::from_value(ephemeral).unwrap());
    let patch = json!({"spec": {"ephemeralContainers": pod.spec.as_ref().unwrap().ephemeral_containers}});
    let pods = namespace.api::<Pod>();
    pods.patch_ephemeral_containers("p", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let has_ephemeral = |pod: &Pod| {
        pod.status
            .as_ref()
            .unwrap()
            .ephemeral_container_statuses
            .as_ref()
            .is_some_and(|l| !l.is_empty())
    };
    let pod = pod_that(&namespace, "p", has_ephemeral).await;
    for (status, image) in ["init", "sidecar", "plain", "ephemeral"].iter().zip(&images) {
        assert_eq!(container(&pod, status).image_id, image.by_digest(), "{status}");
    }
    let ended = container(&pod, "init").state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    for running in ["sidecar", "plain", "ephemeral"] {
        assert!(
            container(&pod, running).state.clone().unwrap().running.is_some(),
            "{running}"
        );
    }
    assert_eq!(
        container(&pod, "plain"),
        container(&before, "plain"),
        "what runs is left alone"
    );
}

#[tokio::test]
async fn an_image_that_does_not_resolve_waits_and_starts_once_it_does() {
    let (shared, namespace) = start("pull").await;
    let host = shared.distribution.host();
    let unique = namespace.name();
    let spec = json!({"containers": [
        {"name": "late", "image": format!("{host}/{unique}/late:1")},
        {"name": "invalid", "image": format!("{host}/{unique}/Upper:1")},
    ]});
    create_pod(&namespace, "p", json!({}), spec).await;
    let waits = |pod: &Pod| {
        pod.status
            .as_ref()
            .is_some_and(|status| status.container_statuses.is_some())
    };
    let pod = pod_that(&namespace, "p", waits).await;
    assert_eq!(waiting_reason(&pod, "late"), "ImagePullBackOff");
    assert_eq!(waiting_reason(&pod, "invalid"), "InvalidImageName");
    assert_eq!(
        (phase(&pod), container(&pod, "late").image_id.as_str()),
        ("Pending", "")
    );
    let image = shared
        .distribution
        .writer()
        .push_image(&format!("{unique}/late"), "1", "late")
        .await
        .unwrap();
    let started = |pod: &Pod| !container(pod, "late").image_id.is_empty();
    let pod = pod_that(&namespace, "p", started).await;
    assert_eq!(container(&pod, "late").image_id, image.by_digest());
    assert_eq!(phase(&pod), "Pending", "the other one never starts");
}

#[tokio::test]
async fn an_image_id_can_be_given_word_for_word() {
    let (_, namespace) = start("verbatim").await;
    let spec = json!({"containers": [{"name": "c", "image": "absent.example/x:1"}]});
    create_pod(
        &namespace,
        "p",
        json!({"testkit.assay.dev/image-id.c": "what?@sha256:zz"}),
        spec,
    )
    .await;
    let pod = pod_that(&namespace, "p", is_running).await;
    assert_eq!(container(&pod, "c").image_id, "what?@sha256:zz");
}

#[tokio::test]
async fn a_new_image_in_the_spec_restarts_the_container() {
    let (shared, namespace) = start("restart").await;
    let writer = shared.distribution.writer();
    let one = writer.push_image("nodes/restart", "1", "one").await.unwrap();
    let two = writer.push_image("nodes/restart", "2", "two").await.unwrap();
    create_pod(
        &namespace,
        "p",
        json!({}),
        json!({"containers": [{"name": "c", "image": one.by_tag()}]}),
    )
    .await;
    pod_that(&namespace, "p", is_running).await;
    let patch = json!({"spec": {"containers": [{"name": "c", "image": two.by_tag()}]}});
    namespace
        .api::<Pod>()
        .patch("p", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let pod = pod_that(&namespace, "p", |pod| {
        container(pod, "c").image_id == two.by_digest()
    })
    .await;
    assert_eq!(container(&pod, "c").restart_count, 1);
}

#[tokio::test]
async fn a_jobs_pod_ends_and_the_job_completes() {
    let (shared, namespace) = start("job").await;
    let image = shared
        .distribution
        .writer()
        .push_image("nodes/job", "1", "job")
        .await
        .unwrap();
    let name = namespace.name();
    shared
        .cluster
        .kubectl(&["-n", name, "create", "job", "once", "--image", &image.by_tag()])
        .await
        .unwrap();
    let wait = [
        "-n",
        name,
        "wait",
        "job/once",
        "--for=condition=Complete",
        "--timeout=60s",
    ];
    shared.cluster.kubectl(&wait).await.unwrap();
    let job = namespace.api::<Job>().get("once").await.unwrap();
    assert_eq!(job.status.unwrap().succeeded, Some(1));
    let pods = namespace
        .api::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(
        (phase(&pods[0]), container(&pods[0], "once").image_id.as_str()),
        ("Succeeded", image.by_digest().as_str())
    );
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_each_node_and_deletion_is_honoured() {
    let (shared, namespace) = start("daemon").await;
    let image = shared
        .distribution
        .writer()
        .push_image("nodes/daemon", "1", "daemon")
        .await
        .unwrap();
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": namespace.name()},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "agent", "image": image.by_tag()}]}}},
    });
    shared.cluster.apply(&manifest.to_string()).await.unwrap();
    let pods = namespace.api::<Pod>();
    // A rollout is complete on the nodes that the controller knows by then: one may come a moment later.
    let on_each_node = async || {
        let pods = pods.list(&ListParams::default()).await;
        let pods = pods.map_err(|error| error.to_string())?;
        let mut nodes: Vec<String> = pods.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
        nodes.sort();
        match nodes == ["node-0", "node-1"] {
            true => Ok(()),
            false => Err(format!("{nodes:?}")),
        }
    };
    eventually("a pod on each node", LIMIT, on_each_node)
        .await
        .unwrap();
    let rollout = [
        "-n",
        namespace.name(),
        "rollout",
        "status",
        "daemonset/agent",
        "--timeout=60s",
    ];
    shared.cluster.kubectl(&rollout).await.unwrap();
    shared
        .cluster
        .kubectl(&["-n", namespace.name(), "delete", "daemonset/agent"])
        .await
        .unwrap();
    let gone = async || {
        let left = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?
            .items
            .len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} pods are left"))
        }
    };
    eventually("the daemon set's pods to go", LIMIT, gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_pod_runs_on_for_as_long_as_it_takes_to_end() {
    let (shared, namespace) = start("slow-end").await;
    let image = shared
        .distribution
        .writer()
        .push_image("nodes/slow", "1", "slow")
        .await
        .unwrap();
    let spec = json!({"containers": [{"name": "c", "image": image.by_tag()}]});
    create_pod(
        &namespace,
        "p",
        json!({annotation::TERMINATION_DELAY: "10s"}),
        spec,
    )
    .await;
    pod_that(&namespace, "p", is_running).await;
    let pods = namespace.api::<Pod>();
    let asked = std::time::Instant::now();
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    let pod = pods.get("p").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_some() && is_running(&pod));
    let gone = async || match pods.get_opt("p").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("the pod to go", LIMIT, gone).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(10));
}

#[tokio::test]
async fn a_simulator_that_is_started_again_leaves_what_runs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions {
        audit: Audit::Writes,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(folder.path().join("cluster"), options)
        .await
        .unwrap();
    let registry = Registry::distribution(folder.path().join("registry"))
        .await
        .unwrap();
    let namespace = TestNamespace::create(&cluster, "again").await.unwrap();
    let first = registry
        .writer()
        .push_image("nodes/again", "1", "first")
        .await
        .unwrap();
    let spec = json!({"containers": [{"name": "c", "image": first.by_tag()}]});
    let nodes = NodeSimulator::start(&cluster, NodeOptions::default())
        .await
        .unwrap();
    create_pod(&namespace, "before", json!({}), spec.clone()).await;
    let before = pod_that(&namespace, "before", is_running).await;
    until_written(&cluster, &["before"]).await;
    drop(nodes);
    let second = registry
        .writer()
        .push_image("nodes/again", "1", "second")
        .await
        .unwrap();
    let _nodes = NodeSimulator::start(&cluster, NodeOptions::default())
        .await
        .unwrap();
    create_pod(&namespace, "after", json!({}), spec).await;
    let after = pod_that(&namespace, "after", is_running).await;
    assert_eq!(
        container(&after, "c").image_id,
        second.by_digest(),
        "the tag has moved"
    );
    let unchanged = pod_that(&namespace, "before", is_running).await;
    assert_eq!(
        unchanged.metadata.resource_version,
        before.metadata.resource_version
    );
    until_written(&cluster, &["before", "after"]).await;
}

/// Waits until the statuses of these pods are logged as written, once each, and no other one. A write is in the log a
/// moment after it can be read.
async fn until_written(cluster: &Cluster, pods: &[&str]) {
    let logged = async || {
        let writes = cluster.writes_by(assay_testkit::NODE_USER);
        let writes = writes.map_err(|error| error.to_string())?;
        let statuses = writes
            .iter()
            .filter(|write| write.resource == "pods" && write.subresource == "status");
        let written: Vec<_> = statuses.map(|write| (write.name.as_str(), write.code)).collect();
        match written == pods.iter().map(|pod| (*pod, 200)).collect::<Vec<_>>() {
            true => Ok(()),
            false => Err(format!("{written:?}")),
        }
    };
    eventually("each status, written once", LIMIT, logged)
        .await
        .unwrap();
}
