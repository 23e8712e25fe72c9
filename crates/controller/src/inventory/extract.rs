//! Every image of every container and image volume of a pod, with what the runtime says of it.

use std::sync::Arc;

use api::ContainerType;
use engine::PodImage;

use super::slim::{Container, ContainerStatus, Read, Record, SlimPod, Spec, Status, Unreadable};
use super::texts::Texts;

/// A pod in one of these phases has stopped for good; nothing of it runs any more.
const FINISHED: [&str; 2] = ["Succeeded", "Failed"];

type Containers = Read<Vec<Read<Record<Container>>>>;
type Statuses = Read<Vec<Read<Record<ContainerStatus>>>>;

/// Whether the pod has stopped for good. A deletion timestamp says nothing: a pod held by a
/// finalizer still runs.
pub(crate) fn is_finished(pod: &SlimPod) -> Result<bool, Unreadable> {
    let Some(Record(status)) = pod.status.get("status")? else {
        return Ok(false);
    };
    Ok(FINISHED.contains(&status.phase.text("status.phase")?))
}

/// Every image of the pod in order of appearance: containers, init containers and sidecars,
/// ephemeral containers, image volumes.
pub(crate) fn images(pod: &SlimPod, texts: &mut Texts) -> Result<Vec<PodImage>, Unreadable> {
    let (none, nothing) = (Spec::default(), Status::default());
    let spec = pod.spec.get("spec")?.map_or(&none, |Record(spec)| spec);
    let status = pod
        .status
        .get("status")?
        .map_or(&nothing, |Record(status)| status);
    let mut found = Vec::new();
    of_containers(
        (&spec.containers, "spec.containers"),
        (&status.container_statuses, "status.containerStatuses"),
        |_| ContainerType::Container,
        texts,
        &mut found,
    )?;
    of_containers(
        (&spec.init_containers, "spec.initContainers"),
        (&status.init_container_statuses, "status.initContainerStatuses"),
        |policy| {
            if policy == "Always" {
                ContainerType::Sidecar
            } else {
                ContainerType::Init
            }
        },
        texts,
        &mut found,
    )?;
    of_containers(
        (&spec.ephemeral_containers, "spec.ephemeralContainers"),
        (
            &status.ephemeral_container_statuses,
            "status.ephemeralContainerStatuses",
        ),
        |_| ContainerType::Ephemeral,
        texts,
        &mut found,
    )?;
    of_volumes(spec, texts, &mut found)?;
    Ok(found)
}

/// Every image that a template names, as it is written there.
pub(crate) fn written(spec: &Spec, texts: &mut Texts) -> Result<Vec<Arc<str>>, Unreadable> {
    let mut found = Vec::new();
    for (containers, field) in [
        (&spec.containers, "spec.containers"),
        (&spec.init_containers, "spec.initContainers"),
    ] {
        for entry in containers.entries(field)? {
            if let Some(Record(container)) = entry.get(field)? {
                found.push(texts.keep(container.image.text(field)?));
            }
        }
    }
    let mut volumes = Vec::new();
    of_volumes(spec, texts, &mut volumes)?;
    found.extend(volumes.into_iter().map(|volume| volume.written));
    Ok(found)
}

fn of_containers(
    (containers, field): (&Containers, &'static str),
    (statuses, status_field): (&Statuses, &'static str),
    container_type: impl Fn(&str) -> ContainerType,
    texts: &mut Texts,
    found: &mut Vec<PodImage>,
) -> Result<(), Unreadable> {
    for entry in containers.entries(field)? {
        let Some(Record(container)) = entry.get(field)? else {
            continue;
        };
        let name = container.name.text(field)?;
        found.push(PodImage {
            container: texts.keep(name),
            container_type: container_type(container.restart_policy.text(field)?),
            written: texts.keep(container.image.text(field)?),
            image_id: Some(image_id(name, statuses, status_field, texts)?),
        });
    }
    Ok(())
}

/// What the runtime wrote for the container; empty where it wrote nothing yet.
fn image_id(
    container: &str,
    statuses: &Statuses,
    field: &'static str,
    texts: &mut Texts,
) -> Result<Arc<str>, Unreadable> {
    for entry in statuses.entries(field)? {
        let Some(Record(status)) = entry.get(field)? else {
            continue;
        };
        if status.name.text(field)? == container {
            return Ok(texts.keep(status.image_id.text(field)?));
        }
    }
    Ok(texts.keep(""))
}

fn of_volumes(spec: &Spec, texts: &mut Texts, found: &mut Vec<PodImage>) -> Result<(), Unreadable> {
    const FIELD: &str = "spec.volumes";
    for entry in spec.volumes.entries(FIELD)? {
        let Some(Record(volume)) = entry.get(FIELD)? else {
            continue;
        };
        let Some(Record(image)) = volume.image.get(FIELD)? else {
            continue;
        };
        found.push(PodImage {
            container: texts.keep(volume.name.text(FIELD)?),
            container_type: ContainerType::ImageVolume,
            written: texts.keep(image.reference.text(FIELD)?),
            image_id: None,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value, status: Value) -> SlimPod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status})).unwrap()
    }

    fn extracted(spec: Value, status: Value) -> Vec<(String, ContainerType, String, Option<String>)> {
        images(&pod(spec, status), &mut Texts::default())
            .unwrap()
            .into_iter()
            .map(|image| {
                let id = image.image_id.map(|id| id.to_string());
                (
                    image.container.to_string(),
                    image.container_type,
                    image.written.to_string(),
                    id,
                )
            })
            .collect()
    }

    fn image(
        name: &str,
        container_type: ContainerType,
        written: &str,
        id: Option<&str>,
    ) -> (String, ContainerType, String, Option<String>) {
        (name.into(), container_type, written.into(), id.map(str::to_owned))
    }

    /// C1.01, C1.02, C1.03, C1.11, B24, B25.
    #[test]
    fn every_container_of_every_kind_and_every_image_volume_is_found() {
        let found = extracted(
            json!({
                "containers": [{"name": "web", "image": "r/web:1"}, {"name": "log", "image": "r/log"}],
                "initContainers": [
                    {"name": "init", "image": "r/init"},
                    {"name": "mesh", "image": "r/mesh", "restartPolicy": "Always"},
                ],
                "ephemeralContainers": [{"name": "debug", "image": "r/debug"}],
                "volumes": [
                    {"name": "model", "image": {"reference": "r/model@sha256:aa", "pullPolicy": "Always"}},
                    {"name": "config", "configMap": {"name": "c"}},
                ],
            }),
            json!({
                "phase": "Running",
                "containerStatuses": [{"name": "log", "imageID": "r/log@sha256:02"}, {"name": "web", "imageID": "r/web@sha256:01"}],
                "initContainerStatuses": [{"name": "init", "imageID": "r/init@sha256:03"}, {"name": "mesh", "imageID": "r/mesh@sha256:04"}],
                "ephemeralContainerStatuses": [{"name": "debug", "imageID": "r/debug@sha256:05"}],
            }),
        );
        assert_eq!(
            found,
            [
                image(
                    "web",
                    ContainerType::Container,
                    "r/web:1",
                    Some("r/web@sha256:01")
                ),
                image("log", ContainerType::Container, "r/log", Some("r/log@sha256:02")),
                image("init", ContainerType::Init, "r/init", Some("r/init@sha256:03")),
                image("mesh", ContainerType::Sidecar, "r/mesh", Some("r/mesh@sha256:04")),
                image(
                    "debug",
                    ContainerType::Ephemeral,
                    "r/debug",
                    Some("r/debug@sha256:05")
                ),
                image("model", ContainerType::ImageVolume, "r/model@sha256:aa", None),
            ]
        );
    }

    /// C1.04.
    #[test]
    fn every_image_of_a_template_is_found() {
        let spec: Spec = serde_json::from_value(json!({
            "containers": [{"name": "web", "image": "r/web:1"}],
            "initContainers": [{"name": "init", "image": "r/init"}],
            "volumes": [{"name": "model", "image": {"reference": "r/model@sha256:aa"}}, {"name": "c", "configMap": {}}],
        }))
        .unwrap();
        let found = written(&spec, &mut Texts::default()).unwrap();
        assert_eq!(found, ["r/web:1", "r/init", "r/model@sha256:aa"].map(Arc::from));
        let odd: Spec = serde_json::from_value(json!({"containers": {"web": 1}})).unwrap();
        let error = written(&odd, &mut Texts::default()).unwrap_err();
        assert_eq!(error.field, "spec.containers");
    }

    #[test]
    fn a_container_without_a_status_has_an_empty_image_id() {
        let found = extracted(
            json!({"containers": [{"name": "web", "image": "r/web"}]}),
            Value::Null,
        );
        assert_eq!(found, [image("web", ContainerType::Container, "r/web", Some(""))]);
    }

    #[test]
    fn a_status_of_one_list_never_speaks_for_a_container_of_another() {
        let found = extracted(
            json!({"initContainers": [{"name": "web", "image": "r/init"}]}),
            json!({"containerStatuses": [{"name": "web", "imageID": "r/web@sha256:01"}]}),
        );
        assert_eq!(found, [image("web", ContainerType::Init, "r/init", Some(""))]);
    }

    /// C1.15.
    #[test]
    fn a_pod_that_cannot_be_read_is_an_error_that_names_the_field() {
        let pod = pod(
            json!({"containers": [{"name": "web", "image": {"not": "a text"}}]}),
            Value::Null,
        );
        let error = images(&pod, &mut Texts::default()).unwrap_err();
        assert_eq!(error.field, "spec.containers");
    }

    #[test]
    fn only_succeeded_and_failed_pods_are_finished() {
        for (phase, finished) in [
            ("Running", false),
            ("Pending", false),
            ("Unknown", false),
            ("Succeeded", true),
            ("Failed", true),
        ] {
            assert_eq!(
                is_finished(&pod(json!({}), json!({"phase": phase}))),
                Ok(finished)
            );
        }
        assert_eq!(is_finished(&pod(json!({}), Value::Null)), Ok(false));
    }

    /// B27. Weakened once: with a deletion timestamp taken for an end in `is_finished`.
    #[test]
    fn a_pod_that_is_being_deleted_still_runs() {
        let pod: SlimPod = serde_json::from_value(json!({
            "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]},
            "spec": {"containers": [{"name": "web", "image": "r/web"}]},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        assert_eq!(is_finished(&pod), Ok(false));
        assert_eq!(images(&pod, &mut Texts::default()).unwrap().len(), 1);
    }
}
