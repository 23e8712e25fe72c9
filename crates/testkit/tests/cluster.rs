//! A cluster's own services: clients, kubeconfigs with exact rights, the audit log.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use assay_testkit::{ADMIN_USER, client_for, shared};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;

#[tokio::test]
async fn writes_are_audited_by_user_and_reads_are_not() {
    let shared = shared().unwrap();
    let namespace = shared.namespace("audit").await.unwrap();
    let cluster = &shared.cluster;
    cluster
        .kubectl(&["-n", namespace.name(), "create", "configmap", "audited"])
        .await
        .unwrap();
    cluster
        .kubectl(&["-n", namespace.name(), "get", "configmap", "audited"])
        .await
        .unwrap();
    let mut writes = cluster.writes_by(ADMIN_USER).unwrap();
    writes.retain(|write| write.namespace == namespace.name() && write.resource == "configmaps");
    let seen: Vec<_> = writes
        .iter()
        .map(|write| (write.verb.as_str(), write.name.as_str(), write.code))
        .collect();
    assert_eq!(seen, [("create", "audited", 201)]);
    assert!(writes[0].user_agent.starts_with("kubectl/"), "{writes:?}");
}

#[tokio::test]
async fn a_service_accounts_kubeconfig_has_exactly_the_rights_that_rbac_gives() {
    let shared = shared().unwrap();
    let namespace = shared.namespace("rights").await.unwrap();
    let name = namespace.name();
    for arguments in [
        ["create", "serviceaccount", "reader"].as_slice(),
        &[
            "create",
            "role",
            "reader",
            "--verb=get,list",
            "--resource=configmaps",
        ],
        &[
            "create",
            "rolebinding",
            "reader",
            "--role=reader",
            &format!("--serviceaccount={name}:reader"),
        ],
    ] {
        shared
            .cluster
            .kubectl(&[&["-n", name], arguments].concat())
            .await
            .unwrap();
    }
    let kubeconfig = shared
        .cluster
        .kubeconfig_for_service_account(name, "reader")
        .await
        .unwrap();
    let client = client_for(&kubeconfig).await.unwrap();
    let own: Api<ConfigMap> = Api::namespaced(client.clone(), name);
    own.list(&kube::api::ListParams::default()).await.unwrap();
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    let refused = elsewhere
        .list(&kube::api::ListParams::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains(&format!("system:serviceaccount:{name}:reader")),
        "{refused}"
    );
}

#[tokio::test]
async fn each_test_has_a_namespace_and_names_of_its_own() {
    let shared = shared().unwrap();
    let (one, two) = tokio::join!(shared.namespace("same"), shared.namespace("same"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.name(), two.name());
    assert_ne!(one.unique("policy"), two.unique("policy"));
}
