//! No process is left behind, a failed start shows the server's log, and servers can be stopped, paused and lost.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assay_testkit::{
    Cluster, ClusterOptions, Lifetime, NodeSimulator, Outage, Registry, RegistryKind, Server, ServerSpec,
    TestkitError, client_for, down,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

/// Set in the process that [`a_process_that_is_killed_or_panics_leaves_no_server_behind`] starts and then ends.
const VICTIM: &str = "TESTKIT_VICTIM_FOLDER";

/// Processes that run in a folder: servers and supervisors run in that of their files.
fn processes_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .map(|process| {
            std::fs::read_to_string(process.join("cmdline"))
                .unwrap_or_default()
                .replace('\0', " ")
        })
        .collect()
}

fn wait_for_processes(folder: &Path, wanted: impl Fn(usize) -> bool) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = processes_in(folder);
        if wanted(found.len()) || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends detached servers also when a test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        down(self.0).unwrap_or_default();
    }
}

/// A server that ignores SIGTERM and has a child of its own.
fn stubborn(folder: &Path) -> ServerSpec {
    let script = "trap '' TERM; sleep 1000 & while :; do sleep 1000; done";
    ServerSpec::new("stubborn", "/bin/sh", folder)
        .args(["-c", script])
        .grace(Duration::from_millis(200))
}

#[test]
fn a_process_that_is_killed_or_panics_leaves_no_server_behind() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let _server = Server::start(stubborn(Path::new(&folder))).unwrap();
        wait_for_processes(Path::new(&folder), |count| count >= 4);
        std::fs::write(Path::new(&folder).join("started"), "").unwrap();
        loop {
            assert!(!Path::new(&folder).join("panic").exists(), "told to panic");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    for way_to_end in ["kill -9", "panic"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_process_that_is_killed_or_panics_leaves_no_server_behind",
            ])
            .env(VICTIM, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !folder.join("started").exists() {
            assert!(
                Instant::now() < deadline,
                "the server did not start: {:?}",
                processes_in(&folder)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let running = processes_in(&folder);
        assert!(
            running.len() >= 4,
            "a supervisor, a server and its children: {running:?}"
        );
        match way_to_end {
            "panic" => std::fs::write(folder.join("panic"), "").unwrap(),
            _ => victim.kill().unwrap(),
        }
        assert!(!victim.wait().unwrap().success());
        let left = wait_for_processes(&folder, |count| count == 0);
        assert!(left.is_empty(), "{way_to_end}: {left:?}");
    }
}

#[test]
fn a_server_that_is_dropped_or_stopped_is_gone_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let server = Server::start(stubborn(&folder)).unwrap();
    assert!(wait_for_processes(&folder, |count| count >= 4).len() >= 4);
    assert_eq!(server.stop().unwrap(), "signal 9", "it ignores SIGTERM");
    assert!(wait_for_processes(&folder, |count| count == 0).is_empty());
    server.start_again().unwrap();
    assert_eq!(server.ended(), None);
    drop(server);
    assert!(wait_for_processes(&folder, |count| count == 0).is_empty());
}

#[tokio::test]
async fn a_server_that_ends_before_it_is_ready_shows_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo the disk is made of cheese >&2; exit 3";
    let server =
        Server::start(ServerSpec::new("cheese", "/bin/sh", folder.path()).args(["-c", script])).unwrap();
    let error = server
        .wait_until_ready(Duration::from_secs(60), async || Ok(false))
        .await
        .unwrap_err();
    assert!(matches!(error, TestkitError::ServerEnded { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("cheese ended with exit code 3"), "{message}");
    assert!(message.contains("the disk is made of cheese"), "{message}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Server::start(ServerSpec::new("ghost", "/no/such/program", folder.path())).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[tokio::test]
async fn a_cluster_that_cannot_start_shows_the_api_servers_log() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions {
        api_server_arguments: vec!["--no-such-flag".to_owned()],
        ..ClusterOptions::default()
    };
    let error = Cluster::start(folder.path(), options)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("kube-apiserver ended"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}

#[tokio::test]
async fn detached_servers_stay_until_down() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let _down = Down(&folder);
    let registry = Registry::start(RegistryKind::Referrers, &folder, Lifetime::Detached)
        .await
        .unwrap();
    let host = registry.host();
    drop(registry);
    assert_eq!(
        processes_in(&folder).len(),
        1,
        "the registry without a supervisor"
    );
    reqwest::get(format!("http://{host}/v2/")).await.unwrap();
    assert_eq!(down(&folder).unwrap(), ["referrers-registry"]);
    assert!(processes_in(&folder).is_empty());
    assert!(
        down(&folder).unwrap().is_empty(),
        "a second time there is nothing to end"
    );
}

#[tokio::test]
async fn a_detached_cluster_with_its_nodes_stays_until_down() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let _down = Down(&folder);
    let options = ClusterOptions {
        lifetime: Lifetime::Detached,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&folder, options).await.unwrap();
    let kubeconfig = cluster.kubeconfig().to_owned();
    drop(
        NodeSimulator::start_process(&folder, &kubeconfig, 1, Lifetime::Detached)
            .await
            .unwrap(),
    );
    drop(cluster);
    let client = client_for(&kubeconfig).await.unwrap();
    let nodes: Api<Node> = Api::all(client);
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let mut names = down(&folder).unwrap();
    names.sort();
    assert_eq!(
        names,
        [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "node-simulator"
        ]
    );
    assert!(processes_in(&folder).is_empty());
}

#[tokio::test]
async fn a_registry_can_be_lost_and_found_with_its_content_kept_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::referrers(folder.path()).await.unwrap();
    let outage = Outage::in_front_of(&registry.host()).await.unwrap();
    let image = registry
        .writer()
        .push_image("shop/web", "1", "outage")
        .await
        .unwrap();
    let ask = async |host: String| {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let answer = http
            .get(format!("http://{host}/v2/shop/web/manifests/{}", image.digest))
            .send()
            .await;
        answer.map(|answer| answer.status().as_u16())
    };
    assert_eq!(ask(outage.host()).await.unwrap(), 200);
    outage.refuse();
    // A connection that is accepted in the moment of the change is closed, and not refused.
    let refused = assay_testkit::eventually("a refusal", Duration::from_secs(60), async || {
        ask(outage.host())
            .await
            .err()
            .filter(reqwest::Error::is_connect)
            .ok_or_else(|| "answered or closed".to_owned())
    });
    refused.await.unwrap();
    outage.swallow();
    let silent = assay_testkit::eventually("silence", Duration::from_secs(60), async || {
        ask(outage.host())
            .await
            .err()
            .filter(reqwest::Error::is_timeout)
            .ok_or_else(|| "answered".to_owned())
    });
    silent.await.unwrap();
    outage.restore();
    assert_eq!(ask(outage.host()).await.unwrap(), 200);

    registry.server().pause().unwrap();
    // The order goes through the supervisor: until it has arrived the registry answers.
    let paused = assay_testkit::eventually("a pause", Duration::from_secs(60), async || {
        ask(registry.host())
            .await
            .err()
            .filter(reqwest::Error::is_timeout)
            .ok_or_else(|| "answered".to_owned())
    });
    paused.await.unwrap();
    registry.server().resume().unwrap();
    assert_eq!(ask(registry.host()).await.unwrap(), 200);

    registry.server().kill().unwrap();
    assert!(ask(registry.host()).await.unwrap_err().is_connect());
    registry.server().start_again().unwrap();
    registry.wait_until_ready().await.unwrap();
    assert_eq!(ask(registry.host()).await.unwrap(), 404, "its memory is gone");
}

#[tokio::test]
async fn a_killed_api_server_comes_back_at_the_same_address() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions {
        controller_manager: false,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(folder.path(), options).await.unwrap();
    let client = cluster.admin_client().await.unwrap();
    cluster.kubectl(&["create", "configmap", "kept"]).await.unwrap();
    assert_eq!(cluster.api_server().kill().unwrap(), "signal 9");
    assert!(client.apiserver_version().await.is_err());
    cluster.api_server().start_again().unwrap();
    cluster.wait_until_ready().await.unwrap();
    client.apiserver_version().await.unwrap();
    assert!(
        cluster
            .kubectl(&["get", "configmap", "kept", "-o", "name"])
            .await
            .unwrap()
            .contains("kept")
    );
}
