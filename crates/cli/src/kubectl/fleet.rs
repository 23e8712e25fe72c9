//! What runs, from the API server alone: pods, their images, and the workloads that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ContainerType, WorkloadRef};
use engine::{PodFacts, PodImage, Workload};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, ObjectMeta};

use crate::cluster::{ClusterError, Session, plural};
use crate::output;

/// Owners one step above pods, by uid: what controls them.
type Owners = BTreeMap<String, OwnerReference>;

/// Every pod that is not finished, with its images and its workload.
pub(super) async fn read(session: &Session) -> Result<Vec<PodFacts>, ClusterError> {
    let everything = ListParams::default();
    let pods: Vec<Pod> = session.all_here(&everything).await?;
    let mut owners = Owners::new();
    match session.all_here::<ReplicaSet>(&everything).await {
        Ok(sets) => owners.extend(sets.iter().filter_map(|set| controller(&set.metadata))),
        Err(error) if error.is_forbidden() => not_readable(&plural::<ReplicaSet>()),
        Err(error) => return Err(error),
    }
    match session.all_here::<Job>(&everything).await {
        Ok(jobs) => owners.extend(jobs.iter().filter_map(|job| controller(&job.metadata))),
        Err(error) if error.is_forbidden() => not_readable(&plural::<Job>()),
        Err(error) => return Err(error),
    }
    Ok(pods
        .iter()
        .filter(|pod| !is_finished(pod))
        .map(|pod| facts(pod, &owners))
        .collect())
}

fn not_readable(what: &str) {
    output::note(&format!(
        "you may not read {what}, so what they belong to is not shown: they stand for themselves"
    ));
}

fn controller(metadata: &ObjectMeta) -> Option<(String, OwnerReference)> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some((metadata.uid.clone()?, owner.clone()))
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn facts(pod: &Pod, owners: &Owners) -> PodFacts {
    let text = |part: &Option<String>| part.as_deref().unwrap_or_default().into();
    let namespace: Arc<str> = text(&pod.metadata.namespace);
    PodFacts {
        uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
        name: text(&pod.metadata.name),
        workload: Arc::new(Workload::new(
            namespace,
            workload(pod, owners),
            Timestamp::UNIX_EPOCH,
        )),
        images: images(pod),
        keychain: None,
    }
}

/// The top of what controls the pod, as far as it can be seen.
fn workload(pod: &Pod, owners: &Owners) -> WorkloadRef {
    let Some((_, mut owner)) = controller(&pod.metadata) else {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        return WorkloadRef {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
            ..WorkloadRef::default()
        };
    };
    let is_built_in = |owner: &OwnerReference| {
        matches!(
            owner.api_version.split_once('/').map_or("", |(group, _)| group),
            "" | "apps" | "batch"
        )
    };
    // What lies above the built-in kinds manages the workload, and is none.
    if let Some(above) = owners.get(&owner.uid).filter(|above| is_built_in(above)) {
        owner = above.clone();
    }
    WorkloadRef {
        api_version: owner.api_version,
        kind: owner.kind,
        name: owner.name,
        uid: owner.uid,
        ..WorkloadRef::default()
    }
}

/// Every image of every container and image volume, with what the runtime says of it.
fn images(pod: &Pod) -> Vec<PodImage> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.clone().unwrap_or_default();
    let mut found = Vec::new();
    let plain = spec.containers.iter().map(|one| (one, ContainerType::Container));
    let statuses = status.container_statuses.unwrap_or_default();
    found.extend(plain.map(|(one, type_)| image(one, type_, &statuses)));
    let init = spec.init_containers.iter().flatten().map(|one| {
        let is_sidecar = one.restart_policy.as_deref() == Some("Always");
        (
            one,
            if is_sidecar {
                ContainerType::Sidecar
            } else {
                ContainerType::Init
            },
        )
    });
    let statuses = status.init_container_statuses.unwrap_or_default();
    found.extend(init.map(|(one, type_)| image(one, type_, &statuses)));
    let statuses = status.ephemeral_container_statuses.unwrap_or_default();
    found.extend(spec.ephemeral_containers.iter().flatten().map(|one| PodImage {
        container: one.name.as_str().into(),
        container_type: ContainerType::Ephemeral,
        written: one.image.as_deref().unwrap_or_default().into(),
        image_id: Some(image_id(&one.name, &statuses)),
    }));
    found.extend(spec.volumes.iter().flatten().filter_map(|volume| {
        let reference = volume.image.as_ref()?.reference.as_deref()?;
        Some(PodImage {
            container: volume.name.as_str().into(),
            container_type: ContainerType::ImageVolume,
            written: reference.into(),
            image_id: None,
        })
    }));
    found
}

fn image(container: &Container, container_type: ContainerType, statuses: &[ContainerStatus]) -> PodImage {
    PodImage {
        container: container.name.as_str().into(),
        container_type,
        written: container.image.as_deref().unwrap_or_default().into(),
        image_id: Some(image_id(&container.name, statuses)),
    }
}

/// What the runtime wrote; empty where it wrote nothing yet.
fn image_id(container: &str, statuses: &[ContainerStatus]) -> Arc<str> {
    let status = statuses.iter().find(|status| status.name == container);
    status.map_or("", |status| status.image_id.as_str()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(owner: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "p", "ownerReferences": owner},
            "spec": {
                "containers": [{"name": "main", "image": "r/web:1"}],
                "initContainers": [
                    {"name": "init", "image": "r/init"},
                    {"name": "mesh", "image": "r/mesh", "restartPolicy": "Always"},
                ],
                "ephemeralContainers": [{"name": "debug", "image": "r/debug"}],
                "volumes": [{"name": "model", "image": {"reference": "r/model"}}, {"name": "c", "configMap": {"name": "c"}}],
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [{"name": "main", "image": "", "imageID": "r/web@sha256:01", "ready": true, "restartCount": 0}],
            },
        }))
        .unwrap()
    }

    fn owner(api_version: &str, kind: &str, uid: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "name": kind.to_lowercase(), "uid": uid, "controller": true})
    }

    /// C1.01, C1.02, C1.11.
    #[test]
    fn every_kind_of_container_is_found_with_what_runs() {
        let found = images(&pod(json!([])));
        let told: Vec<String> = found
            .iter()
            .map(|image| {
                format!(
                    "{:?} {} {:?}",
                    image.container_type,
                    image.written,
                    image.image_id.as_deref()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "Container r/web:1 Some(\"r/web@sha256:01\")",
                "Init r/init Some(\"\")",
                "Sidecar r/mesh Some(\"\")",
                "Ephemeral r/debug Some(\"\")",
                "ImageVolume r/model None",
            ]
        );
    }

    #[test]
    fn a_pod_belongs_to_the_outermost_built_in_workload() {
        let set = owner("apps/v1", "ReplicaSet", "rs");
        let named = |pod: &Pod, owners: &Owners| workload(pod, owners).kind;
        let above = |owner: Value| Owners::from([("rs".to_owned(), serde_json::from_value(owner).unwrap())]);
        let of_set = pod(json!([set]));
        assert_eq!(
            named(&of_set, &above(owner("apps/v1", "Deployment", "d"))),
            "Deployment"
        );
        assert_eq!(
            named(&of_set, &above(owner("argoproj.io/v1", "Rollout", "r"))),
            "ReplicaSet"
        );
        assert_eq!(named(&of_set, &Owners::new()), "ReplicaSet");
        assert_eq!(named(&pod(json!([])), &Owners::new()), "Pod");
    }
}
