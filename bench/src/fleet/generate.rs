//! Makes a fleet once, and keeps etcd's folder.
//!
//! One object of each kind is made through the API server, with all that it adds. The others are copies of what it
//! wrote into its store, with other names, uids and images, put into etcd directly: the API server reads them as its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::{Cluster, ClusterOptions, Tools};

use super::etcd::Etcd;
use super::spec::{self, FleetSpec, OLD_REPLICA_SETS};
use crate::{Failed, images};

/// Another one where the objects of a fleet change.
const VERSION: u32 = 1;
/// Writes to etcd at the same time.
const IN_FLIGHT: usize = 64;

/// What stands in the samples where copies have something of their own, of the same length.
const NAMESPACE: &str = "fleet-ns-0000";
const WORKLOAD: &str = "app-00000";
const REVISION: &str = "samplehash";
const ORDINAL: &str = "xyzzy";
const DIGEST: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// The folder of etcd with this fleet; made where it is not there yet.
pub(crate) async fn kept(spec: FleetSpec) -> Result<PathBuf, Failed> {
    let failed = |why: &dyn std::fmt::Display| Failed::new("make a fleet", why);
    let tools = Tools::locate().map_err(|error| failed(&error))?;
    let build = tools.folder().file_name().unwrap_or_default().to_string_lossy();
    let all = tools.folder().with_file_name("fleets");
    let name = format!("v{VERSION}-{build}-{}-{}", spec.pods, spec.workloads);
    let folder = all.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&all).map_err(|error| failed(&error))?;
    let partial = tempfile::tempdir_in(&all).map_err(|error| failed(&error))?;
    eprintln!(
        "making a fleet of {} pods and {} workloads …",
        spec.pods, spec.workloads
    );
    generate(spec, partial.path()).await?;
    std::fs::rename(partial.path().join("etcd"), &folder).map_err(|error| failed(&error))?;
    Ok(folder)
}

/// A copy of a kept folder.
pub(crate) fn copy(kept: &Path, to: &Path) -> Result<(), Failed> {
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .args([kept, to])
        .status();
    match copied {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failed::new("copy a fleet", status)),
        Err(error) => Err(Failed::new("copy a fleet", error)),
    }
}

async fn generate(spec: FleetSpec, folder: &Path) -> Result<(), Failed> {
    let failed = |why: &dyn std::fmt::Display| Failed::new("make a fleet", why);
    let options = ClusterOptions {
        controller_manager: false,
        etcd_data: Some(folder.join("etcd")),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(folder.join("cluster"), options)
        .await
        .map_err(|error| failed(&error))?;
    let client = cluster.admin_client().await.map_err(|error| failed(&error))?;
    let etcd = Etcd::at(cluster.etcd_url());
    let samples = Samples::make(&client, &etcd).await?;
    samples.copy(spec, &etcd).await?;
    cluster.api_server().stop().map_err(|error| failed(&error))?;
    cluster.etcd().stop().map_err(|error| failed(&error))?;
    Ok(())
}

/// What a copy has of its own.
#[derive(Clone, Copy, Debug)]
enum Own {
    Namespace,
    Workload,
    Revision,
    Ordinal,
    Digest,
    Uid,
    OwnerUid,
}

/// An object as the API server stored it, and where its own things stand in it.
struct Sample {
    bytes: Vec<u8>,
    places: Vec<(usize, Own)>,
}

/// The own things of one copy.
struct Copied {
    namespace: String,
    workload: String,
    revision: String,
    ordinal: String,
    digest: String,
    uid: String,
    owner_uid: String,
}

impl Sample {
    fn read(bytes: Vec<u8>, uid: &str, owner_uid: Option<&str>) -> Sample {
        let mut places = Vec::new();
        let mut find = |text: &str, own: Own| {
            let found = bytes
                .windows(text.len())
                .enumerate()
                .filter(|(_, window)| *window == text.as_bytes())
                .map(|(at, _)| (at, own));
            places.extend(found);
        };
        find(NAMESPACE, Own::Namespace);
        find(WORKLOAD, Own::Workload);
        find(REVISION, Own::Revision);
        find(ORDINAL, Own::Ordinal);
        find(DIGEST, Own::Digest);
        find(uid, Own::Uid);
        if let Some(owner_uid) = owner_uid {
            find(owner_uid, Own::OwnerUid);
        }
        Sample { bytes, places }
    }

    fn copy(&self, copied: &Copied) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (at, own) in &self.places {
            let text = match own {
                Own::Namespace => &copied.namespace,
                Own::Workload => &copied.workload,
                Own::Revision => &copied.revision,
                Own::Ordinal => &copied.ordinal,
                Own::Digest => &copied.digest,
                Own::Uid => &copied.uid,
                Own::OwnerUid => &copied.owner_uid,
            };
            bytes[*at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes
    }
}

/// One object of each kind.
struct Samples {
    namespace: Sample,
    deployment: Sample,
    running: Sample,
    old: Sample,
    pod: Sample,
}

impl Samples {
    async fn make(client: &Client, etcd: &Etcd) -> Result<Samples, Failed> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let labels = json!({"team": "fleet", "environment": "production"});
        let namespace = create(
            &namespaces,
            json!({"metadata": {"name": NAMESPACE, "labels": labels}}),
        )
        .await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        create(&accounts, json!({"metadata": {"name": "default"}})).await?;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        let deployment = create(&deployments, deployment()).await?;
        set_status(&deployments, WORKLOAD, deployment_status()).await?;
        let owner = owner("Deployment", WORKLOAD, &deployment);
        let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), NAMESPACE);
        let running_name = format!("{WORKLOAD}-{REVISION}");
        let running = create(&replica_sets, replica_set(&running_name, 3, owner.clone())).await?;
        let status = json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "fullyLabeledReplicas": 3, "observedGeneration": 1});
        set_status(&replica_sets, &running_name, status).await?;
        let owned = super::generate::owner("ReplicaSet", &running_name, &running);
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let pod_name = format!("{running_name}-{ORDINAL}");
        let pod = create(&pods, pod(&pod_name, owned)).await?;
        set_status(&pods, &pod_name, pod_status()).await?;
        let stored = async |path: String| etcd.get(&format!("/registry/{path}")).await;
        let set_key = format!("replicasets/{NAMESPACE}/{running_name}");
        let running_bytes = stored(set_key.clone()).await?;
        etcd.delete(&format!("/registry/{set_key}")).await?;
        // An old one under the same name, so that its hash stands in the same places.
        let old = create(&replica_sets, replica_set(&running_name, 0, owner)).await?;
        let old_bytes = stored(set_key.clone()).await?;
        etcd.delete(&format!("/registry/{set_key}")).await?;
        let pod_key = format!("pods/{NAMESPACE}/{pod_name}");
        let pod_bytes = stored(pod_key.clone()).await?;
        etcd.delete(&format!("/registry/{pod_key}")).await?;
        let deployment_bytes = stored(format!("deployments/{NAMESPACE}/{WORKLOAD}")).await?;
        let namespace_bytes = stored(format!("namespaces/{NAMESPACE}")).await?;
        Ok(Samples {
            namespace: Sample::read(namespace_bytes, &namespace, None),
            running: Sample::read(running_bytes, &running, Some(&deployment)),
            old: Sample::read(old_bytes, &old, Some(&deployment)),
            deployment: Sample::read(deployment_bytes, &deployment, None),
            pod: Sample::read(pod_bytes, &pod, Some(&running)),
        })
    }

    async fn copy(&self, spec: FleetSpec, etcd: &Etcd) -> Result<(), Failed> {
        let namespaces = (0..spec.namespaces()).map(|number| {
            let copied = Copied {
                uid: spec::namespace_uid(number),
                ..own_of(number, 0)
            };
            let key = format!("/registry/namespaces/{}", copied.namespace);
            (key, self.namespace.copy(&copied))
        });
        put_all(etcd, namespaces).await?;
        let owners = (0..spec.workloads).flat_map(|number| self.owners(number, spec));
        put_all(etcd, owners).await?;
        let pods = (0..spec.pods).map(|number| {
            let (workload, ordinal) = (number % spec.workloads, number / spec.workloads);
            let copied = Copied {
                ordinal: spec::ordinal(ordinal),
                uid: spec::pod_uid(workload, ordinal),
                owner_uid: spec::replica_set_uid(workload, 0),
                ..own_of(workload % spec.namespaces(), workload)
            };
            let Copied {
                namespace,
                workload,
                revision,
                ordinal,
                ..
            } = &copied;
            let key = format!("/registry/pods/{namespace}/{workload}-{revision}-{ordinal}");
            (key, self.pod.copy(&copied))
        });
        put_all(etcd, pods).await
    }

    /// A workload's Deployment and its ReplicaSets.
    fn owners(&self, number: usize, spec: FleetSpec) -> Vec<(String, Vec<u8>)> {
        let copied = Copied {
            uid: spec::deployment_uid(number),
            ..own_of(number % spec.namespaces(), number)
        };
        let (namespace, name) = (copied.namespace.clone(), copied.workload.clone());
        let mut found = vec![(
            format!("/registry/deployments/{namespace}/{name}"),
            self.deployment.copy(&copied),
        )];
        for revision in 0..=OLD_REPLICA_SETS {
            let sample = if revision == 0 { &self.running } else { &self.old };
            let copied = Copied {
                revision: spec::revision(revision),
                uid: spec::replica_set_uid(number, revision),
                owner_uid: spec::deployment_uid(number),
                ..own_of(number % spec.namespaces(), number)
            };
            let key = format!("/registry/replicasets/{namespace}/{name}-{}", copied.revision);
            found.push((key, sample.copy(&copied)));
        }
        found
    }
}

fn own_of(namespace: usize, workload: usize) -> Copied {
    Copied {
        namespace: spec::namespace(namespace),
        workload: spec::workload(workload),
        revision: spec::revision(0),
        ordinal: spec::ordinal(0),
        digest: images::digest(workload).to_string().split_off("sha256:".len()),
        uid: String::new(),
        owner_uid: String::new(),
    }
}

async fn put_all(etcd: &Etcd, entries: impl Iterator<Item = (String, Vec<u8>)>) -> Result<(), Failed> {
    stream::iter(entries)
        .map(|(key, value)| async move { etcd.put(&key, &value).await })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Creates an object; gives its uid.
async fn create<K>(api: &Api<K>, object: Value) -> Result<String, Failed>
where
    K: Resource + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let failed = |why: &dyn std::fmt::Display| Failed::new("make a sample of a fleet", why);
    let object: K = serde_json::from_value(object).map_err(|error| failed(&error))?;
    let made = api
        .create(&PostParams::default(), &object)
        .await
        .map_err(|error| failed(&error))?;
    made.meta().uid.clone().ok_or_else(|| failed(&"it has no uid"))
}

async fn set_status<K>(api: &Api<K>, name: &str, status: Value) -> Result<(), Failed>
where
    K: Resource + DeserializeOwned + Clone + std::fmt::Debug,
{
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .map(drop)
        .map_err(|error| Failed::new("give a sample of a fleet its status", error))
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}])
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": WORKLOAD, "labels": labels(), "annotations": {"deployment.kubernetes.io/revision": "11"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": WORKLOAD}},
                 "template": {"metadata": template_metadata(), "spec": pod_spec()}},
    })
}

fn deployment_status() -> Value {
    json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
    "conditions": [
        {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
         "message": "Deployment has minimum availability."},
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
         "message": format!("ReplicaSet \"{WORKLOAD}-{REVISION}\" has successfully progressed.")},
    ]})
}

fn replica_set(name: &str, replicas: usize, owners: Value) -> Value {
    let mut metadata = template_metadata();
    metadata["labels"]["pod-template-hash"] = REVISION.into();
    json!({
        "metadata": {"name": name, "labels": metadata["labels"], "ownerReferences": owners, "annotations": {
            "deployment.kubernetes.io/desired-replicas": "3", "deployment.kubernetes.io/max-replicas": "4",
            "deployment.kubernetes.io/revision": "11"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": WORKLOAD, "pod-template-hash": REVISION}},
                 "template": {"metadata": metadata, "spec": pod_spec()}},
    })
}

fn labels() -> Value {
    json!({
        "app": WORKLOAD, "app.kubernetes.io/name": WORKLOAD, "app.kubernetes.io/part-of": "fleet",
        "app.kubernetes.io/managed-by": "Helm", "team": "fleet", "helm.sh/chart": "service-4.2.1",
    })
}

fn template_metadata() -> Value {
    json!({"labels": labels(), "annotations": {
        "prometheus.io/scrape": "true", "prometheus.io/port": "9090", "checksum/config": "9f".repeat(32)}})
}

fn pod_spec() -> Value {
    let host = spec::registry_host();
    let environment: Vec<Value> = [
        "LOG_LEVEL",
        "REGION",
        "DATABASE_URL",
        "CACHE_URL",
        "QUEUE_URL",
        "FEATURES",
    ]
    .iter()
    .map(|name| json!({"name": name, "value": format!("a value of some length for {name}")}))
    .collect();
    let probe =
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 2});
    json!({
        "containers": [{
            "name": "main", "image": format!("{host}/fleet/{WORKLOAD}:{}", images::TAG), "env": environment,
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "livenessProbe": probe, "readinessProbe": probe,
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "tmp", "mountPath": "/tmp"}],
        }],
        "volumes": [{"name": "config", "configMap": {"name": WORKLOAD}}, {"name": "tmp", "emptyDir": {}}],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": WORKLOAD}}}],
    })
}

fn pod(name: &str, owners: Value) -> Value {
    let mut metadata = template_metadata();
    metadata["name"] = name.into();
    metadata["generateName"] = format!("{WORKLOAD}-{REVISION}-").into();
    metadata["labels"]["pod-template-hash"] = REVISION.into();
    metadata["ownerReferences"] = owners;
    let mut spec = pod_spec();
    spec["nodeName"] = "node-0000".into();
    json!({"metadata": metadata, "spec": spec})
}

fn pod_status() -> Value {
    let repository = format!("{}/fleet/{WORKLOAD}", spec::registry_host());
    let at = "2026-01-01T00:00:00Z";
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": at});
    let kinds = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    json!({
        "phase": "Running", "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}], "podIP": "10.1.0.1",
        "podIPs": [{"ip": "10.1.0.1"}], "qosClass": "Burstable", "startTime": at,
        "conditions": kinds.map(condition),
        "containerStatuses": [{
            "name": "main", "image": format!("{repository}:{}", images::TAG), "imageID": format!("{repository}@sha256:{DIGEST}"),
            "containerID": format!("containerd://{}", "7c".repeat(32)), "ready": true, "started": true, "restartCount": 0,
            "lastState": {}, "state": {"running": {"startedAt": at}},
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_differs_in_its_own_things_alone_and_is_of_the_same_length() {
        let text = format!("{WORKLOAD}-{REVISION} in {NAMESPACE}, uid 11111111-1111, {WORKLOAD}");
        let sample = Sample::read(text.clone().into_bytes(), "11111111-1111", None);
        let copied = Copied {
            uid: "22222222-2222".to_owned(),
            ..own_of(7, 12)
        };
        let copy = String::from_utf8(sample.copy(&copied)).unwrap();
        assert_eq!(
            copy,
            "app-00012-0000000000 in fleet-ns-0007, uid 22222222-2222, app-00012"
        );
        assert_eq!(copy.len(), text.len());
    }

    #[test]
    fn what_stands_in_samples_is_as_long_as_what_replaces_it() {
        let own = own_of(0, 0);
        for (sample, copied) in [
            (NAMESPACE, &own.namespace),
            (WORKLOAD, &own.workload),
            (REVISION, &own.revision),
            (ORDINAL, &own.ordinal),
            (DIGEST, &own.digest),
        ] {
            assert_eq!(sample.len(), copied.len(), "{sample}");
        }
        assert_eq!(spec::pod_uid(99_999, 99).len(), 36);
    }
}
