//! A cluster, the registries and the signers start and do their work.

use assay_testkit::{Audit, Cluster, ClusterOptions};

#[tokio::test]
async fn a_cluster_starts_and_its_writes_are_audited_by_user() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions {
        audit: Audit::Writes,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(folder.path(), options).await.unwrap();
    cluster
        .kubectl(&["create", "configmap", "audited"])
        .await
        .unwrap();
    let writes = cluster.writes_by(assay_testkit::ADMIN_USER).unwrap();
    assert!(
        writes
            .iter()
            .any(|write| write.resource == "configmaps" && write.code == 201),
        "{writes:?}"
    );
}
