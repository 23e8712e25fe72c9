//! Proxies of the environment are honoured, and no way around the guard for addresses that are written as such.
//!
//! The environment of a process is the same for all of its tests, so each question is asked by a process of its own:
//! this binary again, with the variables set.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::process::Output;

use assay_registry::{Client, ClientOptions, ErrorKind};
use image::Repository;
use support::{FakeRegistry, MANIFEST, manifest, reply, scripted};

/// The variable that names the repository to ask.
const ASKED: &str = "ASSAY_TEST_ASK";

/// A proxy that answers whatever it is asked.
async fn proxy() -> FakeRegistry {
    scripted(|_, _| reply(200, &[("content-type", MANIFEST)], manifest())).await
}

/// Asks for a tag in a process of its own and gives what that printed.
async fn ask(repository: &str, environment: &[(&str, &str)]) -> String {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_process_that_asks", "--nocapture"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        child.env_remove(name).env_remove(name.to_lowercase());
    }
    child.env(ASKED, repository).envs(environment.iter().copied());
    let Output { stdout, .. } = child.output().await.unwrap();
    String::from_utf8(stdout).unwrap()
}

/// Does nothing unless it is told to.
#[tokio::test]
async fn the_process_that_asks() {
    let Ok(asked) = std::env::var(ASKED) else {
        return;
    };
    let repository: Repository = asked.parse().unwrap();
    let client = Client::new(ClientOptions {
        plain_http: BTreeSet::from([repository.registry().to_owned()]),
        forbid_internal_addresses: true,
        ..ClientOptions::default()
    })
    .unwrap();
    match client.tagged_manifest(&repository, "v1").await {
        Ok(Some(_)) => println!("answer: found"),
        Ok(None) => println!("answer: absent"),
        Err(error) if error.kind() == ErrorKind::Denied => println!("answer: denied"),
        Err(error) => println!("answer: {error}"),
    }
}

#[tokio::test]
async fn a_registry_that_only_the_proxy_can_resolve_is_asked_through_it() {
    let proxy = proxy().await;
    for host in ["127.0.0.1", "localhost"] {
        let address = format!("http://{host}:{}", proxy.address().port());
        let printed = ask("registry.invalid/shop/web", &[("HTTP_PROXY", &address)]).await;
        assert!(printed.contains("answer: found"), "{host}: {printed}");
    }
    let targets: Vec<String> = proxy.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["http://registry.invalid/v2/shop/web/manifests/v1"; 2]);
}

#[tokio::test]
async fn no_proxy_names_what_is_asked_directly() {
    let (proxy, fake) = (proxy().await, FakeRegistry::start().await.unwrap());
    let address = format!("http://{}", proxy.host());
    let repository = format!("{}/shop/web", fake.host());
    let printed = ask(
        &repository,
        &[("HTTP_PROXY", &address), ("NO_PROXY", "127.0.0.1")],
    )
    .await;
    assert!(printed.contains("answer: absent"), "{printed}");
    assert_eq!((proxy.count(), fake.count()), (0, 1));
}

/// Weakened: without the check of literals before sending, the proxy is asked for the metadata service.
#[tokio::test]
async fn b19_a_metadata_address_is_refused_before_the_proxy_is_asked() {
    let proxy = proxy().await;
    let address = format!("http://{}", proxy.host());
    let printed = ask("169.254.169.254/shop/web", &[("HTTP_PROXY", &address)]).await;
    assert!(printed.contains("answer: denied"), "{printed}");
    assert_eq!(proxy.count(), 0);
}
