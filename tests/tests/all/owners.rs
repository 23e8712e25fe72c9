//! Whose answer it is: the climb from a pod to the workload at the top.

use serde_json::{Value, json};
use testkit::{eventually, node::annotation};

use crate::manifests::with;
use crate::operator::{Operator, insecure, install};
use crate::own::own_cluster;
use crate::scene::{PATIENCE, Scene, condition, containers, deployment, pod, simple};
use crate::servers::servers;

const GROUP: &str = "owners.example.com";

/// C1.04, C1.05, C1.06, C1.08: a template of each kind, and what its pods run is reported at the top.
#[tokio::test]
async fn c1_04_c1_05_each_built_in_kind_answers_for_the_pods_below_it() {
    let (scene, _) = Scene::shared("owners").await;
    let image = scene
        .image(&servers().await.referrers, "owners/unsigned")
        .await
        .by_tag();
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    let never = json!({(annotation::COMPLETE_AFTER): "never"});
    let template = json!({"metadata": {"labels": {"app": "x"}, "annotations": never}, "spec": spec});
    let selector = json!({"matchLabels": {"app": "x"}});
    let object = |api: &str, kind: &str, spec: Value| json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let job = json!({"template": with(template.clone(), json!({"spec": {"restartPolicy": "Never"}}))});
    scene.create(&[
        scene.policy("signed", "release", json!({})),
        scene.signing_key("release", "release", "Active", &scene.cosign.generate_key_pair("release").await.unwrap()),
        simple("x", &image),
        object("apps/v1", "StatefulSet", json!({"serviceName": "x", "selector": selector, "template": template})),
        object("apps/v1", "DaemonSet", json!({"selector": selector, "template": template})),
        with(object("apps/v1", "ReplicaSet", json!({"selector": {"matchLabels": {"app": "rs"}}, "template": with(template.clone(), json!({"metadata": {"labels": {"app": "rs"}}}))})), json!({})),
        object("v1", "ReplicationController", json!({"selector": {"app": "rc"}, "template": with(template.clone(), json!({"metadata": {"labels": {"app": "rc"}}}))})),
        object("batch/v1", "Job", job.clone()),
        object("batch/v1", "CronJob", json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}})),
        pod("x", spec.clone(), json!({})),
        pod("mirror", with(spec.clone(), json!({"nodeName": "node-0"})), json!({"annotations": {"kubernetes.io/config.mirror": "hash"}})),
    ]).await;
    scene
        .kubectl(&["create", "job", "--from=cronjob/x", "of-cron"])
        .await;
    for name in [
        "deployment-x",
        "statefulset-x",
        "daemonset-x",
        "replicaset-x",
        "replicationcontroller-x",
        "job-x",
        "cronjob-x",
        "pod-x",
        "pod-mirror",
    ] {
        let written = scene.says(name, "False/SignatureMissing").await;
        let workload = written.status.workload.unwrap();
        assert_eq!(
            format!("{}-{}", workload.kind.to_lowercase(), workload.name),
            name
        );
        let owner = &written.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (owner.uid.as_str(), owner.controller, owner.block_owner_deletion),
            (workload.uid.as_str(), Some(false), Some(false))
        );
        assert_eq!(written.metadata.labels, None, "no labels are copied");
    }
    let all = scene.kubectl(&["get", "imgc", "-o", "name"]).await;
    assert_eq!(all.lines().count(), 9, "one for each workload at the top: {all}");
    scene.kubectl(&["delete", "statefulset", "x"]).await;
    scene.says_nothing("statefulset-x").await;
}

fn custom_kind(kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

async fn uid(scene: &Scene, object: &str) -> String {
    scene
        .kubectl(&["get", object, "-o", "jsonpath={.metadata.uid}"])
        .await
}

fn controlled_by(api: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"ownerReferences": [{"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": true}]})
}

/// B55. Weakened once: with `BuiltIn::of` heeding the kind alone, the look-alike has no object of its own.
#[tokio::test]
async fn c1_08_b55_custom_owners_are_climbed_where_they_may_be_read_and_are_never_taken_for_built_in_kinds() {
    let (scene, _) = Scene::shared("custom-owners").await;
    let kinds = ["Rollout", "Deployment", "Hidden"];
    scene.create(&kinds.map(custom_kind)).await;
    let readable = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": scene.unique("reader"), "labels": {"assay.dev/aggregate-to-owner-reader": "true"}},
        "rules": [{"apiGroups": [GROUP], "resources": ["rollouts", "deployments"], "verbs": ["get"]}],
    });
    scene.create(&[readable]).await;
    let custom =
        |kind: &str| json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": "top"}});
    let objects = kinds.map(custom);
    let create = async || {
        let documents = objects
            .iter()
            .map(|object| format!("{object}\n"))
            .collect::<Vec<_>>()
            .join("---\n");
        let arguments = ["-n", scene.name(), "apply", "-f", "-"];
        let output = scene
            .cluster
            .kubectl_output(&arguments, &documents)
            .await
            .unwrap();
        output.into_stdout().map(drop).map_err(|error| error.to_string())
    };
    eventually("the custom kinds to be served", PATIENCE, create)
        .await
        .unwrap();
    // The aggregation of roles takes a moment.
    let allowed = async || {
        let arguments = [
            "auth",
            "can-i",
            "get",
            "rollouts.owners.example.com",
            "--as=system:serviceaccount:assay-system:assay",
        ];
        match scene.cluster.kubectl(&arguments).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    };
    eventually(
        "the operator to be allowed to read the custom kinds",
        PATIENCE,
        allowed,
    )
    .await
    .unwrap();
    let image = scene
        .image(&servers().await.referrers, "owners/custom")
        .await
        .by_tag();
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    let api = format!("{GROUP}/v1");
    let rollout = uid(&scene, "rollouts.owners.example.com/top").await;
    let look_alike = uid(&scene, "deployments.owners.example.com/top").await;
    let hidden = uid(&scene, "hiddens.owners.example.com/top").await;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "below"},
        "spec": {"selector": {"matchLabels": {"app": "below"}}, "template": {"metadata": {"labels": {"app": "below"}}, "spec": spec}},
    });
    scene
        .create(&[
            scene.policy("signed", "no-ring-at-all", json!({})),
            with(
                set,
                json!({"metadata": controlled_by(&api, "Rollout", "top", &rollout)}),
            ),
            pod(
                "of-rollout",
                spec.clone(),
                controlled_by(&api, "Rollout", "top", &rollout),
            ),
            pod(
                "of-look-alike",
                spec.clone(),
                controlled_by(&api, "Deployment", "top", &look_alike),
            ),
            pod(
                "of-hidden",
                spec.clone(),
                controlled_by(&api, "Hidden", "top", &hidden),
            ),
        ])
        .await;
    let written = scene.says("replicaset-below", "False/SignatureMissing").await;
    assert_eq!(
        written.status.workload.unwrap().managed_by.as_deref(),
        Some("Rollout.owners.example.com/top")
    );
    scene
        .says("rollout.owners.example.com-top", "False/SignatureMissing")
        .await;
    scene
        .says("deployment.owners.example.com-top", "False/SignatureMissing")
        .await;
    let written = scene.says("pod-of-hidden", "False/SignatureMissing").await;
    assert_eq!(
        written.status.workload.unwrap().managed_by.as_deref(),
        Some("Hidden.owners.example.com/top")
    );
    assert!(scene.compliance("deployment-top").await.is_none());
}

/// C1.16, B27, B55: an owner that is not who it claims to be ends the climb, and the pod is judged all the same.
/// Weakened once: with the uid of an owner not compared in `climb`, the forged owner takes the pod over: the pod's own
/// object says NothingRunning. It says the same with a deletion timestamp taken for an end in `is_finished`.
#[tokio::test]
async fn c1_16_b27_b55_a_forged_owner_shortens_nothing_and_a_pod_that_is_held_in_deletion_is_still_judged() {
    let (scene, _) = Scene::shared("forged-owners").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let good = scene
        .signed_image(registry, "owners/good", &release)
        .await
        .by_tag();
    let bad = scene.image(registry, "owners/bad").await.by_tag();
    scene
        .create(&[scene.policy("signed", "release", json!({})), simple("web", &good)])
        .await;
    scene.says("deployment-web", "True/AllVerified").await;
    let spec = json!({"containers": [{"name": "main", "image": bad}]});
    // The garbage collector deletes what a missing owner owns; the finalizer holds it, as an attacker would.
    let held = json!({
        "finalizers": ["owners.example.com/hold"],
        "annotations": {(annotation::TERMINATION_DELAY): "600s"},
    });
    let later = spec.clone();
    scene.create(&[pod("forged", spec, held)]).await;
    scene.says("pod-forged", "False/SignatureMissing").await;
    let nobody = "00000000-0000-0000-0000-000000000000";
    let forged = controlled_by("apps/v1", "Deployment", "web", nobody);
    scene.patch("pod", "forged", &json!({"metadata": forged})).await;
    let deleting = async || {
        let time = scene
            .kubectl(&[
                "get",
                "pod",
                "forged",
                "-o",
                "jsonpath={.metadata.deletionTimestamp}",
            ])
            .await;
        if time.is_empty() {
            Err("it is not being deleted".to_owned())
        } else {
            Ok(())
        }
    };
    eventually("the garbage collector to delete the pod", 2 * PATIENCE, deleting)
        .await
        .unwrap();
    // What the operator does about it, it has done when it answers about a pod that came later.
    scene
        .create(&[simple("later", &bad), pod("later", later, json!({}))])
        .await;
    scene.says("deployment-later", "False/SignatureMissing").await;
    scene.says("pod-later", "False/SignatureMissing").await;
    let written = scene.says("pod-forged", "False/SignatureMissing").await;
    assert_eq!(written.status.workload.unwrap().kind, "Pod");
    scene.says("deployment-web", "True/AllVerified").await;
    scene
        .patch("pod", "forged", &json!({"metadata": {"finalizers": null}}))
        .await;
    let now = ["delete", "pod", "forged", "--grace-period=0", "--force"];
    scene.kubectl(&now).await;
    scene.says_nothing("pod-forged").await;
}

/// Young bare pods and Jobs get no object, unless something is Violating.
#[tokio::test]
async fn a_young_bare_pod_is_reported_when_it_is_old_enough_or_violates() {
    let (scene, _) = Scene::shared("young").await;
    let registry = &servers().await.referrers;
    let release = scene.signer("release", "release", "Active").await;
    let good = scene
        .signed_image(registry, "young/good", &release)
        .await
        .by_tag();
    let bad = scene.image(registry, "young/bad").await.by_tag();
    let of = |image: &str| json!({"containers": [{"name": "main", "image": image}]});
    scene
        .create(&[
            scene.policy("signed", "release", json!({})),
            pod("good", of(&good), json!({})),
            pod("bad", of(&bad), json!({})),
        ])
        .await;
    scene.says("pod-bad", "False/SignatureMissing").await;
    assert!(scene.compliance("pod-good").await.is_none());
    let limit = std::time::Duration::from_secs(100);
    let written = scene
        .until("pod-good", "its age", limit, |written| {
            condition(written) == "True/AllVerified"
        })
        .await;
    let created = scene
        .kubectl(&[
            "get",
            "pod",
            "good",
            "-o",
            "jsonpath={.metadata.creationTimestamp}",
        ])
        .await;
    let created: jiff::Timestamp = created.parse().unwrap();
    let reported = written.metadata.creation_timestamp.unwrap().0;
    assert!(
        reported.duration_since(created).as_secs() >= 59,
        "created {created}, reported {reported}"
    );
}

/// C1.01, C1.05, C1.17: lists come in another encoding than watches. Weakened once: with another field number for ephemeral
/// containers, then for annotations, in `protobuf`.
#[tokio::test]
async fn c1_01_c1_05_what_is_there_when_the_operator_starts_is_read_like_what_comes_later() {
    let cluster = own_cluster("before").await;
    install(cluster).await;
    let registry = &servers().await.referrers;
    let scene = Scene::on(cluster, "before").await;
    let image = scene.image(registry, "owners/before").await;
    let container = |name: &str| json!({"name": name, "image": image.by_tag()});
    let every_kind = json!({
        "initContainers": [container("setup"), with(container("proxy"), json!({"restartPolicy": "Always"}))],
        "containers": [container("web")],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "pinned", "image": {"reference": image.by_digest()}}],
    });
    let slow = json!({(annotation::TERMINATION_DELAY): "600s"});
    let one = json!({"containers": [container("main")]});
    scene
        .create(&[
            deployment("web", every_kind, json!({})),
            deployment("ending", one.clone(), slow),
        ])
        .await;
    let web = uid(&scene, "deployment/web").await;
    let mirror = json!({"annotations": {"a": "b", "kubernetes.io/config.mirror": "hash"}});
    let mirror = with(mirror, controlled_by("apps/v1", "Deployment", "web", &web));
    let on_a_node = with(one, json!({"nodeName": "node-0"}));
    scene.create(&[pod("mirror", on_a_node, mirror)]).await;
    let shows = async |what: &str, path: &str, expected: &str| {
        let arguments = ["get", what, "-o", &format!("jsonpath={path}")];
        let shown = async || match scene.kubectl(&arguments).await {
            shown if shown == expected => Ok(()),
            shown => Err(shown),
        };
        let shown = eventually(&format!("{what} to show {expected}"), PATIENCE, shown).await;
        shown.unwrap();
    };
    for deployment in ["deployment/web", "deployment/ending"] {
        shows(deployment, "{.status.readyReplicas}", "1").await;
    }
    let of_web = ["get", "pod", "-l", "app=web", "-o", "name"];
    let of_web = scene.kubectl(&of_web).await;
    let debug = json!({"spec": {"ephemeralContainers": [container("debug")]}}).to_string();
    let debug = [
        "patch",
        of_web.trim(),
        "--subresource=ephemeralcontainers",
        "-p",
        &debug,
    ];
    scene.kubectl(&debug).await;
    let running = "{.status.ephemeralContainerStatuses[0].name}";
    shows(of_web.trim(), running, "debug").await;
    // A pod that is ending does not count in `status.replicas`, and runs.
    scene
        .kubectl(&["scale", "deployment/ending", "--replicas=0"])
        .await;
    let of_ending = "{.items[?(@.metadata.labels.app==\"ending\")].status.replicas}";
    shows("replicaset", of_ending, "0").await;

    let operator = Operator::start(cluster, "operator", &insecure(&[registry.host()])).await;
    scene
        .create(&[scene.policy("signed", "no-ring-at-all", json!({}))])
        .await;
    let expected = [
        "Container web: Violating/SignatureMissing",
        "Ephemeral debug: Violating/SignatureMissing",
        "ImageVolume pinned: Violating/SignatureMissing",
        "Init setup: Violating/SignatureMissing",
        "Sidecar proxy: Violating/SignatureMissing",
    ];
    let holds = |compliance: &_| containers(compliance) == expected;
    scene
        .until("deployment-web", "every container", PATIENCE, holds)
        .await;
    scene.says("deployment-ending", "False/SignatureMissing").await;
    scene.says("pod-mirror", "False/SignatureMissing").await;
    let all = scene.kubectl(&["get", "imgc", "-o", "name"]).await;
    assert_eq!(all.lines().count(), 3, "{all}");
    for kind in ["Pod", "ReplicaSet"] {
        let errors = operator
            .metric(&format!("assay_watch_errors_total{{kind=\"{kind}\"}}"))
            .await;
        assert_eq!(
            errors, None,
            "{kind}: what is not understood would be listed again in JSON"
        );
    }
}
