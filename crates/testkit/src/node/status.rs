//! The status that a kubelet writes for a pod, as a pure function of what was pulled.

use k8s_openapi::api::core::v1::ContainerStatus;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::puller::PullFailure;
use super::runtime::{Pulled, Runtime};
use super::view::{Declared, Kind, View};

/// What becomes of a container.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has started before, and goes on as its status says.
    Kept(Box<ContainerStatus>),
    /// Its image is there: it starts now.
    Pulled(Pulled),
    /// Its image is not there.
    Failed(PullFailure),
}

/// All that a status depends on beside the pod itself.
pub(super) struct Scene<'a> {
    pub(super) runtime: Runtime,
    /// RFC 3339.
    pub(super) now: &'a str,
    pub(super) node_address: &'a str,
    pub(super) pod_address: &'a str,
    /// Every container has ended with this exit code.
    pub(super) ended: Option<i32>,
}

/// The pod's status, and the names of the containers that have started in it.
pub(super) fn compose(
    view: &View<'_>,
    containers: &[(Declared, Outcome)],
    scene: &Scene<'_>,
) -> (Value, Vec<String>) {
    let init_done = containers.iter().all(|(declared, outcome)| {
        !matches!(declared.kind, Kind::Init | Kind::Sidecar) || starts(outcome, scene.runtime)
    });
    let statuses = |wanted: fn(Kind) -> bool| -> Vec<Value> {
        let of_kind = containers.iter().filter(|(declared, _)| wanted(declared.kind));
        of_kind
            .map(|(declared, outcome)| container_status(view, declared, outcome, init_done, scene))
            .collect()
    };
    let plain_run = containers
        .iter()
        .filter(|(declared, _)| declared.kind == Kind::Plain)
        .all(|(_, outcome)| starts(outcome, scene.runtime));
    let all_run = init_done && plain_run;
    let phase = match (scene.ended, all_run) {
        (Some(0), _) => "Succeeded",
        (Some(_), _) => "Failed",
        (None, true) => "Running",
        (None, false) => "Pending",
    };
    let status = json!({
        "phase": phase,
        "conditions": conditions(init_done, all_run, scene),
        "hostIP": scene.node_address,
        "hostIPs": [{"ip": scene.node_address}],
        "podIP": scene.pod_address,
        "podIPs": [{"ip": scene.pod_address}],
        "startTime": start_time(view, scene),
        "initContainerStatuses": statuses(|kind| matches!(kind, Kind::Init | Kind::Sidecar)),
        "containerStatuses": statuses(|kind| kind == Kind::Plain),
        "ephemeralContainerStatuses": statuses(|kind| kind == Kind::Ephemeral),
    });
    let started = LISTS
        .iter()
        .flat_map(|list| status[*list].as_array().into_iter().flatten())
        .filter(|status| status["containerID"].is_string())
        .filter_map(|status| status["name"].as_str().map(str::to_owned));
    let started = started.collect();
    (status, started)
}

const LISTS: [&str; 3] = [
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

fn starts(outcome: &Outcome, runtime: Runtime) -> bool {
    match outcome {
        Outcome::Kept(_) => true,
        Outcome::Pulled(_) => runtime != Runtime::NotStarted,
        Outcome::Failed(_) => false,
    }
}

fn start_time(view: &View<'_>, scene: &Scene<'_>) -> Value {
    let known = view
        .pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref());
    known
        .and_then(|time| serde_json::to_value(time).ok())
        .unwrap_or_else(|| json!(scene.now))
}

fn conditions(initialized: bool, ready: bool, scene: &Scene<'_>) -> Value {
    let ended = scene.ended.is_some();
    let condition = |kind: &str, holds: bool| {
        let mut condition = json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "lastTransitionTime": scene.now,
        });
        if !holds {
            let reason = match (ended, kind) {
                (true, _) => "PodCompleted",
                (false, "Initialized") => "ContainersNotInitialized",
                (false, _) => "ContainersNotReady",
            };
            condition["reason"] = json!(reason);
        }
        condition
    };
    json!([
        condition("PodReadyToStartContainers", !ended),
        condition("Initialized", initialized || ended),
        condition("Ready", ready && !ended),
        condition("ContainersReady", ready && !ended),
        condition("PodScheduled", true),
    ])
}

fn container_status(
    view: &View<'_>,
    declared: &Declared,
    outcome: &Outcome,
    init_done: bool,
    scene: &Scene<'_>,
) -> Value {
    let waiting = |reason: &str, message: &str| {
        let mut state = json!({"waiting": {"reason": reason}});
        if !message.is_empty() {
            state["waiting"]["message"] = json!(message);
        }
        json!({
            "name": declared.name, "image": declared.image, "imageID": "", "ready": false, "started": false,
            "restartCount": 0, "state": state, "lastState": {},
        })
    };
    let waits_for_init = declared.kind == Kind::Plain && !init_done;
    match outcome {
        Outcome::Kept(status) => kept(status, declared.kind, scene),
        _ if waits_for_init => waiting("PodInitializing", ""),
        Outcome::Failed(failure) => waiting(failure.reason, &failure.message),
        Outcome::Pulled(_) if scene.runtime == Runtime::NotStarted => waiting("ContainerCreating", ""),
        Outcome::Pulled(pulled) => started(view, declared, pulled, scene),
    }
}

fn kept(status: &ContainerStatus, kind: Kind, scene: &Scene<'_>) -> Value {
    let mut value = json!(status);
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    if let (Some(code), Some(running)) = (scene.ended.filter(|_| kind != Kind::Init), running) {
        value["state"] = terminated(
            code,
            &json!(running.started_at),
            scene.now,
            json!(status.container_id),
        );
        value["ready"] = json!(false);
        value["started"] = json!(false);
    }
    value
}

fn terminated(code: i32, began: &Value, now: &str, container_id: Value) -> Value {
    json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": began, "finishedAt": now, "containerID": container_id,
    }})
}

fn started(view: &View<'_>, declared: &Declared, pulled: &Pulled, scene: &Scene<'_>) -> Value {
    let image_id = declared
        .image_id
        .clone()
        .unwrap_or_else(|| scene.runtime.image_id(pulled));
    let before = view
        .status_of(&declared.name)
        .filter(|before| before.container_id.is_some());
    let restarts = before.map_or(0, |before| before.restart_count + 1);
    let id = Sha256::digest(format!("{}/{}/{restarts}", view.uid, declared.name));
    let container_id = format!("{}://{}", scene.runtime.scheme(), hex::encode(id));
    let ended = if declared.kind == Kind::Init {
        Some(0)
    } else {
        scene.ended
    };
    let runs = ended.is_none();
    let mut status = json!({
        "name": declared.name,
        "image": scene.runtime.image_name(pulled),
        "imageID": image_id,
        "containerID": container_id,
        // An init container that has ended well is ready; an ephemeral container never is.
        "ready": declared.kind == Kind::Init || (runs && declared.kind != Kind::Ephemeral),
        "started": runs && declared.kind != Kind::Ephemeral,
        "restartCount": restarts,
        "state": match ended {
            Some(code) => terminated(code, &json!(scene.now), scene.now, json!(container_id)),
            None => json!({"running": {"startedAt": scene.now}}),
        },
        "lastState": {},
    });
    if !declared.mounts.is_empty() {
        let mounts = declared.mounts.iter().map(|mount| {
            json!({"name": mount.name, "mountPath": mount.mount_path, "readOnly": mount.read_only.unwrap_or(false)})
        });
        status["volumeMounts"] = mounts.collect();
    }
    status
}
