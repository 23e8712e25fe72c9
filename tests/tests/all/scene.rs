//! A namespace of one test with keys, policies and workloads, and what the operator says of them.

use std::time::Duration;

use api::{ImageCompliance, ImagePolicy, SigningKey};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use testkit::{Cluster, Cosign, CosignVersion, Format, KeyPair, Pushed, Registry, TestNamespace, eventually};

use crate::manifests::{key, policy, with};
use crate::operator::{SharedOperator, operator};
use crate::servers::servers;

/// How long an answer may take on a busy machine; speed is measured elsewhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The stage of one test.
pub(crate) struct Scene {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: TestNamespace,
    pub(crate) cosign: Cosign,
}

impl Scene {
    /// On the shared cluster, under the eyes of the shared operator.
    pub(crate) async fn shared(test: &str) -> (Self, &'static SharedOperator) {
        let operator = operator().await;
        (Self::on(&servers().await.cluster, test).await, operator)
    }

    /// On another cluster.
    pub(crate) async fn on(cluster: &'static Cluster, test: &str) -> Self {
        let namespace = TestNamespace::create(cluster, test).await.unwrap();
        let home = cluster.folder().join("cosign").join(namespace.name());
        Self {
            cluster,
            cosign: Cosign::new(CosignVersion::V3, home).unwrap(),
            namespace,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.namespace.name()
    }

    /// A name for a cluster-scoped object, or a key ring, of this test.
    pub(crate) fn unique(&self, name: &str) -> String {
        self.namespace.unique(name)
    }

    /// `kubectl` in the test's namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let all = [&["-n", self.name()], arguments].concat();
        self.cluster.kubectl(&all).await.unwrap()
    }

    /// `kubectl create` of the objects in the test's namespace, all in one run.
    pub(crate) async fn create(&self, objects: &[Value]) {
        let documents: Vec<String> = objects.iter().map(|object| format!("{object}\n")).collect();
        let arguments = ["-n", self.name(), "create", "-f", "-"];
        let output = self
            .cluster
            .kubectl_output(&arguments, &documents.join("---\n"))
            .await;
        output.unwrap().into_stdout().unwrap();
    }

    /// `kubectl patch --type merge`.
    pub(crate) async fn patch(&self, kind: &str, name: &str, patch: &Value) {
        self.kubectl(&["patch", kind, name, "--type", "merge", "-p", &patch.to_string()])
            .await;
    }

    /// A key pair and its SigningKey, which is created in a ring of this test.
    pub(crate) async fn signer(&self, name: &str, ring: &str, stage: &str) -> KeyPair {
        let pair = self.cosign.generate_key_pair(name).await.unwrap();
        self.create(&[self.signing_key(name, ring, stage, &pair)]).await;
        pair
    }

    pub(crate) fn signing_key(&self, name: &str, ring: &str, stage: &str, pair: &KeyPair) -> Value {
        let object = key(
            &self.unique(name),
            &self.unique(ring),
            &pair.public_pem().unwrap(),
        );
        with(object, json!({"spec": {"stage": stage}}))
    }

    /// An Enforce policy for this namespace that asks for one ring of this test; looks again every hour.
    pub(crate) fn policy(&self, name: &str, ring: &str, patch: Value) -> Value {
        let here = json!({"spec": {"match": {"namespaces": [self.name()]}, "recheck": {"interval": "1h"}}});
        with(
            with(policy(&self.unique(name), "**", &self.unique(ring)), here),
            patch,
        )
    }

    /// Pushes an image that no other test has.
    pub(crate) async fn image(&self, registry: &Registry, repository: &str) -> Pushed {
        let seed = format!("{} {repository}", self.name());
        registry
            .writer()
            .push_image(repository, self.name(), &seed)
            .await
            .unwrap()
    }

    /// Pushes an image and signs it, in the tag format where the registry has no referrers API.
    pub(crate) async fn signed_image(&self, registry: &Registry, repository: &str, key: &KeyPair) -> Pushed {
        let image = self.image(registry, repository).await;
        let format = match registry.kind() {
            testkit::RegistryKind::Distribution => Format::Tag,
            testkit::RegistryKind::Referrers => Format::Bundle,
        };
        self.cosign.sign(&image.by_digest(), key, format).await.unwrap();
        image
    }

    /// What was written about a workload, if anything was.
    pub(crate) async fn compliance(&self, name: &str) -> Option<ImageCompliance> {
        self.read_compliance(name).await.unwrap()
    }

    /// The same for whoever asks again: an API server that is coming back is an error for a moment.
    async fn read_compliance(&self, name: &str) -> Result<Option<ImageCompliance>, String> {
        let found = self.namespace.api().get_opt(name).await;
        found.map_err(|error| error.to_string())
    }

    /// Waits until something holds of what was written about a workload.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&ImageCompliance) -> bool,
    ) -> ImageCompliance {
        let look = async || match self.read_compliance(name).await? {
            Some(compliance) if holds(&compliance) => Ok(compliance),
            Some(compliance) => Err(serde_json::to_string(&compliance.status).unwrap()),
            None => Err("nothing is written".to_owned()),
        };
        eventually(&format!("{}/{name}: {what}", self.name()), limit, look)
            .await
            .unwrap()
    }

    /// Waits until the condition Compliant has a status and a reason, as `False/KeyRevoked`.
    pub(crate) async fn says(&self, name: &str, expected: &str) -> ImageCompliance {
        self.until(name, expected, PATIENCE, |compliance| {
            condition(compliance) == expected
        })
        .await
    }

    /// Waits until nothing is written about a workload.
    pub(crate) async fn says_nothing(&self, name: &str) {
        let look = async || match self.read_compliance(name).await? {
            None => Ok(()),
            Some(compliance) => Err(serde_json::to_string(&compliance.status).unwrap()),
        };
        eventually(&format!("{}/{name} to go", self.name()), PATIENCE, look)
            .await
            .unwrap();
    }

    /// Waits until the status of a policy of this test has something.
    pub(crate) async fn policy_status(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let api: Api<ImagePolicy> = Api::all(self.namespace.client());
        let get = async |name: &str| Ok(serde_json::to_value(api.get(name).await?.status).unwrap());
        self.status(name, get, holds).await
    }

    /// Waits until the status of a SigningKey of this test has something.
    pub(crate) async fn key_status(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let api: Api<SigningKey> = Api::all(self.namespace.client());
        let get = async |name: &str| Ok(serde_json::to_value(api.get(name).await?.status).unwrap());
        self.status(name, get, holds).await
    }

    async fn status(
        &self,
        name: &str,
        get: impl AsyncFn(&str) -> kube::Result<Value>,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let name = self.unique(name);
        let look = async || {
            let status = get(&name).await.map_err(|error| error.to_string())?;
            if holds(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        };
        // Mere counts are written once in 30 s.
        eventually(&format!("the status of {name}"), PATIENCE, look)
            .await
            .unwrap()
    }

    /// The operator's Events in a namespace about an object, as `Kind/name Reason`, oldest first.
    pub(crate) async fn events(&self, namespace: &str) -> Vec<Event> {
        self.read_events(namespace).await.unwrap()
    }

    async fn read_events(&self, namespace: &str) -> kube::Result<Vec<Event>> {
        let api: Api<Event> = Api::namespaced(self.namespace.client(), namespace);
        let selected = ListParams::default().fields("reportingController=assay.dev/controller");
        let mut events = api.list(&selected).await?.items;
        events.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        Ok(events)
    }

    /// Waits for an Event about an object of the test's namespace.
    pub(crate) async fn event(&self, kind: &str, name: &str, reason: &str) -> Event {
        self.event_in(self.name(), kind, name, reason).await
    }

    /// Waits for an Event about a cluster-scoped object.
    pub(crate) async fn cluster_event(&self, kind: &str, name: &str, reason: &str) -> Event {
        self.event_in("default", kind, name, reason).await
    }

    async fn event_in(&self, namespace: &str, kind: &str, name: &str, reason: &str) -> Event {
        let look = async || {
            let events = self.read_events(namespace).await;
            let events = events.map_err(|error| error.to_string())?;
            let found = events.iter().find(|event| is_about(event, kind, name, reason));
            found
                .cloned()
                .ok_or_else(|| format!("{:#?}", events.iter().map(summary).collect::<Vec<_>>()))
        };
        eventually(&format!("{reason} about {kind}/{name}"), PATIENCE, look)
            .await
            .unwrap()
    }
}

fn is_about(event: &Event, kind: &str, name: &str, reason: &str) -> bool {
    summary(event) == format!("{kind}/{name} {reason}")
}

/// `Kind/name Reason`.
pub(crate) fn summary(event: &Event) -> String {
    let regarding = event.regarding.clone().unwrap_or_default();
    let part = |part: Option<String>| part.unwrap_or_default();
    format!(
        "{}/{} {}",
        part(regarding.kind),
        part(regarding.name),
        part(event.reason.clone())
    )
}

/// `False/KeyRevoked`: the condition Compliant.
pub(crate) fn condition(compliance: &ImageCompliance) -> String {
    condition_of(compliance, "Compliant")
}

/// A condition as `status/reason`; empty where there is none.
pub(crate) fn condition_of(compliance: &ImageCompliance, type_: &str) -> String {
    let mut conditions = compliance.status.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == type_);
    found.map_or_else(String::new, |found| format!("{}/{}", found.status, found.reason))
}

/// A condition of any status as `status/reason`.
pub(crate) fn condition_in(status: &Value, type_: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found.map_or_else(String::new, |found| {
        format!("{}/{}", text(&found["status"]), text(&found["reason"]))
    })
}

/// What was written about each container: `Type name: Verdict/Reason`, in order of the text; of the first policy.
pub(crate) fn containers(compliance: &ImageCompliance) -> Vec<String> {
    let mut lines = Vec::new();
    for image in &compliance.status.images {
        let answer = image.policies.first();
        let answer = answer.map_or_else(
            || "no policy".to_owned(),
            |answer| format!("{}/{}", answer.verdict, answer.reason),
        );
        lines.extend(
            image
                .containers
                .iter()
                .map(|container| format!("{:?} {}: {answer}", container.type_, container.name)),
        );
    }
    lines.sort();
    lines
}

/// A Deployment of one replica with a pod spec and annotations for its pods.
pub(crate) fn deployment(name: &str, spec: Value, annotations: Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec},
        },
    })
}

/// A Deployment of one plain container.
pub(crate) fn simple(name: &str, image: &str) -> Value {
    deployment(
        name,
        json!({"containers": [{"name": "main", "image": image}]}),
        json!({}),
    )
}

/// A bare pod.
pub(crate) fn pod(name: &str, spec: Value, metadata: Value) -> Value {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    with(pod, json!({"metadata": metadata}))
}
