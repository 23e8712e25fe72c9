//! The simulated nodes themselves: Node objects that are Ready, and the Leases that keep them so.

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{FIELD_MANAGER, NodeOptions};
use crate::{Result, TestkitError};

/// Creates the nodes, or brings them up to date.
pub(super) async fn register(client: &kube::Client, options: &NodeOptions) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for name in options.node_names() {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": options.labels_of(&name)},
        });
        let what = || TestkitError::kubernetes(format!("register the node {name}"));
        nodes
            .patch(&name, &params, &Patch::Apply(&node))
            .await
            .map_err(what())?;
        nodes
            .patch_status(&name, &params, &Patch::Apply(&status(&name, options)))
            .await
            .map_err(what())?;
    }
    renew(client, options).await
}

/// Renews every node's Lease; the controller manager calls a node lost after 50 s without.
pub(super) async fn renew(client: &kube::Client, options: &NodeOptions) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let renewals = futures::stream::iter(options.node_names()).map(|name| {
        let (leases, params) = (&leases, &params);
        async move {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name},
                "spec": {
                    "holderIdentity": name, "leaseDurationSeconds": 40,
                    "renewTime": format!("{:.6}", Timestamp::now()),
                },
            });
            let renewed = leases.patch(&name, params, &Patch::Apply(&lease)).await;
            renewed.map(drop).map_err(TestkitError::kubernetes(format!(
                "renew the lease of the node {name}"
            )))
        }
    });
    renewals
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

fn status(name: &str, options: &NodeOptions) -> Value {
    let now = format!("{:.0}", Timestamp::now());
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now});
    let resources = json!({"cpu": "1000", "memory": "4Ti", "pods": "100000", "ephemeral-storage": "4Ti"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "addresses": [
                {"type": "InternalIP", "address": options.address_of(name)},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "machineID": name, "systemUUID": name, "bootID": name, "kernelVersion": "6.12.0",
                "osImage": "simulated", "containerRuntimeVersion": format!("{}://simulated", options.runtime.scheme()),
                "kubeletVersion": "v1.36.4", "kubeProxyVersion": "", "operatingSystem": "linux",
                "architecture": options.architecture,
            },
        },
    })
}
