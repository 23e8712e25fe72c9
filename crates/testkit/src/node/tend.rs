//! What the simulator does about one pod, as a kubelet and a scheduler would: bind it, start its containers, let
//! them end, remove it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use serde_json::{Value, json};

use super::puller::Puller;
use super::reference::Reference;
use super::runtime::Pulled;
use super::status::{Outcome, Scene, compose};
use super::view::{Declared, View};
use super::{FIELD_MANAGER, NodeOptions};
use crate::digest_of;

/// What the simulator remembers of a pod between two looks at it.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Containers that have started, with the key of what they were started for.
    started: HashMap<String, u64>,
    /// When the last one of them started.
    since: Option<Instant>,
    deleting_since: Option<Instant>,
    removed: bool,
    failed_pulls: u32,
}

/// What a look at a pod led to.
#[derive(Debug, Default)]
pub(super) struct Tended {
    pub(super) memory: Memory,
    /// Look again after this time even if nothing changes.
    pub(super) again: Option<Duration>,
}

/// Tends pods.
pub(super) struct Kubelet {
    pub(super) client: kube::Client,
    pub(super) options: NodeOptions,
    pub(super) puller: Puller,
}

impl Kubelet {
    /// Whether there is anything to do about a pod, so that most events cost nothing.
    pub(super) fn has_work(&self, pod: &Pod, memory: &Memory) -> bool {
        let Some(view) = View::of(pod) else { return false };
        if view.is_being_deleted() {
            return view.node().is_some() && !memory.removed;
        }
        match view.node() {
            None => true,
            Some(_) if view.has_ended() => false,
            Some(node) => self.options.has_node(node) && !self.has_started_all(&view, memory),
        }
    }

    fn has_started_all(&self, view: &View<'_>, memory: &Memory) -> bool {
        view.containers().iter().all(|container| {
            memory.started.get(&container.name) == Some(&view.start_key(container, &self.options))
        })
    }

    /// Does what is to be done now. Failures of the API server lead to another look a second later.
    pub(super) async fn tend(&self, pod: &Pod, memory: Memory) -> Tended {
        let Some(view) = View::of(pod) else {
            return Tended::default();
        };
        let remembered = memory.clone();
        let result = match (view.is_being_deleted(), view.node()) {
            (true, Some(node)) if self.options.has_node(node) => self.remove(&view, memory).await,
            (false, node) if !view.has_ended() => self.run(&view, node, memory).await,
            _ => Ok(Tended { memory, again: None }),
        };
        match result {
            Ok(tended) => tended,
            // Gone, or replaced by another pod of the same name: its own event tells.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Tended {
                memory: remembered,
                again: Some(Duration::from_millis(200)),
            },
            Err(error) => {
                tracing::warn!(namespace = view.namespace, pod = view.name, %error, "cannot tend a pod");
                Tended {
                    memory: remembered,
                    again: Some(Duration::from_secs(1)),
                }
            }
        }
    }

    async fn run(&self, view: &View<'_>, node: Option<&str>, mut memory: Memory) -> kube::Result<Tended> {
        let node = match node {
            Some(node) if !self.options.has_node(node) => return Ok(Tended { memory, again: None }),
            Some(node) => node.to_owned(),
            None => match view.destination(&self.options) {
                // The event that this causes brings the pod here again.
                Some(node) => {
                    self.bind(view, &node).await?;
                    return Ok(Tended { memory, again: None });
                }
                None => return Ok(Tended { memory, again: None }),
            },
        };
        self.adopt(view, &mut memory);
        if self.has_started_all(view, &memory) {
            return self.end_in_time(view, &node, memory).await;
        }
        let containers = self.outcomes(view, &memory).await;
        let started = self.write_status(view, &node, &containers, None).await?;
        let complete = started.len() == containers.len();
        for (declared, _) in containers
            .iter()
            .filter(|(declared, _)| started.contains(&declared.name))
        {
            memory
                .started
                .insert(declared.name.clone(), view.start_key(declared, &self.options));
        }
        if complete {
            memory.since = Some(Instant::now());
            memory.failed_pulls = 0;
            return Ok(Tended {
                memory,
                again: view.completes_after(&self.options),
            });
        }
        memory.failed_pulls += 1;
        let can_help = containers
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Failed(why) if !why.is_final()));
        let again = can_help.then(|| self.options.pull_retry * memory.failed_pulls.min(5));
        Ok(Tended { memory, again })
    }

    /// Containers that ran before this simulator was started go on.
    fn adopt(&self, view: &View<'_>, memory: &mut Memory) {
        if memory.since.is_some() || !memory.started.is_empty() || memory.failed_pulls > 0 {
            return;
        }
        for container in view.containers() {
            if view
                .status_of(&container.name)
                .is_some_and(|status| status.container_id.is_some())
            {
                let key = view.start_key(&container, &self.options);
                memory.started.insert(container.name, key);
            }
        }
    }

    async fn outcomes(&self, view: &View<'_>, memory: &Memory) -> Vec<(Declared, Outcome)> {
        let outcomes = view.containers().into_iter().map(|declared| async {
            let same = memory.started.get(&declared.name) == Some(&view.start_key(&declared, &self.options));
            let status = view
                .status_of(&declared.name)
                .filter(|status| same && status.container_id.is_some());
            let outcome = match status {
                Some(status) => Outcome::Kept(Box::new(status.clone())),
                None => self.pull(view, &declared).await,
            };
            (declared, outcome)
        });
        join_all(outcomes).await
    }

    async fn pull(&self, view: &View<'_>, declared: &Declared) -> Outcome {
        let result = self
            .puller
            .pull(&declared.image, declared.pull_policy.as_deref())
            .await;
        let is_there_anyway = view.runtime(&self.options).needs_no_registry() || declared.image_id.is_some();
        match (result, Reference::parse(&declared.image)) {
            (Ok(mut pulled), _) => {
                if let Some(repository) = view.pulled_as() {
                    pulled.repository = repository.to_owned();
                }
                Outcome::Pulled(pulled)
            }
            (Err(_), Ok(reference)) if is_there_anyway => Outcome::Pulled(loaded(reference)),
            (Err(failure), _) => Outcome::Failed(failure),
        }
    }

    /// Ends the pod if its time has come; looks again when it will.
    async fn end_in_time(&self, view: &View<'_>, node: &str, mut memory: Memory) -> kube::Result<Tended> {
        let Some(after) = view.completes_after(&self.options) else {
            return Ok(Tended { memory, again: None });
        };
        let since = *memory.since.get_or_insert_with(Instant::now);
        let left = after.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(Tended {
                memory,
                again: Some(left),
            });
        }
        let containers = self.outcomes(view, &memory).await;
        self.write_status(view, node, &containers, Some(view.exit_code()))
            .await?;
        Ok(Tended { memory, again: None })
    }

    async fn remove(&self, view: &View<'_>, mut memory: Memory) -> kube::Result<Tended> {
        let since = *memory.deleting_since.get_or_insert_with(Instant::now);
        let left = view.termination_delay().saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(Tended {
                memory,
                again: Some(left),
            });
        }
        // Who waits for the pod with a finalizer, as the Job controller does, wants to see how it ended.
        if view.has_finalizers() && !view.has_ended() {
            self.adopt(view, &mut memory);
            let containers = self.outcomes(view, &memory).await;
            self.write_status(view, view.node().unwrap_or_default(), &containers, Some(137))
                .await?;
        }
        let preconditions = Preconditions {
            uid: Some(view.uid.to_owned()),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.pods(view).delete(view.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
        memory.removed = true;
        Ok(Tended { memory, again: None })
    }

    async fn bind(&self, view: &View<'_>, node: &str) -> kube::Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": view.name, "namespace": view.namespace, "uid": view.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let params = PostParams::default();
        self.pods(view)
            .create_subresource::<Value, Value>("binding", view.name, &params, &binding)
            .await
            .map(drop)
    }

    /// Gives the names of the containers that have started now.
    async fn write_status(
        &self,
        view: &View<'_>,
        node: &str,
        containers: &[(Declared, Outcome)],
        ended: Option<i32>,
    ) -> kube::Result<Vec<String>> {
        let now = format!("{:.0}", Timestamp::now());
        let scene = Scene {
            runtime: view.runtime(&self.options),
            now: &now,
            node_address: &self.options.address_of(node),
            pod_address: &pod_address(view.uid),
            ended,
        };
        let (status, started) = compose(view, containers, &scene);
        // A whole object costs the API server less than a patch; of its status, what is not ours stays.
        let mut pod = json!(view.pod);
        merge(&mut pod["status"], status);
        let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.pods(view).replace_status(view.name, &params, &pod).await?;
        Ok(started)
    }

    pub(super) fn pods(&self, view: &View<'_>) -> Api<Pod> {
        Api::namespaced(self.client.clone(), view.namespace)
    }
}

/// Sets each field of an object.
fn merge(object: &mut Value, fields: Value) {
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            object[name.as_str()] = value;
        }
    }
}

/// An image that is on the node and in no registry: its id follows from its name.
fn loaded(reference: Reference) -> Pulled {
    let id = digest_of(format!("loaded {}:{}", reference.repository(), reference.target()).as_bytes());
    Pulled {
        repository: reference.repository(),
        reference,
        top: id.clone(),
        platform: id.clone(),
        config: id,
    }
}

/// Some address in 10.64.0.0/10, always the same for a pod.
fn pod_address(uid: &str) -> String {
    let hash = digest_of(uid.as_bytes());
    let byte = |at: usize| {
        hash.get(at..at + 2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .unwrap_or(1)
    };
    format!("10.{}.{}.{}", 64 + byte(7) % 64, byte(9), 1 + byte(11) % 250)
}
