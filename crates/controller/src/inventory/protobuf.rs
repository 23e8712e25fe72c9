//! Pods and metadata read from the API server's protobuf encoding: the same that `slim` reads from JSON, and no more.
//!
//! Field numbers: `k8s.io/api`, `core/v1/generated.proto`, and `k8s.io/apimachinery`, `pkg/apis/meta/v1/generated.proto`.
//! They never change, and what is not named here is passed over. A field that a message does not have is absent, as in
//! JSON; a text that the API server left empty is there and empty, which means the same.

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
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "3")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "5")]
    uid: Option<String>,
    #[prost(string, optional, tag = "6")]
    resource_version: Option<String>,
    #[prost(int64, optional, tag = "7")]
    generation: Option<i64>,
    #[prost(message, optional, tag = "8")]
    creation_timestamp: Option<Time>,
    #[prost(message, optional, tag = "9")]
    deletion_timestamp: Option<Time>,
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
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
    #[prost(string, tag = "5")]
    api_version: String,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    block_owner_deletion: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSpec {
    #[prost(message, repeated, tag = "1")]
    volumes: Vec<Volume>,
    #[prost(message, repeated, tag = "2")]
    containers: Vec<Container>,
    #[prost(string, optional, tag = "8")]
    service_account_name: Option<String>,
    #[prost(message, repeated, tag = "15")]
    image_pull_secrets: Vec<LocalObjectReference>,
    #[prost(message, repeated, tag = "20")]
    init_containers: Vec<Container>,
    #[prost(message, repeated, tag = "34")]
    ephemeral_containers: Vec<EphemeralContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    image: Option<String>,
    #[prost(string, optional, tag = "24")]
    restart_policy: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct EphemeralContainer {
    /// What JSON has inline.
    #[prost(message, optional, tag = "1")]
    common: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct LocalObjectReference {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Volume {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
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
    #[prost(string, optional, tag = "1")]
    reference: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatus {
    #[prost(string, optional, tag = "1")]
    phase: Option<String>,
    #[prost(message, repeated, tag = "8")]
    container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "10")]
    init_container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "13")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "7")]
    image_id: Option<String>,
}

fn text(text: Option<String>) -> Read<String> {
    text.map_or(Read::Absent, Read::Is)
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
            let value = String::from_utf8_lossy(&annotation.value).into_owned();
            [(MIRROR_MARK.to_owned(), value)].into()
        });
        let owners: Vec<Owner> = message.owner_references.into_iter().map(Owner::from).collect();
        Metadata {
            name: message.name,
            namespace: message.namespace.filter(|namespace| !namespace.is_empty()),
            uid: message.uid,
            resource_version: message.resource_version,
            generation: message.generation,
            creation_timestamp: message.creation_timestamp.and_then(Time::read),
            deletion_timestamp: message.deletion_timestamp.and_then(Time::read),
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
            api_version: message.api_version,
            kind: message.kind,
            name: message.name,
            uid: message.uid,
            controller: message.controller,
            block_owner_deletion: message.block_owner_deletion,
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
