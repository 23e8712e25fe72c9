//! Clusters for tests that restart the operator or measure it: each has one to itself.

use testkit::{Audit, Cluster, ClusterOptions, NodeOptions, NodeSimulator};

/// A cluster with simulated nodes and an audit log of writes, until this process ends.
pub(crate) async fn own_cluster(name: &str) -> &'static Cluster {
    let (cluster, nodes) = own_cluster_and_nodes(name).await;
    // The simulator runs until it is dropped.
    std::mem::forget(nodes);
    cluster
}

/// The same, with nodes that end when they are dropped.
pub(crate) async fn own_cluster_and_nodes(name: &str) -> (&'static Cluster, NodeSimulator) {
    let folder = testkit::run_folder().unwrap().join(format!("own-{name}"));
    let options = ClusterOptions {
        audit: Audit::Writes,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(folder, options).await.unwrap();
    let nodes = NodeSimulator::start(&cluster, NodeOptions::default())
        .await
        .unwrap();
    (Box::leak(Box::new(cluster)), nodes)
}
