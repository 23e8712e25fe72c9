//! Clusters for tests that restart the operator or measure it: each has one to itself.

use testkit::{Audit, Cluster, ClusterOptions, NodeOptions, NodeSimulator};

/// A cluster with simulated nodes and an audit log of writes, until this process ends.
pub(crate) async fn own_cluster(name: &str) -> &'static Cluster {
    let folder = testkit::run_folder().unwrap().join(format!("own-{name}"));
    let options = ClusterOptions {
        audit: Audit::Writes,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(folder, options).await.unwrap();
    let nodes = NodeSimulator::start(&cluster, NodeOptions::default())
        .await
        .unwrap();
    // The simulator runs until it is dropped.
    std::mem::forget(nodes);
    Box::leak(Box::new(cluster))
}
