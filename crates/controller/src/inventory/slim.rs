//! Pods and owners as small as the inventory needs them, read straight from the watch.
//!
//! A full `Pod` costs tens of kilobytes; these types read past what is not needed. A field of an
//! unexpected shape makes that one pod [`Unreadable`], never the watch: the error is carried in the
//! value, so that nothing has to be buffered and read twice.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroI64;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::ApiResource;
use kube::core::{DynamicResourceScope, NamespaceResourceScope};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::climb::{BuiltIn, controller_of};

/// The annotation that marks the API server's picture of a static pod.
pub(crate) const MIRROR_MARK: &str = "kubernetes.io/config.mirror";

/// When an object was made, as the API server writes it: in whole seconds since 1970.
pub(crate) type Second = i64;

/// An object's `metadata.generation`; the API server leaves it out where it is zero.
pub(crate) type Generation = NonZeroI64;

/// A field that was absent, has the expected shape, or has another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Read<T> {
    #[default]
    Absent,
    Is(T),
    Otherwise,
}

/// A field of a pod has a shape that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} does not have the shape that core/v1 gives it")]
pub(crate) struct Unreadable {
    pub(crate) field: &'static str,
}

impl<T> Read<T> {
    /// The value where there is one; an error where it has another shape.
    pub(crate) fn get(&self, field: &'static str) -> Result<Option<&T>, Unreadable> {
        match self {
            Read::Absent => Ok(None),
            Read::Is(value) => Ok(Some(value)),
            Read::Otherwise => Err(Unreadable { field }),
        }
    }
}

impl Read<String> {
    /// The text; empty where it is absent.
    pub(crate) fn text(&self, field: &'static str) -> Result<&str, Unreadable> {
        Ok(self.get(field)?.map_or("", String::as_str))
    }
}

impl<T> Read<Vec<T>> {
    /// The entries; none where the list is absent.
    pub(crate) fn entries(&self, field: &'static str) -> Result<&[T], Unreadable> {
        Ok(self.get(field)?.map_or(&[], Vec::as_slice))
    }
}

/// What a [`Read`] can hold: a text, a list or a record. The default of each method is "another shape".
pub(crate) trait Shape<'de>: Sized {
    fn of_text(_: &str) -> Option<Self> {
        None
    }
    fn of_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn of_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Shape<'_> for String {
    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl<'de, T: Deserialize<'de>> Shape<'de> for Vec<T> {
    fn of_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Some(entries))
    }
}

/// A record of which every field is a [`Read`], so that reading it cannot fail.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Shape<'de> for Record<T> {
    fn of_map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|record| Some(Record(record)))
    }
}

impl<'de, T: Shape<'de>> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor(PhantomData))
    }
}

struct ReadVisitor<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> Visitor<'de> for ReadVisitor<T> {
    type Value = Read<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(read(T::of_text(text)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::of_list(list).map(read)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::of_map(map).map(read)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Read::Absent)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Read::Otherwise)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Read::Otherwise)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Read::Otherwise)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Read::Otherwise)
    }
}

fn read<T>(value: Option<T>) -> Read<T> {
    value.map_or(Read::Otherwise, Read::Is)
}

/// A pod: what runs, by whom it is controlled, and nothing else.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct SlimPod {
    #[serde(deserialize_with = "slim_metadata")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: Read<Record<Spec>>,
    #[serde(default)]
    pub(crate) status: Read<Record<Status>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) containers: Read<Vec<Read<Record<Container>>>>,
    pub(crate) init_containers: Read<Vec<Read<Record<Container>>>>,
    pub(crate) ephemeral_containers: Read<Vec<Read<Record<Container>>>>,
    pub(crate) volumes: Read<Vec<Read<Record<Volume>>>>,
    pub(crate) image_pull_secrets: Read<Vec<Read<Record<LocalReference>>>>,
    pub(crate) service_account_name: Read<String>,
}

impl Spec {
    /// Everything that either holds; None where one is of another shape. The first one's pull secrets are used.
    pub(super) fn joined_by(self, other: Spec) -> Option<Spec> {
        Some(Spec {
            containers: both(self.containers, other.containers)?,
            init_containers: both(self.init_containers, other.init_containers)?,
            ephemeral_containers: both(self.ephemeral_containers, other.ephemeral_containers)?,
            volumes: both(self.volumes, other.volumes)?,
            image_pull_secrets: self.image_pull_secrets,
            service_account_name: self.service_account_name,
        })
    }
}

fn both<T>(one: Read<Vec<T>>, other: Read<Vec<T>>) -> Option<Read<Vec<T>>> {
    match (one, other) {
        (Read::Otherwise, _) | (_, Read::Otherwise) => None,
        (Read::Absent, one) | (one, Read::Absent) => Some(one),
        (Read::Is(mut one), Read::Is(other)) => {
            one.extend(other);
            Some(Read::Is(one))
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct LocalReference {
    pub(crate) name: Read<String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: Read<String>,
    pub(crate) image: Read<String>,
    pub(crate) restart_policy: Read<String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub(crate) name: Read<String>,
    pub(crate) image: Read<Record<ImageVolume>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct ImageVolume {
    pub(crate) reference: Read<String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) phase: Read<String>,
    pub(crate) container_statuses: Read<Vec<Read<Record<ContainerStatus>>>>,
    pub(crate) init_container_statuses: Read<Vec<Read<Record<ContainerStatus>>>>,
    pub(crate) ephemeral_container_statuses: Read<Vec<Read<Record<ContainerStatus>>>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: Read<String>,
    #[serde(rename = "imageID")]
    pub(crate) image_id: Read<String>,
}

/// The metadata of an owner of any kind, asked for as metadata only.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct SlimOwner {
    #[serde(deserialize_with = "slim_metadata")]
    pub(crate) metadata: ObjectMeta,
}

/// A workload with its template, if it has one that counts.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(from = "WholeWorkload")]
pub(crate) struct SlimWorkload {
    pub(crate) metadata: ObjectMeta,
    /// The template's pod spec. Absent where the workload starts nothing any more, and where another built-in kind
    /// controls it, which has the template itself.
    pub(crate) template: Read<Record<Spec>>,
}

#[derive(serde::Deserialize)]
struct WholeWorkload {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Read<Record<WorkloadSpec>>,
    #[serde(default)]
    status: Read<Record<WorkloadStatus>>,
}

/// The spec of any built-in kind: a CronJob has the template of Jobs, every other kind that of pods.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec {
    template: Read<Record<PodTemplate>>,
    job_template: Read<Record<JobTemplate>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct PodTemplate {
    spec: Read<Record<Spec>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct JobTemplate {
    spec: Read<Record<JobSpec>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct JobSpec {
    template: Read<Record<PodTemplate>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct WorkloadStatus {
    conditions: Read<Vec<Read<Record<StatusCondition>>>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct StatusCondition {
    #[serde(rename = "type")]
    type_: Read<String>,
    status: Read<String>,
}

impl<T> Read<Record<T>> {
    /// What is inside of a record that is there.
    fn within<U>(self, inner: impl FnOnce(T) -> Read<U>) -> Read<U> {
        match self {
            Read::Absent => Read::Absent,
            Read::Is(Record(value)) => inner(value),
            Read::Otherwise => Read::Otherwise,
        }
    }
}

impl From<WholeWorkload> for SlimWorkload {
    fn from(whole: WholeWorkload) -> Self {
        let WholeWorkload {
            metadata,
            spec,
            status,
        } = whole;
        let dropped = is_controlled_by_a_built_in_kind(&metadata) || has_ended(&status);
        let template = spec.within(|spec| match spec.job_template {
            Read::Absent => spec.template.within(|template| template.spec),
            of_jobs => of_jobs
                .within(|jobs| jobs.spec)
                .within(|job| job.template)
                .within(|template| template.spec),
        });
        SlimWorkload {
            metadata,
            template: if dropped { Read::Absent } else { template },
        }
    }
}

fn is_controlled_by_a_built_in_kind(metadata: &ObjectMeta) -> bool {
    controller_of(metadata).is_some_and(|owner| {
        let group = engine::group_of(&owner.api_version);
        BuiltIn::of(group, &owner.kind).is_some()
    })
}

/// A Job that is complete or failed starts no pod any more.
fn has_ended(status: &Read<Record<WorkloadStatus>>) -> bool {
    let Read::Is(Record(status)) = status else {
        return false;
    };
    let Read::Is(conditions) = &status.conditions else {
        return false;
    };
    let is = |text: &Read<String>, value: &str| matches!(text, Read::Is(text) if text == value);
    conditions.iter().any(|condition| match condition {
        Read::Is(Record(condition)) => {
            let ends = is(&condition.type_, "Complete") || is(&condition.type_, "Failed");
            ends && is(&condition.status, "True")
        }
        Read::Absent | Read::Otherwise => false,
    })
}

/// Object metadata is written by the API server's own machinery for every kind, so it has one shape.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct SlimMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    owner_references: Option<Vec<OwnerReference>>,
    annotations: Option<Marks>,
}

#[derive(serde::Deserialize)]
struct Marks {
    #[serde(rename = "kubernetes.io/config.mirror", default)]
    mirror: Option<String>,
}

pub(super) fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let slim = SlimMetadata::deserialize(deserializer)?;
    let mirror = slim.annotations.and_then(|marks| marks.mirror);
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        generation: slim.generation,
        creation_timestamp: slim.creation_timestamp,
        owner_references: slim.owner_references,
        annotations: mirror.map(|value| [(MIRROR_MARK.to_owned(), value)].into()),
        ..ObjectMeta::default()
    })
}

/// When an object was created; the beginning of time where the server does not say.
pub(crate) fn created(metadata: &ObjectMeta) -> Second {
    let time = metadata.creation_timestamp.as_ref();
    time.map_or(0, |time| time.0.as_second())
}

/// The time of a [`Second`].
pub(crate) fn of_second(second: Second) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The object's `metadata.generation`.
pub(crate) fn generation(metadata: &ObjectMeta) -> Option<Generation> {
    metadata.generation.and_then(Generation::new)
}

impl kube::Resource for SlimPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl kube::Resource for SlimOwner {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn metadata_api() -> bool {
        true
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl kube::Resource for SlimWorkload {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> SlimPod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "1"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_field_of_another_shape_spoils_that_field_and_not_the_watch() {
        for containers in [json!("none"), json!(7), json!(true), json!({"a": [1, {"b": 2}]})] {
            let pod = pod(json!({"containers": containers, "volumes": [{"name": "v"}]}));
            let Read::Is(Record(spec)) = pod.spec else {
                panic!("the spec is a map")
            };
            assert_eq!(spec.containers, Read::Otherwise);
            assert_eq!(spec.volumes.entries("spec.volumes").unwrap().len(), 1);
        }
    }

    #[test]
    fn a_null_is_an_absent_field() {
        let pod = pod(json!({"containers": null}));
        let Read::Is(Record(spec)) = pod.spec else {
            panic!("the spec is a map")
        };
        assert_eq!(spec.containers, Read::Absent);
    }

    #[test]
    fn what_follows_a_misshapen_entry_of_a_stream_is_still_read() {
        let text = r#"[{"metadata":{"name":"a"},"spec":[{"x":[]}]},{"metadata":{"name":"b"},"spec":{}}]"#;
        let pods: Vec<SlimPod> = serde_json::from_str(text).unwrap();
        assert_eq!(pods[0].spec, Read::Otherwise);
        assert_eq!(pods[1].metadata.name.as_deref(), Some("b"));
    }

    fn workload(metadata: serde_json::Value, rest: serde_json::Value) -> SlimWorkload {
        let mut object = rest;
        object["metadata"] = metadata;
        serde_json::from_value(object).unwrap()
    }

    fn images(workload: &SlimWorkload) -> Vec<String> {
        let Read::Is(Record(spec)) = &workload.template else {
            return Vec::new();
        };
        let containers = spec.containers.entries("containers").unwrap();
        let image = |entry: &Read<Record<Container>>| {
            entry
                .get("containers")
                .unwrap()
                .unwrap()
                .0
                .image
                .text("image")
                .unwrap()
                .to_owned()
        };
        containers.iter().map(image).collect()
    }

    /// C1.04, C1.05: the template of each kind, unless another kind has it or nothing starts any more.
    #[test]
    fn the_template_of_each_kind_is_read_where_it_counts() {
        let template = json!({"spec": {"containers": [{"name": "main", "image": "r/app:1"}]}});
        let deployment = json!({"spec": {"replicas": 0, "template": template}});
        let cron_job = json!({"spec": {"jobTemplate": {"spec": {"template": template}}}});
        let alone = json!({"name": "x"});
        for kind in [&deployment, &cron_job] {
            assert_eq!(images(&workload(alone.clone(), kind.clone())), ["r/app:1"]);
        }
        let owned_by = |api: &str, kind: &str, controller: bool| {
            let owner =
                json!({"apiVersion": api, "kind": kind, "name": "o", "uid": "o", "controller": controller});
            json!({"name": "x", "ownerReferences": [owner]})
        };
        let of_a_deployment = workload(owned_by("apps/v1", "Deployment", true), deployment.clone());
        assert!(images(&of_a_deployment).is_empty());
        for other in [
            owned_by("apps/v1", "Deployment", false),
            owned_by("x.io/v1", "Deployment", true),
        ] {
            assert_eq!(images(&workload(other, deployment.clone())), ["r/app:1"], "B55");
        }
        for (condition, counts) in [("Complete", false), ("Failed", false), ("Suspended", true)] {
            let mut job = deployment.clone();
            job["status"] = json!({"conditions": [{"type": condition, "status": "True"}]});
            assert_eq!(
                !images(&workload(alone.clone(), job)).is_empty(),
                counts,
                "{condition}"
            );
        }
        let odd = json!({"spec": {"template": "none"}});
        assert_eq!(workload(alone, odd).template, Read::Otherwise);
    }

    #[test]
    fn metadata_keeps_the_owner_and_the_mirror_mark_and_drops_the_rest() {
        let pod: SlimPod = serde_json::from_value(json!({"metadata": {
            "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "5", "generation": 3,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"a": "b"}, "managedFields": [{"manager": "m"}],
            "annotations": {"kubernetes.io/config.mirror": "x", "other": "y"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true}],
        }}))
        .unwrap();
        assert_eq!(pod.metadata.labels, None);
        assert_eq!(pod.metadata.managed_fields, None);
        assert_eq!(
            pod.metadata.annotations.unwrap().keys().collect::<Vec<_>>(),
            [MIRROR_MARK]
        );
        assert_eq!(pod.metadata.owner_references.unwrap()[0].name, "r");
        assert_eq!(pod.metadata.generation, Some(3));
    }
}
