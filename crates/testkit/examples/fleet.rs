//! How fast simulated nodes bring up a fleet: `cargo run -p assay-testkit --example fleet -- [PODS] [PODS_PER_WORKLOAD]`.
//!
//! Every workload is a Deployment with an image of its own. Prints the seconds until all pods run, and the servers'
//! memory then.

use std::time::{Duration, Instant};

use assay_testkit::{
    Cluster, ClusterOptions, NodeOptions, NodeSimulator, Registry, Result, eventually, run_folder,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<usize>().ok());
    let (pods, per_workload) = (numbers.next().unwrap_or(2_000), numbers.next().unwrap_or(10));
    let folder = run_folder()?;
    let registry = Registry::distribution(folder.join("registry")).await?;
    let cluster = Cluster::start(folder.join("cluster"), ClusterOptions::default()).await?;
    let _nodes = NodeSimulator::start(
        &cluster,
        NodeOptions {
            nodes: 10,
            ..NodeOptions::default()
        },
    )
    .await?;
    let client = cluster.admin_client().await?;
    let workloads = pods.div_ceil(per_workload);
    let started = Instant::now();
    futures::stream::iter(0..workloads)
        .map(|number| deploy(&client, &registry, number, per_workload))
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    println!(
        "{workloads} images pushed and Deployments created after {:?}",
        started.elapsed()
    );
    let all: Api<Pod> = Api::namespaced(client, "default");
    let running = ListParams::default().fields("status.phase=Running");
    eventually("all pods to run", Duration::from_secs(600), async || {
        let count = all
            .list_metadata(&running)
            .await
            .map_err(|error| error.to_string())?
            .items
            .len();
        if count >= workloads * per_workload {
            Ok(())
        } else {
            Err(format!("{count} run"))
        }
    })
    .await?;
    println!(
        "{} pods run after {:?}",
        workloads * per_workload,
        started.elapsed()
    );
    for server in [
        Some(cluster.api_server()),
        Some(cluster.etcd()),
        cluster.controller_manager(),
    ]
    .into_iter()
    .flatten()
    {
        println!(
            "{} uses {} MiB",
            server.name(),
            server.resident_bytes().unwrap_or(0) / (1024 * 1024)
        );
    }
    Ok(())
}

async fn deploy(client: &kube::Client, registry: &Registry, number: usize, replicas: usize) -> Result<()> {
    let image = registry
        .writer()
        .push_image(&format!("fleet/app-{number}"), "1", &number.to_string())
        .await?;
    let deployment = json!({
        "metadata": {"name": format!("app-{number}")},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": number.to_string()}}, "template": {
            "metadata": {"labels": {"app": number.to_string()}},
            "spec": {"containers": [{"name": "app", "image": image.by_tag()}]}}},
    });
    let invalid = |error: &dyn std::fmt::Display| assay_testkit::TestkitError::Invalid(error.to_string());
    let deployment: Deployment = serde_json::from_value(deployment).map_err(|error| invalid(&error))?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .map(drop)
        .map_err(|error| invalid(&error))
}
