//! Pods and metadata read from the API server's protobuf encoding: the same that `slim` reads from JSON, and no more.
//!
//! Field numbers: `k8s.io/api`, `core/v1/generated.proto`, and `k8s.io/apimachinery`, `pkg/apis/meta/v1/generated.proto`.
//! They never change, and what is not named here is passed over. A field that a message does not have is absent, as in
//! JSON; a text that the API server left empty is there and empty, which means the same. A text is bytes until it is
//! needed, and read as JSON has it where it is not UTF-8: whoever creates an object in protobuf can write such.

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ObjectMeta as Metadata, OwnerReference as Owner, Time as MetaTime,
};
use prost::{DecodeError, Message};

use super::slim::{self, MIRROR_MARK, Read, Record, SlimOwner, SlimPod};

/// Reads a `Pod` of core/v1.
pub(super) fn pod(bytes: Bytes) -> Result<SlimPod, DecodeError> {
    let Pod {
        metadata,
        spec,
        status,
    } = Pod::decode(bytes)?;
    Ok(SlimPod {
        metadata: metadata.unwrap_or_default().into(),
        spec: record(spec),
        status: record(status),
    })
}

/// Reads a `PartialObjectMetadata` of meta/v1.
pub(super) fn owner(bytes: Bytes) -> Result<SlimOwner, DecodeError> {
    let PartialObjectMetadata { metadata } = PartialObjectMetadata::decode(bytes)?;
    Ok(SlimOwner {
        metadata: metadata.unwrap_or_default().into(),
    })
}

#[derive(Clone, PartialEq, Message)]
struct Pod {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<PodSpec>,
    #[prost(message, optional, tag = "3")]
    status: Option<PodStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialObjectMetadata {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    namespace: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    uid: Option<Bytes>,
    #[prost(int64, optional, tag = "7")]
    generation: Option<i64>,
    #[prost(message, optional, tag = "8")]
    creation_timestamp: Option<Time>,
    #[prost(message, repeated, tag = "12")]
    annotations: Vec<Annotation>,
    #[prost(message, repeated, tag = "13")]
    owner_references: Vec<OwnerReference>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// Looked at without being copied: pods carry many, and one of them counts.
#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerReference {
    #[prost(bytes = "bytes", tag = "1")]
    kind: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    uid: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    api_version: Bytes,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSpec {
    #[prost(message, repeated, tag = "1")]
    volumes: Vec<Volume>,
    #[prost(message, repeated, tag = "2")]
    containers: Vec<Container>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    service_account_name: Option<Bytes>,
    #[prost(message, repeated, tag = "15")]
    image_pull_secrets: Vec<LocalObjectReference>,
    #[prost(message, repeated, tag = "20")]
    init_containers: Vec<Container>,
    #[prost(message, repeated, tag = "34")]
    ephemeral_containers: Vec<EphemeralContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    image: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "24")]
    restart_policy: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct EphemeralContainer {
    /// What JSON has inline.
    #[prost(message, optional, tag = "1")]
    common: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct LocalObjectReference {
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Volume {
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
    /// What JSON has inline.
    #[prost(message, optional, tag = "2")]
    source: Option<VolumeSource>,
}

#[derive(Clone, PartialEq, Message)]
struct VolumeSource {
    #[prost(message, optional, tag = "30")]
    image: Option<ImageVolumeSource>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageVolumeSource {
    #[prost(bytes = "bytes", optional, tag = "1")]
    reference: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatus {
    #[prost(bytes = "bytes", optional, tag = "1")]
    phase: Option<Bytes>,
    #[prost(message, repeated, tag = "8")]
    container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "10")]
    init_container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "13")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    image_id: Option<Bytes>,
}

fn string(text: Bytes) -> String {
    String::from_utf8_lossy(&text).into_owned()
}

fn text(text: Option<Bytes>) -> Read<String> {
    text.map_or(Read::Absent, |text| Read::Is(string(text)))
}

fn record<M: Into<T>, T>(message: Option<M>) -> Read<Record<T>> {
    message.map_or(Read::Absent, |message| Read::Is(Record(message.into())))
}

/// An empty list is not there, in JSON as here.
fn records<M: Into<T>, T>(messages: Vec<M>) -> Read<Vec<Read<Record<T>>>> {
    if messages.is_empty() {
        return Read::Absent;
    }
    Read::Is(
        messages
            .into_iter()
            .map(|message| record(Some(message)))
            .collect(),
    )
}

impl From<ObjectMeta> for Metadata {
    fn from(message: ObjectMeta) -> Self {
        let mark = |annotation: &&Annotation| annotation.name == MIRROR_MARK;
        let marked = message.annotations.iter().find(mark).map(|annotation| {
            let value = string(annotation.value.clone());
            [(MIRROR_MARK.to_owned(), value)].into()
        });
        let owners: Vec<Owner> = message.owner_references.into_iter().map(Owner::from).collect();
        Metadata {
            name: message.name.map(string),
            namespace: message.namespace.map(string),
            uid: message.uid.map(string),
            generation: message.generation,
            creation_timestamp: message.creation_timestamp.and_then(Time::read),
            owner_references: Some(owners).filter(|owners| !owners.is_empty()),
            annotations: marked,
            ..Metadata::default()
        }
    }
}

impl Time {
    fn read(self) -> Option<MetaTime> {
        Timestamp::from_second(self.seconds).ok().map(MetaTime)
    }
}

impl From<OwnerReference> for Owner {
    fn from(message: OwnerReference) -> Self {
        Owner {
            api_version: string(message.api_version),
            kind: string(message.kind),
            name: string(message.name),
            uid: string(message.uid),
            controller: message.controller,
            block_owner_deletion: None,
        }
    }
}

impl From<PodSpec> for slim::Spec {
    fn from(message: PodSpec) -> Self {
        slim::Spec {
            containers: records(message.containers),
            init_containers: records(message.init_containers),
            ephemeral_containers: records(message.ephemeral_containers),
            volumes: records(message.volumes),
            image_pull_secrets: records(message.image_pull_secrets),
            service_account_name: text(message.service_account_name),
        }
    }
}

impl From<Container> for slim::Container {
    fn from(message: Container) -> Self {
        slim::Container {
            name: text(message.name),
            image: text(message.image),
            restart_policy: text(message.restart_policy),
        }
    }
}

impl From<EphemeralContainer> for slim::Container {
    fn from(message: EphemeralContainer) -> Self {
        message.common.unwrap_or_default().into()
    }
}

impl From<LocalObjectReference> for slim::LocalReference {
    fn from(message: LocalObjectReference) -> Self {
        slim::LocalReference {
            name: text(message.name),
        }
    }
}

impl From<Volume> for slim::Volume {
    fn from(message: Volume) -> Self {
        slim::Volume {
            name: text(message.name),
            image: record(message.source.and_then(|source| source.image)),
        }
    }
}

impl From<ImageVolumeSource> for slim::ImageVolume {
    fn from(message: ImageVolumeSource) -> Self {
        slim::ImageVolume {
            reference: text(message.reference),
        }
    }
}

impl From<PodStatus> for slim::Status {
    fn from(message: PodStatus) -> Self {
        slim::Status {
            phase: text(message.phase),
            container_statuses: records(message.container_statuses),
            init_container_statuses: records(message.init_container_statuses),
            ephemeral_container_statuses: records(message.ephemeral_container_statuses),
        }
    }
}

impl From<ContainerStatus> for slim::ContainerStatus {
    fn from(message: ContainerStatus) -> Self {
        slim::ContainerStatus {
            name: text(message.name),
            image_id: text(message.image_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn text(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    fn container(name: &'static str, restart_policy: Option<Bytes>) -> Container {
        Container {
            name: text(name),
            image: text("r/app:1"),
            restart_policy,
        }
    }

    fn status(name: &'static str) -> ContainerStatus {
        ContainerStatus {
            name: text(name),
            image_id: text("r/app@sha256:01"),
        }
    }

    /// As the API server writes it: texts that nobody gave are there and empty.
    fn message() -> Pod {
        let owner = OwnerReference {
            kind: "ReplicaSet".into(),
            name: "web-1".into(),
            uid: "o".into(),
            api_version: "apps/v1".into(),
            controller: Some(true),
        };
        let annotation = |name: &'static str, value: &'static str| Annotation {
            name: name.into(),
            value: value.into(),
        };
        let volume = |name, image| Volume {
            name: text(name),
            source: Some(VolumeSource { image }),
        };
        let reference = text("r/data:1");
        Pod {
            metadata: Some(ObjectMeta {
                name: text("web-1-abcde"),
                namespace: text("shop"),
                uid: text("u"),
                generation: Some(3),
                creation_timestamp: Some(Time {
                    seconds: 1_767_323_045,
                }),
                annotations: vec![annotation("a", "b"), annotation(MIRROR_MARK, "hash")],
                owner_references: vec![owner],
            }),
            spec: Some(PodSpec {
                volumes: vec![
                    volume("tmp", None),
                    volume("data", Some(ImageVolumeSource { reference })),
                ],
                containers: vec![container("web", None)],
                service_account_name: text(""),
                image_pull_secrets: vec![LocalObjectReference { name: text("pull") }],
                init_containers: vec![container("setup", None), container("proxy", text("Always"))],
                ephemeral_containers: vec![EphemeralContainer {
                    common: Some(container("debug", None)),
                }],
            }),
            status: Some(PodStatus {
                phase: text("Running"),
                container_statuses: vec![status("web")],
                init_container_statuses: vec![status("setup"), status("proxy")],
                ephemeral_container_statuses: vec![status("debug")],
            }),
        }
    }

    fn the_same_in_json() -> Value {
        let container = |name: &str| json!({"name": name, "image": "r/app:1"});
        let status = |name: &str| json!({"name": name, "imageID": "r/app@sha256:01"});
        json!({
            "metadata": {
                "name": "web-1-abcde", "namespace": "shop", "uid": "u", "generation": 3,
                "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": {"a": "b", (MIRROR_MARK): "hash"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "o", "controller": true}],
            },
            "spec": {
                "volumes": [{"name": "tmp"}, {"name": "data", "image": {"reference": "r/data:1"}}],
                "containers": [container("web")],
                "serviceAccountName": "",
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [container("setup"), {"name": "proxy", "image": "r/app:1", "restartPolicy": "Always"}],
                "ephemeralContainers": [container("debug")],
            },
            "status": {
                "phase": "Running", "containerStatuses": [status("web")],
                "initContainerStatuses": [status("setup"), status("proxy")],
                "ephemeralContainerStatuses": [status("debug")],
            },
        })
    }

    /// What a real API server writes is read in the suite on real servers (`owners`).
    #[test]
    fn a_pod_is_read_from_protobuf_as_from_json() {
        let from_protobuf = pod(message().encode_to_vec().into()).unwrap();
        let from_json: SlimPod = serde_json::from_value(the_same_in_json()).unwrap();
        assert_eq!(format!("{from_protobuf:?}"), format!("{from_json:?}"));
        let metadata = message().metadata;
        let from_protobuf = owner(PartialObjectMetadata { metadata }.encode_to_vec().into()).unwrap();
        let from_json: SlimOwner = serde_json::from_value(the_same_in_json()).unwrap();
        assert_eq!(format!("{from_protobuf:?}"), format!("{from_json:?}"));
    }

    #[test]
    fn an_object_without_anything_has_nothing_in_either() {
        let from_protobuf = pod(Bytes::new()).unwrap();
        let from_json: SlimPod = serde_json::from_value(json!({"metadata": {}})).unwrap();
        assert_eq!(format!("{from_protobuf:?}"), format!("{from_json:?}"));
    }

    #[test]
    fn a_text_that_is_not_utf8_spoils_nothing_else() {
        let mut odd = message();
        let spec = odd.spec.as_mut().unwrap();
        spec.containers[0].image = Some(Bytes::from_static(b"r/\xff"));
        let read = pod(odd.encode_to_vec().into()).unwrap();
        let Read::Is(Record(spec)) = read.spec else {
            panic!("the spec is there")
        };
        let containers = spec.containers.entries("containers").unwrap();
        let image = &containers[0].get("container").unwrap().unwrap().0.image;
        assert_eq!(image.text("image").unwrap(), "r/\u{fffd}");
        assert!(pod(Bytes::from_static(b"\xff")).is_err());
    }
}
