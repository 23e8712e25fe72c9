//! Custom kinds of which the operator was told where their objects hold pod specs (`--workload-template`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use engine::{Stopped, WorkloadKey, WorkloadNames};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::sync::mpsc;

use super::climb::may_be_custom;
use super::slim::{Read, Record, Spec, slim_metadata};
use super::task::Observation;
use crate::watch::{Roll, Sink};

/// A custom kind, and where its objects hold pod specs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadTemplate {
    /// Its API group.
    pub group: String,
    /// The version that it is read in.
    pub version: String,
    /// Its kind.
    pub kind: String,
    paths: Vec<Path>,
}

/// The way to pod specs inside of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    EveryEntry,
}

/// Why a text does not register a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadTemplateError {
    /// It has another form.
    #[error(
        "found {0:?}, expected GROUP/VERSION/KIND=JSONPATH[,JSONPATH], as argoproj.io/v1alpha1/Rollout=.spec.template.spec"
    )]
    Form(String),
    /// The group is one of Kubernetes itself.
    #[error(
        "found the group {0:?}, expected one of a custom kind: the templates of built-in kinds are known"
    )]
    BuiltIn(String),
    /// A path cannot be followed.
    #[error(
        "found the path {0:?}, expected fields of the object down to a pod spec, as .spec.template.spec; [*] stands for \
         every entry of a list, as .spec.groups[*].template.spec"
    )]
    Path(String),
}

impl FromStr for WorkloadTemplate {
    type Err = WorkloadTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || WorkloadTemplateError::Form(text.to_owned());
        let (kind, paths) = text.split_once('=').ok_or_else(form)?;
        let parts: Vec<&str> = kind.split('/').collect();
        let [group, version, kind] = parts.as_slice() else {
            return Err(form());
        };
        if [group, version, kind].iter().any(|part| part.trim().is_empty()) {
            return Err(form());
        }
        if !may_be_custom(group) {
            return Err(WorkloadTemplateError::BuiltIn((*group).to_owned()));
        }
        Ok(WorkloadTemplate {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
            kind: (*kind).to_owned(),
            paths: paths.split(',').map(Path::read).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for WorkloadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group, self.version, self.kind)
    }
}

impl Path {
    /// Reads a path; a `$` before it, and braces around it, are taken as kubectl takes them.
    fn read(text: &str) -> Result<Path, WorkloadTemplateError> {
        let wrong = || WorkloadTemplateError::Path(text.to_owned());
        let bare = text.trim();
        let bare = bare
            .strip_prefix('{')
            .map_or(Some(bare), |inner| inner.strip_suffix('}'))
            .ok_or_else(wrong)?;
        let bare = bare.strip_prefix('$').unwrap_or(bare);
        let mut steps = Vec::new();
        for part in bare.strip_prefix('.').ok_or_else(wrong)?.split('.') {
            let (field, entries) = match part.strip_suffix("[*]") {
                Some(field) => (field, true),
                None => (part, false),
            };
            let is_field = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
            if field.is_empty() || !field.chars().all(is_field) {
                return Err(wrong());
            }
            steps.push(Step::Field(field.to_owned()));
            steps.extend(entries.then_some(Step::EveryEntry));
        }
        Ok(Path(steps))
    }

    /// What the path leads to in an object; nothing where a field is missing.
    fn follow<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| match step {
                    Step::Field(field) => value.get(field).into_iter().collect::<Vec<_>>(),
                    Step::EveryEntry => value.as_array().into_iter().flatten().collect(),
                })
                .collect();
        }
        found.retain(|value| !value.is_null());
        found
    }
}

impl WorkloadTemplate {
    /// The pod spec of an object: what several paths lead to is taken together.
    fn spec_in(&self, object: &Value) -> Read<Record<Spec>> {
        let mut together: Option<Spec> = None;
        for value in self.paths.iter().flat_map(|path| path.follow(object)) {
            let Ok(Read::Is(Record(spec))) = serde_json::from_value(value.clone()) else {
                return Read::Otherwise;
            };
            together = match together {
                None => Some(spec),
                Some(first) => match first.joined_by(spec) {
                    Some(both) => Some(both),
                    None => return Read::Otherwise,
                },
            };
        }
        together.map_or(Read::Absent, |spec| Read::Is(Record(spec)))
    }
}

/// An object of a custom kind as the API server sends it.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct CustomObject {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(flatten)]
    content: serde_json::Map<String, Value>,
}

/// An object of a registered kind, with the pod spec that it holds.
#[derive(Clone, Debug)]
pub(crate) struct CustomTemplate {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Read<Record<Spec>>,
}

/// What was seen of a registered kind.
#[derive(Debug)]
pub(crate) enum SeenRegistered {
    Is(Box<CustomTemplate>),
    Gone(Box<CustomTemplate>),
    /// A complete list did not hold these.
    Missing(Vec<WorkloadKey>),
}

/// Takes the events of the watch of one registered kind.
pub(crate) struct RegisteredSink {
    kind: Arc<WorkloadTemplate>,
    roll: Roll<WorkloadKey>,
    observations: mpsc::Sender<Observation>,
}

impl RegisteredSink {
    pub(super) fn new(kind: Arc<WorkloadTemplate>, observations: mpsc::Sender<Observation>) -> Self {
        RegisteredSink {
            kind,
            roll: Roll::default(),
            observations,
        }
    }

    fn read(&self, object: CustomObject) -> CustomTemplate {
        CustomTemplate {
            api_version: format!("{}/{}", self.kind.group, self.kind.version),
            kind: self.kind.kind.clone(),
            metadata: object.metadata,
            spec: self.kind.spec_in(&Value::Object(object.content)),
        }
    }

    fn key(&self, metadata: &ObjectMeta) -> Option<WorkloadKey> {
        Some(WorkloadKey::from(WorkloadNames {
            namespace: metadata.namespace.as_deref()?.into(),
            group: self.kind.group.as_str().into(),
            kind: self.kind.kind.as_str().into(),
            name: metadata.name.as_deref()?.into(),
        }))
    }
}

impl Sink<CustomObject> for RegisteredSink {
    async fn event(&mut self, event: Event<CustomObject>) -> Result<(), Stopped> {
        let seen = match event {
            Event::Init => {
                self.roll.list_begins();
                return Ok(());
            }
            Event::InitDone => SeenRegistered::Missing(self.roll.list_ended()),
            Event::Apply(object) | Event::InitApply(object) => {
                if let Some(key) = self.key(&object.metadata) {
                    self.roll.seen(key);
                }
                SeenRegistered::Is(Box::new(self.read(object)))
            }
            Event::Delete(object) => {
                if let Some(key) = self.key(&object.metadata) {
                    self.roll.gone(&key);
                }
                SeenRegistered::Gone(Box::new(self.read(object)))
            }
        };
        let observation = Observation::Registered(seen);
        self.observations.send(observation).await.map_err(|_| Stopped)
    }
}

impl kube::Resource for CustomObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
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
    use crate::inventory::extract;
    use crate::inventory::texts::Texts;
    use serde_json::json;

    fn images(registered: &str, object: Value) -> Option<Vec<String>> {
        let registered: WorkloadTemplate = registered.parse().unwrap();
        let spec = registered.spec_in(&object);
        let Record(spec) = spec.get("spec").ok()?.cloned().unwrap_or(Record(Spec::default()));
        let images = extract::written(&spec, &mut Texts::default()).ok()?;
        Some(images.iter().map(ToString::to_string).collect())
    }

    fn spec(image: &str) -> Value {
        json!({"containers": [{"name": "main", "image": image}]})
    }

    /// C1.07.
    #[test]
    fn c1_07_images_at_registered_paths_are_found() {
        let rollout = json!({"spec": {"template": {"spec": spec("r/web:1")}}});
        for path in [
            ".spec.template.spec",
            "$.spec.template.spec",
            "{.spec.template.spec}",
        ] {
            let registered = format!("argoproj.io/v1alpha1/Rollout={path}");
            assert_eq!(images(&registered, rollout.clone()).unwrap(), ["r/web:1"]);
        }
        let groups = json!({"spec": {"head": spec("r/head"), "groups": [{"spec": spec("r/a")}, {}, {"spec": spec("r/b")}]}});
        let found = images("ray.io/v1/RayCluster=.spec.head,.spec.groups[*].spec", groups);
        assert_eq!(found.unwrap(), ["r/head", "r/a", "r/b"]);
        assert!(
            images("x.io/v1/App=.spec.template", json!({"spec": {}}))
                .unwrap()
                .is_empty()
        );
        let odd = json!({"spec": {"template": "none"}});
        assert_eq!(
            images("x.io/v1/App=.spec.template", odd),
            None,
            "another shape is no empty template"
        );
    }

    #[test]
    fn what_registers_no_kind_says_what_was_found_and_what_is_expected() {
        for (text, expected) in [
            (
                "Rollout",
                "found \"Rollout\", expected GROUP/VERSION/KIND=JSONPATH",
            ),
            ("x.io/v1=.spec", "expected GROUP/VERSION/KIND"),
            ("/v1/App=.spec", "expected GROUP/VERSION/KIND"),
            (
                "apps/v1/Deployment=.spec.template.spec",
                "found the group \"apps\", expected one of a custom kind",
            ),
            ("x.io/v1/App=", "found the path \"\", expected fields"),
            ("x.io/v1/App=spec", "found the path \"spec\""),
            ("x.io/v1/App=.spec..x", "found the path \".spec..x\""),
            ("x.io/v1/App=.spec[0]", "found the path \".spec[0]\""),
            ("x.io/v1/App={.spec", "found the path \"{.spec\""),
        ] {
            let error = text.parse::<WorkloadTemplate>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
